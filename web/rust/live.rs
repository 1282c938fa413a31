//! Queries that are run again when a table that they read changed.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

use crsql::sqlite::{Db, ValueRef};
use rusqlite::Connection;

use crate::error::Result;
use crate::hooks::{self, Reads};
use crate::patch;
use crate::rows::Rows;
use crate::statements::Statements;
use crate::values;

/// One of them, with what it answered last.
pub struct Live {
    sql: String,
    parameters: Vec<u8>,
    reads: Reads,
    schema_version: i64,
    hashes: Vec<u64>,
    columns: Vec<String>,
    seed: u64,
}

impl Live {
    /// `seed` keys the hashes, so that nobody can craft rows that are taken for each other.
    pub fn new(connection: &Connection, sql: &str, parameters: Vec<u8>, seed: u64) -> Result<Live> {
        let reads = reads(connection, sql)?;
        let schema_version = hooks::db(connection).schema_version()?;
        let (hashes, columns) = (Vec::new(), Vec::new());
        Ok(Live { sql: sql.to_owned(), parameters, reads, schema_version, hashes, columns, seed })
    }

    /// Whether a change of these tables may change the answer.
    pub fn is_touched(&self, tables: &BTreeSet<String>) -> bool {
        if self.reads.anything { !tables.is_empty() } else { !self.reads.tables.is_disjoint(tables) }
    }

    /// Finds out anew what the query reads, if the schema changed. True if it did.
    pub fn renew(&mut self, connection: &Connection) -> Result<bool> {
        let schema_version = hooks::db(connection).schema_version()?;
        if schema_version == self.schema_version {
            return Ok(false);
        }
        self.reads = reads(connection, &self.sql)?;
        self.schema_version = schema_version;
        Ok(true)
    }

    /// Runs the query; returns the patch from the last answer to this one, `None` if they are equal. The whole answer
    /// when `all` is set.
    pub fn run(&mut self, db: Db, statements: &mut Statements, all: bool) -> Result<Option<Vec<u8>>> {
        let Live { sql, parameters, hashes: old, columns: old_columns, seed, .. } = self;
        let (hashes, columns, rows, ops) = statements.with(db, sql, |statement| {
            values::bind(statement, parameters)?;
            let columns: Vec<String> =
                (0..statement.column_count()).map(|index| statement.column_name(index).to_owned()).collect();
            let whole = all || columns != *old_columns;
            let mut rows = Rows::of(statement);
            let mut hashes = Vec::with_capacity(old.len());
            // Two passes would read twice: rows that follow the old answer are taken back at once, the rest is written
            // and sorted out by the diff.
            let mut head = 0;
            let mut kept = Vec::new();
            while statement.step()? {
                let mark = rows.mark();
                rows.push(statement);
                let (cells, texts) = rows.since(mark);
                let hash = hash(*seed, cells, texts);
                if !whole && head == hashes.len() && old.get(head) == Some(&hash) {
                    rows.drop_last(mark);
                    head += 1;
                } else {
                    kept.push(mark);
                }
                hashes.push(hash);
            }
            let base: &[u64] = if whole { &[] } else { old };
            if !whole && head == old.len() && hashes.len() == old.len() {
                return Ok((hashes, columns, None, Vec::new()));
            }
            let (ops, fresh) = patch::diff(base, &hashes);
            let rows = rows.only(&kept, &fresh[head..]);
            Ok((hashes, columns, Some(rows), ops))
        })?;
        self.hashes = hashes;
        self.columns = columns;
        Ok(rows.map(|rows| {
            let mut out = Vec::new();
            patch::write_to(&ops, &mut out);
            rows.write_to(&mut out);
            out
        }))
    }
}

fn hash(seed: u64, cells: &[u8], texts: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(cells);
    hasher.write(texts);
    hasher.finish()
}

/// What the query reads. A virtual table keeps its rows in tables that begin with its name, as full-text search does.
fn reads(connection: &Connection, sql: &str) -> Result<Reads> {
    let mut reads = hooks::reads(connection, sql)?;
    for table in reads.tables.clone() {
        reads.tables.extend(shadows(hooks::db(connection), &table)?);
    }
    Ok(reads)
}

fn shadows(db: Db, table: &str) -> Result<Vec<String>> {
    let mut select = db.prepare(
        "SELECT name FROM pragma_table_list
         WHERE schema = 'main' AND type = 'shadow' AND substr(name, 1, length(?1) + 1) = ?1 || '_'",
    )?;
    let mut rows = select.query(&[ValueRef::Text(table.as_bytes())])?;
    let mut names = Vec::new();
    while rows.step()? {
        names.push(rows.column_str(0)?.to_owned());
    }
    Ok(names)
}
