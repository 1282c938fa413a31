use proptest::prelude::*;

use super::*;

const A: SiteId = SiteId([1; 16]);
const B: SiteId = SiteId([2; 16]);

fn frame(version: u64, seq_lo: u64, seq_hi: u64, last_seq: u64) -> Frame {
    let (chain, codec, body) = Default::default();
    Frame { site: A, site_version: version, seq_lo, seq_hi, last_seq, chain, codec, body }
}

#[test]
fn gaps_below_the_head_are_needed() {
    let (mut mine, mut theirs) = (Holdings::default(), Holdings::default());
    mine.whole.insert(A, 3);
    theirs.whole.insert_range(A, 1, 3);
    theirs.whole.insert(B, 7);
    let needs = mine.needs(&theirs);
    assert_eq!(needs.whole.ranges().collect::<Vec<_>>(), [(A, 1, 2), (B, 7, 7)]);
    assert!(theirs.needs(&mine).is_empty());
    assert_eq!(mine.gaps().whole.ranges().collect::<Vec<_>>(), [(A, 1, 2)]);
    assert_eq!(theirs.gaps().whole.ranges().collect::<Vec<_>>(), [(B, 1, 6)]);
    mine.add_part(A, 2, 0, 5, 9);
    assert_eq!(mine.gaps().partial[&(A, 2)], RangeSet::of(6, 9));
}

#[test]
fn a_partial_version_needs_only_the_rest() {
    let (mut mine, mut theirs) = (Holdings::default(), Holdings::default());
    mine.add_part(A, 1, 2, 3, 9);
    theirs.add_part(A, 1, 0, 5, 9);
    assert_eq!(mine.needs(&theirs).partial[&(A, 1)].iter().collect::<Vec<_>>(), [(0, 1), (4, 5)]);
    assert!(theirs.needs(&mine).is_empty());
    theirs.add_part(A, 1, 6, 9, 9);
    assert!(theirs.whole.contains(A, 1) && theirs.partial.is_empty());
    assert_eq!(mine.needs(&theirs).partial[&(A, 1)].iter().collect::<Vec<_>>(), [(0, 1), (4, 9)]);
    // What is not begun yet can be had in part, too.
    let mut third = Holdings::default();
    third.add_part(A, 2, 4, 4, 4);
    assert_eq!(mine.needs(&third).partial[&(A, 2)], RangeSet::of(4, 4));
}

#[test]
fn entering_says_whether_anything_was_new() {
    let mut held = Holdings::default();
    assert!(held.add_frame(&frame(1, 0, 1, 2)));
    assert!(!held.add_frame(&frame(1, 1, 1, 2)));
    assert!(held.add_frame(&frame(1, 1, 2, 2)) && held.whole.contains(A, 1));
    assert!(!held.add_frame(&frame(1, 0, 2, 2)));
    assert!(held.add_frame(&frame(2, 0, 0, 0)) && !held.add_frame(&frame(0, 0, 0, 0)));
    held.add_frame(&frame(3, 0, 0, 1));
    assert!(held.claim(&held.whole.clone().tap(|all| all.insert(A, 3))) && held.partial.is_empty());
    assert!(!held.claim(&held.whole.clone()));
}

trait Tap: Sized {
    fn tap<R>(self, change: impl FnOnce(&mut Self) -> R) -> Self;
}

impl Tap for VersionVector {
    fn tap<R>(mut self, change: impl FnOnce(&mut Self) -> R) -> Self {
        change(&mut self);
        self
    }
}

#[test]
fn a_sent_chunk_leaves_the_other_seqs_wanted() {
    let mut needs = Needs::default();
    needs.whole.insert_range(A, 1, 2);
    needs.sent(&frame(1, 0, 4, 9));
    assert!(needs.wants(A, 1) && needs.partial[&(A, 1)] == RangeSet::of(5, 9));
    needs.sent(&frame(1, 5, 9, 9));
    assert!(!needs.wants(A, 1) && needs.wants(A, 2));
    needs.sent(&frame(2, 0, 0, 0));
    needs.sent(&frame(7, 0, 0, 3));
    assert!(needs.is_empty());
}

#[test]
fn the_fingerprint_tells_histories_apart() {
    let mut held = Holdings::default();
    held.whole.insert(A, 1);
    let of = |chain| held.fingerprint([(A, 1, Chain([chain; 16]))].into_iter());
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn malformed_parts_are_refused() {
    for have in [vec![], vec![1], vec![2, 1], vec![0, 1, 2, 3], vec![0, u64::MAX], vec![5, 10]] {
        let partial = vec![Partial { site: A, site_version: 1, last_seq: 9, have }];
        let have = Have { whole: VersionVector::default(), partial };
        assert!(Holdings::from_have(&have).is_err(), "{have:?}");
    }
    let partial = vec![NeededPart { site: A, site_version: 0, seqs: vec![0, 1] }];
    assert!(Needs::from_need(&Need { whole: VersionVector::default(), partial }).is_err());
}

fn holdings() -> impl Strategy<Value = Holdings> {
    let part = (any::<bool>(), 1..6u64, 0..5u64, 0..5u64);
    proptest::collection::vec(part, 0..20).prop_map(|parts| {
        let mut held = Holdings::default();
        for (first, version, lo, len) in parts {
            held.add_part(if first { A } else { B }, version, lo.min(4), (lo + len).min(4), 4);
        }
        held
    })
}

#[test]
fn whoever_lacks_a_chunk_has_another_fingerprint() {
    let of = |parts: &[(u64, u64)]| {
        let mut held = Holdings::default();
        held.whole.insert_range(SiteId([1; 16]), 1, 3);
        for (lo, hi) in parts {
            held.add_part(SiteId([1; 16]), 4, *lo, *hi, 9);
        }
        held.fingerprint(std::iter::empty())
    };
    assert_ne!(of(&[]), of(&[(0, 2)]));
    assert_ne!(of(&[(0, 2)]), of(&[(0, 2), (5, 6)]));
    assert_eq!(of(&[(0, 1), (2, 2)]), of(&[(0, 2)]));
}

/// Every (site, version, seq) held.
fn facts(held: &Holdings) -> std::collections::BTreeSet<(SiteId, u64, u64)> {
    let whole = held.whole.ranges().flat_map(|(site, lo, hi)| (lo..=hi).map(move |v| (site, v)));
    let whole = whole.flat_map(|(site, version)| (0..=4).map(move |seq| (site, version, seq)));
    let partial = held.partial.iter().flat_map(|(&(site, version), progress)| {
        progress.have.iter().flat_map(|(lo, hi)| lo..=hi).map(move |seq| (site, version, seq))
    });
    whole.chain(partial).collect()
}

proptest! {
    #[test]
    fn needs_are_exactly_the_difference(mine in holdings(), theirs in holdings()) {
        let needs = mine.needs(&theirs);
        let mut wanted = std::collections::BTreeSet::new();
        for (site, lo, hi) in needs.whole.ranges() {
            wanted.extend((lo..=hi).flat_map(|v| (0..=4).map(move |seq| (site, v, seq))));
        }
        for (&(site, version), seqs) in &needs.partial {
            wanted.extend(seqs.iter().flat_map(|(lo, hi)| lo..=hi).map(|seq| (site, version, seq)));
        }
        prop_assert_eq!(wanted, facts(&theirs).difference(&facts(&mine)).copied().collect());
        prop_assert_eq!(Needs::from_need(&needs.to_need()).unwrap(), needs);
    }

    #[test]
    fn holdings_travel(held in holdings()) {
        prop_assert_eq!(Holdings::from_have(&held.to_have()).unwrap(), held);
    }
}
