//! A replica with its connections, as a state machine without I/O.
//!
//! Whoever drives it owns the transports and a clock. It says what happened ([`Node::dial`], [`Node::accept`],
//! [`Node::receive`], [`Node::closed`], [`Node::refresh`], [`Node::tick`]), calls [`Node::flush`] when nothing more is
//! waiting, and carries out the [`Action`]s. What arrives between two flushes is one transaction of the database, so
//! a busy node pays for one fsync and not for thousands; nothing is acknowledged before the flush. Until then a
//! transaction is open on the connection, so flush before writing through the same connection.
//!
//! ```
//! use std::rc::Rc;
//! use crsql_client::node::{Action, Dial, Node, Policy};
//! use crsql_client::replica::{Options, Replica};
//! use rusqlite::Connection;
//!
//! fn node() -> Node {
//!     let conn = Rc::new(Connection::open_in_memory().unwrap());
//!     let replica = Replica::open(conn.clone(), Options { passes_on: true, ..Options::default() }).unwrap();
//!     conn.execute_batch("CREATE TABLE todo (id INTEGER PRIMARY KEY, title); SELECT crsql_as_crr('todo')").unwrap();
//!     Node::new(replica)
//! }
//!
//! /// Carries messages over; `link` is the receiver's end.
//! fn carry(from: &mut Node, to: &mut Node, link: u64) -> bool {
//!     from.flush(1).unwrap();
//!     let mut moved = false;
//!     while let Some(action) = from.next_action() {
//!         if let Action::Send { bytes, .. } = action {
//!             to.receive(1, link, &bytes).unwrap();
//!             moved = true;
//!         }
//!     }
//!     moved
//! }
//!
//! let (mut a, mut b) = (node(), node());
//! a.replica().connection().execute_batch("INSERT INTO todo VALUES (1, 'milk')").unwrap();
//! a.refresh(0).unwrap();
//! let to_b = a.dial(0, Dial { peer: "b".into(), room: "demo".into(), token: None, gossip: true }).unwrap();
//! let from_a = b.accept(0, Policy { room: "demo".into(), token: None });
//! while carry(&mut a, &mut b, from_a) | carry(&mut b, &mut a, to_b) {}
//! assert!(a.is_flushed(to_b));
//! let title: String = b.replica().connection().query_row("SELECT title FROM todo", [], |row| row.get(0)).unwrap();
//! assert_eq!(title, "milk");
//! ```

mod event;
mod work;

pub use event::Event;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::compare::Comparison;
use crsql_protocol::message::{Ack, Presence, features};
use crsql_protocol::presence::Room;
use crsql_protocol::session::{Config, Input, Output};
use crsql_protocol::wire::Blob;
use crsql_protocol::{Code, Fault, Session};

use crate::Result;
use crate::replica::{Cut, Fill, Folded, Replica, Snapshot, pack};

/// A connection of a node; never used twice.
pub type LinkId = u64;

/// How often gaps are asked for again, in milliseconds.
const WANT_MS: u64 = 10_000;

/// How often what others confirmed is written down, in milliseconds.
const ACKED_MS: u64 = 5_000;

/// So many bytes are taken in before a transaction ends whatever else is waiting.
const BATCH_BYTES: usize = 8 << 20;

/// What a node wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send these bytes as one message.
    Send {
        /// On this connection.
        link: LinkId,
        /// The message, shared with other connections that get the same.
        bytes: Arc<[u8]>,
    },
    /// Close this connection once everything before is sent. The node has forgotten it.
    Close {
        /// The connection.
        link: LinkId,
        /// Why, if there is a reason worth telling.
        fault: Option<Fault>,
    },
    /// Something worth knowing.
    Event(Event),
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Names the acceptor and its room among the stored cursors: its URL, without secrets.
    pub peer: String,
    /// The room it is asked for.
    pub room: String,
    /// What proves that we may.
    pub token: Option<String>,
    /// Pass on what others wrote: to peers, and between several relays.
    pub gossip: bool,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The room that must be asked for.
    pub room: String,
    /// The token that must be shown, if one must.
    pub token: Option<String>,
}

/// A replica and its connections. See the [module](self).
pub struct Node {
    replica: Replica,
    links: BTreeMap<LinkId, Link>,
    last_link: LinkId,
    actions: VecDeque<Action>,
    work: VecDeque<Work>,
    promises: Vec<(LinkId, Promise)>,
    /// What arrived while a transaction of the application was open on the connection.
    inbox: VecDeque<(LinkId, Vec<u8>)>,
    batch_bytes: usize,
    presence: Room,
    presence_count: u64,
    /// Another history of our site was met.
    forked: bool,
    wanted_ms: u64,
    acked_ms: u64,
    takes_snapshots: bool,
}

#[derive(Debug)]
struct Link {
    session: Session,
    side: Side,
    cut: Cut,
    fill: Option<Fill>,
    /// Own versions that the other side has and we lost. Writing one of them anew is a fork.
    lost: VersionVector,
    /// The epoch of the acceptor, from its Welcome.
    epoch: u64,
    comparison: Option<(Comparison, bool)>,
    /// Tells which deletes the acceptor has collected; taken over once all that it had is here.
    collected: Option<Vec<u8>>,
    /// Everything that the acceptor had at the handshake is here.
    is_caught_up: bool,
    /// It refused what does not tell as much.
    is_refused: bool,
    /// Its history of our site is another one.
    is_fork: bool,
}

#[derive(Clone, Debug)]
enum Side {
    /// The name of its cursor.
    Dialed(String),
    Accepted(Policy),
}

/// What a session wants, with the bytes behind an [`Output::SendLive`].
type Work = (LinkId, Output, Option<Arc<[u8]>>);

/// What to say once the batch is durable.
#[derive(Debug)]
enum Promise {
    Stored(Ack),
    Applied(u64),
}

impl Node {
    /// A node without connections.
    pub fn new(replica: Replica) -> Node {
        Node {
            replica,
            links: BTreeMap::new(),
            last_link: 0,
            actions: VecDeque::new(),
            work: VecDeque::new(),
            promises: Vec::new(),
            inbox: VecDeque::new(),
            batch_bytes: 0,
            presence: Room::default(),
            presence_count: 0,
            forked: false,
            wanted_ms: 0,
            acked_ms: 0,
            takes_snapshots: false,
        }
    }

    /// The replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether acceptors may offer a snapshot from now on; not at first. Who says so must be able to fetch it.
    pub fn take_snapshots(&mut self, takes: bool) {
        self.takes_snapshots = takes;
    }

    /// Takes over everything from a snapshot file that was offered by `peer`; see [`Replica::adopt`]. All connections
    /// end; dial again, whatever came of it.
    ///
    /// # Errors
    /// The store's. Nothing was changed then.
    #[cfg(feature = "tokio")]
    pub fn adopt(
        &mut self,
        now_ms: u64,
        snapshot: &std::path::Path,
        peer: &str,
        cursor: crsql_protocol::message::Cursor,
    ) -> Result<crate::replica::Adoption> {
        self.end_for_snapshot(now_ms)?;
        let before = self.replica.ledger().whole().clone();
        let adopted = self.replica.adopt(snapshot, peer, cursor)?;
        if let crate::replica::Adoption::BeganAgain(report) = &adopted {
            self.event(Event::BeganAgain { report: report.clone() });
        }
        let versions = self.replica.ledger().whole().difference(&before);
        if !versions.is_empty() {
            self.event(Event::Adopted { versions });
        }
        Ok(adopted)
    }

    /// The half of taking over a snapshot that needs this node; for whoever has no second connection to the file while
    /// the first one is open. All connections end. Without an error, drop the node, close its connection, let
    /// [`Folded::exchange`] do the rest through another one, and begin anew.
    ///
    /// # Errors
    /// The store's. Nothing was changed then.
    pub fn fold(&mut self, now_ms: u64, snapshot: Snapshot) -> Result<std::result::Result<Folded, String>> {
        self.end_for_snapshot(now_ms)?;
        self.replica.fold(snapshot, self.replica.connection())
    }

    fn end_for_snapshot(&mut self, now_ms: u64) -> Result<()> {
        self.flush(now_ms)?;
        let detail = "a snapshot takes the place of this database: connect again";
        self.fail_links(now_ms, |_| true, Code::LOST, detail);
        self.run(now_ms)
    }

    /// The next thing to do, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A transport to an acceptor is open: says hello.
    ///
    /// # Errors
    /// The store's; the connection should be closed and tried again later.
    pub fn dial(&mut self, now_ms: u64, dial: Dial) -> Result<LinkId> {
        // What is durable here counts, so that the versions and the chain in Hello are of one moment.
        self.refresh(now_ms)?;
        self.flush(now_ms)?;
        let Dial { peer, room, token, gossip } = dial;
        let local = self.replica.local(&peer, &room, token)?;
        let session = Session::dial(self.config(gossip));
        let link = self.add(session, Side::Dialed(peer));
        self.drive(now_ms, link, Input::Open(Box::new(local)), None);
        self.run(now_ms)?;
        Ok(link)
    }

    /// Somebody connected.
    pub fn accept(&mut self, _now_ms: u64, policy: Policy) -> LinkId {
        let session = Session::accept(self.config(true));
        self.add(session, Side::Accepted(policy))
    }

    /// A message arrived.
    ///
    /// # Errors
    /// The store's, such as a full disk. All that was not flushed is undone then and the connections are closed.
    pub fn receive(&mut self, now_ms: u64, link: LinkId, message: &[u8]) -> Result<()> {
        if self.replica.is_busy() {
            self.inbox.push_back((link, message.to_vec()));
            return Ok(());
        }
        self.take_inbox(now_ms)?;
        self.take_message(now_ms, link, message)
    }

    /// A transport was closed.
    pub fn closed(&mut self, link: LinkId) {
        self.remove(link);
    }

    /// Ends a connection for a reason.
    ///
    /// # Errors
    /// The store's.
    pub fn close(&mut self, now_ms: u64, link: LinkId, fault: Fault) -> Result<()> {
        self.drive(now_ms, link, Input::Fail(fault), None);
        self.run(now_ms)
    }

    /// Looks for local commits, by whatever connection or process, and offers them. Cheap if there are none.
    ///
    /// # Errors
    /// The store's.
    pub fn refresh(&mut self, now_ms: u64) -> Result<()> {
        if self.replica.is_busy() {
            return Ok(());
        }
        self.take_inbox(now_ms)?;
        let news = self.replica.has_news();
        if self.store(now_ms, news)? {
            let begun = self.replica.begin();
            self.store(now_ms, begun)?;
        }
        self.flush(now_ms)
    }

    /// Makes durable what was taken in and says so to whom it concerns.
    ///
    /// # Errors
    /// The store's. All of it is undone then and the connections are closed; they can be dialed again.
    pub fn flush(&mut self, now_ms: u64) -> Result<()> {
        self.commit(now_ms)?;
        self.run(now_ms)
    }

    /// Time passed; once a second is enough.
    ///
    /// # Errors
    /// The store's.
    pub fn tick(&mut self, now_ms: u64) -> Result<()> {
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in &links {
            self.drive(now_ms, *link, Input::Tick, None);
        }
        if now_ms.saturating_sub(self.wanted_ms) >= WANT_MS {
            self.wanted_ms = now_ms;
            let gaps = self.replica.ledger().gaps();
            for link in links.into_iter().filter(|_| !gaps.is_empty()) {
                self.drive(now_ms, link, Input::Want(gaps.clone()), None);
            }
        }
        for (site, topic) in self.presence.expire(now_ms) {
            self.event(Event::Left { site, topic });
        }
        self.run(now_ms)?;
        let has_waited = now_ms.saturating_sub(self.acked_ms) >= ACKED_MS;
        if self.replica.is_busy() || !has_waited {
            return Ok(());
        }
        self.acked_ms = now_ms;
        // Whoever writes to the file at this moment makes it fail, and it is tried again.
        self.flush(now_ms)?;
        self.replica.collect().ok();
        let tidied = self.tidy(now_ms);
        let expired = self.store(now_ms, tidied)?;
        self.flush(now_ms)?;
        if expired {
            // The journals lie before what was dropped.
            self.fail_links(now_ms, |_| true, Code::LOST, "incomplete transactions were given up");
            self.run(now_ms)?;
        }
        Ok(())
    }

    /// Says something for `ttl_ms` to everybody who is connected, in the room: a cursor, a name, "is typing". At most
    /// 4 KiB; a lifetime of 0 takes it back.
    ///
    /// # Errors
    /// The store's.
    pub fn present(&mut self, now_ms: u64, topic: &str, data: &[u8], ttl_ms: u64) -> Result<()> {
        self.presence_count = now_ms.max(self.presence_count + 1);
        let (site, topic, data) = (self.replica.site(), topic.to_owned(), Blob(data.to_vec()));
        let presence = Presence { site, topic, count: self.presence_count, ttl_ms, data };
        if self.presence.put(now_ms, &presence) {
            self.pass_on(now_ms, &presence, None);
        }
        self.run(now_ms)
    }

    /// What is being said: by site and topic.
    pub fn presence(&self, now_ms: u64) -> impl Iterator<Item = &Presence> {
        self.presence.at(now_ms)
    }

    /// Compares the data behind a connection with ours, down to the row, and repairs what differs by merging both
    /// sides' facts. The result comes as [`Event::Compared`].
    ///
    /// # Errors
    /// The store's.
    pub fn compare(&mut self, now_ms: u64, link: LinkId) -> Result<()> {
        let (comparison, question) = Comparison::begin(now_ms);
        if let Some(link) = self.links.get_mut(&link) {
            link.comparison = Some((comparison, true));
        }
        self.drive(now_ms, link, Input::Ask(question), None);
        self.run(now_ms)
    }

    /// Whether the handshake of a connection is done.
    pub fn is_open(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.session.is_open())
    }

    /// Whether everything known here is known to be durable behind a dialed connection.
    pub fn is_flushed(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.session.is_flushed())
    }

    fn config(&self, gossip: bool) -> Config {
        let mut config = Config { limits: *self.replica.limits(), ..Config::default() };
        config.features |= pack::FEATURES;
        if gossip {
            config.features |= features::GOSSIP;
        }
        if !self.takes_snapshots {
            config.features &= !features::SNAPSHOT;
        }
        config
    }

    fn add(&mut self, session: Session, side: Side) -> LinkId {
        self.last_link += 1;
        let link = Link {
            session,
            side,
            cut: Cut::default(),
            fill: None,
            lost: VersionVector::default(),
            epoch: 0,
            comparison: None,
            collected: None,
            is_caught_up: false,
            is_refused: false,
            is_fork: false,
        };
        self.links.insert(self.last_link, link);
        self.last_link
    }

    fn remove(&mut self, link: LinkId) {
        if let Some(removed) = self.links.remove(&link) {
            self.replica.forget_cut(link, &removed.cut);
            if let Some(fill) = &removed.fill {
                self.replica.forget_fill(fill);
            }
        }
        self.promises.retain(|(of, _)| *of != link);
        self.work.retain(|(of, ..)| *of != link);
        self.inbox.retain(|(of, _)| *of != link);
    }

    fn event(&mut self, event: Event) {
        self.actions.push_back(Action::Event(event));
    }

    fn own_site(&self) -> SiteId {
        self.replica.site()
    }
}
