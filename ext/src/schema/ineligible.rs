//! What to tell the author of a table that can't replicate.
//!
//! A message begins with cr-sqlite's exact words where cr-sqlite refuses the table for the same reason, since programs
//! match on them; then come the object, the reason and the way out.

use crsql_core::limits::{COLUMN_NAME_MAX, TABLE_NAME_MAX};

use crate::schema::triggers::KEY_COLUMNS_MAX;
use crate::sqlite::Error;

/// Why a table can't replicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it; `table` is the table's name everywhere")]
pub enum Ineligible {
    #[error("{}: there is no table {table:?} in this database; create it first", no_key(table))]
    Missing { table: String },

    #[error(
        "table {table:?} exists only in the temp schema, which is gone when the connection closes; create it in main"
    )]
    Temporary { table: String },

    #[error(
        "table {table:?} exists only in the attached database {schema:?}; open that file as main to replicate it"
    )]
    Attached { table: String, schema: String },

    #[error(
        "{}: {table:?} is a view, which has no rows of its own; replicate the tables it reads",
        no_key(table)
    )]
    View { table: String },

    #[error(
        "{}: {table:?} is a virtual table, whose rows its module keeps; replicate an ordinary table and fill it from there",
        no_key(table)
    )]
    Virtual { table: String },

    #[error(
        "table {table:?} belongs to a virtual table, which writes it as it needs; replicate the table that feeds it"
    )]
    Shadow { table: String },

    #[error(
        "table {table:?} belongs to SQLite and describes this database file; replicate tables of your own"
    )]
    SqliteInternal { table: String },

    #[error("table {table:?} has a name that is reserved for crsql's own tables; rename it")]
    Reserved { table: String },

    #[error(
        "table {}: its name has {bytes} bytes, more than the {TABLE_NAME_MAX} that replicate; shorten it",
        short(table)
    )]
    TableNameTooLong { table: String, bytes: usize },

    #[error(
        "table {table:?}: the name of column {} has {bytes} bytes, more than the {COLUMN_NAME_MAX} that replicate; \
         shorten it",
        short(column)
    )]
    ColumnNameTooLong { table: String, column: String, bytes: usize },

    #[error(
        "Table {table} has unique indices besidesthe primary key. This is not allowed for CRRs: index {index:?} of \
         {table:?}{on} can be satisfied on each of two replicas and not on both together; drop it, make it a plain index, or say which \
         row keeps the value: crsql_as_crr(table, '{{\"unique\":\"winner\"}}')"
    )]
    UniqueIndex { table: String, index: String, on: String },

    #[error(
        "table {table:?}: unique index {index:?} is over an expression, of which nothing is known for a row that is \
         hidden; keep the value in a column of its own and index that"
    )]
    UniqueExpression { table: String, index: String },

    #[error(
        "table {table:?}: unique index {index:?} has a WHERE clause, of which nothing is known for a row that is hidden; \
         index a column that is NULL where the clause is false"
    )]
    UniquePartial { table: String, index: String },

    #[error(
        "table {table:?}: unique index {index:?} is over the generated column {column:?}, which a row that is hidden does \
         not have; keep the value in an ordinary column"
    )]
    UniqueGenerated { table: String, index: String, column: String },

    #[error(
        "{}: {table:?} declares no key, so its rows can't be told apart; declare a PRIMARY KEY",
        no_key(table)
    )]
    NoKey { table: String },

    #[error(
        "{}: key column {column:?} of {table:?} accepts NULL, and NULL identifies no row; declare it NOT NULL",
        no_key(table)
    )]
    NullableKey { table: String, column: String },

    #[error(
        "Table {table} has composite primary key part of which is nullable. CRRs must have a non nullable primary key: \
         key column {column:?} of {table:?} accepts NULL, and NULL identifies no row; declare it NOT NULL"
    )]
    NullableKeyPart { table: String, column: String },

    #[error(
        "table {table:?} has {columns} key columns, more than the {KEY_COLUMNS_MAX} that fit a capture call; use a \
         shorter key"
    )]
    KeyTooWide { table: String, columns: usize },

    #[error(
        "{table} has auto-increment primary keys. This is likely a mistake as two concurrent nodes will assign unrelated \
         rows the same primary key. Either use a primary key that represents the identity of your row or use a database \
         friendly UUID such as UUIDv7: {table:?} declares AUTOINCREMENT; leave that word out if keys are assigned so that \
         two replicas never assign the same one"
    )]
    AutoIncrement { table: String },

    #[error(
        "table {table:?} declares its key ON CONFLICT REPLACE, which turns every clash of keys into a silent delete; \
         leave that clause out and say INSERT OR REPLACE where it is meant"
    )]
    KeyConflictReplace { table: String },

    #[error(
        "table {table:?}: key column {column:?} has the collation {collation:?}, which other replicas may not have; use \
         BINARY, NOCASE or RTRIM"
    )]
    Collation { table: String, column: String, collation: String },

    #[error(
        "Table {table} has checked foreign key constraints. CRRs may have foreign keys but must not have checked foreign \
         key constraints as they can be violated by row level security or replication.: {table:?} references {parent:?}, \
         whose row may arrive later or be deleted elsewhere; leave the REFERENCES clause out, or say what a merge does \
         with such a row: crsql_as_crr(table, '{{\"fk\":\"park\"}}'), or \"cascade\" or \"ignore\""
    )]
    ForeignKey { table: String, parent: String },

    #[error(
        "table {table:?} references {parent:?}, which is not a replicated table, so that no other replica can know its \
         rows; run crsql_as_crr on {parent:?} first, or take \"fk\":\"ignore\""
    )]
    ParentNotReplicated { table: String, parent: String },

    #[error(
        "table {table:?} references columns of {parent:?} that are neither its key nor together UNIQUE by their own \
         collations, so SQLite would refuse every write (foreign key mismatch); mend the REFERENCES clause or the index"
    )]
    ParentMismatch { table: String, parent: String },

    #[error(
        "table {table:?}: the generated column {column:?} is in a FOREIGN KEY, and a row that is hidden does not have it; \
         keep the value in an ordinary column, or take \"fk\":\"ignore\""
    )]
    GeneratedReference { table: String, column: String },

    #[error(
        "table {table:?} references itself, directly or through {parent:?}, and {unique:?} has UNIQUE indexes besides its \
         key: whether a row without its parent still keeps others from a value, no rule decides alike everywhere; keep \
         the UNIQUE columns in a table of their own, or take \"fk\":\"ignore\""
    )]
    UniqueInCycle { table: String, parent: String, unique: String },

    #[error(
        "table {table:?} is referenced by {child:?}, whose rows wait for their parents; run \
         crsql_as_crr({child:?}, '{{\"fk\":\"ignore\"}}') first"
    )]
    HasChildren { table: String, child: String },

    #[error(
        "Table {table} has a NOT NULL column without a DEFAULT VALUE. This is not allowed as it prevents forwards and \
         backwards compatibility between schema versions. Make the column nullable or assign a default value to it.: \
         column {column:?} of {table:?} has no value in rows from replicas that don't know it yet; add a DEFAULT"
    )]
    NotNullWithoutDefault { table: String, column: String },
}

/// cr-sqlite's words for whatever has no usable key, tables that don't exist included.
fn no_key(table: &str) -> String {
    format!(
        "Table {table} has no primary key or primary key is nullable. CRRs must have a non nullable primary key"
    )
}

/// The beginning of a name that is too long to repeat.
fn short(name: &str) -> String {
    format!("\"{}…\"", name.chars().take(40).collect::<String>())
}

impl From<Ineligible> for Error {
    fn from(reason: Ineligible) -> Error {
        Error::refused(reason)
    }
}
