//! Members, the tombstones that they let go, and the way back for a replica that was left behind.

use std::collections::BTreeMap;

use super::read::{Delta, changes_of, values_of};
use super::{Applied, Replica};
use crate::change::Change;
use crate::collect::{Admission, Collected, admit, deletes_within, is_collectable, stable_cut, was_made_by};
use crate::ids::SiteId;
use crate::merge::Stamp;
use crate::value::Value;
use crate::version_vector::VersionVector;

/// What the sender of a whole delta did not have of a row.
struct Unsent {
    table: String,
    key: Vec<u8>,
    spelling: Vec<Value>,
    changes: Vec<Change>,
    /// What the row's columns showed.
    shown: Vec<(String, Value)>,
    /// It had nothing of the row, and it was made here.
    is_whole: bool,
}

impl Unsent {
    fn is_delete(&self) -> bool {
        self.changes.iter().any(Change::is_delete)
    }
}

impl Replica {
    /// Registers a site, or hears what a registered one holds by now.
    pub fn register(&mut self, site: SiteId, held: &VersionVector) {
        self.members.entry(site).or_default().hear(site, &self.held, held);
    }

    /// The site is gone for good, or its lease is over.
    pub fn unregister(&mut self, site: SiteId) {
        self.members.remove(&site);
    }

    /// What was collected here, and what others told of.
    pub fn collected(&self) -> &Collected {
        &self.collected
    }

    /// Drops the tombstones whose delete every registered site holds; tells how many.
    pub fn collect(&mut self) -> usize {
        for (site, heard) in &mut self.members {
            heard.settle(*site, &self.held);
        }
        let members = self.members.iter();
        let held: Vec<_> = members
            .map(|(site, heard)| if *site == self.site { &self.held } else { &heard.vector })
            .collect();
        let mut cut = stable_cut(&self.held, held);
        cut.union_with(&self.collected.deletes);
        let (mut count, mut last) = (0, BTreeMap::new());
        let collected = &mut self.collected;
        for table in self.tables.values_mut() {
            table.rows.retain(|_, row| {
                let stamp = row.existence.as_ref().map(|existence| existence.stamp);
                let Some(stamp) =
                    stamp.filter(|stamp| is_collectable(row.cl) && cut.contains(stamp.site, stamp.version))
                else {
                    return true;
                };
                collected.note(row.cl);
                let newest: &mut u64 = last.entry(stamp.site).or_default();
                *newest = (*newest).max(stamp.version);
                count += 1;
                false
            });
        }
        self.tables.retain(|_, table| table.schema.is_some() || !table.rows.is_empty());
        self.collected.deletes.union_with(&deletes_within(&cut, last));
        count
    }

    /// Whether what is left at a replica that collected this brings this one up to date.
    pub(super) fn can_take(&self, theirs: &Collected) -> bool {
        self.db_version == 0 || self.collected.has_seen(&self.held, theirs)
    }

    /// A change of a row that is unknown here.
    pub(super) fn admission(&self, change: &Change, is_past: bool) -> Admission {
        let Stamp { site, version, .. } = change.stamp;
        let is_member = || {
            change.stamp.has_identity()
                && self
                    .members
                    .get(&site)
                    .is_some_and(|heard| heard.vector.is_superset(&self.collected.deletes))
        };
        admit(&self.collected, change.cl, self.held.contains(site, version), is_past || is_member())
    }

    /// Begins again with a whole delta (of somebody asked for everything), and adds what its sender did not have: to
    /// rows that the sender knows as it was, rows that were made here and that it knows nothing of as new ones. What is
    /// left is updates of rows whose delete was collected, and they go with them.
    pub fn begin_again(&mut self, whole: &Delta) -> Applied {
        let mut unsent = self.unsent(&whole.claims);
        for table in self.tables.values_mut() {
            table.rows.clear();
        }
        self.tables.retain(|_, table| table.schema.is_some());
        let own = self.held.of_site(self.site).cloned().unwrap_or_default();
        // Until the end, or what comes back of the own versions would pass for collected.
        self.held = VersionVector::default();
        self.collected = whole.collected.clone();
        let applied = self.apply(whole);
        // Deletes first, as they were: they bring nothing back.
        unsent.sort_by_key(|row| !row.is_delete());
        let mut tx = self.begin();
        for row in unsent {
            let is_known = tx.replica().row_of(&row.table, &row.key).is_some();
            let done = if is_known || row.is_delete() {
                row.changes.iter().try_for_each(|change| tx.merge_from(change, true).map(drop)).is_ok()
            } else if row.is_whole {
                let sets: Vec<_> =
                    row.shown.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
                tx.insert(&row.table, &row.spelling, &sets).is_ok()
            } else {
                true
            };
            debug_assert!(done, "what was held here is valid here");
        }
        tx.commit().expect("a site that began again has versions left");
        own.iter().for_each(|(lo, hi)| {
            self.held.insert_range(self.site, lo, hi);
        });
        applied
    }

    /// The rows with changes that are not in `sent`. Of a change without identity nobody can tell.
    fn unsent(&self, sent: &VersionVector) -> Vec<Unsent> {
        let mut rows = Vec::new();
        for (name, table) in &self.tables {
            let Some(schema) = &table.schema else { continue };
            for (key, row) in &table.rows {
                let spelling = table.spelling(key, row);
                let mut changes: Vec<_> =
                    changes_of(name, spelling.clone(), row).map(|stamped| stamped.change).collect();
                let all = changes.len();
                changes.retain(|Change { stamp, .. }| {
                    stamp.has_identity() && !sent.contains(stamp.site, stamp.version)
                });
                if !changes.is_empty() {
                    let is_whole =
                        changes.len() == all && was_made_by(changes.iter().map(|change| &change.fact));
                    let spelling = values_of(&spelling);
                    let shown = schema.columns.iter().map(|column| (column.name.clone(), row.shown(column)));
                    rows.push(Unsent {
                        table: name.clone(),
                        key: key.clone(),
                        spelling,
                        changes,
                        shown: shown.collect(),
                        is_whole,
                    });
                }
            }
        }
        rows
    }
}
