//! What a local write records: which cells, which clocks, which version.

use crsql_tests::{NO_ROWS, Site, assert_converged, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t";

/// The changes as `pk-less` facts: column, value, col_version, cl, seq.
fn facts(a: &Site) -> Vec<String> {
    a.rows("SELECT cid, val, col_version, cl, seq FROM crsql_changes ORDER BY db_version, seq")
}

#[test]
fn an_insert_records_every_column_in_order_defaults_and_nulls_included() {
    let a = site(T);
    a.exec("INSERT INTO t (id) VALUES (7)");
    assert_eq!(facts(&a), ["'x'|NULL|1|1|0", "'y'|'dy'|1|1|1"]);
    assert_eq!(
        a.rows("SELECT [table], pk, db_version, site_id = crsql_site_id(), site_version FROM crsql_changes LIMIT 1"),
        ["'t'|x'010907'|1|1|1"]
    );
}

#[test]
fn an_update_records_only_the_cells_that_changed() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.exec("UPDATE t SET x = 'a', y = 'c'");
    assert_eq!(facts(&a), ["'x'|'a'|1|1|0", "'y'|'c'|2|1|0"]);
}

#[test]
fn a_write_that_changes_nothing_makes_no_change_and_no_version() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'a', NULL), (2, 0.0, x'00')");
    let before = a.changes();
    a.exec("UPDATE t SET x = x; UPDATE t SET y = NULL WHERE id = 1; UPDATE t SET id = id; UPDATE t SET x = 'a' WHERE id = 1");
    a.exec("INSERT OR IGNORE INTO t VALUES (1, 'z', 'z'); INSERT INTO t VALUES (1, 'z', 'z') ON CONFLICT DO NOTHING");
    a.exec("DELETE FROM t WHERE id = 9");
    assert_eq!(a.changes(), before);
    assert_eq!(a.db_version(), 1);
}

#[test]
fn storage_class_and_bits_decide_whether_a_cell_changed() {
    let a = site(T);
    let mut expected_version = 1;
    a.exec("INSERT INTO t (id, x) VALUES (1, 1)");
    for value in ["1.0", "'1'", "x'31'", "0.0", "-0.0", "0", "NULL", "''", "x''", "'a'", "'A'", "9e999"] {
        a.exec(&format!("UPDATE t SET x = {value}"));
        expected_version += 1;
        assert_eq!(
            a.rows("SELECT val, col_version FROM crsql_changes WHERE cid = 'x'"),
            [format!("{value}|{expected_version}")]
        );
    }
}

#[test]
fn a_change_of_case_in_a_nocase_column_is_a_change() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x TEXT COLLATE NOCASE); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'a')");
    a.exec("UPDATE t SET x = 'A'");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT x FROM t"), ["'A'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn values_are_recorded_after_the_columns_affinity() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, i INT, r REAL, s TEXT, n NUMERIC, b BLOB); CRR t",
    );
    a.exec("INSERT INTO t VALUES (1, '5', 5, 5, '5.0', 5)");
    assert_eq!(
        a.rows("SELECT cid, val FROM crsql_changes ORDER BY seq"),
        ["'i'|5", "'r'|5.0", "'s'|'5'", "'n'|5", "'b'|5"]
    );
    let before = a.db_version();
    a.exec("UPDATE t SET i = '5', r = 5, s = 5, n = '5'");
    assert_eq!(a.db_version(), before, "the same values after affinity");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_delete_leaves_one_record_with_an_even_causal_length() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.exec("DELETE FROM t");
    assert_eq!(facts(&a), ["'-1'|NULL|2|2|0"]);
    assert_eq!(a.db_version(), 2);
}

#[test]
fn an_insert_over_a_tombstone_starts_a_new_incarnation_with_clocks_from_one() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b'); UPDATE t SET x = 'c'; UPDATE t SET x = 'd'; DELETE FROM t");
    a.exec("INSERT INTO t VALUES (1, 'e', 'f')");
    assert_eq!(facts(&a), ["'-1'|NULL|3|3|0", "'x'|'e'|1|3|1", "'y'|'f'|1|3|2"]);
}

#[test]
fn a_row_born_and_deleted_in_one_transaction_leaves_only_the_delete() {
    let [a, b] = sites(T);
    a.exec("BEGIN; INSERT INTO t VALUES (1, 'a', 'b'); DELETE FROM t; COMMIT");
    assert_eq!(facts(&a), ["'-1'|NULL|2|2|0"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn all_changes_of_one_transaction_share_a_version_and_have_distinct_dense_seqs() {
    let a = site(T);
    a.exec(
        "BEGIN; INSERT INTO t VALUES (1, 'a', 'b'); UPDATE t SET x = 'c' WHERE id = 1;
         INSERT INTO t VALUES (2, 'd', 'e'); UPDATE t SET y = 'f' WHERE id = 1; DELETE FROM t WHERE id = 2; COMMIT",
    );
    assert_eq!(a.rows("SELECT DISTINCT db_version, site_version FROM crsql_changes"), ["1|1"]);
    let count = a.int("SELECT count(*) FROM crsql_changes");
    assert_eq!(count, 3, "two cells of row 1 and the delete of row 2");
    assert_eq!(a.int("SELECT count(DISTINCT seq) FROM crsql_changes"), count);
    assert_eq!(a.rows("SELECT min(seq), max(seq) FROM crsql_changes"), ["0|2"]);
}

#[test]
fn a_cell_written_twice_in_a_transaction_carries_its_last_value() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    sync(&a, &b);
    a.exec("BEGIN; UPDATE t SET x = 'c'; UPDATE t SET x = 'd'; UPDATE t SET x = 'e'; COMMIT");
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'e'"]);
    assert!(a.int("SELECT col_version FROM crsql_changes WHERE cid = 'x'") >= 2);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn every_committed_transaction_gets_the_next_version() {
    let a = site(T);
    for i in 1..=20 {
        a.exec(&format!("INSERT INTO t VALUES ({i}, 'x', 'y')"));
        assert_eq!(a.db_version(), i);
    }
    assert_eq!(
        a.rows("SELECT max(site_version), count(DISTINCT site_version) FROM crsql_changes"),
        ["20|20"]
    );
}

#[test]
fn db_version_is_the_committed_one_inside_a_transaction_and_next_db_version_the_coming() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    a.exec("BEGIN; INSERT INTO t VALUES (2, 'x', 'y')");
    assert_eq!(a.rows("SELECT crsql_db_version(), crsql_next_db_version()"), ["1|2"]);
    assert_eq!(a.int("SELECT max(db_version) FROM crsql_changes"), 2);
    a.exec("COMMIT");
    assert_eq!(a.rows("SELECT crsql_db_version(), crsql_next_db_version()"), ["2|3"]);
}

#[test]
fn a_table_of_only_its_key_replicates_inserts_and_deletes() {
    let [a, b] = sites("CREATE TABLE tag (name TEXT PRIMARY KEY NOT NULL); CRR tag");
    a.exec("INSERT INTO tag VALUES ('red'), ('blue')");
    assert_eq!(facts(&a), ["'-1'|NULL|1|1|0", "'-1'|NULL|1|1|1"]);
    sync(&a, &b);
    b.exec("DELETE FROM tag WHERE name = 'red'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM tag"), ["'blue'"]);
    b.exec("INSERT INTO tag VALUES ('red')");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM tag ORDER BY 1"), ["'blue'", "'red'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn upserts_updates_from_and_returning_are_recorded() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.exec("INSERT INTO t VALUES (1, 'n', 'o') ON CONFLICT (id) DO UPDATE SET x = excluded.x");
    a.exec("UPDATE t SET y = v.z FROM (SELECT 1 AS id, 'from' AS z) AS v WHERE v.id = t.id");
    assert_eq!(a.rows("INSERT INTO t VALUES (2, 'p', 'q') RETURNING id, x"), ["2|'p'"]);
    assert_eq!(a.rows("UPDATE t SET x = 'r' WHERE id = 2 RETURNING x"), ["'r'"]);
    assert_eq!(a.rows("DELETE FROM t WHERE id = 2 RETURNING id"), ["2"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'n'|'from'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn truncate_without_where_is_recorded() {
    let [a, b] = sites(T);
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO t SELECT i, i, i FROM n");
    sync(&a, &b);
    a.exec("DELETE FROM t");
    sync(&a, &b);
    assert_eq!(b.int("SELECT count(*) FROM t"), 0);
    assert_converged(&[&a, &b]);
}

#[test]
fn without_rowid_strict_and_generated_columns_replicate() {
    let [a, b] = sites(
        "CREATE TABLE w (k TEXT NOT NULL, n INT NOT NULL DEFAULT 0, v TEXT, PRIMARY KEY (n, k)) WITHOUT ROWID; CRR w;
         CREATE TABLE s (id INTEGER PRIMARY KEY NOT NULL, v TEXT, a ANY) STRICT; CRR s;
         CREATE TABLE g (id INTEGER PRIMARY KEY NOT NULL, v INT, twice INT AS (v * 2), thrice INT AS (v * 3) STORED); CRR g",
    );
    a.exec(
        "INSERT INTO w VALUES ('k', 1, 'v'); INSERT INTO s VALUES (1, 'v', 1.0); INSERT INTO g VALUES (1, 5)",
    );
    assert_eq!(a.rows("SELECT pk FROM crsql_changes WHERE [table] = 'w'"), ["x'0209010b016b'"], "key order");
    assert_eq!(
        a.rows("SELECT cid FROM crsql_changes WHERE [table] = 'g'"),
        ["'v'"],
        "generated columns are not sent"
    );
    sync(&a, &b);
    b.exec("UPDATE w SET v = 'w'; UPDATE s SET a = '1.0'; UPDATE g SET v = 6");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM g"), ["1|6|12|18"]);
    assert_eq!(a.rows("SELECT * FROM s"), ["1|'v'|'1.0'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_generated_column_in_the_middle_does_not_shift_values() {
    let [a, b] = sites(
        "CREATE TABLE g (x INT, sum INT AS (x + y), id INTEGER PRIMARY KEY NOT NULL, y INT, name TEXT); CRR g",
    );
    a.exec("INSERT INTO g (id, x, y, name) VALUES (1, 10, 20, 'n'); UPDATE g SET y = 21");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT x, sum, id, y, name FROM g"), ["10|31|1|21|'n'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn rows_present_before_as_crr_are_offered() {
    let a = Site::memory();
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 2)");
    a.exec("CRR t");
    let b = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 4);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t ORDER BY id"), ["1|'a'|NULL", "2|'b'|2"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn the_rowid_alias_of_a_key_writes_the_key() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t (rowid, x) VALUES (3, 'a')");
    a.exec("INSERT INTO t (x) VALUES ('next id')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id, x FROM t ORDER BY id"), ["3|'a'", "4|'next id'"]);
}

#[test]
fn a_local_write_dominates_everything_this_replica_has_seen() {
    let [a, b, c] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 0, 0)");
    for i in 0..30 {
        a.exec(&format!("UPDATE t SET x = {i} + 100"));
    }
    sync(&a, &b);
    sync(&a, &c);
    for low in [&b, &c] {
        low.exec("UPDATE t SET x = -1");
        sync(&a, low);
        assert_eq!(a.rows("SELECT x FROM t"), ["-1"]);
        a.exec("UPDATE t SET x = 1000");
        sync(&a, &b);
        sync(&a, &c);
        assert_eq!(b.rows("SELECT x FROM t"), ["1000"]);
    }
    assert_converged(&[&a, &b, &c]);
}
