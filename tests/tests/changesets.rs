//! `crsql_changeset` and `crsql_apply`: what they carry, what they report, and what they refuse.

use crsql_tests::{NO_ROWS, Rng, Site, assert_converged, exchange_all, pull, rng, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t";

#[test]
fn a_changeset_of_everything_makes_an_equal_replica() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1), (2, x'00', 2.5), (3, NULL, NULL); DELETE FROM t WHERE id = 3");
    let report = b.apply(&a.changeset());
    assert_eq!((report.applied, report.ignored, report.parked), (5, 0, 0));
    assert_eq!(report.db_version, b.db_version());
    assert_converged(&[&a, &b]);
    assert_eq!(a.version_vector(), b.version_vector());
}

#[test]
fn a_changeset_for_a_version_vector_holds_only_what_is_missing() {
    let [a, b] = sites(T);
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT i, i, i FROM n");
    sync(&a, &b);
    a.exec("UPDATE t SET x = 'one' WHERE id = 250");
    let delta = a.changeset_for(&b.version_vector());
    assert!(delta.len() < 400, "{} bytes for one cell", delta.len());
    assert_eq!(b.apply(&delta).applied, 1);
    let nothing = a.changeset_for(&b.version_vector());
    assert_eq!(b.apply(&nothing).applied, 0);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_changeset_since_a_position_holds_what_was_applied_after_it() {
    let [a, b, c] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    c.exec("INSERT INTO t VALUES (3, 'c', 3)");
    let mut seen = 0;
    for _ in 0..3 {
        let changeset = a.changeset_since(seen);
        seen = a.db_version();
        b.apply(&changeset);
        pull(&a, &c);
        a.exec("UPDATE t SET y = y + 1 WHERE id = 1; INSERT INTO t (x) VALUES ('more')");
    }
    b.apply(&a.changeset_since(seen));
    assert_converged(&[&a, &b]);
    let empty = a.changeset_since(a.db_version());
    assert_eq!(b.apply(&empty).applied, 0);
}

#[test]
fn applying_twice_or_out_of_order_changes_nothing_more() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    let first = a.changeset_since(0);
    let seen = a.db_version();
    a.exec("UPDATE t SET x = 'b'");
    let second = a.changeset_since(seen);
    let seen = a.db_version();
    a.exec("DELETE FROM t; INSERT INTO t (id) VALUES (1)");
    let third = a.changeset_since(seen);
    for changeset in [&third, &first, &second, &second, &first, &third] {
        b.apply(changeset);
    }
    assert_converged(&[&a, &b]);
    let position = b.db_version();
    let report = b.apply(&third);
    assert_eq!((report.applied, report.db_version), (0, position));
}

#[test]
fn deltas_pass_through_intermediaries() {
    let [a, b, c, d] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    d.exec("INSERT INTO t VALUES (1, 'd', 9); UPDATE t SET y = 10");
    for _ in 0..3 {
        pull(&b, &a);
        pull(&c, &b);
        pull(&d, &c);
        pull(&c, &d);
        pull(&b, &c);
        pull(&a, &b);
    }
    assert_converged(&[&a, &b, &c, &d]);
    assert_eq!(a.rows("SELECT y FROM t"), ["10"]);
    assert_eq!(a.version_vector(), d.version_vector());
}

#[test]
fn a_changeset_taken_before_a_gap_is_filled_does_not_claim_the_gap() {
    let [a, b, c] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'one', 1)");
    let seen = a.db_version();
    a.exec("INSERT INTO t VALUES (2, 'two', 2)");
    // b has version 2 of a but not version 1.
    b.apply(&a.changeset_since(seen));
    pull(&c, &b);
    assert_eq!(c.rows("SELECT id FROM t"), ["2"]);
    pull(&b, &a);
    pull(&c, &b);
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn raw_changes_that_came_in_part_do_not_claim_their_version() {
    let [a, b, c] = sites(T);
    a.exec("BEGIN; INSERT INTO t VALUES (1, 'one', 1); INSERT INTO t VALUES (2, 'two', 2); COMMIT");
    b.merge(&a.changes()[1..2]);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
    c.merge(&a.changes()[..1]);
    pull(&b, &c);
    pull(&c, &b);
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn a_changeset_survives_superseded_versions() {
    let [a, b, c] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    sync(&a, &b);
    for i in 0..10 {
        let s = if i % 2 == 0 { &a } else { &b };
        s.exec(&format!("UPDATE t SET x = {i}, y = {i}"));
        sync(&a, &b);
    }
    // Most of a's and b's versions hold nothing any more, and yet a newcomer ends with the same vector.
    pull(&c, &b);
    assert_eq!(c.version_vector(), a.version_vector());
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn a_changeset_is_refused_when_any_byte_is_wrong() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2); DELETE FROM t WHERE id = 2");
    let good = a.changeset();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x41;
        let message = b.try_apply(&bad).expect_err("a changed byte is noticed");
        assert!(message.contains("changeset"), "byte {i}: {message}");
    }
    for length in 0..good.len() {
        assert!(b.try_apply(&good[..length]).is_err(), "cut to {length} bytes");
    }
    let mut long = good.clone();
    long.push(0);
    assert!(b.try_apply(&long).is_err(), "a trailing byte");
    assert_eq!(b.rows("SELECT * FROM t"), NO_ROWS);
    assert_eq!(b.rows("SELECT * FROM crsql_changes"), NO_ROWS);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn random_bytes_are_never_a_changeset_or_a_version_vector() {
    let a = site(T);
    let mut rng = Rng::new(3);
    let real = a.changeset();
    for i in 0..3000 {
        let mut bytes: Vec<u8> = (0..rng.below(200)).map(|_| rng.bits() as u8).collect();
        if i % 2 == 0 {
            let header = rng.below(real.len());
            bytes.splice(0..0, real[..header].iter().copied());
        }
        assert!(a.try_apply(&bytes).is_err());
        let _ = a.try_values_with("SELECT crsql_changeset(?1)", &[&bytes]);
    }
    a.exec("INSERT INTO t VALUES (1, 'alive', 1)");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
}

#[test]
fn changesets_of_every_value_round_trip() {
    let [a, b] = sites(T);
    a.exec(
        "INSERT INTO t (x) VALUES (0), (1), (-1), (127), (128), (255), (256), (-128), (-129), (65535), (65536), (2147483648),
         (9223372036854775807), (-9223372036854775808), (0.0), (-0.0), (1.0), (0.1), (9e999), (-9e999), (5e-324), (''),
         ('a'), (x''), (x'00'), (zeroblob(15)), (zeroblob(16)), (zeroblob(17)), (zeroblob(300)), (hex(zeroblob(3000))),
         (CAST(x'ff00fe' AS TEXT)), ('a' || char(0) || 'b'), ('🦀'), (NULL), (true)",
    );
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn compressible_content_is_compressed() {
    let [a, b] = sites(T);
    a.exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, 'the same long text again and again', 'y' FROM n");
    let changeset = a.changeset();
    assert!(changeset.len() < 2000 * 20, "{} bytes", changeset.len());
    b.apply(&changeset);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_apply_inside_a_transaction_is_part_of_it() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    b.exec("BEGIN");
    pull(&b, &a);
    assert_eq!(b.rows("SELECT x FROM t"), ["'a'"]);
    b.exec("ROLLBACK");
    assert_eq!(b.rows("SELECT x FROM t"), NO_ROWS);
    pull(&b, &a);
    assert_converged(&[&a, &b]);
}

#[test]
fn what_is_not_committed_does_not_travel_under_the_clock_of_what_was() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'committed', 1)");
    a.exec("BEGIN; UPDATE t SET x = 'not committed'");
    let error = a.try_values_with("SELECT crsql_changeset()", &[]).unwrap_err();
    assert!(error.contains("not committed") && error.contains("COMMIT or ROLLBACK first"), "{error}");
    a.exec("ROLLBACK; BEGIN");
    b.apply(&a.changeset());
    a.exec("COMMIT");
    assert_eq!(b.rows("SELECT x FROM t"), ["'committed'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_failed_apply_leaves_the_callers_transaction_as_it_was() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    let mut bad = a.changeset();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    b.exec("BEGIN; INSERT INTO t VALUES (2, 'mine', 2)");
    assert!(b.try_apply(&bad).is_err());
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT x FROM t"), ["'mine'"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn an_empty_replica_gives_an_empty_changeset_that_applies() {
    let [a, b] = sites(T);
    let report = b.apply(&a.changeset());
    assert_eq!((report.applied, report.ignored, report.parked, report.db_version), (0, 0, 0, 0));
    let bare = Site::memory();
    bare.apply(&a.changeset());
    bare.apply(&bare.changeset());
}

#[test]
fn taking_a_changeset_changes_nothing() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'a', 1)");
    let before = (a.changes(), a.digest(), a.version_vector(), a.int("SELECT total_changes()"));
    a.changeset();
    a.changeset_since(1);
    a.changeset_for(&a.version_vector());
    assert_eq!((a.changes(), a.digest(), a.version_vector(), a.int("SELECT total_changes()")), before);
}

#[test]
fn a_single_replica_of_many_tables_travels_in_one_changeset() {
    let schema: String = (0..40)
        .map(|i| {
            format!(
                "CREATE TABLE t{i} (a TEXT NOT NULL, b INT NOT NULL, v{i}, PRIMARY KEY (b, a)); CRR t{i};"
            )
        })
        .collect();
    let [a, b] = sites(&schema);
    for i in 0..40 {
        a.exec(&format!("INSERT INTO t{i} VALUES ('x', {i}, 'v'), ('y', {i}, NULL)"));
    }
    assert_eq!(b.apply(&a.changeset()).applied, 80);
    assert_converged(&[&a, &b]);
}

#[test]
fn random_deltas_with_loss_duplication_and_reordering_converge() {
    for seed in rng::seeds(25) {
        let mut rng = Rng::new(seed);
        let all: [Site; 4] = sites(T);
        let mut mail: Vec<(usize, Vec<u8>)> = Vec::new();
        for _ in 0..60 {
            let (i, id) = (rng.below(4), rng.below(5));
            all[i].exec(&match rng.below(5) {
                0 => format!("DELETE FROM t WHERE id = {id}"),
                1 => format!("REPLACE INTO t (id, x) VALUES ({id}, {})", rng.below(9)),
                2 => format!("UPDATE OR REPLACE t SET id = {} WHERE id = {id}", rng.below(5)),
                3 => format!("INSERT OR IGNORE INTO t VALUES ({id}, {}, {i})", rng.below(9)),
                _ => format!("UPDATE t SET x = {}, y = {i} WHERE id >= {id}", rng.below(9)),
            });
            let to = rng.below(4);
            let changeset = match rng.below(3) {
                0 => all[i].changeset_since(rng.below(all[i].db_version() as usize + 1) as i64),
                1 => all[i].changeset_for(&all[to].version_vector()),
                _ => all[i].changeset(),
            };
            if !rng.one_in(4) {
                mail.push((to, changeset.clone()));
            }
            if rng.one_in(4) {
                mail.push((to, changeset));
            }
            while mail.len() > 6 {
                let (to, changeset) = mail.swap_remove(rng.below(mail.len()));
                all[to].apply(&changeset);
            }
        }
        exchange_all(&[&all[0], &all[1], &all[2], &all[3]]);
        assert_converged(&[&all[0], &all[1], &all[2], &all[3]]);
        assert_eq!(all[0].version_vector(), all[2].version_vector(), "seed {seed}");
    }
}

#[test]
fn a_changeset_since_a_position_claims_no_version_of_which_a_part_lies_further_back() {
    let [author, relay, reader] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    author.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let changes = author.changes();
    relay.merge(&changes[..1]);
    let position = relay.db_version();
    pull(&relay, &author);
    reader.apply(&relay.changeset_since(position));
    pull(&reader, &relay);
    assert_converged(&[&author, &relay, &reader]);

    // What lies at one position is claimed.
    let position = relay.db_version();
    author.exec("INSERT INTO t VALUES (2, 'x', 'y')");
    pull(&relay, &author);
    reader.apply(&relay.changeset_since(position));
    assert_eq!(reader.version_vector(), relay.version_vector());
}

#[test]
fn marks_of_versions_that_came_in_part_survive_a_rollback_to_a_savepoint() {
    let [author, relay, reader] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y); CRR t");
    author.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let changes = author.changes();
    relay.exec("BEGIN");
    relay.merge(&changes[..1]);
    relay.exec("SAVEPOINT s");
    relay.merge(&changes[1..]);
    relay.exec("ROLLBACK TO s; COMMIT");
    let position = relay.db_version();
    pull(&relay, &author);
    reader.apply(&relay.changeset_since(position));
    pull(&reader, &relay);
    assert_converged(&[&author, &relay, &reader]);
}
