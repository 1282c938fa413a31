//! SQL values that compare by storage class and bits, and print as SQL literals.
//!
//! `1` and `1.0`, `0.0` and `-0.0`, `'a'` and `x'61'` are all different here, because they are different facts to
//! a replicated column.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::fmt;

/// One SQL value; reals are kept as bits so that equality is exact.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SqlValue {
    /// SQL NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// The bits of a double.
    Real(u64),
    /// Text as bytes: SQLite does not promise valid UTF-8.
    Text(Vec<u8>),
    /// A blob.
    Blob(Vec<u8>),
}

impl SqlValue {
    /// A text value.
    pub fn text(text: &str) -> SqlValue {
        SqlValue::Text(text.as_bytes().to_vec())
    }

    /// The integer inside; panics with the value otherwise.
    pub fn integer(&self) -> i64 {
        match self {
            SqlValue::Integer(value) => *value,
            other => panic!("expected an integer, found {other}"),
        }
    }

    /// The text inside; panics with the value otherwise.
    pub fn as_str(&self) -> &str {
        match self {
            SqlValue::Text(bytes) => std::str::from_utf8(bytes).expect("text is UTF-8"),
            other => panic!("expected text, found {other}"),
        }
    }

    /// The blob inside; panics with the value otherwise.
    pub fn blob(&self) -> &[u8] {
        match self {
            SqlValue::Blob(bytes) => bytes,
            other => panic!("expected a blob, found {other}"),
        }
    }
}

impl From<ValueRef<'_>> for SqlValue {
    fn from(value: ValueRef<'_>) -> SqlValue {
        match value {
            ValueRef::Null => SqlValue::Null,
            ValueRef::Integer(value) => SqlValue::Integer(value),
            ValueRef::Real(value) => SqlValue::Real(value.to_bits()),
            ValueRef::Text(bytes) => SqlValue::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
        }
    }
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> SqlValue {
        SqlValue::Integer(value)
    }
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> SqlValue {
        SqlValue::text(text)
    }
}

impl From<Vec<u8>> for SqlValue {
    fn from(bytes: Vec<u8>) -> SqlValue {
        SqlValue::Blob(bytes)
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            SqlValue::Null => ValueRef::Null,
            SqlValue::Integer(value) => ValueRef::Integer(*value),
            SqlValue::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
            SqlValue::Text(bytes) => ValueRef::Text(bytes),
            SqlValue::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Prints the value as a SQL literal that reads back as exactly the same value.
impl fmt::Display for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlValue::Null => f.write_str("NULL"),
            SqlValue::Integer(value) => write!(f, "{value}"),
            SqlValue::Real(bits) => match f64::from_bits(*bits) {
                f64::INFINITY => f.write_str("9e999"),
                f64::NEG_INFINITY => f.write_str("-9e999"),
                value => write!(f, "{value:?}"),
            },
            SqlValue::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => write!(f, "'{}'", text.replace('\'', "''")),
                _ => write!(f, "CAST({} AS TEXT)", Hex(bytes)),
            },
            SqlValue::Blob(bytes) => write!(f, "{}", Hex(bytes)),
        }
    }
}

impl fmt::Debug for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A blob literal, `x'..'` in lower case.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x'")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("'")
    }
}

/// Prints a row as its values joined by `|`.
pub fn render_row(row: &[SqlValue]) -> String {
    row.iter().map(SqlValue::to_string).collect::<Vec<_>>().join("|")
}

/// An identifier in SQL, quoted whatever it contains.
pub struct Ident<'a>(pub &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}
