//! `crsql_begin_alter`.

use super::{install_alter_triggers, replicated};
use crate::catalog::Shape;
use crate::schema::Ident;
use crate::sqlite::Result;
use crate::state::State;

/// Opens a savepoint in which the table may be altered in any way, until `crsql_commit_alter`. Writes in between
/// are captured by triggers that name no column but the key's.
pub fn begin_alter(state: &State, name: &str) -> Result<()> {
    state.check_schema()?;
    let table = replicated(state, name)?;
    super::write_columns(state, &table)?;
    state.db.exec("SAVEPOINT crsql_alter")?;
    let begun = install_alter_triggers(state, &table).and_then(|()| {
        let Shape::Rowid(rowid) = table.shape else { return Ok(()) };
        // A rebuild of the table renumbers its rowids, and the clocks must follow the keys.
        state.db.exec(&format!(
            "CREATE TABLE main.{keys} AS SELECT {rowid} AS __crsql_rowid, {list} FROM {table}",
            keys = Ident(&keys_table(table.id)),
            list = table
                .key_names
                .iter()
                .enumerate()
                .map(|(at, name)| format!("{} AS k{at}", Ident(name)))
                .collect::<Vec<_>>()
                .join(", "),
            table = table.sql_name()
        ))
    });
    if begun.is_err() {
        state.db.exec("ROLLBACK TO crsql_alter").ok();
        state.db.exec("RELEASE crsql_alter").ok();
    }
    state.forget_schema();
    begun
}

/// Where the keys are kept by rowid during an alter.
pub fn keys_table(id: u32) -> String {
    format!("__crsql_keys_{id}")
}
