//! Rewrites segments in one pass over sorted keys.

use super::clock::{Key, RowClock, Run};
use super::draft::Draft;
use super::segment::{Encoded, SegmentWriter, decode};
use super::tables::{Statements, key_from, key_value};
use crate::sqlite::{Result, ValueRef};
use std::collections::VecDeque;

/// An editor of one table's segments of one kind of key. Calls must come in ascending key order.
pub struct Editor<'s> {
    statements: &'s mut Statements,
    table: u32,
    integers: bool,
    open: Option<Open>,
}

/// The segment being rewritten.
struct Open {
    /// Its row, unless the keys before the first segment are being written.
    stored: Option<Key>,
    /// Where the next segment begins.
    next: Option<Key>,
    /// Old runs that were not copied yet.
    old: VecDeque<Run>,
    writer: SegmentWriter,
    /// The stored row has been replaced by a first new segment.
    replaced: bool,
}

impl<'s> Editor<'s> {
    /// Edits the segments of `table`, of integer or of packed keys.
    pub fn new(statements: &'s mut Statements, table: u32, integers: bool) -> Self {
        Editor { statements, table, integers, open: None }
    }

    /// Puts a row's clock, or takes it away.
    pub fn set(&mut self, key: &Key, clock: Option<RowClock>) -> Result<()> {
        self.seek(key)?;
        let open = self.open.as_mut().expect("seek opened a segment");
        open.copy_below(key);
        open.skip(key);
        if let Some(clock) = clock {
            open.writer.push(Run::single(key.clone(), clock));
            self.flush_done()?;
        }
        Ok(())
    }

    /// Changes one row with a packed key.
    pub fn edit(&mut self, key: &Key, change: impl FnOnce(Draft) -> Option<Draft>) -> Result<()> {
        self.seek(key)?;
        let open = self.open.as_mut().expect("seek opened a segment");
        open.copy_below(key);
        let before = open.take_first(key, 1).map_or_else(Draft::default, Draft::from_run);
        if let Some(draft) = change(before) {
            open.writer.push(draft.into_run(key.clone(), 1));
        }
        self.flush_done()
    }

    /// Changes the rows `first ..= last`, stretch by stretch: `change` gets a stretch's first key, its length and
    /// its clocks (a fresh draft where there are none) and gives the new ones, or `None` to leave nothing.
    pub fn edit_range(
        &mut self,
        first: i64,
        last: i64,
        mut change: impl FnMut(i64, u64, Draft) -> Option<Draft>,
    ) -> Result<()> {
        let mut at = first;
        loop {
            self.seek(&Key::Int(at))?;
            let open = self.open.as_mut().expect("seek opened a segment");
            let end = match &open.next {
                Some(Key::Int(next)) if *next <= last => *next - 1,
                _ => last,
            };
            open.copy_below(&Key::Int(at));
            loop {
                let found = open.old.front().and_then(Run::first_int).filter(|key| *key <= end);
                let gap_end = found.map_or(end, |key| key - 1);
                let (count, draft) = if found == Some(at) {
                    let run = open.take_first(&Key::Int(at), end.abs_diff(at).saturating_add(1));
                    let run = run.expect("the run begins here");
                    (run.count, Draft::from_run(run))
                } else {
                    (gap_end.abs_diff(at).saturating_add(1), Draft::default())
                };
                if let Some(draft) = change(at, count, draft) {
                    open.writer.push(draft.into_run(Key::Int(at), count));
                }
                match at.checked_add_unsigned(count) {
                    Some(next) if next <= end => at = next,
                    _ => break,
                }
            }
            self.flush_done()?;
            if end == last {
                return Ok(());
            }
            at = end + 1;
        }
    }

    /// Writes what is open.
    pub fn finish(mut self) -> Result<()> {
        self.close()
    }

    /// Opens the segment that covers `key`.
    fn seek(&mut self, key: &Key) -> Result<()> {
        if let Some(open) = &self.open
            && open.next.as_ref().is_none_or(|next| key < next)
        {
            return Ok(());
        }
        self.close()?;
        let table = ValueRef::Integer(i64::from(self.table));
        let integers = self.integers;
        let found = self.statements.segment_at.query_row(&[table, key_value(key)], |row| {
            let start = key_from(row.column_value(0)).ok_or_else(super::bytes::damaged)?;
            if matches!(start, Key::Int(_)) != integers {
                return Ok(None);
            }
            let old = decode(row.column_blob(1), integers)?.into();
            let next = key_from(row.column_value(2)).filter(|n| matches!(n, Key::Int(_)) == integers);
            Ok(Some(Open {
                stored: Some(start),
                next,
                old,
                writer: SegmentWriter::default(),
                replaced: false,
            }))
        })?;
        self.open = Some(match found.flatten() {
            Some(open) => open,
            None => {
                let next = self.statements.segment_next.query_row(&[table, key_value(key)], |row| {
                    Ok(key_from(row.column_value(0)).filter(|n| matches!(n, Key::Int(_)) == integers))
                })?;
                Open {
                    stored: None,
                    next: next.flatten(),
                    old: VecDeque::new(),
                    writer: SegmentWriter::default(),
                    replaced: false,
                }
            }
        });
        Ok(())
    }

    fn flush_done(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        for segment in open.writer.drain() {
            write(self.statements, self.table, open, segment)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        while let Some(run) = open.old.pop_front() {
            open.writer.push(run);
        }
        for segment in open.writer.finish() {
            write(self.statements, self.table, &mut open, segment)?;
        }
        if let (Some(start), false) = (&open.stored, open.replaced) {
            let table = ValueRef::Integer(i64::from(self.table));
            self.statements.segment_delete.execute(&[table, key_value(start)])?;
        }
        Ok(())
    }
}

/// Writes one new segment: the first takes the place of the stored row, and keeps its start, which is only a
/// lower bound of the keys inside.
fn write(statements: &mut Statements, table: u32, open: &mut Open, segment: Encoded) -> Result<()> {
    let start = match (&open.stored, open.replaced) {
        (Some(stored), false) => stored.clone(),
        _ => segment.start,
    };
    let values = [
        ValueRef::Integer(i64::from(table)),
        key_value(&start),
        ValueRef::Integer(segment.max_db_version as i64),
        ValueRef::Blob(&segment.data),
    ];
    if open.stored.is_some() && !open.replaced {
        open.replaced = true;
        statements.segment_update.execute(&values)
    } else {
        statements.segment_insert.execute(&values)
    }
}

impl Open {
    /// Copies old rows with smaller keys.
    fn copy_below(&mut self, key: &Key) {
        while let Some(run) = self.old.front() {
            if run.key >= *key {
                return;
            }
            if let (Some(last), Key::Int(key)) = (run.last_int(), key)
                && last >= *key
            {
                let run = self.old.pop_front().expect("front was just seen");
                let below = key.abs_diff(run.first_int().expect("an integer run"));
                self.writer.push(run.slice(0, below));
                self.old.push_front(run.slice(below, run.count - below));
                return;
            }
            let run = self.old.pop_front().expect("front was just seen");
            self.writer.push(run);
        }
    }

    /// Takes up to `count` old rows that begin exactly at `key`.
    fn take_first(&mut self, key: &Key, count: u64) -> Option<Run> {
        if self.old.front()?.key != *key {
            return None;
        }
        let run = self.old.pop_front()?;
        if run.count > count {
            self.old.push_front(run.slice(count, run.count - count));
            return Some(run.slice(0, count));
        }
        Some(run)
    }

    /// Drops the old row at `key`.
    fn skip(&mut self, key: &Key) {
        self.take_first(key, 1);
    }
}
