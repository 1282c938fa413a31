//! Range sets against sets of numbers, version vectors against sets of pairs.

use std::collections::BTreeSet;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::{Limits, RangeSet, VersionVector};
use proptest::collection::vec;
use proptest::prelude::*;

type Ranges = Vec<(u64, u64)>;

fn ranges() -> impl Strategy<Value = Ranges> {
    vec((0u64..40, 0u64..6), 0..12)
        .prop_map(|pairs| pairs.into_iter().map(|(lo, len)| (lo, lo + len)).collect())
}

fn model(ranges: &Ranges) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(lo, hi)| *lo..=*hi).collect()
}

fn members(set: &RangeSet) -> BTreeSet<u64> {
    set.iter().flat_map(|(lo, hi)| lo..=hi).collect()
}

fn assert_one_form(set: &RangeSet) {
    let ranges: Ranges = set.iter().collect();
    assert!(ranges.iter().all(|(lo, hi)| lo <= hi), "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
}

fn vector(entries: &[(u8, u64, u64)]) -> VersionVector {
    let mut vector = VersionVector::default();
    for (site, lo, len) in entries {
        vector.insert_range(SiteId([*site; 16]), *lo, lo + len);
    }
    vector
}

fn versions(vector: &VersionVector) -> BTreeSet<(SiteId, u64)> {
    vector.ranges().flat_map(|(site, lo, hi)| (lo..=hi).map(move |version| (site, version))).collect()
}

proptest! {
    #[test]
    fn a_range_set_is_the_set_of_its_numbers(a in ranges(), b in ranges()) {
        let (mut set, other): (RangeSet, RangeSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let (model_a, model_b) = (model(&a), model(&b));
        prop_assert_eq!(members(&set), model_a.clone());
        prop_assert_eq!(members(&set.union(&other)), &model_a | &model_b);
        prop_assert_eq!(members(&set.difference(&other)), &model_a - &model_b);
        prop_assert_eq!(set.is_superset(&other), model_a.is_superset(&model_b));
        prop_assert_eq!(set.max(), model_a.last().copied());
        prop_assert_eq!(set.is_empty(), model_a.is_empty());
        for number in 0..50 {
            prop_assert_eq!(set.contains(number), model_a.contains(&number));
            prop_assert_eq!(set.contains_range(number, number + 3), (number..=number + 3).all(|n| model_a.contains(&n)));
        }
        for result in [&set, &set.union(&other), &set.difference(&other)] {
            assert_one_form(result);
        }
        prop_assert_eq!(set.union_with(&other), !model_a.is_superset(&model_b));
    }

    #[test]
    fn an_insert_says_whether_it_added_anything(held in ranges(), lo in 0u64..40, len in 0u64..6) {
        let mut set: RangeSet = held.iter().copied().collect();
        let mut expected = model(&held);
        let size = expected.len();
        expected.extend(lo..=lo + len);
        prop_assert_eq!(set.insert(lo, lo + len), expected.len() > size);
        prop_assert_eq!(members(&set), expected);
    }

    #[test]
    fn equal_sets_have_one_form(mut a in ranges(), seed in any::<u64>()) {
        let set: RangeSet = a.iter().copied().collect();
        crate::arbitrary::Dice::new(seed).shuffle(&mut a);
        prop_assert_eq!(a.into_iter().collect::<RangeSet>(), set);
    }

    #[test]
    fn a_version_vector_is_the_set_of_its_versions(
        a in vec((0u8..3, 0u64..20, 0u64..5), 0..10),
        b in vec((0u8..3, 0u64..20, 0u64..5), 0..10),
    ) {
        let (mut mine, theirs) = (vector(&a), vector(&b));
        let (model_a, model_b) = (versions(&mine), versions(&theirs));
        prop_assert!(!model_a.iter().any(|(_, version)| *version == 0));
        prop_assert_eq!(versions(&mine.difference(&theirs)), &model_a - &model_b);
        prop_assert_eq!(mine.is_superset(&theirs), model_a.is_superset(&model_b));
        prop_assert_eq!(VersionVector::decode(&mine.encode(), &Limits::default()).unwrap(), mine.clone());
        for (site, version) in &model_b {
            prop_assert_eq!(mine.contains(*site, *version), model_a.contains(&(*site, *version)));
        }
        prop_assert_eq!(mine.union_with(&theirs), !model_a.is_superset(&model_b));
        prop_assert_eq!(versions(&mine), &model_a | &model_b);
        if let Some((site, version)) = model_b.first() {
            mine.remove(*site, *version);
            prop_assert!(!mine.contains(*site, *version));
        }
    }

    #[test]
    fn decoding_a_version_vector_never_panics(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(vector) = VersionVector::decode(&bytes, &Limits::default()) {
            let again = VersionVector::decode(&vector.encode(), &Limits::default());
            prop_assert_eq!(again.unwrap(), vector);
        }
    }

    #[test]
    fn decoding_a_damaged_version_vector_never_panics(
        entries in vec((0u8..3, 1u64..1000, 0u64..50), 0..6),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = vector(&entries).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = VersionVector::decode(&bytes, &Limits::default());
        let _ = VersionVector::decode(&bytes[..at], &Limits::default());
    }
}
