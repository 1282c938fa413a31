//! What was collected, and taking tombstones out of the segments.

use super::clock::{Key, Run};
use super::segment::{SegmentWriter, decode};
use super::tables::{FORMAT_COLLECTED, key_from, key_value};
use super::{Store, bytes};
use crate::sqlite::{Db, Result, ValueRef};
use crsql_core::collect::Collected;
use std::rc::Rc;

/// Segments that are rewritten together, so that what is left of a few makes one.
const SEGMENTS_AT_ONCE: i64 = 64;

/// Reads what was collected.
pub fn read(db: Db) -> Result<Rc<Collected>> {
    let mut select = db.prepare("SELECT value FROM main.__crsql_config WHERE name = 'collected'")?;
    let found = select.query_row(&[], |row| Ok(Collected::decode(row.column_blob(0))))?;
    // Without it deleted rows would come back, so nothing goes on.
    found.flatten().map(Rc::new).ok_or_else(bytes::damaged)
}

impl Store {
    /// What was collected, here or elsewhere; call [`Store::refresh`] before.
    pub fn collected(&self) -> Rc<Collected> {
        self.collected.clone()
    }

    /// The causal length above which rows without a clock start; 0 while nothing was collected.
    #[inline]
    pub fn floor(&self) -> u64 {
        self.collected.floor
    }

    /// Writes down what was collected. Nothing may be pending: the log is read with the new floor.
    pub fn set_collected(&mut self, collected: Collected) -> Result<()> {
        self.refresh()?;
        if self.tail().rows > 0 {
            self.fold()?;
        }
        self.db
            .prepare("INSERT OR REPLACE INTO main.__crsql_config (name, value) VALUES ('collected', ?1)")?
            .execute(&[ValueRef::Blob(&collected.encode())])?;
        self.db
            .prepare("UPDATE main.__crsql_state SET format = ?1 WHERE id = 1")?
            .execute(&[ValueRef::Integer(FORMAT_COLLECTED)])?;
        self.collected = Rc::new(collected);
        self.segments_changed()
    }

    /// Takes the runs of dead rows that `goes` names out of the segments of a table. The log must be empty; the
    /// caller tells the other connections. `goes` may name a part of a run: it gives the length of the stretch at the
    /// beginning of the run that goes, or stays.
    pub fn drop_runs(&mut self, table: u32, mut goes: impl FnMut(&Run) -> Result<(bool, u64)>) -> Result<()> {
        let id = ValueRef::Integer(i64::from(table));
        let mut after: Option<Key> = None;
        loop {
            let batch = self.segments_after(id, after.as_ref())?;
            let Some((last, ..)) = batch.last() else { break };
            after = Some(last.clone());
            let mut writers = [SegmentWriter::default(), SegmentWriter::default()];
            let mut is_changed = false;
            for (start, data) in &batch {
                let integers = matches!(start, Key::Int(_));
                for run in decode(data, integers)? {
                    let mut done = 0;
                    while done < run.count {
                        let rest = run.slice(done, run.count - done);
                        let (go, len) = if run.clock.is_alive() { (false, rest.count) } else { goes(&rest)? };
                        let len = len.clamp(1, rest.count);
                        is_changed |= go;
                        if !go {
                            writers[usize::from(integers)].push(rest.slice(0, len));
                        }
                        done += len;
                    }
                }
            }
            if !is_changed {
                continue;
            }
            let mut delete =
                self.db.prepare("DELETE FROM main.__crsql_segment WHERE table_id = ?1 AND start = ?2")?;
            batch.iter().try_for_each(|(start, _)| delete.execute(&[id, key_value(start)]))?;
            let mut insert = self.db.prepare(
                "INSERT INTO main.__crsql_segment (table_id, start, max_db_version, data) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for segment in writers.iter_mut().flat_map(SegmentWriter::finish) {
                let newest = ValueRef::Integer(segment.max_db_version as i64);
                insert.execute(&[id, key_value(&segment.start), newest, ValueRef::Blob(&segment.data)])?;
            }
        }
        self.lookup.clear();
        Ok(())
    }

    fn segments_after(&self, table: ValueRef<'_>, after: Option<&Key>) -> Result<Vec<(Key, Vec<u8>)>> {
        let mut select = self.db.prepare(
            "SELECT start, data FROM main.__crsql_segment
             WHERE table_id = ?1 AND (?2 IS NULL OR start > ?2) ORDER BY start LIMIT ?3",
        )?;
        let args = [table, after.map_or(ValueRef::Null, key_value), ValueRef::Integer(SEGMENTS_AT_ONCE)];
        let mut rows = select.query(&args)?;
        let mut batch = Vec::new();
        while rows.step()? {
            let start = key_from(rows.column_value(0)).ok_or_else(bytes::damaged)?;
            batch.push((start, rows.column_blob(1).to_vec()));
        }
        Ok(batch)
    }
}
