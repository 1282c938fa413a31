//! Base rows against live clocks: each needs the other.

use super::Report;
use crate::catalog::{Shape, Table};
use crate::schema::Ident;
use crate::sqlite::{Result, Rows, ValueRef};
use crate::state::State;
use crate::store::{Key, Run, scan};
use crsql_core::key::canonical_key;
use crsql_core::pack::{pack, unpack};
use std::collections::HashSet;

/// Compares the rows of a table with its clocks.
pub fn check(state: &State, table: &Table, report: &mut Report) -> Result<()> {
    let parked = parked(state, table)?;
    match table.shape {
        Shape::Packed => check_keyed(state, table, &parked, report),
        Shape::Integer => {
            check_numbered(state, table, &Ident(&table.key_names[0]).to_string(), &parked, report)
        }
        Shape::Rowid(rowid) => {
            check_numbered(state, table, rowid, &parked, report)?;
            check_tombstones(state, table, report)
        }
    }
}

/// Keys of rows that wait for a constraint to let them in.
fn parked(state: &State, table: &Table) -> Result<HashSet<Vec<u8>>> {
    let mut select = state.db.prepare("SELECT pk FROM main.__crsql_parked WHERE table_name = ?1")?;
    let args = [ValueRef::Text(table.name.as_bytes())];
    let mut rows = select.query(&args)?;
    let mut keys = HashSet::new();
    while rows.step()? {
        keys.insert(rows.column_blob(0).to_vec());
    }
    Ok(keys)
}

/// Base rows by ascending rowid, one ahead.
struct Base<'s> {
    rows: Rows<'s>,
    next: Option<i64>,
}

impl Base<'_> {
    fn step(&mut self) -> Result<()> {
        self.next = if self.rows.step()? { Some(self.rows.column_i64(0)) } else { None };
        Ok(())
    }
}

/// Rows and clocks in rowid order, side by side.
fn check_numbered(
    state: &State,
    table: &Table,
    rowid: &str,
    parked: &HashSet<Vec<u8>>,
    report: &mut Report,
) -> Result<()> {
    let mut select =
        state.db.prepare(&format!("SELECT {rowid} FROM {} ORDER BY {rowid}", table.sql_name()))?;
    let mut base = Base { rows: select.query(&[])?, next: None };
    base.step()?;
    let layer = state.layer()?;
    scan::table(state.db, &layer, table.id, &mut |run| {
        let (Some(first), Some(last)) = (run.first_int(), run.last_int()) else { return Ok(()) };
        while let Some(row) = base.next.filter(|row| *row < first) {
            report.add("row without clock", &table.name, format_args!("{rowid} {row}"));
            base.step()?;
        }
        walk(&run, first, last, &mut base, |from, to| {
            let is_parked = from == to
                && table.shape == Shape::Integer
                && pack(&[ValueRef::Integer(from)]).is_ok_and(|pk| parked.contains(&pk));
            match (run.clock.is_alive(), is_parked) {
                (true, false) if from == to => {
                    report.add("clock without row", &table.name, format_args!("{rowid} {from}"));
                }
                (true, false) => {
                    report.add("clock without row", &table.name, format_args!("{rowid} {from} to {to}"));
                }
                (false, _) => report.add("row of a tombstone", &table.name, format_args!("{rowid} {from}")),
                (true, true) => {}
            }
        })
    })?;
    while let Some(row) = base.next {
        report.add("row without clock", &table.name, format_args!("{rowid} {row}"));
        base.step()?;
    }
    Ok(())
}

/// Walks the rows of a run: calls `wrong` with stretches that have no row, or (of a dead run) with rows that are.
fn walk(
    run: &Run,
    first: i64,
    last: i64,
    base: &mut Base<'_>,
    mut wrong: impl FnMut(i64, i64),
) -> Result<()> {
    let mut expected = Some(first);
    while let Some(row) = base.next.filter(|row| *row <= last) {
        match expected {
            _ if !run.clock.is_alive() => wrong(row, row),
            Some(at) if at < row => wrong(at, row - 1),
            _ => {}
        }
        expected = row.checked_add(1);
        base.step()?;
    }
    if let Some(at) = expected.filter(|at| *at <= last && run.clock.is_alive()) {
        wrong(at, last);
    }
    Ok(())
}

/// A tombstone that lies under the key of a row: the row was inserted without knowing its past.
fn check_tombstones(state: &State, table: &Table, report: &mut Report) -> Result<()> {
    let layer = state.layer()?;
    let mut exists = exists(state, table)?;
    scan::table(state.db, &layer, table.id, &mut |run| {
        let Key::Bytes(pk) = &run.key else { return Ok(()) };
        match unpack(pk) {
            Ok(key) if key.len() == table.key_columns.len() => {
                if !run.clock.is_alive() && exists.query_i64(&key)?.is_some() {
                    report.add("row of a tombstone", &table.name, format_args!("key {}", hex(pk)));
                }
            }
            _ => report.add("damaged key", &table.name, format_args!("key {}", hex(pk))),
        }
        Ok(())
    })
}

/// Rows whose clocks lie under their keys: the orders differ, so each is looked up on the other side.
fn check_keyed(state: &State, table: &Table, parked: &HashSet<Vec<u8>>, report: &mut Report) -> Result<()> {
    let layer = state.layer()?;
    let mut select = state.db.prepare(&format!("SELECT {} FROM {}", table.key_list(), table.sql_name()))?;
    while select.step()? {
        let key: Vec<ValueRef<'_>> = (0..table.key_columns.len()).map(|at| select.column_value(at)).collect();
        let Ok(key) = canonical_key(&key, &table.key_columns) else {
            report.add("row without clock", &table.name, "its key has a NULL");
            continue;
        };
        let place = (table.id, Key::Bytes(key.bytes.into_boxed_slice()));
        let clock = match layer.get(&place) {
            Some(clock) => clock.clone(),
            None => state.store.borrow_mut().clock(place.0, &place.1)?,
        };
        if clock.is_none_or(|clock| !clock.is_alive()) {
            report.add("row without clock", &table.name, format_args!("{:?}", place.1));
        }
    }
    let mut exists = exists(state, table)?;
    scan::table(state.db, &layer, table.id, &mut |run| {
        let Key::Bytes(pk) = &run.key else { return Ok(()) };
        match unpack(pk) {
            Ok(key) if key.len() == table.key_columns.len() => {
                if run.clock.is_alive() && exists.query_i64(&key)?.is_none() && !parked.contains(&pk[..]) {
                    report.add("clock without row", &table.name, format_args!("key {}", hex(pk)));
                }
            }
            _ => report.add("damaged key", &table.name, format_args!("key {}", hex(pk))),
        }
        Ok(())
    })
}

fn exists(state: &State, table: &Table) -> Result<crate::sqlite::Statement> {
    state.db.prepare(&format!("SELECT 1 FROM {} WHERE {}", table.sql_name(), table.key_condition()))
}

fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 32;
    let digits: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN { digits + "…" } else { digits }
}
