//! Merging: what changes from elsewhere do, whatever their order, grouping and number.

use std::collections::BTreeSet;

use super::read::Delta;
use super::row::{Cell, Entry, Existence};
use super::schema::{Identity, Table};
use super::transaction::Transaction;
use super::{Committed, Replica};
use crate::change::{Change, Fact, InvalidChange};
use crate::collect::Admission;
use crate::key::KeyError;

/// What a valid change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing: the replica holds the same or something greater.
    Superseded,
    /// It is held, and the base table shows it.
    Won,
    /// It is held and passed on, and waits for its table or column to appear.
    Parked,
    /// Refused: its author may not have seen a delete that was collected here, and it could bring the row back.
    Behind,
}

/// A change that was set aside, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The change.
    pub change: Change,
    /// What is wrong with it.
    pub reason: InvalidChange,
}

/// What a delta did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many of its changes won.
    pub won: usize,
    /// How many wait for a table or column.
    pub parked: usize,
    /// How many were superseded already.
    pub superseded: usize,
    /// Which were refused; their versions count as not held.
    pub refused: Vec<Refused>,
    /// Which could bring a collected row back; their versions count as not held.
    pub behind: Vec<Change>,
    /// Nothing was taken: this replica lacks deletes that the sender has collected, and has to begin again with
    /// [`Replica::begin_again`].
    pub must_begin_again: bool,
    /// The transaction.
    pub committed: Committed,
}

impl Transaction<'_> {
    /// Merges one change. An error concerns this change only; the transaction goes on.
    pub fn merge(&mut self, change: &Change) -> Result<Outcome, InvalidChange> {
        self.merge_from(change, false)
    }

    /// As [`merge`](Self::merge); `is_past` when the sender has seen everything that was collected here.
    pub(super) fn merge_from(&mut self, change: &Change, is_past: bool) -> Result<Outcome, InvalidChange> {
        change.validate()?;
        let identity = self.replica().identity(&change.table, &change.pk);
        let identity =
            identity.map_err(|reason| InvalidChange::Key { table: change.table.clone(), reason })?;
        if change.stamp.site == self.replica().site() {
            self.see_own_version(change.stamp.version);
        }

        let known = self.replica().row_of(&change.table, &identity.key).cloned();
        if known.is_none() {
            match self.replica().admission(change, is_past) {
                Admission::Take => {}
                Admission::Known => return Ok(Outcome::Superseded),
                Admission::Behind => return Ok(Outcome::Behind),
            }
        }
        let mut row = known.unwrap_or_default();
        let entry = entry_of(change, self.at()).spelled(identity.spelling_at(change.cl));
        if !row.absorb(change.cl, entry, self.replica().tie_break()) {
            return Ok(Outcome::Superseded);
        }
        self.write(&change.table, &identity.key, row);
        Ok(if self.replica().is_parked(change) { Outcome::Parked } else { Outcome::Won })
    }

    /// Merges a delta and, when the transaction commits, counts what it claims as held.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let mut applied = Applied::default();
        if !self.replica().can_take(&delta.collected) {
            applied.must_begin_again = true;
            return applied;
        }
        let is_past = delta.collected.covers(self.replica().collected());
        self.adopt(&delta.collected);
        let mut claims = delta.claims.clone();
        // What an author that is past says of a row tells that it is none that was collected, whoever else wrote it.
        let is_taken = |change: &&Change| self.replica().admission(change, is_past) == Admission::Take;
        let taken: BTreeSet<_> = delta.changes.iter().filter(is_taken).map(row_of).collect();
        for change in &delta.changes {
            match self.merge_from(change, is_past || taken.contains(&row_of(change))) {
                Ok(Outcome::Superseded) => applied.superseded += 1,
                Ok(Outcome::Won) => applied.won += 1,
                Ok(Outcome::Parked) => applied.parked += 1,
                Ok(Outcome::Behind) => {
                    claims.remove(change.stamp.site, change.stamp.version);
                    applied.behind.push(change.clone());
                }
                Err(reason) => {
                    claims.remove(change.stamp.site, change.stamp.version);
                    applied.refused.push(Refused { change: change.clone(), reason });
                }
            }
        }
        self.claim(&claims);
        applied
    }
}

fn row_of(change: &Change) -> (&str, &[u8], u64) {
    (&change.table, &change.pk, change.cl)
}

/// What a change says, in the form in which it is held. A delete is one whatever column it names.
fn entry_of(change: &Change, at: u64) -> Entry {
    match &change.fact {
        Fact::Cell { column, value, .. } if !change.is_delete() => {
            let value = value.as_ref().storable().to_owned_value();
            Entry::Cell(column.clone(), Cell { clock: change.clock(), value, at })
        }
        _ => Entry::Existence(Existence { stamp: change.stamp, spelling: Vec::new(), at }),
    }
}

impl Replica {
    /// Merges one change in a transaction of its own.
    pub fn merge(&mut self, change: &Change) -> Result<Outcome, InvalidChange> {
        let mut tx = self.begin();
        let outcome = tx.merge(change)?;
        tx.commit().expect("a transaction without local writes issues no version");
        Ok(outcome)
    }

    /// Applies a delta in a transaction of its own: afterwards this replica holds what its sender held.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let mut tx = self.begin();
        let applied = tx.apply(delta);
        let committed = tx.commit().expect("a transaction without local writes issues no version");
        Applied { committed, ..applied }
    }

    /// Reads a packed key as the table of this name sees it, known or not.
    pub(super) fn identity(&self, table: &str, pk: &[u8]) -> Result<Identity, KeyError> {
        match self.tables.get(table) {
            Some(table) => table.identity(pk),
            None => Table::default().identity(pk),
        }
    }
}
