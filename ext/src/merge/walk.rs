//! Finds rows of a keyed table that come in the order in which they lie.

use super::base;
use crate::catalog::{Shape, Table};
use crate::sqlite::{Result, Statement, ValueRef};
use crate::state::State;

/// After so many rows in a row that did not lie behind the one before, the order is another one.
const MISSES_MAX: u32 = 8;

/// A walk along the rows of one table. What was inserted in one order mostly travels in that order, so the row behind
/// the last one is looked at before the key is looked up in its index, all over the file.
#[derive(Default)]
pub struct Walk {
    /// On the row found last.
    rows: Option<Statement>,
    misses: u32,
}

impl Walk {
    /// The rowid of the row with this key.
    pub fn find(&mut self, state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<Option<i64>> {
        if self.misses >= MISSES_MAX {
            return base::find_rowid(state, table, key);
        }
        if let Some(rowid) = self.next(key)? {
            self.misses = 0;
            return Ok(Some(rowid));
        }
        self.misses += 1;
        let found = base::find_rowid(state, table, key)?;
        if let (Some(rowid), true) = (found, self.misses < MISSES_MAX) {
            self.start(state, table, rowid)?;
        } else {
            self.rows = None;
        }
        Ok(found)
    }

    fn next(&mut self, key: &[ValueRef<'_>]) -> Result<Option<i64>> {
        let Some(rows) = self.rows.as_mut() else { return Ok(None) };
        let is_it =
            rows.step()? && key.iter().enumerate().all(|(at, value)| rows.column_value(at + 1).same(value));
        Ok(is_it.then(|| rows.column_i64(0)))
    }

    fn start(&mut self, state: &State, table: &Table, rowid: i64) -> Result<()> {
        let Shape::Rowid(name) = table.shape else { return Ok(()) };
        if self.rows.is_none() {
            self.rows = Some(state.db.prepare(&format!(
                "SELECT {name}, {} FROM {} WHERE {name} >= ?1 ORDER BY {name}",
                table.key_list(),
                table.sql_name()
            ))?);
        }
        if let Some(rows) = &mut self.rows {
            rows.bind_i64(1, rowid)?;
            rows.step()?;
        }
        Ok(())
    }
}
