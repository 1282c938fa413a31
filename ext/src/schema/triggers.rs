//! The SQL of the triggers that capture local writes.
//!
//! ```sql
//! CREATE TRIGGER "__crsql_3_insert" AFTER INSERT ON "todo"
//! WHEN crsql_capture_insert(3, NEW._rowid_, NEW."id")
//! BEGIN DELETE FROM crsql_capture; END
//! ```
//! The function in the WHEN clause does the work and answers 0, so the body never runs. It is there because SQLite
//! enlists in the transaction, when a statement starts, every virtual table that any of its triggers could write.
//!
//! ```sql
//! CREATE TRIGGER "__crsql_3_delete" AFTER DELETE ON "todo"
//! BEGIN SELECT crsql_capture_delete(3, OLD._rowid_, OLD."id")
//! UNION ALL SELECT 1 FROM crsql_capture_ahead WHERE 0; END
//! ```
//! Updates and deletes hand over the row to an aggregate function. SQLite takes a call of a scalar function for
//! something that can fail, so each statement that fires the trigger would keep a journal of its own to undo itself:
//! half of the cost of an UPDATE. An aggregate is no such thing to it. The price is that a failure here can't undo
//! the statement, so it is told as one that makes SQLite roll back the whole transaction: a row that was not captured
//! is never committed. An INSERT has that journal anyway, because its key may clash.
//!
//! # The functions
//! `key` is the rowid, or the rowid and the key's columns, or the key's columns: see
//! [`KeyShape`]. The first argument is always the table's id.
//!
//! | call | when |
//! |---|---|
//! | `crsql_capture_insert(table, NEW key…)` | a row was inserted |
//! | `crsql_capture_delete(table, OLD key…)`, an aggregate | a row was deleted |
//! | `crsql_capture_update(table, NEW key…, column, NEW value, OLD value, …)`, an aggregate | any column was assigned (the first eight), one of these was (the rest) |
//! | `crsql_capture_typed(table, OLD key…, NEW key…, column, NEW value, OLD value, …)` | one of these columns, which have a type, was assigned |
//! | `crsql_capture_typed_insert(table, column, NEW value, …)` | a row with such columns was inserted |
//! | `crsql_capture_key(table, n, NEW key…, OLD key…)` | the key was assigned; `n` values a key |
//! | `crsql_capture_candidate(table, ordinal, key…)` | this row stands in the way of the next write |
//! | `crsql_capture_before(table, OLD key…)` | during an alter: a row is about to be updated |
//! | `crsql_capture_after(table, NEW key…, OLD key…)` | during an alter: it was |
//! | `INSERT OR IGNORE INTO crsql_capture(op, a, …) VALUES (table, NEW key…)` | a row is about to be inserted |
//!
//! # Candidates
//! REPLACE removes rows without firing delete triggers (unless `recursive_triggers` is on). The guard triggers name
//! the rows that a REPLACE *would* remove, before each INSERT and each UPDATE of a unique column; whether it did is
//! known when the write's own capture call comes and the candidate is gone. The ordinal counts the ways to clash: the
//! key, the rowid, each unique index. Each yields at most one row and they come in ascending order, so an ordinal
//! that does not ascend begins another write; that bounds what has to be remembered when INSERT OR IGNORE never
//! comes to the insert.
//!
//! Where only the key and the rowid can clash, looking for candidates before every INSERT would cost more than all of
//! the rest. There the guard writes the key to `crsql_capture`, which SQLite tells how clashes are resolved: with
//! REPLACE it looks for candidates, else for none. IGNORE is how the trigger says "otherwise"; it keeps a write that
//! comes to nothing out of `total_changes()`.
//!
//! # Order of triggers
//! SQLite fires the triggers of one event newest first. A trigger of the schema's author that is newer than ours can
//! update or delete the row of an INSERT before `crsql_capture_insert` hears of it.

use std::fmt::Write;

use crate::schema::ident::Ident;
use crate::schema::table::{KeyShape, ROWID_NAMES, TableInfo, UniqueIndex};
use crate::schema::tokens::{Token, tokenize};

/// Most key columns of a replicated table: `crsql_capture_key` takes two keys, and SQLite's functions take no more
/// than 127 arguments.
pub const KEY_COLUMNS_MAX: usize = 40;

/// Columns of one update trigger. A statement runs each trigger that names an assigned column, and each call passes
/// all of the trigger's columns: few triggers make wide updates cheap, narrow triggers make small updates cheap.
const COLUMNS_PER_TRIGGER: usize = 8;

/// The columns of `crsql_capture` that take the terms of a key.
const GUARD_TERMS: [&str; 5] = ["a", "b", "c", "d", "e"];

const PREFIX: &str = "__crsql_";

/// The body that makes our virtual table part of the transaction when a statement begins, and is never run. SQLite
/// asks a virtual table for a plan whenever it prepares a statement that fires the trigger, and it prepares again
/// after every change of the schema, so capture learns of one without asking per row.
const BODY: &str = "BEGIN DELETE FROM crsql_capture; END";

/// What ends the SELECT of an update or delete trigger: never read, but planned for, as with [`BODY`].
const AHEAD: &str = "UNION ALL SELECT 1 FROM crsql_capture_ahead WHERE 0";

/// As [`BODY`], without making it part of the transaction.
const LATE_BODY: &str = "BEGIN SELECT 1 FROM crsql_capture; END";

/// The ids by which the catalogue knows a table and its columns, whatever they are called at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureIds {
    /// The table's id.
    pub table: i64,
    /// The registers: id, position in [`TableInfo::columns`].
    pub columns: Vec<(i64, usize)>,
    /// The columns of other types, likewise.
    pub typed: Vec<(i64, usize)>,
}

/// A trigger to be created on `main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The `CREATE TRIGGER` statement.
    pub create: String,
}

impl Trigger {
    /// The statement that removes it, whether or not it exists.
    pub fn drop(&self) -> String {
        drop_trigger(&self.name)
    }
}

/// The statement that removes the trigger `name` of `main`, whether or not it exists.
pub fn drop_trigger(name: &str) -> String {
    format!("DROP TRIGGER IF EXISTS main.{}", Ident(name))
}

/// Whether a trigger is one of ours, by its name: `__crsql_<table id>_…`.
pub fn is_capture_trigger(name: &str) -> bool {
    let Some((head, rest)) = name.split_at_checked(PREFIX.len()) else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    head.eq_ignore_ascii_case(PREFIX) && digits > 0 && rest[digits..].starts_with('_')
}

/// All triggers of a replicated table.
pub fn capture_triggers(table: &TableInfo, ids: &CaptureIds) -> Vec<Trigger> {
    let writer = Writer::new(table, ids.table);
    let mut triggers = vec![writer.insert(), writer.delete(), writer.key_update()];
    // The newest fires first: registers are captured before columns that have a type.
    triggers.extend(writer.typed(&ids.typed));
    triggers.extend(writer.updates(&ids.columns));
    let clashing: Vec<_> = table.clashing_indexes().filter_map(|index| writer.unique(index)).collect();
    if table.integer_primary_key.is_none() || !clashing.is_empty() {
        triggers.push(writer.insert_guard(&clashing));
        triggers.push(writer.update_guard(&clashing));
    }
    triggers
}

/// The triggers that stand in while the table is altered. They name no column outside the key, because SQLite drops
/// no column that a trigger names; so they pass the row's key before and after, and capture reads the row.
pub fn alter_triggers(table: &TableInfo, table_id: i64) -> Vec<Trigger> {
    let writer = Writer::new(table, table_id);
    let mut triggers = vec![writer.insert(), writer.delete(), writer.before_update(), writer.after_update()];
    if table.integer_primary_key.is_none() {
        triggers.push(writer.insert_guard(&[]));
        triggers.push(writer.update_guard(&[]));
    }
    triggers
}

/// A unique index as a condition between a stored row and `NEW`.
struct Unique {
    condition: String,
    /// The columns whose assignment can lead to a clash; `None` if that may be any column.
    columns: Option<Vec<usize>>,
}

struct Writer<'a> {
    table: &'a TableInfo,
    id: i64,
    /// Terms of the key, as SQL: a bare name of the rowid, quoted names of columns.
    key: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(table: &'a TableInfo, id: i64) -> Writer<'a> {
        let mut key = Vec::new();
        if let KeyShape::RowidAndKey(rowid) = table.key_shape() {
            key.push(rowid.to_owned());
        }
        key.extend(table.key().map(|column| Ident(&column.name).to_string()));
        Writer { table, id, key }
    }

    fn trigger(&self, name: &str, event: &str, rest: &str) -> Trigger {
        let name = format!("{PREFIX}{}_{name}", self.id);
        let create =
            format!("CREATE TRIGGER main.{} {event} ON {}\n{rest}", Ident(&name), Ident(&self.table.name));
        Trigger { name, create }
    }

    fn calling(&self, name: &str, event: &str, function: &str, arguments: &str) -> Trigger {
        self.trigger(name, event, &format!("WHEN {function}({}{arguments})\n{BODY}", self.id))
    }

    fn collecting(&self, name: &str, event: &str, aggregate: &str, arguments: &str) -> Trigger {
        let select = format!("SELECT {aggregate}({}{arguments})", self.id);
        self.trigger(name, event, &format!("BEGIN {select}\n{AHEAD}; END"))
    }

    /// `, NEW.k1, NEW.k2`
    fn key_of(&self, row: &str) -> String {
        self.key.iter().fold(String::new(), |mut list, term| {
            let _ = write!(list, ", {row}.{term}");
            list
        })
    }

    fn insert(&self) -> Trigger {
        // Where the rowid is the key nothing has to happen before the first row is written, and capture joins the
        // transaction by itself: that saves every statement a look whether it has.
        let body = if matches!(self.table.key_shape(), KeyShape::Integer(_)) { LATE_BODY } else { BODY };
        let call = format!("WHEN crsql_capture_insert({}{})", self.id, self.key_of("NEW"));
        self.trigger("insert", "AFTER INSERT", &format!("{call}\n{body}"))
    }

    fn delete(&self) -> Trigger {
        self.collecting("delete", "AFTER DELETE", "crsql_capture_delete", &self.key_of("OLD"))
    }

    fn key_update(&self) -> Trigger {
        let arguments = format!(", {}{}{}", self.key.len(), self.key_of("NEW"), self.key_of("OLD"));
        let event = format!("AFTER UPDATE OF {}", self.key_targets().join(", "));
        self.calling("key", &event, "crsql_capture_key", &arguments)
    }

    fn before_update(&self) -> Trigger {
        self.calling("before", "BEFORE UPDATE", "crsql_capture_before", &self.key_of("OLD"))
    }

    fn after_update(&self) -> Trigger {
        let arguments = format!("{}{}", self.key_of("NEW"), self.key_of("OLD"));
        self.calling("after", "AFTER UPDATE", "crsql_capture_after", &arguments)
    }

    fn updates<'w>(&'w self, columns: &'w [(i64, usize)]) -> impl Iterator<Item = Trigger> + 'w {
        // The first trigger names no column, so that it also fires for one that a plain ALTER TABLE ADD COLUMN
        // brought: capture then sees that the triggers are older than the table.
        let first = columns.get(..COLUMNS_PER_TRIGGER.min(columns.len())).into_iter();
        let rest = columns.get(COLUMNS_PER_TRIGGER..).unwrap_or_default().chunks(COLUMNS_PER_TRIGGER);
        first.chain(rest).enumerate().map(|(number, chunk)| {
            let names = chunk.iter().map(|(_, column)| self.column(*column).to_string());
            let event = if number == 0 {
                "AFTER UPDATE".to_owned()
            } else {
                format!("AFTER UPDATE OF {}", names.collect::<Vec<_>>().join(", "))
            };
            let mut arguments = self.key_of("NEW");
            for (id, column) in chunk {
                let name = self.column(*column);
                let _ = write!(arguments, ", {id}, NEW.{name}, OLD.{name}");
            }
            self.collecting(&format!("update_{number}"), &event, "crsql_capture_update", &arguments)
        })
    }

    /// Of columns that have a type. What they are given may be refused, and what they hold is written at once, so the
    /// statement has to be one that can be undone.
    fn typed(&self, columns: &[(i64, usize)]) -> Vec<Trigger> {
        let mut triggers = Vec::new();
        for (number, chunk) in columns.chunks(COLUMNS_PER_TRIGGER).enumerate() {
            let names = chunk.iter().map(|(_, column)| self.column(*column).to_string());
            let event = format!("AFTER UPDATE OF {}", names.collect::<Vec<_>>().join(", "));
            let mut update = format!("{}{}", self.key_of("OLD"), self.key_of("NEW"));
            let mut insert = String::new();
            for (id, column) in chunk {
                let name = self.column(*column);
                let _ = write!(update, ", {id}, NEW.{name}, OLD.{name}");
                let _ = write!(insert, ", {id}, NEW.{name}");
            }
            triggers.push(self.calling(&format!("typed_{number}"), &event, "crsql_capture_typed", &update));
            let (name, event) = (format!("typed_insert_{number}"), "AFTER INSERT");
            triggers.push(self.calling(&name, event, "crsql_capture_typed_insert", &insert));
        }
        triggers
    }

    fn column(&self, position: usize) -> Ident<'_> {
        Ident(&self.table.columns[position].name)
    }

    /// What an UPDATE may assign to change the key. SQLite matches `UPDATE OF` with the SET clause by name alone, so
    /// `SET rowid = 5` is seen only by a trigger that says `rowid`, alias or not.
    fn key_targets(&self) -> Vec<String> {
        let mut targets: Vec<String> =
            self.table.key().map(|column| Ident(&column.name).to_string()).collect();
        if self.table.key_shape() != KeyShape::Key {
            let free = ROWID_NAMES.into_iter().filter(|name| self.table.column(name).is_none());
            targets.extend(free.map(str::to_owned));
        }
        targets
    }

    fn insert_guard(&self, unique: &[Unique]) -> Trigger {
        if unique.is_empty() && self.key.len() <= GUARD_TERMS.len() {
            let columns = GUARD_TERMS[..self.key.len()].join(", ");
            let insert = format!("INSERT OR IGNORE INTO crsql_capture(op, {columns})");
            let values = format!("VALUES ({}{})", self.id, self.key_of("NEW"));
            return self.trigger("insert_guard", "BEFORE INSERT", &format!("BEGIN {insert} {values}; END"));
        }
        let mut conditions = self.key_conditions();
        if let KeyShape::RowidAndKey(rowid) = self.table.key_shape() {
            // SQLite puts -1 where the statement gives no rowid.
            conditions.push(format!("NEW.{rowid} <> -1 AND {} = NEW.{rowid}", self.stored(rowid)));
        }
        conditions.extend(unique.iter().map(|index| index.condition.clone()));
        self.trigger("insert_guard", "BEFORE INSERT", &self.candidates(&conditions, ""))
    }

    fn update_guard(&self, unique: &[Unique]) -> Trigger {
        let mut conditions = self.key_conditions();
        let mut targets = if conditions.is_empty() { Vec::new() } else { self.key_targets() };
        let itself = match self.table.key_shape() {
            KeyShape::RowidAndKey(rowid) => {
                conditions.push(format!("{} = NEW.{rowid}", self.stored(rowid)));
                format!("{} <> OLD.{rowid}", self.stored(rowid))
            }
            KeyShape::Integer(_) => format!("{} <> OLD.{}", self.stored(&self.key[0]), self.key[0]),
            KeyShape::Key => format!("NOT ({})", self.key_match("OLD")),
        };
        for index in unique {
            conditions.push(index.condition.clone());
            targets.extend(index.columns.iter().flatten().map(|column| self.column(*column).to_string()));
        }
        let any = unique.iter().any(|index| index.columns.is_none());
        let event = if any { "BEFORE UPDATE".to_owned() } else { update_of(targets) };
        self.trigger("update_guard", &event, &self.candidates(&conditions, &format!(" AND {itself}")))
    }

    /// The clash of keys; none where the key is the rowid, since there the clocks tell that it is taken.
    fn key_conditions(&self) -> Vec<String> {
        if self.table.integer_primary_key.is_some() { Vec::new() } else { vec![self.key_match("NEW")] }
    }

    fn candidates(&self, conditions: &[String], exclude: &str) -> String {
        let key = self.key.iter().map(|term| self.stored(term)).collect::<Vec<_>>().join(", ");
        let (id, table) = (self.id, Ident(&self.table.name));
        let selects = conditions.iter().enumerate().map(|(ordinal, condition)| {
            format!(
                "  SELECT crsql_capture_candidate({id}, {ordinal}, {key}) FROM {table}\n  WHERE \
                 {condition}{exclude};\n"
            )
        });
        format!("BEGIN\n{}END", selects.collect::<String>())
    }

    /// `"t"."k1" = NEW."k1" AND …`: the stored column on the left, so its collation and affinity apply.
    fn key_match(&self, row: &str) -> String {
        self.table
            .primary_key
            .iter()
            .map(|column| self.equal(*column, &self.table.columns[*column].collation, row))
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// The index's own collation, spelled out: it need not be the column's.
    fn equal(&self, column: usize, collation: &str, row: &str) -> String {
        let name = self.column(column).to_string();
        format!("{} COLLATE {} = {row}.{name}", self.stored(&name), Ident(collation))
    }

    /// A term of a stored row. Qualified, because a bare quoted name that is no column would be taken for a string.
    fn stored(&self, term: &str) -> String {
        format!("{}.{term}", Ident(&self.table.name))
    }

    /// `None` for an index over expressions, which eligibility refuses.
    fn unique(&self, index: &UniqueIndex) -> Option<Unique> {
        if index.expression {
            return None;
        }
        let terms = index.columns.iter().map(|term| self.equal(term.column, &term.collation, "NEW"));
        let mut condition = terms.collect::<Vec<_>>().join(" AND ");
        if index.partial {
            let _ = write!(condition, " AND ({})", predicate(index.sql.as_deref()?)?);
        }
        // A generated column changes without being assigned, and any column may stand in a predicate.
        let generated = index.columns.iter().any(|term| self.table.columns[term.column].generated);
        let columns = index.columns.iter().map(|term| term.column).collect();
        Some(Unique { condition, columns: (!index.partial && !generated).then_some(columns) })
    }
}

/// `BEFORE UPDATE OF "a", "b"`, each column once.
fn update_of(mut targets: Vec<String>) -> String {
    let mut seen = std::collections::HashSet::new();
    targets.retain(|target| seen.insert(target.clone()));
    format!("BEFORE UPDATE OF {}", targets.join(", "))
}

/// The WHERE clause of a `CREATE INDEX` statement.
fn predicate(sql: &str) -> Option<&str> {
    let tokens = tokenize(sql);
    let mut depth = 0_usize;
    let at = tokens.iter().position(|token: &Token<'_>| {
        depth = depth + usize::from(token.is_punct(b'(')) - usize::from(token.is_punct(b')') && depth > 0);
        depth == 0 && token.is_word("WHERE")
    })?;
    sql.get(tokens.get(at + 1)?.start..tokens.last()?.end())
}
