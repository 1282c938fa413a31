//! Columns that have a type: what is stored of them fits their clocks, and makes what the base table shows.

use super::Report;
use crate::catalog::{Shape, Table, Typed};
use crate::changes::RowReader;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Key, RowClock, scan};
use crate::typed::{is_stored_as, shown_by, stored};
use crsql_core::key::canonical_packed_key;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Compares what is stored of the typed columns of a table with its clocks and its rows.
pub fn check(state: &State, table: &Rc<Table>, report: &mut Report) -> Result<()> {
    if table.typed.is_empty() {
        return Ok(());
    }
    let layer = state.layer()?;
    let mut reader = RowReader::new(state, table.clone())?;
    let mut seen = 0;
    scan::table(state.db, &layer, table.id, &mut |run| {
        for index in (0..run.count).filter(|_| run.clock.is_alive()) {
            let (place, clock) = (run.slice_key(index), run.clock_at(index));
            let found = match &place {
                Key::Int(rowid) => reader.seek(*rowid)?,
                Key::Bytes(key) => reader.seek_packed(key)?,
            };
            if !found {
                // That is told elsewhere.
                continue;
            }
            let key = facts_key(table, &reader, place)?;
            for typed in &table.typed {
                seen += check_row(state, table, typed, &reader, &key, &clock, report)?;
            }
        }
        Ok(())
    })?;
    let mut count = state.db.prepare("SELECT count(*) FROM main.__crsql_typed WHERE table_id = ?1")?;
    let stored = count.query_i64(&[ValueRef::Integer(i64::from(table.id))])?.unwrap_or(0);
    if stored != seen {
        let detail = format!("{} of the values stored for its columns are of no live row", stored - seen);
        report.add("values without row", &table.name, detail);
    }
    Ok(())
}

fn facts_key(table: &Table, reader: &RowReader, place: Key) -> Result<Key> {
    if !matches!(table.shape, Shape::Rowid(_)) {
        return Ok(place);
    }
    let mut stored = Vec::new();
    reader.key(&mut stored)?;
    let key = canonical_packed_key(&stored, &table.key_columns).map_err(Error::refused)?;
    Ok(Key::Bytes(key.bytes.into()))
}

/// Checks one column of one row, and tells how many blobs it has: none or one.
fn check_row(
    state: &State,
    table: &Table,
    typed: &Typed,
    reader: &RowReader,
    key: &Key,
    clock: &RowClock,
    report: &mut Report,
) -> Result<i64> {
    // A text has more than one level, and its base lies on the first.
    let has_base = typed.level == 0 && clock.group_of(typed.register).is_some();
    let groups = clock.groups.iter().filter(|group| group.columns.contains(typed.slot));
    let sites: BTreeSet<u32> = groups.map(|group| group.site).collect();
    let Some(facts) = stored(state, table.id, typed, key)? else {
        if sites.len() + usize::from(has_base) > usize::from(typed.level == 0) {
            let detail = format!("column {:?} of row {key:?} has clocks whose values are lost", typed.name);
            report.add("clock without value", &table.name, detail);
        }
        return Ok(0);
    };
    let known: BTreeSet<u32> = facts.cells.iter().map(|(site, _)| *site).collect();
    let is_same = if typed.kind.is_parted() { known == sites } else { known.len() == sites.len() };
    if facts.base.is_some() != has_base || !is_same {
        let detail = format!("column {:?} of row {key:?} has values that don't fit its clocks", typed.name);
        report.add("clock without value", &table.name, detail);
    }
    let position = reader.position(typed.slot);
    if let (Some(at), Some(shown)) = (position, shown_by(state, table, typed, key, &facts, clock.cl)?)
        && !is_stored_as(&shown, reader.value(at), typed.affinity)
    {
        let detail = format!("column {:?} of row {key:?} does not show what it holds", typed.name);
        report.add("wrong value shown", &table.name, detail);
    }
    Ok(1)
}
