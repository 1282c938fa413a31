//! Finds the rows that differ between two nodes that should be equal.
//!
//! The side that asks begins with one digest per table, cuts the ranges that differ, asks again, and ends with
//! ranges of few rows. Repair is ordinary merging: both sides send their facts of these rows as a delta without
//! claims. Sums are only comparable while both hold the same set; a difference between equal sets is a fault of a
//! merge or a store and should be reported, whatever the repair does.

use std::collections::BTreeMap;

use crate::message::{DigestEntry, DigestRange, DigestRequest, DigestResponse};
use crate::wire::Blob;

/// Into how many parts a differing range is cut.
pub const CUT: u32 = 16;

/// Ranges with at most this many rows on both sides are not cut any further.
pub const LEAF_ROWS: u64 = 16;

/// Most ranges in flight at once: the others wait for the next question.
pub const RANGES_PER_QUESTION: usize = 64;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the peer, and answer the ranges of its response from the own store too.
    Ask(DigestRequest),
    /// The sets are not equal: exchange transactions first, then begin again.
    NotComparable,
    /// These ranges differ; empty if nothing does.
    Differ(Vec<DigestRange>),
}

/// One comparison.
///
/// ```
/// use crsql_protocol::{compare::{Comparison, Step}, message::DigestResponse, wire::Fingerprint};
/// let (mut comparison, question) = Comparison::begin(1);
/// assert!(question.ranges.is_empty(), "one digest per table, please");
/// let answer = DigestResponse { id: 1, held_fingerprint: Fingerprint([1; 16]), entries: vec![] };
/// assert_eq!(comparison.next(&answer, &answer), Step::Differ(vec![]));
/// ```
#[derive(Clone, Debug)]
pub struct Comparison {
    id: u64,
    to_cut: Vec<DigestRange>,
    differ: Vec<DigestRange>,
}

impl Comparison {
    /// The comparison and its first question.
    pub fn begin(id: u64) -> (Comparison, DigestRequest) {
        let question = DigestRequest { id, ranges: Vec::new(), cut: 1, rows: false };
        (Comparison { id, to_cut: Vec::new(), differ: Vec::new() }, question)
    }

    /// Takes the peer's answer and our own digests of the ranges in it.
    pub fn next(&mut self, theirs: &DigestResponse, mine: &DigestResponse) -> Step {
        if theirs.held_fingerprint != mine.held_fingerprint {
            return Step::NotComparable;
        }
        let of_range = |response: &DigestResponse| -> BTreeMap<_, _> {
            response.entries.iter().map(|entry| (key(&entry.range), entry.clone())).collect()
        };
        let (theirs, mine) = (of_range(theirs), of_range(mine));
        let only_mine = mine.iter().filter(|(range, _)| !theirs.contains_key(*range));
        for (range, entry) in theirs.iter().chain(only_mine) {
            self.judge(theirs.get(range), mine.get(range), entry);
        }
        if self.to_cut.is_empty() {
            return Step::Differ(std::mem::take(&mut self.differ));
        }
        self.id += 1;
        let rest = self.to_cut.split_off(self.to_cut.len().min(RANGES_PER_QUESTION));
        let ranges = std::mem::replace(&mut self.to_cut, rest);
        Step::Ask(DigestRequest { id: self.id, ranges, cut: CUT, rows: false })
    }

    fn judge(&mut self, theirs: Option<&DigestEntry>, mine: Option<&DigestEntry>, either: &DigestEntry) {
        if let (Some(theirs), Some(mine)) = (theirs, mine)
            && (theirs.sum, theirs.rows) == (mine.sum, mine.rows)
        {
            return;
        }
        let rows = theirs.map_or(0, |entry| entry.rows).max(mine.map_or(0, |entry| entry.rows));
        match rows {
            0 => {}
            1..=LEAF_ROWS => self.differ.push(either.range.clone()),
            _ => self.to_cut.push(either.range.clone()),
        }
    }
}

fn key(range: &DigestRange) -> (String, Vec<u8>, Option<Vec<u8>>) {
    (range.table.clone(), range.from.0.clone(), range.to.as_ref().map(|to| to.0.clone()))
}

/// Cuts a range into up to `cut` ranges of about equal size. `keys` are the canonical packed keys that the range
/// has here, ascending. The result covers the range whatever the other side has in it.
pub fn cut(range: &DigestRange, keys: &[Vec<u8>], cut: u32) -> Vec<DigestRange> {
    let step = keys.len().div_ceil(cut.max(1) as usize).max(1);
    let mut from = range.from.clone();
    let mut ranges = Vec::new();
    for key in keys.iter().step_by(step).skip(1) {
        let to = Blob(key.clone());
        ranges.push(DigestRange { table: range.table.clone(), from, to: Some(to.clone()) });
        from = to;
    }
    ranges.push(DigestRange { table: range.table.clone(), from, to: range.to.clone() });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Fingerprint, Sum};

    type Rows = BTreeMap<Vec<u8>, u8>;

    fn digest(rows: &Rows, ranges: &[DigestRange]) -> DigestResponse {
        let entries = ranges.iter().map(|range| {
            let mut sum = crsql_core::digest::Digest::default();
            let within = rows
                .iter()
                .filter(|(key, _)| **key >= range.from.0 && range.to.as_ref().is_none_or(|to| **key < to.0));
            let mut count = 0;
            for (key, value) in within {
                let hash = blake3::hash(&[&key[..], &[*value]].concat());
                sum.add(&crsql_core::digest::Digest(*hash.as_bytes()));
                count += 1;
            }
            DigestEntry { range: range.clone(), rows: count, sum: Sum(sum.0) }
        });
        DigestResponse { id: 0, held_fingerprint: Fingerprint::default(), entries: entries.collect() }
    }

    fn all() -> DigestRange {
        DigestRange { table: "t".into(), from: Blob::default(), to: None }
    }

    fn find(theirs: &Rows, mine: &Rows) -> (Vec<DigestRange>, usize) {
        let (mut comparison, mut question) = Comparison::begin(1);
        for questions in 1.. {
            let ranges: Vec<_> = match &question.ranges[..] {
                [] => vec![all()],
                ranges => ranges
                    .iter()
                    .flat_map(|range| {
                        let keys = theirs.keys().filter(|key| {
                            **key >= range.from.0 && range.to.as_ref().is_none_or(|to| **key < to.0)
                        });
                        cut(range, &keys.cloned().collect::<Vec<_>>(), question.cut)
                    })
                    .collect(),
            };
            match comparison.next(&digest(theirs, &ranges), &digest(mine, &ranges)) {
                Step::Ask(next) => question = next,
                Step::Differ(ranges) => return (ranges, questions),
                Step::NotComparable => panic!("both hold the same"),
            }
        }
        unreachable!()
    }

    #[test]
    fn one_row_of_many_is_found_in_few_questions() {
        let mine: Rows = (0..20_000u32).map(|key| (key.to_be_bytes().to_vec(), 1)).collect();
        let mut theirs = mine.clone();
        assert_eq!(find(&theirs, &mine).0, []);
        theirs.insert(12_345u32.to_be_bytes().to_vec(), 2);
        theirs.remove(&77u32.to_be_bytes()[..]);
        let (ranges, questions) = find(&theirs, &mine);
        assert_eq!((ranges.len(), questions), (2, 4));
        assert!(ranges.iter().any(|range| range.from.0 <= 12_345u32.to_be_bytes().to_vec()));
        // All rows on one side only: there is nothing to cut by there.
        assert!(!find(&Rows::new(), &mine.into_iter().take(10).collect()).0.is_empty());
    }

    #[test]
    fn different_sets_are_not_compared() {
        let rows = digest(&Rows::new(), &[all()]);
        let other = DigestResponse { held_fingerprint: Fingerprint([1; 16]), ..rows.clone() };
        assert_eq!(Comparison::begin(1).0.next(&rows, &other), Step::NotComparable);
    }
}
