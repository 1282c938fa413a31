//! Packing, canonical keys, the order of values, sums of digests.

use std::cmp::Ordering;

use crsql_core::digest::Digest;
use crsql_core::key::*;
use crsql_core::pack::{PackError, pack, unpack, unpack_into};
use crsql_core::value::{Value, ValueRef};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::any_value;

fn refs(values: &[Value]) -> Vec<ValueRef<'_>> {
    values.iter().map(Value::as_ref).collect()
}

fn key_column() -> impl Strategy<Value = KeyColumn> {
    let affinities = [Affinity::Blob, Affinity::Text, Affinity::Numeric, Affinity::Integer, Affinity::Real];
    let collations = [Collation::Binary, Collation::NoCase, Collation::Rtrim];
    (prop::sample::select(affinities.to_vec()), prop::sample::select(collations.to_vec()))
        .prop_map(|(affinity, collation)| KeyColumn { affinity, collation })
}

proptest! {
    #[test]
    fn packing_round_trips(values in vec(any_value(), 0..6)) {
        let packed = pack(&refs(&values)).unwrap();
        let back: Vec<Value> = unpack(&packed).unwrap().iter().map(ValueRef::to_owned_value).collect();
        prop_assert_eq!(&back, &values);
        for end in 0..packed.len() {
            prop_assert!(unpack(&packed[..end]).is_err());
        }
        let longer = [&packed[..], &[0]].concat();
        prop_assert_eq!(unpack(&longer).err(), Some(PackError::TrailingBytes(1)));
    }

    #[test]
    fn unpacking_never_panics_and_accepts_one_form(bytes in vec(any::<u8>(), 0..40)) {
        let mut values = vec![ValueRef::Null];
        if unpack_into(&bytes, &mut values).is_ok() {
            prop_assert_eq!(pack(&values).unwrap(), bytes);
        }
    }

    #[test]
    fn unpacking_near_misses_never_panics(
        values in vec(any_value(), 0..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut packed = pack(&refs(&values)).unwrap();
        let at = at.index(packed.len());
        packed[at] = byte;
        if let Ok(values) = unpack(&packed) {
            prop_assert_eq!(pack(&values).unwrap(), packed);
        }
    }

    #[test]
    fn canonical_keys_are_canonical(parts in vec((any_value(), key_column()), 1..4)) {
        let (values, columns): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let key = match canonical_key(&refs(&values), &columns) {
            Ok(key) => key,
            Err(KeyError::Null { column }) => {
                prop_assert!(values[column].as_ref().storable().same(&ValueRef::Null));
                return Ok(());
            }
            Err(error) => {
                let is_host_dependent = matches!(error, KeyError::HostDependent { .. });
                prop_assert!(is_host_dependent, "{}", error);
                return Ok(());
            }
        };
        // The canonical key of a canonical key is itself, and it spells itself.
        let again = canonical_packed_key(&key.bytes, &columns).unwrap();
        prop_assert_eq!(&again, &CanonicalKey { bytes: key.bytes.clone(), is_spelling: true });
        // What the table stores has the same identity, and `is_spelling` tells whether it is what the canonical
        // values would store.
        let stored = stored_key(&refs(&values), &columns).unwrap();
        prop_assert_eq!(&canonical_packed_key(&stored, &columns).unwrap(), &key);
        prop_assert_eq!(&stored_key(&unpack(&stored).unwrap(), &columns).unwrap(), &stored);
        let canonical_stored = stored_key(&unpack(&key.bytes).unwrap(), &columns).unwrap();
        prop_assert_eq!(stored == canonical_stored, key.is_spelling);
        // A key is canonical column by column, and appends to what is there.
        let mut appended = vec![7];
        canonical_key_into(&refs(&values), &columns, &mut appended).unwrap();
        prop_assert_eq!(&appended[1..], &key.bytes[..]);
        let single: Vec<_> = values.iter().zip(&columns).map(|(v, c)| canonical_value(v.as_ref(), c).unwrap()).collect();
        prop_assert_eq!(&pack(&single.iter().map(|value| value.as_ref()).collect::<Vec<_>>()).unwrap(), &key.bytes);
    }

    #[test]
    fn canonicalising_a_foreign_key_never_panics(bytes in vec(any::<u8>(), 0..24), columns in vec(key_column(), 0..3)) {
        let _ = canonical_packed_key(&bytes, &columns);
    }

    #[test]
    fn integers_and_the_reals_they_equal_are_one_key(integer in prop_oneof![any::<i64>(), -100i64..100]) {
        let real = integer as f64;
        for affinity in [Affinity::Blob, Affinity::Numeric, Affinity::Integer, Affinity::Real] {
            let column = [KeyColumn::binary(affinity)];
            let keys = [ValueRef::Integer(integer), ValueRef::Real(real)].map(|v| canonical_key(&[v], &column).unwrap());
            let exact = affinity == Affinity::Real || (real as i128) == i128::from(integer);
            prop_assert_eq!(keys[0].bytes == keys[1].bytes, exact);
        }
    }

    #[test]
    fn letter_case_is_no_identity_under_nocase(text in "[a-zA-Z0-9é ]{0,8}") {
        let column = [KeyColumn { affinity: Affinity::Text, collation: Collation::NoCase }];
        let key = |text: &str| canonical_key(&[ValueRef::Text(text.as_bytes())], &column).unwrap();
        let keys = [key(&text), key(&text.to_ascii_lowercase()), key(&text.to_ascii_uppercase())];
        prop_assert!(keys.iter().all(|other| other.bytes == keys[0].bytes));
        prop_assert!(keys[1].is_spelling);
        prop_assert_eq!(keys[0].is_spelling, text == text.to_ascii_lowercase());
    }

    #[test]
    fn affinity_applies_once(value in any_value(), column in key_column()) {
        let once = apply_affinity(value.as_ref(), column.affinity);
        let twice = apply_affinity(once.as_ref(), column.affinity);
        prop_assert!(once.as_ref().same(&twice.as_ref()), "{:?} {:?}", once, twice);
    }

    #[test]
    fn values_have_a_total_order(values in vec(any_value(), 3)) {
        let [a, b, c] = [0, 1, 2].map(|i| values[i].as_ref());
        for order in [ValueRef::cmp_by_content, ValueRef::cmp_total] {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            if order(&a, &b).is_le() && order(&b, &c).is_le() {
                prop_assert!(order(&a, &c).is_le());
            }
        }
        prop_assert_eq!(a.cmp_total(&b) == Ordering::Equal, a.same(&b));
    }

    #[test]
    fn digests_are_a_commutative_group(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), c in any::<[u8; 32]>()) {
        let sum = |parts: &[[u8; 32]]| {
            let mut sum = Digest::default();
            parts.iter().for_each(|part| sum.add(&Digest(*part)));
            sum
        };
        prop_assert_eq!(sum(&[a, b, c]), sum(&[c, a, b]));
        let mut difference = sum(&[a, b]);
        difference.sub(&Digest(b));
        prop_assert_eq!(difference, Digest(a));
    }
}
