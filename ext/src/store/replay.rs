//! Replays operations row by row over the clocks they found.

use super::clock::{Key, RowClock};
use super::draft::{Draft, LocalVersion};
use super::op::{Kind, Op, Ops};
use crate::sqlite::Result;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A row's place: the table's id and its key.
pub type Place = (u32, Key);

/// Clocks by place; `None` says that nothing is there, whatever older layers hold.
pub type Layer = BTreeMap<Place, Option<RowClock>>;

/// Where the clocks lie that a replay starts from.
pub trait Clocks {
    /// The clock stored for a row.
    fn clock(&mut self, table: u32, key: &Key) -> Result<Option<RowClock>>;
}

/// Rows in the middle of a transaction, or of the log.
#[derive(Default)]
pub struct Replay {
    rows: BTreeMap<Place, Option<Draft>>,
    /// Rows with local writes that have no version yet, in the order of their first write.
    unsealed: Vec<Place>,
    /// Some of them were written again since.
    rewritten: bool,
    /// Counts rows of operations.
    order: u64,
}

impl Replay {
    /// Looks up, in key order, every row that `ops` will need: one pass over the segments instead of random reads.
    pub fn prefetch<'a>(&mut self, all: impl Iterator<Item = &'a Ops>, base: &mut impl Clocks) -> Result<()> {
        let mut places: Vec<Place> = Vec::new();
        for ops in all {
            for op in ops.pending() {
                for row in 0..op.count {
                    places.push((op.table, place(op, ops, row)));
                }
                if let (false, Some(pk)) = (op.by_pk, ops.pk_of(op)) {
                    places.push((op.table, Key::Bytes(pk.into())));
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        for place in places {
            if let Entry::Vacant(slot) = self.rows.entry(place) {
                let clock = base.clock(slot.key().0, &slot.key().1)?;
                slot.insert(clock.map(|clock| Draft::from_clock(Some(&clock))));
            }
        }
        Ok(())
    }

    /// Applies one operation that commits (or committed) as `local`, from its row number `from` on.
    pub fn apply(
        &mut self,
        op: &Op,
        from: u32,
        ops: &Ops,
        local: LocalVersion,
        base: &mut impl Clocks,
    ) -> Result<()> {
        for row in from..op.count {
            let key = place(op, ops, row);
            self.order += 1;
            let order = self.order;
            match op.kind {
                Kind::Insert | Kind::InsertSpelled => {
                    let mut draft = match (op.by_pk, ops.pk_of(op)) {
                        // A rowid says nothing about a key that is not it: the row's past is its tombstone.
                        (false, Some(pk)) => self.take(op.table, Key::Bytes(pk.into()), base)?,
                        _ => self.take(op.table, key.clone(), base)?,
                    };
                    let spelled = op.kind == Kind::InsertSpelled;
                    draft.insert(ops.columns_of(op), spelled, order, local.floor);
                    self.put(op.table, key, draft);
                }
                Kind::Update => {
                    self.change(op.table, key, base, |draft| draft.update(ops.columns_of(op), order))?;
                }
                Kind::Delete => {
                    let mut draft = self.take(op.table, key.clone(), base)?;
                    if draft.cl() == 0 {
                        continue;
                    }
                    draft.delete(order);
                    let key = match (op.by_pk, ops.pk_of(op)) {
                        (false, Some(pk)) => Key::Bytes(pk.into()),
                        _ => key,
                    };
                    self.put(op.table, key, draft);
                }
                Kind::Merge | Kind::MergeNew => {
                    let clocks = ops.run_of(op).slice(u64::from(row), 1);
                    let is_new = op.kind == Kind::MergeNew;
                    self.change(op.table, key, base, |draft| draft.merge(&clocks, is_new, local.db_version))?;
                }
                Kind::Raise => {
                    self.change(op.table, key, base, |draft| draft.raise(&ops.run_of(op).clock))?;
                }
                Kind::Forget => {
                    self.rows.insert((op.table, key), None);
                }
            }
        }
        Ok(())
    }

    /// Changes a row where it lies.
    fn change(
        &mut self,
        table: u32,
        key: Key,
        base: &mut impl Clocks,
        change: impl FnOnce(&mut Draft),
    ) -> Result<()> {
        let place = (table, key);
        let slot = match self.rows.entry(place.clone()) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => {
                let clock = base.clock(slot.key().0, &slot.key().1)?;
                slot.insert(clock.map(|clock| Draft::from_clock(Some(&clock))))
            }
        };
        let draft = slot.get_or_insert_default();
        self.rewritten |= draft.is_touched();
        change(draft);
        if draft.is_touched() {
            self.unsealed.push(place);
        }
        if draft.cl() == 0 {
            *slot = None;
        }
        Ok(())
    }

    fn take(&mut self, table: u32, key: Key, base: &mut impl Clocks) -> Result<Draft> {
        match self.rows.entry((table, key)) {
            Entry::Occupied(mut slot) => {
                let draft = slot.get_mut().take().unwrap_or_default();
                self.rewritten |= draft.is_touched();
                Ok(draft)
            }
            Entry::Vacant(slot) => {
                let clock = base.clock(slot.key().0, &slot.key().1)?;
                slot.insert(None);
                Ok(Draft::from_clock(clock.as_ref()))
            }
        }
    }

    fn put(&mut self, table: u32, key: Key, draft: Draft) {
        if draft.is_touched() {
            self.unsealed.push((table, key.clone()));
        }
        self.rows.insert((table, key), (draft.cl() > 0).then_some(draft));
    }

    /// Gives the local writes so far their version. `seq` goes on from `next_seq`; returns where it ends.
    pub fn seal(&mut self, local: LocalVersion, mut next_seq: u64) -> u64 {
        let places = std::mem::take(&mut self.unsealed);
        if std::mem::take(&mut self.rewritten) {
            return self.seal_in_order(&places, local, next_seq);
        }
        // Each row was written by one operation, so the order of rows is the order of operations.
        for place in &places {
            let Some(Some(draft)) = self.rows.get_mut(place) else { continue };
            let order = draft.unsealed().next();
            next_seq += order.map_or(0, |order| draft.seal_operation(order, local, next_seq));
        }
        next_seq
    }

    fn seal_in_order(&mut self, places: &[Place], local: LocalVersion, mut next_seq: u64) -> u64 {
        let mut operations: Vec<(u64, usize)> = Vec::new();
        for (at, place) in places.iter().enumerate() {
            if let Some(Some(draft)) = self.rows.get(place) {
                operations.extend(draft.unsealed().map(|order| (order, at)));
            }
        }
        operations.sort_unstable();
        for (order, at) in operations {
            if let Some(Some(draft)) = self.rows.get_mut(&places[at]) {
                next_seq += draft.seal_operation(order, local, next_seq);
            }
        }
        next_seq
    }

    /// The clock of a row that this replay knows; local writes stamped as if they were sealed now.
    pub fn peek(&self, table: u32, key: &Key, local: LocalVersion) -> Option<Option<RowClock>> {
        let slot = self.rows.get(&(table, key.clone()))?;
        Some(slot.as_ref().map(|draft| {
            let mut draft = draft.clone();
            draft.seal(local, 0);
            draft.into_clock()
        }))
    }

    /// A copy of the rows, sealed.
    pub fn sealed_copy(&self, local: LocalVersion, next_seq: u64) -> Layer {
        let copy = Replay {
            rows: self.rows.clone(),
            unsealed: self.unsealed.clone(),
            rewritten: self.rewritten,
            order: self.order,
        };
        copy.into_layer(local, next_seq).0
    }

    /// Seals and gives up the rows, and where `seq` ends.
    pub fn into_layer(mut self, local: LocalVersion, next_seq: u64) -> (Layer, u64) {
        let seq = self.seal(local, next_seq);
        (self.into_rows().collect(), seq)
    }

    /// The rows, in order. Everything is sealed already.
    pub fn into_rows(self) -> impl Iterator<Item = (Place, Option<RowClock>)> {
        self.rows.into_iter().map(|(place, draft)| (place, draft.map(Draft::into_clock)))
    }
}

/// The clock's place of row `row` of `op`.
pub fn place(op: &Op, ops: &Ops, row: u32) -> Key {
    if op.by_pk {
        Key::Bytes(ops.pk_of(op).unwrap_or_default().into())
    } else {
        Key::Int(op.key.wrapping_add(i64::from(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::Columns;
    use super::*;

    const LOCAL: LocalVersion = LocalVersion { site: 0, version: 1, db_version: 1, floor: 0 };

    struct Nothing;
    impl Clocks for Nothing {
        fn clock(&mut self, _: u32, _: &Key) -> Result<Option<RowClock>> {
            Ok(None)
        }
    }

    fn replay(ops: &Ops) -> (Layer, u64) {
        let mut replay = Replay::default();
        replay.prefetch([ops].into_iter(), &mut Nothing).unwrap();
        for op in ops.pending() {
            replay.apply(op, 0, ops, LOCAL, &mut Nothing).unwrap();
        }
        replay.into_layer(LOCAL, 0)
    }

    #[test]
    fn a_replaced_row_of_a_keyed_table_goes_up_by_two() {
        let mut ops = Ops::default();
        let set = ops.intern(&Columns::one(1));
        ops.push_row(1, Kind::Insert, 1, set);
        ops.push_keyed(1, Kind::Delete, 1, 0, b"k", false);
        ops.push_keyed(1, Kind::Insert, 2, set, b"k", false);
        let (layer, seq) = replay(&ops);
        assert_eq!(layer[&(1, Key::Int(1))], None);
        assert_eq!(layer[&(1, Key::Bytes((*b"k").into()))], None);
        assert_eq!(layer[&(1, Key::Int(2))].as_ref().unwrap().cl, 3);
        assert_eq!(seq, 2, "a row-existence change and one column, dense");
    }

    #[test]
    fn a_row_written_again_is_numbered_by_its_last_write() {
        let mut ops = Ops::default();
        let one = ops.intern(&Columns::one(1));
        for key in [1, 2, 1] {
            ops.push_row(1, Kind::Update, key, one);
        }
        struct Alive;
        impl Clocks for Alive {
            fn clock(&mut self, _: u32, _: &Key) -> Result<Option<RowClock>> {
                Ok(Some(RowClock { cl: 1, ..RowClock::default() }))
            }
        }
        let mut replay = Replay::default();
        for op in ops.pending() {
            replay.apply(op, 0, &ops, LOCAL, &mut Alive).unwrap();
        }
        let (layer, _) = replay.into_layer(LOCAL, 0);
        let seq = |key| layer[&(1, Key::Int(key))].as_ref().unwrap().groups[0].seq;
        assert_eq!((seq(2), seq(1)), (0, 1));
    }

    #[test]
    fn seq_is_dense_over_what_is_left() {
        let mut ops = Ops::default();
        let set = ops.intern(&[1, 2].into_iter().collect());
        let one = ops.intern(&Columns::one(1));
        (1..=3).for_each(|key| ops.push_row(1, Kind::Insert, key, set));
        ops.push_row(1, Kind::Update, 1, one);
        ops.push_row(1, Kind::Delete, 2, 0);
        let (layer, seq) = replay(&ops);
        assert_eq!(seq, 5);
        let mut seqs: Vec<u64> = layer
            .values()
            .flatten()
            .flat_map(|c| {
                c.groups.iter().flat_map(|g| g.columns.iter().map(|s| g.seq_of(s)).collect::<Vec<_>>())
            })
            .collect();
        seqs.sort();
        assert_eq!(seqs, [0, 1, 2, 3, 4]);
    }
}
