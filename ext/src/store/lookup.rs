//! Finds the clock of one row in the segments, keeping the segments it passed decoded for the next.

use super::bytes::damaged;
use super::clock::{Key, RowClock, Run};
use super::replay::{Clocks, Layer};
use super::segment::decode;
use super::tables::{Statements, key_from, key_value};
use crate::sqlite::{Result, ValueRef};
use std::collections::BTreeMap;

/// Decoded segments kept; at some 100 runs each this is below a megabyte or two.
const CACHED_MAX: usize = 64;

#[derive(Default)]
pub struct Lookup {
    cached: BTreeMap<(u32, Key), Cached>,
}

struct Cached {
    /// The first key past the segment, if there is another one.
    next: Option<Key>,
    runs: Vec<Run>,
}

impl Lookup {
    /// Forgets everything: segments were rewritten.
    pub fn clear(&mut self) {
        self.cached.clear();
    }

    /// The clock stored in the segments.
    pub fn clock(&mut self, statements: &mut Statements, table: u32, key: &Key) -> Result<Option<RowClock>> {
        Ok(find(&self.covering(statements, table, key)?.runs, key))
    }

    /// True when no segment has a row in `first ..= last`.
    pub fn is_free(
        &mut self,
        statements: &mut Statements,
        table: u32,
        first: i64,
        last: i64,
    ) -> Result<bool> {
        let cached = self.covering(statements, table, &Key::Int(first))?;
        let below = cached.runs.partition_point(|run| run.last_int().is_some_and(|end| end < first));
        let overlaps = cached.runs.get(below).and_then(Run::first_int).is_some_and(|start| start <= last);
        let ends_before = cached.next.as_ref().is_none_or(|next| *next > Key::Int(last));
        Ok(!overlaps && ends_before)
    }

    /// True when one stored run says of every row of `run` at least what `run` says.
    pub fn holds(&mut self, statements: &mut Statements, table: u32, run: &Run) -> Result<bool> {
        let Some(first) = run.first_int() else { return Ok(false) };
        let cached = self.covering(statements, table, &Key::Int(first))?;
        let at = cached.runs.partition_point(|known| known.key <= run.key);
        let Some(known) = at.checked_sub(1).map(|at| &cached.runs[at]) else { return Ok(false) };
        if known.last_int() < run.last_int() || known.clock.cl < run.clock.cl {
            return Ok(false);
        }
        if known.clock.cl > run.clock.cl {
            return Ok(true);
        }
        let skip = first.abs_diff(known.first_int().unwrap_or(first));
        let stored = known.clock_at(skip);
        Ok(run.clock.groups.iter().zip(&run.steps).all(|(group, step)| {
            stored.groups.iter().zip(&known.steps).any(|(mine, my_step)| {
                mine.site == group.site
                    && mine.version == group.version
                    && mine.col_version == group.col_version
                    && group
                        .columns
                        .iter()
                        .all(|slot| mine.columns.contains(slot) && mine.seq_of(slot) == group.seq_of(slot))
                    && (run.count == 1 || (my_step.seq == step.seq && my_step.version == step.version))
            })
        }))
    }

    /// The segment that covers `key`, decoded; without runs where there is none.
    fn covering(&mut self, statements: &mut Statements, table: u32, key: &Key) -> Result<&Cached> {
        let place = (table, key.clone());
        let known = self.cached.range(..=&place).next_back().filter(|((found, start), cached)| {
            *found == table
                && matches!(start, Key::Int(_)) == matches!(key, Key::Int(_))
                && cached.next.as_ref().is_none_or(|next| key < next)
        });
        let known = known.map(|(place, _)| place.clone());
        if let Some(place) = known {
            return self.cached.get(&place).ok_or_else(damaged);
        }
        let table_value = ValueRef::Integer(i64::from(table));
        let found = statements.segment_at.query_row(&[table_value, key_value(key)], |row| {
            let start = key_from(row.column_value(0)).ok_or_else(damaged)?;
            let integers = matches!(start, Key::Int(_));
            if integers != matches!(key, Key::Int(_)) {
                return Ok(None);
            }
            Ok(Some((
                start,
                Cached { next: key_from(row.column_value(2)), runs: decode(row.column_blob(1), integers)? },
            )))
        })?;
        // Nothing covers the keys up to the next segment: that is worth keeping as well.
        let (start, cached) = match found.flatten() {
            Some(found) => found,
            None => {
                let next = statements.segment_next.query_row(&[table_value, key_value(key)], |row| {
                    key_from(row.column_value(0)).ok_or_else(damaged)
                })?;
                let start = match key {
                    Key::Int(_) => Key::Int(i64::MIN),
                    Key::Bytes(_) => Key::Bytes(Box::default()),
                };
                (start, Cached { next, runs: Vec::new() })
            }
        };
        if self.cached.len() >= CACHED_MAX {
            self.cached.clear();
        }
        let place = (table, start);
        self.cached.insert(place.clone(), cached);
        self.cached.get(&place).ok_or_else(damaged)
    }
}

/// The clock of `key` in sorted runs.
pub fn find(runs: &[Run], key: &Key) -> Option<RowClock> {
    let at = runs.partition_point(|run| run.key <= *key).checked_sub(1)?;
    let run = &runs[at];
    match key {
        Key::Bytes(_) => (run.key == *key).then(|| run.clock.clone()),
        Key::Int(key) => {
            let index = key.abs_diff(run.first_int()?);
            (index < run.count).then(|| run.clock_at(index))
        }
    }
}

/// [`Lookup`] with its statements, as a replay wants it.
pub struct Segments<'a> {
    /// The decoded segments.
    pub lookup: &'a mut Lookup,
    /// The statements that read them.
    pub statements: &'a mut Statements,
}

impl Clocks for Segments<'_> {
    fn clock(&mut self, table: u32, key: &Key) -> Result<Option<RowClock>> {
        self.lookup.clock(self.statements, table, key)
    }
}

/// The overlay before the segments.
pub struct Layers<'a> {
    pub(super) overlay: &'a Layer,
    pub(super) segments: Segments<'a>,
}

impl Clocks for Layers<'_> {
    fn clock(&mut self, table: u32, key: &Key) -> Result<Option<RowClock>> {
        match self.overlay.get(&(table, key.clone())) {
            Some(clock) => Ok(clock.clone()),
            None => self.segments.clock(table, key),
        }
    }
}
