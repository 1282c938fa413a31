//! `crsql_changes` answers every query as an ordinary table with the same rows would.
//!
//! Random queries run against the virtual table and against a plain temporary copy of its rows.

use crsql_tests::exchange::TEN;
use crsql_tests::plans::{SCHEMA, assert_same_answers, historied, refresh};
use crsql_tests::{NO_ROWS, Rng, Site, TempDir, pull, rng, site, sites};

#[test]
fn random_queries_answer_as_a_plain_table_would() {
    for seed in rng::seeds(4) {
        let mut rng = Rng::new(seed);
        assert_same_answers(&historied(), &mut rng, 400);
    }
}

#[test]
fn random_queries_inside_a_transaction_answer_as_a_plain_table_would() {
    let a = historied();
    let mut rng = Rng::new(11);
    a.exec("BEGIN");
    for i in 0..6 {
        a.exec(&format!(
            "UPDATE t SET x = 'in {i}' WHERE id % 3 = {i} % 3; SAVEPOINT s; REPLACE INTO t VALUES ({i}, 'r', 'r'); DELETE FROM k WHERE n = {i}"
        ));
        assert_same_answers(&a, &mut rng, 60);
        if i % 2 == 0 {
            a.exec("ROLLBACK TO s");
        }
        a.exec("RELEASE s");
        assert_same_answers(&a, &mut rng, 60);
    }
    a.exec("ROLLBACK");
    assert_same_answers(&a, &mut rng, 60);
}

#[test]
fn random_queries_on_an_empty_replica_find_nothing() {
    assert_same_answers(&site(SCHEMA), &mut Rng::new(5), 100);
    assert_same_answers(&Site::memory(), &mut Rng::new(6), 50);
}

#[test]
fn random_queries_with_bound_parameters_answer_as_literals_do() {
    let a = historied();
    for since in [0i64, 1, 5, 1000, -1, i64::MAX, i64::MIN] {
        for peer in [a.site_id(), vec![0; 16], vec![]] {
            let sql = "SELECT [table], pk, cid FROM crsql_changes WHERE db_version > ?1 AND site_id IS NOT ?2 ORDER BY 1, 2, 3";
            refresh(&a);
            assert_eq!(
                a.values_with(sql, &[&since, &peer]),
                a.values_with(&sql.replace("crsql_changes", "temp.plain"), &[&since, &peer])
            );
        }
    }
}

#[test]
fn without_order_by_rows_come_by_db_version_and_seq() {
    let a = historied();
    assert_eq!(
        a.rows("SELECT db_version, seq FROM crsql_changes"),
        a.rows("SELECT db_version, seq FROM crsql_changes ORDER BY db_version, seq")
    );
}

#[test]
fn several_cursors_at_once_do_not_disturb_each_other() {
    let a = historied();
    let sql = "SELECT pk, cid, val FROM crsql_changes ORDER BY db_version, seq, pk";
    let expected = a.rows(sql);
    let (mut one, mut two) = (a.conn.prepare(sql).unwrap(), a.conn.prepare(sql).unwrap());
    let (mut one, mut two) = (one.query([]).unwrap(), two.query([]).unwrap());
    let mut seen = (0, 0);
    for i in 0.. {
        let (slow, fast) = (one.next().unwrap().is_some(), i % 2 == 0 && two.next().unwrap().is_some());
        seen.0 += slow as usize;
        seen.1 += fast as usize;
        if i % 10 == 0 {
            assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), expected.len() as i64);
        }
        if !slow {
            break;
        }
    }
    assert_eq!(seen.0, expected.len());
    assert_eq!(seen.1, expected.len() / 2 + 1);
}

#[test]
fn writing_while_a_cursor_is_open_works() {
    let a = historied();
    let mut statement = a.conn.prepare("SELECT pk, cid, val FROM crsql_changes").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut seen = 0;
    while rows.next().unwrap().is_some() {
        seen += 1;
        if seen < 10 {
            a.exec(&format!(
                "UPDATE t SET x = 'while reading {seen}' WHERE id = 102; INSERT INTO t (x) VALUES ({seen})"
            ));
        }
        assert!(seen < 100_000, "a reader never chases its own writes for ever");
    }
    drop(rows);
    drop(statement);
    assert_eq!(a.doctor(), "[]");
    refresh(&a);
}

#[test]
fn changes_can_be_inserted_while_they_are_read() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y')");
    b.merge(&a.changes());
    b.exec(&format!("INSERT INTO crsql_changes ({TEN}) SELECT {TEN} FROM crsql_changes"));
    assert_eq!(a.clocks(), b.clocks());
}

#[test]
fn val_is_the_current_value_with_its_type() {
    let a = site(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 1.0, x'00'); INSERT INTO t VALUES (2, '1', NULL)");
    assert_eq!(
        a.rows("SELECT val, typeof(val) FROM crsql_changes ORDER BY db_version, seq"),
        ["1.0|'real'", "x'00'|'blob'", "'1'|'text'", "NULL|'null'"]
    );
}

#[test]
fn rowids_are_distinct() {
    let a = historied();
    let count = a.int("SELECT count(*) FROM crsql_changes");
    assert_eq!(a.int("SELECT count(DISTINCT rowid) FROM crsql_changes"), count);
    assert_eq!(a.rows("SELECT rowid FROM crsql_changes ORDER BY rowid LIMIT 1").len(), 1);
}

#[test]
fn the_declared_columns_are_upstreams_nine_and_a_hidden_one() {
    let a = site(SCHEMA);
    let sql = "SELECT name, type, hidden FROM pragma_table_xinfo('crsql_changes')";
    assert_eq!(
        a.rows(sql)[..9],
        [
            "'table'|'TEXT'|0",
            "'pk'|'BLOB'|0",
            "'cid'|'TEXT'|0",
            "'val'|'ANY'|0",
            "'col_version'|'INTEGER'|0",
            "'db_version'|'INTEGER'|0",
            "'site_id'|'BLOB'|0",
            "'cl'|'INTEGER'|0",
            "'seq'|'INTEGER'|0"
        ]
    );
    assert_eq!(
        a.rows(
            "SELECT name FROM pragma_table_xinfo('crsql_changes') WHERE hidden = 1 AND name = 'site_version'"
        )
        .len(),
        1
    );
}

#[test]
fn a_reader_on_another_connection_reads_while_this_one_writes() {
    let dir = TempDir::new();
    let a = Site::open(dir.join("a.db"));
    a.exec("PRAGMA journal_mode = wal");
    a.exec(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let reader = a.reopen();
    a.exec("BEGIN; INSERT INTO t VALUES (2, 'x', 'y')");
    assert_eq!(reader.int("SELECT count(*) FROM crsql_changes"), 2);
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 4);
    a.exec("COMMIT");
    assert_eq!(reader.int("SELECT count(*) FROM crsql_changes"), 4);
}

#[test]
fn parked_and_conflicts_are_readable_with_any_filter() {
    let new = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, z); CRR t; CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, x); CRR u",
    );
    let old = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t");
    new.exec("INSERT INTO t VALUES (1, 'x', 'z'), (2, 'x', 'w'); INSERT INTO u VALUES (1, 'u')");
    pull(&old, &new);
    for table in ["crsql_parked", "crsql_conflicts"] {
        let columns =
            r#""table", pk, cid, val, col_version, cl, site_id, site_version, seq, db_version, reason"#;
        let all = old.rows(&format!("SELECT {columns} FROM {table}"));
        let some = old
            .rows(&format!("SELECT {columns} FROM {table} WHERE cid = 'z' AND val <> 'w' ORDER BY val DESC"));
        assert!(some.len() <= all.len());
    }
    assert_eq!(old.rows("SELECT val FROM crsql_parked WHERE cid = 'z' ORDER BY val DESC"), ["'z'", "'w'"]);
    assert_eq!(old.rows(r#"SELECT val FROM crsql_parked WHERE "table" = 'u'"#), ["'u'"]);
    assert_eq!(old.rows("SELECT 1 FROM crsql_parked WHERE db_version > 99"), NO_ROWS);
}
