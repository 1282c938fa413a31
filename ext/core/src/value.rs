//! SQLite's five storage classes, borrowed and owned.
//!
//! Text is bytes, because SQLite stores whatever it was given and replicas must agree on it all the same. There
//! is deliberately no `PartialEq` on [`ValueRef`]: "equal" means three different things here. [`ValueRef::same`]
//! decides whether a cell changed, [`ValueRef::cmp_by_content`] decides ties, and keys have their own rules in
//! [`crate::key`].

use std::cmp::Ordering;

/// A value somebody else owns.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// A double. SQLite has no NaN; see [`ValueRef::storable`].
    Real(f64),
    /// Text in UTF-8, or what should have been.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

/// A value of one's own.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// Text in UTF-8, or what should have been.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl<'a> ValueRef<'a> {
    /// Whether both are the same value to a replica: equal storage class and equal bits. 1 and 1.0 differ, 0.0
    /// and -0.0 differ, NULL is the same as NULL.
    pub fn same(&self, other: &ValueRef<'_>) -> bool {
        match (self, other) {
            (ValueRef::Null, ValueRef::Null) => true,
            (ValueRef::Integer(a), ValueRef::Integer(b)) => a == b,
            (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
            (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Blob(a), ValueRef::Blob(b)) => a == b,
            _ => false,
        }
    }

    /// cr-sqlite's order of values: NULL < BLOB < TEXT < REAL < INTEGER by class; inside a class numbers by
    /// size (-0.0 equal to 0.0) and bytes by `memcmp`, a prefix before what it begins.
    pub fn cmp_by_content(&self, other: &ValueRef<'_>) -> Ordering {
        match (self, other) {
            (ValueRef::Integer(a), ValueRef::Integer(b)) => a.cmp(b),
            // NaN cannot come out of SQLite; above everything keeps the order total if a peer invents one.
            (ValueRef::Real(a), ValueRef::Real(b)) => {
                a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
            (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Blob(a), ValueRef::Blob(b)) => a.cmp(b),
            _ => self.class_rank().cmp(&other.class_rank()),
        }
    }

    /// [`cmp_by_content`](Self::cmp_by_content), then by bits, so that `Equal` means [`same`](Self::same). The
    /// last resort between two values that claim one and the same stamp.
    pub fn cmp_total(&self, other: &ValueRef<'_>) -> Ordering {
        self.cmp_by_content(other).then_with(|| match (self, other) {
            (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits().cmp(&b.to_bits()),
            _ => Ordering::Equal,
        })
    }

    /// What SQLite keeps when it is handed this value: NaN becomes NULL, the rest stays.
    pub fn storable(self) -> ValueRef<'a> {
        match self {
            ValueRef::Real(real) if real.is_nan() => ValueRef::Null,
            value => value,
        }
    }

    /// A copy that owns its bytes.
    pub fn to_owned_value(&self) -> Value {
        match *self {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(integer) => Value::Integer(integer),
            ValueRef::Real(real) => Value::Real(real),
            ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }

    /// At most so many bytes in a packed key, so that it can be built in one allocation.
    pub(crate) fn packed_len_max(&self) -> usize {
        match self {
            ValueRef::Null => 1,
            ValueRef::Integer(_) | ValueRef::Real(_) => 9,
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => 9 + bytes.len(),
        }
    }

    fn class_rank(&self) -> u8 {
        match self {
            ValueRef::Null => 0,
            ValueRef::Blob(_) => 1,
            ValueRef::Text(_) => 2,
            ValueRef::Real(_) => 3,
            ValueRef::Integer(_) => 4,
        }
    }
}

impl Value {
    /// A view of this value.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(bytes) => ValueRef::Text(bytes),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }

    /// A text value.
    pub fn text(text: &str) -> Value {
        Value::Text(text.as_bytes().to_vec())
    }
}

/// Equality of owned values is [`ValueRef::same`]: class and bits.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.as_ref().same(&other.as_ref())
    }
}

impl Eq for Value {}

impl From<i64> for Value {
    fn from(integer: i64) -> Value {
        Value::Integer(integer)
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Value {
        Value::Real(real)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Blob(bytes.to_vec())
    }
}

/// A value that is borrowed where it can be: what a conversion returns that usually changes nothing.
#[derive(Clone, Debug)]
pub enum ValueCow<'a> {
    /// Unchanged, or made of numbers.
    Borrowed(ValueRef<'a>),
    /// New bytes.
    Owned(Value),
}

impl ValueCow<'_> {
    /// A view of the value.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            ValueCow::Borrowed(value) => *value,
            ValueCow::Owned(value) => value.as_ref(),
        }
    }

    /// The value with bytes of its own.
    pub fn into_value(self) -> Value {
        match self {
            ValueCow::Borrowed(value) => value.to_owned_value(),
            ValueCow::Owned(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascending() -> Vec<Value> {
        vec![
            Value::Null,
            Value::Blob(vec![]),
            Value::Blob(vec![0xff]),
            Value::text(""),
            Value::text("a"),
            Value::text("ab"),
            Value::text("b"),
            Value::Real(f64::NEG_INFINITY),
            Value::Real(-1.5),
            Value::Real(1e300),
            Value::Integer(i64::MIN),
            Value::Integer(-5),
            Value::Integer(i64::MAX),
        ]
    }

    #[test]
    fn content_orders_by_class_then_inside_it() {
        let values = ascending();
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(a.as_ref().cmp_by_content(&b.as_ref()), i.cmp(&j), "{a:?} {b:?}");
                assert_eq!(a.as_ref().cmp_total(&b.as_ref()), i.cmp(&j));
                assert_eq!(a == b, i == j);
            }
        }
    }

    #[test]
    fn zeros_are_equal_in_content_but_not_the_same() {
        let (plus, minus) = (ValueRef::Real(0.0), ValueRef::Real(-0.0));
        assert_eq!(plus.cmp_by_content(&minus), Ordering::Equal);
        assert_ne!(plus.cmp_total(&minus), Ordering::Equal);
        assert!(!plus.same(&minus));
        assert!(!ValueRef::Real(1.0).same(&ValueRef::Integer(1)));
        assert!(ValueRef::Null.same(&ValueRef::Null));
    }

    #[test]
    fn a_nan_keeps_the_order_total_and_is_stored_as_null() {
        let nan = ValueRef::Real(f64::NAN);
        assert_eq!(nan.cmp_by_content(&ValueRef::Real(1.0)), Ordering::Greater);
        assert_eq!(ValueRef::Real(1.0).cmp_by_content(&nan), Ordering::Less);
        assert_eq!(nan.cmp_by_content(&nan), Ordering::Equal);
        assert!(nan.storable().same(&ValueRef::Null));
        assert!(ValueRef::Integer(1).storable().same(&ValueRef::Integer(1)));
    }

    #[test]
    fn owned_and_borrowed_convert_both_ways() {
        for value in ascending() {
            assert_eq!(value.as_ref().to_owned_value(), value);
            assert_eq!(ValueCow::Borrowed(value.as_ref()).into_value(), value);
            let owned = ValueCow::Owned(value.clone());
            assert!(owned.as_ref().same(&value.as_ref()));
            assert!(ValueCow::Borrowed(value.as_ref()).as_ref().same(&value.as_ref()));
            assert_eq!(owned.into_value(), value);
        }
        assert_eq!(Value::from(1), Value::Integer(1));
        assert_eq!(Value::from(1.0), Value::Real(1.0));
        assert_eq!(Value::from("x"), Value::text("x"));
        assert_eq!(Value::from(&b"x"[..]), Value::Blob(vec![b'x']));
    }
}
