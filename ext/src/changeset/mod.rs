//! `crsql_changeset` and `crsql_apply`: whole versions in one blob, row by row instead of cell by cell.

mod apply;
mod build;
mod digest;
mod run;
mod vector;

pub use apply::apply;
pub use build::{Since, build};
pub use digest::{digest, range_digests};
pub use vector::{encoded_vector, version_vector};
