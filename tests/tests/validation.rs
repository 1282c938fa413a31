//! Malformed and hostile changes: refused with a reason, before any state is touched, and never fatal.

use crsql_tests::exchange::ChangeRow;
use crsql_tests::{NO_ROWS, Site, SqlValue, assert_converged, pull, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (a TEXT COLLATE NOCASE NOT NULL, b INT NOT NULL, v, PRIMARY KEY (a, b)); CRR k";

const TABLE: usize = 0;
const PK: usize = 1;
const CID: usize = 2;
const COL_VERSION: usize = 4;
const DB_VERSION: usize = 5;
const SITE_ID: usize = 6;
const CL: usize = 7;
const SEQ: usize = 8;
const SITE_VERSION: usize = 9;

/// A valid change of column `x` of row 1, to be spoilt in one position.
fn good() -> ChangeRow {
    vec![
        "t".into(),
        vec![1, 9, 1].into(),
        "x".into(),
        "value".into(),
        1.into(),
        1.into(),
        vec![0xab; 16].into(),
        1.into(),
        0.into(),
        1.into(),
    ]
}

fn spoilt(position: usize, value: impl Into<SqlValue>) -> ChangeRow {
    let mut change = good();
    change[position] = value.into();
    change
}

/// Panics unless the change is refused with a reason and leaves nothing, and tracking stays on.
fn assert_refused(change: ChangeRow) {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (5, 'before', 'y')");
    let before = (a.changes(), a.digest(), a.table("t"), a.version_vector());
    match a.try_merge(std::slice::from_ref(&change)) {
        Ok(()) => panic!("accepted: {change:?}"),
        Err(message) => {
            assert!(message.len() > 10 && message != "SQL logic error", "{change:?}: {message:?}")
        }
    }
    assert_eq!((a.changes(), a.digest(), a.table("t"), a.version_vector()), before, "{change:?}");
    assert_eq!(a.rows("SELECT * FROM crsql_parked"), NO_ROWS, "{change:?}");
    a.exec("UPDATE t SET x = 'after'");
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE cid = 'x'"), ["'after'"], "{change:?}");
}

#[test]
fn the_unspoilt_change_is_accepted() {
    let a = site(T);
    a.merge(&[good()]);
    assert_eq!(a.rows("SELECT x FROM t"), ["'value'"]);
}

#[test]
fn keys_that_are_not_packed_values_are_refused() {
    let malformed: [&[u8]; 18] = [
        b"",
        b"\x00",
        b"\x01",
        b"\x01\x09",
        b"\x01\x49\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x01\x00",
        b"\x01\x06",
        b"\x01\x07",
        b"\x01\x0b",
        b"\x01\x0b\x05a",
        b"\x01\x13\xff\xff",
        b"\x01\x43\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01\x02\x00",
        b"\x01\x09\x01\x00",
        b"\x02\x09\x01",
        b"\xff",
        b"\x01\xfb\x00",
        b"\x01\x05",
    ];
    for pk in malformed {
        assert_refused(spoilt(PK, pk.to_vec()));
    }
}

#[test]
fn keys_of_the_wrong_type_are_refused() {
    for pk in [SqlValue::Null, 1.into(), "1".into(), SqlValue::Real(1.0f64.to_bits())] {
        assert_refused(spoilt(PK, pk));
    }
}

#[test]
fn keys_that_name_the_same_row_in_another_way_hit_that_row_or_are_refused() {
    // A zero-padded integer, an integral real, a numeric text: one row all the same.
    let same: [&[u8]; 4] = [
        b"\x01\x11\x00\x01",
        b"\x01\x02\x3f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x01\x0b\x011",
        b"\x01\x13\x00\x011",
    ];
    for pk in same {
        let a = site(T);
        a.merge(&[good()]);
        let _ = a.try_merge(&[spoilt(PK, pk.to_vec())]);
        assert_eq!(a.int("SELECT count(*) FROM t"), 1, "{pk:?}");
        assert_eq!(a.int("SELECT count(DISTINCT pk) FROM crsql_changes"), 1, "{pk:?}");
        assert_eq!(a.doctor(), "[]");
    }
}

#[test]
fn keys_that_no_row_could_have_are_refused_or_parked() {
    let impossible: [&[u8]; 4] = [
        b"\x01\x0b\x01x",
        b"\x01\x0c\x01x",
        b"\x01\x02\x3f\xf8\x00\x00\x00\x00\x00\x00",
        b"\x02\x09\x01\x09\x01",
    ];
    for pk in impossible {
        let a = site(T);
        let _ = a.try_merge(&[spoilt(PK, pk.to_vec())]);
        assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS, "{pk:?}");
        a.exec("INSERT INTO t (id) VALUES (1)");
        assert_eq!(a.int("SELECT count(*) FROM crsql_changes WHERE site_id = crsql_site_id()"), 2);
        assert_eq!(a.doctor(), "[]");
    }
}

#[test]
fn clocks_below_one_and_negative_seqs_are_refused() {
    for (position, values) in [
        (COL_VERSION, vec![0, -1, i64::MIN]),
        (CL, vec![0, -1, -2, i64::MIN]),
        (SEQ, vec![-1, i64::MIN]),
        (SITE_VERSION, vec![-1, i64::MIN]),
        (DB_VERSION, vec![-1, i64::MIN]),
    ] {
        for value in values {
            if position != DB_VERSION {
                assert_refused(spoilt(position, value));
            } else {
                let _ = site(T).try_merge(&[spoilt(position, value)]);
            }
        }
    }
}

#[test]
fn clocks_of_the_wrong_type_are_refused() {
    let wrong = [SqlValue::Null, "abc".into(), "".into(), vec![1].into(), SqlValue::Real(1.5f64.to_bits())];
    for position in [COL_VERSION, CL, SEQ] {
        for value in &wrong {
            assert_refused(spoilt(position, value.clone()));
        }
    }
    assert_refused(spoilt(SITE_VERSION, "abc"));
    assert_refused(spoilt(SITE_VERSION, vec![1]));
}

#[test]
fn site_ids_that_are_not_sixteen_bytes_are_refused() {
    for length in [0usize, 1, 15, 17, 1000] {
        assert_refused(spoilt(SITE_ID, vec![7; length]));
    }
    for value in [SqlValue::Null, "sixteen bytes!!!".into(), 5.into()] {
        assert_refused(spoilt(SITE_ID, value));
    }
}

#[test]
fn names_of_the_wrong_type_or_length_are_refused() {
    for position in [TABLE, CID] {
        for value in [SqlValue::Null, 5.into(), vec![0x74].into(), "n".repeat(5000).as_str().into()] {
            assert_refused(spoilt(position, value));
        }
    }
}

#[test]
fn names_that_are_not_utf8_or_contain_nul_are_refused_or_parked() {
    for position in [TABLE, CID] {
        for bytes in
            [&b"\xff\xfe"[..], b"x\0y", b"", b"x; DROP TABLE t", b"\"", b"sqlite_schema", b"id", b"rowid"]
        {
            let a = site(T);
            a.exec("INSERT INTO t VALUES (5, 'before', 'y')");
            let _ = a.try_merge(&[spoilt(position, SqlValue::Text(bytes.to_vec()))]);
            assert_eq!(a.rows("SELECT id, x FROM t WHERE id = 5"), ["5|'before'"], "{bytes:?}");
            a.exec("UPDATE t SET x = 'tracked'");
            assert_eq!(a.doctor(), "[]", "{bytes:?}");
            a.changeset();
        }
    }
}

#[test]
fn a_row_change_whose_col_version_is_not_its_causal_length_is_refused() {
    for (col_version, cl) in [(1, 2), (7, 2), (2, 1), (3, 1), (1, 3)] {
        let mut change = spoilt(CID, "-1");
        change[3] = SqlValue::Null;
        change[COL_VERSION] = col_version.into();
        change[CL] = cl.into();
        assert_refused(change);
    }
}

#[test]
fn clocks_past_the_caps_are_refused() {
    for (position, value) in [
        (COL_VERSION, (1i64 << 40) + 1),
        (COL_VERSION, i64::MAX),
        (CL, (1i64 << 31) + 1),
        (CL, i64::MAX),
        (SEQ, (1i64 << 48) + 1),
        (SEQ, i64::MAX),
        (SITE_VERSION, (1i64 << 48) + 1),
        (SITE_VERSION, i64::MAX),
    ] {
        assert_refused(spoilt(position, value));
    }
    let message = site(T).try_merge(&[spoilt(COL_VERSION, i64::MAX)]).unwrap_err();
    assert!(message.contains("col_version"), "{message}");
}

#[test]
fn a_hostile_peer_can_win_a_cell_but_never_freeze_it() {
    // The greatest clocks that are accepted leave room for ordinary writes above them.
    for col_version in [1i64 << 40, (1 << 40) - 1, 1 << 21, 1 << 20] {
        let [a, b] = sites(T);
        let hostile = spoilt(COL_VERSION, col_version);
        if a.try_merge(&[hostile]).is_err() {
            continue;
        }
        for round in 0..5 {
            a.exec(&format!("UPDATE t SET x = 'mine {round}'"));
            pull(&b, &a);
            assert_eq!(
                b.rows("SELECT x FROM t"),
                [format!("'mine {round}'")],
                "over col_version {col_version}"
            );
        }
        assert_converged(&[&a, &b]);
    }
    for cl in [65537i64, 65535, 65536, 1 << 20] {
        let [a, b] = sites(T);
        let mut hostile = spoilt(CL, cl);
        hostile[COL_VERSION] = 1.into();
        if a.try_merge(&[hostile]).is_err() {
            continue;
        }
        for _ in 0..3 {
            a.exec("REPLACE INTO t VALUES (1, 'mine', 'y'); DELETE FROM t; INSERT INTO t VALUES (1, 'again', 'y')");
            pull(&b, &a);
            assert_eq!(b.rows("SELECT x FROM t"), ["'again'"], "over cl {cl}");
        }
        assert_converged(&[&a, &b]);
    }
}

#[test]
fn a_change_in_our_own_name_never_makes_us_reuse_a_version() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (5, 'mine', 'y')");
    let mut forged = spoilt(SITE_VERSION, 500);
    forged[SITE_ID] = a.site_id().into();
    a.merge(&[forged]);
    a.exec("INSERT INTO t VALUES (6, 'mine', 'y')");
    assert!(a.int("SELECT max(site_version) FROM crsql_changes WHERE site_id = crsql_site_id()") > 500);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_bad_change_among_good_ones_does_not_stop_a_changeset() {
    // A changeset made by a replica whose schema lets it hold what ours does not.
    let a = site("CREATE TABLE t (id PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t");
    let b = site(T);
    a.exec("INSERT INTO t VALUES (1, 'good', 'y'), ('text key', 'bad', 'y'), (2.5, 'bad', 'y'), (2, 'good', 'y')");
    let report = b.try_apply(&a.changeset()).unwrap();
    assert_eq!(report.applied, 4, "{report:?}");
    assert!(
        !report.refused.is_empty() || report.parked > 0,
        "the other two rows are accounted for: {report:?}"
    );
    assert_eq!(b.rows("SELECT id, x FROM t ORDER BY id"), ["1|'good'", "2|'good'"]);
    for reason in &report.refused {
        assert!(reason.len() > 8, "{reason}");
    }
    b.exec("UPDATE t SET x = 'tracked'");
    assert_eq!(b.int("SELECT count(*) FROM crsql_changes WHERE val = 'tracked'"), 2);
}

#[test]
fn update_and_delete_of_changes_are_refused_with_a_sentence() {
    let a = site(T);
    a.exec("INSERT INTO t VALUES (1, 'x', 'y')");
    for sql in ["UPDATE crsql_changes SET val = 1", "DELETE FROM crsql_changes"] {
        assert!(a.error(sql).contains("INSERT and SELECT"), "{}", a.error(sql));
    }
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
}

#[test]
fn every_position_survives_every_kind_of_value() {
    let values = [
        SqlValue::Null,
        0.into(),
        (-1).into(),
        2.into(),
        i64::MAX.into(),
        i64::MIN.into(),
        SqlValue::Real(f64::NEG_INFINITY.to_bits()),
        SqlValue::Real(1.0f64.to_bits()),
        "".into(),
        "-1".into(),
        "x".into(),
        "T".into(),
        SqlValue::Text(vec![0xff]),
        vec![].into(),
        vec![1, 9, 1].into(),
        vec![0xff; 64].into(),
    ];
    let a = site(T);
    for position in 0..10 {
        for value in &values {
            let _ = a.try_merge(&[spoilt(position, value.clone())]);
            for second in 0..10 {
                let mut change = spoilt(position, value.clone());
                change[second] = values[(position * 7 + second * 3) % values.len()].clone();
                let _ = a.try_merge(&[change]);
            }
        }
    }
    a.exec("INSERT INTO k VALUES ('k', 1, 'alive')");
    assert_eq!(
        a.rows("SELECT val FROM crsql_changes WHERE [table] = 'k' AND site_id = crsql_site_id()"),
        ["'alive'"]
    );
    assert_eq!(a.doctor(), "[]");
    let b: Site = site(T);
    b.apply(&a.changeset());
    assert_converged(&[&a, &b]);
}
