//! What befalls the nodes of a world, and what must be true of them before and after.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

use super::Mutant;
use super::node::is_expected;
use super::store::Op;
use super::world::{Shape, World};
use crate::Code;
use crate::message::*;
use crate::session::Event;

/// More than any of these worlds has reason to write.
const JOURNAL_MAX: usize = 2_000;

impl World {
    pub(super) fn crash(&mut self, at: usize) {
        self.cut_wires(at, true, true);
        let node = &mut self.nodes[at];
        node.store.replay(node.store.flushed);
        node.restarted();
        if !node.keeps_promises() {
            self.failure = Some(format!("node {at} lost what it had acknowledged"));
        }
    }

    /// An old copy of the whole node takes its place.
    pub(super) fn restore(&mut self) {
        if self.shape == Shape::Peers {
            return;
        }
        let at = match self.restores_relays {
            true => self.dice.below(self.relays),
            false => self.relays + self.dice.below(self.nodes.len() - self.relays),
        };
        self.cut_wires(at, true, true);
        let len = self.nodes[at].store.flushed;
        let len = 2 + self.dice.below(len - 1);
        self.serial += 1;
        let (epoch, node) = (self.serial, &mut self.nodes[at]);
        node.store.replay(len);
        if self.mutant != Some(Mutant::NoEpochAfterRestore) {
            node.store.run(Op::Epoch(epoch)).expect("epochs are not refused");
        }
        node.store.flushed = node.store.log.len();
        node.promised = VersionVector::default();
        node.restarted();
    }

    /// Staged chunks expire. A reader's cursor lies behind them, so it must connect anew without one.
    pub(super) fn give_up_chunks(&mut self, at: usize) {
        if self.nodes[at].drop_stage() {
            self.cut_wires(at, true, false);
        }
    }

    pub(super) fn event(&mut self, id: u64, at: usize, event: Event) {
        match event {
            Event::Confirmed(versions) => {
                let own = self.nodes[at].confirmed(&versions);
                self.acked.union_with(&own);
            }
            Event::Rejected(rejected) => self.judge(id, at, vec![rejected]),
            Event::Fork(_) => self.fork(at),
            Event::LostTail { lost, .. } => {
                let whole = self.nodes[at].store.ledger.whole();
                if lost.difference(whole) != lost {
                    self.wires.iter_mut().filter(|(of, _)| *of == id).for_each(|(_, wire)| wire.cut = true);
                }
            }
            Event::Ready(welcome) => {
                let node = &mut self.nodes[at];
                let own = welcome.your_held.of_site(node.store.site).is_some();
                if own {
                    node.recovering.union_with(&welcome.your_held);
                }
            }
            _ => {}
        }
    }

    pub(super) fn judge(&mut self, _id: u64, at: usize, rejected: Vec<Rejected>) {
        for rejected in rejected {
            if !is_expected(&rejected) || (rejected.code == Code::FORKED && self.restores_relays) {
                self.failure = Some(format!("node {at} saw {rejected:?}"));
            } else if rejected.code == Code::FORKED && rejected.site == self.nodes[at].store.site {
                self.fork(at);
                return;
            }
        }
    }

    pub(super) fn fork(&mut self, at: usize) {
        if self.restores_relays || at < self.relays {
            self.failure = Some(format!("node {at} was told of a fork that nobody made"));
            return;
        }
        self.cut_wires_later(at);
        self.serial += 1;
        let site = SiteId([self.serial.to_le_bytes(), [at as u8; 8]].concat().try_into().expect("16 bytes"));
        let epoch = self.serial;
        self.nodes[at].take_new_site(site, epoch, &mut self.serial);
    }

    pub(super) fn everybody_flushed(&self) -> bool {
        self.wires.len() == self.links.len() && self.wires.iter().all(|(_, wire)| wire.dial.is_flushed())
    }

    pub(super) fn check_always(&mut self) {
        for (at, node) in self.nodes.iter().enumerate() {
            if node.store.journal.len() > JOURNAL_MAX {
                self.failure = Some(format!("the journal of node {at} grows without end"));
            }
            if let Some((site, version)) = node.store.half_seen() {
                self.failure = Some(format!("node {at} shows a part of version {version} of {site}"));
            }
        }
    }

    pub(super) fn check_end(&mut self) -> Result<(), String> {
        let first = self.nodes[0].store.ledger.whole().clone();
        for (at, node) in self.nodes.iter().enumerate() {
            let store = &node.store;
            if node.repeated_itself() {
                return Err(format!("node {at} passed on what it knew"));
            }
            if *store.ledger.whole() != first {
                let whole = store.ledger.whole();
                return Err(format!("node {at} holds {whole:?}, node 0 {first:?}"));
            }
            if !store.ledger.whole().is_superset(&self.acked) {
                return Err(format!("node {at} lacks what was acknowledged"));
            }
            for (key, chain) in &store.chains {
                if self.nodes[0].store.chains.get(key).is_some_and(|other| other != chain) {
                    return Err(format!("node {at} has another history of {key:?}"));
                }
            }
        }
        self.check_contents()
    }

    /// The last version of every site and key is the state: everybody must have it.
    pub(super) fn check_contents(&self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes {
                for ((site, version), (key, _)) in &other.store.content {
                    if *version == other.store.newest(*site, *key)
                        && node.store.newest(*site, *key) != *version
                    {
                        return Err(format!("node {at} lacks the content of version {version} of {site}"));
                    }
                }
            }
        }
        Ok(())
    }
}
