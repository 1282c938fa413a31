//! UNIQUE besides the key: of rows that clash the greatest is shown, the others wait and come back, and no replica ever
//! shows two.

use crsql_tests::exchange::{ARRIVALS, deliver};
use crsql_tests::rng::seeds;
use crsql_tests::special::{all, unique};
use crsql_tests::{NO_ROWS, Site, TempDir, assert_converged, exchange_all, pull, site, sites, sync};

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

#[test]
fn random_histories_show_the_rows_that_all_rows_decide() {
    let seen = all(unique::history, seeds(60), 70);
    assert!(seen.rare > 100, "{} hidden rows seen", seen.rare);
}
