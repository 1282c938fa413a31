//! The virtual table `crsql_changes`: reading and merging changes one cell at a time, as cr-sqlite's users know it.

mod insert;
mod item;
mod order;
mod plan;
mod reader;
mod table;

pub use insert::{Bracket, close_for_commit, flush};
pub use reader::{RowReader, key_of_deleted};

use crate::sqlite::{Db, Result, register_module};
use crate::state::State;
use std::rc::Rc;

/// Registers the table.
pub fn register(db: Db, state: &Rc<State>) -> Result<()> {
    register_module::<table::ChangesTable>(db, c"crsql_changes", state)
}
