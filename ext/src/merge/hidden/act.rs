//! What a delete of the parent does to rows that refer to it, where the table says `'{"fk":"cascade"}'`.
//!
//! The rows that its author knew have gone with the parent, or were changed, by SQLite's own hands there, and that came
//! as changes like any other. What is left are rows whose authors did not know of the delete. Each is seen to by the
//! site that wrote the reference, as a write of its own, when it hears of the delete; everybody else hides the row until
//! that write comes. So one site writes and not all of them, and what the others show follows from what they hold.

use super::orphans::{self, Missing};
use super::{Hidden, forget};
use crate::capture;
use crate::catalog::{Link, OnDelete, Shape, Table};
use crate::merge::row::{self, Found};
use crate::merge::{RowPlace, base, die_again};
use crate::park;
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, RowClock, Run};
use crsql_core::merge::CellClock;
use crsql_core::value::Value;
use smallvec::SmallVec;

/// Does to an orphan what its FOREIGN KEY says, if that is this site's to do. False: it waits.
pub fn act(state: &State, table: &Table, key: &[u8], hidden: &Hidden, missing: &Missing) -> Result<bool> {
    let link = &table.links[missing.link];
    let Some(action) = link.on_delete.filter(|_| link.is_key) else { return Ok(false) };
    if !is_ours(state, hidden, link)? || !is_dead(state, link, &missing.wanted)? {
        return Ok(false);
    }
    let values = match action {
        OnDelete::Cascade => {
            delete(state, table, key, hidden)?;
            return Ok(true);
        }
        OnDelete::SetNull => vec![Value::Null; link.columns.len()],
        OnDelete::SetDefault => {
            let defaults = link.columns.iter().map(|column| orphans::default_of(state, table, column));
            defaults.collect::<Result<Vec<_>>>()?
        }
    };
    set(state, table, key, hidden, link, &values)
}

/// True if the reference was written here.
fn is_ours(state: &State, hidden: &Hidden, link: &Link) -> Result<bool> {
    let clock = |change: &park::Loose| CellClock { col_version: change.col_version, stamp: change.stamp };
    let is_reference = |change: &park::Loose| {
        !change.is_row() && link.columns.iter().any(|c| c == park::column_of(&change.cid))
    };
    let changes = || hidden.changes.iter().map(|(_, change)| change);
    // Where the key is what refers, whoever wrote the row last wrote it.
    let of_reference = changes().filter(|change| is_reference(change)).map(clock).max();
    let author = of_reference.or_else(|| changes().map(clock).max());
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    let own = store.site();
    let own = store.sites.id(state.db, own)?;
    Ok(author.is_some_and(|author| author.stamp.site == own))
}

/// True if the parent is known to have been deleted, which is more than not being there.
fn is_dead(state: &State, link: &Link, wanted: &[u8]) -> Result<bool> {
    let Ok(parent) = state.table(link.parent) else { return Ok(false) };
    let Ok(key) = crsql_core::pack::unpack(wanted) else { return Ok(false) };
    if super::pk_of(state, &parent, wanted)?.is_some() {
        return Ok(false);
    }
    Ok(row::clock_by_key(state, &parent, &key)?.is_some_and(|clock| !clock.is_alive()))
}

/// Deletes a hidden row.
fn delete(state: &State, table: &Table, key: &[u8], hidden: &Hidden) -> Result<()> {
    forget(state, table, key, hidden)?;
    let values = crsql_core::pack::unpack(key).map_err(crate::sqlite::Error::refused)?;
    let place = match (table.shape, values.first()) {
        (Shape::Integer, Some(ValueRef::Integer(rowid))) => RowPlace { pk: Vec::new(), rowid: Some(*rowid) },
        _ => RowPlace { pk: key.to_vec(), rowid: None },
    };
    if hidden.cl > 1 {
        // Dead, it is as it was before this life; and so this life and its end come after that.
        let clock = RowClock { cl: hidden.cl - 1, groups: SmallVec::new() };
        state.record_merge(table.id, true, Run::single(place.dead_key(table), clock));
    }
    die_again(state, table, &place);
    if table.shape != Shape::Integer {
        state.note_tombstone(table.id)?;
    }
    orphans::changed(state, table.id, key.to_vec(), true);
    Ok(())
}

/// Gives a hidden row other references, and shows it.
fn set(
    state: &State,
    table: &Table,
    key: &[u8],
    hidden: &Hidden,
    link: &Link,
    values: &[Value],
) -> Result<bool> {
    let mut cells: Vec<(u32, ValueRef<'_>)> = Vec::new();
    for (name, value) in link.columns.iter().zip(values) {
        // A key is not set, and a value that is there already changes nothing.
        let Some(column) = table.column_of_cell(name) else { return Ok(false) };
        if orphans::value_of(state, table, hidden, name)? == *value {
            return Ok(false);
        }
        cells.push((column.id, value.as_ref()));
    }
    cells.sort_by_key(|(id, _)| *id);
    super::leave(state, table, key)?;
    park::write_row(state, table, &hidden.pk, &hidden.changes)?;
    let key_values = crsql_core::pack::unpack(key).map_err(crate::sqlite::Error::refused)?;
    let Found { place, clock, .. } = row::find(state, table, &key_values)?;
    if !clock.is_some_and(|clock| clock.is_alive()) {
        // It clashes with another, and is hidden for that as well: it waits, and is not tried again at once.
        state.in_doubt.borrow_mut().remove(&(table.id, key.to_vec()));
        return Ok(super::pk_of(state, table, key)?.is_none());
    }
    let columns: Columns = cells.iter().map(|(id, _)| *id).collect();
    let cells: Vec<ValueRef<'_>> = cells.iter().map(|(_, value)| *value).collect();
    match base::update(state, table, &columns, place.rowid, &key_values, &cells) {
        Ok(_) => {
            let (rowid, pk) = (place.rowid.unwrap_or_default(), &key_values);
            capture::record_changed(state, table, rowid, pk, &columns)?;
            orphans::suspect(state, table.id, key.to_vec());
            Ok(true)
        }
        Err(error) if error.is_constraint() => {
            // NOT NULL, say: it stays an orphan.
            orphans::hide(state, table, key)?;
            state.in_doubt.borrow_mut().remove(&(table.id, key.to_vec()));
            match super::load(state, table, key)? {
                Some(hidden) => match orphans::missing(state, table, &hidden)? {
                    Some(missing) => orphans::wait(state, table, key, &hidden, &missing).map(|()| true),
                    None => Ok(true),
                },
                None => Ok(true),
            }
        }
        Err(error) => Err(error),
    }
}
