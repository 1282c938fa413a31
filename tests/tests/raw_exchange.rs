//! Exchange by plain SQL on `crsql_changes`: the ten-column recipe, and code written for cr-sqlite's nine.

use crsql_tests::exchange::{ARRIVALS, Arrival, NINE, RawPull, TEN, deliver};
use crsql_tests::{Rng, Site, SqlValue, assert_converged, assert_same_tables, pull, rng, site, sites};

const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, v, PRIMARY KEY (n, name)) WITHOUT ROWID; CRR k;
    CREATE TABLE tag (id BLOB PRIMARY KEY NOT NULL); CRR tag";

/// Some work of every kind: inserts, updates, deletes, a reinsert, a REPLACE, a key update, large transactions.
fn work(a: &Site, name: &str) {
    a.exec(&format!(
        "INSERT INTO t VALUES (1, '{name} x', '{name} y');
         BEGIN; INSERT INTO t (id, x) VALUES (2, '{name}'), (3, '{name}'), (4, 1.5); DELETE FROM t WHERE id = 3; COMMIT;
         UPDATE t SET y = '{name} updated' WHERE id = 2;
         REPLACE INTO t (id, x) VALUES (1, '{name} replaced');
         INSERT INTO t (id) VALUES (3);
         INSERT INTO k VALUES ('{name}', 1, x'00'), ('Both', 2, '{name}'); UPDATE k SET n = 3 WHERE name = '{name}';
         INSERT INTO tag VALUES (x'aa'), (CAST('{name}' AS BLOB)); DELETE FROM tag WHERE id = x'aa'"
    ));
}

#[test]
fn the_ten_column_recipe_loses_nothing_however_changes_arrive() {
    for arrival in ARRIVALS {
        let [a, b] = sites(SCHEMA);
        work(&a, "a");
        work(&b, "b");
        let (mut to_b, mut to_a) = (RawPull::ten_columns(arrival), RawPull::ten_columns(arrival));
        for _ in 0..2 {
            to_b.run(&b, &a);
            to_a.run(&a, &b);
        }
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_change_read_back_is_the_change_that_was_inserted() {
    let [a, b] = sites(SCHEMA);
    work(&a, "a");
    b.merge(&a.changes());
    assert_eq!(a.clocks(), b.clocks());
    assert_eq!(b.rows("SELECT DISTINCT site_id = crsql_site_id() FROM crsql_changes"), ["0"]);
}

#[test]
fn the_nine_column_recipe_converges_however_changes_arrive() {
    for arrival in ARRIVALS {
        let [a, b] = sites(SCHEMA);
        work(&a, "a");
        work(&b, "b");
        let (mut to_b, mut to_a) = (RawPull::nine_columns(arrival), RawPull::nine_columns(arrival));
        for round in 0..3 {
            to_b.run(&b, &a);
            to_a.run(&a, &b);
            a.exec(&format!("UPDATE t SET x = 'round {round}' WHERE id = 2"));
        }
        to_b.run(&b, &a);
        assert_same_tables(&["t", "k", "tag"], &[&a, &b]);
        let nine = r#"SELECT "table", pk, cid, val, col_version, site_id, cl, seq FROM crsql_changes ORDER BY 1, 2, 3"#;
        assert_eq!(a.rows(nine), b.rows(nine));
    }
}

#[test]
fn the_watermark_recipe_works_through_an_intermediary() {
    for make in [RawPull::ten_columns as fn(Arrival) -> RawPull, RawPull::nine_columns] {
        for arrival in [Arrival::Autocommit, Arrival::Transaction] {
            // a and c never meet: everything goes through b.
            let [a, b, c] = sites(SCHEMA);
            let mut pulls = [make(arrival), make(arrival), make(arrival), make(arrival)];
            for round in 0..4 {
                if round < 3 {
                    a.exec(&format!(
                        "INSERT INTO t VALUES (10 + {round}, 'a', {round}); UPDATE t SET y = 'a{round}'"
                    ));
                    c.exec(&format!("INSERT INTO t VALUES (20 + {round}, 'c', {round}); DELETE FROM t WHERE id = 19 + {round}"));
                    b.exec(&format!("INSERT INTO t VALUES (30 + {round}, 'b', {round})"));
                }
                pulls[0].run(&b, &a);
                pulls[1].run(&c, &b);
                pulls[2].run(&b, &c);
                pulls[3].run(&a, &b);
            }
            assert_same_tables(&["t"], &[&a, &b, &c]);
            assert_eq!(a.int("SELECT count(*) FROM t"), 7);
        }
    }
}

#[test]
fn sending_only_own_changes_is_enough_in_a_full_mesh() {
    let [a, b, c] = sites(SCHEMA);
    for (s, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        work(s, name);
    }
    let own = format!("SELECT {NINE} FROM crsql_changes WHERE db_version > 0 AND site_id = crsql_site_id()");
    let batches: Vec<_> = [&a, &b, &c].iter().map(|s| s.values(&own)).collect();
    for (i, to) in [&a, &b, &c].iter().enumerate() {
        for (j, batch) in batches.iter().enumerate() {
            if i != j {
                deliver(to, &mut batch.clone(), Arrival::Transaction);
            }
        }
    }
    assert_same_tables(&["t", "k", "tag"], &[&a, &b, &c]);
}

#[test]
fn positional_inserts_of_nine_values_work() {
    let [a, b] = sites(SCHEMA);
    work(&a, "a");
    assert_eq!(a.values("SELECT * FROM crsql_changes")[0].len(), 9, "site_version is hidden");
    for row in a.values("SELECT * FROM crsql_changes") {
        let params: Vec<&dyn rusqlite::ToSql> =
            row.iter().map(|value| value as &dyn rusqlite::ToSql).collect();
        b.run("INSERT INTO crsql_changes VALUES (?,?,?,?,?,?,?,?,?)", &params);
    }
    assert_same_tables(&["t", "k", "tag"], &[&a, &b]);
}

#[test]
fn nine_columns_have_unknown_identity_which_a_complete_copy_repairs() {
    let [a, b] = sites(SCHEMA);
    work(&a, "a");
    b.merge(&a.values(&format!("SELECT {NINE} FROM crsql_changes")));
    assert_eq!(b.rows("SELECT DISTINCT site_version FROM crsql_changes"), ["0"]);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn changes_of_unknown_identity_are_always_offered() {
    let [a, b, c] = sites(SCHEMA);
    work(&a, "a");
    b.merge(&a.values(&format!("SELECT {NINE} FROM crsql_changes")));
    pull(&c, &b);
    assert_same_tables(&["t", "k", "tag"], &[&a, &b, &c]);
    // And a copy with identity still arrives afterwards, at both.
    pull(&c, &a);
    pull(&b, &c);
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn a_local_write_over_changes_of_unknown_identity_dominates_them() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'a', 'a'); UPDATE t SET x = 'b'; UPDATE t SET x = 'c'");
    b.merge(&a.values(&format!("SELECT {NINE} FROM crsql_changes")));
    b.exec("UPDATE t SET x = 'mine'");
    pull(&b, &a);
    pull(&a, &b);
    assert_eq!(a.rows("SELECT x FROM t"), ["'mine'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_reader_in_the_same_transaction_sees_each_single_row_statement() {
    let [a, b] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let changes = a.changes();
    b.exec("BEGIN");
    b.merge(&changes[..1]);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'x'|NULL"]);
    assert_eq!(b.int("SELECT count(*) FROM crsql_changes"), 1);
    b.merge(&changes[1..]);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'x'|'y'"]);
    b.exec("COMMIT");
    assert_converged(&[&a, &b]);
}

#[test]
fn a_multi_row_statement_that_fails_leaves_nothing() {
    let [a, b] = sites(SCHEMA);
    work(&a, "a");
    let changes = a.changes();
    b.exec("CREATE TEMP TABLE incoming AS SELECT * FROM crsql_changes");
    b.exec("DROP TABLE incoming; CREATE TEMP TABLE incoming (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10)");
    for change in &changes {
        let params: Vec<&dyn rusqlite::ToSql> =
            change.iter().map(|value| value as &dyn rusqlite::ToSql).collect();
        b.run("INSERT INTO incoming VALUES (?,?,?,?,?,?,?,?,?,?)", &params);
    }
    let insert = format!("INSERT INTO crsql_changes ({TEN}) SELECT");
    b.error(&format!("{insert} c1, c2, c3, c4, c5, c6, c7, c8, c9, abs(CASE WHEN rowid = 9 THEN -9223372036854775808 ELSE c10 END) FROM incoming"));
    assert_eq!(b.int("SELECT count(*) FROM t") + b.int("SELECT count(*) FROM crsql_changes"), 0);
    b.exec(&format!("{insert} * FROM incoming"));
    assert_converged(&[&a, &b]);
}

#[test]
fn changes_can_be_copied_from_the_attached_database_of_another_replica() {
    let [a, b] = sites(SCHEMA);
    work(&a, "a");
    let dir = crsql_tests::TempDir::new();
    let file = dir.join("changes.db");
    a.exec(&format!(
        "ATTACH '{0}' AS out; CREATE TABLE out.changes AS SELECT {TEN} FROM crsql_changes; DETACH out",
        file.display()
    ));
    b.exec(&format!("ATTACH '{}' AS inbox", file.display()));
    b.exec(&format!(
        "INSERT INTO crsql_changes ({TEN}) SELECT * FROM inbox.changes ORDER BY random(); DETACH inbox"
    ));
    assert_converged(&[&a, &b]);
}

#[test]
fn a_merged_change_gets_this_replicas_next_apply_position() {
    let [a, b] = sites(SCHEMA);
    for i in 0..5 {
        a.exec(&format!("INSERT INTO t (id) VALUES ({i})"));
    }
    b.exec("INSERT INTO t (id) VALUES (100)");
    b.exec("BEGIN");
    b.merge(&a.changes());
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT DISTINCT db_version FROM crsql_changes ORDER BY 1"), ["1", "2"]);
    assert_eq!(b.db_version(), 2);
    b.merge(&a.changes());
    assert_eq!(b.db_version(), 2, "a merge that changes nothing takes no version");
}

#[test]
fn rows_impacted_counts_the_changes_of_this_transaction_that_won() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    b.exec("BEGIN");
    assert_eq!(b.int("SELECT crsql_rows_impacted()"), 0);
    b.merge(&a.changes());
    assert_eq!(b.int("SELECT crsql_rows_impacted()"), 2);
    b.merge(&a.changes());
    assert_eq!(b.int("SELECT crsql_rows_impacted()"), 2);
    b.exec("ROLLBACK");
    assert_eq!(b.int("SELECT crsql_rows_impacted()"), 0);
}

#[test]
fn random_raw_exchange_in_random_pieces_converges() {
    for seed in rng::seeds(25) {
        let mut rng = Rng::new(seed);
        let all: [Site; 3] = sites(SCHEMA);
        let mut mail: Vec<(usize, Vec<SqlValue>)> = Vec::new();
        for _ in 0..40 {
            let i = rng.below(3);
            let id = rng.below(4);
            all[i].exec(&match rng.below(6) {
                0 => format!("DELETE FROM t WHERE id = {id}"),
                1 => format!("REPLACE INTO t (id, x) VALUES ({id}, {})", rng.below(9)),
                2 => format!("INSERT OR IGNORE INTO k VALUES ('n{id}', 1, {i})"),
                3 => format!("UPDATE OR IGNORE t SET id = {} WHERE id = {id}", rng.below(4)),
                4 => format!("INSERT OR IGNORE INTO t VALUES ({id}, {}, {i})", rng.below(9)),
                _ => format!("UPDATE t SET x = {} WHERE id = {id}", rng.below(9)),
            });
            let changes = all[i].changes();
            for to in (0..3).filter(|to| *to != i) {
                // Some of what i holds, some of it twice, some never in this round.
                for change in changes.iter().filter(|_| rng.one_in(3)) {
                    mail.push((to, change.clone()));
                }
            }
            if rng.one_in(4) {
                rng.shuffle(&mut mail);
                let half = mail.len() / 2;
                for (to, change) in mail.drain(..half) {
                    all[to].merge(&[change]);
                }
            }
        }
        for (to, change) in mail {
            all[to].merge(&[change]);
        }
        for _ in 0..2 {
            for (i, from) in all.iter().enumerate() {
                let changes = from.changes();
                for to in (0..3).filter(|to| *to != i) {
                    deliver(&all[to], &mut changes.clone(), Arrival::Shuffled(seed));
                }
            }
        }
        assert_converged(&[&all[0], &all[1], &all[2]]);
    }
}

#[test]
fn cells_that_arrive_one_by_one_in_autocommit_build_a_row_that_needs_them_all() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, low INT DEFAULT 0, high INT DEFAULT 1, CHECK (low < high)); CRR t",
    );
    let b = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, low INT DEFAULT 0, high INT DEFAULT 1, CHECK (low < high)); CRR t",
    );
    a.exec("INSERT INTO t VALUES (1, 10, 20)");
    for change in a.changes() {
        b.merge(&[change]);
    }
    assert_eq!(b.rows("SELECT * FROM t"), ["1|10|20"]);
    assert_converged(&[&a, &b]);
    a.exec("UPDATE t SET low = 100, high = 200");
    let mut changes = a.changes();
    changes.reverse();
    for change in changes {
        b.merge(&[change]);
    }
    assert_converged(&[&a, &b]);
}

#[test]
fn a_change_that_follows_one_of_its_row_meets_the_row_as_it_is_by_then() {
    let [a, b, c] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let merge = |site: &Site, cid: &str| site.merge(&a.changes_where(&format!("cid = '{cid}'")));
    b.exec("BEGIN");
    merge(&b, "x");
    b.exec("DELETE FROM t");
    merge(&b, "y");
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT count(*) FROM t"), ["0"], "deleted in between");
    c.exec("BEGIN; SAVEPOINT s");
    merge(&c, "x");
    c.exec("ROLLBACK TO s");
    merge(&c, "y");
    c.exec("COMMIT");
    assert_eq!(c.rows("SELECT cid FROM crsql_changes"), ["'y'"], "rolled back in between");
}

#[test]
fn the_first_thing_a_database_hears_of_may_be_a_change() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    for in_transaction in [false, true] {
        let fresh = Site::memory();
        if in_transaction {
            fresh.exec("BEGIN");
        }
        fresh.merge(&a.changes());
        if in_transaction {
            fresh.exec("COMMIT");
        }
        assert_eq!(fresh.digest(), a.digest());
        fresh.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t");
        assert_converged(&[&a, &fresh]);
    }
}
