//! The bytes of segments and log.

use super::Report;
use crate::catalog::Table;
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::segment::decode;
use crate::store::tables::key_from;
use crate::store::{Key, log};

/// The segments of a table: readable, in order, and not overlapping. False when some can't be read.
pub fn check(state: &State, table: &Table, report: &mut Report) -> Result<bool> {
    let mut select = state.db.prepare(
        "SELECT start, data, max_db_version FROM main.__crsql_segment WHERE table_id = ?1 ORDER BY start",
    )?;
    let args = [ValueRef::Integer(i64::from(table.id))];
    let mut rows = select.query(&args)?;
    let mut is_readable = true;
    // The last key seen, and whether it is one more than fits.
    let mut last: Option<Key> = None;
    while rows.step()? {
        let start = key_from(rows.column_value(0));
        let runs = start.as_ref().map(|key| decode(rows.column_blob(1), matches!(key, Key::Int(_))));
        let (Some(start), Some(Ok(runs))) = (start, runs) else {
            is_readable = false;
            report.add("damaged segment", &table.name, format_args!("its key is {:?}", rows.column_value(0)));
            continue;
        };
        if last.as_ref().is_some_and(|last| *last >= start) {
            report.add(
                "overlapping segments",
                &table.name,
                format_args!("the one at {start:?} begins too low"),
            );
        }
        let mut at = (start.clone(), true);
        for run in &runs {
            let is_after = if at.1 { run.key >= at.0 } else { run.key > at.0 };
            let end = match &run.key {
                Key::Int(first) => run.count.checked_sub(1).and_then(|more| first.checked_add_unsigned(more)),
                Key::Bytes(_) => (run.count == 1).then_some(0),
            };
            match end {
                Some(end) if is_after => {
                    at = (if run.first_int().is_some() { Key::Int(end) } else { run.key.clone() }, false);
                }
                _ => {
                    is_readable = false;
                    report.add("unsorted segment", &table.name, format_args!("the one at {start:?}"));
                    break;
                }
            }
        }
        let newest = runs.iter().map(|run| run.max_db_version()).max().unwrap_or(0);
        if newest > rows.column_i64(2) as u64 {
            report.add(
                "segment marked too old",
                &table.name,
                format_args!("the one at {start:?} says {}, and holds {newest}", rows.column_i64(2)),
            );
        }
        last = Some(at.0);
    }
    Ok(is_readable)
}

/// Segments of tables that the catalogue never knew.
pub fn check_unowned(state: &State, report: &mut Report) -> Result<()> {
    let mut select = state.db.prepare(
        "SELECT table_id, count(*) FROM main.__crsql_segment
         WHERE table_id NOT IN (SELECT id FROM main.__crsql_table) GROUP BY 1",
    )?;
    while select.step()? {
        let (id, count) = (select.column_i64(0), select.column_i64(1));
        report.add("segments of no table", "", format_args!("{count} of id {id}; crsql_gc() drops them"));
    }
    Ok(())
}

/// The log's rows can be read. False when some can't.
pub fn check_log(state: &State, report: &mut Report) -> Result<bool> {
    let mut select = state.db.prepare("SELECT db_version, data FROM main.__crsql_log ORDER BY db_version")?;
    let mut is_readable = true;
    while select.step()? {
        let db_version = select.column_i64(0);
        if log::decode(db_version as u64, select.column_blob(1)).is_err() {
            is_readable = false;
            report.add("damaged log", "", format_args!("the row of db_version {db_version}"));
        }
    }
    Ok(is_readable)
}
