//! The clocks of rows, and of runs of rows that share one pattern.
//!
//! A row's clock is its causal length and, for every slot that was written in this incarnation, who wrote it
//! and when. Columns written together share a [`Group`]. A [`Run`] is a stretch of consecutive keys whose
//! clocks differ only by a constant step in `seq` or version: a bulk insert of a million rows is one run.

use super::columns::{Columns, ROW, is_part};
use smallvec::SmallVec;

/// A row's place in the store.
///
/// `Int` is the rowid of the base row (the INTEGER PRIMARY KEY, or the hidden rowid that a live row of any other
/// rowid table has). `Bytes` is the canonical packed key: every row of a WITHOUT ROWID table, and the tombstones
/// of rowid tables without an INTEGER PRIMARY KEY. Integers sort before bytes, as they do in SQLite.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// A rowid.
    Int(i64),
    /// A canonical packed key.
    Bytes(Box<[u8]>),
}

/// Slots of one row that were written by one site in one version with one `col_version`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// The slots whose current clock this is.
    pub columns: Columns,
    /// The slots written together; `seq` counts over these, so a slot superseded later leaves the others' alone.
    pub rank: Columns,
    /// The `col_version` of the columns; the row slot's is the causal length.
    pub col_version: u64,
    /// The author's ordinal in the site table.
    pub site: u32,
    /// The author's site_version, 0 when unknown.
    pub version: u64,
    /// The `seq` of the first slot of `rank`.
    pub seq: u64,
    /// The apply position on this replica.
    pub db_version: u64,
}

impl Group {
    /// The `seq` of `slot`.
    #[inline]
    pub fn seq_of(&self, slot: u32) -> u64 {
        self.seq + u64::from(self.rank.rank(slot))
    }
}

/// How a group moves from one row of a run to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Added to `seq`.
    pub seq: u64,
    /// Added to `version`: 1 for rows inserted one transaction each.
    pub version: u64,
    /// Added to `db_version`: as `version` for local rows, 0 for rows that came in one merge.
    pub db_version: u64,
}

/// The clock of one row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowClock {
    /// Causal length: odd alive, even deleted, 0 unknown.
    pub cl: u64,
    /// What was written, in no particular order; no slot twice, but for those of counters, which may be there once for
    /// each site.
    pub groups: SmallVec<[Group; 2]>,
}

impl RowClock {
    /// True when the row exists in the base table.
    #[inline]
    pub fn is_alive(&self) -> bool {
        self.cl % 2 == 1
    }

    /// The group that holds `slot`.
    #[inline]
    pub fn group_of(&self, slot: u32) -> Option<&Group> {
        self.groups.iter().find(|group| group.columns.contains(slot))
    }

    /// What tells of the row's existence: its row-existence change, or whatever change of a dead row says the same.
    pub fn existence(&self) -> Option<(&Group, u32)> {
        if let Some(group) = self.group_of(ROW) {
            return Some((group, ROW));
        }
        let group = self.groups.first().filter(|_| !self.is_alive())?;
        Some((group, group.columns.iter().next().unwrap_or(ROW)))
    }

    /// The group whose clock of `slot` a write by `site` competes with.
    #[inline]
    pub fn group_for(&self, slot: u32, site: u32) -> Option<&Group> {
        if is_part(slot) {
            return self.groups.iter().find(|group| group.site == site && group.columns.contains(slot));
        }
        self.group_of(slot)
    }

    /// Adds a group, which takes its slots from whatever group had them. Beside its neighbour, where the two are one
    /// author's consecutive slots of one version, they become one.
    pub fn put(&mut self, group: &Group) {
        for known in &mut self.groups {
            known.columns.supersede(&group.columns, known.site == group.site);
        }
        self.groups.retain(|known| !known.columns.is_empty());
        if let Some(last) = self.groups.last_mut()
            && last.site == group.site
            && last.version == group.version
            && last.col_version == group.col_version
            && last.db_version == group.db_version
            && last.rank == last.columns
            && group.rank.len() == 1
            && last.seq + u64::from(last.rank.len()) == group.seq
            && last.rank.iter().last() < group.rank.next_from(0)
        {
            last.columns.union_with(&group.columns);
            last.rank.union_with(&group.columns);
            return;
        }
        self.groups.push(group.clone());
    }

    /// The greatest apply position of any slot.
    pub fn max_db_version(&self) -> u64 {
        self.groups.iter().map(|group| group.db_version).max().unwrap_or(0)
    }
}

/// Rows with consecutive keys and one clock pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first row's key.
    pub key: Key,
    /// How many rows; 1 for `Key::Bytes`.
    pub count: u64,
    /// The first row's clock.
    pub clock: RowClock,
    /// How each group moves, parallel to `clock.groups`.
    pub steps: SmallVec<[Step; 2]>,
}

impl Run {
    /// A run of one row.
    pub fn single(key: Key, clock: RowClock) -> Run {
        let steps = natural_steps(&clock);
        Run { key, count: 1, clock, steps }
    }

    /// The rowid of the first row, when the run has one.
    #[inline]
    pub fn first_int(&self) -> Option<i64> {
        match self.key {
            Key::Int(key) => Some(key),
            Key::Bytes(_) => None,
        }
    }

    /// The last row's key of an integer run.
    #[inline]
    pub fn last_int(&self) -> Option<i64> {
        self.first_int().map(|first| first.wrapping_add(self.count as i64 - 1))
    }

    /// The clock of row `index`.
    pub fn clock_at(&self, index: u64) -> RowClock {
        let mut clock = self.clock.clone();
        for (group, step) in clock.groups.iter_mut().zip(&self.steps) {
            advance(group, *step, index);
        }
        clock
    }

    /// Rows `skip .. skip + count` as a run of their own.
    pub fn slice(&self, skip: u64, count: u64) -> Run {
        let key = match &self.key {
            Key::Int(first) => Key::Int(first.wrapping_add(skip as i64)),
            bytes => bytes.clone(),
        };
        let clock = if skip == 0 { self.clock.clone() } else { self.clock_at(skip) };
        let steps = if count == 1 { natural_steps(&clock) } else { self.steps.clone() };
        Run { key, count, clock, steps }
    }

    /// The key of row `index`.
    #[inline]
    pub fn slice_key(&self, index: u64) -> Key {
        match &self.key {
            Key::Int(first) => Key::Int(first.wrapping_add(index as i64)),
            bytes => bytes.clone(),
        }
    }

    /// The greatest apply position of any row.
    pub fn max_db_version(&self) -> u64 {
        self.clock
            .groups
            .iter()
            .zip(&self.steps)
            .map(|(group, step)| {
                group.db_version.wrapping_add(step.db_version.wrapping_mul(self.count.wrapping_sub(1)))
            })
            .max()
            .unwrap_or(0)
    }

    /// Appends `next` when it continues this run; false, untouched, when it does not.
    pub fn try_extend(&mut self, next: &Run) -> bool {
        let (Key::Int(first), Key::Int(start)) = (&self.key, &next.key) else { return false };
        if first.checked_add_unsigned(self.count) != Some(*start)
            || self.clock.cl != next.clock.cl
            || self.clock.groups.len() != next.clock.groups.len()
        {
            return false;
        }
        let mut steps: SmallVec<[Step; 2]> = SmallVec::new();
        for (index, (mine, theirs)) in self.clock.groups.iter().zip(&next.clock.groups).enumerate() {
            if mine.col_version != theirs.col_version
                || mine.site != theirs.site
                || mine.columns != theirs.columns
                || mine.rank != theirs.rank
            {
                return false;
            }
            let step = if self.count > 1 {
                self.steps[index]
            } else if next.count > 1 {
                next.steps[index]
            } else {
                match step_between(mine, theirs) {
                    Some(step) => step,
                    None => return false,
                }
            };
            if theirs.seq != mine.seq.wrapping_add(step.seq.wrapping_mul(self.count))
                || theirs.version != mine.version.wrapping_add(step.version.wrapping_mul(self.count))
                || theirs.db_version != mine.db_version.wrapping_add(step.db_version.wrapping_mul(self.count))
                || (next.count > 1 && next.steps[index] != step)
            {
                return false;
            }
            steps.push(step);
        }
        self.steps = steps;
        self.count += next.count;
        true
    }
}

/// The steps a lone row is stored with: its own width, so that a neighbour's `seq` is predicted right.
pub fn natural_steps(clock: &RowClock) -> SmallVec<[Step; 2]> {
    clock.groups.iter().map(natural_step).collect()
}

/// See [`natural_steps`].
#[inline]
pub fn natural_step(group: &Group) -> Step {
    Step { seq: u64::from(group.rank.len()), version: 0, db_version: 0 }
}

#[inline]
fn advance(group: &mut Group, step: Step, rows: u64) {
    // Wrapping, because a damaged segment must not panic; sound ones stay far below the limits.
    group.seq = group.seq.wrapping_add(step.seq.wrapping_mul(rows));
    group.version = group.version.wrapping_add(step.version.wrapping_mul(rows));
    group.db_version = group.db_version.wrapping_add(step.db_version.wrapping_mul(rows));
}

fn step_between(a: &Group, b: &Group) -> Option<Step> {
    let version = b.version.checked_sub(a.version)?;
    let db_version = b.db_version.checked_sub(a.db_version)?;
    if version > 1 || db_version > 1 {
        return None;
    }
    Some(Step { seq: b.seq.checked_sub(a.seq)?, version, db_version })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn group(columns: &[u32], version: u64, seq: u64) -> Group {
        let columns: Columns = columns.iter().copied().collect();
        Group { rank: columns.clone(), columns, col_version: 1, site: 0, version, seq, db_version: version }
    }

    pub(crate) fn row(key: i64, version: u64, seq: u64) -> Run {
        let clock = RowClock { cl: 1, groups: SmallVec::from_iter([group(&[1, 2], version, seq)]) };
        Run::single(Key::Int(key), clock)
    }

    #[test]
    fn rows_of_one_transaction_become_one_run() {
        let mut run = row(10, 7, 0);
        for index in 1..100 {
            assert!(run.try_extend(&row(10 + index, 7, 2 * index as u64)));
        }
        assert_eq!((run.count, run.steps[0].seq), (100, 2));
        assert_eq!(run.clock_at(50).groups[0].seq, 100);
        assert!(!run.try_extend(&row(111, 7, 200)), "a gap in the keys");
        assert!(!run.try_extend(&row(110, 8, 0)), "another version");
    }

    #[test]
    fn rows_of_one_transaction_each_become_one_run() {
        let mut run = row(1, 1, 0);
        for index in 1..10 {
            assert!(run.try_extend(&row(1 + index, 1 + index as u64, 0)));
        }
        assert_eq!(run.max_db_version(), 10);
        assert_eq!(run.clock_at(4).groups[0].version, 5);
    }

    #[test]
    fn a_slice_is_the_rows_it_names() {
        let mut run = row(1, 1, 0);
        (1..10).for_each(|i| assert!(run.try_extend(&row(1 + i, 1, 2 * i as u64))));
        let slice = run.slice(3, 4);
        assert_eq!((slice.first_int(), slice.last_int()), (Some(4), Some(7)));
        assert_eq!(slice.clock_at(0), run.clock_at(3));
        assert_eq!(slice.clock_at(3), run.clock_at(6));
    }
}
