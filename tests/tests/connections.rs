//! Several connections and processes on one file, and processes that die.

use crsql_tests::process::SiteProcess;
use crsql_tests::{NO_ROWS, Rng, Site, TempDir, assert_converged, pull, site, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t";
const PROGRAM: &str = env!("CARGO_BIN_EXE_site");

fn file_site(dir: &TempDir, schema: &str, wal: bool) -> Site {
    let a = Site::open(dir.join("a.db"));
    if wal {
        a.exec("PRAGMA journal_mode = wal");
    }
    a.exec(schema);
    a
}

#[test]
fn the_site_id_belongs_to_the_file() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, false);
    let other = a.reopen();
    assert_eq!(a.site_id(), other.site_id());
    assert_eq!(a.site_id().len(), 16);
    assert_ne!(a.site_id(), Site::memory().site_id());
    let id = a.site_id();
    drop((a, other));
    assert_eq!(Site::open(dir.join("a.db")).site_id(), id);
}

#[test]
fn a_transaction_that_changes_nothing_does_not_hide_what_others_wrote_before_it() {
    for wal in [false, true] {
        let dir = TempDir::new();
        let a = file_site(&dir, T, wal);
        let b = a.reopen();
        a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
        for i in 2..6 {
            b.exec(&format!("INSERT INTO t VALUES ({i}, 'x', 'y'); DELETE FROM t WHERE id = {}", 100 + i));
            // Joins, finds that nothing is different, and commits.
            a.exec("BEGIN IMMEDIATE; UPDATE t SET x = x; COMMIT");
            a.exec(&format!("UPDATE t SET y = {i} WHERE id = 1"));
            assert_eq!(a.db_version(), b.db_version());
        }
        b.exec("DELETE FROM t WHERE id = 2");
        a.exec("BEGIN IMMEDIATE; UPDATE t SET x = x; COMMIT");
        a.exec("INSERT INTO t VALUES (2, 'again', 'y')");
        assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes WHERE pk = crsql_pack_columns(2)"), ["3"]);
        assert_eq!(a.doctor(), "[]");
    }
}

#[test]
fn connections_that_write_in_turn_share_one_sequence_of_versions() {
    for wal in [false, true] {
        let dir = TempDir::new();
        let a = file_site(&dir, T, wal);
        let b = a.reopen();
        for i in 0..20 {
            let writer = if i % 3 == 0 { &a } else { &b };
            writer.exec(&format!("INSERT INTO t VALUES ({i}, 'x', 'y')"));
            assert_eq!((a.db_version(), b.db_version()), (i + 1, i + 1));
        }
        assert_eq!(
            b.rows("SELECT max(site_version), count(DISTINCT site_version), count(*) FROM crsql_changes"),
            ["20|20|40"]
        );
        assert_eq!(a.digest(), b.digest());
        let peer = site(T);
        sync(&b, &peer);
        assert_converged(&[&a, &b, &peer]);
    }
}

#[test]
fn an_update_through_one_connection_builds_on_the_clocks_another_wrote() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let b = a.reopen();
    a.exec("INSERT INTO t VALUES (1, 0, 0)");
    for i in 1..=10 {
        let writer = if i % 2 == 0 { &a } else { &b };
        writer.exec(&format!("UPDATE t SET x = {i}"));
        assert_eq!(
            a.rows("SELECT val, col_version FROM crsql_changes WHERE cid = 'x'"),
            [format!("{i}|{}", i + 1)]
        );
    }
}

#[test]
fn a_connection_sees_its_snapshot_until_its_transaction_ends() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let b = a.reopen();
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    b.exec("BEGIN");
    assert_eq!(b.int("SELECT count(*) FROM crsql_changes"), 2);
    a.exec("INSERT INTO t VALUES (2, 'c', 'd'); UPDATE t SET x = 'z' WHERE id = 1");
    assert_eq!(b.rows("SELECT count(*), crsql_db_version() FROM crsql_changes"), ["2|1"]);
    assert_eq!(b.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'a'"]);
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT count(*), crsql_db_version() FROM crsql_changes"), ["4|3"]);
}

#[test]
fn a_table_made_replicated_by_another_connection_is_seen_at_the_next_statement() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let b = a.reopen();
    b.rows("SELECT * FROM crsql_changes");
    b.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    a.exec("CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, v); CRR u");
    b.exec("INSERT INTO u VALUES (1, 'tracked')");
    assert_eq!(b.rows("SELECT [table], val FROM crsql_changes WHERE [table] = 'u'"), ["'u'|'tracked'"]);
    assert_eq!(a.rows("SELECT [table], val FROM crsql_changes WHERE [table] = 'u'"), ["'u'|'tracked'"]);
}

#[test]
fn a_column_added_by_another_connection_is_tracked_at_the_next_statement() {
    for alter in [
        "SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z; SELECT crsql_commit_alter('t')",
        "ALTER TABLE t ADD COLUMN z",
    ] {
        let dir = TempDir::new();
        let a = file_site(&dir, T, true);
        let b = a.reopen();
        b.exec("INSERT INTO t VALUES (1, 'x', 'y')");
        b.rows("SELECT * FROM crsql_changes");
        a.exec(alter);
        b.exec("INSERT INTO t (id, x, y, z) VALUES (2, 'x', 'y', 'z'); UPDATE t SET z = 'zz' WHERE id = 1");
        assert_eq!(
            b.rows("SELECT val FROM crsql_changes WHERE cid = 'z' ORDER BY val"),
            ["'z'", "'zz'"],
            "{alter}"
        );
    }
}

#[test]
fn a_table_dropped_or_renamed_by_another_connection_is_gone_at_the_next_statement() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    a.exec("CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, v); CRR u");
    let b = a.reopen();
    b.exec("INSERT INTO u VALUES (1, 'x'); INSERT INTO t VALUES (1, 'x', 'y')");
    a.exec("DROP TABLE u");
    b.exec("UPDATE t SET x = 'still tracked'");
    assert_eq!(b.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'still tracked'"]);
}

#[test]
fn a_merge_on_one_connection_is_seen_by_the_next_statement_of_another() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let b = a.reopen();
    let peer = site(T);
    b.exec("INSERT INTO t VALUES (1, 'mine', 'y')");
    sync(&b, &peer);
    peer.exec("UPDATE t SET x = 'theirs'; UPDATE t SET x = 'theirs again'");
    pull(&a, &peer);
    b.exec("UPDATE t SET x = 'mine again'");
    pull(&peer, &b);
    assert_eq!(
        peer.rows("SELECT x FROM t"),
        ["'mine again'"],
        "the write dominates what the other connection merged"
    );
    assert_converged(&[&a, &b, &peer]);
}

#[test]
fn two_processes_that_write_in_turn_share_one_sequence_of_versions() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let mut other = SiteProcess::start(PROGRAM, a.path());
    for i in 0..30 {
        let sql = format!("INSERT INTO t VALUES ({i}, 'x', 'y')");
        if i % 2 == 0 {
            a.exec(&sql);
        } else {
            other.exec(&sql);
        }
        assert_eq!(other.exec("SELECT crsql_db_version()"), (i + 1).to_string());
    }
    other.exec("UPDATE t SET x = 'other'");
    a.exec("UPDATE t SET x = 'a' WHERE id = 3");
    assert_eq!(
        a.rows("SELECT count(DISTINCT site_version), max(site_version) FROM crsql_changes"),
        ["32|32"]
    );
    assert_eq!(other.exec("SELECT crsql_digest()"), format!("'{}'", a.digest()));
    other.finish();
}

#[test]
fn processes_that_write_at_the_same_time_never_share_a_version() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let path = a.path().to_path_buf();
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut process = SiteProcess::start(PROGRAM, &path);
                for i in 0..60 {
                    let id = writer * 1000 + i;
                    process.exec("BEGIN IMMEDIATE");
                    process.exec(&format!("INSERT INTO t VALUES ({id}, {writer}, 0)"));
                    process.exec(&format!("UPDATE t SET y = y + 1 WHERE id % 1000 = {i}"));
                    process.exec("COMMIT");
                }
                process.finish();
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(a.int("SELECT count(*) FROM t"), 180);
    assert_eq!(a.db_version(), 180);
    assert_eq!(a.int("SELECT max(site_version) FROM crsql_changes"), 180);
    let duplicates = "SELECT site_version, seq FROM crsql_changes GROUP BY 1, 2 HAVING count(*) > 1";
    assert_eq!(a.rows(duplicates), NO_ROWS, "no two changes share a name");
    let peer = site(T);
    pull(&peer, &a);
    assert_converged(&[&a, &peer]);
}

#[test]
fn a_process_killed_in_a_transaction_leaves_the_committed_prefix() {
    for wal in [false, true] {
        let dir = TempDir::new();
        drop(file_site(&dir, T, wal));
        let mut child = SiteProcess::start(PROGRAM, &dir.join("a.db"));
        child.exec("INSERT INTO t VALUES (1, 'committed', 'y')");
        child.exec("BEGIN");
        child.exec("UPDATE t SET x = 'lost'");
        child.exec("INSERT INTO t VALUES (2, 'lost', 'lost')");
        child.exec("SELECT count(*) FROM crsql_changes");
        child.kill();

        let a = Site::open(dir.join("a.db"));
        assert_eq!(a.rows("SELECT * FROM t"), ["1|'committed'|'y'"]);
        assert_eq!(a.db_version(), 1);
        assert_eq!(a.doctor(), "[]");
        a.exec("INSERT INTO t VALUES (3, 'after', 'y')");
        assert_eq!(a.rows("SELECT DISTINCT site_version FROM crsql_changes ORDER BY 1"), ["1", "2"]);
        let peer = site(T);
        pull(&peer, &a);
        assert_converged(&[&a, &peer]);
    }
}

#[test]
fn processes_killed_at_random_moments_never_break_the_clocks() {
    let dir = TempDir::new();
    drop(file_site(&dir, T, true));
    let peer = site(T);
    let mut rng = Rng::new(7);
    for round in 0..15 {
        let mut child = SiteProcess::start(PROGRAM, &dir.join("a.db"));
        for _ in 0..rng.below(12) {
            let id = rng.below(6);
            let sql = match rng.below(6) {
                0 => "BEGIN IMMEDIATE".to_string(),
                1 => "COMMIT".to_string(),
                2 => format!("DELETE FROM t WHERE id = {id}"),
                3 => format!("REPLACE INTO t VALUES ({id}, {round}, 'replaced')"),
                4 => format!("UPDATE t SET x = 'round {round}' WHERE id <> {id}"),
                _ => format!("INSERT OR IGNORE INTO t VALUES ({id}, {round}, 'y')"),
            };
            let _ = child.try_exec(&sql);
        }
        child.kill();
        let a = Site::open(dir.join("a.db"));
        assert_eq!(a.doctor(), "[]", "round {round}");
        pull(&peer, &a);
        if rng.one_in(2) {
            peer.exec(&format!("UPDATE t SET y = 'peer {round}'"));
            pull(&a, &peer);
        }
        assert_converged(&[&a, &peer]);
    }
}

#[test]
fn a_connection_whose_only_write_did_not_raise_a_max_column_can_close() {
    let a = site(
        r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n);
        SELECT crsql_as_crr('t', '{"columns":{"n":"max"}}'); INSERT INTO t VALUES (1, 5)"#,
    );
    let dir = TempDir::new();
    let path = dir.join("a.db");
    a.exec(&format!("VACUUM INTO '{}'", path.display()));
    let b = Site::open(&path);
    b.exec("BEGIN; UPDATE t SET n = 3");
    if let Err((_, error)) = b.conn.close() {
        panic!("sqlite3_close answered: {error}");
    }
    let c = Site::open(&path);
    c.exec("UPDATE t SET n = 6");
    assert_eq!(c.int("SELECT n FROM t"), 6);
}

#[test]
fn closing_a_connection_just_works() {
    let a = Site::memory();
    a.exec(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'); UPDATE t SET x = 'z'; SELECT * FROM crsql_changes");
    let changeset = a.changeset();
    a.apply(&changeset);
    if let Err((_, error)) = a.conn.close() {
        panic!("sqlite3_close answered: {error}");
    }
}

#[test]
fn finalize_is_a_no_op() {
    let a = site(T);
    assert_eq!(a.text("SELECT crsql_finalize()"), "finalized");
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
    assert_eq!(a.text("SELECT crsql_finalize()"), "finalized");
}

#[test]
fn registering_twice_is_harmless() {
    let a = site(T);
    crsql_tests::site::load_extension(&a.conn).unwrap();
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
    assert_eq!(a.db_version(), 1);
}

#[test]
fn waiting_ends_when_another_connection_applies_what_is_waited_for() {
    let dir = TempDir::new();
    let a = file_site(&dir, T, true);
    let peer = site(T);
    peer.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let (token, changeset) = (peer.text("SELECT crsql_token()"), peer.changeset());
    let path = a.path().to_path_buf();
    let applier = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        Site::open(path).apply(&changeset);
    });
    let started = std::time::Instant::now();
    assert_eq!(a.value_with("SELECT crsql_wait_for(?1, 10000)", &[&token]).integer(), 1);
    let waited = started.elapsed();
    assert!(waited.as_millis() >= 100 && waited.as_secs() < 8, "{waited:?}");
    applier.join().unwrap();
    assert_eq!(a.rows("SELECT x FROM t"), ["'x'"]);
}

#[test]
fn what_another_connection_parked_is_taken_by_the_connection_that_adds_the_column() {
    let alters: [&str; 3] = [
        "SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z; SELECT crsql_commit_alter('t')",
        "ALTER TABLE t ADD COLUMN z; INSERT INTO t (id) VALUES (50)",
        "BEGIN; ALTER TABLE t ADD COLUMN z; INSERT INTO t (id) VALUES (50); COMMIT",
    ];
    for alter in alters {
        let new = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, z); CRR t");
        new.exec("INSERT INTO t VALUES (1, 'x', 'z')");
        let dir = TempDir::new();
        let a = Site::open(dir.join("a.db"));
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t; INSERT INTO t VALUES (9, 'own')");
        let b = a.reopen();
        // Whom it knows, it knows from before the others came.
        a.rows("SELECT * FROM crsql_peers");
        a.clocks();
        pull(&b, &new);
        a.exec(alter);
        assert_eq!(a.rows("SELECT x, z FROM t WHERE id = 1"), ["'x'|'z'"], "{alter}");
        pull(&new, &a);
        assert_converged(&[&a, &b, &new]);
    }
}

#[test]
fn a_row_that_another_connection_deleted_is_born_again_by_one_that_looked_before() {
    let schema = "CREATE TABLE k (id TEXT PRIMARY KEY NOT NULL, v); CRR k; CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t";
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(schema);
    let b = a.reopen();
    a.exec("INSERT INTO k VALUES ('x', 1), ('y', 2)");
    b.exec("DELETE FROM k WHERE id = 'x'");
    // A transaction that has no reason to look for tombstones, and its commit.
    a.exec("INSERT INTO t VALUES (1, 1)");
    a.exec("INSERT INTO k VALUES ('x', 'again')");
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes WHERE pk = crsql_pack_columns('x')"), ["3"]);
    assert_eq!(a.doctor(), "[]");
    let c = site(schema);
    pull(&c, &a);
    assert_converged(&[&a, &c]);
}
