//! `crsql_doctor`: silent about sound databases, and precise about the others.
#![cfg(feature = "static")]

mod support;

use rusqlite::Connection;
use support::text;

fn open() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    crsql::register(&db).unwrap();
    db
}

fn doctor(db: &Connection) -> String {
    text(db, "SELECT crsql_doctor()")
}

fn populated() -> Connection {
    let db = open();
    db.execute_batch(
        "CREATE TABLE n (id INTEGER PRIMARY KEY, a, b); SELECT crsql_as_crr('n');
         CREATE TABLE r (k TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, a, b); SELECT crsql_as_crr('r');
         CREATE TABLE p (k TEXT NOT NULL, l NOT NULL, a, PRIMARY KEY (k, l)) WITHOUT ROWID; SELECT crsql_as_crr('p');
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO n SELECT i, i, i FROM n;
         INSERT INTO r SELECT 'K' || id, a, b FROM n; INSERT INTO p SELECT 'x', a + 0.0, b FROM n;
         DELETE FROM n WHERE id % 10 = 3; DELETE FROM r WHERE a % 10 = 3; DELETE FROM p WHERE l % 10 = 3;
         UPDATE n SET a = 0 WHERE id > 400; UPDATE r SET a = 0 WHERE a > 400; UPDATE p SET a = 0 WHERE l > 400;
         INSERT INTO r VALUES ('k3', 'back', 1); REPLACE INTO n VALUES (1, 2, 3);",
    )
    .unwrap();
    db
}

/// Writes that nobody captures.
fn behind_its_back(db: &Connection, sql: &str) {
    use rusqlite::config::DbConfig;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
    db.execute_batch(sql).unwrap();
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true).unwrap();
}

#[test]
fn a_sound_database_has_no_problems() {
    let db = open();
    assert_eq!(doctor(&db), "[]", "nothing replicates yet");
    let db = populated();
    assert_eq!(doctor(&db), "[]");
    db.execute_batch("BEGIN; INSERT INTO n VALUES (-1, 2, 3); DELETE FROM r WHERE a > 450; INSERT INTO p VALUES ('y', 1, 1)").unwrap();
    assert_eq!(doctor(&db), "[]", "inside a transaction");
    db.execute_batch("SAVEPOINT s; DELETE FROM n; ROLLBACK TO s").unwrap();
    assert_eq!(doctor(&db), "[]");
    db.execute_batch("COMMIT; ALTER TABLE r ADD COLUMN c DEFAULT 5; ALTER TABLE n RENAME TO m; ALTER TABLE p RENAME COLUMN a TO z")
        .unwrap();
    assert_eq!(doctor(&db), "[]", "after plain alters");
    db.execute_batch("UPDATE r SET c = 6; UPDATE m SET a = 7; UPDATE p SET z = 8; DROP TABLE m").unwrap();
    assert_eq!(doctor(&db), "[]");
    assert!(text(&db, "SELECT crsql_doctor(1)").contains("takes no arguments, not 1"));
}

#[test]
fn rows_that_were_written_behind_its_back_are_found() {
    for (sql, problem) in [
        (
            "INSERT INTO n VALUES (1000, 1, 1)",
            r#"{"problem":"row without clock","table":"n","detail":"\"id\" 1000"}"#,
        ),
        ("DELETE FROM n WHERE id = 5", r#"{"problem":"clock without row","table":"n","detail":"\"id\" 5"}"#),
        (
            "DELETE FROM n WHERE id BETWEEN 21 AND 22",
            r#"{"problem":"clock without row","table":"n","detail":"\"id\" 21 to 22"}"#,
        ),
        (
            "INSERT INTO n VALUES (13, 1, 1)",
            r#"{"problem":"row of a tombstone","table":"n","detail":"\"id\" 13"}"#,
        ),
        (
            "DELETE FROM r WHERE k = 'k1'",
            r#"{"problem":"clock without row","table":"r","detail":"_rowid_ 1"}"#,
        ),
        (
            "DELETE FROM p WHERE l = 1",
            r#"{"problem":"clock without row","table":"p","detail":"key 020b01780901"}"#,
        ),
    ] {
        let db = populated();
        behind_its_back(&db, sql);
        assert_eq!(doctor(&db), format!("[{problem}]"), "{sql}");
    }
    let db = populated();
    behind_its_back(
        &db,
        "INSERT INTO r VALUES ('K13', 1, 1); INSERT INTO p VALUES ('zz', 1, 1); DELETE FROM n WHERE id % 2 = 0",
    );
    let found = doctor(&db);
    for problem in [
        "row without clock\",\"table\":\"r",
        "row of a tombstone\",\"table\":\"r",
        "row without clock\",\"table\":\"p",
        " more\"",
    ] {
        assert!(found.contains(problem), "{problem}: {found}");
    }
    assert!(found.len() < 4000);
}

#[test]
fn damage_to_its_own_tables_is_found_and_never_a_panic() {
    let fold = "SELECT crsql_gc();";
    for (sql, problem) in [
        ("UPDATE __crsql_segment SET data = x'02' WHERE table_id = 1", "damaged segment"),
        ("UPDATE __crsql_segment SET data = substr(data, 1, length(data) - 1)", "damaged segment"),
        (
            "UPDATE __crsql_segment SET start = 'text' WHERE table_id = 1 AND start = (SELECT min(start) FROM __crsql_segment WHERE table_id = 1)",
            "damaged segment",
        ),
        (
            "UPDATE __crsql_segment SET start = start + 1 WHERE table_id = 1 AND start = (SELECT min(start) FROM __crsql_segment WHERE table_id = 1)",
            "unsorted segment",
        ),
        ("UPDATE __crsql_segment SET max_db_version = 0", "segment marked too old"),
        (
            "INSERT INTO __crsql_segment SELECT table_id, start + 1, max_db_version, data FROM __crsql_segment WHERE table_id = 1",
            "overlapping segments",
        ),
        ("INSERT INTO __crsql_segment VALUES (99, 1, 1, x'01')", "segments of no table"),
        ("INSERT INTO __crsql_log VALUES (999, x'07')", "damaged log"),
        ("UPDATE __crsql_state SET db_version = 1", "unsound clock"),
        ("UPDATE __crsql_state SET site_version = 1", "unsound clock"),
        ("DELETE FROM __crsql_segment WHERE table_id = 2", "row without clock"),
        ("UPDATE __crsql_table SET has_tombstones = 0", "unmarked tombstones"),
        ("DELETE FROM __crsql_canary", "canary gone"),
        ("DROP TRIGGER __crsql_1_update_0", "missing trigger"),
        ("DROP TRIGGER __crsql_2_insert_guard", "missing trigger"),
        ("DROP TRIGGER __crsql_1_insert", "no capture triggers"),
        (
            "DROP TRIGGER __crsql_1_delete; CREATE TRIGGER __crsql_1_delete AFTER DELETE ON n BEGIN SELECT 1; END",
            "foreign trigger",
        ),
    ] {
        let db = populated();
        db.execute_batch(fold).unwrap();
        assert_eq!(doctor(&db), "[]");
        db.execute_batch(sql).unwrap();
        let other = open_same(&db);
        let found = doctor(&other);
        assert!(found.contains(&format!("\"problem\":\"{problem}\"")), "{sql}: {found}");
    }
}

/// A connection that has cached nothing, on a copy of the database.
fn open_same(db: &Connection) -> Connection {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COPIES: AtomicU32 = AtomicU32::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("crsql-doctor-{}-{number}.db", std::process::id()));
    let _ = std::fs::remove_file(&path);
    db.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    let copy = Connection::open(&path).unwrap();
    crsql::register(&copy).unwrap();
    // The open file stays readable without its name; where it can't be removed, the system cleans up.
    let _ = std::fs::remove_file(&path);
    copy.execute_batch("PRAGMA journal_mode = memory").unwrap();
    copy
}

#[test]
fn random_bytes_in_segments_are_reported_and_never_a_panic() {
    let mut random: u64 = 3;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        random >> 33
    };
    let db = populated();
    db.execute_batch("SELECT crsql_gc()").unwrap();
    for _ in 0..60 {
        let copy = open_same(&db);
        let table = 1 + next() % 3;
        let (at, byte) = (1 + next() % 60, next() % 256);
        copy.execute_batch(&format!(
            "UPDATE __crsql_segment SET data = substr(data, 1, {at}) || unhex(printf('%02x', {byte})) || substr(data, {at} + 2)
             WHERE table_id = {table}"
        ))
        .unwrap();
        let found = doctor(&copy);
        assert!(found.starts_with('[') && !found.contains("panicked"), "{found}");
    }
}

#[test]
fn disabled_triggers_are_told() {
    let db = populated();
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
    assert!(doctor(&db).contains("triggers are off"));
}
