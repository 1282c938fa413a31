//! Automatic registration, alone in its process because it reaches every connection.
#![cfg(feature = "static")]

mod support;

use support::text;

#[test]
fn every_later_connection_has_it() {
    crsql::register_auto().unwrap();
    crsql::register_auto().unwrap();
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    assert_eq!(text(&connection, "SELECT crsql_version()"), env!("CARGO_PKG_VERSION"));
    crsql::register(&connection).unwrap();
}
