//! Columns of types other than register: what SQL does to them, and what replicas make of it together.

use crsql_tests::exchange::sync_all;
use crsql_tests::rng::seeds;
use crsql_tests::special::{all, lists};
use crsql_tests::{Site, TempDir, assert_converged, site, sites, sync};

const HITS: &str = r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, name TEXT);
    SELECT crsql_as_crr('t', '{"columns":{"n":"counter"}}')"#;

#[test]
fn increments_add_up_wherever_they_were_made() {
    let [a, b, c] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 10, 'x')");
    sync_all(&[&a, &b, &c]);
    a.exec("UPDATE t SET n = n + 1; UPDATE t SET n = n + 1, name = 'y'");
    b.exec("UPDATE t SET n = n - 5");
    c.exec("BEGIN; UPDATE t SET n = n + 100; UPDATE t SET n = n + 100; COMMIT");
    sync_all(&[&a, &b, &c]);
    assert_eq!(a.rows("SELECT n, name FROM t"), ["207|'y'"]);
    assert_eq!(
        a.rows("SELECT cid, val, col_version FROM crsql_changes WHERE cid <> 'name' ORDER BY val"),
        ["'counter(n)'|-5|1", "'counter(n)'|12|3", "'counter(n)'|200|2"]
    );
}

#[test]
fn a_hundred_sites_count_a_hundred_thousand_in_less_than_two_kilobytes() {
    let hub = site(HITS);
    hub.exec("INSERT INTO t VALUES (1, 0, 'x')");
    let first = hub.changeset();
    let mut changesets = Vec::new();
    for _ in 0..100 {
        let a = site(HITS);
        a.apply(&first);
        for _ in 0..1000 {
            a.exec("UPDATE t SET n = n + 1 WHERE id = 1");
        }
        changesets.push(a.changeset_for(&hub.version_vector()));
    }
    let [forwards, backwards] = sites(HITS);
    let mut order: Vec<usize> = (0..100).collect();
    crsql_tests::Rng::new(7).shuffle(&mut order);
    for (to, order) in [(&forwards, order.clone()), (&backwards, order.into_iter().rev().collect())] {
        to.apply(&first);
        for at in order {
            to.apply(&changesets[at]);
        }
        assert_eq!(to.int("SELECT n FROM t"), 100_000);
        assert_eq!(to.text("SELECT crsql_doctor()"), "[]");
        // The log is folded into segments when a table is declared anew.
        to.exec("CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL); CRR u; SELECT crsql_as_table('u')");
        assert_eq!(to.int("SELECT count(*) FROM __crsql_log"), 0);
        let clocks = to.int("SELECT sum(length(data)) FROM __crsql_segment");
        let values = to.int("SELECT sum(length(data)) FROM __crsql_typed");
        println!("100 sites: {clocks} bytes of clocks, {values} of values");
        assert!(clocks + values < 2000, "{clocks} bytes of clocks, {values} of values");
    }
    assert_eq!(forwards.digest(), backwards.digest());
    let all = forwards.changeset();
    println!("100 sites: a changeset of {} bytes", all.len());
    let fresh = site(HITS);
    fresh.apply(&all);
    assert_eq!(fresh.int("SELECT n FROM t"), 100_000);
    assert_converged(&[&forwards, &fresh]);
}

#[test]
fn an_upsert_counts_on_every_site_that_does_it() {
    let [a, b] = sites(
        r#"CREATE TABLE hits (page TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0);
        SELECT crsql_as_crr('hits', '{"columns":{"n":"counter"}}')"#,
    );
    for site in [&a, &b] {
        for _ in 0..3 {
            site.exec("INSERT INTO hits VALUES ('/', 1) ON CONFLICT DO UPDATE SET n = n + 1");
        }
    }
    sync_all(&[&a, &b]);
    assert_eq!(a.int("SELECT n FROM hits"), 6);
}

#[test]
fn a_counter_of_a_row_that_was_deleted_or_replaced_begins_anew() {
    let [a, b] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 5, 'x'), (2, 5, 'y')");
    sync(&a, &b);
    b.exec("UPDATE t SET n = n + 100");
    a.exec("UPDATE t SET n = n + 1; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 7, 'again')");
    a.exec("REPLACE INTO t VALUES (2, 8, 'replaced')");
    sync_all(&[&a, &b]);
    assert_eq!(b.rows("SELECT id, n FROM t"), ["1|7", "2|8"]);
    assert_eq!(b.int("SELECT count(*) FROM __crsql_typed"), 0);
    b.exec("UPDATE t SET n = n + 1");
    a.exec("UPDATE t SET id = id + 10");
    sync_all(&[&a, &b]);
    assert_eq!(a.rows("SELECT id, n FROM t"), ["11|7", "12|8"]);
}

#[test]
fn a_rollback_takes_back_what_was_counted() {
    let [a, b] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 1, 'x')");
    sync(&a, &b);
    b.exec("UPDATE t SET n = n + 10");
    sync(&a, &b);
    a.exec("BEGIN; UPDATE t SET n = n + 1; SAVEPOINT s; UPDATE t SET n = n + 1000; ROLLBACK TO s; UPDATE t SET n = n + 1; COMMIT");
    a.exec("BEGIN; UPDATE t SET n = n + 5; ROLLBACK");
    a.error("INSERT INTO t SELECT 2, 1, 'y' UNION ALL SELECT 1, 1, 'clash'");
    a.error("UPDATE t SET n = n + 1, id = NULL");
    sync_all(&[&a, &b]);
    assert_eq!(b.int("SELECT n FROM t"), 13);
}

#[test]
fn what_is_no_number_is_refused_with_the_table_the_column_and_the_way_out() {
    let a = site(HITS);
    a.exec("INSERT INTO t VALUES (1, 1, 'x')");
    for sql in
        ["UPDATE t SET n = 'seven'", "INSERT INTO t VALUES (2, x'00', 'y')", "UPDATE t SET n = 'x', id = 3"]
    {
        let error = a.error(sql);
        assert!(
            error.contains("\"n\"") && error.contains("\"t\"") && error.contains("set it to a number"),
            "{error}"
        );
    }
    a.error("UPDATE t SET n = NULL");
    assert_eq!(a.rows("SELECT id, n FROM t"), ["1|1"]);
    assert_eq!(a.text("SELECT crsql_doctor()"), "[]");
}

#[test]
fn sums_past_64_bits_and_of_reals_are_the_same_everywhere() {
    let [a, b, c] = sites(
        r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, r REAL NOT NULL DEFAULT 0.0);
        SELECT crsql_as_crr('t', '{"columns":{"n":"counter","r":"counter"}}')"#,
    );
    a.exec("INSERT INTO t VALUES (1, 9223372036854775000, 0.1)");
    sync_all(&[&a, &b, &c]);
    b.exec("UPDATE t SET n = 9223372036854775807, r = r + 0.2");
    c.exec("UPDATE t SET n = 9223372036854775807, r = r + 0.3");
    sync_all(&[&a, &b, &c]);
    assert_eq!(a.int("SELECT n FROM t"), i64::MAX);
    a.exec("UPDATE t SET n = n - 1000, r = r - 0.1");
    sync_all(&[&a, &b, &c]);
    // The sum was 807 above the greatest integer.
    assert_eq!(c.int("SELECT n FROM t"), i64::MAX - 193);
    assert!((c.values("SELECT r FROM t")[0][0].to_string().parse::<f64>().unwrap() - 0.5).abs() < 1e-9);
}

#[test]
fn changes_travel_one_by_one_and_in_any_order() {
    let [a, b] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 10, 'x'), (2, 20, 'y')");
    sync(&a, &b);
    a.exec("UPDATE t SET n = n + 1");
    b.exec("UPDATE t SET n = n + 2, name = 'b'");
    sync(&a, &b);
    for one_statement in [true, false] {
        for turn in 0..4 {
            let c = site(HITS);
            let mut changes = a.changes();
            changes.rotate_left(turn);
            match one_statement {
                true => c.merge_in_one_statement(&changes),
                false => c.merge(&changes),
            }
            assert_converged(&[&a, &c]);
            assert_eq!(c.text("SELECT crsql_doctor()"), "[]");
            assert_eq!(c.rows("SELECT n FROM t"), ["13", "23"]);
        }
    }
    let rowids = a.int("SELECT count(DISTINCT rowid) FROM crsql_changes");
    assert_eq!(rowids, a.int("SELECT count(*) FROM crsql_changes"), "each part has a rowid of its own");
}

#[test]
fn a_replica_that_knows_a_register_parks_the_parts_and_takes_them_when_it_declares_the_counter() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, name TEXT); CRR t",
    );
    let [b, c] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 100, 'x')");
    for site in [&b, &c] {
        site.apply(&a.changeset());
        site.exec("UPDATE t SET n = n + 1");
    }
    sync(&b, &c);
    assert_eq!(b.int("SELECT n FROM t"), 102, "what was written as a register is the counter's base");
    a.apply(&b.changeset());
    assert_eq!(a.int("SELECT n FROM t"), 100);
    assert_eq!(a.rows("SELECT cid, val FROM crsql_parked"), ["'counter(n)'|1", "'counter(n)'|1"]);
    assert!(a.text("SELECT min(reason) FROM crsql_parked").contains("declare it here"));
    assert_eq!(a.digest(), b.digest(), "they hold the same");
    let relayed = site(HITS);
    relayed.apply(&a.changeset());
    assert_eq!(relayed.int("SELECT n FROM t"), 102, "parked parts are forwarded");
    // A register written there once more is the base again.
    a.exec("UPDATE t SET n = 200");
    a.exec(r#"SELECT crsql_as_crr('t', '{"columns":{"n":"counter"}}')"#);
    assert_eq!(a.int("SELECT n FROM t"), 202);
    assert_eq!(a.int("SELECT count(*) FROM crsql_parked"), 0);
    a.exec("UPDATE t SET n = n + 1000");
    sync_all(&[&a, &b, &c, &relayed]);
    assert_eq!(c.int("SELECT n FROM t"), 1202);
}

#[test]
fn only_the_greatest_and_the_least_stay() {
    let [a, b] = sites(
        r#"CREATE TABLE game (id INTEGER PRIMARY KEY NOT NULL, best INTEGER, fastest REAL, name TEXT);
        SELECT crsql_as_crr('game', '{"columns":{"best":"max","fastest":"min"}}')"#,
    );
    a.exec("INSERT INTO game VALUES (1, 10, NULL, 'a')");
    sync(&a, &b);
    a.exec("UPDATE game SET best = 30, fastest = 2.5");
    b.exec("UPDATE game SET best = 20; UPDATE game SET best = 15, fastest = 3.5, name = 'b'");
    assert_eq!(b.rows("SELECT best, fastest, name FROM game"), ["20|3.5|'b'"], "a smaller value is no write");
    sync_all(&[&a, &b]);
    assert_eq!(b.rows("SELECT best, fastest, name FROM game"), ["30|2.5|'b'"]);
    a.exec("UPDATE game SET best = 1, fastest = NULL");
    assert_eq!(a.rows("SELECT best, fastest FROM game"), ["30|2.5"]);
    a.exec("INSERT INTO game VALUES (2, 1, 1, 'a')");
    b.exec("INSERT INTO game VALUES (2, 9, 9, 'b')");
    sync_all(&[&a, &b]);
    assert_eq!(a.rows("SELECT best, fastest FROM game WHERE id = 2"), ["9|1.0"], "concurrent inserts, too");
    a.exec("REPLACE INTO game VALUES (2, 3, 3, 'anew')");
    sync_all(&[&a, &b]);
    assert_eq!(b.rows("SELECT best, fastest FROM game WHERE id = 2"), ["3|3.0"]);
}

#[test]
fn a_typed_column_is_renamed_dropped_and_rebuilt_like_any_other() {
    let [a, b] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 1, 'x')");
    sync(&a, &b);
    b.exec("UPDATE t SET n = n + 1");
    sync(&a, &b);
    for site in [&a, &b] {
        site.exec("ALTER TABLE t RENAME COLUMN n TO hits");
    }
    a.exec("UPDATE t SET hits = hits + 10");
    b.exec("UPDATE t SET hits = hits + 20");
    sync_all(&[&a, &b]);
    assert_eq!(a.int("SELECT hits FROM t"), 32);
    a.exec("SELECT crsql_as_crr('t')");
    assert_eq!(a.rows("SELECT * FROM crsql_columns"), ["'t'|'hits'|'counter'", "'t'|'name'|'register'"]);
    for site in [&a, &b] {
        site.exec(
            "SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN extra; UPDATE t SET hits = hits + 1",
        );
        site.exec("SELECT crsql_commit_alter('t')");
    }
    sync_all(&[&a, &b]);
    assert_eq!(a.int("SELECT hits FROM t"), 34, "writes during an alter are counted");
    for site in [&a, &b] {
        site.exec(
            "SELECT crsql_begin_alter('t'); CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, hits INTEGER NOT NULL DEFAULT 0, name TEXT, extra);
             INSERT INTO n SELECT id, hits, name, extra FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; SELECT crsql_commit_alter('t')",
        );
    }
    b.exec("UPDATE t SET hits = hits + 1");
    sync_all(&[&a, &b]);
    assert_eq!(a.int("SELECT hits FROM t"), 35);
    for site in [&a, &b] {
        site.exec(
            "SELECT crsql_begin_alter('t'); ALTER TABLE t DROP COLUMN hits; SELECT crsql_commit_alter('t')",
        );
    }
    assert_eq!(a.int("SELECT count(*) FROM __crsql_typed"), 0);
    a.exec("UPDATE t SET name = 'still'");
    sync_all(&[&a, &b]);
}

#[test]
fn a_declaration_that_cannot_be_is_refused_with_the_column_and_the_reason() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, free INTEGER, one INTEGER NOT NULL DEFAULT 1,
          words TEXT NOT NULL DEFAULT 0, n NOT NULL DEFAULT 0, m INTEGER)",
    );
    a.exec("INSERT INTO t (id, n) VALUES (1, 'text')");
    for (column, kind, why) in [
        ("none", "max", "there is no such column"),
        ("id", "max", "part of the key"),
        ("free", "counter", "NOT NULL DEFAULT 0"),
        ("one", "counter", "NOT NULL DEFAULT 0"),
        ("words", "counter", "INTEGER, REAL or NUMERIC"),
        ("n", "counter", "a row holds a text"),
    ] {
        let error = a.error(&format!(r#"SELECT crsql_as_crr('t', '{{"columns":{{"{column}":"{kind}"}}}}')"#));
        assert!(error.contains(why) && error.contains(column), "{error}");
    }
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 0, "nothing was changed");
    a.exec(r#"SELECT crsql_as_crr('t', '{"columns":{"m":"max"}}')"#);
    let error = a.error(r#"SELECT crsql_as_crr('t', '{"columns":{"m":"register"}}')"#);
    assert!(error.contains("it is declared \"max\""), "{error}");
    a.exec(r#"SELECT crsql_as_crr('t', '{"columns":{"M":"max","free":"min"}}')"#);
    assert_eq!(
        a.rows("SELECT \"column\", type FROM crsql_columns WHERE type <> 'register'"),
        ["'free'|'min'", "'m'|'max'"]
    );
}

#[test]
fn a_row_that_the_table_refuses_waits_with_all_its_parts() {
    let schema = |check: &str| {
        format!(
            r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0 {check});
            SELECT crsql_as_crr('t', '{{"columns":{{"n":"counter"}}}}')"#
        )
    };
    let [a, b] = sites(&schema(""));
    let strict = site(&schema("CHECK (n < 10)"));
    a.exec("INSERT INTO t VALUES (1, 6)");
    b.apply(&a.changeset());
    strict.apply(&a.changeset());
    a.exec("UPDATE t SET n = n + 3");
    b.exec("UPDATE t SET n = n + 3");
    sync(&a, &b);
    strict.apply(&a.changeset());
    assert_eq!(strict.int("SELECT n FROM t"), 6);
    assert_eq!(strict.int("SELECT count(*) FROM crsql_conflicts"), 2);
    assert_eq!(strict.digest(), a.digest());
    a.exec("UPDATE t SET n = n - 5");
    strict.apply(&a.changeset());
    assert_eq!(strict.int("SELECT n FROM t"), 7);
    assert_eq!(strict.int("SELECT count(*) FROM crsql_parked"), 0);
    assert_eq!(strict.digest(), a.digest());
}

#[test]
fn the_doctor_sees_values_that_do_not_fit() {
    let [a, b] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 1, 'x'), (2, 1, 'x')");
    sync(&a, &b);
    b.exec("UPDATE t SET n = n + 1");
    sync(&a, &b);
    let problems = |sql: &str| {
        a.exec("BEGIN");
        a.exec(sql);
        let told = a.text("SELECT crsql_doctor()");
        a.exec("ROLLBACK");
        told
    };
    assert!(problems("DELETE FROM __crsql_typed WHERE key = 1").contains("clock without value"));
    assert!(
        problems("INSERT INTO __crsql_typed SELECT table_id, 9, slot, data FROM __crsql_typed WHERE key = 1")
            .contains("values without row")
    );
    let swapped = "UPDATE __crsql_typed SET data = x'00' || substr(data, 2, 3) || substr(data, 2, 1) || x'0907' WHERE key = 1";
    assert_ne!(problems(swapped), "[]");
    assert_eq!(a.text("SELECT crsql_doctor()"), "[]");
}

#[test]
fn a_fork_gives_up_the_parts_that_it_cannot_divide_and_nothing_is_counted_twice() {
    let dir = TempDir::new();
    let [b, peer] = sites(HITS);
    let a = Site::open(dir.join("a.db"));
    a.exec(HITS);
    a.exec("INSERT INTO t VALUES (1, 40, 'x'), (2, 7, 'untouched'); UPDATE t SET n = n + 5 WHERE id = 1");
    sync(&a, &b);
    b.exec("UPDATE t SET n = n + 1000");
    sync(&a, &b);
    let keep = a.int("SELECT max(site_version) FROM crsql_peers WHERE site_id = crsql_site_id()");
    a.exec(&format!("VACUUM INTO '{}'", dir.join("fork.db").display()));
    let fork = Site::open(dir.join("fork.db"));
    a.exec("UPDATE t SET n = n + 5 WHERE id = 1");
    fork.exec(
        "UPDATE t SET n = n + 1; INSERT INTO t VALUES (3, 3, 'new'); UPDATE t SET name = 'fork' WHERE id = 2",
    );
    fork.exec(&format!("SELECT crsql_new_site({keep})"));
    assert_eq!(fork.text("SELECT crsql_doctor()"), "[]");
    for (from, to) in [(&a, &b), (&b, &fork), (&fork, &peer), (&peer, &a), (&a, &b), (&b, &fork)] {
        to.apply(&from.changeset_for(&to.version_vector()));
    }
    sync_all(&[&a, &b, &fork, &peer]);
    assert_eq!(peer.rows("SELECT id, n, name FROM t"), ["1|1050|'x'", "2|1007|'fork'", "3|3|'new'"]);
}

#[test]
fn who_begins_again_keeps_what_was_counted_and_not_sent() {
    let [a, b] = sites(HITS);
    a.exec("INSERT INTO t VALUES (1, 5, 'x'), (2, 5, 'gone')");
    sync(&a, &b);
    b.exec(
        "UPDATE t SET n = n + 10; INSERT INTO t VALUES (3, 7, 'unsent'); UPDATE t SET n = n + 1 WHERE id = 3",
    );
    a.exec("UPDATE t SET n = n + 100; DELETE FROM t WHERE id = 2");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(a.int("SELECT crsql_gc() ->> 'tombstones_collected'"), 1);
    b.value_with("SELECT crsql_rebootstrap(?1)", &[&a.changeset()]);
    assert_eq!(b.text("SELECT crsql_doctor()"), "[]");
    assert_eq!(b.rows("SELECT id, n FROM t"), ["1|115", "3|8"]);
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id, n FROM t"), ["1|115", "3|8"]);
}

#[test]
fn rows_placed_and_moved_at_one_place_on_several_sites_end_in_one_order_without_equal_keys() {
    let sites: [Site; 3] = sites(
        "CREATE TABLE item (id TEXT PRIMARY KEY NOT NULL, list TEXT, pos TEXT); CRR item;
         SELECT crsql_fract_as_ordered('item', 'pos', 'list')",
    );
    sites[0].exec("INSERT INTO item VALUES ('first', 'l', 1), ('last', 'l', 1)");
    sync_all(&[&sites[0], &sites[1], &sites[2]]);
    for round in 0..5 {
        for (n, site) in sites.iter().enumerate() {
            for i in 0..20 {
                let id = format!("{round} {n} {i}");
                site.exec(&format!(
                    "INSERT INTO item_fractindex (id, list, after_id) VALUES ('{id}', 'l', 'first')"
                ));
            }
            site.exec("UPDATE item_fractindex SET after_id = 'first' WHERE id = 'last'");
            site.exec(&format!("UPDATE item_fractindex SET after_id = 'last' WHERE id = '{round} {n} 3'"));
        }
        sync_all(&[&sites[0], &sites[1], &sites[2]]);
    }
    let order = sites[0].rows("SELECT id FROM item ORDER BY pos");
    assert_eq!(order.len(), 302);
    assert_eq!(order, sites[2].rows("SELECT id FROM item ORDER BY pos"));
    assert_eq!(sites[0].int("SELECT count(DISTINCT pos) FROM item"), 302, "no two rows share a place");
    let longest = sites[0].int("SELECT max(length(pos)) FROM item");
    assert!(longest < 60, "{longest}");
}

#[test]
fn a_row_whose_clocks_stand_at_their_limit_begins_anew_with_what_its_counter_shows() {
    for table in [
        "t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, best INTEGER, name TEXT)",
        "t (id INT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, best INTEGER, name TEXT)",
        "t (id INT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, best INTEGER, name TEXT) WITHOUT ROWID",
    ] {
        for (cid, write) in [("name", "name = 'mine'"), ("max(best)", "best = 9")] {
            let schema = format!(
                r#"CREATE TABLE {table}; CRR t; INSERT INTO t VALUES (1, 40, 1, 'x');
                SELECT crsql_as_crr('t', '{{"columns":{{"n":"counter","best":"max"}}}}')"#
            );
            let a = site(&schema);
            let b = site(&schema.replace("INSERT INTO t VALUES (1, 40, 1, 'x');", ""));
            sync(&a, &b);
            b.exec("UPDATE t SET n = n + 2");
            sync(&a, &b);
            let hostile = format!(
                "INSERT INTO crsql_changes (\"table\", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version)
                 VALUES ('t', x'010901', '{cid}', 5, 1099511627776, 1, x'{}', 1, 0, 1)",
                "ff".repeat(16)
            );
            a.exec(&hostile);
            a.exec(&format!("UPDATE t SET {write}"));
            sync_all(&[&a, &b]);
            assert_eq!(b.int("SELECT n FROM t"), 42, "{table}: {cid}");
            assert_eq!(b.int("SELECT max(cl) FROM crsql_changes"), 3, "{table}: {cid}");
        }
    }
}

#[test]
fn an_insert_numbers_a_column_that_came_after_a_type_after_it() {
    let a = site(
        r#"CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, low, x);
           SELECT crsql_as_crr('t', '{"columns":{"n":"counter","low":"min"}}');
           SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN late; SELECT crsql_commit_alter('t');
           INSERT INTO t VALUES (1, 2, 3, 4, 5)"#,
    );
    let order = "SELECT cid, seq FROM crsql_changes ORDER BY seq";
    assert_eq!(a.rows(order), ["'x'|0", "'min(low)'|1", "'late'|2", "'counter(n)'|3"]);
    a.exec("UPDATE t SET late = 6, x = 7, low = 2, n = 3");
    assert_eq!(a.rows(order), ["'x'|0", "'late'|1", "'min(low)'|2", "'counter(n)'|3"], "registers first");
}

#[test]
fn random_histories_of_ordered_lists_agree_on_every_place() {
    let seen = all(lists::history, seeds(15), 70);
    assert!(seen.rare > 0, "no two replicas chose one place");
}
