//! The database thread: owns the file and the node, takes in what sockets bring, says what they should send.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::{Cursor, Presence};
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot, watch as latest};

use super::link::Out;
use super::status::{LinkStatus, Phase, Status};
use super::{Compared, Config};
use crate::node::{Action, Dial, Event, LinkId, Node, Policy};
use crate::replica::{Adoption, Replica};
use crate::{Error, Result};

/// How often sessions are told that time passed.
const TICK: Duration = Duration::from_millis(1000);

/// After the file was written it is looked at again a few times: SQLite shows a commit a moment after its last write,
/// once the log is on disk.
const LOOKS_MS: [u64; 6] = [0, 3, 10, 30, 100, 400];

/// So many commands are taken before the database is made to keep them.
const COMMANDS_PER_TURN: usize = 512;

/// What the database thread is told.
#[derive(Debug)]
pub enum Command {
    /// A socket to a target is open.
    Dial {
        target: usize,
        token: Option<String>,
        out: mpsc::UnboundedSender<Out>,
        answer: oneshot::Sender<Option<LinkId>>,
    },
    /// Somebody connected.
    Accept {
        from: SocketAddr,
        policy: Policy,
        out: mpsc::UnboundedSender<Out>,
        answer: oneshot::Sender<LinkId>,
    },
    /// A message arrived.
    Message { link: LinkId, bytes: Bytes },
    /// A socket was closed.
    Closed { link: LinkId },
    /// A target is being connected.
    Connecting { target: usize },
    /// A target can't be reached now.
    Waiting { target: usize, ms: u64, fault: Option<String>, refused: bool },
    /// A target's snapshot is being fetched.
    Fetching { target: usize, done: u64, total: u64 },
    /// A target's snapshot is there: take it over. False if that is not possible.
    Adopt { target: usize, file: PathBuf, cursor: Cursor, answer: oneshot::Sender<bool> },
    /// The file may have changed.
    Look,
    /// Answer once everything committed until now is durable everywhere; if asked, once everything is here too.
    Flush { caught_up: bool, answer: oneshot::Sender<()> },
    /// Say something.
    Present { topic: String, data: Vec<u8>, ttl_ms: u64 },
    /// What is being said?
    Presence(oneshot::Sender<Vec<Presence>>),
    /// Compare with all targets.
    Compare(oneshot::Sender<Vec<Compared>>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// What the thread is made of.
pub struct Parts {
    pub path: PathBuf,
    pub config: Config,
    pub inbox: mpsc::Receiver<Command>,
    pub status: latest::Sender<Status>,
    pub events: broadcast::Sender<Event>,
}

pub struct Engine {
    node: Node,
    config: Config,
    inbox: mpsc::Receiver<Command>,
    publish: latest::Sender<Status>,
    events: broadcast::Sender<Event>,
    began: Instant,
    links: BTreeMap<LinkId, Open>,
    targets: Vec<LinkStatus>,
    /// When to look at the file again.
    looks: VecDeque<Instant>,
    ticked: Instant,
    flushes: Vec<(bool, oneshot::Sender<()>)>,
    comparison: Option<(usize, Vec<Compared>, oneshot::Sender<Vec<Compared>>)>,
    error: Option<String>,
    stopping: Option<oneshot::Sender<()>>,
}

/// A connection.
struct Open {
    target: Option<usize>,
    out: mpsc::UnboundedSender<Out>,
    status: LinkStatus,
    /// What the other side had at the handshake and we lacked.
    to_come: VersionVector,
}

impl Engine {
    /// Opens the file, says how that went, and works until it is told to stop or everybody has gone.
    pub fn run(parts: Parts, told: oneshot::Sender<Result<()>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(told.send(Err(Error::Io("cannot start a thread".into(), error)))),
        };
        match Engine::open(parts) {
            Ok(engine) => {
                told.send(Ok(())).ok();
                runtime.block_on(engine.work());
            }
            Err(error) => drop(told.send(Err(error))),
        }
    }

    fn open(parts: Parts) -> Result<Engine> {
        let Parts { path, config, inbox, status: publish, events } = parts;
        let conn = Connection::open(&path)?;
        conn.busy_timeout(config.busy_timeout)?;
        let mut node = Node::new(Replica::open(Rc::new(conn), config.options.clone())?);
        node.take_snapshots(config.snapshots);
        let targets = config.targets.iter().map(|target| LinkStatus {
            name: target.address.to_string(),
            dialed: true,
            phase: Phase::Connecting,
            fault: None,
            refused: false,
            received: 0,
            sent: 0,
        });
        let targets = targets.collect();
        let now = Instant::now();
        let engine = Engine {
            node,
            config,
            inbox,
            publish,
            events,
            began: now,
            links: BTreeMap::new(),
            targets,
            looks: VecDeque::from([now]),
            ticked: now,
            flushes: Vec::new(),
            comparison: None,
            error: None,
            stopping: None,
        };
        engine.publish();
        Ok(engine)
    }

    async fn work(mut self) {
        while self.stopping.is_none() {
            let due = self.looks.front().copied().unwrap_or(self.ticked + TICK).min(self.ticked + TICK);
            let command = tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(command) => Some(command),
                    None => return,
                },
                () = tokio::time::sleep_until(due.into()) => None,
            };
            let mut next = command;
            for _ in 0..COMMANDS_PER_TURN {
                let Some(command) = next else { break };
                let done = self.take(command);
                self.note(done);
                next = self.inbox.try_recv().ok();
            }
            // One more may have been received than there were turns.
            if let Some(command) = next {
                let done = self.take(command);
                self.note(done);
            }
            let done = self.turn();
            self.note(done);
            self.act();
            // Whoever is answered may look at the status, which says so by then.
            self.publish();
            self.answer();
        }
        let Engine { node, links, stopping, .. } = self;
        for (_, link) in links {
            link.out.send(Out::Close(None)).ok();
        }
        drop(node);
        stopping.map(|stopped| stopped.send(()));
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// What fails here is tried again: connections have been closed, and will be opened again.
    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.error = Some(error.to_string());
        }
    }

    fn take(&mut self, command: Command) -> Result<()> {
        let now_ms = self.now_ms();
        match command {
            Command::Dial { target, token, out, answer } => {
                let link = self.dial(target, token, out);
                answer.send(link.as_ref().ok().copied()).ok();
                return link.map(drop);
            }
            Command::Accept { from, policy, out, answer } => {
                let link = self.node.accept(now_ms, policy);
                self.add(link, None, from.to_string(), out);
                answer.send(link).ok();
            }
            Command::Message { link, bytes } => {
                if let Some(open) = self.links.get_mut(&link) {
                    open.status.received += bytes.len() as u64;
                }
                return self.node.receive(now_ms, link, &bytes);
            }
            Command::Closed { link } => {
                // What came just before the end may say why it ended.
                self.act();
                self.node.closed(link);
                self.links.remove(&link);
            }
            Command::Connecting { target } => self.targets[target].phase = Phase::Connecting,
            Command::Waiting { target, ms, fault, refused } => {
                let status = &mut self.targets[target];
                (status.phase, status.fault, status.refused) = (Phase::Waiting { ms }, fault, refused);
            }
            Command::Fetching { target, done, total } => {
                self.targets[target].phase = Phase::Fetching { done, total };
            }
            Command::Adopt { target, file, cursor, answer } => {
                return self.adopt(target, &file, cursor, answer);
            }
            Command::Look => self.look(),
            Command::Flush { caught_up, answer } => {
                self.look();
                self.flushes.push((caught_up, answer));
            }
            Command::Present { topic, data, ttl_ms } => {
                return self.node.present(now_ms, &topic, &data, ttl_ms);
            }
            Command::Presence(answer) => {
                answer.send(self.node.presence(now_ms).cloned().collect()).ok();
            }
            Command::Compare(answer) => return self.compare(answer),
            Command::Stop(answer) => self.stopping = Some(answer),
        }
        Ok(())
    }

    fn dial(
        &mut self,
        target: usize,
        token: Option<String>,
        out: mpsc::UnboundedSender<Out>,
    ) -> Result<LinkId> {
        let to = &self.config.targets[target];
        let dial = Dial {
            peer: to.address.url().to_owned(),
            room: to.address.room().to_owned(),
            token,
            gossip: to.gossip,
        };
        let link = self.node.dial(self.now_ms(), dial)?;
        let name = self.targets[target].name.clone();
        self.add(link, Some(target), name, out);
        Ok(link)
    }

    fn adopt(
        &mut self,
        target: usize,
        file: &std::path::Path,
        cursor: Cursor,
        answer: oneshot::Sender<bool>,
    ) -> Result<()> {
        let peer = self.config.targets[target].address.url().to_owned();
        let adopted = self.node.adopt(self.now_ms(), file, &peer, cursor);
        let is_done = matches!(adopted, Ok(Adoption::Done | Adoption::BeganAgain(_)));
        if !is_done {
            // What can't be taken over now is replayed instead, which always works.
            self.node.take_snapshots(false);
        }
        answer.send(is_done).ok();
        match adopted? {
            Adoption::Done | Adoption::BeganAgain(_) => self.checkpoint(),
            Adoption::Declined(reason) => {
                self.targets[target].fault = Some(format!("no snapshot: {reason}"));
            }
        }
        Ok(())
    }

    /// Has the log taken into the file by a thread of its own: after a copy of a room it is as long as the file, and
    /// nobody should wait for it. If this fails, the next commit does it.
    fn checkpoint(&self) {
        let Some(path) = self.node.replica().connection().path().map(str::to_owned) else { return };
        std::thread::spawn(move || {
            if let Ok(conn) = Connection::open(path) {
                conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).ok();
            }
        });
    }

    fn add(&mut self, link: LinkId, target: Option<usize>, name: String, out: mpsc::UnboundedSender<Out>) {
        let (phase, dialed) = (Phase::Connecting, target.is_some());
        let status = LinkStatus { name, dialed, phase, fault: None, refused: false, received: 0, sent: 0 };
        self.links.insert(link, Open { target, out, status, to_come: VersionVector::default() });
    }

    fn look(&mut self) {
        let now = Instant::now();
        self.looks = LOOKS_MS.iter().map(|ms| now + Duration::from_millis(*ms)).collect();
    }

    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        let is_tick = now >= self.ticked + TICK;
        let is_look = self.looks.front().is_some_and(|due| *due <= now);
        while self.looks.front().is_some_and(|due| *due <= now) {
            self.looks.pop_front();
        }
        // Ticks look too: where the file can't be watched, and if the system forgot to say something.
        if is_look || is_tick {
            self.node.refresh(self.now_ms())?;
            self.error = None;
        }
        if is_tick {
            self.ticked = now;
            self.node.tick(self.now_ms())?;
        }
        self.node.flush(self.now_ms())
    }

    /// Carries out what the node wants.
    fn act(&mut self) {
        while let Some(action) = self.node.next_action() {
            match action {
                Action::Send { link, bytes } => {
                    if let Some(open) = self.links.get_mut(&link) {
                        open.status.sent += bytes.len() as u64;
                        open.out.send(Out::Message(bytes)).ok();
                    }
                }
                Action::Close { link, fault } => {
                    if let Some(open) = self.links.remove(&link) {
                        if let (Some(target), Some(fault)) = (open.target, &fault) {
                            self.targets[target].fault = Some(fault.to_string());
                        }
                        open.out.send(Out::Close(fault)).ok();
                    }
                }
                Action::Event(event) => self.event(event),
            }
        }
    }

    fn event(&mut self, event: Event) {
        match &event {
            Event::Ready { link, welcome } => {
                let held = self.node.replica().ledger().whole();
                if let Some(open) = self.links.get_mut(link) {
                    open.out.send(Out::Ready).ok();
                    if open.target.is_some() {
                        open.to_come =
                            welcome.held.as_ref().map(|theirs| theirs.difference(held)).unwrap_or_default();
                        open.status.phase = Phase::CatchingUp { done: 0, total: count(&open.to_come) };
                    } else {
                        open.status.phase = Phase::Live { flushed: true };
                    }
                }
                if let Some(target) = self.links.get(link).and_then(|open| open.target) {
                    self.targets[target].fault = None;
                }
            }
            Event::CaughtUp { link } => {
                if let Some(open) = self.links.get_mut(link) {
                    open.status.phase = Phase::Live { flushed: false };
                    open.to_come = VersionVector::default();
                }
            }
            Event::Snapshot { link, snapshot, epoch } => {
                if let Some(open) = self.links.get(link) {
                    open.out.send(Out::Snapshot(snapshot.clone(), *epoch)).ok();
                }
            }
            Event::Goaway { link, goaway } => {
                if let Some(open) = self.links.get(link) {
                    open.out.send(Out::Goaway(goaway.reconnect_ms, goaway.instead.clone())).ok();
                }
            }
            Event::Compared { link, comparable, differing } => {
                let name = self.links.get(link).map(|open| open.status.name.clone()).unwrap_or_default();
                if let Some((_, found, _)) = &mut self.comparison {
                    found.push(Compared { name, comparable: *comparable, differing: differing.clone() });
                }
            }
            _ => {}
        }
        self.events.send(event).ok();
    }

    fn compare(&mut self, answer: oneshot::Sender<Vec<Compared>>) -> Result<()> {
        let is_open = |(link, open): &(&LinkId, &Open)| open.target.is_some() && self.node.is_open(**link);
        let links: Vec<_> = self.links.iter().filter(is_open).map(|(link, _)| *link).collect();
        self.comparison = Some((links.len(), Vec::new(), answer));
        links.into_iter().try_for_each(|link| self.node.compare(self.now_ms(), link))
    }

    /// Answers those who wait, if what they wait for is true.
    fn answer(&mut self) {
        let is_news = !self.flushes.is_empty() && self.node.replica().has_news().unwrap_or(true);
        for (caught_up, answer) in std::mem::take(&mut self.flushes) {
            if !is_news && (0..self.targets.len()).all(|target| self.is_settled(target, caught_up)) {
                answer.send(()).ok();
            } else if !answer.is_closed() {
                self.flushes.push((caught_up, answer));
            }
        }
        if let Some((count, found, _)) = &self.comparison
            && found.len() >= (*count).min(self.links.len())
            && let Some((_, found, answer)) = self.comparison.take()
        {
            answer.send(found).ok();
        }
    }

    fn is_settled(&self, target: usize, caught_up: bool) -> bool {
        self.links.iter().any(|(link, open)| {
            let is_here = matches!(open.status.phase, Phase::Live { .. });
            open.target == Some(target) && self.node.is_flushed(*link) && (is_here || !caught_up)
        })
    }

    fn publish(&self) {
        let replica = self.node.replica();
        let whole = replica.ledger().whole();
        let own = whole.of_site(replica.site()).and_then(|own| own.max()).unwrap_or(0);
        let mut links = self.targets.clone();
        for (link, open) in &self.links {
            let mut status = open.status.clone();
            match &mut status.phase {
                Phase::CatchingUp { done, total } => {
                    *done = total.saturating_sub(count(&open.to_come.difference(whole)));
                }
                Phase::Live { flushed } if status.dialed => *flushed = self.node.is_flushed(*link),
                _ => {}
            }
            match open.target {
                Some(target) => {
                    status.fault = links[target].fault.take();
                    links[target] = status;
                }
                None => links.push(status),
            }
        }
        let (site, held) = (replica.site(), count(whole));
        let unconfirmed = own.saturating_sub(replica.acked());
        let status = Status { site, held, unconfirmed, links, error: self.error.clone() };
        self.publish.send_if_modified(|known| {
            let is_new = *known != status;
            if is_new {
                *known = status;
            }
            is_new
        });
    }
}

fn count(versions: &VersionVector) -> u64 {
    versions.ranges().map(|(_, lo, hi)| hi - lo + 1).sum()
}
