//! Local writes on their way to the clocks: the functions that triggers call, and the virtual table that ties
//! them to the transaction.
//!
//! `crsql_capture` is never read or written with content. Triggers name it so that SQLite enlists it in the
//! transaction and calls `sync` before the commit, and the savepoint methods at each savepoint. They name
//! `crsql_capture_ahead` so that capture learns of statements before they run.

mod ahead;
mod alter;
mod row;
mod table;

pub use alter::Before;
pub use row::{
    Candidates, Quick, delete_keyed, insert_keyed, key_width, place_and_key, record_changed, table_of,
};

use crate::merge::fire::FIRING;
use crate::sqlite::{
    Call, Db, Error, Flags, Result, ValueRef, catch_panic, register_aggregate, register_function,
    register_module,
};
use crate::state::State;
use std::ffi::CStr;
use std::rc::Rc;

type Capture = fn(&State, &Call<'_>) -> Result<()>;

const FUNCTIONS: [(&CStr, Capture); 6] = [
    (c"crsql_capture_key", row::key_update),
    (c"crsql_capture_candidate", row::candidate),
    (c"crsql_capture_before", alter::before),
    (c"crsql_capture_after", alter::after),
    (c"crsql_capture_typed", crate::typed::capture),
    (c"crsql_capture_typed_insert", crate::typed::capture_insert),
];

/// Registers the functions and the virtual tables.
pub fn register(db: Db, state: &Rc<State>) -> Result<()> {
    register_function(db, c"crsql_capture_insert", -1, Flags::INNOCUOUS, state, |state: &State, call| {
        row::insert(state, call)
    })?;
    for (name, body) in FUNCTIONS {
        register_function(
            db,
            name,
            -1,
            Flags::INNOCUOUS,
            state,
            move |state: &State, call: &mut Call<'_>| {
                if matches!(state.muted.get(), 0 | FIRING) { body(state, call) } else { Ok(()) }
            },
        )?;
    }
    // SQLite can't undo a statement that fires only these: see `schema::triggers`.
    register_aggregate(db, c"crsql_capture_update", Flags::INNOCUOUS, state, |state: &State, args| {
        catch_panic(|| row::update(state, args)).map_err(Error::uncaptured)
    })?;
    register_aggregate(db, c"crsql_capture_delete", Flags::INNOCUOUS, state, |state: &State, args| {
        catch_panic(|| row::delete(state, args)).map_err(Error::uncaptured)
    })?;
    register_module::<ahead::Ahead>(db, c"crsql_capture_ahead", state)?;
    register_module::<table::CaptureTable>(db, c"crsql_capture", state)
}

/// Makes `changes()` answer what it did before a commit wrote clocks.
///
/// SQLite sets it at the end of every writing statement, ours inside a COMMIT included, and has no call to set
/// it back; a statement that changes as many rows does. (A virtual table can't be written to in `sync`.)
pub fn restore_changes(state: &State, rows: i64) -> Result<()> {
    if state.db.changes64() == rows {
        return Ok(());
    }
    let mut kept = state.restore_changes.borrow_mut();
    if kept.is_none() {
        *kept = Some(state.db.prepare_persistent(
            "INSERT OR REPLACE INTO main.__crsql_changed (id)
             WITH RECURSIVE n (i) AS (SELECT 1 WHERE ?1 > 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             SELECT 1 FROM n",
        )?);
    }
    let rowid = state.db.last_insert_rowid();
    let done = kept.as_mut().map_or(Ok(()), |restore| restore.execute(&[ValueRef::Integer(rows)]));
    state.db.set_last_insert_rowid(rowid);
    done
}

/// Joins the transaction from our own code, where no trigger does it.
pub fn enlist(state: &State) -> Result<()> {
    let mut enlist = match state.enlist.take() {
        Some(known) => known,
        None => {
            crate::store::let_close(state.db)?;
            // It finds no row, so it changes no count of changes.
            state.db.prepare_persistent("DELETE FROM main.crsql_capture")?
        }
    };
    let is_explicit = !state.db.is_autocommit();
    let done = enlist.run();
    state.enlist.set(Some(enlist));
    // After an ALTER the statement is prepared anew inside SQLite; when memory is short there, SQLite rolls the whole
    // transaction back and forgets to say so.
    if done.is_ok() && is_explicit && state.db.is_autocommit() {
        return Err(Error::refused("the transaction was rolled back for want of memory; begin it again"));
    }
    done
}
