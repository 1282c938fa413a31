//! A few replicas that write, exchange and fall behind, with a log of everything they ever said.
//!
//! Checks that hold after every step are made here; what holds at the end is in `histories`.

use std::collections::BTreeMap;

use crsql_core::change::Change;
use crsql_core::ids::DbVersion;
use crsql_core::merge::{Stamp, TieBreak};
use crsql_core::replica::{Delta, Outcome, Replica, Transaction, WriteError};
use crsql_core::version_vector::VersionVector;

use crate::arbitrary::*;

pub(crate) const SITES: usize = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A site runs a transaction.
    Write { site: usize, statements: Vec<Statement>, end: End },
    /// One site gets what it lacks of another.
    Pull { to: usize, from: usize },
    /// One version arrives from the log, whole.
    Deliver { to: usize, nth: usize },
    /// One held change arrives through nine columns, its identity lost.
    Raw { to: usize, from: usize, nth: usize },
    /// The reader that follows a site by its apply position catches up.
    Follow { site: usize },
    /// A table or column appears where it was missing.
    Appear { site: usize, nth: usize },
}

/// How a transaction ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Commit,
    Rollback,
    /// The statements from this one on are rolled back, the rest is committed.
    RollbackTo(usize),
}

/// A statement; what its kind has no use for is ignored.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    pub(crate) table: usize,
    pub(crate) key: u8,
    pub(crate) to: u8,
    pub(crate) column: usize,
    pub(crate) value: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Insert,
    Replace,
    Update,
    Delete,
    Rekey,
    ReplaceKey,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sites: Vec<Replica>,
    /// What each site still lacks: tables by index, or the late column.
    missing: Vec<Vec<Missing>>,
    /// Every committed version with all its changes, in the order in which they were committed.
    pub(crate) log: Vec<Vec<Change>>,
    /// The same by stamp.
    said: BTreeMap<Stamp, Change>,
    /// A reader per site: what it made of the changes, and how far it has read.
    pub(crate) followers: Vec<(Replica, DbVersion)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Table(usize),
    Column,
    Type,
}

impl World {
    pub(crate) fn new(tie: TieBreak) -> World {
        let sites: Vec<_> = (0..SITES).map(|n| Replica::new(site(n as u8 + 1), tie)).collect();
        let followers = (0..SITES).map(|n| (observer(100 + n as u8, tie), DbVersion(0))).collect();
        // The first site has all from the start, the second lacks a column, the third a table and the column.
        let missing = vec![
            vec![],
            vec![Missing::Column, Missing::Type],
            vec![Missing::Table(1), Missing::Column, Missing::Type],
        ];
        let mut world = World { sites, missing, log: Vec::new(), said: BTreeMap::new(), followers };
        for n in 0..SITES {
            for (table, schema) in schemas().into_iter().enumerate() {
                if !world.missing[n].contains(&Missing::Table(table)) {
                    world.sites[n].create_table(schema).unwrap();
                }
            }
        }
        appear(&mut world.sites[0], Missing::Column);
        appear(&mut world.sites[0], Missing::Type);
        world
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Write { site, statements, end } => self.write(*site, statements, end),
            Step::Pull { to, from } => {
                let delta = self.sites[*from].delta(self.sites[*to].held());
                self.checked(*to, |replica| {
                    assert_eq!(replica.apply(&delta).refused, []);
                    assert!(replica.held().is_superset(&delta.claims));
                });
            }
            Step::Deliver { to, nth } => {
                let Some(changes) = self.log.get(nth % self.log.len().max(1)).cloned() else { return };
                self.checked(*to, |replica| deliver(replica, &changes));
            }
            Step::Raw { to, from, nth } => {
                let held: Vec<_> = self.sites[*from].changes().collect();
                let Some(stamped) = held.get(nth % held.len().max(1)) else { return };
                let change = without_identity(stamped.change.clone());
                self.checked(*to, |replica| assert!(replica.merge(&change).is_ok()));
            }
            Step::Follow { site } => self.follow(*site),
            Step::Appear { site, nth } => {
                let missing = &mut self.missing[*site];
                if !missing.is_empty() {
                    let what = missing.swap_remove(nth % missing.len());
                    appear(&mut self.sites[*site], what);
                }
            }
        }
    }

    /// Every table and column everywhere.
    pub(crate) fn complete_schemas(&mut self) {
        for (replica, missing) in self.sites.iter_mut().zip(&mut self.missing) {
            missing.drain(..).for_each(|what| appear(replica, what));
        }
    }

    pub(crate) fn follow(&mut self, site: usize) {
        let (reader, seen) = &mut self.followers[site];
        for stamped in self.sites[site].changes_since(*seen) {
            reader.merge(&stamped.change).unwrap();
            *seen = stamped.db_version;
        }
    }

    fn write(&mut self, n: usize, statements: &[Statement], end: &End) {
        let before = self.sites[n].clone();
        let mut tx = self.sites[n].begin();
        let (kept, lost) = match end {
            End::RollbackTo(at) => statements.split_at(statements.len().min(*at)),
            _ => (statements, &[][..]),
        };
        kept.iter().for_each(|statement| run(&mut tx, statement));
        let point = tx.savepoint();
        lost.iter().for_each(|statement| run(&mut tx, statement));
        tx.rollback_to(&point);
        if matches!(end, End::Rollback) {
            tx.rollback();
            assert_same(&self.sites[n], &before);
            return;
        }
        let committed = tx.commit().unwrap();

        let replica = &self.sites[n];
        assert_eq!(committed.db_version.is_some(), committed.site_version.is_some());
        let Some(version) = committed.site_version else { return assert_same(replica, &before) };
        // The next version, and every place in it once.
        assert_eq!(version.0, before.site_version().0 + 1);
        assert_eq!(replica.db_version().0, before.db_version().0 + 1);
        let changes = replica.changes_of(replica.site(), version.0);
        assert!(changes.iter().map(|change| change.stamp.seq).eq(0..changes.len() as u64));
        for change in &changes {
            assert_eq!(change.validate(), Ok(()));
            assert!(self.said.insert(change.stamp, change.clone()).is_none(), "restamped: {change:?}");
        }
        // The transaction is what it emitted, and that beats all this site had seen.
        let mut replayed = before;
        for change in &changes {
            assert_ne!(replayed.merge(change), Ok(Outcome::Superseded), "{change:?}");
        }
        assert_eq!(replayed.digest(), replica.digest());
        assert_same_rows(&replayed, replica);
        self.log.push(changes);
        self.assert_said(n);
    }

    /// Lets a replica merge, and checks that it went nowhere but forwards.
    fn checked(&mut self, n: usize, merge: impl FnOnce(&mut Replica)) {
        let replica = &mut self.sites[n];
        let before: Vec<_> = replica.changes().map(|stamped| stamped.change).collect();
        let (digest, db_version) = (replica.digest(), replica.db_version());
        merge(replica);
        let moved = u64::from(replica.digest() != digest);
        assert_eq!(replica.db_version().0, db_version.0 + moved, "the position moves if the state does");
        let mut after = replica.clone();
        for change in &before {
            assert_eq!(after.merge(change), Ok(Outcome::Superseded), "lost: {change:?}");
        }
        self.assert_said(n);
    }

    /// Everything held was written by somebody, with that stamp, in that incarnation, with that clock and value.
    fn assert_said(&self, n: usize) {
        for stamped in self.sites[n].changes() {
            let held = stamped.change;
            if held.stamp.has_identity() {
                let said = &self.said[&held.stamp];
                assert_eq!((&said.fact, said.cl, &said.table), (&held.fact, held.cl, &held.table));
            } else {
                let unnamed = |said: &Change| without_identity(said.clone());
                let is_it = |said: Change| {
                    (said.fact, said.cl, said.table, said.stamp)
                        == (held.fact.clone(), held.cl, held.table.clone(), held.stamp)
                };
                assert!(self.said.values().any(|said| is_it(unnamed(said))), "nobody said {held:?}");
            }
        }
    }

    /// What a site claims to hold is held or superseded there.
    pub(crate) fn assert_claims_are_true(&self) {
        for replica in &self.sites {
            let mut copy = replica.clone();
            for change in self.log.iter().flatten() {
                if replica.held().contains(change.stamp.site, change.stamp.version) {
                    assert_eq!(
                        copy.merge(change),
                        Ok(Outcome::Superseded),
                        "claimed but not held: {change:?}"
                    );
                }
            }
        }
    }
}

/// A replica that has all tables from the start and writes nothing.
pub(crate) fn observer(n: u8, tie: TieBreak) -> Replica {
    let mut replica = Replica::new(site(n), tie);
    schemas().into_iter().for_each(|schema| {
        replica.create_table(schema).unwrap();
    });
    appear(&mut replica, Missing::Column);
    appear(&mut replica, Missing::Type);
    replica
}

/// Applies one version whole.
pub(crate) fn deliver(replica: &mut Replica, changes: &[Change]) {
    let mut claims = VersionVector::default();
    changes.iter().for_each(|change| {
        claims.insert(change.stamp.site, change.stamp.version);
    });
    assert_eq!(replica.apply(&Delta { changes: changes.to_vec(), claims, ..Delta::default() }).refused, []);
}

pub(crate) fn without_identity(change: Change) -> Change {
    Change { stamp: Stamp { version: 0, ..change.stamp }, ..change }
}

pub(crate) fn assert_same_rows(a: &Replica, b: &Replica) {
    for schema in schemas() {
        assert_eq!(a.rows(&schema.name), b.rows(&schema.name), "{}", schema.name);
    }
}

fn assert_same(a: &Replica, b: &Replica) {
    let counters = |replica: &Replica| (replica.digest(), replica.site_version(), replica.db_version());
    assert_eq!(counters(a), counters(b));
    assert_eq!(a.held(), b.held());
    assert_same_rows(a, b);
}

fn appear(replica: &mut Replica, what: Missing) {
    let (table, column, default) = late_column();
    let (typed, register, kind) = late_type();
    match what {
        Missing::Type => replica.declare(typed, register, kind).unwrap(),
        Missing::Column => replica.add_column(table, column, default).unwrap(),
        Missing::Table(n) => assert_eq!(replica.create_table(schemas().swap_remove(n)), Ok(0)),
    }
}

/// Runs a statement; what it is refused for is its own business.
pub(crate) fn run(tx: &mut Transaction<'_>, statement: &Statement) {
    let schemas = schemas();
    let schema = &schemas[statement.table % schemas.len()];
    let (late_table, late_column, _) = late_column();
    let mut columns: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    if schema.name == late_table {
        columns.push(late_column);
    }
    let set = columns.get((statement.column + usize::from(statement.key)) % columns.len().max(1));
    let sets: Vec<_> = set.iter().map(|column| (**column, value(statement.value))).collect();
    let (name, width) = (&schema.name, schema.key.len());
    let (key, to) = (key(width, statement.key), key(width, statement.to));
    let outcome = match statement.kind {
        Kind::Insert => tx.insert(name, &key, &sets),
        Kind::Replace => tx.insert_or_replace(name, &key, &sets),
        Kind::Update => tx.update(name, &key, &sets).map(drop),
        Kind::Delete => tx.delete(name, &key).map(drop),
        Kind::Rekey => tx.update_key(name, &key, &to, &sets).map(drop),
        Kind::ReplaceKey => tx.replace_key(name, &key, &to, &sets).map(drop),
    };
    match outcome {
        Ok(())
        | Err(WriteError::RowExists(_) | WriteError::NoSuchTable(_) | WriteError::NoSuchColumn { .. }) => {}
        Err(error) => panic!("{statement:?}: {error}"),
    }
}
