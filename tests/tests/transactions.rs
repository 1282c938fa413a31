//! Clocks, versions and data move together through savepoints, rollbacks, aborts and failed statements.

use crsql_tests::{NO_ROWS, Rng, Site, assert_converged, pull, rng, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t";

fn facts(a: &Site) -> Vec<String> {
    a.rows("SELECT pk, cid, val, col_version, cl, db_version, site_version, seq FROM crsql_changes ORDER BY db_version, seq")
}

#[test]
fn rollback_restores_data_clocks_and_versions() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    let before = (facts(&a), a.digest(), a.version_vector());
    a.exec("BEGIN; UPDATE t SET x = 'c'; INSERT INTO t VALUES (2, 'd', 'e'); DELETE FROM t WHERE id = 1; ROLLBACK");
    assert_eq!((facts(&a), a.digest(), a.version_vector()), before);
    assert_eq!(a.db_version(), 1);
}

#[test]
fn rollback_to_a_savepoint_restores_the_state_at_the_savepoint() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.exec(
        "BEGIN; UPDATE t SET x = 'kept'; SAVEPOINT s; UPDATE t SET x = 'undone', y = 'undone'; DELETE FROM t",
    );
    a.exec("INSERT INTO t VALUES (9, 'undone', 'undone'); ROLLBACK TO s");
    assert_eq!(
        a.rows("SELECT cid, val FROM crsql_changes ORDER BY db_version, seq"),
        ["'y'|'b'", "'x'|'kept'"]
    );
    a.exec("INSERT INTO t VALUES (2, 'after', 'after'); COMMIT");
    assert_eq!(
        a.rows("SELECT min(seq), max(seq), count(DISTINCT seq) FROM crsql_changes WHERE db_version = 2"),
        ["0|2|3"]
    );
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn nested_savepoints_undo_only_what_is_inside() {
    let [a, b] = sites(T);
    a.exec(
        "SAVEPOINT one; INSERT INTO t VALUES (1, 1, 1);
         SAVEPOINT two; INSERT INTO t VALUES (2, 2, 2);
         SAVEPOINT three; INSERT INTO t VALUES (3, 3, 3); ROLLBACK TO three; INSERT INTO t VALUES (4, 4, 4);
         RELEASE two; SAVEPOINT two; DELETE FROM t WHERE id = 1; ROLLBACK TO two; RELEASE one",
    );
    assert_eq!(a.rows("SELECT id FROM t ORDER BY id"), ["1", "2", "4"]);
    assert_eq!(
        a.rows("SELECT DISTINCT pk FROM crsql_changes ORDER BY 1"),
        ["x'010901'", "x'010902'", "x'010904'"]
    );
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_savepoint_opened_before_the_first_write_undoes_it() {
    let [a, b] = sites(T);
    a.exec("BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1, 1, 1); ROLLBACK TO s; INSERT INTO t VALUES (2, 2, 2); COMMIT");
    a.exec("SAVEPOINT s; INSERT INTO t VALUES (3, 3, 3); ROLLBACK TO s; RELEASE s");
    a.exec("SAVEPOINT s; ROLLBACK TO s; INSERT INTO t VALUES (4, 4, 4); ROLLBACK TO s; INSERT INTO t VALUES (5, 5, 5); RELEASE s");
    assert_eq!(a.rows("SELECT id FROM t ORDER BY id"), ["2", "5"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id FROM t ORDER BY id"), ["2", "5"]);
    assert_eq!(a.rows("SELECT DISTINCT site_version FROM crsql_changes ORDER BY 1"), ["1", "2"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_statement_that_aborts_leaves_nothing_of_itself() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x INT CHECK (x < 10), y); CRR t");
    a.exec("INSERT INTO t VALUES (1, 1, 1)");
    a.error("INSERT INTO t VALUES (2, 2, 2), (3, 3, 3), (4, 99, 4)");
    a.error("UPDATE t SET x = x + 9");
    assert_eq!(a.db_version(), 1);
    a.exec("BEGIN; INSERT INTO t VALUES (5, 5, 5)");
    a.error("INSERT INTO t VALUES (6, 6, 6), (1, 1, 1)");
    a.exec("INSERT INTO t VALUES (7, 7, 7); COMMIT");
    assert_eq!(
        a.rows("SELECT DISTINCT pk FROM crsql_changes ORDER BY 1"),
        ["x'010901'", "x'010905'", "x'010907'"]
    );
    assert_eq!(a.rows("SELECT max(seq) FROM crsql_changes WHERE db_version = 2"), ["3"], "seqs have no hole");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn or_fail_keeps_the_rows_before_the_failure_and_or_rollback_none() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x INT CHECK (x < 10)); CRR t");
    a.error("INSERT OR FAIL INTO t VALUES (1, 1), (2, 99), (3, 3)");
    assert_eq!(a.rows("SELECT * FROM t"), ["1|1"]);
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 1);
    a.exec("BEGIN; INSERT INTO t VALUES (4, 4)");
    a.error("INSERT OR ROLLBACK INTO t VALUES (5, 5), (6, 99)");
    assert!(a.conn.is_autocommit());
    a.exec("INSERT OR IGNORE INTO t VALUES (7, 7), (8, 99), (9, 9)");
    assert_eq!(a.rows("SELECT id FROM t"), ["1", "7", "9"]);
    assert_eq!(
        a.rows("SELECT DISTINCT db_version, site_version FROM crsql_changes ORDER BY 1"),
        ["1|1", "2|2"]
    );
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_merge_that_is_rolled_back_never_happened_and_can_be_repeated() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.exec("INSERT INTO t VALUES (2, 'a', 'b')");
    let changeset = a.changeset();
    b.exec("BEGIN");
    b.apply(&changeset);
    b.exec("ROLLBACK");
    assert_eq!(b.rows("SELECT * FROM t"), NO_ROWS);
    assert_eq!(b.rows("SELECT * FROM crsql_changes"), NO_ROWS);
    assert_eq!(b.version_vector(), site(T).version_vector());
    b.exec("BEGIN; SAVEPOINT s");
    b.apply(&changeset);
    b.exec("ROLLBACK TO s");
    b.merge(&a.changes_where("db_version = 1"));
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT id FROM t"), ["1"]);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn local_writes_and_merges_share_a_transaction() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    b.exec("BEGIN; INSERT INTO t VALUES (2, 'c', 'd')");
    pull(&b, &a);
    b.exec("UPDATE t SET x = 'both'; SAVEPOINT s; UPDATE t SET x = 'undone'; ROLLBACK TO s; COMMIT");
    pull(&a, &b);
    assert_eq!(a.rows("SELECT id, x FROM t ORDER BY id"), ["1|'both'", "2|'both'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_delta_taken_inside_a_transaction_holds_what_the_transaction_sees() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.exec("BEGIN; UPDATE t SET x = 'uncommitted'");
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'uncommitted'"]);
    a.exec("ROLLBACK");
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'a'"]);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_read_of_changes_between_writes_changes_nothing() {
    let [a, b] = sites(T);
    let [c, _] = sites::<2>(T);
    for (s, peek) in [(&a, true), (&c, false)] {
        s.exec("BEGIN");
        for sql in [
            "INSERT INTO t VALUES (1, 'a', 'b')",
            "UPDATE t SET x = 'c'",
            "INSERT INTO t VALUES (2, 'd', 'e')",
            "SAVEPOINT s",
            "DELETE FROM t WHERE id = 1",
            "ROLLBACK TO s",
            "UPDATE t SET y = 'f' WHERE id = 2",
        ] {
            s.exec(sql);
            if peek {
                s.rows("SELECT * FROM crsql_changes");
            }
        }
        s.exec("COMMIT");
    }
    assert_eq!(facts(&a), facts(&c));
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_failing_commit_loses_nothing_and_repeats_nothing() {
    let [a, b] = sites(T);
    a.exec("CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (p REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");
    a.exec(
        "PRAGMA foreign_keys = on; BEGIN; INSERT INTO t VALUES (1, 'a', 'b'); INSERT INTO child VALUES (5)",
    );
    a.error("COMMIT");
    a.exec("UPDATE t SET x = 'c'; INSERT INTO parent VALUES (5); COMMIT");
    assert_eq!(a.db_version(), 1);
    assert_eq!(a.rows("SELECT cid, val, seq FROM crsql_changes ORDER BY seq").len(), 2);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_commit_hook_that_refuses_turns_the_commit_into_a_rollback() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    a.conn.commit_hook(Some(|| true)).unwrap();
    a.error("INSERT INTO t VALUES (2, 'refused', 'refused')");
    a.conn.commit_hook(None::<fn() -> bool>).unwrap();
    assert_eq!(a.db_version(), 1);
    a.exec("INSERT INTO t VALUES (3, 'c', 'd')");
    assert_eq!(a.rows("SELECT DISTINCT site_version FROM crsql_changes ORDER BY 1"), ["1", "2"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn making_a_table_replicated_can_be_rolled_back() {
    let a = Site::memory();
    a.exec("BEGIN; CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'a'); ROLLBACK");
    assert_eq!(a.rows("SELECT * FROM crsql_changes"), NO_ROWS);
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, y); INSERT INTO t VALUES (1, 'untracked')");
    assert_eq!(a.rows("SELECT * FROM crsql_changes"), NO_ROWS);
    a.exec("CRR t");
    a.exec("INSERT INTO t VALUES (2, 'b')");
    assert_eq!(a.rows("SELECT DISTINCT cid FROM crsql_changes"), ["'y'"]);
}

#[test]
fn random_savepoints_leave_exactly_the_committed_prefix() {
    for seed in rng::seeds(60) {
        let mut rng = Rng::new(seed);
        let [a, b, shadow] = sites(T);
        for _ in 0..12 {
            let mut kept: Vec<Vec<String>> = vec![Vec::new()];
            a.exec("BEGIN");
            for _ in 0..rng.below(15) {
                match rng.below(6) {
                    0 => {
                        a.exec(&format!("SAVEPOINT s{}", kept.len()));
                        kept.push(Vec::new());
                    }
                    1 if kept.len() > 1 => {
                        let undone = kept.len() - 1;
                        a.exec(&format!("ROLLBACK TO s{undone}"));
                        kept[undone].clear();
                    }
                    2 if kept.len() > 1 => {
                        a.exec(&format!("RELEASE s{}", kept.len() - 1));
                        let inner = kept.pop().unwrap();
                        kept.last_mut().unwrap().extend(inner);
                    }
                    _ => {
                        let id = rng.below(4);
                        let sql = match rng.below(4) {
                            0 => format!("DELETE FROM t WHERE id = {id}"),
                            1 => format!("UPDATE t SET x = {} WHERE id = {id}", rng.below(5)),
                            2 => format!("REPLACE INTO t VALUES ({id}, {}, 0)", rng.below(5)),
                            _ => format!("INSERT OR IGNORE INTO t VALUES ({id}, {}, 1)", rng.below(5)),
                        };
                        a.exec(&sql);
                        kept.last_mut().unwrap().push(sql);
                    }
                }
            }
            if rng.one_in(4) {
                a.exec("ROLLBACK");
                continue;
            }
            a.exec("COMMIT");
            let statements = kept.concat();
            shadow.exec(&format!("BEGIN; {}; COMMIT", statements.join(";")));
        }
        assert_eq!(facts(&a), facts(&shadow), "seed {seed}: as if only the committed statements had run");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_function_that_cannot_set_changes_back_leaves_no_transaction_open() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t; CREATE TABLE plain (x)");
    let before = a.site_id();
    a.exec("DROP TABLE __crsql_changed; INSERT INTO plain VALUES (1), (2), (3), (4), (5), (6), (7)");
    let error = a.error("SELECT crsql_new_site()");
    assert!(error.contains("__crsql_changed"), "{error}");
    assert!(a.conn.is_autocommit(), "the function's savepoint is still open");
    assert_eq!(a.site_id(), before, "all of it is undone");
}
