//! `crsql_stats()`: how much there is of everything.

use crate::alter::enter;
use crate::json::{Object, array};
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::scan;

/// What one table's clocks amount to.
#[derive(Default)]
struct Count {
    rows: u64,
    tombstones: u64,
    segments: i64,
    bytes: i64,
}

/// The numbers as a JSON object. It reads every clock, so it takes a moment in a large database.
pub fn stats(state: &State) -> Result<String> {
    enter(state)?;
    // A statement of its own, so that all numbers are of one moment.
    let mut snapshot = state.db.prepare("SELECT name FROM main.sqlite_master LIMIT 1")?;
    snapshot.step()?;
    if !state.store.borrow_mut().refresh()? {
        return Ok(Object::new()
            .json("tables", "[]")
            .number("db_version", 0)
            .number("site_version", 0)
            .end());
    }
    let mut total = Count::default();
    let mut tables = Vec::new();
    for table in state.tables()? {
        let count = count(state, table.id)?;
        tables.push(
            Object::new()
                .text("table", &table.name)
                .number("rows", count.rows)
                .number("tombstones", count.tombstones)
                .number("segments", count.segments)
                .number("segment_bytes", count.bytes)
                .end(),
        );
        total.rows += count.rows;
        total.tombstones += count.tombstones;
        total.segments += count.segments;
        total.bytes += count.bytes;
    }
    let one = |sql: &str| -> Result<i64> { Ok(state.db.prepare(sql)?.query_i64(&[])?.unwrap_or(0)) };
    let log_bytes = one("SELECT sum(length(data)) FROM main.__crsql_log")?;
    let clocks = (total.rows + total.tombstones).max(1);
    let (tail, site) = {
        let mut store = state.store.borrow_mut();
        let site = store.site();
        (store.tail(), store.sites.id(state.db, site)?)
    };
    Ok(Object::new()
        .json("tables", &array(&tables))
        .number("rows", total.rows)
        .number("tombstones", total.tombstones)
        .number("segments", total.segments)
        .number("segment_bytes", total.bytes)
        .number("log_rows", tail.rows)
        .number("log_entries", one("SELECT count(*) FROM main.__crsql_log")?)
        .number("log_bytes", log_bytes)
        .json("bytes_per_row", &format!("{:.3}", (total.bytes + log_bytes) as f64 / clocks as f64))
        .number("parked", one("SELECT count(*) FROM main.__crsql_parked")?)
        .number("sites", one("SELECT count(*) FROM main.__crsql_site")?)
        .text("site_id", &site.to_string())
        .number("db_version", tail.db_version)
        .number("site_version", tail.version)
        .end())
}

fn count(state: &State, table: u32) -> Result<Count> {
    let mut count = Count::default();
    let layer = state.layer()?;
    scan::table(state.db, &layer, table, &mut |run| {
        let rows = if run.clock.is_alive() { &mut count.rows } else { &mut count.tombstones };
        *rows = rows.saturating_add(run.count);
        Ok(())
    })?;
    let mut stored = state.db.prepare(
        "SELECT count(*), coalesce(sum(length(data)), 0) FROM main.__crsql_segment WHERE table_id = ?1",
    )?;
    stored.query_row(&[ValueRef::Integer(i64::from(table))], |row| {
        (count.segments, count.bytes) = (row.column_i64(0), row.column_i64(1));
        Ok(())
    })?;
    Ok(count)
}
