//! `crsql_commit_alter`.

use super::begin::keys_table;
use super::{find_replicated, install_triggers, reconcile, write_columns};
use crate::capture::enlist;
use crate::catalog::{Table, describe};
use crate::merge::hidden;
use crate::options::Options;
use crate::schema::Ident;
use crate::schema::eligibility::eligible;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use std::rc::Rc;

/// What is known of a table from before the alter.
struct Known {
    id: u32,
    /// The triggers are gone: the table was dropped and made again.
    is_rebuilt: bool,
    columns: Vec<(u32, String)>,
}

/// Ends what `crsql_begin_alter` opened: columns are matched with those from before, triggers renewed, and rows
/// that came, went or moved without capture are captured now.
pub fn commit_alter(state: &State, name: &str) -> Result<()> {
    state.forget_schema();
    state.check_schema()?;
    enlist(state)?;
    let done = alter(state, name);
    if done.is_err() {
        // All of the alter is undone, as upstream does; what the caller did before it stays.
        if state.db.exec("ROLLBACK TO crsql_alter").is_ok() {
            state.db.exec("RELEASE crsql_alter").ok();
        }
        state.forget_schema();
        return done;
    }
    state.forget_schema();
    // Without a begin there is nothing to release: commit_alter then mends a table that was altered alone.
    if let Err(error) = state.db.exec("RELEASE crsql_alter")
        && !error.to_string().contains("no such savepoint")
    {
        return Err(error);
    }
    Ok(())
}

fn alter(state: &State, name: &str) -> Result<()> {
    if !state.store.borrow_mut().exists()? {
        return Err(not_replicated(name));
    }
    let known = find(state, name)?.ok_or_else(|| not_replicated(name))?;
    let options = Options::stored(state.db, known.id)?;
    let info = eligible(&state.db, name, options.policies())?;
    match_columns(state, &known, &info)?;
    let fresh = |state: &State| -> Result<Rc<Table>> {
        Ok(Rc::new(describe(state.db, known.id, &info.name)?.ok_or_else(|| not_replicated(name))?))
    };
    let table = fresh(state)?;
    write_columns(state, &table)?;
    // What columns held that were dropped. A text has more slots than the catalogue says.
    let slots: Vec<String> = table.typed.iter().map(|typed| typed.slot.to_string()).collect();
    state
        .db
        .prepare(&format!(
            "DELETE FROM main.__crsql_typed WHERE table_id = ?1 AND slot NOT IN ({})",
            slots.join(", ")
        ))?
        .execute(&[ValueRef::Integer(i64::from(known.id))])?;
    install_triggers(state, &table)?;
    state.check_schema()?;
    let table = fresh(state)?;
    let keys = keys_table(known.id);
    if known.is_rebuilt {
        reconcile::rebuilt(state, &table, &keys)?;
    }
    let added: Vec<u32> = table.columns[..table.registers]
        .iter()
        .map(|c| c.id)
        .filter(|id| known.columns.iter().all(|(k, _)| k != id))
        .collect();
    reconcile::new_columns(state, &table, &added)?;
    state.db.exec(&format!("DROP TABLE IF EXISTS main.{}", Ident(&keys)))?;
    state.forget_schema();
    state.check_schema()?;
    let table = state.table(known.id)?;
    super::references::check(state, &table, &options)?;
    hidden::reconsider(state, &table)?;
    crate::park::retry(state)?;
    hidden::resolve(state)
}

fn not_replicated(name: &str) -> Error {
    Error::refused(format_args!(
        "failed compacting tables post alteration: table {name:?} is not replicated; \
         make it so with SELECT crsql_as_crr({})",
        crate::schema::Literal(name)
    ))
}

/// The catalogue's entry for the table: by its triggers, or by the name that it had.
fn find(state: &State, name: &str) -> Result<Option<Known>> {
    let (id, is_rebuilt) = match find_replicated(state, name)? {
        Some(table) => (table.id, false),
        None => {
            let mut select =
                state.db.prepare("SELECT id FROM main.__crsql_table WHERE name = ?1 COLLATE NOCASE")?;
            match select.query_i64(&[ValueRef::Text(name.as_bytes())])? {
                Some(id) => (id as u32, true),
                None => return Ok(None),
            }
        }
    };
    let mut select = state
        .db
        .prepare("SELECT id, name FROM main.__crsql_column WHERE table_id = ?1 AND name <> '' ORDER BY id")?;
    let args = [ValueRef::Integer(i64::from(id))];
    let mut rows = select.query(&args)?;
    let mut columns = Vec::new();
    while rows.step()? {
        columns.push((rows.column_i64(0) as u32, rows.column_str(1)?.to_owned()));
    }
    Ok(Some(Known { id, is_rebuilt, columns }))
}

/// Tells renames from drops and additions. SQLite's own ALTER renames in place and adds at the end, so a name
/// that is gone and a new one between the same neighbours are one column.
fn match_columns(state: &State, known: &Known, info: &crate::schema::TableInfo) -> Result<()> {
    let now: Vec<&str> = info.value_columns().map(|at| info.columns[at].name.as_str()).collect();
    let mut position = 0;
    for (at, (id, name)) in known.columns.iter().enumerate() {
        if let Some(found) = now.iter().position(|n| n == name) {
            position = found + 1;
            continue;
        }
        let next_kept = known.columns[at + 1..].iter().find_map(|(_, n)| now.iter().position(|m| m == n));
        let end = next_kept.unwrap_or(now.len());
        let is_last = next_kept.is_none();
        let fits = (position..end)
            .find(|index| known.columns.iter().all(|(_, n)| n != now[*index]))
            .filter(|_| !is_last || now.len() == known.columns.len());
        let renamed = fits.map_or("", |index| now[index]);
        if let Some(index) = fits {
            position = index + 1;
        }
        state
            .db
            .prepare("UPDATE main.__crsql_column SET name = ?3 WHERE table_id = ?1 AND id = ?2")?
            .execute(&[
                ValueRef::Integer(i64::from(known.id)),
                ValueRef::Integer(i64::from(*id)),
                ValueRef::Text(renamed.as_bytes()),
            ])?;
        crate::former::renamed_column(state, known.id, &info.name, *id, (name, renamed))?;
    }
    Ok(())
}
