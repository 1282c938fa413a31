//! `"triggers":"on"`: the schema's own triggers hear of what merges do to whole rows, and what they write is local.

use crsql_tests::exchange::{ARRIVALS, deliver};
use crsql_tests::{NO_ROWS, assert_converged, pull, site, sites, sync};

const LOGGED: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v, w); CREATE TABLE log (id TEXT PRIMARY KEY NOT NULL, what);
    CREATE TABLE seen (what);
    CREATE TRIGGER t_i AFTER INSERT ON t BEGIN
        INSERT OR IGNORE INTO log VALUES ('i' || NEW.id, NEW.v); INSERT INTO seen VALUES ('insert ' || NEW.v); END;
    CREATE TRIGGER t_u AFTER UPDATE OF v ON t BEGIN
        INSERT INTO seen VALUES (OLD.v || ' to ' || NEW.v); END;
    CREATE TRIGGER t_d BEFORE DELETE ON t BEGIN
        DELETE FROM log WHERE id = 'i' || OLD.id; INSERT INTO seen VALUES ('delete ' || OLD.v); END;
    CRR log; SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')";

#[test]
fn triggers_hear_of_rows_that_come_change_and_go_and_their_writes_are_local() {
    let [a, b] = sites(LOGGED);
    a.exec("INSERT INTO t VALUES (1, 'x', 0), (2, 'y', 0)");
    // The log of a is not sent: b keeps its own.
    b.exec("BEGIN");
    deliver(&b, &mut a.changes_where("\"table\" = 't'"), ARRIVALS[2]);
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT * FROM seen"), ["'insert x'", "'insert y'"]);
    assert_eq!(b.rows("SELECT * FROM log ORDER BY id"), ["'i1'|'x'", "'i2'|'y'"]);
    assert_eq!(b.own_site_version(), 1, "captured as one local version");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    b.exec("DELETE FROM seen");
    a.exec("UPDATE t SET v = 'z' WHERE id = 1; UPDATE t SET w = 5");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM seen"), ["'x to z'"], "and not of columns that a trigger does not name");
    a.exec("DELETE FROM t WHERE id = 2");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM seen"), ["'x to z'", "'delete y'"]);
    sync(&a, &b);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    // What comes once more changes nothing, and fires nothing.
    b.merge(&a.changes());
    assert_eq!(b.int("SELECT count(*) FROM seen"), 2);
}

#[test]
fn they_are_silent_unless_asked_for() {
    let [a, b] = sites(&LOGGED.replace("\"on\"", "\"off\""));
    a.exec("INSERT INTO t VALUES (1, 'x', 0)");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM seen"), NO_ROWS);
    b.exec("SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')");
    a.exec("UPDATE t SET v = 'y'");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM seen"), ["'x to y'"]);
    b.exec("SELECT crsql_as_crr('t', '{\"triggers\":\"off\"}')");
    a.exec("UPDATE t SET v = 'z'");
    sync(&a, &b);
    assert_eq!(b.int("SELECT count(*) FROM seen"), 1);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_row_that_waited_is_written_in_silence() {
    let [a, b] = sites("CREATE TABLE s (id INTEGER PRIMARY KEY NOT NULL, low INT DEFAULT 0, high INT DEFAULT 1, CHECK (low < high)); CRR s;
        CREATE TABLE seen (what); CREATE TRIGGER s_u AFTER UPDATE ON s BEGIN INSERT INTO seen VALUES (NEW.low); END");
    a.exec("INSERT INTO s VALUES (1, 0, 100)");
    sync(&a, &b);
    a.exec("UPDATE s SET low = 80");
    b.exec("UPDATE s SET high = 50; DELETE FROM seen");
    pull(&b, &a);
    assert_eq!(b.int("SELECT count(*) FROM crsql_conflicts"), 1);
    a.exec("UPDATE s SET high = 90");
    a.exec("UPDATE s SET high = 95");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT low, high FROM s"), ["80|95"]);
    assert_eq!(b.rows("SELECT * FROM seen"), NO_ROWS);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_trigger_may_write_the_row_that_a_merge_wrote_in_every_shape_of_table() {
    for (key, rest, when) in [
        ("INTEGER PRIMARY KEY NOT NULL", "", "before"),
        ("INTEGER PRIMARY KEY NOT NULL", "", "after"),
        ("TEXT PRIMARY KEY NOT NULL", "", "before"),
        ("TEXT PRIMARY KEY NOT NULL", "", "after"),
        ("TEXT PRIMARY KEY NOT NULL", "WITHOUT ROWID", "after"),
    ] {
        let table = format!("CREATE TABLE t (id {key}, v, size INT) {rest};");
        let triggers = "CREATE TRIGGER t_i AFTER INSERT ON t BEGIN UPDATE t SET size = length(NEW.v) WHERE id = NEW.id; END;
             CREATE TRIGGER t_u AFTER UPDATE OF v ON t BEGIN UPDATE t SET size = length(NEW.v) WHERE id = NEW.id; END;";
        let crr = "SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}');";
        let schema = if when == "before" {
            format!("{table}{triggers}{crr}")
        } else {
            format!("{table}{crr}{triggers}")
        };
        let plain = site(&format!("{table} CRR t"));
        let [a, b] = sites(&schema);
        plain.exec("INSERT INTO t (id, v) VALUES (1, 'abc'), (2, 'de')");
        a.apply(&plain.changeset());
        assert_eq!(a.rows("SELECT size FROM t ORDER BY v"), ["3", "2"], "{key} {rest} {when}");
        assert_eq!(a.own_site_version(), 1, "{key} {rest} {when}");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
        // Both are told the same: the second time there is nothing to change.
        plain.exec("UPDATE t SET v = 'wxyz' WHERE id = 1");
        a.apply(&plain.changeset());
        assert_eq!(a.own_site_version(), 2, "what the trigger wrote is told: {key} {rest} {when}");
        b.apply(&plain.changeset());
        assert_eq!(b.rows("SELECT size FROM t ORDER BY v DESC"), ["4", "2"], "{key} {rest} {when}");
        sync(&a, &b);
        sync(&a, &b);
        let versions = [a.own_site_version(), b.own_site_version()];
        sync(&a, &b);
        assert_eq!(versions, [a.own_site_version(), b.own_site_version()], "nobody answers for ever");
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_row_that_a_trigger_refuses_waits_with_the_triggers_reason_and_holds_up_no_other() {
    for arrival in ARRIVALS {
        let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, t);
            CRR n; SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')");
        b.exec("CREATE TABLE open (yes); CREATE TRIGGER no AFTER INSERT ON t WHEN NOT EXISTS (SELECT 1 FROM open) AND NEW.v = 'bad'
            BEGIN INSERT INTO n VALUES (99, NEW.id); SELECT RAISE(ABORT, 'not this one'); END");
        a.exec("INSERT INTO t VALUES (1, 'good'), (2, 'bad'), (3, 'good')");
        let mut changes = a.changes();
        deliver(&b, &mut changes, arrival);
        {
            assert_eq!(b.rows("SELECT id FROM t"), ["1", "3"], "{arrival:?}");
            let reasons = b.rows("SELECT DISTINCT reason FROM crsql_conflicts");
            assert_eq!(reasons, ["'not this one'"]);
            assert_eq!(b.rows("SELECT * FROM n"), NO_ROWS);
        }
        assert_eq!(a.digest(), b.digest(), "{arrival:?}");
        assert_eq!(b.doctor(), "[]");
        b.exec("INSERT INTO open VALUES (1)");
        a.exec("UPDATE t SET v = 'fine' WHERE id = 2");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn triggers_that_fire_each_other_without_end_or_are_broken_cost_the_row_and_not_the_merge() {
    for body in [
        "UPDATE t SET v = v + 1 WHERE id = NEW.id",
        "INSERT INTO gone VALUES (1)",
        "SELECT abs(-9223372036854775807 - 1)",
    ] {
        let [a, b] = sites("PRAGMA recursive_triggers = on; CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v);
             CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, v); CRR u; SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')");
        a.exec("INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1)");
        sync(&a, &b);
        b.exec(&format!("CREATE TRIGGER more AFTER UPDATE ON t BEGIN {body}; END"));
        a.exec("UPDATE t SET v = 5; UPDATE u SET v = 5");
        sync(&a, &b);
        assert_eq!(b.rows("SELECT v FROM t"), ["1"], "{body}");
        assert_eq!(b.rows("SELECT v FROM u"), ["5"], "{body}");
        assert_eq!(b.int("SELECT count(*) FROM crsql_conflicts"), 1, "{body}");
        assert_eq!(b.doctor(), "[]", "{body}");
        assert_eq!(a.digest(), b.digest());
        b.exec("DROP TRIGGER more");
        a.exec("UPDATE t SET v = 6");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn what_leaves_half_a_statement_behind_is_refused() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v);
        CREATE TRIGGER half AFTER INSERT ON t BEGIN SELECT RAISE(FAIL, 'no'); END",
    );
    let error = a.error("SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')");
    assert!(error.contains("half") && error.contains("ABORT"), "{error}");
    let b = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t; INSERT INTO t VALUES (1, 1)");
    a.exec("DROP TRIGGER half; SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')");
    a.exec("CREATE TRIGGER late AFTER INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'no'); END");
    a.apply(&b.changeset());
    assert!(a.text("SELECT reason FROM crsql_conflicts").contains("late"));
    a.exec("DROP TRIGGER late; SELECT crsql_as_crr('t')");
    assert_eq!(a.rows("SELECT * FROM t"), ["1|1"]);
    let error = a.error(
        "CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, n INT NOT NULL DEFAULT 0);
        SELECT crsql_as_crr('c', '{\"triggers\":\"on\",\"columns\":{\"n\":\"counter\"}}')",
    );
    assert!(error.contains("registers"), "{error}");
}

#[test]
fn a_trigger_that_ignores_a_row_does_not_keep_it_out_and_one_may_delete_it() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v);
        CREATE TRIGGER ignored BEFORE INSERT ON t WHEN NEW.v = 'i' BEGIN SELECT RAISE(IGNORE); END;
        CREATE TRIGGER deleted AFTER INSERT ON t WHEN NEW.v = 'd' BEGIN DELETE FROM t WHERE id = NEW.id; END;
        SELECT crsql_as_crr('t', '{\"triggers\":\"on\"}')",
    );
    let c = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t; INSERT INTO t VALUES (1, 'i'), (2, 'd'), (3, 'x')",
    );
    a.apply(&c.changeset());
    assert_eq!(a.rows("SELECT id FROM t"), ["1", "3"]);
    sync(&a, &b);
    sync(&a, &b);
    sync(&a, &c);
    assert_eq!(c.rows("SELECT id FROM t"), ["1", "3"]);
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn triggers_and_foreign_keys_go_together() {
    let [a, b] = sites(
        "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, n INT DEFAULT 0); CRR p;
        CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, p INT REFERENCES p);
        CREATE TRIGGER counted AFTER INSERT ON c BEGIN
          UPDATE p SET n = (SELECT count(*) FROM c WHERE p = NEW.p) WHERE id = NEW.p; END;
        SELECT crsql_as_crr('c', '{\"triggers\":\"on\",\"fk\":\"park\"}')",
    );
    a.exec("INSERT INTO p (id) VALUES (1)");
    sync(&a, &b);
    a.exec("INSERT INTO c VALUES (10, 1)");
    b.exec("INSERT INTO c VALUES (20, 1)");
    for _ in 0..3 {
        sync(&a, &b);
    }
    assert_eq!(a.rows("SELECT n FROM p"), ["2"]);
    assert_converged(&[&a, &b]);
}
