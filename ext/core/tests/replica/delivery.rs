//! Deltas, cursors, unknown identities, restored backups.

use super::*;
use crsql_core::change::{Change, Fact, InvalidChange};
use crsql_core::ids::DbVersion;
use crsql_core::merge::Stamp;
use crsql_core::replica::{Delta, Outcome, Refused};

fn insert(replica: &mut Replica, id: i64, title: &str) {
    write(replica, |tx| tx.insert("todo", &[id.into()], &[("title", title.into())]).unwrap());
}

#[test]
fn a_delta_has_what_the_other_lacks_and_nothing_else() {
    let [mut a, mut b, mut c] = sites();
    insert(&mut a, 1, "a");
    insert(&mut b, 2, "b");
    pull(&mut b, &a);
    assert_eq!(b.delta(a.held()).changes.len(), 2);
    assert_eq!(a.delta(b.held()).changes, []);
    // Through b, c holds what a wrote and need not ask a.
    pull(&mut c, &b);
    assert_eq!(a.delta(c.held()).changes, []);
    let applied = c.apply(&b.delta(&Default::default()));
    assert_eq!((applied.won, applied.superseded, applied.committed.db_version), (0, 4, None));
}

#[test]
fn a_cursor_reads_on_where_it_stopped() {
    let [mut a, mut b] = sites();
    insert(&mut a, 1, "a");
    let seen = a.db_version();
    insert(&mut b, 2, "b");
    pull(&mut a, &b);
    write(&mut a, |tx| assert!(tx.update("todo", &[1.into()], &[("title", "x".into())]).unwrap()));
    let news = a.changes_since(seen);
    let listed: Vec<_> = news.iter().map(|c| (c.db_version.0, c.change.stamp.seq, c.change.cid())).collect();
    assert_eq!(listed, [(2, 0, "title"), (2, 1, "done"), (3, 0, "title")]);
    assert_eq!(a.changes_since(DbVersion(0)).len(), 4);
    assert_eq!(a.changes_since(a.db_version()), []);
}

#[test]
fn a_change_of_unknown_identity_is_merged_offered_and_then_named() {
    let [mut a, mut b, mut c] = sites();
    insert(&mut a, 1, "a");
    for change in a.changes_of(a.site(), 1) {
        let raw = Change { stamp: Stamp { version: 0, ..change.stamp }, ..change };
        assert_eq!(b.merge(&raw), Ok(Outcome::Won));
    }
    assert_eq!(shown(&b, "todo"), ["1|a|0"]);
    assert!(!b.held().contains(a.site(), 1));
    // Even to one who claims everything.
    assert_eq!(b.delta(a.held()).changes.len(), 2);
    pull(&mut c, &b);
    exchange(&mut a, &mut b);
    exchange(&mut c, &mut b);
    assert_eq!(c.changes_of(a.site(), 1), a.changes_of(a.site(), 1));
}

#[test]
fn a_restored_backup_learns_how_far_it_was() {
    let [mut a, mut b] = sites();
    insert(&mut a, 1, "a");
    let backup = a.clone();
    insert(&mut a, 2, "a");
    write(&mut a, |tx| assert!(tx.update("todo", &[2.into()], &[("title", "later".into())]).unwrap()));
    exchange(&mut a, &mut b);
    write(&mut b, |tx| {
        // Nothing of version 3 is left; only what b claims tells that it existed.
        assert!(tx.delete("todo", &[2.into()]).unwrap());
    });
    let mut restored = backup;
    pull(&mut restored, &b);
    assert_eq!(restored.site_version().0, 3);
    insert(&mut restored, 3, "new");
    assert_eq!(restored.site_version().0, 4);
    exchange(&mut restored, &mut b);
}

#[test]
fn a_change_of_ours_raises_our_version_even_without_a_claim() {
    let [mut a, mut b] = sites();
    insert(&mut a, 1, "a");
    insert(&mut a, 2, "a");
    let mut lost = site(1, TieBreak::Site);
    pull(&mut b, &a);
    lost.merge(&b.changes_of(a.site(), 2)[0]).unwrap();
    insert(&mut lost, 9, "new");
    assert_eq!(lost.site_version().0, 3);
    assert!(!lost.held().contains(a.site(), 2));
}

#[test]
fn one_refused_change_costs_its_own_version_only() {
    let [mut a, mut b] = sites();
    insert(&mut a, 1, "a");
    insert(&mut a, 2, "a");
    let mut delta = a.delta(b.held());
    let at = delta.changes.iter().position(|change| change.stamp.version == 2).unwrap();
    delta.changes[at].pk = vec![2, 1, 1];
    let applied = b.apply(&delta);
    assert_eq!((applied.won, applied.refused.len()), (3, 1));
    let Refused { change, reason } = &applied.refused[0];
    assert_eq!(change, &delta.changes[at]);
    let reason = reason.to_string();
    assert_eq!(reason, "table \"todo\": a key of 2 values does not fit a table with 1 key columns");
    assert!(b.held().contains(a.site(), 1) && !b.held().contains(a.site(), 2));
    exchange(&mut a, &mut b);
}

#[test]
fn a_delete_is_one_whatever_column_it_names() {
    let [mut a, mut b] = sites();
    insert(&mut a, 1, "a");
    pull(&mut b, &a);
    let change = a.changes_of(a.site(), 1).remove(0);
    let delete = Change {
        fact: Fact::Cell { column: "nowhere".into(), col_version: 0, value: Value::Null },
        cl: 2,
        stamp: Stamp { version: 2, ..change.stamp },
        ..change
    };
    assert_eq!(b.merge(&delete), Ok(Outcome::Won));
    assert_eq!(shown(&b, "todo"), Vec::<String>::new());
    assert!(b.parked().is_empty());
    assert_eq!(b.merge(&delete), Ok(Outcome::Superseded));
    assert_eq!(b.changes().map(|stamped| stamped.change.fact).collect::<Vec<_>>(), [Fact::Row]);
}

#[test]
fn what_sqlite_cannot_store_arrives_as_null() {
    let [mut a] = sites();
    let fact = Fact::Cell { column: "title".into(), col_version: 1, value: f64::NAN.into() };
    let stamp = Stamp { site: SiteId([9; 16]), version: 1, seq: 0 };
    let change = Change { table: "todo".into(), pk: vec![1, 9, 1], fact, cl: 1, stamp };
    a.merge(&change).unwrap();
    assert_eq!(shown(&a, "todo"), ["1|NULL|0"]);
}

#[test]
fn a_copied_database_gets_a_name_and_may_get_the_old_one_back() {
    let [mut a, mut b] = sites();
    insert(&mut a, 1, "a");
    let mut copy = a.clone();
    copy.rename_site(SiteId([7; 16]));
    insert(&mut copy, 2, "copy");
    insert(&mut a, 2, "original");
    exchange(&mut copy, &mut a);
    exchange(&mut copy, &mut b);
    assert_eq!(copy.site_version().0, 1);
    copy.rename_site(a.site());
    assert_eq!(copy.site_version(), a.site_version());
}

#[test]
fn an_empty_delta_does_nothing() {
    let [mut a] = sites();
    let applied = a.apply(&Delta::default());
    assert_eq!(applied, Default::default());
    assert!(matches!(
        a.merge(&Change {
            table: String::new(),
            pk: vec![],
            fact: Fact::Row,
            cl: 1,
            stamp: Stamp { site: a.site(), version: 0, seq: 0 }
        }),
        Err(InvalidChange::TableName(0))
    ));
}
