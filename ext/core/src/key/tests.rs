//! Identity and spelling, case by case; the laws they add up to are in `tests/laws`.

use super::*;
use crate::pack::pack;
use crate::value::Value;

fn key(value: impl Into<Value>, column: KeyColumn) -> CanonicalKey {
    canonical_key(&[value.into().as_ref()], &[column]).unwrap()
}

fn packed(value: impl Into<Value>) -> Vec<u8> {
    pack(&[value.into().as_ref()]).unwrap()
}

const UNTYPED: KeyColumn = KeyColumn::PLAIN;
const NOCASE: KeyColumn = KeyColumn { affinity: Affinity::Text, collation: Collation::NoCase };

#[test]
fn ordinary_keys_are_their_own_packing() {
    for (value, affinity) in [
        (Value::Integer(5), Affinity::Integer),
        (Value::Blob(vec![1, 2]), Affinity::Blob),
        (Value::text("x"), Affinity::Text),
        (Value::Real(1.5), Affinity::Real),
        (Value::text("not a number"), Affinity::Integer),
    ] {
        let key = key(value.clone(), KeyColumn::binary(affinity));
        assert_eq!((key.bytes, key.is_spelling), (packed(value), true));
    }
}

#[test]
fn one_and_one_point_zero_are_one_key() {
    let one = packed(1);
    assert_eq!(key(1, UNTYPED), CanonicalKey { bytes: one.clone(), is_spelling: true });
    assert_eq!(key(1.0, UNTYPED), CanonicalKey { bytes: one.clone(), is_spelling: false });
    let real = KeyColumn::binary(Affinity::Real);
    assert_eq!(key(1, real), CanonicalKey { bytes: one.clone(), is_spelling: true });
    assert_eq!(key(1.0, real), CanonicalKey { bytes: one.clone(), is_spelling: true });
    assert_eq!(key(" 1.0 ", real), CanonicalKey { bytes: one, is_spelling: true });
}

#[test]
fn zeros_are_one_key() {
    assert_eq!(key(-0.0, UNTYPED), CanonicalKey { bytes: packed(0), is_spelling: false });
    assert_eq!(key(0, UNTYPED).bytes, packed(0));
    assert!(key(-0.0, KeyColumn::binary(Affinity::Real)).is_spelling);
}

#[test]
fn only_exact_integers_become_integers() {
    assert_eq!(key(-9_223_372_036_854_775_808.0, UNTYPED).bytes, packed(i64::MIN));
    let beyond = 9_223_372_036_854_775_808.0;
    assert_eq!(key(beyond, UNTYPED).bytes, packed(beyond));
    assert_eq!(key(f64::INFINITY, UNTYPED).bytes, packed(f64::INFINITY));
    assert_eq!(key(0.5, UNTYPED).bytes, packed(0.5));
    // SQLite leaves this one REAL in an INTEGER column, so it is a spelling of its own.
    assert!(!key(-9_223_372_036_854_775_808.0, KeyColumn::binary(Affinity::Integer)).is_spelling);
}

#[test]
fn spelling_follows_the_collation() {
    assert_eq!(key("k", NOCASE), CanonicalKey { bytes: packed("k"), is_spelling: true });
    assert_eq!(key("K", NOCASE), CanonicalKey { bytes: packed("k"), is_spelling: false });
    let rtrim = KeyColumn { affinity: Affinity::Text, collation: Collation::Rtrim };
    assert_eq!(key("k  ", rtrim), CanonicalKey { bytes: packed("k"), is_spelling: false });
    assert_eq!(key("k", rtrim), CanonicalKey { bytes: packed("k"), is_spelling: true });
}

#[test]
fn composite_keys_say_whether_every_part_is_spelled() {
    let values = [ValueRef::Integer(1), ValueRef::Text(b"A"), ValueRef::Blob(b"z")];
    let key = canonical_key(&values, &[UNTYPED, NOCASE, UNTYPED]).unwrap();
    assert_eq!(key.bytes, pack(&[values[0], ValueRef::Text(b"a"), values[2]]).unwrap());
    assert!(!key.is_spelling);
    let stored = stored_key(&values, &[KeyColumn::binary(Affinity::Text), NOCASE, UNTYPED]).unwrap();
    assert_eq!(stored, pack(&[ValueRef::Text(b"1"), values[1], values[2]]).unwrap());
}

#[test]
fn what_is_no_key_is_refused() {
    let null = canonical_key(&[ValueRef::Integer(1), ValueRef::Null], &[UNTYPED; 2]);
    assert_eq!(null, Err(KeyError::Null { column: 1 }));
    assert_eq!(canonical_key(&[ValueRef::Real(f64::NAN)], &[UNTYPED]), Err(KeyError::Null { column: 0 }));
    assert_eq!(canonical_key(&[], &[UNTYPED]), Err(KeyError::Arity { expected: 1, found: 0 }));
    assert_eq!(stored_key(&[], &[UNTYPED]), Err(KeyError::Arity { expected: 1, found: 0 }));
    assert_eq!(canonical_packed_key(&[], &[UNTYPED]), Err(KeyError::Pack(PackError::Empty)));
    let many = [ValueRef::Integer(0); 256];
    let columns = [UNTYPED; 256];
    assert!(matches!(canonical_key(&many, &columns), Err(KeyError::Pack(_))));
    assert!(matches!(stored_key(&many, &columns), Err(KeyError::Pack(_))));
    let reals = [ValueRef::Real(0.0); 256];
    assert!(matches!(canonical_key(&reals, &columns), Err(KeyError::Pack(_))));
    assert!(canonical_value(ValueRef::Null, &UNTYPED).is_err());
    for text in [&b"1\0"[..], b" 1.5 \0x", b"1e3\0\0"] {
        for affinity in [Affinity::Numeric, Affinity::Integer, Affinity::Real] {
            let refused = canonical_key(&[ValueRef::Text(text)], &[KeyColumn::binary(affinity)]);
            assert_eq!(refused, Err(KeyError::HostDependent { column: 0 }));
        }
        assert!(key(Value::Text(text.into()), UNTYPED).is_spelling);
    }
    assert!(key("x\0", KeyColumn::binary(Affinity::Integer)).is_spelling);
    assert!(KeyError::Null { column: 1 }.to_string().contains("NOT NULL"));
}

#[test]
fn a_packed_key_canonicalises_like_its_values() {
    let key = canonical_packed_key(&packed("K"), &[NOCASE]).unwrap();
    assert_eq!(key.bytes, packed("k"));
}

#[test]
fn single_values_canonicalise_like_keys() {
    let text = KeyColumn { affinity: Affinity::Text, collation: Collation::NoCase };
    assert!(canonical_value(ValueRef::Integer(7), &text).unwrap().as_ref().same(&ValueRef::Text(b"7")));
    assert!(canonical_value(ValueRef::Text(b"Q"), &text).unwrap().as_ref().same(&ValueRef::Text(b"q")));
    assert!(canonical_value(ValueRef::Real(2.0), &UNTYPED).unwrap().as_ref().same(&ValueRef::Integer(2)));
}
