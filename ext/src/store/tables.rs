//! The store's tables and the statements on them.

use super::clock::Key;
use crate::sqlite::{Db, Result, Statement};
use crsql_core::value::ValueRef;

/// What a database that replicates holds besides the user's tables. One row of `__crsql_state`.
pub const SCHEMA: &str = "
CREATE TABLE main.__crsql_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  format INTEGER NOT NULL,
  site INTEGER NOT NULL,
  db_version INTEGER NOT NULL,
  site_version INTEGER NOT NULL,
  generation INTEGER NOT NULL
);
CREATE TABLE main.__crsql_site (
  ordinal INTEGER PRIMARY KEY,
  site_id BLOB NOT NULL UNIQUE
);
CREATE TABLE main.__crsql_vector (
  site INTEGER NOT NULL,
  lo INTEGER NOT NULL,
  hi INTEGER NOT NULL,
  PRIMARY KEY (site, lo)
) WITHOUT ROWID;
CREATE TABLE main.__crsql_table (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  options TEXT NOT NULL DEFAULT '{}',
  has_tombstones INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE main.__crsql_column (
  table_id INTEGER NOT NULL,
  id INTEGER NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL DEFAULT 'register',
  slot INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (table_id, id)
) WITHOUT ROWID;
CREATE TABLE main.__crsql_segment (
  table_id INTEGER NOT NULL,
  start BLOB NOT NULL,
  max_db_version INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (table_id, start)
) WITHOUT ROWID;
CREATE INDEX main.__crsql_segment_newest ON __crsql_segment (max_db_version);
CREATE TABLE main.__crsql_typed (
  table_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  slot INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (table_id, key, slot)
) WITHOUT ROWID;
CREATE TABLE main.__crsql_log (
  db_version INTEGER PRIMARY KEY,
  data BLOB NOT NULL
);
CREATE TABLE main.__crsql_parked (
  id INTEGER PRIMARY KEY,
  table_name TEXT NOT NULL,
  pk BLOB NOT NULL,
  cid TEXT NOT NULL,
  part BLOB NOT NULL,
  val,
  col_version INTEGER NOT NULL,
  cl INTEGER NOT NULL,
  site_id BLOB NOT NULL,
  site_version INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  db_version INTEGER NOT NULL,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  UNIQUE (table_name, pk, cid, part)
);
CREATE INDEX main.__crsql_parked_newest ON __crsql_parked (db_version);
CREATE TABLE main.__crsql_config (
  name TEXT PRIMARY KEY,
  value
) WITHOUT ROWID;
CREATE TABLE main.__crsql_changed (
  id INTEGER PRIMARY KEY
);
CREATE TABLE main.__crsql_canary (
  id TEXT PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS main.crsql_tracked_peers (
  site_id BLOB NOT NULL,
  version INTEGER NOT NULL,
  seq INTEGER DEFAULT 0,
  tag INTEGER,
  event INTEGER,
  PRIMARY KEY (site_id, tag, event)
);
CREATE VIEW main.crsql_parked AS
SELECT table_name AS \"table\", pk, cid, val, col_version, cl, site_id, site_version, seq, db_version, reason
FROM __crsql_parked;
CREATE VIEW main.crsql_conflicts AS
SELECT table_name AS \"table\", pk, cid, val, col_version, cl, site_id, site_version, seq, db_version, reason
FROM __crsql_parked WHERE kind = 'constraint';
CREATE VIEW main.crsql_crrs AS
SELECT name AS \"table\", options
FROM __crsql_table WHERE name <> '';
CREATE VIEW main.crsql_columns AS
SELECT t.name AS \"table\", c.name AS \"column\", c.type
FROM __crsql_table AS t JOIN __crsql_column AS c ON c.table_id = t.id
WHERE t.name <> '' AND c.name <> '';
";

/// The version of [`SCHEMA`] and of the byte formats inside. A newer one is refused, an older one upgraded.
pub const FORMAT: i64 = 1;

/// The format from when tombstones were collected: whoever does not know of that would bring deleted rows back.
pub const FORMAT_COLLECTED: i64 = 2;

/// Prepared statements on the store's tables, kept for the life of the connection.
pub struct Statements {
    /// (db_version, data) of the last log row.
    pub log_last: Statement,
    /// ?1 db_version: (db_version, data) of later log rows.
    pub log_after: Statement,
    /// ?1 db_version, ?2 data.
    pub log_insert: Statement,
    /// Empties the log.
    pub log_clear: Statement,
    /// (db_version, site_version, generation, site, format).
    pub state: Statement,
    /// ?1 db_version, ?2 site_version, ?3 generation.
    pub state_update: Statement,
    /// ?1 table, ?2 key: (start, data, next start) of the segment that covers the key.
    pub segment_at: Statement,
    /// ?1 table, ?2 key: the first start above the key.
    pub segment_next: Statement,
    /// ?1 table, ?2 start, ?3 max_db_version, ?4 data.
    pub segment_insert: Statement,
    /// ?1 table, ?2 start, ?3 max_db_version, ?4 data.
    pub segment_update: Statement,
    /// ?1 table, ?2 start.
    pub segment_delete: Statement,
}

impl Statements {
    /// Prepares all of them.
    pub fn prepare(db: Db) -> Result<Statements> {
        let sql = |text: &str| db.prepare_persistent(text);
        Ok(Statements {
            log_last: sql("SELECT db_version, data FROM main.__crsql_log ORDER BY db_version DESC LIMIT 1")?,
            log_after: sql(
                "SELECT db_version, data FROM main.__crsql_log WHERE db_version > ?1 ORDER BY db_version",
            )?,
            log_insert: sql("INSERT INTO main.__crsql_log (db_version, data) VALUES (?1, ?2)")?,
            log_clear: sql("DELETE FROM main.__crsql_log")?,
            state: sql("SELECT db_version, site_version, generation, site, format FROM main.__crsql_state")?,
            state_update: sql(
                // One row by its key: needs no statement journal, whose rollback when the statement has to be compiled
                // again would reach our own savepoint methods while the store is at work.
                "UPDATE main.__crsql_state SET db_version = ?1, site_version = ?2, generation = ?3 WHERE id = 1",
            )?,
            segment_at: sql("SELECT start, data,
                   (SELECT n.start FROM main.__crsql_segment AS n
                    WHERE n.table_id = ?1 AND n.start > s.start ORDER BY n.start LIMIT 1)
                 FROM main.__crsql_segment AS s
                 WHERE table_id = ?1 AND start <= ?2 ORDER BY start DESC LIMIT 1")?,
            segment_next: sql("SELECT start FROM main.__crsql_segment
                 WHERE table_id = ?1 AND start > ?2 ORDER BY start LIMIT 1")?,
            segment_insert: sql(
                "INSERT INTO main.__crsql_segment (table_id, start, max_db_version, data) VALUES (?1, ?2, ?3, ?4)",
            )?,
            segment_update: sql("UPDATE main.__crsql_segment SET max_db_version = ?3, data = ?4
                 WHERE table_id = ?1 AND start = ?2")?,
            segment_delete: sql("DELETE FROM main.__crsql_segment WHERE table_id = ?1 AND start = ?2")?,
        })
    }
}

/// A key as SQLite stores it: integers sort before blobs.
pub fn key_value(key: &Key) -> ValueRef<'_> {
    match key {
        Key::Int(key) => ValueRef::Integer(*key),
        Key::Bytes(key) => ValueRef::Blob(key),
    }
}

/// The key in a column of a statement.
pub fn key_from(value: ValueRef<'_>) -> Option<Key> {
    match value {
        ValueRef::Integer(key) => Some(Key::Int(key)),
        ValueRef::Blob(key) => Some(Key::Bytes(key.into())),
        _ => None,
    }
}
