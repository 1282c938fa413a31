//! Keys: canonical identity under affinities and collations, spellings, and updates of the key itself.

use crsql_tests::{NO_ROWS, Site, assert_converged, exchange_all, pull, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t";

#[test]
fn a_key_update_deletes_the_old_key_and_creates_the_new_one_in_one_version() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b'); UPDATE t SET x = 'c'");
    sync(&a, &b);
    a.exec("UPDATE t SET id = 2");
    assert_eq!(
        a.rows("SELECT pk, cid, val, col_version, cl FROM crsql_changes ORDER BY pk, seq"),
        ["x'010901'|'-1'|NULL|2|2", "x'010902'|'x'|'c'|1|1", "x'010902'|'y'|'b'|1|1"]
    );
    assert_eq!(a.rows("SELECT DISTINCT db_version, site_version FROM crsql_changes"), ["3|3"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["2|'c'|'b'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_key_update_onto_a_tombstone_continues_its_causal_length() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b'), (2, 'old', 'old'); DELETE FROM t WHERE id = 2; UPDATE t SET id = 2");
    assert_eq!(
        a.rows("SELECT DISTINCT pk, cl FROM crsql_changes ORDER BY pk"),
        ["x'010901'|2", "x'010902'|3"]
    );
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_key_moved_away_and_back_ends_alive() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 'b')");
    sync(&a, &b);
    a.exec("UPDATE t SET id = 2; UPDATE t SET id = 1");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'a'|'b'"]);
    a.exec("BEGIN; UPDATE t SET id = 3; UPDATE t SET id = 1; COMMIT");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'a'|'b'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn shifting_all_keys_in_one_statement_keeps_every_row() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)");
    sync(&a, &b);
    a.exec("UPDATE t SET id = -id; UPDATE t SET id = 1 - id");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id, x FROM t ORDER BY id"), ["2|'one'", "3|'two'", "4|'three'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_key_update_that_also_changes_columns_sends_the_new_values() {
    let [a, b] = sites("CREATE TABLE t (a INT NOT NULL, b TEXT NOT NULL, v, PRIMARY KEY (a, b)); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x', 'v1')");
    sync(&a, &b);
    a.exec("UPDATE t SET b = 'y', v = 'v2'");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'y'|'v2'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn concurrent_key_updates_of_one_row_make_two_rows() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    sync(&a, &b);
    a.exec("UPDATE t SET id = 10");
    b.exec("UPDATE t SET id = 20");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id, x FROM t ORDER BY id"), ["10|'x'", "20|'x'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn concurrent_inserts_of_one_key_resolve_to_one_sites_row_not_a_mixture() {
    let [a, b, c] = sites(T);
    for (name, s) in [("a", &a), ("b", &b), ("c", &c)] {
        s.exec(&format!("INSERT INTO t VALUES (1, 'x of {name}', 'y of {name}')"));
    }
    exchange_all(&[&a, &b, &c]);
    let row = a.text("SELECT substr(x, -1) || substr(y, -1) FROM t");
    assert_eq!(row.as_bytes()[0], row.as_bytes()[1], "both columns from the same site: {row}");
    assert_converged(&[&a, &b, &c]);
}

/// Key declarations with literals that are one row under them.
const SAME: [(&str, &[&str]); 12] = [
    ("id PRIMARY KEY NOT NULL", &["1", "1.0"]),
    ("id PRIMARY KEY NOT NULL", &["0", "0.0", "-0.0"]),
    ("id BLOB PRIMARY KEY NOT NULL", &["-7", "-7.0"]),
    ("id INTEGER PRIMARY KEY NOT NULL", &["5", "'5'", "5.0", "'5.0'"]),
    ("id INT PRIMARY KEY NOT NULL", &["5", "'5'", "5.0", "' 5 '", "'5.0'", "'5e0'"]),
    ("id TEXT PRIMARY KEY NOT NULL", &["5", "'5'"]),
    ("id REAL PRIMARY KEY NOT NULL", &["5", "'5'", "5.0", "'5.0'"]),
    ("id NUMERIC PRIMARY KEY NOT NULL", &["1e3", "'1000'", "1000", "'1e3'"]),
    ("id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL", &["'abc'", "'ABC'", "'aBc'"]),
    ("id TEXT COLLATE RTRIM PRIMARY KEY NOT NULL", &["'abc'", "'abc '", "'abc   '"]),
    ("id COLLATE NOCASE PRIMARY KEY NOT NULL", &["'é'", "'é'"]),
    ("id INT PRIMARY KEY NOT NULL", &["9007199254740993", "'9007199254740993'"]),
];

#[test]
fn keys_that_sqlite_calls_equal_are_one_row_whatever_their_spelling() {
    for (declaration, literals) in SAME {
        for first in literals {
            for second in literals {
                let [a, b] = sites(&format!("CREATE TABLE t ({declaration}, v TEXT); CRR t"));
                a.exec(&format!("INSERT INTO t VALUES ({first}, 'first')"));
                b.exec(&format!("INSERT INTO t VALUES ({second}, 'second')"));
                sync(&a, &b);
                assert_eq!(a.int("SELECT count(*) FROM t"), 1, "{declaration}: {first} and {second}");
                assert_converged(&[&a, &b]);
            }
        }
    }
}

/// Key declarations with literals that are distinct rows under them.
const DISTINCT: [(&str, &[&str]); 6] = [
    ("id PRIMARY KEY NOT NULL", &["1", "'1'", "x'31'", "1.5", "'1.0'", "''", "x''"]),
    ("id TEXT PRIMARY KEY NOT NULL", &["'a'", "'A'", "'a '", "x'61'", "'1'", "'1.0'", "' 1'"]),
    ("id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL", &["'é'", "'É'", "'a '", "'a'", "x'61'", "x'41'"]),
    (
        "id TEXT COLLATE RTRIM PRIMARY KEY NOT NULL",
        &["'a'", "'A'", "' a'", "'a' || char(9)", "x'61'", "x'6120'"],
    ),
    (
        "id INT PRIMARY KEY NOT NULL",
        &[
            "9007199254740993",
            "9007199254740992",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775807.0",
        ],
    ),
    ("id PRIMARY KEY NOT NULL", &["9e999", "-9e999", "1e300", "9223372036854775807", "9.3e18", "5e-324"]),
];

#[test]
fn keys_that_sqlite_calls_different_stay_different_rows() {
    for (declaration, literals) in DISTINCT {
        let [a, b] = sites(&format!("CREATE TABLE t ({declaration}, v TEXT); CRR t"));
        for (i, literal) in literals.iter().enumerate() {
            let s = if i % 2 == 0 { &a } else { &b };
            s.exec(&format!("INSERT INTO t VALUES ({literal}, 'v{i}')"));
        }
        sync(&a, &b);
        assert_eq!(a.int("SELECT count(*) FROM t"), literals.len() as i64, "{declaration}");
        a.exec("UPDATE t SET v = v || '!'");
        b.exec(&format!("DELETE FROM t WHERE id = {}", literals[0]));
        sync(&a, &b);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn the_spelling_of_a_key_is_carried_to_other_replicas() {
    for (declaration, spelling) in [
        ("id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL", "'MiXed'"),
        ("id TEXT COLLATE RTRIM PRIMARY KEY NOT NULL", "'padded  '"),
        ("id PRIMARY KEY NOT NULL", "1.0"),
        ("id PRIMARY KEY NOT NULL", "-0.0"),
        ("id REAL PRIMARY KEY NOT NULL", "1.0"),
        ("id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL", "'K'"),
    ] {
        for extra in [", v TEXT", ""] {
            let [a, b, c] = sites(&format!("CREATE TABLE t ({declaration}{extra}); CRR t"));
            a.exec(&format!("INSERT INTO t (id) VALUES ({spelling})"));
            pull(&b, &a);
            assert_eq!(b.rows("SELECT id FROM t"), [spelling], "{declaration}{extra}");
            let changes = b.changes();
            c.merge(&changes);
            assert_converged(&[&a, &b, &c]);
        }
    }
}

#[test]
fn a_spelling_only_update_of_the_key_is_a_new_incarnation() {
    let [a, b] = sites("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT); CRR t");
    a.exec("INSERT INTO t VALUES ('k', 'v')");
    sync(&a, &b);
    a.exec("UPDATE t SET id = 'K'");
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["3"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["'K'|'v'"]);
    b.exec("UPDATE t SET id = 'k'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), ["'k'|'v'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn writing_a_row_through_another_spelling_of_its_key_keeps_the_spelling() {
    let [a, b] = sites("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT); CRR t");
    a.exec("INSERT INTO t VALUES ('Key', 'v')");
    sync(&a, &b);
    b.exec("UPDATE t SET v = 'w' WHERE id = 'KEY'");
    b.exec("INSERT INTO t VALUES ('kEY', 'z') ON CONFLICT DO UPDATE SET v = excluded.v");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), ["'Key'|'z'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_delete_reaches_the_row_whatever_its_spelling_there() {
    let [a, b] = sites("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v TEXT); CRR t");
    a.exec("INSERT INTO t VALUES ('KEY', 'v')");
    sync(&a, &b);
    b.exec("DELETE FROM t WHERE id = 'key'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
    a.exec("INSERT INTO t VALUES ('kEy', 'again')");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT * FROM t"), ["'kEy'|'again'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn integer_keys_at_the_edges_of_64_bits_replicate() {
    let [a, b] = sites(T);
    for key in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        a.run("INSERT INTO t VALUES (?1, ?1, 'y')", &[&key]);
    }
    sync(&a, &b);
    b.exec("UPDATE t SET x = x / 2; DELETE FROM t WHERE id IN (9223372036854775807, 0)");
    a.exec("UPDATE t SET y = 'edge'");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM t"), 5);
    assert_converged(&[&a, &b]);
}

#[test]
fn keys_of_any_bytes_replicate() {
    let [a, b] = sites("CREATE TABLE t (id PRIMARY KEY NOT NULL, v); CRR t");
    a.exec(
        "INSERT INTO t VALUES ('', 1), (x'', 2), (char(0), 3), ('a' || char(0) || 'b', 4), ('emoji 🦀', 5),
         (CAST(x'ff80' AS TEXT), 6), (zeroblob(1000), 7), (hex(zeroblob(40000)), 8), (x'00', 9), (0.1, 10)",
    );
    sync(&a, &b);
    b.exec("UPDATE t SET v = v + 100");
    sync(&a, &b);
    assert_eq!(a.int("SELECT sum(v) FROM t"), 1055);
    assert_converged(&[&a, &b]);
}

#[test]
fn composite_keys_with_collations_per_part_replicate() {
    let [a, b] = sites(
        "CREATE TABLE t (v, n NUMERIC NOT NULL, s TEXT COLLATE NOCASE NOT NULL, r TEXT COLLATE RTRIM NOT NULL,
         PRIMARY KEY (s, r, n)) WITHOUT ROWID; CRR t",
    );
    a.exec("INSERT INTO t VALUES ('a', '1.0', 'ABC', 'x  ')");
    b.exec("INSERT INTO t VALUES ('b', 1, 'abc', 'x')");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM t"), 1);
    b.exec("UPDATE t SET s = 'abd'");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT lower(s) FROM t"), ["'abd'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_unknown_collation_in_the_key_is_refused() {
    let a = Site::memory();
    a.conn.create_collation("backwards", |x, y| y.cmp(x)).unwrap();
    a.exec("CREATE TABLE t (id TEXT COLLATE backwards PRIMARY KEY NOT NULL, v)");
    let message = a.error("SELECT crsql_as_crr('t')");
    assert!(message.to_lowercase().contains("collat") && message.contains('t'), "{message}");
}

#[test]
fn a_key_collated_by_its_index_rather_than_its_column_is_one_row_or_refused() {
    let schema = "CREATE TABLE t (id TEXT NOT NULL, v TEXT, PRIMARY KEY (id COLLATE NOCASE))";
    let [a, b] = sites(schema);
    if a.try_exec("SELECT crsql_as_crr('t')").is_err() {
        return;
    }
    b.exec("CRR t");
    a.exec("INSERT INTO t VALUES ('k', 'lower')");
    b.exec("INSERT INTO t VALUES ('K', 'upper')");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM t"), 1);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_null_key_is_refused() {
    let a = site("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v); CRR t");
    assert!(a.try_exec("INSERT INTO t VALUES (NULL, 1)").is_err());
    let nullable = a.error("CREATE TABLE u (id TEXT PRIMARY KEY, v); CRR u");
    assert!(nullable.contains('u') && nullable.contains("null"), "{nullable}");
    a.error("INSERT INTO crsql_changes VALUES ('t', x'0105', 'v', 1, 1, 1, zeroblob(16), 1, 0)");
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
}

#[test]
fn a_deleted_row_with_a_real_key_is_told_under_the_key_it_was_inserted_with() {
    for options in ["", "WITHOUT ROWID"] {
        let schema = format!(
            "CREATE TABLE t (id REAL NOT NULL, n INT NOT NULL, v, PRIMARY KEY (id, n)) {options}; CRR t"
        );
        let [a, b] = sites(&schema);
        a.exec("INSERT INTO t VALUES (1, 2, 'x')");
        let inserted = a.rows("SELECT DISTINCT pk FROM crsql_changes");
        sync(&a, &b);
        a.exec("DELETE FROM t");
        sync(&a, &b);
        for site in [&a, &b] {
            assert_eq!(site.rows("SELECT pk FROM crsql_changes WHERE cid = '-1'"), inserted);
        }
    }
}
