//! `crsql_fract_as_ordered`: rows in an order that users choose.
#![cfg(feature = "static")]

mod support;

use rusqlite::Connection;
use support::text;

fn open(sql: &str) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    crsql::register(&db).unwrap();
    db.execute_batch("PRAGMA trusted_schema = off").unwrap();
    db.execute_batch(sql).unwrap();
    db
}

const TODO: &str = "CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, list INT, title TEXT NOT NULL DEFAULT 'new', ord TEXT);
    SELECT crsql_as_crr('todo'); SELECT crsql_fract_as_ordered('todo', 'ord', 'list')";

fn order(db: &Connection, list: &str) -> String {
    text(
        db,
        &format!(
            "SELECT group_concat(id) FROM (SELECT id FROM todo WHERE list IS {list} ORDER BY ord COLLATE BINARY)"
        ),
    )
}

fn sync(from: &Connection, to: &Connection) {
    let changeset: Vec<u8> = from.query_row("SELECT crsql_changeset(0)", [], |row| row.get(0)).unwrap();
    to.query_row("SELECT crsql_apply(?1)", [changeset], |_| Ok(())).unwrap();
}

#[test]
fn rows_go_to_either_end_on_insert_and_on_update() {
    let db = open(TODO);
    db.execute_batch(
        "INSERT INTO todo (id, list, ord) VALUES (1, 1, 1), (2, 1, 1), (3, 1, -1), (4, NULL, 1), (5, NULL, -1), (6, 2, 1)",
    )
    .unwrap();
    assert_eq!(
        (order(&db, "1"), order(&db, "NULL"), order(&db, "2")),
        ("3,1,2".into(), "5,4".into(), "6".into())
    );
    db.execute_batch("UPDATE todo SET ord = 1 WHERE id = 3; UPDATE todo SET ord = -1 WHERE id = 2").unwrap();
    assert_eq!(order(&db, "1"), "2,1,3");
    db.execute_batch("UPDATE todo SET list = 2, ord = -1 WHERE id = 1").unwrap();
    assert_eq!((order(&db, "1"), order(&db, "2")), ("2,3".into(), "1,6".into()));
    assert_eq!(text(&db, "SELECT crsql_doctor()"), "[]");
}

#[test]
fn the_view_places_a_row_behind_another_one() {
    let db = open(TODO);
    db.execute_batch(
        "INSERT INTO todo (id, list, ord) VALUES (1, 1, 1), (2, 1, 1), (3, 1, 1);
         INSERT INTO todo_fractindex (id, list, after_id) VALUES (4, 1, 1);
         INSERT INTO todo_fractindex (id, list, title, after_id) VALUES (5, 1, 'x', NULL), (6, 1, 'y', 3), (7, 1, 'z', 99)",
    )
    .unwrap();
    assert_eq!(order(&db, "1"), "7,5,1,4,2,3,6");
    assert_eq!(text(&db, "SELECT title FROM todo WHERE id = 4"), "new");
    db.execute_batch(
        "UPDATE todo_fractindex SET after_id = 2 WHERE id = 7; UPDATE todo_fractindex SET after_id = NULL WHERE id = 3",
    )
    .unwrap();
    assert_eq!(order(&db, "1"), "3,5,1,4,2,7,6");
    db.execute_batch("UPDATE todo_fractindex SET title = 'renamed' WHERE id = 5").unwrap();
    assert_eq!(order(&db, "1"), "3,5,1,4,2,7,6", "a title is no place");
    assert_eq!(text(&db, "SELECT title FROM todo WHERE id = 5"), "renamed");
    db.execute_batch("UPDATE todo_fractindex SET title = 'both', after_id = 6 WHERE id = 5").unwrap();
    assert_eq!(order(&db, "1"), "3,1,4,2,7,6,5");
    assert_eq!(text(&db, "SELECT title FROM todo WHERE id = 5"), "both");
    db.execute_batch("UPDATE todo_fractindex SET after_id = 5 WHERE id = 5").unwrap();
    assert_eq!(order(&db, "1"), "3,1,4,2,7,6,5", "behind itself it stays");
    db.execute_batch("UPDATE todo_fractindex SET id = 50, after_id = 3 WHERE id = 5").unwrap();
    assert_eq!(order(&db, "1"), "3,50,1,4,2,7,6");
    db.execute_batch("UPDATE todo_fractindex SET ord = -1 WHERE id = 6").unwrap();
    assert_eq!(order(&db, "1"), "6,3,50,1,4,2,7");
}

#[test]
fn two_sites_that_insert_at_one_place_make_different_keys_and_agree() {
    let [a, b] = [open(TODO), open(TODO)];
    a.execute_batch("INSERT INTO todo (id, list, ord) VALUES (1, 1, 1), (2, 1, 1)").unwrap();
    sync(&a, &b);
    assert_eq!(order(&b, "1"), "1,2");
    a.execute_batch("INSERT INTO todo_fractindex (id, list, after_id) VALUES (10, 1, 1), (11, 1, 2)")
        .unwrap();
    b.execute_batch("INSERT INTO todo_fractindex (id, list, after_id) VALUES (20, 1, 1), (21, 1, 2)")
        .unwrap();
    sync(&a, &b);
    sync(&b, &a);
    assert_eq!(order(&a, "1"), order(&b, "1"));
    assert_eq!(text(&a, "SELECT count(DISTINCT ord) || max(length(ord)) FROM todo"), "613");
    assert!(order(&a, "1").starts_with("1,"));
    // So there is room between the two.
    let middle = order(&a, "1").split(',').nth(1).unwrap().to_owned();
    a.execute_batch(&format!("INSERT INTO todo_fractindex (id, list, after_id) VALUES (30, 1, {middle})"))
        .unwrap();
    assert_eq!(order(&a, "1").split(',').nth(2), Some("30"));
}

#[test]
fn equal_keys_make_room_by_moving_the_anchor() {
    let db = open(TODO);
    db.execute_batch(
        "INSERT INTO todo (id, list, ord) VALUES (1, 1, 'a '), (2, 1, 'a!'), (3, 1, 'a!'), (4, 1, 'a!'), (5, 1, 'a\"');
         INSERT INTO todo_fractindex (id, list, after_id) VALUES (6, 1, 3)",
    )
    .unwrap();
    assert!(["1,3,6,2,4,5", "1,3,6,4,2,5"].contains(&order(&db, "1").as_str()), "{}", order(&db, "1"));
    db.execute_batch("UPDATE todo_fractindex SET after_id = 2 WHERE id = 1").unwrap();
    assert!(order(&db, "1").contains("2,1,4"), "{}", order(&db, "1"));
}

#[test]
fn composite_keys_names_that_need_quotes_and_tables_without_rowid_are_ordered_too() {
    for (options, key) in
        [("WITHOUT ROWID", "PRIMARY KEY (\"a b\", \"select\")"), ("", "PRIMARY KEY (\"a b\", \"select\")")]
    {
        let db = open(&format!(
            "CREATE TABLE \"it's \"\"12\"\"\" (\"a b\" TEXT NOT NULL COLLATE NOCASE, \"select\" INT NOT NULL, \"l;1\", \"l'2\",
               \"or\"\"d\" COLLATE NOCASE, g AS (\"select\" + 1), {key}) {options};
             SELECT crsql_as_crr('it''s \"12\"');
             SELECT crsql_fract_as_ordered('it''s \"12\"', 'or\"d', 'l;1', 'l''2');
             INSERT INTO \"it's \"\"12\"\"\" VALUES ('x', 1, NULL, 5, -1), ('x', 2, NULL, 5, 1), ('y', 1, 0, 5, 1);
             INSERT INTO \"it's \"\"12\"\"_fractindex\" (\"a b\", \"select\", \"l'2\", \"after_a b\", after_select) VALUES ('z', 9, 5, 'X', 1);
             UPDATE \"it's \"\"12\"\"_fractindex\" SET after_select = 2, \"after_a b\" = 'x' WHERE \"select\" = 1 AND \"a b\" = 'x'",
        ));
        let order = "SELECT group_concat(k) FROM (SELECT \"a b\" || \"select\" AS k FROM \"it's \"\"12\"\"\" WHERE \"l;1\" IS NULL
            ORDER BY \"or\"\"d\" COLLATE BINARY)";
        assert_eq!(text(&db, order), "z9,x2,x1", "{options}");
        assert_eq!(text(&db, "SELECT crsql_doctor()"), "[]");
    }
}

#[test]
fn a_table_that_does_not_replicate_and_one_named_by_a_number_are_ordered_too() {
    let db = open(
        "CREATE TABLE \"1\" (k TEXT PRIMARY KEY NOT NULL, ord); SELECT crsql_fract_as_ordered('1', 'ord');
                   INSERT INTO \"1\" VALUES ('a', 1)",
    );
    assert_eq!(text(&db, "SELECT ord FROM \"1\""), "a ");
    db.execute_batch(
        "SELECT crsql_as_crr('1'); INSERT INTO \"1\" VALUES ('b', 1);
         SELECT crsql_begin_alter('1'); ALTER TABLE \"1\" ADD COLUMN x; SELECT crsql_commit_alter('1');
         INSERT INTO \"1\" (k, ord) VALUES ('c', -1)",
    )
    .unwrap();
    assert_eq!(text(&db, "SELECT group_concat(k) FROM (SELECT k FROM \"1\" ORDER BY ord)"), "c,a,b");
    assert_eq!(text(&db, "SELECT crsql_doctor()"), "[]");
}

#[test]
fn ordering_again_replaces_what_was_there_also_after_a_rename() {
    let db = open(TODO);
    db.execute_batch(
        "INSERT INTO todo (id, list, ord) VALUES (1, 1, 1);
         SELECT crsql_fract_as_ordered('todo', 'ord');
         ALTER TABLE todo RENAME TO task; SELECT crsql_fract_as_ordered('task', 'ord', 'list', 'title');
         INSERT INTO task (id, list, ord) VALUES (2, 1, -1); INSERT INTO task_fractindex (id, list, title, after_id) VALUES (3, 1, 'new', 2)",
    )
    .unwrap();
    assert_eq!(text(&db, "SELECT group_concat(id) FROM (SELECT id FROM task ORDER BY ord)"), "2,3,1");
    assert_eq!(
        text(
            &db,
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'task' AND name LIKE '%fractindex%'"
        ),
        "2"
    );
}

#[test]
fn temporary_tables_of_the_same_name_are_not_touched() {
    let db = open(TODO);
    db.execute_batch(
        "CREATE TEMP TABLE todo (id, list, title, ord); CREATE TEMP VIEW todo_fractindex AS SELECT 1;
         INSERT INTO main.todo (id, list, ord) VALUES (1, 1, 1);
         SELECT crsql_fract_as_ordered('todo', 'ord', 'list');
         INSERT INTO main.todo_fractindex (id, list, after_id) VALUES (2, 1, NULL)",
    )
    .unwrap();
    assert_eq!(text(&db, "SELECT count(*) FROM temp.todo"), "0");
    assert_eq!(text(&db, "SELECT group_concat(id) FROM (SELECT id FROM main.todo ORDER BY ord)"), "2,1");
}

#[test]
fn what_cannot_be_ordered_is_refused_and_leaves_nothing() {
    let db = open(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, ord, g AS (ord)); CREATE TABLE nokey (ord); CREATE VIEW v AS SELECT 1 AS ord;
         CREATE TABLE a (id INTEGER PRIMARY KEY, after_id, ord); CREATE TABLE b (id INTEGER PRIMARY KEY, ord);
         CREATE TABLE b_fractindex (x)",
    );
    for (arguments, error) in [
        ("", "Must provide at least 2 arguments -- the table name and the column to order by"),
        ("'t'", "Must provide at least 2 arguments -- the table name and the column to order by"),
        ("'t', 'x'", "all columns are not present in the base table: \"t\" has no column \"x\""),
        ("'t', 'ord', 'x'", "all columns are not present in the base table: \"t\" has no column \"x\""),
        ("'t', NULL", "crsql_fract_as_ordered() argument 2 must be text, not NULL"),
        ("NULL, 'ord'", "crsql_fract_as_ordered() argument 1 must be text, not NULL"),
        ("'t', 'ord', 5", "crsql_fract_as_ordered() argument 3 must be text, not an integer"),
        ("'gone', 'ord'", "cannot order table \"gone\": there is no such table in main"),
        ("'v', 'ord'", "cannot order table \"v\": it is not an ordinary table"),
        (
            "'nokey', 'ord'",
            "cannot order table \"nokey\": it has no primary key; add one, since a row is placed after another one by its key",
        ),
        (
            "'t', 'g'",
            "cannot order table \"t\": column \"g\" is generated, or part of the key or of the list; give the order a \
             column of its own",
        ),
        (
            "'a', 'ord'",
            "cannot order table \"a\": its column \"after_id\" has a name that the view needs; rename it",
        ),
        (
            "'b', 'ord'",
            "cannot order table \"b\": its view \"b_fractindex\" would have the name of a table; rename that",
        ),
        ("'__crsql_state', 'id'", "cannot order table \"__crsql_state\": the name is reserved"),
    ] {
        assert_eq!(
            text(&db, &format!("SELECT crsql_fract_as_ordered({arguments})")),
            format!("error: {error}")
        );
    }
    assert_eq!(text(&db, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"), "0");
}

#[test]
fn a_row_can_be_moved_down_for_views_that_cr_sqlite_made() {
    let db = open(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, l, ord); INSERT INTO t VALUES (1, 'x', 'a '), (2, 'x', 'a!'), (3, 'x', 'a!')",
    );
    let fix = "SELECT crsql_fract_fix_conflict_return_old_key";
    assert_eq!(text(&db, &format!("{fix}('t', 'ord', 'l', -1, 'id', 2)")), "a!");
    assert_eq!(text(&db, "SELECT group_concat(ord, '|') FROM t"), "a |a P|a!");
    assert_eq!(text(&db, &format!("{fix}('t', 'ord', -1, 'id', 9)")), "NULL");
    for (arguments, error) in [
        (
            "'t'",
            "takes the table, its order column, its list columns, -1, key columns and their values, not 1",
        ),
        ("'t', 'ord', 'l', 'id', 'x'", ": the number -1 must stand behind the list columns"),
        ("'t', 'ord', -1, 'id', 1, 2", ": give as many key values as key columns, and at least one"),
        ("'t', 'gone', -1, 'id', 1", ": table \"t\" has no column \"gone\""),
        ("'sqlite_master', 'sql', -1, 'name', 1", ": there is no table \"sqlite_master\""),
    ] {
        let found = text(&db, &format!("{fix}({arguments})"));
        assert!(found.starts_with("error: ") && found.ends_with(error), "{found}");
    }
}
