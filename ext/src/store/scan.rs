//! Reads stored clocks in bulk: a table in key order, or whatever is newer than a position.

use super::clock::{Key, Run};
use super::replay::Layer;
use super::segment::decode;
use super::tables::key_from;
use crate::pool::Pool;
use crate::sqlite::{Db, Result, Statement, ValueRef};
use std::ops::Bound;
use std::rc::Rc;

/// Calls `each` with the runs of `table` in key order, log and pending rows (`layer`) taking the place of
/// what the segments hold for them.
///
/// Compiled once for all of its callers: a table's runs are few, and the code is long.
pub fn table(db: Db, layer: &Layer, table: u32, each: &mut dyn FnMut(Run) -> Result<()>) -> Result<()> {
    let mut select =
        db.prepare("SELECT start, data FROM main.__crsql_segment WHERE table_id = ?1 ORDER BY start")?;
    let args = [ValueRef::Integer(i64::from(table))];
    let mut rows = select.query(&args)?;
    let mut newer = layer.range((table, Key::Int(i64::MIN))..(table + 1, Key::Int(i64::MIN))).peekable();
    while rows.step()? {
        for run in decode_row(&rows, 0)? {
            while let Some(((_, key), clock)) = newer.next_if(|((_, key), _)| *key < run.key) {
                if let Some(clock) = clock {
                    each(Run::single(key.clone(), clock.clone()))?;
                }
            }
            let mut rest = Some(run);
            while let Some(run) = rest.take() {
                let inside = newer.next_if(|((_, key), _)| match (key, run.last_int()) {
                    (Key::Int(key), Some(last)) => *key <= last,
                    (key, _) => *key == run.key,
                });
                let Some(((_, key), clock)) = inside else {
                    each(run)?;
                    break;
                };
                let at = match (key, run.first_int()) {
                    (Key::Int(key), Some(first)) => key.abs_diff(first),
                    _ => 0,
                };
                if at > 0 {
                    each(run.slice(0, at))?;
                }
                if let Some(clock) = clock {
                    each(Run::single(key.clone(), clock.clone()))?;
                }
                rest = (at + 1 < run.count).then(|| run.slice(at + 1, run.count - at - 1));
            }
        }
    }
    for ((_, key), clock) in newer {
        if let Some(clock) = clock {
            each(Run::single(key.clone(), clock.clone()))?;
        }
    }
    Ok(())
}

/// Calls `each` with (table, run) of every segment that has something newer than `since`, in no useful order.
/// Rows that `layer` knows are left out; the layer's own rows come last.
pub fn newer(
    pool: &Rc<Pool>,
    db: Db,
    layer: &Layer,
    since: u64,
    each: &mut dyn FnMut(u32, Run) -> Result<()>,
) -> Result<()> {
    let mut select = pool.prepare(db, SELECT_NEWER)?;
    let args = [ValueRef::Integer(i64::try_from(since).unwrap_or(i64::MAX))];
    let mut rows = select.query(&args)?;
    while rows.step()? {
        let table = rows.column_i64(0) as u32;
        for run in decode_row(&rows, 1)? {
            if run.max_db_version() > since {
                uncovered(layer, table, run, each)?;
            }
        }
    }
    for ((table, key), clock) in layer {
        if let Some(clock) = clock
            && clock.max_db_version() > since
        {
            each(*table, Run::single(key.clone(), clock.clone()))?;
        }
    }
    Ok(())
}

const SELECT_NEWER: &str = "SELECT table_id, start, data FROM main.__crsql_segment WHERE max_db_version > ?1";

fn decode_row(row: &Statement, at: usize) -> Result<Vec<Run>> {
    let start = key_from(row.column_value(at)).ok_or_else(super::bytes::damaged)?;
    decode(row.column_blob(at + 1), matches!(start, Key::Int(_)))
}

/// The parts of `run` that `layer` does not know.
fn uncovered(
    layer: &Layer,
    table: u32,
    run: Run,
    each: &mut dyn FnMut(u32, Run) -> Result<()>,
) -> Result<()> {
    if layer.is_empty() {
        return each(table, run);
    }
    let (Some(first), Some(last)) = (run.first_int(), run.last_int()) else {
        return if layer.contains_key(&(table, run.key.clone())) { Ok(()) } else { each(table, run) };
    };
    let range = (Bound::Included((table, Key::Int(first))), Bound::Included((table, Key::Int(last))));
    let mut from = 0;
    for ((_, key), _) in layer.range(range) {
        let Key::Int(key) = key else { continue };
        let at = key.abs_diff(first);
        if at > from {
            each(table, run.slice(from, at - from))?;
        }
        from = at + 1;
    }
    if from == 0 {
        return each(table, run);
    }
    if from < run.count { each(table, run.slice(from, run.count - from)) } else { Ok(()) }
}
