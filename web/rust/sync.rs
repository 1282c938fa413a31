//! Sync as JavaScript drives it: sockets and time come from there, every decision from [`crsql_client::node`].
//!
//! Nothing is sent before it is durable: the caller flushes, makes the storage durable, and only then takes the actions.

use crsql_client::node::{Action, Dial, Event, Node};
use crsql_client::replica::{Options, Replica};
use crsql_protocol::{Code, Fault};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::database::Database;
use crate::error::Error;

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

#[wasm_bindgen]
impl Database {
    /// A socket to a relay is open: says hello. Returns the connection's number.
    #[wasm_bindgen(js_name = syncDial)]
    pub fn sync_dial(&mut self, now: f64, peer: String, room: String, token: Option<String>) -> Result<f64> {
        let dial = Dial { peer, room, token, gossip: false };
        Ok(self.node_mut()?.dial(now as u64, dial).map_err(Error::from)? as f64)
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
            let site: String = presence.site.0.iter().map(|byte| format!("{byte:02x}")).collect();
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
        // The browser takes no snapshots: it is never offered one.
        Event::Gained { remote: false, .. }
        | Event::Compared { .. }
        | Event::Snapshot { .. }
        | Event::Adopted { .. }
        | Event::BeganAgain { .. } => return None,
    })
}
