//! Which tombstones may go, and what a replica that let them go may still take.
//!
//! A tombstone beats everything older of its row, so it may go only when nothing older can come any more: when every
//! live member holds the delete. What was written before a member saw the delete lies below that member's own head
//! at that time, so whoever collects must hold those heads, and afterwards
//!
//! - a row that is unknown here and of a version held here was collected or superseded: it is ignored;
//! - a row that is unknown here and above the [`floor`](Collected::floor) is newer than anything collected;
//! - any other row is taken from authors and senders that have seen the deletes, and from nobody else;
//! - a new row starts above the floor, so it beats the tombstones that other replicas still have.
//!
//! A replica that lacks a collected delete can't be brought up to date by what is left: it begins again from a whole
//! changeset and writes once more what nobody had of it.

use crate::change::Fact;
use crate::column::ColumnType;
use crate::ids::SiteId;
use crate::limits::COLLECTED_CAUSAL_LENGTH_MAX;
use crate::msgpack;
use crate::version_vector::VersionVector;

/// What was collected, here or by a replica that told of it. It only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Collected {
    /// The greatest causal length of a collected tombstone, even: rows that are unknown here start above it.
    pub floor: u64,
    /// The versions with collected deletes, and what the cut held below them.
    pub deletes: VersionVector,
}

impl Collected {
    /// True when nothing was ever collected.
    pub fn is_empty(&self) -> bool {
        self.floor == 0
    }

    /// True when `other` tells nothing new.
    pub fn covers(&self, other: &Collected) -> bool {
        self.floor >= other.floor && self.deletes.is_superset(&other.deletes)
    }

    /// True when a replica that holds `held`, and has taken this over before, has seen every delete that `other`
    /// collected: what is left there brings it up to date.
    pub fn has_seen(&self, held: &VersionVector, other: &Collected) -> bool {
        held.is_superset(&other.deletes.difference(&self.deletes))
    }

    /// Takes over what another replica collected.
    pub fn adopt(&mut self, other: &Collected) {
        self.floor = self.floor.max(other.floor);
        self.deletes.union_with(&other.deletes);
    }

    /// True for rows that a digest leaves out: tombstones up to the floor, which some replicas still have and some
    /// collected, and of which two concurrent deletes may leave one here and the other there.
    pub fn hides(&self, cl: u64) -> bool {
        cl.is_multiple_of(2) && cl <= self.floor
    }

    /// MessagePack: `[floor, deletes]`.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("writing integers and bytes to memory cannot fail")
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Collected> {
        let (floor, deletes) = msgpack::from_slice(bytes).ok()?;
        Some(Collected { floor, deletes }).filter(Collected::is_sound)
    }

    /// True when the floor leaves room above it.
    pub fn is_sound(&self) -> bool {
        self.floor == 0 || is_collectable(self.floor)
    }

    /// Notes that a tombstone of this causal length goes.
    pub fn note(&mut self, cl: u64) {
        self.floor = self.floor.max(cl);
    }
}

/// What a change of a row that is unknown here is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Merge it.
    Take,
    /// It was held here once, and what beat it was collected.
    Known,
    /// Its author may not have seen a delete that was collected: it could bring a deleted row back.
    Behind,
}

/// Judges a change of a row that has no clock here. `is_held` tells whether its version is held completely,
/// `is_past` whether its author or its sender has seen everything that was collected.
pub fn admit(collected: &Collected, cl: u64, is_held: bool, is_past: bool) -> Admission {
    if collected.is_empty() || cl > collected.floor {
        Admission::Take
    } else if is_held {
        Admission::Known
    } else if is_past {
        Admission::Take
    } else {
        Admission::Behind
    }
}

/// What a registered site said it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The last it said of which everything that it had written itself is held here.
    pub vector: VersionVector,
    /// What it said later, until that is so.
    pub waiting: Option<VersionVector>,
}

impl Heard {
    /// The site says what it holds; `here` is what this replica holds.
    pub fn hear(&mut self, site: SiteId, here: &VersionVector, said: &VersionVector) {
        if !said.is_superset(&self.vector) {
            // It was restored from an older copy, and what it lost it may have alive again.
            self.vector = self.vector.intersection(said);
            self.waiting = Some(said.clone());
        } else if is_settled(site, here, said) {
            *self = Heard { vector: said.clone(), waiting: None };
            return;
        }
        self.settle(site, here);
        // The older one waits, since that comes true first.
        self.waiting.get_or_insert_with(|| said.clone());
    }

    /// Takes what it said earlier if what it had written by then has come. True if anything changed.
    pub fn settle(&mut self, site: SiteId, here: &VersionVector) -> bool {
        match self.waiting.take_if(|waiting| is_settled(site, here, waiting)) {
            Some(settled) => self.vector.union_with(&settled),
            None => false,
        }
    }
}

/// True when everything that a site had written when it held `held` is here.
fn is_settled(site: SiteId, here: &VersionVector, held: &VersionVector) -> bool {
    held.of_site(site).is_none_or(|written| here.of_site(site).is_some_and(|here| here.is_superset(written)))
}

/// What every member holds, this replica (`own`) included; without members, nothing. Of a member only what it said
/// counts that was [settled](Heard): then whatever it wrote before it saw a delete of the cut is held here.
pub fn stable_cut<'a>(
    own: &VersionVector,
    members: impl IntoIterator<Item = &'a VersionVector>,
) -> VersionVector {
    let cut = members.into_iter().fold(None, |cut: Option<VersionVector>, held| {
        Some(cut.unwrap_or_else(|| own.clone()).intersection(held))
    });
    cut.unwrap_or_default()
}

/// Whether a tombstone of this causal length may go at all. A hostile peer could otherwise drive the floor to where no
/// row can start above it.
pub fn is_collectable(cl: u64) -> bool {
    cl.is_multiple_of(2) && (2..=COLLECTED_CAUSAL_LENGTH_MAX).contains(&cl)
}

/// Whether whoever wrote these facts of a row also brought it into being: they say that it exists, or are the first of a
/// cell. Of a row that somebody else inserted and that was then written all over nothing else is left, so without such a
/// fact it counts as somebody else's, and may be a deleted one.
pub fn was_made_by<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> bool {
    facts.into_iter().any(|fact| match fact {
        Fact::Row => true,
        Fact::Cell { column, col_version, .. } => {
            *col_version == 1 && !ColumnType::of_cell(column).is_parted()
        }
    })
}

/// The part of the cut that whoever lacks a collected delete lacks some of: up to the last one of each site.
pub fn deletes_within(cut: &VersionVector, last: impl IntoIterator<Item = (SiteId, u64)>) -> VersionVector {
    let mut upto = VersionVector::default();
    last.into_iter().for_each(|(site, version)| {
        upto.insert_range(site, 1, version);
    });
    upto.intersection(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SiteId;

    const A: SiteId = SiteId([1; 16]);
    const B: SiteId = SiteId([2; 16]);

    fn vector(ranges: &[(SiteId, u64, u64)]) -> VersionVector {
        let mut vector = VersionVector::default();
        ranges.iter().for_each(|(site, lo, hi)| {
            vector.insert_range(*site, *lo, *hi);
        });
        vector
    }

    #[test]
    fn the_cut_is_what_all_members_hold_and_nothing_without_members() {
        let own = vector(&[(A, 1, 9), (B, 1, 5)]);
        assert!(stable_cut(&own, []).is_empty());
        let b = vector(&[(A, 1, 4), (B, 1, 5)]);
        assert_eq!(stable_cut(&own, [&own, &b]), vector(&[(A, 1, 4), (B, 1, 5)]));
        let silent = VersionVector::default();
        assert!(stable_cut(&own, [&own, &silent]).is_empty());
    }

    #[test]
    fn a_member_counts_once_what_it_had_written_is_held() {
        let mut here = vector(&[(A, 1, 9), (B, 1, 5)]);
        let mut heard = Heard::default();
        let (early, late) = (vector(&[(A, 1, 9), (B, 1, 6)]), vector(&[(A, 1, 9), (B, 1, 7)]));
        heard.hear(B, &here, &early);
        heard.hear(B, &here, &late);
        assert_eq!(heard, Heard { vector: VersionVector::default(), waiting: Some(early.clone()) });
        here.insert(B, 6);
        assert!(heard.settle(B, &here));
        assert_eq!(heard.vector, early);
        heard.hear(B, &here, &late);
        assert_eq!(heard.waiting, Some(late));
    }

    #[test]
    fn a_member_that_was_restored_counts_for_less() {
        let here = vector(&[(A, 1, 9), (B, 1, 5)]);
        let mut heard = Heard { vector: here.clone(), waiting: None };
        let less = vector(&[(A, 1, 3), (B, 1, 5)]);
        heard.hear(B, &here, &less);
        assert_eq!((&heard.vector, heard.waiting.is_some()), (&less, true));
        let mut heard = Heard { vector: here.clone(), waiting: None };
        heard.hear(B, &here, &vector(&[(A, 1, 3), (B, 1, 6)]));
        assert_eq!(heard.vector, less);
    }

    #[test]
    fn an_unknown_row_is_taken_from_whoever_has_seen_the_deletes() {
        let none = Collected::default();
        assert_eq!(admit(&none, 1, true, false), Admission::Take);
        let some = Collected { floor: 2, deletes: vector(&[(A, 1, 3)]) };
        assert_eq!(admit(&some, 3, false, false), Admission::Take);
        assert_eq!(admit(&some, 1, true, true), Admission::Known);
        assert_eq!(admit(&some, 1, false, true), Admission::Take);
        assert_eq!(admit(&some, 1, false, false), Admission::Behind);
        assert!(!none.has_seen(&vector(&[(A, 1, 2)]), &some));
        assert!(none.has_seen(&vector(&[(A, 1, 3)]), &some));
        assert!(some.has_seen(&VersionVector::default(), &some), "it was taken over before");
    }
}
