//! Which tables may hold tombstones under their rows' keys.

use super::State;
use crate::sqlite::{Result, ValueRef};
use std::collections::BTreeSet;

impl State {
    /// True when a row of `table` may have a past under its key, so that an insert must tell its key.
    #[inline]
    pub fn may_have_tombstones(&self, table: u32) -> Result<bool> {
        match self.tombstones_of.get() {
            Some((known, has)) if known == table => Ok(has),
            _ => self.look_for_tombstones(table),
        }
    }

    /// True when an earlier look in this transaction found that `table` holds none.
    pub fn has_no_tombstones(&self, table: u32) -> bool {
        self.tombstones_of.get() == Some((table, false))
    }

    fn look_for_tombstones(&self, table: u32) -> Result<bool> {
        let now = self.db.data_version();
        let mut known = self.tombstones.borrow_mut();
        if known.1 != now {
            let mut select = self.db.prepare("SELECT id FROM main.__crsql_table WHERE has_tombstones")?;
            let mut rows = select.query(&[])?;
            let mut ids = BTreeSet::new();
            while rows.step()? {
                ids.insert(rows.column_i64(0) as u32);
            }
            *known = (ids, now);
        }
        let has = known.0.contains(&table);
        if self.is_active.get() {
            self.tombstones_of.set(Some((table, has)));
        }
        Ok(has)
    }

    /// A row of `table` died: from now on inserts must tell their keys, on every connection.
    pub fn note_tombstone(&self, table: u32) -> Result<()> {
        if self.may_have_tombstones(table)? {
            return Ok(());
        }
        let rowid = self.db.last_insert_rowid();
        self.db
            .prepare("UPDATE main.__crsql_table SET has_tombstones = 1 WHERE id = ?1")?
            .execute(&[ValueRef::Integer(i64::from(table))])?;
        self.db.set_last_insert_rowid(rowid);
        self.tombstones.borrow_mut().0.insert(table);
        self.tombstones_of.set(None);
        self.quick.take();
        Ok(())
    }

    /// The last of a table's tombstones by key was collected.
    pub fn forget_tombstones(&self, table: u32) -> Result<()> {
        self.db
            .prepare("UPDATE main.__crsql_table SET has_tombstones = 0 WHERE id = ?1 AND has_tombstones")?
            .execute(&[ValueRef::Integer(i64::from(table))])?;
        self.tombstones.borrow_mut().1 = u32::MAX;
        self.tombstones_of.set(None);
        self.quick.take();
        Ok(())
    }
}
