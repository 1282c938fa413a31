//! The canonical bytes of a primary key: two spellings of one row become one.
//!
//! SQLite treats 1 and 1.0, or K and k under NOCASE, as one key; a replica that did not would hold two rows where
//! its base table can hold one. Canonical bytes are cr-sqlite's packing of the values after: the column's
//! affinity, integral REAL to INTEGER, -0.0 to 0, and folding by the column's collation. NULL is refused.
//!
//! Number-like text in a numeric column and the like only comes from peers with another schema; a local key was
//! converted by SQLite before anyone saw it. Those conversions are ours and not the host's, so that all replicas
//! agree whatever SQLite they run on.

use crate::pack::{PackError, Packer, unpack};
use crate::value::{ValueCow, ValueRef};

mod affinity;
mod collation;

pub use affinity::{Affinity, apply_affinity};
pub use collation::Collation;

/// What decides the identity of one key column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyColumn {
    /// The column's type affinity.
    pub affinity: Affinity,
    /// The collation of the primary key's index.
    pub collation: Collation,
}

impl KeyColumn {
    /// A column without conversion or folding.
    pub const PLAIN: KeyColumn = KeyColumn { affinity: Affinity::Blob, collation: Collation::Binary };

    /// A column of this affinity that compares bytes.
    pub const fn binary(affinity: Affinity) -> KeyColumn {
        KeyColumn { affinity, collation: Collation::Binary }
    }
}

/// A key's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalKey {
    /// The canonical values, packed.
    pub bytes: Vec<u8>,
    /// Whether the base table stores the key just as the canonical values spell it. False for K under NOCASE
    /// or 1.0 in a column without type: then the row's spelling has to travel beside its identity. True for 1.0
    /// in a REAL column, where 1 would be stored as 1.0 anyway.
    pub is_spelling: bool,
}

/// Why values are not a key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// NULL identifies nothing.
    #[error("key column {column} is NULL: declare it NOT NULL and give it a value")]
    Null {
        /// Which key column, from 0.
        column: usize,
    },
    /// Another number of values than the table has key columns.
    #[error("a key of {found} values does not fit a table with {expected} key columns")]
    Arity {
        /// How many the table has.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// A number followed by NUL in a numeric column: some SQLite versions store the number, others the text, so
    /// it would be one row here and another there.
    #[error("key column {column} holds a number that continues after a NUL: store the number or a blob")]
    HostDependent {
        /// Which key column, from 0.
        column: usize,
    },
    /// Not packed values at all, or too many.
    #[error("malformed key: {0}")]
    Pack(#[from] PackError),
}

/// The canonical bytes of a key, and whether they spell it as stored.
///
/// ```
/// # use crsql_core::{key::*, value::ValueRef};
/// let name = KeyColumn { affinity: Affinity::Text, collation: Collation::NoCase };
/// let lower = canonical_key(&[ValueRef::Text(b"k")], &[name]).unwrap();
/// let upper = canonical_key(&[ValueRef::Text(b"K")], &[name]).unwrap();
/// assert_eq!(lower.bytes, upper.bytes);
/// assert!(lower.is_spelling && !upper.is_spelling);
/// ```
pub fn canonical_key(values: &[ValueRef<'_>], columns: &[KeyColumn]) -> Result<CanonicalKey, KeyError> {
    let size: usize = values.iter().map(|value| value.packed_len_max()).sum();
    let mut bytes = Vec::with_capacity(1 + size);
    let is_spelling = canonical_key_into(values, columns, &mut bytes)?;
    Ok(CanonicalKey { bytes, is_spelling })
}

/// [`canonical_key`] appended to a vector that is reused from row to row; returns `is_spelling`. After an error
/// the vector's new bytes mean nothing.
pub fn canonical_key_into(
    values: &[ValueRef<'_>],
    columns: &[KeyColumn],
    out: &mut Vec<u8>,
) -> Result<bool, KeyError> {
    if values.len() != columns.len() {
        return Err(KeyError::Arity { expected: columns.len(), found: values.len() });
    }
    let mut packer = Packer::new(out);
    let mut is_spelling = true;
    for (index, (value, column)) in values.iter().zip(columns).enumerate() {
        if is_canonical_at_sight(*value, column) {
            packer.push(*value)?;
            continue;
        }
        let stored = apply_key_affinity(*value, column, index)?;
        let canonical = fold(stored.as_ref(), column.collation).ok_or(KeyError::Null { column: index })?;
        packer.push(canonical.as_ref())?;
        is_spelling &= apply_affinity(canonical.as_ref(), column.affinity).as_ref().same(&stored.as_ref());
    }
    Ok(is_spelling)
}

/// [`canonical_key`] of a key as it travels: packed.
pub fn canonical_packed_key(packed: &[u8], columns: &[KeyColumn]) -> Result<CanonicalKey, KeyError> {
    canonical_key(&unpack(packed)?, columns)
}

/// The packed key as the base table stores it: the affinities applied, nothing folded.
pub fn stored_key(values: &[ValueRef<'_>], columns: &[KeyColumn]) -> Result<Vec<u8>, KeyError> {
    if values.len() != columns.len() {
        return Err(KeyError::Arity { expected: columns.len(), found: values.len() });
    }
    let mut bytes = Vec::new();
    let mut packer = Packer::new(&mut bytes);
    for (value, column) in values.iter().zip(columns) {
        packer.push(apply_affinity(*value, column.affinity).as_ref())?;
    }
    Ok(bytes)
}

/// The canonical form of one key value; `Err` for NULL (and NaN, which SQLite stores as NULL), as column 0.
pub fn canonical_value<'a>(value: ValueRef<'a>, column: &KeyColumn) -> Result<ValueCow<'a>, KeyError> {
    let canonical = match apply_key_affinity(value, column, 0)? {
        ValueCow::Borrowed(stored) => fold(stored, column.collation),
        ValueCow::Owned(stored) => {
            fold(stored.as_ref(), column.collation).map(|value| ValueCow::Owned(value.into_value()))
        }
    };
    canonical.ok_or(KeyError::Null { column: 0 })
}

fn apply_key_affinity<'a>(
    value: ValueRef<'a>,
    column: &KeyColumn,
    index: usize,
) -> Result<ValueCow<'a>, KeyError> {
    if affinity::is_host_dependent(value, column.affinity) {
        return Err(KeyError::HostDependent { column: index });
    }
    Ok(apply_affinity(value, column.affinity))
}

/// The keys nearly every row has: nothing to convert, nothing to fold, one copy of the bytes.
fn is_canonical_at_sight(value: ValueRef<'_>, column: &KeyColumn) -> bool {
    match value {
        ValueRef::Blob(_) => true,
        ValueRef::Text(_) => {
            column.collation == Collation::Binary
                && matches!(column.affinity, Affinity::Blob | Affinity::Text)
        }
        ValueRef::Integer(_) => !matches!(column.affinity, Affinity::Text | Affinity::Real),
        ValueRef::Real(_) | ValueRef::Null => false,
    }
}

/// What a stored value is compared as; `None` for NULL.
fn fold(stored: ValueRef<'_>, collation: Collation) -> Option<ValueCow<'_>> {
    match stored.storable() {
        ValueRef::Null => None,
        ValueRef::Real(real) => Some(ValueCow::Borrowed(match integral(real) {
            Some(integer) => ValueRef::Integer(integer),
            None => ValueRef::Real(real),
        })),
        ValueRef::Text(text) => Some(collation.fold(text)),
        value => Some(ValueCow::Borrowed(value)),
    }
}

/// The integer a real equals exactly. -0.0 is 0.
fn integral(real: f64) -> Option<i64> {
    // -2^63 is a double, 2^63 - 1 is not: the range is half open.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    ((-LIMIT..LIMIT).contains(&real) && real.fract() == 0.0).then_some(real as i64)
}

#[cfg(test)]
mod tests;
