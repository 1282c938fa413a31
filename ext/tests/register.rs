//! The static ways into the extension.
#![cfg(feature = "static")]

mod support;

use rusqlite::Connection;
use support::text;

#[test]
fn registering_twice_is_harmless() {
    let connection = Connection::open_in_memory().unwrap();
    for _ in 0..2 {
        crsql::register(&connection).unwrap();
        // Also while a statement that uses it is running.
        let mut statement = connection.prepare("SELECT cell FROM crsql_unpack_columns(x'020505')").unwrap();
        let mut rows = statement.query([]).unwrap();
        assert!(rows.next().unwrap().is_some());
        crsql::register(&connection).unwrap();
        assert!(rows.next().unwrap().is_some());
    }
    connection.close().map_err(|(_, e)| e).unwrap();
}

#[test]
fn a_raw_handle_will_do() {
    let connection = Connection::open_in_memory().unwrap();
    // SAFETY: the handle is open.
    unsafe { crsql::register_raw(connection.handle()) }.unwrap();
    assert_eq!(text(&connection, "SELECT crsql_version()"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_connection_with_cr_sqlite_on_it_is_left_alone() {
    let (connection, db) = support::open();
    let state = std::rc::Rc::new(());
    crsql::sqlite::register_function(db, c"crsql_site_id", 0, crsql::sqlite::Flags::NONE, &state, |(), _| {
        Ok(())
    })
    .unwrap();
    let error = crsql::register(&connection).unwrap_err();
    assert!(error.to_string().starts_with("cannot load crsql: this connection has cr-sqlite loaded"));
    crsql::sqlite::register_function(
        db,
        c"crsql_version",
        0,
        crsql::sqlite::Flags::NONE,
        &state,
        |(), call| {
            call.set_i64(170_000);
            Ok(())
        },
    )
    .unwrap();
    assert!(crsql::register(&connection).is_err());
}
