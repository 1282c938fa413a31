//! Databases and connections of unusual kinds: UTF-16, untrusted schemas, read-only files, page sizes, journals.

use crsql_tests::{NO_ROWS, Site, TempDir, assert_converged, pull, site, sites, sync};
use rusqlite::Connection;

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (name TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v); CRR k";

fn some_work(a: &Site) {
    a.exec(
        "INSERT INTO t VALUES (1, 'é', x'00'), (2, '🦀', 1.5); UPDATE t SET x = 'ü' WHERE id = 1; DELETE FROM t WHERE id = 2;
         INSERT INTO k VALUES ('Ключ', 'Ä'), ('K', 'z'); REPLACE INTO k VALUES ('k', 'ß'); UPDATE k SET name = 'moved' WHERE name = 'K'",
    );
}

#[test]
fn utf16_databases_replicate_with_utf8_ones() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let a = Site::around(Connection::open_in_memory().unwrap(), None);
        let before = a.text("PRAGMA encoding");
        drop(a);
        assert_eq!(before, "UTF-8");
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(&format!("PRAGMA encoding = '{encoding}'; CREATE TABLE settle (x)")).unwrap();
        let a = Site::around(conn, None);
        assert_eq!(a.text("PRAGMA encoding"), encoding);
        a.exec(T);
        let b = site(T);
        some_work(&a);
        b.exec("INSERT INTO t VALUES (9, 'from utf-8 ÿ', NULL)");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
        let c = site(T);
        c.merge(&a.changes());
        assert_converged(&[&a, &c]);
        assert_eq!(a.rows("SELECT name FROM k WHERE name = 'КЛЮЧ'"), NO_ROWS, "NOCASE folds ASCII only");
    }
}

#[test]
fn writes_and_reads_work_with_an_untrusted_schema() {
    let [a, b] = sites(T);
    for s in [&a, &b] {
        s.exec("PRAGMA trusted_schema = off");
    }
    some_work(&a);
    a.exec("BEGIN; SAVEPOINT s; UPDATE t SET x = 1; ROLLBACK TO s; UPDATE t SET x = 2; COMMIT");
    sync(&a, &b);
    b.exec("UPDATE t SET y = 'untrusted'");
    a.merge(&b.changes());
    assert_converged(&[&a, &b]);
}

#[test]
fn a_defensive_connection_replicates() {
    let [a, b] = sites(T);
    a.conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    some_work(&a);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_read_only_connection_reads_everything_and_refuses_writes() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    some_work(&a);
    let expected = (a.clocks(), a.digest(), a.site_id(), a.db_version(), a.version_vector());
    drop(a);
    let reader = Site::open_read_only(dir.join("a.db"));
    assert_eq!(
        (reader.clocks(), reader.digest(), reader.site_id(), reader.db_version(), reader.version_vector()),
        expected
    );
    assert_eq!(reader.doctor(), "[]");
    let b = site(T);
    b.exec("INSERT INTO t (id) VALUES (50)");
    assert!(reader.error("UPDATE t SET x = 1").contains("readonly"));
    let message = reader.try_apply(&b.changeset()).unwrap_err();
    assert!(message.contains("read"), "{message}");
    pull(&b, &reader);
    assert_eq!(b.int("SELECT count(*) FROM t"), 2);
}

#[test]
fn a_fresh_file_opened_read_only_says_what_is_missing_or_reads_empty() {
    let dir = TempDir::new();
    let conn = Connection::open(dir.join("plain.db")).unwrap();
    conn.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x)").unwrap();
    drop(conn);
    let reader =
        Connection::open_with_flags(dir.join("plain.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap();
    match crsql_tests::site::load_extension(&reader) {
        Err(message) => assert!(message.contains("read"), "{message}"),
        Ok(()) => {
            let reader = Site::around(reader, None);
            assert_eq!(reader.rows("SELECT * FROM crsql_changes"), NO_ROWS);
            assert!(reader.error("SELECT crsql_as_crr('t')").contains("read"));
        }
    }
}

#[test]
fn query_only_connections_read() {
    let a = site(T);
    some_work(&a);
    let expected = a.clocks();
    a.exec("PRAGMA query_only = on");
    assert_eq!(a.clocks(), expected);
    a.error("INSERT INTO t (id) VALUES (5)");
    a.exec("PRAGMA query_only = off; INSERT INTO t (id) VALUES (5)");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes WHERE pk = x'010905'"), 2);
}

#[test]
fn every_journal_mode_page_size_and_auto_vacuum_replicates() {
    for (i, pragmas) in [
        "PRAGMA journal_mode = delete",
        "PRAGMA journal_mode = truncate; PRAGMA synchronous = off",
        "PRAGMA journal_mode = persist",
        "PRAGMA journal_mode = memory",
        "PRAGMA journal_mode = wal",
        "PRAGMA page_size = 512; PRAGMA auto_vacuum = full",
        "PRAGMA page_size = 65536; PRAGMA auto_vacuum = incremental",
        "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal",
        "PRAGMA cell_size_check = on; PRAGMA secure_delete = on; PRAGMA temp_store = memory",
        "PRAGMA foreign_keys = on; PRAGMA recursive_triggers = on; PRAGMA ignore_check_constraints = on",
        "PRAGMA case_sensitive_like = on; PRAGMA reverse_unordered_selects = on",
        "PRAGMA cache_size = 5",
        "PRAGMA count_changes = on; PRAGMA full_column_names = on",
    ]
    .iter()
    .enumerate()
    {
        let dir = TempDir::new();
        let conn = Connection::open(dir.join("a.db")).unwrap();
        conn.execute_batch(pragmas).unwrap();
        let a = Site::around(conn, Some(dir.join("a.db")));
        a.exec(T);
        let b = site(T);
        some_work(&a);
        b.exec(&format!("INSERT INTO t VALUES ({i} + 10, 'b', NULL)"));
        sync(&a, &b);
        a.exec("UPDATE t SET y = 'end'");
        sync(&a, &b);
        a.exec("PRAGMA case_sensitive_like = off; PRAGMA count_changes = off");
        assert_converged(&[&a, &b]);
        assert_eq!(a.rows("PRAGMA integrity_check"), ["'ok'"], "{pragmas}");
    }
}

#[test]
fn a_journal_mode_of_off_is_the_users_risk_but_works_while_nothing_fails() {
    let [a, b] = sites(T);
    a.exec("PRAGMA journal_mode = off");
    some_work(&a);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn loading_inside_a_transaction_that_is_rolled_back_leaves_a_working_connection() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("BEGIN; CREATE TABLE other (x)").unwrap();
    let a = Site::around(conn, None);
    a.exec("ROLLBACK");
    assert_eq!(a.db_version(), 0);
    a.exec(T);
    let b = site(T);
    some_work(&a);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn loading_alone_does_not_keep_others_from_writing() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let b = Site::open(dir.join("a.db"));
    a.exec("CREATE TABLE plain (x); INSERT INTO plain VALUES (1)");
    b.exec("INSERT INTO plain VALUES (2)");
    assert!(a.conn.is_autocommit() && b.conn.is_autocommit());
}

#[test]
fn a_write_without_the_extension_fails_loudly_rather_than_untracked() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    a.exec("INSERT INTO t (id) VALUES (1)");
    drop(a);
    let plain = Connection::open(dir.join("a.db")).unwrap();
    for sql in ["INSERT INTO t (id) VALUES (2)", "UPDATE t SET x = 1", "DELETE FROM t"] {
        let message = plain.execute_batch(sql).unwrap_err().to_string();
        assert!(message.contains("no such"), "{sql}: {message}");
    }
    let count: i64 = plain.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1, "reading works without it");
}

#[test]
fn limits_of_the_connection_are_respected_with_an_error() {
    let [a, b] = sites(T);
    a.conn.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 10).unwrap();
    some_work(&a);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
    b.exec("INSERT INTO t VALUES (60, zeroblob(20000), NULL)");
    a.conn.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 5000).unwrap();
    let _ = a.try_apply(&b.changeset());
    a.conn.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 1_000_000_000).unwrap();
    pull(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_interrupted_statement_leaves_a_sound_replica() {
    let [a, b] = sites(T);
    let handle = a.conn.get_interrupt_handle();
    let stopper = std::thread::spawn(move || {
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            handle.interrupt();
        }
    });
    let mut interrupted = 0;
    for i in 0..40 {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t (x) SELECT {i} FROM n"
        );
        interrupted += a.try_exec(&sql).is_err() as usize;
        let _ = a.try_values_with("SELECT crsql_changeset(), crsql_digest()", &[]);
    }
    stopper.join().unwrap();
    assert!(interrupted <= 40);
    assert_eq!(a.doctor(), "[]");
    assert_eq!(a.int("SELECT count(*) FROM t") * 2, a.int("SELECT count(*) FROM crsql_changes"));
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}
