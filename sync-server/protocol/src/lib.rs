//! The sync protocol of crsql: messages, codec and a session without I/O.
//!
//! Shared by the relay, the native client and the browser: there is no socket, clock, thread or random source in
//! it. Bytes and milliseconds go in, bytes and requests come out. `docs/protocol.md` is the grammar.
//!
//! - [`message`], [`codec`], [`wire`]: what travels, and its bytes.
//! - [`session`]: one connection as a state machine.
//! - [`ledger`], [`stage`], [`holdings`]: what a node holds, what waits for its other chunks, what is lacking.
//! - [`names`]: what is told once and called by number from then on.
//! - [`presence`], [`compare`]: values that live for seconds, and the search for differing rows.
//! - [`limits`], [`code`]: the bound on everything, and the names of what goes wrong.
//!
//! A conversation: a client with one transaction meets an empty relay.
//!
//! ```
//! use crsql_core::ids::SiteId;
//! use crsql_protocol::holdings::Holdings;
//! use crsql_protocol::message::*;
//! use crsql_protocol::session::{Admission, Local, Parcel, Read};
//! use crsql_protocol::wire::{Blob, Chain, Fingerprint};
//! use crsql_protocol::{Config, Event, Input, Output, Session};
//!
//! let site = SiteId([7; 16]);
//! let chain = Chain([1; 16]);
//! let (mut client, mut relay) = (Session::dial(Config::default()), Session::accept(Config::default()));
//! let mut held = Holdings::default();
//! held.whole.insert(site, 1);
//!
//! // The client says who it is, what it wants and what it holds.
//! let head = Head { version: 1, chain };
//! let (schema, fingerprint) = (SchemaId::default(), Fingerprint([1; 16]));
//! let (token, resume) = (Some("secret".into()), None);
//! let local = Local { room: "demo".into(), token, site, head, tie_break: 0, schema, resume, fingerprint, held };
//! let [Output::Send(hello)] = &client.handle(0, Input::Open(Box::new(local)))[..] else { panic!() };
//!
//! // The relay looks at the token and the room, and lets it in.
//! let [Output::Admit(seen)] = &relay.handle(1, Input::Message(hello))[..] else { panic!() };
//! assert_eq!(seen.room, "demo");
//! let admission = Admission {
//!     site: SiteId([0; 16]),
//!     permissions: READ | WRITE,
//!     head: Cursor { epoch: 42, pos: 0 },
//!     floor_pos: 0,
//!     your_head: Head::default(),
//!     your_common: Head::default(),
//!     ancestry: Ancestry::Unknown,
//!     tie_break: 0,
//!     schema: SchemaAction::Ok,
//!     held: Holdings::default(),
//!     fingerprint: Fingerprint([0; 16]),
//!     snapshot: None,
//!     collected: None,
//!     members_ms: 0,
//! };
//! let welcome = relay.handle(2, Input::Admit(Box::new(admission)));
//! let [Output::Send(welcome), Output::Event(Event::Ready(_)), Output::Send(pos)] = &welcome[..] else { panic!() };
//!
//! // The relay lacks the transaction: the client reads it from its store and pushes it.
//! let read = client.handle(3, Input::Message(welcome));
//! let [Output::Event(Event::Ready(_)), Output::Read(Read::Versions { needs, .. })] = &read[..] else { panic!() };
//! assert!(needs.wants(site, 1));
//! let body = Blob(b"a changeset".to_vec());
//! let frame = Frame { site, site_version: 1, seq_lo: 0, seq_hi: 2, last_seq: 2, chain, codec: CODEC_PLAIN, body };
//! let parcel = Parcel { frames: vec![frame], ..Parcel::default() };
//! let [Output::Send(push)] = &client.handle(4, Input::Parcel(parcel))[..] else { panic!() };
//!
//! // The relay makes it durable. Only then does it say so.
//! let [Output::Store(push)] = &relay.handle(5, Input::Message(push))[..] else { panic!() };
//! let mut durable = crsql_core::version_vector::VersionVector::default();
//! durable.insert(push.frames[0].site, push.frames[0].site_version);
//! let ack = Ack { id: push.id, pos: 1, held: durable.clone(), rejected: vec![] };
//! let [Output::Send(ack)] = &relay.handle(6, Input::Stored(ack))[..] else { panic!() };
//!
//! assert_eq!(client.handle(7, Input::Message(ack)), [Output::Event(Event::Confirmed(durable))]);
//! assert!(client.is_flushed());
//! # let _ = pos;
//! ```

#![forbid(unsafe_code)]

pub mod code;
pub mod codec;
pub mod compare;
#[cfg(test)]
mod golden;
pub mod holdings;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod names;
pub mod presence;
pub mod session;
#[cfg(test)]
mod sim;
pub mod stage;
pub mod wire;

pub use code::{Code, Fault};
pub use session::{Config, Event, Input, Output, Session};
