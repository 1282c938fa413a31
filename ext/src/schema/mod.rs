//! What crsql knows about the tables it replicates: their shape, whether they can replicate, and the triggers that
//! watch them.
//!
//! It reads `sqlite_schema` and produces values and SQL text. It writes nothing, keeps no state and caches nothing.

pub mod automigrate;
pub mod ddl;
pub mod describe;
pub mod eligibility;
pub mod ident;
mod ineligible;
pub mod names;
mod scratch;
pub mod script;
pub mod table;
pub mod tokens;
pub mod triggers;

#[cfg(test)]
mod automigrate_tests;
#[cfg(test)]
mod describe_tests;
#[cfg(test)]
mod eligibility_tests;
#[cfg(test)]
mod support;
#[cfg(test)]
mod triggers_tests;

pub use describe::describe;
pub use eligibility::{Ineligible, Policies, eligible};
pub use ident::{Ident, Literal};
pub use table::{ColumnInfo, KeyShape, TableInfo, TableKind};
