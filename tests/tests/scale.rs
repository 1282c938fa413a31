//! The edges of size. What takes more than a few seconds is ignored by default:
//! `cargo test --release -p crsql-tests --test scale -- --ignored`.

use crsql_tests::{Site, TempDir, assert_converged, exchange_all, pull, site, sites, sync};
use std::fmt::Write;

#[test]
fn a_table_of_two_thousand_columns_replicates() {
    let mut ddl = "CREATE TABLE wide (id INTEGER PRIMARY KEY NOT NULL".to_string();
    for i in 1..2000 {
        write!(ddl, ", c{i} DEFAULT {i}").unwrap();
    }
    ddl.push_str("); SELECT crsql_as_crr('wide')");
    let [a, b] = sites(&ddl);
    a.exec("INSERT INTO wide (id, c1, c1999) VALUES (1, 'first', 'last'); INSERT INTO wide (id) VALUES (2)");
    a.exec("UPDATE wide SET c1000 = 'middle', c1999 = NULL WHERE id = 1");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes WHERE pk = x'010901'"), 1999);
    pull(&b, &a);
    assert_eq!(
        b.rows("SELECT c1, c1000, c1998, c1999 FROM wide ORDER BY id"),
        ["'first'|'middle'|1998|NULL", "1|1000|1998|1999"]
    );
    b.exec("UPDATE wide SET id = 3 WHERE id = 2; UPDATE wide SET c7 = 'b'");
    a.merge(&b.changes_where("site_id = crsql_site_id()"));
    pull(&b, &a);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_thousand_replicated_tables_work_together() {
    let schema: String = (0..1000)
        .map(|i| {
            format!("CREATE TABLE t{i} (id INTEGER PRIMARY KEY NOT NULL, v); SELECT crsql_as_crr('t{i}');")
        })
        .collect();
    let [a, b] = sites(&format!("BEGIN; {schema} COMMIT"));
    for i in (0..1000).step_by(7) {
        a.exec(&format!("INSERT INTO t{i} VALUES ({i}, 'a')"));
    }
    for i in (0..1000).step_by(11) {
        b.exec(&format!("INSERT INTO t{i} VALUES ({i}, 'b')"));
    }
    sync(&a, &b);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.clocks(), b.clocks());
    assert_eq!(a.int("SELECT count(DISTINCT [table]) FROM crsql_changes"), 221);
}

#[test]
fn cells_of_three_megabytes_replicate() {
    let [a, b] = sites("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x, y); CRR t");
    a.exec("INSERT INTO t VALUES ('big', randomblob(3000000), hex(zeroblob(1500000))), (hex(zeroblob(50000)), 'long key', zeroblob(3000000))");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT length(x), length(y) FROM t WHERE id = 'big'"), ["3000000|3000000"]);
    b.exec("UPDATE t SET y = y || 'x' WHERE id = 'big'");
    a.merge(&b.changes_where("cid = 'y'"));
    assert_converged(&[&a, &b]);
}

#[test]
fn thousands_of_sites_replicate() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    let b = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    a.exec("BEGIN");
    for i in 0..5000u32 {
        let mut id = [7u8; 16];
        id[..4].copy_from_slice(&i.to_be_bytes());
        a.run(
            "INSERT INTO crsql_changes ([table], pk, cid, val, col_version, db_version, site_id, cl, seq, site_version)
             VALUES ('t', crsql_pack_columns(?1), 'x', ?1, 1, 1, ?2, 1, 0, 1)",
            &[&i, &id.as_slice()],
        );
    }
    a.exec("COMMIT");
    a.exec("INSERT INTO t VALUES (-1, 'mine')");
    pull(&b, &a);
    assert_eq!(b.int("SELECT count(DISTINCT site_id) FROM crsql_changes"), 5001);
    assert_eq!(a.version_vector(), b.version_vector());
    let nothing = a.changeset_for(&b.version_vector());
    assert_eq!(b.apply(&nothing).applied, 0);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_transaction_of_fifty_thousand_rows_replicates() {
    for key in ["INTEGER", "TEXT", "BLOB"] {
        let [a, b] =
            sites(&format!("CREATE TABLE t (id {key} PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t"));
        let id = match key {
            "INTEGER" => "i",
            "TEXT" => "'key ' || (i * 7919 % 50021)",
            _ => "CAST(i * 104729 % 1000003 AS BLOB)",
        };
        a.exec(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) INSERT INTO t (id, x) SELECT {id}, i FROM n"
        ));
        pull(&b, &a);
        a.exec("UPDATE t SET x = x + 1 WHERE x % 3 = 0; DELETE FROM t WHERE x % 5 = 0");
        b.exec("UPDATE t SET y = 'b' WHERE x % 2 = 0");
        sync(&a, &b);
        assert_eq!(a.digest(), b.digest());
        assert_eq!(
            a.rows("SELECT count(*), sum(x), count(DISTINCT y) FROM t"),
            b.rows("SELECT count(*), sum(x), count(DISTINCT y) FROM t")
        );
        assert_eq!(a.doctor(), "[]");
    }
}

#[test]
fn many_small_transactions_replicate() {
    let [a, b, c] = sites("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x, y); CRR t");
    for i in 0..6000 {
        let s = [&a, &b, &c][i % 3];
        match i % 7 {
            0 => s.exec(&format!("DELETE FROM t WHERE id = 'k{}'", i % 50)),
            1 => s.exec(&format!("REPLACE INTO t VALUES ('k{}', {i}, 'r')", i % 60)),
            2 | 3 => s.exec(&format!("UPDATE t SET y = {i} WHERE id = 'k{}'", i % 70)),
            _ => s.exec(&format!("INSERT OR IGNORE INTO t VALUES ('k{}', {i}, 'i')", i % 80)),
        };
        if i % 997 == 0 {
            exchange_all(&[&a, &b, &c]);
        }
    }
    exchange_all(&[&a, &b, &c]);
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn the_children_of_twenty_thousand_parents_wait_and_come_back() {
    let [a, b] = sites(
        "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, v);
         CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, p INT REFERENCES p, v);
         CREATE INDEX of ON c (p);
         CRR p; SELECT crsql_as_crr('c', '{\"fk\":\"park\"}'); PRAGMA foreign_keys = off",
    );
    let timed = |what: &str, work: &dyn Fn()| {
        let start = std::time::Instant::now();
        work();
        println!("{what}: {:?}", start.elapsed());
    };
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)";
    let parents = format!("INSERT INTO p {numbers} SELECT i, i FROM n");
    a.exec(&parents).exec(&format!("INSERT INTO c {numbers} SELECT i, i, i FROM n"));
    timed("children that come with their parents", &|| drop(pull(&b, &a)));
    timed("parents deleted", &|| {
        b.exec("DELETE FROM p");
    });
    assert_eq!(b.int("SELECT count(*) FROM c"), 0);
    timed("parents whose deletes come", &|| drop(pull(&a, &b)));
    assert_eq!(a.int("SELECT count(DISTINCT pk) FROM crsql_conflicts"), 20_000);
    timed("changes of children that wait", &|| {
        b.exec("INSERT INTO c VALUES (20001, 1, 0)");
        pull(&a, &b);
    });
    timed("parents inserted again", &|| {
        a.exec(&parents);
    });
    assert_eq!(a.int("SELECT count(*) FROM c"), 20_001);
    timed("parents that come again", &|| drop(pull(&b, &a)));
    assert_converged(&[&a, &b]);
    assert_eq!(b.doctor(), "[]");
}

#[test]
#[ignore = "about a minute in a debug build"]
fn a_transaction_of_a_million_rows_replicates() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let b = Site::open(dir.join("b.db"));
    for s in [&a, &b] {
        s.exec("PRAGMA journal_mode = wal; PRAGMA synchronous = off; CREATE TABLE t (id BLOB PRIMARY KEY NOT NULL, x, y); CRR t");
    }
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) INSERT INTO t SELECT randomblob(16), i, 'name ' || i FROM n");
    pull(&b, &a);
    assert_eq!(b.int("SELECT count(*) FROM t"), 1_000_000);
    b.exec("UPDATE t SET x = -x; DELETE FROM t WHERE x % 2 = 0");
    pull(&a, &b);
    assert_eq!(a.rows("SELECT count(*), sum(x) FROM t"), b.rows("SELECT count(*), sum(x) FROM t"));
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.doctor(), "[]");
}

#[test]
#[ignore = "reads its own memory from /proc; run alone in a release build"]
fn memory_does_not_grow_with_the_content_of_a_transaction() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    let before = resident_kib();
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO t SELECT i, randomblob(5000) FROM n");
    a.exec("UPDATE t SET x = randomblob(5000)");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB for 1 GB of content");
    let mut statement = a.conn.prepare("SELECT length(val) FROM crsql_changes").unwrap();
    let mut rows = statement.query([]).unwrap();
    while rows.next().unwrap().is_some() {}
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB after reading 500 MB of changes");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("peak resident size");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}
