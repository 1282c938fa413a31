//! The fence's statements and connection.
#![cfg(feature = "static")]

mod support;

use crsql::sqlite::{Error, Transaction, Value, ValueRef};
use support::open;

#[test]
fn every_storage_class_goes_in_and_comes_out_as_it_is() {
    let (_connection, db) = open();
    let mut echo = db.prepare_persistent("SELECT ?1, typeof(?1)").unwrap();
    let invalid_utf8: &[u8] = b"a\xff\0b";
    for value in [
        ValueRef::Null,
        ValueRef::Integer(i64::MIN),
        ValueRef::Real(-0.0),
        ValueRef::Text(b""),
        ValueRef::Text(invalid_utf8),
        ValueRef::Blob(b""),
        ValueRef::Blob(invalid_utf8),
    ] {
        echo.bind_value(1, value).unwrap();
        assert!(echo.step().unwrap());
        assert!(echo.column_value(0).same(&value), "copied {value:?}");
        echo.reset();
        let lent = echo.query_row(&[value], |row| Ok(row.column_value(0).to_owned_value())).unwrap();
        assert!(lent.unwrap().as_ref().same(&value), "lent {value:?}");
    }
}

#[test]
fn lent_values_are_forgotten_even_when_the_rows_are_leaked() {
    let (_connection, db) = open();
    let mut statement = db.prepare("SELECT ?1").unwrap();
    let text = b"short lived".to_vec();
    std::mem::forget(statement.query(&[ValueRef::Text(&text)]).unwrap());
    drop(text);
    assert!(statement.step().unwrap());
    assert!(statement.column_is_null(0));

    statement.execute(&[ValueRef::Blob(b"x")]).unwrap();
    assert!(statement.step().unwrap());
    assert!(statement.column_is_null(0));
}

#[test]
fn a_statement_that_failed_or_was_left_on_a_row_can_be_used_again() {
    let (_connection, db) = open();
    db.exec("CREATE TABLE t (a INTEGER PRIMARY KEY, b UNIQUE); INSERT INTO t VALUES (1, 'x'), (2, 'y');")
        .unwrap();

    let mut insert = db.prepare("INSERT INTO t VALUES (?1, ?2)").unwrap();
    let error = insert.execute(&[ValueRef::Integer(3), ValueRef::Text(b"x")]).unwrap_err();
    assert!(error.is_constraint());
    assert_eq!(error.to_string(), "UNIQUE constraint failed: t.b");
    assert_eq!(error.code(), 2067);
    insert.execute(&[ValueRef::Integer(3), ValueRef::Text(b"z")]).unwrap();

    let mut select = db.prepare("SELECT b FROM t WHERE a >= ?1 ORDER BY a").unwrap();
    select.bind_i64(1, 1).unwrap();
    assert!(select.step().unwrap());
    select.bind_i64(1, 2).unwrap();
    assert!(select.step().unwrap());
    assert_eq!(select.column_str(0).unwrap(), "y");
    drop(select);
    assert!(!db.has_busy_writer());
}

#[test]
fn rows_end_once() {
    let (_connection, db) = open();
    let mut one = db.prepare("SELECT 1").unwrap();
    let mut rows = one.query(&[]).unwrap();
    assert!(rows.step().unwrap());
    assert!(!rows.step().unwrap());
    assert!(!rows.step().unwrap());
}

#[test]
fn the_number_of_values_must_be_that_of_the_parameters() {
    let (_connection, db) = open();
    let mut statement = db.prepare("SELECT ?1, ?2").unwrap();
    assert_eq!(statement.parameter_count(), 2);
    let error = statement.execute(&[ValueRef::Null]).unwrap_err();
    assert_eq!(error.to_string(), "the statement has 2 parameters but 1 values were given");
    assert_eq!(statement.bind_i64(3, 0).unwrap_err().primary_code(), 25);
}

#[test]
fn columns_off_a_row_are_null() {
    let (_connection, db) = open();
    let statement = db.prepare("SELECT 1 AS one").unwrap();
    assert_eq!(
        (statement.column_count(), statement.column_name(0), statement.column_name(9)),
        (1, "one", "")
    );
    assert_eq!(statement.column_i64(0), 0);
    assert_eq!(statement.column_blob(7), b"");
    assert!(statement.column_value(0).same(&ValueRef::Null));
}

#[test]
fn reading_a_value_by_another_class_does_not_convert_it() {
    let (_connection, db) = open();
    let mut statement = db.prepare("SELECT x'41', 'A', 1, zeroblob(3)").unwrap();
    assert!(statement.step().unwrap());
    assert_eq!(statement.column_text(0), b"");
    assert_eq!(statement.column_blob(0), b"A");
    assert_eq!(statement.column_blob(1), b"");
    assert_eq!(statement.column_text(1), b"A");
    assert_eq!(statement.column_text(2), b"");
    assert_eq!(statement.column_blob(3), [0, 0, 0]);
}

#[test]
fn columns_are_passed_on_without_a_look() {
    let (_connection, db) = open();
    db.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1), ('x'), (x'00'), (NULL), (1.5);").unwrap();
    let mut from = db.prepare("SELECT a FROM t").unwrap();
    let mut to = db.prepare("SELECT ?1").unwrap();
    while from.step().unwrap() {
        to.bind_column(1, &from, 0).unwrap();
        assert!(to.step().unwrap());
        assert!(to.column_value(0).same(&from.column_value(0)));
    }
}

#[test]
fn utf16_databases_speak_utf8_here() {
    let (_connection, db) = open();
    db.exec("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a TEXT);").unwrap();
    db.prepare("INSERT INTO t VALUES (?1)")
        .unwrap()
        .execute(&[ValueRef::Text("grün 🌱".as_bytes())])
        .unwrap();
    let mut select = db.prepare("SELECT a FROM t").unwrap();
    assert!(select.step().unwrap());
    assert_eq!(select.column_str(0).unwrap(), "grün 🌱");
    let Value::Text(text) = select.column_value(0).to_owned_value() else { panic!("not a text") };
    assert_eq!(text, "grün 🌱".as_bytes());
}

#[test]
fn exec_runs_all_statements_and_tells_the_error_of_the_one_that_fails() {
    let (_connection, db) = open();
    db.exec("").unwrap();
    db.exec(" ; -- nothing\n ;; /* nothing */ ").unwrap();
    db.exec("CREATE TABLE t (a); -- with a comment\n INSERT INTO t VALUES (1); SELECT * FROM t; ").unwrap();
    let error =
        db.exec("INSERT INTO t VALUES (2); INSERT INTO nowhere VALUES (1); DELETE FROM t").unwrap_err();
    assert_eq!(error.to_string(), "no such table: nowhere");
    let count = db.prepare("SELECT count(*) FROM t").unwrap().query_i64(&[]).unwrap();
    assert_eq!(count, Some(2));
    assert!(matches!(db.exec("SELECT 1;\0 SELECT 2"), Err(Error::Misuse(_))));
    assert!(matches!(db.prepare("  "), Err(Error::Misuse(_))));
}

#[test]
fn the_connection_answers_for_itself() {
    let (_connection, db) = open();
    db.exec("CREATE TABLE t (a INTEGER PRIMARY KEY); INSERT INTO t VALUES (7), (8);").unwrap();
    assert_eq!((db.changes64(), db.total_changes(), db.last_insert_rowid()), (2, 2, 8));
    db.set_last_insert_rowid(5);
    assert_eq!(db.last_insert_rowid(), 5);
    assert_eq!((db.is_autocommit(), db.transaction()), (true, Transaction::None));
    db.exec("BEGIN; SELECT * FROM t;").unwrap();
    assert_eq!((db.is_autocommit(), db.transaction()), (false, Transaction::Read));
    db.exec("INSERT INTO t VALUES (9)").unwrap();
    assert_eq!(db.transaction(), Transaction::Write);
    db.exec("ROLLBACK").unwrap();
    let version = db.schema_version().unwrap();
    db.exec("CREATE TABLE u (a)").unwrap();
    assert!(db.schema_version().unwrap() > version);
    assert!(!db.is_read_only());
    assert_eq!(db.file_name(c"main"), None);
    assert_eq!(db.file_name(c"nowhere"), None);
    assert!(db.limit(0) > 0);
}

#[test]
fn another_connections_commit_moves_the_data_version() {
    let directory = std::env::temp_dir().join(format!("crsql-fence-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("data_version.db");
    let (ours, theirs) =
        (rusqlite::Connection::open(&file).unwrap(), rusqlite::Connection::open(&file).unwrap());
    // SAFETY: the handle is not used after the connection.
    let db = unsafe { crsql::sqlite::Db::from_handle(ours.handle()) };
    ours.execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(db.file_name(c"main").unwrap().ends_with("data_version.db"));
    let before = db.data_version();
    assert_eq!(db.data_version(), before);
    theirs.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(db.data_version(), before, "not looked at the file yet");
    ours.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let inside = db.data_version();
    assert_ne!(inside, before);
    ours.execute_batch("INSERT INTO t VALUES (2); COMMIT").unwrap();
    assert_eq!(db.data_version(), inside + 1, "own commits count");
    drop((ours, theirs));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn triggers_can_be_switched_off_for_a_while() {
    let (_connection, db) = open();
    db.exec(
        "CREATE TABLE t (a); CREATE TABLE log (a);
             CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END;",
    )
    .unwrap();
    let mut insert = db.prepare("INSERT INTO t VALUES (1)").unwrap();
    assert!(db.set_enable_trigger(false).unwrap());
    insert.run().unwrap();
    assert!(!db.set_enable_trigger(true).unwrap());
    insert.run().unwrap();
    assert_eq!(db.prepare("SELECT count(*) FROM log").unwrap().query_i64(&[]).unwrap(), Some(1));
}

#[test]
fn a_writer_that_is_being_stepped_is_seen() {
    let (_connection, db) = open();
    db.exec("CREATE TABLE t (a)").unwrap();
    let mut reader = db.prepare("SELECT 1").unwrap();
    assert!(reader.step().unwrap());
    assert_eq!(db.busy_writers(), 0);
    let mut writer = db.prepare("INSERT INTO t VALUES (1), (2) RETURNING a").unwrap();
    assert!(writer.step().unwrap());
    assert_eq!(db.busy_writers(), 1);
    writer.reset();
    assert!(!db.has_busy_writer());
}
