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

#[test]
fn a_large_blob_is_given_away_without_a_copy_and_released() {
    let (connection, db) = open();
    let state = Rc::new(());
    register_function(db, c"given", 1, Flags::NONE, &state, |(), call| {
        let len = call.integer("given", 0)? as usize;
        // Zeros are pages that nobody has touched.
        let fill = if len > 1_000_000_000 { 0 } else { 7 };
        call.give_blob(vec![fill; len]);
        Ok(())
    })
    .unwrap();
    connection.execute_batch("PRAGMA hard_heap_limit = 10000000").unwrap();
    assert_eq!(text(&connection, "SELECT hex(substr(given(5), 4, 9))"), "0707");
    assert_eq!(text(&connection, "SELECT length(given(0))"), "0");
    // Above SQLite's own limit: refused, and released all the same.
    let refused = connection.query_row("SELECT length(given(1100000000))", [], |_| Ok(())).unwrap_err();
    assert_eq!(message(&refused), "string or blob too big");
    for _ in 0..40 {
        // SQLite itself has no room for it.
        assert_eq!(text(&connection, "SELECT length(given(50000000))"), "50000000");
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kib < 1_000_000, "{kib} KiB are left of 2 GB");
    }
}
