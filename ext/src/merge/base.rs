//! Reads and writes of single base rows.

use super::row::Params;
use crate::catalog::{Shape, Table, Use};
use crate::schema::Ident;
use crate::sqlite::{Result, Statement, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key};
use crsql_core::value::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// Where a row's clock lies and how its base row is found.
#[derive(Clone, Debug, Default)]
pub struct RowPlace {
    /// The canonical packed key; empty for tables whose key is the rowid.
    pub pk: Vec<u8>,
    /// The rowid of the base row, where the table has them and the row exists.
    pub rowid: Option<i64>,
}

impl RowPlace {
    /// The clock's key of a live row.
    pub fn live_key(&self, table: &Table) -> Option<Key> {
        match table.shape {
            Shape::Packed => Some(Key::Bytes(self.pk.clone().into_boxed_slice())),
            _ => self.rowid.map(Key::Int),
        }
    }

    /// The clock's key of a dead row.
    pub fn dead_key(&self, table: &Table) -> Key {
        match table.shape {
            Shape::Integer => Key::Int(self.rowid.unwrap_or(0)),
            _ => Key::Bytes(self.pk.clone().into_boxed_slice()),
        }
    }
}

/// A statement that is kept with its table.
pub type Cached = Rc<RefCell<Statement>>;

/// The rowid of the row with this key.
pub fn find_rowid(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<Option<i64>> {
    let Shape::Rowid(rowid) = table.shape else { return Ok(None) };
    let statement = table.statement(state.db, Use::FindRowid, || {
        format!("SELECT {rowid} FROM {} WHERE {}", table.sql_name(), table.key_condition())
    })?;
    let found = statement.borrow_mut().query_i64(key)?;
    Ok(found)
}

/// The parameters of [`Table::place_condition`].
fn place_params<'a>(table: &Table, rowid: Option<i64>, key: &[ValueRef<'a>]) -> Params<'a> {
    match table.shape {
        Shape::Packed => Params::from_slice(key),
        _ => Params::from_slice(&[ValueRef::Integer(rowid.unwrap_or(0))]),
    }
}

/// The statement that inserts a row: its key's values, then the values of `columns` in order.
pub fn insert_statement(state: &State, table: &Table, columns: &Columns) -> Result<Cached> {
    table.statement_on(state.db, Use::Insert, columns, || {
        let mut names: Vec<String> = table.key_names.iter().map(|name| Ident(name).to_string()).collect();
        names.extend(columns.iter().filter_map(|id| table.column(id)).map(|c| Ident(&c.name).to_string()));
        let params: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
        // A conflict clause of the schema must not remove rows that clash.
        let or_abort = if table.clashes.is_empty() { "" } else { "OR ABORT " };
        let (name, names, params) = (table.sql_name(), names.join(", "), params.join(", "));
        format!("INSERT {or_abort}INTO {name} ({names}) VALUES ({params})")
    })
}

/// Inserts a row: its key's values, then the values of `columns` in order. Returns its rowid.
pub fn insert(
    state: &State,
    table: &Table,
    columns: &Columns,
    key_and_values: &[ValueRef<'_>],
) -> Result<i64> {
    insert_with(state, &insert_statement(state, table, columns)?, key_and_values)
}

/// Inserts a row by its [`insert_statement`]. Returns its rowid.
pub fn insert_with(state: &State, statement: &Cached, key_and_values: &[ValueRef<'_>]) -> Result<i64> {
    let before = state.db.last_insert_rowid();
    statement.borrow_mut().execute(key_and_values)?;
    let rowid = state.db.last_insert_rowid();
    state.db.set_last_insert_rowid(before);
    Ok(rowid)
}

/// Sets columns of one row; false when there is no such row.
pub fn update(
    state: &State,
    table: &Table,
    columns: &Columns,
    rowid: Option<i64>,
    key: &[ValueRef<'_>],
    values: &[ValueRef<'_>],
) -> Result<bool> {
    let mut params = place_params(table, rowid, key);
    let statement = table.statement_on(state.db, Use::Update, columns, || {
        let names = columns.iter().filter_map(|id| table.column(id)).enumerate();
        let sets: Vec<String> =
            names.map(|(at, c)| format!("{} = ?{}", Ident(&c.name), params.len() + at + 1)).collect();
        let or_abort = if table.clashes.is_empty() { "" } else { "OR ABORT " };
        let (name, place) = (table.sql_name(), table.place_condition());
        format!("UPDATE {or_abort}{name} SET {} WHERE {place}", sets.join(", "))
    })?;
    params.extend_from_slice(values);
    statement.borrow_mut().execute(&params)?;
    Ok(state.db.changes64() > 0)
}

/// Sets the spelling of a row's key.
pub fn spell(
    state: &State,
    table: &Table,
    rowid: Option<i64>,
    key: &[ValueRef<'_>],
    spelling: &[ValueRef<'_>],
) -> Result<()> {
    let place = place_params(table, rowid, key);
    let statement = table.statement(state.db, Use::Spell, || {
        let names = table.key_names.iter().enumerate();
        let sets: Vec<String> =
            names.map(|(at, name)| format!("{} = ?{}", Ident(name), place.len() + at + 1)).collect();
        format!("UPDATE {} SET {} WHERE {}", table.sql_name(), sets.join(", "), table.place_condition())
    })?;
    let params: Vec<ValueRef<'_>> = place.iter().chain(spelling).copied().collect();
    statement.borrow_mut().execute(&params)
}

/// Deletes one row, if it is there.
pub fn delete(state: &State, table: &Table, rowid: Option<i64>, key: &[ValueRef<'_>]) -> Result<()> {
    let place = place_params(table, rowid, key);
    let statement = table.statement(state.db, Use::Delete, || {
        format!("DELETE FROM {} WHERE {}", table.sql_name(), table.place_condition())
    })?;
    statement.borrow_mut().execute(&place)
}

/// The current values of `columns` of one row, in order; `None` when there is no such row.
pub fn read_values(
    state: &State,
    table: &Table,
    rowid: Option<i64>,
    key: &[ValueRef<'_>],
    columns: &Columns,
) -> Result<Option<Vec<Value>>> {
    let names: Vec<String> =
        columns.iter().filter_map(|id| table.column(id)).map(|c| Ident(&c.name).to_string()).collect();
    let list = if names.is_empty() { "1".to_owned() } else { names.join(", ") };
    let sql = format!("SELECT {list} FROM {} WHERE {}", table.sql_name(), table.place_condition());
    let mut select = state.pool.prepare(state.db, &sql)?;
    select.query_row(&place_params(table, rowid, key), |row| {
        Ok((0..names.len()).map(|at| row.column_value(at).to_owned_value()).collect())
    })
}

/// What the base table shows of one column of one row; NULL when there is no such row.
pub fn shown_value(
    state: &State,
    table: &Table,
    rowid: Option<i64>,
    key: &[ValueRef<'_>],
    column: u32,
) -> Result<Value> {
    let values = read_values(state, table, rowid, key, &Columns::one(column))?;
    Ok(values.and_then(|values| values.into_iter().next()).unwrap_or_default())
}
