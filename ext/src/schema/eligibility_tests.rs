//! Which tables are refused, and in what words.

use super::describe_tests::ODD_NAMES;
use super::eligibility::{ForeignKeyPolicy, Policies, check, check_with, eligible, is_internal};
use super::ident::Ident;
use super::support::{database, db, table};

fn refusal(sql: &str) -> String {
    eligible(&db(&database(sql)), "t", Policies::default()).unwrap_err().to_string()
}

fn is_accepted(sql: &str) -> bool {
    eligible(&db(&database(sql)), "T", Policies::default()).is_ok()
}

#[test]
fn what_cr_sqlite_accepts_is_accepted() {
    for sql in [
        "CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, b) STRICT".replace(", b)", ", b ANY)"),
        "CREATE TABLE t (a TEXT, b, PRIMARY KEY (b, a)) WITHOUT ROWID".into(),
        "CREATE TABLE t (a INTEGER PRIMARY KEY NOT NULL, b CHECK (b > 0)); CREATE INDEX i ON t (b)".into(),
        "CREATE TABLE t (a TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, b AS (lower(a)))".into(),
        "CREATE TABLE t (a TEXT NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b))".into(),
        "CREATE TABLE t (key TEXT PRIMARY KEY NOT NULL, seq NOT NULL DEFAULT 1, x NOT NULL DEFAULT NULL)"
            .into(),
    ] {
        assert!(is_accepted(&sql), "{sql}");
    }
}

#[test]
fn what_only_crsql_accepts_is_accepted() {
    for sql in [
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b)",
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b NOT NULL AS (a + 1), c INT NOT NULL AS (a) STORED)",
        "CREATE TABLE t (\"autoincrement\" INTEGER PRIMARY KEY /* AUTOINCREMENT */, b)",
        "CREATE TABLE t (a INTEGER PRIMARY KEY UNIQUE, b)",
        "CREATE TABLE t (a BLOB PRIMARY KEY NOT NULL, b); CREATE UNIQUE INDEX i ON t (b, a)",
    ] {
        assert!(is_accepted(sql), "{sql}");
    }
    for name in ODD_NAMES {
        let name = Ident(name);
        let t = table(&format!("CREATE TABLE {name} ({name} NOT NULL PRIMARY KEY, \"-1\"\"x\")"), name.0);
        assert_eq!(check(&t), Ok(()));
    }
}

#[test]
fn refusals_begin_with_cr_sqlites_words_and_name_the_object_the_reason_and_the_way_out() {
    let cases = [
        (
            "CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL, b UNIQUE)",
            "Table t has unique indices besidesthe primary key. This is not allowed for CRRs: index \
             \"sqlite_autoindex_t_2\" of \"t\" on (b) can be satisfied on each of two replicas and not on both \
             together; drop it, make it a plain index, or say which row keeps the value: crsql_as_crr(table, \
             '{\"unique\":\"winner\"}')",
        ),
        (
            "CREATE TABLE t (a, b)",
            "Table t has no primary key or primary key is nullable. CRRs must have a non nullable primary key: \"t\" \
             declares no key, so its rows can't be told apart; declare a PRIMARY KEY",
        ),
        (
            "CREATE TABLE t (a TEXT PRIMARY KEY, b)",
            "Table t has no primary key or primary key is nullable. CRRs must have a non nullable primary key: key \
             column \"a\" of \"t\" accepts NULL, and NULL identifies no row; declare it NOT NULL",
        ),
        (
            "CREATE TABLE t (a NOT NULL, b, PRIMARY KEY (a, b))",
            "Table t has composite primary key part of which is nullable. CRRs must have a non nullable primary key: \
             key column \"b\" of \"t\" accepts NULL, and NULL identifies no row; declare it NOT NULL",
        ),
        (
            "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, b)",
            "t has auto-increment primary keys. This is likely a mistake as two concurrent nodes will assign unrelated \
             rows the same primary key. Either use a primary key that represents the identity of your row or use a \
             database friendly UUID such as UUIDv7: \"t\" declares AUTOINCREMENT; leave that word out if keys are \
             assigned so that two replicas never assign the same one",
        ),
        (
            "CREATE TABLE t (a INTEGER PRIMARY KEY NOT NULL, b REFERENCES p)",
            "Table t has checked foreign key constraints. CRRs may have foreign keys but must not have checked foreign \
             key constraints as they can be violated by row level security or replication.: \"t\" references \"p\", \
             whose row may arrive later or be deleted elsewhere; leave the REFERENCES clause out, or say what a merge \
             does with such a row: crsql_as_crr(table, '{\"fk\":\"park\"}'), or \"cascade\" or \"ignore\"",
        ),
        (
            "CREATE TABLE t (a INTEGER PRIMARY KEY NOT NULL, b NOT NULL)",
            "Table t has a NOT NULL column without a DEFAULT VALUE. This is not allowed as it prevents forwards and \
             backwards compatibility between schema versions. Make the column nullable or assign a default value to \
             it.: column \"b\" of \"t\" has no value in rows from replicas that don't know it yet; add a DEFAULT",
        ),
    ];
    for (sql, message) in cases {
        assert_eq!(refusal(sql), message);
    }
}

#[test]
fn partial_unique_indexes_are_refused_too() {
    let sql = "CREATE TABLE t (a INTEGER PRIMARY KEY, b); CREATE UNIQUE INDEX i ON t (b) WHERE b > 0";
    assert!(refusal(sql).contains("index \"i\" of \"t\" on (b)"));
}

#[test]
fn things_that_are_no_tables_are_refused_each_for_its_own_reason() {
    let connection = database(
        "CREATE VIEW v AS SELECT 1;
         CREATE VIRTUAL TABLE f USING fts5(a);
         CREATE TEMP TABLE temporary (a INTEGER PRIMARY KEY);
         ATTACH ':memory:' AS \"a b\";
         CREATE TABLE \"a b\".elsewhere (a INTEGER PRIMARY KEY);
         CREATE TABLE __crsql_x (a INTEGER PRIMARY KEY);
         CREATE TABLE Crsql_Changes (a INTEGER PRIMARY KEY)",
    );
    let no_key = |name: &str| {
        format!(
            "Table {name} has no primary key or primary key is nullable. CRRs must have a non nullable primary key: "
        )
    };
    let cases = [
        ("v", no_key("v") + "\"v\" is a view"),
        ("f", no_key("f") + "\"f\" is a virtual table"),
        ("f_data", "table \"f_data\" belongs to a virtual table".into()),
        ("nope", no_key("nope") + "there is no table \"nope\" in this database"),
        ("", no_key("") + "there is no table \"\""),
        ("Temporary", "table \"Temporary\" exists only in the temp schema".into()),
        ("elsewhere", "table \"elsewhere\" exists only in the attached database \"a b\"".into()),
        ("sqlite_schema", "table \"sqlite_schema\" belongs to SQLite".into()),
        ("SQLITE_MASTER", "table \"SQLITE_MASTER\" belongs to SQLite".into()),
        ("__crsql_x", "table \"__crsql_x\" has a name that is reserved".into()),
        ("crsql_changes", "table \"crsql_changes\" has a name that is reserved".into()),
    ];
    for (name, start) in cases {
        let message = eligible(&db(&connection), name, Policies::default()).unwrap_err().to_string();
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn keys_that_cannot_be_compared_everywhere_are_refused() {
    let mut t = table("CREATE TABLE t (a TEXT PRIMARY KEY NOT NULL)", "t");
    t.columns[0].collation = "mine".to_owned();
    let message = check(&t).unwrap_err().to_string();
    assert!(message.starts_with("table \"t\": key column \"a\" has the collation \"mine\""), "{message}");
    let replace = refusal("CREATE TABLE t (a TEXT PRIMARY KEY ON CONFLICT REPLACE NOT NULL)");
    assert!(replace.starts_with("table \"t\" declares its key ON CONFLICT REPLACE"), "{replace}");
    let columns: Vec<_> = (0..41).map(|i| format!("c{i}")).collect();
    let wide = columns.join(", ");
    let wide = refusal(&format!("CREATE TABLE t ({wide}, PRIMARY KEY ({wide})) WITHOUT ROWID"));
    assert!(wide.starts_with("table \"t\" has 41 key columns"), "{wide}");
}

#[test]
fn names_past_the_limits_are_refused_without_repeating_them() {
    let long = "n".repeat(3000);
    let connection = database(&format!(
        "CREATE TABLE {long} (a INTEGER PRIMARY KEY); CREATE TABLE t (a INTEGER PRIMARY KEY, {long})"
    ));
    for name in [long.as_str(), "t"] {
        let message = eligible(&db(&connection), name, Policies::default()).unwrap_err().to_string();
        assert!(message.contains("3000 bytes") && message.len() < 300, "{message}");
    }
}

#[test]
fn policies_allow_unique_indexes_and_foreign_keys() {
    let t = table(
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b UNIQUE, c REFERENCES p); CREATE UNIQUE INDEX i ON t (b, c)",
        "t",
    );
    let unique = Policies { unique_winner: true, ..Policies::default() };
    let both = Policies { foreign_keys: Some(ForeignKeyPolicy::Park), ..unique };
    assert!(check_with(&t, unique).unwrap_err().to_string().contains("foreign key"));
    assert_eq!(check_with(&t, both), Ok(()));
    let e = table("CREATE TABLE t (a INTEGER PRIMARY KEY, b); CREATE UNIQUE INDEX i ON t (lower(b))", "t");
    assert!(check_with(&e, both).unwrap_err().to_string().contains("over an expression"));
}

#[test]
fn internal_names_are_known() {
    for name in ["sqlite_stat1", "SQLite_x", "__crsql_log", "crsql_changes", "CRSQL_"] {
        assert!(is_internal(name), "{name}");
    }
    for name in ["crsq", "sqlite", "my_crsql_", "ßqlite_"] {
        assert!(!is_internal(name), "{name}");
    }
}
