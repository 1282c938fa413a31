//! `crsql_gc()`: gives back the space of what nobody can need any more.

use crate::alter::{atomically, enter, forget_clocks};
use crate::capture::enlist;
use crate::collect::{self, Sweep};
use crate::json::Object;
use crate::sqlite::{Error, Result};
use crate::state::State;

/// Folds the log, drops the clocks of tables that were dropped, and the tombstones that every registered live site
/// holds. The JSON says what went and, of what stays, why.
pub fn gc(state: &State) -> Result<String> {
    if state.db.is_read_only() {
        return Err(Error::ReadOnly("crsql_gc() can't collect in a read-only database".to_owned()));
    }
    if !state.db.is_autocommit() {
        // The transaction may be an alter that has dropped a table and not created it again yet.
        return Err(Error::refused("crsql_gc() can't run inside a transaction; commit first"));
    }
    enter(state)?;
    let (mut folded, mut tables, mut segments) = (0, 0, 0);
    let mut sweep = Sweep::default();
    if state.store.borrow_mut().exists()? {
        atomically(state, || {
            enlist(state)?;
            folded = fold(state)?;
            for id in gone(state)? {
                segments += count_segments(state, id)?;
                tables += 1;
                forget_clocks(state, id)?;
            }
            sweep = collect::sweep(state)?;
            Ok(())
        })?;
    }
    Ok(Object::new()
        .number("log_rows_folded", folded)
        .number("dropped_tables", tables)
        .number("dropped_segments", segments)
        .number("tombstones_collected", sweep.dropped)
        .number("tombstones_kept", sweep.kept)
        .number("live_members", sweep.live)
        .number("expired_members", sweep.expired)
        .text("tombstones", explain(&sweep))
        .number("free_bytes", free_bytes(state)?)
        .end())
}

fn explain(sweep: &Sweep) -> &'static str {
    match sweep {
        Sweep { kept: 0, .. } => "none is left",
        Sweep { live: 0, .. } => {
            "kept: a tombstone goes only when every registered site holds its delete, and no site is registered; \
             see crsql_register_peer()"
        }
        _ => {
            "kept: a live registered site lacks their deletes, or has not said what it holds, or what it wrote \
             itself has not all come; see crsql_peers and crsql_peer_vector()"
        }
    }
}

/// What the file has to spare: SQLite uses it again, `VACUUM` gives it back.
fn free_bytes(state: &State) -> Result<i64> {
    let one = |sql: &str| -> Result<i64> { Ok(state.db.prepare(sql)?.query_i64(&[])?.unwrap_or(0)) };
    Ok(one("PRAGMA main.freelist_count")? * one("PRAGMA main.page_size")?)
}

fn fold(state: &State) -> Result<u64> {
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    let rows = store.tail().rows;
    if rows > 0 {
        store.fold()?;
    }
    Ok(rows)
}

/// Tables that neither a trigger nor a name in the schema leads to.
fn gone(state: &State) -> Result<Vec<u32>> {
    let mut select = state.db.prepare(
        "SELECT id FROM main.__crsql_table AS t
         WHERE (t.name <> '' OR EXISTS (SELECT 1 FROM main.__crsql_segment WHERE table_id = t.id))
           AND NOT EXISTS (SELECT 1 FROM main.sqlite_master AS m
             WHERE m.type = 'table' AND m.name = t.name COLLATE NOCASE
                OR m.type = 'trigger' AND m.name = '__crsql_' || t.id || '_insert')
         UNION
         SELECT table_id FROM main.__crsql_segment WHERE table_id NOT IN (SELECT id FROM main.__crsql_table)",
    )?;
    let mut ids = Vec::new();
    while select.step()? {
        ids.push(select.column_i64(0) as u32);
    }
    Ok(ids)
}

fn count_segments(state: &State, table: u32) -> Result<i64> {
    let mut count = state.db.prepare("SELECT count(*) FROM main.__crsql_segment WHERE table_id = ?1")?;
    Ok(count.query_i64(&[crate::sqlite::ValueRef::Integer(i64::from(table))])?.unwrap_or(0))
}
