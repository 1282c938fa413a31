//! What it takes to make `main` look like a schema text: a plan, as data.
//!
//! Nothing here changes the database. The text is tried out in a private database in memory first, so a text that
//! SQLite refuses changes nothing, and what SQLite would refuse half-way through is refused while planning where that
//! can be foreseen. Whoever carries a plan out does so inside one savepoint.
//!
//! A table or column that the text does not mention is dropped; that is what the text is for. A text without any
//! table is refused, because it would drop everything. Views, triggers and virtual tables that the text does not
//! mention stay.

mod plan;

use crsql_core::value::ValueRef;

use crate::schema::ddl::{ColumnText, TableText, table_text};
use crate::schema::describe::describe;
use crate::schema::eligibility::is_internal;
use crate::schema::scratch::Scratch;
use crate::schema::script::{self, Part, excerpt, qualified, same_in_any_order, same_sql, same_tokens};
use crate::schema::table::{TableInfo, TableKind};
use crate::schema::triggers::is_capture_trigger;
use crate::sqlite::{Db, Result};

pub use plan::{Creation, Plan, TableChange, Unplannable};

/// The plan that turns `main` of `db` into what `text` says. Reads `db`, and changes nothing.
pub fn plan(db: &Db, text: &str) -> Result<Plan> {
    let target = Target::of(text)?;
    Ok(difference(&Schema::read(db)?, &target)?)
}

/// The tables, indexes, views and triggers of a database that belong to its author.
struct Schema {
    tables: Vec<TableInfo>,
    objects: Vec<Object>,
}

/// An index, view or trigger.
struct Object {
    kind: ObjectKind,
    name: String,
    table: String,
    sql: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    Index,
    View,
    Trigger,
}

/// What a schema text describes.
struct Target {
    schema: Schema,
    virtual_tables: Vec<Creation>,
    afterwards: Vec<String>,
}

impl Target {
    fn of(text: &str) -> Result<Target> {
        let statements = script::parse(text).map_err(Unplannable::from)?;
        let scratch = Scratch::open()?;
        let (mut virtual_tables, mut afterwards) = (Vec::new(), Vec::new());
        for statement in statements {
            let sql = statement.sql.to_owned();
            match statement.part {
                Part::Definition => scratch.define(&sql).map_err(|error| Unplannable::Statement {
                    statement: excerpt(&sql),
                    reason: error.to_string(),
                })?,
                // Not tried out: the module may exist only on the application's connections.
                Part::VirtualTable(name) => virtual_tables.push(Creation { name, sql }),
                Part::Afterwards => afterwards.push(sql),
            }
        }
        let schema = Schema::read(&scratch.db())?;
        if schema.tables.is_empty() {
            return Err(Unplannable::Empty.into());
        }
        let names = schema.tables.iter().map(|t| &t.name).chain(schema.objects.iter().map(|o| &o.name));
        match names.chain(virtual_tables.iter().map(|v| &v.name)).find(|name| is_internal(name)) {
            Some(name) => Err(Unplannable::Reserved { name: name.clone() }.into()),
            None => Ok(Target { schema, virtual_tables, afterwards }),
        }
    }
}

const OBJECTS: &str = "
SELECT type, name, tbl_name, sql
FROM main.sqlite_master
WHERE sql IS NOT NULL AND substr(name, 1, 7) <> 'sqlite_'
ORDER BY rowid";

impl Schema {
    fn read(db: &Db) -> Result<Schema> {
        let mut schema = Schema { tables: Vec::new(), objects: Vec::new() };
        let mut tables = Vec::new();
        let mut statement = db.prepare(OBJECTS)?;
        let mut rows = statement.query(&[] as &[ValueRef<'_>])?;
        while rows.step()? {
            let (name, table, sql) = (rows.column_str(1)?, rows.column_str(2)?, rows.column_str(3)?);
            let kind = match rows.column_str(0)? {
                "table" => {
                    tables.push(name.to_owned());
                    continue;
                }
                "index" => ObjectKind::Index,
                "view" => ObjectKind::View,
                "trigger" => ObjectKind::Trigger,
                _ => continue,
            };
            if !is_capture_trigger(name) {
                let (name, table, sql) = (name.to_owned(), table.to_owned(), sql.to_owned());
                schema.objects.push(Object { kind, name, table, sql });
            }
        }
        drop(rows);
        for name in tables {
            schema.tables.extend(describe(db, &name)?);
        }
        Ok(schema)
    }

    fn table(&self, name: &str) -> Option<&TableInfo> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    fn object(&self, kind: ObjectKind, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.kind == kind && object.name.eq_ignore_ascii_case(name))
    }

    /// Ordinary tables of the author. Those of SQLite, of crsql and of virtual tables are none, nor are cr-sqlite's.
    fn own_tables(&self) -> impl Iterator<Item = &TableInfo> {
        self.tables.iter().filter(|table| {
            table.kind == TableKind::Table && !is_internal(&table.name) && !table.name.contains("__crsql_")
        })
    }
}

fn difference(current: &Schema, target: &Target) -> Result<Plan, Unplannable> {
    let mut plan = Plan { afterwards: target.afterwards.clone(), ..Plan::default() };
    let virtual_name = |name: &str| target.virtual_tables.iter().any(|v| v.name.eq_ignore_ascii_case(name));
    for table in current.own_tables() {
        if virtual_name(&table.name) {
            return Err(Unplannable::Kind {
                name: table.name.clone(),
                is: "table",
                becomes: "virtual table",
            });
        }
        if target.schema.table(&table.name).is_none() {
            plan.drop_tables.push(table.name.clone());
        }
    }
    for table in &target.schema.tables {
        match current.table(&table.name) {
            None if current.object(ObjectKind::View, &table.name).is_some() => {
                return Err(Unplannable::Kind { name: table.name.clone(), is: "view", becomes: "table" });
            }
            None => {
                plan.create_tables.push(Creation { name: table.name.clone(), sql: qualified(&table.sql) })
            }
            Some(now) if now.kind == TableKind::Table => plan.alter_table(now, table)?,
            Some(now) => {
                return Err(Unplannable::Kind {
                    name: now.name.clone(),
                    is: "virtual table",
                    becomes: "table",
                });
            }
        }
    }
    plan.objects(current, &target.schema)?;
    let missing = target.virtual_tables.iter().filter(|table| current.table(&table.name).is_none());
    plan.create_virtual_tables = missing.cloned().collect();
    Ok(plan)
}

impl Plan {
    fn objects(&mut self, current: &Schema, target: &Schema) -> Result<(), Unplannable> {
        for object in &current.objects {
            let wanted = target.object(object.kind, &object.name);
            let owned = current.own_tables().any(|table| table.name.eq_ignore_ascii_case(&object.table));
            let same = wanted.is_some_and(|wanted| same_sql(&wanted.sql, &object.sql));
            let dropped = self.drop_tables.iter().any(|table| table.eq_ignore_ascii_case(&object.table));
            if same || (dropped && object.kind != ObjectKind::View) {
                continue;
            }
            match (object.kind, wanted) {
                (ObjectKind::Index, _) if owned && !is_internal(&object.name) => {
                    self.drop_indexes.push(object.name.clone());
                }
                (ObjectKind::View, Some(_)) => self.drop_views.push(object.name.clone()),
                (ObjectKind::Trigger, Some(_)) => self.drop_triggers.push(object.name.clone()),
                _ => {}
            }
        }
        for object in &target.objects {
            let now = current.object(object.kind, &object.name);
            let kept = now.is_some_and(|now| {
                same_sql(&now.sql, &object.sql)
                    && !self.drop_tables.iter().any(|table| table.eq_ignore_ascii_case(&now.table))
            });
            let list = match object.kind {
                ObjectKind::View if current.table(&object.name).is_some() => {
                    return Err(Unplannable::Kind {
                        name: object.name.clone(),
                        is: "table",
                        becomes: "view",
                    });
                }
                ObjectKind::Index => &mut self.create_indexes,
                ObjectKind::View => &mut self.create_views,
                ObjectKind::Trigger => &mut self.create_triggers,
            };
            if !kept {
                list.push(Creation { name: object.name.clone(), sql: qualified(&object.sql) });
            }
        }
        Ok(())
    }

    fn alter_table(&mut self, now: &TableInfo, target: &TableInfo) -> Result<(), Unplannable> {
        if same_sql(&now.sql, &target.sql) {
            return Ok(());
        }
        if key_text(now) != key_text(target) {
            return Err(Unplannable::Key {
                table: now.name.clone(),
                is: key_text(now),
                becomes: key_text(target),
            });
        }
        let texts = (table_text(&now.sql).unwrap_or_default(), table_text(&target.sql).unwrap_or_default());
        let mut change = TableChange { table: now.name.clone(), ..TableChange::default() };
        for column in &now.columns {
            match target.column(&column.name) {
                None => change.drop_columns.push(column.name.clone()),
                Some(_) => self.compare_column(&now.name, &column.name, &texts),
            }
        }
        for column in target.columns.iter().filter(|column| now.column(&column.name).is_none()) {
            let Some(text) = column_text(&texts.1, &column.name) else { continue };
            if let Some(reason) = obstacle(target, text) {
                let (table, column) = (now.name.clone(), column.name.clone());
                return Err(Unplannable::Column { table, column, reason });
            }
            change.add_columns.push(text.definition.to_owned());
        }
        if !same_in_any_order(&texts.0.constraints, &texts.1.constraints)
            || (texts.0.strict, texts.0.without_rowid) != (texts.1.strict, texts.1.without_rowid)
        {
            self.unapplied.push(format!(
                "table {:?} has other constraints or options in the schema; SQLite can't change them in place, so \
                 rebuild the table",
                now.name
            ));
        }
        if change.drop_columns.len() + change.add_columns.len() > 0 {
            self.alter_tables.push(change);
        }
        Ok(())
    }

    fn compare_column(&mut self, table: &str, column: &str, texts: &(TableText<'_>, TableText<'_>)) {
        let (Some(now), Some(target)) = (column_text(&texts.0, column), column_text(&texts.1, column)) else {
            return;
        };
        if !same_tokens(&now.tokens, &target.tokens) {
            self.unapplied.push(format!(
                "column {column:?} of table {table:?} is {:?} here and {:?} in the schema; SQLite can't change it in \
                 place, so add a column of another name or rebuild the table",
                excerpt(now.definition),
                excerpt(target.definition)
            ));
        }
    }
}

/// Everything about a key that SQLite can't change, in words.
fn key_text(table: &TableInfo) -> String {
    let columns = table.key().map(|column| {
        let collation = column.collation.to_ascii_uppercase();
        let collate = if collation == "BINARY" { String::new() } else { format!(" COLLATE {collation}") };
        format!("{}{collate}", column.name.to_ascii_lowercase())
    });
    let alias = if table.integer_primary_key.is_some() { ", the rowid" } else { "" };
    columns.collect::<Vec<_>>().join(", ") + alias
}

fn column_text<'t, 'a>(table: &'t TableText<'a>, name: &str) -> Option<&'t ColumnText<'a>> {
    table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

/// Why SQLite would refuse to add this column to a table with rows.
fn obstacle(table: &TableInfo, column: &ColumnText<'_>) -> Option<&'static str> {
    let info = &table.columns[table.column(&column.name)?];
    let says = |word: &str| column.tokens.iter().skip(1).any(|token| token.is_word(word));
    let null = info.default_sql.as_deref().is_none_or(|default| default.eq_ignore_ascii_case("NULL"));
    if says("UNIQUE") {
        Some("it is UNIQUE; create a unique index instead")
    } else if info.generated && says("STORED") {
        Some("it is STORED; a VIRTUAL one can be added")
    } else if info.not_null && null && !info.generated {
        Some("it is NOT NULL and has no default for the rows there are; add a DEFAULT")
    } else {
        None
    }
}
