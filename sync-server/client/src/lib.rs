//! Keeps a SQLite database in sync: through relays, or straight between peers.
//!
//! Two layers. [`replica`] and [`node`] have no sockets, threads or clocks: a [`replica::Replica`] is the store behind
//! the protocol's sessions, a [`node::Node`] is a replica with its connections as a state machine, for whoever brings
//! a transport. With the feature `tokio` (default) there are real connections on top of it.

#![forbid(unsafe_code)]

mod error;
pub mod node;
pub mod replica;

pub use error::{Error, Result};
