//! Schema changes: begin/commit_alter, plain ALTER, renames, drops, key changes, crsql_as_table.

use crsql_tests::rng::seeds;
use crsql_tests::{
    NO_ROWS, Rng, Site, TempDir, assert_converged, assert_same_tables, exchange_all, pull, site, sites, sync,
};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t";

fn alter(s: &Site, ddl: &str) {
    s.exec(&format!("SELECT crsql_begin_alter('t'); {ddl}; SELECT crsql_commit_alter('t')"));
}

#[test]
fn begin_and_commit_alter_answer_as_upstream() {
    let a = site(T);
    assert_eq!(a.rows("SELECT crsql_begin_alter('t')"), ["'OK'"]);
    a.exec("ALTER TABLE t ADD COLUMN z");
    assert_eq!(a.rows("SELECT crsql_commit_alter('t')"), ["NULL"]);
    assert_eq!(a.rows("SELECT crsql_begin_alter('main', 't')"), ["'OK'"]);
    a.exec("ALTER TABLE t ADD COLUMN w; SELECT crsql_commit_alter('main', 't')");
    assert!(a.conn.is_autocommit());
    a.exec("SELECT crsql_begin_alter('main', 't'); SELECT crsql_commit_alter('main', 't', 1)");
    assert!(a.conn.is_autocommit());
}

#[test]
fn an_added_column_replicates_from_then_on() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    sync(&a, &b);
    for s in [&a, &b] {
        alter(s, "ALTER TABLE t ADD COLUMN z TEXT NOT NULL DEFAULT 'dz'");
    }
    b.exec("UPDATE t SET z = 'set by b'");
    a.exec("INSERT INTO t (id, z) VALUES (2, 'set by a')");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id, z FROM t ORDER BY id"), ["1|'set by b'", "2|'set by a'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn writes_between_begin_and_commit_alter_are_tracked() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'), (2, 'gone', 'y'), (3, 'moved', 'y')");
    sync(&a, &b);
    alter(
        &a,
        "UPDATE t SET x = 'before the ddl' WHERE id = 1; ALTER TABLE t ADD COLUMN z;
         UPDATE t SET z = 'after the ddl' WHERE id = 1; DELETE FROM t WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3;
         INSERT INTO t (id, z) VALUES (4, 'inserted')",
    );
    alter(&b, "ALTER TABLE t ADD COLUMN z");
    sync(&a, &b);
    assert_eq!(
        b.rows("SELECT id, x, z FROM t ORDER BY id"),
        ["1|'before the ddl'|'after the ddl'", "4|NULL|'inserted'", "30|'moved'|NULL"]
    );
    assert_converged(&[&a, &b]);
}

#[test]
fn a_dropped_column_leaves_the_others_and_their_history() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'); UPDATE t SET x = 'x2'; UPDATE t SET x = 'x3'");
    sync(&a, &b);
    for s in [&a, &b] {
        alter(s, "ALTER TABLE t DROP COLUMN y");
    }
    assert_eq!(a.rows("SELECT col_version FROM crsql_changes WHERE cid = 'x'"), ["3"]);
    b.exec("UPDATE t SET x = 'x4'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'x4'"]);
    assert_same_tables(&["t"], &[&a, &b]);
}

#[test]
fn a_rebuild_of_the_table_inside_alter_keeps_rows_and_history() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y'); UPDATE t SET x = 'x2' WHERE id = 1; DELETE FROM t WHERE id = 2");
    sync(&a, &b);
    alter(
        &a,
        "CREATE TABLE t2 (id INTEGER PRIMARY KEY NOT NULL, y DEFAULT 'other default', x TEXT CHECK (x <> 'bad'));
         INSERT INTO t2 (id, x, y) SELECT id, x, y FROM t; DROP TABLE t; ALTER TABLE t2 RENAME TO t",
    );
    assert_eq!(a.rows("SELECT val, col_version, cl FROM crsql_changes WHERE cid = 'x'"), ["'x2'|2|1"]);
    a.exec("UPDATE t SET y = 'after'");
    b.exec("UPDATE t SET x = 'from b'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id, x, y FROM t"), ["1|'from b'|'after'"]);
    a.exec("INSERT INTO t (id, x) VALUES (2, 'again')");
    assert_eq!(
        a.rows("SELECT DISTINCT cl FROM crsql_changes WHERE pk = x'010902'"),
        ["3"],
        "the tombstone was kept"
    );
}

#[test]
fn a_renamed_column_keeps_its_history() {
    for ddl in [
        "SELECT crsql_begin_alter('t'); ALTER TABLE t RENAME COLUMN x TO new; SELECT crsql_commit_alter('t')",
        "ALTER TABLE t RENAME COLUMN x TO new",
    ] {
        let [a, b] = sites(T);
        a.exec("INSERT INTO t VALUES (1, 'v1', 'y'); UPDATE t SET x = 'v2'; UPDATE t SET x = 'v3'");
        sync(&a, &b);
        b.exec("UPDATE t SET x = 'v4'");
        for s in [&a, &b] {
            s.exec(ddl);
        }
        assert_eq!(
            a.rows("SELECT cid, val, col_version FROM crsql_changes WHERE cid <> 'y'"),
            ["'new'|'v3'|3"],
            "{ddl}"
        );
        sync(&a, &b);
        assert_eq!(a.rows("SELECT new FROM t"), ["'v4'"], "{ddl}");
        a.exec("UPDATE t SET new = 'v5'");
        sync(&a, &b);
        assert_eq!(b.rows("SELECT new FROM t"), ["'v5'"], "{ddl}");
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_renamed_key_column_keeps_the_rows() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    sync(&a, &b);
    for s in [&a, &b] {
        s.exec("ALTER TABLE t RENAME COLUMN id TO ident");
    }
    a.exec("UPDATE t SET x = 'renamed'; INSERT INTO t (ident, x) VALUES (2, 'new')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT ident, x FROM t ORDER BY ident"), ["1|'renamed'", "2|'new'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_renamed_table_keeps_its_history_under_the_new_name() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'); UPDATE t SET x = 'x2'");
    sync(&a, &b);
    for s in [&a, &b] {
        s.exec("ALTER TABLE t RENAME TO renamed");
    }
    a.exec("UPDATE renamed SET x = 'x3'; INSERT INTO renamed (id) VALUES (2)");
    assert_eq!(a.rows("SELECT DISTINCT [table] FROM crsql_changes"), ["'renamed'"]);
    assert_eq!(a.rows("SELECT col_version FROM crsql_changes WHERE cid = 'x' AND pk = x'010901'"), ["3"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id, x FROM renamed ORDER BY id"), ["1|'x3'", "2|NULL"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_table_dropped_without_ceremony_can_be_made_again() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    sync(&a, &b);
    a.exec("DROP TABLE t");
    assert!(a.try_exec("SELECT * FROM crsql_changes").is_ok());
    a.exec(T);
    a.exec("INSERT INTO t VALUES (2, 'second life', 'y')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id FROM t WHERE id = 2"), ["2"]);
    sync(&a, &b);
    assert_same_tables(&["t"], &[&a, &b]);
}

#[test]
fn a_drop_inside_begin_and_commit_alter_works_or_says_why_not() {
    let a = site(T);
    a.exec("CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, v); CRR u; INSERT INTO u VALUES (1, 1)");
    a.exec("SELECT crsql_begin_alter('t'); DROP TABLE t");
    let _ = a.try_exec("SELECT crsql_commit_alter('t')");
    if !a.conn.is_autocommit() {
        a.exec("COMMIT");
    }
    a.exec("UPDATE u SET v = 2");
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE [table] = 'u'"), ["2"]);
}

#[test]
fn a_changed_key_starts_new_rows_and_other_tables_are_untouched() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'), (2, 'xx', 'y')");
    sync(&a, &b);
    for s in [&a, &b] {
        alter(
            s,
            "CREATE TABLE t2 (id INTEGER NOT NULL, x NOT NULL DEFAULT '', y, PRIMARY KEY (id, x));
             INSERT INTO t2 SELECT * FROM t; DROP TABLE t; ALTER TABLE t2 RENAME TO t",
        );
    }
    a.exec("INSERT INTO t VALUES (1, 'other x', 'new')");
    b.exec("UPDATE t SET y = 'by b' WHERE id = 2");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t ORDER BY id, x"), ["1|'other x'|'new'", "1|'x'|'y'", "2|'xx'|'by b'"]);
    assert_same_tables(&["t"], &[&a, &b]);
}

#[test]
fn a_key_changed_by_another_connection_is_seen_at_the_next_statement() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec(T);
    let other = a.reopen();
    other.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    alter(
        &a,
        "CREATE TABLE t2 (id TEXT PRIMARY KEY NOT NULL, x); INSERT INTO t2 SELECT id, x FROM t; DROP TABLE t;
         ALTER TABLE t2 RENAME TO t",
    );
    other.exec("INSERT INTO t (id, x) VALUES ('new', 'z')");
    assert_eq!(other.rows("SELECT pk, val FROM crsql_changes WHERE val = 'z'"), ["x'010b036e6577'|'z'"]);
    let peer = site("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, x); CRR t");
    pull(&peer, &other);
    assert_eq!(peer.rows("SELECT * FROM t ORDER BY id"), ["'1'|'x'", "'new'|'z'"]);
}

#[test]
fn commit_alter_without_begin_or_table_is_an_error_that_says_so() {
    let a = site(T);
    a.exec("CREATE TABLE plain (id INTEGER PRIMARY KEY NOT NULL)");
    for call in
        ["crsql_commit_alter('missing')", "crsql_commit_alter('plain')", "crsql_begin_alter('missing')"]
    {
        let message = a.error(&format!("SELECT {call}"));
        assert!(message.contains("missing") || message.contains("plain"), "{call}: {message}");
        assert!(a.conn.is_autocommit(), "{call} leaves no transaction open");
    }
    let _ = a.try_exec("SELECT crsql_commit_alter('t')");
    assert!(a.conn.is_autocommit());
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
}

#[test]
fn an_alter_that_fails_inside_begin_and_commit_leaves_tracking_on() {
    let [a, b] = sites(T);
    a.exec("SELECT crsql_begin_alter('t')");
    a.error("ALTER TABLE t ADD COLUMN x");
    a.exec("INSERT INTO t VALUES (1, 'swallowed the error', 'y')");
    a.exec("SELECT crsql_commit_alter('t'); UPDATE t SET y = 'still tracked'");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'swallowed the error'|'still tracked'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_alter_never_committed_leaves_tracking_on() {
    let [a, b] = sites(T);
    a.exec("BEGIN; SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z; INSERT INTO t (id, z) VALUES (1, 'z')");
    a.exec("COMMIT; UPDATE t SET x = 'tracked'");
    b.exec("ALTER TABLE t ADD COLUMN z");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id, x, z FROM t"), ["1|'tracked'|'z'"]);
}

#[test]
fn an_alter_rolled_back_leaves_the_old_schema_tracked() {
    let [a, b] = sites(T);
    a.exec("BEGIN; SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z; SELECT crsql_commit_alter('t'); INSERT INTO t (id, z) VALUES (1, 'z'); ROLLBACK");
    a.exec("INSERT INTO t VALUES (2, 'x', 'y'); UPDATE t SET x = 'x2'");
    assert_eq!(a.rows("SELECT cid, val FROM crsql_changes ORDER BY db_version"), ["'y'|'y'", "'x'|'x2'"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_alter_that_would_make_the_table_ineligible_is_refused_whole() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    a.exec("SELECT crsql_begin_alter('t'); CREATE UNIQUE INDEX u ON t (x)");
    let message = a.error("SELECT crsql_commit_alter('t')");
    assert!(message.contains('t') && message.contains("nique"), "{message}");
    if !a.conn.is_autocommit() {
        a.exec("ROLLBACK");
    }
    a.exec("INSERT INTO t VALUES (2, 'x', 'y')");
    assert!(a.int("SELECT count(*) FROM crsql_changes WHERE pk = x'010902'") == 2, "still tracked");
}

#[test]
fn as_table_makes_it_an_ordinary_table_again() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'); CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, v); CRR u; INSERT INTO u VALUES (1, 1)");
    sync(&a, &b);
    let before = a.db_version();
    assert_eq!(a.rows("SELECT crsql_as_table('t')"), ["NULL"]);
    a.exec("INSERT INTO t VALUES (2, 'not tracked', 'y')");
    assert_eq!(a.rows("SELECT * FROM t WHERE id = 1"), ["1|'x'|'y'"]);
    assert_eq!(a.rows("SELECT DISTINCT [table] FROM crsql_changes WHERE [table] <> 't'"), ["'u'"]);
    assert!(a.db_version() >= before, "versions never go back");
    a.exec("UPDATE u SET v = 2");
    assert!(a.own_site_version() > 1);
    a.exec("SELECT crsql_as_table('missing')");
    a.exec("CRR t");
    a.exec("UPDATE t SET x = 'tracked again'");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT x FROM t ORDER BY id"), ["'tracked again'", "'tracked again'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_change_of_a_default_does_not_change_what_replicas_show() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t (id, x) VALUES (1, 'x')");
    sync(&a, &b);
    alter(
        &b,
        "CREATE TABLE t2 (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'another default'); INSERT INTO t2 SELECT * FROM t;
         DROP TABLE t; ALTER TABLE t2 RENAME TO t",
    );
    a.exec("INSERT INTO t (id, x) VALUES (2, 'written with the default of a')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT y FROM t ORDER BY id"), ["'dy'", "'dy'"]);
    assert_converged(&[&a, &b]);
}

/// What a schema change may be called on each replica, in order.
const RENAMES: [&str; 4] = [
    "ALTER TABLE t RENAME COLUMN x TO new",
    "ALTER TABLE t RENAME TO renamed",
    "SELECT crsql_begin_alter('renamed'); ALTER TABLE renamed RENAME COLUMN y TO second; SELECT crsql_commit_alter('renamed')",
    "ALTER TABLE renamed RENAME COLUMN new TO newest",
];

#[test]
fn a_column_that_replicas_rename_at_different_times_converges() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x1', 'y1'), (2, 'x2', 'y2')");
    sync(&a, &b);
    a.exec("ALTER TABLE t RENAME COLUMN x TO new; UPDATE t SET new = 'of a' WHERE id = 1");
    b.exec("UPDATE t SET x = 'of b' WHERE id = 2; INSERT INTO t VALUES (3, 'x3', 'y3')");
    sync(&a, &b);
    let all = ["1|'of a'|'y1'", "2|'of b'|'y2'", "3|'x3'|'y3'"];
    assert_eq!(a.rows("SELECT * FROM t"), all, "x is what new was called");
    assert_eq!(b.rows("SELECT cid, val FROM crsql_parked"), ["'new'|'of a'"]);
    b.exec("ALTER TABLE t RENAME COLUMN x TO new; UPDATE t SET y = 'y4' WHERE id = 1");
    assert_eq!(b.rows("SELECT new FROM t"), ["'of a'", "'of b'", "'x3'"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    assert_eq!(a.rows("SELECT * FROM crsql_parked"), NO_ROWS);
}

#[test]
fn a_table_that_replicas_rename_at_different_times_converges() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x1', 'y1')");
    sync(&a, &b);
    a.exec("ALTER TABLE t RENAME TO renamed; UPDATE renamed SET x = 'of a'");
    b.exec("INSERT INTO t VALUES (2, 'of b', 'y2')");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM renamed"), ["1|'of a'|'y1'", "2|'of b'|'y2'"]);
    assert_eq!(b.rows(r#"SELECT "table", val FROM crsql_parked"#), ["'renamed'|'of a'"]);
    b.exec("ALTER TABLE t RENAME TO renamed; INSERT INTO renamed (id) VALUES (3)");
    assert_eq!(b.rows("SELECT id, x FROM renamed"), ["1|'of a'", "2|'of b'", "3|NULL"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    // Whoever makes a table under the old name means that one.
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, z); SELECT crsql_as_crr('t'); INSERT INTO t VALUES (1, 'z')");
    pull(&b, &a);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'z'"]);
    assert_eq!(b.rows("SELECT cid, val FROM crsql_parked"), ["'z'|'z'"], "here it is a former name");
}

#[test]
fn a_name_that_was_in_between_is_known_as_well() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x1', 'y1')");
    sync(&a, &b);
    b.exec("ALTER TABLE t RENAME COLUMN x TO mid; UPDATE t SET mid = 'of b'");
    a.exec("ALTER TABLE t RENAME COLUMN x TO mid; INSERT INTO t (id) VALUES (2)");
    a.exec("ALTER TABLE t RENAME COLUMN mid TO last");
    pull(&a, &b);
    assert_eq!(a.rows("SELECT last FROM t"), ["'of b'", "NULL"]);
    assert_eq!(a.rows("SELECT * FROM crsql_parked"), NO_ROWS);
}

#[test]
fn replicas_that_rename_in_any_order_converge() {
    for seed in seeds(20) {
        let mut rng = Rng::new(seed);
        let all: [Site; 3] = sites(T);
        let mut steps = [0; 3];
        all[0].exec("INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y')");
        exchange_all(&[&all[0], &all[1], &all[2]]);
        for step in 0..80 {
            let i = rng.below(3);
            let (s, renames) = (&all[i], steps[i]);
            let table = if renames < 2 { "t" } else { "renamed" };
            let x = ["x", "new", "new", "new", "newest"][renames];
            let y = if renames < 3 { "y" } else { "second" };
            match rng.below(9) {
                0 if renames < 4 => {
                    s.exec(RENAMES[renames]);
                    steps[i] += 1;
                }
                1 => drop(s.exec(&format!("DELETE FROM {table} WHERE id = {}", rng.below(5)))),
                2..=3 => drop(s.exec(&format!(
                    "INSERT OR REPLACE INTO {table} (id, {x}, {y}) VALUES ({}, 'i{step}', 'j{step}')",
                    rng.below(5)
                ))),
                4..=5 => {
                    let column = if rng.one_in(2) { x } else { y };
                    s.exec(&format!("UPDATE {table} SET {column} = 'u{step}' WHERE id = {}", rng.below(5)));
                }
                _ => {
                    let from = &all[rng.below(3)];
                    match rng.below(3) {
                        0 => s.merge(&from.changes()),
                        _ => drop(pull(s, from)),
                    }
                }
            }
        }
        for (s, renames) in all.iter().zip(steps) {
            RENAMES[renames..].iter().for_each(|rename| drop(s.exec(rename)));
            s.exec("INSERT OR IGNORE INTO renamed (id) VALUES (9); DELETE FROM renamed WHERE id = 9");
        }
        exchange_all(&[&all[0], &all[1], &all[2]]);
        exchange_all(&[&all[0], &all[1], &all[2]]);
        for s in &all {
            assert_eq!(s.rows("SELECT * FROM crsql_parked"), NO_ROWS, "seed {seed}");
            assert_eq!(s.doctor(), "[]", "seed {seed}");
        }
        assert_converged(&[&all[0], &all[1], &all[2]]);
    }
}
