//! `crsql_fract_as_ordered`: a user-defined order of rows, kept in a column of fractional keys.
//!
//! It installs triggers and a view, described in [`sql`], and keeps no state beyond them: what is ordered is what
//! the schema says. The keys themselves are [`crate::functions::fraction`]'s business.

mod functions;
mod sql;

pub use functions::{fix_conflict, unique_key_between};

use crate::alter::{atomically, enter};
use crate::schema::eligibility::is_internal;
use crate::schema::{Ident, TableInfo, TableKind, describe};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use sql::Order;

/// Orders the rows of `table` by `order_column`, within each list of rows that are equal in `list_columns`.
/// Doing it again, with other columns too, replaces what was there.
pub fn as_ordered(state: &State, table: &str, order_column: &str, list_columns: &[&str]) -> Result<()> {
    enter(state)?;
    let info = orderable(state, table)?;
    let order = Order {
        column: column(&info, order_column)?,
        list: list_columns.iter().map(|name| column(&info, name)).collect::<Result<_>>()?,
        table: &info,
    };
    check(&order)?;
    atomically(state, || {
        forget(state, &info.name)?;
        if let Some(kind) = kind_of(state, &sql::view_name(&info.name))? {
            return Err(Error::refused(format_args!(
                "cannot order table {:?}: its view {:?} would have the name of a {kind}; rename that",
                info.name,
                sql::view_name(&info.name)
            )));
        }
        order.statements().iter().try_for_each(|statement| state.db.exec(statement))
    })?;
    state.forget_schema();
    Ok(())
}

/// Drops what orders a table; false when nothing did.
pub fn forget(state: &State, table: &str) -> Result<bool> {
    let was_ordered = is_ordered(state, table)?;
    for name in triggers(state, table)? {
        state.db.exec(&format!("DROP TRIGGER main.{}", Ident(&name)))?;
    }
    let view = sql::view_name(table);
    if kind_of(state, &view)?.as_deref() == Some("view") {
        state.db.exec(&format!("DROP VIEW main.{}", Ident(&view)))?;
    }
    state.forget_schema();
    Ok(was_ordered)
}

/// True when the rows of a table are ordered.
pub fn is_ordered(state: &State, table: &str) -> Result<bool> {
    Ok(!triggers(state, table)?.is_empty())
}

/// The triggers that order a table, wherever its name came from; cr-sqlite's count, since they do the same.
fn triggers(state: &State, table: &str) -> Result<Vec<String>> {
    let mut select = state.db.prepare(
        "SELECT name FROM main.sqlite_master
         WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE
           AND (name GLOB '__crsql_fractindex_*' OR name GLOB '__crsql_*_fractindex_pend_trig'
             OR name GLOB '__crsql_*_fractindex_ezmove')",
    )?;
    let args = [ValueRef::Text(table.as_bytes())];
    let mut rows = select.query(&args)?;
    let mut names = Vec::new();
    while rows.step()? {
        names.push(rows.column_str(0)?.to_owned());
    }
    Ok(names)
}

/// `table` or `view`, when `main` has one of this name.
fn kind_of(state: &State, name: &str) -> Result<Option<String>> {
    let mut select = state.db.prepare(
        "SELECT type FROM main.sqlite_master WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE",
    )?;
    select.query_row(&[ValueRef::Text(name.as_bytes())], |row| Ok(row.column_str(0)?.to_owned()))
}

fn orderable(state: &State, name: &str) -> Result<TableInfo> {
    let refuse = |reason: &str| Err(Error::refused(format_args!("cannot order table {name:?}: {reason}")));
    if is_internal(name) {
        return refuse("the name is reserved");
    }
    let Some(info) = describe(&state.db, name)? else { return refuse("there is no such table in main") };
    if info.kind != TableKind::Table {
        return refuse("it is not an ordinary table");
    }
    if info.primary_key.is_empty() {
        return refuse("it has no primary key; add one, since a row is placed after another one by its key");
    }
    Ok(info)
}

fn column(info: &TableInfo, name: &str) -> Result<usize> {
    info.column(name).ok_or_else(|| {
        Error::refused(format_args!(
            "all columns are not present in the base table: {:?} has no column {name:?}",
            info.name
        ))
    })
}

fn check(order: &Order<'_>) -> Result<()> {
    let info = order.table;
    let column = &info.columns[order.column];
    let refuse =
        |reason: String| Err(Error::refused(format_args!("cannot order table {:?}: {reason}", info.name)));
    if column.generated || column.pk_position.is_some() || order.list.contains(&order.column) {
        return refuse(format!(
            "column {:?} is generated, or part of the key or of the list; give the order a column of its own",
            column.name
        ));
    }
    // In a view, after_<key> stands beside the table's columns.
    if let Some(taken) =
        info.key().map(|key| sql::after_name(&key.name)).find(|name| info.column(name).is_some())
    {
        return refuse(format!("its column {taken:?} has a name that the view needs; rename it"));
    }
    Ok(())
}
