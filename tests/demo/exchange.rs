//! How changes travel: blobs of `crsql_changeset`, and rows of `crsql_changes` moved by plain SQL.

use crate::Outcome;
use crate::replica::Replica;
use crate::show::{Progress, bytes, count, line, time};
use crsql_tests::Rng;
use rusqlite::types::Value;
use std::time::Instant;

const TEN_COLUMNS: &str = r#""table", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version"#;

/// A changeset in the mail.
struct Letter {
    from: &'static str,
    blob: Vec<u8>,
}

/// Gives an empty replica everything.
pub fn first_copy(from: &Replica, to: &Replica) -> Outcome<()> {
    let started = Instant::now();
    let letter = write(from, to)?;
    let size = letter.blob.len();
    let applied = apply(&letter, to)?;
    line(&format!(
        "{} gets it all as one changeset: {} changes in {}, {}",
        to.name,
        count(applied),
        bytes(size),
        time(started.elapsed())
    ));
    Ok(())
}

/// Everybody gets everything, in the worst manners.
pub fn awkwardly(ana: &Replica, ben: &Replica, chloe: &Replica) -> Outcome<()> {
    // Letters written now say what was true now, however late they arrive.
    let from_ana = write(ana, ben)?;
    let from_chloe = write(chloe, ben)?;
    post(&from_chloe, ben, "")?;
    ana.execute(
        "UPDATE character SET stars = 4 WHERE codepoint = 0x1F600; DELETE FROM emoji WHERE glyph = '🦖'",
    )?;
    let second_from_ana = write(ana, ben)?;
    post(&second_from_ana, ben, "ahead of the one written before")?;
    post(&from_ana, ben, "late")?;
    post(&from_chloe, ben, "again")?;

    // Chloé has never heard from Ana: all she knows comes through Ben, in rows, shuffled.
    rows_shuffled(ben, chloe)?;
    let early = write(ben, ana)?;
    chloe.execute("UPDATE character SET note = 'seen by Chloé' WHERE note = 'points somewhere'")?;
    post(&write(chloe, ben)?, ben, "")?;
    post(&write(ben, ana)?, ana, "")?;
    post(&early, ana, "an older one")?;
    post(&write(ben, chloe)?, chloe, "")?;
    post(&write(ana, ben)?, ben, "")?;
    post(&write(ben, chloe)?, chloe, "")?;
    Ok(())
}

/// A letter with all that `to` lacks.
fn write(from: &Replica, to: &Replica) -> Outcome<Letter> {
    let vector: Vec<u8> = to.value("SELECT crsql_version_vector()", [])?;
    Ok(Letter { from: from.name, blob: from.value("SELECT crsql_changeset(?1)", [vector])? })
}

fn apply(letter: &Letter, to: &Replica) -> Outcome<usize> {
    let report: String = to.value("SELECT crsql_apply(?1)", [&letter.blob])?;
    to.count("SELECT json_extract(?1, '$.applied')", [report])
}

fn post(letter: &Letter, to: &Replica, how: &str) -> Outcome<()> {
    let started = Instant::now();
    let applied = apply(letter, to)?;
    line(&format!(
        "{:<5} -> {:<5} {:>9}, {:>6} changes were new, {:>6}  {how}",
        letter.from,
        to.name,
        bytes(letter.blob.len()),
        count(applied),
        time(started.elapsed())
    ));
    Ok(())
}

/// Moves changes one row at a time and in a random order, as an application with nothing but SQL could.
fn rows_shuffled(from: &Replica, to: &Replica) -> Outcome<()> {
    let seen: i64 = to.value("SELECT crsql_db_version()", [])?;
    let own: Vec<u8> = to.value("SELECT crsql_site_id()", [])?;
    let sql = format!("SELECT {TEN_COLUMNS} FROM crsql_changes WHERE site_id IS NOT ?1 AND db_version > 1");
    let mut statement = from.db.prepare(&sql)?;
    let read =
        |row: &rusqlite::Row<'_>| (0..10).map(|i| row.get::<_, Value>(i)).collect::<Result<Vec<_>, _>>();
    let mut rows = statement.query_map([own], read)?.collect::<Result<Vec<_>, _>>()?;
    Rng::new(seen as u64).shuffle(&mut rows);

    let mut progress = Progress::new(&format!("{} -> {}, row by row", from.name, to.name), rows.len());
    let sql = format!("INSERT INTO crsql_changes ({TEN_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)");
    to.execute("BEGIN")?;
    let mut insert = to.db.prepare(&sql)?;
    for (i, row) in rows.iter().enumerate() {
        progress.at(i);
        insert.execute(rusqlite::params_from_iter(row))?;
    }
    drop(insert);
    to.execute("COMMIT")?;
    line(&format!(
        "{:<5} -> {:<5} {} rows of crsql_changes, shuffled, one INSERT each, {}",
        from.name,
        to.name,
        count(rows.len()),
        time(progress.finish())
    ));
    Ok(())
}
