//! One WebSocket: moves messages between the socket, the session and the room.
//!
//! The session decides, this performs. Nothing is queued here: a socket that takes nothing holds up only its own
//! connection, which then reads from the journal what it missed.

mod perform;
mod reply;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use crsql_core::ids::SiteId;
use crsql_protocol::message::{Goaway, Presence};
use crsql_protocol::{Code, Fault, Input, Session};
use futures_util::{FutureExt, SinkExt};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, watch};

use crate::auth::{Grant, Permission};
use crate::context::{Context, unix_ms};
use crate::paced::Pace;
use crate::random;
use crate::room::{self, Cuts, Room, Rooms, Signal};
use reply::Reply;

/// How often a session looks at the clock, before and after the handshake.
const TICK: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// One connection of a room asks for what is missing there once in about so many ticks.
const ASK_EVERY: u64 = 6;

/// How often in a row a connection hears of nothing but the room.
const FED_MAX: u32 = 16;

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reconnects after a shutdown are spread over this many milliseconds.
const SPREAD_MS: u64 = 5_000;

/// What the HTTP side knows of a new connection.
pub struct Arrival {
    /// The room named by the URL.
    pub room: String,
    /// The token of the Authorization header, if there was one.
    pub token: Option<String>,
    /// Where it comes from, for the log.
    pub from: String,
    /// The bytes that came from there.
    pub received: Arc<AtomicU64>,
    /// Held until the handshake is done.
    pub _handshake: OwnedSemaphorePermit,
}

/// A connection.
pub(crate) struct Connection {
    id: u64,
    rooms: Arc<Rooms>,
    context: Arc<Context>,
    socket: WebSocket,
    session: Session,
    arrival: Option<Arrival>,
    member: Option<Member>,
    replies: mpsc::UnboundedSender<Reply>,
    /// Pushes on their way to the journal.
    storing: usize,
    /// Whether something was written that the socket has not been told to send.
    unflushed: bool,
    closing: bool,
    pace: Pace,
}

/// What a connection has once it was let in.
struct Member {
    room: Arc<Room>,
    grant: Grant,
    site: SiteId,
    zstd: bool,
    /// The position up to which the session was told of the journal.
    fed: u64,
    /// How many names of the room the other side was told.
    told: u32,
    cuts: Cuts,
    progress: Option<room::Progress>,
    new_sites: BTreeSet<SiteId>,
    new_sites_since_ms: u64,
    signal: watch::Receiver<Signal>,
    present: broadcast::Receiver<Arc<(u64, Presence)>>,
}

/// What a connection waits for.
enum Happening {
    Message(Option<Result<Message, axum::Error>>),
    Reply(Reply),
    Signal,
    Presence(Result<Arc<(u64, Presence)>, broadcast::error::RecvError>),
    Tick,
    Expired,
    Drain,
}

impl Connection {
    /// Serves a connection to its end.
    pub async fn run(rooms: Arc<Rooms>, socket: WebSocket, arrival: Arrival) {
        let context = rooms.context().clone();
        let (replies, mut answers) = mpsc::unbounded_channel();
        let from = arrival.from.clone();
        let settings = &context.settings;
        let (least, grace) = (settings.min_bytes_per_second.0, settings.header_timeout.duration());
        let pace = Pace::new(arrival.received.clone(), least, grace);
        let mut connection = Connection {
            id: context.next_id.fetch_add(1, Ordering::Relaxed),
            session: Session::accept(context.settings.session()),
            rooms,
            context,
            socket,
            arrival: Some(arrival),
            member: None,
            replies,
            storing: 0,
            unflushed: false,
            closing: false,
            pace,
        };
        let id = connection.id;
        tracing::debug!(id, from, "connected");
        connection.serve(&mut answers).await;
        if let Some(member) = connection.member.take() {
            member.room.leave(member.site);
            member.room.connections.fetch_sub(1, Ordering::Relaxed);
            connection.context.metrics.sessions.sub(1);
        }
        tracing::debug!(id, "disconnected");
    }

    async fn serve(&mut self, answers: &mut mpsc::UnboundedReceiver<Reply>) {
        let mut draining = self.context.drain.subscribe();
        let draining = draining.wait_for(|drain| *drain);
        tokio::pin!(draining);
        let mut leaving = false;
        let mut fed = 0;
        let mut tick = tokio::time::interval(TICK[0]);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut quick = true;
        let expiry = tokio::time::sleep(NEVER);
        tokio::pin!(expiry);
        let mut rest = Box::pin(tokio::time::sleep(Duration::ZERO));
        while !self.closing {
            if quick && self.session.is_open() {
                quick = false;
                let jitter = Duration::from_millis(random::below(5000));
                tick = tokio::time::interval_at(tokio::time::Instant::now() + jitter, TICK[1]);
                if let Some(end) = self.member.as_ref().and_then(|member| member.grant.expires_ms) {
                    let left = Duration::from_millis(end.saturating_sub(unix_ms())).min(NEVER);
                    expiry.as_mut().reset(tokio::time::Instant::now() + left);
                }
            }
            let happening = {
                let member = &mut self.member;
                let (signal, present) = match member {
                    Some(member) => (Some(&mut member.signal), Some(&mut member.present)),
                    None => (None, None),
                };
                // The next message waits in the socket while this connection is ahead of its rate.
                let wait_ms = self.session.read_after_ms().saturating_sub(self.context.now_ms());
                if wait_ms > 0 {
                    rest.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(wait_ms));
                }
                // In this order, so that a simulation can repeat it. News of the room come first, being most of what
                // happens, but not so often in a row that nothing else does; then what is rare, or was asked for here.
                tokio::select! {
                    biased;
                    _ = changed(signal), if fed < FED_MAX => Happening::Signal,
                    () = &mut rest, if wait_ms > 0 => {
                        self.pace.resume();
                        continue;
                    }
                    _ = &mut draining, if !leaving => Happening::Drain,
                    () = &mut expiry => Happening::Expired,
                    _ = tick.tick() => Happening::Tick,
                    Some(reply) = answers.recv() => Happening::Reply(reply),
                    presence = heard(present) => Happening::Presence(presence),
                    message = self.socket.recv(), if !leaving && wait_ms == 0 => Happening::Message(message),
                    () = std::future::ready(()), if fed >= FED_MAX => {
                        fed = 0;
                        continue;
                    }
                }
            };
            fed = if matches!(happening, Happening::Signal) { fed + 1 } else { 0 };
            match happening {
                Happening::Message(message) => self.message(message).await,
                Happening::Reply(reply) => self.reply(reply).await,
                Happening::Signal => self.feed().await,
                Happening::Presence(presence) => self.presence(presence).await,
                Happening::Tick if !self.is_resting() && self.pace.is_too_slow(std::time::Instant::now()) => {
                    self.fail(Fault::new(Code::SLOW, "a message comes too slowly")).await;
                }
                Happening::Tick => {
                    self.handle(Input::Tick).await;
                    self.ask_for_gaps().await;
                }
                Happening::Expired => {
                    expiry.as_mut().reset(tokio::time::Instant::now() + NEVER);
                    let detail = "the token has expired: connect again with a new one";
                    self.fail(Fault::new(Code::UNAUTHORIZED, detail)).await;
                }
                Happening::Drain => {
                    leaving = true;
                    let reconnect_ms = 250 + random::below(SPREAD_MS);
                    let goaway =
                        Goaway { reason: "the relay is shutting down".into(), reconnect_ms, instead: None };
                    self.handle(Input::Leave(goaway)).await;
                }
            }
            self.flush().await;
            // Pushes that were taken are still acknowledged; what comes later will be pushed again.
            if leaving && self.storing == 0 && !self.closing {
                self.close(1012, "restart").await;
            }
        }
    }

    /// Whether it is we who leave the next message in the socket.
    fn is_resting(&self) -> bool {
        self.session.read_after_ms() > self.context.now_ms()
    }

    async fn message(&mut self, message: Option<Result<Message, axum::Error>>) {
        self.pace.complete();
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                self.context.metrics.bytes_in.add(bytes.len() as u64);
                if !self.admit_bytes(bytes.len() as u64).await {
                    let fault = Fault::new(Code::RATE, "the room receives too much: try again later");
                    return self.fail(Fault { retry_after_ms: 5000, ..fault }).await;
                }
                self.handle(Input::Message(&bytes)).await;
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(_))) => {
                self.fail(Fault::new(Code::MALFORMED, "text, where only binary messages make sense")).await;
            }
            Some(Ok(Message::Close(_))) | None => self.closing = true,
            // It just went away.
            Some(Err(error)) if is_gone(&error) => self.closing = true,
            Some(Err(error)) => {
                let code = if is_too_long(&error) { Code::TOO_LARGE } else { Code::MALFORMED };
                self.fail(Fault::new(code, format!("the WebSocket failed: {error}"))).await;
                self.closing = true;
            }
        }
    }

    /// Slows down whoever brings too much into a room, for a while.
    async fn admit_bytes(&mut self, bytes: u64) -> bool {
        let Some(member) = &self.member else { return true };
        if member.room.admit_bytes(bytes) {
            return true;
        }
        let room = member.room.clone();
        // Longer than a push may go unanswered would be in vain.
        for _ in 0..self.context.settings.limits().ack_ms / 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if room.admit_bytes(bytes) {
                return true;
            }
        }
        false
    }

    /// Tells the session what the journal got since it was told last.
    async fn feed(&mut self) {
        let Some(member) = &mut self.member else { return };
        let signal = *member.signal.borrow_and_update();
        if signal.failed {
            let fault = Fault::new(Code::UNAVAILABLE, "the room is opened again: connect again");
            return self.fail(Fault { retry_after_ms: 1000, ..fault }).await;
        }
        let (room, zstd, id) = (member.room.clone(), member.zstd, self.id);
        let mut fed = member.fed;
        for live in room.recent(fed) {
            if live.after > fed {
                // So far behind that memory has forgotten it.
                self.live(fed, live.after, None, false, 0).await;
            }
            fed = live.upto;
            let bytes = live.bytes(zstd).cloned();
            self.live(live.after, live.upto, bytes, live.origin == id, live.names).await;
        }
        if let Some(member) = &mut self.member {
            member.fed = member.fed.max(fed);
        }
    }

    async fn live(&mut self, after: u64, upto: u64, bytes: Option<Bytes>, echo: bool, names: u32) {
        let live = crsql_protocol::session::Live {
            after,
            upto,
            bytes: bytes.as_ref().map(|b| b.len() as u64),
            echo,
        };
        let outputs = self.session.handle(self.context.now_ms(), Input::Live(live));
        self.perform(outputs, bytes.map(|bytes| (bytes, names))).await;
    }

    async fn presence(&mut self, presence: Result<Arc<(u64, Presence)>, broadcast::error::RecvError>) {
        // Who lags behind misses values that the next ones replace anyway.
        if let Ok(said) = presence
            && said.0 != self.id
        {
            self.handle(Input::Present(said.1.clone())).await;
        }
    }

    /// Chunks that were given up may have become whole elsewhere; a few connections are asked at a time.
    async fn ask_for_gaps(&mut self) {
        let Some(member) = &self.member else { return };
        let others = member.room.connections.load(Ordering::Relaxed) as u64;
        if member.grant.allows(Permission::Write) && random::below(others.max(1) * ASK_EVERY) == 0 {
            let gaps = member.room.gaps();
            self.handle(Input::Want(gaps)).await;
        }
    }

    async fn fail(&mut self, fault: Fault) {
        self.handle(Input::Fail(fault)).await;
    }

    async fn handle(&mut self, input: Input<'_>) {
        let outputs = self.session.handle(self.context.now_ms(), input);
        self.perform(outputs, None).await;
    }

    async fn send(&mut self, bytes: Bytes) {
        self.context.metrics.bytes_out.add(bytes.len() as u64);
        self.unflushed = true;
        let message = Message::Binary(bytes);
        // Hardly ever is there something to wait for.
        let is_ready = std::future::poll_fn(|context| self.socket.poll_ready_unpin(context)).now_or_never();
        let sent = match is_ready {
            Some(Ok(())) => Ok(self.socket.start_send_unpin(message)),
            _ => tokio::time::timeout(self.patience(), self.socket.feed(message)).await,
        };
        self.closing |= !matches!(sent, Ok(Ok(())));
    }

    async fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) && !self.closing {
            let sent = match self.socket.flush().now_or_never() {
                Some(done) => Ok(done),
                None => tokio::time::timeout(self.patience(), self.socket.flush()).await,
            };
            self.closing |= !matches!(sent, Ok(Ok(())));
        }
    }

    async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let close = async {
            self.socket.send(frame).await.ok();
        };
        tokio::time::timeout(Duration::from_secs(2), close).await.ok();
        self.closing = true;
    }

    /// How long a socket may take nothing.
    fn patience(&self) -> Duration {
        self.context.settings.credit_timeout.duration()
    }
}

async fn changed(signal: Option<&mut watch::Receiver<Signal>>) {
    match signal {
        // The room lives as long as the connection holds it.
        Some(signal) => signal.changed().await.unwrap_or(()),
        None => std::future::pending().await,
    }
}

async fn heard(
    present: Option<&mut broadcast::Receiver<Arc<(u64, Presence)>>>,
) -> Result<Arc<(u64, Presence)>, broadcast::error::RecvError> {
    match present {
        Some(present) => present.recv().await,
        None => std::future::pending().await,
    }
}

fn is_gone(error: &axum::Error) -> bool {
    let text = error.to_string();
    ["Connection reset", "Connection closed", "IO error"].iter().any(|gone| text.contains(gone))
}

fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long") || error.to_string().contains("Space limit")
}
