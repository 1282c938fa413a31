//! Random queries on `crsql_changes`, beside the same queries on a plain table with the same rows.

use crate::exchange::TEN;
use crate::{Rng, Site, pull, sites};

/// The replicated tables of [`historied`].
pub const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, v, w, PRIMARY KEY (n, name)) WITHOUT ROWID; CRR k;
    CREATE TABLE tag (id BLOB PRIMARY KEY NOT NULL); CRR tag";
const PLAIN: &str = "CREATE TEMP TABLE plain ([table] TEXT NOT NULL, pk BLOB NOT NULL, cid TEXT NOT NULL, val, col_version INTEGER NOT NULL,
    db_version INTEGER NOT NULL, site_id BLOB NOT NULL, cl INTEGER NOT NULL, seq INTEGER NOT NULL, site_version INTEGER)";
const COLUMNS: [&str; 10] =
    ["[table]", "pk", "cid", "val", "col_version", "db_version", "site_id", "cl", "seq", "site_version"];

/// A replica with a history of every kind, its own and merged.
pub fn historied() -> Site {
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

/// Makes the plain copy of the changes, `temp.plain`.
pub fn refresh(a: &Site) {
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

/// Asks so many random queries of both; panics where the answers differ.
pub fn assert_same_answers(a: &Site, rng: &mut Rng, count: usize) {
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
