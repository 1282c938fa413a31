//! `'{"triggers":"on"}'`: what a merge does to a row fires the schema's own triggers, and what they write is local.
//!
//! A merge writes a row and records its clocks in silence. Then the row is put back as it was, and written once more so
//! that triggers see it. So whatever they do, to this row as well, comes after the merge, as it would have if a user had
//! answered; and where one refuses, the row is as it was and the merge of this row is taken back.

use super::row::{self, Found, Incoming, Outcome};
use crate::catalog::{Shape, Table};
use crate::schema::Ident;
use crate::sqlite::{Args, Error, Result, ValueRef};
use crate::state::State;
use crsql_core::value::Value;
use rusqlite::ffi;

/// What a merge's own statement gives to capture, which must not take it for somebody's write.
pub struct Own {
    table: u32,
    event: Event,
    /// The row's place: its rowid and the key's values, as triggers pass them.
    place: Vec<Value>,
    /// What an update finds in the columns that it changes, by column id; gone once capture was told.
    before: Vec<(u32, Value)>,
}

/// What happens to a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It comes.
    Insert,
    /// It goes.
    Delete,
    /// Columns change.
    Update,
}

/// A base row, whole.
#[derive(PartialEq)]
struct Row {
    /// The rowid, where the table has them besides the key.
    rowid: Option<i64>,
    key: Vec<Value>,
    /// In the order of the table's columns.
    values: Vec<Value>,
}

/// As [`row::merge_plainly`]; triggers hear of it if the table says so.
pub fn merge(state: &State, table: &Table, incoming: &Incoming<'_>, found: &mut Found) -> Result<Outcome> {
    // SQLite lets triggers write nothing of ours while it commits.
    if !table.fires || state.is_committing.get() {
        return row::merge_plainly(state, table, incoming, found);
    }
    if let Some(trigger) = &table.half_raise {
        return Ok(Outcome::Refused(half_raise(trigger)));
    }
    let mark = state.ops.borrow().mark();
    let known = found.clone();
    let before = read(state, table, incoming.key)?;
    let outcome = row::merge_plainly(state, table, incoming, found)?;
    if !matches!(outcome, Outcome::Applied(_)) {
        return Ok(outcome);
    }
    let after = read(state, table, incoming.key)?;
    if before.as_ref().map(|row| &row.values) == after.as_ref().map(|row| &row.values) {
        return Ok(outcome);
    }
    put(state, table, after.as_ref(), before.as_ref())?;
    let recorded = state.ops.borrow().mark();
    match fire(state, table, before.as_ref(), after.as_ref()) {
        Ok(()) => {
            if recorded != state.ops.borrow().mark() {
                // The row may be another by now.
                *found = row::find(state, table, incoming.key)?;
            }
            Ok(outcome)
        }
        Err(error) if is_refusal(&error) => {
            state.rewind(mark);
            put(state, table, read(state, table, incoming.key)?.as_ref(), before.as_ref())?;
            *found = known;
            Ok(Outcome::Refused(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Why a trigger can't fire.
pub fn half_raise(trigger: &str) -> String {
    format!(
        "trigger {trigger:?} says FAIL or ROLLBACK, which leaves half of a statement behind or takes the whole transaction \
         with it; say ABORT, which refuses this row alone"
    )
}

/// A trigger's own errors, as that a table of its is gone or that triggers fire each other without end, are the row's
/// affair; that memory or disk is short is not.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.primary_code(),
        ffi::SQLITE_ERROR | ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG
    )
}

fn read(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<Option<Row>> {
    let rowid = match table.shape {
        Shape::Rowid(name) => name,
        Shape::Integer | Shape::Packed => "NULL",
    };
    let columns = table.columns.iter().map(|column| format!(", {}", Ident(&column.name))).collect::<String>();
    let sql = format!(
        "SELECT {rowid}, {}{columns} FROM {} WHERE {}",
        table.key_list(),
        table.sql_name(),
        table.key_condition()
    );
    let keys = table.key_names.len();
    state.db.prepare(&sql)?.query_row(key, |row| {
        let value = |at| row.column_value(at).to_owned_value();
        Ok(Row {
            rowid: (!row.column_is_null(0)).then(|| row.column_i64(0)),
            key: (1..=keys).map(value).collect(),
            values: (1 + keys..1 + keys + table.columns.len()).map(value).collect(),
        })
    })
}

/// Makes a row what it was, or is to be, in silence.
fn put(state: &State, table: &Table, from: Option<&Row>, to: Option<&Row>) -> Result<()> {
    if let Some(from) = from {
        delete(state, table, from)?;
    }
    to.map_or(Ok(()), |to| insert(state, table, to))
}

/// Of a statement that calls a function SQLite keeps a journal to undo it by itself, whatever stops a trigger.
const UNDOABLE: &str = "AND abs(1) = 1";

fn delete(state: &State, table: &Table, row: &Row) -> Result<()> {
    let sql = format!("DELETE FROM {} WHERE {} {UNDOABLE}", table.sql_name(), table.place_condition());
    state.db.prepare(&sql)?.execute(&place_of(table, row))
}

/// The parameters of [`Table::place_condition`].
fn place_of<'r>(table: &Table, row: &'r Row) -> Vec<ValueRef<'r>> {
    match (table.shape, row.rowid) {
        (Shape::Rowid(_), Some(rowid)) => vec![ValueRef::Integer(rowid)],
        _ => row.key.iter().map(Value::as_ref).collect(),
    }
}

fn insert(state: &State, table: &Table, row: &Row) -> Result<()> {
    let mut names: Vec<String> = match (table.shape, row.rowid) {
        (Shape::Rowid(name), Some(_)) => vec![name.to_owned()],
        _ => Vec::new(),
    };
    let mut values: Vec<ValueRef<'_>> = row.rowid.map(ValueRef::Integer).into_iter().collect();
    names.extend(table.key_names.iter().map(|name| Ident(name).to_string()));
    names.extend(table.columns.iter().map(|column| Ident(&column.name).to_string()));
    values.extend(row.key.iter().chain(&row.values).map(Value::as_ref));
    let params: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    // A conflict clause here would be the triggers' as well.
    let or_abort = if table.clashes.is_empty() { "" } else { "OR ABORT " };
    let sql = format!(
        "INSERT {or_abort}INTO {} ({}) VALUES ({})",
        table.sql_name(),
        names.join(", "),
        params.join(", ")
    );
    let before = state.db.last_insert_rowid();
    let done = state.db.prepare(&sql)?.execute(&values);
    state.db.set_last_insert_rowid(before);
    done
}

/// Writes the row once more, for triggers.
fn fire(state: &State, table: &Table, before: Option<&Row>, after: Option<&Row>) -> Result<()> {
    match (before, after) {
        (Some(before), Some(after)) if before.rowid == after.rowid && before.key == after.key => {
            let changed: Vec<usize> = (0..table.columns.len())
                .filter(|at| before.values.get(*at) != after.values.get(*at))
                .collect();
            loudly(state, table, Event::Update, before, &changed, || update(state, table, after, &changed))
        }
        (None, Some(after)) => {
            loudly(state, table, Event::Insert, after, &[], || insert(state, table, after))
        }
        (Some(before), None) => {
            loudly(state, table, Event::Delete, before, &[], || delete(state, table, before))
        }
        (Some(before), Some(after)) => {
            // Another life under the same key.
            loudly(state, table, Event::Delete, before, &[], || delete(state, table, before))?;
            loudly(state, table, Event::Insert, after, &[], || insert(state, table, after))
        }
        (None, None) => Ok(()),
    }
}

fn update(state: &State, table: &Table, after: &Row, changed: &[usize]) -> Result<()> {
    let mut values = place_of(table, after);
    let mut sets = Vec::new();
    for at in changed {
        values.push(after.values[*at].as_ref());
        sets.push(format!("{} = ?{}", Ident(&table.columns[*at].name), values.len()));
    }
    let or_abort = if table.clashes.is_empty() { "" } else { "OR ABORT " };
    let (name, sets, place) = (table.sql_name(), sets.join(", "), table.place_condition());
    state
        .db
        .prepare(&format!("UPDATE {or_abort}{name} SET {sets} WHERE {place} {UNDOABLE}"))?
        .execute(&values)
}

/// Runs one statement on one row with triggers on; capture hears of all that they write and not of the row itself. A
/// trigger that ignores the row (`RAISE(IGNORE)`) does not keep it out.
fn loudly(
    state: &State,
    table: &Table,
    event: Event,
    row: &Row,
    changed: &[usize],
    write: impl Fn() -> Result<()>,
) -> Result<()> {
    let place = row.rowid.map(Value::Integer).into_iter().chain(row.key.iter().cloned()).collect();
    let before =
        changed.iter().map(|at| (table.columns[*at].id, row.values[*at].clone())).collect::<Vec<_>>();
    let outer = state.own.replace(Some(Own { table: table.id, event, place, before }));
    let was_enabled = state.db.set_enable_trigger(true)?;
    let muted = state.muted.replace(FIRING);
    state.is_unenforced.set(state.is_unenforced.get() || table.is_unenforced);
    let done = write().map(|()| state.db.changes64());
    state.muted.set(muted);
    let switched = state.db.set_enable_trigger(was_enabled);
    *state.own.borrow_mut() = outer;
    switched?;
    if done? == 0 {
        write()?;
    }
    Ok(())
}

/// What [`State::muted`] holds while triggers fire.
pub const FIRING: u32 = 1 << 30;

/// Whether capture is to leave this call alone: a merge writes, and what it hears of is the merge's own statement.
#[cold]
pub fn is_muted(state: &State, event: Event, args: &Args<'_>) -> bool {
    if state.muted.get() != FIRING {
        return true;
    }
    let mut own = state.own.borrow_mut();
    let Some(known) =
        own.as_mut().filter(|own| own.event == event && args.integer(0) == Some(i64::from(own.table)))
    else {
        return false;
    };
    let is_place = known.place.iter().enumerate().all(|(at, value)| args.get(1 + at).same(&value.as_ref()));
    if !is_place {
        return false;
    }
    if event != Event::Update {
        // The row comes or goes once; if it does again, that is a trigger's doing.
        *own = None;
        return true;
    }
    // Of the columns that it changes, the statement's own call has the values from before; a trigger's, those after.
    let from = 1 + known.place.len();
    let mut told = Vec::new();
    for at in (from..args.len().saturating_sub(2)).step_by(3) {
        if args.are_same(at + 1, at + 2) {
            continue;
        }
        let id = args.integer(at).unwrap_or_default();
        let is_before = |(column, value): &(u32, Value)| {
            i64::from(*column) == id && args.get(at + 2).same(&value.as_ref())
        };
        match known.before.iter().position(is_before) {
            Some(position) => told.push(known.before[position].0),
            None => return false,
        }
    }
    known.before.retain(|(column, _)| !told.contains(column));
    true
}
