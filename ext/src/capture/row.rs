//! The functions that triggers call, row by row. This is the hot path: a plain insert into a table with an
//! INTEGER PRIMARY KEY must cost little more than the call itself.

use super::alter::{exists, place_values};
use crate::catalog::{Shape, Table, Use};
use crate::merge::find_rowid;
use crate::merge::fire::{Event, is_muted};
use crate::sqlite::{Args, Call, Class, Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Kind};
use crate::typed::{drop_row, renews_at_limit};
use crsql_core::key::{Collation, canonical_key};
use smallvec::SmallVec;
use std::rc::Rc;

/// A row that a write may be about to replace, and its key.
struct Candidate {
    table: u32,
    ordinal: i64,
    key: Vec<crsql_core::value::Value>,
}

/// Rows that stand in the way of the next write: see `schema::triggers`.
#[derive(Default)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Adds one. An ordinal that does not ascend begins another write.
    fn push(&mut self, candidate: Candidate) {
        if self
            .0
            .last()
            .is_some_and(|last| last.table == candidate.table && last.ordinal >= candidate.ordinal)
        {
            self.0.retain(|known| known.table != candidate.table);
        }
        self.0.push(candidate);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What capture knows before it looks: the next row is of this table, and nothing has to be seen to but the row.
/// [`State`] takes it away whenever that may have changed.
#[derive(Clone, Copy)]
pub struct Quick {
    /// The table's id as triggers pass it; negative for none.
    table: i64,
    shape: Shape,
    /// How many arguments a key takes.
    width: usize,
    /// A new row is known by its rowid, if its key is [`Quick::is_plain`].
    is_new_by_rowid: bool,
    /// The key's texts are spelled canonically whatever they are.
    is_text_plain: bool,
    /// The buffer's set of all of the table's columns.
    all: u32,
}

impl Default for Quick {
    fn default() -> Quick {
        let shape = Shape::Packed;
        Quick { table: -1, shape, width: 0, is_new_by_rowid: false, is_text_plain: false, all: 0 }
    }
}

impl Quick {
    /// What is known, if the row is of that table.
    #[inline]
    fn of(state: &State, args: &Args<'_>) -> Option<Quick> {
        let quick = state.quick.get();
        (args.integer(0) == Some(quick.table)).then_some(quick)
    }

    /// The next row may be of `table` again.
    fn learn(state: &State, table: &Table) {
        let is_new_by_rowid = match table.shape {
            Shape::Integer => true,
            Shape::Rowid(_) => state.has_no_tombstones(table.id),
            Shape::Packed => false,
        };
        let known = state.quick.get();
        if (known.table == i64::from(table.id) && known.is_new_by_rowid == is_new_by_rowid)
            || !state.is_capturing()
            || !table.untriggered.is_empty()
            || !table.info.user_triggers.is_empty()
            || !table.typed.is_empty()
            || !state.candidates.borrow().0.is_empty()
        {
            return;
        }
        state.quick.set(Quick {
            table: i64::from(table.id),
            shape: table.shape,
            width: key_width(table),
            is_new_by_rowid,
            is_text_plain: table.key_columns.iter().all(|column| column.collation == Collation::Binary),
            all: state.ops.borrow_mut().intern(&table.all),
        });
    }

    /// As [`is_plain`], of a trigger's arguments.
    #[inline]
    fn is_plain(&self, args: &Args<'_>) -> bool {
        (2..1 + self.width).all(|at| match args.class(at) {
            Class::Blob | Class::Integer => true,
            Class::Text => self.is_text_plain,
            Class::Real | Class::Null => false,
        })
    }
}

/// The table that a trigger's call is of.
pub fn table_of(state: &State, args: &Args<'_>) -> Result<Rc<Table>> {
    state.check_suspect_schema()?;
    match args.integer(0) {
        Some(id) => state.table(id as u32),
        None => Err(not_ours()),
    }
}

#[cold]
fn not_ours() -> Error {
    Error::Misuse("the crsql_capture functions are called by crsql's own triggers only".into())
}

/// `crsql_capture_insert(table, NEW key…)`
#[inline]
pub fn insert(state: &State, call: &Call<'_>) -> Result<()> {
    let args = call.args();
    if let Some(quick) = Quick::of(state, &args)
        && quick.is_new_by_rowid
        && let Some(rowid) = args.integer(1)
        && quick.is_plain(&args)
    {
        let is_new = state.ops.borrow_mut().add_row(quick.table as u32, Kind::Insert, rowid, quick.all);
        return if is_new { state.spill_if_heavy() } else { Ok(()) };
    }
    insert_slowly(state, &args)
}

#[inline(never)]
fn insert_slowly(state: &State, args: &Args<'_>) -> Result<()> {
    if state.muted.get() > 0 && is_muted(state, Event::Insert, args) {
        return Ok(());
    }
    state.join()?;
    let table = table_of(state, args)?;
    if !table.untriggered.is_empty() {
        state.note_stale(&table)?;
    }
    let key = args.skip(1);
    if !state.candidates.borrow().0.is_empty() {
        settle_candidates(state, &table, &key, true)?;
    }
    // Triggers that are younger than ours run first, and may have deleted the new row or changed its key.
    if table.info.user_triggers.is_empty() || row_with_key(state, &table, &key)?.is_some() {
        record_insert(state, &table, &key)?;
    }
    Quick::learn(state, &table);
    Ok(())
}

/// Records the insert of a row with this place and key.
pub fn record_insert(state: &State, table: &Table, key: &Args<'_>) -> Result<()> {
    if let Shape::Integer = table.shape {
        let Some(rowid) = key.integer(0) else { return Err(not_ours()) };
        drop_row(state, table, &[ValueRef::Integer(rowid)])?;
        return state.record(table.id, Kind::Insert, rowid, &table.all);
    }
    let (rowid, values) = place_and_key(table, key)?;
    insert_keyed(state, table, rowid, &values)
}

/// Records the insert of a row whose key is not its rowid.
pub fn insert_keyed(state: &State, table: &Table, rowid: i64, values: &[ValueRef<'_>]) -> Result<()> {
    let by_pk = table.shape == Shape::Packed;
    drop_row(state, table, values)?;
    if !by_pk && is_plain(table, values) && !state.may_have_tombstones(table.id)? {
        return state.record(table.id, Kind::Insert, rowid, &table.all);
    } else {
        let key = canonical_key(values, &table.key_columns).map_err(|e| key_error(table, &e))?;
        let kind = if key.is_spelling { Kind::Insert } else { Kind::InsertSpelled };
        let keep = by_pk || state.may_have_tombstones(table.id)?;
        let mut ops = state.ops.borrow_mut();
        let set = ops.intern(&table.all);
        if keep {
            ops.push_keyed(table.id, kind, rowid, set, &key.bytes, by_pk);
        } else {
            ops.push_row(table.id, kind, rowid, set);
        }
    }
    state.spill_if_heavy()
}

/// True when the values are spelled canonically at sight.
fn is_plain(table: &Table, values: &[ValueRef<'_>]) -> bool {
    values.iter().zip(&table.key_columns).all(|(value, column)| match value {
        ValueRef::Blob(_) | ValueRef::Integer(_) => true,
        ValueRef::Text(_) => column.collation == Collation::Binary,
        ValueRef::Real(_) | ValueRef::Null => false,
    })
}

#[cold]
fn key_error(table: &Table, error: &crsql_core::key::KeyError) -> Error {
    Error::refused(format_args!("table {:?}: {error}", table.name))
}

/// The values of a key, mostly one.
type KeyValues<'a> = SmallVec<[ValueRef<'a>; 2]>;

/// Splits a trigger's key arguments into the rowid (0 without) and the key's values.
pub fn place_and_key<'a>(table: &Table, args: &Args<'a>) -> Result<(i64, KeyValues<'a>)> {
    let has_rowid = matches!(table.shape, Shape::Rowid(_));
    let keys = table.key_columns.len();
    if args.len() < keys + usize::from(has_rowid) {
        return Err(not_ours());
    }
    let rowid = match (has_rowid, args.get(0)) {
        (true, ValueRef::Integer(rowid)) => rowid,
        (true, _) => return Err(not_ours()),
        (false, _) => 0,
    };
    Ok((rowid, args.skip(usize::from(has_rowid)).iter().take(keys).collect()))
}

/// How many arguments a key takes.
pub fn key_width(table: &Table) -> usize {
    match table.shape {
        Shape::Integer => 1,
        Shape::Rowid(_) => 1 + table.key_columns.len(),
        Shape::Packed => table.key_columns.len(),
    }
}

/// `crsql_capture_delete(table, OLD key…)`
#[inline]
pub fn delete(state: &State, args: &Args<'_>) -> Result<()> {
    if let Some(Quick { shape: Shape::Integer, table, .. }) = Quick::of(state, args)
        && let Some(rowid) = args.integer(1)
    {
        let is_new = state.ops.borrow_mut().add_row(table as u32, Kind::Delete, rowid, 0);
        return if is_new { state.spill_if_heavy() } else { Ok(()) };
    }
    delete_slowly(state, args)
}

#[inline(never)]
fn delete_slowly(state: &State, args: &Args<'_>) -> Result<()> {
    if state.muted.get() > 0 && is_muted(state, Event::Delete, args) {
        return Ok(());
    }
    state.join()?;
    let table = table_of(state, args)?;
    let key = args.skip(1);
    record_delete(state, &table, &key)?;
    if !table.info.user_triggers.is_empty()
        && let Some(rowid) = row_with_key(state, &table, &key)?
    {
        // A younger trigger ran first and brought the row back, which was recorded before this.
        match table.shape {
            Shape::Integer => record_insert(state, &table, &key)?,
            _ => insert_keyed(state, &table, rowid, &place_and_key(&table, &key)?.1)?,
        }
    }
    Quick::learn(state, &table);
    Ok(())
}

/// The rowid of the row that has this key now, 0 where clocks don't lie by rowid.
fn row_with_key(state: &State, table: &Table, key: &Args<'_>) -> Result<Option<i64>> {
    if let Shape::Rowid(_) = table.shape {
        return find_rowid(state, table, &place_and_key(table, key)?.1);
    }
    Ok(exists(state, table, &place_values(table, key)?)?.then_some(0))
}

/// Records the delete of a row with this place and key.
pub fn record_delete(state: &State, table: &Table, key: &Args<'_>) -> Result<()> {
    if let Shape::Integer = table.shape {
        let Some(rowid) = key.integer(0) else { return Err(not_ours()) };
        drop_row(state, table, &[ValueRef::Integer(rowid)])?;
        return state.record(table.id, Kind::Delete, rowid, &table.all);
    }
    let (rowid, values) = place_and_key(table, key)?;
    delete_keyed(state, table, rowid, &values)
}

/// Records the delete of a row whose key is not its rowid.
pub fn delete_keyed(state: &State, table: &Table, rowid: i64, values: &[ValueRef<'_>]) -> Result<()> {
    drop_row(state, table, values)?;
    let key = canonical_key(values, &table.key_columns).map_err(|e| key_error(table, &e))?;
    let by_pk = table.shape == Shape::Packed;
    if !by_pk {
        state.note_tombstone(table.id)?;
    }
    state.ops.borrow_mut().push_keyed(table.id, Kind::Delete, rowid, 0, &key.bytes, by_pk);
    state.spill_if_heavy()
}

/// `crsql_capture_update(table, NEW key…, column, NEW value, OLD value, …)`
#[inline]
pub fn update(state: &State, args: &Args<'_>) -> Result<()> {
    if let Some(quick) = Quick::of(state, args)
        && quick.shape != Shape::Packed
        && let Some(rowid) = args.integer(1)
        && let Some(changed) = args.changed_bits(1 + quick.width)
    {
        if changed == 0 {
            return Ok(());
        }
        let mut ops = state.ops.borrow_mut();
        let set = ops.intern_bits(changed);
        let is_new = ops.add_row(quick.table as u32, Kind::Update, rowid, set);
        drop(ops);
        return if is_new { state.spill_if_heavy() } else { Ok(()) };
    }
    update_slowly(state, args)
}

#[inline(never)]
fn update_slowly(state: &State, args: &Args<'_>) -> Result<()> {
    if state.muted.get() > 0 && is_muted(state, Event::Update, args) {
        return Ok(());
    }
    state.join()?;
    let table = table_of(state, args)?;
    let mut changed = Columns::new();
    for at in (1 + key_width(&table)..args.len().saturating_sub(2)).step_by(3) {
        // Storage class and bits decide: 1 to 1.0 is a change, and so is a change of case under NOCASE.
        if !args.are_same(at + 1, at + 2) {
            changed.insert(args.integer(at).and_then(|id| u32::try_from(id).ok()).ok_or_else(not_ours)?);
        }
    }
    let key = args.skip(1);
    if !state.candidates.borrow().0.is_empty() {
        // An upsert that became an update: the row it found is the one it changed.
        settle_candidates(state, &table, &key, false)?;
    }
    if !table.untriggered.is_empty() {
        state.note_stale(&table)?;
        changed.union_with(&super::alter::changed_unseen(&table, &key, state)?);
    }
    Quick::learn(state, &table);
    if changed.is_empty() { Ok(()) } else { record_update(state, &table, &key, &changed) }
}

/// Records that columns of the row with this place and key changed.
pub fn record_update(state: &State, table: &Table, key: &Args<'_>, changed: &Columns) -> Result<()> {
    if table.shape == Shape::Packed {
        return record_changed(state, table, 0, &place_and_key(table, key)?.1, changed);
    }
    let ValueRef::Integer(rowid) = key.get(0) else { return Err(not_ours()) };
    record_changed(state, table, rowid, &[], changed)
}

/// Records that columns of a row changed: found by its rowid, or by its key's values where there is none.
pub fn record_changed(
    state: &State,
    table: &Table,
    rowid: i64,
    key: &[ValueRef<'_>],
    changed: &Columns,
) -> Result<()> {
    if !table.typed.is_empty() && renews_at_limit(state, table, rowid, key, changed)? {
        return Ok(());
    }
    if table.shape == Shape::Packed {
        let key = canonical_key(key, &table.key_columns).map_err(|e| key_error(table, &e))?;
        let mut ops = state.ops.borrow_mut();
        let set = ops.intern(changed);
        ops.push_keyed(table.id, Kind::Update, 0, set, &key.bytes, true);
    } else {
        return state.record(table.id, Kind::Update, rowid, changed);
    }
    state.spill_if_heavy()
}

/// `crsql_capture_key(table, n, NEW key…, OLD key…)`: a key that became another one is a delete and an insert.
pub fn key_update(state: &State, call: &Call<'_>) -> Result<()> {
    let table = table_of(state, &call.args())?;
    let width = key_width(&table);
    let new = call.args().skip(2);
    let old = call.args().skip(2 + width);
    if (0..width).all(|at| new.get(at).same(&old.get(at))) {
        return Ok(());
    }
    record_delete(state, &table, &old)?;
    if !state.candidates.borrow().0.is_empty() {
        settle_candidates(state, &table, &new, true)?;
    }
    record_insert(state, &table, &new)
}

/// `crsql_capture_candidate(table, ordinal, key…)`
pub fn candidate(state: &State, call: &Call<'_>) -> Result<()> {
    state.join()?;
    let table = table_of(state, &call.args())?;
    let ValueRef::Integer(ordinal) = call.arg(1) else { return Err(not_ours()) };
    let key = call.args().skip(2).iter().map(|value| value.to_owned_value()).collect();
    state.quick.take();
    state.candidates.borrow_mut().push(Candidate { table: table.id, ordinal, key });
    Ok(())
}

/// A row of `args` (a table's id, the terms of a key) is about to be inserted with OR REPLACE: finds the rows that
/// stand in its way, where nothing but the key and the rowid is unique.
pub fn find_candidates(state: &State, args: &Args<'_>) -> Result<()> {
    let table = table_of(state, args)?;
    let (_, key) = place_and_key(&table, &args.skip(1))?;
    find_candidate(state, &table, false, &key)?;
    // SQLite puts -1 where the statement gives no rowid.
    match (table.shape, args.get(1)) {
        (Shape::Rowid(_), rowid @ ValueRef::Integer(given)) if given != -1 => {
            find_candidate(state, &table, true, &[rowid])
        }
        _ => Ok(()),
    }
}

fn find_candidate(state: &State, table: &Table, by_rowid: bool, place: &[ValueRef<'_>]) -> Result<()> {
    let statement = table.statement(state.db, Use::Candidate { by_rowid }, || {
        let rowid = match table.shape {
            Shape::Rowid(name) => format!("{name}, "),
            _ => String::new(),
        };
        let condition = if by_rowid { table.place_condition() } else { table.collated_key_condition() };
        format!("SELECT {rowid}{} FROM {} WHERE {condition}", table.key_list(), table.sql_name())
    })?;
    let found = statement.borrow_mut().query_row(place, |row| {
        Ok((0..row.column_count()).map(|at| row.column_value(at).to_owned_value()).collect::<Vec<_>>())
    })?;
    if let Some(key) = found {
        state.quick.take();
        state.candidates.borrow_mut().push(Candidate { table: table.id, ordinal: i64::from(by_rowid), key });
    }
    Ok(())
}

/// The write came through: candidates that are gone were replaced by it, without a delete trigger.
fn settle_candidates(state: &State, table: &Table, written: &Args<'_>, is_new: bool) -> Result<()> {
    let mine: Vec<Candidate> = {
        let mut candidates = state.candidates.borrow_mut();
        let all = std::mem::take(&mut candidates.0);
        let (mine, others) = all.into_iter().partition(|known| known.table == table.id);
        candidates.0 = others;
        mine
    };
    let mut gone: Vec<Vec<crsql_core::value::Value>> = Vec::new();
    for candidate in mine {
        let key: Vec<ValueRef<'_>> = candidate.key.iter().map(|value| value.as_ref()).collect();
        // The written row itself may stand at a replaced row's place; for a packed key it then has its identity.
        let is_itself = !gone.contains(&candidate.key)
            && match table.shape {
                Shape::Packed => false,
                _ => written.get(0).same(&key[0]),
            };
        let places = if table.shape == Shape::Packed { &key[..] } else { &key[..1] };
        let exists = super::alter::exists(state, table, places)?;
        let is_gone = (is_new && is_itself && table.shape != Shape::Integer) || !exists;
        if !is_gone || gone.contains(&candidate.key) {
            continue;
        }
        match (table.shape, key[0]) {
            (Shape::Integer, ValueRef::Integer(rowid)) => {
                drop_row(state, table, &key)?;
                state.ops.borrow_mut().push_row(table.id, Kind::Delete, rowid, 0);
            }
            (Shape::Rowid(_), ValueRef::Integer(rowid)) => delete_keyed(state, table, rowid, &key[1..])?,
            (Shape::Packed, _) => delete_keyed(state, table, 0, &key)?,
            _ => continue,
        }
        gone.push(candidate.key.clone());
    }
    Ok(())
}
