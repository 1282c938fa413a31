//! Vectors and their bytes, case by case; the laws they add up to are in `tests/laws`.

use super::*;

const A: SiteId = SiteId([1; 16]);
const B: SiteId = SiteId([2; 16]);

fn vector(ranges: &[(SiteId, u64, u64)]) -> VersionVector {
    let mut vector = VersionVector::default();
    for (site, lo, hi) in ranges {
        vector.insert_range(*site, *lo, *hi);
    }
    vector
}

fn decode(bytes: &[u8]) -> Result<VersionVector, DecodeError> {
    VersionVector::decode(bytes, &Limits::default())
}

#[test]
fn unknown_identities_are_never_held() {
    let mut held = VersionVector::default();
    assert!(!held.insert(A, 0));
    assert!(held.is_empty());
    assert!(!held.contains(A, 0));
    assert!(held.insert_range(A, 0, 2));
    assert!(!held.contains(A, 0));
    assert!(held.contains(A, 1));
}

#[test]
fn vectors_are_compared_and_combined_site_by_site() {
    let mut held = vector(&[(A, 1, 5)]);
    let other = vector(&[(A, 4, 7), (B, 1, 1)]);
    assert_eq!(other.difference(&held), vector(&[(A, 6, 7), (B, 1, 1)]));
    assert!(!held.is_superset(&other));
    assert!(held.union_with(&other));
    assert!(!held.union_with(&other));
    assert_eq!(held, vector(&[(A, 1, 7), (B, 1, 1)]));
    assert!(held.is_superset(&other));
    assert!(held.difference(&held).is_empty());
    assert_eq!(held.heads().collect::<Vec<_>>(), [(A, 7), (B, 1)]);
    assert_eq!(held.iter().count(), 2);
    assert_eq!(held.of_site(B), Some(&RangeSet::of(1, 1)));
}

#[test]
fn a_removed_version_is_not_held() {
    let mut held = vector(&[(A, 1, 3), (B, 2, 2)]);
    held.remove(A, 2);
    held.remove(B, 2);
    held.remove(B, 9);
    assert_eq!(held, vector(&[(A, 1, 1), (A, 3, 3)]));
}

#[test]
fn the_encoding_is_this() {
    let bytes = vector(&[(A, 1, 4), (A, 9, 300)]).encode();
    let mut expected = vec![0x92, 1, 0x91, 0x92, 0xc4, 16];
    expected.extend_from_slice(&[1; 16]);
    expected.extend_from_slice(&[0x94, 1, 4, 9, 0xcd, 1, 44]);
    assert_eq!(bytes, expected);
    assert_eq!(decode(&bytes).unwrap(), vector(&[(A, 1, 4), (A, 9, 300)]));
    assert_eq!(VersionVector::default().encode(), [0x92, 1, 0x90]);
    assert!(decode(&[0x92, 1, 0x90]).unwrap().is_empty());
}

#[test]
fn malformed_vectors_are_refused() {
    let encode = |flat: &[u64]| rmp_serde::to_vec(&(1u8, vec![(A, flat.to_vec())])).unwrap();
    for flat in [
        &[][..],
        &[1],
        &[1, 2, 5],
        &[0, 1],
        &[2, 1],
        &[1, 2, 3, 4],
        &[5, 6, 1, 2],
        &[1, SITE_VERSION_MAX + 1],
        &[1, 2, 3, u64::MAX],
        &[u64::MAX, u64::MAX],
    ] {
        assert!(matches!(decode(&encode(flat)), Err(DecodeError::Malformed(_))), "{flat:?}");
    }
    let twice = rmp_serde::to_vec(&(1u8, vec![(A, vec![1u64, 1]), (A, vec![3, 3])])).unwrap();
    assert!(matches!(decode(&twice), Err(DecodeError::Malformed(_))));
    assert!(matches!(decode(&[]), Err(DecodeError::Malformed(_))));
    // A declared length of four thousand million sites must not be believed.
    assert!(matches!(decode(&[0x92, 1, 0xdd, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Malformed(_))));
    assert!(matches!(decode(&[0x92, 7, 0x90]), Err(DecodeError::UnknownFormat(7))));
    assert!(matches!(decode(&[0x92, 1, 0x90, 0]), Err(DecodeError::Malformed(_))));
}

#[test]
fn large_vectors_are_refused() {
    let bytes = vector(&[(A, 1, 1), (A, 3, 3), (B, 1, 1)]).encode();
    let limited = |sites_max, ranges_max| VersionVector::decode(&bytes, &Limits { sites_max, ranges_max });
    assert!(limited(2, 3).is_ok());
    assert!(matches!(limited(1, 3), Err(DecodeError::TooManySites { found: 2, limit: 1 })));
    assert!(matches!(limited(2, 2), Err(DecodeError::TooManyRanges { found: 3, limit: 2 })));
}
