//! Random local statements, as SQL. What they mean for the model is in [`effect`](super::effect).

use super::schema::{ColumnSpec, Schema, TableSpec, UNCHECKED, VETOED};
use crate::Rng;
use crate::value::{Ident, SqlValue};
use crsql_core::column::ColumnType;
use crsql_core::key::{Affinity, Collation};
use crsql_core::replica::Replica;

/// Values by column name.
pub type Sets = Vec<(String, SqlValue)>;

/// One statement on one table.
#[derive(Debug, Clone)]
pub struct Statement<'s> {
    /// The table.
    pub table: &'s TableSpec,
    /// What a constraint that fails does.
    pub or: Or,
    /// What it does.
    pub verb: Verb,
    returning: bool,
}

/// The conflict clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Or {
    /// Undo the statement: the default.
    Abort,
    /// Keep the rows before.
    Fail,
    /// Skip the row.
    Ignore,
    /// Remove what is in the way.
    Replace,
    /// Undo the transaction.
    Rollback,
}

/// What a statement does.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Inserts rows that set the same columns.
    Insert(Vec<(Vec<SqlValue>, Sets)>),
    /// Inserts a row, or updates the one that is there; nothing to set is `DO NOTHING`.
    Upsert(Vec<SqlValue>, Sets, Sets),
    /// Updates rows.
    Update(Target, Sets),
    /// Updates the key of a row, and perhaps more.
    Move(Vec<SqlValue>, Vec<SqlValue>, Sets),
    /// Deletes rows.
    Delete(Target),
}

/// Which rows.
#[derive(Debug, Clone)]
pub enum Target {
    /// The one of a key.
    Key(Vec<SqlValue>),
    /// Those of integer keys from here on.
    From(i64),
}

impl<'s> Statement<'s> {
    /// A statement on a table that the replica has.
    pub fn random(schema: &'s Schema, model: &Replica, rng: &mut Rng) -> Statement<'s> {
        let known: Vec<&TableSpec> =
            schema.tables.iter().filter(|table| model.schema(&table.name).is_some()).collect();
        // Half of all work on the first table, whose rows are contended most.
        let table = if rng.one_in(2) { known[0] } else { *rng.pick(&known) };
        let held = model.schema(&table.name).expect("a known table");
        let present: Vec<&ColumnSpec> =
            table.columns.iter().filter(|column| held.has_column(&column.name)).collect();
        let or = match rng.below(12) {
            0 => Or::Fail,
            1 => Or::Ignore,
            2 | 3 => Or::Replace,
            4 => Or::Rollback,
            _ => Or::Abort,
        };
        let sets = some_values(&present, table, or, rng);
        let target = |rng: &mut Rng| match table.is_ordered() && rng.one_in(6) {
            true => Target::From(rng.between(-2, 9)),
            false => Target::Key(key(table, rng)),
        };
        let (or, verb) = match rng.below(13) {
            0..=2 => (or, Verb::Insert(vec![(key(table, rng), sets)])),
            3 => (or, several_rows(table, sets, or, rng)),
            4 if !table.key.is_empty() => {
                // Whether STRICT is checked before the conflict is SQLite's business: nothing for it to refuse.
                let sets = some_values(&present, table, Or::Fail, rng);
                let then = some_values(&present, table, Or::Fail, rng);
                (Or::Abort, Verb::Upsert(key(table, rng), sets, then))
            }
            5 | 6 => (Or::Abort, Verb::Delete(target(rng))),
            7 | 8 => (or, Verb::Move(key(table, rng), key(table, rng), sets)),
            _ if sets.is_empty() => (or, Verb::Insert(vec![(key(table, rng), sets)])),
            _ => (or, Verb::Update(target(rng), sets)),
        };
        Statement { table, or, verb, returning: rng.one_in(10) }
    }

    /// The statement without an update of these columns. Until the first commit after a plain ALTER the old values
    /// of a new column are unknown, so even an assignment of the same value counts as a write, which the model does
    /// not know. An update that is left with nothing to do sets a key to itself.
    pub fn leaving(mut self, columns: &[(String, String)]) -> Statement<'s> {
        let is_left =
            |name: &str| columns.iter().any(|(table, column)| *table == self.table.name && column == name);
        match &mut self.verb {
            Verb::Insert(_) | Verb::Delete(_) => return self,
            Verb::Upsert(_, given, sets) => {
                given.retain(|(name, _)| !is_left(name));
                sets.retain(|(name, _)| !is_left(name));
            }
            Verb::Update(_, sets) | Verb::Move(_, _, sets) => sets.retain(|(name, _)| !is_left(name)),
        }
        match self.verb {
            Verb::Update(Target::Key(key), sets) if sets.is_empty() => {
                Statement { verb: Verb::Delete(Target::Key(key)), or: Or::Abort, ..self }
            }
            Verb::Update(Target::From(from), sets) if sets.is_empty() => {
                Statement { verb: Verb::Delete(Target::From(from)), or: Or::Abort, ..self }
            }
            verb => Statement { verb, ..self },
        }
    }

    /// The statement as SQL.
    pub fn sql(&self) -> String {
        let table = Ident(&self.table.name);
        let or = match self.or {
            Or::Abort => "",
            Or::Fail => " OR FAIL",
            Or::Ignore => " OR IGNORE",
            Or::Replace => " OR REPLACE",
            Or::Rollback => " OR ROLLBACK",
        };
        let returning = if self.returning { " RETURNING *" } else { "" };
        match &self.verb {
            Verb::Insert(rows) => {
                format!("INSERT{or} INTO {table} {}{returning}", self.rows(rows))
            }
            Verb::Upsert(key, sets, then) => {
                let rows = self.rows(&[(key.clone(), sets.clone())]);
                let names: Vec<String> = self.table.key.iter().map(|column| ident(&column.name)).collect();
                let then = match then.is_empty() {
                    true => "NOTHING".to_string(),
                    false => format!("UPDATE SET {}", assignments(then)),
                };
                format!("INSERT INTO {table} {rows} ON CONFLICT ({}) DO {then}{returning}", names.join(", "))
            }
            Verb::Update(target, sets) => {
                format!(
                    "UPDATE{or} {table} SET {} WHERE {}{returning}",
                    assignments(sets),
                    self.condition(target)
                )
            }
            Verb::Move(from, to, sets) => {
                let names = self.table.key.iter().map(|column| column.name.clone());
                let all: Sets = names.zip(to.iter().cloned()).chain(sets.iter().cloned()).collect();
                let here = self.condition(&Target::Key(from.clone()));
                format!("UPDATE{or} {table} SET {} WHERE {here}{returning}", assignments(&all))
            }
            Verb::Delete(target) => {
                format!("DELETE FROM {table} WHERE {}{returning}", self.condition(target))
            }
        }
    }

    fn rows(&self, rows: &[(Vec<SqlValue>, Sets)]) -> String {
        let keys = self.table.key.iter().map(|column| ident(&column.name));
        let names: Vec<String> = keys.chain(rows[0].1.iter().map(|(name, _)| ident(name))).collect();
        let values = rows.iter().map(|(key, sets)| {
            let values = key.iter().chain(sets.iter().map(|(_, value)| value));
            format!("({})", values.map(SqlValue::to_string).collect::<Vec<_>>().join(", "))
        });
        format!("({}) VALUES {}", names.join(", "), values.collect::<Vec<_>>().join(", "))
    }

    fn condition(&self, target: &Target) -> String {
        match target {
            Target::From(from) => format!("{} >= {from}", Ident(&self.table.key[0].name)),
            Target::Key(key) => {
                let columns = self.table.key.iter().zip(key);
                let terms = columns
                    .map(|(column, value)| format!("{} = {}", Ident(&column.name), column.stored(value)));
                terms.collect::<Vec<_>>().join(" AND ")
            }
        }
    }
}

fn ident(name: &str) -> String {
    Ident(name).to_string()
}

fn assignments(sets: &Sets) -> String {
    sets.iter().map(|(name, value)| format!("{} = {value}", Ident(name))).collect::<Vec<_>>().join(", ")
}

fn several_rows(table: &TableSpec, sets: Sets, or: Or, rng: &mut Rng) -> Verb {
    let mut rows = vec![(key(table, rng), sets.clone())];
    for _ in 0..1 + rng.below(4) {
        let values = sets.iter().map(|(name, _)| {
            let column = table.column(name);
            (name.clone(), value_for(column, table, or, rng))
        });
        let values = values.collect();
        rows.push((key(table, rng), values));
    }
    Verb::Insert(rows)
}

fn some_values(present: &[&ColumnSpec], table: &TableSpec, or: Or, rng: &mut Rng) -> Sets {
    let mut sets = Sets::new();
    for column in present {
        if rng.one_in(2) {
            sets.push((column.name.clone(), value_for(column, table, or, rng)));
        }
    }
    sets
}

/// A value for a column, rarely one that a rule of the table refuses.
fn value_for(column: &ColumnSpec, table: &TableSpec, or: Or, rng: &mut Rng) -> SqlValue {
    if column.kind == ColumnType::Counter {
        return number(rng);
    }
    if column.kind == ColumnType::Text {
        return prose(column, rng);
    }
    if table.triggers && column.name == table.columns[0].name && rng.one_in(8) {
        return SqlValue::text(VETOED);
    }
    if column.checked && rng.one_in(8) && (!table.strict || matches!(column.declared, "TEXT" | "ANY")) {
        return SqlValue::text(UNCHECKED);
    }
    if column.not_null && !rng.one_in(8) {
        let given = value(rng);
        let given = if given == SqlValue::Null { 3.into() } else { given };
        return fitting(given, column, table, or, rng);
    }
    let given = value(rng);
    fitting(given, column, table, or, rng)
}

/// The value, or one like it that a STRICT table takes; now and then a refused one where that aborts.
fn fitting(given: SqlValue, column: &ColumnSpec, table: &TableSpec, or: Or, rng: &mut Rng) -> SqlValue {
    let fits = |value: &SqlValue| column.takes_strictly(&column.stored(value));
    if !table.strict || fits(&given) || (or == Or::Abort && rng.one_in(20)) {
        return given;
    }
    let others = [
        SqlValue::from(rng.between(0, 5)),
        SqlValue::text("strict"),
        SqlValue::Blob(vec![rng.below(4) as u8]),
    ];
    others.into_iter().find(fits).expect("every type has one of these")
}

/// A text that has something in common with others, and now and then one that fills a level of cells.
fn prose(column: &ColumnSpec, rng: &mut Rng) -> SqlValue {
    const WORDS: [&str; 10] = ["the ", "cat ", "black ", "sat ", "on ", "é", "😀", "e\u{301}", "a", "mat."];
    if !column.not_null && rng.one_in(10) {
        return SqlValue::Null;
    }
    let count = if rng.one_in(12) { 200 } else { rng.below(9) };
    SqlValue::text(&(0..count).map(|_| *rng.pick(&WORDS)).collect::<String>())
}

fn number(rng: &mut Rng) -> SqlValue {
    match rng.below(12) {
        0 => SqlValue::Integer(rng.bits() as i64),
        1 => SqlValue::Real((rng.below(40) as f64 / 10.0).to_bits()),
        _ => SqlValue::Integer(rng.between(-5, 20)),
    }
}

fn key(table: &TableSpec, rng: &mut Rng) -> Vec<SqlValue> {
    table.key.iter().map(|column| key_value(column, table, rng)).collect()
}

fn key_value(column: &ColumnSpec, table: &TableSpec, rng: &mut Rng) -> SqlValue {
    let real = |value: f64| SqlValue::Real(value.to_bits());
    let value = match column.key.affinity {
        Affinity::Integer if column.declared == "INTEGER" && table.key.len() > 1 => rng.between(0, 2).into(),
        Affinity::Integer if column.declared == "INTEGER" => rng.between(-2, 9).into(),
        Affinity::Text => {
            let words: &[&str] = match column.key.collation {
                Collation::NoCase => &["a", "A", "b", "B", "é", "Ab", "aB"],
                Collation::Rtrim => &["a", "a ", "b", "b  ", "", " ", "c"],
                _ => &["a", "A", "b", "", "1", "ключ"],
            };
            word(rng, words)
        }
        Affinity::Integer => {
            rng.pick(&[0.into(), 1.into(), real(1.0), 2.into(), "3".into(), i64::MIN.into()]).clone()
        }
        Affinity::Real => {
            rng.pick(&[0.into(), real(0.0), real(-1.5), 3.into(), real(3.0), real(1e300)]).clone()
        }
        Affinity::Numeric => rng.pick(&[0.into(), real(1.5), "1".into(), "n".into(), 1.into()]).clone(),
        Affinity::Blob if column.declared == "BLOB" => SqlValue::Blob(vec![rng.below(6) as u8; rng.below(3)]),
        Affinity::Blob => {
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
            rng.pick(&keys).clone()
        }
    };
    if table.strict && !column.takes_strictly(&column.stored(&value)) { 1.into() } else { value }
}

fn value(rng: &mut Rng) -> SqlValue {
    match rng.below(10) {
        0 => SqlValue::Null,
        1 => SqlValue::Real((rng.below(4) as f64).to_bits()),
        2 => word(rng, &["", "a", "A", "dy", "dz", "text", "Привет", "12", " 3.50 ", "1e3"]),
        3 => SqlValue::Blob(vec![rng.bits() as u8; rng.below(20)]),
        4 => SqlValue::Integer(rng.bits() as i64),
        5 => SqlValue::text(&"long ".repeat(rng.below(30))),
        _ => SqlValue::Integer(rng.below(6) as i64),
    }
}

fn word(rng: &mut Rng, words: &[&str]) -> SqlValue {
    SqlValue::text(words[rng.below(words.len())])
}
