//! Keeps a SQLite database in sync: through relays, or straight between peers.
//!
//! Two layers. [`replica`] and [`node`] have no sockets, threads or clocks: a [`replica::Replica`] is the store behind
//! the protocol's sessions, a [`node::Node`] is a replica with its connections as a state machine, for whoever brings
//! a transport. With the feature `tokio` (default) there is [`sync`] on top: real connections, reconnecting, and
//! watching the file.

#![forbid(unsafe_code)]

mod error;
pub mod node;
pub mod replica;
#[cfg(feature = "tokio")]
pub mod sync;

pub use error::{Error, Result};

/// Compiles and runs the examples of the handbook.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../docs/sync.md")]
struct Handbook;
