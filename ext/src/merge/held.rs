//! Changes of rows that the base table refuses while only some of their cells are there.

use super::row::{Incoming, Outcome, merge_next, merge_row};
use crate::catalog::Table;
use crate::park::{self, Kind};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, RowClock};
use crate::typed::TypedCell;
use crsql_core::column::is_write;
use crsql_core::value::Value;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// The changes of one row. Cleared, it keeps its memory for the next one.
#[derive(Default)]
pub struct HeldRow {
    clock: RowClock,
    /// By column id, ascending.
    values: Vec<(u32, Kept)>,
    /// Of columns that have a type.
    cells: Vec<(TypedCell<'static>, Value)>,
    /// Texts and blobs, one behind the other.
    bytes: Vec<u8>,
    reason: String,
}

/// A value whose bytes lie elsewhere.
#[derive(Clone, Copy)]
enum Kept {
    Null,
    Integer(i64),
    Real(f64),
    Text { start: usize, len: usize },
    Blob { start: usize, len: usize },
}

impl Kept {
    fn keep(value: ValueRef<'_>, bytes: &mut Vec<u8>) -> Kept {
        let start = bytes.len();
        match value {
            ValueRef::Null => Kept::Null,
            ValueRef::Integer(value) => Kept::Integer(value),
            ValueRef::Real(value) => Kept::Real(value),
            ValueRef::Text(text) => {
                bytes.extend_from_slice(text);
                Kept::Text { start, len: text.len() }
            }
            ValueRef::Blob(blob) => {
                bytes.extend_from_slice(blob);
                Kept::Blob { start, len: blob.len() }
            }
        }
    }

    fn len(self) -> usize {
        match self {
            Kept::Text { len, .. } | Kept::Blob { len, .. } => len,
            _ => 0,
        }
    }

    fn value(self, bytes: &[u8]) -> ValueRef<'_> {
        match self {
            Kept::Null => ValueRef::Null,
            Kept::Integer(value) => ValueRef::Integer(value),
            Kept::Real(value) => ValueRef::Real(value),
            Kept::Text { start, len } => ValueRef::Text(&bytes[start..start + len]),
            Kept::Blob { start, len } => ValueRef::Blob(&bytes[start..start + len]),
        }
    }
}

/// The values of a row, by column id.
pub type RowValues<'a> = SmallVec<[(u32, ValueRef<'a>); 8]>;

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
            self.clear();
            self.clock.cl = incoming.clock.cl;
        }
        if !incoming.cells.is_empty() {
            return self.add_typed(incoming);
        }
        for group in &incoming.clock.groups {
            // A second change of one slot replaces the first: within one transaction the sender's later one wins,
            // and were it the older, the merge would have the same row refused and parked, not lost.
            self.clock.put(group);
        }
        for (id, value) in incoming.values {
            match self.values.binary_search_by_key(id, |(known, _)| *known) {
                Ok(at) => {
                    self.values[at].1 = Kept::keep(*value, &mut self.bytes);
                    self.compact();
                }
                Err(at) => self.values.insert(at, (*id, Kept::keep(*value, &mut self.bytes))),
            }
        }
    }

    /// Adds changes of which some are of columns that have a type: of two greatest values the greater one stays.
    fn add_typed(&mut self, incoming: &Incoming<'_>) {
        for group in &incoming.clock.groups {
            let mut taken = group.columns.clone();
            for cell in incoming.cells.iter().filter(|cell| group.columns.contains(cell.slot)) {
                let is_same = |known: &&mut (TypedCell<'static>, Value)| {
                    known.0.slot == cell.slot && (!cell.kind.is_parted() || known.0.site == cell.site)
                };
                let of_group = group.site == cell.site;
                match self.cells.iter_mut().find(is_same) {
                    _ if !of_group => {}
                    None => {
                        self.cells.push((cell.unbound(), cell.value.to_owned_value()));
                    }
                    Some(known)
                        if cell.kind.is_parted() || is_write(cell.kind, known.1.as_ref(), cell.value) =>
                    {
                        known.0.site = cell.site;
                        known.1 = cell.value.to_owned_value();
                    }
                    Some(_) => taken.remove(cell.slot),
                }
            }
            if !taken.is_empty() {
                self.clock.put(&Group { columns: taken, ..group.clone() });
            }
        }
        let registers = Incoming {
            clock: RowClock { cl: self.clock.cl, ..RowClock::default() },
            cells: &[],
            ..*incoming
        };
        self.add(&registers);
    }

    /// The cells of columns that have a type.
    pub fn typed_cells(&self) -> Vec<TypedCell<'_>> {
        self.cells.iter().map(|(cell, value)| TypedCell { value: value.as_ref(), ..*cell }).collect()
    }

    /// Gives up the bytes of values that were replaced, once they are the greater part.
    fn compact(&mut self) {
        let used: usize = self.values.iter().map(|(_, value)| value.len()).sum();
        if self.bytes.len() > 2 * used + 1024 {
            let old = std::mem::take(&mut self.bytes);
            for (_, value) in &mut self.values {
                *value = Kept::keep(value.value(&old), &mut self.bytes);
            }
        }
    }

    /// Forgets the row.
    pub fn clear(&mut self) {
        self.clock.cl = 0;
        self.clock.groups.clear();
        self.values.clear();
        self.cells.clear();
        self.bytes.clear();
        self.reason.clear();
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
        self.values.insert(at, (slot, Kept::keep(value, &mut self.bytes)));
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

    /// Takes the clocks; the values stay.
    pub fn take_clock(&mut self) -> RowClock {
        std::mem::take(&mut self.clock)
    }

    /// How many changes are held.
    pub fn cells(&self) -> i64 {
        self.clock.groups.iter().map(|group| i64::from(group.columns.len())).sum()
    }

    /// The values so far, by column id.
    pub fn values(&self) -> RowValues<'_> {
        self.values.iter().map(|(id, value)| (*id, value.value(&self.bytes))).collect()
    }
}

/// Merges changes of a row together with what is held of it; what is refused stays on hold.
pub fn hold(state: &State, table: &Table, pk: &[u8], incoming: &Incoming<'_>) -> Result<bool> {
    hold_by(state, table, pk, incoming, merge_row)
}

/// As [`hold`], when the next changes are likely to be of the same row.
pub fn hold_next(state: &State, table: &Table, pk: &[u8], incoming: &Incoming<'_>) -> Result<bool> {
    hold_by(state, table, pk, incoming, |state, table, incoming| merge_next(state, table, pk, incoming))
}

fn hold_by(
    state: &State,
    table: &Table,
    pk: &[u8],
    incoming: &Incoming<'_>,
    merge: impl FnOnce(&State, &Table, &Incoming<'_>) -> Result<Outcome>,
) -> Result<bool> {
    if table.info.user_triggers.is_empty() {
        return hold_quietly(state, table, pk, incoming, merge);
    }
    // The schema's own triggers are for its users' writes; a merge brings what they did elsewhere.
    state.db.without_triggers(|| hold_quietly(state, table, pk, incoming, merge))
}

fn hold_quietly(
    state: &State,
    table: &Table,
    pk: &[u8],
    incoming: &Incoming<'_>,
    merge: impl FnOnce(&State, &Table, &Incoming<'_>) -> Result<Outcome>,
) -> Result<bool> {
    let held = state.held.borrow_mut().take(table.id, pk);
    let outcome = match &held {
        None => merge(state, table, incoming)?,
        Some(_) => Outcome::Refused(String::new()),
    };
    let reason = match outcome {
        Outcome::Refused(reason) => reason,
        Outcome::Behind => return Err(behind(table)),
        done => return Ok(is_new(&done)),
    };
    let mut row = held.unwrap_or_default();
    row.add(incoming);
    if row.reason.is_empty() {
        row.reason = reason;
    } else {
        let outcome = {
            let (values, cells) = (row.values(), row.typed_cells());
            let whole =
                Incoming { key: incoming.key, clock: row.clock.clone(), values: &values, cells: &cells };
            merge_row(state, table, &whole)?
        };
        match outcome {
            Outcome::Refused(reason) => row.reason = reason,
            Outcome::Behind => return Err(behind(table)),
            done => return Ok(is_new(&done)),
        }
    }
    state.held.borrow_mut().0.insert((table.id, pk.to_vec()), row);
    Ok(true)
}

/// Whether anything is held now that was not.
fn is_new(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Applied(_) | Outcome::Hidden(_))
}

#[cold]
fn behind(table: &Table) -> Error {
    Error::refused(format_args!("table {:?}: {}", table.name, crate::collect::BEHIND))
}

/// Before the commit: tries what is on hold once more, and parks what is still refused.
pub fn settle(state: &State) -> Result<()> {
    if state.held.borrow().is_empty() {
        return Ok(());
    }
    let held = std::mem::take(&mut state.held.borrow_mut().0);
    // Our triggers write to a virtual table, which SQLite forbids while it commits; muted, they do nothing anyway.
    state.db.without_triggers(|| {
        held.into_iter().try_for_each(|((table, pk), row)| settle_row(state, table, &pk, &row))
    })
}

fn settle_row(state: &State, table: u32, pk: &[u8], row: &HeldRow) -> Result<()> {
    let table = state.table(table)?;
    let _mute = state.mute();
    let key = crsql_core::pack::unpack(pk).map_err(crate::sqlite::Error::refused)?;
    let (values, cells) = (row.values(), row.typed_cells());
    let incoming = Incoming { key: &key, clock: row.clock.clone(), values: &values, cells: &cells };
    if table.fires {
        // What a trigger refused is not written where it can't be asked.
        return park::row(state, &table, pk, &incoming, Kind::Constraint, &row.reason).map(drop);
    }
    match merge_row(state, &table, &incoming)? {
        Outcome::Refused(reason) => {
            park::row(state, &table, pk, &incoming, Kind::Constraint, &reason)?;
            // Together with what came before them the changes may make a valid row.
            park::retry_row(state, &table, pk)
        }
        _ => Ok(()),
    }
}
