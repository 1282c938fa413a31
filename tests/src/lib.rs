//! The harness of crsql's evidence: replicas on real SQLite, ways to exchange between them, and comparisons.
//!
//! A [`Site`] is one replica. Tests arrange with SQL, exchange with [`exchange`], and compare with
//! [`assert_converged`]. Nothing here knows how the extension stores its clocks: everything goes through SQL, so
//! the suites judge the extension from outside.
//!
//! With `CRSQL_EXTENSION=path/to/libcrsql.so` in the environment the replicas load that file instead of the
//! statically registered extension, so that both link modes pass the same tests.

pub mod exchange;
pub mod extension;
pub mod fault_host;
pub mod faults;
pub mod files;
pub mod fixture;
pub mod fuzz;
pub mod history;
pub mod hosts;
pub mod plans;
pub mod process;
pub mod rng;
pub mod site;
pub mod special;
pub mod value;

pub use exchange::{assert_converged, assert_same_tables, exchange_all, pull, sync};
pub use files::TempDir;
pub use rng::Rng;
pub use site::{NO_ROWS, Site, site, sites};
pub use value::SqlValue;
