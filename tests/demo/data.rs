//! The data set: the Unicode Character Database and the list of emoji, as published on crates.io.
//!
//! The ideographs and syllables whose names are computed from their numbers are left out.

use crate::Outcome;
use crate::replica::{Replica, TABLES};
use crate::show::{Progress, bytes, count, line, time};
use rusqlite::params;
use std::collections::BTreeSet;
use unicode_general_category::get_general_category;
use unicode_script::UnicodeScript;

/// Loads everything into one replica with plain INSERTs, in one transaction.
pub fn load(replica: &Replica) -> Outcome<()> {
    let characters: Vec<(char, String)> = ('\u{20}'..=char::MAX).filter_map(named).collect();
    let mut progress = Progress::new(&format!("{} loads", replica.name), characters.len());
    replica.execute("BEGIN")?;
    load_characters(replica, &characters, &mut progress)?;
    load_emoji(replica)?;
    replica.execute("COMMIT")?;
    let took = progress.finish();
    let (major, minor, _) = unicode_script::UNICODE_VERSION;
    line(&format!("Unicode {major}.{minor} from crates.io, loaded by {} in {}:", replica.name, time(took)));
    for table in TABLES {
        line(&format!("  {:>7} rows in {table}", count(replica.rows(table)?)));
    }
    let size = replica.count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [])?;
    line(&format!("  {} in the file, clocks included", bytes(size)));
    Ok(())
}

/// A character with a name of its own.
fn named(character: char) -> Option<(char, String)> {
    let computed = matches!(character, '\u{ac00}'..='\u{d7a3}' | '\u{17000}'..='\u{18d8f}');
    let name = unicode_names2::name(character).filter(|_| !computed)?.to_string();
    (!name.starts_with("CJK ")).then_some((character, name))
}

fn load_characters(replica: &Replica, characters: &[(char, String)], progress: &mut Progress) -> Outcome<()> {
    let mut insert = replica.db.prepare(
        "INSERT INTO character (codepoint, name, block, script, category) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut insert_block = replica.db.prepare("INSERT OR IGNORE INTO block VALUES (?1, ?2, ?3)")?;
    let mut insert_script = replica.db.prepare("INSERT INTO script VALUES (?1, ?2)")?;
    let mut insert_category = replica.db.prepare("INSERT INTO category VALUES (?1, ?2)")?;
    let (mut scripts, mut categories) = (BTreeSet::new(), BTreeSet::new());
    for (i, (character, name)) in characters.iter().enumerate() {
        progress.at(i);
        let (script, category) = (character.script(), get_general_category(*character));
        let block = unicode_blocks::find_unicode_block(*character);
        if let Some(block) = block {
            insert_block.execute(params![block.start(), block.end(), block.name()])?;
        }
        if scripts.insert(script.short_name()) {
            insert_script.execute([script.short_name(), &script.full_name().replace('_', " ")])?;
        }
        if categories.insert(category.abbreviation()) {
            insert_category.execute([category.abbreviation(), &format!("{category:?}")])?;
        }
        let block = block.map(|block| block.start());
        insert.execute(params![
            *character as u32,
            name,
            block,
            script.short_name(),
            category.abbreviation()
        ])?;
    }
    Ok(())
}

fn load_emoji(replica: &Replica) -> Outcome<()> {
    let mut insert = replica.db.prepare("INSERT OR IGNORE INTO emoji VALUES (?1, ?2, ?3, ?4)")?;
    let mut insert_character =
        replica.db.prepare("INSERT OR IGNORE INTO emoji_character VALUES (?1, ?2, ?3)")?;
    let tones = |emoji: &'static emojis::Emoji| emoji.skin_tones().into_iter().flatten();
    for emoji in emojis::iter().flat_map(|emoji| std::iter::once(emoji).chain(tones(emoji))) {
        let topic = format!("{:?}", emoji.group());
        insert.execute(params![emoji.as_str(), emoji.name(), topic, emoji.shortcode()])?;
        for (position, character) in emoji.as_str().chars().enumerate() {
            insert_character.execute(params![emoji.as_str(), position as i64, character as u32])?;
        }
    }
    Ok(())
}
