//! FOREIGN KEYs: a row whose parent is missing waits or goes with it, on every replica alike, and nothing that SQLite
//! does by itself goes untracked.

use crsql_tests::exchange::{ARRIVALS, deliver};
use crsql_tests::{NO_ROWS, Site, TempDir, assert_converged, exchange_all, pull, site, sites, sync};

fn family(policy: &str, action: &str) -> String {
    format!(
        "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, v);
         CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, p INT REFERENCES p (id) {action}, v);
         CRR p; SELECT crsql_as_crr('c', '{{\"fk\":\"{policy}\"}}')"
    )
}

fn hidden(site: &Site) -> Vec<String> {
    site.rows(r#"SELECT DISTINCT "table", pk FROM crsql_conflicts ORDER BY 1, 2"#)
}

fn assert_sound(sites: &[&Site]) {
    for site in sites {
        assert_eq!(site.rows("PRAGMA foreign_key_check"), NO_ROWS);
        assert_eq!(site.doctor(), "[]");
    }
}

#[test]
fn a_row_whose_parent_was_deleted_elsewhere_waits_and_comes_back_with_it() {
    for enforced in ["off", "on"] {
        let [a, b] = sites(&family("park", "ON DELETE CASCADE"));
        for s in [&a, &b] {
            s.exec(&format!("PRAGMA foreign_keys = {enforced}"));
        }
        a.exec("INSERT INTO p VALUES (1, 'one'), (2, 'two')");
        sync(&a, &b);
        a.exec("DELETE FROM p WHERE id = 1");
        b.exec("INSERT INTO c VALUES (10, 1, 'of one'), (20, 2, 'of two'), (30, NULL, 'of none')");
        sync(&a, &b);
        for s in [&a, &b] {
            assert_eq!(s.rows("SELECT id FROM c ORDER BY id"), ["20", "30"], "{enforced}");
            assert_eq!(hidden(s), ["'c'|x'01090a'"]);
            let reason = s.text("SELECT DISTINCT reason FROM crsql_conflicts");
            assert_eq!(reason, "FOREIGN KEY: \"p\" shows no row with the id 1");
        }
        assert_sound(&[&a, &b]);
        assert_converged(&[&a, &b]);
        b.exec("INSERT INTO p VALUES (1, 'again')");
        assert_eq!(b.rows("SELECT * FROM c WHERE id = 10"), ["10|1|'of one'"]);
        sync(&a, &b);
        assert_eq!(a.rows("SELECT * FROM c WHERE id = 10"), ["10|1|'of one'"]);
        assert_eq!(hidden(&a), NO_ROWS);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn children_may_arrive_before_their_parents_in_any_way() {
    for arrival in ARRIVALS {
        for enforced in ["off", "on"] {
            let [a, b] = sites(&family("park", ""));
            b.exec(&format!("PRAGMA foreign_keys = {enforced}"));
            a.exec("INSERT INTO p VALUES (1, 'one'); INSERT INTO c VALUES (10, 1, 'x')");
            let mut changes = a.changes();
            changes.reverse();
            deliver(&b, &mut changes, arrival);
            assert_sound(&[&b]);
            assert_converged(&[&a, &b]);
            a.exec("DELETE FROM c; DELETE FROM p");
            let mut changes = a.changes();
            changes.reverse();
            deliver(&b, &mut changes, arrival);
            assert_sound(&[&b]);
            assert_converged(&[&a, &b]);
        }
    }
}

#[test]
fn whole_families_wait_and_come_back() {
    let schema =
        "PRAGMA foreign_keys = off; CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, up INT REFERENCES n, v);
        SELECT crsql_as_crr('n', '{\"fk\":\"park\"}')";
    let [a, b] = sites(schema);
    a.exec("INSERT INTO n VALUES (1, NULL, 'root'), (2, 2, 'itself')");
    sync(&a, &b);
    a.exec("DELETE FROM n WHERE id = 1");
    b.exec("INSERT INTO n VALUES (10, 1, ''), (11, 10, ''), (12, 11, ''), (13, 2, '')");
    // Two that refer to each other stand by themselves.
    b.exec("BEGIN; INSERT INTO n VALUES (20, 21, ''), (21, 20, ''); COMMIT");
    for arrival in ARRIVALS {
        let c = site(schema);
        let mut changes = a.changes();
        changes.extend(b.changes());
        deliver(&c, &mut changes, arrival);
        assert_eq!(c.rows("SELECT id FROM n ORDER BY id"), ["2", "13", "20", "21"], "{arrival:?}");
        assert_sound(&[&c]);
    }
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id FROM n ORDER BY id"), ["2", "13", "20", "21"]);
    assert_converged(&[&a, &b]);
    a.exec("INSERT INTO n VALUES (1, 12, 'a ring')");
    assert_eq!(a.int("SELECT count(*) FROM n"), 8);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    assert_sound(&[&a, &b]);
}

#[test]
fn under_cascade_the_author_of_a_late_child_does_what_the_schema_says_and_once() {
    for (action, on_conflict) in [
        ("ON DELETE CASCADE", NO_ROWS.to_vec()),
        ("ON DELETE SET NULL", vec!["10|NULL|'late'"]),
        ("ON DELETE NO ACTION", NO_ROWS.to_vec()),
    ] {
        for enforced in ["off", "on"] {
            let [a, b, c] = sites(&family("cascade", action));
            for s in [&a, &b, &c] {
                s.exec(&format!("PRAGMA foreign_keys = {enforced}"));
            }
            a.exec("INSERT INTO p VALUES (1, 'one')");
            exchange_all(&[&a, &b, &c]);
            a.exec("DELETE FROM p");
            b.exec("INSERT INTO c VALUES (10, 1, 'late')");
            // c holds both and wrote neither: it shows none and writes nothing.
            pull(&c, &b);
            pull(&c, &a);
            assert_eq!(c.rows("SELECT * FROM c"), NO_ROWS);
            assert_eq!(c.own_site_version(), 0);
            assert_sound(&[&c]);
            exchange_all(&[&a, &b, &c]);
            let versions = [a.own_site_version(), b.own_site_version(), c.own_site_version()];
            for s in [&a, &b, &c] {
                assert_eq!(s.rows("SELECT * FROM c"), on_conflict, "{action} {enforced}");
            }
            assert_converged(&[&a, &b, &c]);
            assert_sound(&[&a, &b, &c]);
            exchange_all(&[&a, &b, &c]);
            assert_eq!(versions, [a.own_site_version(), b.own_site_version(), c.own_site_version()]);
            assert_eq!(hidden(&a).is_empty(), !action.contains("NO ACTION"));
        }
    }
}

#[test]
fn a_default_may_take_the_place_of_a_parent_and_a_column_that_takes_no_null_waits() {
    let schema = "PRAGMA foreign_keys = off; CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL); CRR p;
        CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, p INT DEFAULT 7 REFERENCES p ON DELETE SET DEFAULT,
                        q INT NOT NULL DEFAULT 7 REFERENCES p ON DELETE SET NULL);
        SELECT crsql_as_crr('c', '{\"fk\":\"cascade\"}')";
    let [a, b] = sites(schema);
    a.exec("INSERT INTO p VALUES (1), (2), (7)");
    sync(&a, &b);
    a.exec("DELETE FROM p WHERE id < 7");
    b.exec("INSERT INTO c VALUES (10, 1, 7), (11, 7, 2)");
    sync(&a, &b);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM c"), ["10|7|7"]);
    assert_eq!(hidden(&a), ["'c'|x'01090b'"]);
    assert_converged(&[&a, &b]);
    assert_sound(&[&a, &b]);
    a.exec("DELETE FROM p");
    sync(&a, &b);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM c"), NO_ROWS, "the default is gone as well");
    assert_converged(&[&a, &b]);
    assert_sound(&[&a, &b]);
}

#[test]
fn ignore_merges_rows_as_they_are_and_lets_no_action_run_untracked() {
    for action in ["ON DELETE CASCADE ON UPDATE CASCADE", "ON DELETE SET NULL", "ON DELETE RESTRICT", ""] {
        let [a, b] = sites(&family("ignore", action));
        for s in [&a, &b] {
            s.exec("PRAGMA foreign_keys = on");
        }
        a.exec("INSERT INTO p VALUES (1, 'one')");
        sync(&a, &b);
        a.exec("DELETE FROM p");
        b.exec("INSERT INTO c VALUES (10, 1, 'late')");
        sync(&a, &b);
        for s in [&a, &b] {
            assert_eq!(s.rows("SELECT * FROM c"), ["10|1|'late'"], "{action}");
            assert_eq!(s.rows("PRAGMA foreign_key_check"), ["'c'|10|'p'|0"]);
            assert_eq!(hidden(s), NO_ROWS);
        }
        assert_converged(&[&a, &b]);
        // Other merges and writes go on.
        a.exec("INSERT INTO p VALUES (2, 'two'); INSERT INTO c VALUES (20, 2, '')");
        sync(&a, &b);
        for s in [&a, &b] {
            assert_eq!(s.int("PRAGMA foreign_keys"), 1);
        }
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn what_local_writes_cascade_to_is_captured() {
    for policy in ["ignore", "park", "cascade"] {
        let [a, b] = sites(&family(policy, "ON DELETE CASCADE ON UPDATE CASCADE"));
        a.exec("PRAGMA foreign_keys = on");
        a.exec("INSERT INTO p VALUES (1, ''), (2, ''); INSERT INTO c VALUES (10, 1, ''), (20, 2, '')");
        sync(&a, &b);
        a.exec("DELETE FROM p WHERE id = 1; UPDATE p SET id = 3 WHERE id = 2");
        assert!(a.error("INSERT INTO c VALUES (30, 9, '')").contains("FOREIGN KEY"));
        sync(&a, &b);
        assert_eq!(b.rows("SELECT id, p FROM c"), ["20|3"], "{policy}");
        assert_converged(&[&a, &b]);
        assert_sound(&[&a, &b]);
    }
}

#[test]
fn without_enforcement_local_orphans_wait_like_others() {
    let [a, b] = sites(&format!("PRAGMA foreign_keys = off; {}", family("park", "")));
    a.exec("INSERT INTO c VALUES (10, 1, 'early')");
    assert_eq!(a.rows("SELECT * FROM c"), NO_ROWS);
    assert_eq!(hidden(&a), ["'c'|x'01090a'"]);
    a.exec("INSERT INTO p VALUES (1, '')");
    assert_eq!(a.rows("SELECT * FROM c"), ["10|1|'early'"]);
    a.exec("BEGIN; DELETE FROM p; INSERT INTO p VALUES (2, ''); UPDATE c SET p = 2; COMMIT");
    assert_eq!(a.rows("SELECT * FROM c"), ["10|2|'early'"]);
    a.exec("UPDATE p SET id = 3");
    assert_eq!(a.rows("SELECT * FROM c"), NO_ROWS);
    assert_sound(&[&a]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    b.exec("INSERT INTO p VALUES (2, '')");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM c"), ["10|2|'early'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_child_that_was_written_before_its_parent_outlives_an_action_that_ends_children() {
    let [a, b] = sites(&format!("PRAGMA foreign_keys = off; {}", family("cascade", "ON DELETE CASCADE")));
    a.exec("INSERT INTO c VALUES (10, 1, 'early')");
    assert_eq!(hidden(&a), ["'c'|x'01090a'"]);
    b.exec("INSERT INTO p VALUES (1, '')");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM c"), ["10|1|'early'"]);
    assert_converged(&[&a, &b]);
    assert_sound(&[&a, &b]);
}

#[test]
fn parents_may_be_named_by_unique_columns_and_lose_them() {
    let schema = "PRAGMA foreign_keys = off; CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, code TEXT COLLATE NOCASE UNIQUE);
        SELECT crsql_as_crr('p', '{\"unique\":\"winner\"}');
        CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, code TEXT REFERENCES p (code), name UNIQUE);
        SELECT crsql_as_crr('c', '{\"fk\":\"park\",\"unique\":\"winner\"}')";
    let [a, b] = loop {
        let pair: [Site; 2] = sites(schema);
        if pair[0].site_id() < pair[1].site_id() {
            break pair;
        }
    };
    a.exec("INSERT INTO p VALUES (1, 'X'); INSERT INTO c VALUES (10, 'x', 'n')");
    sync(&a, &b);
    a.exec("BEGIN; UPDATE p SET code = 'y'; UPDATE c SET code = 'Y'; COMMIT");
    b.exec("INSERT INTO c VALUES (11, 'X', 'm')");
    sync(&a, &b);
    for s in [&a, &b] {
        assert_eq!(s.rows("SELECT id FROM c"), ["10"]);
        assert_eq!(hidden(s), ["'c'|x'01090b'"]);
    }
    assert_sound(&[&a, &b]);
    // Another parent by that name will do, and an orphan keeps nobody from a value.
    a.exec("INSERT INTO c VALUES (12, 'y', 'm')");
    b.exec("INSERT INTO p VALUES (2, 'x')");
    assert_eq!(b.rows("SELECT id FROM c ORDER BY id"), ["10", "11"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    assert_sound(&[&a, &b]);
    assert_eq!(a.int("SELECT count(*) FROM c"), 2, "of two called m one");
    b.exec("DELETE FROM p WHERE id = 2");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id FROM c ORDER BY id"), ["10", "12"]);
    assert_converged(&[&a, &b]);
    assert_sound(&[&a, &b]);
}

#[test]
fn values_refer_by_the_rules_of_the_parent() {
    for (parent, child, keys, values) in [
        ("k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL", "r", "'k', 'L'", "(1, 'K'), (2, 'l')"),
        ("k INTEGER PRIMARY KEY NOT NULL", "r", "1, 2", "(1, '1'), (2, 2.0)"),
        ("k TEXT PRIMARY KEY NOT NULL", "r INT", "'1', '2'", "(1, 1), (2, '2')"),
        ("k PRIMARY KEY NOT NULL", "r TEXT", "'1', '2'", "(1, 1), (2, '2')"),
        ("k NUMERIC PRIMARY KEY NOT NULL", "r REAL", "1, 2.5", "(1, 1), (2, 2.5)"),
    ] {
        let schema = format!(
            "PRAGMA foreign_keys = off; CREATE TABLE p ({parent}); CRR p;
             CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, {child} REFERENCES p);
             SELECT crsql_as_crr('c', '{{\"fk\":\"park\"}}')"
        );
        let [a, b] = sites(&schema);
        let keys: Vec<&str> = keys.split(", ").collect();
        a.exec(&format!("INSERT INTO p VALUES ({}), ({}); INSERT INTO c VALUES {values}", keys[0], keys[1]));
        sync(&a, &b);
        assert_eq!(b.int("SELECT count(*) FROM c"), 2, "{parent} {child}");
        b.exec(&format!("DELETE FROM p WHERE k = {}", keys[0]));
        assert_eq!(b.rows("SELECT id FROM c"), ["2"], "{parent} {child}");
        sync(&a, &b);
        assert_eq!(a.rows("SELECT id FROM c"), ["2"], "{parent} {child}");
        assert_sound(&[&a, &b]);
        a.exec(&format!("INSERT INTO p VALUES ({})", keys[0]));
        sync(&a, &b);
        assert_eq!(a.int("SELECT count(*) FROM c"), 2, "{parent} {child}");
        assert_converged(&[&a, &b]);
        assert_sound(&[&a, &b]);
    }
}

#[test]
fn the_policy_can_be_changed_and_outlives_alters() {
    let [a, b] = sites(&format!("PRAGMA foreign_keys = off; {}", family("ignore", "")));
    a.exec("INSERT INTO c VALUES (10, 1, '')");
    sync(&a, &b);
    for s in [&a, &b] {
        assert_eq!(s.int("SELECT count(*) FROM c"), 1);
        s.exec("SELECT crsql_as_crr('c', '{\"fk\":\"park\"}')");
        assert_eq!(s.int("SELECT count(*) FROM c"), 0);
        s.exec("SELECT crsql_as_crr('c', '{\"fk\":\"park\"}'); SELECT crsql_as_crr('c')");
        assert_eq!(s.text("SELECT options FROM crsql_crrs WHERE \"table\" = 'c'"), "{\"fk\":\"park\"}");
        s.exec("SELECT crsql_begin_alter('c'); ALTER TABLE c ADD COLUMN w; SELECT crsql_commit_alter('c')");
        s.exec(
            "ALTER TABLE c RENAME COLUMN p TO parent; ALTER TABLE p RENAME TO q; ALTER TABLE c RENAME TO d",
        );
    }
    assert_sound(&[&a, &b]);
    assert_converged(&[&a, &b]);
    b.exec("INSERT INTO q VALUES (1, '')");
    assert_eq!(b.int("SELECT count(*) FROM d"), 1);
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM d"), 1);
    b.exec("DELETE FROM q");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM d"), 0);
    for s in [&a, &b] {
        s.exec("SELECT crsql_as_crr('d', '{\"fk\":\"ignore\"}')");
        assert_eq!(s.int("SELECT count(*) FROM d"), 1);
        assert_eq!(hidden(s), NO_ROWS);
    }
    assert_converged(&[&a, &b]);
}

#[test]
fn a_file_that_is_opened_again_knows_who_waits() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(&family("park", ""))
        .exec("PRAGMA foreign_keys = off; PRAGMA journal_mode = wal; INSERT INTO c VALUES (10, 1, '')");
    let other = a.reopen();
    other.exec("PRAGMA foreign_keys = off");
    drop(a);
    assert_eq!(hidden(&other), ["'c'|x'01090a'"]);
    other.exec("BEGIN; INSERT INTO p VALUES (1, ''); ROLLBACK");
    assert_eq!(other.int("SELECT count(*) FROM c"), 0);
    other.exec("INSERT INTO p VALUES (1, '')");
    let a = other.reopen();
    assert_eq!(a.int("SELECT count(*) FROM c"), 1);
    a.exec("PRAGMA foreign_keys = off; BEGIN; SAVEPOINT s; DELETE FROM p; ROLLBACK TO s; COMMIT");
    assert_eq!(other.int("SELECT count(*) FROM c"), 1);
    other.exec("DELETE FROM p");
    assert_eq!(a.int("SELECT count(*) FROM c"), 0);
    let b = site(&family("park", ""));
    b.apply(&a.changeset());
    assert_converged(&[&a, &b]);
}

#[test]
fn what_no_rule_tells_alike_everywhere_is_refused_with_a_way_out() {
    let a = Site::memory();
    a.exec(
        "CREATE TABLE local (id INTEGER PRIMARY KEY, v); CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, v); CRR p;
         CREATE TABLE to_local (id INTEGER PRIMARY KEY NOT NULL, l REFERENCES local);
         CREATE TABLE mismatch (id INTEGER PRIMARY KEY NOT NULL, l REFERENCES p (v));
         CREATE TABLE generated (id INTEGER PRIMARY KEY NOT NULL, l, g AS (l) REFERENCES p);
         CREATE TABLE tree (id INTEGER PRIMARY KEY NOT NULL, up REFERENCES tree, name UNIQUE);
         CREATE TABLE plain (id INTEGER PRIMARY KEY NOT NULL, p INT REFERENCES p)",
    );
    for (table, options, reason) in [
        ("to_local", "{\"fk\":\"park\"}", "run crsql_as_crr on \"local\" first"),
        ("mismatch", "{\"fk\":\"cascade\"}", "mismatch"),
        ("generated", "{\"fk\":\"park\"}", "generated"),
        ("tree", "{\"fk\":\"park\",\"unique\":\"winner\"}", "itself"),
        ("plain", "{}", "\"fk\":\"park\""),
        ("plain", "{\"fk\":\"drop\"}", "\"ignore\", \"park\", \"cascade\""),
    ] {
        let error = a.error(&format!("SELECT crsql_as_crr('{table}', '{options}')"));
        assert!(error.contains(reason), "{table}: {error}");
        assert_eq!(a.rows("SELECT \"table\" FROM crsql_crrs"), ["'p'"]);
    }
    a.exec("SELECT crsql_as_crr('to_local', '{\"fk\":\"ignore\"}'); SELECT crsql_as_crr('plain', '{\"fk\":\"park\"}')");
    let error = a.error("SELECT crsql_as_table('p')");
    assert!(error.contains("plain") && error.contains("ignore"), "{error}");
}

#[test]
fn tables_that_need_each_other_can_both_be_replicated() {
    let schema =
        "PRAGMA foreign_keys = off; CREATE TABLE a (id INTEGER PRIMARY KEY NOT NULL, b INT REFERENCES b DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE b (id INTEGER PRIMARY KEY NOT NULL, a INT REFERENCES a DEFERRABLE INITIALLY DEFERRED);
        SELECT crsql_as_crr('a', '{\"fk\":\"park\"}'); SELECT crsql_as_crr('b', '{\"fk\":\"park\"}')";
    for arrival in ARRIVALS {
        let [x, y] = sites(schema);
        x.exec("PRAGMA foreign_keys = on; BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); COMMIT");
        deliver(&y, &mut x.changes(), arrival);
        assert_eq!(y.int("SELECT count(*) FROM a, b"), 1, "{arrival:?}");
        y.exec("DELETE FROM a");
        assert_eq!(y.int("SELECT count(*) FROM b"), 0);
        sync(&x, &y);
        assert_converged(&[&x, &y]);
        assert_sound(&[&x, &y]);
    }
}

#[test]
fn a_site_that_begins_again_keeps_unsent_children_and_shows_those_that_have_parents() {
    for enforced in ["off", "on"] {
        let [a, c] = sites(&family("park", "ON DELETE CASCADE"));
        for s in [&a, &c] {
            s.exec(&format!("PRAGMA foreign_keys = {enforced}"));
        }
        a.exec("INSERT INTO p VALUES (1, ''), (2, ''); INSERT INTO c VALUES (10, 1, ''), (20, 2, '')");
        sync(&a, &c);
        a.exec("DELETE FROM c WHERE p = 1; DELETE FROM p WHERE id = 1");
        a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
        assert!(a.int("SELECT crsql_gc() ->> 'tombstones_collected'") > 0);
        c.exec("INSERT INTO c VALUES (11, 1, 'orphan'), (21, 2, 'new'); INSERT INTO p VALUES (3, ''); INSERT INTO c VALUES (31, 3, '')");
        c.value_with("SELECT crsql_rebootstrap(?1)", &[&a.changeset()]);
        assert_eq!(c.rows("SELECT id FROM c ORDER BY id"), ["20", "21", "31"], "{enforced}");
        assert_eq!(hidden(&c), ["'c'|x'01090b'"]);
        assert_sound(&[&c]);
        sync(&a, &c);
        assert_eq!(a.rows("SELECT id FROM c ORDER BY id"), ["20", "21", "31"]);
        assert_eq!(a.digest(), c.digest());
        assert_sound(&[&a, &c]);
    }
}

#[test]
fn an_orphan_whose_action_clashes_waits_and_the_merge_ends() {
    let [a, b]: [Site; 2] = sites(
        "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL);
         CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, p INT REFERENCES p ON DELETE SET NULL, name UNIQUE);
         CRR p; SELECT crsql_as_crr('c', '{\"fk\":\"cascade\",\"unique\":\"winner\"}'); INSERT INTO p VALUES (1)",
    );
    sync(&a, &b);
    a.exec("INSERT INTO c VALUES (1, 1, 'same')");
    b.exec("DELETE FROM p; INSERT INTO c VALUES (2, NULL, 'other')");
    // The later of two versions of a name keeps it.
    b.exec("UPDATE c SET name = 'same'");
    sync(&a, &b);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    for site in [&a, &b] {
        assert_eq!(site.rows("SELECT id, p, name FROM c"), ["2|NULL|'same'"]);
        assert_eq!(site.doctor(), "[]");
    }
}
