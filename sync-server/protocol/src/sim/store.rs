//! A node's store: a log of operations, of which a crash keeps the flushed prefix and a restore an older one.

use std::collections::BTreeMap;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};

use super::Mutant;
use crate::holdings::{Holdings, Needs};
use crate::ledger::{Ledger, Recorded};
use crate::limits::Limits;
use crate::message::*;
use crate::session::{Parcel, Tail};
use crate::wire::{Blob, Chain};

/// Seqs in one chunk.
const CHUNK: u64 = 2;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A local transaction: version, last seq, key, something that makes it unique.
    Wrote(u64, u64, u8, u64),
    Frame(Frame),
    Claim(VersionVector, Vec<ChainAt>),
    /// The cursor of a peer.
    Cursor(usize, Cursor),
    Acked(VersionVector),
    Site(SiteId),
    Epoch(u64),
    /// An incomplete version was given up.
    Dropped(SiteId, u64),
}

#[derive(Clone, Debug)]
pub(super) enum Entry {
    Frame(Frame),
    Claim(VersionVector, Vec<ChainAt>),
}

#[derive(Debug)]
pub(super) struct Store {
    pub log: Vec<Op>,
    pub flushed: usize,
    pub mutant: Option<Mutant>,
    /// Whether versions that a later one of the same site and key replaced are thrown away.
    pub compacts: bool,
    pub site: SiteId,
    pub epoch: u64,
    pub ledger: Ledger,
    pub journal: Vec<Entry>,
    pub cursors: BTreeMap<usize, Cursor>,
    pub acked: VersionVector,
    pub chains: BTreeMap<(SiteId, u64), Chain>,
    /// What is left of whole versions: key and frames.
    pub content: BTreeMap<(SiteId, u64), (u8, Vec<Frame>)>,
    /// What a reader of the database sees: seqs and the last seq.
    pub visible: BTreeMap<(SiteId, u64), (RangeSet, u64)>,
}

impl Store {
    pub fn new(site: SiteId, epoch: u64, compacts: bool, mutant: Option<Mutant>) -> Store {
        let mut store = Store {
            log: vec![Op::Site(site), Op::Epoch(epoch)],
            flushed: 2,
            mutant,
            compacts,
            site,
            epoch,
            ledger: Ledger::new(limits()),
            journal: Vec::new(),
            cursors: BTreeMap::new(),
            acked: VersionVector::default(),
            chains: BTreeMap::new(),
            content: BTreeMap::new(),
            visible: BTreeMap::new(),
        };
        store.replay(2);
        store
    }

    /// Becomes what the first `len` operations make.
    pub fn replay(&mut self, len: usize) {
        let log: Vec<_> = self.log.drain(..).take(len).collect();
        self.ledger = Ledger::new(limits());
        self.journal.clear();
        self.cursors.clear();
        self.acked = VersionVector::default();
        self.chains.clear();
        self.content.clear();
        self.visible.clear();
        for op in log {
            self.run(op).expect("what was accepted once is accepted again");
        }
        self.flushed = self.log.len();
    }

    /// Does one operation. Says which versions became whole and whether it is news.
    pub fn run(&mut self, op: Op) -> Result<(VersionVector, bool), crate::Code> {
        self.log.push(op.clone());
        let mut whole = VersionVector::default();
        match op {
            Op::Site(site) => self.site = site,
            Op::Epoch(epoch) => self.epoch = epoch,
            Op::Cursor(peer, cursor) => drop(self.cursors.insert(peer, cursor)),
            Op::Acked(versions) => drop(self.acked.union_with(&versions)),
            Op::Dropped(site, version) => {
                self.ledger.give_up(site, version);
                // The journal lies before what was dropped.
                self.cursors.clear();
            }
            Op::Wrote(version, last_seq, key, salt) => {
                let frame = written(self.site, version, last_seq, key, salt, self.chain_before(version));
                self.ledger.wrote(self.site, Head { version, chain: frame.chain });
                self.enter(&frame, vec![frame.clone()]);
                self.journal.extend(chunks(&frame).into_iter().map(Entry::Frame));
                whole = one(self.site, version);
            }
            Op::Claim(versions, chains) => {
                whole = self.ledger.claim(&versions, &chains);
                for at in chains.iter().filter(|at| whole.contains(at.site, at.version)) {
                    self.chains.insert((at.site, at.version), at.chain);
                }
                if !whole.is_empty() {
                    self.journal.push(Entry::Claim(whole.clone(), chains));
                }
            }
            Op::Frame(frame) => {
                let known = self.chains.get(&(frame.site, frame.site_version)).copied();
                let recorded = self.ledger.record(0, &frame, known).inspect_err(|_| drop(self.log.pop()))?;
                if self.mutant == Some(Mutant::EarlyChunk) {
                    self.show(&frame);
                }
                if recorded == Recorded::Known {
                    self.log.pop();
                    if self.mutant != Some(Mutant::ForwardWithoutSetTest) {
                        return Ok((whole, false));
                    }
                    whole = one(frame.site, frame.site_version);
                }
                if let Recorded::Whole(frames) = recorded {
                    whole = one(frame.site, frame.site_version);
                    self.enter(&frame, frames);
                }
                self.journal.push(Entry::Frame(frame));
            }
        }
        Ok((whole, true))
    }

    pub fn head(&self) -> Head {
        self.ledger.head(self.site)
    }

    fn chain_before(&self, version: u64) -> Chain {
        self.chains.get(&(self.site, version - 1)).copied().unwrap_or_default()
    }

    fn enter(&mut self, frame: &Frame, frames: Vec<Frame>) {
        let key = (frame.site, frame.site_version);
        self.chains.insert(key, frame.chain);
        frames.iter().for_each(|frame| self.show(frame));
        self.content.insert(key, (frame.body.0[0], frames));
        if self.compacts {
            let newest = self.newest(frame.site, frame.body.0[0]);
            self.content.retain(|(site, version), (of, _)| {
                *site != frame.site || *of != frame.body.0[0] || *version >= newest
            });
        }
    }

    fn show(&mut self, frame: &Frame) {
        let key = (frame.site, frame.site_version);
        let (seen, last) = self.visible.entry(key).or_insert_with(|| (RangeSet::default(), frame.last_seq));
        seen.insert(frame.seq_lo, frame.seq_hi);
        *last = frame.last_seq;
    }

    /// The last version of a site that wrote a key.
    pub fn newest(&self, site: SiteId, key: u8) -> u64 {
        let of_site = self.content.range((site, 0)..=(site, u64::MAX));
        of_site.filter(|(_, (of, _))| *of == key).map(|((_, version), _)| *version).max().unwrap_or(0)
    }

    /// Nothing may be visible in part.
    pub fn half_seen(&self) -> Option<(SiteId, u64)> {
        let half = |(seen, last): &(RangeSet, u64)| !seen.contains_range(0, *last);
        self.visible.iter().find(|(_, version)| half(version)).map(|(key, _)| *key)
    }

    /// What is said to be held: the truth, or what a cursor per site makes of it.
    pub fn told(&self) -> Holdings {
        let mut held = self.ledger.holdings();
        if self.mutant == Some(Mutant::NaiveCursor) {
            let heads: Vec<_> = held.whole.heads().collect();
            heads.into_iter().for_each(|(site, head)| {
                held.whole.insert_range(site, 1, head);
            });
        }
        held
    }

    /// What to ask for now and then. A node that believes in cursors knows no gaps; and asking for them would heal
    /// most of what an old epoch loses, and hide the broken rule.
    pub fn wanted(&self) -> Needs {
        match self.mutant {
            Some(Mutant::NaiveCursor | Mutant::NoEpochAfterRestore | Mutant::AsksForNothing) => {
                Needs::default()
            }
            _ => self.ledger.gaps(),
        }
    }

    /// The journal after a position, chunk by chunk.
    pub fn tail(&self, after: u64, entries: usize) -> Tail {
        let mut tail = Tail { after, upto: after, ..Tail::default() };
        for entry in self.journal.iter().skip(after as usize).take(entries) {
            tail.upto += 1;
            match entry {
                Entry::Claim(versions, chains) => {
                    tail.claims.union_with(versions);
                    tail.chains.extend(chains);
                }
                Entry::Frame(frame) => tail.frames.push(frame.clone()),
            }
        }
        tail
    }

    /// Up to `most` frames of what is wanted.
    pub fn parcel(&self, needs: &Needs, most: usize) -> Parcel {
        let mut parcel = Parcel::default();
        for (site, lo, hi) in needs.whole.ranges() {
            for version in lo..=hi {
                self.answer(site, version, &RangeSet::of(0, u64::MAX), &mut parcel);
            }
        }
        for ((site, version), seqs) in &needs.partial {
            self.answer(*site, *version, seqs, &mut parcel);
        }
        for (site, version) in parcel.claims.heads() {
            let chain = self.chains.get(&(site, version)).copied();
            parcel.chains.extend(chain.map(|chain| ChainAt { site, version, chain }));
        }
        // Claims may only go with what superseded them, so then everything goes.
        if parcel.frames.len() > most && parcel.claims.is_empty() {
            parcel.frames.truncate(most);
            parcel.more = true;
        }
        parcel
    }

    fn answer(&self, site: SiteId, version: u64, seqs: &RangeSet, parcel: &mut Parcel) {
        let wanted = |frame: &&Frame| {
            let covered = RangeSet::of(frame.seq_lo, frame.seq_hi);
            covered.difference(seqs) != covered
        };
        if let Some((_, frames)) = self.content.get(&(site, version)) {
            let chunks: Vec<_> = frames.iter().flat_map(chunks).collect();
            parcel.frames.extend(chunks.iter().filter(wanted).cloned());
        } else if self.ledger.whole().contains(site, version) {
            parcel.claims.insert(site, version);
            // What superseded it is a later version of the site; all of those go along.
            for (_, (_, frames)) in self.content.range((site, version)..=(site, u64::MAX)) {
                parcel.frames.extend(
                    frames.iter().filter(|f| !parcel.frames.contains(f)).cloned().collect::<Vec<_>>(),
                );
            }
        } else {
            let chunks = self.ledger.stage().chunks(site, version);
            parcel.frames.extend(chunks.iter().filter(wanted).cloned());
        }
    }
}

pub(super) fn limits() -> Limits {
    Limits { messages_per_second: 1 << 40, bytes_per_second: 1 << 40, batch_bytes: 300, ..Limits::default() }
}

pub(super) fn one(site: SiteId, version: u64) -> VersionVector {
    let mut versions = VersionVector::default();
    versions.insert(site, version);
    versions
}

fn written(site: SiteId, site_version: u64, last_seq: u64, key: u8, salt: u64, before: Chain) -> Frame {
    let mut chain = Chain::default();
    let body = [vec![key], salt.to_le_bytes().to_vec()].concat();
    chain.0.copy_from_slice(&blake3::hash(&[&before.0[..], &body].concat()).as_bytes()[..16]);
    Frame { site, site_version, seq_lo: 0, seq_hi: last_seq, last_seq, chain, codec: 0, body: Blob(body) }
}

/// Large versions travel in chunks, whatever they arrived in.
fn chunks(frame: &Frame) -> Vec<Frame> {
    let starts = (frame.seq_lo..=frame.seq_hi).step_by(CHUNK as usize);
    starts
        .map(|lo| Frame { seq_lo: lo, seq_hi: (lo + CHUNK - 1).min(frame.seq_hi), ..frame.clone() })
        .collect()
}
