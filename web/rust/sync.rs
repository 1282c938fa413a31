//! Sync as JavaScript drives it: sockets and time come from there, every decision from [`crsql_client::node`].
//!
//! Nothing is sent before it is durable: the caller flushes, makes the storage durable, and only then takes the actions.

use std::rc::Rc;

use crsql_client::node::{Action, Dial, Event, Node};
use crsql_client::replica::{Folded, Options, Replica, Snapshot};
use crsql_protocol::message::Cursor;
use crsql_protocol::{Code, Fault};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::database::{Database, plain};
use crate::error::Error;
use crate::files::{Store, SyncFile};
use crate::vfs::{self, FileSet};

/// How much of what was sent is kept to be sent again without reading tables, in bytes.
const JOURNAL_BYTES: u64 = 4 << 20;

type Result<T> = std::result::Result<T, JsValue>;

impl From<crsql_client::Error> for Error {
    fn from(error: crsql_client::Error) -> Error {
        match error {
            crsql_client::Error::Sqlite(error) => error.into(),
            error => Error::misuse(error.to_string()),
        }
    }
}

impl Database {
    fn node_mut(&mut self) -> Result<&mut Node> {
        if self.node.is_none() {
            let connection = self.connection()?.clone();
            let options = Options { journal_bytes: JOURNAL_BYTES, ..Options::default() };
            self.node = Some(Node::new(Replica::open(connection, options).map_err(Error::from)?));
        }
        self.node.as_mut().ok_or_else(|| Error::misuse("there is no sync").into())
    }
}

impl Database {
    fn adopt(
        &mut self,
        now_ms: u64,
        path: &str,
        peer: &str,
        cursor: Cursor,
    ) -> std::result::Result<Option<String>, Error> {
        // Nobody needs the copy after a crash: it is checked before it is used, and fetched again if it changed.
        let copy = plain(
            path,
            "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = memory; PRAGMA synchronous = off;",
        )?;
        let snapshot = match Snapshot::open(copy)? {
            Ok(snapshot) => snapshot,
            Err(reason) => return Ok(Some(reason)),
        };
        let Some(node) = &mut self.node else { return Ok(Some("sync is over".into())) };
        let folded = match node.fold(now_ms, snapshot)? {
            Ok(folded) => folded,
            Err(reason) => return Ok(Some(reason)),
        };
        self.apart(|plain| {
            Folded::attach(plain, path)?;
            plain.execute_batch("BEGIN IMMEDIATE")?;
            folded.exchange(plain, peer, cursor)?;
            Ok(plain.execute_batch("COMMIT")?)
        })?;
        Ok(None)
    }
}

/// Whether a file has the checksum that was promised: the first 16 bytes of its blake3 in hexadecimal.
fn is_intact(file: &Store, checksum: &str) -> crate::files::Result<bool> {
    let (mut hasher, mut piece, mut at) = (blake3::Hasher::new(), vec![0; 1 << 18], 0);
    loop {
        match file.read(&mut piece, at)? {
            0 => return Ok(hex(&hasher.finalize().as_bytes()[..16]) == checksum),
            read => {
                hasher.update(&piece[..read]);
                at += read as u64;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[wasm_bindgen]
impl Database {
    /// A socket to a relay is open: says hello. Returns the connection's number. With `snapshots` the relay may offer
    /// one.
    #[wasm_bindgen(js_name = syncDial)]
    pub fn sync_dial(
        &mut self,
        now: f64,
        peer: String,
        room: String,
        token: Option<String>,
        snapshots: bool,
    ) -> Result<f64> {
        let dial = Dial { peer, room, token, gossip: false };
        let node = self.node_mut()?;
        node.take_snapshots(snapshots);
        Ok(node.dial(now as u64, dial).map_err(Error::from)? as f64)
    }

    /// Takes over a snapshot that was fetched into `file`. Returns a sentence if that can't be done, and nothing was
    /// changed then. If it was done, it is in one transaction. Live queries are to be opened again and sockets to be
    /// dialed again, whatever came of it. The file is left open, and of no use any more.
    #[wasm_bindgen(js_name = syncAdopt)]
    pub fn sync_adopt(
        &mut self,
        now: f64,
        file: SyncFile,
        checksum: &str,
        peer: &str,
        epoch: u64,
        pos: f64,
    ) -> Result<Option<String>> {
        let path = format!("{}-snapshot", self.path);
        let store = Rc::new(Store::Handle(file));
        if !is_intact(&store, checksum).map_err(|failure| JsValue::from(Error::misuse(failure.reason)))? {
            return Ok(Some("the snapshot came damaged".into()));
        }
        let (journal, wal) = (Rc::new(Store::memory()), Rc::new(Store::memory()));
        vfs::mount(&path, FileSet { main: store, journal, wal }).map_err(Error::from)?;
        let cursor = Cursor { epoch, pos: pos as u64 };
        let adopted = self.adopt(now as u64, &path, peer, cursor);
        vfs::unmount(&path);
        Ok(adopted?)
    }

    /// A message came.
    #[wasm_bindgen(js_name = syncReceive)]
    pub fn sync_receive(&mut self, now: f64, link: f64, message: &[u8]) -> Result<()> {
        Ok(self.node_mut()?.receive(now as u64, link as u64, message).map_err(Error::from)?)
    }

    /// A socket was closed.
    #[wasm_bindgen(js_name = syncClosed)]
    pub fn sync_closed(&mut self, link: f64) {
        if let Some(node) = &mut self.node {
            node.closed(link as u64);
        }
    }

    /// Ends a connection, and says why to the other side.
    #[wasm_bindgen(js_name = syncClose)]
    pub fn sync_close(&mut self, now: f64, link: f64) -> Result<()> {
        let fault = Fault::new(Code::UNAVAILABLE, "this side stops syncing");
        Ok(self.node_mut()?.close(now as u64, link as u64, fault).map_err(Error::from)?)
    }

    /// Offers what was committed here since the last time.
    #[wasm_bindgen(js_name = syncRefresh)]
    pub fn sync_refresh(&mut self, now: f64) -> Result<()> {
        Ok(self.node_mut()?.refresh(now as u64).map_err(Error::from)?)
    }

    /// Commits what came in.
    #[wasm_bindgen(js_name = syncFlush)]
    pub fn sync_flush(&mut self, now: f64) -> Result<()> {
        Ok(self.node_mut()?.flush(now as u64).map_err(Error::from)?)
    }

    /// Time passed.
    #[wasm_bindgen(js_name = syncTick)]
    pub fn sync_tick(&mut self, now: f64) -> Result<()> {
        Ok(self.node_mut()?.tick(now as u64).map_err(Error::from)?)
    }

    /// Whether everything here is confirmed by the other side of a connection.
    #[wasm_bindgen(js_name = syncIsFlushed)]
    pub fn sync_is_flushed(&self, link: f64) -> bool {
        self.node.as_ref().is_some_and(|node| node.is_flushed(link as u64))
    }

    /// Says something to everybody in the room for `ttl` milliseconds.
    #[wasm_bindgen(js_name = syncPresent)]
    pub fn sync_present(&mut self, now: f64, topic: &str, data: &str, ttl: f64) -> Result<()> {
        let node = self.node_mut()?;
        Ok(node.present(now as u64, topic, data.as_bytes(), ttl as u64).map_err(Error::from)?)
    }

    /// What is being said: an array of `[site, topic, data]`.
    #[wasm_bindgen(js_name = syncPresence)]
    pub fn sync_presence(&mut self, now: f64) -> Result<Array> {
        let said = Array::new();
        for presence in self.node_mut()?.presence(now as u64) {
            let site = hex(&presence.site.0);
            let data = String::from_utf8_lossy(&presence.data.0).into_owned();
            said.push(&Array::of3(&site.into(), &presence.topic.clone().into(), &data.into()));
        }
        Ok(said)
    }

    /// What is to be done, in order; see `SyncAction` in `src/owner/sync.ts`. To be taken once what was flushed is
    /// durable.
    #[wasm_bindgen(js_name = syncActions)]
    pub fn sync_actions(&mut self) -> Result<Array> {
        let actions = Array::new();
        let node = self.node_mut()?;
        while let Some(action) = node.next_action() {
            if let Some(action) = describe(action) {
                actions.push(&action);
            }
        }
        Ok(actions)
    }
}

fn describe(action: Action) -> Option<Array> {
    let list = |parts: &[JsValue]| parts.iter().collect::<Array>();
    Some(match action {
        Action::Send { link, bytes } => {
            list(&["send".into(), (link as f64).into(), Uint8Array::from(&bytes[..]).into()])
        }
        Action::Close { link, fault } => {
            let mut parts = vec!["close".into(), (link as f64).into()];
            if let Some(fault) = fault {
                parts.extend([fault.code.name().into(), fault.detail.into()]);
                parts.push((fault.retry_after_ms as f64).into());
            }
            list(&parts)
        }
        Action::Event(Event::Snapshot { link, snapshot, epoch }) => list(&[
            "snapshot".into(),
            (link as f64).into(),
            snapshot.url.into(),
            hex(&snapshot.checksum.0).into(),
            (snapshot.bytes as f64).into(),
            epoch.into(),
            (snapshot.pos as f64).into(),
        ]),
        Action::Event(event) => {
            let (name, link, detail) = name(event)?;
            list(&["event".into(), (link as f64).into(), name.into(), detail.into()])
        }
    })
}

/// An event's name, connection (0: none) and, for some, a sentence.
fn name(event: Event) -> Option<(&'static str, u64, String)> {
    Some(match event {
        Event::Ready { link, .. } => ("ready", link, String::new()),
        Event::CaughtUp { link } => ("caughtUp", link, String::new()),
        Event::Gained { remote: true, .. } => ("gained", 0, String::new()),
        Event::Confirmed { link, .. } => ("confirmed", link, String::new()),
        Event::Rejected { link, rejected } => {
            let reason = rejected.code.name();
            ("rejected", link, format!("the relay set transaction {} aside: {reason}", rejected.site_version))
        }
        Event::SetAside { link, reason } => ("setAside", link, reason),
        Event::Recovering { link, .. } => ("recovering", link, String::new()),
        Event::NewSite { .. } => ("newSite", 0, String::new()),
        Event::Presence(_) | Event::Left { .. } => ("presence", 0, String::new()),
        Event::Warning { link, fault } => ("warning", link, fault.detail),
        Event::Goaway { link, .. } => ("goaway", link, String::new()),
        Event::Gained { remote: false, .. }
        | Event::Compared { .. }
        | Event::Snapshot { .. }
        | Event::Adopted { .. }
        | Event::BeganAgain { .. } => return None,
    })
}
