//! Laws of collecting tombstones: replicas that collect at different times, with different members, converge with those
//! that don't, and no deleted row comes back.

use std::collections::BTreeSet;

use crsql_core::change::{Change, Fact};
use crsql_core::merge::{Stamp, TieBreak};
use crsql_core::replica::{Delta, Replica};
use crsql_core::value::Value;
use crsql_core::version_vector::VersionVector;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::*;
use crate::histories::statement;
use crate::world::{Statement, run};

const SITES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Write {
        site: usize,
        statements: Vec<Statement>,
    },
    /// One site gets what it lacks of another; where it was left behind, it begins again.
    Pull {
        to: usize,
        from: usize,
    },
    /// A version of long ago arrives once more, or for the first time.
    Deliver {
        to: usize,
        nth: usize,
    },
    /// A site hears what another one holds.
    Hear {
        at: usize,
        of: usize,
    },
    /// A lease ends.
    Expire {
        at: usize,
        of: usize,
    },
    Collect {
        at: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SITES, vec(statement(), 1..5)).prop_map(|(site, statements)| Step::Write { site, statements }),
        5 => (0..SITES, 0..SITES).prop_map(|(to, from)| Step::Pull { to, from }),
        2 => (0..SITES, 0usize..99).prop_map(|(to, nth)| Step::Deliver { to, nth }),
        5 => (0..SITES, 0..SITES).prop_map(|(at, of)| Step::Hear { at, of }),
        1 => (0..SITES, 0..SITES).prop_map(|(at, of)| Step::Expire { at, of }),
        4 => (0..SITES).prop_map(|at| Step::Collect { at }),
    ]
}

struct World {
    sites: Vec<Replica>,
    log: Vec<Vec<Change>>,
    /// Versions whose writers began again before anybody had them.
    given_up: BTreeSet<(usize, u64)>,
    collected: usize,
}

impl World {
    fn new(tie: TieBreak) -> World {
        let mut sites: Vec<_> = (0..SITES).map(|n| Replica::new(site(n as u8 + 1), tie)).collect();
        for replica in &mut sites {
            schemas().into_iter().for_each(|schema| drop(replica.create_table(schema)));
        }
        World { sites, log: Vec::new(), given_up: BTreeSet::new(), collected: 0 }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write { site, statements } => {
                let mut tx = self.sites[*site].begin();
                statements.iter().for_each(|statement| run(&mut tx, statement));
                tx.commit().unwrap();
                self.note(*site);
            }
            Step::Pull { to, from } => self.pull(*to, *from),
            Step::Deliver { to, nth } => {
                let Some(changes) = self.log.get(nth % self.log.len().max(1)).cloned() else { return };
                self.sites[*to].apply(&said(changes));
            }
            Step::Hear { at, of } => {
                let (site, held) = (self.sites[*of].site(), self.sites[*of].held().clone());
                self.sites[*at].register(site, &held);
            }
            Step::Expire { at, of } => {
                let site = self.sites[*of].site();
                self.sites[*at].unregister(site);
            }
            Step::Collect { at } => {
                let before = self.sites[*at].clone();
                self.collected += self.sites[*at].collect();
                for schema in schemas() {
                    assert_eq!(before.rows(&schema.name), self.sites[*at].rows(&schema.name));
                }
            }
        }
    }

    fn pull(&mut self, to: usize, from: usize) {
        if to == from {
            return;
        }
        let delta = self.sites[from].delta(self.sites[to].held());
        if self.sites[to].apply(&delta).must_begin_again {
            let whole = self.sites[from].delta(&VersionVector::default());
            let own = self.sites[to].held().of_site(self.sites[to].site()).cloned().unwrap_or_default();
            for version in own.iter().flat_map(|(lo, hi)| lo..=hi) {
                if !whole.claims.contains(self.sites[to].site(), version) {
                    self.given_up.insert((to, version));
                }
            }
            assert!(!self.sites[to].begin_again(&whole).must_begin_again);
            self.assert_no_old_row_came_back(to, from, &whole.claims);
            self.note(to);
        }
    }

    /// After `to` began again with what `from` holds (`sent`), what it has besides are rows that were made in
    /// versions that `from` lacks: no row that somebody may have deleted.
    fn assert_no_old_row_came_back(&self, to: usize, from: usize, sent: &VersionVector) {
        let is_first = |change: &Change| match &change.fact {
            Fact::Row => true,
            Fact::Cell { col_version, .. } => *col_version == 1,
        };
        let key_of = |change: &Change| -> Vec<_> {
            crsql_core::pack::unpack(&change.pk).unwrap().iter().map(|v| v.to_owned_value()).collect()
        };
        for stamped in self.sites[to].changes() {
            let Change { table, cl, .. } = &stamped.change;
            let key = key_of(&stamped.change);
            if cl % 2 == 0 || self.sites[from].row(table, &key).is_some() {
                continue;
            }
            // One row may be spelled in several ways.
            let row = self.sites[to].row(table, &key);
            let made = |change: &&Change| {
                let Stamp { site, version, .. } = change.stamp;
                let is_unsent = change.table == *table && !sent.contains(site, version);
                is_unsent && is_first(change) && self.sites[to].row(table, &key_of(change)) == row
            };
            let made = self.log.iter().flatten().any(|change| made(&change));
            assert!(made, "{stamped:?} was not made by anybody unknown to {from}");
        }
    }

    /// Adds the site's last version to the log, if it is new.
    fn note(&mut self, n: usize) {
        let replica = &self.sites[n];
        let changes = replica.changes_of(replica.site(), replica.site_version().0);
        let is_known = |change: &Change| self.log.iter().flatten().any(|known| known.stamp == change.stamp);
        if changes.first().is_some_and(|change| !is_known(change)) {
            self.log.push(changes);
        }
    }

    /// Everybody pulls from everybody until nothing moves.
    fn settle(&mut self) {
        for _ in 0..SITES + 2 {
            for to in 0..SITES {
                (0..SITES).for_each(|from| self.pull(to, from));
            }
        }
    }

    fn assert_converged(&self) {
        for replica in &self.sites {
            for schema in schemas() {
                assert_eq!(replica.rows(&schema.name), self.sites[0].rows(&schema.name), "{}", schema.name);
            }
            let held = |replica: &Replica| {
                let mut all: Vec<_> =
                    replica.changes().map(|stamped| format!("{:?}", stamped.change)).collect();
                all.sort();
                (all, replica.collected().clone())
            };
            assert_eq!(
                replica.digest(),
                self.sites[0].digest(),
                "state and authors converge: {:?} {:#?} {:#?}",
                replica.site(),
                held(replica),
                held(&self.sites[0])
            );
            assert_eq!(replica.held(), self.sites[0].held());
        }
    }

    /// No row is alive in an incarnation that somebody deleted, or in one before.
    fn assert_nothing_came_back(&self) {
        for change in self.log.iter().flatten().filter(|change| change.is_delete()) {
            let author = change.stamp.site.0[0] as usize - 1;
            if self.given_up.contains(&(author, change.stamp.version)) {
                continue;
            }
            let key: Vec<_> =
                crsql_core::pack::unpack(&change.pk).unwrap().iter().map(|v| v.to_owned_value()).collect();
            for replica in &self.sites {
                let cl = replica.row(&change.table, &key).map_or(0, |row| row.cl);
                assert!(cl % 2 == 0 || cl > change.cl, "{change:?} came back with {cl}");
            }
        }
    }
}

/// A whole version, as it was said when it was committed.
fn said(changes: Vec<Change>) -> Delta {
    let mut claims = VersionVector::default();
    for change in &changes {
        claims.insert(change.stamp.site, change.stamp.version);
    }
    Delta { changes, claims, ..Delta::default() }
}

fn check(steps: &[Step], tie: TieBreak) -> usize {
    let mut world = World::new(tie);
    steps.iter().for_each(|step| world.step(step));
    world.settle();
    world.assert_converged();
    world.assert_nothing_came_back();
    // Once more, with everybody registered everywhere: everything goes, and nothing changes.
    let held: Vec<_> = world.sites.iter().map(|replica| (replica.site(), replica.held().clone())).collect();
    for replica in &mut world.sites {
        held.iter().for_each(|(site, held)| replica.register(*site, held));
        world.collected += replica.collect();
        assert!(replica.changes().all(|stamped| !stamped.change.is_delete()));
    }
    world.settle();
    world.assert_converged();
    for changes in world.log.clone() {
        world.sites.iter_mut().for_each(|replica| drop(replica.apply(&said(changes.clone()))));
    }
    world.assert_nothing_came_back();
    world.assert_converged();
    world.collected
}

#[test]
fn of_a_row_written_all_over_nobody_knows_who_made_it_so_it_does_not_come_back() {
    let mut world = World::new(TieBreak::Site);
    let sets = [("name", Value::text("x")), ("count", Value::Integer(1))];
    let write = |replica: &mut Replica, body: &dyn Fn(&mut crsql_core::replica::Transaction<'_>)| {
        let mut tx = replica.begin();
        body(&mut tx);
        tx.commit().unwrap();
    };
    let key = |n| [Value::Integer(n)];
    write(&mut world.sites[0], &|tx| tx.insert("item", &key(1), &sets).unwrap());
    world.pull(1, 0);
    write(&mut world.sites[0], &|tx| assert!(tx.delete("item", &key(1)).unwrap()));
    let held = (world.sites[0].site(), world.sites[0].held().clone());
    world.sites[0].register(held.0, &held.1);
    assert_eq!(world.sites[0].collect(), 1);
    let other = [("name", Value::text("y")), ("count", Value::Integer(2))];
    write(&mut world.sites[1], &|tx| {
        assert!(tx.update("item", &key(1), &other).unwrap());
        tx.insert("item", &key(2), &sets).unwrap();
    });
    let whole = world.sites[0].delta(&VersionVector::default());
    world.sites[1].begin_again(&whole);
    assert_eq!(world.sites[1].rows("item").len(), 1, "what was made here stays");
    assert!(world.sites[1].row("item", &key(1)).is_none(), "what was only written to does not");
}

proptest! {
    #![proptest_config(crate::cases(400))]
    #[test]
    fn replicas_that_collect_when_they_like_converge_and_nothing_comes_back(
        steps in vec(step(), 1..60),
        tie in tie_break(),
    ) {
        check(&steps, tie);
    }
}
