//! SQLite out of memory, alone in its process because the limit holds for all of it.
#![cfg(feature = "static")]

mod support;

use std::rc::Rc;

use crsql::sqlite::{Flags, register_function};
use support::{message, open, text};

#[test]
fn a_value_that_cannot_be_read_is_an_error_and_never_an_empty_value() {
    let (connection, db) = open();
    let state = Rc::new(());
    register_function(db, c"argument", 1, Flags::NONE, &state, |(), call| {
        call.set_value(call.arg(0));
        Ok(())
    })
    .unwrap();
    register_function(db, c"column", 0, Flags::NONE, &state, move |(), call| {
        let mut statement = db.prepare("SELECT zeroblob(50000000)")?;
        statement.step()?;
        call.set_value(statement.column_value(0));
        Ok(())
    })
    .unwrap();
    connection.execute_batch("PRAGMA hard_heap_limit = 10000000").unwrap();
    for sql in ["SELECT length(argument(zeroblob(50000000)))", "SELECT length(column())"] {
        let error = connection.query_row(sql, [], |_| Ok(())).unwrap_err();
        assert_eq!(
            (message(&error).as_str(), error.sqlite_error().unwrap().extended_code),
            ("out of memory", 7),
            "{sql}"
        );
    }
    assert_eq!(text(&connection, "SELECT length(argument(zeroblob(5)))"), "5");
}
