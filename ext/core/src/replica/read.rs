//! Reading a replica: base tables, changes since a position, deltas, digests.

use super::Replica;
use super::row::Row;
use super::schema::{Table, TableSchema};
use crate::change::{Change, Fact};
use crate::collect::Collected;
use crate::digest::{Digest, RecordHasher, has_row_record};
use crate::ids::{DbVersion, SiteId};
use crate::pack::unpack;
use crate::value::{Value, ValueRef};
use crate::version_vector::VersionVector;

/// What one replica sends another: all that the other may lack, and what it will hold then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Everything held whose version the receiver does not hold, unknown identities always.
    pub changes: Vec<Change>,
    /// What the sender holds: the receiver holds it too once it has applied all the changes together.
    pub claims: VersionVector,
    /// What the sender has collected or taken over: deletes that are not among the changes any more.
    pub collected: Collected,
}

/// A held change and when this replica took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampedChange {
    /// The apply position.
    pub db_version: DbVersion,
    /// The change.
    pub change: Change,
}

impl Replica {
    /// The base table: live rows as (key in its spelling, columns in declared order), by canonical key. Empty if
    /// the table is unknown.
    pub fn rows(&self, table: &str) -> Vec<(Vec<Value>, Vec<Value>)> {
        let Some(table) = self.tables.get(table) else { return Vec::new() };
        let Some(schema) = &table.schema else { return Vec::new() };
        let alive = table.rows.iter().filter(|(_, row)| row.is_alive());
        alive
            .map(|(key, row)| {
                let columns = schema.columns.iter().map(|column| row.shown(column));
                (values_of(&table.spelling(key, row)), columns.collect())
            })
            .collect()
    }

    /// The clocks of the row with this key, if anything is known of it.
    pub fn row(&self, table: &str, key: &[Value]) -> Option<&Row> {
        let values: Vec<_> = key.iter().map(Value::as_ref).collect();
        let pk = crate::pack::pack(&values).ok()?;
        self.row_of(table, &self.identity(table, &pk).ok()?.key)
    }

    /// Everything held, in no particular order.
    pub fn changes(&self) -> impl Iterator<Item = StampedChange> + '_ {
        self.tables.iter().flat_map(|(name, table)| {
            table.rows.iter().flat_map(move |(key, row)| changes_of(name, table.spelling(key, row), row))
        })
    }

    /// Everything taken after an apply position, by (db_version, seq).
    pub fn changes_since(&self, seen: DbVersion) -> Vec<StampedChange> {
        let mut changes: Vec<_> = self.changes().filter(|stamped| stamped.db_version > seen).collect();
        // Sorting is stable, so changes of several sites at one place stay by table, key and column.
        changes.sort_by_key(|stamped| (stamped.db_version, stamped.change.stamp.seq));
        changes
    }

    /// What is still held of one site's version, by seq. Directly after the commit that is all of it.
    pub fn changes_of(&self, site: SiteId, version: u64) -> Vec<Change> {
        let mut changes: Vec<_> = self.changes().map(|stamped| stamped.change).collect();
        changes.retain(|change| change.stamp.site == site && change.stamp.version == version);
        changes.sort_by_key(|change| change.stamp.seq);
        changes
    }

    /// What a replica that holds `held` needs to hold all that this one holds.
    pub fn delta(&self, held: &VersionVector) -> Delta {
        let lacking = self.changes().map(|stamped| stamped.change);
        let lacking = lacking.filter(|change| !held.contains(change.stamp.site, change.stamp.version));
        Delta {
            changes: lacking.collect(),
            claims: self.held.difference(held),
            collected: self.collected.clone(),
        }
    }

    /// The changes that wait for their table or column.
    pub fn parked(&self) -> Vec<Change> {
        self.changes().map(|stamped| stamped.change).filter(|change| self.is_parked(change)).collect()
    }

    /// The digest of everything held, authorship and parked changes included.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        self.tables.iter().for_each(|(name, table)| digest.add(&self.digest_of(name, table)));
        digest
    }

    /// The digest of one table.
    pub fn table_digest(&self, name: &str) -> Digest {
        self.tables.get(name).map(|table| self.digest_of(name, table)).unwrap_or_default()
    }

    fn digest_of(&self, name: &str, table: &Table) -> Digest {
        let mut digest = Digest::default();
        let mut hasher = RecordHasher::default();
        for (key, row) in &table.rows {
            hasher.row(name, key, row.cl);
            let stamp = row.existence.as_ref().map(|existence| &existence.stamp);
            if has_row_record(row.cl, stamp) && !self.collected.hides(row.cl) {
                digest.add(&hasher.existence(stamp));
            }
            for (name, cell) in &row.cells {
                digest.add(&hasher.cell(&name.column, &cell.clock, cell.value.as_ref()));
            }
        }
        digest
    }

    /// The schema of a replicated table.
    pub fn schema(&self, table: &str) -> Option<&TableSchema> {
        self.tables.get(table)?.schema.as_ref()
    }

    pub(super) fn row_of(&self, table: &str, key: &[u8]) -> Option<&Row> {
        self.tables.get(table)?.rows.get(key)
    }

    pub(super) fn is_parked(&self, change: &Change) -> bool {
        match (self.schema(&change.table), &change.fact) {
            (None, _) => true,
            (Some(schema), Fact::Cell { column, .. }) => !change.is_delete() && !schema.has_cells(column),
            (Some(_), Fact::Row) => false,
        }
    }
}

pub(super) fn values_of(packed: &[u8]) -> Vec<Value> {
    unpack(packed).expect("spellings were packed here").iter().map(ValueRef::to_owned_value).collect()
}

pub(super) fn changes_of<'a>(
    table: &'a str,
    pk: Vec<u8>,
    row: &'a Row,
) -> impl Iterator<Item = StampedChange> + 'a {
    let existence = row.existence.iter().map(|existence| (existence.at, existence.stamp, Fact::Row));
    let cells = row.cells.iter().map(|(name, cell)| {
        let (column, col_version, value) = (name.column.clone(), cell.clock.col_version, cell.value.clone());
        (cell.at, cell.clock.stamp, Fact::Cell { column, col_version, value })
    });
    existence.chain(cells).map(move |(at, stamp, fact)| StampedChange {
        db_version: DbVersion(at),
        change: Change { table: table.into(), pk: pk.clone(), fact, cl: row.cl, stamp },
    })
}
