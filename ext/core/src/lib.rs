//! The pure core of crsql: what a replicated row is, and what happens when two replicas meet.
//!
//! Everything here decides; nothing here touches SQLite, a file, a socket, a clock or a random source. The
//! extension reads plain values, asks this crate, and writes what it answers.
//!
//! - [`value`], [`pack`], [`key`]: SQLite values, cr-sqlite's packing, and the canonical bytes that identify a row.
//! - [`ids`], [`version_vector`], [`limits`]: sites, their versions, and which of them a replica holds.
//! - [`merge`], [`change`]: the order of competing writes, and one replicated fact.
//! - [`clash`]: which of the rows that clash in a UNIQUE index are shown.
//! - [`collect`]: which tombstones may go.
//! - [`column`]: types of columns, which merge by rules of their own.
//! - [`digest`]: a sum of hashes that is equal exactly when two replicas hold the same facts.
//! - [`changeset`]: the row-grouped encoding of many changes.
//! - [`msgpack`]: how formats are read.
//! - `text`: texts that are merged character by character, with the feature of that name.
//! - [`replica`]: an in-memory replica, the executable description of all of the above.

#![forbid(unsafe_code)]

pub mod change;
pub mod changeset;
pub mod clash;
pub mod collect;
pub mod column;
pub mod digest;
pub mod ids;
pub mod key;
pub mod limits;
pub mod merge;
pub mod msgpack;
pub mod pack;
pub mod parents;
pub mod replica;
#[cfg(feature = "text")]
pub mod text;
pub mod value;
pub mod version_vector;
