//! `describe` against real tables.

use crsql_core::key::{Affinity, Collation};

use super::describe::describe;
use super::ident::Ident;
use super::support::{database, db, table};
use super::table::{KeyShape, TableInfo, TableKind};

fn key(table: &TableInfo) -> Vec<&str> {
    table.key().map(|column| column.name.as_str()).collect()
}

#[test]
fn a_plain_table_is_read_whole() {
    let sql = "
        CREATE TABLE Todo (
          id INTEGER PRIMARY KEY,
          title TEXT NOT NULL DEFAULT 'no ''title''',
          done BOOLEAN DEFAULT (0),
          plain,
          upper TEXT AS (upper(title)),
          length INT NOT NULL AS (length(title)) STORED
        )";
    let todo = table(sql, "tODO");
    assert_eq!(todo.name, "Todo");
    assert_eq!(todo.kind, TableKind::Table);
    assert_eq!((todo.integer_primary_key, todo.primary_key.as_slice()), (Some(0), &[0][..]));
    assert_eq!(todo.value_columns().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(todo.columns[1].default_sql.as_deref(), Some("'no ''title'''"));
    assert_eq!(todo.columns[2].default_sql.as_deref(), Some("0"));
    let affinities: Vec<_> = todo.columns.iter().map(|column| column.affinity).collect();
    use Affinity::{Blob, Integer, Numeric, Text};
    assert_eq!(affinities, [Integer, Text, Numeric, Blob, Text, Integer]);
    let flags: Vec<_> = todo.columns.iter().map(|column| (column.not_null, column.generated)).collect();
    assert_eq!(
        flags,
        [(false, false), (true, false), (false, false), (false, false), (false, true), (true, true)]
    );
    assert!(!todo.strict && !todo.without_rowid && !todo.autoincrement && !todo.key_conflict_replace);
}

#[test]
fn only_an_alias_of_the_rowid_is_an_integer_primary_key() {
    let shape = |columns: &str| table(&format!("CREATE TABLE t ({columns}"), "t").key_shape();
    assert_eq!(shape("x, id integer PRIMARY KEY)"), KeyShape::Integer(1));
    assert_eq!(shape("id INTEGER, PRIMARY KEY (id DESC))"), KeyShape::Integer(0));
    assert_eq!(shape("id INTEGER UNIQUE PRIMARY KEY)"), KeyShape::Integer(0));
    assert_eq!(shape("id INTEGER PRIMARY KEY DESC)"), KeyShape::RowidAndKey("_rowid_"));
    assert_eq!(shape("id INT PRIMARY KEY)"), KeyShape::RowidAndKey("_rowid_"));
    assert_eq!(shape("id INTEGER, x, PRIMARY KEY (id, x))"), KeyShape::RowidAndKey("_rowid_"));
    assert_eq!(shape("id INTEGER PRIMARY KEY) WITHOUT ROWID"), KeyShape::Key);
}

#[test]
fn the_rowid_goes_by_a_name_that_no_column_takes() {
    let shape =
        |columns: &str| table(&format!("CREATE TABLE t (k TEXT PRIMARY KEY{columns})"), "t").key_shape();
    assert_eq!(shape(", rowid"), KeyShape::RowidAndKey("_rowid_"));
    assert_eq!(shape(", _ROWID_"), KeyShape::RowidAndKey("rowid"));
    assert_eq!(shape(", _rowid_, RowId AS (1)"), KeyShape::RowidAndKey("oid"));
    assert_eq!(shape(", _rowid_, rowid, oid"), KeyShape::Key);
}

#[test]
fn the_key_is_in_key_order_with_the_collations_of_its_index() {
    let sql = "CREATE TABLE t (a TEXT COLLATE RTRIM, b TEXT, c, d, PRIMARY KEY (d, b COLLATE NOCASE, a))";
    for options in ["", " WITHOUT ROWID"] {
        let t = table(&format!("{sql}{options}"), "t");
        assert_eq!(key(&t), ["d", "b", "a"]);
        assert_eq!(
            t.columns.iter().map(|c| c.pk_position).collect::<Vec<_>>(),
            [Some(2), Some(1), None, Some(0)]
        );
        let collations: Vec<_> =
            t.key_columns().unwrap().into_iter().map(|column| column.collation).collect();
        assert_eq!(collations, [Collation::Binary, Collation::NoCase, Collation::Rtrim]);
        assert_eq!(t.key().map(|column| column.not_null).collect::<Vec<_>>(), [!options.is_empty(); 3]);
    }
}

#[test]
fn strict_tables_keep_any_as_it_is() {
    let t = table("CREATE TABLE t (id TEXT PRIMARY KEY, a ANY, i INT) STRICT", "t");
    assert!(t.strict);
    assert!(t.columns[0].not_null, "implied");
    assert_eq!((t.columns[1].affinity, t.columns[2].affinity), (Affinity::Blob, Affinity::Integer));
    assert_eq!(
        table("CREATE TABLE t (id TEXT PRIMARY KEY, a ANY)", "t").columns[1].affinity,
        Affinity::Numeric
    );
}

#[test]
fn unique_indexes_besides_the_key_are_listed() {
    let sql = "
        CREATE TABLE t (a TEXT PRIMARY KEY, b UNIQUE, c TEXT, d);
        CREATE INDEX plain ON t (d);
        CREATE UNIQUE INDEX \"it's\" ON t (c COLLATE NOCASE, b) WHERE d > 0;
        CREATE UNIQUE INDEX expression ON t (lower(c), d);
        CREATE UNIQUE INDEX implied ON t (d, a)";
    let t = table(sql, "t");
    let mut found: Vec<_> = t.unique_indexes.iter().collect();
    found.sort_by_key(|index| &index.name);
    let names: Vec<_> = found.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(names, ["expression", "implied", "it's", "sqlite_autoindex_t_2"]);
    assert_eq!(
        found.iter().map(|i| (i.partial, i.expression)).collect::<Vec<_>>(),
        [(false, true), (false, false), (true, false), (false, false)]
    );
    let terms: Vec<_> = found[2].columns.iter().map(|term| (term.column, term.collation.as_str())).collect();
    assert_eq!(terms, [(2, "NOCASE"), (1, "BINARY")]);
    assert!(found[2].sql.as_deref().unwrap().ends_with("WHERE d > 0"));
    assert_eq!(found[3].sql, None);
    let mut clashing: Vec<_> = t.clashing_indexes().map(|index| index.name.as_str()).collect();
    clashing.sort_unstable();
    assert_eq!(clashing, ["expression", "it's", "sqlite_autoindex_t_2"]);
}

#[test]
fn a_unique_index_folding_more_than_the_key_is_not_implied_by_it() {
    let sql = "CREATE TABLE t (a TEXT PRIMARY KEY, b); CREATE UNIQUE INDEX i ON t (a COLLATE NOCASE)";
    assert_eq!(table(sql, "t").clashing_indexes().count(), 1);
    let sql =
        "CREATE TABLE t (a TEXT COLLATE NOCASE PRIMARY KEY); CREATE UNIQUE INDEX i ON t (a COLLATE BINARY)";
    assert_eq!(table(sql, "t").clashing_indexes().count(), 0);
}

#[test]
fn foreign_keys_are_grouped() {
    let sql = "
        CREATE TABLE t (
          id INTEGER PRIMARY KEY,
          a REFERENCES p ON DELETE CASCADE,
          b, c,
          FOREIGN KEY (b, c) REFERENCES \"other p\" (x, y) ON UPDATE SET NULL
        )";
    let t = table(sql, "t");
    let mut keys = t.foreign_keys;
    keys.sort_by(|x, y| x.columns.cmp(&y.columns));
    assert_eq!((keys[0].parent.as_str(), keys[0].on_delete.as_str()), ("p", "CASCADE"));
    assert_eq!((keys[0].columns.len(), keys[0].parent_columns.len()), (1, 0));
    assert_eq!((keys[1].parent.as_str(), keys[1].on_update.as_str()), ("other p", "SET NULL"));
    assert_eq!(
        (keys[1].columns.clone(), keys[1].parent_columns.clone()),
        (vec!["b".to_owned(), "c".to_owned()], vec!["x".to_owned(), "y".to_owned()])
    );
}

#[test]
fn autoincrement_and_conflict_clauses_are_read_from_the_text() {
    let t = table("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "t");
    assert!(t.autoincrement && t.integer_primary_key == Some(0));
    let commented = "CREATE TABLE \"autoincrement\" (autoincrement_ INTEGER PRIMARY KEY -- AUTOINCREMENT\n, \
                     \"AUTOINCREMENT\" /* ON CONFLICT REPLACE */ UNIQUE ON CONFLICT REPLACE)";
    let t = table(commented, "AutoIncrement");
    assert!(!t.autoincrement && !t.key_conflict_replace);
    assert!(table("CREATE TABLE t (a TEXT PRIMARY KEY ON CONFLICT REPLACE)", "t").key_conflict_replace);
    assert!(table("CREATE TABLE t (a, b, PRIMARY KEY (a, b) ON CONFLICT REPLACE)", "t").key_conflict_replace);
    let shared = "CREATE TABLE t (a, b, UNIQUE (a, b) ON CONFLICT REPLACE, PRIMARY KEY (a, b))";
    assert!(table(shared, "t").key_conflict_replace);
}

#[test]
fn views_virtual_and_shadow_tables_are_told_apart() {
    let connection = database(
        "CREATE TABLE \"fts_x_y\" (a);
         CREATE VIRTUAL TABLE Fts USING fts5(body);
         CREATE TABLE fts_mine (a);
         CREATE VIEW broken AS SELECT * FROM nowhere",
    );
    let kind = |name| describe(&db(&connection), name).unwrap().map(|table| table.kind);
    assert_eq!(kind("fts"), Some(TableKind::Virtual));
    assert_eq!(kind("FTS_data"), Some(TableKind::Shadow));
    assert_eq!(kind("fts_x_y"), Some(TableKind::Table));
    assert_eq!(kind("fts_mine"), Some(TableKind::Table));
    assert_eq!(kind("broken"), Some(TableKind::View));
    assert_eq!(kind("nowhere"), None);
}

#[test]
fn temp_and_attached_tables_do_not_get_in_the_way() {
    let connection = database(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, mine);
         CREATE INDEX i ON t (mine);
         CREATE TEMP TABLE t (other UNIQUE);
         CREATE TEMP TABLE only_temp (x);
         ATTACH ':memory:' AS aux;
         CREATE TABLE aux.only_aux (x)",
    );
    let t = describe(&db(&connection), "t").unwrap().unwrap();
    assert_eq!(t.columns[1].name, "mine");
    assert_eq!(t.unique_indexes, []);
    assert_eq!(describe(&db(&connection), "only_temp").unwrap(), None);
    assert_eq!(describe(&db(&connection), "only_aux").unwrap(), None);
    assert_eq!(describe(&db(&connection), "aux.only_aux").unwrap(), None);
}

pub const ODD_NAMES: [&str; 14] = [
    "we ird", "o'brien", "a.b", "select", "quo\"te", "brack[et", "]", "-1", "größe", "名前", "__x", "%_",
    "a--b", "/*",
];

#[test]
fn odd_names_of_tables_and_columns_are_read() {
    for name in ODD_NAMES {
        let quoted = Ident(name);
        let sql = format!(
            "CREATE TABLE {quoted} ({quoted} TEXT NOT NULL, \"b{}\" UNIQUE, PRIMARY KEY ({quoted}));
             CREATE TRIGGER \"__crsql_7_insert\" AFTER INSERT ON {quoted} BEGIN SELECT 1; END;
             CREATE TRIGGER \"theirs\" AFTER INSERT ON {quoted} BEGIN SELECT 1; END",
            name.replace('"', "\"\"")
        );
        let t = table(&sql, name);
        assert_eq!((t.name.as_str(), key(&t)), (name, vec![name]));
        assert_eq!(t.columns[1].name, format!("b{name}"));
        assert_eq!(t.unique_indexes[0].columns[0].column, 1);
        assert_eq!(t.user_triggers, ["theirs"]);
        assert_eq!(t.capture_triggers[0].name, "__crsql_7_insert");
    }
}

#[test]
fn two_thousand_columns_are_read() {
    let columns: Vec<_> = (1..2000).map(|i| format!("c{i} TEXT DEFAULT '{i}'")).collect();
    let t =
        table(&format!("CREATE TABLE wide (id TEXT PRIMARY KEY NOT NULL, {})", columns.join(", ")), "wide");
    assert_eq!(t.columns.len(), 2000);
    assert_eq!(t.columns[1999].default_sql.as_deref(), Some("'1999'"));
}

#[test]
fn a_utf16_database_is_read() {
    let connection =
        database("PRAGMA encoding = 'UTF-16'; CREATE TABLE größe (\"ключ\" INTEGER PRIMARY KEY)");
    assert_eq!(describe(&db(&connection), "größe").unwrap().unwrap().columns[0].name, "ключ");
}
