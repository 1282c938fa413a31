//! Parts of counters on the way out of a fork: see [`crate::reissue`].
//!
//! A part is a running total. When two histories of one site exist, what one of them added since they parted can't be
//! told from what both had before: under a new name the whole would be counted twice. So the part is given up, and
//! taken anew from the replicas that have it. One that was first written after that holds nothing from before, and
//! goes on under the new name like everything else.

use super::capture::show;
use super::{facts, facts_key, store};
use crate::catalog::{Shape, Table, Typed};
use crate::merge::shown_value;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key, Layer, RowClock, scan};
use crsql_core::column::ColumnType;
use crsql_core::key::canonical_key;
use crsql_core::pack::unpack;
use crsql_core::value::Value;

/// Gives up the parts that the site with this ordinal wrote in versions above `keep`. Tells of how many rows. The transaction's own writes must be stored before.
pub fn drop_parts(state: &State, site: u32, keep: u64) -> Result<usize> {
    let mut changed = Layer::new();
    let layer = state.store.borrow_mut().overlay()?;
    for table in state.tables()?.iter().filter(|table| table.typed.iter().any(|t| t.kind.is_parted())) {
        let mut places = Vec::new();
        scan::table(state.db, &layer, table.id, &mut |run| {
            let has_parts = run.clock.groups.iter().any(|g| g.site == site && g.columns.has_parts());
            for index in (0..run.count).filter(|_| has_parts) {
                let clock = run.clock_at(index);
                if !forked(&clock, site, keep).is_empty() {
                    places.push((run.slice_key(index), clock));
                }
            }
            Ok(())
        })?;
        for (place, clock) in places {
            let rest = drop_from_row(state, table, &place, &clock, site, keep)?;
            changed.insert((table.id, place), Some(rest));
        }
    }
    if !changed.is_empty() {
        state.store.borrow_mut().rewrite(&changed)?;
    }
    Ok(changed.len())
}

/// The slots of such parts.
fn forked(clock: &RowClock, site: u32, keep: u64) -> Columns {
    let mut slots = Columns::new();
    for group in clock.groups.iter().filter(|g| g.site == site && g.version > keep) {
        slots.union_with(&group.columns.parts());
    }
    slots
}

fn drop_from_row(
    state: &State,
    table: &Table,
    place: &Key,
    clock: &RowClock,
    site: u32,
    keep: u64,
) -> Result<RowClock> {
    let slots = forked(clock, site, keep);
    let (rowid, pk, key) = row_at(state, table, place)?;
    let key: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
    let facts_key = facts_key(table, rowid, &pk);
    #[cfg(feature = "text")]
    for typed in table.typed.iter().filter(|typed| typed.kind == ColumnType::Text && typed.level == 0) {
        let shown = || shown_value(state, table, Some(rowid), &key, typed.slot);
        let read = |level: &Typed| facts(state, table, level, &facts_key, clock, shown);
        let mut held = super::text::Held::new(table, typed, Vec::new(), read)?;
        let mut is_changed = false;
        for (_, facts) in held.levels_mut().filter(|(level, _)| slots.contains(level.slot)) {
            facts.cells.retain(|(author, _)| *author != site);
            facts.revision = 0;
            is_changed = true;
        }
        if is_changed {
            held.store(state, table.id, &facts_key, |level| slots.contains(level.slot))?;
            let now = held.shown(state, clock.cl)?.unwrap_or(Value::text(""));
            show(state, table, typed, rowid, &key, now.as_ref())?;
        }
    }
    let is_summed = |typed: &&Typed| typed.kind != ColumnType::Text && slots.contains(typed.slot);
    for typed in table.typed.iter().filter(is_summed) {
        let shown = || shown_value(state, table, Some(rowid), &key, typed.slot);
        let mut facts = facts(state, table, typed, &facts_key, clock, shown)?;
        facts.cells.retain(|(author, _)| *author != site);
        store(state, table.id, typed, &facts_key, &facts)?;
        let now = facts.shown(state, typed)?.unwrap_or(Value::Integer(0));
        show(state, table, typed, rowid, &key, now.as_ref())?;
    }
    let mut rest = clock.clone();
    for group in rest.groups.iter_mut().filter(|group| group.site == site) {
        group.columns.subtract(&slots);
    }
    rest.groups.retain(|group| !group.columns.is_empty());
    Ok(rest)
}

/// The rowid, the canonical packed key and the key's values of a live row.
pub(super) fn row_at(state: &State, table: &Table, place: &Key) -> Result<(i64, Vec<u8>, Vec<Value>)> {
    let owned = |values: Vec<ValueRef<'_>>| values.iter().map(ValueRef::to_owned_value).collect::<Vec<_>>();
    match (place, table.shape) {
        (Key::Bytes(pk), _) => Ok((0, pk.to_vec(), owned(unpack(pk).map_err(Error::refused)?))),
        (Key::Int(rowid), Shape::Rowid(name)) => {
            let sql = format!("SELECT {} FROM {} WHERE {name} = ?1", table.key_list(), table.sql_name());
            let key = state.db.prepare(&sql)?.query_row(&[ValueRef::Integer(*rowid)], |row| {
                Ok((0..table.key_names.len()).map(|at| row.column_value(at).to_owned_value()).collect())
            })?;
            let key: Vec<Value> = key.unwrap_or_default();
            let values: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
            let pk = canonical_key(&values, &table.key_columns).map_err(Error::refused)?.bytes;
            Ok((*rowid, pk, key))
        }
        (Key::Int(rowid), _) => Ok((*rowid, Vec::new(), vec![Value::Integer(*rowid)])),
    }
}
