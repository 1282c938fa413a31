//! What a commit does to parked changes of the rows that it wrote.

use super::{Loose, SELECT, all_of_row, column_of, is_stale, read};
use crate::merge::hidden;
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::ROW;
use crsql_core::key::canonical_packed_key;
use crsql_core::limits::COL_VERSION_MAX;
use std::collections::BTreeSet;

/// Before a commit that wrote rows: drops what is parked of rows that have begun another incarnation, and lets
/// local writes dominate what is parked of theirs, since that, too, was seen here.
pub fn sweep(state: &State) -> Result<()> {
    let mut parked: Vec<(i64, Loose)> = Vec::new();
    // Only of rows that were written, unless some of what was written is in the store already.
    let tables: BTreeSet<u32> = state.ops.borrow().pending().iter().map(|op| op.table).collect();
    let tables: Vec<_> = tables.into_iter().filter_map(|id| state.table(id).ok()).collect();
    let is_all = state.store.borrow().is_spilled()
        || tables.iter().any(|table| table.is_renamed || !table.formers.is_empty());
    if is_all {
        let sql = SELECT.replace(" FROM", ", id FROM");
        let mut select = state.db.prepare(&sql)?;
        while select.step()? {
            parked.push((select.column_i64(10), read(&select)?));
        }
        return sweep_changes(state, &parked);
    }
    for table in tables {
        let name = [ValueRef::Text(table.name.as_bytes())];
        let mut places: Vec<Vec<u8>> = Vec::new();
        {
            let sql = "SELECT DISTINCT pk FROM main.__crsql_parked WHERE table_name = ?1";
            let mut select = state.pool.prepare(state.db, sql)?;
            let mut rows = select.query(&name)?;
            while rows.step()? {
                places.push(rows.column_blob(0).to_vec());
            }
        }
        if places.is_empty() {
            continue;
        }
        // What waits is parked under a key as somebody spelled it.
        let written = hidden::written_keys(state, &table)?;
        for pk in places {
            let key = canonical_packed_key(&pk, &table.key_columns);
            if key.is_ok_and(|key| written.contains(&key.bytes)) {
                parked.extend(all_of_row(state, &table.name, &pk)?);
            }
        }
    }
    sweep_changes(state, &parked)
}

/// As [`sweep`], of these changes.
pub fn sweep_changes(state: &State, parked: &[(i64, Loose)]) -> Result<()> {
    let mut delete = state.pool.prepare(state.db, "DELETE FROM main.__crsql_parked WHERE id = ?1")?;
    for (id, change) in parked {
        dominate(state, change)?;
        if is_stale(state, change)? {
            delete.execute(&[ValueRef::Integer(*id)])?;
        }
    }
    Ok(())
}

/// Lets this transaction's write of a row dominate a parked change, as if that had been merged before: by its column
/// version where the two are of one cell, else by a new incarnation.
fn dominate(state: &State, change: &Loose) -> Result<()> {
    let Some(table) = state.table_named(&change.table)? else { return Ok(()) };
    let Ok(key) = crsql_core::pack::unpack(&change.pk) else { return Ok(()) };
    let table = &table;
    let Some((place, clock)) = crate::merge::written_here(state, table, &key)? else { return Ok(()) };
    if !clock.is_alive() {
        // Deleted here, over an incarnation that waits: the delete is of that one as well.
        let lives = if (clock.cl..=clock.cl + 64).contains(&change.cl) {
            (change.cl - clock.cl).div_ceil(2)
        } else {
            0
        };
        (0..lives).for_each(|_| crate::merge::die_again(state, table, &place));
        return Ok(());
    }
    let slot =
        if change.is_row() { Some(ROW) } else { table.column_of_cell(column_of(&change.cid)).map(|c| c.id) };
    let Some(slot) = slot else { return Ok(()) };
    if change.cl == clock.cl {
        if table.typed(slot).is_some_and(|typed| typed.slot == slot) {
            // Writes of such a column do not contend for one clock.
            return Ok(());
        }
        let local = state.store.borrow().next_local();
        let group = clock.group_of(slot).filter(|g| g.site == local.site && g.version == local.version);
        let Some(group) =
            group.filter(|g| slot != ROW && (g.col_version..COL_VERSION_MAX).contains(&change.col_version))
        else {
            return Ok(());
        };
        crate::merge::raise(state, table, &place, group, slot, change.col_version + 1);
        return Ok(());
    }
    // A clock far ahead would take as many incarnations; it can only be hostile, and stays parked.
    if change.cl < clock.cl || change.cl > clock.cl + 64 {
        return Ok(());
    }
    for _ in 0..=((change.cl - clock.cl) / 2) {
        crate::merge::begin_again(state, table, &place)?;
    }
    Ok(())
}
