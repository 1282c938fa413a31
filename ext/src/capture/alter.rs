//! Capture where the triggers can't hand over the columns: inside `crsql_begin_alter` … `crsql_commit_alter`, and
//! for columns that came by a plain ALTER. The row is read instead, before and after.

use super::row::{key_width, place_and_key, record_delete, record_insert, record_update};
use crate::catalog::{Shape, Table, Use};
use crate::schema::Ident;
use crate::schema::tokens::tokenize;
use crate::sqlite::{Args, Call, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key};
use crsql_core::key::canonical_key;
use crsql_core::value::Value;

/// A row as it was before an update, by the names of its columns at that moment.
#[derive(Default)]
pub struct Before(Option<(u32, Vec<(String, Value)>)>);

/// The parameters that find a row by its place.
pub fn place_values<'a>(table: &Table, args: &Args<'a>) -> Result<Vec<ValueRef<'a>>> {
    match table.shape {
        Shape::Packed => Ok(place_and_key(table, args)?.1.into_vec()),
        Shape::Integer | Shape::Rowid(_) => Ok(vec![args.get(0)]),
    }
}

/// Whether a row is at this place.
pub fn exists(state: &State, table: &Table, place: &[ValueRef<'_>]) -> Result<bool> {
    let statement = table.statement(state.db, Use::Exists, || {
        format!("SELECT 1 FROM {} WHERE {}", table.sql_name(), table.place_condition())
    })?;
    let found = statement.borrow_mut().query_i64(place)?;
    Ok(found.is_some())
}

fn read_row(state: &State, table: &Table, place: &[ValueRef<'_>]) -> Result<Vec<(String, Value)>> {
    // Not cached: between begin and commit of an alter the columns may change at any time.
    let list = table.columns[..table.registers]
        .iter()
        .map(|c| Ident(&c.name).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = state.db.prepare(&format!(
        "SELECT {list} FROM {} WHERE {}",
        table.sql_name(),
        table.place_condition()
    ))?;
    let row = select.query_row(place, |row| {
        let values = table.columns[..table.registers].iter().enumerate();
        Ok(values.map(|(at, c)| (c.name.clone(), row.column_value(at).to_owned_value())).collect())
    })?;
    Ok(row.unwrap_or_default())
}

/// `crsql_capture_before(table, OLD key…)`
pub fn before(state: &State, call: &Call<'_>) -> Result<()> {
    state.check_suspect_schema()?;
    let ValueRef::Integer(id) = call.arg(0) else { return Ok(()) };
    let table = state.table(id as u32)?;
    let row = read_row(state, &table, &place_values(&table, &call.args().skip(1))?)?;
    state.before.borrow_mut().0 = Some((table.id, row));
    Ok(())
}

/// `crsql_capture_after(table, NEW key…, OLD key…)`
pub fn after(state: &State, call: &Call<'_>) -> Result<()> {
    let ValueRef::Integer(id) = call.arg(0) else { return Ok(()) };
    let table = state.table(id as u32)?;
    let width = key_width(&table);
    let (new, old) = (call.args().skip(1), call.args().skip(1 + width));
    if !(0..width).all(|at| new.get(at).same(&old.get(at))) {
        record_delete(state, &table, &old)?;
        return record_insert(state, &table, &new);
    }
    let Some((before_id, before)) = state.before.borrow_mut().0.take() else { return Ok(()) };
    let row = read_row(state, &table, &place_values(&table, &new)?)?;
    let is_changed = |name: &str, value: &Value| {
        before_id != table.id
            || before
                .iter()
                .find(|(n, _)| n == name)
                .is_none_or(|(_, old)| !old.as_ref().same(&value.as_ref()))
    };
    let mut changed = Columns::new();
    for (column, (name, value)) in table.columns[..table.registers].iter().zip(&row) {
        match table.typed(column.id) {
            _ if !is_changed(name, value) => {}
            None => changed.insert(column.id),
            Some(typed) => {
                let shown = before.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref());
                let shown = shown.unwrap_or(ValueRef::Null);
                crate::typed::record(state, &table, &new, typed, value.as_ref(), shown)?;
            }
        }
    }
    if changed.is_empty() { Ok(()) } else { record_update(state, &table, &new, &changed) }
}

/// Of the columns that the running trigger does not name, those that may have changed: what was there before is
/// lost, so a value that is not the default, or that has a clock, counts.
pub fn changed_unseen(table: &Table, key: &Args<'_>, state: &State) -> Result<Columns> {
    let place = place_values(table, key)?;
    let clock_key = match table.shape {
        Shape::Packed => match canonical_key(&place, &table.key_columns) {
            Ok(key) => Key::Bytes(key.bytes.into_boxed_slice()),
            Err(_) => return Ok(Columns::new()),
        },
        _ => match place[0] {
            ValueRef::Integer(rowid) => Key::Int(rowid),
            _ => return Ok(Columns::new()),
        },
    };
    let clock = crate::merge::clock_of(state, table.id, &clock_key)?;
    let mut changed = Columns::new();
    // A statement that does not name the column can't have assigned it, unless triggers wrote in its stead.
    let statement = if table.info.user_triggers.is_empty() { state.db.busy_writer_sql() } else { None };
    let may_assign = |name: &str| {
        statement.as_deref().is_none_or(|sql| {
            tokenize(sql).iter().any(|t| t.name().is_some_and(|word| word.eq_ignore_ascii_case(name)))
        })
    };
    for column in table.columns.iter().filter(|column| table.untriggered.contains(column.id)) {
        if !may_assign(&column.name) {
            continue;
        }
        let default = column.default_sql.as_deref().unwrap_or("NULL");
        let mut select = state.db.prepare(&format!(
            "SELECT {}, ({default}) FROM {} WHERE {}",
            Ident(&column.name),
            table.sql_name(),
            table.place_condition()
        ))?;
        let is_default =
            select.query_row(&place, |row| Ok(row.column_value(0).same(&row.column_value(1))))?;
        let has_clock = clock.as_ref().is_some_and(|clock| clock.group_of(column.id).is_some());
        if has_clock || is_default == Some(false) {
            changed.insert(column.id);
        }
    }
    Ok(changed)
}
