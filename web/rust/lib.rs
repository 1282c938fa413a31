//! The WebAssembly module of the npm package `@crsql/web`: SQLite and crsql behind a small interface of bytes.
//!
//! TypeScript owns tabs, storage handles and sockets; what decides is here or in the crates below. Values cross the
//! border as bytes ([`values`], [`rows`]), one call for each request, because a call for each value costs more than
//! SQLite itself.

#![deny(unsafe_code)]

mod database;
mod error;
#[allow(unsafe_code)]
mod files;
#[allow(unsafe_code)]
mod hooks;
mod live;
mod patch;
mod rows;
mod statements;
mod sync;
mod values;
#[allow(unsafe_code)]
mod vfs;

pub use database::Database;

/// The version of this package and of its SQLite, such as `0.1.0 (SQLite 3.53.0)`.
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn version() -> String {
    format!("{} (SQLite {})", env!("CARGO_PKG_VERSION"), rusqlite::version())
}
