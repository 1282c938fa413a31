//! What the extension must not touch: user triggers during merges, `last_insert_rowid()`, `changes()`, hooks.

use crsql_tests::{NO_ROWS, Site, assert_converged, pull, site, sites, sync};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t";
const AUDIT: &str = "CREATE TABLE audit (what TEXT);
    CREATE TRIGGER ti AFTER INSERT ON t BEGIN INSERT INTO audit VALUES ('insert ' || NEW.id); END;
    CREATE TRIGGER tu AFTER UPDATE ON t BEGIN INSERT INTO audit VALUES ('update ' || NEW.id); END;
    CREATE TRIGGER td AFTER DELETE ON t BEGIN INSERT INTO audit VALUES ('delete ' || OLD.id); END";

#[test]
fn user_triggers_do_not_fire_during_a_merge() {
    let [a, b] = sites(T);
    b.exec(AUDIT);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y')");
    pull(&b, &a);
    a.exec("UPDATE t SET x = 'z'; DELETE FROM t WHERE id = 2; REPLACE INTO t (id) VALUES (1)");
    pull(&b, &a);
    let c = site(T);
    c.exec("INSERT INTO t VALUES (7, 'x', 'y')");
    b.merge(&c.changes());
    assert_eq!(b.rows("SELECT * FROM audit"), NO_ROWS);
    b.exec("UPDATE t SET x = 'local' WHERE id = 1");
    assert_eq!(b.rows("SELECT * FROM audit"), ["'update 1'"], "they do for local writes");
}

#[test]
fn user_triggers_made_before_or_after_the_table_was_replicated_behave_alike() {
    let [a, _] = sites::<2>(T);
    let b = Site::memory();
    b.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy')");
    b.exec(AUDIT);
    b.exec("CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM audit"), NO_ROWS);
    b.exec("INSERT INTO t (id) VALUES (2)");
    assert_eq!(b.rows("SELECT * FROM audit"), ["'insert 2'"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn what_user_triggers_write_locally_is_recorded() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t;
         CREATE TABLE log (id INTEGER PRIMARY KEY NOT NULL, what TEXT); CRR log",
    );
    a.exec(
        "CREATE TRIGGER ti AFTER INSERT ON t BEGIN INSERT INTO log (what) VALUES ('made ' || NEW.id); END",
    );
    a.exec("CREATE TRIGGER tn AFTER UPDATE OF x ON t WHEN NEW.x > 9 BEGIN UPDATE t SET x = 9 WHERE id = NEW.id; END");
    a.exec("INSERT INTO t VALUES (5, 0); UPDATE t SET x = 100");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["5|9"]);
    assert_eq!(b.rows("SELECT what FROM log"), ["'made 5'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_trigger_that_ignores_a_row_leaves_no_trace_of_it() {
    let [a, b] = sites(T);
    a.exec("CREATE TRIGGER ig BEFORE INSERT ON t WHEN NEW.id < 0 BEGIN SELECT RAISE(IGNORE); END");
    a.exec("INSERT INTO t (id) VALUES (1), (-1), (2)");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id FROM t ORDER BY id"), ["1", "2"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn instead_of_triggers_on_views_are_recorded() {
    let [a, b] = sites(T);
    a.exec("CREATE VIEW v AS SELECT id, x FROM t; CREATE TRIGGER vi INSTEAD OF INSERT ON v BEGIN INSERT INTO t (id, x) VALUES (NEW.id, NEW.x); END");
    a.exec("INSERT INTO v VALUES (1, 'through a view')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT x FROM t"), ["'through a view'"]);
}

#[test]
fn last_insert_rowid_is_the_applications() {
    let [a, b] = sites(T);
    a.exec("CREATE TABLE plain (id INTEGER PRIMARY KEY, v); CREATE TABLE k (id TEXT PRIMARY KEY NOT NULL, v); CRR k");
    a.exec("INSERT INTO plain VALUES (77, 'x')");
    a.exec("BEGIN; INSERT INTO t (id) VALUES (5); INSERT INTO t (id) VALUES (6); COMMIT");
    assert_eq!(a.conn.last_insert_rowid(), 6);
    a.exec("INSERT INTO t (x) VALUES ('auto')");
    assert_eq!(a.conn.last_insert_rowid(), a.int("SELECT max(id) FROM t"));
    a.exec("INSERT INTO k VALUES ('a', 1), ('b', 2)");
    assert_eq!(a.conn.last_insert_rowid(), a.int("SELECT max(rowid) FROM k"));
    a.exec("UPDATE t SET x = 1; DELETE FROM t WHERE id = 5; SELECT * FROM crsql_changes");
    assert_eq!(a.conn.last_insert_rowid(), a.int("SELECT max(rowid) FROM k"));
    b.exec("INSERT INTO t (id) VALUES (42)");
    b.apply(&a.changeset());
    assert_eq!(b.conn.last_insert_rowid(), 42, "a merge does not move it");
}

#[test]
fn changes_counts_the_applications_rows() {
    let [a, b] = sites(T);
    assert_eq!(a.run("INSERT INTO t (id) VALUES (1), (2), (3)", &[]), 3);
    assert_eq!(a.run("UPDATE t SET x = 1 WHERE id > 1", &[]), 2);
    assert_eq!(a.run("UPDATE t SET x = 1", &[]), 3);
    assert_eq!(a.run("REPLACE INTO t (id) VALUES (1), (2)", &[]), 2);
    assert_eq!(a.run("DELETE FROM t WHERE id = 1", &[]), 1);
    assert_eq!(a.int("SELECT changes()"), 1);
    b.exec("BEGIN; INSERT INTO t (id) VALUES (8), (9)");
    b.apply(&a.changeset());
    assert_eq!(b.int("SELECT changes()"), 2, "a merge does not move it");
    b.exec("COMMIT");
    let before = a.int("SELECT total_changes()");
    a.exec("INSERT INTO t (id) VALUES (100)");
    assert!(a.int("SELECT total_changes()") > before);
}

#[test]
fn the_hosts_hooks_stay_its_own() {
    let a = Site::memory();
    let commits = Rc::new(Cell::new(0));
    let updates = std::sync::Arc::new(AtomicUsize::new(0));
    let rollbacks = std::sync::Arc::new(AtomicUsize::new(0));
    let count_commits = std::sync::Arc::new(AtomicUsize::new(0));
    let hook = count_commits.clone();
    a.conn
        .commit_hook(Some(move || {
            hook.fetch_add(1, Ordering::Relaxed);
            false
        }))
        .unwrap();
    let hook = rollbacks.clone();
    a.conn
        .rollback_hook(Some(move || {
            hook.fetch_add(1, Ordering::Relaxed);
        }))
        .unwrap();
    let hook = updates.clone();
    a.conn
        .update_hook(Some(move |_, _: &str, table: &str, _| {
            if table == "t" {
                hook.fetch_add(1, Ordering::Relaxed);
            }
        }))
        .unwrap();
    a.exec(T);
    let before = count_commits.load(Ordering::Relaxed);
    a.exec("INSERT INTO t (id) VALUES (1), (2)");
    a.exec("BEGIN; UPDATE t SET x = 1; ROLLBACK");
    let b = site(T);
    b.exec("INSERT INTO t (id) VALUES (3)");
    a.apply(&b.changeset());
    assert_eq!(count_commits.load(Ordering::Relaxed), before + 2);
    assert_eq!(rollbacks.load(Ordering::Relaxed), 1);
    assert!(updates.load(Ordering::Relaxed) >= 5, "inserts, updates and the merge");
    drop(commits);
    a.conn.commit_hook(None::<fn() -> bool>).unwrap();
    a.exec("INSERT INTO t (id) VALUES (4)");
    assert_eq!(a.db_version(), 3, "and taking them away does not disturb us");
}

#[test]
fn hooks_set_after_loading_do_not_disturb_tracking() {
    let a = site(T);
    a.conn.commit_hook(Some(|| false)).unwrap();
    a.conn.rollback_hook(Some(|| ())).unwrap();
    a.exec("INSERT INTO t (id) VALUES (1)");
    a.exec("BEGIN; INSERT INTO t (id) VALUES (2); ROLLBACK");
    a.exec("INSERT INTO t (id) VALUES (3)");
    assert_eq!(a.rows("SELECT DISTINCT db_version FROM crsql_changes ORDER BY 1"), ["1", "2"]);
}

#[test]
fn a_merge_into_a_table_with_a_foreign_key_pointing_at_it_is_never_untracked() {
    let [a, b] = sites(T);
    b.exec("PRAGMA foreign_keys = on; CREATE TABLE child (id INTEGER PRIMARY KEY, p REFERENCES t (id) ON DELETE CASCADE)");
    a.exec("INSERT INTO t (id) VALUES (1)");
    pull(&b, &a);
    b.exec("INSERT INTO child VALUES (1, 1)");
    a.exec("DELETE FROM t");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM t"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn reading_is_allowed_inside_triggers_and_views() {
    let a = site(T);
    a.exec("CREATE VIEW recent AS SELECT * FROM crsql_changes WHERE db_version > 1");
    a.exec("INSERT INTO t (id) VALUES (1)");
    a.exec("UPDATE t SET x = 2");
    assert_eq!(a.rows("SELECT cid, val FROM recent"), ["'x'|2"]);
    a.exec("CREATE TABLE seen (n); CREATE TRIGGER look AFTER INSERT ON t BEGIN INSERT INTO seen SELECT count(*) FROM crsql_changes; END");
    a.exec("INSERT INTO t (id) VALUES (2)");
    assert_eq!(a.int("SELECT count(*) FROM seen"), 1);
}

#[test]
fn triggers_younger_than_ours_may_undo_what_fired_them() {
    for key in ["INTEGER", "TEXT", "BLOB"] {
        let schema = format!("CREATE TABLE t (id {key} PRIMARY KEY NOT NULL, x DEFAULT 1); CRR t");
        let [a, b] = sites(&schema);
        a.exec(
            "CREATE TRIGGER never AFTER INSERT ON t WHEN NEW.x = 'never' BEGIN DELETE FROM t WHERE id = NEW.id; END;
             CREATE TRIGGER moved AFTER INSERT ON t WHEN NEW.x = 'moved' BEGIN UPDATE t SET id = id || 9 WHERE id = NEW.id; END;
             CREATE TRIGGER back AFTER DELETE ON t WHEN OLD.x = 'back' BEGIN INSERT INTO t VALUES (OLD.id, 'again'); END;
             CREATE TRIGGER stamp AFTER UPDATE OF x ON t WHEN NEW.x = 'gone' BEGIN DELETE FROM t WHERE id = NEW.id; END",
        );
        a.exec("INSERT INTO t VALUES (1, 'never'), (2, 'moved'), (3, 'back'), (4, 'here'), (5, 'here')");
        a.exec("DELETE FROM t WHERE x = 'back'; UPDATE t SET x = 'gone' WHERE id = 5");
        assert_eq!(a.doctor(), site(&schema).doctor(), "{key}");
        pull(&b, &a);
        assert_eq!(
            b.rows("SELECT CAST(id AS INT), x FROM t ORDER BY 1"),
            ["3|'again'", "4|'here'", "29|'moved'"],
            "{key}"
        );
        assert_converged(&[&a, &b]);
    }
}
