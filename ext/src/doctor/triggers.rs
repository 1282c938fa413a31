//! The triggers that capture writes: all there, and as crsql would write them.

use super::Report;
use crate::catalog::Table;
use crate::schema::script::same_sql;
use crate::schema::triggers::{CaptureIds, capture_triggers};
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use std::collections::HashSet;

/// Tables that lost all their triggers, and a connection that fires none.
pub fn check_database(state: &State, report: &mut Report) -> Result<()> {
    if !state.db.are_triggers_enabled()? {
        report.add("triggers are off", "", "this connection has them disabled, so it captures no write");
    }
    let mut select = state.db.prepare(
        "SELECT t.name FROM main.__crsql_table AS t
         JOIN main.sqlite_master AS m ON m.type = 'table' AND m.name = t.name COLLATE NOCASE
         WHERE NOT EXISTS (SELECT 1 FROM main.sqlite_master
           WHERE type = 'trigger' AND name = '__crsql_' || t.id || '_insert')",
    )?;
    while select.step()? {
        report.add(
            "no capture triggers",
            select.column_str(0)?,
            "it was dropped and created again without crsql_begin_alter; run crsql_as_crr on it",
        );
    }
    Ok(())
}

/// The triggers of one table.
pub fn check(state: &State, table: &Table, report: &mut Report) -> Result<()> {
    let written = written_columns(state, table)?;
    // A column that came by a plain ALTER has no trigger until the next write, which capture knows of.
    let ids = CaptureIds::of(table, |id| !table.untriggered.contains(id) || written.contains(&id));
    let expected = capture_triggers(&table.info, &ids);
    let installed = &table.info.capture_triggers;
    for trigger in &expected {
        // SQLite keeps the text from the name on.
        let create = trigger.create.replacen("CREATE TRIGGER main.", "CREATE TRIGGER ", 1);
        match installed.iter().find(|found| found.name == trigger.name) {
            None => report.add("missing trigger", &table.name, &trigger.name),
            Some(found) if !same_sql(&found.sql, &create) => {
                report.add("foreign trigger", &table.name, format_args!("{} has another text", trigger.name));
            }
            Some(_) => {}
        }
    }
    for found in installed.iter().filter(|found| expected.iter().all(|trigger| trigger.name != found.name)) {
        report.add("foreign trigger", &table.name, format_args!("{} is none of this table's", found.name));
    }
    Ok(())
}

/// The columns for which triggers were written.
fn written_columns(state: &State, table: &Table) -> Result<HashSet<u32>> {
    let mut select = state.db.prepare("SELECT id FROM main.__crsql_column WHERE table_id = ?1")?;
    let args = [ValueRef::Integer(i64::from(table.id))];
    let mut rows = select.query(&args)?;
    let mut ids = HashSet::new();
    while rows.step()? {
        ids.insert(rows.column_i64(0) as u32);
    }
    Ok(ids)
}
