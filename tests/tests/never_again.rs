//! What was seen in other replication extensions and must never happen here: one test for each failure.

use crsql_tests::{
    NO_ROWS, Site, assert_converged, assert_same_tables, exchange_all, pull, site, sites, sync,
};

const TODO: &str =
    "CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, done INT DEFAULT 0); CRR todo";

#[test]
fn a_failed_merge_leaves_tracking_on() {
    let [a, b] = sites(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    let mut poison = a.changes();
    for change in &mut poison {
        change[1] = vec![0xff, 0xff].into();
    }
    assert!(b.try_merge(&poison).is_err(), "a malformed key is refused");
    assert!(b.try_apply(b"not a changeset").is_err());
    b.exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    assert_eq!(b.rows("SELECT cid, val FROM crsql_changes ORDER BY seq"), ["'title'|'bread'", "'done'|0"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_merge_that_a_constraint_refuses_leaves_tracking_on() {
    let a = site(TODO);
    let b = site(
        "CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT CHECK (title <> 'forbidden'), done INT DEFAULT 0);
         CRR todo",
    );
    a.exec("INSERT INTO todo VALUES (1, 'forbidden', 0)");
    pull(&b, &a);
    let _ = b.try_merge(&a.changes());
    b.exec("INSERT INTO todo VALUES (2, 'bread', 0)");
    pull(&a, &b);
    assert_eq!(a.rows("SELECT * FROM todo WHERE id = 2"), ["2|'bread'|0"]);
}

#[test]
fn a_version_is_not_reused_after_a_savepoint_rollback() {
    let dir = crsql_tests::TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let b = site(TODO);
    a.exec(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'one', 0)");
    a.exec("BEGIN; SAVEPOINT s; INSERT INTO todo VALUES (2, 'undone', 0); ROLLBACK TO s; RELEASE s");
    a.exec("INSERT INTO todo VALUES (3, 'kept', 0); COMMIT");
    pull(&b, &a);
    let a = a.reopen();
    a.exec("INSERT INTO todo VALUES (4, 'after reopening', 0)");
    assert_eq!(
        a.rows("SELECT DISTINCT site_version FROM crsql_changes ORDER BY 1"),
        ["1", "2", "3"],
        "one version for each transaction that changed something"
    );
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_transaction_that_is_wholly_undone_leaves_no_phantom_version() {
    let a = site(TODO);
    a.exec("BEGIN; SAVEPOINT s; INSERT INTO todo VALUES (1, 'x', 0); ROLLBACK TO s; COMMIT");
    assert_eq!(a.db_version(), 0);
    a.exec("BEGIN; INSERT INTO todo VALUES (1, 'x', 0); ROLLBACK");
    assert_eq!(a.db_version(), 0);
    a.exec("INSERT INTO todo VALUES (1, 'x', 0)");
    a.exec("UPDATE todo SET title = title");
    a.exec("UPDATE todo SET title = 'y' WHERE id = 99");
    assert_eq!(a.db_version(), 1);
    assert_eq!(a.rows("SELECT DISTINCT site_version, db_version FROM crsql_changes"), ["1|1"]);
}

#[test]
fn update_or_replace_never_lowers_a_clock() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v INT); CRR t");
    a.exec("INSERT INTO t VALUES (1, 10), (2, 0)");
    for i in 0..9 {
        a.exec(&format!("UPDATE t SET v = {i} + 100 WHERE id = 2"));
    }
    sync(&a, &b);
    a.exec("UPDATE OR REPLACE t SET id = 2 WHERE id = 1");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), ["2|10"], "the local write survives the exchange");
    assert_converged(&[&a, &b]);
}

#[test]
fn values_of_a_deleted_row_never_appear_in_its_successor() {
    let [a, b] =
        sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x TEXT, y TEXT DEFAULT 'fresh'); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'old x', 'old y')");
    sync(&a, &b);
    for i in 0..5 {
        b.exec(&format!("UPDATE t SET x = 'newer {i}', y = 'newer {i}'"));
    }
    let late = b.changes();
    a.exec("DELETE FROM t");
    a.exec("INSERT INTO t (id, x) VALUES (1, 'new x')");
    sync(&a, &b);
    b.merge(&late);
    a.merge(&late);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'new x'|'fresh'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_merge_never_overwrites_a_different_row_through_a_unique_index() {
    let a = site(TODO);
    let refused = a.error("CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, email TEXT UNIQUE); CRR u");
    assert!(refused.contains("nique"), "{refused}");

    // The index may also be made behind our back: the row that came first stays.
    let b = site(TODO);
    b.exec("CREATE UNIQUE INDEX titles ON todo (title)");
    b.exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    a.exec("INSERT INTO todo VALUES (2, 'milk', 5)");
    let _ = b.try_apply(&a.changeset());
    let _ = b.try_merge(&a.changes());
    assert_eq!(b.rows("SELECT * FROM todo WHERE id = 1"), ["1|'milk'|0"]);
    b.exec("INSERT INTO todo VALUES (3, 'tracked', 0)");
    pull(&a, &b);
    assert_eq!(a.rows("SELECT title FROM todo ORDER BY id"), ["'milk'", "'milk'", "'tracked'"]);
}

#[test]
fn one_and_one_point_zero_are_one_row() {
    let [a, b] = sites("CREATE TABLE t (id PRIMARY KEY NOT NULL, v TEXT); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'integer')");
    b.exec("INSERT INTO t VALUES (1.0, 'real')");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM t"), 1);
    assert_converged(&[&a, &b]);
}

#[test]
fn k_and_capital_k_under_nocase_are_one_row() {
    let [a, b] = sites("CREATE TABLE t (name TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT); CRR t");
    a.exec("INSERT INTO t VALUES ('k', 'lower')");
    b.exec("INSERT INTO t VALUES ('K', 'upper')");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM t"), 1);
    assert_converged(&[&a, &b]);
}

#[test]
fn malformed_blobs_and_nulls_are_errors_and_the_process_lives() {
    let a = site(TODO);
    for call in [
        "crsql_as_crr(NULL)",
        "crsql_apply(NULL)",
        "crsql_apply(x'')",
        "crsql_apply(x'6372')",
        "crsql_changeset(x'')",
        "crsql_changeset(x'ffffffffffffffff')",
        "crsql_fract_key_between('a0', 'a0')",
        "crsql_fract_key_between('', NULL)",
        "crsql_fract_key_between('aé', NULL)",
    ] {
        let message = a.error(&format!("SELECT {call}"));
        assert!(message.len() > 8, "{call} says why: {message:?}");
    }
    for package in ["x''", "NULL", "x'01'", "x'0141ff'", "x'01ff'", "x'017b0000'", "x'ff'"] {
        let _ = a.try_exec(&format!("SELECT cell FROM crsql_unpack_columns WHERE package = {package}"));
        let sql = format!(
            "INSERT INTO crsql_changes VALUES ('todo', {package}, 'title', 'x', 1, 1, randomblob(16), 1, 0)"
        );
        a.error(&sql);
    }
    assert_eq!(a.rows("SELECT * FROM todo"), NO_ROWS);
    a.exec("INSERT INTO todo VALUES (1, 'alive', 0)");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
}

#[test]
fn a_poison_row_does_not_block_the_batch_for_ever() {
    let a = site(TODO);
    let b = site(
        "CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT CHECK (length(title) < 10), done INT DEFAULT 0);
         CRR todo",
    );
    a.exec("INSERT INTO todo VALUES (1, 'good', 0), (2, 'far too long for the other', 0), (3, 'fine', 0)");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT id FROM todo ORDER BY id"), ["1", "3"]);
    assert_eq!(b.rows(r#"SELECT DISTINCT "table" FROM crsql_conflicts"#), ["'todo'"]);
    a.exec("INSERT INTO todo VALUES (4, 'later', 0)");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT id FROM todo ORDER BY id"), ["1", "3", "4"], "later changes still arrive");
    a.exec("UPDATE todo SET title = 'short' WHERE id = 2");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT id, title FROM todo WHERE id = 2"), ["2|'short'"], "and the row heals");
    assert_eq!(b.rows("SELECT * FROM crsql_conflicts"), NO_ROWS);
}

#[test]
fn drop_table_leaves_every_other_table_working() {
    let [a, b] = sites(
        "CREATE TABLE gone (id INTEGER PRIMARY KEY NOT NULL, v); CRR gone;
         CREATE TABLE kept (id INTEGER PRIMARY KEY NOT NULL, v); CRR kept",
    );
    a.exec("INSERT INTO gone VALUES (1, 1); INSERT INTO kept VALUES (1, 1)");
    sync(&a, &b);
    a.exec("DROP TABLE gone");
    a.exec(
        "INSERT INTO kept VALUES (2, 2); UPDATE kept SET v = 9 WHERE id = 1; DELETE FROM kept WHERE id = 2",
    );
    assert_eq!(a.rows(r#"SELECT DISTINCT "table" FROM crsql_changes WHERE "table" = 'kept'"#), ["'kept'"]);
    b.exec("INSERT INTO kept VALUES (3, 3); INSERT INTO gone VALUES (2, 2)");
    sync(&a, &b);
    assert_same_tables(&["kept"], &[&a, &b]);
    a.exec("CREATE TABLE gone (id INTEGER PRIMARY KEY NOT NULL, v); INSERT INTO gone VALUES (5, 5)");
    assert_eq!(a.rows("SELECT id FROM gone WHERE id = 5"), ["5"], "the name can be used again");
}

#[test]
fn a_restored_backup_catches_up() {
    let dir = crsql_tests::TempDir::new();
    let a = Site::open(dir.join("a.db"));
    let b = site(TODO);
    a.exec(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'before the backup', 0)");
    a.exec(&format!("VACUUM INTO '{}'", dir.join("backup.db").display()));
    a.exec("INSERT INTO todo VALUES (2, 'after the backup', 0); UPDATE todo SET done = 1 WHERE id = 1");
    pull(&b, &a);
    drop(a);

    let restored = Site::open(dir.join("backup.db"));
    pull(&restored, &b);
    assert_converged(&[&restored, &b]);
    restored.exec("INSERT INTO todo VALUES (3, 'new', 0); UPDATE todo SET done = 2 WHERE id = 1");
    pull(&b, &restored);
    assert_eq!(b.rows("SELECT id, done FROM todo ORDER BY id"), ["1|2", "2|0", "3|0"]);
    assert_converged(&[&restored, &b]);
}

#[test]
fn order_by_filters_and_two_cursors_on_changes_answer_right() {
    let a = site(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'a', 0)");
    a.exec("INSERT INTO todo VALUES (2, 'b', 0)");
    assert_eq!(
        a.rows("SELECT db_version, seq FROM crsql_changes ORDER BY db_version DESC, seq ASC"),
        ["2|0", "2|1", "1|0", "1|1"]
    );
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE cid = 'title' ORDER BY val DESC"), ["'b'", "'a'"]);
    assert_eq!(
        a.rows(
            "SELECT x.val, y.val FROM crsql_changes x JOIN crsql_changes y ON y.pk = x.pk AND y.cid = 'done'
             WHERE x.cid = 'title' ORDER BY x.val"
        ),
        ["'a'|0", "'b'|0"]
    );
}

#[test]
fn names_that_need_quotes_replicate() {
    let schema = r#"CREATE TABLE "we ird.""ta'ble" ("my key" INTEGER PRIMARY KEY NOT NULL, "select" TEXT, "-1" TEXT, "o'b""c]" TEXT);
         SELECT crsql_as_crr('we ird."ta''ble')"#;
    let [a, b] = sites(schema);
    a.exec(r#"INSERT INTO "we ird.""ta'ble" VALUES (1, 's', 'minus', 'q')"#);
    a.exec(r#"UPDATE "we ird.""ta'ble" SET "-1" = 'one', "o'b""c]" = 'r'"#);
    sync(&a, &b);
    assert_eq!(b.rows(r#"SELECT * FROM "we ird.""ta'ble""#), ["1|'s'|'one'|'r'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_plain_alter_leaves_later_updates_working() {
    let [a, b] = sites(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'milk', 0)");
    for s in [&a, &b] {
        s.exec("ALTER TABLE todo ADD COLUMN note TEXT DEFAULT 'none'");
    }
    a.exec("UPDATE todo SET title = 'oat milk', note = 'two' WHERE id = 1; INSERT INTO todo VALUES (2, 'x', 0, 'y')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM todo ORDER BY id"), ["1|'oat milk'|0|'two'", "2|'x'|0|'y'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn our_errors_never_roll_back_the_callers_transaction() {
    let a = site(TODO);
    a.exec("CREATE TABLE bad (x); CREATE TABLE plain (x)");
    a.exec("BEGIN; INSERT INTO todo VALUES (1, 'kept', 0)");
    for sql in [
        "SELECT crsql_as_crr('bad')",
        "SELECT crsql_as_crr('missing')",
        "SELECT crsql_commit_alter('missing')",
        "SELECT crsql_apply(x'00')",
        "SELECT crsql_automigrate('CREATE TABLE broken (')",
        "INSERT INTO crsql_changes VALUES ('todo', x'ff', 'title', 'x', 1, 1, randomblob(16), 1, 0)",
        "UPDATE crsql_changes SET val = 1",
        "DELETE FROM crsql_changes",
    ] {
        a.error(sql);
        assert!(!a.conn.is_autocommit(), "{sql} ended the transaction");
    }
    a.exec("INSERT INTO todo VALUES (2, 'kept too', 0); COMMIT");
    assert_eq!(a.rows("SELECT id FROM todo ORDER BY id"), ["1", "2"]);
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 4);
}

#[test]
fn authorship_is_equal_on_converged_replicas() {
    let [a, b, c] = sites(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'same', 7)");
    b.exec("INSERT INTO todo VALUES (1, 'same', 7)");
    c.exec("INSERT INTO todo VALUES (1, 'same', 7)");
    pull(&b, &a);
    pull(&c, &b);
    pull(&a, &c);
    exchange_all(&[&c, &a, &b]);
    assert_converged(&[&a, &b, &c]);
    let winner = [&a, &b, &c].iter().map(|s| s.site_id()).max().unwrap();
    assert_eq!(a.values("SELECT DISTINCT site_id FROM crsql_changes"), [vec![winner.into()]]);
}

#[test]
fn a_rename_does_not_diverge() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, old TEXT); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'from a')");
    sync(&a, &b);
    b.exec("UPDATE t SET old = 'from b'");
    for s in [&a, &b] {
        s.exec("SELECT crsql_begin_alter('t'); ALTER TABLE t RENAME COLUMN old TO new; SELECT crsql_commit_alter('t')");
    }
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id, new FROM t"), ["1|'from b'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_empty_schema_drops_nothing() {
    let a = site(TODO);
    a.exec("INSERT INTO todo VALUES (1, 'kept', 0)");
    for argument in ["''", "NULL", "'  '", "'-- nothing'"] {
        let _ = a.try_exec(&format!("SELECT crsql_automigrate({argument})"));
        assert_eq!(a.rows("SELECT id, title FROM todo"), ["1|'kept'"], "crsql_automigrate({argument})");
    }
}
