//! `crsql_automigrate`: the database becomes what a schema text says, or stays as it is.
#![cfg(feature = "static")]

mod support;

use rusqlite::Connection;
use support::text;

fn open(sql: &str) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    crsql::register(&db).unwrap();
    db.execute_batch(sql).unwrap();
    db
}

fn migrate(db: &Connection, schema: &str) -> String {
    text(db, &format!("SELECT crsql_automigrate('{}')", schema.replace('\'', "''")))
}

fn schema_of(db: &Connection) -> String {
    text(
        db,
        "SELECT group_concat(type || ' ' || name || ' ' || coalesce(sql, ''), char(10)) FROM sqlite_master",
    )
}

const FIRST: &str = "CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, old INT);
    CREATE INDEX by_old ON todo (old); SELECT crsql_as_crr('todo');
    CREATE TABLE gone (id INTEGER PRIMARY KEY, a); SELECT crsql_as_crr('gone'); CREATE TABLE plain (x)";

const SECOND: &str =
    "CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, done INT NOT NULL DEFAULT 0);
    CREATE INDEX by_title ON todo (title); SELECT crsql_as_crr('todo'); CREATE TABLE plain (x, y);
    CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT); SELECT crsql_as_crr('tag')";

#[test]
fn a_migration_keeps_the_history_of_what_stays() {
    let db = open("");
    assert_eq!(migrate(&db, FIRST), "migration complete");
    db.execute_batch(
        "INSERT INTO todo VALUES ('a', 'milk', 1); UPDATE todo SET title = 'oat'; INSERT INTO gone VALUES (1, 2)",
    )
    .unwrap();
    assert_eq!(migrate(&db, SECOND), "migration complete");
    assert_eq!(text(&db, "SELECT group_concat(name) FROM pragma_table_info('todo')"), "id,title,done");
    assert_eq!(text(&db, "SELECT group_concat(name) FROM pragma_table_info('plain')"), "x,y");
    assert_eq!(
        text(
            &db,
            "SELECT group_concat(cid || val || col_version) FROM crsql_changes WHERE \"table\" = 'todo'"
        ),
        "titleoat2"
    );
    assert_eq!(text(&db, "SELECT count(*) FROM crsql_changes WHERE \"table\" = 'gone'"), "0");
    db.execute_batch("UPDATE todo SET done = 1; INSERT INTO tag VALUES (1, 'x')").unwrap();
    assert_eq!(text(&db, "SELECT group_concat(cid) FROM crsql_changes WHERE db_version > 3"), "done,name");
    assert_eq!(text(&db, "SELECT crsql_doctor()"), "[]");
    let before = schema_of(&db);
    assert_eq!(migrate(&db, SECOND), "migration complete");
    assert_eq!(schema_of(&db), before, "doing it again changes nothing");
}

#[test]
fn a_migration_that_fails_anywhere_changes_nothing() {
    let db = open(FIRST);
    db.execute_batch("INSERT INTO todo VALUES ('a', 'milk', 1); BEGIN; INSERT INTO plain VALUES (1)")
        .unwrap();
    let before = schema_of(&db);
    for (schema, error) in [
        ("", "the schema creates no table"),
        ("-- nothing", "the schema creates no table"),
        ("CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title INT, old INT)", "nothing was changed"),
        (
            "CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, old INT); DROP TABLE plain",
            "not how to get there",
        ),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY); SELECT crsql_as_crr('nowhere')", "nothing was changed"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, a); SELECT no_such_function()", "nothing was changed"),
        (
            "CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, title TEXT, old INT, n INT DEFAULT 1 CHECK (n > 1))",
            "CHECK constraint",
        ),
        (
            "CREATE TABLE todo (id TEXT PRIMARY KEY NOT NULL, n REFERENCES plain (x)); SELECT crsql_as_crr('todo')",
            "nothing was changed",
        ),
    ] {
        let found = migrate(&db, schema);
        assert!(found.starts_with("error: ") && found.contains(error), "{schema}: {found}");
        assert!(schema_of(&db) == before, "{schema}");
    }
    db.execute_batch("ROLLBACK; UPDATE todo SET title = 'still tracked'").unwrap();
    assert_eq!(text(&db, "SELECT val FROM crsql_changes WHERE cid = 'title'"), "still tracked");
    assert_eq!(text(&db, "SELECT crsql_doctor()"), "[]");
}

#[test]
fn arguments_of_other_kinds_are_refused() {
    let db = open("CREATE TABLE t (a)");
    for (arguments, error) in [
        ("", "crsql_automigrate() takes 1 argument, the schema to migrate to, or 2: schema, cleanup, not 0"),
        ("NULL", "crsql_automigrate() argument 1 must be text, not NULL"),
        ("5", "crsql_automigrate() argument 1 must be text, not an integer"),
        ("'CREATE TABLE t (a)', NULL", "crsql_automigrate() argument 2 must be text, not NULL"),
        (
            "'a', 'b', 'c'",
            "crsql_automigrate() takes 1 argument, the schema to migrate to, or 2: schema, cleanup, not 3",
        ),
    ] {
        assert_eq!(text(&db, &format!("SELECT crsql_automigrate({arguments})")), format!("error: {error}"));
    }
    assert_eq!(
        text(&db, "SELECT crsql_automigrate('CREATE TABLE t (a)', 'SELECT crsql_finalize()')"),
        "migration complete"
    );
}

#[test]
fn an_ordered_table_follows_when_the_schema_orders_it() {
    let now = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, ord);";
    let order = "SELECT crsql_as_crr('t'); SELECT crsql_fract_as_ordered('t', 'ord');";
    let db = open(&format!("{now}{order} INSERT INTO t VALUES (1, 2, 1)"));
    let next = "CREATE TABLE t (id INTEGER PRIMARY KEY, ord, b);";
    let refused = migrate(&db, next);
    assert!(
        refused.starts_with("error: table \"t\" is ordered") && refused.contains("crsql_fract_as_ordered"),
        "{refused}"
    );
    assert_eq!(migrate(&db, &format!("{next}{order}")), "migration complete");
    db.execute_batch("INSERT INTO t_fractindex (id, b, after_id) VALUES (2, 'x', 1), (3, 'y', 1)").unwrap();
    assert_eq!(text(&db, "SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY ord)"), "1,3,2");
    assert_eq!(migrate(&db, "CREATE TABLE other (a)"), "migration complete");
    assert_eq!(
        text(
            &db,
            "SELECT group_concat(name) FROM sqlite_master WHERE name NOT LIKE '%crsql%' AND name NOT LIKE 'sqlite%'"
        ),
        "other"
    );
}
