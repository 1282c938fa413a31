//! The acceptor: lets the dialer in, stores what it pushes, and feeds it.

use super::feed::Feed;
use super::input::unexpected;
use super::{Admission, Done, Event, Input, Link, Output, Parcel};
use crate::code::{Code, Fault};
use crate::holdings::{Holdings, Needs};
use crate::message::*;

#[derive(Debug, Default)]
pub(super) struct Acceptor {
    /// What the dialer said of itself; while it is being looked at, and afterwards.
    hello: Option<Box<Hello>>,
    /// What this node held at the admission, until the dialer said what it holds.
    held: Option<Holdings>,
    may_write: bool,
    may_read: bool,
    ancestry: Ancestry,
    /// The last version that the dialer itself had of its site.
    own_head: u64,
    feed: Feed,
    last_push: u64,
    /// Pushes that are being stored.
    unstored: std::collections::BTreeMap<u64, u64>,
}

impl Acceptor {
    pub fn receive(&mut self, link: &mut Link, message: Message, len: usize) -> Done {
        if !link.open {
            return match message {
                Message::Hello(hello) if self.hello.is_none() => self.hello(link, hello),
                other => Err(unexpected(other.name())),
            };
        }
        match message {
            Message::Push(push) => self.push(link, push, len as u64),
            Message::Credit(credit) => {
                self.feed.grant(credit.bytes);
                self.feed.pump(link);
                Ok(())
            }
            Message::Have(have) => self.have(link, &have),
            Message::Need(need) if self.may_read => {
                self.feed.want(&Needs::from_need(&need)?);
                self.feed.pump(link);
                Ok(())
            }
            Message::DigestRequest(request) if self.may_read && link.has(features::DIGEST) => {
                self.feed.want_rows(request.ranges);
                self.feed.pump(link);
                Ok(())
            }
            other => Err(unexpected(other.name())),
        }
    }

    pub fn take(&mut self, link: &mut Link, input: Input<'_>) -> Done {
        match input {
            Input::Admit(admission) => self.admit(link, *admission),
            Input::Live(live) if link.open => {
                self.feed.live(link, live);
                self.feed.pump(link);
                Ok(())
            }
            Input::Parcel(parcel) => {
                self.feed.parcel(link, parcel);
                self.feed.pump(link);
                Ok(())
            }
            Input::Tail(tail) => {
                // What the dialer wrote itself comes back only if it has lost it.
                let (site, head) = (self.hello.as_ref().map(|hello| hello.site), self.own_head);
                let own =
                    |frame: &Frame| Some(frame.site) == site && (1..=head).contains(&frame.site_version);
                self.feed.tail(link, tail, own)?;
                self.feed.pump(link);
                Ok(())
            }
            Input::Stored(ack) => {
                if self.unstored.remove(&ack.id).is_some() {
                    link.send(ack);
                }
                Ok(())
            }
            Input::Repair(frames) => {
                self.feed.send_parts(link, Parcel { frames, ..Parcel::default() });
                Ok(())
            }
            Input::Leave(goaway) => {
                link.send(goaway);
                Ok(())
            }
            // Before the handshake there is nothing to feed; the admission tells where the journal stands.
            Input::Live(_) | Input::Gained(_) => Ok(()),
            _ => Err(Fault::new(Code::INTERNAL, "an input for a dialer was given to an acceptor")),
        }
    }

    /// The last position and the number of parts sent, for a ping.
    pub fn sent(&self) -> (u64, u64) {
        (self.feed.pos, self.feed.parts)
    }

    pub fn check_ping(&self, ping: Ping) -> Done {
        if ping.parts > self.last_push {
            return Err(Fault::new(Code::LOST, "a push was lost on the way: connect again"));
        }
        Ok(())
    }

    pub fn check_time(&self, link: &Link) -> Done {
        if self.feed.waiting && link.now_ms - link.opened_ms >= link.config.limits.hello_ms {
            return Err(Fault::new(Code::LOST, "the dialer never said what it holds: connect again"));
        }
        if self.feed.is_starved(link.now_ms, link.config.limits.credit_ms) {
            return Err(Fault::new(Code::SLOW, "nothing was taken for too long: connect again and resume"));
        }
        Ok(())
    }

    fn hello(&mut self, link: &mut Link, hello: Hello) -> Done {
        let (lowest, highest) = PROTOCOL_VERSIONS;
        if hello.proto_max < lowest || hello.proto_min > highest {
            let detail = format!("this side speaks protocol {lowest} to {highest}: upgrade the older one");
            return Err(Fault::new(Code::VERSION, detail));
        }
        link.peer_message_max = usize::try_from(hello.message_max).unwrap_or(usize::MAX);
        self.hello = Some(Box::new(hello.clone()));
        link.emit(Output::Admit(Box::new(hello)));
        Ok(())
    }

    fn admit(&mut self, link: &mut Link, admission: Admission) -> Done {
        let Some(hello) = self.hello.as_deref().filter(|_| !link.open) else {
            return Err(Fault::new(Code::INTERNAL, "nobody asked to be admitted"));
        };
        if hello.tie_break != admission.tie_break {
            let detail =
                "the two databases decide ties differently: set the same tie-break before the first table";
            return Err(Fault::new(Code::TIE_BREAK, detail));
        }
        let plan = plan(hello, &admission);
        link.features = link.config.features & hello.features;
        let tells = link.has(features::GOSSIP) || !matches!(plan, Plan::Tail { .. });
        let mut your_held = crsql_core::version_vector::VersionVector::default();
        for (lo, hi) in admission.held.whole.of_site(hello.site).into_iter().flat_map(|ranges| ranges.iter())
        {
            your_held.insert_range(hello.site, lo, hi);
        }
        let limits = &link.config.limits;
        let welcome = Welcome {
            proto: hello.proto_max.min(PROTOCOL_VERSIONS.1),
            features: link.features,
            agent: link.config.agent.clone(),
            site: admission.site,
            epoch: admission.head.epoch,
            head_pos: admission.head.pos,
            permissions: admission.permissions,
            terms: Terms {
                message_max: limits.message_bytes as u64,
                frame_max: limits.frame_bytes as u64,
                tx_max: limits.tx_bytes,
                window: limits.window_bytes,
                ping_ms: limits.ping_ms,
            },
            your_head: admission.your_head,
            your_common: admission.your_common,
            ancestry: admission.ancestry,
            your_held,
            schema: admission.schema,
            plan: plan.clone(),
            held: tells.then(|| admission.held.whole.clone()),
            collected: admission.collected.clone(),
            members_ms: admission.members_ms,
        };
        self.may_read = admission.permissions & READ != 0;
        self.may_write = admission.permissions & WRITE != 0;
        self.ancestry = admission.ancestry;
        self.own_head = hello.head.version;
        link.opened();
        link.send(welcome.clone());
        link.event(Event::Ready(Box::new(welcome)));
        // Chunks that were given up leave a gap that only those can close who got the version whole.
        let gaps = admission.held.gaps();
        if self.may_write && !gaps.is_empty() {
            link.send(gaps.to_need());
        }
        // A fork has nothing to receive here: the dialer comes back under another name.
        if self.may_read && self.ancestry != Ancestry::Fork {
            self.begin(link, plan, admission)?;
        }
        Ok(())
    }

    fn begin(&mut self, link: &mut Link, plan: Plan, admission: Admission) -> Done {
        let hello = self.hello.as_deref().expect("admit has checked that there is a hello");
        let (head, credit) = (admission.head.pos, hello.credit);
        match (plan, &hello.held) {
            (Plan::Tail { from }, _) => self.feed.start(from, head, None, credit),
            (Plan::Needs, Some(have)) => {
                let needs = Holdings::from_have(have)?.needs(&admission.held);
                self.feed.start(head, head, Some(needs), credit);
            }
            (Plan::Needs, None) => {
                self.feed.waiting = true;
                self.feed.start(head, head, Some(Needs::default()), credit);
                self.held = Some(admission.held);
            }
            (Plan::Snapshot(_), _) => {}
        }
        self.feed.pump(link);
        Ok(())
    }

    fn have(&mut self, link: &mut Link, have: &Have) -> Done {
        let theirs = Holdings::from_have(have)?;
        if let Some(mine) = self.held.take() {
            self.feed.want(&theirs.needs(&mine));
            self.feed.waiting = false;
            self.feed.pump(link);
        }
        if !have.whole.is_empty() {
            link.event(Event::Holds(have.whole.clone()));
        }
        Ok(())
    }

    fn push(&mut self, link: &mut Link, push: Push, len: u64) -> Done {
        if push.id <= self.last_push {
            return Ok(()); // The transport repeated it; its answer is on the way.
        }
        if push.id != self.last_push + 1 {
            return Err(Fault::new(Code::LOST, "a push was lost on the way: connect again"));
        }
        self.last_push = push.id;
        if !self.may_write {
            let code = Code::READ_ONLY;
            let rejected =
                push.frames.iter().map(|f| Rejected { site: f.site, site_version: f.site_version, code });
            link.send(Ack { id: push.id, pos: 0, held: Default::default(), rejected: rejected.collect() });
            return Ok(());
        }
        // One message more than the window: the dialer may fill it up to the last byte and send one more.
        let limits = &link.config.limits;
        let unstored: u64 = self.unstored.values().sum();
        if unstored > limits.window_bytes.saturating_add(limits.message_bytes as u64) {
            return Err(Fault::new(Code::RATE, "more was pushed than the window allows"));
        }
        let site = self.hello.as_ref().map(|hello| hello.site);
        let own = push.frames.iter().filter(|frame| Some(frame.site) == site).map(|frame| frame.site_version);
        self.own_head = own.max().unwrap_or(0).max(self.own_head);
        self.unstored.insert(push.id, len);
        link.emit(Output::Store(push));
        Ok(())
    }
}

/// How the dialer gets what it lacks: by position if it can, else by comparing what both hold.
fn plan(hello: &Hello, admission: &Admission) -> Plan {
    if let Some(from) = admission.can_resume(hello.resume) {
        return Plan::Tail { from };
    }
    if hello.held_fingerprint == admission.fingerprint {
        return Plan::Tail { from: admission.head.pos };
    }
    match &admission.snapshot {
        Some(snapshot) if hello.features & features::SNAPSHOT != 0 => Plan::Snapshot(snapshot.clone()),
        _ => Plan::Needs,
    }
}
