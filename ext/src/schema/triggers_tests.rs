//! The text of the triggers, and that SQLite fires them as intended. Stand-ins record the calls of the capture
//! functions; nothing is captured.

mod watched;

use super::describe_tests::ODD_NAMES;
use super::ident::Ident;
use super::names::{column_names_in, key_names_in, table_id_in};
use super::support::{database, table};
use super::table::TableInfo;
use super::triggers::{CaptureIds, Trigger, alter_triggers, capture_triggers, is_capture_trigger};
use watched::Watched;

/// Value columns get ids that are not their positions.
fn ids(table: &TableInfo) -> CaptureIds {
    CaptureIds {
        table: 1,
        columns: table.value_columns().map(|column| (column as i64 + 10, column)).collect(),
        typed: Vec::new(),
    }
}

fn creates(triggers: &[Trigger]) -> Vec<&str> {
    triggers.iter().map(|trigger| trigger.create.as_str()).collect()
}

#[test]
fn capture_learns_of_an_update_or_delete_when_it_is_prepared() {
    let t = Watched::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
    for sql in ["UPDATE t SET a = 1", "DELETE FROM t WHERE id = 1"] {
        assert_eq!(t.calls.notes(|| drop(t.connection.prepare(sql).unwrap())), ["ahead"], "{sql}");
        let mut statement = t.connection.prepare(sql).unwrap();
        t.connection.execute_batch("CREATE TABLE u (a); DROP TABLE u").unwrap();
        let notes = t.calls.notes(|| assert_eq!(statement.execute([]), Ok(0)));
        assert_eq!(notes, ["ahead"], "{sql}, prepared before a change of the schema");
    }
}

#[test]
fn updates_and_deletes_need_no_statement_journal() {
    let t = Watched::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1), (2, 2)");
    t.connection.execute_batch("BEGIN; DELETE FROM crsql_capture").unwrap();
    // With the journal of a statement a savepoint opens.
    let notes = |sql: &str| t.calls.notes(|| t.connection.execute_batch(sql).unwrap());
    assert!(notes("INSERT INTO t VALUES (3, 3)").contains(&"savepoint"), "an INSERT may fail by its key");
    for sql in ["UPDATE t SET a = 2 WHERE id = 1", "UPDATE t SET a = 3", "DELETE FROM t"] {
        assert_eq!(notes(sql), ["ahead"], "{sql}");
    }
}

#[test]
fn the_sql_for_an_integer_key() {
    let t = table("CREATE TABLE t (id INTEGER PRIMARY KEY, a, \"b\"\"b\", g AS (a))", "t");
    assert_eq!(
        creates(&capture_triggers(&t, &ids(&t))),
        [
            "CREATE TRIGGER main.\"__crsql_1_insert\" AFTER INSERT ON \"t\"\n\
         WHEN crsql_capture_insert(1, NEW.\"id\")\n\
         BEGIN SELECT 1 FROM crsql_capture; END",
            "CREATE TRIGGER main.\"__crsql_1_delete\" AFTER DELETE ON \"t\"\n\
         BEGIN SELECT crsql_capture_delete(1, OLD.\"id\")\n\
         UNION ALL SELECT 1 FROM crsql_capture_ahead WHERE 0; END",
            "CREATE TRIGGER main.\"__crsql_1_key\" AFTER UPDATE OF \"id\", _rowid_, rowid, oid ON \"t\"\n\
         WHEN crsql_capture_key(1, 1, NEW.\"id\", OLD.\"id\")\n\
         BEGIN DELETE FROM crsql_capture; END",
            "CREATE TRIGGER main.\"__crsql_1_update_0\" AFTER UPDATE ON \"t\"\n\
         BEGIN SELECT crsql_capture_update(1, NEW.\"id\", 11, NEW.\"a\", OLD.\"a\", 12, NEW.\"b\"\"b\", OLD.\"b\"\"b\")\n\
         UNION ALL SELECT 1 FROM crsql_capture_ahead WHERE 0; END",
        ]
    );
    assert_eq!(capture_triggers(&t, &ids(&t))[0].drop(), "DROP TRIGGER IF EXISTS main.\"__crsql_1_insert\"");
}

#[test]
fn the_guards_of_a_rowid_table() {
    let sql = "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, rowid, u TEXT);
               CREATE UNIQUE INDEX i ON t (u COLLATE NOCASE) WHERE rowid > 0 -- positive";
    let t = table(sql, "t");
    let triggers = capture_triggers(&t, &ids(&t));
    assert_eq!(
        creates(&triggers[..3]),
        [
            "CREATE TRIGGER main.\"__crsql_1_insert\" AFTER INSERT ON \"t\"\n\
         WHEN crsql_capture_insert(1, NEW._rowid_, NEW.\"k\")\n\
         BEGIN DELETE FROM crsql_capture; END",
            "CREATE TRIGGER main.\"__crsql_1_delete\" AFTER DELETE ON \"t\"\n\
         BEGIN SELECT crsql_capture_delete(1, OLD._rowid_, OLD.\"k\")\n\
         UNION ALL SELECT 1 FROM crsql_capture_ahead WHERE 0; END",
            "CREATE TRIGGER main.\"__crsql_1_key\" AFTER UPDATE OF \"k\", _rowid_, oid ON \"t\"\n\
         WHEN crsql_capture_key(1, 2, NEW._rowid_, NEW.\"k\", OLD._rowid_, OLD.\"k\")\n\
         BEGIN DELETE FROM crsql_capture; END",
        ]
    );
    assert_eq!(
        creates(&triggers[4..]),
        [
            "CREATE TRIGGER main.\"__crsql_1_insert_guard\" BEFORE INSERT ON \"t\"\nBEGIN\n  \
         SELECT crsql_capture_candidate(1, 0, \"t\"._rowid_, \"t\".\"k\") FROM \"t\"\n  \
         WHERE \"t\".\"k\" COLLATE \"BINARY\" = NEW.\"k\";\n  \
         SELECT crsql_capture_candidate(1, 1, \"t\"._rowid_, \"t\".\"k\") FROM \"t\"\n  \
         WHERE NEW._rowid_ <> -1 AND \"t\"._rowid_ = NEW._rowid_;\n  \
         SELECT crsql_capture_candidate(1, 2, \"t\"._rowid_, \"t\".\"k\") FROM \"t\"\n  \
         WHERE \"t\".\"u\" COLLATE \"NOCASE\" = NEW.\"u\" AND (rowid > 0);\n\
         END",
            "CREATE TRIGGER main.\"__crsql_1_update_guard\" BEFORE UPDATE ON \"t\"\nBEGIN\n  \
         SELECT crsql_capture_candidate(1, 0, \"t\"._rowid_, \"t\".\"k\") FROM \"t\"\n  \
         WHERE \"t\".\"k\" COLLATE \"BINARY\" = NEW.\"k\" AND \"t\"._rowid_ <> OLD._rowid_;\n  \
         SELECT crsql_capture_candidate(1, 1, \"t\"._rowid_, \"t\".\"k\") FROM \"t\"\n  \
         WHERE \"t\"._rowid_ = NEW._rowid_ AND \"t\"._rowid_ <> OLD._rowid_;\n  \
         SELECT crsql_capture_candidate(1, 2, \"t\"._rowid_, \"t\".\"k\") FROM \"t\"\n  \
         WHERE \"t\".\"u\" COLLATE \"NOCASE\" = NEW.\"u\" AND (rowid > 0) AND \"t\"._rowid_ <> OLD._rowid_;\n\
         END",
        ]
    );
}

#[test]
fn the_sql_of_a_without_rowid_table_with_a_composite_key() {
    let t = table("CREATE TABLE t (a TEXT COLLATE NOCASE, v, b, PRIMARY KEY (b, a)) WITHOUT ROWID", "t");
    let triggers = capture_triggers(&t, &ids(&t));
    assert_eq!(
        creates(&triggers[2..]),
        [
            "CREATE TRIGGER main.\"__crsql_1_key\" AFTER UPDATE OF \"b\", \"a\" ON \"t\"\n\
         WHEN crsql_capture_key(1, 2, NEW.\"b\", NEW.\"a\", OLD.\"b\", OLD.\"a\")\n\
         BEGIN DELETE FROM crsql_capture; END",
            "CREATE TRIGGER main.\"__crsql_1_update_0\" AFTER UPDATE ON \"t\"\n\
         BEGIN SELECT crsql_capture_update(1, NEW.\"b\", NEW.\"a\", 11, NEW.\"v\", OLD.\"v\")\n\
         UNION ALL SELECT 1 FROM crsql_capture_ahead WHERE 0; END",
            "CREATE TRIGGER main.\"__crsql_1_insert_guard\" BEFORE INSERT ON \"t\"\n\
         BEGIN INSERT OR IGNORE INTO crsql_capture(op, a, b) VALUES (1, NEW.\"b\", NEW.\"a\"); END",
            "CREATE TRIGGER main.\"__crsql_1_update_guard\" BEFORE UPDATE OF \"b\", \"a\" ON \"t\"\nBEGIN\n  \
         SELECT crsql_capture_candidate(1, 0, \"t\".\"b\", \"t\".\"a\") FROM \"t\"\n  \
         WHERE \"t\".\"b\" COLLATE \"BINARY\" = NEW.\"b\" AND \"t\".\"a\" COLLATE \"NOCASE\" = NEW.\"a\" \
         AND NOT (\"t\".\"b\" COLLATE \"BINARY\" = OLD.\"b\" AND \"t\".\"a\" COLLATE \"NOCASE\" = OLD.\"a\");\n\
         END",
        ]
    );
}

#[test]
fn each_write_of_an_integer_key_table_makes_one_call() {
    let t = Watched::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)");
    assert_eq!(t.calls("INSERT INTO t VALUES (5, 'x', NULL)"), ["insert 1 5"]);
    assert_eq!(t.calls("INSERT INTO t (a) VALUES (1), (2)"), ["insert 1 6", "insert 1 7"]);
    assert_eq!(t.calls("UPDATE t SET b = 1 WHERE id = 5"), ["update 1 5 11 x x 12 1 Null"]);
    assert_eq!(t.calls("UPDATE t SET id = 8 WHERE id = 5"), ["update 1 8 11 x x 12 1 1", "key 1 1 8 5"]);
    assert_eq!(t.calls("INSERT OR REPLACE INTO t VALUES (8, 1, 1)"), ["insert 1 8"]);
    assert_eq!(t.calls("INSERT INTO t VALUES (8, 1, 1) ON CONFLICT DO NOTHING"), [] as [&str; 0]);
    assert_eq!(
        t.calls("INSERT INTO t VALUES (8, 2, 1) ON CONFLICT DO UPDATE SET a = excluded.a"),
        ["update 1 8 11 2 1 12 1 1"]
    );
    assert_eq!(t.calls("DELETE FROM t WHERE id > 7"), ["delete 1 8"]);
    assert_eq!(
        t.calls("DELETE FROM t"),
        ["delete 1 6", "delete 1 7"],
        "no truncation while a trigger watches"
    );
}

#[test]
fn assigning_the_rowid_by_any_of_its_names_is_seen() {
    let t = Watched::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1)");
    for (to, name) in ["rowid", "_ROWID_", "oid", "id"].into_iter().enumerate() {
        let (from, to) = (to + 1, to + 2);
        assert_eq!(t.calls(&format!("UPDATE t SET {name} = {to}"))[1], format!("key 1 1 {to} {from}"));
    }
    let t = Watched::new("CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY); INSERT INTO t VALUES ('k')");
    assert_eq!(t.calls("UPDATE t SET rowid = 9"), ["update 1 9 k", "key 1 2 9 k 1 k"]);
}

#[test]
fn the_capture_table_joins_the_transaction_before_the_first_row_and_is_never_written() {
    let t = Watched::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
    // Capture joins by itself when these first call.
    for sql in ["INSERT INTO t VALUES (1, 1)", "UPDATE t SET a = 2", "DELETE FROM t"] {
        t.calls(sql);
        assert_eq!(t.calls.0.borrow().len(), 1, "{sql}");
    }
    let t = Watched::new("CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, a)");
    for sql in ["INSERT INTO t VALUES (1, 1)", "UPDATE t SET k = 2"] {
        t.calls(sql);
        assert_eq!(t.calls.0.borrow()[0], "begin", "{sql}");
    }
}

#[test]
fn a_replaced_row_is_announced_before_the_write() {
    let t = Watched::new(
        "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, u UNIQUE, v);
         INSERT INTO t VALUES ('a', 1, 0), ('b', 2, 0), ('c', NULL, 0), ('d', NULL, 0)",
    );
    assert_eq!(
        t.calls("INSERT OR REPLACE INTO t VALUES ('a', 2, 1)"),
        ["candidate 1 0 1 a", "candidate 1 2 2 b", "insert 1 5 a"]
    );
    assert_eq!(t.calls("INSERT INTO t VALUES ('e', NULL, 0)"), ["insert 1 6 e"]);
    assert_eq!(
        t.calls("INSERT OR IGNORE INTO t VALUES ('e', 2, 0)"),
        ["candidate 1 0 6 e", "candidate 1 2 5 a"]
    );
    assert_eq!(
        t.calls("UPDATE OR REPLACE t SET k = 'c' WHERE k = 'e'"),
        ["candidate 1 0 3 c", "update 1 6 c 11 Null Null 12 0 0", "key 1 2 6 c 6 e"]
    );
    assert_eq!(
        t.calls("UPDATE OR REPLACE t SET u = 2 WHERE k = 'd'"),
        ["candidate 1 2 5 a", "update 1 4 d 11 2 Null 12 0 0"]
    );
    assert_eq!(
        t.calls("UPDATE t SET k = k, u = u WHERE k = 'd'"),
        ["update 1 4 d 11 2 2 12 0 0", "key 1 2 4 d 4 d"]
    );
    assert_eq!(t.calls("UPDATE t SET v = v WHERE k = 'd'"), ["update 1 4 d 11 2 2 12 0 0"]);
    assert_eq!(
        t.calls("INSERT OR REPLACE INTO t (rowid, k) VALUES (4, 'z')"),
        ["candidate 1 1 4 d", "insert 1 4 z"]
    );
}

#[test]
fn candidates_are_found_by_the_indexes_own_comparison() {
    let t = Watched::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, n INT, p TEXT, g AS (n / 10));
         CREATE UNIQUE INDEX i ON t (p COLLATE RTRIM) WHERE n > 10;
         CREATE UNIQUE INDEX j ON t (g);
         INSERT INTO t (k, n, p) VALUES ('a', 10, 'x'), ('b', 20, 'y')",
    );
    assert_eq!(
        t.calls("INSERT OR REPLACE INTO t (k, n) VALUES ('A', 30)"),
        ["candidate 1 0 1 a", "insert 1 3 A"]
    );
    assert_eq!(t.calls("INSERT OR IGNORE INTO t (k, n) VALUES ('c', '21')"), ["candidate 1 2 2 b"]);
    assert_eq!(t.calls("UPDATE OR IGNORE t SET n = 29 WHERE k = 'a'"), ["candidate 1 2 2 b"]);
    assert_eq!(t.calls("UPDATE OR IGNORE t SET p = 'y ' WHERE k = 'a'"), ["candidate 1 3 2 b"]);
}

#[test]
fn without_rowid_and_shadowed_rowids_are_known_by_their_key() {
    for sql in [
        "CREATE TABLE t (a TEXT NOT NULL, v, b INT NOT NULL, PRIMARY KEY (b, a)) WITHOUT ROWID",
        "CREATE TABLE t (a TEXT NOT NULL, v, b INT NOT NULL, rowid AS (1), _rowid_ AS (2), oid AS (3),
                         PRIMARY KEY (b, a))",
    ] {
        let t = Watched::new(sql);
        assert_eq!(
            t.calls("INSERT INTO t (a, b) VALUES ('x', 1), ('y', 1)"),
            ["insert 1 1 x", "insert 1 1 y"]
        );
        assert_eq!(t.calls("UPDATE t SET v = 0 WHERE a = 'x'"), ["update 1 1 x 11 0 Null"]);
        assert_eq!(
            t.calls("UPDATE OR REPLACE t SET a = 'y' WHERE a = 'x'"),
            ["candidate 1 0 1 y", "update 1 1 y 11 0 0", "key 1 2 1 y 1 x"]
        );
        assert_eq!(t.calls("DELETE FROM t"), ["delete 1 1 y"]);
    }
}

#[test]
fn odd_names_work_in_every_trigger() {
    for name in ODD_NAMES {
        let (quoted, value) = (Ident(name), format!("v{name}"));
        let value = Ident(&value);
        let connection = database(&format!(
            "CREATE TABLE {quoted} ({quoted} TEXT NOT NULL PRIMARY KEY, {value} UNIQUE);
             CREATE TEMP TABLE {quoted} (other)"
        ));
        let t = Watched::over(connection, name);
        let calls = t.calls(&format!(
            "INSERT INTO main.{quoted} VALUES ('a', 1);
             INSERT OR REPLACE INTO main.{quoted} VALUES ('b', 1);
             UPDATE main.{quoted} SET {value} = 2;
             UPDATE main.{quoted} SET {quoted} = 'c';
             DELETE FROM main.{quoted};
             INSERT INTO temp.{quoted} VALUES (1)"
        ));
        assert_eq!(
            calls,
            [
                "insert 1 1 a",
                "candidate 1 2 1 a",
                "insert 1 2 b",
                "update 1 2 b 11 2 1",
                "update 1 2 c 11 2 2",
                "key 1 2 2 c 2 b",
                "delete 1 2 c"
            ]
        );
        let installed = t.table(name).capture_triggers;
        let text = |suffix| &installed.iter().find(|trigger| trigger.name.ends_with(suffix)).unwrap().sql;
        assert_eq!(key_names_in(text("delete")), Some(vec![name.to_owned()]));
        assert_eq!(column_names_in(text("update_0")), [(11, format!("v{name}"))]);
        assert_eq!(table_id_in(text("guard")), Some(1));
    }
}

#[test]
fn wide_tables_get_a_trigger_for_eight_columns() {
    let columns: Vec<_> = (1..2000).map(|i| format!("c{i}")).collect();
    let t = Watched::new(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {})", columns.join(", ")));
    assert_eq!(t.table("t").capture_triggers.len(), 3 + 1999_usize.div_ceil(8));
    t.calls("INSERT INTO t (id) VALUES (1)");
    let calls = t.calls("UPDATE t SET c1 = 1, c2 = 2, c1999 = 3");
    assert_eq!(calls.len(), 2);
    assert!(
        calls.contains(
            &"update 1 1 2003 Null Null 2004 Null Null 2005 Null Null 2006 Null Null 2007 Null Null \
                             2008 Null Null 2009 3 Null"
                .to_owned()
        ),
        "{calls:?}"
    );
}

#[test]
fn forty_key_columns_fit_a_call() {
    let key: Vec<_> = (0..40).map(|i| format!("k{i}")).collect();
    let key = key.join(", ");
    let values: Vec<_> = (0..9).map(|i| format!("v{i}")).collect();
    let t = Watched::new(&format!("CREATE TABLE t ({key}, {}, PRIMARY KEY ({key}))", values.join(", ")));
    assert_eq!(t.calls("INSERT INTO t (k0) VALUES (1)").len(), 1);
    assert_eq!(t.calls("UPDATE t SET k0 = 2, v0 = 1, v8 = 1").len(), 3);
}

#[test]
fn names_come_back_after_renames() {
    let t = Watched::new(
        "CREATE TABLE t (k TEXT NOT NULL, a, b UNIQUE, k2 INT NOT NULL, c, PRIMARY KEY (k2, k));
         CREATE UNIQUE INDEX partial ON t (c) WHERE a > 0",
    );
    let renames = "ALTER TABLE t RENAME COLUMN a TO \"new a\"; ALTER TABLE t RENAME COLUMN b TO select_;
                   ALTER TABLE t RENAME COLUMN k TO \"K\"\"k\"; ALTER TABLE t RENAME COLUMN c TO _c;
                   ALTER TABLE t RENAME TO \"other t\"";
    assert_eq!(t.calls(renames), [] as [&str; 0]);
    let other = t.table("other t");
    let text = |suffix: &str| &other.capture_triggers.iter().find(|t| t.name.ends_with(suffix)).unwrap().sql;
    let names = [(11, "new a"), (12, "select_"), (14, "_c")].map(|(id, name)| (id, name.to_owned()));
    assert_eq!(column_names_in(text("update_0")), names);
    assert_eq!(key_names_in(text("delete")), Some(vec!["k2".to_owned(), "K\"k".to_owned()]));
    let expected = capture_triggers(
        &other,
        &CaptureIds { table: 1, columns: vec![(11, 1), (12, 2), (14, 4)], typed: vec![] },
    );
    for trigger in expected {
        let installed = text(trigger.name.trim_start_matches("__crsql_1"));
        assert_eq!(column_names_in(installed), column_names_in(&trigger.create));
    }
    assert_eq!(t.calls("INSERT INTO \"other t\" VALUES ('k', 1, 2, 3, 4)"), ["insert 1 1 3 k"]);
    assert_eq!(
        t.calls("INSERT OR IGNORE INTO \"other t\" VALUES ('l', 1, 2, 3, 4)"),
        ["candidate 1 2 1 3 k", "candidate 1 3 1 3 k"]
    );
}

#[test]
fn while_a_table_is_altered_any_column_can_be_dropped() {
    let t = Watched::new(
        "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, a, b, u);
         CREATE UNIQUE INDEX i ON t (u)",
    );
    let refused = t.connection.execute_batch("ALTER TABLE t DROP COLUMN a").unwrap_err().to_string();
    assert!(refused.contains("__crsql_1_update_0"), "{refused}");
    for trigger in t.table("t").capture_triggers {
        t.connection.execute_batch(&super::triggers::drop_trigger(&trigger.name)).unwrap();
    }
    t.install(&alter_triggers(&t.table("t"), 1));
    assert_eq!(t.calls("INSERT INTO t VALUES ('x', 1, 2, 3)"), ["insert 1 1 x"]);
    t.calls(
        "ALTER TABLE t DROP COLUMN a; DROP INDEX i; ALTER TABLE t DROP COLUMN u; ALTER TABLE t ADD COLUMN c",
    );
    assert_eq!(t.calls("UPDATE t SET c = 1"), ["before 1 1 x", "after 1 1 x 1 x"]);
    assert_eq!(t.calls("UPDATE t SET k = 'y'"), ["before 1 1 x", "after 1 1 y 1 x"]);
    assert_eq!(
        t.calls("INSERT OR REPLACE INTO t VALUES ('y', 1, 2)"),
        ["replace 1 -1 y Null Null Null", "insert 1 2 y"]
    );
    assert_eq!(t.calls("DELETE FROM t"), ["delete 1 2 y"]);
}

#[test]
fn the_sql_while_a_table_is_altered() {
    let t = table("CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)", "t");
    assert_eq!(
        creates(&alter_triggers(&t, 3))[2..],
        [
            "CREATE TRIGGER main.\"__crsql_3_before\" BEFORE UPDATE ON \"t\"\n\
         WHEN crsql_capture_before(3, OLD.\"id\")\n\
         BEGIN DELETE FROM crsql_capture; END",
            "CREATE TRIGGER main.\"__crsql_3_after\" AFTER UPDATE ON \"t\"\n\
         WHEN crsql_capture_after(3, NEW.\"id\", OLD.\"id\")\n\
         BEGIN DELETE FROM crsql_capture; END",
        ]
    );
}

#[test]
fn triggers_are_told_apart_by_name() {
    for name in ["__crsql_1_insert", "__CRSQL_12_update_0", "__crsql_0_"] {
        assert!(is_capture_trigger(name), "{name}");
    }
    for name in
        ["__crsql_insert", "__crsql_1", "t__crsql_itrig", "__crsql__1_x", "", "ö__crsql_1_x", "__crsqlö1_"]
    {
        assert!(!is_capture_trigger(name), "{name}");
    }
}

/// Not a wish but a fact that capture has to live with.
#[test]
fn newer_triggers_of_the_author_fire_before_ours() {
    let t = Watched::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
    t.connection
        .execute_batch(
            "CREATE TRIGGER theirs AFTER INSERT ON t BEGIN UPDATE t SET a = 1 WHERE id = NEW.id; END",
        )
        .unwrap();
    assert_eq!(t.calls("INSERT INTO t (id) VALUES (1)"), ["update 1 1 11 1 Null", "insert 1 1"]);
}
