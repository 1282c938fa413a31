//! The relay's own asynchronous code in a world where time, threads, disks and dice follow from a seed.
//!
//! Everything runs on one thread with tokio's paused clock: the HTTP server, the WebSockets, connections, rooms, the
//! journal. Sockets are pipes in memory, what threads do is done by tasks that take a while, and a crash lets whatever
//! was not committed never happen. Clients write, connect and go as the dice say; relays are killed and restored from
//! old copies. Afterwards everybody is connected and must come to hold the same.
//!
//! `CRSQL_SIM_SEEDS=10000` for a long run, `CRSQL_SIM_FROM` to replay one.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Event;
use tokio::io::DuplexStream;
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::auth::Auth;
use crate::context::Context;
use crate::journal::{Append, Journal, Local, SharedJournal};
use crate::listener::{self, Counts, Peer};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::room::Rooms;
use crate::room::check::Checker;
use crate::{http, random, store};
use support::{Client, Device, Options, settings};

#[path = "../tests/support/mod.rs"]
mod support;

/// Devices that write.
const DEVICES: u8 = 3;

/// Things that happen before everybody is left in peace.
const STEPS: u64 = 70;

/// How long everybody may take to hold the same then, in simulated time.
const PEACE: Duration = Duration::from_secs(600);

thread_local! {
    static CURRENT: RefCell<Option<Life>> = const { RefCell::new(None) };
}

/// The life of one relay: when it is over, nothing of it happens any more.
#[derive(Clone, Debug, Default)]
pub struct Life(Arc<AtomicBool>);

impl Life {
    /// That of the relay that is being made on this thread.
    pub fn current() -> Option<Life> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Whether it was killed.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// As long as a disk or a busy thread may take.
    pub async fn pause(&self) {
        tokio::time::sleep(Duration::from_micros(random::below(3000))).await;
    }
}

/// A rule broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// Acknowledged before it is durable.
    EarlyAck,
    /// A restored journal keeps its epoch.
    OldEpoch,
}

/// A journal that breaks a rule.
struct Broken {
    journal: Local,
    mutant: Mutant,
    epoch: u64,
}

macro_rules! passed_on {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($arg: $ty),*) -> $result { self.journal.$name($($arg),*) })*
    };
}

use crate::journal::{Entry, Found, Holding, JournalError, Listener, Opened, RoomKey, Trimmed};
use crsql_core::ids::SiteId;
use crsql_protocol::message::{Cursor, Head};
use crsql_protocol::wire::Chain;

impl Journal for Broken {
    passed_on! {
        rooms() -> Result<Vec<String>, JournalError>;
        subscribe(room: RoomKey, listener: std::sync::Weak<dyn Listener>) -> ();
        read(room: RoomKey, after: u64, bytes: u64) -> Result<Vec<Entry>, JournalError>;
        head(room: RoomKey) -> Result<u64, JournalError>;
        trim(room: RoomKey, upto: u64, keep_bytes: u64) -> Result<Trimmed, JournalError>;
        restart(room: RoomKey, holdings: Vec<Holding>) -> Result<(), JournalError>;
        restore(room: RoomKey, holdings: Vec<Holding>) -> Result<Cursor, JournalError>;
        find(room: RoomKey, site: SiteId, lo: u64, hi: u64, bytes: u64) -> Result<Found, JournalError>;
        chain(room: RoomKey, site: SiteId, version: u64) -> Result<Option<Chain>, JournalError>;
        chains_upto(room: RoomKey, site: SiteId, version: u64) -> Result<Vec<Head>, JournalError>;
        is_sound() -> bool;
        close() -> ();
    }

    fn open(&self, room: &str, create: Option<u8>) -> Result<Option<Opened>, JournalError> {
        let mut opened = self.journal.open(room, create)?;
        if let (Mutant::OldEpoch, Some(opened)) = (self.mutant, &mut opened) {
            opened.head.epoch = self.epoch;
        }
        Ok(opened)
    }

    fn append(&self, mut append: Append) {
        if self.mutant == Mutant::EarlyAck {
            let done = std::mem::replace(&mut append.done, Box::new(drop));
            // From another task, as a journal does.
            tokio::spawn(async move { done(Ok(())) });
        }
        self.journal.append(append);
    }
}

/// A relay.
struct Sim {
    life: Life,
    context: Arc<Context>,
    rooms: Arc<Rooms>,
    router: Router,
    counts: Arc<Counts>,
}

impl Sim {
    fn start(directory: &Path, keep: &str, mutant: Option<Mutant>) -> Sim {
        let life = Life::default();
        CURRENT.set(Some(life.clone()));
        let settings = settings(directory, |flags| flags.journal_keep = Some(keep.into()));
        std::fs::create_dir_all(&settings.data).unwrap();
        let metrics = Arc::new(Metrics::default());
        let local = Local::open(&settings.data, 1, false, metrics.clone()).unwrap();
        let journal: SharedJournal = match mutant {
            Some(mutant) => Arc::new(Broken { journal: local, mutant, epoch: 42 }),
            None => Arc::new(local),
        };
        let context = Arc::new(Context {
            readers: Pool::task(life.clone()),
            materialisers: Pool::task(life.clone()),
            queue: Arc::new(Semaphore::new(settings.journal_queue.bytes())),
            checker: Checker::new(&settings),
            drain: watch::Sender::new(false),
            handshakes: Arc::new(Semaphore::new(settings.handshakes)),
            next_id: AtomicU64::new(1),
            started: tokio::time::Instant::now(),
            auth: Auth::new(&settings).unwrap(),
            journal,
            metrics,
            settings: Arc::new(settings),
        });
        let rooms = Arc::new(Rooms::new(context.clone()));
        let router = http::router(rooms.clone());
        CURRENT.set(None);
        Sim { life, context, rooms, router, counts: Arc::default() }
    }

    async fn connect(&self, device: Device) -> Client<DuplexStream> {
        let (near, far) = tokio::io::duplex(1 << (9 + random::below(9)));
        let (router, context) = (self.router.clone(), self.context.clone());
        let peer = Peer::admit("127.0.0.1:1".parse().unwrap(), &self.counts, &context).unwrap();
        tokio::spawn(async move { listener::http(far, peer, router, &context).await });
        let mut request = "ws://relay/v1/rooms/demo/sync".into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "crsql-sync.v1".parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, near).await.unwrap();
        Client::over(socket, device, &Options::default()).await
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.life.0.store(true, Ordering::Relaxed);
    }
}

enum Site {
    Offline(Box<Device>),
    Online(Box<Client<DuplexStream>>),
    /// While it is being moved from one to the other.
    Nowhere,
}

impl Site {
    fn device(&self) -> &Device {
        match self {
            Site::Offline(device) => device,
            Site::Online(client) => &client.device,
            Site::Nowhere => unreachable!("only inside a move"),
        }
    }
}

struct World {
    directory: PathBuf,
    keep: &'static str,
    mutant: Option<Mutant>,
    relay: Option<Sim>,
    sites: Vec<Site>,
    /// What was acknowledged since the relay was last restored from an old copy.
    acked: VersionVector,
    has_copy: bool,
    messages: u64,
}

impl World {
    async fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            let at = random::below(DEVICES.into()) as usize;
            match random::below(100) {
                0..35 => self.write(at).await,
                35..65 => self.listen(at).await,
                65..75 => self.part(at),
                75..90 => self.meet(at).await,
                90..94 => self.crash(false).await?,
                94..96 => self.copy(),
                96..98 => self.crash(true).await?,
                _ => tokio::time::sleep(Duration::from_millis(random::below(8000))).await,
            }
        }
        self.settle().await
    }

    async fn write(&mut self, at: usize) {
        let is_large = random::below(8) == 0;
        let write = |device: &mut Device| match is_large {
            true => device.write_in_chunks(2 + random::below(4), "part"),
            false => device.write(&format!("row {}", random::below(1000))),
        };
        match &mut self.sites[at] {
            Site::Offline(device) => drop(write(device)),
            Site::Online(client) => {
                let version = write(&mut client.device);
                client.gained(version).await;
            }
            Site::Nowhere => {}
        }
    }

    /// Takes in what comes for a while.
    async fn listen(&mut self, at: usize) {
        let Site::Online(client) = &mut self.sites[at] else { return };
        let end = tokio::time::Instant::now() + Duration::from_micros(random::below(20_000));
        while client.closed.is_none() && tokio::time::timeout_at(end, client.step()).await.is_ok() {
            self.messages += 1;
        }
        self.note(at);
    }

    /// Remembers what was acknowledged; who was let go is offline.
    fn note(&mut self, at: usize) {
        let Site::Online(client) = &mut self.sites[at] else { return };
        for event in client.events.drain(..) {
            if let Event::Confirmed(versions) = event {
                self.acked.union_with(&versions);
            }
        }
        if client.closed.is_some() {
            self.part(at);
        }
    }

    fn part(&mut self, at: usize) {
        self.sites[at] = match std::mem::replace(&mut self.sites[at], Site::Nowhere) {
            Site::Online(client) => Site::Offline(Box::new(client.into_device())),
            other => other,
        };
    }

    async fn meet(&mut self, at: usize) {
        let (directory, keep, mutant) = (self.directory.clone(), self.keep, self.mutant);
        let relay = self.relay.get_or_insert_with(|| Sim::start(&directory, keep, mutant));
        self.sites[at] = match std::mem::replace(&mut self.sites[at], Site::Nowhere) {
            Site::Offline(device) => Site::Online(Box::new(relay.connect(*device).await)),
            other => other,
        };
    }

    /// Kills the relay, perhaps puts an old copy in place, and starts it again.
    async fn crash(&mut self, restores: bool) -> Result<(), String> {
        (0..self.sites.len()).for_each(|at| {
            self.note(at);
            self.part(at);
        });
        self.relay = None;
        // What the tasks of the dead do last.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if restores && self.has_copy {
            self.restore();
            self.acked = VersionVector::default();
            return Ok(());
        }
        let relay = Sim::start(&self.directory, self.keep, self.mutant);
        if relay.context.journal.rooms().unwrap().is_empty() {
            return Ok(());
        }
        // Nobody else is there who could bring back what the relay has lost.
        let mut reader = relay.connect(Device::new(200)).await;
        let all = |reader: &Client<DuplexStream>| reader.events.contains(&Event::CaughtUp);
        wait(&mut reader, all).await.map_err(|error| format!("a reader after a crash: {error}"))?;
        if !reader.device.ledger.whole().is_superset(&self.acked) {
            let lost = self.acked.difference(reader.device.ledger.whole());
            return Err(format!("acknowledged and gone after a crash: {lost:?}"));
        }
        self.relay = Some(relay);
        Ok(())
    }

    fn copy(&mut self) {
        let data = self.directory.join("data");
        if data.exists() {
            std::fs::remove_dir_all(self.directory.join("copy")).ok();
            copy(&data, &self.directory.join("copy"));
            self.has_copy = true;
        }
    }

    fn restore(&self) {
        std::fs::remove_dir_all(self.directory.join("data")).unwrap();
        copy(&self.directory.join("copy"), &self.directory.join("data"));
    }

    /// Everybody is connected and nobody does anything more: all must come to hold the same.
    async fn settle(&mut self) -> Result<(), String> {
        let end = tokio::time::Instant::now() + PEACE;
        loop {
            for at in 0..self.sites.len() {
                self.meet(at).await;
                self.listen(at).await;
            }
            let first = self.sites[0].device().ledger.whole();
            let is_flushed =
                |site: &Site| matches!(site, Site::Online(client) if client.session.is_flushed());
            if self.sites.iter().all(|site| is_flushed(site) && site.device().ledger.whole() == first) {
                break;
            }
            if tokio::time::Instant::now() > end {
                let held: Vec<_> = self.sites.iter().map(|site| site.device().ledger.whole()).collect();
                return Err(format!("they never become equal: {held:?}"));
            }
        }
        let whole = self.sites[0].device().ledger.whole().clone();
        for site in &self.sites {
            let own = site.device().site;
            let head = site.device().ledger.head(own).version;
            if !(1..=head).all(|version| whole.contains(own, version)) {
                return Err("something that was written is not held".into());
            }
        }
        let relay = self.relay.as_ref().ok_or("no relay")?;
        let mut late = relay.connect(Device::new(201)).await;
        let all = whole.clone();
        wait(&mut late, move |late| *late.device.ledger.whole() == all).await?;
        let room = relay.rooms.open("demo", None).await.map_err(|fault| fault.to_string())?;
        let stored = room.store.ask(|connection, _| store::vector(connection)).await;
        match stored.map_err(|fault| fault.to_string())? == whole {
            true => Ok(()),
            false => Err("the room's database holds something else".into()),
        }
    }
}

/// Takes messages until something holds.
async fn wait(
    client: &mut Client<DuplexStream>,
    holds: impl Fn(&Client<DuplexStream>) -> bool,
) -> Result<(), String> {
    let end = tokio::time::Instant::now() + PEACE;
    while !holds(client) {
        if client.closed.is_some() {
            return Err(format!("closed: {:?}", client.closed));
        }
        tokio::time::timeout_at(end, client.step()).await.map_err(|_| "nothing comes any more")?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The outcome of a seed, and how many messages came.
fn run(seed: u64, mutant: Option<Mutant>) -> Result<u64, String> {
    random::seed(seed);
    let memory = Path::new("/dev/shm");
    let directory = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World {
            directory: directory.path().to_owned(),
            // In some worlds journals are trimmed of everything all the time.
            keep: if seed.is_multiple_of(3) { "1KiB" } else { "64MiB" },
            mutant,
            relay: None,
            sites: (1..=DEVICES).map(|name| Site::Offline(Box::new(Device::new(name)))).collect(),
            acked: VersionVector::default(),
            has_copy: false,
            messages: 0,
        };
        world.run().await.map(|()| world.messages)
    })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn clients_of_a_relay_that_is_killed_and_restored_converge() {
    let (from, seeds) = (number("CRSQL_SIM_FROM", 0), number("CRSQL_SIM_SEEDS", 40));
    let mut messages = 0;
    for seed in from..from + seeds {
        messages += run(seed, None).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    }
    assert!(messages > 20 * seeds, "hardly anything happened: {messages} messages");
}

#[test]
fn the_same_seed_gives_the_same_world() {
    assert_eq!(run(5, None), run(5, None));
}

#[test]
fn an_acknowledgement_before_the_fsync_is_caught() {
    assert!((0..100).any(|seed| run(seed, Some(Mutant::EarlyAck)).is_err()), "never in 100 seeds");
}

#[test]
fn an_old_epoch_after_a_restore_is_caught() {
    assert!((0..300).any(|seed| run(seed, Some(Mutant::OldEpoch)).is_err()), "never in 300 seeds");
}
