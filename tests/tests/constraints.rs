//! CHECK, NOT NULL and STRICT: a valid row arrives whole whatever the order; an invalid one is parked and listed.

use crsql_tests::exchange::{ARRIVALS, deliver};
use crsql_tests::{NO_ROWS, assert_converged, pull, site, sites, sync};

const RANGE: &str =
    "CREATE TABLE r (id INTEGER PRIMARY KEY NOT NULL, low INT DEFAULT 0, high INT DEFAULT 1, name TEXT,
    CHECK (low < high)); CRR r";

#[test]
fn a_row_valid_as_a_whole_arrives_whatever_the_order_of_its_cells() {
    for arrival in ARRIVALS {
        let [a, b] = sites(RANGE);
        a.exec("INSERT INTO r VALUES (1, 10, 20, 'n'), (2, -9, -5, 'm')");
        deliver(&b, &mut a.changes(), arrival);
        assert_eq!(b.rows("SELECT * FROM r ORDER BY id"), ["1|10|20|'n'", "2|-9|-5|'m'"], "{arrival:?}");
        assert_eq!(b.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
        assert_converged(&[&a, &b]);
        a.exec("UPDATE r SET low = 100, high = 200 WHERE id = 1; UPDATE r SET low = -90, high = -50 WHERE id = 2");
        deliver(&b, &mut a.changes(), arrival);
        assert_eq!(b.rows("SELECT low, high FROM r ORDER BY id"), ["100|200", "-90|-50"], "{arrival:?}");
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_row_whose_merge_breaks_a_check_is_listed_with_its_reason_and_heals() {
    let [a, b] = sites(RANGE);
    a.exec("INSERT INTO r VALUES (1, 0, 100, 'n')");
    sync(&a, &b);
    a.exec("UPDATE r SET low = 80");
    b.exec("UPDATE r SET high = 50");
    sync(&a, &b);
    // Both updates are valid where they were made; together they are not.
    for s in [&a, &b] {
        let conflicts = s.rows(r#"SELECT "table", pk, reason FROM crsql_conflicts"#);
        assert!(!conflicts.is_empty(), "listed");
        assert!(conflicts[0].starts_with("'r'|x'010901'|"), "{conflicts:?}");
        assert!(conflicts[0].contains("CHECK") || conflicts[0].contains("low < high"), "{conflicts:?}");
        assert_eq!(s.rows("SELECT low < high FROM r"), ["1"], "the base row stays valid");
    }
    assert_eq!(a.digest(), b.digest(), "both hold the same facts");
    a.exec("INSERT INTO r VALUES (2, 0, 1, 'others go on')");
    a.exec("UPDATE r SET high = 500 WHERE id = 1");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT low, high FROM r WHERE id = 1"), ["80|500"]);
    assert_eq!(b.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
    assert_eq!(a.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn not_null_columns_with_defaults_arrive_in_any_order() {
    for arrival in ARRIVALS {
        let [a, b] = sites(
            "CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, a TEXT NOT NULL DEFAULT '', b INT NOT NULL DEFAULT 0); CRR n",
        );
        a.exec("INSERT INTO n VALUES (1, 'a', 5)");
        deliver(&b, &mut a.changes(), arrival);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn not_null_default_null_arrives_whole() {
    for arrival in ARRIVALS {
        let schema = "CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, a TEXT NOT NULL DEFAULT NULL, b TEXT NOT NULL DEFAULT NULL)";
        let [a, b] = sites(schema);
        if a.try_exec("SELECT crsql_as_crr('n')").is_err() {
            return;
        }
        b.exec("CRR n");
        a.exec("INSERT INTO n VALUES (1, 'a', 'b')");
        deliver(&b, &mut a.changes(), arrival);
        assert_eq!(b.rows("SELECT * FROM n"), ["1|'a'|'b'"], "{arrival:?}");
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_null_for_a_not_null_column_is_parked_and_heals() {
    let a = site("CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, a TEXT DEFAULT ''); CRR n");
    let b = site("CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, a TEXT NOT NULL DEFAULT ''); CRR n");
    a.exec("INSERT INTO n VALUES (1, NULL), (2, 'fine')");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM n"), ["2|'fine'"]);
    assert!(b.text("SELECT reason FROM crsql_conflicts").contains("NOT NULL"));
    a.exec("UPDATE n SET a = 'now' WHERE id = 1");
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_wrong_type_for_a_strict_table_is_parked_and_heals() {
    let a = site("CREATE TABLE s (id INTEGER PRIMARY KEY NOT NULL, n INT, t); CRR s");
    let b = site("CREATE TABLE s (id INTEGER PRIMARY KEY NOT NULL, n INT, t TEXT) STRICT; CRR s");
    a.exec("INSERT INTO s VALUES (1, 'not a number', 't'), (2, 5, x'00'), (3, 6, 'fine')");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT id FROM s"), ["3"]);
    assert_eq!(b.rows("SELECT DISTINCT pk FROM crsql_conflicts ORDER BY pk"), ["x'010901'", "x'010902'"]);
    a.exec("UPDATE s SET n = 1, t = 'text'");
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_parked_row_is_retried_when_the_schema_allows_it() {
    let a = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR c");
    let b = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT CHECK (v < 10)); CRR c");
    a.exec("INSERT INTO c VALUES (1, 50)");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM c"), NO_ROWS);
    b.exec(
        "SELECT crsql_begin_alter('c'); CREATE TABLE c2 (id INTEGER PRIMARY KEY NOT NULL, v INT CHECK (v < 100));
         INSERT INTO c2 SELECT * FROM c; DROP TABLE c; ALTER TABLE c2 RENAME TO c; SELECT crsql_commit_alter('c')",
    );
    assert_eq!(b.rows("SELECT * FROM c"), ["1|50"]);
    assert_eq!(b.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_parked_row_is_forwarded_to_replicas_that_accept_it() {
    let loose = "CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR c";
    let [a, c] = sites(loose);
    let b = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT CHECK (v < 10)); CRR c");
    a.exec("INSERT INTO c VALUES (1, 50)");
    pull(&b, &a);
    pull(&c, &b);
    assert_converged(&[&a, &c]);
    assert_eq!(b.digest(), a.digest());
}

#[test]
fn a_delete_clears_a_parked_row() {
    let a = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR c");
    let b = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT CHECK (v < 10)); CRR c");
    a.exec("INSERT INTO c VALUES (1, 50)");
    pull(&b, &a);
    a.exec("DELETE FROM c");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_local_insert_over_a_row_that_could_not_be_shown_dominates_it() {
    let a = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR c");
    let b = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT CHECK (v < 10)); CRR c");
    a.exec("INSERT INTO c VALUES (1, 50)");
    pull(&b, &a);
    b.exec("INSERT INTO c VALUES (1, 5)");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM c"), ["1|5"]);
    assert_eq!(b.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_row_refused_in_one_changeset_does_not_undo_the_others_transaction() {
    let a = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR c");
    let b = site("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT CHECK (v < 10)); CRR c");
    a.exec("INSERT INTO c VALUES (1, 1), (2, 50), (3, 3)");
    b.exec("BEGIN; INSERT INTO c VALUES (9, 9)");
    pull(&b, &a);
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT id FROM c ORDER BY id"), ["1", "3", "9"]);
}

#[test]
fn a_raise_in_a_check_like_trigger_does_not_stop_a_merge() {
    let [a, b] = sites("CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR c");
    b.exec(
        "CREATE TRIGGER no_big BEFORE INSERT ON c WHEN NEW.v > 10 BEGIN SELECT RAISE(ABORT, 'too big'); END",
    );
    a.exec("INSERT INTO c VALUES (1, 50)");
    b.error("INSERT INTO c VALUES (2, 50)");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM c"), ["1|50"], "user triggers do not fire during merge");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_new_incarnation_that_is_refused_leaves_the_old_row() {
    for options in ["", "WITHOUT ROWID"] {
        let a = site(&format!("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x, y) {options}; CRR t"));
        let b = site(&format!(
            "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x CHECK (x < 10), y) {options}; CRR t"
        ));
        a.exec("INSERT INTO t VALUES ('k', 5, 'old'), ('l', 6, 'other')");
        sync(&a, &b);
        a.exec("REPLACE INTO t VALUES ('k', 50, 'new')");
        let report = pull(&b, &a);
        assert_eq!((report.applied, report.parked > 0), (0, true));
        assert_eq!(b.rows("SELECT * FROM t ORDER BY id"), ["'k'|5|'old'", "'l'|6|'other'"], "{options}");
        assert_eq!(b.doctor(), "[]");
        assert_eq!(b.digest(), a.digest(), "what is refused is held");
        a.exec("UPDATE t SET x = 7 WHERE id = 'k'");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_local_write_dominates_a_cell_that_a_check_keeps_waiting() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    let b = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x CHECK (x < 10), y); CRR t");
    a.exec("INSERT INTO t VALUES (1, 1, 'y')");
    sync(&a, &b);
    a.exec("UPDATE t SET x = 2; UPDATE t SET x = 3; UPDATE t SET x = 50");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT cid, col_version FROM crsql_conflicts"), ["'x'|4"]);
    b.exec("UPDATE t SET x = 7");
    assert_eq!(b.rows("SELECT col_version FROM crsql_changes WHERE cid = 'x'"), ["5"]);
    assert_eq!(b.rows("SELECT 1 FROM crsql_parked"), NO_ROWS);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT x FROM t"), ["7"]);
    assert_converged(&[&a, &b]);
}
