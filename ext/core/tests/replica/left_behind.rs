//! Replicas that others have left behind, and what they keep when they begin again.

use super::*;

/// `a` collects a delete that `b` has not heard of.
fn collected(a: &mut Replica) {
    write(a, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    write(a, |tx| assert!(tx.delete("todo", &[1.into()]).unwrap()));
    let held = a.held().clone();
    a.register(a.site(), &held);
    assert_eq!(a.collect(), 1);
}

#[test]
fn what_waits_for_a_table_is_not_taken_along_and_new_rows_are() {
    let [mut a, mut b] = sites();
    let mut other = site(9, TieBreak::Site);
    other.create_table(TableSchema::new("later", [KeyColumn::PLAIN]).column("x", Value::Null)).unwrap();
    write(&mut other, |tx| tx.insert("later", &[1.into()], &[("x", 1.into())]).unwrap());
    write(&mut other, |tx| tx.insert("todo", &[5.into()], &[("title", "of another".into())]).unwrap());
    pull(&mut b, &other);
    // A row of two authors, of which the teller will know one.
    pull(&mut a, &other);
    write(&mut b, |tx| assert!(tx.update("todo", &[5.into()], &[("done", 1.into())]).unwrap()));
    write(&mut b, |tx| tx.insert("todo", &[7.into()], &[("title", "only here".into())]).unwrap());
    collected(&mut a);
    assert!(b.apply(&a.delta(b.held())).must_begin_again);
    assert_eq!(b.parked().len(), 1);
    b.begin_again(&a.delta(&Default::default()));
    assert_eq!(shown(&b, "todo"), ["5|of another|1", "7|only here|0"]);
    // It comes again with the teller, who has it.
    assert_eq!(b.parked().len(), 1);
    exchange(&mut a, &mut b);
}

#[test]
fn an_unknown_table_without_rows_is_forgotten_when_its_tombstones_go() {
    let [mut a, mut b] = sites();
    b.create_table(TableSchema::new("later", [KeyColumn::PLAIN]).column("x", Value::Null)).unwrap();
    write(&mut b, |tx| tx.insert("later", &[1.into()], &[]).unwrap());
    write(&mut b, |tx| assert!(tx.delete("later", &[1.into()]).unwrap()));
    pull(&mut a, &b);
    assert_eq!(a.parked().len(), 1, "the delete waits");
    let held = a.held().clone();
    a.register(a.site(), &held);
    a.register(b.site(), &held);
    assert_eq!(a.collect(), 1);
    assert!(a.parked().is_empty());
    exchange(&mut a, &mut b);
}
