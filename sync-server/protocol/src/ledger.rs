//! What a node has recorded, and the one test behind forwarding: *recording it changed the set*.
//!
//! A ledger is the mirror in memory of what the node's store holds: the versions held whole, the chain at every
//! site's head, and the chunks of versions that are not whole yet. Whoever owns the store records a frame here,
//! writes it durably together with the outcome, and passes it on to its other sessions only if the outcome is
//! [`Recorded::Whole`] or [`Recorded::Part`]. In any topology that stops echoes and loops, and it makes every
//! delivery idempotent.

use std::collections::BTreeMap;

use crsql_core::ids::SiteId;
use crsql_core::limits::{SEQ_MAX, SITE_VERSION_MAX};
use crsql_core::version_vector::VersionVector;

use crate::code::Code;
use crate::holdings::{Holdings, Needs};
use crate::limits::Limits;
use crate::message::{Ancestry, CODEC_ZSTD, ChainAt, Frame, Head};
use crate::stage::Stage;
use crate::wire::{Chain, Fingerprint};

/// What recording a frame did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The version is whole now: apply all of these frames, in this order, in one transaction. Pass the recorded
    /// frame on.
    Whole(Vec<Frame>),
    /// Some of it was new, more is to come. Store the chunk, show nothing of it, pass it on.
    Part,
    /// Nothing of it was new. Do not pass it on.
    Known,
}

/// The set of transactions a node holds.
#[derive(Clone, Debug)]
pub struct Ledger {
    whole: VersionVector,
    heads: BTreeMap<SiteId, Head>,
    stage: Stage,
    /// Versions whose chunks were dropped. Others may have got them whole, and nobody offers what lies beyond our
    /// own heads unless it is asked for.
    given_up: VersionVector,
    limits: Limits,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(limits: Limits) -> Ledger {
        let (whole, heads, stage, given_up) = Default::default();
        Ledger { whole, heads, stage, given_up, limits }
    }

    /// A ledger of what a store holds. Staged chunks are recorded afterwards like any frame.
    pub fn of(
        whole: VersionVector,
        heads: impl IntoIterator<Item = (SiteId, Head)>,
        limits: Limits,
    ) -> Ledger {
        Ledger { whole, heads: heads.into_iter().collect(), ..Ledger::new(limits) }
    }

    /// The versions held whole.
    pub fn whole(&self) -> &VersionVector {
        &self.whole
    }

    /// Everything held, incomplete versions included.
    pub fn holdings(&self) -> Holdings {
        Holdings { whole: self.whole.clone(), partial: self.stage.progress() }
    }

    /// See [`Holdings::gaps`]; and what was given up. Ask for these now and then ([`Input::Want`](crate::Input::Want)).
    pub fn gaps(&self) -> Needs {
        let holdings = self.holdings();
        let mut gaps = holdings.gaps();
        let given_up = Holdings { whole: self.given_up.clone(), ..Holdings::default() };
        gaps.union_with(&holdings.needs(&given_up));
        gaps
    }

    /// The greatest version held of a site, with its chain.
    pub fn head(&self, site: SiteId) -> Head {
        self.heads.get(&site).copied().unwrap_or_default()
    }

    /// The chunks that wait.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// See [`Holdings::fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        let heads = self.heads.iter().map(|(site, head)| (*site, head.version, head.chain));
        self.holdings().fingerprint(heads)
    }

    /// Records a frame that is not a delta. `known_chain` is the chain the store has for this version if it holds
    /// it; without it only the head's can be compared. An error concerns this transaction alone.
    pub fn record(
        &mut self,
        now_ms: u64,
        frame: &Frame,
        known_chain: Option<Chain>,
    ) -> Result<Recorded, Code> {
        self.judge(frame)?;
        let (site, version) = (frame.site, frame.site_version);
        if self.whole.contains(site, version) {
            let head = self.head(site);
            let known = known_chain.or((head.version == version).then_some(head.chain));
            return match known {
                Some(chain) if chain != frame.chain => Err(Code::FORKED),
                _ => Ok(Recorded::Known),
            };
        }
        if frame.is_whole() {
            self.stage.remove(site, version);
            self.hold(site, version, frame.chain);
            return Ok(Recorded::Whole(vec![frame.clone()]));
        }
        if !self.stage.add(now_ms, frame, &self.limits)? {
            return Ok(Recorded::Known);
        }
        match self.stage.take_whole(site, version) {
            Some(frames) => {
                self.hold(site, version, frame.chain);
                Ok(Recorded::Whole(frames))
            }
            None => Ok(Recorded::Part),
        }
    }

    /// Holds versions of which no frame is needed: written here, covered by a delta, or superseded. Returns those
    /// that were new; pass on a claim of these alone, with the chains that came along.
    pub fn claim(&mut self, versions: &VersionVector, chains: &[ChainAt]) -> VersionVector {
        let new = versions.difference(&self.whole);
        self.whole.union_with(&new);
        self.given_up = self.given_up.difference(&new);
        self.stage.remove_all(&new);
        for at in chains.iter().filter(|at| new.contains(at.site, at.version)) {
            self.hold(at.site, at.version, at.chain);
        }
        new
    }

    /// Enters a transaction of this node's own.
    pub fn wrote(&mut self, site: SiteId, head: Head) {
        self.hold(site, head.version, head.chain);
    }

    /// How the history of a peer looks from here. `known_chain` is the chain the store has for that version.
    pub fn ancestry(&self, site: SiteId, head: Head, known_chain: Option<Chain>) -> Ancestry {
        if head.version == 0 {
            return Ancestry::Same;
        }
        let mine = self.head(site);
        match known_chain.or((mine.version == head.version).then_some(mine.chain)) {
            Some(chain) if chain == head.chain => Ancestry::Same,
            Some(_) => Ancestry::Fork,
            None => Ancestry::Unknown,
        }
    }

    /// Drops incomplete versions whose last chunk is too old. They count as missing again: whoever owns the store
    /// drops their chunks, forgets its cursors (the journal lies behind them) and asks for them.
    pub fn expire(&mut self, now_ms: u64) -> Vec<(SiteId, u64)> {
        let expired = self.stage.expire(now_ms, self.limits.stage_ttl_ms);
        for (site, version) in &expired {
            self.given_up.insert(*site, *version);
        }
        expired
    }

    /// Drops the chunks of one version, as [`expire`](Self::expire) does.
    pub fn give_up(&mut self, site: SiteId, version: u64) {
        self.stage.remove(site, version);
        self.given_up.insert(site, version);
    }

    fn hold(&mut self, site: SiteId, version: u64, chain: Chain) {
        self.whole.insert(site, version);
        self.given_up.remove(site, version);
        let head = self.heads.entry(site).or_default();
        if version >= head.version {
            *head = Head { version, chain };
        }
    }

    fn judge(&self, frame: &Frame) -> Result<(), Code> {
        if !(1..=SITE_VERSION_MAX).contains(&frame.site_version) {
            return Err(Code::CLOCK);
        }
        // A first contact may begin anywhere; after it a jump would make a gap that nobody can fill.
        let held = self.whole.of_site(frame.site).and_then(|versions| versions.max()).unwrap_or(0);
        if held > 0 && frame.site_version > held.saturating_add(self.limits.site_version_step) {
            return Err(Code::CLOCK);
        }
        let ordered = frame.seq_lo <= frame.seq_hi && frame.seq_hi <= frame.last_seq;
        if !ordered || frame.last_seq > SEQ_MAX {
            return Err(Code::SEQ_RANGE);
        }
        if frame.codec > CODEC_ZSTD {
            return Err(Code::CODEC);
        }
        if frame.body.0.len() > self.limits.frame_bytes {
            return Err(Code::TX_TOO_LARGE);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
