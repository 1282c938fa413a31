//! UNIQUE besides the key: of rows that clash the greatest is shown, the others wait and come back, and no replica ever
//! shows two.

use crsql_core::clash::{Rank, shown};
use crsql_core::ids::SiteId;
use crsql_core::merge::{CellClock, Stamp};
use crsql_tests::exchange::{ARRIVALS, deliver};
use crsql_tests::rng::seeds;
use crsql_tests::{
    NO_ROWS, Rng, Site, SqlValue, TempDir, assert_converged, exchange_all, pull, site, sites, sync,
};
use std::collections::BTreeMap;

const USERS: &str = "CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, email TEXT UNIQUE, name TEXT);
    SELECT crsql_as_crr('u', '{\"unique\":\"winner\"}')";

/// Two replicas, the second of which has the greater site id.
fn pair(schema: &str) -> [Site; 2] {
    loop {
        let pair: [Site; 2] = sites(schema);
        if pair[0].site_id() < pair[1].site_id() {
            return pair;
        }
    }
}

fn hidden(site: &Site) -> Vec<String> {
    site.rows(r#"SELECT DISTINCT "table", pk FROM crsql_conflicts ORDER BY 1, 2"#)
}

#[test]
fn of_two_rows_with_one_value_the_greater_is_shown_everywhere_and_the_other_waits() {
    let [a, b] = pair(USERS);
    a.exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b')");
    sync(&a, &b);
    for s in [&a, &b] {
        assert_eq!(s.rows("SELECT * FROM u"), ["2|'x'|'of b'"]);
        assert_eq!(hidden(s), ["'u'|x'010901'"]);
        let reason = s.text("SELECT DISTINCT reason FROM crsql_conflicts");
        assert_eq!(reason, "UNIQUE: the row with the key 2 keeps the value");
    }
    assert_converged(&[&a, &b]);
    // Whoever ends the clash brings the other back, with what was written of it meanwhile.
    b.exec("UPDATE u SET email = 'y'");
    assert_eq!(b.rows("SELECT * FROM u ORDER BY id"), ["1|'x'|'of a'", "2|'y'|'of b'"]);
    assert_eq!(hidden(&b), NO_ROWS);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM u ORDER BY id"), ["1|'x'|'of a'", "2|'y'|'of b'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_hidden_row_comes_back_when_the_winner_is_deleted_here_or_elsewhere() {
    let [a, b] = pair(USERS);
    a.exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b')");
    sync(&a, &b);
    a.exec("BEGIN; DELETE FROM u");
    a.exec("COMMIT");
    assert_eq!(a.rows("SELECT id FROM u"), ["1"], "at the end of the transaction that deleted the winner");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT id FROM u"), ["1"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn rows_that_swap_their_values_arrive_swapped() {
    for arrival in ARRIVALS {
        let [a, b] = sites(USERS);
        a.exec("INSERT INTO u VALUES (1, 'x', 'one'), (2, 'y', 'two'), (3, 'z', 'three')");
        sync(&a, &b);
        a.exec("BEGIN; UPDATE u SET email = NULL WHERE id = 1; UPDATE u SET email = 'x' WHERE id = 3");
        a.exec("UPDATE u SET email = 'z' WHERE id = 2; UPDATE u SET email = 'y' WHERE id = 1; COMMIT");
        deliver(&b, &mut a.changes(), arrival);
        assert_eq!(b.rows("SELECT email FROM u ORDER BY id"), ["'y'", "'z'", "'x'"], "{arrival:?}");
        assert_eq!(hidden(&b), NO_ROWS, "{arrival:?}");
        assert_converged(&[&a, &b]);
        a.exec("BEGIN; UPDATE u SET email = NULL WHERE id = 1; UPDATE u SET email = 'y' WHERE id = 2");
        a.exec("UPDATE u SET email = 'z' WHERE id = 1; COMMIT");
        pull(&b, &a);
        assert_eq!(b.rows("SELECT email FROM u ORDER BY id"), ["'z'", "'y'", "'x'"]);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn what_is_written_of_a_hidden_row_elsewhere_is_there_when_it_comes_back() {
    let [a, b] = pair(USERS);
    let c = site(USERS);
    a.exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    sync(&a, &c);
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b')");
    sync(&a, &b);
    // c has not heard of the clash.
    c.exec("UPDATE u SET name = 'renamed' WHERE id = 1");
    pull(&a, &c);
    pull(&b, &a);
    assert_eq!(b.rows("SELECT id FROM u"), ["2"]);
    b.exec("DELETE FROM u");
    exchange_all(&[&a, &b, &c]);
    assert_eq!(b.rows("SELECT * FROM u"), ["1|'x'|'renamed'"]);
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn a_local_write_keeps_the_value_it_took_while_others_were_hidden() {
    let [a, b] = pair(USERS);
    a.exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b'); UPDATE u SET email = 'q'; UPDATE u SET email = 'x'");
    a.exec("INSERT INTO u VALUES (3, 'y', 'late')");
    sync(&a, &b);
    assert_eq!(hidden(&a), ["'u'|x'010901'"]);
    a.exec("BEGIN; DELETE FROM u WHERE id = 2; UPDATE u SET email = 'x' WHERE id = 3; COMMIT");
    assert_eq!(a.rows("SELECT id FROM u"), ["3"], "what was written here stays");
    sync(&a, &b);
    assert_eq!(b.rows("SELECT id FROM u"), ["3"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_row_may_be_inserted_again_under_the_key_of_a_hidden_one() {
    let [a, b] = pair(USERS);
    a.exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b')");
    sync(&a, &b);
    b.exec("INSERT INTO u VALUES (1, 'w', 'anew')");
    assert_eq!(hidden(&b), NO_ROWS);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT * FROM u ORDER BY id"), ["1|'w'|'anew'", "2|'x'|'of b'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn several_indexes_of_any_collation_on_any_shape_of_table() {
    for ddl in [
        "CREATE TABLE m (k TEXT PRIMARY KEY NOT NULL, a TEXT COLLATE NOCASE UNIQUE, b, c, UNIQUE (b, c))",
        "CREATE TABLE m (k TEXT PRIMARY KEY NOT NULL, a TEXT COLLATE NOCASE UNIQUE, b, c, UNIQUE (b, c)) WITHOUT ROWID",
        "CREATE TABLE m (k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, a TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE, b, c);
         CREATE UNIQUE INDEX bc ON m (b, c)",
    ] {
        let schema = format!("{ddl}; SELECT crsql_as_crr('m', '{{\"unique\":\"winner\"}}')");
        let [a, b] = pair(&schema);
        a.exec("INSERT INTO m VALUES ('one', 'X', 1, 1), ('two', 'y', 2, 2), ('three', NULL, NULL, 3)");
        b.exec("INSERT INTO m VALUES ('four', 'x', 5, 5), ('five', 'q', 2, 2), ('six', NULL, NULL, 3)");
        sync(&a, &b);
        assert_eq!(a.rows("SELECT k FROM m ORDER BY k"), ["'five'", "'four'", "'six'", "'three'"], "{ddl}");
        assert_converged(&[&a, &b]);
        a.exec("DELETE FROM m WHERE k = 'five'");
        b.exec("UPDATE m SET a = 'other' WHERE k = 'four'");
        sync(&a, &b);
        assert_eq!(b.rows("SELECT count(*) FROM m"), ["5"], "{ddl}");
        assert_eq!(hidden(&b), NO_ROWS);
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn rollbacks_savepoints_and_other_connections_see_one_truth() {
    let dir = TempDir::new();
    let b = loop {
        let b = site(USERS);
        let a = Site::open(dir.join("a.db"));
        if a.site_id() < b.site_id() {
            break b;
        }
    };
    let a = Site::open(dir.join("a.db"));
    a.exec("PRAGMA journal_mode = wal").exec(USERS).exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b')");
    let other = a.reopen();
    assert_eq!(other.int("SELECT count(*) FROM u"), 1);
    let changeset = b.changeset();
    a.exec("BEGIN; SAVEPOINT s");
    a.apply(&changeset);
    assert_eq!(a.rows("SELECT id FROM u"), ["2"]);
    a.exec("ROLLBACK TO s");
    assert_eq!(a.rows("SELECT id FROM u"), ["1"]);
    assert_eq!(hidden(&a), NO_ROWS);
    a.apply(&changeset);
    a.exec("ROLLBACK");
    assert_eq!(a.rows("SELECT id FROM u"), ["1"]);
    a.apply(&changeset);
    assert_eq!(other.rows("SELECT id FROM u"), ["2"]);
    other.exec("BEGIN; DELETE FROM u; ROLLBACK");
    assert_eq!(other.rows("SELECT id FROM u"), ["2"]);
    other.exec("DELETE FROM u");
    assert_eq!(a.rows("SELECT id FROM u"), ["1"]);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_table_that_is_renamed_altered_or_made_ordinary_keeps_what_is_hidden() {
    let [a, b] = pair(USERS);
    a.exec("INSERT INTO u VALUES (1, 'x', 'of a')");
    b.exec("INSERT INTO u VALUES (2, 'x', 'of b')");
    sync(&a, &b);
    for s in [&a, &b] {
        s.exec("ALTER TABLE u RENAME COLUMN email TO mail; ALTER TABLE u RENAME TO person");
    }
    b.exec("UPDATE person SET mail = 'y'");
    assert_eq!(b.rows("SELECT id, mail FROM person ORDER BY id"), ["1|'x'", "2|'y'"]);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id, mail FROM person ORDER BY id"), ["1|'x'", "2|'y'"]);
    assert_converged(&[&a, &b]);
    // Without the index nothing clashes any more.
    a.exec("UPDATE person SET mail = 'z' WHERE id = 2");
    sync(&a, &b);
    a.exec("UPDATE person SET mail = 'both' WHERE id = 1");
    b.exec("UPDATE person SET mail = 'both' WHERE id = 2");
    sync(&a, &b);
    assert_eq!(a.int("SELECT count(*) FROM person"), 1);
    assert_converged(&[&a, &b]);
    a.exec("SELECT crsql_begin_alter('person'); ALTER TABLE person ADD COLUMN age INT; SELECT crsql_commit_alter('person')");
    b.exec("ALTER TABLE person ADD COLUMN age INT");
    a.exec("UPDATE person SET mail = 'free', age = 3");
    sync(&a, &b);
    assert_eq!(b.int("SELECT count(*) FROM person"), 2);
    assert_converged(&[&a, &b]);
}

#[test]
fn what_can_not_be_decided_alike_everywhere_is_refused() {
    let a = Site::memory();
    a.exec(
        "CREATE TABLE partial (id INTEGER PRIMARY KEY NOT NULL, v); CREATE UNIQUE INDEX p ON partial (v) WHERE v > 0;
         CREATE TABLE expression (id INTEGER PRIMARY KEY NOT NULL, v); CREATE UNIQUE INDEX e ON expression (v + 1);
         CREATE TABLE generated (id INTEGER PRIMARY KEY NOT NULL, v, g AS (v + 1) UNIQUE)",
    );
    for (table, reason) in [("partial", "WHERE"), ("expression", "expression"), ("generated", "generated")] {
        let error = a.error(&format!("SELECT crsql_as_crr('{table}', '{{\"unique\":\"winner\"}}')"));
        assert!(error.contains(table) && error.contains(reason), "{error}");
    }
    let error = a.error(
        "CREATE TABLE typed (id INTEGER PRIMARY KEY NOT NULL, v UNIQUE, n INT NOT NULL DEFAULT 0);
         SELECT crsql_as_crr('typed', '{\"unique\":\"winner\",\"columns\":{\"n\":\"counter\"}}')",
    );
    assert!(error.contains("registers"), "{error}");
    let error = a.error(
        "CREATE TABLE plain (id INTEGER PRIMARY KEY NOT NULL, v UNIQUE); SELECT crsql_as_crr('plain')",
    );
    assert!(error.contains("unique") && error.contains("winner"), "{error}");
}

// --- random histories -----------------------------------------------------------------------------------------

const RANDOM: [&str; 2] = [
    "CREATE TABLE r (id INTEGER PRIMARY KEY NOT NULL, a UNIQUE, b, c, UNIQUE (b, c))",
    "CREATE TABLE r (id BLOB PRIMARY KEY NOT NULL, a UNIQUE, b, c, UNIQUE (b, c))",
];

/// The rows that should be shown, of everything that a replica holds.
fn expected(site: &Site) -> Vec<String> {
    type Row = (Option<CellClock>, BTreeMap<String, SqlValue>);
    let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
    let changes = site.values(
        r#"SELECT pk, cid, val, col_version, site_id, site_version, seq FROM crsql_changes WHERE cl % 2 = 1"#,
    );
    for change in changes {
        let row = rows.entry(change[0].blob().to_vec()).or_default();
        let cid = change[1].as_str().to_owned();
        if cid == "-1" {
            continue;
        }
        let stamp = Stamp {
            site: SiteId::try_from(change[4].blob()).expect("16 bytes"),
            version: change[5].integer() as u64,
            seq: change[6].integer() as u64,
        };
        row.0 = row.0.max(Some(CellClock { col_version: change[3].integer() as u64, stamp }));
        row.1.insert(cid, change[2].clone());
    }
    let key = |values: &BTreeMap<String, SqlValue>, columns: &[&str]| {
        let values: Vec<_> =
            columns.iter().map(|c| values.get(*c).cloned().unwrap_or(SqlValue::Null)).collect();
        (!values.contains(&SqlValue::Null)).then_some(values)
    };
    let all: BTreeMap<Rank, _> = rows
        .into_iter()
        .map(|(pk, (clock, values))| {
            (Rank { clock, key: pk }, vec![key(&values, &["a"]), key(&values, &["b", "c"])])
        })
        .collect();
    shown(&all)
        .iter()
        .map(|rank| {
            let key = crsql_core::pack::unpack(&rank.key).expect("a key");
            match key[0] {
                crsql_core::value::ValueRef::Integer(id) => id.to_string(),
                _ => panic!("ids are integers"),
            }
        })
        .collect()
}

fn history(seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let schema = format!("{}; SELECT crsql_as_crr('r', '{{\"unique\":\"winner\"}}')", rng.pick(&RANDOM));
    let replicas: [Site; 3] = sites(&schema);
    let mut clashes = 0;
    for step in 0..70 {
        let (at, of) = (&replicas[rng.below(3)], &replicas[rng.below(3)]);
        match rng.below(10) {
            0..=4 => {
                let is_long = rng.one_in(3);
                at.exec(if is_long { "BEGIN" } else { "" });
                for _ in 0..if is_long { 4 } else { 1 } {
                    let (id, v, w) = (rng.between(1, 7), rng.between(0, 4), rng.between(0, 1));
                    let value = if v == 0 { "NULL".to_owned() } else { v.to_string() };
                    let sql = match rng.below(7) {
                        0 | 1 => format!("INSERT INTO r VALUES ({id}, {value}, {w}, {v})"),
                        2 => format!("INSERT OR REPLACE INTO r VALUES ({id}, {value}, {w}, {v})"),
                        3 => format!("UPDATE r SET a = {value} WHERE id = {id}"),
                        4 => format!("UPDATE OR REPLACE r SET b = {w}, c = {v} WHERE id = {id}"),
                        5 => format!("UPDATE r SET id = {id} WHERE id = {}", rng.between(1, 7)),
                        _ => format!("DELETE FROM r WHERE id = {id}"),
                    };
                    let _ = at.try_exec(&sql);
                    if is_long && rng.one_in(5) && !std::ptr::eq(at, of) {
                        // In the middle of the transaction, between its own writes.
                        at.apply(&of.changeset());
                    }
                }
                at.exec(if !is_long {
                    ""
                } else if rng.one_in(4) {
                    "ROLLBACK"
                } else {
                    "COMMIT"
                });
            }
            5 | 6 => drop(pull(at, of)),
            7 => at.merge(&of.changes()),
            8 => {
                let mut changes = of.changes();
                deliver(at, &mut changes, *rng.pick(&ARRIVALS));
            }
            _ => {
                let nine: Vec<_> = of.changes().iter().map(|change| change[..9].to_vec()).collect();
                at.merge(&nine);
            }
        }
        let problems = at.doctor();
        assert_eq!(problems, "[]", "seed {seed}, step {step}");
        let mut ids: Vec<String> = expected(at);
        ids.sort();
        assert_eq!(at.rows("SELECT id FROM r ORDER BY id"), ids, "seed {seed}, step {step}");
        assert_eq!(at.rows("PRAGMA integrity_check"), ["'ok'"]);
        clashes += hidden(at).len();
    }
    exchange_all(&[&replicas[0], &replicas[1], &replicas[2]]);
    let (a, b, c) = (&replicas[0], &replicas[1], &replicas[2]);
    exchange_all(&[a, b, c]);
    assert_converged(&[a, b, c]);
    assert_eq!(hidden(a), hidden(c), "seed {seed}");
    clashes
}

#[test]
fn random_histories_show_the_rows_that_all_rows_decide() {
    let clashes: usize = seeds(60).into_iter().map(history).sum();
    assert!(clashes > 100, "{clashes} hidden rows seen");
}
