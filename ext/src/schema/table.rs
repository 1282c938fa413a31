//! A table's shape as plain values, and what follows from it.

use crsql_core::key::{Affinity, Collation, KeyColumn};

use crate::schema::ident::Ident;

/// A table, view or virtual table of `main`.
///
/// Views and virtual tables have only `name`, `kind`, `sql` and triggers: asking SQLite for their columns may fail
/// when what they rest on is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInfo {
    /// The name in the letter case of `sqlite_schema`.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// All columns, generated ones included, in SQLite's order.
    pub columns: Vec<ColumnInfo>,
    /// Positions of the key's columns, in key order.
    pub primary_key: Vec<usize>,
    /// The key column that is an alias of the rowid.
    pub integer_primary_key: Option<usize>,
    /// Unique indexes and constraints other than the key.
    pub unique_indexes: Vec<UniqueIndex>,
    /// Declared foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// Declared WITHOUT ROWID.
    pub without_rowid: bool,
    /// Declared STRICT.
    pub strict: bool,
    /// The key is declared AUTOINCREMENT.
    pub autoincrement: bool,
    /// The key is declared ON CONFLICT REPLACE.
    pub key_conflict_replace: bool,
    /// Triggers of the schema's author, by name.
    pub user_triggers: Vec<String>,
    /// Our capture triggers as they stand in `sqlite_schema` now.
    pub capture_triggers: Vec<InstalledTrigger>,
    /// The text in `sqlite_schema`.
    pub sql: String,
}

/// What an entry of `sqlite_schema` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table.
    Table,
    /// A view.
    View,
    /// A virtual table.
    Virtual,
    /// A table in which a virtual table keeps its content.
    Shadow,
}

/// A column of a [`TableInfo`].
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnInfo {
    /// The name as declared.
    pub name: String,
    /// The type as declared, empty without one.
    pub declared_type: String,
    /// The affinity that follows from the type.
    pub affinity: Affinity,
    /// Collating sequence by which the key's index compares this column; `BINARY` for columns outside the key.
    pub collation: String,
    /// NULL is refused: declared, or implied by a STRICT or WITHOUT ROWID table's key.
    pub not_null: bool,
    /// The DEFAULT clause as SQL text.
    pub default_sql: Option<String>,
    /// Position in the key, from 0.
    pub pk_position: Option<usize>,
    /// A generated column, virtual or stored: computed on every replica, never replicated.
    pub generated: bool,
    /// A hidden column of a virtual table.
    pub hidden: bool,
}

/// A unique index or constraint besides the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Its name; `sqlite_autoindex_…` for a constraint.
    pub name: String,
    /// Its terms, in index order. Expressions have no place here.
    pub columns: Vec<IndexedColumn>,
    /// It has a WHERE clause.
    pub partial: bool,
    /// Some term is an expression.
    pub expression: bool,
    /// Its text, `None` for a constraint.
    pub sql: Option<String>,
}

/// A column as an index sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedColumn {
    /// Position in [`TableInfo::columns`].
    pub column: usize,
    /// The collating sequence of this index.
    pub collation: String,
}

/// A declared foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The referenced table, as written.
    pub parent: String,
    /// The referencing columns.
    pub columns: Vec<String>,
    /// The referenced columns; empty when the parent's key is meant.
    pub parent_columns: Vec<String>,
    /// `NO ACTION`, `RESTRICT`, `SET NULL`, `SET DEFAULT` or `CASCADE`.
    pub on_update: String,
    /// As `on_update`.
    pub on_delete: String,
}

/// A capture trigger found in the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledTrigger {
    /// Its name.
    pub name: String,
    /// Its text, which SQLite rewrites on RENAME.
    pub sql: String,
}

/// How the rows of a table are told apart by its triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyShape {
    /// One INTEGER PRIMARY KEY column (by position), which is the rowid.
    Integer(usize),
    /// The rowid under a name that no column takes, then the key's columns.
    RowidAndKey(&'static str),
    /// The key's columns: WITHOUT ROWID, or columns take all three names of the rowid.
    Key,
}

/// Names of the rowid. The least likely to become a column's name first: a column added under the name that a
/// trigger uses would take its place in that trigger.
pub const ROWID_NAMES: [&str; 3] = ["_rowid_", "rowid", "oid"];

impl TableInfo {
    /// With nothing but what `sqlite_schema` says of it.
    pub(super) fn new(name: String, kind: TableKind, sql: Option<String>) -> TableInfo {
        TableInfo {
            name,
            kind,
            columns: Vec::new(),
            primary_key: Vec::new(),
            integer_primary_key: None,
            unique_indexes: Vec::new(),
            foreign_keys: Vec::new(),
            without_rowid: false,
            strict: false,
            autoincrement: false,
            key_conflict_replace: false,
            user_triggers: Vec::new(),
            capture_triggers: Vec::new(),
            sql: sql.unwrap_or_default(),
        }
    }

    /// The table as SQL names it, beyond the reach of TEMP tables of the same name.
    pub fn qualified(&self) -> String {
        format!("main.{}", Ident(&self.name))
    }

    /// The column called `name`, by SQLite's comparison of names.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// How its rows are told apart.
    pub fn key_shape(&self) -> KeyShape {
        if let Some(column) = self.integer_primary_key {
            return KeyShape::Integer(column);
        }
        let free = ROWID_NAMES.into_iter().find(|name| self.column(name).is_none());
        match free {
            Some(name) if !self.without_rowid => KeyShape::RowidAndKey(name),
            _ => KeyShape::Key,
        }
    }

    /// The key's columns in key order.
    pub fn key(&self) -> impl Iterator<Item = &ColumnInfo> {
        self.primary_key.iter().map(|column| &self.columns[*column])
    }

    /// The key as the core compares it; `None` if a column has a collation that the core does not know.
    pub fn key_columns(&self) -> Option<Vec<KeyColumn>> {
        self.key()
            .map(|column| {
                Some(KeyColumn {
                    affinity: column.affinity,
                    collation: Collation::of_name(&column.collation)?,
                })
            })
            .collect()
    }

    /// Positions of the columns whose values replicate: neither key nor generated.
    pub fn value_columns(&self) -> impl Iterator<Item = usize> {
        self.columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.pk_position.is_none() && !column.generated)
            .map(|(position, _)| position)
    }

    /// The unique indexes that two rows of different key can clash in.
    ///
    /// An index that contains the whole key can't see a clash that the key does not.
    pub fn clashing_indexes(&self) -> impl Iterator<Item = &UniqueIndex> {
        self.unique_indexes.iter().filter(|index| {
            let implied = self.primary_key.iter().all(|key| {
                index.columns.iter().any(|term| {
                    let same = term.collation.eq_ignore_ascii_case(&self.columns[*key].collation);
                    term.column == *key && (same || term.collation.eq_ignore_ascii_case("BINARY"))
                })
            });
            self.primary_key.is_empty() || !implied
        })
    }
}
