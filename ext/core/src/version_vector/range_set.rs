//! A set of integers as the few ranges it consists of.

/// A set of `u64` in ascending, disjoint ranges that do not touch: there is one form for each set.
///
/// ```
/// # use crsql_core::version_vector::RangeSet;
/// let mut held = RangeSet::default();
/// held.insert(1, 3);
/// held.insert(7, 7);
/// held.insert(4, 5);
/// assert_eq!(held.iter().collect::<Vec<_>>(), [(1, 5), (7, 7)]);
/// assert!(held.contains(5) && !held.contains(6));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// The set of `lo..=hi`; empty if `hi < lo`.
    pub fn of(lo: u64, hi: u64) -> RangeSet {
        let mut set = RangeSet::default();
        set.insert(lo, hi);
        set
    }

    /// Adds `lo..=hi`, nothing if `hi < lo`. True if any of it was new.
    pub fn insert(&mut self, lo: u64, hi: u64) -> bool {
        if hi < lo || self.contains_range(lo, hi) {
            return false;
        }
        // Everything that overlaps or touches becomes one range.
        let first = self.ranges.partition_point(|range| range.1 < lo.saturating_sub(1));
        let last = self.ranges.partition_point(|range| range.0 <= hi.saturating_add(1));
        let merged = match self.ranges.get(first..last) {
            Some([]) | None => (lo, hi),
            Some(touched) => (lo.min(touched[0].0), hi.max(touched[touched.len() - 1].1)),
        };
        self.ranges.splice(first..last, [merged]);
        true
    }

    /// Whether it holds a number.
    pub fn contains(&self, number: u64) -> bool {
        self.contains_range(number, number)
    }

    /// Whether it holds all of `lo..=hi`; true if `hi < lo`.
    pub fn contains_range(&self, lo: u64, hi: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < lo);
        hi < lo || self.ranges.get(at).is_some_and(|range| range.0 <= lo && hi <= range.1)
    }

    /// Adds all of another set. True if any of it was new.
    pub fn union_with(&mut self, other: &RangeSet) -> bool {
        other.iter().fold(false, |changed, (lo, hi)| self.insert(lo, hi) || changed)
    }

    /// The union of both.
    pub fn union(&self, other: &RangeSet) -> RangeSet {
        let mut union = self.clone();
        union.union_with(other);
        union
    }

    /// What this set has and the other has not.
    pub fn difference(&self, other: &RangeSet) -> RangeSet {
        let mut ranges = Vec::new();
        let mut cuts = other.ranges.iter().peekable();
        for &(mut lo, hi) in &self.ranges {
            while let Some(&&(cut_lo, cut_hi)) = cuts.peek() {
                if cut_lo > hi {
                    break;
                }
                if cut_lo > lo {
                    ranges.push((lo, cut_lo - 1));
                }
                // A cut that reaches beyond this range may cut the next one too, so it stays.
                if cut_hi >= hi {
                    break;
                }
                lo = lo.max(cut_hi + 1);
                cuts.next();
            }
            if cuts.peek().is_none_or(|cut| cut.0 > hi) {
                ranges.push((lo, hi));
            }
        }
        RangeSet { ranges }
    }

    /// Whether it holds all of another set.
    pub fn is_superset(&self, other: &RangeSet) -> bool {
        other.iter().all(|(lo, hi)| self.contains_range(lo, hi))
    }

    /// The ranges, both ends inclusive, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The greatest number in it.
    pub fn max(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1)
    }
}

impl FromIterator<(u64, u64)> for RangeSet {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> RangeSet {
        let mut set = RangeSet::default();
        ranges.into_iter().for_each(|(lo, hi)| {
            set.insert(lo, hi);
        });
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        ranges.iter().copied().collect()
    }

    #[test]
    fn touching_and_overlapping_ranges_become_one() {
        assert_eq!(set(&[(1, 2), (3, 4)]), set(&[(1, 4)]));
        assert_eq!(set(&[(1, 5), (3, 9), (20, 30), (8, 21)]), set(&[(1, 30)]));
        assert_eq!(set(&[(5, 6), (1, 2)]).iter().collect::<Vec<_>>(), [(1, 2), (5, 6)]);
        assert_eq!(set(&[(5, 4)]), RangeSet::default());
    }

    #[test]
    fn insert_says_whether_anything_was_new() {
        let mut held = RangeSet::of(1, 5);
        assert!(!held.insert(2, 4));
        assert!(held.insert(5, 6));
        assert!(!held.insert(9, 8));
        assert_eq!(held.max(), Some(6));
        assert!(!held.is_empty());
        assert!(RangeSet::default().is_empty());
        assert_eq!(RangeSet::default().max(), None);
    }

    #[test]
    fn the_ends_of_the_integers_are_ordinary_members() {
        let ends = set(&[(0, 0), (u64::MAX, u64::MAX)]);
        assert!(ends.contains(0));
        assert!(ends.contains(u64::MAX));
        assert!(!ends.contains(1));
        assert_eq!(RangeSet::of(0, u64::MAX).difference(&ends), RangeSet::of(1, u64::MAX - 1));
        assert_eq!(ends.difference(&RangeSet::of(0, u64::MAX)), RangeSet::default());
        assert_eq!(ends.union(&RangeSet::of(1, u64::MAX - 1)), RangeSet::of(0, u64::MAX));
    }

    #[test]
    fn differences_cut_ranges_anywhere() {
        let held = set(&[(1, 10), (20, 30), (40, 50)]);
        assert_eq!(
            held.difference(&set(&[(3, 4), (9, 22), (30, 45)])),
            set(&[(1, 2), (5, 8), (23, 29), (46, 50)])
        );
        assert_eq!(held.difference(&RangeSet::default()), held);
        assert_eq!(held.difference(&held), RangeSet::default());
        assert!(held.is_superset(&set(&[(2, 3), (40, 40)])));
        assert!(!held.is_superset(&set(&[(2, 11)])));
        assert!(held.contains_range(3, 2));
    }
}
