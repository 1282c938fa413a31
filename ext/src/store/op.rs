//! What a transaction did to clocks, in order: the buffer that capture and merge fill, and that commit writes.
//!
//! Local writes are kept as 32-byte records that join into runs, so a million sequential inserts are one record.
//! A savepoint is a [`Mark`]; rolling back to it cuts the buffer.

use super::clock::{Key, Run, natural_steps};
use super::columns::Columns;

/// What happened to the rows of an [`Op`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Inserted locally; over a live row it is a REPLACE. `set` names the columns the table had.
    Insert = 0,
    /// As `Insert`, with an explicit row-existence change because the key's spelling is not canonical.
    InsertSpelled = 1,
    /// Columns `set` were changed locally.
    Update = 2,
    /// Deleted locally.
    Delete = 3,
    /// Clocks `set` (a run) that won a merge in the incarnation at hand.
    Merge = 4,
    /// As `Merge`, beginning a new incarnation.
    MergeNew = 5,
    /// The clock under this key moved elsewhere (a tombstone came alive, or a row died).
    Forget = 6,
    /// Local writes have seen changes that wait here: slots of `set` (a run) reach its column versions at least.
    Raise = 7,
}

impl Kind {
    /// True for clocks that came from elsewhere.
    #[inline]
    fn is_merge(self) -> bool {
        matches!(self, Kind::Merge | Kind::MergeNew)
    }
}

/// Rows `key .. key + count` of one table, or the one row with packed key `pk`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// First rowid; meaningless when `by_pk`.
    pub key: i64,
    /// How many rows.
    pub count: u32,
    /// The table's id.
    pub table: u32,
    /// Index of a column set or of a run, by kind.
    pub set: u32,
    /// Offset of a packed key, plus one; 0 without.
    pub pk: u32,
    /// What happened.
    pub kind: Kind,
    /// The clock's place is the packed key and not the rowid.
    pub by_pk: bool,
}

/// A place in the buffer to come back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    ops: usize,
    last_count: u32,
    keys: usize,
    runs: usize,
    last_run: u64,
    written: usize,
}

impl Mark {
    /// True when the store held part of the transaction already.
    pub fn has_written(&self) -> bool {
        self.written > 0
    }
}

/// The operations of the open transaction.
#[derive(Default)]
pub struct Ops {
    ops: Vec<Op>,
    keys: Vec<u8>,
    runs: Vec<Run>,
    sets: Vec<Columns>,
    /// Operations before this index are in the store already (a spilled transaction), and stay in the buffer
    /// only because an enclosing savepoint may take the store back to before them.
    written: usize,
}

impl Ops {
    /// The operations that are not in the store yet.
    #[inline]
    pub fn pending(&self) -> &[Op] {
        &self.ops[self.written..]
    }

    /// True when nothing waits to be written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ops.len() == self.written
    }

    /// How many records and bytes of keys wait: what a spill bounds.
    #[inline]
    pub fn weight(&self) -> usize {
        (self.ops.len() - self.written) + self.keys.len() / 32 + self.runs.len() * 4
    }

    /// How many rows wait.
    pub fn rows(&self) -> u64 {
        self.pending().iter().map(|op| u64::from(op.count)).sum()
    }

    /// The packed key of `op`, if it has one.
    pub fn pk_of(&self, op: &Op) -> Option<&[u8]> {
        let at = (op.pk as usize).checked_sub(1)?;
        let len = u32::from_le_bytes(self.keys[at..at + 4].try_into().expect("four bytes")) as usize;
        Some(&self.keys[at + 4..at + 4 + len])
    }

    /// The columns of a local `op`.
    #[inline]
    pub fn columns_of(&self, op: &Op) -> &Columns {
        &self.sets[op.set as usize]
    }

    /// The clocks of a merge `op`.
    #[inline]
    pub fn run_of(&self, op: &Op) -> &Run {
        &self.runs[op.set as usize]
    }

    /// Keeps a column set and tells its index; sets are few.
    #[inline]
    pub fn intern(&mut self, set: &Columns) -> u32 {
        match self.sets.iter().rposition(|known| known == set) {
            Some(index) => index as u32,
            None => {
                self.sets.push(set.clone());
                self.sets.len() as u32 - 1
            }
        }
    }

    /// As [`Ops::intern`] of the slots below 64 whose bits are set; there is at least one.
    #[inline]
    pub fn intern_bits(&mut self, bits: u64) -> u32 {
        match self.sets.last() {
            Some(last) if last.is_bits(bits) => self.sets.len() as u32 - 1,
            _ => self.intern(&Columns::of_bits(bits)),
        }
    }

    /// Records a local write of the row with rowid `key`.
    pub fn push_row(&mut self, table: u32, kind: Kind, key: i64, set: u32) {
        self.add_row(table, kind, key, set);
    }

    /// As [`Ops::push_row`]; true when the row took a record of its own.
    #[inline]
    pub fn add_row(&mut self, table: u32, kind: Kind, key: i64, set: u32) -> bool {
        if self.ops.len() > self.written
            && let Some(last) = self.ops.last_mut()
            && last.key.wrapping_add(i64::from(last.count)) == key
            && last.table == table
            && last.kind == kind
            && last.set == set
            && last.pk == 0
            && last.count < u32::MAX
        {
            last.count += 1;
            return false;
        }
        self.ops.push(Op { key, count: 1, table, set, pk: 0, kind, by_pk: false });
        true
    }

    /// Records a stretch of rows at once.
    pub fn push_run(&mut self, table: u32, kind: Kind, key: i64, count: u32, set: u32) {
        self.ops.push(Op { key, count, table, set, pk: 0, kind, by_pk: false });
    }

    /// Records a local write of a row with its packed key; `by_pk` when the key is also the clock's place.
    pub fn push_keyed(&mut self, table: u32, kind: Kind, key: i64, set: u32, pk: &[u8], by_pk: bool) {
        let pk = self.keep_key(pk);
        self.ops.push(Op { key, count: 1, table, set, pk, kind, by_pk });
    }

    /// Records clocks that won a merge, under the key of the run.
    pub fn push_merge(&mut self, table: u32, new_incarnation: bool, run: Run) {
        self.push_clocks(table, if new_incarnation { Kind::MergeNew } else { Kind::Merge }, run);
    }

    /// Records an operation on clocks that are given: a merge, or [`Kind::Raise`].
    pub fn push_clocks(&mut self, table: u32, kind: Kind, run: Run) {
        let pk = match &run.key {
            Key::Bytes(pk) => Some(pk),
            Key::Int(_) => None,
        };
        if let (None, true, Some(last)) = (pk, self.ops.len() > self.written, self.ops.last_mut())
            && last.kind == kind
            && last.table == table
            && last.pk == 0
            && u64::from(last.count) + run.count < u64::from(u32::MAX)
            && self.runs[last.set as usize].try_extend(&run)
        {
            last.count += run.count as u32;
            return;
        }
        let op = Op {
            key: run.first_int().unwrap_or(0),
            count: run.count as u32,
            table,
            set: self.runs.len() as u32,
            pk: pk.map_or(0, |pk| self.keep_key(pk)),
            kind,
            by_pk: pk.is_some(),
        };
        self.runs.push(run);
        self.ops.push(op);
    }

    /// Adds clocks that won a merge to the last record, where that is a merge of the same row: a row whose cells come
    /// one by one is one record. Records up to `outer`, the innermost open savepoint, stay as they are. False, and
    /// nothing is done, where the clocks need a record of their own.
    pub fn join_merge(&mut self, table: u32, won: &Run, outer: Option<Mark>) -> bool {
        let Some((index, last)) = self.ops.len().checked_sub(1).map(|index| (index, self.ops[index])) else {
            return false;
        };
        let is_open = index >= self.written && outer.is_none_or(|mark| index >= mark.ops);
        let is_same_row = match &won.key {
            Key::Int(key) => !last.by_pk && last.key == *key,
            Key::Bytes(pk) => last.by_pk && self.pk_of(&last) == Some(pk),
        };
        if !is_open || !is_same_row || last.table != table || last.count != 1 || !last.kind.is_merge() {
            return false;
        }
        let run = &mut self.runs[last.set as usize];
        if run.clock.cl != won.clock.cl {
            return false;
        }
        won.clock.groups.iter().for_each(|group| run.clock.put(group));
        run.steps = natural_steps(&run.clock);
        true
    }

    /// Joins the last record, a merge of one row, with the one before, where they are one run. Tells how many rows that
    /// one had. `outer` is as in [`Ops::join_merge`].
    pub fn coalesce(&mut self, outer: Option<Mark>) -> Option<u32> {
        let index = self.ops.len().checked_sub(2).filter(|index| *index >= self.written)?;
        let (before, last) = (self.ops[index], self.ops[index + 1]);
        let fits = last.count == 1
            && before.kind == last.kind
            && before.table == last.table
            && last.kind.is_merge()
            && (before.pk, last.pk) == (0, 0)
            && last.set as usize + 1 == self.runs.len()
            && before.count < u32::MAX - 1
            && outer.is_none_or(|mark| mark.ops <= index + 1);
        if !fits {
            return None;
        }
        let run = self.runs.pop()?;
        if !self.runs[before.set as usize].try_extend(&run) {
            self.runs.push(run);
            return None;
        }
        self.ops.pop();
        self.ops[index].count += 1;
        Some(before.count)
    }

    fn keep_key(&mut self, pk: &[u8]) -> u32 {
        let at = self.keys.len();
        self.keys.extend_from_slice(&(pk.len() as u32).to_le_bytes());
        self.keys.extend_from_slice(pk);
        at as u32 + 1
    }

    /// The place to come back to.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark {
            ops: self.ops.len(),
            last_count: self.ops.last().map_or(0, |op| op.count),
            keys: self.keys.len(),
            runs: self.runs.len(),
            last_run: self.runs.last().map_or(0, |run| run.count),
            written: self.written,
        }
    }

    /// Goes back to `mark`. True when the store, too, goes back: it held operations that `mark` did not.
    pub fn rewind(&mut self, mark: Mark) -> bool {
        let was_written = self.written != mark.written;
        self.ops.truncate(mark.ops);
        if let Some(last) = self.ops.last_mut() {
            last.count = mark.last_count;
        }
        self.keys.truncate(mark.keys);
        self.runs.truncate(mark.runs);
        if let Some(last) = self.runs.last_mut() {
            *last = last.slice(0, mark.last_run);
        }
        self.written = mark.written;
        was_written
    }

    /// Everything is in the store now. Keeps what is before `outer`, the innermost open savepoint.
    pub fn set_written(&mut self, outer: Option<Mark>) {
        match outer {
            None => self.clear(),
            Some(mark) => {
                let written = mark.written;
                self.rewind(mark);
                // The records before the savepoint are stored as well, but they stay: see `written`.
                debug_assert!(written <= self.ops.len());
                self.written = self.ops.len();
            }
        }
    }

    /// Forgets everything: the transaction ended.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.keys.clear();
        self.runs.clear();
        self.sets.clear();
        self.written = 0;
        // A giant transaction must not keep its memory for the life of the connection.
        self.ops.shrink_to(4096);
        self.keys.shrink_to(1 << 16);
        self.runs.shrink_to(256);
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::tests::row;
    use super::*;

    #[test]
    fn sequential_inserts_are_one_record_and_a_savepoint_cuts_it() {
        let mut ops = Ops::default();
        let set = ops.intern(&Columns::one(1));
        (0..1000).for_each(|key| ops.push_row(1, Kind::Insert, key, set));
        let mark = ops.mark();
        (1000..2000).for_each(|key| ops.push_row(1, Kind::Insert, key, set));
        ops.push_row(1, Kind::Delete, 5, 0);
        assert_eq!((ops.pending().len(), ops.rows()), (2, 2001));
        assert!(!ops.rewind(mark));
        assert_eq!((ops.pending().len(), ops.rows()), (1, 1000));
    }

    #[test]
    fn merged_runs_join_and_rewind() {
        let mut ops = Ops::default();
        (0..10).for_each(|i| ops.push_merge(1, true, row(i, 3, 2 * i as u64)));
        let mark = ops.mark();
        (10..20).for_each(|i| ops.push_merge(1, true, row(i, 3, 2 * i as u64)));
        assert_eq!(ops.pending().len(), 1);
        ops.rewind(mark);
        assert_eq!(ops.run_of(&ops.pending()[0]).count, 10);
    }

    #[test]
    fn a_spill_keeps_what_an_outer_savepoint_may_bring_back() {
        let mut ops = Ops::default();
        let set = ops.intern(&Columns::one(1));
        ops.push_row(1, Kind::Insert, 1, set);
        let mark = ops.mark();
        ops.push_row(1, Kind::Update, 1, set);
        ops.set_written(Some(mark));
        assert!(ops.is_empty());
        ops.push_row(1, Kind::Insert, 2, set);
        assert_eq!(ops.pending().len(), 1, "a stored record is never extended");
        assert!(ops.rewind(mark), "the store went back too");
        assert_eq!(ops.pending().len(), 1);
    }
}
