//! The world: who is connected with whom, what happens next, and whether it all ended well.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

use super::net::{Weather, Wire};
use super::node::{Node, Promise};
use super::store::{Op, Store, limits};
use super::{Dice, Mutant};
use crate::codec;
use crate::message::*;
use crate::session::{Config, Input, Live, Output, Parcel, Read, Session, Tail};

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Clients of one relay; clients are restored and may fork.
    OneRelay,
    /// Clients that pass on between two relays; relays are restored.
    TwoRelays,
    /// Peers without a relay, in a ring with a chord.
    Peers,
}

pub(crate) struct World {
    pub(super) dice: Dice,
    pub(super) mutant: Option<Mutant>,
    pub(super) shape: Shape,
    pub(super) nodes: Vec<Node>,
    pub(super) relays: usize,
    pub(super) links: Vec<(usize, usize)>,
    pub(super) wires: Vec<(u64, Wire)>,
    /// Reads that the stores have yet to answer.
    pub(super) reads: Vec<(u64, bool, Read)>,
    pub(super) weather: Weather,
    pub(super) restores_relays: bool,
    pub(super) partition: Option<u64>,
    pub(super) now_ms: u64,
    pub(super) serial: u64,
    pub(super) acked: VersionVector,
    pub(super) failure: Option<String>,
    pub delivered: usize,
}

impl World {
    pub fn new(seed: u64, shape: Shape, mutant: Option<Mutant>) -> World {
        let mut dice = Dice::new(seed);
        let (relays, clients) = match shape {
            Shape::OneRelay => (1, 2 + dice.below(3)),
            Shape::TwoRelays => (2, 2 + dice.below(3)),
            Shape::Peers => (0, 3 + dice.below(3)),
        };
        let all = relays + clients;
        let nodes = (0..all).map(|at| {
            let site = SiteId([at as u8 + 1; 16]);
            Node::new(Store::new(site, 1000 + at as u64, at >= relays, mutant))
        });
        let links = match shape {
            Shape::Peers => {
                let ring = (0..all).map(|at| (at, (at + 1) % all));
                ring.chain((all > 3).then_some((0, 2))).collect()
            }
            _ => (relays..all).flat_map(|client| (0..relays).map(move |relay| (client, relay))).collect(),
        };
        let weather = match dice.below(3) {
            0 => Weather { lose: 0, repeat: 0, swap: 0 },
            1 => Weather { lose: 2, repeat: 3, swap: 3 },
            _ => Weather { lose: 8, repeat: 8, swap: 8 },
        };
        World {
            restores_relays: shape == Shape::TwoRelays || dice.percent(30),
            nodes: nodes.collect(),
            relays,
            links,
            wires: Vec::new(),
            reads: Vec::new(),
            weather,
            partition: None,
            now_ms: 0,
            serial: 10_000,
            acked: VersionVector::default(),
            failure: None,
            delivered: 0,
            dice,
            mutant,
            shape,
        }
    }

    /// Lives through `steps` accidents, then rests. Says what went wrong, if anything.
    pub fn run(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            self.step();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        self.rest()
    }

    fn step(&mut self) {
        let node = self.dice.below(self.nodes.len());
        match self.dice.below(100) {
            0..60 => self.deliver_any(),
            60..75 => self.write(node),
            75..85 => self.flush(node),
            85..92 => {
                let (dialer, acceptor) = self.links[self.dice.below(self.links.len())];
                self.dial(dialer, acceptor);
            }
            92 => {
                let cut = self.dice.below(self.wires.len());
                self.wires.get_mut(cut).into_iter().for_each(|(_, wire)| wire.cut = true);
            }
            93 => self.partition = Some(self.dice.next()).filter(|_| self.partition.is_none()),
            94 => self.crash(node),
            95 if self.dice.percent(60) => self.restore(),
            96 => self.give_up_chunks(node),
            _ => self.tick(7_000),
        }
        self.settle();
        self.check_always();
    }

    /// No more accidents: everybody meets until nothing moves.
    fn rest(&mut self) -> Result<(), String> {
        self.weather = Weather { lose: 0, repeat: 0, swap: 0 };
        self.partition = None;
        let mut quiet = 0;
        for _ in 0..30 {
            self.links.clone().into_iter().for_each(|(dialer, acceptor)| self.dial(dialer, acceptor));
            let before = self.signature();
            for _ in 0..20_000 {
                if self.reads.is_empty() && self.wires.iter().all(|(_, wire)| wire.is_idle()) {
                    break;
                }
                self.deliver_any();
                if self.dice.percent(10) {
                    let node = self.dice.below(self.nodes.len());
                    self.flush(node);
                }
                self.settle();
                self.check_always();
            }
            (0..self.nodes.len()).for_each(|node| self.flush(node));
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            let idle = self.signature() == before && self.wires.iter().all(|(_, wire)| wire.is_idle());
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet >= 3 && self.everybody_flushed() {
                return self.check_end();
            }
            // Pings find what was lost last.
            self.tick(21_000);
        }
        Err("it never came to rest".into())
    }

    /// Changes as long as anything happens besides pings.
    fn signature(&self) -> (usize, Vec<u64>) {
        let written = self.nodes.iter().map(|node| node.store.log.len()).sum();
        (written, self.wires.iter().map(|(id, _)| *id).collect())
    }

    fn write(&mut self, at: usize) {
        if at < self.relays || !self.nodes[at].may_write() {
            return;
        }
        self.serial += 1;
        let (last_seq, key) = (self.dice.below(7) as u64, self.dice.below(3) as u8);
        let node = &mut self.nodes[at];
        let version = node.store.head().version + 1;
        if node.store.ledger.whole().contains(node.store.site, version) {
            return;
        }
        let wrote = node.store.run(Op::Wrote(version, last_seq, key, self.serial));
        node.gained.union_with(&wrote.expect("local writes are not refused").0);
    }

    fn flush(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.store.flushed = node.store.log.len();
        let gained = std::mem::take(&mut node.gained);
        let (after, upto) = (node.announced as u64, node.store.journal.len() as u64);
        node.announced = upto as usize;
        let tail = node.store.tail(after, usize::MAX);
        for (wire, promise) in std::mem::take(&mut node.deferred) {
            match promise {
                Promise::Stored(ack) => {
                    self.nodes[at].promised.union_with(&ack.held);
                    self.drive(wire, false, Input::Stored(ack), &[]);
                }
                Promise::Applied(id) => self.drive(wire, true, Input::Applied(id), &[]),
            }
        }
        let mine: Vec<_> =
            self.wires.iter().map(|(id, wire)| (*id, wire.dialer == at, wire.acceptor == at)).collect();
        for (id, dials, accepts) in mine {
            if dials && !gained.is_empty() {
                self.drive(id, true, Input::Gained(gained.clone()), &[]);
            }
            if accepts && upto > after {
                let Tail { frames, claims, chains, .. } = tail.clone();
                let batch = Batch { after, upto, part: 0, frames, claims, chains, more: false };
                let bytes = codec::encode(&batch.into());
                let live = Live { after, upto, bytes: Some(bytes.len() as u64), echo: false };
                self.drive(id, false, Input::Live(live), &bytes);
            }
        }
    }

    pub(super) fn cut_wires(&mut self, at: usize, dialed: bool, accepted: bool) {
        for (_, wire) in &mut self.wires {
            wire.cut |= dialed && wire.dialer == at || accepted && wire.acceptor == at;
        }
        self.clear_cut();
    }

    /// Removes what was cut and answers what was asked, sometimes later.
    fn settle(&mut self) {
        self.clear_cut();
        for (id, dialer, read) in std::mem::take(&mut self.reads) {
            match self.dice.percent(70) {
                true => self.read(id, dialer, read),
                false => self.reads.push((id, dialer, read)),
            }
        }
    }

    fn clear_cut(&mut self) {
        self.wires.retain(|(_, wire)| !wire.cut);
    }

    fn dial(&mut self, dialer: usize, acceptor: usize) {
        let apart = self.partition.is_some_and(|sides| (sides >> dialer) & 1 != (sides >> acceptor) & 1);
        if apart || self.wires.iter().any(|(_, wire)| (wire.dialer, wire.acceptor) == (dialer, acceptor)) {
            return;
        }
        self.flush(dialer);
        let gossip = if self.shape == Shape::OneRelay { 0 } else { features::GOSSIP };
        let features = features::DEFAULT | gossip;
        let config = Config { agent: String::new(), features, limits: limits() };
        self.serial += 1;
        let (dial, accept) = (Session::dial(config.clone()), Session::accept(config));
        let (to_acceptor, to_dialer) = Default::default();
        let wire = Wire { dialer, acceptor, dial, accept, to_acceptor, to_dialer, cut: false };
        self.wires.push((self.serial, wire));
        let local = self.nodes[dialer].local(acceptor);
        self.drive(self.serial, true, Input::Open(Box::new(local)), &[]);
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        let ids: Vec<_> = self.wires.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.drive(id, true, Input::Tick, &[]);
            self.drive(id, false, Input::Tick, &[]);
            let ends = |(_, wire): &(u64, Wire)| [(wire.dialer, true), (wire.acceptor, false)];
            for (at, dialer) in self.wires.iter().find(|(of, _)| *of == id).map(ends).into_iter().flatten() {
                let gaps = self.nodes[at].store.wanted();
                self.drive(id, dialer, Input::Want(gaps), &[]);
            }
        }
    }

    fn deliver_any(&mut self) {
        if self.wires.is_empty() {
            return;
        }
        let at = self.dice.below(self.wires.len());
        let to_acceptor = self.dice.percent(50);
        let (id, wire) = &mut self.wires[at];
        let apart = |sides: u64| (sides >> wire.dialer) & 1 != (sides >> wire.acceptor) & 1;
        if self.partition.is_some_and(apart) {
            return;
        }
        let id = *id;
        if let Some(message) = wire.next(to_acceptor, self.weather, &mut self.dice) {
            self.delivered += 1;
            self.drive(id, !to_acceptor, Input::Message(&message), &[]);
        }
    }

    /// Gives a session an input and does what it says. `live` are the bytes behind [`Output::SendLive`].
    fn drive(&mut self, id: u64, dialer: bool, input: Input<'_>, live: &[u8]) {
        let Some((_, wire)) = self.wires.iter_mut().find(|(of, wire)| *of == id && !wire.cut) else { return };
        let session = if dialer { &mut wire.dial } else { &mut wire.accept };
        for output in session.handle(self.now_ms, input) {
            self.perform(id, dialer, output, live);
        }
    }

    fn perform(&mut self, id: u64, dialer: bool, output: Output, live: &[u8]) {
        let Some((_, wire)) = self.wires.iter_mut().find(|(of, wire)| *of == id && !wire.cut) else { return };
        let (at, peer) = if dialer { (wire.dialer, wire.acceptor) } else { (wire.acceptor, wire.dialer) };
        let queue = if dialer { &mut wire.to_acceptor } else { &mut wire.to_dialer };
        match output {
            Output::Send(bytes) => queue.push_back(bytes),
            Output::SendLive => queue.push_back(live.to_vec()),
            Output::Close(_) => wire.cut = true,
            Output::Admit(hello) => {
                self.flush_unless_sloppy(at);
                let admission = self.nodes[at].admission(&hello);
                self.drive(id, dialer, Input::Admit(Box::new(admission)), &[]);
            }
            Output::Compare(head) => {
                let ancestry = self.nodes[at].compare(head);
                self.drive(id, dialer, Input::Compared(ancestry), &[]);
            }
            Output::Read(read) => self.reads.push((id, dialer, read)),
            Output::Store(push) => {
                let ack = self.nodes[at].store_push(push);
                if self.nodes[at].acks_early() {
                    self.nodes[at].promised.union_with(&ack.held);
                    self.drive(id, dialer, Input::Stored(ack), &[]);
                } else {
                    self.nodes[at].deferred.push((id, Promise::Stored(ack)));
                }
            }
            Output::Apply(apply) => {
                let apply_id = apply.id;
                let rejected = self.nodes[at].apply(peer, apply);
                self.judge(id, at, rejected);
                self.nodes[at].deferred.push((id, Promise::Applied(apply_id)));
            }
            Output::Event(event) => self.event(id, at, event),
            Output::Digest(_) => {}
        }
    }

    fn read(&mut self, id: u64, dialer: bool, read: Read) {
        let Some((_, wire)) = self.wires.iter().find(|(of, _)| *of == id) else { return };
        let at = if dialer { wire.dialer } else { wire.acceptor };
        self.flush_unless_sloppy(at);
        let most = 1 + self.dice.below(5);
        let store = &self.nodes[at].store;
        let answer = match read {
            Read::Versions { needs, .. } => Input::Parcel(store.parcel(&needs, most)),
            Read::Tail { after, .. } => Input::Tail(store.tail(after, most)),
            Read::Rows { .. } => Input::Parcel(Parcel::default()),
        };
        self.drive(id, dialer, answer, &[]);
    }

    fn flush_unless_sloppy(&mut self, at: usize) {
        if !self.nodes[at].acks_early() {
            self.flush(at);
        }
    }

    /// Not removed at once: the caller may be in the middle of one of them.
    pub(super) fn cut_wires_later(&mut self, at: usize) {
        for (_, wire) in &mut self.wires {
            wire.cut |= wire.dialer == at || wire.acceptor == at;
        }
    }
}
