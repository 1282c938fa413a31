//! What a replica holds: per site, the set of its versions held completely.
//!
//! Sets and not maxima, because versions of a third site arrive through several peers in any order, and a gap that
//! a maximum hides is data lost. Only versions received whole are entered; what a replica no longer holds of them
//! was superseded by something that it does hold.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::ids::SiteId;
use crate::limits::SITE_VERSION_MAX;
use crate::msgpack::{self, Malformed, Read, Reader};

mod range_set;

pub use range_set::RangeSet;

/// The format [`VersionVector::encode`] writes.
const FORMAT: u8 = 1;

/// Per site, the site_versions held completely. A site without any is not in it.
///
/// ```
/// # use crsql_core::{ids::SiteId, version_vector::{Limits, VersionVector}};
/// let site = SiteId([1; 16]);
/// let mut held = VersionVector::default();
/// held.insert_range(site, 1, 4);
/// held.insert(site, 9);
/// assert!(held.contains(site, 4) && !held.contains(site, 5));
/// assert_eq!(held.heads().collect::<Vec<_>>(), [(site, 9)]);
/// assert_eq!(VersionVector::decode(&held.encode(), &Limits::default()).unwrap(), held);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    sites: BTreeMap<SiteId, RangeSet>,
}

/// How large an encoded vector may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most sites.
    pub sites_max: usize,
    /// Most ranges over all sites.
    pub ranges_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { sites_max: 1 << 16, ranges_max: 1 << 20 }
    }
}

/// Why bytes are not a version vector.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the MessagePack it should be.
    #[error("malformed version vector")]
    Malformed(#[source] Malformed),
    /// Written by something newer.
    #[error("version vector of the unknown format {0}: this side reads format 1")]
    UnknownFormat(u8),
    /// More sites than allowed.
    #[error("version vector of {found} sites is beyond the limit of {limit}")]
    TooManySites {
        /// How many came.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// More ranges than allowed.
    #[error("version vector of {found} ranges is beyond the limit of {limit}")]
    TooManyRanges {
        /// How many came.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
}

impl VersionVector {
    /// Whether a version is held. Version 0, an unknown identity, never is.
    pub fn contains(&self, site: SiteId, version: u64) -> bool {
        self.sites.get(&site).is_some_and(|ranges| ranges.contains(version))
    }

    /// Enters one version. True if it was new; version 0 is nothing to hold.
    pub fn insert(&mut self, site: SiteId, version: u64) -> bool {
        self.insert_range(site, version, version)
    }

    /// Enters `lo..=hi`. True if any of it was new. Version 0 is left out.
    pub fn insert_range(&mut self, site: SiteId, lo: u64, hi: u64) -> bool {
        let lo = lo.max(1);
        lo <= hi && self.sites.entry(site).or_default().insert(lo, hi)
    }

    /// Enters all of another vector. True if any of it was new.
    pub fn union_with(&mut self, other: &VersionVector) -> bool {
        other.ranges().fold(false, |changed, (site, lo, hi)| self.insert_range(site, lo, hi) || changed)
    }

    /// What this vector has and the other has not.
    pub fn difference(&self, other: &VersionVector) -> VersionVector {
        let mut difference = VersionVector::default();
        for (site, mine) in &self.sites {
            let rest = match other.sites.get(site) {
                Some(theirs) => mine.difference(theirs),
                None => mine.clone(),
            };
            if !rest.is_empty() {
                difference.sites.insert(*site, rest);
            }
        }
        difference
    }

    /// What both have.
    pub fn intersection(&self, other: &VersionVector) -> VersionVector {
        self.difference(&self.difference(other))
    }

    /// Whether it holds all of another vector.
    pub fn is_superset(&self, other: &VersionVector) -> bool {
        other
            .sites
            .iter()
            .all(|(site, theirs)| self.of_site(*site).is_some_and(|mine| mine.is_superset(theirs)))
    }

    /// Takes one version out, for a change of it that was refused or is not whole yet.
    pub fn remove(&mut self, site: SiteId, version: u64) {
        if let Some(ranges) = self.sites.get_mut(&site) {
            *ranges = ranges.difference(&RangeSet::of(version, version));
            if ranges.is_empty() {
                self.sites.remove(&site);
            }
        }
    }

    /// The versions of one site.
    pub fn of_site(&self, site: SiteId) -> Option<&RangeSet> {
        self.sites.get(&site)
    }

    /// Every site with its versions, by site.
    pub fn iter(&self) -> impl Iterator<Item = (&SiteId, &RangeSet)> {
        self.sites.iter()
    }

    /// Every range with its site, both ends inclusive.
    pub fn ranges(&self) -> impl Iterator<Item = (SiteId, u64, u64)> + '_ {
        self.sites.iter().flat_map(|(site, ranges)| ranges.iter().map(|(lo, hi)| (*site, lo, hi)))
    }

    /// The greatest version held of each site.
    pub fn heads(&self) -> impl Iterator<Item = (SiteId, u64)> + '_ {
        self.sites.iter().filter_map(|(site, ranges)| Some((*site, ranges.max()?)))
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// MessagePack: `[1, [[site bin16, [lo, hi, lo, hi, …]], …]]`, sites and ranges ascending.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(&(FORMAT, self)).expect("writing integers and bytes to memory cannot fail")
    }

    /// Reads what [`encode`](Self::encode) wrote. Memory is bounded by the input, which must hold ascending
    /// sites and ascending, disjoint, not touching ranges between 1 and [`SITE_VERSION_MAX`].
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<VersionVector, DecodeError> {
        // The format comes first, so that a later one is reported as such and not as malformed.
        if let [0x92, format @ 0..=0x7f, ..] = bytes
            && *format != FORMAT
        {
            return Err(DecodeError::UnknownFormat(*format));
        }
        let (_, vector): (u8, VersionVector) = msgpack::from_slice(bytes).map_err(DecodeError::Malformed)?;
        let (sites, ranges) = (vector.sites.len(), vector.ranges().count());
        if sites > limits.sites_max {
            return Err(DecodeError::TooManySites { found: sites, limit: limits.sites_max });
        }
        if ranges > limits.ranges_max {
            return Err(DecodeError::TooManyRanges { found: ranges, limit: limits.ranges_max });
        }
        Ok(vector)
    }
}

impl Serialize for VersionVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flat = |ranges: &RangeSet| ranges.iter().flat_map(|(lo, hi)| [lo, hi]).collect::<Vec<u64>>();
        serializer.collect_seq(self.iter().map(|(site, ranges)| (site, flat(ranges))))
    }
}

impl Read for VersionVector {
    fn read(input: &mut Reader<'_, '_>) -> Result<VersionVector, Malformed> {
        let mut vector = VersionVector::default();
        for (site, flat) in Vec::<(SiteId, Vec<u64>)>::read(input)? {
            if vector.sites.last_key_value().is_some_and(|(last, _)| *last >= site) {
                return Err(Malformed("the sites of a version vector must ascend".into()));
            }
            let ranges = ascending_ranges(&flat).map_err(|reason| Malformed(reason.into()))?;
            vector.sites.insert(site, ranges);
        }
        Ok(vector)
    }
}

fn ascending_ranges(flat: &[u64]) -> Result<RangeSet, &'static str> {
    let (pairs, odd) = flat.as_chunks::<2>();
    if pairs.is_empty() || !odd.is_empty() {
        return Err("a site's versions must be pairs of range ends");
    }
    let mut floor = 1;
    for &[lo, hi] in pairs {
        if lo < floor || hi < lo || hi > SITE_VERSION_MAX {
            return Err("a site's version ranges must ascend with gaps, from 1 to 2^48");
        }
        floor = hi + 2;
    }
    Ok(pairs.iter().map(|&[lo, hi]| (lo, hi)).collect())
}

#[cfg(test)]
mod tests;
