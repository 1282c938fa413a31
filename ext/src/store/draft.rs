//! A row's clock while a transaction works on it.
//!
//! Local writes are recorded as what they did, not as stamps: which slots were written and how often. Only when
//! the transaction commits does [`Draft::seal`] give them a version and a dense `seq`, so a rollback to a
//! savepoint can never leave a hole or a phantom version behind.

use super::clock::{Group, RowClock, Run, Step, natural_step};
use super::columns::{Columns, ROW};
use crsql_core::limits::COL_VERSION_MAX;
use crsql_core::merge::{LocalWrite, next_causal_length};
use smallvec::SmallVec;

/// The version that a transaction's local writes get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalVersion {
    /// This site's ordinal.
    pub site: u32,
    /// The transaction's site_version.
    pub version: u64,
    /// The transaction's apply position.
    pub db_version: u64,
    /// Rows without a clock start above this causal length: see `crsql_core::collect`.
    pub floor: u64,
}

/// The clock of a row, or of a run of rows with one pattern, as a transaction changes it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    cl: u64,
    /// Clocks that stay as they are.
    kept: SmallVec<[(Group, Step); 2]>,
    /// Slots written by this transaction.
    touched: SmallVec<[Touched; 1]>,
    changed: bool,
}

/// Slots whose last write was one operation.
#[derive(Clone, Debug)]
struct Touched {
    columns: Columns,
    /// What the columns reach; the row slot's is the causal length.
    col_version: u64,
    /// Counts operations: `seq` follows the order of last writes.
    order: u64,
}

impl Draft {
    /// Starts from a stored clock; from nothing for an unknown row.
    pub fn from_clock(clock: Option<&RowClock>) -> Draft {
        let Some(clock) = clock else { return Draft::default() };
        let kept = clock.groups.iter().map(|group| (group.clone(), natural_step(group))).collect();
        Draft { cl: clock.cl, kept, ..Draft::default() }
    }

    /// Starts from a stretch of a stored run.
    pub fn from_run(run: Run) -> Draft {
        let kept = run.clock.groups.into_iter().zip(run.steps).collect();
        Draft { cl: run.clock.cl, kept, ..Draft::default() }
    }

    /// A row that this transaction deleted, under its tombstone's key.
    pub fn tombstone(cl: u64, order: u64) -> Draft {
        let mut draft = Draft { cl, changed: true, ..Draft::default() };
        draft.touched.push(Touched { columns: Columns::one(ROW), col_version: cl, order });
        draft
    }

    /// The causal length so far.
    pub fn cl(&self) -> u64 {
        self.cl
    }

    /// True when local writes wait for a version.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// True when anything differs from where the draft started.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// A row was inserted: a new incarnation with every column at 1. `explicit` asks for a row-existence
    /// change even in the first incarnation (tables of nothing but keys; keys spelled unlike their canonical form).
    /// A row without a clock starts above `floor`.
    pub fn insert(&mut self, columns: &Columns, explicit: bool, order: u64, floor: u64) {
        let before = if self.cl == 0 { floor } else { self.cl };
        self.restart(next_causal_length(before, LocalWrite::Insert));
        let mut columns = columns.clone();
        if self.cl > 1 || explicit || columns.is_empty() {
            columns.insert(ROW);
        }
        self.touched.push(Touched { columns, col_version: 1, order });
    }

    /// A row was deleted. Deleting what is not alive changes nothing.
    pub fn delete(&mut self, order: u64) {
        if self.cl % 2 == 1 {
            self.restart(next_causal_length(self.cl, LocalWrite::Delete));
            self.touched.push(Touched { columns: Columns::one(ROW), col_version: self.cl, order });
        }
    }

    /// Columns of a live row changed: each one's clock becomes its own in this incarnation plus one.
    pub fn update(&mut self, columns: &Columns, order: u64) {
        if self.cl.is_multiple_of(2) {
            return;
        }
        if self.stands_at_the_limit(columns) {
            // Past the limit nobody would take the change, so the row begins anew: it can't be frozen.
            let mut all = columns.clone();
            self.kept.iter().for_each(|(group, _)| all.union_with(&group.columns));
            self.touched.iter().for_each(|touched| all.union_with(&touched.columns));
            all.remove(ROW);
            return self.insert(&all, false, order, 0);
        }
        let mut rest = columns.clone();
        let mut raised: SmallVec<[(Columns, u64); 2]> = SmallVec::new();
        // Whose part of a counter it is that is written shows when the transaction commits: see `keep`.
        let mut parts = if rest.has_parts() { rest.parts() } else { Columns::new() };
        rest.subtract(&parts);
        for (group, _) in &mut self.kept {
            take(&mut group.columns, &mut rest, group.col_version, &mut raised);
        }
        self.kept.retain(|(group, _)| !group.columns.is_empty());
        for touched in &mut self.touched {
            take(&mut touched.columns, &mut rest, touched.col_version, &mut raised);
        }
        if !rest.is_empty() {
            raised.push((rest, 1));
        }
        if !parts.is_empty() {
            let mut counted: SmallVec<[(Columns, u64); 2]> = SmallVec::new();
            for touched in &mut self.touched {
                take(&mut touched.columns, &mut parts, touched.col_version, &mut counted);
            }
            raised.extend(counted);
            raised.extend((!parts.is_empty()).then_some((parts, 1)));
        }
        self.touched.retain(|touched| !touched.columns.is_empty());
        for (columns, col_version) in raised {
            self.touched.push(Touched { columns, col_version, order });
        }
        self.changed = true;
    }

    fn stands_at_the_limit(&self, columns: &Columns) -> bool {
        let registers;
        let columns = if columns.has_parts() {
            registers = columns.without_parts();
            &registers
        } else {
            columns
        };
        let kept = self.kept.iter().map(|(group, _)| (&group.columns, group.col_version));
        let touched = self.touched.iter().map(|touched| (&touched.columns, touched.col_version));
        kept.chain(touched).any(|(set, version)| version >= COL_VERSION_MAX && set.intersects(columns))
    }

    /// Takes over clocks that won a merge: a whole new incarnation, or single slots.
    pub fn merge(&mut self, remote: &Run, new_incarnation: bool, db_version: u64) {
        if new_incarnation {
            self.restart(Some(remote.clock.cl));
        }
        for (group, step) in remote.clock.groups.iter().zip(&remote.steps) {
            for (kept, _) in &mut self.kept {
                kept.columns.supersede(&group.columns, kept.site == group.site);
            }
            // A counter's part that this transaction wrote is written once more over whatever came of it: see `keep`.
            for touched in &mut self.touched {
                touched.columns.supersede(&group.columns, false);
            }
            let group = Group { db_version, ..group.clone() };
            self.kept.push((group, Step { db_version: 0, ..*step }));
        }
        self.kept.retain(|(group, _)| !group.columns.is_empty());
        self.touched.retain(|touched| !touched.columns.is_empty());
        self.changed = true;
    }

    /// Lets slots reach at least the column versions given, and changes nothing else about them.
    pub fn raise(&mut self, to: &RowClock) {
        for goal in &to.groups {
            let (goal, least) = (&goal.columns, goal.col_version);
            for at in 0..self.touched.len() {
                let touched = &mut self.touched[at];
                let both = touched.columns.intersection(goal);
                if !both.is_empty() && touched.col_version < least {
                    touched.columns.subtract(&both);
                    let order = touched.order;
                    self.touched.push(Touched { columns: both, col_version: least, order });
                }
            }
            for at in 0..self.kept.len() {
                let (kept, step) = &mut self.kept[at];
                let both = kept.columns.intersection(goal);
                if !both.is_empty() && kept.col_version < least {
                    kept.columns.subtract(&both);
                    let group = Group { columns: both, col_version: least, ..kept.clone() };
                    let step = *step;
                    self.kept.push((group, step));
                }
            }
        }
        self.kept.retain(|(group, _)| !group.columns.is_empty());
        self.touched.retain(|touched| !touched.columns.is_empty());
        self.changed = true;
    }

    fn restart(&mut self, cl: Option<u64>) {
        // At the cap nothing can follow; the clock stays, and validation keeps foreign clocks far below it.
        self.cl = cl.unwrap_or(self.cl);
        self.kept.clear();
        self.touched.clear();
        self.changed = true;
    }

    /// How many `seq` numbers a row of this draft takes.
    pub fn width(&self) -> u64 {
        self.touched.iter().map(|touched| u64::from(touched.columns.len())).sum()
    }

    /// The operations that are not stamped yet.
    pub fn unsealed(&self) -> impl Iterator<Item = u64> + '_ {
        self.touched.iter().map(|touched| touched.order)
    }

    /// Stamps the local writes of a row: it takes `seq ..`, and every next row of a run `width` further.
    pub fn seal(&mut self, local: LocalVersion, mut seq: u64) {
        let width = self.width();
        while let Some(order) = self.touched.iter().map(|touched| touched.order).min() {
            seq += self.keep(order, local, seq, width);
        }
    }

    /// Stamps what operation `order` wrote last, and tells how many `seq` numbers it took.
    pub fn seal_operation(&mut self, order: u64, local: LocalVersion, seq: u64) -> u64 {
        let width = self.width();
        self.keep(order, local, seq, width)
    }

    /// One operation's slots are numbered in their own order, whatever `col_version` each reaches.
    fn keep(&mut self, order: u64, local: LocalVersion, seq: u64, step: u64) -> u64 {
        let mut rank = Columns::new();
        for touched in self.touched.iter().filter(|touched| touched.order == order) {
            rank.union_with(&touched.columns);
        }
        let kept = &mut self.kept;
        if rank.has_parts() {
            self.touched.iter_mut().filter(|touched| touched.order == order).for_each(|touched| {
                supersede_parts(kept, touched, local.site);
            });
            kept.retain(|(group, _)| !group.columns.is_empty());
        }
        self.touched.retain(|touched| {
            if touched.order != order {
                return true;
            }
            let group = Group {
                rank: rank.clone(),
                columns: touched.columns.clone(),
                col_version: touched.col_version,
                site: local.site,
                version: local.version,
                seq,
                db_version: local.db_version,
            };
            kept.push((group, Step { seq: step, version: 0, db_version: 0 }));
            false
        });
        u64::from(rank.len())
    }

    /// The clock of one row, sealed.
    pub fn into_clock(self) -> RowClock {
        RowClock { cl: self.cl, groups: self.kept.into_iter().map(|(group, _)| group).collect() }
    }

    /// The clock of a run, sealed.
    pub fn into_run(self, key: super::clock::Key, count: u64) -> Run {
        let mut groups = SmallVec::new();
        let mut steps = SmallVec::new();
        for (group, step) in self.kept {
            steps.push(if count == 1 { natural_step(&group) } else { step });
            groups.push(group);
        }
        Run { key, count, clock: RowClock { cl: self.cl, groups }, steps }
    }
}

/// Lets a write of this site's parts go on from what they are: `touched` counted its writes from 0. Nobody else writes
/// them, so at the limit they stand still, and the site's versions tell them apart.
fn supersede_parts(kept: &mut [(Group, Step)], touched: &mut Touched, site: u32) {
    let parts = touched.columns.parts();
    let mut before = 0;
    for (group, _) in kept.iter_mut().filter(|(group, _)| group.site == site) {
        if group.columns.intersects(&parts) {
            before = before.max(group.col_version);
            group.columns.subtract(&parts);
        }
    }
    touched.col_version = (touched.col_version + before).min(COL_VERSION_MAX);
}

fn take(
    from: &mut Columns,
    rest: &mut Columns,
    col_version: u64,
    raised: &mut SmallVec<[(Columns, u64); 2]>,
) {
    if !from.intersects(rest) {
        return;
    }
    let both = from.intersection(rest);
    from.subtract(&both);
    rest.subtract(&both);
    match raised.iter_mut().find(|(_, other)| *other == col_version + 1) {
        Some((set, _)) => set.union_with(&both),
        None => raised.push((both, col_version + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Key;
    use super::*;

    const LOCAL: LocalVersion = LocalVersion { site: 0, version: 9, db_version: 12, floor: 0 };

    fn columns(slots: &[u32]) -> Columns {
        slots.iter().copied().collect()
    }

    #[test]
    fn an_insert_then_an_update_in_one_transaction_is_dense() {
        let mut draft = Draft::from_clock(None);
        draft.insert(&columns(&[1, 2, 3]), false, 0, 0);
        draft.update(&columns(&[2]), 1);
        assert_eq!(draft.width(), 3);
        draft.seal(LOCAL, 10);
        let clock = draft.into_clock();
        let seqs: Vec<u64> = (1..4).map(|slot| clock.group_of(slot).unwrap().seq_of(slot)).collect();
        assert_eq!(seqs, [10, 12, 11], "the last write comes last");
        assert_eq!(clock.group_of(2).unwrap().col_version, 2);
    }

    #[test]
    fn a_delete_drops_every_cell_and_a_reinsert_starts_at_one() {
        let mut draft = Draft::from_clock(None);
        draft.insert(&columns(&[1]), false, 0, 0);
        draft.update(&columns(&[1]), 1);
        draft.seal(LOCAL, 0);
        let mut draft = Draft::from_clock(Some(&draft.into_clock()));
        draft.delete(2);
        draft.delete(2);
        assert_eq!((draft.cl(), draft.width()), (2, 1));
        draft.insert(&columns(&[1]), false, 0, 0);
        draft.seal(LOCAL, 0);
        let clock = draft.into_clock();
        assert_eq!((clock.cl, clock.group_of(1).unwrap().col_version), (3, 1));
        assert_eq!(clock.group_of(ROW).unwrap().seq_of(ROW), 0);
        assert_eq!(clock.group_of(1).unwrap().seq_of(1), 1);
    }

    #[test]
    fn replace_of_a_live_row_is_a_new_incarnation() {
        let mut draft = Draft::from_clock(None);
        draft.insert(&columns(&[1]), false, 0, 0);
        draft.insert(&columns(&[1]), false, 0, 0);
        assert_eq!(draft.cl(), 3);
    }

    #[test]
    fn an_update_of_a_run_keeps_it_one_run() {
        let mut insert = Draft::from_clock(None);
        insert.insert(&columns(&[1, 2]), false, 0, 0);
        insert.seal(LOCAL, 0);
        let run = insert.into_run(Key::Int(1), 100);
        let mut update = Draft::from_run(run.slice(10, 50));
        update.update(&columns(&[2]), 0);
        update.seal(LocalVersion { version: 10, db_version: 13, site: 0, floor: 0 }, 0);
        let run = update.into_run(Key::Int(11), 50);
        let clock = run.clock_at(49);
        assert_eq!(clock.group_of(1).unwrap().seq_of(1), 118);
        assert_eq!(clock.group_of(2).unwrap().seq_of(2), 49);
        assert_eq!(clock.group_of(2).unwrap().col_version, 2);
    }

    #[test]
    fn a_row_without_a_clock_starts_above_the_floor() {
        let mut draft = Draft::from_clock(None);
        draft.insert(&columns(&[1]), false, 0, 4);
        assert_eq!(draft.cl(), 5);
        draft.delete(1);
        draft.insert(&columns(&[1]), false, 2, 4);
        assert_eq!(draft.cl(), 7);
    }
}
