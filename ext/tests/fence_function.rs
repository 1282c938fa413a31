//! The fence's scalar functions.
#![cfg(feature = "static")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use crsql::sqlite::{Error, Flags, ValueRef, register_function};
use support::{message, open, text};

#[test]
fn a_function_sees_its_arguments_and_its_state() {
    let (connection, db) = open();
    let calls = Rc::new(Cell::new(0));
    register_function(db, c"echo", -1, Flags::NONE, &calls, |calls, call| {
        calls.set(calls.get() + 1);
        call.set_value(call.arg(0));
        Ok(())
    })
    .unwrap();
    assert_eq!(
        text(
            &connection,
            "SELECT typeof(echo(1.0)) || typeof(echo(x'')) || typeof(echo('')) || typeof(echo())"
        ),
        "realblobtextnull"
    );
    assert_eq!(text(&connection, "SELECT echo('grün' || char(0) || 'x')"), "grün\0x");
    assert_eq!(calls.get(), 5);
}

#[test]
fn utf16_arguments_and_results_are_converted() {
    let (connection, db) = open();
    connection
        .execute_batch("PRAGMA encoding = 'UTF-16be'; CREATE TABLE t (a); INSERT INTO t VALUES ('grün');")
        .unwrap();
    register_function(db, c"twice", 1, Flags::NONE, &Rc::new(()), |(), call| {
        let word = call.text("twice", 0)?;
        call.set_text(&format!("{word}{word}"));
        Ok(())
    })
    .unwrap();
    assert_eq!(text(&connection, "SELECT twice(a) FROM t"), "grüngrün");
}

#[test]
fn arguments_are_passed_on_without_a_look() {
    let (connection, db) = open();
    register_function(db, c"second", 2, Flags::NONE, &Rc::new(()), move |(), call| {
        let mut echo = db.prepare("SELECT ?1")?;
        echo.bind_arg(1, &call.args(), 1)?;
        echo.step()?;
        call.set_column(&echo, 0);
        Ok(())
    })
    .unwrap();
    assert_eq!(text(&connection, "SELECT hex(second(1, x'0a0b'))"), "0A0B");
    register_function(db, c"last", -1, Flags::NONE, &Rc::new(()), |(), call| {
        call.set_arg(&call.args(), call.arg_count().wrapping_sub(1));
        Ok(())
    })
    .unwrap();
    assert_eq!(text(&connection, "SELECT last(1, 2, 'three')"), "three");
    assert_eq!(text(&connection, "SELECT last()"), "NULL");
}

#[test]
fn errors_reach_sql_with_their_code_and_message() {
    let (connection, db) = open();
    register_function(db, c"fail", 1, Flags::NONE, &Rc::new(()), |(), call| {
        Err(match call.arg(0) {
            ValueRef::Integer(1) => Error::Constraint("row 1 breaks a rule".to_owned()),
            ValueRef::Integer(2) => db_error(),
            _ => Error::refused("cannot do it: not a number"),
        })
    })
    .unwrap();
    let error = connection.query_row("SELECT fail(1)", [], |_| Ok(())).unwrap_err();
    assert_eq!(message(&error), "row 1 breaks a rule");
    assert_eq!(error.sqlite_error().unwrap().extended_code, 19);
    let error = connection.query_row("SELECT fail(2)", [], |_| Ok(())).unwrap_err();
    assert_eq!((message(&error).as_str(), error.sqlite_error().unwrap().extended_code), ("locked", 6));
    assert_eq!(text(&connection, "SELECT fail('')"), "error: cannot do it: not a number");
}

fn db_error() -> Error {
    Error::Sqlite { code: 6, message: "locked".to_owned() }
}

#[test]
fn a_panic_is_an_error_and_the_connection_goes_on() {
    let (connection, db) = open();
    register_function(db, c"boom", 0, Flags::NONE, &Rc::new(()), |(), _| panic!("broken invariant {}", 7))
        .unwrap();
    assert_eq!(
        text(&connection, "SELECT boom()"),
        "error: crsql panicked: broken invariant 7; please report this"
    );
    assert_eq!(text(&connection, "SELECT 1"), "1");
}

#[test]
fn typed_arguments_say_what_they_want() {
    let (connection, db) = open();
    let state = Rc::new(());
    register_function(db, c"typed", -1, Flags::NONE, &state, |(), call| {
        call.expect_args("typed", 3..=3, "3 arguments: a text, a blob, an integer")?;
        let (a, b, c) = (call.text("typed", 0)?, call.blob("typed", 1)?, call.integer("typed", 2)?);
        call.set_text(&format!("{a} {b:?} {c}"));
        Ok(())
    })
    .unwrap();
    let ask = |arguments: &str| text(&connection, &format!("SELECT typed({arguments})"));
    assert_eq!(ask("'a', x'01', 2"), "a [1] 2");
    assert_eq!(ask("'a'"), "error: typed() takes 3 arguments: a text, a blob, an integer, not 1");
    assert_eq!(ask("NULL, x'01', 2"), "error: typed() argument 1 must be text, not NULL");
    assert_eq!(ask("'a', 'b', 2"), "error: typed() argument 2 must be a blob, not text");
    assert_eq!(ask("'a', x'01', 2.0"), "error: typed() argument 3 must be an integer, not a real");
    assert_eq!(
        ask("CAST(x'ff' AS TEXT), x'01', 2"),
        "error: typed() argument 1 must be text, not text that is not valid UTF-8"
    );
}

#[test]
fn the_state_is_dropped_with_the_connection_or_with_the_functions_successor() {
    let (connection, db) = open();
    let state = Rc::new(());
    for _ in 0..2 {
        register_function(db, c"held", 0, Flags::NONE, &state, |(), _| Ok(())).unwrap();
        assert_eq!(Rc::strong_count(&state), 2);
    }
    // A name that SQLite refuses: the reference must not leak.
    let long = std::ffi::CString::new("x".repeat(300)).unwrap();
    assert!(register_function(db, &long, 0, Flags::NONE, &state, |(), _| Ok(())).is_err());
    assert_eq!(Rc::strong_count(&state), 2);
    drop(connection);
    assert_eq!(Rc::strong_count(&state), 1);
}

#[test]
fn flags_decide_where_a_function_may_be_called() {
    let (connection, db) = open();
    let state = Rc::new(());
    for (name, flags) in
        [(c"plain", Flags::NONE), (c"harmless", Flags::INNOCUOUS), (c"direct", Flags::DIRECT_ONLY)]
    {
        register_function(db, name, 0, flags, &state, |(), call| {
            call.set_i64(1);
            Ok(())
        })
        .unwrap();
        let name = name.to_str().unwrap();
        connection.execute_batch(&format!("CREATE VIEW v_{name} AS SELECT {name}()")).unwrap();
    }
    assert_eq!(text(&connection, "SELECT * FROM v_plain"), "1");
    assert_eq!(text(&connection, "SELECT * FROM v_direct"), "error: unsafe use of direct()");
    connection.execute_batch("PRAGMA trusted_schema = off").unwrap();
    assert_eq!(text(&connection, "SELECT * FROM v_plain"), "error: unsafe use of plain()");
    assert_eq!(text(&connection, "SELECT * FROM v_harmless"), "1");
}
