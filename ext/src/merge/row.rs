//! The merge of one row.

use super::base::{self, RowPlace};
use super::clock_of;
use crate::catalog::{Shape, Table};
use crate::sqlite::{Db, Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, Key, ROW, RowClock, Run};
use crsql_core::ids::SiteId;
use crsql_core::key::canonical_key;
use crsql_core::merge::{
    CellClock, Incarnation, Stamp, TieBreak, cell_wins, cell_wins_by_value, incarnation, row_stamp_wins,
};
use smallvec::SmallVec;

/// Changes of one row, all in one incarnation.
pub struct Incoming<'a> {
    /// The key's values as the sender spells them.
    pub key: &'a [ValueRef<'a>],
    /// The causal length and the clocks; slot 0 when a row-existence change is among them.
    pub clock: RowClock,
    /// The values by column id, ascending.
    pub values: &'a [(u32, ValueRef<'a>)],
}

/// What became of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was known already or lost.
    Ignored,
    /// So many changes won and are written.
    Applied(u64),
    /// The base table refuses the row as it would be; nothing was written.
    Refused(String),
}

/// Compares stamps that name sites by ordinal.
struct Order<'a> {
    state: &'a State,
    db: Db,
}

impl Order<'_> {
    fn site(&self, ordinal: u32) -> Result<SiteId> {
        self.state.store.borrow_mut().sites.id(self.db, ordinal)
    }

    fn stamp(&self, group: &Group, slot: u32) -> Result<Stamp> {
        Ok(Stamp { site: self.site(group.site)?, version: group.version, seq: group.seq_of(slot) })
    }

    fn cell(&self, group: &Group, slot: u32) -> Result<CellClock> {
        Ok(CellClock { col_version: group.col_version, stamp: self.stamp(group, slot)? })
    }

    /// Whether the incoming clock of `slot` beats the local one, which it does not equal in `col_version` and author.
    fn wins(&self, local: &RowClock, theirs: &Group, slot: u32) -> Result<bool> {
        let Some(ours) = local.group_of(slot) else { return Ok(true) };
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

/// Merges the changes of one row: decides, writes the base row, records the clocks.
///
/// The caller has muted capture. Errors are the database's own; what the schema refuses is an [`Outcome`].
pub fn merge_row(state: &State, table: &Table, row: &Incoming<'_>) -> Result<Outcome> {
    let (place, is_spelling) = locate(state, table, row.key)?;
    merge_at(state, table, row, place, is_spelling)
}

/// Writes a row that is probably new, without looking first. `None`: there is such a row, look.
///
/// Only for tables whose live clocks lie by rowid, without tombstones, and rows of the first incarnation.
pub fn insert_new(state: &State, table: &Table, row: &Incoming<'_>) -> Result<Option<Outcome>> {
    let canonical;
    let canonical_values;
    let mut params: SmallVec<[ValueRef<'_>; 16]> = SmallVec::new();
    if is_spelled_canonically(table, row.key) {
        params.extend_from_slice(row.key);
    } else {
        canonical = canonical_key(row.key, &table.key_columns).map_err(|e| key_error(table, e))?;
        canonical_values = crsql_core::pack::unpack(&canonical.bytes).map_err(|e| key_error(table, e))?;
        params.extend_from_slice(&canonical_values);
    }
    params.extend(row.values.iter().map(|(_, value)| *value));
    let columns: Columns = row.values.iter().map(|(id, _)| *id).collect();
    match base::insert(state, table, &columns, &params) {
        Ok(rowid) => {
            record(state, table, true, Run::single(Key::Int(rowid), row.clock.clone()));
            Ok(Some(Outcome::Applied(changes_in(&row.clock))))
        }
        // Whatever else is wrong shows again when the row is merged the long way.
        Err(error) if error.is_constraint() => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_spelled_canonically(table: &Table, key: &[ValueRef<'_>]) -> bool {
    key.iter().zip(&table.key_columns).all(|(value, column)| match value {
        ValueRef::Blob(_) | ValueRef::Integer(_) => true,
        ValueRef::Text(_) => column.collation == crsql_core::key::Collation::Binary,
        ValueRef::Real(_) | ValueRef::Null => false,
    })
}

/// Finds the row by its key, and tells whether the key is spelled canonically.
fn locate(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<(RowPlace, bool)> {
    if table.shape == Shape::Integer {
        return match key {
            [ValueRef::Integer(rowid)] => Ok((RowPlace { pk: Vec::new(), rowid: Some(*rowid) }, true)),
            _ => integer_key(table, key),
        };
    }
    let canonical = canonical_key(key, &table.key_columns).map_err(|e| key_error(table, e))?;
    let rowid = base::find_rowid(state, table, key)?;
    Ok((RowPlace { pk: canonical.bytes, rowid }, canonical.is_spelling))
}

fn key_error(table: &Table, error: impl std::fmt::Display) -> Error {
    Error::refused(format_args!("table {:?}: {error}", table.name))
}

fn integer_key(table: &Table, key: &[ValueRef<'_>]) -> Result<(RowPlace, bool)> {
    let canonical = canonical_key(key, &table.key_columns).map_err(|e| key_error(table, e))?;
    match crsql_core::pack::unpack(&canonical.bytes).map_err(|e| key_error(table, e))?[..] {
        [ValueRef::Integer(rowid)] => Ok((RowPlace { pk: Vec::new(), rowid: Some(rowid) }, true)),
        _ => Err(key_error(table, "the key of this table is an integer; send one")),
    }
}

/// Whether these values can be a key of the table.
pub fn check_key(table: &Table, key: &[ValueRef<'_>]) -> Result<()> {
    match (table.shape, key) {
        (Shape::Integer, [ValueRef::Integer(_)]) => Ok(()),
        (Shape::Integer, _) => integer_key(table, key).map(drop),
        _ => canonical_key(key, &table.key_columns).map(drop).map_err(|e| key_error(table, e)),
    }
}

/// A live row that the open transaction wrote, with its clock.
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
pub fn begin_again(state: &State, table: &Table, place: &RowPlace) {
    let mut ops = state.ops.borrow_mut();
    let set = ops.intern(&table.all);
    match place.live_key(table) {
        Some(Key::Int(rowid)) => ops.push_row(table.id, crate::store::Kind::Insert, rowid, set),
        Some(Key::Bytes(pk)) => ops.push_keyed(table.id, crate::store::Kind::Insert, 0, set, &pk, true),
        None => {}
    }
}

/// Lets the clock of a live row's cell, which is in `group`, reach at least `col_version`.
pub fn raise(state: &State, table: &Table, place: &RowPlace, group: &Group, slot: u32, col_version: u64) {
    let Some(key) = place.live_key(table) else { return };
    let only = Columns::one(slot);
    let group = Group { columns: only.clone(), rank: only, col_version, ..group.clone() };
    let run = Run::single(key.clone(), RowClock { cl: 1, groups: SmallVec::from_iter([group]) });
    let pk = if let Key::Bytes(pk) = &key { Some(&pk[..]) } else { None };
    state.ops.borrow_mut().push_clocks(table.id, crate::store::Kind::Raise, run, pk);
}

/// The clock of the row with this key.
pub fn clock_by_key(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<Option<RowClock>> {
    if check_key(table, key).is_err() {
        return Ok(None);
    }
    let (place, _) = locate(state, table, key)?;
    local_clock(state, table, &place)
}

fn local_clock(state: &State, table: &Table, place: &RowPlace) -> Result<Option<RowClock>> {
    let local = match &place.live_key(table) {
        Some(key) => clock_of(state, table.id, key)?,
        None => None,
    };
    if local.is_none() && matches!(table.shape, Shape::Rowid(_)) && state.may_have_tombstones(table.id)? {
        return clock_of(state, table.id, &place.dead_key(table));
    }
    Ok(local)
}

fn merge_at(
    state: &State,
    table: &Table,
    row: &Incoming<'_>,
    place: RowPlace,
    is_spelling: bool,
) -> Result<Outcome> {
    let local = local_clock(state, table, &place)?;
    let local_cl = local.as_ref().map_or(0, |clock| clock.cl);
    match incarnation(local_cl, row.clock.cl) {
        Incarnation::Older => Ok(Outcome::Ignored),
        Incarnation::Newer => begin_incarnation(state, table, row, place, is_spelling, local.as_ref()),
        Incarnation::Same => match local {
            Some(local) => merge_cells(state, table, row, place, is_spelling, &local),
            None => Ok(Outcome::Ignored),
        },
    }
}

/// The row's key as it is to be stored: as spelled by a row-existence change, else canonically.
fn with_stored_key<T>(
    table: &Table,
    row: &Incoming<'_>,
    is_spelling: bool,
    has_stamp: bool,
    body: impl FnOnce(&[ValueRef<'_>]) -> Result<T>,
) -> Result<T> {
    if is_spelling || has_stamp {
        return body(row.key);
    }
    let canonical = canonical_key(row.key, &table.key_columns).map_err(|e| key_error(table, e))?;
    body(&crsql_core::pack::unpack(&canonical.bytes).map_err(|e| key_error(table, e))?)
}

fn begin_incarnation(
    state: &State,
    table: &Table,
    row: &Incoming<'_>,
    place: RowPlace,
    is_spelling: bool,
    local: Option<&RowClock>,
) -> Result<Outcome> {
    let was_alive = local.is_some_and(RowClock::is_alive);
    if row.clock.cl.is_multiple_of(2) {
        if was_alive || place.rowid.is_some() || table.shape == Shape::Packed {
            base::delete(state, table, place.rowid, row.key)?;
        }
        if let (Shape::Rowid(_), Some(rowid), true) = (table.shape, place.rowid, was_alive) {
            forget(state, table, &Key::Int(rowid));
        }
        if table.shape != Shape::Integer {
            state.note_tombstone(table.id)?;
        }
        // Only the death itself is recorded: cells of a dead row are nothing.
        let clock = RowClock { cl: row.clock.cl, groups: death_of(row) };
        record(state, table, true, Run::single(place.dead_key(table), clock));
        return Ok(Outcome::Applied(1));
    }
    let columns: Columns = row.values.iter().map(|(id, _)| *id).collect();
    let has_stamp = row.clock.group_of(ROW).is_some();
    let inserted = with_stored_key(table, row, is_spelling, has_stamp, |key| {
        let params: Vec<ValueRef<'_>> =
            key.iter().copied().chain(row.values.iter().map(|(_, v)| *v)).collect();
        if was_alive {
            // The old row goes and comes as one: a refusal must leave it.
            return replace(state, table, &place, &columns, key, &params);
        }
        base::insert(state, table, &columns, &params)
    });
    let rowid = match inserted {
        Ok(rowid) => rowid,
        Err(error) => return refusal(error),
    };
    if let Shape::Rowid(_) = table.shape {
        if let (Some(old), true) = (place.rowid, was_alive)
            && old != rowid
        {
            forget(state, table, &Key::Int(old));
        }
        if local.is_some() && !was_alive {
            forget(state, table, &place.dead_key(table));
        }
    }
    let key = match table.shape {
        Shape::Packed => Key::Bytes(place.pk.into_boxed_slice()),
        Shape::Integer => Key::Int(place.rowid.unwrap_or(rowid)),
        Shape::Rowid(_) => Key::Int(rowid),
    };
    record(state, table, true, Run::single(key, row.clock.clone()));
    Ok(Outcome::Applied(changes_in(&row.clock)))
}

/// How many changes a clock tells of.
pub fn changes_in(clock: &RowClock) -> u64 {
    clock.groups.iter().map(|group| u64::from(group.columns.len())).sum()
}

/// The stamp of a death: of the row-existence change, or of whatever even-cl change told of it.
fn death_of(row: &Incoming<'_>) -> SmallVec<[Group; 1]> {
    let Some(group) = row.clock.group_of(ROW).or(row.clock.groups.first()) else { return SmallVec::new() };
    let slot = if group.columns.contains(ROW) { ROW } else { group.columns.iter().next().unwrap_or(ROW) };
    let only = Columns::one(ROW);
    let seq = group.seq_of(slot);
    SmallVec::from_iter([Group { columns: only.clone(), rank: only, seq, ..group.clone() }])
}

fn replace(
    state: &State,
    table: &Table,
    place: &RowPlace,
    columns: &Columns,
    key: &[ValueRef<'_>],
    params: &[ValueRef<'_>],
) -> Result<i64> {
    let all = &table.all;
    let old_key = key_values(state, table, place, key)?;
    let before = base::read_values(state, table, place.rowid, key, all)?;
    base::delete(state, table, place.rowid, key)?;
    match base::insert(state, table, columns, params) {
        Ok(rowid) => Ok(rowid),
        Err(error) => {
            if let Some(values) = before {
                let mut params: Vec<ValueRef<'_>> = old_key.iter().map(|v| v.as_ref()).collect();
                params.extend(values.iter().map(|v| v.as_ref()));
                let rowid = base::insert(state, table, all, &params)?;
                if let (Shape::Rowid(_), Some(old)) = (table.shape, place.rowid)
                    && rowid != old
                {
                    move_clock(state, table, old, rowid)?;
                }
            }
            Err(error)
        }
    }
}

fn key_values(
    state: &State,
    table: &Table,
    place: &RowPlace,
    key: &[ValueRef<'_>],
) -> Result<Vec<crsql_core::value::Value>> {
    let mut select = state.db.prepare(&format!(
        "SELECT {} FROM {} WHERE {}",
        table.key_list(),
        table.sql_name(),
        table.place_condition()
    ))?;
    let params = match table.shape {
        Shape::Packed => key.to_vec(),
        _ => vec![ValueRef::Integer(place.rowid.unwrap_or(0))],
    };
    let values = select.query_row(&params, |row| {
        Ok((0..table.key_names.len()).map(|at| row.column_value(at).to_owned_value()).collect())
    })?;
    Ok(values.unwrap_or_default())
}

/// The base row got another rowid; its clock follows.
fn move_clock(state: &State, table: &Table, from: i64, to: i64) -> Result<()> {
    let Some(clock) = clock_of(state, table.id, &Key::Int(from))? else { return Ok(()) };
    forget(state, table, &Key::Int(from));
    record(state, table, true, Run::single(Key::Int(to), clock));
    Ok(())
}

fn merge_cells(
    state: &State,
    table: &Table,
    row: &Incoming<'_>,
    place: RowPlace,
    is_spelling: bool,
    local: &RowClock,
) -> Result<Outcome> {
    let order = Order { state, db: state.db };
    let by_value = state.tie_break()? == TieBreak::Value;
    let mut winners: SmallVec<[Group; 1]> = SmallVec::new();
    let mut columns = Columns::new();
    for group in &row.clock.groups {
        // The same author's same version: known, whatever its seq.
        let mut won = Columns::new();
        for slot in group.columns.iter() {
            let wins = if by_value && slot != ROW {
                wins_by_value(state, table, row, &place, local, group, slot, &order)?
            } else {
                order.wins(local, group, slot)?
            };
            if wins {
                won.insert(slot);
            }
        }
        if !won.is_empty() {
            columns.union_with(&won);
            winners.push(Group { columns: won, ..group.clone() });
        }
    }
    if winners.is_empty() {
        return Ok(Outcome::Ignored);
    }
    let won = u64::from(columns.len());
    let respelled = columns.contains(ROW);
    columns.remove(ROW);
    if local.is_alive() && !columns.is_empty() {
        let values: Vec<ValueRef<'_>> =
            row.values.iter().filter(|(id, _)| columns.contains(*id)).map(|(_, value)| *value).collect();
        if let Err(error) = base::update(state, table, &columns, place.rowid, row.key, &values) {
            return refusal(error);
        }
    }
    if local.is_alive() && respelled && table.shape != Shape::Integer {
        let spelled = with_stored_key(table, row, is_spelling, true, |key| {
            base::spell(state, table, place.rowid, row.key, key)
        });
        if let Err(error) = spelled {
            return refusal(error);
        }
    }
    let key = if local.is_alive() {
        place
            .live_key(table)
            .ok_or_else(|| Error::refused("a live row has no base row; run SELECT crsql_doctor()"))?
    } else {
        place.dead_key(table)
    };
    record(state, table, false, Run::single(key, RowClock { cl: row.clock.cl, groups: winners }));
    Ok(Outcome::Applied(won))
}

#[allow(clippy::too_many_arguments)] // the whole context of one comparison, in one place
fn wins_by_value(
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

fn refusal(error: Error) -> Result<Outcome> {
    // STRICT reports a wrong type as a constraint, RAISE(ABORT) as well; a mismatched rowid has its own code.
    if error.is_constraint() || error.primary_code() == 20 {
        Ok(Outcome::Refused(error.to_string()))
    } else {
        Err(error)
    }
}

fn record(state: &State, table: &Table, new_incarnation: bool, run: Run) {
    let pk = match &run.key {
        Key::Bytes(pk) => Some(pk.clone()),
        Key::Int(_) => None,
    };
    state.ops.borrow_mut().push_merge(table.id, new_incarnation, run, pk.as_deref());
}

fn forget(state: &State, table: &Table, key: &Key) {
    let mut ops = state.ops.borrow_mut();
    match key {
        Key::Int(rowid) => ops.push_row(table.id, crate::store::Kind::Forget, *rowid, 0),
        Key::Bytes(pk) => ops.push_keyed(table.id, crate::store::Kind::Forget, 0, 0, pk, true),
    }
}
