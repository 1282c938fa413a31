//! `crsql_automigrate`: carries out the plan that turns the database into what a schema text says.

use super::{as_table, atomically, begin_alter, commit_alter, enter, find_replicated};
use crate::order;
use crate::schema::Ident;
use crate::schema::automigrate::{Plan, TableChange, plan};
use crate::schema::script::excerpt;
use crate::sqlite::{Db, Error, Result};
use crate::state::State;

/// The first SQLite that has `ALTER TABLE … DROP COLUMN`.
const HAS_DROP_COLUMN: i32 = 3_035_000;

/// Makes the database look like `schema`: all of it, or nothing.
///
/// # Errors
/// Names the statement or the difference that can't be carried out; nothing is changed then.
pub fn automigrate(state: &State, schema: &str) -> Result<()> {
    enter(state)?;
    let plan = plan(&state.db, schema)?;
    if !plan.unapplied.is_empty() {
        return Err(Error::refused(format_args!("{}; nothing was changed", plan.unapplied.join("; "))));
    }
    if Db::sqlite_version() < HAS_DROP_COLUMN
        && let Some(change) = plan.alter_tables.iter().find(|change| !change.drop_columns.is_empty())
    {
        return Err(Error::refused(format_args!(
            "the schema drops column {:?} of table {:?}, which this SQLite can't; use 3.35 or later, or keep the \
             column",
            change.drop_columns[0], change.table
        )));
    }
    atomically(state, || carry_out(state, &plan))
        .map_err(|error| told(error, |text| format!("{text}; nothing was changed")))
}

fn carry_out(state: &State, plan: &Plan) -> Result<()> {
    let run = |sql: &str| step(state, sql);
    plan.drop_triggers.iter().try_for_each(|name| run(&format!("DROP TRIGGER main.{}", Ident(name))))?;
    plan.drop_views.iter().try_for_each(|name| run(&format!("DROP VIEW main.{}", Ident(name))))?;
    // Views and triggers of an order name every column, and SQLite drops no column that something names.
    let mut ordered = Vec::new();
    for table in plan.drop_tables.iter().chain(plan.alter_tables.iter().map(|change| &change.table)) {
        let is_kept = plan.alter_tables.iter().any(|change| change.table == *table);
        if order::forget(state, table)? && is_kept {
            ordered.push(table);
        }
    }
    plan.drop_indexes.iter().try_for_each(|name| run(&format!("DROP INDEX main.{}", Ident(name))))?;
    for name in &plan.drop_tables {
        as_table(state, name)?;
        run(&format!("DROP TABLE main.{}", Ident(name)))?;
    }
    plan.alter_tables.iter().try_for_each(|change| alter_table(state, change))?;
    let creations = [
        &plan.create_tables,
        &plan.create_virtual_tables,
        &plan.create_indexes,
        &plan.create_views,
        &plan.create_triggers,
    ];
    creations.into_iter().flatten().try_for_each(|creation| run(&creation.sql))?;
    state.forget_schema();
    plan.afterwards.iter().try_for_each(|sql| run(sql))?;
    match ordered.into_iter().find(|table| !order::is_ordered(state, table).unwrap_or(false)) {
        None => Ok(()),
        Some(table) => Err(Error::refused(format_args!(
            "table {table:?} is ordered and the schema changes its columns; add its SELECT crsql_fract_as_ordered(…) \
             to the schema, so that the order follows"
        ))),
    }
}

/// First what goes, then what comes: within one alter, a column in the place of another is that one renamed.
fn alter_table(state: &State, change: &TableChange) -> Result<()> {
    let table = format!("main.{}", Ident(&change.table));
    let drops =
        change.drop_columns.iter().map(|name| format!("ALTER TABLE {table} DROP COLUMN {}", Ident(name)));
    altering(state, &change.table, drops.collect())?;
    let adds = change.add_columns.iter().map(|column| format!("ALTER TABLE {table} ADD COLUMN {column}"));
    altering(state, &change.table, adds.collect())
}

fn altering(state: &State, table: &str, statements: Vec<String>) -> Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    let is_replicated = find_replicated(state, table)?.is_some();
    if is_replicated {
        begin_alter(state, table)?;
    }
    statements.iter().try_for_each(|sql| step(state, sql))?;
    if is_replicated { commit_alter(state, table) } else { Ok(()) }
}

/// Runs one statement of the migration and tells which one failed.
fn step(state: &State, sql: &str) -> Result<()> {
    let what = |text: &str| format!("the migration's statement {:?} fails: {text}", excerpt(sql));
    state.db.exec(sql).map_err(|error| told(error, what))
}

/// The same error, its text put into another one.
fn told(error: Error, text: impl FnOnce(&str) -> String) -> Error {
    match error {
        Error::Sqlite { code, message } => Error::Sqlite { code, message: text(&message) },
        other => Error::refused(text(&other.to_string())),
    }
}
