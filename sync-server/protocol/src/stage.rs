//! Chunks that wait until their version is whole.
//!
//! Bounded in bytes, in versions per site and in time. What is dropped is missing again, never half applied.

use std::collections::BTreeMap;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};

use crate::code::Code;
use crate::holdings::Progress;
use crate::limits::Limits;
use crate::message::Frame;
use crate::wire::Chain;

/// The chunks of all incomplete versions.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    versions: BTreeMap<(SiteId, u64), Staged>,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Staged {
    progress: Progress,
    chain: Chain,
    chunks: Vec<Frame>,
    bytes: u64,
    at_ms: u64,
}

impl Stage {
    /// Adds a chunk. False if it has nothing new; an error if it contradicts the others or exceeds a quota.
    pub fn add(&mut self, now_ms: u64, frame: &Frame, limits: &Limits) -> Result<bool, Code> {
        let key = (frame.site, frame.site_version);
        // Of two histories none is whole yet. The older chunks belong to a writer that gave up, as one does that
        // took a new site id; if they stayed they would keep out the other history for ever.
        if self.versions.get(&key).is_some_and(|staged| staged.chain != frame.chain) {
            self.take(key.0, key.1);
        }
        let staged = self.versions.get(&key);
        if let Some(staged) = staged {
            if staged.progress.last_seq != frame.last_seq {
                return Err(Code::CONTRADICTION);
            }
            if staged.progress.have.contains_range(frame.seq_lo, frame.seq_hi) {
                return Ok(false);
            }
        }
        let bytes = frame.wire_bytes() as u64;
        if staged.map_or(0, |staged| staged.bytes) + bytes > limits.tx_bytes {
            return Err(Code::TX_TOO_LARGE);
        }
        let of_site = || self.of_site(frame.site);
        if staged.is_none() && of_site().count() >= limits.partials_per_site
            || of_site().map(|staged| staged.bytes).sum::<u64>() + bytes > limits.staged_bytes_per_site
            || self.bytes + bytes > limits.staged_bytes
        {
            return Err(Code::QUOTA);
        }
        self.bytes += bytes;
        let staged = self.versions.entry(key).or_insert_with(|| Staged {
            progress: Progress { last_seq: frame.last_seq, have: RangeSet::default() },
            chain: frame.chain,
            chunks: Vec::new(),
            bytes: 0,
            at_ms: now_ms,
        });
        staged.progress.have.insert(frame.seq_lo, frame.seq_hi);
        staged.bytes += bytes;
        staged.at_ms = staged.at_ms.max(now_ms);
        staged.chunks.push(frame.clone());
        Ok(true)
    }

    /// The chunks of a version in the order of their seqs, if it is whole; they are staged no longer then.
    pub fn take_whole(&mut self, site: SiteId, version: u64) -> Option<Vec<Frame>> {
        if !self.versions.get(&(site, version))?.progress.is_whole() {
            return None;
        }
        let mut chunks = self.take(site, version)?.chunks;
        chunks.sort_by_key(|chunk| (chunk.seq_lo, chunk.seq_hi));
        Some(chunks)
    }

    /// Drops a version.
    pub fn remove(&mut self, site: SiteId, version: u64) {
        self.take(site, version);
    }

    /// Drops all of these versions.
    pub fn remove_all(&mut self, versions: &VersionVector) {
        let keys: Vec<_> =
            self.versions.keys().filter(|(site, v)| versions.contains(*site, *v)).copied().collect();
        keys.into_iter().for_each(|(site, version)| self.remove(site, version));
    }

    /// Drops and names the versions whose last chunk came `ttl_ms` ago or earlier.
    pub fn expire(&mut self, now_ms: u64, ttl_ms: u64) -> Vec<(SiteId, u64)> {
        let old = |staged: &Staged| now_ms.saturating_sub(staged.at_ms) >= ttl_ms;
        let keys: Vec<_> =
            self.versions.iter().filter(|(_, staged)| old(staged)).map(|(key, _)| *key).collect();
        keys.iter().for_each(|(site, version)| self.remove(*site, *version));
        keys
    }

    /// How much is held of each version.
    pub fn progress(&self) -> BTreeMap<(SiteId, u64), Progress> {
        self.versions.iter().map(|(key, staged)| (*key, staged.progress.clone())).collect()
    }

    /// The chunks held of a version, in order of arrival.
    pub fn chunks(&self, site: SiteId, version: u64) -> &[Frame] {
        self.versions.get(&(site, version)).map_or(&[], |staged| &staged.chunks)
    }

    /// Bytes staged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Incomplete versions.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    fn take(&mut self, site: SiteId, version: u64) -> Option<Staged> {
        let staged = self.versions.remove(&(site, version))?;
        self.bytes -= staged.bytes;
        Some(staged)
    }

    fn of_site(&self, site: SiteId) -> impl Iterator<Item = &Staged> {
        self.versions.range((site, 0)..=(site, u64::MAX)).map(|(_, staged)| staged)
    }
}
