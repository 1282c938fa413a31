//! A client made of the protocol's dialer, a real socket, and a store in memory.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
use crsql_core::ids::SiteId;
use crsql_core::merge::TieBreak;
use crsql_core::value::ValueRef;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::ledger::{Ledger, Recorded};
use crsql_protocol::message::*;
use crsql_protocol::session::{Apply, Local, Parcel, Read};
use crsql_protocol::wire::{Blob, Chain};
use crsql_protocol::{Code, Config, Event, Input, Output, Session};
use crsql_server::config::{Flags, Settings};
use crsql_server::serve::Relay;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message as Ws};

/// Longer than anything takes; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

pub type Stream = MaybeTlsStream<TcpStream>;

pub type Socket = WebSocketStream<Stream>;

/// Settings of a relay on a free port with its data in `directory`.
pub fn settings(directory: &std::path::Path, change: impl FnOnce(&mut Flags)) -> Settings {
    let mut flags = Flags {
        listen: Some("127.0.0.1:0".into()),
        data: Some(directory.join("data").display().to_string()),
        messages_per_second: Some("1000000".into()),
        bytes_per_second: Some("1GiB".into()),
        room_bytes_per_second: Some("4GiB".into()),
        log: Some("warn".into()),
        ..Flags::default()
    };
    change(&mut flags);
    Settings::load_from(&flags, &|_| None).unwrap()
}

/// A relay in this process.
pub async fn relay(directory: &std::path::Path) -> Relay {
    Relay::start(settings(directory, |_| {})).await.unwrap()
}

/// What a site holds, in memory.
pub struct Device {
    pub site: SiteId,
    pub ledger: Ledger,
    pub frames: BTreeMap<(SiteId, u64), Vec<Frame>>,
    pub cursor: Option<Cursor>,
    /// Deltas that came, and whether their claims came too.
    pub deltas: Vec<Frame>,
    pub waiting: Vec<Apply>,
}

impl Device {
    pub fn new(name: u8) -> Device {
        let ledger = Ledger::new(Default::default());
        Device {
            site: SiteId([name; 16]),
            ledger,
            frames: BTreeMap::new(),
            cursor: None,
            deltas: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Writes one row of a transaction of its own.
    pub fn write(&mut self, value: &str) -> u64 {
        let version = self.ledger.head(self.site).version + 1;
        let body = one_row(self.site, version, 0, version as i64, value.as_bytes());
        let frame = self.frame(version, body);
        self.own(version, vec![frame]);
        version
    }

    /// Writes `parts` rows that travel in frames of their own.
    pub fn write_in_chunks(&mut self, parts: u64, value: &str) -> u64 {
        let version = self.ledger.head(self.site).version + 1;
        let whole = self.frame(version, value.as_bytes().to_vec());
        let chunk = |seq: u64| {
            let body = one_row(self.site, version, seq, (version * 1000 + seq) as i64, value.as_bytes());
            Frame { seq_lo: seq, seq_hi: seq, last_seq: parts - 1, body: Blob(body), ..whole.clone() }
        };
        let frames = (0..parts).map(chunk).collect();
        self.own(version, frames);
        version
    }

    pub fn frame(&self, version: u64, body: Vec<u8>) -> Frame {
        let before = self.ledger.head(self.site).chain;
        let hash = blake3::hash(&[&before.0[..], &body, &[version as u8]].concat());
        let mut chain = Chain::default();
        chain.0.copy_from_slice(&hash.as_bytes()[..16]);
        Frame {
            site: self.site,
            site_version: version,
            seq_lo: 0,
            seq_hi: 0,
            last_seq: 0,
            chain,
            codec: CODEC_PLAIN,
            body: Blob(body),
        }
    }

    pub fn own(&mut self, version: u64, frames: Vec<Frame>) {
        self.ledger.wrote(self.site, Head { version, chain: frames[0].chain });
        self.frames.insert((self.site, version), frames);
    }

    pub fn holds(&self, site: SiteId, version: u64) -> bool {
        self.ledger.whole().contains(site, version)
    }

    fn local(&self, options: &Options) -> Local {
        Local {
            room: options.room.clone(),
            token: options.token.clone(),
            site: self.site,
            head: self.ledger.head(self.site),
            tie_break: 0,
            schema: SchemaId::default(),
            resume: self.cursor,
            fingerprint: self.ledger.fingerprint(),
            held: self.ledger.holdings(),
        }
    }

    fn apply(&mut self, apply: Apply) -> (u64, VersionVector) {
        let mut gained = VersionVector::default();
        for frame in apply.frames.iter().filter(|frame| !frame.is_delta()) {
            match self.ledger.record(0, frame, None).expect("the relay sends what is right") {
                Recorded::Whole(frames) => {
                    gained.insert(frame.site, frame.site_version);
                    self.frames.insert((frame.site, frame.site_version), frames);
                }
                Recorded::Part | Recorded::Known => {}
            }
        }
        let (id, cut) = (apply.id, apply.cut);
        self.waiting.push(apply);
        if !cut {
            return (id, gained);
        }
        for apply in std::mem::take(&mut self.waiting) {
            self.deltas.extend(apply.frames.into_iter().filter(Frame::is_delta));
            gained.union_with(&self.ledger.claim(&apply.claims, &apply.chains));
            self.cursor = apply.cursor.or(self.cursor);
        }
        (id, gained)
    }

    fn read(&self, read: Read) -> Parcel {
        let Read::Versions { needs, bytes } = read else { return Parcel::default() };
        let (mut parcel, mut taken) = (Parcel::default(), 0);
        for (&(site, version), frames) in self.frames.iter().filter(|((s, v), _)| needs.wants(*s, *v)) {
            let _ = (site, version);
            if taken > bytes {
                parcel.more = true;
                break;
            }
            taken += frames.iter().map(|frame| frame.wire_bytes() as u64).sum::<u64>();
            parcel.frames.extend(frames.iter().cloned());
        }
        parcel
    }
}

/// A changeset of one row with one column.
pub fn one_row(site: SiteId, version: u64, seq: u64, key: i64, value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Site);
    let site = writer.site(site);
    let table = writer.table("t", 1, &["v"]);
    let group = GroupHeader { columns: vec![1], col_version: 1, site, version, seq, ..Default::default() };
    writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: Some(key) });
    writer.value(ValueRef::Text(value));
    writer.end_row();
    writer.finish(&VersionVector::default(), false)
}

/// How a client connects.
#[derive(Clone)]
pub struct Options {
    pub room: String,
    pub token: Option<String>,
    pub config: Config,
}

impl Default for Options {
    fn default() -> Options {
        Options { room: "demo".into(), token: None, config: Config::default() }
    }
}

/// A device that is connected.
pub struct Client<S = Stream> {
    pub device: Device,
    pub session: Session,
    pub events: Vec<Event>,
    pub closed: Option<Option<Code>>,
    pub received: u64,
    socket: WebSocketStream<S>,
    started: Instant,
    pub reads: bool,
}

pub async fn socket(address: SocketAddr, room: &str) -> Result<Socket, tungstenite::Error> {
    let mut request = format!("ws://{address}/v1/rooms/{room}/sync").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", "crsql-sync.v1".parse().unwrap());
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

impl Client {
    pub async fn connect(address: SocketAddr, device: Device, options: &Options) -> Client {
        let socket = socket(address, &options.room).await.unwrap();
        Client::over(socket, device, options).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn over(socket: WebSocketStream<S>, device: Device, options: &Options) -> Client<S> {
        let session = Session::dial(options.config.clone());
        let (events, started) = (Vec::new(), Instant::now());
        let mut client =
            Client { device, session, events, closed: None, received: 0, socket, started, reads: true };
        let local = client.device.local(options);
        client.handle(Input::Open(Box::new(local))).await;
        client
    }

    /// Takes messages until something holds; fails the test if it never does.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Client<S>) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(self.closed.is_none(), "waiting for {what}: closed with {:?}", self.closed);
            let left = end.saturating_duration_since(Instant::now());
            assert!(tokio::time::timeout(left, self.step()).await.is_ok(), "{what} never came");
        }
    }

    /// The same for what shows elsewhere, and whether or not the connection lives.
    pub async fn settled(&mut self, what: &str, holds: impl Fn(&Client<S>) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "{what} never came");
            if self.closed.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            } else {
                tokio::time::timeout(Duration::from_millis(20), self.step()).await.ok();
            }
        }
    }

    pub async fn ready(&mut self) {
        self.until("welcome", |client| client.session.is_open()).await;
    }

    pub async fn flushed(&mut self) {
        self.until("the last ack", |client| client.session.is_flushed()).await;
    }

    pub async fn caught_up(&mut self) {
        self.until("catching up", |client| client.events.contains(&Event::CaughtUp)).await;
    }

    /// The code with which the relay ends this connection.
    pub async fn refused(&mut self) -> Code {
        let end = Instant::now() + PATIENCE;
        while self.closed.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::timeout(left, self.step()).await.expect("the relay should have closed");
        }
        self.closed.flatten().expect("the relay should have said why")
    }

    /// Takes one message.
    pub async fn step(&mut self) {
        match self.socket.next().await {
            Some(Ok(Ws::Binary(bytes))) => {
                self.received += bytes.len() as u64;
                self.handle(Input::Message(&bytes)).await;
            }
            Some(Ok(Ws::Close(_))) | Some(Err(_)) | None => drop(self.closed.get_or_insert(None)),
            Some(Ok(_)) => {}
        }
    }

    pub async fn write(&mut self, value: &str) -> u64 {
        let version = self.device.write(value);
        self.gained(version).await;
        version
    }

    /// Tells the session of a transaction of the device.
    pub async fn gained(&mut self, version: u64) {
        let mut gained = VersionVector::default();
        gained.insert(self.device.site, version);
        self.handle(Input::Gained(gained)).await;
    }

    pub async fn send(&mut self, message: impl Into<Message>) {
        self.send_bytes(crsql_protocol::codec::encode(&message.into())).await;
    }

    pub async fn send_bytes(&mut self, bytes: Vec<u8>) {
        // What the relay closed already it can no longer hear.
        self.socket.send(Ws::Binary(bytes.into())).await.ok();
    }

    pub async fn handle(&mut self, input: Input<'_>) {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let mut todo: std::collections::VecDeque<_> = self.session.handle(now_ms, input).into();
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Send(bytes) => self.send_bytes(bytes).await,
                Output::Compare(head) => {
                    let site = self.device.site;
                    let mine = self.device.frames.get(&(site, head.version)).map(|frames| frames[0].chain);
                    let ancestry = match mine {
                        Some(chain) if chain == head.chain => Ancestry::Same,
                        Some(_) => Ancestry::Fork,
                        None => Ancestry::Unknown,
                    };
                    todo.extend(self.session.handle(now_ms, Input::Compared(ancestry)));
                }
                Output::Read(read) => {
                    let parcel = self.device.read(read);
                    todo.extend(self.session.handle(now_ms, Input::Parcel(parcel)));
                }
                Output::Apply(apply) => {
                    let (id, gained) = self.device.apply(apply);
                    todo.extend(self.session.handle(now_ms, Input::Gained(gained)));
                    if self.reads {
                        todo.extend(self.session.handle(now_ms, Input::Applied(id)));
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Close(fault) => self.closed = Some(fault.map(|fault| fault.code)),
                other => panic!("a dialer does not ask for {other:?}"),
            }
        }
    }

    pub fn into_device(self) -> Device {
        self.device
    }
}
