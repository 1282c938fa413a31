//! Random local statements, as SQL and as the model's operation.

use super::twin::{core_value, sql_value};
use crate::Rng;
use crate::site::Site;
use crate::value::SqlValue;
use crsql_core::column::ColumnType;
use crsql_core::key::{Affinity, Collation, KeyColumn};
use crsql_core::replica::{Replica, TableSchema, Transaction, WriteError};
use crsql_core::value::Value;

/// A table of the histories.
pub struct HistoryTable {
    /// Its name.
    pub name: &'static str,
    /// How it is made.
    pub ddl: &'static str,
    /// Its key columns, in key order.
    pub key: &'static [&'static str],
    /// Its other columns in declared order, of a replica that has them all.
    pub columns: &'static [&'static str],
}

/// The tables; the last one and the column `z` of the first come late to old replicas. Columns have no affinity,
/// because the model converts nothing.
pub const TABLES: [HistoryTable; 8] = [
    HistoryTable {
        name: "t",
        ddl: "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t",
        key: &["id"],
        columns: &["x", "y", "z"],
    },
    HistoryTable {
        name: "k",
        ddl: "CREATE TABLE k (v DEFAULT 0, name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, w, PRIMARY KEY (n, name)) WITHOUT ROWID; CRR k",
        key: &["n", "name"],
        columns: &["v", "w"],
    },
    HistoryTable {
        name: "u",
        ddl: "CREATE TABLE u (id PRIMARY KEY NOT NULL, v); CRR u",
        key: &["id"],
        columns: &["v"],
    },
    HistoryTable {
        name: "tag",
        ddl: "CREATE TABLE tag (id TEXT COLLATE RTRIM PRIMARY KEY NOT NULL); CRR tag",
        key: &["id"],
        columns: &[],
    },
    HistoryTable {
        name: "score",
        ddl: r#"CREATE TABLE score (id INTEGER PRIMARY KEY NOT NULL, x, best, least DEFAULT 5,
                 hits NOT NULL DEFAULT 0, late NOT NULL DEFAULT 0);
                SELECT crsql_as_crr('score', '{"columns":{"best":"max","least":"min","hits":"counter"}}')"#,
        key: &["id"],
        columns: &["x", "best", "least", "hits", "late"],
    },
    HistoryTable {
        name: "tally",
        ddl: r#"CREATE TABLE tally (word TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, n NOT NULL DEFAULT 0, m NOT NULL DEFAULT 0);
                SELECT crsql_as_crr('tally', '{"columns":{"n":"counter","m":"counter"}}')"#,
        key: &["word"],
        columns: &["n", "m"],
    },
    HistoryTable {
        name: "duel",
        ddl: r#"CREATE TABLE duel (a INT NOT NULL, b TEXT NOT NULL, top, n NOT NULL DEFAULT 0, PRIMARY KEY (b, a)) WITHOUT ROWID;
                SELECT crsql_as_crr('duel', '{"columns":{"top":"max","n":"counter"}}')"#,
        key: &["b", "a"],
        columns: &["top", "n"],
    },
    HistoryTable {
        name: "late",
        ddl: "CREATE TABLE late (id BLOB PRIMARY KEY NOT NULL, v, w DEFAULT 1.5); CRR late",
        key: &["id"],
        columns: &["v", "w"],
    },
];

/// The schema of a table as a replica first has it, without the late column.
pub fn schema_of(table: &HistoryTable) -> TableSchema {
    let column = |affinity, collation| KeyColumn { affinity, collation };
    let integer = column(Affinity::Integer, Collation::Binary);
    match table.name {
        "t" => TableSchema::new("t", [integer]).column("x", Value::Null).column("y", Value::text("dy")),
        "k" => TableSchema::new("k", [integer, column(Affinity::Text, Collation::NoCase)])
            .column("v", Value::Integer(0))
            .column("w", Value::Null),
        "u" => TableSchema::new("u", [column(Affinity::Blob, Collation::Binary)]).column("v", Value::Null),
        "score" => TableSchema::new("score", [integer])
            .column("x", Value::Null)
            .typed("best", ColumnType::Max, Value::Null)
            .typed("least", ColumnType::Min, Value::Integer(5))
            .typed("hits", ColumnType::Counter, Value::Integer(0))
            .column("late", Value::Integer(0)),
        "tally" => TableSchema::new("tally", [column(Affinity::Text, Collation::NoCase)])
            .typed("n", ColumnType::Counter, Value::Integer(0))
            .typed("m", ColumnType::Counter, Value::Integer(0)),
        "duel" => TableSchema::new("duel", [column(Affinity::Text, Collation::Binary), integer])
            .typed("top", ColumnType::Max, Value::Null)
            .typed("n", ColumnType::Counter, Value::Integer(0)),
        "tag" => TableSchema::new("tag", [column(Affinity::Text, Collation::Rtrim)]),
        _ => TableSchema::new("late", [column(Affinity::Blob, Collation::Binary)])
            .column("v", Value::Null)
            .column("w", Value::Real(1.5)),
    }
}

type Sets = Vec<(&'static str, SqlValue)>;

/// One statement on one table.
#[derive(Debug)]
pub struct Statement {
    table: &'static str,
    key_columns: &'static [&'static str],
    key: Vec<SqlValue>,
    sets: Sets,
    verb: Verb,
}

#[derive(Debug)]
enum Verb {
    Insert,
    Replace,
    Update,
    UpdateFrom,
    Delete,
    MoveTo(Vec<SqlValue>),
    MoveOver(Vec<SqlValue>),
}

impl Statement {
    /// A statement on a table that the replica has.
    pub fn random(model: &Replica, rng: &mut Rng) -> Statement {
        let known: Vec<&'static HistoryTable> =
            TABLES.iter().filter(|table| model.schema(table.name).is_some()).collect();
        // Half of all work on the first table, whose rows are contended most.
        let table = if rng.one_in(2) { known[0] } else { *rng.pick(&known) };
        let schema = model.schema(table.name).expect("a known table");
        let present = table.columns.iter().copied().filter(|column| schema.has_column(column));
        let mut sets: Sets = Vec::new();
        for column in present {
            if rng.one_in(2) {
                sets.push((column, if is_number(table.name, column) { number(rng) } else { value(rng) }));
            }
        }
        let verb = match rng.below(12) {
            0..=3 => Verb::Insert,
            4 => Verb::Replace,
            5 | 6 => Verb::Delete,
            7 => Verb::MoveTo(key(table.name, rng)),
            8 => Verb::MoveOver(key(table.name, rng)),
            9 if matches!(table.name, "t" | "score") && !sets.is_empty() => Verb::UpdateFrom,
            _ if sets.is_empty() => Verb::Insert,
            _ => Verb::Update,
        };
        Statement { table: table.name, key_columns: table.key, key: key(table.name, rng), sets, verb }
    }

    /// The statement without an update of the late column. Until the first commit after a plain ALTER its old values
    /// are unknown, so even an assignment of the same value counts as a write, which the model does not know.
    pub fn leaving_late_column(mut self) -> Statement {
        if self.table == "t" && !matches!(self.verb, Verb::Insert | Verb::Replace) {
            let others = self.sets.iter().filter(|(name, _)| *name != "z").count();
            match others {
                0 => self.sets.iter_mut().for_each(|(name, _)| *name = "y"),
                _ => self.sets.retain(|(name, _)| *name != "z"),
            }
        }
        self
    }

    /// Runs it on the database and on the model, which must agree whether it succeeds.
    pub fn run(&self, site: &Site, tx: &mut Transaction<'_>) {
        let sql = self.sql();
        super::trace(|| format!("  {sql}"));
        let real = site.try_exec(&sql);
        let model = self.apply(tx);
        match (&real, &model) {
            (Ok(()), Ok(())) => {}
            (Err(message), Err(WriteError::RowExists(_))) if message.contains("UNIQUE") => {}
            _ => panic!("{sql}: SQLite says {real:?}, the model {model:?}"),
        }
    }

    fn sql(&self) -> String {
        let Statement { table, key_columns, key, sets, verb } = self;
        let equals = |names: &[&str], values: &[SqlValue], join: &str| {
            let terms: Vec<String> =
                names.iter().zip(values).map(|(name, value)| format!("{name} = {value}")).collect();
            terms.join(join)
        };
        let here = equals(key_columns, key, " AND ");
        let assignments: Vec<String> = sets.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        match verb {
            Verb::Insert | Verb::Replace => {
                let names: Vec<&str> =
                    key_columns.iter().copied().chain(sets.iter().map(|(name, _)| *name)).collect();
                let values: Vec<String> =
                    key.iter().chain(sets.iter().map(|(_, value)| value)).map(SqlValue::to_string).collect();
                let insert = if matches!(verb, Verb::Insert) { "INSERT" } else { "INSERT OR REPLACE" };
                format!("{insert} INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "))
            }
            Verb::Update => format!("UPDATE {table} SET {} WHERE {here}", assignments.join(", ")),
            Verb::UpdateFrom => {
                format!("UPDATE {table} SET {} WHERE id >= {}", assignments.join(", "), key[0])
            }
            Verb::Delete => format!("DELETE FROM {table} WHERE {here}"),
            Verb::MoveTo(to) | Verb::MoveOver(to) => {
                let or = if matches!(verb, Verb::MoveTo(_)) { "" } else { " OR REPLACE" };
                let mut all = vec![equals(key_columns, to, ", ")];
                all.extend(assignments);
                format!("UPDATE{or} {table} SET {} WHERE {here}", all.join(", "))
            }
        }
    }

    fn apply(&self, tx: &mut Transaction<'_>) -> Result<(), WriteError> {
        let key: Vec<Value> = self.key.iter().map(core_value).collect();
        let sets: Vec<(&str, Value)> =
            self.sets.iter().map(|(name, value)| (*name, core_value(value))).collect();
        let core_key = |key: &[SqlValue]| key.iter().map(core_value).collect::<Vec<_>>();
        match &self.verb {
            Verb::Insert => tx.insert(self.table, &key, &sets),
            Verb::Replace => tx.insert_or_replace(self.table, &key, &sets),
            Verb::Update => tx.update(self.table, &key, &sets).map(drop),
            Verb::Delete => tx.delete(self.table, &key).map(drop),
            Verb::MoveTo(to) => tx.update_key(self.table, &key, &core_key(to), &sets).map(drop),
            Verb::MoveOver(to) => tx.replace_key(self.table, &key, &core_key(to), &sets).map(drop),
            Verb::UpdateFrom => {
                let from = self.key[0].integer();
                let mut ids: Vec<i64> = tx
                    .replica()
                    .rows(self.table)
                    .iter()
                    .map(|(key, _)| sql_value(&key[0]).integer())
                    .collect();
                ids.sort_unstable();
                for id in ids.into_iter().filter(|id| *id >= from) {
                    tx.update(self.table, &[Value::Integer(id)], &sets)?;
                }
                Ok(())
            }
        }
    }
}

fn key(table: &str, rng: &mut Rng) -> Vec<SqlValue> {
    let real = |value: f64| SqlValue::Real(value.to_bits());
    match table {
        "t" => vec![rng.between(-2, 9).into()],
        "score" => vec![rng.between(0, 4).into()],
        "tally" => vec![word(rng, &["a", "A", "b"])],
        "duel" => vec![word(rng, &["a", "b"]), rng.between(0, 1).into()],
        "k" => vec![rng.between(0, 2).into(), word(rng, &["a", "A", "b", "B", "é", "Ab", "aB"])],
        "u" => {
            let keys = [
                1.into(),
                real(1.0),
                0.into(),
                real(0.0),
                real(2.5),
                "1".into(),
                "a".into(),
                "A".into(),
                SqlValue::Blob(vec![0x61]),
                SqlValue::Blob(vec![]),
                i64::MIN.into(),
                i64::MAX.into(),
                real(-3.0),
            ];
            vec![rng.pick(&keys).clone()]
        }
        "tag" => vec![word(rng, &["a", "a ", "b", "b  ", "", " ", "c"])],
        _ => vec![SqlValue::Blob(vec![rng.below(6) as u8; rng.below(3)])],
    }
}

fn value(rng: &mut Rng) -> SqlValue {
    match rng.below(10) {
        0 => SqlValue::Null,
        1 => SqlValue::Real((rng.below(4) as f64).to_bits()),
        2 => word(rng, &["", "a", "A", "dy", "dz", "text", "Привет"]),
        3 => SqlValue::Blob(vec![rng.bits() as u8; rng.below(20)]),
        4 => SqlValue::Integer(rng.bits() as i64),
        5 => SqlValue::text(&"long ".repeat(rng.below(30))),
        _ => SqlValue::Integer(rng.below(6) as i64),
    }
}

/// Whether a column is a counter, or will be.
fn is_number(table: &str, column: &str) -> bool {
    match table {
        "score" => matches!(column, "hits" | "late"),
        "tally" => true,
        "duel" => column == "n",
        _ => false,
    }
}

fn number(rng: &mut Rng) -> SqlValue {
    match rng.below(12) {
        0 => SqlValue::Integer(rng.bits() as i64),
        1 => SqlValue::Real((rng.below(40) as f64 / 10.0).to_bits()),
        _ => SqlValue::Integer(rng.between(-5, 20)),
    }
}

fn word(rng: &mut Rng, words: &[&str]) -> SqlValue {
    SqlValue::text(words[rng.below(words.len())])
}
