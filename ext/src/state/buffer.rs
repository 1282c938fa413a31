//! The open transaction's buffer, where merges add to it and readers look through it.

use super::State;
use crate::sqlite::Result;
use crate::store::{Completed, LOOSE, Layer, LocalVersion, Replay, Run, Store};
use std::rc::Rc;

/// A reader inside a transaction has the buffer replayed in memory up to this many rows; more are stored first.
const LAYER_ROWS_MAX: u64 = 4096;

/// The buffer replayed: the rows, how many operations are in whole, and how many rows of the next one.
#[derive(Default)]
pub(super) struct Replayed {
    rows: Replay,
    ops: usize,
    rows_of_next: u32,
}

impl State {
    /// Adds clocks that won a merge to the buffer.
    pub fn record_merge(&self, table: u32, new_incarnation: bool, run: Run) {
        self.last_merged.set(None);
        let outer = self.marks.borrow().last().copied();
        let mut ops = self.ops.borrow_mut();
        let mut replay = self.replay.borrow_mut();
        let Replayed { ops: done, rows_of_next, .. } = &mut *replay;
        // What was replayed must not change under the replay.
        let is_replayed = *done + usize::from(*rows_of_next > 0) >= ops.pending().len();
        if !new_incarnation && !is_replayed && ops.join_merge(table, &run, outer) {
            return;
        }
        if let Some(rows) = ops.coalesce(outer) {
            let last = ops.pending().len() - 1;
            if *done == last + 1 {
                (*done, *rows_of_next) = (last, rows + *rows_of_next);
            }
        }
        ops.push_merge(table, new_incarnation, run);
    }

    /// True when the open transaction changed replicated state.
    pub fn has_uncommitted(&self) -> bool {
        !self.ops.borrow().is_empty()
            || !self.completed.borrow().is_empty()
            || self.has_parked.get()
            || self.store.borrow().is_spilled()
    }

    /// The clocks that are not in segments, what is pending included, for readers inside the transaction.
    pub fn layer(&self) -> Result<Rc<Layer>> {
        if self.ops.borrow().rows() > LAYER_ROWS_MAX {
            self.spill()?;
        }
        if self.ops.borrow().is_empty() {
            return self.store.borrow_mut().overlay();
        }
        self.with_replay(|replay, store, local| {
            let mut layer = (*store.overlay()?).clone();
            layer.extend(replay.sealed_copy(local, store.next_seq()));
            Ok(Rc::new(layer))
        })
    }

    /// Runs `body` with the buffer replayed up to its last operation.
    pub fn with_replay<T>(
        &self,
        body: impl FnOnce(&Replay, &mut Store, LocalVersion) -> Result<T>,
    ) -> Result<T> {
        let mut store = self.store.borrow_mut();
        store.refresh()?;
        let local = store.next_local();
        let ops = self.ops.borrow();
        let mut replay = self.replay.borrow_mut();
        let Replayed { rows, ops: done, rows_of_next } = &mut *replay;
        let pending = ops.pending();
        // The last operation may have grown since, so it never counts as done.
        if pending.last().is_some_and(|last| *done + 1 < pending.len() || *rows_of_next < last.count) {
            store.with_layers(|base| {
                for op in &pending[*done..] {
                    rows.apply(op, *rows_of_next, &ops, local, base)?;
                    *rows_of_next = 0;
                }
                Ok(())
            })?;
            *done = pending.len() - 1;
            *rows_of_next = pending.last().map_or(0, |last| last.count);
        }
        body(rows, &mut store, local)
    }

    /// Versions that the open transaction holds completely once it commits.
    pub fn complete(&self, completed: impl IntoIterator<Item = Completed>) {
        self.completed.borrow_mut().extend(completed);
    }

    /// A change may have come without the rest of its version.
    #[inline]
    pub fn note_loose(&self, site: u32, version: u64) -> Result<()> {
        if version == 0 || self.last_loose.get() == (site, version) {
            return Ok(());
        }
        self.last_loose.set((site, version));
        if self.store.borrow_mut().holds_version(site, version)? {
            Ok(())
        } else {
            self.mark_loose(site, version)
        }
    }

    /// A change takes another apply position than the rest of its version.
    pub fn mark_loose(&self, site: u32, version: u64) -> Result<()> {
        if version > 0 && !self.store.borrow_mut().holds_version(site | LOOSE, version)? {
            self.completed.borrow_mut().push((site | LOOSE, version, version));
        }
        Ok(())
    }
}
