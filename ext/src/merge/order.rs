//! Which of two clocks of a slot is the greater one.

use super::base::{self, RowPlace};
use super::row::Incoming;
use crate::catalog::Table;
use crate::sqlite::{Db, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, ROW, RowClock};
use crsql_core::ids::SiteId;
use crsql_core::merge::{CellClock, Stamp, TieBreak, cell_wins, cell_wins_by_value, row_stamp_wins};

/// Compares stamps that name sites by ordinal.
pub struct Order<'a> {
    /// The connection.
    pub state: &'a State,
    /// Its database.
    pub db: Db,
}

impl Order<'_> {
    fn site(&self, ordinal: u32) -> Result<SiteId> {
        self.state.store.borrow_mut().sites.id(self.db, ordinal)
    }

    fn stamp(&self, group: &Group, slot: u32) -> Result<Stamp> {
        Ok(Stamp { site: self.site(group.site)?, version: group.version, seq: group.seq_of(slot) })
    }

    /// The clock of `slot`, which is in `group`.
    pub fn cell(&self, group: &Group, slot: u32) -> Result<CellClock> {
        Ok(CellClock { col_version: group.col_version, stamp: self.stamp(group, slot)? })
    }

    /// Whether the incoming clock of `slot` beats the local one, which it does not equal in `col_version` and author.
    pub fn wins(&self, local: &RowClock, theirs: &Group, slot: u32) -> Result<bool> {
        let Some(ours) = local.group_for(slot, theirs.site) else { return Ok(true) };
        if slot == ROW {
            return Ok(row_stamp_wins(Some(&self.stamp(ours, ROW)?), &self.stamp(theirs, ROW)?));
        }
        // The common cases need no look at the sites.
        if ours.col_version != theirs.col_version {
            return Ok(theirs.col_version > ours.col_version);
        }
        Ok(cell_wins(Some(&self.cell(ours, slot)?), &self.cell(theirs, slot)?))
    }
}

/// Whether an incoming cell beats the one that is here, where the value decides before the site.
#[allow(clippy::too_many_arguments)] // the whole context of one comparison, in one place
pub fn wins_by_value(
    state: &State,
    table: &Table,
    row: &Incoming<'_>,
    place: &RowPlace,
    local: &RowClock,
    theirs: &Group,
    slot: u32,
    order: &Order<'_>,
) -> Result<bool> {
    let value = row.values.iter().find(|(id, _)| *id == slot).map_or(ValueRef::Null, |(_, value)| *value);
    let remote = order.cell(theirs, slot)?;
    let Some(ours) = local.group_of(slot) else { return Ok(true) };
    let stored = base::read_values(state, table, place.rowid, row.key, &Columns::one(slot))?;
    let stored =
        stored.as_ref().and_then(|values| values.first()).map_or(ValueRef::Null, |value| value.as_ref());
    let ours = order.cell(ours, slot)?;
    Ok(cell_wins_by_value(Some((&ours, stored)), (&remote, value), TieBreak::Value))
}
