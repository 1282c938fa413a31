//! SQLite tables that converge: conflict-free replicated relations as a SQLite extension.

#![deny(unsafe_code)]

#[cfg(all(feature = "static", feature = "loadable"))]
compile_error!(
    "crsql: features `static` (or `bundled`) and `loadable` exclude each other; \
     build the loadable extension with `--no-default-features --features loadable`"
);
#[cfg(not(any(feature = "static", feature = "loadable")))]
compile_error!("crsql: enable one of the features `bundled`, `static` and `loadable`");

#[allow(unsafe_code)]
pub mod sqlite;

mod alter;
mod api;
mod capture;
mod catalog;
mod changes;
mod changeset;
mod collect;
mod config;
mod doctor;
mod former;
pub mod functions;
mod gc;
mod json;
#[allow(unsafe_code)]
mod loader;
mod losers;
mod members;
mod merge;
mod options;
mod order;
mod park;
mod peers;
mod pool;
mod rebootstrap;
mod reissue;
mod renumber;
pub mod schema;
mod site;
mod state;
mod stats;
mod store;
mod typed;

#[cfg(not(feature = "loadable"))]
pub use loader::{register, register_auto, register_raw};
#[cfg(feature = "loadable")]
pub use loader::{sqlite3_crsql_init, sqlite3_crsqlite_init};

/// Registers everything on a connection that does not have it yet.
pub(crate) fn register_db(db: sqlite::Db) -> sqlite::Result<()> {
    let state = std::rc::Rc::new(state::State::new(db));
    functions::register(db, &state)?;
    capture::register(db, &state)?;
    changes::register(db, &state)?;
    peers::register(db, &state)?;
    api::register(db, &state)
}
