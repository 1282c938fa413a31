//! The merge rule, observed change by change through `crsql_changes`.

use crsql_tests::{NO_ROWS, Site, SqlValue, assert_converged, exchange_all, site, sites};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x DEFAULT 'dx', y DEFAULT 'dy'); CRR t";

/// A change by a made-up site: `cid`, value, col_version, site (one repeated byte), cl, seq, site_version.
fn change(
    cid: &str,
    val: impl Into<SqlValue>,
    col_version: i64,
    site: u8,
    cl: i64,
    seq: i64,
    version: i64,
) -> Vec<SqlValue> {
    vec![
        "t".into(),
        vec![1, 9, 1].into(),
        cid.into(),
        val.into(),
        col_version.into(),
        1.into(),
        vec![site; 16].into(),
        cl.into(),
        seq.into(),
        version.into(),
    ]
}

fn row(site: u8, cl: i64, version: i64) -> Vec<SqlValue> {
    let mut row = change("-1", 0, cl, site, cl, 0, version);
    row[3] = SqlValue::Null;
    row
}

fn x(a: &Site) -> Vec<String> {
    a.rows("SELECT x FROM t")
}

#[test]
fn the_greater_col_version_wins_whatever_the_value_or_site() {
    let a = site(T);
    a.merge(&[change("x", "high", 5, 1, 1, 0, 1), change("x", "zzz", 4, 0xff, 1, 0, 9)]);
    assert_eq!(x(&a), ["'high'"]);
    a.merge(&[change("x", "aaa", 6, 0, 1, 0, 1)]);
    assert_eq!(x(&a), ["'aaa'"]);
}

#[test]
fn equal_col_versions_are_decided_by_the_greater_site_id() {
    for order in [[0, 1], [1, 0]] {
        let a = site(T);
        let rivals = [change("x", "zzz", 2, 0x0f, 1, 5, 7), change("x", "aaa", 2, 0xf0, 1, 0, 1)];
        a.merge(&order.map(|i| rivals[i].clone()));
        assert_eq!(x(&a), ["'aaa'"]);
        assert_eq!(
            a.rows("SELECT hex(site_id), site_version, seq FROM crsql_changes WHERE cid = 'x'"),
            [format!("'{}'|1|0", "F0".repeat(16))]
        );
    }
}

#[test]
fn equal_sites_are_decided_by_site_version_then_seq_then_value() {
    let rivals =
        [change("x", "z", 2, 7, 1, 9, 1), change("x", "y", 2, 7, 1, 1, 2), change("x", "x", 2, 7, 1, 2, 2)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let a = site(T);
        a.merge(&order.map(|i| rivals[i].clone()));
        assert_eq!(x(&a), ["'x'"]);
    }
}

#[test]
fn null_and_zero_have_no_handicap() {
    for (val, expected) in [(SqlValue::Null, "NULL"), (SqlValue::Integer(0), "0")] {
        let a = site(T);
        a.merge(&[change("x", "big", 3, 1, 1, 0, 1), change("x", val, 3, 2, 1, 0, 1)]);
        assert_eq!(x(&a), [expected]);
    }
}

#[test]
fn the_same_change_twice_changes_nothing() {
    let a = site(T);
    let all = [change("x", "v", 1, 1, 1, 0, 1), change("y", "w", 1, 1, 1, 1, 1)];
    a.merge(&all);
    let before = (a.changes(), a.digest(), a.db_version());
    a.merge(&all);
    assert_eq!((a.changes(), a.digest(), a.db_version()), before);
}

#[test]
fn a_column_without_a_cell_has_its_declared_default() {
    let a = site(T);
    a.merge(&[change("x", "v", 1, 1, 1, 0, 1)]);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'v'|'dy'"]);
    assert_eq!(a.rows("SELECT cid FROM crsql_changes"), ["'x'"], "the default is not a fact anybody wrote");
}

#[test]
fn a_greater_causal_length_starts_over_with_defaults() {
    let a = site(T);
    a.merge(&[change("x", "old x", 9, 9, 1, 0, 1), change("y", "old y", 9, 9, 1, 1, 1)]);
    a.merge(&[change("x", "new x", 1, 1, 3, 1, 2)]);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'new x'|'dy'"]);
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["3"]);
}

#[test]
fn a_smaller_causal_length_is_ignored() {
    let a = site(T);
    a.merge(&[row(1, 3, 3), change("x", "v", 1, 1, 3, 1, 3)]);
    let before = a.clocks();
    a.merge(&[change("x", "late", 99, 0xff, 1, 0, 1), row(0xff, 2, 2)]);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'v'|'dy'"]);
    assert_eq!(a.clocks(), before);
}

#[test]
fn an_even_causal_length_deletes_whatever_the_cid() {
    for cid in ["-1", "x"] {
        let a = site(T);
        a.merge(&[change("x", "v", 1, 1, 1, 0, 1)]);
        let mut delete = change(cid, 0, 2, 2, 2, 0, 1);
        delete[3] = SqlValue::Null;
        a.merge(&[delete]);
        assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS, "cid {cid}");
        assert_eq!(a.rows("SELECT cid, cl, col_version FROM crsql_changes"), ["'-1'|2|2"], "cid {cid}");
    }
}

#[test]
fn a_delete_of_an_unknown_row_is_remembered() {
    let a = site(T);
    a.merge(&[row(1, 2, 1)]);
    a.merge(&[change("x", "too late", 50, 0xff, 1, 0, 1)]);
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
    a.exec("INSERT INTO t (id) VALUES (1)");
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["3"]);
}

#[test]
fn a_row_existence_change_creates_the_row_with_defaults() {
    let a = site(T);
    a.merge(&[row(1, 1, 1)]);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|'dx'|'dy'"]);
    let b = site(T);
    b.merge(&[row(1, 5, 1)]);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|'dx'|'dy'"]);
}

#[test]
fn the_greater_row_stamp_is_kept() {
    for order in [[0, 1], [1, 0]] {
        let a = site(T);
        let rivals = [row(5, 3, 9), row(6, 3, 1)];
        a.merge(&order.map(|i| rivals[i].clone()));
        assert_eq!(
            a.rows("SELECT hex(site_id), site_version FROM crsql_changes"),
            [format!("'{}'|1", "06".repeat(16))]
        );
    }
}

#[test]
fn delete_and_update_of_one_incarnation_end_deleted() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'v', 'w')");
    exchange_all(&[&a, &b]);
    a.exec("DELETE FROM t");
    b.exec("UPDATE t SET x = 1; UPDATE t SET x = 2; UPDATE t SET x = 3");
    exchange_all(&[&a, &b]);
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_delete_and_a_reinsert_elsewhere_end_with_the_longer_history() {
    let [a, b, c] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'first', 'w')");
    exchange_all(&[&a, &b, &c]);
    a.exec("DELETE FROM t");
    b.exec("DELETE FROM t; INSERT INTO t VALUES (1, 'again', 'w')");
    c.exec("DELETE FROM t; INSERT INTO t VALUES (1, 'third', 'w'); DELETE FROM t");
    exchange_all(&[&a, &b, &c]);
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS, "c's history is the longest");
    assert_converged(&[&a, &b, &c]);
}

#[test]
fn concurrent_reinserts_merge_cell_by_cell_in_one_incarnation() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'first', 'w')");
    exchange_all(&[&a, &b]);
    a.exec("DELETE FROM t; INSERT INTO t VALUES (1, 'from a', 'from a'); UPDATE t SET y = 'a again'");
    b.exec("DELETE FROM t; INSERT INTO t VALUES (1, 'from b', 'from b')");
    exchange_all(&[&a, &b]);
    assert_eq!(a.rows("SELECT y FROM t"), ["'a again'"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn the_value_tie_break_lets_the_greater_value_win() {
    let schema = format!("SELECT crsql_config_set('tie-break', 'value'); {T}");
    // cr-sqlite's order of content: NULL, blobs, texts, reals, integers.
    let ascending: Vec<SqlValue> = vec![
        SqlValue::Null,
        vec![].into(),
        vec![0xff].into(),
        "".into(),
        "a".into(),
        "ab".into(),
        "b".into(),
        SqlValue::Real((-1.5f64).to_bits()),
        SqlValue::Real(1.5f64.to_bits()),
        (-5).into(),
        5.into(),
    ];
    for (i, low) in ascending.iter().enumerate() {
        for high in &ascending[i + 1..] {
            for order in [[0, 1], [1, 0]] {
                let a = site(&schema);
                let rivals =
                    [change("x", low.clone(), 2, 0xff, 1, 0, 9), change("x", high.clone(), 2, 1, 1, 0, 1)];
                a.merge(&order.map(|i| rivals[i].clone()));
                assert_eq!(x(&a), [high.to_string()], "{low} against {high}");
            }
        }
    }
}

#[test]
fn the_tie_break_can_only_be_chosen_before_the_first_replicated_table() {
    let a = site(T);
    let message = a.error("SELECT crsql_config_set('tie-break', 'value')");
    assert!(message.contains("tie-break"), "{message}");
    let b = Site::memory();
    b.error("SELECT crsql_config_set('tie-break', 'coin')");
    b.exec("SELECT crsql_config_set('tie-break', 'value')");
    assert_eq!(b.text("SELECT crsql_config_get('tie-break')"), "value");
    b.exec(T);
    assert_eq!(b.text("SELECT crsql_config_get('tie-break')"), "value");
    assert_eq!(a.text("SELECT crsql_config_get('tie-break')"), "site");
}

#[test]
fn replicas_with_different_tie_breaks_refuse_each_others_changesets() {
    let a = site(T);
    let b = site(&format!("SELECT crsql_config_set('tie-break', 'value'); {T}"));
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    let message = b.try_apply(&a.changeset()).unwrap_err();
    assert!(message.contains("tie"), "{message}");
    assert_eq!(b.rows("SELECT * FROM t"), NO_ROWS);
}

#[test]
fn every_order_of_delivery_gives_the_same_state() {
    let changes = [
        change("x", "a", 1, 1, 1, 0, 1),
        change("x", "b", 2, 2, 1, 0, 1),
        row(3, 2, 1),
        row(3, 3, 2),
        change("y", "c", 1, 3, 3, 1, 2),
        change("y", "d", 1, 4, 3, 0, 1),
    ];
    let expected = site(T);
    expected.merge(&changes);
    let mut order: Vec<usize> = (0..changes.len()).collect();
    let mut permutations = 0;
    permute(&mut order, 0, &mut |order| {
        permutations += 1;
        let a = site(T);
        a.exec("BEGIN");
        a.merge(&order.iter().map(|&i| changes[i].clone()).collect::<Vec<_>>());
        a.exec("COMMIT");
        assert_eq!(a.clocks(), expected.clocks(), "order {order:?}");
        assert_eq!(a.table("t"), expected.table("t"), "order {order:?}");
    });
    assert_eq!(permutations, 720);
}

fn permute(order: &mut Vec<usize>, from: usize, visit: &mut dyn FnMut(&[usize])) {
    if from == order.len() {
        return visit(order);
    }
    for i in from..order.len() {
        order.swap(from, i);
        permute(order, from + 1, visit);
        order.swap(from, i);
    }
}
