//! `crsql_automigrate`: from the schema that is to the schema that is wanted, without losing what was not named.

use crsql_tests::{NO_ROWS, Site, assert_converged, site, sites, sync};

const V1: &str = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY NOT NULL, x TEXT);
SELECT crsql_as_crr('t');";
const V2: &str = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY NOT NULL, x TEXT, y INT DEFAULT 5);
CREATE TABLE IF NOT EXISTS u (id TEXT PRIMARY KEY NOT NULL, v);
CREATE INDEX IF NOT EXISTS t_y ON t (y);
SELECT crsql_as_crr('t'); SELECT crsql_as_crr('u');";

fn migrate(a: &Site, schema: &str) -> Result<String, String> {
    a.try_values_with("SELECT crsql_automigrate(?1)", &[&schema]).map(|rows| rows[0][0].as_str().to_string())
}

#[test]
fn a_schema_is_created_and_then_extended() {
    let [a, b] = sites("SELECT 1");
    assert_eq!(migrate(&a, V1).unwrap(), "migration complete");
    a.exec("INSERT INTO t VALUES (1, 'kept')");
    assert_eq!(migrate(&a, V2).unwrap(), "migration complete");
    a.exec("INSERT INTO u VALUES ('k', 1); UPDATE t SET y = 6");
    migrate(&b, V2).unwrap();
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'kept'|6"]);
    assert_eq!(b.rows("SELECT * FROM u"), ["'k'|1"]);
    assert_converged(&[&a, &b]);
    assert_eq!(a.rows("SELECT name FROM sqlite_schema WHERE name = 't_y'"), ["'t_y'"]);
}

#[test]
fn migrating_twice_changes_nothing() {
    let a = Site::memory();
    migrate(&a, V2).unwrap();
    a.exec("INSERT INTO t VALUES (1, 'x', 1)");
    let before = (a.changes(), a.digest(), a.int("PRAGMA schema_version"));
    migrate(&a, V2).unwrap();
    assert_eq!((a.changes(), a.digest()), (before.0, before.1));
}

#[test]
fn a_column_no_longer_named_is_dropped_and_the_rest_keeps_its_history() {
    let a = Site::memory();
    migrate(&a, V2).unwrap();
    a.exec("INSERT INTO t VALUES (1, 'x', 1); UPDATE t SET x = 'x2'");
    migrate(
        &a,
        V2.replace(", y INT DEFAULT 5", "").replace("CREATE INDEX IF NOT EXISTS t_y ON t (y);", "").as_str(),
    )
    .unwrap();
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'x2'"]);
    assert_eq!(a.rows("SELECT cid, col_version FROM crsql_changes WHERE cid = 'x'"), ["'x'|2"]);
    a.exec("UPDATE t SET x = 'x3'");
    assert_eq!(a.int("SELECT max(col_version) FROM crsql_changes"), 3);
}

#[test]
fn nothing_and_null_are_refused_or_do_nothing() {
    let a = site(&V1.replace(";\n", "; "));
    a.exec("INSERT INTO t VALUES (1, 'kept')");
    for sql in [
        "SELECT crsql_automigrate('')",
        "SELECT crsql_automigrate(NULL)",
        "SELECT crsql_automigrate(' -- nothing')",
        "SELECT crsql_automigrate()",
    ] {
        let _ = a.try_exec(sql);
        assert_eq!(a.rows("SELECT * FROM t"), ["1|'kept'"], "{sql}");
        assert!(a.conn.is_autocommit());
    }
}

#[test]
fn a_schema_that_does_not_parse_changes_nothing() {
    let a = site(&V1.replace(";\n", "; "));
    a.exec("INSERT INTO t VALUES (1, 'kept')");
    for schema in [
        "CREATE TABLE u (",
        "CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL); SELECT nonsense();",
        "this is not sql",
    ] {
        let message = migrate(&a, schema).unwrap_err();
        assert!(message.len() > 8, "{message}");
        assert!(a.conn.is_autocommit(), "no savepoint is left open");
        assert_eq!(a.rows("SELECT * FROM t"), ["1|'kept'"], "{schema}");
    }
    a.exec("UPDATE t SET x = 'tracked'");
    assert_eq!(a.rows("SELECT val FROM crsql_changes"), ["'tracked'"]);
}

#[test]
fn a_migration_inside_a_transaction_belongs_to_it() {
    let a = Site::memory();
    migrate(&a, V1).unwrap();
    a.exec("INSERT INTO t VALUES (1, 'x'); BEGIN; INSERT INTO t VALUES (2, 'x')");
    migrate(&a, V2).unwrap();
    a.exec("UPDATE t SET y = 9; ROLLBACK");
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'x'"]);
    a.exec("UPDATE t SET x = 'after'");
    assert_eq!(a.rows("SELECT cid, val FROM crsql_changes"), ["'x'|'after'"]);
}

#[test]
fn statements_on_one_line_are_all_honoured() {
    let a = Site::memory();
    migrate(&a, "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY NOT NULL, x); SELECT crsql_as_crr('t'); CREATE TABLE IF NOT EXISTS u (id INTEGER PRIMARY KEY NOT NULL);").unwrap();
    a.exec("INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1)");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 1);
}

#[test]
fn a_dropped_replicated_table_leaves_the_others_working() {
    let a = Site::memory();
    migrate(&a, V2).unwrap();
    a.exec("INSERT INTO t VALUES (1, 'x', 1); INSERT INTO u VALUES ('k', 1)");
    migrate(&a, V1.replace("x TEXT", "x TEXT, y INT DEFAULT 5").as_str()).unwrap();
    assert_eq!(a.rows("SELECT name FROM sqlite_schema WHERE name = 'u'"), NO_ROWS);
    a.exec("UPDATE t SET x = 'works'");
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'works'"]);
}
