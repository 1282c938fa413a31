//! REPLACE in all its forms is a new incarnation of the row, on every kind of table.

use crsql_tests::{NO_ROWS, Site, assert_converged, sites, sync};

/// Tables whose keys SQLite stores in different ways, with the literal of a key.
const KINDS: [(&str, &str, &str); 7] = [
    ("integer", "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'd'); CRR t", "1"),
    ("text", "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x, y DEFAULT 'd'); CRR t", "'key'"),
    ("blob", "CREATE TABLE t (id BLOB PRIMARY KEY NOT NULL, x, y DEFAULT 'd'); CRR t", "x'0001'"),
    ("untyped", "CREATE TABLE t (id PRIMARY KEY NOT NULL, x, y DEFAULT 'd'); CRR t", "2.5"),
    (
        "nocase",
        "CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, x, y DEFAULT 'd'); CRR t",
        "'key'",
    ),
    (
        "without rowid",
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x, y DEFAULT 'd') WITHOUT ROWID; CRR t",
        "'key'",
    ),
    ("last column", "CREATE TABLE t (x, y DEFAULT 'd', id ANY PRIMARY KEY NOT NULL) STRICT; CRR t", "'k'"),
];

/// Runs the test on each kind of table, with `recursive_triggers` off and on.
fn on_every_table(test: impl Fn(&Site, &Site, &str, &str)) {
    for (kind, schema, key) in KINDS {
        let schema = match kind {
            "last column" => schema.replace("(x, y DEFAULT", "(x ANY, y ANY DEFAULT"),
            _ => schema.to_string(),
        };
        for recursive in ["off", "on"] {
            let [a, b] = sites(&schema);
            for s in [&a, &b] {
                s.exec(&format!("PRAGMA recursive_triggers = {recursive}"));
            }
            test(&a, &b, key, &format!("{kind} key, recursive_triggers {recursive}"));
        }
    }
}

fn clocks(a: &Site) -> Vec<String> {
    a.rows("SELECT cid, val, col_version, cl FROM crsql_changes ORDER BY db_version, seq")
}

#[test]
fn insert_or_replace_of_a_new_row_is_an_insert() {
    on_every_table(|a, _, key, what| {
        a.exec(&format!("INSERT OR REPLACE INTO t (id, x) VALUES ({key}, 'a')"));
        assert_eq!(clocks(a), ["'x'|'a'|1|1", "'y'|'d'|1|1"], "{what}");
    });
}

#[test]
fn insert_or_replace_of_a_live_row_is_a_new_incarnation_of_all_columns() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!("INSERT INTO t (id, x, y) VALUES ({key}, 'a', 'b'); UPDATE t SET x = 'c'"));
        sync(a, b);
        a.exec(&format!("INSERT OR REPLACE INTO t (id, x) VALUES ({key}, 'e')"));
        assert_eq!(clocks(a), ["'-1'|NULL|3|3", "'x'|'e'|1|3", "'y'|'d'|1|3"], "{what}");
        sync(a, b);
        assert_eq!(b.rows("SELECT x, y FROM t"), ["'e'|'d'"], "{what}");
        assert_converged(&[a, b]);
    });
}

#[test]
fn replace_into_is_the_same_as_insert_or_replace() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!(
            "REPLACE INTO t (id, x) VALUES ({key}, 'a'); REPLACE INTO t (id, x) VALUES ({key}, 'a')"
        ));
        assert_eq!(
            clocks(a),
            ["'-1'|NULL|3|3", "'x'|'a'|1|3", "'y'|'d'|1|3"],
            "{what}: even with equal values"
        );
        sync(a, b);
        assert_converged(&[a, b]);
    });
}

#[test]
fn replace_over_a_tombstone_is_the_next_incarnation() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!("INSERT INTO t (id, x) VALUES ({key}, 'a'); DELETE FROM t"));
        a.exec(&format!("REPLACE INTO t (id, x) VALUES ({key}, 'b')"));
        assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["3"], "{what}");
        a.exec(&format!("REPLACE INTO t (id, x) VALUES ({key}, 'c')"));
        assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["5"], "{what}");
        sync(a, b);
        assert_converged(&[a, b]);
    });
}

#[test]
fn replace_in_the_transaction_of_the_insert_is_a_new_incarnation_too() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!(
            "BEGIN; INSERT INTO t (id, x) VALUES ({key}, 'a'); REPLACE INTO t (id, x) VALUES ({key}, 'b'); COMMIT"
        ));
        assert_eq!(clocks(a), ["'-1'|NULL|3|3", "'x'|'b'|1|3", "'y'|'d'|1|3"], "{what}");
        assert_eq!(
            a.rows("SELECT min(seq), max(seq), count(DISTINCT seq) FROM crsql_changes"),
            ["0|2|3"],
            "{what}"
        );
        sync(a, b);
        assert_converged(&[a, b]);
    });
}

#[test]
fn replace_beats_concurrent_updates_of_the_old_incarnation() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!("INSERT INTO t (id, x) VALUES ({key}, 'a')"));
        sync(a, b);
        for i in 0..4 {
            b.exec(&format!("UPDATE t SET x = 'b{i}', y = 'b{i}'"));
        }
        a.exec(&format!("REPLACE INTO t (id, x) VALUES ({key}, 'replaced')"));
        sync(a, b);
        assert_eq!(b.rows("SELECT x, y FROM t"), ["'replaced'|'d'"], "{what}");
        assert_converged(&[a, b]);
    });
}

#[test]
fn replace_of_several_rows_in_one_statement_replaces_each() {
    let [a, b] = sites(KINDS[1].1);
    a.exec("INSERT INTO t VALUES ('a', 1, 1), ('b', 2, 2), ('c', 3, 3)");
    sync(&a, &b);
    a.exec("REPLACE INTO t SELECT id, x + 10, y FROM t WHERE id <> 'b'");
    assert_eq!(
        a.rows("SELECT pk, max(cl) FROM crsql_changes GROUP BY pk ORDER BY pk"),
        ["x'010b0161'|3", "x'010b0162'|1", "x'010b0163'|3"]
    );
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn the_same_row_replaced_twice_in_one_statement_ends_in_its_last_form() {
    let [a, b] = sites(KINDS[1].1);
    a.exec("INSERT INTO t VALUES ('a', 1, 1)");
    a.exec("REPLACE INTO t VALUES ('a', 2, 2), ('a', 3, 3)");
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["5"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["'a'|3|3"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn update_or_replace_deletes_the_row_in_the_way() {
    on_every_table(|a, b, key, what| {
        let other = if key.starts_with('\'') { "'other'" } else { "77" };
        a.exec(&format!("INSERT INTO t (id, x) VALUES ({key}, 'moved'), ({other}, 'in the way')"));
        sync(a, b);
        for i in 0..5 {
            b.exec(&format!("UPDATE t SET x = 'busy {i}' WHERE id = {other}"));
        }
        sync(a, b);
        a.exec(&format!("UPDATE OR REPLACE t SET id = {other} WHERE id = {key}"));
        assert_eq!(a.rows("SELECT x FROM t"), ["'moved'"], "{what}");
        let cls = a.rows("SELECT DISTINCT pk, cl FROM crsql_changes ORDER BY cl");
        assert_eq!(cls.len(), 2, "{what}: {cls:?}");
        assert!(cls[0].ends_with("|2") && cls[1].ends_with("|3"), "{what}: {cls:?}");
        sync(a, b);
        assert_eq!(b.rows("SELECT x FROM t"), ["'moved'"], "{what}");
        assert_converged(&[a, b]);
    });
}

#[test]
fn update_or_replace_that_keeps_the_key_is_an_update() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!("INSERT INTO t (id, x) VALUES ({key}, 'a')"));
        a.exec("UPDATE OR REPLACE t SET x = 'b'");
        assert_eq!(clocks(a), ["'y'|'d'|1|1", "'x'|'b'|2|1"], "{what}");
        sync(a, b);
        assert_converged(&[a, b]);
    });
}

#[test]
fn composite_keys_are_replaced_by_all_their_parts() {
    let [a, b] = sites("CREATE TABLE t (v, b TEXT NOT NULL, a INT NOT NULL, PRIMARY KEY (a, b)); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x', 1), (2, 'x', 2)");
    a.exec("REPLACE INTO t VALUES (3, 'x', 1)");
    assert_eq!(
        a.rows("SELECT pk, val, cl FROM crsql_changes WHERE cid = 'v' ORDER BY pk"),
        ["x'0209010b0178'|3|3", "x'0209020b0178'|2|1"]
    );
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_primary_key_declared_on_conflict_replace_is_replaced_or_refused() {
    let a = Site::memory();
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL ON CONFLICT REPLACE, x) WITHOUT ROWID");
    let _ = a.try_exec("SELECT crsql_as_crr('t')");
    a.exec("CREATE TABLE u (id TEXT NOT NULL, x, PRIMARY KEY (id) ON CONFLICT REPLACE)");
    if a.try_exec("SELECT crsql_as_crr('u')").is_err() {
        return;
    }
    a.exec("INSERT INTO u VALUES ('k', 1); INSERT INTO u VALUES ('k', 2)");
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes WHERE [table] = 'u'"), ["3"]);
}

#[test]
fn a_replace_that_is_rolled_back_leaves_the_old_incarnation() {
    on_every_table(|a, b, key, what| {
        a.exec(&format!("INSERT INTO t (id, x) VALUES ({key}, 'a')"));
        let before = a.changes();
        a.exec(&format!(
            "BEGIN; SAVEPOINT s; REPLACE INTO t (id, x) VALUES ({key}, 'b'); ROLLBACK TO s; COMMIT"
        ));
        assert_eq!(a.changes(), before, "{what}");
        a.exec("UPDATE t SET x = 'c'");
        sync(a, b);
        assert_converged(&[a, b]);
    });
}

#[test]
fn replacing_rows_of_a_deleted_table_content_never_revives_old_values() {
    let [a, b] = sites(KINDS[2].1);
    a.exec("INSERT INTO t VALUES (x'01', 1, 1), (x'02', 2, 2); DELETE FROM t; REPLACE INTO t (id, x) VALUES (x'01', 5)");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT x, y FROM t"), ["5|'d'"]);
    b.exec("DELETE FROM t");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
    assert_converged(&[&a, &b]);
}
