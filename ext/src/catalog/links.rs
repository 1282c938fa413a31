//! FOREIGN KEYs between replicated tables, as far as rows wait for what they refer to.

use super::{Catalog, Table};
use crate::options::{Options, Switch};
use crate::schema::eligibility::ForeignKeyPolicy;
use crate::schema::table::ForeignKey;
use crate::schema::tokens::{Token, tokenize};
use crate::schema::{self, Ident, TableInfo};
use crate::sqlite::{Db, Result, ValueRef};
use crsql_core::key::{Affinity, Collation, KeyColumn};

/// A FOREIGN KEY of a table whose rows are hidden while what they refer to is missing.
#[derive(Clone, Debug)]
pub struct Link {
    /// The id of the table that it refers to.
    pub parent: u32,
    /// That table's name.
    pub parent_name: String,
    /// The columns that refer, in the order of the parent's.
    pub columns: Vec<String>,
    /// What they refer to: the parent's key in its order, or the columns of one of its unique indexes.
    pub parent_columns: Vec<String>,
    /// How the parent tells their values apart, and so which value refers to which.
    pub kinds: Vec<KeyColumn>,
    /// It refers to the parent's key.
    pub is_key: bool,
    /// Values in both are of one affinity, so that who refers to a row can be looked up in an index.
    pub is_alike: bool,
    /// What a delete of the parent does to the row; `None` if the policy or the schema says nothing.
    pub on_delete: Option<OnDelete>,
}

/// What a delete of the parent does to a row that refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// It is deleted.
    Cascade,
    /// Its columns become NULL.
    SetNull,
    /// Its columns become their defaults.
    SetDefault,
}

impl Link {
    /// True of a row called `c` that lacks its parent. SQLite compares by the parent's affinity and collation: the
    /// parent's column is on the left, and what is on the right has none.
    pub fn orphan_condition(&self) -> String {
        let mut set = Vec::new();
        let mut equal = Vec::new();
        for (column, parent) in self.columns.iter().zip(&self.parent_columns) {
            set.push(format!("c.{} IS NOT NULL", Ident(column)));
            equal.push(format!("p.{} = +c.{}", Ident(parent), Ident(column)));
        }
        let (set, equal) = (set.join(" AND "), equal.join(" AND "));
        format!("({set} AND NOT EXISTS (SELECT 1 FROM main.{} AS p WHERE {equal}))", Ident(&self.parent_name))
    }

    /// The query for a row of the parent with these values.
    pub fn parent_query(&self) -> String {
        let columns = self.parent_columns.iter().enumerate();
        let equal: Vec<String> =
            columns.map(|(at, column)| format!("{} = ?{}", Ident(column), at + 1)).collect();
        format!("SELECT 1 FROM main.{} WHERE {}", Ident(&self.parent_name), equal.join(" AND "))
    }

    /// The condition that finds the rows which refer to these values, where [`Link::is_alike`].
    pub fn child_condition(&self) -> String {
        let columns = self.columns.iter().zip(&self.kinds).enumerate();
        let equal: Vec<String> = columns
            .map(|(at, (column, kind))| {
                let collation = match kind.collation {
                    Collation::Binary => "BINARY",
                    Collation::NoCase => "NOCASE",
                    Collation::Rtrim => "RTRIM",
                };
                format!("{} COLLATE {collation} = ?{}", Ident(column), at + 1)
            })
            .collect();
        equal.join(" AND ")
    }
}

impl Catalog {
    /// Notes what a table says of its FOREIGN KEYs: whether rows wait, or are at least let in without their parents; and
    /// of its triggers.
    pub(super) fn note_policy(&mut self, id: u32, options: &str) {
        if options.len() <= "{}".len() {
            return;
        }
        let options = Options::of_json(options);
        if options.triggers == Some(Switch::On) {
            self.firing.push(id);
        }
        match options.foreign_keys {
            Some(ForeignKeyPolicy::Ignore) => self.lax.push(id),
            Some(policy) => self.waiting.push((id, policy)),
            None => {}
        }
    }

    /// Fills in what a table refers to, and who refers to it, and whether its triggers fire.
    pub(super) fn link(&self, db: Db, table: &mut Table) -> Result<()> {
        table.fires = self.firing.contains(&table.id) && !table.info.user_triggers.is_empty();
        if table.fires {
            table.is_related = true;
            table.half_raise = half_raise(db)?;
        }
        if self.waiting.is_empty() && self.lax.is_empty() {
            return Ok(());
        }
        let is_named = |parent: &str| parent.eq_ignore_ascii_case(&table.name);
        for id in self.lax.iter().chain(self.waiting.iter().map(|(id, _)| id)) {
            let refers = match *id == table.id {
                true => !table.info.foreign_keys.is_empty(),
                false => self.parents_of(db, *id)?.iter().any(|parent| is_named(parent)),
            };
            table.is_unenforced |= refers;
            let is_self = table.info.foreign_keys.iter().any(|key| is_named(&key.parent));
            if refers && !self.lax.contains(id) && (*id != table.id || is_self) {
                table.referrers.push(*id);
            }
        }
        let policy = self.waiting.iter().find(|(id, _)| *id == table.id).map(|(_, policy)| *policy);
        if let Some(policy) = policy {
            for key in &table.info.foreign_keys {
                let Some((name, id)) =
                    self.by_name.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key.parent))
                else {
                    continue;
                };
                if let Some(parent) = schema::describe(&db, name)?
                    && let Some(link) = link(&table.info, key, *id, &parent, policy)
                {
                    table.links.push(link);
                }
            }
        }
        table.is_related |= table.is_unenforced;
        Ok(())
    }

    /// The names of the tables that a table refers to.
    fn parents_of(&self, db: Db, id: u32) -> Result<Vec<String>> {
        let Some((name, _)) = self.by_name.iter().find(|(_, known)| **known == id) else {
            return Ok(Vec::new());
        };
        let mut select = db.prepare("SELECT \"table\" FROM pragma_foreign_key_list(?1, 'main')")?;
        let args = [ValueRef::Text(name.as_bytes())];
        let mut rows = select.query(&args)?;
        let mut parents = Vec::new();
        while rows.step()? {
            parents.push(rows.column_str(0)?.to_owned());
        }
        Ok(parents)
    }
}

/// A FOREIGN KEY as a link; `None` if SQLite would not know what it refers to.
fn link(
    child: &TableInfo,
    key: &ForeignKey,
    id: u32,
    parent: &TableInfo,
    policy: ForeignKeyPolicy,
) -> Option<Link> {
    let named: Vec<usize> = match key.parent_columns.is_empty() {
        true => parent.primary_key.clone(),
        false => key.parent_columns.iter().map(|name| parent.column(name)).collect::<Option<_>>()?,
    };
    if named.len() != key.columns.len() || named.is_empty() {
        return None;
    }
    let is_set =
        |columns: &[usize]| columns.len() == named.len() && columns.iter().all(|at| named.contains(at));
    let is_key = is_set(&parent.primary_key);
    let (order, kinds): (Vec<usize>, Vec<KeyColumn>) = if is_key {
        (parent.primary_key.clone(), parent.key_columns()?)
    } else {
        let terms = |index: &schema::table::UniqueIndex| {
            index.columns.iter().map(|term| term.column).collect::<Vec<_>>()
        };
        let fits = |index: &&schema::table::UniqueIndex| {
            !index.expression && !index.partial && is_set(&terms(index))
        };
        let index = parent.unique_indexes.iter().find(fits)?;
        let kind = |term: &schema::table::IndexedColumn| {
            let affinity = parent.columns[term.column].affinity;
            Some(KeyColumn { affinity, collation: Collation::of_name(&term.collation)? })
        };
        (terms(index), index.columns.iter().map(kind).collect::<Option<_>>()?)
    };
    let mut columns = Vec::new();
    let mut is_alike = true;
    for (at, kind) in order.iter().zip(&kinds) {
        let column = key.columns.get(named.iter().position(|named| named == at)?)?;
        let column = &child.columns[child.column(column)?];
        is_alike &=
            column.affinity == kind.affinity || (is_numeric(column.affinity) && is_numeric(kind.affinity));
        columns.push(column.name.clone());
    }
    let on_delete = match key.on_delete.as_str() {
        _ if policy != ForeignKeyPolicy::Cascade => None,
        "CASCADE" => Some(OnDelete::Cascade),
        "SET NULL" => Some(OnDelete::SetNull),
        "SET DEFAULT" => Some(OnDelete::SetDefault),
        _ => None,
    };
    Some(Link {
        parent: id,
        parent_name: parent.name.clone(),
        columns,
        parent_columns: order.iter().map(|at| parent.columns[*at].name.clone()).collect(),
        kinds,
        is_key,
        is_alike,
        on_delete,
    })
}

fn is_numeric(affinity: Affinity) -> bool {
    !matches!(affinity, Affinity::Blob | Affinity::Text)
}

/// The name of a trigger that, when it refuses, leaves something behind or takes everything with it.
pub fn half_raise(db: Db) -> Result<Option<String>> {
    let mut select = db.prepare("SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger'")?;
    while select.step()? {
        let is_half = |token: &Token<'_>| token.is_word("FAIL") || token.is_word("ROLLBACK");
        if tokenize(select.column_str(1)?).iter().any(is_half) {
            return Ok(Some(select.column_str(0)?.to_owned()));
        }
    }
    Ok(None)
}
