//! Making tables replicated, ordinary again, and following changes of their schema.

mod adopt;
mod automigrate;
mod begin;
mod commit;
mod reconcile;
mod references;

pub use adopt::{as_crr, as_table, forget_clocks};
pub use automigrate::automigrate;
pub use begin::begin_alter;
pub use commit::commit_alter;

use crate::catalog::Table;
use crate::schema::triggers::{
    CaptureIds, alter_triggers, capture_triggers, drop_trigger, is_capture_trigger,
};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;

/// Runs `body` so that either all it wrote stays or nothing does; the caller's transaction goes on either way.
pub fn atomically<T>(state: &State, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let changes = state.db.changes64();
    state.db.exec("SAVEPOINT crsql_atomic")?;
    let done = body().and_then(|value| {
        if state.store.borrow_mut().exists()? {
            crate::capture::restore_changes(state, changes)?;
        }
        Ok(value)
    });
    if done.is_err() {
        state.db.exec("ROLLBACK TO crsql_atomic").ok();
        state.forget_schema();
    }
    let released = state.db.exec("RELEASE crsql_atomic");
    let value = done?;
    released?;
    Ok(value)
}

/// What a function called from the top does first: the schema may have changed since, and so may the clocks.
pub fn enter(state: &State) -> Result<()> {
    state.last_merged.set(None);
    state.check_schema()?;
    crate::changes::flush(state)
}

/// Writes the ids and names of a table's columns to the catalogue.
pub fn write_columns(state: &State, table: &Table) -> Result<()> {
    let rowid = state.db.last_insert_rowid();
    crate::former::follow(state, table)?;
    let id = ValueRef::Integer(i64::from(table.id));
    let mut insert = state.db.prepare(
        "INSERT INTO main.__crsql_column (table_id, id, name) VALUES (?1, ?2, ?3)
             ON CONFLICT (table_id, id) DO UPDATE SET name = excluded.name",
    )?;
    for column in &table.columns[..table.registers] {
        insert.execute(&[
            id,
            ValueRef::Integer(i64::from(column.id)),
            ValueRef::Text(column.name.as_bytes()),
        ])?;
    }
    state.db.set_last_insert_rowid(rowid);
    Ok(())
}

/// Gives a table the triggers that fit its columns.
pub fn renew_triggers(state: &State, table: u32) -> Result<()> {
    state.forget_schema();
    state.check_schema()?;
    let Some(table) = state.catalog.borrow_mut().table(state.db, table)? else { return Ok(()) };
    write_columns(state, &table)?;
    install_triggers(state, &table)
}

/// Replaces whatever capture triggers the table has by the ordinary ones.
pub fn install_triggers(state: &State, table: &Table) -> Result<()> {
    let ids = CaptureIds::of(table, |_| true);
    replace_triggers(state, table, capture_triggers(&table.info, &ids).into_iter().map(|t| t.create))
}

/// Replaces them by those that stand in during an alter.
fn install_alter_triggers(state: &State, table: &Table) -> Result<()> {
    let triggers = alter_triggers(&table.info, i64::from(table.id));
    replace_triggers(state, table, triggers.into_iter().map(|t| t.create))
}

fn replace_triggers(state: &State, table: &Table, create: impl Iterator<Item = String>) -> Result<()> {
    drop_triggers(state, table.id)?;
    for sql in create {
        state.db.exec(&sql)?;
    }
    state.forget_schema();
    Ok(())
}

/// Drops the capture triggers of the table with this id, wherever they are.
pub fn drop_triggers(state: &State, id: u32) -> Result<()> {
    let mut names = Vec::new();
    {
        let mut select = state.db.prepare(
            "SELECT name FROM main.sqlite_master WHERE type = 'trigger' AND name LIKE ?1 ESCAPE '\\'",
        )?;
        let pattern = format!("\\_\\_crsql\\_{id}\\_%");
        let args = [ValueRef::Text(pattern.as_bytes())];
        let mut rows = select.query(&args)?;
        while rows.step()? {
            names.push(rows.column_str(0)?.to_owned());
        }
    }
    for name in names.iter().filter(|name| is_capture_trigger(name)) {
        state.db.exec(&drop_trigger(name))?;
    }
    state.forget_schema();
    Ok(())
}

/// The table that a caller named, or an error that says what it is instead.
fn replicated(state: &State, name: &str) -> Result<std::rc::Rc<Table>> {
    match find_replicated(state, name)? {
        Some(table) => Ok(table),
        None => Err(Error::refused(format_args!(
            "table {name:?} is not replicated; make it so with SELECT crsql_as_crr({})",
            crate::schema::Literal(name)
        ))),
    }
}

/// A replicated table by its name in any letter case.
pub fn find_replicated(state: &State, name: &str) -> Result<Option<std::rc::Rc<Table>>> {
    if let Some(table) = state.table_called(name)? {
        return Ok(Some(table));
    }
    // The others are not described for that: there may be a thousand.
    let spelled = state.catalog.borrow_mut().spelling_of(state.db, name)?;
    spelled.map_or(Ok(None), |spelled| state.table_called(&spelled))
}
