//! Restored backups, cloned files, dumps and VACUUM.

use crsql_tests::{Site, TempDir, assert_converged, exchange_all, pull, site, sync};
use std::collections::HashSet;

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (name TEXT PRIMARY KEY NOT NULL, v); CRR k";

#[test]
fn a_restored_backup_never_reuses_a_version_it_forgot() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let peer = site(T);
    a.exec(T);
    a.exec("INSERT INTO t VALUES (1, 'one', 0)");
    drop(a);
    std::fs::copy(dir.join("a.db"), dir.join("backup.db")).unwrap();
    let a = Site::open(dir.join("a.db"));
    a.exec("INSERT INTO t VALUES (2, 'two', 0); INSERT INTO t VALUES (3, 'three', 0); UPDATE t SET x = 'x' WHERE id = 1");
    pull(&peer, &a);
    drop(a);

    let restored = Site::open(dir.join("backup.db"));
    pull(&restored, &peer);
    restored.exec("INSERT INTO t VALUES (4, 'four', 0)");
    let versions = "SELECT DISTINCT site_version FROM crsql_changes WHERE val = 'four'";
    assert_eq!(restored.rows(versions), ["5"], "versions 2 to 4 were its own before");
    pull(&peer, &restored);
    assert_converged(&[&restored, &peer]);
}

#[test]
fn a_restored_backup_catches_up_through_raw_changes_too() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let peer = site(T);
    a.exec(T);
    a.exec("INSERT INTO t VALUES (1, 'one', 0)");
    drop(a);
    std::fs::copy(dir.join("a.db"), dir.join("backup.db")).unwrap();
    let a = Site::open(dir.join("a.db"));
    a.exec("UPDATE t SET x = 'two'; INSERT INTO t (id) VALUES (2); DELETE FROM t WHERE id = 2");
    peer.merge(&a.changes());
    drop(a);
    let restored = Site::open(dir.join("backup.db"));
    restored.merge(&peer.changes());
    restored.exec("UPDATE t SET x = 'three'");
    peer.merge(&restored.changes());
    assert_eq!(peer.rows("SELECT id, x FROM t"), ["1|'three'"]);
    assert_converged(&[&restored, &peer]);
}

#[test]
fn a_cloned_file_gets_its_own_identity_by_crsql_new_site() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    a.exec("INSERT INTO t VALUES (1, 'before', 0); INSERT INTO k VALUES ('k', 1)");
    a.exec(&format!("VACUUM INTO '{}'", dir.join("clone.db").display()));
    let clone = Site::open(dir.join("clone.db"));
    let old = clone.site_id();
    assert_eq!(old, a.site_id());
    let new = clone.blob("SELECT crsql_new_site()");
    assert_eq!(new.len(), 16);
    assert_ne!(new, old);
    assert_eq!(clone.site_id(), new);
    assert_eq!(clone.digest(), a.digest(), "history keeps its authors");
    drop(clone);
    let clone = Site::open(dir.join("clone.db"));
    assert_eq!(clone.site_id(), new);

    a.exec("UPDATE t SET x = 'a'; UPDATE k SET v = 2");
    clone.exec("UPDATE t SET y = 'clone'; DELETE FROM k");
    sync(&a, &clone);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'a'|'clone'"]);
    assert_converged(&[&a, &clone]);
    assert_eq!(clone.int("SELECT min(site_version) FROM crsql_changes WHERE site_id = crsql_site_id()"), 1);
}

#[test]
fn a_site_goes_on_in_a_copy_of_another_database() {
    let dir = TempDir::new();
    let (a, b) = (Site::open(dir.join("a.db")), Site::open(dir.join("b.db")));
    a.exec(T);
    b.exec(T);
    a.exec("INSERT INTO t VALUES (1, 'of a', 0)");
    b.exec("INSERT INTO t VALUES (2, 'known', 0)");
    sync(&a, &b);
    b.exec("INSERT INTO t VALUES (3, 'not known', 0)");
    a.exec(&format!("VACUUM INTO '{}'", dir.join("copy.db").display()));
    let copy = Site::open(dir.join("copy.db"));
    copy.exec("SELECT crsql_db_version()");
    let id: String = b.site_id().iter().map(|byte| format!("{byte:02x}")).collect();
    copy.exec(&format!("SELECT crsql_new_site(x'{id}')"));
    assert_eq!(copy.site_id(), b.site_id());
    copy.merge(&b.changes());
    assert_converged(&[&copy, &b]);
    copy.exec("INSERT INTO t VALUES (4, 'later', 0)");
    let versions = copy
        .rows("SELECT DISTINCT site_version FROM crsql_changes WHERE site_id = crsql_site_id() ORDER BY 1");
    assert_eq!(versions, ["1", "2", "3"], "numbers go on where that site stopped");
    sync(&a, &copy);
    assert_converged(&[&a, &copy]);
    assert!(a.error("SELECT crsql_new_site(x'00')").contains("16 bytes"));
}

#[test]
fn a_new_site_can_be_made_inside_a_transaction_and_rolled_back() {
    let a = site(T);
    let old = a.site_id();
    a.exec("BEGIN; SELECT crsql_new_site(); ROLLBACK");
    assert_eq!(a.site_id(), old);
    a.exec("INSERT INTO t (id) VALUES (1)");
    assert_eq!(a.rows("SELECT DISTINCT site_id = crsql_site_id() FROM crsql_changes"), ["1"]);
}

#[test]
fn another_connection_sees_the_new_identity() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    let b = a.reopen();
    b.site_id();
    let new = a.blob("SELECT crsql_new_site()");
    b.exec("INSERT INTO t (id) VALUES (1)");
    assert_eq!(b.site_id(), new);
    assert_eq!(b.rows("SELECT DISTINCT site_id = crsql_site_id() FROM crsql_changes"), ["1"]);
}

#[test]
fn site_ids_are_random_uuids() {
    let ids: HashSet<Vec<u8>> = (0..50).map(|_| Site::memory().site_id()).collect();
    assert_eq!(ids.len(), 50);
    for id in ids {
        assert_eq!((id[6] >> 4, id[8] >> 6), (4, 0b10), "UUID version 4, variant 1");
    }
}

#[test]
fn vacuum_keeps_clocks_with_their_rows() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let peer = site(T);
    a.exec(T);
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO k SELECT 'key ' || i, i FROM n");
    a.exec("DELETE FROM k WHERE v % 3 = 0; UPDATE k SET v = -v WHERE v % 5 = 0");
    let before = (a.clocks(), a.digest());
    a.exec("VACUUM");
    assert_eq!((a.clocks(), a.digest()), before);
    a.exec("UPDATE k SET v = 0 WHERE v = 7; INSERT INTO k VALUES ('key 3', 'again')");
    a.exec(&format!("VACUUM INTO '{}'", dir.join("copy.db").display()));
    let copy = Site::open(dir.join("copy.db"));
    assert_eq!(copy.doctor(), "[]");
    pull(&peer, &copy);
    assert_converged(&[&a, &copy, &peer]);
}

#[test]
fn the_backup_api_copies_a_whole_replica() {
    let dir = TempDir::new();
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 0); INSERT INTO k VALUES ('k', 1); DELETE FROM k");
    let mut target = rusqlite::Connection::open(dir.join("copy.db")).unwrap();
    rusqlite::backup::Backup::new(&a.conn, &mut target)
        .unwrap()
        .run_to_completion(100, Default::default(), None)
        .unwrap();
    drop(target);
    let copy = Site::open(dir.join("copy.db"));
    assert_converged(&[&a, &copy]);
}

#[test]
fn a_dump_restored_into_a_fresh_file_keeps_clocks_with_their_rows_or_says_so() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    a.exec("INSERT INTO k VALUES ('a', 1), ('b', 2), ('c', 3), ('d', 4); DELETE FROM k WHERE name = 'a'; UPDATE k SET v = 9 WHERE name = 'c'");
    let path = a.path().to_path_buf();
    drop(a);
    let Ok(dump) = std::process::Command::new("sqlite3").arg(&path).arg(".dump").output() else {
        return eprintln!("skipped: no sqlite3 shell on this machine");
    };
    let script = String::from_utf8(dump.stdout).unwrap();
    let restored = rusqlite::Connection::open(dir.join("restored.db")).unwrap();
    restored.execute_batch(&script).unwrap();
    drop(restored);
    let (a, restored) = (Site::open(path), Site::open(dir.join("restored.db")));
    assert_eq!(restored.rows("SELECT * FROM k ORDER BY name"), ["'b'|2", "'c'|9", "'d'|4"]);
    restored.exec("UPDATE k SET v = 10 WHERE name = 'd'");
    let peer = site(T);
    pull(&peer, &restored);
    assert_eq!(peer.rows("SELECT * FROM k ORDER BY name"), ["'b'|2", "'c'|9", "'d'|10"]);
    assert_eq!(restored.doctor(), "[]");
    drop(a);
}

#[test]
fn three_generations_of_backups_end_equal() {
    let dir = TempDir::new();
    let peers: Vec<Site> = (0..2).map(|_| site(T)).collect();
    let mut current = dir.join("gen0.db");
    Site::open(&current).exec(T);
    for generation in 1..4 {
        let a = Site::open(&current);
        let backup = dir.join(&format!("gen{generation}.db"));
        a.exec(&format!("INSERT INTO t VALUES ({generation}, 'kept', 0)"));
        a.exec(&format!("VACUUM INTO '{}'", backup.display()));
        a.exec(&format!("UPDATE t SET x = 'lost by the restore {generation}', y = y + 1"));
        pull(&peers[generation % 2], &a);
        drop(a);
        current = backup;
    }
    let a = Site::open(&current);
    exchange_all(&[&a, &peers[0], &peers[1]]);
    a.exec("UPDATE t SET y = 'end'");
    exchange_all(&[&a, &peers[0], &peers[1]]);
    assert_converged(&[&a, &peers[0], &peers[1]]);
    assert_eq!(peers[0].rows("SELECT DISTINCT y FROM t"), ["'end'"]);
}
