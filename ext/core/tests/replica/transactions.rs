//! Commits, rollbacks, savepoints: versions and places without gaps, and never twice.

use super::*;
use crsql_core::ids::{DbVersion, SiteVersion};
use crsql_core::replica::Committed;

#[test]
fn a_commit_moves_both_counters_by_one() {
    let [mut a] = sites();
    let mut tx = a.begin();
    tx.insert("todo", &[1.into()], &[]).unwrap();
    tx.insert("tag", &["x".into()], &[]).unwrap();
    let committed = tx.commit().unwrap();
    let expected = Committed { site_version: Some(SiteVersion(1)), db_version: Some(DbVersion(1)) };
    assert_eq!(committed, expected);
    assert_eq!(a.begin().commit().unwrap(), Committed::default());
    assert!(a.held().contains(a.site(), 1) && !a.held().contains(a.site(), 2));
}

#[test]
fn places_follow_the_last_writes_without_holes() {
    let [mut a] = sites();
    write(&mut a, |tx| {
        tx.insert("todo", &[1.into()], &[]).unwrap();
        tx.insert("todo", &[2.into()], &[]).unwrap();
        tx.update("todo", &[1.into()], &[("title", "again".into())]).unwrap();
        tx.delete("todo", &[2.into()]).unwrap();
    });
    assert_eq!(last_emitted(&a), ["todo done 1 1", "todo title 1 2", "todo -1 2 2"]);
}

#[test]
fn a_rollback_reuses_nothing_because_it_issued_nothing() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("title", "kept".into())]).unwrap());
    let before = (a.digest(), a.site_version(), a.db_version());
    let mut tx = a.begin();
    tx.delete("todo", &[1.into()]).unwrap();
    tx.insert("todo", &[1.into()], &[]).unwrap();
    assert_eq!(shown(tx.replica(), "todo"), ["1|NULL|0"]);
    tx.rollback();
    assert_eq!((a.digest(), a.site_version(), a.db_version()), before);
    write(&mut a, |tx| tx.insert("todo", &[2.into()], &[]).unwrap());
    assert_eq!(a.site_version(), SiteVersion(2));
}

#[test]
fn rolling_back_to_a_savepoint_keeps_what_came_before() {
    let [mut a, mut b, c] = sites();
    write(&mut b, |tx| tx.insert("todo", &[5.into()], &[]).unwrap());
    let mut tx = a.begin();
    tx.insert("todo", &[1.into()], &[("title", "kept".into())]).unwrap();
    let point = tx.savepoint();
    tx.update("todo", &[1.into()], &[("title", "lost".into())]).unwrap();
    tx.insert("todo", &[2.into()], &[]).unwrap();
    tx.apply(&b.delta(c.held()));
    tx.rollback_to(&point);
    tx.update("todo", &[1.into()], &[("done", 1.into())]).unwrap();
    tx.commit().unwrap();
    assert_eq!(last_emitted(&a), ["todo title 1 1", "todo done 1 2"]);
    assert_eq!(shown(&a, "todo"), ["1|kept|1"]);
    assert!(!a.held().contains(b.site(), 1));
}

#[test]
fn local_writes_and_merges_share_a_transaction() {
    let [mut a, mut b] = sites();
    write(&mut b, |tx| tx.insert("todo", &[1.into()], &[("title", "theirs".into())]).unwrap());
    let mut tx = a.begin();
    tx.insert("todo", &[1.into()], &[("title", "ours".into())]).unwrap();
    // The greater site wins both cells, so nothing of ours is left to have a version.
    assert_eq!(tx.apply(&b.delta(tx.replica().held())).won, 2);
    let committed = tx.commit().unwrap();
    assert_eq!((committed.site_version, committed.db_version), (None, Some(DbVersion(1))));
    let mut tx = a.begin();
    tx.update("todo", &[1.into()], &[("title", "ours after all".into())]).unwrap();
    tx.commit().unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b, "todo"), ["1|ours after all|0"]);
}

#[test]
fn a_rolled_back_merge_of_an_unknown_table_leaves_no_trace() {
    let [a, mut b] = sites();
    let mut bare = Replica::new(SiteId([9; 16]), TieBreak::Site);
    write(&mut b, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    let mut tx = bare.begin();
    tx.apply(&b.delta(a.held()));
    assert_eq!(tx.replica().parked().len(), 2);
    drop(tx);
    assert_eq!(bare.changes().count(), 0);
    assert!(bare.held().is_empty());
    assert_eq!(bare.create_table(todo()), Ok(0));
}
