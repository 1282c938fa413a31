//! Laws of UNIQUE: whatever happened in whatever order, the rows that are shown are those that all rows decide.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use crsql_core::clash::{Rank, Rows, settle, shown};
use crsql_core::merge::{CellClock, Stamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::site;

type Values = Vec<Option<u8>>;

pub fn rank(key: u8, clock: u8) -> Rank {
    let stamp = Stamp { site: site(clock % 3), version: u64::from(clock), seq: 0 };
    Rank {
        clock: (clock > 0).then_some(CellClock { col_version: u64::from(clock) / 4 + 1, stamp }),
        key: vec![key],
    }
}

/// A table that moves its rows as it is told, and is told of changes one by one.
#[derive(Clone, Default)]
struct Table {
    shown: BTreeMap<Rank, Values>,
    /// Hidden rows, and the key of the one that holds each back.
    hidden: BTreeMap<Rank, (Values, Option<Vec<u8>>)>,
}

fn clash(a: &Values, b: &Values) -> bool {
    a.iter().zip(b).any(|(a, b)| a.is_some() && a == b)
}

impl Table {
    fn held_back_by(&self, key: &[u8]) -> BTreeSet<Rank> {
        let held = self.hidden.iter().filter(|(_, (_, by))| by.as_deref() == Some(key));
        held.map(|(rank, _)| rank.clone()).collect()
    }

    /// A row comes, changes or (without values) goes.
    fn change(&mut self, new: &Rank, values: Option<Values>) {
        let mut in_doubt = self.held_back_by(&new.key);
        self.shown.retain(|rank, _| rank.key != new.key);
        self.hidden.retain(|rank, _| rank.key != new.key);
        if let Some(values) = values {
            if self.shown.values().any(|other| clash(other, &values)) {
                self.hidden.insert(new.clone(), (values, None));
                in_doubt.insert(new.clone());
            } else {
                self.shown.insert(new.clone(), values);
            }
        }
        settle(self, in_doubt).unwrap();
    }

    fn all(&self) -> BTreeMap<Rank, Values> {
        let hidden = self.hidden.iter().map(|(rank, (values, _))| (rank.clone(), values.clone()));
        self.shown.clone().into_iter().chain(hidden).collect()
    }
}

impl Rows for Table {
    type Error = Infallible;

    fn rivals(&mut self, hidden: &Rank) -> Result<Vec<Rank>, Infallible> {
        let Some((values, _)) = self.hidden.get(hidden) else { return Ok(Vec::new()) };
        let rivals = self.shown.iter().filter(|(_, other)| clash(other, values));
        Ok(rivals.map(|(rank, _)| rank.clone()).collect())
    }

    fn insists(&mut self, _: &Rank, _: &Rank) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn hide(&mut self, shown: &Rank) -> Result<Vec<Rank>, Infallible> {
        let values = self.shown.remove(shown).expect("it is shown");
        self.hidden.insert(shown.clone(), (values, None));
        Ok(self.held_back_by(&shown.key).into_iter().collect())
    }

    fn show(&mut self, hidden: &Rank) -> Result<(), Infallible> {
        let (values, _) = self.hidden.remove(hidden).expect("it is hidden");
        assert!(self.shown.values().all(|other| !clash(other, &values)), "no index is ever broken");
        self.shown.insert(hidden.clone(), values);
        Ok(())
    }

    fn hold_back(&mut self, hidden: &Rank, by: &Rank) -> Result<(), Infallible> {
        self.hidden.get_mut(hidden).expect("it is hidden").1 = Some(by.key.clone());
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::cases(2000))]
    #[test]
    fn the_shown_rows_are_a_function_of_all_rows(
        changes in vec((0u8..7, 0u8..40, prop::option::weighted(0.8, vec(prop::option::of(0u8..4), 2))), 1..40),
    ) {
        let mut table = Table::default();
        for (key, clock, values) in changes {
            table.change(&rank(key, clock), values);
            let all = table.all();
            let expected = shown(&all);
            prop_assert_eq!(table.shown.keys().cloned().collect::<BTreeSet<_>>(), expected);
            // Every hidden row is held back by a shown one of greater rank with which it clashes.
            for (rank, (values, by)) in &table.hidden {
                let (by, theirs) = table.shown.iter().find(|(other, _)| Some(&other.key) == by.as_ref()).unwrap();
                prop_assert!(by > rank && clash(values, theirs));
            }
        }
    }

    #[test]
    fn the_greatest_row_of_a_value_that_wants_nothing_else_is_shown(
        rows in prop::collection::btree_map(0u8..9, (0u8..40, 0u8..3), 1..9),
    ) {
        let all: BTreeMap<Rank, Vec<Option<u8>>> =
            rows.iter().map(|(key, (clock, value))| (rank(*key, *clock), vec![Some(*value)])).collect();
        let shown = shown(&all);
        for value in 0..3 {
            let greatest = all.iter().rev().find(|(_, values)| values[0] == Some(value));
            let kept: Vec<_> = shown.iter().filter(|rank| all[*rank][0] == Some(value)).collect();
            prop_assert_eq!(kept, greatest.iter().map(|(rank, _)| *rank).collect::<Vec<_>>());
        }
    }
}
