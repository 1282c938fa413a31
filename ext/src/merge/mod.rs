//! Remote changes on their way into base tables and clocks: look up, let the core decide, write the base row
//! first, because only it can be refused, then record the clocks.

mod base;
mod dominate;
pub mod fire;
mod held;
pub mod hidden;
mod order;
mod row;
mod walk;

pub use base::{RowPlace, find_rowid, insert_statement, insert_with, shown_value, update as update_base};
pub use dominate::{begin_again, die_again, raise, written_here};
pub use held::{Held, HeldRow, hold, hold_next, settle};
pub use order::Order;
#[cfg(feature = "text")]
pub use row::locate;
pub use row::{
    Author, Incoming, Known, Outcome, cell_by_key, changes_in, check_key, clock_by_key, insert_new,
    merge_along, merge_row,
};
pub use walk::Walk;

use crate::sqlite::Result;
use crate::state::State;
use crate::store::{Key, Ops, RowClock};

/// Up to this many operations are looked through for a row before they are replayed.
const LOOKED_THROUGH_MAX: usize = 16;

/// A row's clock with everything that the open transaction did to it.
pub fn clock_of(state: &State, table: u32, key: &Key) -> Result<Option<RowClock>> {
    if is_untouched(&state.ops.borrow(), table, key) {
        return state.store.borrow_mut().clock(table, key);
    }
    state.with_replay(|replay, store, local| match replay.peek(table, key, local) {
        Some(known) => Ok(known),
        None => store.clock(table, key),
    })
}

/// True when clearly none of the pending operations is about this row.
fn is_untouched(ops: &Ops, table: u32, key: &Key) -> bool {
    let pending = ops.pending();
    pending.len() <= LOOKED_THROUGH_MAX
        && pending.iter().filter(|op| op.table == table).all(|op| match key {
            Key::Int(key) => op.by_pk || key.wrapping_sub(op.key) as u64 >= u64::from(op.count),
            Key::Bytes(pk) => ops.pk_of(op) != Some(pk),
        })
}
