//! What local writes do to clocks, and who wins.

use super::*;
use crsql_core::change::{Change, Fact};
use crsql_core::limits::*;
use crsql_core::merge::{Clock, Stamp};
use crsql_core::pack::pack;
use crsql_core::replica::{Outcome, WriteError};
use crsql_core::value::ValueRef;

#[test]
fn an_insert_emits_a_cell_per_column_and_no_row_change() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("title", "milk".into())]).unwrap());
    assert_eq!(last_emitted(&a), ["todo title 1 1", "todo done 1 1"]);
    assert_eq!(shown(&a, "todo"), ["1|milk|0"]);
}

#[test]
fn a_table_with_nothing_but_a_key_emits_row_changes() {
    let [mut a, mut b] = sites();
    write(&mut a, |tx| tx.insert("member", &[7.into()], &[]).unwrap());
    assert_eq!(last_emitted(&a), ["member -1 1 1"]);
    write(&mut a, |tx| tx.insert_or_replace("member", &[7.into()], &[]).unwrap());
    assert_eq!(last_emitted(&a), ["member -1 3 3"]);
    pull(&mut b, &a);
    assert_eq!(shown(&b, "member"), ["7"]);
}

#[test]
fn an_update_emits_the_cells_that_changed() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("title", "milk".into())]).unwrap());
    write(&mut a, |tx| {
        assert!(tx.update("todo", &[1.into()], &[("title", "milk".into()), ("done", 1.into())]).unwrap());
    });
    assert_eq!(last_emitted(&a), ["todo done 1 2"]);
    // The class counts, even where numbers are equal.
    write(&mut a, |tx| assert!(tx.update("todo", &[1.into()], &[("done", 1.0.into())]).unwrap()));
    assert_eq!(last_emitted(&a), ["todo done 1 3"]);
}

#[test]
fn a_write_that_changes_nothing_has_no_version() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    let before = (a.site_version(), a.db_version());
    write(&mut a, |tx| {
        assert!(tx.update("todo", &[1.into()], &[("done", 0.into())]).unwrap());
        assert!(!tx.update("todo", &[2.into()], &[("done", 5.into())]).unwrap());
        assert!(!tx.delete("todo", &[2.into()]).unwrap());
        assert!(!tx.update_key("todo", &[2.into()], &[3.into()], &[]).unwrap());
    });
    assert_eq!((a.site_version(), a.db_version()), before);
}

#[test]
fn deletes_and_reinserts_are_new_incarnations() {
    let [mut a, mut b] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("title", "milk".into())]).unwrap());
    exchange(&mut a, &mut b);
    write(&mut a, |tx| assert!(tx.delete("todo", &[1.into()]).unwrap()));
    assert_eq!(last_emitted(&a), ["todo -1 2 2"]);
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("done", 1.into())]).unwrap());
    assert_eq!(last_emitted(&a), ["todo -1 3 3", "todo title 3 1", "todo done 3 1"]);
    // Concurrent, with a higher clock, but about a row that is no more.
    write(&mut b, |tx| assert!(tx.update("todo", &[1.into()], &[("title", "late".into())]).unwrap()));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b, "todo"), ["1|NULL|1"]);
}

#[test]
fn a_replace_is_a_new_incarnation_even_of_a_row_without_history() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert_or_replace("todo", &[1.into()], &[("title", "x".into())]).unwrap());
    assert_eq!(last_emitted(&a), ["todo title 1 1", "todo done 1 1"]);
    write(&mut a, |tx| tx.insert_or_replace("todo", &[1.into()], &[]).unwrap());
    assert_eq!(last_emitted(&a), ["todo -1 3 3", "todo title 3 1", "todo done 3 1"]);
    assert_eq!(shown(&a, "todo"), ["1|NULL|0"]);
}

#[test]
fn concurrent_writes_of_a_row_resolve_to_one_site() {
    for (tie_break, expected) in [(TieBreak::Site, "1|a|1"), (TieBreak::Value, "1|z|5")] {
        let (mut a, mut b) = (site(1, tie_break), site(2, tie_break));
        write(&mut a, |tx| {
            tx.insert("todo", &[1.into()], &[("title", "z".into()), ("done", 5.into())]).unwrap();
        });
        write(&mut b, |tx| {
            tx.insert("todo", &[1.into()], &[("title", "a".into()), ("done", 1.into())]).unwrap();
        });
        exchange(&mut a, &mut b);
        assert_eq!((shown(&a, "todo"), a.tie_break()), (vec![expected.to_string()], tie_break));
    }
}

#[test]
fn refused_statements_leave_nothing_behind() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    let before = a.digest();
    let mut tx = a.begin();
    let exists = WriteError::RowExists("todo".into());
    assert_eq!(tx.insert("todo", &[1.into()], &[]), Err(exists));
    assert_eq!(tx.insert("nope", &[1.into()], &[]), Err(WriteError::NoSuchTable("nope".into())));
    let column = WriteError::NoSuchColumn { table: "todo".into(), column: "nope".into() };
    let sets = [("nope", Value::Null)];
    assert_eq!(tx.insert("todo", &[2.into()], &sets), Err(column.clone()));
    assert_eq!(tx.insert_or_replace("todo", &[2.into()], &sets), Err(column.clone()));
    assert_eq!(tx.update("todo", &[1.into()], &sets), Err(column.clone()));
    assert_eq!(tx.update_key("todo", &[1.into()], &[2.into()], &sets), Err(column));
    assert!(matches!(tx.insert("todo", &[Value::Null], &[]), Err(WriteError::Key { .. })));
    assert!(matches!(tx.update("todo", &[], &[]), Err(WriteError::Key { .. })));
    assert!(matches!(tx.delete("todo", &vec![Value::Null; 256]), Err(WriteError::Key { .. })));
    assert!(tx.insert_or_replace("nope", &[1.into()], &[]).is_err());
    assert!(tx.update_key("nope", &[1.into()], &[1.into()], &[]).is_err());
    assert!(tx.update_key("todo", &[1.into()], &[Value::Null], &[]).is_err());
    assert_eq!(tx.commit().unwrap().site_version, None);
    assert_eq!(a.digest(), before);
}

fn hostile(cl: u64, col_version: u64, version: u64) -> Change {
    let fact = Fact::Cell { column: "title".into(), col_version, value: "mine".into() };
    let pk = pack(&[ValueRef::Integer(1)]).unwrap();
    Change { table: "todo".into(), pk, fact, cl, stamp: Stamp { site: SiteId([0xff; 16]), version, seq: 0 } }
}

#[test]
fn a_cell_at_the_greatest_clock_can_still_be_written() {
    let [mut a, mut b] = sites();
    assert_eq!(a.merge(&hostile(1, COL_VERSION_MAX, 1)), Ok(Outcome::Won));
    exchange(&mut a, &mut b);
    write(&mut a, |tx| assert!(tx.update("todo", &[1.into()], &[("title", "ours".into())]).unwrap()));
    assert_eq!(last_emitted(&a), ["todo -1 3 3", "todo title 3 1", "todo done 3 1"]);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b, "todo"), ["1|ours|0"]);
}

#[test]
fn clocks_beyond_the_limits_are_refused_whole() {
    let [mut a] = sites();
    for change in [
        hostile(1, COL_VERSION_MAX + 1, 1),
        hostile(CAUSAL_LENGTH_MAX + 1, 1, 1),
        hostile(1, 1, SITE_VERSION_MAX + 1),
        hostile(0, 1, 1),
        hostile(1, 0, 1),
    ] {
        assert!(a.merge(&change).is_err());
    }
    assert_eq!(a.changes().count(), 0);
    assert_eq!(a.db_version().0, 0);
}

#[test]
fn a_row_at_the_greatest_causal_length_says_so() {
    let [mut a] = sites();
    a.merge(&hostile(CAUSAL_LENGTH_MAX - 1, 1, 1)).unwrap();
    let mut tx = a.begin();
    let exhausted = WriteError::Exhausted(Clock::CausalLength);
    assert_eq!(tx.insert_or_replace("todo", &[1.into()], &[]), Err(exhausted.clone()));
    assert!(tx.update("todo", &[1.into()], &[("title", "still mine".into())]).unwrap());
    tx.insert("todo", &[2.into()], &[]).unwrap();
    // The statement that fails half-way is undone, and only it.
    assert_eq!(tx.replace_key("todo", &[2.into()], &[1.into()], &[]), Err(exhausted.clone()));
    assert!(tx.delete("todo", &[1.into()]).unwrap());
    assert_eq!(tx.insert("todo", &[1.into()], &[]), Err(exhausted.clone()));
    tx.commit().unwrap();
    assert_eq!(shown(&a, "todo"), ["2|NULL|0"]);
    assert_eq!(exhausted.to_string(), "cl has reached its limit");
}

#[test]
fn a_site_without_versions_left_goes_on_under_a_new_name() {
    let [mut a] = sites();
    let own =
        Change { stamp: Stamp { site: a.site(), version: SITE_VERSION_MAX, seq: 0 }, ..hostile(1, 1, 1) };
    a.merge(&own).unwrap();
    let before = a.digest();
    let mut tx = a.begin();
    tx.insert("todo", &[2.into()], &[]).unwrap();
    assert_eq!(tx.commit(), Err(WriteError::Exhausted(Clock::SiteVersion)));
    assert_eq!(a.digest(), before);
    a.rename_site(SiteId([9; 16]));
    write(&mut a, |tx| tx.insert("todo", &[2.into()], &[]).unwrap());
    assert_eq!(a.site_version().0, 1);
}
