//! Names of any kind: spaces, quotes, dots, keywords, unicode, `-1`, any letter case, and odd types.

use crsql_tests::value::Ident;
use crsql_tests::{Site, SqlValue, assert_converged, pull, sites, sync};

const NAMES: [&str; 22] = [
    "plain",
    "we ird",
    "o'brien",
    "a.b",
    "select",
    "table",
    "with\"quote",
    "[bracket]",
    "back`tick",
    "-1",
    "1st",
    "key",
    "seq",
    "héllo",
    "表",
    "🦀",
    "UPPER",
    "tab\tand\nnewline",
    "semi;colon",
    "--comment",
    "/*c*/",
    "%s_?1:x@y$z",
];

#[test]
fn tables_and_columns_of_any_name_replicate_every_kind_of_write() {
    for (i, table) in NAMES.iter().enumerate() {
        let column = NAMES[(i + 7) % NAMES.len()];
        let key = NAMES[(i + 13) % NAMES.len()];
        let ddl = format!(
            "CREATE TABLE {} ({} TEXT NOT NULL, {} DEFAULT 'd', other, PRIMARY KEY ({1}))",
            Ident(table),
            Ident(key),
            Ident(column)
        );
        let make = |s: &Site| {
            s.exec(&ddl);
            s.run("SELECT crsql_as_crr(?1)", &[table]);
        };
        let [a, b] = sites("SELECT 1");
        make(&a);
        make(&b);
        let (t, c, k) = (Ident(table), Ident(column), Ident(key));
        a.exec(&format!("INSERT INTO {t} ({k}, other) VALUES ('one', 1), ('two', 2), ('three', 3)"));
        pull(&b, &a);
        b.exec(&format!("UPDATE {t} SET {c} = 'new' WHERE {k} = 'one'; DELETE FROM {t} WHERE {k} = 'two'"));
        a.exec(&format!(
            "UPDATE {t} SET {k} = 'moved' WHERE {k} = 'three'; REPLACE INTO {t} ({k}) VALUES ('one')"
        ));
        b.merge(&a.changes());
        pull(&a, &b);
        assert_converged(&[&a, &b]);
        assert_eq!(a.value("SELECT DISTINCT [table] FROM crsql_changes"), SqlValue::text(table));
        a.exec(&format!(
            "SELECT crsql_begin_alter({0}); ALTER TABLE {t} ADD COLUMN added; SELECT crsql_commit_alter({0})",
            SqlValue::text(table)
        ));
        b.exec(&format!("ALTER TABLE {t} ADD COLUMN added"));
        a.exec(&format!("UPDATE {t} SET added = 'a'"));
        sync(&a, &b);
        assert_converged(&[&a, &b]);
        a.run("SELECT crsql_as_table(?1)", &[table]);
    }
}

#[test]
fn a_column_named_minus_one_is_not_the_row() {
    let [a, b] = sites(r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, "-1" TEXT, x); CRR t"#);
    a.exec("INSERT INTO t VALUES (1, 'value', 'x'); DELETE FROM t; INSERT INTO t VALUES (1, 'second', 'y')");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'second'|'y'"]);
    let [c, _] = sites::<2>(r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, "-1" TEXT, x); CRR t"#);
    c.merge(&a.changes());
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn tables_whose_names_collide_with_each_others_helpers_are_apart() {
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t;
        CREATE TABLE t_1 (id INTEGER PRIMARY KEY NOT NULL, x); CRR t_1;
        CREATE TABLE [t 1] (id INTEGER PRIMARY KEY NOT NULL, x); SELECT crsql_as_crr('t 1');
        CREATE TABLE t__crsql_itrig (id INTEGER PRIMARY KEY NOT NULL, x)";
    let [a, b] = sites(schema);
    a.exec("INSERT INTO t VALUES (1, 't'); INSERT INTO t_1 VALUES (1, 't_1'); INSERT INTO [t 1] VALUES (1, 't 1')");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    assert_eq!(
        b.rows("SELECT x FROM t UNION ALL SELECT x FROM t_1 UNION ALL SELECT x FROM [t 1]"),
        ["'t'", "'t_1'", "'t 1'"]
    );
}

#[test]
fn user_tables_and_functions_that_look_like_ours_do_not_disturb() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, crsql_key, __crsql_key, rowid_, _rowid_2); CRR t",
    );
    a.exec("INSERT INTO t VALUES (1, 2, 3, 4, 5); UPDATE t SET __crsql_key = 9");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_column_named_rowid_or_oid_replicates() {
    let [a, b] =
        sites("CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, rowid TEXT, oid TEXT, _rowid_ TEXT); CRR t");
    a.exec("INSERT INTO t VALUES ('k', 'r', 'o', 'u'), ('l', '1', '1', '1')");
    a.exec("REPLACE INTO t VALUES ('k', 'r2', 'o2', 'u2'); UPDATE t SET rowid = 'r3' WHERE k = 'l'");
    sync(&a, &b);
    b.exec("DELETE FROM t WHERE rowid = 'r2'; UPDATE t SET oid = 'changed'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), ["'l'|'r3'|'changed'|'1'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_temp_table_of_the_same_name_shadows_nothing_of_ours() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'main')");
    a.exec("CREATE TEMP TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); INSERT INTO t VALUES (1, 'temp'), (2, 'temp')");
    b.exec("CREATE TEMP TABLE t (id, y)");
    assert_eq!(a.rows("SELECT val FROM crsql_changes"), ["'main'"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM main.t"), ["1|'main'"]);
    a.exec("UPDATE main.t SET x = 'updated'; UPDATE t SET x = 'not this'; DELETE FROM temp.t");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM main.t"), ["1|'updated'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn temp_views_and_attached_tables_of_the_same_name_shadow_nothing_of_ours() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    a.exec("ATTACH ':memory:' AS aux; CREATE TABLE aux.t (id, z); CREATE TEMP VIEW crsql_site_id AS SELECT 1 AS site_id");
    a.exec("INSERT INTO main.t VALUES (1, 'x'); UPDATE main.t SET x = 'y'");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'y'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn declared_types_of_any_text_replicate() {
    let [a, b] = sites(
        "CREATE TABLE t (id VARCHAR(36) PRIMARY KEY NOT NULL, a UNSIGNED BIG INT, b DECIMAL(10,5), c \"double precision\", d NATIVE CHARACTER(70),
         e DATETIME, f BOOLEAN DEFAULT FALSE, g JSON, h FLOATING POINT, i STRING); CRR t",
    );
    a.exec("INSERT INTO t VALUES ('id', '5', '5.0', '5', 5, '2024-01-01', true, '{}', '1', '0005'), ('j', 'x', 'x', 'x', x'00', 1, 2, 3, 4, 5.0)");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}
