//! Changes of rows that the base table refuses while only some of their cells are there.

use super::row::{Incoming, Outcome, merge_row};
use crate::catalog::Table;
use crate::park::{self, Kind};
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, RowClock};
use crsql_core::value::Value;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// The changes of one row.
#[derive(Default)]
pub struct HeldRow {
    clock: RowClock,
    values: Vec<(u32, Value)>,
    reason: String,
}

/// Rows on hold, by table and packed key as the sender spelled it.
#[derive(Default)]
pub struct Held(BTreeMap<(u32, Vec<u8>), HeldRow>);

impl Held {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what is held of a row.
    pub fn take(&mut self, table: u32, pk: &[u8]) -> Option<HeldRow> {
        if self.0.is_empty() { None } else { self.0.remove(&(table, pk.to_vec())) }
    }
}

impl HeldRow {
    /// Adds newer changes; those of an older incarnation go.
    pub fn add(&mut self, incoming: &Incoming<'_>) {
        if incoming.clock.cl < self.clock.cl {
            return;
        }
        if incoming.clock.cl > self.clock.cl {
            *self = HeldRow::default();
            self.clock.cl = incoming.clock.cl;
        }
        for group in &incoming.clock.groups {
            // A second change of one slot replaces the first: within one transaction the sender's later one wins,
            // and were it the older, the merge would have the same row refused and parked, not lost.
            for known in &mut self.clock.groups {
                known.columns.subtract(&group.columns);
            }
            self.clock.groups.retain(|known| !known.columns.is_empty());
            join(&mut self.clock.groups, group);
        }
        for (id, value) in incoming.values {
            self.values.retain(|(known, _)| known != id);
            self.values.push((*id, value.to_owned_value()));
        }
        self.values.sort_by_key(|(id, _)| *id);
    }

    /// Adds one more cell by the author of the last change, in the same incarnation, unless the slot is taken: false,
    /// and nothing is added.
    pub fn add_cell(&mut self, slot: u32, col_version: u64, seq: u64, value: ValueRef<'_>) -> bool {
        if self.clock.groups.iter().any(|group| group.columns.contains(slot)) {
            return false;
        }
        let Some(last) = self.clock.groups.last_mut() else { return false };
        let follows = last.col_version == col_version
            && last.rank == last.columns
            && last.seq + u64::from(last.rank.len()) == seq
            && last.rank.next_from(slot).is_none();
        if follows {
            last.columns.insert(slot);
            last.rank.insert(slot);
        } else {
            let only = Columns::one(slot);
            let group = Group { columns: only.clone(), rank: only, col_version, seq, ..last.clone() };
            self.clock.groups.push(group);
        }
        let at = self.values.partition_point(|(known, _)| *known < slot);
        self.values.insert(at, (slot, value.to_owned_value()));
        true
    }

    /// The causal length so far.
    pub fn cl(&self) -> u64 {
        self.clock.cl
    }

    /// True when `incoming` can be added without replacing anything: the same incarnation, other slots.
    pub fn continues(&self, incoming: &Incoming<'_>) -> bool {
        self.clock.cl == incoming.clock.cl
            && incoming
                .clock
                .groups
                .iter()
                .all(|group| self.clock.groups.iter().all(|known| !known.columns.intersects(&group.columns)))
    }

    /// The clocks so far.
    pub fn clock(&self) -> RowClock {
        self.clock.clone()
    }

    /// How many changes are held.
    pub fn cells(&self) -> i64 {
        self.clock.groups.iter().map(|group| i64::from(group.columns.len())).sum()
    }

    /// The values so far, by column id.
    pub fn values(&self) -> Vec<(u32, ValueRef<'_>)> {
        self.values.iter().map(|(id, value)| (*id, value.as_ref())).collect()
    }
}

/// Adds a group, to its neighbour where the two are one author's consecutive slots of one version.
fn join(groups: &mut SmallVec<[Group; 1]>, group: &Group) {
    if let Some(last) = groups.last_mut()
        && last.site == group.site
        && last.version == group.version
        && last.col_version == group.col_version
        && last.rank == last.columns
        && group.rank.len() == 1
        && last.seq + u64::from(last.rank.len()) == group.seq
        && last.rank.iter().last() < group.rank.iter().next()
    {
        last.columns.union_with(&group.columns);
        last.rank = last.columns.clone();
        return;
    }
    groups.push(group.clone());
}

/// Merges changes of a row together with what is held of it; what is refused stays on hold.
pub fn hold(state: &State, table: &Table, pk: &[u8], incoming: &Incoming<'_>) -> Result<bool> {
    if table.info.user_triggers.is_empty() {
        return hold_quietly(state, table, pk, incoming);
    }
    // The schema's own triggers are for its users' writes; a merge brings what they did elsewhere.
    let before = state.db.set_enable_trigger(false)?;
    let held = hold_quietly(state, table, pk, incoming);
    if before {
        state.db.set_enable_trigger(true)?;
    }
    held
}

fn hold_quietly(state: &State, table: &Table, pk: &[u8], incoming: &Incoming<'_>) -> Result<bool> {
    let held = state.held.borrow_mut().take(table.id, pk);
    let outcome = match &held {
        None => merge_row(state, table, incoming)?,
        Some(_) => Outcome::Refused(String::new()),
    };
    let Outcome::Refused(reason) = outcome else { return Ok(matches!(outcome, Outcome::Applied(_))) };
    let mut row = held.unwrap_or_default();
    row.add(incoming);
    if row.reason.is_empty() {
        row.reason = reason;
    } else {
        let values = row.values();
        let whole = Incoming { key: incoming.key, clock: row.clock.clone(), values: &values };
        match merge_row(state, table, &whole)? {
            Outcome::Refused(reason) => row.reason = reason,
            done => return Ok(matches!(done, Outcome::Applied(_))),
        }
    }
    state.held.borrow_mut().0.insert((table.id, pk.to_vec()), row);
    Ok(true)
}

/// Before the commit: tries what is on hold once more, and parks what is still refused.
pub fn settle(state: &State) -> Result<()> {
    if state.held.borrow().is_empty() {
        return Ok(());
    }
    let held = std::mem::take(&mut state.held.borrow_mut().0);
    // Our triggers write to a virtual table, which SQLite forbids while it commits; muted, they do nothing anyway.
    let before = state.db.set_enable_trigger(false)?;
    let settled = held.into_iter().try_for_each(|((table, pk), row)| settle_row(state, table, &pk, &row));
    if before {
        state.db.set_enable_trigger(true)?;
    }
    settled
}

fn settle_row(state: &State, table: u32, pk: &[u8], row: &HeldRow) -> Result<()> {
    let table = state.table(table)?;
    let _mute = state.mute();
    let key = crsql_core::pack::unpack(pk).map_err(crate::sqlite::Error::refused)?;
    let values = row.values();
    let incoming = Incoming { key: &key, clock: row.clock.clone(), values: &values };
    match merge_row(state, &table, &incoming)? {
        Outcome::Refused(reason) => {
            park::row(state, &table, pk, &incoming, Kind::Constraint, &reason)?;
            // Together with what came before them the changes may make a valid row.
            park::retry_row(state, &table, pk)
        }
        _ => Ok(()),
    }
}
