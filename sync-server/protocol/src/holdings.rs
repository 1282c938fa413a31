//! The algebra of holding and lacking: whole versions with gaps, and versions of which some chunks are held.
//!
//! ```
//! use crsql_core::{ids::SiteId, version_vector::RangeSet};
//! use crsql_protocol::holdings::Holdings;
//!
//! let site = SiteId([1; 16]);
//! let (mut mine, mut theirs) = (Holdings::default(), Holdings::default());
//! mine.whole.insert_range(site, 1, 3);
//! mine.add_part(site, 5, 0, 1, 9); // seqs 0 and 1 of 0..=9
//! theirs.whole.insert_range(site, 1, 6);
//!
//! let needs = mine.needs(&theirs);
//! assert_eq!(needs.whole.ranges().collect::<Vec<_>>(), [(site, 4, 4), (site, 6, 6)]);
//! assert_eq!(needs.partial[&(site, 5)], RangeSet::of(2, 9));
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crsql_core::ids::SiteId;
use crsql_core::limits::{SEQ_MAX, SITE_VERSION_MAX};
use crsql_core::version_vector::{RangeSet, VersionVector};

use crate::code::{Code, Fault};
use crate::message::{Frame, Have, Need, NeededPart, Partial};
use crate::wire::{Chain, Fingerprint};

/// How much of an incomplete version is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last seq of the version.
    pub last_seq: u64,
    /// The seqs held.
    pub have: RangeSet,
}

impl Progress {
    /// The seqs lacking.
    pub fn lacking(&self) -> RangeSet {
        RangeSet::of(0, self.last_seq).difference(&self.have)
    }

    /// Whether nothing is lacking.
    pub fn is_whole(&self) -> bool {
        self.have.contains_range(0, self.last_seq)
    }
}

/// What a node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Versions held completely.
    pub whole: VersionVector,
    /// Versions held in part. None of them is in `whole`.
    pub partial: BTreeMap<(SiteId, u64), Progress>,
}

/// What a node lacks, or what is to be sent to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whole versions.
    pub whole: VersionVector,
    /// Seqs of versions of which the rest is there.
    pub partial: BTreeMap<(SiteId, u64), RangeSet>,
}

impl Holdings {
    /// What this node lacks and `peer` has.
    pub fn needs(&self, peer: &Holdings) -> Needs {
        let mut needs = Needs { whole: peer.whole.difference(&self.whole), partial: BTreeMap::new() };
        for (&(site, version), mine) in &self.partial {
            if needs.whole.contains(site, version) {
                needs.whole.remove(site, version);
                needs.want((site, version), mine.lacking());
            }
        }
        for (&(site, version), theirs) in &peer.partial {
            if self.whole.contains(site, version) {
                continue;
            }
            let lacking = match self.partial.get(&(site, version)) {
                Some(mine) => theirs.have.difference(&mine.have),
                None => theirs.have.clone(),
            };
            needs.want((site, version), lacking);
        }
        needs
    }

    /// The versions lacking below the greatest one held of each site. Versions begin at 1 and have no holes, so
    /// somebody has or had them. Of incomplete versions, the seqs lacking.
    pub fn gaps(&self) -> Needs {
        let mut all = VersionVector::default();
        for (site, head) in self.whole.heads() {
            all.insert_range(site, 1, head);
        }
        self.needs(&Holdings { whole: all, partial: BTreeMap::new() })
    }

    /// Enters the seqs `lo..=hi` of a version that ends with `last_seq`. True if any of it was new.
    pub fn add_part(&mut self, site: SiteId, version: u64, lo: u64, hi: u64, last_seq: u64) -> bool {
        if version == 0 || self.whole.contains(site, version) {
            return false;
        }
        let (lo, hi) = (lo, hi.min(last_seq));
        let whole = match self.partial.entry((site, version)) {
            Entry::Vacant(_) if lo == 0 && hi == last_seq => true,
            entry => {
                let progress = entry.or_insert_with(|| Progress { last_seq, have: RangeSet::default() });
                if !progress.have.insert(lo, hi) {
                    return false;
                }
                progress.is_whole()
            }
        };
        if whole {
            self.partial.remove(&(site, version));
            self.whole.insert(site, version);
        }
        true
    }

    /// Enters a frame. True if any of it was new.
    pub fn add_frame(&mut self, frame: &Frame) -> bool {
        self.add_part(frame.site, frame.site_version, frame.seq_lo, frame.seq_hi, frame.last_seq)
    }

    /// Enters versions held completely. True if any of it was new.
    pub fn claim(&mut self, versions: &VersionVector) -> bool {
        self.partial.retain(|(site, version), _| !versions.contains(*site, *version));
        self.whole.union_with(versions)
    }

    /// One hash of what is held, in part too, and of the histories behind it: `heads` is the last version of every
    /// site with its chain. Equal hashes mean the same transactions with the same contents.
    pub fn fingerprint(&self, heads: impl Iterator<Item = (SiteId, u64, Chain)>) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.whole.encode());
        // Parts count: whoever lacks a chunk that the journal has passed already must not resume behind it.
        for ((site, version), progress) in &self.partial {
            hasher.update(site.as_bytes()).update(&version.to_le_bytes());
            for (lo, hi) in progress.have.iter().chain([(progress.last_seq, u64::MAX)]) {
                hasher.update(&lo.to_le_bytes()).update(&hi.to_le_bytes());
            }
        }
        hasher.update(b"heads");
        for (site, version, chain) in heads {
            hasher.update(site.as_bytes()).update(&version.to_le_bytes()).update(&chain.0);
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        fingerprint
    }

    /// As a message.
    pub fn to_have(&self) -> Have {
        let partial = self.partial.iter().map(|(&(site, site_version), progress)| Partial {
            site,
            site_version,
            last_seq: progress.last_seq,
            have: flat(&progress.have),
        });
        Have { whole: self.whole.clone(), partial: partial.collect() }
    }

    /// From a message.
    pub fn from_have(have: &Have) -> Result<Holdings, Fault> {
        let mut holdings = Holdings { whole: have.whole.clone(), partial: BTreeMap::new() };
        for part in &have.partial {
            let seqs = ranges(&part.have)?;
            check_part(part.site_version, part.last_seq, &seqs)?;
            let progress = Progress { last_seq: part.last_seq, have: seqs };
            if holdings.whole.contains(part.site, part.site_version) || progress.is_whole() {
                holdings.whole.insert(part.site, part.site_version);
            } else {
                holdings.partial.insert((part.site, part.site_version), progress);
            }
        }
        Ok(holdings)
    }
}

impl Needs {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.partial.is_empty()
    }

    /// Whether anything of a version is wanted.
    pub fn wants(&self, site: SiteId, version: u64) -> bool {
        self.whole.contains(site, version) || self.partial.contains_key(&(site, version))
    }

    /// Adds other needs.
    pub fn union_with(&mut self, other: &Needs) {
        self.whole.union_with(&other.whole);
        for (version, seqs) in &other.partial {
            self.want(*version, seqs.clone());
        }
        let whole = &self.whole;
        self.partial.retain(|(site, version), _| !whole.contains(*site, *version));
    }

    /// Takes out what a frame answers. A chunk turns a wanted version into its other seqs.
    pub fn sent(&mut self, frame: &Frame) {
        let key = (frame.site, frame.site_version);
        let rest = if self.whole.contains(key.0, key.1) {
            self.whole.remove(key.0, key.1);
            RangeSet::of(0, frame.last_seq)
        } else {
            self.partial.remove(&key).unwrap_or_default()
        };
        self.want(key, rest.difference(&RangeSet::of(frame.seq_lo, frame.seq_hi)));
    }

    /// Takes versions out.
    pub fn remove(&mut self, versions: &VersionVector) {
        self.whole = self.whole.difference(versions);
        self.partial.retain(|(site, version), _| !versions.contains(*site, *version));
    }

    /// Takes out what was asked for in vain; parts of a version go with it.
    pub(crate) fn forget(&mut self, asked: &Needs) {
        self.remove(&asked.whole);
        self.partial.retain(|version, _| !asked.partial.contains_key(version));
    }

    /// Wants seqs of a version besides those wanted already.
    pub fn want(&mut self, version: (SiteId, u64), seqs: RangeSet) {
        if !seqs.is_empty() {
            self.partial.entry(version).or_default().union_with(&seqs);
        }
    }

    /// As a message.
    pub fn to_need(&self) -> Need {
        let partial = self.partial.iter().map(|(&(site, site_version), seqs)| NeededPart {
            site,
            site_version,
            seqs: flat(seqs),
        });
        Need { whole: self.whole.clone(), partial: partial.collect() }
    }

    /// From a message.
    pub fn from_need(need: &Need) -> Result<Needs, Fault> {
        let mut needs = Needs { whole: need.whole.clone(), partial: BTreeMap::new() };
        for part in &need.partial {
            let seqs = ranges(&part.seqs)?;
            check_part(part.site_version, SEQ_MAX, &seqs)?;
            if !needs.whole.contains(part.site, part.site_version) {
                needs.want((part.site, part.site_version), seqs);
            }
        }
        Ok(needs)
    }
}

fn check_part(version: u64, last_seq: u64, seqs: &RangeSet) -> Result<(), Fault> {
    let within = seqs.max().is_some_and(|max| max <= last_seq) && last_seq <= SEQ_MAX;
    if !within || !(1..=SITE_VERSION_MAX).contains(&version) {
        return Err(Fault::new(Code::MALFORMED, format!("seqs of version {version} are out of bounds")));
    }
    Ok(())
}

fn flat(set: &RangeSet) -> Vec<u64> {
    set.iter().flat_map(|(lo, hi)| [lo, hi]).collect()
}

fn ranges(flat: &[u64]) -> Result<RangeSet, Fault> {
    let (pairs, odd) = flat.as_chunks::<2>();
    let ascending = pairs.iter().all(|[lo, hi]| lo <= hi)
        && pairs.windows(2).all(|pair| pair[0][1].checked_add(1).is_some_and(|next| next < pair[1][0]));
    if !odd.is_empty() || pairs.is_empty() || !ascending {
        return Err(Fault::new(Code::MALFORMED, "seqs must be ascending ranges with gaps between them"));
    }
    Ok(pairs.iter().map(|&[lo, hi]| (lo, hi)).collect())
}

#[cfg(test)]
#[path = "holdings_tests.rs"]
mod tests;
