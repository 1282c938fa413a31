//! One connection between two nodes, without a socket, a clock or a thread.
//!
//! A [`Session`] is told what happened ([`Input`]) and answers what to do ([`Output`]). The *dialer* pushes what
//! the other lacks and reads its journal; the *acceptor* stores, acknowledges and feeds. A relay accepts, a client
//! dials, peers do both. Whoever drives the session owns transport and store and keeps five promises:
//!
//! 1. [`Input::Stored`] and [`Input::Applied`] come after the data is durable, and a cursor is stored in the same
//!    transaction as the data before it.
//! 2. A frame is passed on (journaled, [`Input::Gained`]) only if recording it changed the set
//!    ([`Ledger`](crate::ledger::Ledger)), and only once it is durable: a position given away must not be reused.
//! 3. A journal that was created or restored has a new epoch.
//! 4. Chunks are shown to nobody before their version is whole.
//! 5. A node with gaps ([`Ledger::gaps`](crate::ledger::Ledger::gaps)) asks for them now and then with
//!    [`Input::Want`]: chunks that it gave up may have become whole elsewhere.
//!
//! A session never asks for more than one read at a time and queues nothing: what does not fit the window or the
//! credit stays in the store and is read again later.

mod accept;
mod dial;
mod feed;
#[cfg(test)]
mod flow_tests;
mod input;
mod outbox;
#[cfg(test)]
pub(crate) mod tests;

pub use input::{Admission, Apply, Event, Input, Live, Local, Output, Parcel, Read, Tail};

use crate::code::{Code, Fault};
use crate::codec;
use crate::limits::{HELLO_BYTES_MAX, Limits, Rate, TEXT_BYTES_MAX};
use crate::message::*;
use crate::names::Lexicon;

use accept::Acceptor;
use dial::Dialer;

/// What an endpoint is like, the same for all of its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Program and version, for the other side's logs.
    pub agent: String,
    /// What it can do, see [`features`].
    pub features: u64,
    /// What it takes.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Config {
        let agent = concat!("crsql/", env!("CARGO_PKG_VERSION")).into();
        Config { agent, features: features::DEFAULT, limits: Limits::default() }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    side: Side,
    link: Link,
}

#[derive(Debug)]
enum Side {
    Dialer(Box<Dialer>),
    Acceptor(Box<Acceptor>),
}

/// What both sides have: the way out, liveness and the limits.
#[derive(Debug)]
pub(crate) struct Link {
    pub config: Config,
    pub now_ms: u64,
    out: Vec<Output>,
    /// Whether the handshake is done.
    pub open: bool,
    closed: bool,
    /// The features of both sides, once known.
    pub features: u64,
    /// The longest message the peer takes.
    pub peer_message_max: usize,
    started_ms: Option<u64>,
    pub opened_ms: u64,
    heard_ms: u64,
    pinged_ms: u64,
    pings: u64,
    /// What the peer calls by number.
    heard: Lexicon,
    /// What a dialer calls by number; an acceptor's driver has its own.
    pub told: Lexicon,
    read_after_ms: u64,
    messages: Rate,
    bytes: Rate,
    presence: Rate,
}

type Done = Result<(), Fault>;

impl Session {
    /// The side that opens the connection. Begin with [`Input::Open`].
    pub fn dial(config: Config) -> Session {
        Session { side: Side::Dialer(Box::default()), link: Link::new(config) }
    }

    /// The side that was connected to. Begin with the first message.
    pub fn accept(config: Config) -> Session {
        Session { side: Side::Acceptor(Box::default()), link: Link::new(config) }
    }

    /// Leaves out features that this peer may not use. Only before the handshake is done.
    pub fn limit_features(&mut self, features: u64) {
        self.link.config.features &= features;
    }

    /// Takes in what happened at `now_ms` and says what to do, in this order. Time may be of any origin; going
    /// backwards counts as standing still.
    pub fn handle(&mut self, now_ms: u64, input: Input<'_>) -> Vec<Output> {
        if self.link.closed {
            return Vec::new();
        }
        self.link.now_ms = self.link.now_ms.max(now_ms);
        let now_ms = self.link.now_ms;
        self.link.started_ms.get_or_insert(now_ms);
        if let Err(fault) = self.take(input) {
            self.link.fail(fault);
        }
        std::mem::take(&mut self.link.out)
    }

    /// Whether both sides have a feature; see [`features`].
    pub fn has(&self, feature: u64) -> bool {
        self.link.has(feature)
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.link.closed
    }

    /// Whether the handshake is done.
    pub fn is_open(&self) -> bool {
        self.link.open && !self.link.closed
    }

    /// Acceptor: when to read the next message, in milliseconds on the clock of [`handle`](Session::handle). Until
    /// then leave it where it is, so that the sender is slowed down by its own socket.
    pub fn read_after_ms(&self) -> u64 {
        self.link.read_after_ms
    }

    /// Dialer: whether nothing is known that the acceptor lacks, and everything sent is confirmed.
    pub fn is_flushed(&self) -> bool {
        match &self.side {
            Side::Dialer(dialer) => self.is_open() && dialer.is_flushed(),
            Side::Acceptor(_) => false,
        }
    }

    fn take(&mut self, input: Input<'_>) -> Done {
        let link = &mut self.link;
        match input {
            Input::Message(bytes) => self.receive(bytes),
            Input::Fail(fault) => Err(fault),
            Input::Tick => self.tick(),
            Input::Present(presence) => {
                if link.open && link.has(features::PRESENCE) {
                    link.send(presence);
                }
                Ok(())
            }
            Input::Ask(request) => {
                if !link.open || !link.has(features::DIGEST) {
                    return Ok(());
                }
                link.send(request);
                Ok(())
            }
            Input::Digests(response) => {
                link.send(response);
                Ok(())
            }
            Input::Want(needs) => {
                if link.open && !needs.is_empty() {
                    link.send(needs.to_need());
                }
                Ok(())
            }
            input => match &mut self.side {
                Side::Dialer(dialer) => dialer.take(link, input),
                Side::Acceptor(acceptor) => acceptor.take(link, input),
            },
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Done {
        let link = &mut self.link;
        link.heard_ms = link.now_ms;
        let limits = &link.config.limits;
        let bytes_max = if link.open { limits.message_bytes } else { HELLO_BYTES_MAX };
        // The acceptor is the one that strangers talk to. Who has much to say is not turned away but read more slowly;
        // the fault is for a driver that reads on all the same.
        if matches!(self.side, Side::Acceptor(_)) {
            let waits = [
                link.messages.take_and_wait(link.now_ms, 1),
                link.bytes.take_and_wait(link.now_ms, bytes.len() as u64),
            ];
            let [Some(messages), Some(bytes)] = waits else {
                let fault = Fault::new(Code::RATE, "too much in too short a time");
                return Err(Fault { retry_after_ms: 1000, ..fault });
            };
            link.read_after_ms = link.now_ms.saturating_add(messages.max(bytes));
        }
        let Some(mut message) = codec::decode(bytes, bytes_max)? else { return Ok(()) };
        if let Message::Push(Push { frames, .. }) | Message::Batch(Batch { frames, .. }) = &mut message {
            link.heard.lengthen(frames)?;
        }
        match message {
            Message::Names(names) if link.open => link.heard.hear(names),
            Message::Error(error) => link.peer_error(error),
            Message::Ping(ping) if link.open => {
                link.send(Pong { nonce: ping.nonce });
                match &self.side {
                    Side::Dialer(dialer) => dialer.check_ping(ping),
                    Side::Acceptor(acceptor) => acceptor.check_ping(ping),
                }
            }
            Message::Pong(_) if link.open => Ok(()),
            Message::Presence(presence) if link.open && link.has(features::PRESENCE) => {
                if link.presence.take(link.now_ms, 1) {
                    link.event(Event::Presence(presence));
                }
                Ok(())
            }
            Message::DigestRequest(request) if link.open && link.has(features::DIGEST) && !request.rows => {
                link.emit(Output::Digest(request));
                Ok(())
            }
            Message::DigestResponse(response) if link.open && link.has(features::DIGEST) => {
                link.event(Event::Digests(response));
                Ok(())
            }
            message => match &mut self.side {
                Side::Dialer(dialer) => dialer.receive(link, message, bytes.len()),
                Side::Acceptor(acceptor) => acceptor.receive(link, message, bytes.len()),
            },
        }
    }

    fn tick(&mut self) -> Done {
        let link = &mut self.link;
        let (now_ms, limits) = (link.now_ms, link.config.limits);
        if !link.open {
            let started = link.started_ms.unwrap_or(now_ms);
            if now_ms.saturating_sub(started) >= limits.hello_ms {
                return Err(Fault::new(Code::IDLE, "the handshake took too long"));
            }
            return Ok(());
        }
        if now_ms.saturating_sub(link.heard_ms) >= limits.dead_ms {
            return Err(Fault::new(Code::IDLE, "nothing was heard for too long"));
        }
        if now_ms.saturating_sub(link.pinged_ms) >= limits.ping_ms {
            link.pinged_ms = now_ms;
            link.pings += 1;
            let (pos, parts) = match &self.side {
                Side::Dialer(dialer) => (0, dialer.pushes_sent()),
                Side::Acceptor(acceptor) => acceptor.sent(),
            };
            link.send(Ping { nonce: link.pings, pos, parts });
        }
        if let Side::Dialer(dialer) = &mut self.side {
            dialer.tell_now_and_then(link);
        }
        match &self.side {
            Side::Dialer(dialer) => dialer.check_time(link),
            Side::Acceptor(acceptor) => acceptor.check_time(link),
        }
    }
}

impl Link {
    fn new(config: Config) -> Link {
        let limits = config.limits;
        Link {
            config,
            now_ms: 0,
            out: Vec::new(),
            open: false,
            closed: false,
            features: 0,
            peer_message_max: HELLO_BYTES_MAX,
            started_ms: None,
            opened_ms: 0,
            heard_ms: 0,
            pinged_ms: 0,
            pings: 0,
            heard: Lexicon::default(),
            told: Lexicon::default(),
            read_after_ms: 0,
            messages: Rate::new(limits.messages_per_second),
            bytes: Rate::new(limits.bytes_per_second),
            presence: Rate::new(limits.presence_per_second),
        }
    }

    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    pub fn emit(&mut self, output: Output) {
        self.out.push(output);
    }

    pub fn event(&mut self, event: Event) {
        self.emit(Output::Event(event));
    }

    /// Sends a message; returns its length.
    pub fn send(&mut self, message: impl Into<Message>) -> u64 {
        let bytes = codec::encode(&message.into());
        let len = bytes.len() as u64;
        self.emit(Output::Send(bytes));
        len
    }

    /// The handshake is done.
    pub fn opened(&mut self) {
        self.open = true;
        (self.opened_ms, self.heard_ms, self.pinged_ms) = (self.now_ms, self.now_ms, self.now_ms);
    }

    /// Ends the session: says why to the peer, drops what else was to be done.
    pub fn fail(&mut self, fault: Fault) {
        let mut detail = fault.detail.clone();
        while detail.len() > TEXT_BYTES_MAX {
            detail.pop();
        }
        let retry_after_ms = fault.retry_after_ms;
        self.send(Error { code: fault.code, retry_after_ms, fatal: true, detail });
        self.close(Some(fault));
    }

    /// Ends the session without a word to the peer.
    pub fn close(&mut self, fault: Option<Fault>) {
        self.closed = true;
        self.emit(Output::Close(fault));
    }

    fn peer_error(&mut self, error: Error) -> Done {
        let fault = Fault { code: error.code, detail: error.detail, retry_after_ms: error.retry_after_ms };
        match error.fatal {
            true => self.close(Some(fault)),
            false => self.event(Event::Warning(fault)),
        }
        Ok(())
    }
}
