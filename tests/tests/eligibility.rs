//! Which tables may become replicated, and what is said about the others.

use crsql_tests::{Site, assert_converged, site, sites, sync};

/// Panics unless `crsql_as_crr` refuses the table with a sentence that holds all these words.
fn assert_refused(ddl: &str, words: &[&str]) {
    let a = Site::memory();
    a.exec(ddl);
    let message = a.error("SELECT crsql_as_crr('t')");
    for word in words {
        assert!(message.to_lowercase().contains(&word.to_lowercase()), "{ddl}: {message:?} lacks {word:?}");
    }
    let triggers = a.int("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%crsql%'");
    assert_eq!(triggers, 0, "{ddl}: nothing is left behind");
}

#[test]
fn a_table_without_a_usable_primary_key_is_refused() {
    assert_refused("CREATE TABLE t (x)", &["t", "primary key"]);
    assert_refused("CREATE TABLE t (id TEXT PRIMARY KEY, x)", &["t", "primary key", "null"]);
    assert_refused(
        "CREATE TABLE t (a INT NOT NULL, b INT, PRIMARY KEY (a, b))",
        &["t", "primary key", "null"],
    );
}

#[test]
fn a_missing_table_a_view_and_a_virtual_table_are_refused() {
    assert_refused("SELECT 1", &["t"]);
    assert_refused("CREATE VIEW t AS SELECT 1 AS id", &["t"]);
    assert_refused("CREATE VIRTUAL TABLE t USING fts5(x)", &["t"]);
}

#[test]
fn unique_indices_besides_the_key_are_refused() {
    assert_refused("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x UNIQUE)", &["t", "unique"]);
    assert_refused("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y, UNIQUE (x, y))", &["t", "unique"]);
    assert_refused(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CREATE UNIQUE INDEX i ON t (x) WHERE x > 1",
        &["t", "unique"],
    );
    assert_refused(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CREATE UNIQUE INDEX i ON t (lower(x))",
        &["t", "unique"],
    );
}

#[test]
fn foreign_keys_are_refused_unless_a_policy_is_named() {
    assert_refused(
        "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL); CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, p REFERENCES p (id))",
        &["t", "foreign key"],
    );
    assert_refused(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, p, FOREIGN KEY (p) REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)",
        &["t", "foreign key"],
    );
}

#[test]
fn autoincrement_is_refused_but_the_word_is_not() {
    assert_refused(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, x)",
        &["t", "auto-increment"],
    );
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, [autoincrement] TEXT DEFAULT 'autoincrement') /* not autoincrement */; CRR t",
    );
    a.exec("INSERT INTO t (id) VALUES (1)");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn not_null_without_a_default_is_refused_and_names_the_column() {
    assert_refused(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, title TEXT NOT NULL)",
        &["t", "not null", "default"],
    );
    site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, title TEXT NOT NULL DEFAULT ''); CRR t");
}

#[test]
fn a_not_null_generated_column_needs_no_default() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x INT DEFAULT 0, g INT NOT NULL AS (x + 1)); CRR t",
    );
    a.exec("INSERT INTO t (id, x) VALUES (1, 4)");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT g FROM t"), ["5"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn ordinary_features_are_accepted() {
    for ddl in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x INT CHECK (x > 0) DEFAULT 1); CREATE INDEX i ON t (x)",
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, x) WITHOUT ROWID",
        "CREATE TABLE t (id TEXT, x, PRIMARY KEY (id)) WITHOUT ROWID",
        "CREATE TABLE t (id ANY PRIMARY KEY NOT NULL, x BLOB) STRICT",
        "CREATE TABLE t (id INT PRIMARY KEY NOT NULL)",
        "CREATE TABLE t (x, y, id ANY NOT NULL, PRIMARY KEY (id DESC))",
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x DEFAULT (abs(-5)), y DEFAULT CURRENT_TIMESTAMP, z DEFAULT (randomblob(4)))",
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x TEXT COLLATE NOCASE)",
        "CREATE TABLE IF NOT EXISTS t(id INTEGER NOT NULL PRIMARY KEY,x)",
    ] {
        let [a, b] = sites(&format!("{ddl}; CRR t"));
        a.exec("INSERT INTO t (id) VALUES (1), ('2')");
        sync(&a, &b);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn defaults_that_are_expressions_are_evaluated_once_at_the_author() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, r DEFAULT (randomblob(8)), d DEFAULT CURRENT_TIMESTAMP); CRR t",
    );
    a.exec("INSERT INTO t (id) VALUES (1), (2), (3)");
    sync(&a, &b);
    assert_eq!(b.int("SELECT count(DISTINCT r) FROM t"), 3);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_table_of_another_schema_is_refused_or_works_but_never_half() {
    let a = Site::memory();
    a.exec("ATTACH ':memory:' AS aux; CREATE TABLE aux.t (id INTEGER PRIMARY KEY NOT NULL, x)");
    let message = a.error("SELECT crsql_as_crr('aux', 't')");
    assert!(message.contains("aux") || message.contains("t"), "{message}");
    a.error("SELECT crsql_as_crr('t')");
    a.exec("CREATE TEMP TABLE u (id INTEGER PRIMARY KEY NOT NULL, x)");
    a.error("SELECT crsql_as_crr('u')");
    a.exec("INSERT INTO aux.t VALUES (1, 'x'); INSERT INTO u VALUES (1, 'x')");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 0);
}

#[test]
fn the_extensions_own_tables_and_sqlites_are_refused() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    for row in a.values("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%crsql%'") {
        a.error(&format!("SELECT crsql_as_crr('{}')", row[0].as_str()));
    }
    a.error("SELECT crsql_as_crr('sqlite_schema')");
    a.error("SELECT crsql_as_crr('crsql_changes')");
}

#[test]
fn two_arguments_are_schema_and_table_and_an_object_is_options() {
    let a = Site::memory();
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, x)");
    assert_eq!(a.text("SELECT crsql_as_crr('main', 't')"), "OK");
    assert_eq!(a.text("SELECT crsql_as_crr('u', '{}')"), "OK");
    a.exec("INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1)");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
}

#[test]
fn a_refusal_inside_a_transaction_undoes_only_itself() {
    let a = Site::memory();
    a.exec("BEGIN; CREATE TABLE good (id INTEGER PRIMARY KEY NOT NULL, x); INSERT INTO good VALUES (1, 1); CREATE TABLE bad (x)");
    a.error("SELECT crsql_as_crr('bad')");
    a.exec("SELECT crsql_as_crr('good'); COMMIT");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 1);
}

#[test]
fn options_are_declared_shown_and_kept_and_unknown_ones_are_named() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x)");
    for (options, why) in [
        (r#"{"uniq":"winner"}"#, "no option is called \"uniq\""),
        (r#"{"unique":"loser"}"#, "\"unique\" is one of"),
        (r#"{"columns":{"x":"blob"}}"#, "no type is called \"blob\""),
        ("{", "expected"),
    ] {
        let error = a.error(&format!("SELECT crsql_as_crr('t', '{options}')"));
        assert!(error.contains(why) && error.contains("crsql_as_crr"), "{error}");
    }
    assert_eq!(a.text(r#"SELECT crsql_as_crr('t', '{"columns":{"x":"register"},"triggers":"off"}')"#), "OK");
    assert_eq!(a.text("SELECT crsql_as_crr('t')"), "OK", "what is not named stays");
    assert_eq!(a.rows("SELECT * FROM crsql_crrs"), [r#"'t'|'{"triggers":"off"}'"#]);
    a.exec("ALTER TABLE t RENAME COLUMN x TO y; INSERT INTO t VALUES (1, 1); SELECT crsql_as_crr('t')");
    assert_eq!(a.rows("SELECT * FROM crsql_columns"), ["'t'|'y'|'register'"]);
}
