//! Identity and spelling of keys.

use super::*;

fn color(replica: &mut Replica, name: &str, color: &str) {
    write(replica, |tx| tx.insert("tag", &[name.into()], &[("color", color.into())]).unwrap());
}

#[test]
fn two_spellings_are_one_row() {
    let [mut a, mut b] = sites();
    color(&mut a, "k", "red");
    color(&mut b, "K", "blue");
    assert_eq!(last_emitted(&b), ["tag -1 1 1", "tag color 1 1"]);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a, "tag"), ["K|blue"]);
    assert_eq!(shown(&b, "tag"), ["K|blue"]);
    assert!(a.row("tag", &["k".into()]).is_some());
}

#[test]
fn the_spelling_travels_with_every_change_of_its_row() {
    let [mut a] = sites();
    color(&mut a, "Kay", "red");
    let changes = a.changes_of(a.site(), 1);
    assert!(changes.iter().all(|change| change.pk == b"\x01\x0b\x03Kay"));
    write(&mut a, |tx| assert!(tx.delete("tag", &["KAY".into()]).unwrap()));
    let changes = a.changes_of(a.site(), 2);
    assert!(changes.iter().all(|change| change.pk == b"\x01\x0b\x03kay"));
}

#[test]
fn respelling_a_key_is_a_new_incarnation_of_its_row() {
    let [mut a, mut b] = sites();
    color(&mut a, "k", "red");
    exchange(&mut a, &mut b);
    write(&mut a, |tx| assert!(tx.update_key("tag", &["k".into()], &["K".into()], &[]).unwrap()));
    assert_eq!(last_emitted(&a), ["tag -1 3 3", "tag color 3 1"]);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b, "tag"), ["K|red"]);
    // And back: the canonical spelling is a spelling too.
    let sets = [("color", Value::from("blue"))];
    write(&mut b, |tx| assert!(tx.update_key("tag", &["K".into()], &["k".into()], &sets).unwrap()));
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a, "tag"), ["k|blue"]);
}

#[test]
fn a_key_set_to_itself_is_an_ordinary_update() {
    let [mut a] = sites();
    color(&mut a, "K", "red");
    let sets = [("color", Value::from("blue"))];
    write(&mut a, |tx| assert!(tx.update_key("tag", &["k".into()], &["K".into()], &sets).unwrap()));
    assert_eq!(last_emitted(&a), ["tag color 1 2"]);
}

#[test]
fn numbers_of_one_size_are_one_row() {
    let [mut a, mut b] = sites();
    write(&mut a, |tx| tx.insert("member", &[1.0.into()], &[]).unwrap());
    write(&mut b, |tx| tx.insert("member", &[1.into()], &[]).unwrap());
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a, "member"), shown(&b, "member"));
    assert_eq!(shown(&a, "member"), ["1"], "the spelling of the greater site");
}

#[test]
fn a_real_key_is_stored_as_real_and_needs_no_row_change() {
    let mut a = site(1, TieBreak::Site);
    let schema = TableSchema::new("point", [KeyColumn::binary(Affinity::Real)]).column("v", Value::Null);
    a.create_table(schema).unwrap();
    write(&mut a, |tx| tx.insert("point", &[1.into()], &[]).unwrap());
    assert_eq!(last_emitted(&a), ["point v 1 1"]);
    assert_eq!(shown(&a, "point"), ["1.0|NULL"]);
}

#[test]
fn a_key_update_moves_the_row_with_every_column() {
    let [mut a, mut b] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("title", "milk".into())]).unwrap());
    exchange(&mut a, &mut b);
    write(&mut a, |tx| {
        assert!(tx.update_key("todo", &[1.into()], &[2.into()], &[("done", 1.into())]).unwrap());
    });
    assert_eq!(last_emitted(&a), ["todo -1 2 2", "todo title 1 1", "todo done 1 1"]);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b, "todo"), ["2|milk|1"]);
}

#[test]
fn a_key_update_onto_a_live_row_needs_replace() {
    let [mut a, mut b] = sites();
    write(&mut a, |tx| {
        tx.insert("todo", &[1.into()], &[("title", "one".into())]).unwrap();
        tx.insert("todo", &[2.into()], &[("title", "two".into())]).unwrap();
        for title in 0..100 {
            tx.update("todo", &[2.into()], &[("title", title.into())]).unwrap();
        }
    });
    exchange(&mut a, &mut b);
    write(&mut a, |tx| {
        assert!(tx.update_key("todo", &[1.into()], &[2.into()], &[]).is_err());
        assert!(tx.replace_key("todo", &[1.into()], &[2.into()], &[]).unwrap());
    });
    assert_eq!(last_emitted(&a), ["todo -1 2 2", "todo -1 3 3", "todo title 3 1", "todo done 3 1"]);
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b, "todo"), ["2|one|0"]);
}

#[test]
fn an_exhausted_cell_keeps_its_rows_spelling() {
    use crsql_core::change::{Change, Fact};
    use crsql_core::limits::COL_VERSION_MAX;
    let [mut a] = sites();
    color(&mut a, "K", "red");
    let mut change: Change = a.changes_of(a.site(), 1).pop().unwrap();
    change.fact = Fact::Cell { column: "color".into(), col_version: COL_VERSION_MAX, value: "late".into() };
    a.merge(&change).unwrap();
    write(&mut a, |tx| assert!(tx.update("tag", &["k".into()], &[("color", "new".into())]).unwrap()));
    assert_eq!(shown(&a, "tag"), ["K|new"]);
}
