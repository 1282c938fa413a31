//! What a statement means for the model: SQLite's conflict clauses, constraints and triggers, row by row.

use super::coverage::{saw, trace};
use super::schema::{UNCHECKED, VETOED};
use super::statement::{Or, Sets, Statement, Target, Verb};
use super::twin::{core_value, sql_value};
use crate::site::Site;
use crate::value::SqlValue;
use crsql_core::replica::{Savepoint, Transaction, WriteError};
use crsql_core::value::Value;

/// How a statement ended, on the database and on the model alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its effects are there.
    Done,
    /// It failed; what its clause keeps is there.
    Failed,
    /// It failed and ended the transaction.
    RolledBack,
}

/// Why a row is not written.
enum Refusal {
    Skipped,
    Violated,
}

impl Statement<'_> {
    /// Runs it on the database and on the model, which must agree whether it succeeds. `beginning` is the point of
    /// the model at which the transaction began.
    pub fn run(&self, site: &Site, tx: &mut Transaction<'_>, beginning: &Savepoint) -> Ended {
        let sql = self.sql();
        trace(|| format!("  {sql}"));
        let real = site.try_exec(&sql);
        let start = tx.savepoint();
        let mut rows = 0;
        let model = self.apply(tx, &mut rows);
        match (&real, &model) {
            (Ok(()), Ok(())) => return Ended::Done,
            (Err(message), Err(())) if message.contains("constraint") || message.contains("cannot store") => {
            }
            _ => panic!("{sql}: SQLite says {real:?}, the model {model:?}"),
        }
        match self.or {
            Or::Fail => {
                if rows > 0 {
                    saw("insert or fail kept a prefix");
                }
                Ended::Failed
            }
            Or::Rollback => {
                tx.rollback_to(beginning);
                Ended::RolledBack
            }
            _ => {
                saw(if rows > 0 { "statement aborted after some of its rows" } else { "statement aborted" });
                tx.rollback_to(&start);
                Ended::Failed
            }
        }
    }

    fn apply(&self, tx: &mut Transaction<'_>, rows: &mut usize) -> Result<(), ()> {
        match &self.verb {
            Verb::Insert(given) => {
                for (key, sets) in given {
                    self.insert(tx, key, sets)?;
                    *rows += 1;
                }
            }
            Verb::Upsert(key, sets, then) => self.upsert(tx, key, sets, then)?,
            Verb::Update(target, sets) => {
                if matches!(target, Target::From(_)) {
                    saw("range updated");
                }
                for key in self.targeted(tx, target) {
                    self.update(tx, &key, sets)?;
                    *rows += 1;
                }
            }
            Verb::Move(from, to, sets) => self.rekey(tx, from, to, sets)?,
            Verb::Delete(target) => {
                if matches!(target, Target::From(_)) {
                    saw("range deleted");
                }
                for key in self.targeted(tx, target) {
                    written(tx.delete(&self.table.name, &key))?;
                }
            }
        }
        Ok(())
    }

    fn insert(&self, tx: &mut Transaction<'_>, key: &[SqlValue], sets: &Sets) -> Result<(), ()> {
        let sets = match self.checked(sets) {
            Ok(sets) => sets,
            Err(refusal) => return refused(refusal),
        };
        let (table, key) = (self.table.name.as_str(), core_values(key));
        let sets = borrowed(&sets);
        let before = tx.replica().row(table, &key).map_or(0, |row| row.cl);
        match (before % 2 == 1, self.or) {
            (true, Or::Replace) => {
                saw("insert or replace over a live row");
                written(tx.insert_or_replace(table, &key, &sets))
            }
            (true, Or::Ignore) => {
                saw("insert or ignore skipped a row");
                Ok(())
            }
            (true, Or::Rollback) => {
                saw("insert or rollback ended a transaction");
                Err(())
            }
            (true, _) => Err(()),
            (false, _) => {
                if before > 0 {
                    saw("insert over a tombstone");
                }
                written(tx.insert(table, &key, &sets))
            }
        }
    }

    fn upsert(&self, tx: &mut Transaction<'_>, key: &[SqlValue], sets: &Sets, then: &Sets) -> Result<(), ()> {
        let table = self.table.name.as_str();
        let core_key = core_values(key);
        if !is_alive(tx, table, &core_key) {
            saw("upsert inserted");
            return self.insert(tx, key, sets);
        }
        if let Err(refusal) = self.checked(sets) {
            return refused(refusal);
        }
        saw("upsert updated");
        self.update(tx, &core_key, then)
    }

    fn update(&self, tx: &mut Transaction<'_>, key: &[Value], sets: &Sets) -> Result<(), ()> {
        if !is_alive(tx, &self.table.name, key) {
            return Ok(());
        }
        match self.checked(sets) {
            Ok(sets) => written(tx.update(&self.table.name, key, &borrowed(&sets))),
            Err(refusal) => refused(refusal),
        }
    }

    fn rekey(
        &self,
        tx: &mut Transaction<'_>,
        from: &[SqlValue],
        to: &[SqlValue],
        sets: &Sets,
    ) -> Result<(), ()> {
        let (table, from, to) = (self.table.name.as_str(), core_values(from), core_values(to));
        if !is_alive(tx, table, &from) {
            return Ok(());
        }
        let sets = match self.checked(sets) {
            Ok(sets) => sets,
            Err(refusal) => return refused(refusal),
        };
        let sets = borrowed(&sets);
        let over = is_alive(tx, table, &to);
        if self.or == Or::Replace {
            saw(if over { "key moved over a live row" } else { "key moved" });
            return written(tx.replace_key(table, &from, &to, &sets));
        }
        match tx.update_key(table, &from, &to, &sets) {
            Err(WriteError::RowExists(_)) if self.or == Or::Ignore => Ok(()),
            Ok(_) => {
                saw(if over { "key respelled" } else { "key moved" });
                Ok(())
            }
            other => written(other),
        }
    }

    /// The row's values as stored, or why it is not written.
    fn checked(&self, sets: &Sets) -> Result<Vec<(String, Value)>, Refusal> {
        let mut stored = Vec::new();
        for (name, value) in sets {
            let column = self.table.column(name);
            stored.push((name.clone(), column.stored(value)));
        }
        let is_refused = |(name, value): &(String, SqlValue)| !self.table.column(name).takes_strictly(value);
        // Types come before triggers, NOT NULL and CHECK after.
        if self.table.strict && stored.iter().any(is_refused) {
            saw("STRICT refused a value");
            return Err(Refusal::Violated);
        }
        let is = |value: &SqlValue, text: &str| *value == SqlValue::text(text);
        let first = self.table.columns.first().map(|column| column.name.as_str());
        if self.table.triggers
            && stored.iter().any(|(name, value)| Some(name.as_str()) == first && is(value, VETOED))
        {
            saw("a trigger skipped a row");
            return Err(Refusal::Skipped);
        }
        for (name, value) in &mut stored {
            let column = self.table.column(name);
            if column.not_null && *value == SqlValue::Null {
                if self.or != Or::Replace {
                    saw("NOT NULL refused a value");
                    return Err(self.refusal());
                }
                saw("NULL replaced by a default");
                *value = column.default.clone();
            }
        }
        for (name, value) in &stored {
            let column = self.table.column(name);
            if column.checked && is(value, UNCHECKED) {
                saw("CHECK refused a value");
                return Err(self.refusal());
            }
        }
        Ok(stored.into_iter().map(|(name, value)| (name, core_value(&value))).collect())
    }

    fn refusal(&self) -> Refusal {
        if self.or == Or::Ignore { Refusal::Skipped } else { Refusal::Violated }
    }

    /// The keys of the rows, in the order of a scan.
    fn targeted(&self, tx: &Transaction<'_>, target: &Target) -> Vec<Vec<Value>> {
        match target {
            Target::Key(key) => vec![core_values(key)],
            Target::From(from) => {
                let rows = tx.replica().rows(&self.table.name);
                let ids = rows.iter().map(|(key, _)| sql_value(&key[0]).integer());
                let mut ids: Vec<i64> = ids.filter(|id| id >= from).collect();
                ids.sort_unstable();
                ids.into_iter().map(|id| vec![Value::Integer(id)]).collect()
            }
        }
    }
}

fn is_alive(tx: &Transaction<'_>, table: &str, key: &[Value]) -> bool {
    tx.replica().row(table, key).is_some_and(|row| row.is_alive())
}

fn refused(refusal: Refusal) -> Result<(), ()> {
    match refusal {
        Refusal::Skipped => Ok(()),
        Refusal::Violated => Err(()),
    }
}

fn written<T>(result: Result<T, WriteError>) -> Result<(), ()> {
    match result {
        Ok(_) => Ok(()),
        Err(WriteError::RowExists(_)) => Err(()),
        Err(other) => panic!("the model refuses: {other}"),
    }
}

fn core_values(values: &[SqlValue]) -> Vec<Value> {
    values.iter().map(core_value).collect()
}

fn borrowed(sets: &[(String, Value)]) -> Vec<(&str, Value)> {
    sets.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}
