//! `crsql_config_set` and `crsql_config_get`: settings of the database, the same on every connection.

use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crsql_core::value::Value;

/// The value of a setting; `None` when it was never set.
pub fn value(state: &State, name: &str) -> Result<Option<Value>> {
    if !state.store.borrow_mut().exists()? {
        return Ok(None);
    }
    let mut select = state.db.prepare("SELECT value FROM main.__crsql_config WHERE name = ?1")?;
    select.query_row(&[ValueRef::Text(name.as_bytes())], |row| Ok(row.column_value(0).to_owned_value()))
}

/// A setting's value as text.
pub fn text(state: &State, name: &str) -> Result<Option<String>> {
    Ok(match value(state, name)? {
        Some(Value::Text(text)) => String::from_utf8(text).ok(),
        _ => None,
    })
}

/// Sets a setting, after checking that it exists and takes this value.
pub fn set(state: &State, name: &str, value: ValueRef<'_>) -> Result<()> {
    match name {
        "tie-break" => {
            let known = matches!(value, ValueRef::Text(b"site" | b"value"));
            if !known {
                return Err(Error::refused("setting \"tie-break\" must be 'site' or 'value'"));
            }
            state.check_schema()?;
            if !state.tables()?.is_empty() {
                return Err(Error::refused(
                    "setting \"tie-break\" can only be set before the first table is replicated, \
                     because replicas that order writes differently diverge",
                ));
            }
        }
        "merge-equal-values" => {
            if !matches!(value, ValueRef::Integer(0 | 1)) {
                return Err(Error::refused("setting \"merge-equal-values\" must be 0 or 1"));
            }
        }
        _ => return Err(Error::refused(format_args!("Unknown setting name {name:?}"))),
    }
    state.create()?;
    state
        .db
        .prepare("INSERT OR REPLACE INTO main.__crsql_config (name, value) VALUES (?1, ?2)")?
        .execute(&[ValueRef::Text(name.as_bytes()), value])?;
    state.tie_break.set(None);
    Ok(())
}
