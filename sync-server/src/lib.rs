//! The relay of crsql: rooms of replicated databases over WebSocket and HTTP.
//!
//! [`serve::Relay`] is the whole of it, for `crsql-server serve` and for tests. A push goes from a `connection` into a
//! `room`, which records it and hands it to the `journal`; once it is durable there it is acknowledged and told to
//! everybody else in the room.

#![forbid(unsafe_code)]

// What tests of the outside share with simulations inside names this crate.
#[cfg(test)]
extern crate self as crsql_server;

pub mod auth;
pub mod backup;
pub mod check;
pub mod config;
mod connection;
mod context;
pub mod doctor;
mod http;
pub mod journal;
mod listener;
mod log;
pub mod metrics;
mod paced;
mod pool;
mod random;
mod room;
pub mod serve;
#[cfg(test)]
mod sim;
mod store;
pub mod sync;
mod tls;
