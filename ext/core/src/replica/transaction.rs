//! Transactions and savepoints: what is written is stamped when it commits, or was never there.

use std::collections::{BTreeMap, BTreeSet};

use super::row::Row;
use super::{Replica, WriteError};
use crate::collect::Collected;
use crate::ids::{DbVersion, SiteVersion};
use crate::limits::SITE_VERSION_MAX;
use crate::merge::{Clock, Stamp};
use crate::version_vector::VersionVector;

/// The version of a write that has not been committed. Beyond every version a change may have, so that it is
/// ordered as the version that it gets at commit.
const PENDING: u64 = u64::MAX;

/// A transaction on a replica. Reads through [`Transaction::replica`] see its writes; dropping it undoes them.
#[derive(Debug)]
pub struct Transaction<'r> {
    replica: &'r mut Replica,
    /// Every row this transaction wrote, as it was before each write.
    undo: Vec<Before>,
    next_seq: u64,
    /// The versions that the transaction's deltas claim.
    claims: VersionVector,
    /// The greatest version of our own site that came from elsewhere.
    own_version: u64,
    /// What was collected when the transaction began.
    collected: Collected,
}

#[derive(Debug)]
struct Before {
    table: String,
    key: Vec<u8>,
    row: Option<Row>,
}

/// A point inside a transaction to which it can be rolled back.
#[derive(Clone, Debug)]
pub struct Savepoint {
    writes: usize,
    next_seq: u64,
    claims: VersionVector,
    own_version: u64,
    collected: Collected,
}

/// What a commit made of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The version that this site issued for its writes; `None` if none of them is left.
    pub site_version: Option<SiteVersion>,
    /// The new apply position; `None` if nothing changed.
    pub db_version: Option<DbVersion>,
}

impl<'r> Transaction<'r> {
    pub(super) fn new(replica: &'r mut Replica) -> Transaction<'r> {
        let collected = replica.collected.clone();
        Transaction {
            replica,
            collected,
            undo: Vec::new(),
            next_seq: 0,
            claims: VersionVector::default(),
            own_version: 0,
        }
    }

    /// The replica as this transaction has it.
    pub fn replica(&self) -> &Replica {
        self.replica
    }

    /// Marks this point.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            writes: self.undo.len(),
            next_seq: self.next_seq,
            claims: self.claims.clone(),
            own_version: self.own_version,
            collected: self.replica.collected.clone(),
        }
    }

    /// Undoes everything since a point of this transaction. Points after it are gone.
    pub fn rollback_to(&mut self, point: &Savepoint) {
        self.undo_from(point.writes);
        self.next_seq = point.next_seq;
        self.claims = point.claims.clone();
        self.own_version = point.own_version;
        self.replica.collected = point.collected.clone();
    }

    /// Makes the transaction's writes part of the replica: they get the next site_version and a seq from 0
    /// without holes, in the order in which they were last written. An error rolls everything back.
    pub fn commit(mut self) -> Result<Committed, WriteError> {
        let touched = self.touched();
        let pending = self.pending(touched.keys());
        let mut committed = Committed::default();
        let mut version = self.replica.version.max(self.own_version);
        if !pending.is_empty() {
            if version >= SITE_VERSION_MAX {
                return Err(WriteError::Exhausted(Clock::SiteVersion));
            }
            version += 1;
            committed.site_version = Some(SiteVersion(version));
        }

        // From here on nothing can fail.
        self.undo.clear();
        self.collected = self.replica.collected.clone();
        let ranks: BTreeMap<u64, u64> = pending.into_iter().zip(0..).collect();
        for (table, key) in touched.keys() {
            self.replica.stamps_mut(table, key).filter(|stamp| stamp.version == PENDING).for_each(|stamp| {
                stamp.version = version;
                stamp.seq = ranks[&stamp.seq];
            });
        }
        if touched.iter().any(|((table, key), before)| self.replica.row_of(table, key) != before.as_ref()) {
            self.replica.db_version += 1;
            committed.db_version = Some(self.replica.db_version());
        }
        self.replica.version = version;
        self.replica.held.union_with(&self.claims);
        if let Some(issued) = committed.site_version {
            self.replica.held.insert(self.replica.site, issued.0);
        }
        Ok(committed)
    }

    /// Undoes the transaction.
    pub fn rollback(self) {}

    /// The stamp of the next local write. It sorts after everything this site has committed.
    pub(super) fn pending_stamp(&mut self) -> Stamp {
        self.next_seq += 1;
        Stamp { site: self.replica.site, version: PENDING, seq: self.next_seq }
    }

    /// The apply position this transaction will have.
    pub(super) fn at(&self) -> u64 {
        self.replica.db_version + 1
    }

    /// Replaces a row; the key is the one it is found by.
    pub(super) fn write(&mut self, table: &str, key: &[u8], row: Row) {
        let before = self.replica.restore(table, key.to_vec(), Some(row));
        self.undo.push(Before { table: table.into(), key: key.to_vec(), row: before });
    }

    /// Takes over what the sender of a delta has collected.
    pub(super) fn adopt(&mut self, collected: &Collected) {
        self.replica.collected.adopt(collected);
    }

    /// Enters what a delta claims to complete.
    pub(super) fn claim(&mut self, claims: &VersionVector) {
        self.claims.union_with(claims);
        let own = claims.of_site(self.replica.site).and_then(|versions| versions.max());
        self.see_own_version(own.unwrap_or(0));
    }

    /// A version of our own site that we may not know, because we were restored from a backup: it is taken.
    pub(super) fn see_own_version(&mut self, version: u64) {
        self.own_version = self.own_version.max(version);
    }

    /// Takes back the writes from this one on, the last one first.
    fn undo_from(&mut self, write: usize) {
        let writes = self.undo.split_off(write.min(self.undo.len()));
        for Before { table, key, row } in writes.into_iter().rev() {
            self.replica.restore(&table, key, row);
        }
    }

    /// Every row written, as it was before the first write.
    fn touched(&self) -> BTreeMap<(String, Vec<u8>), Option<Row>> {
        let newest_first = self.undo.iter().rev();
        newest_first.map(|before| ((before.table.clone(), before.key.clone()), before.row.clone())).collect()
    }

    /// The provisional seqs of the writes that nothing in the transaction has overwritten, ascending.
    fn pending<'k>(&mut self, rows: impl Iterator<Item = &'k (String, Vec<u8>)>) -> BTreeSet<u64> {
        rows.flat_map(|(table, key)| {
            let pending = self.replica.stamps_mut(table, key).filter(|stamp| stamp.version == PENDING);
            pending.map(|stamp| stamp.seq).collect::<Vec<_>>()
        })
        .collect()
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.undo_from(0);
        self.replica.collected = std::mem::take(&mut self.collected);
    }
}

impl Replica {
    /// Puts a row back as it was, or away; returns what was there.
    fn restore(&mut self, name: &str, key: Vec<u8>, row: Option<Row>) -> Option<Row> {
        let table = self.tables.entry(name.into()).or_default();
        let before = match row {
            Some(row) => table.rows.insert(key, row),
            None => table.rows.remove(&key),
        };
        if table.schema.is_none() && table.rows.is_empty() {
            self.tables.remove(name);
        }
        before
    }

    fn stamps_mut(&mut self, table: &str, key: &[u8]) -> impl Iterator<Item = &mut Stamp> {
        let row = self.tables.get_mut(table).and_then(|table| table.rows.get_mut(key));
        row.into_iter().flat_map(|row| {
            let existence = row.existence.iter_mut().map(|existence| &mut existence.stamp);
            existence.chain(row.cells.values_mut().map(|cell| &mut cell.clock.stamp))
        })
    }
}
