//! The SQL functions that make and move keys.

use crate::functions::fraction::site::{key_between_with, site_digits};
use crate::schema::eligibility::is_internal;
use crate::schema::{Ident, describe};
use crate::sqlite::{Call, Error, Result, ValueRef};
use crate::state::State;

/// `crsql_fract_unique_key_between(a, b)`: as `crsql_fract_key_between`, with digits of this site's at the end.
/// Without a site, in a database where nothing replicates, there are none.
pub fn unique_key_between(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_fract_unique_key_between";
    call.expect_args(NAME, 2..=2, "2 arguments: the key before, the key behind")?;
    let (after, before) = (call.optional_text(NAME, 0)?, call.optional_text(NAME, 1)?);
    let key = key_between_with(after, before, &digits(state)?).map_err(Error::refused)?;
    call.set_text(&key);
    Ok(())
}

fn digits(state: &State) -> Result<String> {
    let mut store = state.store.borrow_mut();
    if !store.refresh()? {
        return Ok(String::new());
    }
    let site = store.site();
    Ok(site_digits(&store.sites.id(state.db, site)?.0))
}

const FIX: &str = "crsql_fract_fix_conflict_return_old_key";

/// `crsql_fract_fix_conflict_return_old_key(table, order, list…, -1, key column…, key value…)`: moves a row down
/// a little in its list and returns the key that it had. For views that cr-sqlite made; ours do it in SQL.
pub fn fix_conflict(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args(
        FIX,
        5..,
        "the table, its order column, its list columns, -1, key columns and their values",
    )?;
    let (table, order) = (call.text(FIX, 0)?, call.text(FIX, 1)?);
    let Some(end) = (2..call.arg_count()).find(|at| matches!(call.arg(*at), ValueRef::Integer(_))) else {
        return Err(Error::refused(format_args!(
            "{FIX}(): the number -1 must stand behind the list columns"
        )));
    };
    let keys = call.arg_count() - end - 1;
    if keys == 0 || !keys.is_multiple_of(2) {
        return Err(Error::refused(format_args!(
            "{FIX}(): give as many key values as key columns, and at least one"
        )));
    }
    let names =
        |range: std::ops::Range<usize>| range.map(|at| call.text(FIX, at)).collect::<Result<Vec<_>>>();
    let (list, key) = (names(2..end)?, names(end + 1..end + 1 + keys / 2)?);
    let values: Vec<ValueRef<'_>> = call.args().iter().skip(end + 1 + keys / 2).collect();
    check(state, table, [order].iter().chain(&list).chain(&key))?;
    let (table, order) = (Ident(table), Ident(order));
    let is_row = key
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{} = ?{}", Ident(name), at + 1))
        .collect::<Vec<_>>()
        .join(" AND ");
    let in_list: String =
        list.iter().map(|name| Ident(name)).map(|l| format!("o.{l} IS main.{table}.{l} AND ")).collect();
    let old = state
        .db
        .prepare(&format!("SELECT {order} FROM main.{table} WHERE {is_row}"))?
        .query_row(&values, |row| Ok(row.column_value(0).to_owned_value()))?;
    let Some(old) = old else { return Ok(()) };
    state
        .db
        .prepare(&format!(
            "UPDATE main.{table} SET {order} = crsql_fract_unique_key_between(
               (SELECT max(o.{order} COLLATE BINARY) FROM main.{table} AS o
                WHERE {in_list}o.{order} COLLATE BINARY < main.{table}.{order} AND o.{order} COLLATE BINARY >= 'A'),
               {order})
             WHERE {is_row}"
        ))?
        .execute(&values)?;
    call.set_value(old.as_ref());
    Ok(())
}

/// Names come from the caller, so they must be the table's.
fn check<'n>(state: &State, table: &str, mut columns: impl Iterator<Item = &'n &'n str>) -> Result<()> {
    let info = match is_internal(table) {
        true => None,
        false => describe(&state.db, table)?,
    };
    let Some(info) = info else {
        return Err(Error::refused(format_args!("{FIX}(): there is no table {table:?}")));
    };
    match columns.find(|name| info.column(name).is_none()) {
        Some(name) => Err(Error::refused(format_args!("{FIX}(): table {table:?} has no column {name:?}"))),
        None => Ok(()),
    }
}
