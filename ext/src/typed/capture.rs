//! Local writes of columns that have a type.

use super::{facts, facts_key, forget_row, row_at, store};
use crate::capture::{key_width, place_and_key, record_changed, table_of};
use crate::catalog::{Shape, Table, Typed};
use crate::merge::{clock_of, update_base};
use crate::sqlite::{Args, Call, Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key, Kind, RowClock};
use crsql_core::column::{ColumnType, cmp_as_sql, count, is_write};
use crsql_core::key::{Affinity, canonical_key};
use crsql_core::limits::COL_VERSION_MAX;
use crsql_core::value::Value;

/// `crsql_capture_typed(table, OLD key…, NEW key…, column, NEW value, OLD value, …)`
pub fn capture(state: &State, call: &Call<'_>) -> Result<()> {
    state.join()?;
    let args = call.args();
    let table = table_of(state, &args)?;
    let width = key_width(&table);
    let key = args.skip(1 + width);
    // A row that moves to another key is inserted there as it is then.
    let is_moving = (1..=width).any(|at| !args.are_same(at, at + width));
    for at in (1 + 2 * width..args.len().saturating_sub(2)).step_by(3) {
        let Some(typed) = typed_at(&table, &args, at) else { continue };
        if is_moving {
            check_value(&table, typed, args.get(at + 1))?;
        } else if !args.are_same(at + 1, at + 2) {
            record(state, &table, &key, typed, args.get(at + 1), args.get(at + 2))?;
        }
    }
    Ok(())
}

/// `crsql_capture_typed_insert(table, column, NEW value, …)`
pub fn capture_insert(state: &State, call: &Call<'_>) -> Result<()> {
    state.join()?;
    let args = call.args();
    let table = table_of(state, &args)?;
    for at in (1..args.len().saturating_sub(1)).step_by(2) {
        if let Some(typed) = typed_at(&table, &args, at) {
            check_value(&table, typed, args.get(at + 1))?;
        }
    }
    Ok(())
}

fn typed_at<'t>(table: &'t Table, args: &Args<'_>, at: usize) -> Option<&'t Typed> {
    args.integer(at).and_then(|id| table.typed(id as u32))
}

pub(super) fn check_value(table: &Table, typed: &Typed, value: ValueRef<'_>) -> Result<()> {
    let is_fit = match typed.kind {
        ColumnType::Counter => matches!(value, ValueRef::Integer(_) | ValueRef::Real(_)),
        ColumnType::Text => match value {
            ValueRef::Text(text) => std::str::from_utf8(text).is_ok(),
            other => matches!(other, ValueRef::Null),
        },
        _ => true,
    };
    if is_fit {
        return Ok(());
    }
    let found = match value {
        ValueRef::Text(_) if typed.kind == ColumnType::Text => "a text that is not valid UTF-8",
        ValueRef::Text(_) => "a text",
        ValueRef::Blob(_) => "a blob",
        ValueRef::Null => "NULL",
        _ => "a number",
    };
    if typed.kind == ColumnType::Text {
        return Err(Error::refused(format_args!(
            "column {:?} of table {:?} is a text and takes texts, not {found}; keep such values in a column of their own",
            typed.name, table.name
        )));
    }
    Err(Error::refused(format_args!(
        "column {:?} of table {:?} is a counter and takes numbers, not {found}; add to it or set it to a number, or \
         keep such values in a column of their own",
        typed.name, table.name
    )))
}

/// Records that the column of the row with this place and key was changed from what it showed, `shown`, to `new`.
pub fn record(
    state: &State,
    table: &Table,
    key: &Args<'_>,
    typed: &Typed,
    new: ValueRef<'_>,
    shown: ValueRef<'_>,
) -> Result<()> {
    if typed.kind != ColumnType::Text {
        check_value(table, typed, new)?;
    }
    let (rowid, values) = match (table.shape, key.get(0)) {
        (Shape::Integer, ValueRef::Integer(rowid)) => (rowid, [key.get(0)].into_iter().collect()),
        _ => place_and_key(table, key)?,
    };
    if !is_write(typed.kind, shown, new) {
        // A max column that was set to less: what it held stays.
        return show(state, table, typed, rowid, &values, shown);
    }
    let pk = packed(table, &values)?;
    let place = match table.shape {
        Shape::Packed => Key::Bytes(pk.as_slice().into()),
        Shape::Integer | Shape::Rowid(_) => Key::Int(rowid),
    };
    let clock = clock_of(state, table.id, &place)?.filter(|clock| clock.is_alive());
    let only = Columns::one(typed.slot);
    // Without a clock the row is on its way to another key, and will be inserted there as it is then.
    let Some(clock) = clock else {
        check_value(table, typed, new)?;
        return record_changed(state, table, rowid, &values, &only);
    };
    let facts_key = facts_key(table, rowid, &pk);
    #[cfg(feature = "text")]
    if typed.kind == ColumnType::Text {
        let shown = || Ok(shown.to_owned_value());
        let row = super::text::Row {
            table,
            rowid,
            key: &values,
            facts_key: &facts_key,
            clock: &clock,
            shown: &shown,
        };
        return super::text::write(state, &row, typed, new);
    }
    let mut facts = facts(state, table, typed, &facts_key, &clock, || Ok(shown.to_owned_value()))?;
    state.store.borrow_mut().refresh()?;
    let site = state.store.borrow().site();
    let value = match typed.kind {
        ColumnType::Counter => {
            let own = facts.cell(typed, typed.slot, site);
            let is_alone = facts.len() == usize::from(own.is_some());
            count(own, is_alone, shown, new)
        }
        _ => new.to_owned_value(),
    };
    facts.set(typed, typed.slot, site, value);
    store(state, table.id, typed, &facts_key, &facts)?;
    record_changed(state, table, rowid, &values, &only)?;
    match facts.shown(state, typed)? {
        Some(now) if !is_stored_as(&now, new, typed.affinity) => {
            show(state, table, typed, rowid, &values, now.as_ref())
        }
        _ => Ok(()),
    }
}

/// Whether SQLite makes `stored` of `value` in a column of this affinity.
pub fn is_stored_as(value: &Value, stored: ValueRef<'_>, affinity: Affinity) -> bool {
    let is_number = |value| matches!(value, ValueRef::Integer(_) | ValueRef::Real(_));
    let is_converted = matches!(affinity, Affinity::Integer | Affinity::Real | Affinity::Numeric);
    value.as_ref().same(&stored)
        || (is_converted
            && is_number(value.as_ref())
            && is_number(stored)
            && cmp_as_sql(value.as_ref(), stored).is_eq())
}

/// Lets the base table show a value that the writer did not ask for.
pub(super) fn show(
    state: &State,
    table: &Table,
    typed: &Typed,
    rowid: i64,
    key: &[ValueRef<'_>],
    value: ValueRef<'_>,
) -> Result<()> {
    let _mute = state.mute();
    update_base(state, table, &Columns::one(typed.slot), Some(rowid), key, &[value]).map(drop)
}

fn packed(table: &Table, key: &[ValueRef<'_>]) -> Result<Vec<u8>> {
    if table.shape == Shape::Integer {
        return Ok(Vec::new());
    }
    let key = canonical_key(key, &table.key_columns)
        .map_err(|e| Error::refused(format_args!("table {:?}: {e}", table.name)))?;
    Ok(key.bytes)
}

/// A row was inserted or deleted: what its typed columns held before is nothing any more.
#[inline]
pub fn drop_row(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<()> {
    if table.typed.is_empty() { Ok(()) } else { drop_facts(state, table, key) }
}

#[inline(never)]
fn drop_facts(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<()> {
    let rowid = match (table.shape, key.first()) {
        (Shape::Integer, Some(ValueRef::Integer(rowid))) => *rowid,
        _ => 0,
    };
    forget_row(state, table.id, &facts_key(table, rowid, &packed(table, key)?))
}

/// Lets a row begin anew when one of the clocks that a write is to raise stands at its limit; false, and nothing is done,
/// otherwise. The store does that for other tables, but it does not know which columns have a type: what they show is
/// all that they hold then.
pub fn renews_at_limit(
    state: &State,
    table: &Table,
    rowid: i64,
    key: &[ValueRef<'_>],
    changed: &Columns,
) -> Result<bool> {
    let place = match table.shape {
        Shape::Packed => Key::Bytes(packed(table, key)?.into()),
        Shape::Integer | Shape::Rowid(_) => Key::Int(rowid),
    };
    let Some(clock) = clock_of(state, table.id, &place)?.filter(RowClock::is_alive) else { return Ok(false) };
    let registers = changed.without_parts();
    let mut groups = clock.groups.iter();
    if !groups.any(|group| group.col_version >= COL_VERSION_MAX && group.columns.intersects(&registers)) {
        return Ok(false);
    }
    let (_, pk, _) = row_at(state, table, &place)?;
    forget_row(state, table.id, &facts_key(table, rowid, &pk))?;
    match table.shape {
        Shape::Packed => {
            let mut ops = state.ops.borrow_mut();
            let set = ops.intern(&table.all);
            ops.push_keyed(table.id, Kind::Insert, 0, set, &pk, true);
        }
        Shape::Integer | Shape::Rowid(_) => state.record(table.id, Kind::Insert, rowid, &table.all)?,
    }
    Ok(true)
}
