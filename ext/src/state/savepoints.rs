//! Savepoints: what they bring back of the buffer.

use super::State;
use crate::sqlite::Result;
use crate::store::{LOOSE, Mark};

/// Before a savepoint opens less is kept than otherwise, since what it may bring back has to stay in memory.
const SAVEPOINT_WEIGHT: usize = 1 << 17;

impl State {
    /// Savepoint `n` opens: marks of deeper ones are stale.
    #[inline]
    pub fn savepoint(&self, n: i32) -> Result<()> {
        if self.ops.borrow().weight() > SAVEPOINT_WEIGHT {
            self.spill()?;
        }
        let n = n.max(0) as usize;
        let mut marks = self.marks.borrow_mut();
        // A table that joins later is told of the innermost savepoint then; the mark from when it opened holds.
        if marks.len() <= n {
            // A savepoint that opened before we joined began with an empty buffer.
            marks.resize(n, Mark::default());
            marks.push(self.ops.borrow().mark());
        }
        Ok(())
    }

    /// Savepoint `n` and deeper ones are gone, what they did stays.
    #[inline]
    pub fn release(&self, n: i32) {
        self.marks.borrow_mut().truncate(n.max(0) as usize);
    }

    /// Back to `mark`, after SQLite undid what one of our statements and its triggers wrote.
    pub fn rewind(&self, mark: Mark) {
        let was_written = self.ops.borrow_mut().rewind(mark);
        self.candidates.borrow_mut().clear();
        *self.replay.borrow_mut() = Default::default();
        if was_written {
            self.store.borrow_mut().forget_to_savepoint(mark.has_written());
        }
        self.tombstones.borrow_mut().1 = u32::MAX;
        self.hidden.borrow_mut().1 = u32::MAX;
        self.last_merged.set(None);
    }

    /// Back to when savepoint `n` opened.
    pub fn rollback_to(&self, n: i32) {
        self.quick.take();
        self.tombstones_of.set(None);
        self.last_merged.set(None);
        let n = n.max(0) as usize;
        let mark = {
            let mut marks = self.marks.borrow_mut();
            marks.truncate(n + 1);
            marks.get(n).copied().unwrap_or_default()
        };
        if self.muted.get() > 0 {
            // A merge's own write to a base table was refused and is undone; it had recorded nothing yet.
            return;
        }
        if self.store.try_borrow_mut().is_err() || self.ops.try_borrow_mut().is_err() {
            // A statement of the store's own failed and is undone; whoever ran it gives up with an error.
            self.is_store_stale.set(true);
            return;
        }
        self.ops.borrow_mut().rewind(mark);
        self.candidates.borrow_mut().clear();
        self.held.borrow_mut().clear();
        // A mark too many does no harm.
        self.completed.borrow_mut().retain(|(site, _, _)| site & LOOSE != 0);
        *self.replay.borrow_mut() = Default::default();
        let is_spilled = mark.has_written();
        self.store.borrow_mut().forget_to_savepoint(is_spilled);
        self.tombstones.borrow_mut().1 = u32::MAX;
        self.past_members.take();
        self.hidden.borrow_mut().1 = u32::MAX;
        self.named_at.take();
        self.forget_schema();
    }
}
