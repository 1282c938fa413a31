//! Messages between replicas, in every form that the surface offers.

use super::coverage::{saw, trace};
use super::twin::{Twin, change_of};
use crate::Rng;
use crate::exchange::{ChangeRow, NINE, TEN};
use crsql_core::replica::Delta;
use crsql_core::version_vector::{Limits, VersionVector};
use std::collections::BTreeSet;

/// A message, as the replica reads it and as its model does.
#[derive(Debug, Clone)]
pub enum Mail {
    /// A blob of `crsql_changeset`.
    Changeset {
        /// What `crsql_apply` gets.
        blob: Vec<u8>,
        /// What the model gets.
        delta: Delta,
        /// Both carry exactly the same changes, so that reports can be compared.
        same: bool,
    },
    /// Rows of `crsql_changes`.
    Rows {
        /// The rows.
        rows: Vec<ChangeRow>,
        /// In one transaction, or each in its own.
        together: bool,
        /// In one statement.
        one_statement: bool,
    },
}

impl Mail {
    /// Something that `from` tells `to`.
    pub fn write(from: &Twin, to: &Twin, nine_columns: bool, rng: &mut Rng) -> Mail {
        match rng.below(6) {
            0 | 1 => Mail::delta(from, to),
            2 => Mail::since(from, rng),
            3 => {
                let delta = from.model.delta(&VersionVector::default());
                // Without its table a row may be held under two spellings of its key, and which of them
                // comes first decides how many changes win.
                Mail::Changeset { blob: from.site.changeset(), delta, same: from.complete }
            }
            _ => Mail::rows(from, nine_columns && rng.one_in(3), rng),
        }
    }

    /// All that `from` has and `to` lacks now. The model is told what its replica is told: a replica may hold more
    /// versions than its model, by a claim that the model did not get, and when it goes back to a backup before the
    /// delta arrives, that difference is no longer one of claims alone.
    pub fn delta(from: &Twin, to: &Twin) -> Mail {
        let held = to.site.version_vector();
        let blob = from.site.changeset_for(&held);
        let held = VersionVector::decode(&held, &Limits::default()).expect("a version vector");
        let delta = from.model.delta(&held);
        Mail::Changeset { blob, delta, same: false }
    }

    /// What `from` applied after some position, which is the same change in the replica and in the model. The model
    /// claims no version for it: whatever a replica claims beyond that must be sound, which the end of the history
    /// shows.
    fn since(from: &Twin, rng: &mut Rng) -> Mail {
        let real = from.site.values("SELECT DISTINCT db_version FROM crsql_changes ORDER BY 1");
        let model: BTreeSet<u64> = from.model.changes().map(|stamped| stamped.db_version.0).collect();
        let mut positions: Vec<(i64, u64)> = real.iter().map(|row| row[0].integer()).zip(model).collect();
        positions.push((0, 0));
        let (position, model_position) = *rng.pick(&positions);
        let blob = from.site.changeset_since(position);
        let changes = if from.complete {
            let since = from.model.changes_since(model_position.into());
            since.into_iter().map(|stamped| stamped.change).collect()
        } else {
            // It took parked changes a second time, so its positions are not its model's.
            let sql = format!("SELECT {TEN} FROM crsql_changes WHERE db_version > {position}");
            from.site.values(&sql).iter().map(change_of).collect()
        };
        let delta = Delta { changes, ..Delta::default() };
        Mail::Changeset { blob, delta, same: from.complete }
    }

    /// Some rows, in any order, as few as one.
    fn rows(from: &Twin, nine_columns: bool, rng: &mut Rng) -> Mail {
        let columns = if nine_columns { NINE } else { TEN };
        let mut rows = from.site.values(&format!("SELECT {columns} FROM crsql_changes"));
        rng.shuffle(&mut rows);
        let all = rows.len();
        rows.truncate(1 + rng.below(12));
        if rows.len() < all {
            saw("row split between messages");
        }
        Mail::Rows { rows, together: rng.one_in(2), one_statement: rng.one_in(3) }
    }

    /// Delivers it to a replica and its model.
    pub fn read(&self, to: &mut Twin) {
        match self {
            Mail::Changeset { blob, delta, same } => {
                // Dear, so only where somebody reads it.
                let mut before = Vec::new();
                trace(|| {
                    before = to.site.clocks();
                    "  a changeset".into()
                });
                // What waits for a column that came by a plain ALTER is taken together with the changeset.
                let same = *same && !to.has_unseen_column();
                let report = to.site.apply(blob);
                let applied = to.model.apply(delta);
                assert!(applied.refused.is_empty(), "{:?}", applied.refused);
                if report.parked > 0 {
                    saw("changes parked");
                }
                let counts = (report.applied as usize, report.parked as usize);
                if same && counts != (applied.won, applied.parked) {
                    to.compare("after a changeset");
                    panic!(
                        "crsql_apply reported {report:?}, but {} changes won and {} were parked\nbefore: {before:#?}\nthe changeset: {:#?}",
                        applied.won, applied.parked, delta.changes
                    );
                }
            }
            Mail::Rows { rows, .. } if rows.is_empty() => {}
            Mail::Rows { rows, together, one_statement } => {
                if *one_statement {
                    to.site.merge_in_one_statement(rows);
                } else if *together {
                    to.site.exec("BEGIN");
                    to.site.merge(rows);
                    to.site.exec("COMMIT");
                } else {
                    to.site.merge(rows);
                }
                let mut tx = to.model.begin();
                for row in rows {
                    tx.merge(&change_of(row)).expect("a replica's own changes are valid");
                    if !*together && !*one_statement {
                        tx.commit().expect("no version is issued");
                        tx = to.model.begin();
                    }
                }
                tx.commit().expect("no version is issued");
            }
        }
    }
}
