//! The log as clocks, over the segments: where reads of single rows begin.

use super::clock::{Key, RowClock, Run};
use super::draft::LocalVersion;
use super::lookup::{Layers, Segments};
use super::replay::{Clocks, Layer, Replay};
use super::{Store, bytes, log};
use crate::sqlite::{Result, ValueRef};
use std::rc::Rc;

impl Store {
    /// The log as clocks.
    pub fn overlay(&mut self) -> Result<Rc<Layer>> {
        if !self.refresh()? {
            return Ok(Rc::default());
        }
        let tail = self.tail();
        if self.overlay_at < tail.db_version {
            self.replay_log()?;
            self.overlay_at = tail.db_version;
        }
        Ok(self.overlay.clone())
    }

    fn replay_log(&mut self) -> Result<()> {
        let statements = self.statements.as_mut().expect("refresh prepared them");
        let mut entries = Vec::new();
        {
            let after = [ValueRef::Integer(self.overlay_at as i64)];
            let mut rows = statements.log_after.query(&after)?;
            while rows.step()? {
                entries.push(log::decode(rows.column_i64(0) as u64, rows.column_blob(1))?);
            }
        }
        let mut replay = Replay::default();
        let mut base =
            Layers { overlay: &self.overlay, segments: Segments { lookup: &mut self.lookup, statements } };
        replay.prefetch(entries.iter().map(|entry| &entry.ops), &mut base)?;
        for entry in &entries {
            let tail = &entry.tail;
            // The floor is as it was then: it only moves while the log is empty.
            let local = LocalVersion {
                site: self.site,
                version: tail.version,
                db_version: tail.db_version,
                floor: self.collected.floor,
            };
            for op in entry.ops.pending() {
                replay.apply(op, 0, &entry.ops, local, &mut base)?;
            }
            replay.seal(local, 0);
        }
        Rc::make_mut(&mut self.overlay).extend(replay.into_rows());
        Ok(())
    }

    /// The stored clock of a row; what the open transaction buffers is not in it.
    pub fn clock(&mut self, table: u32, key: &Key) -> Result<Option<RowClock>> {
        let overlay = self.overlay()?;
        let Some(statements) = self.statements.as_mut() else { return Ok(None) };
        Layers { overlay: &overlay, segments: Segments { lookup: &mut self.lookup, statements } }
            .clock(table, key)
    }

    /// True when none of the rows `first ..= last` has a stored clock.
    pub fn is_free(&mut self, table: u32, first: i64, last: i64) -> Result<bool> {
        let overlay = self.overlay()?;
        if overlay.range((table, Key::Int(first))..=(table, Key::Int(last))).next().is_some() {
            return Ok(false);
        }
        let Some(statements) = self.statements.as_mut() else { return Ok(false) };
        self.lookup.is_free(statements, table, first, last)
    }

    /// True when exactly the clocks of `run`, or of a later incarnation of all its rows, are stored already.
    pub fn holds(&mut self, table: u32, run: &Run) -> Result<bool> {
        let (Some(first), Some(last)) = (run.first_int(), run.last_int()) else { return Ok(false) };
        let overlay = self.overlay()?;
        if overlay.range((table, Key::Int(first))..=(table, Key::Int(last))).next().is_some() {
            return Ok(false);
        }
        let Some(statements) = self.statements.as_mut() else { return Ok(false) };
        self.lookup.holds(statements, table, run)
    }

    /// The overlay and the segments, to replay operations over.
    pub fn with_layers<T>(&mut self, body: impl FnOnce(&mut Layers) -> Result<T>) -> Result<T> {
        let overlay = self.overlay()?;
        let statements = self.statements.as_mut().ok_or_else(bytes::damaged)?;
        body(&mut Layers { overlay: &overlay, segments: Segments { lookup: &mut self.lookup, statements } })
    }
}
