//! A node: its store, and what waits for the next flush.

use crsql_core::version_vector::VersionVector;

use super::Mutant;
use super::store::{Op, Store};
use crate::Code;
use crate::message::*;
use crate::session::{Admission, Apply, Local};

#[derive(Debug)]
pub(super) struct Node {
    pub store: Store,
    /// What to say once everything is flushed, by wire.
    pub deferred: Vec<(u64, Promise)>,
    /// Whole since the last flush.
    pub gained: VersionVector,
    /// Journal entries announced.
    pub announced: usize,
    /// Own versions to be had back before writing again.
    pub recovering: VersionVector,
    /// What was acknowledged to others.
    pub promised: VersionVector,
    /// Whether chunks were given up, after which the same chunk may be journaled again.
    pub dropped: bool,
}

#[derive(Debug)]
pub(super) enum Promise {
    Stored(Ack),
    Applied(u64),
}

impl Node {
    pub fn new(store: Store) -> Node {
        Node {
            store,
            deferred: Vec::new(),
            gained: VersionVector::default(),
            announced: 0,
            recovering: VersionVector::default(),
            promised: VersionVector::default(),
            dropped: false,
        }
    }

    /// After a crash or a restore: what was in memory is gone.
    pub fn restarted(&mut self) {
        self.deferred.clear();
        self.gained = VersionVector::default();
        self.announced = self.store.journal.len();
        self.recovering = VersionVector::default();
    }

    pub fn may_write(&self) -> bool {
        self.store.ledger.whole().is_superset(&self.recovering)
    }

    /// Takes frames and claims in. Everything stored, all versions of them now held, and what was refused.
    pub fn record(
        &mut self,
        frames: Vec<Frame>,
        claims: VersionVector,
        chains: Vec<ChainAt>,
    ) -> (VersionVector, Vec<Rejected>) {
        let (mut held, mut rejected) = (VersionVector::default(), Vec::new());
        for frame in frames {
            let (site, site_version) = (frame.site, frame.site_version);
            match self.store.run(Op::Frame(frame)) {
                Ok((whole, _)) => {
                    self.gained.union_with(&whole);
                }
                Err(code) => rejected.push(Rejected { site, site_version, code }),
            }
            if self.store.ledger.whole().contains(site, site_version)
                && !rejected.iter().any(|r| (r.site, r.site_version) == (site, site_version))
            {
                held.insert(site, site_version);
            }
        }
        // A claim rests on the frames beside it.
        if !claims.is_empty() && rejected.is_empty() {
            let (whole, _) =
                self.store.run(Op::Claim(claims.clone(), chains)).expect("claims are not refused");
            self.gained.union_with(&whole);
            held.union_with(&claims);
        }
        (held, rejected)
    }

    pub fn store_push(&mut self, push: Push) -> Ack {
        let (held, rejected) = self.record(push.frames, push.claims, push.chains);
        Ack { id: push.id, pos: self.store.journal.len() as u64, held, rejected }
    }

    pub fn apply(&mut self, peer: usize, apply: Apply) -> Vec<Rejected> {
        assert!(apply.cut || apply.claims.is_empty(), "this store puts claims into the last part");
        let (_, rejected) = self.record(apply.frames, apply.claims, apply.chains);
        if let Some(cursor) = apply.cursor {
            self.store.run(Op::Cursor(peer, cursor)).expect("cursors are not refused");
        }
        rejected
    }

    pub fn local(&self, peer: usize) -> Local {
        Local {
            room: "room".into(),
            token: None,
            site: self.store.site,
            head: self.store.head(),
            tie_break: 0,
            schema: SchemaId::default(),
            resume: self.store.cursors.get(&peer).copied(),
            fingerprint: self.store.ledger.fingerprint(),
            held: self.store.told(),
        }
    }

    pub fn admission(&self, hello: &Hello) -> Admission {
        let known = self.store.chains.get(&(hello.site, hello.head.version)).copied();
        let up_to_head = self.store.chains.range((hello.site, 0)..=(hello.site, hello.head.version));
        let common = up_to_head.last().map(|((_, version), chain)| Head { version: *version, chain: *chain });
        Admission {
            your_common: common.unwrap_or_default(),
            site: self.store.site,
            permissions: READ | WRITE,
            head: Cursor { epoch: self.store.epoch, pos: self.store.journal.len() as u64 },
            floor_pos: 0,
            your_head: self.store.ledger.head(hello.site),
            ancestry: self.store.ledger.ancestry(hello.site, hello.head, known),
            tie_break: 0,
            schema: SchemaAction::Ok,
            held: self.store.told(),
            fingerprint: self.store.ledger.fingerprint(),
            snapshot: None,
            collected: None,
            members_ms: 0,
        }
    }

    pub fn compare(&self, head: Head) -> Ancestry {
        match self.store.chains.get(&(self.store.site, head.version)) {
            Some(chain) if *chain == head.chain => Ancestry::Same,
            Some(_) => Ancestry::Fork,
            None => Ancestry::Unknown,
        }
    }

    /// Another history of our site is known elsewhere: what nobody confirmed is written anew under a new name.
    pub fn take_new_site(&mut self, site: crsql_core::ids::SiteId, epoch: u64, salt: &mut u64) {
        let store = &mut self.store;
        let common = store.acked.of_site(store.site).and_then(|acked| acked.max()).unwrap_or(0);
        let mut again = Vec::new();
        let old = std::mem::take(&mut store.log);
        for op in old {
            match op {
                Op::Wrote(version, last_seq, key, _) if version > common => again.push((last_seq, key)),
                // Positions lie after frames of the other history that were refused here.
                Op::Cursor(..) => {}
                op => store.log.push(op),
            }
        }
        store.log.extend([Op::Site(site), Op::Epoch(epoch)]);
        for (version, (last_seq, key)) in again.into_iter().enumerate() {
            *salt += 1;
            store.log.push(Op::Wrote(version as u64 + 1, last_seq, key, *salt));
        }
        store.replay(usize::MAX);
        self.restarted();
    }

    /// What was promised must be there after a crash.
    pub fn keeps_promises(&self) -> bool {
        self.store.ledger.whole().is_superset(&self.promised)
    }

    pub fn drop_stage(&mut self) -> bool {
        let Some(((site, version), _)) = self.store.ledger.stage().progress().into_iter().next() else {
            return false;
        };
        self.dropped = true;
        self.store.run(Op::Dropped(site, version)).expect("dropping is not refused");
        true
    }

    /// The same frame twice in the journal: it was passed on although nothing of it was new.
    pub fn repeated_itself(&self) -> bool {
        let mut seen = std::collections::BTreeSet::new();
        !self.dropped
            && self.store.journal.iter().any(|entry| match entry {
                super::store::Entry::Frame(f) => {
                    !seen.insert((f.site, f.site_version, f.seq_lo, f.seq_hi, f.chain))
                }
                super::store::Entry::Claim(..) => false,
            })
    }

    pub fn acks_early(&self) -> bool {
        self.store.mutant == Some(Mutant::AckBeforeDurable)
    }

    pub fn confirmed(&mut self, versions: &VersionVector) -> VersionVector {
        let mut own = VersionVector::default();
        for (site, lo, hi) in versions.ranges().filter(|(site, ..)| *site == self.store.site) {
            own.insert_range(site, lo, hi);
        }
        if !own.is_empty() {
            self.store.run(Op::Acked(own.clone())).expect("acks are not refused");
        }
        own
    }
}

/// The only refusals that an honest world may see.
pub(super) fn is_expected(rejected: &Rejected) -> bool {
    [Code::FORKED, Code::INCOMPLETE].contains(&rejected.code)
}
