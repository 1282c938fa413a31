//! Merging is a join, even of changes that no honest replica wrote: their order, grouping and number don't matter.

use crsql_core::change::{Change, Fact};
use crsql_core::merge::{Stamp, TieBreak};
use crsql_core::pack::pack;
use crsql_core::replica::{Outcome, Replica};
use crsql_core::value::Value;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::*;

/// Changes as a forger makes them: colliding stamps, unknown identities, stray columns, wrong keys.
fn forged() -> impl Strategy<Value = Change> {
    let stamp =
        (1u8..4, 0u64..3, 0u64..2).prop_map(|(n, version, seq)| Stamp { site: site(n), version, seq });
    let column = prop::sample::select(&["name", "count", "extra", "color", "v"][..]);
    let cell =
        (column, 0u64..4, any::<u8>(), any::<bool>()).prop_map(|(column, col_version, n, nan)| Fact::Cell {
            column: column.into(),
            col_version,
            value: if nan { Value::Real(f64::NAN) } else { value(n) },
        });
    let fact = prop_oneof![1 => Just(Fact::Row), 3 => cell];
    (0usize..4, any::<u8>(), 0u64..5, fact, stamp, 0u8..20).prop_map(|(table, n, cl, fact, stamp, oddity)| {
        let schema = schemas().swap_remove(table);
        let columns = schema.key.len() + usize::from(oddity == 0);
        let key = key(columns, n);
        let pk = pack(&key.iter().map(Value::as_ref).collect::<Vec<_>>()).unwrap();
        Change { table: schema.name, pk, fact, cl, stamp }
    })
}

/// Forged changes, some of them twice with another value or another spelling under one stamp and clock.
fn forgeries() -> impl Strategy<Value = Vec<Change>> {
    let variation = (forged(), any::<bool>(), 0u8..7, 0u8..9);
    vec(variation, 0..12).prop_map(|variations| {
        let mut changes = Vec::new();
        for (change, is_double, n, spelling) in variations {
            if is_double {
                let mut double = change.clone();
                if let Fact::Cell { value: forged, .. } = &mut double.fact {
                    *forged = value(n);
                }
                let width =
                    schemas().iter().find(|schema| schema.name == change.table).map_or(1, |s| s.key.len());
                double.pk =
                    pack(&key(width, spelling).iter().map(Value::as_ref).collect::<Vec<_>>()).unwrap();
                changes.push(double);
            }
            changes.push(change);
        }
        changes
    })
}

/// A replica that has the first tables, merges in transactions of any size, and gets the others along the way.
fn merged(changes: &[Change], tie: TieBreak, seed: u64) -> Replica {
    let mut dice = Dice::new(seed);
    let mut replica = Replica::new(site(9), tie);
    let mut schemas = schemas();
    let mut rest = changes;
    loop {
        while !schemas.is_empty() && (rest.is_empty() || dice.below(4) == 0) {
            replica.create_table(schemas.swap_remove(dice.below(schemas.len()))).unwrap();
        }
        if rest.is_empty() {
            return replica;
        }
        let (chunk, others) = rest.split_at(1 + dice.below(rest.len()));
        rest = others;
        let mut tx = replica.begin();
        for change in chunk {
            // The refused are refused wherever they come; see the next law.
            let _ = tx.merge(change);
        }
        tx.commit().unwrap();
    }
}

/// All that a replica holds, in a form that can be compared.
fn state(replica: &Replica) -> (String, Vec<Change>, Vec<String>) {
    let mut changes: Vec<_> = replica.changes().map(|stamped| stamped.change).collect();
    changes.sort_by_key(|change| format!("{change:?}"));
    let rows = schemas().iter().map(|schema| format!("{:?}", replica.rows(&schema.name))).collect();
    (replica.digest().hex(), changes, rows)
}

proptest! {
    #![proptest_config(crate::cases(1000))]

    #[test]
    fn order_grouping_repetition_and_late_tables_do_not_matter(
        changes in forgeries(),
        tie in tie_break(),
        seed in any::<u64>(),
    ) {
        let once = merged(&changes, tie, 0);
        let mut again = [&changes[..], &changes[..]].concat();
        Dice::new(seed).shuffle(&mut again);
        prop_assert_eq!(state(&merged(&again, tie, seed)), state(&once));
    }

    #[test]
    fn merging_what_is_held_changes_nothing(changes in forgeries(), tie in tie_break()) {
        let replica = merged(&changes, tie, 1);
        let mut again = replica.clone();
        for change in &changes {
            if let Ok(outcome) = again.merge(change) {
                prop_assert_eq!(outcome, Outcome::Superseded);
            }
        }
        for stamped in replica.changes() {
            prop_assert_eq!(again.merge(&stamped.change), Ok(Outcome::Superseded));
        }
        prop_assert_eq!(again.db_version(), replica.db_version());
    }

    #[test]
    fn what_is_held_says_all(changes in forgeries(), tie in tie_break(), seed in any::<u64>()) {
        let replica = merged(&changes, tie, seed);
        let mut held: Vec<_> = replica.changes().map(|stamped| stamped.change).collect();
        Dice::new(seed).shuffle(&mut held);
        prop_assert_eq!(state(&merged(&held, tie, seed)), state(&replica));
    }

    #[test]
    fn a_merge_never_goes_back(changes in forgeries(), tie in tie_break()) {
        let mut replica = merged(&[], tie, 0);
        for change in &changes {
            let before: Vec<_> = replica.changes().map(|stamped| stamped.change).collect();
            let _ = replica.merge(change);
            let mut after = replica.clone();
            for old in &before {
                prop_assert_eq!(after.merge(old), Ok(Outcome::Superseded));
            }
        }
    }

    #[test]
    fn refusals_do_not_depend_on_what_is_known(changes in forgeries(), tie in tie_break()) {
        let mut empty = merged(&[], tie, 0);
        let mut full = merged(&changes, tie, 0);
        for change in &changes {
            let refusals = (empty.clone().merge(change).err(), full.merge(change).err());
            prop_assert_eq!(&refusals.0, &refusals.1);
            prop_assert!(change.validate().is_ok() || refusals.0.is_some());
            let _ = empty.merge(change);
        }
    }
}
