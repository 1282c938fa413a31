//! Which rows are shown that need others: one set whatever came in which order, and the greatest there is.

use crsql_core::clash::{Rank, Rows, settle};
use crsql_core::parents::{Need, Row, shown, strata, supported};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

/// A value of a table's key, or of its other offered column.
type Target = (u32, bool, u8);
type Place = (u32, Vec<u8>);

/// Four tables: `1` needs `0`, `2` needs itself and `1`, `3` needs `2` and the other column of `0`. Rows of 0, 1 and 3
/// clash.
const NEEDS: [(u32, u32); 5] = [(1, 0), (2, 2), (2, 1), (3, 2), (3, 0)];

#[derive(Clone, Debug)]
struct Facts {
    clock: u8,
    unique: Option<u8>,
    needs: [Option<u8>; 2],
}

fn facts() -> impl Strategy<Value = Facts> {
    let value = || prop::option::weighted(0.8, 0u8..4);
    (0u8..40, value(), value(), value()).prop_map(|(clock, unique, a, b)| Facts {
        clock,
        unique,
        needs: [a, b],
    })
}

fn row(table: u32, key: u8, facts: &Facts) -> Row<Target> {
    let links: Vec<(u32, bool)> = match table {
        1 => vec![(0, true)],
        2 => vec![(2, true), (1, true)],
        3 => vec![(2, true), (0, false)],
        _ => Vec::new(),
    };
    let needs =
        links.iter().zip(facts.needs).filter_map(|((to, is_key), value)| Some((*to, *is_key, value?)));
    let unique = facts.unique.filter(|_| table != 2);
    Row {
        table,
        rank: crate::clashes::rank(key, facts.clock),
        unique: vec![unique.map(|value| (table, false, value))],
        offers: [Some((table, true, key)), unique.map(|value| (table, false, value))]
            .into_iter()
            .flatten()
            .collect(),
        needs: needs.collect(),
    }
}

fn place(row: &Row<Target>) -> Place {
    (row.table, row.rank.key.clone())
}

/// Rows as a replica holds them, moved as a replica moves them: what changed leads to what is in doubt.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<Place, Row<Target>>,
    shown: BTreeSet<Place>,
    /// What hidden rows wait for, and which row holds them back.
    waiting: BTreeMap<Place, Target>,
    held_by: BTreeMap<Place, Vec<u8>>,
    doubt: BTreeSet<Place>,
    suspects: BTreeSet<Place>,
}

impl Replica {
    fn offers(&self, target: &Target) -> bool {
        self.shown.iter().any(|place| self.rows[place].offers.contains(target))
    }

    fn change(&mut self, table: u32, key: u8, facts: Option<&Facts>) {
        let new = facts.map(|facts| row(table, key, facts));
        let at = (table, vec![key]);
        // A changed row is hidden first, and reconsidered.
        if self.shown.contains(&at) {
            self.hide(&at);
        }
        self.waiting.remove(&at);
        self.held_by.remove(&at);
        self.rows.remove(&at);
        self.doubt.remove(&at);
        if let Some(new) = new {
            self.rows.insert(at.clone(), new);
            self.doubt.insert(at);
        }
        self.resolve();
    }

    fn hide(&mut self, at: &Place) {
        self.shown.remove(at);
        let row = self.rows[at].clone();
        let lost = |place: &&Place| self.rows[*place].needs.iter().any(|need| row.offers.contains(need));
        self.suspects.extend(self.shown.iter().filter(lost).cloned());
        let held = self.held_by.iter().filter(|((table, _), by)| *table == at.0 && **by == at.1);
        self.doubt.extend(held.map(|(place, _)| place.clone()));
    }

    fn show(&mut self, at: &Place) {
        self.waiting.remove(at);
        self.held_by.remove(at);
        let row = &self.rows[at];
        let waits = |(_, target): &(&Place, &Target)| row.offers.contains(target);
        self.doubt.extend(self.waiting.iter().filter(waits).map(|(place, _)| place.clone()));
        self.shown.insert(at.clone());
    }

    fn resolve(&mut self) {
        let strata = strata(&[0, 1, 2, 3], &NEEDS);
        loop {
            let is_in = |stratum: &&Vec<u32>, places: &BTreeSet<Place>| {
                places.iter().any(|(id, _)| stratum.contains(id))
            };
            let next =
                strata.iter().find(|stratum| is_in(stratum, &self.doubt) || is_in(stratum, &self.suspects));
            let Some(stratum) = next else { return };
            let suspects: Vec<Place> =
                self.suspects.iter().filter(|(id, _)| stratum.contains(id)).cloned().collect();
            if !suspects.is_empty() {
                for at in suspects {
                    self.suspects.remove(&at);
                    if self.shown.contains(&at)
                        && !self.rows[&at].needs.clone().iter().all(|need| self.offers(need))
                    {
                        self.hide(&at);
                        self.doubt.insert(at);
                    }
                }
                continue;
            }
            let mine: Vec<Place> =
                self.doubt.iter().filter(|(id, _)| stratum.contains(id)).cloned().collect();
            self.doubt.retain(|place| !mine.contains(place));
            let mine = mine.into_iter().filter(|at| !self.shown.contains(at)).collect();
            if stratum == &[2] { self.settle_circle(mine) } else { self.settle_table(stratum[0], mine) }
        }
    }

    fn settle_table(&mut self, table: u32, mine: Vec<Place>) {
        let mut in_doubt = BTreeSet::new();
        for at in mine {
            let missing = self.rows[&at].needs.iter().find(|need| !self.offers(need)).copied();
            match missing {
                Some(target) => {
                    self.waiting.insert(at, target);
                }
                None => {
                    in_doubt.insert(self.rows[&at].rank.clone());
                }
            }
        }
        settle(&mut OfTable(self, table), in_doubt).unwrap();
    }

    fn settle_circle(&mut self, mine: Vec<Place>) {
        let mut needs: BTreeMap<Place, Vec<Need<Place>>> = BTreeMap::new();
        let mut next = mine;
        while let Some(at) = next.pop() {
            if needs.contains_key(&at) {
                continue;
            }
            let row = &self.rows[&at];
            let find = |need: &Target| match self.offers(need) {
                true => Need::Shown,
                false if need.0 == 2 => Need::Hidden((2, vec![need.2])),
                false => Need::Absent,
            };
            let waits = |(place, target): &(&Place, &Target)| place.0 == at.0 && row.offers.contains(target);
            next.extend(self.waiting.iter().filter(waits).map(|(place, _)| place.clone()));
            needs.insert(at.clone(), row.needs.iter().map(find).collect());
        }
        let (shown, lacking) = supported(&needs);
        shown.iter().for_each(|at| self.show(at));
        for (at, need) in lacking {
            let target = self.rows[&at].needs[need];
            self.waiting.insert(at, target);
        }
    }
}

struct OfTable<'r>(&'r mut Replica, u32);

impl Rows for OfTable<'_> {
    type Error = Infallible;

    fn rivals(&mut self, hidden: &Rank) -> Result<Vec<Rank>, Infallible> {
        let unique = &self.0.rows[&(self.1, hidden.key.clone())].unique;
        let clashes = |row: &&Row<Target>| row.unique[0].is_some() && row.unique == *unique;
        let rows = self.0.shown.iter().filter(|(id, _)| *id == self.1).map(|place| &self.0.rows[place]);
        Ok(rows.filter(clashes).map(|row| row.rank.clone()).collect())
    }

    fn insists(&mut self, _: &Rank, _: &Rank) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn hide(&mut self, shown: &Rank) -> Result<Vec<Rank>, Infallible> {
        self.0.hide(&(self.1, shown.key.clone()));
        Ok(Vec::new())
    }

    fn show(&mut self, hidden: &Rank) -> Result<(), Infallible> {
        self.0.show(&(self.1, hidden.key.clone()));
        Ok(())
    }

    fn hold_back(&mut self, hidden: &Rank, by: &Rank) -> Result<(), Infallible> {
        self.0.waiting.remove(&(self.1, hidden.key.clone()));
        self.0.held_by.insert((self.1, hidden.key.clone()), by.key.clone());
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::cases(2000))]
    #[test]
    fn a_replica_that_looks_only_at_what_changed_shows_what_all_rows_decide(
        changes in vec((0u32..4, 0u8..4, prop::option::weighted(0.8, facts())), 1..60),
    ) {
        let strata = strata(&[0, 1, 2, 3], &NEEDS);
        let mut replica = Replica::default();
        for (table, key, facts) in &changes {
            replica.change(*table, *key, facts.as_ref());
            let all: Vec<Row<Target>> = replica.rows.values().cloned().collect();
            prop_assert_eq!(&replica.shown, &shown(&all, &strata));
        }
    }

    #[test]
    fn nobody_is_shown_without_what_it_needs_and_nobody_is_hidden_for_nothing(
        rows in btree_map((0u32..4, 0u8..4), facts(), 0..14),
    ) {
        let strata = strata(&[0, 1, 2, 3], &NEEDS);
        let rows: Vec<Row<Target>> = rows.iter().map(|((table, key), facts)| row(*table, *key, facts)).collect();
        let seen = shown(&rows, &strata);
        let mut backwards = rows.clone();
        backwards.reverse();
        prop_assert_eq!(&seen, &shown(&backwards, &strata), "the order is nothing");
        let is_shown = |row: &&Row<Target>| seen.contains(&place(row));
        let offered: BTreeSet<&Target> = rows.iter().filter(is_shown).flat_map(|row| &row.offers).collect();
        for row in &rows {
            let lacks = row.needs.iter().any(|need| !offered.contains(need) && !row.offers.contains(need));
            let yields = rows.iter().filter(is_shown).any(|other| {
                other.table == row.table && other.rank > row.rank && row.unique[0].is_some() && other.unique == row.unique
            });
            if is_shown(&row) {
                prop_assert!(!lacks && !yields);
            } else if row.table != 2 {
                prop_assert!(lacks || yields);
            }
        }
        // Of rows that need each other no more could be shown: not even all of the hidden ones together.
        let mut all: Vec<&Row<Target>> = rows.iter().filter(|row| row.table == 2 && !is_shown(row)).collect();
        loop {
            let inner: BTreeSet<&Target> = all.iter().flat_map(|row| &row.offers).collect();
            let before = all.len();
            all.retain(|row| row.needs.iter().all(|need| offered.contains(need) || inner.contains(need)));
            if all.len() == before {
                break;
            }
        }
        prop_assert!(all.is_empty());
    }

    #[test]
    fn the_supported_rows_are_the_greatest_set_and_the_others_lack_something_told_before(
        rows in btree_map(0u8..8, vec((0u8..10).prop_map(|need| match need {
            8 => Need::Shown,
            9 => Need::Absent,
            key => Need::Hidden(key),
        }), 0..3), 0..8),
    ) {
        let (stay, lacking) = supported(&rows);
        let kept: BTreeSet<u8> = stay.iter().copied().collect();
        prop_assert_eq!(stay.len() + lacking.len(), rows.len());
        for key in &stay {
            let is_met = |need: &Need<u8>| match need {
                Need::Shown => true,
                Need::Hidden(parent) => kept.contains(parent),
                Need::Absent => false,
            };
            prop_assert!(rows[key].iter().all(is_met));
        }
        let mut gone: BTreeSet<u8> = BTreeSet::new();
        for (key, at) in &lacking {
            match &rows[key][*at] {
                Need::Shown => prop_assert!(false, "it does not lack that"),
                Need::Absent => {}
                Need::Hidden(parent) => prop_assert!(gone.contains(parent) || !rows.contains_key(parent)),
            }
            gone.insert(*key);
        }
    }

    #[test]
    fn strata_have_parents_first_and_circles_together(needs in vec((0u32..6, 0u32..6), 0..12)) {
        let tables: Vec<u32> = (0..6).collect();
        let strata = strata(&tables, &needs);
        let at = |table: u32| strata.iter().position(|stratum| stratum.contains(&table)).unwrap();
        prop_assert_eq!(strata.iter().map(Vec::len).sum::<usize>(), tables.len());
        for (child, parent) in &needs {
            prop_assert!(at(*parent) <= at(*child));
        }
        let reaches = |from: u32, to: u32| {
            let (mut next, mut seen) = (vec![from], BTreeSet::new());
            while let Some(table) = next.pop() {
                next.extend(needs.iter().filter(|(child, _)| *child == table).map(|(_, p)| *p).filter(|p| seen.insert(*p)));
            }
            seen.contains(&to)
        };
        for a in &tables {
            for b in tables.iter().filter(|b| *b != a) {
                prop_assert_eq!(at(*a) == at(*b), reaches(*a, *b) && reaches(*b, *a));
            }
        }
    }
}
