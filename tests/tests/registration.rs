//! The static ways into the extension: a rusqlite connection, a raw `sqlite3*`, every connection of a process.

use crsql_tests::{Site, TempDir, assert_converged, site, sync};
use rusqlite::ffi;
use std::ffi::CString;
use std::ptr;

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t";

#[test]
fn a_raw_handle_is_registered_and_plain_sqlite3_close_answers_ok() {
    let dir = TempDir::new();
    let path = CString::new(dir.join("raw.db").to_str().unwrap()).unwrap();
    let sql = c"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); SELECT crsql_as_crr('t');
        BEGIN; INSERT INTO t VALUES (1, 'raw'); SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT;
        SELECT * FROM crsql_changes; SELECT crsql_apply(crsql_changeset());";
    // SAFETY: the handle is opened, used by this thread alone, and closed; the strings are NUL-terminated.
    unsafe {
        let mut db = ptr::null_mut();
        assert_eq!(ffi::sqlite3_open(path.as_ptr(), &mut db), ffi::SQLITE_OK);
        crsql::register_raw(db).unwrap();
        crsql::register_raw(db).expect("twice is harmless");
        let rc = ffi::sqlite3_exec(db, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut());
        assert_eq!(rc, ffi::SQLITE_OK, "{:?}", std::ffi::CStr::from_ptr(ffi::sqlite3_errmsg(db)));
        assert_eq!(ffi::sqlite3_close(db), ffi::SQLITE_OK);
    }
    let a = Site::open(dir.join("raw.db"));
    let b = site(T);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT x FROM t"), ["'raw'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn every_connection_of_a_process_can_be_registered() {
    crsql::register_auto().unwrap();
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let id: Vec<u8> = conn.query_row("SELECT crsql_site_id()", [], |row| row.get(0)).unwrap();
    assert_eq!(id.len(), 16);
    crsql::register(&conn).expect("again is harmless");
}

#[test]
fn a_connection_can_be_closed_in_the_middle_of_everything() {
    for statement in [
        "BEGIN; INSERT INTO t VALUES (1, 'x')",
        "SAVEPOINT s; UPDATE t SET x = 1",
        "SELECT crsql_begin_alter('t')",
    ] {
        let dir = TempDir::new();
        let a = Site::open(dir.join("a.db"));
        a.exec(T);
        a.exec(statement);
        if let Err((_, error)) = a.conn.close() {
            panic!("{statement}: {error}");
        }
        let a = Site::open(dir.join("a.db"));
        a.exec("INSERT INTO t VALUES (2, 'tracked')");
        assert_eq!(a.rows("SELECT val FROM crsql_changes"), ["'tracked'"], "{statement}");
        assert_eq!(a.doctor(), "[]");
    }
}

#[test]
fn many_connections_open_and_close_without_leaking_state_into_each_other() {
    let dir = TempDir::new();
    Site::open(dir.join("a.db")).exec(T);
    for i in 0..50 {
        let a = Site::open(dir.join("a.db"));
        let other = Site::memory();
        other.exec("CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, different INT); CRR t");
        other.exec("INSERT INTO t VALUES ('k', 1)");
        a.exec(&format!("INSERT INTO t VALUES ({i}, 'x')"));
        assert_eq!(a.db_version(), i + 1);
    }
}
