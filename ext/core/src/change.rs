//! One replicated fact: that a row exists or not, or what one of its cells holds.
//!
//! A change is named for ever by its [`Stamp`]. How many of them travel together is the business of
//! [`crate::changeset`]; what a replica does with one is decided in [`crate::merge`].

use crate::ids::CausalLength;
use crate::key::KeyError;
use crate::limits::{COLUMN_NAME_MAX, TABLE_NAME_MAX};
use crate::merge::{CellClock, Clocks, Refusal, Stamp, validate};
use crate::pack::unpack;
use crate::value::{Value, ValueRef};

/// The `cid` by which a row-existence change goes in `crsql_changes`.
pub const ROW_CID: &str = "-1";

/// One replicated fact about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table's name, letter case as declared.
    pub table: String,
    /// The packed key in the spelling of the base table.
    pub pk: Vec<u8>,
    /// What the change says.
    pub fact: Fact,
    /// The row's causal length when it was written. Even: the row is deleted, whatever the fact says.
    pub cl: u64,
    /// Who wrote it, in which version, at which place.
    pub stamp: Stamp,
}

/// What a change says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The row came or went, in the incarnation of the change's causal length.
    Row,
    /// A cell was written.
    Cell {
        /// The column's name, letter case as declared.
        column: String,
        /// The cell's clock.
        col_version: u64,
        /// What was written.
        value: Value,
    },
}

/// Why a change is refused, whatever is known and whatever the schema. It is set aside with this reason; the
/// rest of its batch is merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// A clock out of bounds.
    #[error(transparent)]
    Clocks(#[from] Refusal),
    /// A table name beyond [`TABLE_NAME_MAX`], or an empty one.
    #[error("table name of {0} bytes: 1 to {TABLE_NAME_MAX} are accepted")]
    TableName(usize),
    /// A column name beyond [`COLUMN_NAME_MAX`].
    #[error("column name of {0} bytes: at most {COLUMN_NAME_MAX} are accepted")]
    ColumnName(usize),
    /// A key that is no key, or not one of this table.
    #[error("table {table:?}: {reason}")]
    Key {
        /// The table.
        table: String,
        /// What is wrong.
        reason: KeyError,
    },
}

impl Change {
    /// The column's name, or [`ROW_CID`]. A column may be called `-1` too, so match on [`Fact`] to tell them
    /// apart.
    pub fn cid(&self) -> &str {
        match &self.fact {
            Fact::Row => ROW_CID,
            Fact::Cell { column, .. } => column,
        }
    }

    /// The cell's clock; the causal length for a row-existence change.
    pub fn col_version(&self) -> u64 {
        match self.fact {
            Fact::Row => self.cl,
            Fact::Cell { col_version, .. } => col_version,
        }
    }

    /// The cell's value; NULL for a row-existence change.
    pub fn value(&self) -> ValueRef<'_> {
        match &self.fact {
            Fact::Row => ValueRef::Null,
            Fact::Cell { value, .. } => value.as_ref(),
        }
    }

    /// The clock of the cell it writes, or that a row-existence change would have.
    pub fn clock(&self) -> CellClock {
        CellClock { col_version: self.col_version(), stamp: self.stamp }
    }

    /// Whether it says that the row is gone.
    pub fn is_delete(&self) -> bool {
        !CausalLength(self.cl).is_alive()
    }

    /// Checks what can be checked without knowing the table. Every replica refuses the same changes here, in
    /// whatever order they arrive.
    pub fn validate(&self) -> Result<(), InvalidChange> {
        if !(1..=TABLE_NAME_MAX).contains(&self.table.len()) {
            return Err(InvalidChange::TableName(self.table.len()));
        }
        if let Fact::Cell { column, .. } = &self.fact
            && column.len() > COLUMN_NAME_MAX
        {
            return Err(InvalidChange::ColumnName(column.len()));
        }
        let Stamp { version, seq, .. } = self.stamp;
        // The clock of a cell that died with its row is not kept, so it is not judged either: cr-sqlite's
        // deletes name any column.
        let col_version = if self.is_delete() { self.cl } else { self.col_version() };
        validate(&Clocks { cl: self.cl, col_version, version, seq })?;
        let key_error = |reason| InvalidChange::Key { table: self.table.clone(), reason };
        let values = unpack(&self.pk).map_err(|reason| key_error(reason.into()))?;
        if values.is_empty() {
            return Err(key_error(KeyError::Arity { expected: 1, found: 0 }));
        }
        match values.iter().position(|value| matches!(value.storable(), ValueRef::Null)) {
            Some(column) => Err(key_error(KeyError::Null { column })),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SiteId;
    use crate::limits::*;
    use crate::pack::{PackError, pack};

    fn cell() -> Change {
        Change {
            table: "t".into(),
            pk: pack(&[ValueRef::Integer(1)]).unwrap(),
            fact: Fact::Cell { column: "c".into(), col_version: 7, value: Value::text("v") },
            cl: 1,
            stamp: Stamp { site: SiteId([1; 16]), version: 2, seq: 3 },
        }
    }

    fn refused(change: Change) -> String {
        change.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_change_shows_the_columns_of_crsql_changes() {
        let change = cell();
        assert_eq!((change.cid(), change.col_version()), ("c", 7));
        assert!(change.value().same(&ValueRef::Text(b"v")));
        assert_eq!(change.clock(), CellClock { col_version: 7, stamp: change.stamp });
        let row = Change { fact: Fact::Row, cl: 4, ..cell() };
        assert_eq!((row.cid(), row.col_version()), ("-1", 4));
        assert!(row.value().same(&ValueRef::Null));
        assert!(row.is_delete());
        assert!(!change.is_delete());
    }

    #[test]
    fn valid_changes_pass() {
        assert_eq!(cell().validate(), Ok(()));
        assert_eq!(Change { fact: Fact::Row, cl: CAUSAL_LENGTH_MAX, ..cell() }.validate(), Ok(()));
        let unversioned = Fact::Cell { column: String::new(), col_version: 0, value: Value::Null };
        assert_eq!(Change { fact: unversioned, cl: 2, ..cell() }.validate(), Ok(()));
    }

    #[test]
    fn invalid_changes_name_their_defect() {
        assert_eq!(
            refused(Change { table: String::new(), ..cell() }),
            "table name of 0 bytes: 1 to 2048 are accepted"
        );
        assert!(refused(Change { table: "x".repeat(2049), ..cell() }).contains("2049"));
        let long = Fact::Cell { column: "x".repeat(2049), col_version: 1, value: Value::Null };
        assert!(refused(Change { fact: long, ..cell() }).contains("column name of 2049 bytes"));
        assert_eq!(refused(Change { cl: 0, ..cell() }), "cl 0 is below 1");
        let frozen = Fact::Cell { column: "c".into(), col_version: COL_VERSION_MAX + 1, value: Value::Null };
        assert!(refused(Change { fact: frozen, ..cell() }).contains("beyond the limit"));
        let malformed = InvalidChange::Key { table: "t".into(), reason: KeyError::Pack(PackError::Empty) };
        assert_eq!(Change { pk: vec![], ..cell() }.validate(), Err(malformed));
        assert!(refused(Change { pk: vec![0], ..cell() }).contains("a key of 0 values"));
        assert!(refused(Change { pk: vec![2, 1, 5], ..cell() }).contains("key column 1 is NULL"));
        assert!(refused(Change { pk: vec![2, 5, 1], ..cell() }).contains("key column 0 is NULL"));
    }
}
