//! `crsql_rebootstrap(changeset)`: the way back for a replica that was left behind.
//!
//! Others have collected deletes that it lacks, so it begins again with everything that one of them holds, and adds
//! what that one did not have: to known rows as it was, rows made here that the other knows nothing of as new ones. Updates of
//! rows whose delete was collected go with them.

use crate::alter::{atomically, enter};
use crate::capture::{enlist, insert_keyed};
use crate::catalog::{Shape, Table, Typed};
use crate::changeset::{Since, apply, build};
use crate::collect::{Source, merge_as};
use crate::json::Object;
use crate::merge;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Kind, MISSING, ROW, Tail};
use crsql_core::change::{Change, Fact};
use crsql_core::changeset::{Changeset, Compress, Limits, write_changes};
use crsql_core::collect::was_made_by;
#[cfg(feature = "text")]
use crsql_core::column::ColumnType;
use crsql_core::ids::SiteId;
use crsql_core::value::Value;
use crsql_core::version_vector::VersionVector;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What the sender of the changeset did not have of one row.
struct Unsent {
    changes: Vec<Change>,
    /// It has nothing of the row, and the row was made here.
    is_whole: bool,
}

/// Begins again with a whole changeset; the JSON tells what became of the own writes. `written` is a changeset with own
/// transactions as they were: a row of which every cell was written again since does not tell any more who made it.
pub fn rebootstrap(state: &State, bytes: &[u8], written: Option<&[u8]>) -> Result<String> {
    const NAME: &str = "crsql_rebootstrap";
    let changeset = Changeset::open(bytes, &Limits::default())
        .map_err(|e| Error::refused(format_args!("{NAME}: {e}; ask the sender for it again")))?;
    let Some(told) = changeset.told().filter(|told| told.is_whole) else {
        return Err(Error::refused(format_args!(
            "{NAME}: this is not everything that a replica holds which has collected deletes; \
             pass what crsql_changeset() without arguments gave there, or use crsql_apply()"
        )));
    };
    if !state.db.is_autocommit() {
        return Err(Error::refused(format_args!("{NAME}() can't run inside a transaction; commit first")));
    }
    if changeset.tie_break() != state.tie_break()? {
        return Err(Error::refused(format_args!(
            "{NAME}: the sender orders writes by another \"tie-break\""
        )));
    }
    let made = match written {
        None => BTreeSet::new(),
        Some(bytes) => made_by(crate::site::site_id(state)?, changeset.claims(), bytes)?,
    };
    enter(state)?;
    let (mut kept, mut renewed, mut dropped) = (0_u64, 0_u64, 0_u64);
    let report = atomically(state, || {
        state.create()?;
        state.check_schema()?;
        enlist(state)?;
        let unsent = unsent(state, changeset.claims(), &made)?;
        wipe(state)?;
        state.store.borrow_mut().set_collected(told.collected.clone())?;
        let _source = merge_as(state, Source::Own);
        let report = apply(state, bytes)?;
        for ((table, pk), row) in unsent {
            match state.table_named(&table)? {
                None => dropped += 1,
                Some(table) => match restore(state, &table, &pk, &row)? {
                    Fate::Kept => kept += 1,
                    Fate::Renewed => renewed += 1,
                    Fate::Dropped => dropped += 1,
                },
            }
        }
        Ok(report)
    })?;
    state.store.borrow_mut().forget();
    let object = Object::new().number("applied", report.applied).number("parked", report.parked);
    Ok(object.number("kept", kept).number("renewed", renewed).number("dropped", dropped).end())
}

/// A row, by table and packed key, and its incarnation.
type Made = BTreeSet<(String, Vec<u8>, u64)>;

/// The rows that a site made, as its transactions tell.
fn made_by(site: SiteId, sent: &VersionVector, bytes: &[u8]) -> Result<Made> {
    let changes = Changeset::changes(bytes).map_err(Error::refused)?.into_iter();
    let is_unsent = |change: &Change| {
        change.stamp.site == site && !sent.contains(site, change.stamp.version) && was_made_by([&change.fact])
    };
    Ok(changes.filter(is_unsent).map(|change| (change.table, change.pk, change.cl)).collect())
}

/// By table and packed key, what is held here and is not in `sent`. Of changes without identity nobody can tell.
fn unsent(state: &State, sent: &VersionVector, made: &Made) -> Result<BTreeMap<(String, Vec<u8>), Unsent>> {
    let bytes = build(state, &Since::Vector(sent.clone()), Compress::No)?;
    let mut rows: BTreeMap<(String, Vec<u8>), Unsent> = BTreeMap::new();
    for change in Changeset::changes(&bytes).map_err(Error::refused)? {
        if change.stamp.has_identity() {
            let row = rows.entry((change.table.clone(), change.pk.clone()));
            row.or_insert_with(|| Unsent { changes: Vec::new(), is_whole: false }).changes.push(change);
        }
    }
    for ((name, pk), row) in &mut rows {
        let Some(table) = state.table_named(name)? else { continue };
        let key = crsql_core::pack::unpack(pk).map_err(Error::refused)?;
        let clock = merge::clock_by_key(state, &table, &key)?;
        let known = |change: &Change| made.contains(&(name.clone(), pk.clone(), change.cl));
        row.is_whole = was_made_by(row.changes.iter().map(|change| &change.fact))
            || row.changes.first().is_some_and(known);
        for group in clock.iter().flat_map(|clock| &clock.groups) {
            let site = state.store.borrow_mut().sites.id(state.db, group.site)?;
            row.is_whole &= group.version > 0 && !sent.contains(site, group.version);
        }
    }
    Ok(rows)
}

fn slot_of(table: &Table, change: &Change) -> Option<u32> {
    match &change.fact {
        Fact::Cell { column, .. } if !change.is_delete() => {
            table.column_of_cell(column).map(|column| column.id)
        }
        _ => Some(ROW),
    }
}

/// Empties the replicated tables and forgets their clocks; the own version goes on from where it is.
fn wipe(state: &State) -> Result<()> {
    state.spill()?;
    let tables: Vec<Rc<Table>> = state.tables()?;
    {
        let _mute = state.mute();
        let is_unenforced = tables.iter().any(|table| table.is_unenforced);
        let empty = || {
            tables.iter().try_for_each(|table| state.db.exec(&format!("DELETE FROM {}", table.sql_name())))
        };
        state.db.without_triggers(|| {
            if is_unenforced { state.db.without_foreign_keys(empty) } else { empty() }
        })?;
    }
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    if store.tail().rows > 0 {
        store.fold()?;
    }
    state.db.exec(
        "DELETE FROM main.__crsql_segment; DELETE FROM main.__crsql_typed; DELETE FROM main.__crsql_parked",
    )?;
    crate::merge::hidden::forget_all(state, None)?;
    // What is missing of the own versions after a restore is missing still.
    let missing = [ValueRef::Integer(i64::from(MISSING))];
    state.db.prepare("DELETE FROM main.__crsql_vector WHERE site & ?1 = 0")?.execute(&missing)?;
    store.sites.forget();
    let tail = store.tail();
    store.set_state(Tail { generation: tail.generation + 1, ..tail })
}

enum Fate {
    Kept,
    Renewed,
    Dropped,
}

/// What a column that has a type showed of a row.
fn shown(table: &Table, typed: &Typed, row: &Unsent) -> Option<Value> {
    if typed.level > 0 {
        return None;
    }
    let (mut base, mut cells) = (None, Vec::new());
    #[cfg(feature = "text")]
    let mut texts = Vec::new();
    for change in &row.changes {
        match (&change.fact, slot_of(table, change)) {
            (Fact::Cell { value, .. }, Some(slot)) if slot == typed.register => base = Some(value.clone()),
            #[cfg(feature = "text")]
            (Fact::Cell { value, .. }, Some(slot)) if typed.kind == ColumnType::Text => {
                let level = table.typed.iter().find(|t| t.slot == slot && t.register == typed.register);
                texts.extend(level.map(|level| (change.stamp.site, level.level, value.clone())));
            }
            (Fact::Cell { value, .. }, Some(slot)) if slot == typed.slot => {
                cells.push((change.stamp.site, value.clone()));
            }
            _ => {}
        }
    }
    #[cfg(feature = "text")]
    if typed.kind == ColumnType::Text {
        let cl = row.changes.first().map_or(1, |change| change.cl);
        return crsql_core::text::show(base.as_ref(), &texts, cl);
    }
    crsql_core::column::show(typed.kind, base.as_ref(), &cells)
}

fn restore(state: &State, table: &Table, pk: &[u8], row: &Unsent) -> Result<Fate> {
    let key = crsql_core::pack::unpack(pk).map_err(Error::refused)?;
    let is_delete = row.changes.iter().any(Change::is_delete);
    if is_delete || merge::clock_by_key(state, table, &key)?.is_some() {
        let bytes = write_changes(state.tie_break()?, &row.changes, &VersionVector::default());
        apply(state, &bytes)?;
        return Ok(Fate::Kept);
    }
    if !row.is_whole {
        return Ok(Fate::Dropped);
    }
    let mut values: Vec<(u32, ValueRef<'_>)> = Vec::new();
    for change in &row.changes {
        if let (Fact::Cell { value, .. }, Some(slot)) = (&change.fact, slot_of(table, change))
            && table.typed(slot).is_none()
        {
            values.push((slot, value.as_ref()));
        }
    }
    let shown: Vec<(u32, Value)> =
        table.typed.iter().filter_map(|typed| Some((typed.slot, shown(table, typed, row)?))).collect();
    values.extend(shown.iter().map(|(slot, value)| (*slot, value.as_ref())));
    values.sort_by_key(|(slot, _)| *slot);
    let columns: Columns = values.iter().map(|(slot, _)| *slot).collect();
    let params: Vec<ValueRef<'_>> =
        key.iter().copied().chain(values.iter().map(|(_, value)| *value)).collect();
    let insert = merge::insert_statement(state, table, &columns)?;
    // Triggers did their work when the row was first written, and what they wrote is among the unsent rows.
    let inserted = {
        let _mute = state.mute();
        let insert = || merge::insert_with(state, &insert, &params);
        state.db.without_triggers(|| {
            if table.is_unenforced { state.db.without_foreign_keys(insert) } else { insert() }
        })
    };
    match inserted {
        Ok(rowid) => {
            if !table.links.is_empty() {
                merge::hidden::suspect_all(state, table.id);
            }
            match table.shape {
                Shape::Integer => state.record(table.id, Kind::Insert, rowid, &table.all)?,
                _ => insert_keyed(state, table, rowid, &key)?,
            }
            Ok(Fate::Renewed)
        }
        // Together with what came from elsewhere the row is not valid any more.
        Err(error) if error.is_constraint() => Ok(Fate::Dropped),
        Err(error) => Err(error),
    }
}
