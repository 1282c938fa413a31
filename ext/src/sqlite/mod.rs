//! The fence around SQLite's C interface: every `unsafe` block of the extension is below this module or in
//! the loader. What is outside sees a connection ([`Db`]), prepared statements ([`Statement`]), functions
//! ([`register_function`], [`register_aggregate`]) and virtual tables ([`Module`]), and can misuse none of them
//! into undefined behaviour.
//!
//! It decides nothing: no replication rule, no cache, no schema. It is thin on purpose, since capture calls
//! it for every row: no allocation and no string on the successful path.
//!
//! The same source serves both link modes. `rusqlite::ffi` is either SQLite linked into the program or a set
//! of functions that go through the host's API table; nothing here is newer than SQLite 3.34.1.

mod api;
mod db;
mod error;
mod function;
mod output;
mod statement;
mod value;
mod vtab;

pub use crsql_core::value::{Value, ValueRef};
pub use db::{Db, Transaction};
pub use error::{Error, Result};
pub use function::{Call, Flags, register_aggregate, register_function};
pub use output::Output;
pub use statement::{Rows, Statement};
pub use value::{Args, Class};
pub use vtab::{
    Access, Constraint, IndexInfo, Module, OnConflict, Operator, OrderTerm, Risk, RowChange, VtabConfig,
    register_module,
};

#[cfg(feature = "loadable")]
pub(crate) use api::load as load_api;
pub(crate) use error::{guard as catch_panic, sqlite_string};
pub(crate) use value::storage_class;
