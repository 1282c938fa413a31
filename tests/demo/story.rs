//! Who edits what while nobody talks to anybody, and how the conflicts ended.

use crate::Outcome;
use crate::replica::Replica;
use crate::show::{bold, count, line};
use std::time::Instant;

/// Plain SQL of three people: harmless edits, and conflicts of every kind.
pub fn edit_apart(ana: &Replica, ben: &Replica, chloe: &Replica) -> Outcome<()> {
    for (who, why, sql) in [
        (ana, "stars every cat", "UPDATE character SET stars = 5 WHERE name LIKE '%CAT%' AND name LIKE '%FACE%'"),
        (ana, "writes a note on every arrow", "UPDATE character SET note = 'points somewhere' WHERE name LIKE '%ARROW%'"),
        (ana, "calls U+1F600 her way", "UPDATE character SET name = 'Ana''s grin', stars = 5 WHERE codepoint = 0x1F600"),
        (ana, "moves the Basic Latin block to another key", "UPDATE block SET first = -1 WHERE name = 'Basic Latin'"),
        (ana, "replaces a whole row", "INSERT OR REPLACE INTO emoji VALUES ('🦀', 'crab', 'Rust', 'ferris')"),
        (ben, "deletes all flags", "DELETE FROM emoji_character WHERE glyph IN (SELECT glyph FROM emoji WHERE topic = 'Flags');
            DELETE FROM emoji WHERE topic = 'Flags'"),
        (ben, "puts names in title case", "UPDATE character SET name = substr(name, 1, 1) || lower(substr(name, 2)) WHERE script = 'Latn'"),
        (ben, "calls U+1F600 his way, twice", "UPDATE character SET name = 'Ben''s grin' WHERE codepoint = 0x1F600;
            UPDATE character SET name = 'Ben''s great grin' WHERE codepoint = 0x1F600"),
        (ben, "changes his mind in a savepoint", "BEGIN; UPDATE character SET stars = 1 WHERE script = 'Grek';
            SAVEPOINT doubt; DELETE FROM character WHERE script = 'Grek'; ROLLBACK TO doubt; COMMIT"),
        (ben, "edits the crab that Ana replaces", "UPDATE emoji SET name = 'red crab' WHERE glyph = '🦀'"),
        (chloe, "renames a flag that Ben deletes", "UPDATE emoji SET name = 'tricolore' WHERE glyph = '🇫🇷'"),
        (chloe, "invents characters", "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999)
            INSERT INTO character (codepoint, name, note) SELECT 0xF0000 + i, 'PRIVATE LETTER ' || i, 'by Chloé' FROM n"),
        (chloe, "deletes a script and makes it again", "DELETE FROM script WHERE code = 'Latn'; INSERT INTO script VALUES ('Latn', 'Latin, again')"),
        (chloe, "calls U+1F600 her way", "UPDATE character SET name = 'Chloé''s grin' WHERE codepoint = 0x1F600"),
        (chloe, "stars arrows", "UPDATE character SET stars = 3 WHERE name LIKE '%ARROW%'"),
    ] {
        let versions: i64 = who.value("SELECT crsql_db_version()", [])?;
        let started = Instant::now();
        who.execute(sql)?;
        let changes = who.count("SELECT count(*) FROM crsql_changes WHERE db_version > ?1", [versions])?;
        let took = crate::show::time(started.elapsed());
        line(&format!("{:<6} {why:<42} {:>7} changes  {took:>6}", bold(who.name), count(changes)));
    }
    Ok(())
}

/// Tells how each conflict ended, asking every replica.
pub fn tell_conflicts(any: &Replica, all: &[&Replica]) -> Outcome<()> {
    println!();
    for (question, sql) in [
        ("U+1F600 is now called", "SELECT name FROM character WHERE codepoint = 0x1F600"),
        ("stars that Ana gave it", "SELECT stars FROM character WHERE codepoint = 0x1F600"),
        ("flags that are left", "SELECT count(*) FROM emoji WHERE topic = 'Flags'"),
        ("the crab is", "SELECT name || ', ' || topic FROM emoji WHERE glyph = '🦀'"),
        (
            "an arrow has note and stars",
            "SELECT note || ', ' || stars FROM character WHERE name LIKE '%rightwards arrow' COLLATE NOCASE LIMIT 1",
        ),
        ("Basic Latin begins at", "SELECT first FROM block WHERE name = 'Basic Latin'"),
        ("the Latin script is", "SELECT name FROM script WHERE code = 'Latn'"),
        ("characters in all", "SELECT count(*) FROM character"),
    ] {
        let answer = |replica: &Replica| replica.value::<rusqlite::types::Value>(sql, []);
        let first = answer(any)?;
        for replica in all {
            if answer(replica)? != first {
                return Err(format!("{question}: {} answers differently", replica.name).into());
            }
        }
        let first = match first {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        line(&format!("{question:<28} {first}"));
    }
    Ok(())
}
