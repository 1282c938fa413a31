//! `crsql_changes` answers every query as an ordinary table with the same rows would.
//!
//! Random queries run against the virtual table and against a plain temporary copy of its rows.

use crsql_tests::exchange::TEN;
use crsql_tests::{NO_ROWS, Rng, Site, TempDir, pull, rng, site, sites};

const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, v, w, PRIMARY KEY (n, name)) WITHOUT ROWID; CRR k;
    CREATE TABLE tag (id BLOB PRIMARY KEY NOT NULL); CRR tag";
const PLAIN: &str = "CREATE TEMP TABLE plain ([table] TEXT NOT NULL, pk BLOB NOT NULL, cid TEXT NOT NULL, val, col_version INTEGER NOT NULL,
    db_version INTEGER NOT NULL, site_id BLOB NOT NULL, cl INTEGER NOT NULL, seq INTEGER NOT NULL, site_version INTEGER)";
const COLUMNS: [&str; 10] =
    ["[table]", "pk", "cid", "val", "col_version", "db_version", "site_id", "cl", "seq", "site_version"];

/// A replica with a history of every kind, its own and merged.
fn historied() -> Site {
    let [a, b] = sites(SCHEMA);
    for (s, low) in [(&a, 0), (&b, 5)] {
        for i in low..low + 8 {
            s.exec(&format!(
                "BEGIN; INSERT OR REPLACE INTO t VALUES ({i}, 'x{i}', {i}), ({i} + 100, NULL, x'0{}'); COMMIT;
                 INSERT OR REPLACE INTO k VALUES ('Name{i}', {i} % 3, {i} * 1.5, 'w'); UPDATE t SET x = {i} WHERE id % 4 = {i} % 4",
                i % 10
            ));
            if i % 2 == 0 {
                pull(&b, &a);
                s.exec(&format!(
                    "DELETE FROM t WHERE id = {i}; INSERT OR IGNORE INTO tag VALUES (x'0{}')",
                    i % 10
                ));
            }
            if i % 5 == 0 {
                s.exec(&format!(
                    "INSERT OR REPLACE INTO t VALUES ({i}, 'again', NULL); UPDATE OR REPLACE k SET n = n + 5 WHERE n = 1"
                ));
            }
        }
    }
    pull(&a, &b);
    a.exec("UPDATE t SET y = 'late' WHERE id = 102");
    a
}

fn refresh(a: &Site) {
    a.exec("DROP TABLE IF EXISTS temp.plain");
    a.exec(PLAIN);
    a.exec(&format!("INSERT INTO plain SELECT {TEN} FROM crsql_changes"));
}

/// A literal to compare a column with, often one that occurs.
fn literal(rng: &mut Rng, column: &str, a: &Site) -> String {
    if rng.one_in(12) {
        return rng
            .pick(&["NULL", "''", "x''", "-1", "0", "9223372036854775807", "-9223372036854775808", "1e300"])
            .to_string();
    }
    match column {
        "[table]" => rng.pick(&["'t'", "'k'", "'tag'", "'T'", "'zzz'", "''"]).to_string(),
        "cid" => rng.pick(&["'x'", "'y'", "'v'", "'-1'", "'w'", "'X'", "'id'"]).to_string(),
        "val" => rng.pick(&["'again'", "'w'", "3", "4.5", "x'02'", "NULL", "'late'"]).to_string(),
        "pk" | "site_id" => {
            let rows = a.values(&format!("SELECT DISTINCT {column} FROM temp.plain ORDER BY 1"));
            match rows.is_empty() {
                true => "x'00'".to_string(),
                false => rng.pick(&rows)[0].to_string(),
            }
        }
        _ => match rng.below(8) {
            0 => format!("{}.5", rng.below(20)),
            1 => format!("'{}'", rng.below(20)),
            2 => format!("{}.0", rng.below(20)),
            _ => rng.below(24).to_string(),
        },
    }
}

fn condition(rng: &mut Rng, a: &Site, prefix: &str, depth: usize) -> String {
    if depth > 0 && rng.one_in(3) {
        let left = condition(rng, a, prefix, depth - 1);
        let right = condition(rng, a, prefix, depth - 1);
        return match rng.below(4) {
            0 => format!("({left} OR {right})"),
            1 => format!("NOT ({left})"),
            _ => format!("({left} AND {right})"),
        };
    }
    let name = *rng.pick(&COLUMNS);
    let column = format!("{prefix}{name}");
    let mut value = || literal(rng, name, a);
    let (one, two, three) = (value(), value(), value());
    match rng.below(14) {
        0 => format!("{column} IN ({one}, {two}, {three})"),
        1 => format!("{column} NOT IN ({one}, {two})"),
        2 => format!("{column} BETWEEN {one} AND {two}"),
        3 => format!("{column} IS {one}"),
        4 => format!("{column} IS NOT {one}"),
        5 => format!("{column} IS NOT NULL"),
        6 => format!("{column} LIKE '%{}%'", rng.pick(&["t", "X", "a", "-", "1"])),
        7 => format!("{column} GLOB '{}*'", rng.pick(&["t", "x", "-", "k", "1"])),
        8 => format!("{one} < {column}"),
        9 => format!("{column} + 0 >= {one}"),
        _ => format!("{column} {} {one}", rng.pick(&["=", "<", "<=", ">", ">=", "<>", "="])),
    }
}

fn order(rng: &mut Rng) -> Vec<String> {
    let term = |rng: &mut Rng| {
        let column = match rng.below(12) {
            0 => "seq + 1".to_string(),
            1 => "length(cid)".to_string(),
            2 => "lower(cid)".to_string(),
            _ => rng.pick(&COLUMNS).to_string(),
        };
        format!("{column}{}", rng.pick(&["", " ASC", " DESC", " DESC", " ASC NULLS LAST", " COLLATE NOCASE"]))
    };
    (0..rng.below(4)).map(|_| term(rng)).collect()
}

/// A random query over `{}`; `true` when its order is total and must be equal row for row.
fn query(rng: &mut Rng, a: &Site) -> (String, bool) {
    let where_ = match rng.below(8) {
        0 => String::new(),
        _ => format!(" WHERE {}", condition(rng, a, "", 2)),
    };
    let order = order(rng);
    let keys: Vec<String> =
        order.iter().map(|term| term.split_whitespace().next().unwrap().to_string()).collect();
    let total = "[table], pk, cid";
    match rng.below(10) {
        0 => (format!("SELECT count(*), min(seq), max(db_version), sum(cl) FROM {{}}{where_}"), true),
        1 => (
            format!(
                "SELECT [table], cid, count(*), max(val) FROM {{}}{where_} GROUP BY [table], cid ORDER BY 1, 2"
            ),
            true,
        ),
        2 => (format!("SELECT DISTINCT site_id, cl FROM {{}}{where_} ORDER BY site_id, cl"), true),
        3 => {
            let condition = condition(rng, a, "c.", 1);
            let on = rng.pick(&[
                "d.pk = c.pk",
                "d.db_version = c.db_version",
                "d.site_id IS c.site_id AND d.seq = c.seq + 1",
                "d.cid = c.cid AND d.db_version > c.db_version",
            ]);
            (
                format!(
                    "SELECT c.pk, c.cid, d.cid, d.val FROM {{}} c {} {{}} d ON {on} WHERE {condition}",
                    rng.pick(&["JOIN", "LEFT JOIN"])
                ),
                false,
            )
        }
        4 => (
            format!(
                "SELECT pk, cid, (SELECT count(*) FROM {{}} d WHERE d.pk = c.pk AND d.db_version <= c.db_version) FROM {{}} c{where_}"
            ),
            false,
        ),
        5 => (
            format!(
                "SELECT pk, cid FROM {{}} WHERE db_version IN (SELECT max(db_version) FROM {{}}{where_} GROUP BY cid) ORDER BY {total}"
            ),
            true,
        ),
        6 if !order.is_empty() => (
            format!(
                "SELECT {} FROM {{}}{where_} ORDER BY {}",
                keys_only(&order).join(", "),
                order.join(", ")
            ),
            true,
        ),
        7 => (
            format!(
                "SELECT pk, rank() OVER (PARTITION BY [table] ORDER BY db_version DESC, seq) FROM {{}}{where_} ORDER BY {total}"
            ),
            true,
        ),
        8 => (format!("SELECT * FROM {{}}{where_} EXCEPT SELECT * FROM {{}} WHERE seq = 0"), false),
        _ => {
            let mut terms = order;
            let direction = rng.pick(&["", " DESC"]);
            terms.extend(["[table]", "pk", "cid"].map(|column| format!("{column}{direction}")));
            let limit = match rng.below(3) {
                0 => String::new(),
                _ => format!(" LIMIT {} OFFSET {}", rng.below(12), rng.below(6)),
            };
            let _ = keys;
            (format!("SELECT {TEN} FROM {{}}{where_} ORDER BY {}{limit}", terms.join(", ")), true)
        }
    }
}

/// The expressions of ORDER BY terms, without direction and collation.
fn keys_only(order: &[String]) -> Vec<String> {
    let cut = |term: &String| {
        let end = [" ASC", " DESC", " COLLATE"].iter().filter_map(|word| term.find(word)).min();
        let key = &term[..end.unwrap_or(term.len())];
        match term.contains("NOCASE") {
            // Equal under the collation, so either spelling may come first.
            true => format!("lower({key})"),
            false => key.to_string(),
        }
    };
    order.iter().map(cut).collect()
}

fn assert_same_answers(a: &Site, rng: &mut Rng, count: usize) {
    refresh(a);
    for _ in 0..count {
        let (sql, ordered) = query(rng, a);
        let ask = |table: &str| {
            let mut sql = sql.replace("{}", table);
            if table == "temp.plain" {
                // `SELECT *` of the virtual table leaves out its hidden column.
                sql = sql.replace(
                    "SELECT *",
                    r#"SELECT "table", pk, cid, val, col_version, db_version, site_id, cl, seq"#,
                );
            }
            let mut rows = a.rows(&sql);
            if !ordered {
                rows.sort();
            }
            rows
        };
        assert_eq!(ask("crsql_changes"), ask("temp.plain"), "{sql}");
    }
}

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
