//! The merge of one row.

use super::base::{self, RowPlace};
use super::clock_of;
use super::order::{Order, wins_by_value};
use super::walk::Walk;
use crate::catalog::{Shape, Table, Typed};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, Key, Mark, ROW, RowClock, Run};
use crate::typed::{self, TypedCell};
use crsql_core::collect::Admission;
use crsql_core::ids::SiteId;
use crsql_core::key::canonical_key;
use crsql_core::merge::{Incarnation, TieBreak, incarnation};
use crsql_core::value::Value;
use smallvec::SmallVec;
use std::rc::Rc;

/// Changes of one row, all in one incarnation.
pub struct Incoming<'a> {
    /// The key's values as the sender spells them.
    pub key: &'a [ValueRef<'a>],
    /// The causal length and the clocks; slot 0 when a row-existence change is among them.
    pub clock: RowClock,
    /// The values by column id, ascending, but for those of `cells`.
    pub values: &'a [(u32, ValueRef<'a>)],
    /// The values of cells of columns that have a type.
    pub cells: &'a [TypedCell<'a>],
}

/// The parameters of a statement on one row.
pub type Params<'a> = SmallVec<[ValueRef<'a>; 16]>;

/// What became of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was known already or lost.
    Ignored,
    /// So many changes won and are written.
    Applied(u64),
    /// The base table refuses the row as it would be; nothing was written.
    Refused(String),
    /// A unique index of a table that lets rows clash refuses it; nothing was written.
    Clash(String),
    /// The row is hidden because it clashes with another; so many changes are kept with it.
    Hidden(u64),
    /// The row could be one whose delete was collected; nothing was written.
    Behind,
}

/// Merges the changes of one row: decides, writes the base row, records the clocks.
///
/// The caller has muted capture. Errors are the database's own; what the schema refuses is an [`Outcome`].
pub fn merge_row(state: &State, table: &Table, row: &Incoming<'_>) -> Result<Outcome> {
    merge_found(state, table, row, &mut find(state, table, row.key)?)
}

/// As [`merge_row`], for the changes of a row that come one by one: what is known of the row with the packed key `pk`
/// is kept for the next change.
pub fn merge_next(state: &State, table: &Table, pk: &[u8], row: &Incoming<'_>) -> Result<Outcome> {
    let mut known = match state.last_merged.take() {
        Some(known) if known.is_of(state, table, pk) => known,
        old => {
            let mut known = old.unwrap_or_default();
            known.table = table.id;
            known.pk.clear();
            known.pk.extend_from_slice(pk);
            known.found = find(state, table, row.key)?;
            known
        }
    };
    known.author = None;
    known.merge(state, table, row)
}

/// Merges rows that mostly come in the order in which they lie here.
pub fn merge_along(state: &State, table: &Table, row: &Incoming<'_>, walk: &mut Walk) -> Result<Outcome> {
    if !matches!(table.shape, Shape::Rowid(_)) {
        return merge_row(state, table, row);
    }
    let canonical = canonical_key(row.key, &table.key_columns).map_err(|e| key_error(table, e))?;
    let place = RowPlace { pk: canonical.bytes, rowid: walk.find(state, table, row.key)? };
    let clock = local_clock(state, table, &place)?;
    merge_found(state, table, row, &mut Found { place, is_spelling: canonical.is_spelling, clock })
}

/// The row that was merged last, for [`merge_next`].
#[derive(Default)]
pub struct Known {
    table: u32,
    /// The packed key, as the sender spells it.
    pub pk: Vec<u8>,
    /// Whose change the last one was.
    pub author: Option<Author>,
    /// The end of the buffer then: whatever is captured or merged since may be about the row.
    mark: Mark,
    found: Found,
}

/// Whose change of which table.
pub struct Author {
    /// The table.
    pub table: Rc<Table>,
    /// The site.
    pub site: SiteId,
    /// Its ordinal.
    pub ordinal: u32,
    /// Its version.
    pub version: u64,
}

impl Known {
    /// True when it is of this row, and nothing was captured or merged since.
    pub fn is_of(&self, state: &State, table: &Table, pk: &[u8]) -> bool {
        self.table == table.id && self.pk == pk && self.is_fresh(state)
    }

    /// True while nothing was captured or merged since.
    pub fn is_fresh(&self, state: &State) -> bool {
        self.mark == state.ops.borrow().mark()
    }

    /// The row's causal length.
    pub fn cl(&self) -> u64 {
        self.found.clock.as_ref().map_or(0, |clock| clock.cl)
    }

    /// Merges changes of the row, and is kept for the next unless they are refused.
    pub fn merge(mut self: Box<Self>, state: &State, table: &Table, row: &Incoming<'_>) -> Result<Outcome> {
        let outcome = merge_found(state, table, row, &mut self.found)?;
        if !matches!(outcome, Outcome::Refused(_)) {
            self.mark = state.ops.borrow().mark();
            state.last_merged.set(Some(self));
        }
        Ok(outcome)
    }
}

/// What is here of a row.
#[derive(Clone, Default)]
pub struct Found {
    /// Where.
    pub place: RowPlace,
    /// The key is spelled canonically.
    is_spelling: bool,
    /// Its clock.
    pub clock: Option<RowClock>,
}

/// Looks for the row with this key.
pub fn find(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<Found> {
    let (place, is_spelling) = locate(state, table, key)?;
    let clock = local_clock(state, table, &place)?;
    Ok(Found { place, is_spelling, clock })
}

/// Writes a row that is probably new, without looking first. `None`: there is such a row, look.
///
/// Only for tables whose live clocks lie by rowid, without tombstones, and rows of the first incarnation.
pub fn insert_new(state: &State, table: &Table, row: &Incoming<'_>) -> Result<Option<Outcome>> {
    let canonical;
    let canonical_values;
    let mut params = Params::new();
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
            state.record_merge(table.id, true, Run::single(Key::Int(rowid), row.clock.clone()));
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
pub fn locate(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<(RowPlace, bool)> {
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

/// The clock of the row with this key.
pub fn clock_by_key(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<Option<RowClock>> {
    if check_key(table, key).is_err() {
        return Ok(None);
    }
    let (place, _) = locate(state, table, key)?;
    local_clock(state, table, &place)
}

/// The value of the cell of a column's type in the live row with this key; NULL without one.
pub fn cell_by_key(state: &State, table: &Table, key: &[ValueRef<'_>], typed: &Typed) -> Result<Value> {
    let (place, _) = locate(state, table, key)?;
    let Some(clock) = local_clock(state, table, &place)? else { return Ok(Value::Null) };
    let row = Incoming { key, clock: RowClock::default(), values: &[], cells: &[] };
    let facts = typed::facts_of(state, table, typed, &row, &place, &clock)?;
    Ok(facts.cell(typed, typed.slot, 0).cloned().unwrap_or_default())
}

pub fn local_clock(state: &State, table: &Table, place: &RowPlace) -> Result<Option<RowClock>> {
    let local = match &place.live_key(table) {
        Some(key) => clock_of(state, table.id, key)?,
        None => None,
    };
    if local.is_none() && matches!(table.shape, Shape::Rowid(_)) && state.may_have_tombstones(table.id)? {
        return clock_of(state, table.id, &place.dead_key(table));
    }
    Ok(local)
}

fn merge_found(state: &State, table: &Table, row: &Incoming<'_>, found: &mut Found) -> Result<Outcome> {
    if table.is_related {
        super::hidden::merge(state, table, row, found)
    } else {
        merge_plainly(state, table, row, found)
    }
}

/// Merges changes of a row that no other row hides.
pub fn merge_plainly(state: &State, table: &Table, row: &Incoming<'_>, found: &mut Found) -> Result<Outcome> {
    let local_cl = found.clock.as_ref().map_or(0, |clock| clock.cl);
    if local_cl == 0 && row.clock.cl <= state.store.borrow().floor() {
        match crate::collect::admit_row(state, &row.clock)? {
            Admission::Take => {}
            Admission::Known => return Ok(Outcome::Ignored),
            Admission::Behind => return Ok(Outcome::Behind),
        }
    }
    match incarnation(local_cl, row.clock.cl) {
        Incarnation::Older => {
            if let (true, Some(local)) = (table.losers > 0, &found.clock) {
                crate::losers::too_late(state, table, row, local)?;
            }
            Ok(Outcome::Ignored)
        }
        Incarnation::Newer => begin_incarnation(state, table, row, found),
        Incarnation::Same => merge_cells(state, table, row, found),
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

fn begin_incarnation(state: &State, table: &Table, row: &Incoming<'_>, found: &mut Found) -> Result<Outcome> {
    let Found { place, is_spelling, clock: local } = found;
    let was_alive = local.as_ref().is_some_and(RowClock::is_alive);
    if let (true, Some(local)) = (table.losers > 0, &local) {
        crate::losers::with_row(state, table, row, place, local)?;
    }
    if row.clock.cl.is_multiple_of(2) {
        if was_alive || place.rowid.is_some() || table.shape == Shape::Packed {
            base::delete(state, table, place.rowid, row.key)?;
        }
        if let Shape::Rowid(_) = table.shape {
            if let (Some(rowid), true) = (place.rowid, was_alive) {
                forget(state, table, &Key::Int(rowid));
            }
            place.rowid = None;
        }
        typed::store_new(state, table, place, None)?;
        if table.shape != Shape::Integer {
            state.note_tombstone(table.id)?;
        }
        // Only the death itself is recorded: cells of a dead row are nothing.
        let clock = RowClock { cl: row.clock.cl, groups: death_of(row) };
        *local = Some(clock.clone());
        state.record_merge(table.id, true, Run::single(place.dead_key(table), clock));
        return Ok(Outcome::Applied(1));
    }
    let assigned = match table.typed.is_empty() {
        true => None,
        false => Some(typed::assign_new(state, table, row)?),
    };
    let mixed;
    let values = match &assigned {
        None => row.values,
        Some(assigned) => {
            mixed = assigned.with(table, row.values);
            &mixed
        }
    };
    let columns: Columns = values.iter().map(|(id, _)| *id).collect();
    let has_stamp = row.clock.group_of(ROW).is_some();
    let inserted = with_stored_key(table, row, *is_spelling, has_stamp, |key| {
        let mut params = Params::from_slice(key);
        params.extend(values.iter().map(|(_, value)| *value));
        if was_alive {
            // The old row goes and comes as one: a refusal must leave it.
            return replace(state, table, place, &columns, key, &params);
        }
        base::insert(state, table, &columns, &params)
    });
    let rowid = match inserted {
        Ok(rowid) => rowid,
        Err(error) => return refusal(table, error),
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
        place.rowid = Some(rowid);
    }
    let key = match table.shape {
        Shape::Packed => Key::Bytes(place.pk.as_slice().into()),
        Shape::Integer => Key::Int(place.rowid.unwrap_or(rowid)),
        Shape::Rowid(_) => Key::Int(rowid),
    };
    typed::store_new(state, table, place, assigned.as_ref())?;
    *local = Some(row.clock.clone());
    state.record_merge(table.id, true, Run::single(key, row.clock.clone()));
    Ok(Outcome::Applied(changes_in(&row.clock)))
}

/// How many changes a clock tells of.
pub fn changes_in(clock: &RowClock) -> u64 {
    clock.groups.iter().map(|group| u64::from(group.columns.len())).sum()
}

/// The stamp of a death: of the row-existence change, or of whatever even-cl change told of it.
fn death_of(row: &Incoming<'_>) -> SmallVec<[Group; 2]> {
    let Some((group, slot)) = row.clock.existence() else { return SmallVec::new() };
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

/// The key as the base row spells it; nothing without a row.
pub fn key_values(
    state: &State,
    table: &Table,
    place: &RowPlace,
    key: &[ValueRef<'_>],
) -> Result<Vec<crsql_core::value::Value>> {
    let sql =
        format!("SELECT {} FROM {} WHERE {}", table.key_list(), table.sql_name(), table.place_condition());
    let mut select = state.pool.prepare(state.db, &sql)?;
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
    state.record_merge(table.id, true, Run::single(Key::Int(to), clock));
    Ok(())
}

fn merge_cells(state: &State, table: &Table, row: &Incoming<'_>, found: &mut Found) -> Result<Outcome> {
    let Found { place, is_spelling, clock: Some(local) } = found else { return Ok(Outcome::Ignored) };
    let order = Order { state, db: state.db };
    let by_value = state.tie_break()? == TieBreak::Value;
    let mut winners: SmallVec<[Group; 2]> = SmallVec::new();
    let mut columns = Columns::new();
    for group in &row.clock.groups {
        // What comes once more mostly comes as it came before.
        if !by_value && local.groups.iter().any(|ours| is_same_write(ours, group)) {
            continue;
        }
        let mut won = Columns::new();
        for slot in group.columns.iter() {
            let typed = if slot == ROW { None } else { table.typed(slot) };
            let wins = if let Some(typed) = typed.filter(|typed| by_value || !typed.kind.is_parted()) {
                typed::beats(&order, table, typed, row, place, local, group, slot)?
            } else if by_value && slot != ROW {
                wins_by_value(state, table, row, place, local, group, slot, &order)?
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
    if table.losers > 0 && local.is_alive() {
        crate::losers::in_row(state, table, row, place, local, &winners)?;
    }
    if winners.is_empty() {
        return Ok(Outcome::Ignored);
    }
    let won: u64 = winners.iter().map(|group| u64::from(group.columns.len())).sum();
    let respelled = columns.contains(ROW);
    columns.remove(ROW);
    let mut assigned = None;
    if local.is_alive() && !columns.is_empty() {
        let mixed;
        let values: Params<'_> = if table.typed.is_empty() {
            row.values.iter().filter(|(id, _)| columns.contains(*id)).map(|(_, value)| *value).collect()
        } else {
            let won: Vec<_> = row.values.iter().copied().filter(|(id, _)| columns.contains(*id)).collect();
            let assigned = assigned.insert(typed::assign_winners(state, table, row, place, local, &winners)?);
            mixed = assigned.with(table, &won);
            columns = mixed.iter().map(|(id, _)| *id).collect();
            mixed.iter().map(|(_, value)| *value).collect()
        };
        if let Err(error) = base::update(state, table, &columns, place.rowid, row.key, &values) {
            return refusal(table, error);
        }
    }
    if local.is_alive() && respelled && table.shape != Shape::Integer {
        let spelled = with_stored_key(table, row, *is_spelling, true, |key| {
            base::spell(state, table, place.rowid, row.key, key)
        });
        if let Err(error) = spelled {
            return refusal(table, error);
        }
    }
    if let Some(assigned) = &assigned {
        assigned.store(state, table, place)?;
    }
    let key = if local.is_alive() {
        place
            .live_key(table)
            .ok_or_else(|| Error::refused("a live row has no base row; run SELECT crsql_doctor()"))?
    } else {
        place.dead_key(table)
    };
    winners.iter().for_each(|group| local.put(group));
    state.record_merge(table.id, false, Run::single(key, RowClock { cl: row.clock.cl, groups: winners }));
    Ok(Outcome::Applied(won))
}

/// True when both tell of the same slots and the same write.
fn is_same_write(ours: &Group, theirs: &Group) -> bool {
    (ours.site, ours.version, ours.seq) == (theirs.site, theirs.version, theirs.seq)
        && ours.col_version == theirs.col_version
        && ours.columns == theirs.columns
        && ours.rank == theirs.rank
}

fn refusal(table: &Table, error: Error) -> Result<Outcome> {
    if error.is_unique() && !table.clashes.is_empty() {
        return Ok(Outcome::Clash(error.to_string()));
    }
    // STRICT reports a wrong type as a constraint, RAISE(ABORT) as well; a mismatched rowid has its own code.
    if error.is_constraint() || error.primary_code() == 20 {
        Ok(Outcome::Refused(error.to_string()))
    } else {
        Err(error)
    }
}

/// Nothing is known under this key any more.
pub fn forget(state: &State, table: &Table, key: &Key) {
    let mut ops = state.ops.borrow_mut();
    match key {
        Key::Int(rowid) => ops.push_row(table.id, crate::store::Kind::Forget, *rowid, 0),
        Key::Bytes(pk) => ops.push_keyed(table.id, crate::store::Kind::Forget, 0, 0, pk, true),
    }
}
