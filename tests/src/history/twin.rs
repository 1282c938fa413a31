//! A replica on real SQLite and its model, always driven alike.

use super::statement::{Statement, TABLES, schema_of};
use crate::site::Site;
use crate::value::SqlValue;
use crate::{Rng, exchange::ChangeRow};
use crsql_core::change::{Change, Fact, ROW_CID};
use crsql_core::column::ColumnType;
use crsql_core::ids::SiteId;
use crsql_core::merge::{Stamp, TieBreak};
use crsql_core::replica::Replica;
use crsql_core::value::Value;
use std::path::PathBuf;

/// A replica and its model.
pub struct Twin {
    /// The replica on real SQLite.
    pub site: Site,
    /// What it should be.
    pub model: Replica,
    /// It had its whole schema from the beginning.
    pub complete: bool,
    path: PathBuf,
    backup: Option<Replica>,
}

impl Twin {
    /// A fresh replica in a file; an old one lacks a table and a column that others have.
    pub fn new(path: PathBuf, old: bool, rng: &mut Rng) -> Twin {
        let site = Site::open(&path);
        site.exec("PRAGMA journal_mode = wal; PRAGMA synchronous = off; PRAGMA wal_autocheckpoint = 5000");
        site.site_id();
        let (site, id) = with_chosen_id(site, rng);
        let mut twin =
            Twin { site, model: Replica::new(id, TieBreak::Site), complete: !old, path, backup: None };
        let (_, early) = TABLES.split_last().expect("there are tables");
        for table in early {
            twin.site.exec(table.ddl);
            twin.model.create_table(schema_of(table)).expect("a new table");
        }
        if !old {
            twin.upgrade_fully();
        }
        twin
    }

    /// Runs one statement in its own transaction.
    pub fn statement(&mut self, rng: &mut Rng) {
        let mut statement = Statement::random(&self.model, rng);
        if self.has_untriggered_column() {
            statement = statement.leaving_late_column();
        }
        let mut tx = self.model.begin();
        statement.run(&self.site, &mut tx);
        tx.commit().expect("clocks are far from their limits");
    }

    /// Runs several statements in a transaction with savepoints, which commits, rolls back, or is cut off by the
    /// end of its connection.
    pub fn transaction(&mut self, rng: &mut Rng) {
        let is_untriggered = self.has_untriggered_column();
        let mut tx = self.model.begin();
        self.site.exec("BEGIN");
        let mut savepoints = Vec::new();
        for _ in 0..1 + rng.below(6) {
            let choice = rng.below(10);
            super::trace(|| format!("  in the transaction, {} savepoints open: {choice}", savepoints.len()));
            match choice {
                0 => {
                    self.site.exec(&format!("SAVEPOINT s{}", savepoints.len()));
                    savepoints.push(tx.savepoint());
                }
                1 if !savepoints.is_empty() => {
                    let to = rng.below(savepoints.len());
                    savepoints.truncate(to + 1);
                    tx.rollback_to(&savepoints[to]);
                    self.site.exec(&format!("ROLLBACK TO s{to}"));
                }
                2 if !savepoints.is_empty() => {
                    let to = rng.below(savepoints.len());
                    savepoints.truncate(to);
                    self.site.exec(&format!("RELEASE s{to}"));
                }
                3 => {
                    self.site.rows("SELECT count(*), max(seq) FROM crsql_changes");
                }
                _ => {
                    let mut statement = Statement::random(tx.replica(), rng);
                    if is_untriggered {
                        statement = statement.leaving_late_column();
                    }
                    statement.run(&self.site, &mut tx);
                }
            }
        }
        let end = rng.below(8);
        super::trace(|| format!("  {}", ["ROLLBACK", "end of the connection", "COMMIT"][end.min(2)]));
        match end {
            0 => {
                tx.rollback();
                self.site.exec("ROLLBACK");
            }
            1 => {
                tx.rollback();
                self.reopen();
            }
            _ => {
                tx.commit().expect("clocks are far from their limits");
                self.site.exec("COMMIT");
            }
        }
    }

    /// Whether the late column came by a plain ALTER, and no write has renewed the triggers since.
    fn has_untriggered_column(&self) -> bool {
        let triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 't' AND sql LIKE '%\"z\"%'";
        !self.complete
            && self.model.schema("t").is_some_and(|schema| schema.has_column("z"))
            && self.site.int(triggers) == 0
    }

    /// Closes the connection and opens the file again.
    pub fn reopen(&mut self) {
        // The old connection goes first, as when a process ends.
        self.site = Site::memory();
        self.site = Site::open(&self.path);
        self.site.exec("PRAGMA synchronous = off");
    }

    /// Gives an old replica one of the things it lacks.
    pub fn upgrade(&mut self, rng: &mut Rng) {
        match rng.below(3) {
            0 => self.add_late_table(),
            1 => self.add_late_column(rng.one_in(2)),
            _ => self.declare_late_type(),
        }
    }

    /// Gives an old replica everything it lacks.
    pub fn upgrade_fully(&mut self) {
        self.add_late_column(false);
        self.add_late_table();
        self.declare_late_type();
    }

    fn declare_late_type(&mut self) {
        self.site.exec(r#"SELECT crsql_as_crr('score', '{"columns":{"late":"counter"}}')"#);
        self.model.declare("score", "late", ColumnType::Counter).expect("a known column");
    }

    fn add_late_table(&mut self) {
        let late = TABLES.last().expect("there are tables");
        if self.model.schema(late.name).is_none() {
            self.site.exec(late.ddl);
            self.model.create_table(schema_of(late)).expect("a new table");
        }
    }

    fn add_late_column(&mut self, plainly: bool) {
        if self.model.schema("t").is_some_and(|schema| schema.has_column("z")) {
            return;
        }
        let alter = "ALTER TABLE t ADD COLUMN z DEFAULT 'dz'";
        if plainly {
            self.site.exec(alter);
        } else {
            self.site
                .exec(&format!("SELECT crsql_begin_alter('t'); {alter}; SELECT crsql_commit_alter('t')"));
        }
        self.model.add_column("t", "z", Value::text("dz")).expect("a new column");
    }

    /// Keeps a copy of the file.
    pub fn back_up(&mut self) {
        let copy = self.path.with_extension("backup");
        let _ = std::fs::remove_file(&copy);
        self.site.exec(&format!("VACUUM INTO '{}'", copy.display()));
        self.backup = Some(self.model.clone());
    }

    /// Goes back to the copy. It may have written since, so it goes on under a new identity.
    pub fn restore(&mut self, rng: &mut Rng) {
        let Some(model) = self.backup.clone() else { return };
        self.site = Site::memory();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path.display()));
        }
        std::fs::copy(self.path.with_extension("backup"), &self.path).expect("the copy can be read");
        self.model = model;
        self.reopen();
        if rng.one_in(2) {
            self.site.exec("PRAGMA journal_mode = wal");
        }
        self.site.exec("SELECT crsql_new_site()");
        let (site, id) = with_chosen_id(std::mem::replace(&mut self.site, Site::memory()), rng);
        self.site = site;
        self.model.rename_site(id);
    }
}

/// Gives a replica that has not written under its id yet one that follows from the seed, so that a history can be
/// replayed. Ids are random otherwise, and there is no other way to choose one: this is the only place where the
/// tests know a table of the extension.
fn with_chosen_id(site: Site, rng: &mut Rng) -> (Site, SiteId) {
    let mut id = [0; 16];
    id.chunks_mut(8).for_each(|half| half.copy_from_slice(&rng.bits().to_be_bytes()));
    let own = "ordinal = (SELECT site FROM __crsql_state)";
    site.run(&format!("UPDATE __crsql_site SET site_id = ?1 WHERE {own}"), &[&id.as_slice()]);
    let site = Site::open(site.path());
    site.exec("PRAGMA synchronous = off");
    assert_eq!(site.site_id(), id, "the chosen id");
    (site, SiteId(id))
}

/// A row of `crsql_changes`, nine or ten columns, as the model knows it.
pub fn change_of(row: &ChangeRow) -> Change {
    let cid = row[2].as_str();
    let cl = row[7].integer() as u64;
    let version = row.get(9).map_or(0, |version| version.integer() as u64);
    let site = SiteId::try_from(row[6].blob()).expect("a site id of 16 bytes");
    let fact = match cid {
        ROW_CID => Fact::Row,
        _ => Fact::Cell {
            column: cid.to_string(),
            col_version: row[4].integer() as u64,
            value: core_value(&row[3]),
        },
    };
    Change {
        table: row[0].as_str().to_string(),
        pk: row[1].blob().to_vec(),
        fact,
        cl,
        stamp: Stamp { site, version, seq: row[8].integer() as u64 },
    }
}

/// The model's value of a SQL value.
pub fn core_value(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(value) => Value::Integer(*value),
        SqlValue::Real(bits) => Value::Real(f64::from_bits(*bits)),
        SqlValue::Text(bytes) => Value::Text(bytes.clone()),
        SqlValue::Blob(bytes) => Value::Blob(bytes.clone()),
    }
}

/// The SQL value of one of the model's.
pub fn sql_value(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Integer(value) => SqlValue::Integer(*value),
        Value::Real(value) => SqlValue::Real(value.to_bits()),
        Value::Text(bytes) => SqlValue::Text(bytes.clone()),
        Value::Blob(bytes) => SqlValue::Blob(bytes.clone()),
    }
}
