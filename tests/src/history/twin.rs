//! A replica on real SQLite and its model, always driven alike.

use super::coverage::{saw, trace};
use super::effect::Ended;
use super::schema::Schema;
use super::statement::Statement;
use crate::site::Site;
use crate::value::{Ident, SqlValue};
use crate::{Rng, exchange::ChangeRow};
use crsql_core::change::{Change, Fact, ROW_CID};
use crsql_core::ids::SiteId;
use crsql_core::merge::{Stamp, TieBreak};
use crsql_core::replica::Replica;
use crsql_core::value::Value;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// A replica and its model.
pub struct Twin {
    /// The connection in use to the replica on real SQLite.
    pub site: Site,
    /// What it should be.
    pub model: Replica,
    /// It had its whole schema from the beginning.
    pub complete: bool,
    /// The tables that it has or will have.
    pub schema: Rc<Schema>,
    /// Another connection to the same file, once there is one.
    pub(super) other: Option<Site>,
    pub(super) path: PathBuf,
    pub(super) backup: Option<(Replica, bool)>,
}

impl Twin {
    /// A fresh replica in a file; an old one lacks tables and columns that others have.
    pub fn new(path: PathBuf, schema: &Rc<Schema>, tie: TieBreak, old: bool, rng: &mut Rng) -> Twin {
        let site = Site::open(&path);
        site.exec("PRAGMA journal_mode = wal; PRAGMA synchronous = off; PRAGMA wal_autocheckpoint = 5000");
        site.site_id();
        if tie == TieBreak::Value {
            site.exec("SELECT crsql_config_set('tie-break', 'value')");
        }
        let (site, id) = with_chosen_id(site, rng);
        let schema = Rc::clone(schema);
        let model = Replica::new(id, tie);
        let mut twin = Twin { site, model, complete: !old, schema, other: None, path, backup: None };
        for table in twin.schema.tables.clone() {
            if !(old && table.late) {
                twin.site.exec(&table.ddl(!old));
                twin.model.create_table(table.model(!old)).expect("a new table");
            }
        }
        twin
    }

    /// Runs one statement in its own transaction.
    pub fn statement(&mut self, rng: &mut Rng) {
        let schema = Rc::clone(&self.schema);
        let statement = Statement::random(&schema, &self.model, rng).leaving(&self.untriggered_columns());
        let mut tx = self.model.begin();
        let beginning = tx.savepoint();
        statement.run(&self.site, &mut tx, &beginning);
        tx.commit().expect("clocks are far from their limits");
    }

    /// Runs several statements in a transaction with savepoints, which commits, rolls back, or is cut off by the
    /// end of its connection. Returns how many operations that were.
    pub fn transaction(&mut self, rng: &mut Rng) -> usize {
        let schema = Rc::clone(&self.schema);
        let untriggered = self.untriggered_columns();
        let before = self.other.is_some().then(|| self.site.digest());
        let mut tx = self.model.begin();
        let beginning = tx.savepoint();
        self.site.exec("BEGIN");
        let mut savepoints = Vec::new();
        let statements = 1 + rng.below(6);
        for number in 1..=statements {
            let choice = rng.below(11);
            trace(|| format!("  in the transaction, {} savepoints open: {choice}", savepoints.len()));
            match choice {
                0 => {
                    self.site.exec(&format!("SAVEPOINT s{}", savepoints.len()));
                    savepoints.push(tx.savepoint());
                }
                1 if !savepoints.is_empty() => {
                    saw("savepoint rolled back");
                    let to = rng.below(savepoints.len());
                    savepoints.truncate(to + 1);
                    tx.rollback_to(&savepoints[to]);
                    self.site.exec(&format!("ROLLBACK TO s{to}"));
                }
                2 if !savepoints.is_empty() => {
                    saw("savepoint released");
                    let to = rng.below(savepoints.len());
                    savepoints.truncate(to);
                    self.site.exec(&format!("RELEASE s{to}"));
                }
                3 => {
                    saw("read inside a transaction");
                    self.site.rows("SELECT count(*), max(seq) FROM crsql_changes");
                }
                4 if before.is_some() => {
                    look_from_outside(self.other.as_ref(), &self.site, before.as_deref())
                }
                _ => {
                    let statement = Statement::random(&schema, tx.replica(), rng).leaving(&untriggered);
                    if statement.run(&self.site, &mut tx, &beginning) == Ended::RolledBack {
                        assert!(self.site.conn.is_autocommit(), "OR ROLLBACK ended the transaction");
                        tx.rollback();
                        return number;
                    }
                }
            }
        }
        let end = rng.below(8);
        trace(|| format!("  {}", ["ROLLBACK", "end of the connection", "COMMIT"][end.min(2)]));
        match end {
            0 => {
                saw("transaction rolled back");
                tx.rollback();
                self.site.exec("ROLLBACK");
            }
            1 => {
                saw("transaction cut off by the end of its connection");
                tx.rollback();
                self.reopen();
            }
            _ => {
                tx.commit().expect("clocks are far from their limits");
                self.site.exec("COMMIT");
            }
        }
        statements + 1
    }

    /// The late columns that came by a plain ALTER after which no write has renewed the triggers.
    fn untriggered_columns(&self) -> Vec<(String, String)> {
        if self.complete {
            return Vec::new();
        }
        let triggers = "SELECT count(*) FROM sqlite_schema
                        WHERE type = 'trigger' AND name LIKE '%crsql%' AND tbl_name = ?1 AND instr(sql, ?2) > 0";
        let mut untriggered = self.late_columns();
        untriggered.retain(|(table, column)| {
            let named = Ident(column).to_string();
            self.site.value_with(triggers, &[table, &named]).integer() == 0
        });
        untriggered
    }

    /// The late columns that the replica has by now.
    pub(super) fn late_columns(&self) -> Vec<(String, String)> {
        let tables =
            self.schema.tables.iter().filter_map(|table| Some((table, self.model.schema(&table.name)?)));
        tables
            .flat_map(|(table, held)| {
                let late = table.columns.iter().filter(|column| column.late && held.has_column(&column.name));
                late.map(|column| (table.name.clone(), column.name.clone()))
            })
            .collect()
    }
}

/// What another connection sees and may do while a transaction is open: what was committed, and nothing.
fn look_from_outside(other: Option<&Site>, site: &Site, before: Option<&str>) {
    let other = other.expect("there is another connection");
    assert_eq!(Some(other.digest().as_str()), before, "another connection sees an open transaction");
    saw("another connection saw only what was committed");
    if site.conn.transaction_state(None::<&str>).expect("a state") == rusqlite::TransactionState::Write {
        other.conn.busy_timeout(Duration::ZERO).expect("busy timeout");
        let message = other.error("SELECT crsql_new_site()");
        assert!(message.contains("locked"), "{message}");
        saw("another connection was told to wait");
    }
}

/// Gives a replica that has not written under its id yet one that follows from the seed, so that a history can be
/// replayed. Ids are random otherwise, and there is no other way to choose one: this is the only place where the
/// tests know a table of the extension.
pub(super) fn with_chosen_id(site: Site, rng: &mut Rng) -> (Site, SiteId) {
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
