//! What a table of `main` is, read from SQLite itself.
//!
//! Always `main`: a TEMP table of the same name shadows a bare name, so every lookup names its schema. It reads and
//! does not judge; whether a table can replicate is [`eligibility`](crate::schema::eligibility)'s business.

use crsql_core::key::Affinity;
use crsql_core::value::ValueRef;

use crate::schema::ddl::table_text;
use crate::schema::ident::Literal;
use crate::schema::table::{
    ColumnInfo, ForeignKey, IndexedColumn, InstalledTrigger, TableInfo, TableKind, UniqueIndex,
};
use crate::schema::triggers::is_capture_trigger;
use crate::sqlite::{Db, Result, Statement};

/// Reads the table of `main` called `name`, in any letter case; `None` if there is none.
pub fn describe(db: &Db, name: &str) -> Result<Option<TableInfo>> {
    let Some(Entries { mut table, indexes, virtual_tables }) = entries(db, name)? else { return Ok(None) };
    if table.kind == TableKind::Table && may_be_shadow(&table.name, &virtual_tables) {
        table.kind = shadow_kind(db, &table.name)?;
    }
    if matches!(table.kind, TableKind::View | TableKind::Virtual) {
        return Ok(Some(table));
    }
    read_text(&mut table);
    read_columns(db, &mut table)?;
    read_indexes(db, &mut table, &indexes)?;
    read_foreign_keys(db, &mut table)?;
    table.key_conflict_replace = key_conflict_replace(&table);
    Ok(Some(table))
}

struct Entries {
    table: TableInfo,
    /// Names and texts of the table's indexes.
    indexes: Vec<(String, Option<String>)>,
    virtual_tables: Vec<String>,
}

/// One pass over `sqlite_schema`, which has no index: with a thousand replicated tables it is thousands of rows.
const ENTRIES: &str = "
SELECT type, name, sql, tbl_name COLLATE NOCASE = ?1
FROM main.sqlite_master
WHERE tbl_name COLLATE NOCASE = ?1 OR (type = 'table' AND rootpage = 0)";

fn entries(db: &Db, name: &str) -> Result<Option<Entries>> {
    let mut table: Option<TableInfo> = None;
    let mut indexes = Vec::new();
    let (mut user_triggers, mut capture_triggers, mut virtual_tables) = (Vec::new(), Vec::new(), Vec::new());
    let mut statement = db.prepare(ENTRIES)?;
    let mut rows = statement.query(&[ValueRef::Text(name.as_bytes())])?;
    while rows.step()? {
        let entry = text(&rows, 1)?;
        let sql = optional_text(&rows, 2)?;
        let is_virtual = sql.as_deref().is_some_and(|sql| sql.starts_with("CREATE VIRTUAL"));
        match (rows.column_str(0)?, rows.column_i64(3) != 0) {
            ("table", true) if is_virtual => table = Some(TableInfo::new(entry, TableKind::Virtual, sql)),
            ("table", true) => table = Some(TableInfo::new(entry, TableKind::Table, sql)),
            ("view", true) => table = Some(TableInfo::new(entry, TableKind::View, sql)),
            ("index", true) => indexes.push((entry, sql)),
            ("trigger", true) if is_capture_trigger(&entry) => {
                capture_triggers.push(InstalledTrigger { name: entry, sql: sql.unwrap_or_default() });
            }
            ("trigger", true) => user_triggers.push(entry),
            ("table", false) => virtual_tables.push(entry),
            _ => {}
        }
    }
    Ok(table.map(|mut table| {
        table.user_triggers = user_triggers;
        table.capture_triggers = capture_triggers;
        Entries { table, indexes, virtual_tables }
    }))
}

/// A shadow table is named after its virtual table: `<virtual table>_<suffix>`.
fn may_be_shadow(name: &str, virtual_tables: &[String]) -> bool {
    virtual_tables.iter().any(|owner| shadow_suffix(name, owner).is_some())
}

fn shadow_suffix<'a>(name: &'a str, owner: &str) -> Option<&'a str> {
    let head = name.get(..owner.len())?;
    head.eq_ignore_ascii_case(owner).then(|| name[owner.len()..].strip_prefix('_')).flatten()
}

/// Asked only when the name suggests it, because the pragma connects every virtual table of the schema.
fn shadow_kind(db: &Db, name: &str) -> Result<TableKind> {
    let mut rows = db.prepare(&format!("PRAGMA main.table_list({})", Literal(name)))?;
    if rows.step()? {
        return Ok(if text(&rows, 2)? == "shadow" { TableKind::Shadow } else { TableKind::Table });
    }
    // Hosts before 3.37 have no such pragma and no way to ask: go by the suffixes of FTS3-5 and R-Tree.
    let known = [
        "content", "docsize", "segments", "segdir", "stat", "data", "idx", "config", "node", "rowid",
        "parent",
    ];
    let suffix = name.rsplit('_').next().unwrap_or_default();
    Ok(if known.iter().any(|k| k.eq_ignore_ascii_case(suffix)) {
        TableKind::Shadow
    } else {
        TableKind::Table
    })
}

fn read_text(table: &mut TableInfo) {
    if let Some(text) = table_text(&table.sql) {
        table.without_rowid = text.without_rowid;
        table.strict = text.strict;
        table.autoincrement = text.autoincrement;
    }
}

/// Columns of `PRAGMA table_xinfo`: cid, name, type, notnull, dflt_value, pk, hidden.
fn read_columns(db: &Db, table: &mut TableInfo) -> Result<()> {
    let mut rows = db.prepare(&format!("PRAGMA main.table_xinfo({})", Literal(&table.name)))?;
    let mut key: Vec<(i64, usize)> = Vec::new();
    while rows.step()? {
        let declared_type = text(&rows, 2)?;
        let affinity_of = if table.strict { Affinity::of_strict_type } else { Affinity::of_declared_type };
        let affinity = affinity_of(&declared_type);
        if rows.column_i64(5) > 0 {
            key.push((rows.column_i64(5), table.columns.len()));
        }
        table.columns.push(ColumnInfo {
            name: text(&rows, 1)?,
            declared_type,
            affinity,
            collation: "BINARY".to_owned(),
            not_null: rows.column_i64(3) != 0,
            default_sql: optional_text(&rows, 4)?,
            pk_position: None,
            generated: matches!(rows.column_i64(6), 2 | 3),
            hidden: rows.column_i64(6) == 1,
        });
    }
    key.sort_unstable();
    for (position, (_, column)) in key.into_iter().enumerate() {
        table.columns[column].pk_position = Some(position);
        table.primary_key.push(column);
    }
    Ok(())
}

/// Columns of `PRAGMA index_list`: seq, name, unique, origin, partial.
fn read_indexes(db: &Db, table: &mut TableInfo, texts: &[(String, Option<String>)]) -> Result<()> {
    let mut has_key_index = false;
    let mut rows = db.prepare(&format!("PRAGMA main.index_list({})", Literal(&table.name)))?;
    while rows.step()? {
        if rows.column_i64(2) == 0 {
            continue;
        }
        let name = text(&rows, 1)?;
        let (columns, expression) = index_terms(db, &name, table.columns.len())?;
        if rows.column_str(3)? == "pk" {
            has_key_index = true;
            for term in columns {
                if table.primary_key.contains(&term.column) {
                    table.columns[term.column].collation = term.collation;
                }
            }
            continue;
        }
        let sql = texts.iter().find(|(index, _)| *index == name).and_then(|(_, sql)| sql.clone());
        let partial = rows.column_i64(4) != 0;
        table.unique_indexes.push(UniqueIndex { name, columns, partial, expression, sql });
    }
    // Exactly an alias of the rowid needs no index; the type alone does not tell (`INTEGER PRIMARY KEY DESC`).
    if !has_key_index && !table.without_rowid && table.primary_key.len() == 1 {
        table.integer_primary_key = table.primary_key.first().copied();
    }
    Ok(())
}

/// Columns of `PRAGMA index_xinfo`: seqno, cid, name, desc, coll, key. A cid of -2 is an expression.
fn index_terms(db: &Db, index: &str, columns: usize) -> Result<(Vec<IndexedColumn>, bool)> {
    let mut rows = db.prepare(&format!("PRAGMA main.index_xinfo({})", Literal(index)))?;
    let (mut terms, mut expression) = (Vec::new(), false);
    while rows.step()? {
        if rows.column_i64(5) == 0 {
            continue;
        }
        match usize::try_from(rows.column_i64(1)) {
            Ok(column) if column < columns => {
                terms.push(IndexedColumn { column, collation: text(&rows, 4)? })
            }
            _ => expression = true,
        }
    }
    Ok((terms, expression))
}

/// Columns of `PRAGMA foreign_key_list`: id, seq, table, from, to, on_update, on_delete, match.
fn read_foreign_keys(db: &Db, table: &mut TableInfo) -> Result<()> {
    let mut rows = db.prepare(&format!("PRAGMA main.foreign_key_list({})", Literal(&table.name)))?;
    let mut last = None;
    while rows.step()? {
        if last.replace(rows.column_i64(0)) != Some(rows.column_i64(0)) {
            table.foreign_keys.push(ForeignKey {
                parent: text(&rows, 2)?,
                columns: Vec::new(),
                parent_columns: Vec::new(),
                on_update: text(&rows, 5)?,
                on_delete: text(&rows, 6)?,
            });
        }
        if let Some(key) = table.foreign_keys.last_mut() {
            key.columns.push(text(&rows, 3)?);
            key.parent_columns.extend(optional_text(&rows, 4)?);
        }
    }
    Ok(())
}

/// A UNIQUE constraint on the key's columns shares the key's index, and lends it its conflict clause.
fn key_conflict_replace(table: &TableInfo) -> bool {
    let Some(text) = table_text(&table.sql) else { return false };
    text.keys.iter().filter(|key| key.replace).any(|key| {
        let positions: Vec<_> = key.columns.iter().filter_map(|name| table.column(name)).collect();
        key.primary || positions == table.primary_key
    })
}

fn text(rows: &Statement, column: usize) -> Result<String> {
    rows.column_str(column).map(str::to_owned)
}

fn optional_text(rows: &Statement, column: usize) -> Result<Option<String>> {
    if rows.column_is_null(column) { Ok(None) } else { text(rows, column).map(Some) }
}
