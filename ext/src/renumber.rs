//! Clocks follow rowids that a dump and restore has renumbered.
//!
//! The clocks of a table without an INTEGER PRIMARY KEY lie under its hidden rowids. A dump writes rows in rowid
//! order and does not write the rowids, so a restore hands out new ones in the same order: the k-th live clock
//! belongs to the k-th row. `__crsql_canary` tells that it happened: its only row has rowid 7, and 1 after a
//! restore. VACUUM keeps the rowids of tables with an index, which all of these and the canary are.

use crate::alter::atomically;
use crate::catalog::{Shape, Table};
use crate::sqlite::{Db, Error, Result, ValueRef};
use crate::state::State;
use crate::store::segment::SegmentWriter;
use crate::store::tables::key_value;
use crate::store::{Key, Layer, Run, scan};
use std::rc::Rc;

/// The canary's rowid.
pub const CANARY: i64 = 7;

/// The canary's rowid as it is; `None` when it is gone.
pub fn canary(db: Db) -> Result<Option<i64>> {
    db.prepare("SELECT rowid FROM main.__crsql_canary WHERE id = 'canary'")?.query_i64(&[])
}

/// Moves the clocks if rowids were renumbered. To be called when a connection first looks at the schema, and
/// before a transaction writes its first row.
///
/// # Errors
/// Rows and clocks that can't be matched; a read-only connection that would have to move clocks.
pub fn follow(state: &State) -> Result<()> {
    if !state.store.borrow_mut().exists()? || matches!(canary(state.db)?, None | Some(CANARY)) {
        return Ok(());
    }
    let mut tables = state.tables()?;
    tables.retain(|table| matches!(table.shape, Shape::Rowid(_)));
    if state.db.is_read_only() {
        return if tables.is_empty() { Ok(()) } else { Err(read_only()) };
    }
    // In the middle of a statement no savepoint can open; the statement is then what fails as a whole.
    let done = if state.db.has_busy_writer() {
        renumber(state, &tables)
    } else {
        atomically(state, || renumber(state, &tables))
    };
    if done.is_err() {
        // Our tables take no part in the transaction yet, so nobody else tells the store that its writes are gone.
        state.store.borrow_mut().forget();
    }
    done
}

#[cold]
fn read_only() -> Error {
    Error::ReadOnly(
        "this database was restored from a dump, which renumbered its rowids, and its clocks have to follow; \
         open it writable once"
            .to_owned(),
    )
}

fn renumber(state: &State, tables: &[Rc<Table>]) -> Result<()> {
    // First, because it takes the write lock: of two connections that saw the canary gone, one does the work.
    state
        .db
        .prepare(&format!("UPDATE main.__crsql_canary SET rowid = {CANARY} WHERE rowid <> {CANARY}"))?
        .run()?;
    if state.db.changes64() == 0 {
        return Ok(());
    }
    {
        let mut store = state.store.borrow_mut();
        store.refresh()?;
        if store.tail().rows > 0 {
            store.fold()?;
        }
    }
    tables.iter().try_for_each(|table| renumber_table(state.db, table))?;
    state.store.borrow_mut().segments_changed()
}

fn renumber_table(db: Db, table: &Table) -> Result<()> {
    let Shape::Rowid(rowid) = table.shape else { return Ok(()) };
    check_counts(db, table)?;
    let mut select = db.prepare(&format!("SELECT {rowid} FROM {} ORDER BY {rowid}", table.sql_name()))?;
    let mut writer = SegmentWriter::default();
    let mut segments = Vec::new();
    each_live(db, table, |run| {
        let mut done = 0;
        let mut stretch: Option<(i64, u64)> = None;
        for _ in 0..run.count {
            if !select.step()? {
                return Err(unmatched(table));
            }
            let key = select.column_i64(0);
            stretch = match stretch {
                Some((first, count)) if first.checked_add_unsigned(count) == Some(key) => {
                    Some((first, count + 1))
                }
                Some((first, count)) => {
                    push(&mut writer, &run, &mut done, first, count);
                    Some((key, 1))
                }
                None => Some((key, 1)),
            };
        }
        if let Some((first, count)) = stretch {
            push(&mut writer, &run, &mut done, first, count);
        }
        segments.extend(writer.drain());
        Ok(())
    })?;
    drop(select);
    segments.extend(writer.finish());
    let id = ValueRef::Integer(i64::from(table.id));
    db.prepare("DELETE FROM main.__crsql_segment WHERE table_id = ?1 AND typeof(start) = 'integer'")?
        .execute(&[id])?;
    let mut insert = db.prepare(
        "INSERT INTO main.__crsql_segment (table_id, start, max_db_version, data) VALUES (?1, ?2, ?3, ?4)",
    )?;
    segments.iter().try_for_each(|segment| {
        let newest = ValueRef::Integer(segment.max_db_version as i64);
        insert.execute(&[id, key_value(&segment.start), newest, ValueRef::Blob(&segment.data)])
    })
}

/// The next `count` rows of `run` are at `first` now.
fn push(writer: &mut SegmentWriter, run: &Run, done: &mut u64, first: i64, count: u64) {
    let mut moved = run.slice(*done, count);
    moved.key = Key::Int(first);
    writer.push(moved);
    *done += count;
}

/// The runs of live rows, by rowid. The log is empty.
fn each_live(db: Db, table: &Table, mut each: impl FnMut(Run) -> Result<()>) -> Result<()> {
    scan::table(db, &Layer::new(), table.id, &mut |run| {
        if run.first_int().is_some() && run.clock.is_alive() { each(run) } else { Ok(()) }
    })
}

fn check_counts(db: Db, table: &Table) -> Result<()> {
    let mut clocks = 0_u64;
    each_live(db, table, |run| {
        clocks = clocks.saturating_add(run.count);
        Ok(())
    })?;
    let rows =
        db.prepare(&format!("SELECT count(*) FROM {}", table.sql_name()))?.query_i64(&[])?.unwrap_or(0);
    if u64::try_from(rows) == Ok(clocks) { Ok(()) } else { Err(unmatched(table)) }
}

#[cold]
fn unmatched(table: &Table) -> Error {
    Error::refused(format_args!(
        "table {:?} was restored from a dump, which renumbered its rowids, and has no longer as many rows as clocks, \
         so they can't be matched; restore it without writing to it before crsql is loaded, or restore a copy of the \
         file (VACUUM INTO, .backup)",
        table.name
    ))
}
