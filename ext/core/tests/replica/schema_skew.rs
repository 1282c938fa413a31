//! Changes that arrive before their table or column.

use super::*;
use crsql_core::column::ColumnType;
use crsql_core::replica::SchemaError;

#[test]
fn changes_of_an_unknown_table_are_kept_passed_on_and_shown_later() {
    let [mut a, mut b] = sites();
    let mut bare = Replica::new(SiteId([9; 16]), TieBreak::Site);
    write(&mut a, |tx| tx.insert("tag", &["K".into()], &[("color", "red".into())]).unwrap());
    pull(&mut bare, &a);
    assert_eq!((bare.parked().len(), bare.rows("tag").len()), (2, 0));
    // Without a schema a key is what it was sent as.
    assert_ne!(bare.digest(), a.digest());
    pull(&mut b, &bare);
    assert_eq!(shown(&b, "tag"), ["K|red"]);
    assert_eq!(bare.create_table(tag()), Ok(0));
    assert_eq!(shown(&bare, "tag"), ["K|red"]);
    assert!(bare.parked().is_empty());
    assert_eq!(bare.digest(), a.digest());
}

#[test]
fn cells_of_an_unknown_column_wait_in_their_row() {
    let [mut a, mut b] = sites();
    a.add_column("todo", "due", Value::text("never")).unwrap();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("due", "today".into())]).unwrap());
    pull(&mut b, &a);
    assert_eq!(b.parked().len(), 1);
    assert_eq!(a.digest(), b.digest());
    // A key update is the delete of one row and the birth of another. Like a REPLACE, somebody who does not know
    // the column can't write it for the new row, which has its default.
    write(&mut b, |tx| assert!(tx.update_key("todo", &[1.into()], &[2.into()], &[]).unwrap()));
    assert!(b.parked().is_empty());
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a, "todo"), ["2|NULL|0|never"]);
    b.add_column("todo", "due", Value::text("never")).unwrap();
    assert_eq!(shown(&b, "todo"), ["2|NULL|0|never"]);
}

#[test]
fn a_row_replaced_by_somebody_who_does_not_know_a_column_has_its_default() {
    let [mut a, mut b] = sites();
    a.add_column("todo", "due", Value::text("never")).unwrap();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("due", "today".into())]).unwrap());
    pull(&mut b, &a);
    write(&mut b, |tx| tx.insert_or_replace("todo", &[1.into()], &[("title", "new".into())]).unwrap());
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a, "todo"), ["1|new|0|never"]);
}

#[test]
fn a_new_column_with_a_default_emits_nothing() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    let before = (a.digest(), a.db_version());
    a.add_column("todo", "due", Value::text("never")).unwrap();
    assert_eq!((a.digest(), a.db_version()), before);
    assert_eq!(shown(&a, "todo"), ["1|NULL|0|never"]);
    write(&mut a, |tx| assert!(tx.update("todo", &[1.into()], &[("due", "today".into())]).unwrap()));
    assert_eq!(last_emitted(&a), ["todo due 1 1"]);
}

#[test]
fn parked_rows_of_two_spellings_become_one_row() {
    let [mut a, mut b] = sites();
    let mut bare = Replica::new(SiteId([9; 16]), TieBreak::Site);
    write(&mut a, |tx| tx.insert("tag", &["k".into()], &[("color", "red".into())]).unwrap());
    write(&mut b, |tx| {
        tx.insert("tag", &["K".into()], &[("color", "blue".into())]).unwrap();
        tx.insert("tag", &["gone".into()], &[]).unwrap();
        tx.delete("tag", &["gone".into()]).unwrap();
    });
    pull(&mut bare, &a);
    pull(&mut bare, &b);
    assert_eq!(bare.parked().len(), 4);
    bare.create_table(tag()).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(bare.digest(), a.digest());
    assert_eq!(shown(&bare, "tag"), shown(&a, "tag"));
}

#[test]
fn parked_rows_that_cannot_be_rows_of_the_table_are_dropped() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    let mut bare = Replica::new(SiteId([9; 16]), TieBreak::Site);
    pull(&mut bare, &a);
    let wide = TableSchema::new("todo", [KeyColumn::PLAIN, KeyColumn::PLAIN]);
    assert_eq!(bare.create_table(wide), Ok(2));
    assert_eq!(bare.changes().count(), 0);
}

#[test]
fn schemas_that_cannot_be_are_refused() {
    let [mut a] = sites();
    assert_eq!(a.create_table(TableSchema::new("x", [])), Err(SchemaError::NoKey("x".into())));
    assert_eq!(a.create_table(todo()), Err(SchemaError::TableExists("todo".into())));
    let twice = TableSchema { name: "x".into(), ..todo().column("title", Value::Null) };
    let expected = SchemaError::ColumnExists { table: "x".into(), column: "title".into() };
    assert_eq!(a.create_table(twice), Err(expected));
    let expected = SchemaError::ColumnExists { table: "todo".into(), column: "title".into() };
    assert_eq!(a.add_column("todo", "title", Value::Null), Err(expected));
    assert_eq!(a.add_column("x", "title", Value::Null), Err(SchemaError::NoSuchTable("x".into())));
    assert!(SchemaError::NoSuchTable("x".into()).to_string().contains("not replicated"));
}

#[test]
fn an_unknown_table_reads_as_empty() {
    let [a] = sites::<1>();
    assert!(a.rows("x").is_empty());
    assert!(a.row("x", &[1.into()]).is_none());
    assert!(a.row("todo", &[1.into()]).is_none());
    assert!(a.row("todo", &[Value::Null]).is_none());
    assert!(a.row("todo", &vec![Value::Null; 256]).is_none());
    assert_eq!(a.table_digest("x"), a.digest());
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[]).unwrap());
    assert_eq!(a.table_digest("todo"), a.digest());
}

#[test]
fn an_insert_numbers_a_column_that_came_after_a_type_after_it() {
    let mut a = Replica::new(SiteId([1; 16]), TieBreak::Site);
    let schema = TableSchema::new("t", [KeyColumn::PLAIN])
        .typed("n", ColumnType::Counter, Value::Integer(0))
        .typed("low", ColumnType::Min, Value::Null)
        .column("x", Value::Null);
    a.create_table(schema).unwrap();
    a.add_column("t", "late", Value::Null).unwrap();
    let order = |a: &Replica| {
        let mut cells: Vec<_> = a.delta(&Default::default()).changes.into_iter().collect();
        cells.sort_by_key(|change| change.stamp.seq);
        cells.iter().map(|change| change.cid().to_owned()).collect::<Vec<_>>()
    };
    write(&mut a, |tx| tx.insert("t", &[1.into()], &[]).unwrap());
    assert_eq!(order(&a), ["x", "min(low)", "late", "counter(n)"]);
    let sets = ["n", "low", "x", "late"].map(|name| (name, Value::Integer(-1)));
    write(&mut a, |tx| assert!(tx.update("t", &[1.into()], &sets).unwrap()));
    assert_eq!(order(&a), ["x", "late", "min(low)", "counter(n)"], "registers first");
}

#[test]
fn declaring_what_is_declared_or_is_not_there_changes_nothing() {
    let [mut a] = sites();
    write(&mut a, |tx| tx.insert("todo", &[1.into()], &[("done", 3.into())]).unwrap());
    let before = a.digest();
    a.declare("todo", "done", ColumnType::Register).unwrap();
    a.declare("todo", "nowhere", ColumnType::Max).unwrap();
    assert_eq!(shown(&a, "todo"), ["1|NULL|3"]);
    a.declare("todo", "done", ColumnType::Max).unwrap();
    a.declare("todo", "done", ColumnType::Counter).unwrap();
    assert_eq!(a.schema("todo").unwrap().columns[1].kind, ColumnType::Max, "a type stays");
    assert_eq!(a.digest(), before);
    assert_eq!(a.declare("nowhere", "x", ColumnType::Max), Err(SchemaError::NoSuchTable("nowhere".into())));
}
