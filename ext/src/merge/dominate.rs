//! Lets the open transaction's writes dominate what waits for their rows.

use super::base::RowPlace;
use super::row::{check_key, local_clock, locate};
use crate::catalog::Table;
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, Key, Kind, RowClock, Run};
use crate::typed;
use smallvec::SmallVec;

/// A row that the open transaction wrote or deleted, with its clock.
pub fn written_here(
    state: &State,
    table: &Table,
    key: &[ValueRef<'_>],
) -> Result<Option<(RowPlace, RowClock)>> {
    if check_key(table, key).is_err() {
        return Ok(None);
    }
    let (place, _) = locate(state, table, key)?;
    let Some(clock) = local_clock(state, table, &place)? else { return Ok(None) };
    let local = state.store.borrow().next_local();
    let is_ours = clock.groups.iter().any(|g| g.site == local.site && g.version == local.version);
    Ok(is_ours.then_some((place, clock)))
}

/// Makes a live row begin a new incarnation with what it holds, as a REPLACE by itself would.
pub fn begin_again(state: &State, table: &Table, place: &RowPlace) -> Result<()> {
    // What the base table shows is all that a column with a type holds then.
    typed::store_new(state, table, place, None)?;
    let mut ops = state.ops.borrow_mut();
    let set = ops.intern(&table.all);
    match place.live_key(table) {
        Some(Key::Int(rowid)) => ops.push_row(table.id, Kind::Insert, rowid, set),
        Some(Key::Bytes(pk)) => ops.push_keyed(table.id, Kind::Insert, 0, set, &pk, true),
        None => {}
    }
    Ok(())
}

/// Makes a dead row live and die once more.
pub fn die_again(state: &State, table: &Table, place: &RowPlace) {
    let mut ops = state.ops.borrow_mut();
    let set = ops.intern(&table.all);
    for (kind, set) in [(Kind::Insert, set), (Kind::Delete, 0)] {
        match place.dead_key(table) {
            Key::Int(rowid) => ops.push_row(table.id, kind, rowid, set),
            Key::Bytes(pk) => ops.push_keyed(table.id, kind, 0, set, &pk, true),
        }
    }
}

/// Lets the clock of a live row's cell, which is in `group`, reach at least `col_version`.
pub fn raise(state: &State, table: &Table, place: &RowPlace, group: &Group, slot: u32, col_version: u64) {
    let Some(key) = place.live_key(table) else { return };
    let only = Columns::one(slot);
    let group = Group { columns: only.clone(), rank: only, col_version, ..group.clone() };
    let run = Run::single(key, RowClock { cl: 1, groups: SmallVec::from_iter([group]) });
    state.ops.borrow_mut().push_clocks(table.id, Kind::Raise, run);
}
