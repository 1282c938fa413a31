//! Former names of tables and columns.
//!
//! Replicas rename at different times, and cells are called by names while they travel. What comes under a name that a
//! table or column had here before belongs to it still, as long as nothing else has taken the name. Otherwise it would
//! wait for a column that never comes back.
//!
//! The names lie in `__crsql_config`, as `former:TABLE:COLUMN:NAME` with ids, column 0 for the table itself.

use crate::catalog::Table;
use crate::park::{self, Loose, cid_of};
use crate::sqlite::{Db, Result, ValueRef};
use crate::state::State;
use crsql_core::column::ColumnType;

/// A name that something had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The table's id.
    pub table: u32,
    /// The column's id, 0 for the table itself.
    pub column: u32,
    /// The name.
    pub name: String,
}

/// All former names that are recorded.
pub fn all(db: Db) -> Result<Vec<Former>> {
    let mut formers = Vec::new();
    let mut select =
        db.prepare("SELECT name FROM main.__crsql_config WHERE name >= 'former:' AND name < 'former;'")?;
    while select.step()? {
        let mut parts = select.column_str(0)?.splitn(4, ':').skip(1);
        let mut number = || parts.next().and_then(|id| id.parse().ok());
        if let (Some(table), Some(column)) = (number(), number())
            && let Some(name) = parts.next()
        {
            formers.push(Former { table, column, name: name.to_owned() });
        }
    }
    Ok(formers)
}

/// Takes the names that a table and its columns have now into the catalogue, and records those that they had.
pub fn follow(state: &State, table: &Table) -> Result<()> {
    let id = ValueRef::Integer(i64::from(table.id));
    let stored = state
        .db
        .prepare("SELECT name FROM main.__crsql_table WHERE id = ?1")?
        .query_row(&[id], |row| Ok(row.column_str(0)?.to_owned()))?;
    if let Some(old) = stored.filter(|old| *old != table.name) {
        state
            .db
            .prepare("UPDATE main.__crsql_table SET name = ?2 WHERE id = ?1")?
            .execute(&[id, ValueRef::Text(table.name.as_bytes())])?;
        renamed_table(state, table, &old)?;
    }
    let mut renamed: Vec<(u32, String)> = Vec::new();
    {
        let mut select = state.db.prepare("SELECT id, name FROM main.__crsql_column WHERE table_id = ?1")?;
        let mut rows = select.query(std::slice::from_ref(&id))?;
        while rows.step()? {
            if let Some(column) = table.column(rows.column_i64(0) as u32)
                && column.name != rows.column_str(1)?
            {
                renamed.push((column.id, rows.column_str(1)?.to_owned()));
            }
        }
    }
    for (column, old) in renamed {
        let Some(now) = table.column(column) else { continue };
        state
            .db
            .prepare("UPDATE main.__crsql_column SET name = ?3 WHERE table_id = ?1 AND id = ?2")?
            .execute(&[id, ValueRef::Integer(i64::from(column)), ValueRef::Text(now.name.as_bytes())])?;
        renamed_column(state, table.id, &table.name, column, (&old, &now.name))?;
    }
    Ok(())
}

fn renamed_table(state: &State, table: &Table, old: &str) -> Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    record(state, table.id, 0, old)?;
    rename_parked(state, "table_name = ?1", &[ValueRef::Text(old.as_bytes())], |change| {
        change.table = table.name.clone();
    })
}

/// Records that a column of the table `table`, which is called `name`, had another name before.
pub fn renamed_column(
    state: &State,
    table: u32,
    name: &str,
    column: u32,
    (old, new): (&str, &str),
) -> Result<()> {
    if old.is_empty() || new.is_empty() {
        return Ok(());
    }
    record(state, table, column, old)?;
    let levels = |kind: ColumnType| (0..kind.levels()).map(move |level| (kind, level));
    for (kind, level) in ColumnType::ALL.into_iter().flat_map(levels) {
        let (old, new) = (kind.level_name(old, level), kind.level_name(new, level));
        let (old, new) = (cid_of(&old), cid_of(&new));
        let of_cell = [ValueRef::Text(name.as_bytes()), ValueRef::Text(old.as_bytes())];
        rename_parked(state, "table_name = ?1 AND cid = ?2", &of_cell, |change| {
            change.cid = new.clone().into_owned();
        })?;
    }
    Ok(())
}

fn record(state: &State, table: u32, column: u32, name: &str) -> Result<()> {
    let key = format!("former:{table}:{column}:{name}");
    state
        .db
        .prepare("INSERT OR IGNORE INTO main.__crsql_config (name, value) VALUES (?1, NULL)")?
        .execute(&[ValueRef::Text(key.as_bytes())])
}

/// Forgets the names of a table that is replicated no more.
pub fn forget(state: &State, table: u32) -> Result<()> {
    let (from, to) = (format!("former:{table}:"), format!("former:{table};"));
    state
        .db
        .prepare("DELETE FROM main.__crsql_config WHERE name >= ?1 AND name < ?2")?
        .execute(&[ValueRef::Text(from.as_bytes()), ValueRef::Text(to.as_bytes())])
}

/// Parks changes under another name; where one waits under that name already, the greater one stays.
fn rename_parked(
    state: &State,
    condition: &str,
    params: &[ValueRef<'_>],
    rename: impl Fn(&mut Loose),
) -> Result<()> {
    let mut moved: Vec<(i64, Loose)> = Vec::new();
    {
        let sql = park::SELECT.replace(" FROM", ", id FROM");
        let mut select = state.db.prepare(&format!("{sql} WHERE {condition}"))?;
        let mut rows = select.query(params)?;
        while rows.step()? {
            moved.push((rows.column_i64(10), park::read(&rows)?));
        }
    }
    moved.into_iter().try_for_each(|(id, mut change)| {
        rename(&mut change);
        park::park_again(state, id, &change)
    })
}
