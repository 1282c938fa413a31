//! What an editor needs of a text column: its state, its own edits written, places that stay where they are.

use crate::alter::{atomically, enter};
use crate::catalog::{Table, Typed};
use crate::merge::{RowPlace, clock_by_key, locate};
use crate::schema::Ident;
use crate::sqlite::{Call, Error, Flags, Result, ValueRef};
use crate::state::State;
use crate::store::RowClock;
use crate::typed::facts_key;
use crate::typed::text::{Row, forget_prepared, prepare, read, refused, write};
use crsql_core::column::ColumnType;
use crsql_core::text::diff::Edit;
use crsql_core::text::document::Document;
use crsql_core::text::part::Part;
use crsql_core::value::Value;
use std::rc::Rc;

use super::Entry;

pub(super) const FUNCTIONS: [Entry; 5] = [
    (c"crsql_text_state", Flags::NONE, state_of),
    (c"crsql_text_apply", Flags::DIRECT_ONLY, apply),
    (c"crsql_text_splice", Flags::DIRECT_ONLY, splice),
    (c"crsql_text_cursor", Flags::NONE, cursor),
    (c"crsql_text_position", Flags::NONE, position),
];

/// A text column of one row, as the first arguments name it: table, column, key.
struct Target<'c> {
    table: Rc<Table>,
    typed: Typed,
    key: Vec<ValueRef<'c>>,
    place: RowPlace,
    clock: RowClock,
    /// Where the other arguments begin.
    rest: usize,
}

impl<'c> Target<'c> {
    /// Reads the arguments; `wanted` of them follow the key, or fewer by as many as `optional`.
    fn of(
        state: &State,
        call: &Call<'c>,
        function: &'static str,
        wanted: usize,
        optional: usize,
    ) -> Result<Target<'c>> {
        call.expect_args(function, 3.., "the table, the text column, the row's key, and what comes behind")?;
        let (name, column) = (call.text(function, 0)?, call.text(function, 1)?);
        enter(state)?;
        let refuse = |reason: String| Err(Error::refused(format_args!("{function}: {reason}")));
        let Some(table) = state.table_named(name)? else {
            return refuse(format!("table {name:?} is not replicated"));
        };
        let is_it = |typed: &&Typed| {
            typed.kind == ColumnType::Text && typed.level == 0 && typed.name.eq_ignore_ascii_case(column)
        };
        let Some(typed) = table.typed.iter().find(is_it).cloned() else {
            return refuse(format!(
                "column {column:?} of table {name:?} is no text; declare it with crsql_as_crr('{name}', \
                 '{{\"columns\":{{\"{column}\":\"text\"}}}}')"
            ));
        };
        let rest = 2 + table.key_names.len();
        if !(rest + wanted - optional..=rest + wanted).contains(&call.arg_count()) {
            return refuse(format!(
                "the key of table {name:?} has {} columns, and {wanted} arguments come behind it; {} were given in all",
                table.key_names.len(),
                call.arg_count()
            ));
        }
        let key: Vec<ValueRef<'c>> = call.args().iter().skip(2).take(rest - 2).collect();
        crate::merge::check_key(&table, &key)?;
        let clock = clock_by_key(state, &table, &key)?.filter(RowClock::is_alive);
        let (place, _) = locate(state, &table, &key)?;
        let Some(clock) = clock else { return refuse(format!("table {name:?} has no row with this key")) };
        Ok(Target { table, typed, key, place, clock, rest })
    }

    /// What the row shows. Of a text that is at hand nobody needs to know.
    fn shown(&self, state: &State) -> Result<Value> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {}",
            Ident(&self.typed.name),
            self.table.sql_name(),
            self.table.collated_key_condition()
        );
        let mut select = state.pool.prepare(state.db, &sql)?;
        let shown = select.query_row(&self.key, |row| Ok(row.column_value(0).to_owned_value()))?;
        Ok(shown.unwrap_or_default())
    }

    fn with_row<T>(&self, state: &State, body: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        let rowid = self.place.rowid.unwrap_or(0);
        let facts_key = facts_key(&self.table, rowid, &self.place.pk);
        let shown = || self.shown(state);
        body(&Row {
            table: &self.table,
            rowid,
            key: &self.key,
            facts_key: &facts_key,
            clock: &self.clock,
            shown: &shown,
        })
    }

    fn read<T>(&self, state: &State, body: impl FnOnce(&mut Document) -> Result<T>) -> Result<T> {
        self.with_row(state, |row| read(state, row, &self.typed, body))
    }

    fn refused(&self, error: impl std::fmt::Display) -> Error {
        refused(&self.table, &self.typed, error)
    }

    /// Writes what `edit` does to the text, as an UPDATE of the row does.
    fn write(&self, state: &State, edit: impl FnOnce(&mut Document) -> Result<Part>) -> Result<()> {
        atomically(state, || {
            crate::capture::enlist(state)?;
            let (text, is_changed) = self.with_row(state, |row| prepare(state, row, &self.typed, edit))?;
            let done = self.update(state, ValueRef::Text(text.as_bytes()), is_changed);
            forget_prepared(state);
            done
        })
    }

    fn update(&self, state: &State, new: ValueRef<'_>, is_changed: bool) -> Result<()> {
        if !is_changed {
            // It looks as before; that something was typed and deleted again has to be known all the same.
            return self.with_row(state, |row| write(state, row, &self.typed, new));
        }
        let sql = format!(
            "UPDATE {} SET {} = ?{} WHERE {}",
            self.table.sql_name(),
            Ident(&self.typed.name),
            self.key.len() + 1,
            self.table.collated_key_condition()
        );
        let params: Vec<ValueRef<'_>> = self.key.iter().copied().chain([new]).collect();
        // Not one of the table's own statements: capture may use that for the same column while this one runs.
        state.pool.prepare(state.db, &sql)?.execute(&params)
    }
}

/// `crsql_text_state(table, column, key…[, state vector])`: the text as a Yjs update, version 1.
fn state_of(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_text_state";
    let target = Target::of(state, call, NAME, 1, 1)?;
    let since = match call.arg_count() > target.rest && !matches!(call.arg(target.rest), ValueRef::Null) {
        true => Some(call.blob(NAME, target.rest)?),
        false => None,
    };
    let update = target.read(state, |document| {
        document.state(since).map_err(|_| target.refused("the last argument is no Yjs state vector"))
    })?;
    call.set_blob(&update);
    Ok(())
}

/// `crsql_text_apply(table, column, key…, update)`: writes what an editor did; 1 when that was new, else 0.
fn apply(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_text_apply";
    let target = Target::of(state, call, NAME, 1, 0)?;
    let update = call.blob(NAME, target.rest)?;
    let mut is_new = false;
    target.write(state, |document| {
        let part =
            document.apply(update).map_err(|error| target.refused(format_args!("this update: {error}")))?;
        is_new = !part.is_empty();
        Ok(part)
    })?;
    call.set_i64(i64::from(is_new));
    Ok(())
}

/// `crsql_text_splice(table, column, key…, at, deleted, inserted)`: deletes and inserts characters at a place.
fn splice(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_text_splice";
    let target = Target::of(state, call, NAME, 3, 0)?;
    let (at, deleted) = (call.integer(NAME, target.rest)?, call.integer(NAME, target.rest + 1)?);
    let inserted = call.text(NAME, target.rest + 2)?;
    target.write(state, |document| {
        let text = document.text();
        let place = |at: i64| byte_at(text, at);
        let (Some(start), Some(end)) =
            (place(at), at.checked_add(deleted).and_then(place).filter(|_| deleted >= 0))
        else {
            let length = text.chars().count();
            return Err(
                target.refused(format_args!("no {deleted} characters from {at} on in a text of {length}"))
            );
        };
        let edit = Edit { at: start, deleted: end - start, inserted };
        document.edit_at(&[edit]).map_err(|error| target.refused(error))
    })
}

/// Where the character at `at` begins, counted from 0.
fn byte_at(text: &str, at: i64) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    if text.is_ascii() {
        return (at <= text.len()).then_some(at);
    }
    text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(at)
}

/// `crsql_text_cursor(table, column, key…, at)`: a Yjs relative position before the character at `at`.
fn cursor(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_text_cursor";
    let target = Target::of(state, call, NAME, 1, 0)?;
    let at = call.integer(NAME, target.rest)?;
    let cursor = target.read(state, |document| {
        let cursor = usize::try_from(at).ok().and_then(|at| document.cursor(at));
        cursor.ok_or_else(|| {
            let length = document.text().chars().count();
            target.refused(format_args!("there is no place {at} in a text of {length} characters"))
        })
    })?;
    call.set_blob(&cursor);
    Ok(())
}

/// `crsql_text_position(table, column, key…, cursor)`: how many characters are before a cursor now; NULL when it is of
/// another text.
fn position(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_text_position";
    let target = Target::of(state, call, NAME, 1, 0)?;
    let cursor = call.blob(NAME, target.rest)?;
    if let Some(at) = target.read(state, |document| Ok(document.position(cursor)))? {
        call.set_i64(at as i64);
    }
    Ok(())
}
