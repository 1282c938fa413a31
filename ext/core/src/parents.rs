//! Which rows are shown of tables whose rows need others, their parents: FOREIGN KEYs that wait.
//!
//! Tables are decided parents first, in [`strata`]. Of one stratum a row is shown if everything it needs is offered by
//! a shown row, and, where rows clash, if [`clash`](crate::clash) says so of those that have their parents. Rows that
//! need each other are shown together: of all sets in which nobody lacks anything the greatest is taken, which
//! [`supported`] finds. So there is exactly one set of shown rows whatever came in which order; [`shown`] computes it
//! from all rows.

use crate::clash::{self, Rank};
use std::collections::{BTreeMap, BTreeSet};

/// Tables in groups, parents before children; tables that need each other are one group. `needs` are pairs of a table
/// and one whose rows its rows need.
pub fn strata(tables: &[u32], needs: &[(u32, u32)]) -> Vec<Vec<u32>> {
    let above: Vec<(BTreeSet<u32>, u32)> =
        tables.iter().map(|table| (above(*table, needs), *table)).collect();
    let mut strata: Vec<(usize, Vec<u32>)> = Vec::new();
    for (reached, table) in &above {
        let is_mutual = |other: &u32| reached.contains(other) && above_of(&above, *other).contains(table);
        // Whoever needs another needs all that the other needs, and so counts more of them.
        let weight = reached.iter().chain([table]).collect::<BTreeSet<_>>().len();
        match strata.iter_mut().find(|(_, group)| group.iter().any(is_mutual)) {
            Some((_, group)) => group.push(*table),
            None => strata.push((weight, vec![*table])),
        }
    }
    strata.sort();
    strata.into_iter().map(|(_, group)| group).collect()
}

fn above(table: u32, needs: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut reached = BTreeSet::new();
    let mut next = vec![table];
    while let Some(at) = next.pop() {
        next.extend(
            needs
                .iter()
                .filter(|(child, _)| *child == at)
                .map(|(_, parent)| *parent)
                .filter(|parent| reached.insert(*parent)),
        );
    }
    reached
}

fn above_of(above: &[(BTreeSet<u32>, u32)], table: u32) -> &BTreeSet<u32> {
    static NONE: BTreeSet<u32> = BTreeSet::new();
    above.iter().find(|(_, of)| *of == table).map_or(&NONE, |(reached, _)| reached)
}

/// Where a hidden row finds something that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need<K> {
    /// A row that is shown offers it.
    Shown,
    /// A hidden row offers it.
    Hidden(K),
    /// Nobody does.
    Absent,
}

/// Of hidden rows, with where they find what they need, the greatest set that can be shown together. The others come
/// with the position of a need that nobody meets who is shown then: of two that are left without each other the one
/// that lacks something else comes first.
pub fn supported<K: Ord + Clone>(rows: &BTreeMap<K, Vec<Need<K>>>) -> (Vec<K>, Vec<(K, usize)>) {
    let mut stay: BTreeSet<&K> = rows.keys().collect();
    let mut lacking = Vec::new();
    loop {
        let lacks = |needs: &Vec<Need<K>>| {
            needs.iter().position(|need| match need {
                Need::Shown => false,
                Need::Hidden(parent) => !stay.contains(parent),
                Need::Absent => true,
            })
        };
        let found: Vec<(&K, usize)> =
            stay.iter().filter_map(|key| Some((*key, lacks(rows.get(*key)?)?))).collect();
        if found.is_empty() {
            return (stay.into_iter().cloned().collect(), lacking);
        }
        for (key, at) in found {
            stay.remove(key);
            lacking.push((key.clone(), at));
        }
    }
}

/// A row as [`shown`] sees it. `T` names a value that one row offers and others need: a table, columns, values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// Its table.
    pub table: u32,
    /// Its rank among the rows of its table.
    pub rank: Rank,
    /// Its values in each unique index; `None` clashes with nothing.
    pub unique: Vec<Option<T>>,
    /// What others may need of it.
    pub offers: Vec<T>,
    /// What it needs.
    pub needs: Vec<T>,
}

/// The tables and keys of the rows that are shown, of all live rows. Rows clash only in tables that are alone in their
/// stratum and do not need themselves.
pub fn shown<T: Ord + Clone>(rows: &[Row<T>], strata: &[Vec<u32>]) -> BTreeSet<(u32, Vec<u8>)> {
    let mut offered: BTreeSet<&T> = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for stratum in strata {
        let mut with_parents: Vec<&Row<T>> = rows.iter().filter(|row| stratum.contains(&row.table)).collect();
        loop {
            let inner: BTreeSet<&T> = with_parents.iter().flat_map(|row| &row.offers).collect();
            let before = with_parents.len();
            with_parents
                .retain(|row| row.needs.iter().all(|need| offered.contains(need) || inner.contains(need)));
            if with_parents.len() == before {
                break;
            }
        }
        for table in stratum {
            let of_table = || with_parents.iter().filter(|row| row.table == *table);
            let ranked = of_table().map(|row| (row.rank.clone(), row.unique.clone())).collect();
            let winners = clash::shown(&ranked);
            for row in of_table().filter(|row| winners.contains(&row.rank)) {
                offered.extend(&row.offers);
                shown.insert((row.table, row.rank.key.clone()));
            }
        }
    }
    shown
}
