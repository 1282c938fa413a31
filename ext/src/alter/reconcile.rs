//! Brings clocks in line with rows that came, went or moved without being captured.

use crate::capture::{delete_keyed, insert_keyed, record_changed};
use crate::catalog::{Shape, Table};
use crate::schema::Ident;
use crate::sqlite::{Result, Statement, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key, Kind, Layer, scan};
use crate::typed::drop_row;
use crsql_core::key::canonical_key;
use std::collections::{BTreeMap, HashMap};

/// `SELECT` of every row's place and key: the rowid if there is one, then the key's columns.
fn select_rows(state: &State, table: &Table, condition: &str) -> Result<Statement> {
    let list = match table.shape {
        Shape::Integer | Shape::Packed => table.key_list(),
        Shape::Rowid(rowid) => format!("{rowid}, {}", table.key_list()),
    };
    let order = match table.shape {
        Shape::Integer | Shape::Packed => table.key_list(),
        Shape::Rowid(rowid) => rowid.to_owned(),
    };
    state.db.prepare(&format!("SELECT {list} FROM {} {condition} ORDER BY {order}", table.sql_name()))
}

/// Splits such a row: the rowid (0 without) and the key's values (none where the rowid is the key).
fn place_of<'s>(table: &Table, row: &'s Statement) -> (i64, Vec<ValueRef<'s>>) {
    let keys = table.key_columns.len();
    match table.shape {
        Shape::Integer => (row.column_i64(0), Vec::new()),
        Shape::Rowid(_) => (row.column_i64(0), (1..=keys).map(|at| row.column_value(at)).collect()),
        Shape::Packed => (0, (0..keys).map(|at| row.column_value(at)).collect()),
    }
}

fn insert(state: &State, table: &Table, rowid: i64, key: &[ValueRef<'_>]) -> Result<()> {
    if table.shape != Shape::Integer {
        return insert_keyed(state, table, rowid, key);
    }
    drop_row(state, table, &[ValueRef::Integer(rowid)])?;
    {
        let mut ops = state.ops.borrow_mut();
        let set = ops.intern(&table.all);
        ops.push_row(table.id, Kind::Insert, rowid, set);
    }
    state.spill_if_heavy()
}

fn delete(state: &State, table: &Table, rowid: i64, key: &[ValueRef<'_>]) -> Result<()> {
    if table.shape != Shape::Integer {
        return delete_keyed(state, table, rowid, key);
    }
    drop_row(state, table, &[ValueRef::Integer(rowid)])?;
    state.ops.borrow_mut().push_row(table.id, Kind::Delete, rowid, 0);
    state.spill_if_heavy()
}

/// Captures every row as an insert.
pub fn insert_all(state: &State, table: &Table) -> Result<()> {
    let mut rows = select_rows(state, table, "")?;
    while rows.step()? {
        let (rowid, key) = place_of(table, &rows);
        insert(state, table, rowid, &key)?;
    }
    Ok(())
}

/// A column that appeared with values other than its default: those are writes.
pub fn new_columns(state: &State, table: &Table, added: &[u32]) -> Result<()> {
    for id in added {
        let Some(column) = table.column(*id) else { continue };
        let default = column.default_sql.as_deref().unwrap_or("NULL");
        let condition = format!("WHERE {} IS NOT ({default})", Ident(&column.name));
        let mut rows = select_rows(state, table, &condition)?;
        while rows.step()? {
            let (rowid, key) = place_of(table, &rows);
            let place = match table.shape {
                Shape::Packed => Key::Bytes(packed(table, &key)?),
                _ => Key::Int(rowid),
            };
            // An update during the alter was captured as it happened.
            let clock = crate::merge::clock_of(state, table.id, &place)?;
            if clock.is_none_or(|clock| clock.group_of(*id).is_none()) {
                record_changed(state, table, rowid, &key, &Columns::one(*id))?;
            }
        }
    }
    Ok(())
}

/// The table was dropped and made again. Rows with a clock keep it, wherever their rowid is now; new keys are
/// inserts, and missing ones deletes.
pub fn rebuilt(state: &State, table: &Table, keys: &str) -> Result<()> {
    state.spill()?;
    let mut alive: BTreeMap<Key, ()> = BTreeMap::new();
    let layer = state.store.borrow_mut().overlay()?;
    scan::table(state.db, &layer, table.id, &mut |run| {
        if run.clock.is_alive() {
            for index in 0..run.count {
                alive.insert(run.slice(index, 1).key, ());
            }
        }
        Ok(())
    })?;
    match table.shape {
        Shape::Integer | Shape::Packed => {
            let mut rows = select_rows(state, table, "")?;
            while rows.step()? {
                let (rowid, key) = place_of(table, &rows);
                let place = match table.shape {
                    Shape::Integer => Key::Int(rowid),
                    _ => Key::Bytes(packed(table, &key)?),
                };
                if alive.remove(&place).is_none() {
                    insert(state, table, rowid, &key)?;
                }
            }
            for place in alive.into_keys() {
                match place {
                    Key::Int(rowid) => delete(state, table, rowid, &[])?,
                    Key::Bytes(key) => {
                        let values = crsql_core::pack::unpack(&key).map_err(crate::sqlite::Error::refused)?;
                        delete_keyed(state, table, 0, &values)?;
                    }
                }
            }
            Ok(())
        }
        Shape::Rowid(_) => follow_keys(state, table, keys),
    }
}

fn packed(table: &Table, key: &[ValueRef<'_>]) -> Result<Box<[u8]>> {
    let key = canonical_key(key, &table.key_columns).map_err(crate::sqlite::Error::refused)?;
    Ok(key.bytes.into_boxed_slice())
}

/// Moves clocks from the rowids that the keys had to those that they have.
fn follow_keys(state: &State, table: &Table, keys: &str) -> Result<()> {
    let mut old: HashMap<Box<[u8]>, i64> = HashMap::new();
    let list = (0..table.key_columns.len()).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ");
    let Ok(mut rows) = state.db.prepare(&format!("SELECT __crsql_rowid, {list} FROM main.{}", Ident(keys)))
    else {
        // Without crsql_begin_alter nobody knows which row was which: every row is written anew.
        return insert_all(state, table);
    };
    while rows.step()? {
        let (rowid, key) = place_of(table, &rows);
        old.insert(packed(table, &key)?, rowid);
    }
    drop(rows);
    let mut moved = Layer::new();
    let mut fresh = Vec::new();
    let mut rows = select_rows(state, table, "")?;
    while rows.step()? {
        let (rowid, key) = place_of(table, &rows);
        match old.remove(&packed(table, &key)?) {
            Some(before) => {
                let clock = state.store.borrow_mut().clock(table.id, &Key::Int(before))?;
                moved.insert((table.id, Key::Int(rowid)), clock);
                moved.entry((table.id, Key::Int(before))).or_insert(None);
            }
            None => fresh.push((rowid, key.iter().map(|v| v.to_owned_value()).collect::<Vec<_>>())),
        }
    }
    for (key, rowid) in &old {
        let values = crsql_core::pack::unpack(key).map_err(crate::sqlite::Error::refused)?;
        delete_keyed(state, table, *rowid, &values)?;
    }
    state.spill()?;
    for rowid in old.values() {
        // A clock that moved to a deleted row's rowid is not that row's.
        moved.entry((table.id, Key::Int(*rowid))).or_insert(None);
    }
    state.store.borrow_mut().rewrite(&moved)?;
    for (rowid, key) in fresh {
        let key: Vec<ValueRef<'_>> = key.iter().map(|v| v.as_ref()).collect();
        insert_keyed(state, table, rowid, &key)?;
    }
    Ok(())
}
