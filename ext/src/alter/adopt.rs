//! `crsql_as_crr` and `crsql_as_table`.

use super::{
    atomically, drop_triggers, find_replicated, install_triggers, reconcile, references, write_columns,
};
use crate::capture::enlist;
use crate::catalog::Table;
use crate::merge::hidden;
use crate::options::{Options, Switch};
use crate::schema::eligibility::eligible;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use std::rc::Rc;

/// Makes a table replicated. Its rows become changes of the next version. Doing it again changes what `options`
/// name and is otherwise harmless.
///
/// # Errors
/// Names the table and why it can't be; nothing is changed then, and the caller's transaction goes on.
pub fn as_crr(state: &State, name: &str, options: &Options) -> Result<()> {
    state.check_schema()?;
    atomically(state, || {
        state.create()?;
        state.check_schema()?;
        let known = find_replicated(state, name)?;
        let options = match &known {
            Some(table) => options.over(&Options::stored(state.db, table.id)?),
            None => options.clone(),
        };
        let info = eligible(&state.db, name, options.policies())?;
        if options.triggers == Some(Switch::On)
            && let Some(trigger) = crate::catalog::half_raise(state.db)?
        {
            let reason = crate::merge::fire::half_raise(&trigger);
            return Err(Error::refused(format_args!("table {name:?}: {reason}")));
        }
        if options.hides().is_some() {
            crate::merge::hidden::create(state)?;
        }
        if options.losers.is_some() {
            crate::losers::create(state)?;
        }
        if let Some(table) = known {
            options.store(state.db, table.id)?;
            // A column that came by a plain ALTER may be among those that are declared.
            write_columns(state, &table)?;
            crate::typed::declare(state, table.id, &info, &options.columns)?;
            super::renew_triggers(state, table.id)?;
            let table = state.table(table.id)?;
            refuse_types(&table, &options)?;
            references::check(state, &table, &options)?;
            enlist(state)?;
            hidden::reconsider(state, &table)?;
            crate::park::retry(state)?;
            return hidden::resolve(state);
        }
        forget_namesakes(state, &info.name)?;
        let rowid = state.db.last_insert_rowid();
        state
            .db
            .prepare("INSERT INTO main.__crsql_table (name) VALUES (?1)")?
            .execute(&[ValueRef::Text(info.name.as_bytes())])?;
        let id = state.db.last_insert_rowid() as u32;
        state.db.set_last_insert_rowid(rowid);
        options.store(state.db, id)?;
        let described = || crate::catalog::describe(state.db, id, &info.name)?.ok_or_else(|| gone(name));
        let mut table = described()?;
        write_columns(state, &table)?;
        if !options.columns.is_empty() {
            crate::typed::declare(state, id, &info, &options.columns)?;
            table = described()?;
        }
        let table = Rc::new(table);
        refuse_types(&table, &options)?;
        install_triggers(state, &table)?;
        state.check_schema()?;
        enlist(state)?;
        reconcile::insert_all(state, &table)?;
        let table = state.table(id)?;
        references::check(state, &table, &options)?;
        hidden::reconsider(state, &table)?;
        crate::park::retry(state)?;
        hidden::resolve(state)
    })
}

/// A hidden row is kept as the values of its registers, and triggers hear of no others.
fn refuse_types(table: &Table, options: &Options) -> Result<()> {
    let typed = table.columns.get(table.registers);
    match options.wants_registers().filter(|_| typed.is_some()) {
        None => Ok(()),
        Some(option) => Err(Error::refused(format_args!(
            "table {:?}: the option {option:?} is for tables whose columns are all registers, and this one has a column of \
             another type; keep that in a table of its own",
            table.name
        ))),
    }
}

fn gone(name: &str) -> Error {
    Error::refused(format_args!("table {name:?} is gone"))
}

/// A dropped table of the same name leaves its id and clocks behind; they are not the new table's.
fn forget_namesakes(state: &State, name: &str) -> Result<()> {
    let mut ids = Vec::new();
    {
        let mut select =
            state.db.prepare("SELECT id FROM main.__crsql_table WHERE name = ?1 COLLATE NOCASE")?;
        let args = [ValueRef::Text(name.as_bytes())];
        let mut rows = select.query(&args)?;
        while rows.step()? {
            ids.push(rows.column_i64(0) as u32);
        }
    }
    ids.into_iter().try_for_each(|id| forget_clocks(state, id))
}

/// Drops what is known of a table; its id is never used again.
pub fn forget_clocks(state: &State, table: u32) -> Result<()> {
    state.spill()?;
    let mut store = state.store.borrow_mut();
    if store.refresh()? && store.tail().rows > 0 {
        store.fold()?;
    }
    drop(store);
    let id = [ValueRef::Integer(i64::from(table))];
    for sql in [
        "UPDATE main.__crsql_table SET name = '' WHERE id = ?1",
        "DELETE FROM main.__crsql_column WHERE table_id = ?1",
        "DELETE FROM main.__crsql_typed WHERE table_id = ?1",
        "DELETE FROM main.__crsql_segment WHERE table_id = ?1",
    ] {
        state.db.prepare(sql)?.execute(&id)?;
    }
    hidden::forget_all(state, Some(table))?;
    crate::losers::forget_table(state, table)?;
    crate::former::forget(state, table)?;
    // What was held of the table is held no more, and no version says which it was in: all are asked for again.
    let (site, version) = {
        let store = state.store.borrow();
        (store.site(), store.tail().version)
    };
    let held = state.store.borrow_mut().vector()?;
    state
        .db
        .prepare("DELETE FROM main.__crsql_vector WHERE site & ?1 = 0")?
        .execute(&[ValueRef::Integer(i64::from(crate::store::LOOSE))])?;
    // And they come at other positions than what stays of the same versions.
    let loose: Vec<_> = held
        .iter()
        .flat_map(|(site, ranges)| ranges.iter().map(|(lo, hi)| (*site | crate::store::LOOSE, lo, hi)))
        .collect();
    state.store.borrow_mut().sites.complete(state.db, &loose)?;
    if version > 0 {
        state.db.prepare("INSERT INTO main.__crsql_vector VALUES (?1, 1, ?2)")?.execute(&[
            ValueRef::Integer(i64::from(site | crate::store::MISSING)),
            ValueRef::Integer(version as i64),
        ])?;
    }
    state.store.borrow_mut().sites.forget();
    state.store.borrow_mut().segments_changed()?;
    Ok(())
}

/// Makes a replicated table ordinary: its data stay, its clocks go. Any other table is left alone.
pub fn as_table(state: &State, name: &str) -> Result<()> {
    state.check_schema()?;
    let Some(table) = find_replicated(state, name)? else { return Ok(()) };
    references::check_unreferenced(state, &table)?;
    atomically(state, || {
        enlist(state)?;
        drop_triggers(state, table.id)?;
        forget_clocks(state, table.id)
    })
}
