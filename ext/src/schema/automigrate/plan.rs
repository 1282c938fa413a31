//! The plan of a migration and the reasons why there is none.

use crate::schema::script::ScriptError;
use crate::sqlite::Error;

/// The steps of a migration, in the order in which to take them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Triggers to drop, because the text says otherwise.
    pub drop_triggers: Vec<String>,
    /// Views to drop, because the text says otherwise.
    pub drop_views: Vec<String>,
    /// Indexes to drop, because the text says otherwise or nothing.
    pub drop_indexes: Vec<String>,
    /// Tables to drop, replicated or not.
    pub drop_tables: Vec<String>,
    /// Tables that lose or gain columns.
    pub alter_tables: Vec<TableChange>,
    /// Tables to create.
    pub create_tables: Vec<Creation>,
    /// Virtual tables to create.
    pub create_virtual_tables: Vec<Creation>,
    /// Indexes to create.
    pub create_indexes: Vec<Creation>,
    /// Views to create.
    pub create_views: Vec<Creation>,
    /// Triggers to create.
    pub create_triggers: Vec<Creation>,
    /// The other statements of the text, to run at the end: `SELECT crsql_as_crr('t')` and the like.
    pub afterwards: Vec<String>,
    /// Differences that no step removes, each with its way out. To be reported, not to be passed over.
    pub unapplied: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to change in the schema.
    pub fn is_empty(&self) -> bool {
        *self
            == Plan {
                afterwards: self.afterwards.clone(),
                unapplied: self.unapplied.clone(),
                ..Plan::default()
            }
    }
}

/// How one table changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChange {
    /// The table's name in `main`.
    pub table: String,
    /// Columns to drop.
    pub drop_columns: Vec<String>,
    /// Definitions of the columns to add, as `ADD COLUMN` takes them.
    pub add_columns: Vec<String>,
}

/// An object to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its name.
    pub name: String,
    /// The statement that creates it in `main`.
    pub sql: String,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unplannable {
    #[error("the schema creates no table, so migrating to it would drop every table; pass the whole schema")]
    Empty,
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("the schema's statement {statement:?} fails: {reason}; nothing was changed")]
    Statement { statement: String, reason: String },
    #[error("the schema creates {name:?}, a name that is reserved; choose another one")]
    Reserved { name: String },
    #[error("{name:?} is a {is} here and a {becomes} in the schema; drop it first, or choose another name")]
    Kind { name: String, is: &'static str, becomes: &'static str },
    #[error(
        "the key of table {table:?} is ({is}) here and ({becomes}) in the schema; a key can't be migrated in place, so \
         create a table of another name and copy the rows"
    )]
    Key { table: String, is: String, becomes: String },
    #[error("column {column:?} can't be added to table {table:?}: {reason}")]
    Column { table: String, column: String, reason: &'static str },
}

impl From<Unplannable> for Error {
    fn from(reason: Unplannable) -> Error {
        Error::refused(reason)
    }
}
