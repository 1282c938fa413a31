//! Keeps a database file in sync over WebSockets: with relays, with peers, or both at once.
//!
//! The file is opened on a connection of its own, in a thread of its own. The application writes to the same file
//! with its own connections (each needs crsql, as every writer of replicated tables does), in this process or another;
//! commits are noticed by watching the file.
//!
//! ```no_run
//! use crsql_client::sync::{Address, Client, Config, Target};
//! # async fn example() -> crsql_client::Result<()> {
//! let relay = Target::new(Address::parse("wss://relay.example/todo", "todo")?).with_token("secret");
//! let client = Client::open("app.db", Config { targets: vec![relay], ..Config::default() }).await?;
//!
//! client.flush().await?; // everything committed so far is durable at the relay
//! println!("{}", client.status());
//! client.close().await;
//! # Ok(())
//! # }
//! ```

mod address;
mod engine;
mod fetch;
mod link;
mod listen;
mod status;
mod target;
mod tls;
mod watch;

pub use address::Address;
pub use listen::Listen;
pub use status::{LinkStatus, Phase, Status};
pub use target::{Target, Token, TokenFuture};
pub use tls::server_tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crsql_protocol::message::{DigestRange, Presence};
use tokio::sync::{broadcast, mpsc, oneshot, watch as latest};
use tokio::task::JoinHandle;

use crate::node::Event;
use crate::replica::Options;
use crate::{Error, Result};
use engine::{Command, Engine};

/// Events kept for a subscriber that is slow; the oldest are dropped.
const EVENTS_MAX: usize = 1024;

/// Commands that may wait for the database thread. Sockets are not read while there are so many.
const COMMANDS_MAX: usize = 256;

/// Whom to sync with, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom to connect to, and to keep connected to: relays and peers.
    pub targets: Vec<Target>,
    /// Where peers may connect to us.
    pub listen: Option<Listen>,
    /// Whether to watch the file for commits of others. Without it [`Client::look`] says that there may be some.
    pub watch: bool,
    /// Whether to begin with a copy of the relay's database where that costs less than replay. The copy is fetched into
    /// a file beside the database.
    pub snapshots: bool,
    /// How long to wait for other writers of the file.
    pub busy_timeout: Duration,
    /// The replica's options. `passes_on` is set by itself where it is needed.
    pub options: Options,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            targets: Vec::new(),
            listen: None,
            watch: true,
            snapshots: true,
            busy_timeout: Duration::from_secs(30),
            options: Options::default(),
        }
    }
}

/// What a comparison with one target found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The target's name.
    pub name: String,
    /// Whether both sides held the same transactions; if not, nothing was compared.
    pub comparable: bool,
    /// The rows that differed. Both sides' facts about them were exchanged.
    pub differing: Vec<DigestRange>,
}

/// A database that is kept in sync until this is closed or dropped.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    status: latest::Receiver<Status>,
    events: broadcast::Sender<Event>,
    tasks: Vec<JoinHandle<()>>,
    address: Option<SocketAddr>,
    _watcher: Option<watch::Watcher>,
}

impl Client {
    /// Opens a database file, which is created if it does not exist, and begins to sync it.
    ///
    /// # Errors
    /// The file can't be opened or is no database; its sync state is damaged or newer; the address to listen on is
    /// taken. That somebody can't be reached is no error: it is in the [`Status`].
    pub async fn open(path: impl AsRef<Path>, mut config: Config) -> Result<Client> {
        let path = path.as_ref().to_path_buf();
        config.options.passes_on |= config.listen.is_some() || config.targets.len() > 1;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (publish, status) = latest::channel(Status::default());
        let events = broadcast::channel(EVENTS_MAX).0;
        let (told, opened) = oneshot::channel();
        let engine = engine::Parts {
            path: path.clone(),
            config: config.clone(),
            inbox,
            status: publish,
            events: events.clone(),
        };
        std::thread::Builder::new()
            .name("crsql-sync".into())
            .spawn(move || Engine::run(engine, told))
            .map_err(|error| Error::Io("cannot start a thread".into(), error))?;
        opened.await.map_err(|_| Error::Stopped)??;
        let mut client =
            Client { commands, status, events, tasks: Vec::new(), address: None, _watcher: None };
        if config.watch {
            client._watcher = Some(watch::Watcher::new(&path, client.commands.clone()));
        }
        if let Some(listen) = &config.listen {
            let (address, task) = listen::listen(listen, client.commands.clone()).await?;
            client.address = Some(address);
            client.tasks.push(task);
        }
        for (index, target) in config.targets.iter().enumerate() {
            let keep = target::keep_connected(index, target.clone(), path.clone(), client.commands.clone());
            client.tasks.push(tokio::spawn(keep));
        }
        Ok(client)
    }

    /// Where peers can connect, if we listen.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How things stand, now and from now on.
    pub fn watch_status(&self) -> latest::Receiver<Status> {
        self.status.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// There may be new commits. Only needed without [`Config::watch`], or to save its few milliseconds.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn look(&self) -> Result<()> {
        self.tell(Command::Look).await
    }

    /// Waits until everything that was committed to the file before is durable at every target. For how long that
    /// may take is the caller's choice (`tokio::time::timeout`): a target may be out of reach for days.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn flush(&self) -> Result<()> {
        self.ask(|answer| Command::Flush { caught_up: false, answer }).await
    }

    /// Waits until every target has everything of ours and we have everything that they had when we connected.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn synced(&self) -> Result<()> {
        self.ask(|answer| Command::Flush { caught_up: true, answer }).await
    }

    /// Says something for a while to everybody who is connected, see [`Node::present`](crate::node::Node::present).
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn present(&self, topic: &str, data: &[u8], lifetime: Duration) -> Result<()> {
        let (topic, data) = (topic.to_owned(), data.to_vec());
        self.tell(Command::Present { topic, data, ttl_ms: lifetime.as_millis() as u64 }).await
    }

    /// What is being said at this moment.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn presence(&self) -> Result<Vec<Presence>> {
        self.ask(Command::Presence).await
    }

    /// Compares the data at every connected target with ours, down to the row, and repairs what differs.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn compare(&self) -> Result<Vec<Compared>> {
        self.ask(Command::Compare).await
    }

    /// Ends the connections and closes the file.
    pub async fn close(mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self._watcher = None;
        self.ask(Command::Stop).await.ok();
    }

    async fn tell(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| Error::Stopped)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.tell(command(answer)).await?;
        answered.await.map_err(|_| Error::Stopped)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The file that a path names, with which its `-wal` begins.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
