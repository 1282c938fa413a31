//! A room: one replicated database, its journal, and everybody who is connected with it.
//!
//! There is no task per room. What changes it takes its lock for as long as it takes to record a push, and hands the
//! rest to the journal; what the journal made durable is told to the readers from there.

pub mod check;
mod collect;
mod cut;
mod join;
mod read;
mod recent;
mod recover;
mod registry;
mod state;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::holdings::Needs;
use crsql_protocol::message::{Ack, Cursor, DigestRequest, DigestResponse, Names, Presence};
use crsql_protocol::wire::{Chain, Fingerprint};
use crsql_protocol::{Code, Fault, presence};
use tokio::sync::{broadcast, watch};

pub use cut::Cuts;
pub use join::escaped;
pub use read::{Answer, Progress, Sought};
pub use recent::Live;
pub use registry::{Rooms, unavailable};
pub use state::{Author, Checked};

use crate::context::Context;
use crate::journal::{Append, Appended, JournalError, Listener, Opened, RoomKey, Trimmed};
use crate::store::{self, Store};
use collect::Collector;
use recent::Recent;
use state::{Outcome, State};

/// Presence messages that a reader may lag behind before it misses some.
const PRESENCE_QUEUE: usize = 64;

/// In a small room it does not matter how many rows are deleted ones.
const TOMBSTONES_MIN: u64 = 1000;

/// How often a journal is looked at to be trimmed.
const TRIM_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// By which part it has to be too long for it.
const TRIM_PART: u64 = 4;

/// What the readers of a room wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The last position that is durable.
    pub head: u64,
    /// The room must be opened again: its memory can't be trusted.
    pub failed: bool,
}

/// A room.
pub struct Room {
    /// Itself, for work that outlives the caller.
    me: Weak<Room>,
    /// Its name.
    pub name: String,
    /// Its place in the journal.
    pub key: RoomKey,
    /// The epoch of its journal.
    pub epoch: u64,
    /// How its databases decide ties.
    pub tie_break: u8,
    /// Connections in it.
    pub connections: AtomicUsize,
    /// Its database.
    pub store: Arc<Store>,
    context: Arc<Context>,
    floor: AtomicU64,
    trim: Mutex<Option<tokio::time::Instant>>,
    /// When it was looked for deleted rows.
    looked: Mutex<Instant>,
    state: Mutex<State>,
    recent: Recent,
    signal: watch::Sender<Signal>,
    presence: Mutex<Present>,
    present: broadcast::Sender<Arc<(u64, Presence)>>,
    idle_since: Mutex<Instant>,
    collector: Collector,
}

#[derive(Default)]
struct Present {
    values: presence::Room,
    /// Connections by site.
    sites: HashMap<SiteId, usize>,
}

impl Room {
    fn new(name: &str, opened: &Opened, context: Arc<Context>) -> Arc<Room> {
        let state = State::new(opened, context.settings.limits(), &context.settings, context.now_ms());
        let store = Store::new(&context, name, opened.key, opened.head.epoch, opened.tie_break);
        let room = Arc::new_cyclic(|me| Room {
            me: me.clone(),
            store,
            name: name.into(),
            key: opened.key,
            epoch: opened.head.epoch,
            tie_break: opened.tie_break,
            connections: AtomicUsize::new(0),
            floor: AtomicU64::new(opened.floor),
            trim: Mutex::default(),
            looked: Mutex::new(Instant::now()),
            state: Mutex::new(state),
            recent: Recent::default(),
            signal: watch::Sender::new(Signal { head: opened.head.pos, failed: false }),
            presence: Mutex::default(),
            present: broadcast::Sender::new(PRESENCE_QUEUE),
            idle_since: Mutex::new(Instant::now()),
            collector: Collector::default(),
            context,
        });
        let listener: Arc<dyn Listener> = room.clone();
        room.context.journal.subscribe(room.key, Arc::downgrade(&listener));
        if opened.head.pos > 0 {
            room.store.wake();
        }
        room
    }

    /// Tells of every change of the head.
    pub fn signal(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// The last durable position.
    pub fn head(&self) -> Cursor {
        Cursor { epoch: self.epoch, pos: self.signal.borrow().head }
    }

    /// The least position after which the journal has everything.
    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Whether some of these versions of a site are held whole.
    fn holds_any(&self, site: SiteId, versions: &RangeSet) -> bool {
        let state = self.lock();
        let held = state.ledger.whole().of_site(site);
        held.is_some_and(|held| versions.difference(held) != *versions)
    }

    /// What is held whole.
    pub fn held(&self) -> VersionVector {
        self.lock().ledger.whole().clone()
    }

    /// What is missing between versions that are held.
    pub fn gaps(&self) -> Needs {
        self.lock().ledger.gaps()
    }

    /// What was appended after a position, as far as it is kept in memory.
    pub fn recent(&self, after: u64) -> Vec<Arc<Live>> {
        self.recent.after(after)
    }

    /// The names that a reader lacks who was told so many.
    pub fn names(&self, told: u32) -> Option<Names> {
        self.recent.names(told)
    }

    /// Records a push and has it made durable. `reply` is called then, from another thread.
    pub fn push(
        self: &Arc<Self>,
        origin: u64,
        push: Checked,
        author: &mut Author<'_>,
        known: &HashMap<(SiteId, u64), Chain>,
        reply: impl FnOnce(Result<Ack, Fault>) + Send + 'static,
    ) {
        let metrics = &self.context.metrics;
        metrics.large_cells.add(push.large_cells);
        let mut state = self.lock();
        if state.failed {
            drop(state);
            return reply(Err(failed()));
        }
        let mut outcome = state.record(self.context.now_ms(), push, author, known);
        let ack = outcome.ack.take().unwrap_or_else(|| unreachable!("record answers every push"));
        metrics.frames_in.add(outcome.items.len() as u64);
        metrics.frames_known.add(outcome.known);
        ack.rejected.iter().for_each(|rejected| metrics.reject(rejected.code));
        if outcome.items.is_empty() && state.pending == 0 {
            // Nothing new, and all that was known is durable.
            drop(state);
            return reply(Ok(ack));
        }
        self.append(&mut state, outcome, origin, |done| reply(done.map(|()| ack)));
    }

    /// Hands something to the journal. Under the lock of the state, so that appends come in the order of their
    /// positions.
    fn append(
        self: &Arc<Self>,
        state: &mut State,
        outcome: Outcome,
        origin: u64,
        reply: impl FnOnce(Result<(), Fault>) + Send + 'static,
    ) {
        let Outcome { items, holdings, settled, .. } = outcome;
        let after = state.pos;
        state.pos += items.len() as u64;
        state.pending += 1;
        let room = self.clone();
        let done = Box::new(move |done| reply(room.done(done)));
        self.context.journal.append(Append { room: self.key, after, items, holdings, settled, origin, done });
    }

    /// Merges the facts of rows that differ at a client into the room's database, if its author may write them. What
    /// it may not is left out without harm: whoever may will find the same difference.
    pub fn repair(
        self: &Arc<Self>,
        push: Checked,
        author: &mut Author<'_>,
        reply: impl FnOnce(Result<Ack, Fault>) + Send + 'static,
    ) {
        let judged = self.lock().judge_repair(self.context.now_ms(), &push, author);
        let ack = Ack { id: push.id, pos: 0, held: VersionVector::default(), rejected: Vec::new() };
        if let Err(code) = judged {
            self.context.metrics.reject(code);
            return reply(Ok(ack));
        }
        self.context.metrics.repairs.add(push.deltas.len() as u64);
        let name = self.name.clone();
        self.store.run(move |store| {
            if let Err(error) = store.merge(&push.deltas) {
                tracing::error!(room = name, %error, "rows cannot be put right");
            }
            reply(Ok(ack));
        });
    }

    /// Versions of a push that are held already and are not the last of their sites: only the journal knows their
    /// chains.
    pub fn older(&self, push: &Checked) -> Vec<(SiteId, u64)> {
        let state = self.lock();
        let whole = state.ledger.whole();
        let names = push.frames.iter().map(|(frame, _)| (frame.site, frame.site_version));
        names
            .filter(|(site, version)| {
                whole.contains(*site, *version) && state.ledger.head(*site).version != *version
            })
            .collect()
    }

    /// Calls back when everything recorded so far is durable.
    fn barrier(self: &Arc<Self>, state: &mut State, reply: impl FnOnce(Result<(), Fault>) + Send + 'static) {
        self.append(state, Outcome::default(), 0, reply);
    }

    /// Digests of the room's database, with the fingerprint of what was held at that moment. Where so much comes in
    /// that the database never stands still, it is zeros, which are equal to nobody's.
    pub async fn digests(self: &Arc<Self>, request: DigestRequest) -> Result<DigestResponse, Fault> {
        let id = request.id;
        for _ in 0..5 {
            let asked = request.clone();
            let (pos, entries) =
                self.store.ask(move |connection, pos| Ok((pos, store::digests(connection, &asked)?))).await?;
            if let Some(held_fingerprint) = self.fingerprint_at(pos) {
                return Ok(DigestResponse { id, held_fingerprint, entries });
            }
        }
        Ok(DigestResponse { id, held_fingerprint: Fingerprint::default(), entries: Vec::new() })
    }

    /// The fingerprint of what is held, if the journal ends here.
    pub fn fingerprint_at(&self, pos: u64) -> Option<Fingerprint> {
        let state = self.lock();
        (state.pos == pos && state.pending == 0).then(|| state.ledger.fingerprint())
    }

    /// Gives up chunks that waited too long.
    pub fn expire(self: &Arc<Self>) {
        let mut state = self.lock();
        let settled = state.expire(self.context.now_ms());
        self.lock_presence().values.expire(self.context.now_ms());
        if settled.is_empty() || state.failed {
            return;
        }
        self.context.metrics.given_up.add(settled.len() as u64);
        self.append(&mut state, Outcome { settled, ..Outcome::default() }, 0, drop);
    }

    /// Looks now and then how many of its rows are deleted ones, and collects those that no member needs any more.
    pub fn look_at_tombstones(self: &Arc<Self>) {
        let settings = &self.context.settings;
        let interval = settings.tombstone_interval.duration();
        let mut looked = self.looked.lock().unwrap_or_else(|e| e.into_inner());
        if looked.elapsed() < interval || self.head().pos == 0 {
            return;
        }
        *looked = Instant::now();
        if self.collects() {
            let room = self.clone();
            tokio::spawn(async move {
                if let Err(fault) = room.collect().await {
                    tracing::warn!(room = room.name, %fault, "deletes cannot be collected now");
                }
            });
        }
        let (room, share) = (self.clone(), settings.tombstone_share);
        self.store.run(move |store| {
            let Ok((rows, tombstones)) = store.rows_and_tombstones() else { return };
            let is_much = tombstones.saturating_mul(100) > share.saturating_mul(rows + tombstones);
            if rows + tombstones >= TOMBSTONES_MIN && is_much {
                room.context.metrics.tombstone_alarms.add(1);
                tracing::warn!(room = room.name, rows, tombstones, "most rows of the room are deleted ones");
            }
        });
    }

    /// Takes bytes out of what the room may receive per second.
    pub fn admit_bytes(&self, bytes: u64) -> bool {
        let now_ms = self.context.now_ms();
        self.lock().rate.take(now_ms, bytes)
    }

    /// Whether nobody is connected and nothing is on its way, and for how long.
    pub fn idle(&self) -> Option<std::time::Duration> {
        let busy = self.connections.load(Ordering::Relaxed) > 0 || self.lock().pending > 0;
        let mut since = self.idle_since.lock().unwrap_or_else(|e| e.into_inner());
        if busy {
            *since = Instant::now();
            return None;
        }
        Some(since.elapsed())
    }

    /// Whether it must be opened again.
    pub fn has_failed(&self) -> bool {
        self.signal.borrow().failed
    }

    /// Takes a presence value in and tells it to the others.
    pub fn say(&self, origin: u64, presence: Presence) {
        if self.lock_presence().values.put(self.context.now_ms(), &presence) {
            self.present.send(Arc::new((origin, presence))).ok();
        }
    }

    /// A site is connected: what is being said, and what will be.
    pub fn enter(&self, site: SiteId) -> (Vec<Presence>, broadcast::Receiver<Arc<(u64, Presence)>>) {
        let mut present = self.lock_presence();
        *present.sites.entry(site).or_default() += 1;
        let values = present.values.at(self.context.now_ms()).cloned().collect();
        (values, self.present.subscribe())
    }

    /// A connection of a site ended; after the last one, what it said is taken back.
    pub fn leave(&self, site: SiteId) {
        let mut present = self.lock_presence();
        let count = present.sites.entry(site).or_insert(1);
        *count -= 1;
        if *count > 0 {
            return;
        }
        present.sites.remove(&site);
        let said: Vec<Presence> =
            present.values.at(self.context.now_ms()).filter(|value| value.site == site).cloned().collect();
        present.values.leave(site);
        drop(present);
        for value in said {
            let gone = Presence { count: value.count + 1, ttl_ms: 0, data: Default::default(), ..value };
            self.present.send(Arc::new((0, gone))).ok();
        }
    }

    fn done(&self, done: Result<(), JournalError>) -> Result<(), Fault> {
        let mut state = self.lock();
        state.pending -= 1;
        done.map_err(|error| {
            state.failed = true;
            drop(state);
            tracing::error!(room = self.name, %error, "the room is closed and will be opened again");
            self.signal.send_modify(|signal| signal.failed = true);
            failed()
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn lock_presence(&self) -> MutexGuard<'_, Present> {
        self.presence.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Room {
    /// Has the journal forget what the database has, if it grew beyond what is kept; not all the time.
    fn trim(&self) {
        let keep = self.context.settings.journal_keep.0;
        let mut last = self.trim.lock().unwrap_or_else(|e| e.into_inner());
        let is_due = last.is_none_or(|last| last.elapsed() >= TRIM_EVERY);
        if !is_due || self.lock().bytes <= keep.saturating_add(keep / TRIM_PART) {
            return;
        }
        *last = Some(tokio::time::Instant::now());
        let Some(room) = self.me.upgrade() else { return };
        self.store.run(move |store| while room.trim_some(store, keep) {});
    }

    /// One step of it. Whether there is more to do.
    fn trim_some(&self, store: &Store, keep: u64) -> bool {
        match store.trim(keep) {
            Ok(Some(Trimmed { floor, freed, more })) => {
                self.floor.fetch_max(floor, Ordering::AcqRel);
                let mut state = self.lock();
                state.bytes = state.bytes.saturating_sub(freed);
                state.stored = store.bytes();
                drop(state);
                self.context.metrics.trimmed_bytes.add(freed);
                more
            }
            Ok(None) => false,
            Err(error) => {
                tracing::error!(room = self.name, %error, "the journal cannot be trimmed");
                false
            }
        }
    }
}

impl Listener for Room {
    fn appended(&self, appended: Appended) {
        let settings = &self.context.settings;
        let head = appended.upto;
        self.recent.push(appended, settings.message_bytes.bytes(), settings.raw_bytes.bytes());
        self.signal.send_modify(|signal| signal.head = head);
        self.store.wake();
        self.trim();
    }
}

fn failed() -> Fault {
    let detail = "the room cannot be written to at the moment: connect again later";
    Fault { retry_after_ms: 1000, ..Fault::new(Code::UNAVAILABLE, detail) }
}
