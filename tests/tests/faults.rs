//! What fails in the middle leaves the committed prefix and a working replica: a full disk, a locked database,
//! a schema that changes under a statement.

use crsql_tests::process::SiteProcess;
use crsql_tests::{NO_ROWS, Rng, Site, TempDir, assert_converged, pull, rng, site, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t;
    CREATE TABLE k (name TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v); CRR k";

/// Panics unless the replica is sound, tracks, and reaches a peer.
fn assert_sound(a: &Site) {
    assert_eq!(a.doctor(), "[]");
    let peer = site(T);
    pull(&peer, a);
    assert_converged(&[a, &peer]);
}

#[test]
fn a_full_disk_leaves_the_committed_prefix() {
    for seed in rng::seeds(12) {
        let mut rng = Rng::new(seed);
        let dir = TempDir::new();
        let a = Site::open(dir.join("a.db"));
        if rng.one_in(2) {
            a.exec("PRAGMA journal_mode = wal");
        }
        a.exec(T);
        a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO t SELECT i, i, i FROM n");
        let source = site(T);
        source.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i + 1000, hex(zeroblob(i % 100)), i FROM n");
        let changeset = source.changeset();
        let pages = a.int("PRAGMA page_count") + rng.below(40) as i64;
        a.exec(&format!("PRAGMA max_page_count = {pages}"));
        let before = (a.clocks(), a.digest(), a.db_version());
        let mut failures = 0;
        for sql in [
            "INSERT INTO t SELECT id + 5000, randomblob(4000), 'y' FROM t",
            "UPDATE t SET x = randomblob(9000)",
            "BEGIN; INSERT INTO t SELECT id + 9000, randomblob(3000), 'y' FROM t; COMMIT",
        ] {
            if a.try_exec(sql).is_err() {
                failures += 1;
                if !a.conn.is_autocommit() {
                    a.exec("ROLLBACK");
                }
                assert_eq!((a.clocks(), a.digest(), a.db_version()), before, "seed {seed}: {sql}");
            }
        }
        assert_eq!(failures, 3, "seed {seed}: nothing fits");
        if a.try_apply(&changeset).is_err() {
            assert_eq!((a.clocks(), a.digest(), a.db_version()), before, "seed {seed}");
        }
        a.exec("PRAGMA max_page_count = 1000000; UPDATE t SET x = 'room again' WHERE id = 1");
        pull(&a, &source);
        assert_eq!(a.int("SELECT count(*) FROM t"), 3050, "seed {seed}");
        assert_sound(&a);
    }
}

#[test]
fn a_locked_database_is_an_error_and_later_a_success() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let b = a.reopen();
    let source = site(T);
    source.exec("INSERT INTO t VALUES (2, 'from afar', 'y')");
    for s in [&a, &b] {
        s.conn.busy_timeout(std::time::Duration::ZERO).unwrap();
    }
    b.exec("BEGIN IMMEDIATE; UPDATE t SET y = 'held'");
    assert!(a.error("UPDATE t SET x = 'refused'").contains("locked"));
    assert!(a.try_apply(&source.changeset()).unwrap_err().contains("locked"));
    assert!(a.error("SELECT crsql_new_site()").contains("locked"));
    assert!(a.try_merge(&source.changes()).is_err());
    assert_eq!(a.rows("SELECT x, y FROM t"), ["'x'|'y'"]);
    b.exec("COMMIT");
    a.exec("UPDATE t SET x = 'accepted'");
    pull(&a, &source);
    assert_eq!(b.rows("SELECT x FROM t ORDER BY id"), ["'accepted'", "'from afar'"]);
    assert_sound(&a);
}

#[test]
fn a_reader_that_becomes_a_writer_too_late_is_told_so_and_nothing_is_recorded() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec("PRAGMA journal_mode = wal");
    a.exec(T);
    let b = a.reopen();
    a.exec("BEGIN");
    a.rows("SELECT * FROM crsql_changes");
    b.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    assert!(a.error("INSERT INTO t VALUES (2, 'too late', 'y')").contains("locked"));
    a.exec("ROLLBACK; INSERT INTO t VALUES (3, 'fresh', 'y')");
    assert_eq!(
        a.rows("SELECT DISTINCT db_version, site_version FROM crsql_changes ORDER BY 1"),
        ["1|1", "2|2"]
    );
    assert_sound(&a);
}

#[test]
fn a_table_dropped_and_made_again_between_two_statements_of_a_prepared_writer() {
    let a = site(T);
    let mut insert = a.conn.prepare("INSERT INTO t (id, x) VALUES (?1, 'x')").unwrap();
    insert.execute([1]).unwrap();
    a.exec("DROP TABLE t");
    assert!(insert.execute([2]).is_err());
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    insert.execute([3]).unwrap();
    drop(insert);
    assert_eq!(a.rows("SELECT pk FROM crsql_changes WHERE pk = x'010903' LIMIT 1"), ["x'010903'"]);
    assert_eq!(a.doctor(), "[]");
}

#[test]
fn a_statement_that_runs_out_of_depth_leaves_nothing() {
    let [a, b] = crsql_tests::sites(T);
    a.exec("CREATE TRIGGER loop AFTER UPDATE ON t WHEN NEW.y < 5000 BEGIN UPDATE t SET y = NEW.y + 1 WHERE id = NEW.id; END");
    a.exec("INSERT INTO t VALUES (1, 'x', 0); PRAGMA recursive_triggers = on");
    let before = a.clocks();
    assert!(a.error("UPDATE t SET y = 1").contains("too many levels"));
    assert_eq!(a.clocks(), before);
    a.exec("DROP TRIGGER loop; UPDATE t SET y = 7");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_error_in_the_middle_of_an_as_crr_leaves_no_trace() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec("CREATE TABLE big (id INTEGER PRIMARY KEY NOT NULL, x TEXT)");
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO big SELECT i * 7919 % 1000003, 'x' FROM n");
    let pages = a.int("PRAGMA page_count");
    a.exec(&format!("PRAGMA max_page_count = {pages}"));
    let _ = a.error("SELECT crsql_as_crr('big')");
    a.exec("PRAGMA max_page_count = 1000000");
    assert_eq!(a.rows("SELECT * FROM crsql_changes"), NO_ROWS);
    assert_eq!(a.rows("SELECT name FROM sqlite_schema WHERE type = 'trigger'"), NO_ROWS);
    a.exec("CRR big");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 5000);
}

#[test]
fn a_process_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    /// After so many a fresh file is taken, because each round looks at all of it.
    const ROUNDS_OF_A_FILE: u64 = 25;
    let dir = TempDir::new();
    let rounds = rng::number("CRSQL_KILLS").unwrap_or(12);
    let (mut rng, mut acknowledged, mut next) = (Rng::new(9), 0, 1);
    let mut path = dir.join("killed.db");
    for round in 0..rounds {
        if round % ROUNDS_OF_A_FILE == 0 {
            path = dir.join(&format!("killed{round}.db"));
            Site::open(&path).exec("PRAGMA journal_mode = wal").exec(T);
            (acknowledged, next) = (0, 1);
        }
        let mut process = SiteProcess::start(env!("CARGO_BIN_EXE_site"), &path);
        for _ in 0..rng.below(6) {
            process.exec(&format!("INSERT INTO t VALUES ({next}, 'acknowledged', randomblob(600))"));
            (acknowledged, next) = (acknowledged + 1, next + 1);
        }
        // Killed somewhere in these: each is there as a whole or not at all.
        process.send(&format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199) INSERT INTO t SELECT {next} + i, 'bulk', randomblob(300) FROM n"));
        process.send("UPDATE t SET y = 'killed' WHERE id % 3 = 0");
        std::thread::sleep(std::time::Duration::from_micros(rng.below(9000) as u64));
        process.kill();
        let a = Site::open(&path);
        assert_eq!(a.rows("PRAGMA integrity_check"), ["'ok'"], "round {round}");
        let bulk = a.int(&format!("SELECT count(*) FROM t WHERE id >= {next}"));
        assert!(bulk == 0 || bulk == 200, "round {round}: a part of a statement: {bulk} rows");
        assert_eq!(a.int("SELECT count(*) FROM t WHERE x = 'acknowledged'"), acknowledged, "round {round}");
        next += bulk;
        assert_sound(&a);
    }
}
