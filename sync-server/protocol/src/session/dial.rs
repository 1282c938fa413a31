//! The dialer: says hello, pushes what the acceptor lacks, applies what it sends.

use std::collections::BTreeMap;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};

use super::input::unexpected;
use super::outbox::Outbox;
use super::{Apply, Done, Event, Input, Link, Local, Output, Parcel};
use crate::code::{Code, Fault};
use crate::holdings::{Holdings, Needs};
use crate::message::*;

#[derive(Debug, Default)]
pub(super) struct Dialer {
    site: SiteId,
    head: Head,
    /// What is held here; kept up to date by [`Input::Gained`].
    held: Holdings,
    /// Whether Hello said what is held.
    said_held: bool,
    outbox: Outbox,
    push: Pushing,
    /// The acceptor's last version of this site.
    your_head: Head,
    /// What the acceptor holds of this site and this side does not.
    lost: VersionVector,
    may_write: bool,
    epoch: u64,
    /// The journal position up to which everything arrived; none while what is lacking is still on its way.
    pos: Option<u64>,
    head_pos: u64,
    caught_up: bool,
    parts: u64,
    /// Whether the last batch said that more belongs to it.
    cut_open: bool,
    /// Whether that was a batch of the journal.
    tail_open: bool,
    /// Batches being applied: their length and the position after them.
    applying: BTreeMap<u64, (u64, u64)>,
    last_apply: u64,
    /// Applied and not yet given back as credit, in bytes.
    owed: u64,
    /// How often the acceptor wants to know what is held here, in milliseconds; 0: never.
    members_ms: u64,
    /// When it was told.
    told_ms: u64,
    /// What it was told.
    told: VersionVector,
}

/// Credit is given back when this part of the window is owed: a message for each batch would cost the acceptor as much
/// as the batch itself. As less than that is ever kept back, it never runs dry.
const CREDIT_PART: u64 = 4;

/// Whether this side may push yet.
#[derive(Debug, Default, PartialEq)]
enum Pushing {
    /// Not before the histories are compared.
    #[default]
    Comparing,
    /// Not before these, the lost tail of our own site, are here.
    Recovering(VersionVector),
    /// Yes.
    Open,
}

impl Dialer {
    pub fn is_flushed(&self) -> bool {
        self.push == Pushing::Open && self.outbox.is_empty()
    }

    pub fn pushes_sent(&self) -> u64 {
        self.outbox.last_id
    }

    pub fn take(&mut self, link: &mut Link, input: Input<'_>) -> Done {
        match input {
            Input::Open(local) => self.hello(link, *local),
            Input::Compared(ancestry) => self.compared(link, ancestry),
            Input::Gained(versions) => {
                self.gained(link, &versions);
                Ok(())
            }
            Input::Parcel(parcel) => {
                self.outbox.parcel(link, parcel);
                self.outbox.pump(link);
                Ok(())
            }
            Input::Applied(id) => {
                self.applied(link, id);
                Ok(())
            }
            Input::Repair(frames) => {
                self.outbox.push(link, Parcel { frames, ..Parcel::default() });
                Ok(())
            }
            Input::Leave(_) => Ok(()),
            _ => Err(Fault::new(Code::INTERNAL, "an input for an acceptor was given to a dialer")),
        }
    }

    pub fn receive(&mut self, link: &mut Link, message: Message, len: usize) -> Done {
        match message {
            Message::Welcome(welcome) if !link.open => return self.welcome(link, welcome),
            other if !link.open => return Err(unexpected(other.name())),
            Message::Batch(batch) => return self.batch(link, batch, len as u64),
            Message::Pos(pos) => return self.moved(link, pos),
            Message::Ack(ack) => {
                if !self.outbox.ack(link, ack) {
                    return Ok(()); // The transport repeated it.
                }
            }
            Message::Have(have) => self.outbox.peer_holds(&have.whole),
            Message::Need(need) => self.outbox.want(&Needs::from_need(&need)?),
            Message::Empty(empty) => {
                self.apply(link, len as u64, Parcel { claims: empty.versions, ..Parcel::default() }, None)
            }
            Message::DigestRequest(request) if link.has(features::DIGEST) => {
                self.outbox.want_rows(request.ranges);
            }
            Message::Goaway(goaway) => link.event(Event::Goaway(goaway)),
            other => return Err(unexpected(other.name())),
        }
        self.pump(link);
        Ok(())
    }

    pub fn check_ping(&self, ping: Ping) -> Done {
        let behind = self.pos.is_some_and(|pos| ping.pos > pos) || ping.parts > self.parts;
        if behind {
            return Err(lost());
        }
        Ok(())
    }

    pub fn check_time(&self, link: &Link) -> Done {
        if matches!(self.push, Pushing::Recovering(_))
            && link.now_ms - link.opened_ms >= link.config.limits.ack_ms
        {
            return Err(Fault::new(Code::LOST, "the lost tail of this site did not come: connect again"));
        }
        let waited = |since: u64| link.now_ms.saturating_sub(since) >= link.config.limits.ack_ms;
        if self.outbox.oldest_flight_ms().is_some_and(waited) {
            return Err(Fault::new(Code::LOST, "a push was not acknowledged in time: connect again"));
        }
        Ok(())
    }

    fn hello(&mut self, link: &mut Link, local: Local) -> Done {
        (self.site, self.head, self.held) = (local.site, local.head, local.held);
        self.said_held = local.resume.is_none();
        let limits = link.config.limits;
        let hello = Hello {
            proto_min: PROTOCOL_VERSIONS.0,
            proto_max: PROTOCOL_VERSIONS.1,
            features: link.config.features,
            room: local.room,
            token: local.token,
            site: local.site,
            head: local.head,
            tie_break: local.tie_break,
            schema: local.schema,
            resume: local.resume,
            held_fingerprint: local.fingerprint,
            // Without a position to resume from, sending it now saves a round trip.
            held: self.said_held.then(|| self.held.to_have()),
            message_max: limits.message_bytes as u64,
            credit: limits.window_bytes,
            agent: link.config.agent.clone(),
        };
        link.send(hello);
        Ok(())
    }

    fn welcome(&mut self, link: &mut Link, welcome: Welcome) -> Done {
        let (lowest, highest) = PROTOCOL_VERSIONS;
        if !(lowest..=highest).contains(&welcome.proto) || welcome.features & !link.config.features != 0 {
            return Err(Fault::new(Code::VERSION, "the acceptor chose what was not offered"));
        }
        link.features = welcome.features;
        link.peer_message_max = usize::try_from(welcome.terms.message_max).unwrap_or(usize::MAX);
        link.opened();
        self.outbox.window = welcome.terms.window.max(1);
        self.may_write = welcome.permissions & WRITE != 0;
        (self.epoch, self.head_pos, self.members_ms) = (welcome.epoch, welcome.head_pos, welcome.members_ms);
        link.event(Event::Ready(Box::new(welcome.clone())));
        if welcome.ancestry == Ancestry::Fork {
            return self.forked(link, welcome.your_head);
        }
        match &welcome.plan {
            Plan::Snapshot(snapshot) => {
                link.event(Event::Snapshot(snapshot.clone()));
                link.close(None);
                return Ok(());
            }
            Plan::Tail { from } => self.pos = Some(*from),
            Plan::Needs => {
                if !self.said_held {
                    link.send(self.held.to_have());
                }
            }
        }
        self.meet(link, &welcome)?;
        self.check_caught_up(link);
        Ok(())
    }

    /// Compares histories of this site, and finds what the acceptor lacks.
    fn meet(&mut self, link: &mut Link, welcome: &Welcome) -> Done {
        self.outbox.peer_holds(&welcome.your_held);
        match &welcome.held {
            Some(held) => {
                self.outbox.peer_holds(held);
                self.outbox.offer(&self.held.whole);
            }
            None => self.outbox.offer(&self.own(&self.held.whole)),
        }
        // Written since Hello under numbers that were taken already: only a new Hello can tell what this is.
        let theirs = welcome.your_held.of_site(self.site).cloned().unwrap_or_default();
        let written = self.held.whole.of_site(self.site).and_then(|versions| versions.max()).unwrap_or(0);
        if overlaps(&theirs, self.head.version + 1, written) {
            return Err(Fault::new(Code::LOST, "this site wrote during the handshake: connect again"));
        }
        self.your_head = welcome.your_head;
        self.lost = welcome.your_held.difference(&self.held.whole);
        let common = welcome.your_common;
        // Held there without a chain to compare, or continuing something that may not be our head: perhaps another
        // history, and a new name is always safe.
        let behind = common.version < self.head.version;
        if overlaps(&theirs, common.version + 1, self.head.version)
            || (behind && overlaps(&theirs, self.head.version + 1, u64::MAX))
        {
            return self.forked(link, welcome.your_head);
        }
        if common.version == 0 || common == self.head {
            return self.compared(link, Ancestry::Same);
        }
        if common.version >= self.head.version {
            return self.forked(link, common);
        }
        link.emit(Output::Compare(common));
        Ok(())
    }

    /// The histories agree as far as they go, or there is a fork. What the acceptor holds beyond is our lost tail.
    fn compared(&mut self, link: &mut Link, ancestry: Ancestry) -> Done {
        if self.push != Pushing::Comparing || !link.open {
            return Ok(());
        }
        if ancestry == Ancestry::Fork {
            return self.forked(link, self.your_head);
        }
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            self.push = Pushing::Open;
            self.pump(link);
            return Ok(());
        }
        link.event(Event::LostTail { head: self.your_head, lost: lost.clone() });
        // What comes by position may not contain it: the cursor may lie behind the lost tail.
        link.send(Needs { whole: lost.clone(), ..Needs::default() }.to_need());
        self.push = Pushing::Recovering(lost);
        Ok(())
    }

    fn forked(&mut self, link: &mut Link, theirs: Head) -> Done {
        link.event(Event::Fork(theirs));
        let detail = "two histories of one site: this one needs a new site id (crsql_new_site)";
        Err(Fault::new(Code::FORK, detail))
    }

    fn gained(&mut self, link: &mut Link, versions: &VersionVector) {
        self.held.claim(versions);
        if !link.open {
            return;
        }
        match link.has(features::GOSSIP) {
            true => self.outbox.offer(versions),
            false => self.outbox.offer(&self.own(versions)),
        }
        if let Pushing::Recovering(lost) = &self.push
            && self.held.whole.is_superset(lost)
        {
            self.push = Pushing::Open;
        }
        self.pump(link);
    }

    fn pump(&mut self, link: &mut Link) {
        if self.push == Pushing::Open && self.may_write {
            self.outbox.pump(link);
        }
    }

    fn batch(&mut self, link: &mut Link, batch: Batch, len: u64) -> Done {
        let cursor = if batch.part > 0 {
            if batch.part <= self.parts {
                return Ok(()); // The transport repeated it.
            }
            // The acceptor closes a cut before it goes on with something else.
            if batch.part != self.parts + 1 || self.tail_open {
                return Err(lost());
            }
            self.parts = batch.part;
            None
        } else {
            let Some(pos) = self.pos else { return Err(lost()) };
            if batch.upto <= pos {
                return Ok(());
            }
            if batch.after != pos || (self.cut_open && !self.tail_open) {
                return Err(lost());
            }
            self.pos = Some(batch.upto);
            self.tail_open = batch.more;
            Some(Cursor { epoch: self.epoch, pos: batch.upto })
        };
        self.cut_open = batch.more;
        for frame in batch.frames.iter().filter(|frame| !frame.is_delta()) {
            self.outbox.peer_sent(frame);
        }
        self.outbox.peer_holds(&batch.claims);
        let Batch { frames, claims, chains, more, .. } = batch;
        self.apply(link, len, Parcel { frames, claims, chains, more }, cursor);
        Ok(())
    }

    fn moved(&mut self, link: &mut Link, moved: Pos) -> Done {
        if moved.parts != self.parts || self.tail_open {
            return Err(lost());
        }
        match self.pos {
            Some(pos) if moved.upto <= pos => return Ok(()),
            Some(pos) if moved.after != pos => return Err(lost()),
            // Ends the needs phase when there was no position yet.
            _ => self.pos = Some(moved.upto),
        }
        let cursor = Cursor { epoch: self.epoch, pos: moved.upto };
        self.apply(link, 0, Parcel::default(), Some(cursor));
        Ok(())
    }

    fn apply(&mut self, link: &mut Link, len: u64, parcel: Parcel, cursor: Option<Cursor>) {
        self.last_apply += 1;
        let id = self.last_apply;
        self.applying.insert(id, (len, self.pos.unwrap_or(0)));
        let cut = !self.cut_open;
        let Parcel { frames, claims, chains, .. } = parcel;
        link.emit(Output::Apply(Apply { id, frames, claims, chains, cut, cursor }));
    }

    fn applied(&mut self, link: &mut Link, id: u64) {
        let Some((bytes, pos)) = self.applying.remove(&id) else { return };
        self.owed += bytes;
        if self.owed > 0 && self.owed >= link.config.limits.window_bytes / CREDIT_PART {
            link.send(Credit { bytes: std::mem::take(&mut self.owed), pos });
        }
        self.check_caught_up(link);
    }

    fn check_caught_up(&mut self, link: &mut Link) {
        let there = self.pos.is_some_and(|pos| pos >= self.head_pos) && self.applying.is_empty();
        if there && !self.caught_up {
            self.caught_up = true;
            link.event(Event::CaughtUp);
            if self.members_ms > 0 {
                self.tell_held(link);
            }
        }
    }

    /// Says now and then what is held here, to an acceptor that collects deletes by it.
    pub fn tell_now_and_then(&mut self, link: &mut Link) {
        let has_waited = link.now_ms.saturating_sub(self.told_ms) >= self.members_ms;
        if self.members_ms > 0 && self.caught_up && has_waited && self.told != self.held.whole {
            self.tell_held(link);
        }
    }

    fn tell_held(&mut self, link: &mut Link) {
        (self.told_ms, self.told) = (link.now_ms, self.held.whole.clone());
        link.send(Have { whole: self.told.clone(), partial: Vec::new() });
    }

    fn own(&self, versions: &VersionVector) -> VersionVector {
        let mut own = VersionVector::default();
        for (lo, hi) in versions.of_site(self.site).into_iter().flat_map(|ranges| ranges.iter()) {
            own.insert_range(self.site, lo, hi);
        }
        own
    }
}

fn overlaps(versions: &RangeSet, lo: u64, hi: u64) -> bool {
    lo <= hi && versions.iter().any(|(from, to)| from <= hi && lo <= to)
}

fn lost() -> Fault {
    Fault::new(Code::LOST, "a batch was lost on the way: connect again and resume")
}
