//! A replica: a SQLite file with the extension loaded into an ordinary connection.

use crate::Outcome;
use crate::show::line;
use rusqlite::{Connection, Params};
use std::path::Path;

/// The tables, and the statement that makes them replicated: all that an application changes.
const SCHEMA: &str = "
CREATE TABLE script (code TEXT PRIMARY KEY NOT NULL, name TEXT);
CREATE TABLE category (code TEXT PRIMARY KEY NOT NULL, name TEXT);
CREATE TABLE block (first INTEGER PRIMARY KEY NOT NULL, last INT, name TEXT);
CREATE TABLE character (
  codepoint INTEGER PRIMARY KEY NOT NULL,
  name TEXT NOT NULL DEFAULT '',
  block INT,       -- block.first
  script TEXT,     -- script.code
  category TEXT,   -- category.code
  stars INT NOT NULL DEFAULT 0,
  note TEXT
);
CREATE TABLE emoji (glyph TEXT PRIMARY KEY NOT NULL, name TEXT, topic TEXT, shortcode TEXT);
CREATE TABLE emoji_character (
  glyph TEXT NOT NULL,        -- emoji.glyph
  position INT NOT NULL,
  codepoint INT,              -- character.codepoint
  PRIMARY KEY (glyph, position)
) WITHOUT ROWID;
CREATE INDEX character_name ON character (name);
";

/// The replicated tables, in the order a reader would name them.
pub const TABLES: [&str; 6] = ["block", "script", "category", "character", "emoji", "emoji_character"];

/// A replica and whose it is.
pub struct Replica {
    /// Its owner.
    pub name: &'static str,
    /// An ordinary connection.
    pub db: Connection,
}

/// Makes three empty replicas in fresh files.
pub fn create(directory: &Path, extension: &Path) -> Outcome<[Replica; 3]> {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory)?;
    let make = |name: &'static str, file: &str| -> Outcome<Replica> {
        let db = Connection::open(directory.join(file))?;
        // SAFETY: this is the extension just built; loading is switched off again right away.
        unsafe {
            db.load_extension_enable()?;
            db.load_extension(extension, Some("sqlite3_crsql_init"))?;
        }
        db.load_extension_disable()?;
        db.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = normal")?;
        db.execute_batch(SCHEMA)?;
        for table in TABLES {
            db.query_row("SELECT crsql_as_crr(?1)", [table], |_| Ok(()))?;
        }
        Ok(Replica { name, db })
    };
    let replicas = [make("Ana", "ana.db")?, make("Ben", "ben.db")?, make("Chloé", "chloe.db")?];
    let version: String = replicas[0].db.query_row("SELECT sqlite_version()", [], |row| row.get(0))?;
    line(&format!(
        "Ana, Ben and Chloé each have a file with six tables, made replicated by SELECT crsql_as_crr('...'); SQLite {version}"
    ));
    Ok(replicas)
}

impl Replica {
    /// Runs plain SQL, any number of statements.
    pub fn execute(&self, sql: &str) -> Outcome<()> {
        self.db.execute_batch(sql).map_err(|error| format!("{}: {error}\n  in: {sql}", self.name).into())
    }

    /// Asks for one value.
    pub fn value<T: rusqlite::types::FromSql>(&self, sql: &str, params: impl Params) -> Outcome<T> {
        let value = self.db.query_row(sql, params, |row| row.get(0));
        value.map_err(|error| format!("{}: {error}\n  in: {sql}", self.name).into())
    }

    /// Asks for one count.
    pub fn count(&self, sql: &str, params: impl Params) -> Outcome<usize> {
        Ok(usize::try_from(self.value::<i64>(sql, params)?)?)
    }

    /// How many rows a table has.
    pub fn rows(&self, table: &str) -> Outcome<usize> {
        self.count(&format!("SELECT count(*) FROM {table}"), [])
    }
}
