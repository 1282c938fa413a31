//! Carries out what sessions ask for.

use std::sync::Arc;

use crsql_core::version_vector::VersionVector;
use crsql_protocol::compare::Step;
use crsql_protocol::message::{
    Ack, Ancestry, DigestRequest, DigestResponse, Hello, Presence, READ, Rejected, WRITE, Welcome, features,
};
use crsql_protocol::session::{self, Input, Live, Output, Read};
use crsql_protocol::{Code, Fault};

use super::{Action, BATCH_BYTES, Event, Link, LinkId, Node, Policy, Promise, Side};
use crate::Result;
use crate::replica::{Committed, Incoming, Taken, pack};

/// How much of the rows that differ is sent at a time, in bytes.
const REPAIR_BYTES: u64 = 1 << 20;

impl Node {
    pub(super) fn take_inbox(&mut self, now_ms: u64) -> Result<()> {
        while let Some((link, message)) = self.inbox.pop_front() {
            self.take_message(now_ms, link, &message)?;
        }
        Ok(())
    }

    pub(super) fn take_message(&mut self, now_ms: u64, link: LinkId, message: &[u8]) -> Result<()> {
        self.drive(now_ms, link, Input::Message(message), None);
        self.run(now_ms)?;
        self.batch_bytes += message.len();
        if self.batch_bytes > BATCH_BYTES {
            self.flush(now_ms)?;
        }
        Ok(())
    }

    /// Tells a session something and queues what it wants. `live` are the bytes behind an [`Input::Live`].
    pub(super) fn drive(&mut self, now_ms: u64, id: LinkId, input: Input<'_>, live: Option<Arc<[u8]>>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let outputs = link.session.handle(now_ms, input);
        self.work.extend(outputs.into_iter().map(|output| (id, output, live.clone())));
    }

    /// Does everything that is queued.
    pub(super) fn run(&mut self, now_ms: u64) -> Result<()> {
        loop {
            while let Some((link, output, live)) = self.work.pop_front() {
                let done = self.perform(now_ms, link, output, live);
                self.store(now_ms, done)?;
            }
            if !std::mem::take(&mut self.forked) {
                return Ok(());
            }
            let taken = self.take_new_site(now_ms);
            self.store(now_ms, taken)?;
        }
    }

    /// Passes a result of the store on; after an error the batch is undone and every connection ends.
    pub(super) fn store<T>(&mut self, now_ms: u64, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.replica.rollback();
            self.promises.clear();
            let detail = format!("the database failed: {error}");
            self.work.clear();
            self.fail_links(now_ms, |_| true, Code::UNAVAILABLE, &detail);
            // Only messages and closings are left, which need no store.
            while let Some((link, output, _)) = self.work.pop_front() {
                match output {
                    Output::Send(bytes) => self.actions.push_back(Action::Send { link, bytes: bytes.into() }),
                    Output::Close(fault) => self.close_link(link, fault),
                    _ => {}
                }
            }
        }
        result
    }

    pub(super) fn fail_links(
        &mut self,
        now_ms: u64,
        which: impl Fn(&Link) -> bool,
        code: Code,
        detail: &str,
    ) {
        let links: Vec<_> = self.links.iter().filter(|(_, link)| which(link)).map(|(id, _)| *id).collect();
        for link in links {
            self.drive(now_ms, link, Input::Fail(Fault::new(code, detail)), None);
        }
    }

    fn perform(&mut self, now_ms: u64, id: LinkId, output: Output, live: Option<Arc<[u8]>>) -> Result<()> {
        if !self.links.contains_key(&id) {
            return Ok(());
        }
        match output {
            Output::Send(bytes) => self.actions.push_back(Action::Send { link: id, bytes: bytes.into() }),
            Output::SendLive => {
                let bytes = live.expect("a session sends live bytes only in answer to them");
                self.actions.push_back(Action::Send { link: id, bytes });
            }
            Output::Close(fault) => self.close_link(id, fault),
            Output::Admit(hello) => self.admit(now_ms, id, &hello)?,
            Output::Compare(head) => {
                let ancestry = self.replica.compare(head)?;
                self.drive(now_ms, id, Input::Compared(ancestry), None);
            }
            Output::Read(read) => self.read(now_ms, id, read)?,
            Output::Store(push) => {
                let (frames, claims, chains) = (push.frames, push.claims, push.chains);
                let incoming = Incoming { from: id, frames, claims, chains, cut: !push.more, cursor: None };
                let Taken { held, rejected, reasons } = self.take(now_ms, id, incoming)?;
                reasons.into_iter().for_each(|reason| self.event(Event::SetAside { link: id, reason }));
                let ack = Ack { id: push.id, pos: self.replica.journal_head(), held, rejected };
                self.promises.push((id, Promise::Stored(ack)));
            }
            Output::Apply(apply) => self.apply(now_ms, id, apply)?,
            Output::Digest(request) => {
                self.commit(now_ms)?;
                let response = self.replica.digests(&request)?;
                self.drive(now_ms, id, Input::Digests(response), None);
            }
            Output::Event(event) => self.session_event(now_ms, id, event)?,
        }
        Ok(())
    }

    fn admit(&mut self, now_ms: u64, id: LinkId, hello: &Hello) -> Result<()> {
        let Some(Side::Accepted(Policy { room, token })) = self.links.get(&id).map(|link| &link.side) else {
            return Ok(());
        };
        let refused = if hello.room != *room {
            let detail = format!("this node holds room {room:?}, not {:?}", hello.room);
            Some(Fault::new(Code::NO_ROOM, detail))
        } else if token.is_some() && !is_same(token.as_deref(), hello.token.as_deref()) {
            Some(Fault::new(Code::UNAUTHORIZED, "the token is missing or wrong"))
        } else {
            None
        };
        if let Some(fault) = refused {
            self.drive(now_ms, id, Input::Fail(fault), None);
            return Ok(());
        }
        self.replica.begin()?;
        self.commit(now_ms)?;
        let admission = self.replica.admission(hello, READ | WRITE)?;
        self.drive(now_ms, id, Input::Admit(Box::new(admission)), None);
        Ok(())
    }

    fn read(&mut self, now_ms: u64, id: LinkId, read: Read) -> Result<()> {
        // Only what is durable may be sent.
        self.commit(now_ms)?;
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let input = match read {
            Read::Versions { needs, bytes } => {
                let mut parcel = self.replica.answer(&needs, bytes, &mut link.fill)?;
                if link.session.has(features::ZSTD) {
                    parcel.frames = parcel.frames.into_iter().map(pack::packed).collect();
                }
                Input::Parcel(parcel)
            }
            Read::Rows { ranges, bytes } => {
                Input::Parcel(self.replica.rows(&ranges, bytes.max(REPAIR_BYTES))?)
            }
            Read::Tail { after, bytes } => match self.replica.tail(after, bytes)? {
                Some(tail) => Input::Tail(tail),
                None => Input::Fail(Fault::new(Code::LOST, "the journal has moved on: connect again")),
            },
        };
        self.drive(now_ms, id, input, None);
        Ok(())
    }

    fn take(&mut self, now_ms: u64, id: LinkId, incoming: Incoming) -> Result<Taken> {
        self.replica.begin()?;
        let Some(link) = self.links.get_mut(&id) else { return Ok(Taken::default()) };
        let taken = self.replica.take(now_ms, incoming, &mut link.cut)?;
        self.check_fork(&taken.rejected);
        if self.replica.take_behind()? {
            self.begin_again(now_ms, id);
        }
        Ok(taken)
    }

    fn apply(&mut self, now_ms: u64, id: LinkId, apply: session::Apply) -> Result<()> {
        let Some(Side::Dialed(peer)) = self.links.get(&id).map(|link| &link.side) else { return Ok(()) };
        let cursor = apply.cursor.map(|cursor| (peer.clone(), cursor));
        let (frames, claims, chains) = (apply.frames, apply.claims, apply.chains);
        let incoming = Incoming { from: id, frames, claims, chains, cut: apply.cut, cursor };
        let taken = self.take(now_ms, id, incoming)?;
        taken.reasons.into_iter().for_each(|reason| self.event(Event::SetAside { link: id, reason }));
        self.promises.push((id, Promise::Applied(apply.id)));
        Ok(())
    }

    /// Only a copy of everything helps: it is offered when the acceptor hears what is held here.
    fn begin_again(&mut self, now_ms: u64, id: LinkId) {
        let detail =
            "deletes were collected that this database lacks, so it has to begin again with a snapshot";
        self.drive(now_ms, id, Input::Fail(Fault::new(Code::BEHIND, detail)), None);
    }

    /// Takes over what the acceptor has collected, once all that it had is here, and puts together anew what it refused
    /// because that was missing.
    fn settle_collected(&mut self, now_ms: u64, id: LinkId) -> Result<()> {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_caught_up) else { return Ok(()) };
        let (told, is_refused) = (link.collected.take(), std::mem::take(&mut link.is_refused));
        if let Some(told) = told {
            self.replica.begin()?;
            if !self.replica.hear_collected(&told)? {
                self.commit(now_ms)?;
                self.begin_again(now_ms, id);
                return Ok(());
            }
        }
        if is_refused {
            self.replica.begin()?;
            self.replica.put_together_anew()?;
            self.commit(now_ms)?;
            let detail = "what was refused is put together anew: connect again";
            self.drive(now_ms, id, Input::Fail(Fault::new(Code::LOST, detail)), None);
        }
        Ok(())
    }

    /// Somebody holds another transaction under one of our names.
    fn check_fork(&mut self, rejected: &[Rejected]) {
        let site = self.own_site();
        self.forked |= rejected.iter().any(|rejected| rejected.site == site && rejected.code == Code::FORKED);
    }

    /// Commits the batch and queues what follows from it.
    pub(super) fn commit(&mut self, now_ms: u64) -> Result<()> {
        if !self.replica.is_in_batch() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let committed = self.replica.commit();
        let committed = self.store(now_ms, committed)?;
        for (link, promise) in std::mem::take(&mut self.promises) {
            let input = match promise {
                Promise::Stored(ack) => Input::Stored(ack),
                Promise::Applied(id) => Input::Applied(id),
            };
            self.drive(now_ms, link, input, None);
        }
        self.tell(now_ms, committed);
        Ok(())
    }

    fn tell(&mut self, now_ms: u64, committed: Committed) {
        let Committed { gained, published, entries, restarted } = committed;
        let links: Vec<_> = self.links.iter().map(|(id, link)| (*id, link.side.clone())).collect();
        let live = if restarted { &[][..] } else { &entries[..] };
        for (id, side) in &links {
            match side {
                Side::Dialed(_) if !gained.is_empty() => {
                    self.drive(now_ms, *id, Input::Gained(gained.clone()), None);
                }
                Side::Accepted(_) => {
                    for entry in live {
                        let (after, upto) = (entry.pos - 1, entry.pos);
                        let echo = entry.from == Some(*id);
                        let bytes = entry.bytes.as_ref().map(|bytes| bytes.len() as u64);
                        let live = Live { after, upto, bytes, echo };
                        self.drive(now_ms, *id, Input::Live(live), entry.bytes.clone());
                    }
                }
                Side::Dialed(_) => {}
            }
        }
        if restarted {
            // Those that are not admitted yet will be told where it stands now.
            let reads = |link: &Link| matches!(link.side, Side::Accepted(_)) && link.session.is_open();
            self.fail_links(now_ms, reads, Code::LOST, "the journal was begun anew: connect again");
        }
        if gained.is_empty() {
            return;
        }
        let is_lost = |link: &Link| link.lost.difference(&published) != link.lost;
        let overlaps: Vec<_> =
            self.links.iter().filter(|(_, link)| is_lost(link)).map(|(id, _)| *id).collect();
        for id in overlaps {
            let detail = "this site wrote while its lost versions were on their way: connect again";
            self.drive(now_ms, id, Input::Fail(Fault::new(Code::LOST, detail)), None);
        }
        let remote = gained != published;
        self.event(Event::Gained { versions: gained, remote });
    }

    fn session_event(&mut self, now_ms: u64, id: LinkId, event: session::Event) -> Result<()> {
        let event = match event {
            session::Event::Ready(welcome) => {
                let is_fork = self.confirm(&welcome)?;
                if let Some(link) = self.links.get_mut(&id) {
                    (link.epoch, link.is_fork) = (welcome.epoch, is_fork);
                    link.collected = welcome.collected.as_ref().map(|told| told.0.clone());
                }
                let said: Vec<_> = self.presence.at(now_ms).cloned().collect();
                for presence in said {
                    self.drive(now_ms, id, Input::Present(presence), None);
                }
                Event::Ready { link: id, welcome }
            }
            session::Event::CaughtUp => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.is_caught_up = true;
                }
                self.settle_collected(now_ms, id)?;
                Event::CaughtUp { link: id }
            }
            session::Event::Confirmed(versions) => {
                self.replica.confirmed(&versions);
                Event::Confirmed { link: id, versions }
            }
            session::Event::Rejected(rejected) => {
                self.check_fork(&[rejected]);
                if rejected.code == Code::BEHIND {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_refused = true;
                    }
                    self.settle_collected(now_ms, id)?;
                }
                Event::Rejected { link: id, rejected }
            }
            session::Event::LostTail { lost, .. } => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.lost = lost.clone();
                }
                Event::Recovering { link: id, lost }
            }
            session::Event::Fork(_) => {
                self.forked = true;
                return Ok(());
            }
            session::Event::Presence(presence) => {
                if !self.presence.put(now_ms, &presence) {
                    return Ok(());
                }
                self.pass_on(now_ms, &presence, Some(id));
                Event::Presence(presence)
            }
            session::Event::Digests(response) => return self.compared(now_ms, id, &response),
            session::Event::Goaway(goaway) => Event::Goaway { link: id, goaway },
            session::Event::Warning(fault) => Event::Warning { link: id, fault },
            session::Event::Snapshot(_) if self.links.get(&id).is_some_and(|link| link.is_fork) => {
                self.forked = true;
                return Ok(());
            }
            session::Event::Snapshot(snapshot) => {
                let epoch = self.links.get(&id).map_or(0, |link| link.epoch);
                Event::Snapshot { link: id, snapshot, epoch }
            }
            session::Event::Incomplete(..) | session::Event::Holds(_) => return Ok(()),
        };
        self.event(event);
        Ok(())
    }

    /// What the acceptor holds of our own history is confirmed, up to where both histories can be compared.
    /// True if they are two.
    fn confirm(&mut self, welcome: &Welcome) -> Result<bool> {
        let common = welcome.your_common;
        if common.version == 0 {
            return Ok(false);
        }
        let ancestry = self.replica.compare(common)?;
        if ancestry == Ancestry::Same {
            let mut versions = VersionVector::default();
            versions.insert_range(self.own_site(), 1, common.version);
            let lacking = versions.difference(&welcome.your_held);
            self.replica.confirmed(&versions.difference(&lacking));
        }
        Ok(ancestry == Ancestry::Fork)
    }

    pub(super) fn pass_on(&mut self, now_ms: u64, presence: &Presence, from: Option<LinkId>) {
        let links: Vec<_> = self.links.keys().copied().filter(|link| Some(*link) != from).collect();
        for link in links {
            self.drive(now_ms, link, Input::Present(presence.clone()), None);
        }
    }

    fn compared(&mut self, now_ms: u64, id: LinkId, theirs: &DigestResponse) -> Result<()> {
        let Some((mut comparison, is_first)) =
            self.links.get_mut(&id).and_then(|link| link.comparison.take())
        else {
            return Ok(());
        };
        self.commit(now_ms)?;
        let mine = self.replica.digests_of(theirs, is_first)?;
        match comparison.next(theirs, &mine) {
            Step::Ask(question) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.comparison = Some((comparison, false));
                }
                self.drive(now_ms, id, Input::Ask(question), None);
            }
            Step::NotComparable => {
                self.event(Event::Compared { link: id, comparable: false, differing: Vec::new() });
            }
            Step::Differ(differing) => {
                if !differing.is_empty() {
                    let rows = self.replica.rows(&differing, REPAIR_BYTES)?;
                    self.drive(now_ms, id, Input::Repair(rows.frames), None);
                    let question = DigestRequest { id: 0, ranges: differing.clone(), cut: 1, rows: true };
                    self.drive(now_ms, id, Input::Ask(question), None);
                }
                self.event(Event::Compared { link: id, comparable: true, differing });
            }
        }
        Ok(())
    }

    fn take_new_site(&mut self, now_ms: u64) -> Result<()> {
        self.commit(now_ms)?;
        let detail = "this node takes a new site id: connect again";
        self.fail_links(now_ms, |_| true, Code::LOST, detail);
        self.forked = false;
        while let Some((link, output, live)) = self.work.pop_front() {
            self.perform(now_ms, link, output, live)?;
        }
        self.forked = false;
        let old = self.own_site();
        let committed = self.replica.take_new_site()?;
        let new = self.own_site();
        self.event(Event::NewSite { old, new });
        self.tell(now_ms, committed);
        Ok(())
    }

    /// Drops what waited too long, and writes down what others confirmed. True if chunks were dropped.
    pub(super) fn tidy(&mut self, now_ms: u64) -> Result<bool> {
        if self.replica.has_to_tidy() {
            self.replica.begin()?;
            return self.replica.expire(now_ms);
        }
        Ok(false)
    }

    fn close_link(&mut self, id: LinkId, fault: Option<Fault>) {
        self.remove(id);
        self.actions.push_back(Action::Close { link: id, fault });
    }
}

/// Compares secrets without telling by time how far they agree.
fn is_same(mine: Option<&str>, theirs: Option<&str>) -> bool {
    let hash = |text: Option<&str>| blake3::hash(text.unwrap_or_default().as_bytes());
    hash(mine) == hash(theirs) && theirs.is_some()
}
