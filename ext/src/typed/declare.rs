//! Declaring the type of a column.

use crate::schema::{Ident, TableInfo};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{COUNTERS_MAX, PARTS, is_part};
use crsql_core::column::ColumnType;
use crsql_core::key::Affinity;

/// Declares types of columns of a table whose columns are in the catalogue.
///
/// # Errors
/// Names the column and why it can't be of that type.
pub fn declare(state: &State, table: u32, info: &TableInfo, columns: &[(String, ColumnType)]) -> Result<()> {
    for (name, kind) in columns {
        let refused = |reason: &str| {
            Err(Error::refused(format_args!(
                "column {name:?} of table {:?} can't be of type \"{kind}\": {reason}",
                info.name
            )))
        };
        let Some(column) = info.column(name).map(|at| &info.columns[at]) else {
            return refused("there is no such column");
        };
        if column.pk_position.is_some() || column.generated {
            return refused("it is part of the key, or generated; declare an ordinary column");
        }
        let id = ValueRef::Integer(i64::from(table));
        let mut select =
            state.db.prepare("SELECT id, type FROM main.__crsql_column WHERE table_id = ?1 AND name = ?2")?;
        let found = select.query_row(&[id, ValueRef::Text(column.name.as_bytes())], |row| {
            Ok((row.column_i64(0), row.column_str(1)?.to_owned()))
        })?;
        let Some((column_id, known)) = found else { return refused("it is not in the catalogue yet") };
        if known == kind.name() {
            continue;
        }
        if known != ColumnType::Register.name() {
            return refused(&format!(
                "it is declared \"{known}\", and other replicas rely on that; add a column of the new type beside it, \
                 or make the table anew with crsql_as_table and crsql_as_crr on every replica"
            ));
        }
        if !super::is_built_in(*kind) {
            return refused(
                "this crsql was built without it; use one with the feature \"text\", in a page open(name, { text: true })",
            );
        }
        if *kind == ColumnType::Text
            && let Err(reason) = check_text(state, info, column)
        {
            return refused(&reason?);
        }
        if *kind == ColumnType::Counter {
            check_counter(state, info, column).or_else(|reason| refused(&reason?))?;
        }
        let Some(slot) = free_slot(state, table, *kind)? else {
            return refused(&format!(
                "a table has room for {COUNTERS_MAX} counters, dropped ones included, and a text takes the room of {}",
                ColumnType::Text.levels()
            ));
        };
        state
            .db
            .prepare("UPDATE main.__crsql_column SET type = ?3, slot = ?4 WHERE table_id = ?1 AND id = ?2")?
            .execute(&[
                id,
                ValueRef::Integer(column_id),
                ValueRef::Text(kind.name().as_bytes()),
                ValueRef::Integer(slot),
            ])?;
    }
    Ok(())
}

/// What a counter must be declared as in SQL; else the reason, or a failure to look.
fn check_counter(
    state: &State,
    info: &TableInfo,
    column: &crate::schema::table::ColumnInfo,
) -> std::result::Result<(), Result<String>> {
    if column.affinity == Affinity::Text || (info.strict && column.affinity == Affinity::Blob) {
        return Err(Ok("a counter holds numbers; declare the column INTEGER, REAL or NUMERIC".into()));
    }
    let is_zero = column
        .default_sql
        .as_deref()
        .is_some_and(|sql| sql.trim_matches(['(', ')', ' ', '+', '-']).parse::<f64>() == Ok(0.0));
    if !column.not_null || !is_zero {
        return Err(Ok("a counter begins at 0; declare the column NOT NULL DEFAULT 0".into()));
    }
    let sql = format!(
        "SELECT typeof({column}) FROM {} WHERE typeof({column}) NOT IN ('integer', 'real') LIMIT 1",
        info.qualified(),
        column = Ident(&column.name),
    );
    let other = state
        .db
        .prepare(&sql)
        .and_then(|mut select| select.query_row(&[], |row| Ok(row.column_str(0)?.to_owned())))
        .map_err(Err)?;
    match other {
        Some(class) => Err(Ok(format!("a row holds a {class} there; set it to a number first"))),
        None => Ok(()),
    }
}

/// What a text must be declared as in SQL; else the reason, or a failure to look.
fn check_text(
    state: &State,
    info: &TableInfo,
    column: &crate::schema::table::ColumnInfo,
) -> std::result::Result<(), Result<String>> {
    if column.affinity != Affinity::Text {
        return Err(Ok("declare the column TEXT".into()));
    }
    // An INSERT that leaves the column out would be refused.
    let is_blob = |default: &String| {
        let mut select = state.db.prepare(&format!("SELECT typeof({default}) = 'blob'"))?;
        select.query_i64(&[])
    };
    if matches!(column.default_sql.as_ref().map(is_blob), Some(Ok(Some(1)))) {
        return Err(Ok("its default is a blob; declare a text as its default, or none".into()));
    }
    let sql = format!(
        "SELECT 1 FROM {} WHERE typeof({column}) NOT IN ('text', 'null') LIMIT 1",
        info.qualified(),
        column = Ident(&column.name),
    );
    let other = state.db.prepare(&sql).and_then(|mut select| select.query_i64(&[])).map_err(Err)?;
    match other {
        Some(_) => Err(Ok("a row holds a blob there; set it to a text first".into())),
        None => Ok(()),
    }
}

fn free_slot(state: &State, table: u32, kind: ColumnType) -> Result<Option<i64>> {
    let mut select =
        state.db.prepare("SELECT id, slot, type FROM main.__crsql_column WHERE table_id = ?1")?;
    let args = [ValueRef::Integer(i64::from(table))];
    let mut rows = select.query(&args)?;
    let (mut last, mut last_part) = (0, i64::from(PARTS) - 1);
    while rows.step()? {
        let (id, slot) = (rows.column_i64(0), rows.column_i64(1));
        last = last.max(id);
        let levels = ColumnType::of_name(rows.column_str(2)?).map_or(1, ColumnType::levels) as i64;
        if is_part(slot as u32) {
            last_part = last_part.max(slot + levels - 1)
        } else {
            last = last.max(slot)
        }
    }
    if kind.is_parted() {
        let next = last_part + 1;
        let last = next + kind.levels() as i64 - 1;
        return Ok((last < i64::from(PARTS + COUNTERS_MAX)).then_some(next));
    }
    Ok((last + 1 < i64::from(PARTS)).then_some(last + 1))
}
