//! Which tables can replicate.

use crsql_core::key::Collation;
use crsql_core::limits::{COLUMN_NAME_MAX, TABLE_NAME_MAX};
use crsql_core::value::ValueRef;

use crate::schema::describe::describe;
use crate::schema::ident::Ident;
pub use crate::schema::ineligible::Ineligible;
use crate::schema::table::{TableInfo, TableKind};
use crate::schema::triggers::KEY_COLUMNS_MAX;
use crate::sqlite::{Db, Result};

/// What a table's author accepts beyond the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of rows that clash in a unique index, the one with the greatest order keeps the value.
    pub unique_winner: bool,
    /// What happens to rows whose parent is missing; `None` refuses foreign keys.
    pub foreign_keys: Option<ForeignKeyPolicy>,
}

/// What a merge does with a row whose parent is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignKeyPolicy {
    /// It writes the row.
    Ignore,
    /// It keeps the row back until the parent comes.
    Park,
    /// It deletes the row as the parent's delete would have.
    Cascade,
}

/// The table of `main` called `name`, if it can replicate under `policies`.
pub fn eligible(db: &Db, name: &str, policies: Policies) -> Result<TableInfo> {
    check_name(name)?;
    let Some(table) = describe(db, name)? else { return Err(whereabouts(db, name)?.into()) };
    check_with(&table, policies)?;
    Ok(table)
}

/// Whether `table` can replicate without the author's consent to anything.
pub fn check(table: &TableInfo) -> Result<(), Ineligible> {
    check_with(table, Policies::default())
}

/// Whether `table` can replicate under `policies`. Checks in cr-sqlite's order, then what only crsql refuses.
pub fn check_with(table: &TableInfo, policies: Policies) -> Result<(), Ineligible> {
    check_name(&table.name)?;
    check_kind(table)?;
    check_unique(table, policies)?;
    check_key(table)?;
    if let (Some(key), None) = (table.foreign_keys.first(), policies.foreign_keys) {
        return Err(Ineligible::ForeignKey { table: table.name.clone(), parent: key.parent.clone() });
    }
    check_columns(table)
}

/// Whether a name belongs to SQLite or to crsql, tables, indexes and triggers alike.
pub fn is_internal(name: &str) -> bool {
    check_name(name).is_err_and(|reason| !matches!(reason, Ineligible::TableNameTooLong { .. }))
}

fn check_name(name: &str) -> Result<(), Ineligible> {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    let table = name.to_owned();
    if starts("sqlite_") {
        return Err(Ineligible::SqliteInternal { table });
    }
    if starts("__crsql_") || starts("crsql_") {
        return Err(Ineligible::Reserved { table });
    }
    if name.len() > TABLE_NAME_MAX {
        return Err(Ineligible::TableNameTooLong { bytes: name.len(), table });
    }
    Ok(())
}

fn check_kind(table: &TableInfo) -> Result<(), Ineligible> {
    let name = table.name.clone();
    match table.kind {
        TableKind::Table => Ok(()),
        TableKind::View => Err(Ineligible::View { table: name }),
        TableKind::Virtual => Err(Ineligible::Virtual { table: name }),
        TableKind::Shadow => Err(Ineligible::Shadow { table: name }),
    }
}

fn check_unique(table: &TableInfo, policies: Policies) -> Result<(), Ineligible> {
    for index in table.clashing_indexes() {
        let (name, index_name) = (table.name.clone(), index.name.clone());
        if !policies.unique_winner {
            let columns: Vec<_> =
                index.columns.iter().map(|term| table.columns[term.column].name.as_str()).collect();
            let on = if index.expression { String::new() } else { format!(" on ({})", columns.join(", ")) };
            return Err(Ineligible::UniqueIndex { table: name, index: index_name, on });
        }
        if index.expression {
            return Err(Ineligible::UniqueExpression { table: name, index: index_name });
        }
        if index.partial {
            return Err(Ineligible::UniquePartial { table: name, index: index_name });
        }
        if let Some(term) = index.columns.iter().find(|term| table.columns[term.column].generated) {
            let column = table.columns[term.column].name.clone();
            return Err(Ineligible::UniqueGenerated { table: name, index: index_name, column });
        }
        if let Some(term) = index.columns.iter().find(|term| Collation::of_name(&term.collation).is_none()) {
            let column = table.columns[term.column].name.clone();
            return Err(Ineligible::Collation { table: name, column, collation: term.collation.clone() });
        }
    }
    Ok(())
}

fn check_key(table: &TableInfo) -> Result<(), Ineligible> {
    let name = || table.name.clone();
    if table.primary_key.is_empty() {
        return Err(Ineligible::NoKey { table: name() });
    }
    // An alias of the rowid is never NULL, declared so or not.
    let nullable = table.key().find(|column| !column.not_null && table.integer_primary_key.is_none());
    if let Some(column) = nullable {
        let column = column.name.clone();
        return Err(if table.primary_key.len() == 1 {
            Ineligible::NullableKey { table: name(), column }
        } else {
            Ineligible::NullableKeyPart { table: name(), column }
        });
    }
    if table.autoincrement {
        return Err(Ineligible::AutoIncrement { table: name() });
    }
    if table.primary_key.len() > KEY_COLUMNS_MAX {
        return Err(Ineligible::KeyTooWide { table: name(), columns: table.primary_key.len() });
    }
    if table.key_conflict_replace {
        return Err(Ineligible::KeyConflictReplace { table: name() });
    }
    match table.key().find(|column| Collation::of_name(&column.collation).is_none()) {
        None => Ok(()),
        Some(column) => Err(Ineligible::Collation {
            table: name(),
            column: column.name.clone(),
            collation: column.collation.clone(),
        }),
    }
}

fn check_columns(table: &TableInfo) -> Result<(), Ineligible> {
    for column in &table.columns {
        let (name, bytes) = (column.name.clone(), column.name.len());
        // NOT NULL DEFAULT NULL passes, as in cr-sqlite: its author has seen the rule. Such a row waits, parked, for
        // its value.
        let bare = column.not_null && column.default_sql.is_none();
        if bare && column.pk_position.is_none() && !column.generated {
            return Err(Ineligible::NotNullWithoutDefault { table: table.name.clone(), column: name });
        }
        if bytes > COLUMN_NAME_MAX {
            return Err(Ineligible::ColumnNameTooLong { table: table.name.clone(), column: name, bytes });
        }
    }
    Ok(())
}

/// Where a table is that is not in `main`.
fn whereabouts(db: &Db, name: &str) -> Result<Ineligible> {
    let mut schemas = Vec::new();
    let mut rows = db.prepare("PRAGMA database_list")?;
    while rows.step()? {
        schemas.push(rows.column_str(1)?.to_owned());
    }
    let table = name.to_owned();
    for schema in schemas.into_iter().filter(|schema| schema != "main") {
        let sql = format!(
            "SELECT 1 FROM {}.sqlite_master WHERE type IN ('table', 'view') AND name COLLATE NOCASE = ?1",
            Ident(&schema)
        );
        if db.prepare(&sql)?.query_i64(&[ValueRef::Text(name.as_bytes())])?.is_some() {
            return Ok(match schema.as_str() {
                "temp" => Ineligible::Temporary { table },
                _ => Ineligible::Attached { table, schema },
            });
        }
    }
    Ok(Ineligible::Missing { table })
}
