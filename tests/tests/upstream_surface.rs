//! The surface that code written for cr-sqlite uses: packing, unpacking, configuration, fractional ordering.

use crsql_tests::{NO_ROWS, SqlValue, assert_converged, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t";

#[test]
fn pack_columns_is_byte_exact() {
    let a = site("SELECT 1");
    for (values, packed) in [
        ("0", "0101"),
        ("1", "010901"),
        ("127", "01097F"),
        ("128", "010980"),
        ("255", "0109FF"),
        ("256", "01110100"),
        ("65535", "0111FFFF"),
        ("65536", "0119010000"),
        ("16777216", "012101000000"),
        ("2147483648", "012180000000"),
        ("4294967296", "01290100000000"),
        ("72057594037927935", "0139FFFFFFFFFFFFFF"),
        ("72057594037927936", "01410100000000000000"),
        ("9223372036854775807", "01417FFFFFFFFFFFFFFF"),
        ("-1", "0141FFFFFFFFFFFFFFFF"),
        ("-128", "0141FFFFFFFFFFFFFF80"),
        ("1.0", "01023FF0000000000000"),
        ("-0.0", "01028000000000000000"),
        ("''", "0103"),
        ("'abc'", "010B03616263"),
        ("'é'", "010B02C3A9"),
        ("x''", "0104"),
        ("x'00ff'", "010C0200FF"),
        ("NULL", "0105"),
        ("1, 'a', NULL", "0309010B016105"),
        ("", "00"),
        ("'x' || char(0) || 'y'", "010B03780079"),
    ] {
        assert_eq!(a.text(&format!("SELECT hex(crsql_pack_columns({values}))")), packed, "{values}");
    }
    assert!(a.text("SELECT hex(crsql_pack_columns(hex(zeroblob(35000))))").starts_with("011B011170"));
    assert!(a.text("SELECT hex(crsql_pack_columns(zeroblob(300)))").starts_with("0114012C"));
}

#[test]
fn unpack_columns_is_the_inverse() {
    let a = site("SELECT 1");
    let values = "1, -1, 0, 'text', x'00ff', NULL, 1.5, '', x'', -9223372036854775808";
    let expected = ["1", "-1", "0", "'text'", "x'00ff'", "NULL", "1.5", "''", "x''", "-9223372036854775808"];
    assert_eq!(
        a.rows(&format!(
            "SELECT cell FROM crsql_unpack_columns WHERE package = crsql_pack_columns({values})"
        )),
        expected
    );
    assert_eq!(
        a.rows(&format!("SELECT cell FROM crsql_unpack_columns(crsql_pack_columns({values}))")),
        expected
    );
    assert_eq!(a.rows("SELECT cell FROM crsql_unpack_columns(x'00')"), NO_ROWS);
    assert_eq!(
        a.rows("SELECT cell FROM crsql_unpack_columns(crsql_pack_columns(1, 2, 3)) WHERE cell = 2"),
        ["2"]
    );
    assert_eq!(a.rows("SELECT count(*) FROM crsql_unpack_columns(crsql_pack_columns(1, 2)) x, crsql_unpack_columns(crsql_pack_columns(1, 2)) y"), ["4"]);
}

#[test]
fn keys_in_changes_can_be_unpacked_in_a_join() {
    let a =
        site("CREATE TABLE t (id INTEGER NOT NULL, name TEXT NOT NULL, x, PRIMARY KEY (id, name)); CRR t");
    a.exec("INSERT INTO t VALUES (5, 'five', 'x'), (6, 'six', 'y')");
    assert_eq!(
        a.rows("SELECT c.val, u.cell FROM crsql_changes c, crsql_unpack_columns u WHERE u.package = c.pk ORDER BY c.seq"),
        ["'x'|5", "'x'|'five'", "'y'|6", "'y'|'six'"]
    );
    assert_eq!(a.rows("SELECT val FROM crsql_changes WHERE pk = crsql_pack_columns(6, 'six')"), ["'y'"]);
}

#[test]
fn malformed_packages_are_errors() {
    let a = site("SELECT 1");
    for package in
        ["NULL", "x''", "x'01'", "x'0141ff'", "x'010b05'", "x'0100'", "x'0106'", "x'01ff'", "'text'", "5"]
    {
        let message = a.error(&format!("SELECT cell FROM crsql_unpack_columns({package})"));
        assert!(message.len() > 8 && message != "SQL logic error", "{package}: {message:?}");
    }
    assert!(a.try_exec("SELECT cell FROM crsql_unpack_columns").is_err(), "without a package");
}

#[test]
fn more_than_255_values_are_an_error() {
    let a = site("SELECT 1");
    a.conn.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_FUNCTION_ARG, 1000).unwrap();
    let many = vec!["1"; 256].join(",");
    assert!(a.try_exec(&format!("SELECT crsql_pack_columns({many})")).is_err());
}

#[test]
fn merge_equal_values_is_stored_and_seen_by_new_connections() {
    let dir = crsql_tests::TempDir::new();
    let a = crsql_tests::Site::open(dir.join("a.db"));
    assert_eq!(a.rows("SELECT crsql_config_get('merge-equal-values')"), ["0"]);
    a.exec("SELECT crsql_config_set('merge-equal-values', 1)");
    assert_eq!(a.reopen().rows("SELECT crsql_config_get('merge-equal-values')"), ["1"]);
}

#[test]
fn an_unknown_setting_is_an_error() {
    let a = site(T);
    assert!(a.error("SELECT crsql_config_set('nonsense', 1)").contains("nonsense"));
    assert!(a.error("SELECT crsql_config_get('nonsense')").contains("nonsense"));
}

#[test]
fn fractional_keys_are_upstreams() {
    let a = site("SELECT 1");
    for (low, high, between) in [
        ("NULL", "NULL", "a "),
        ("'a '", "NULL", "a!"),
        ("NULL", "'a '", "Z~"),
        ("'a '", "'a!'", "a P"),
        ("'a0'", "'a1'", "a0P"),
        ("'b~~'", "NULL", "c   "),
        ("'a0'", "'a0V'", "a0;"),
        ("'Z~'", "'a!'", "a "),
        ("NULL", "'Y  '", "X~~~"),
    ] {
        assert_eq!(
            a.text(&format!("SELECT crsql_fract_key_between({low}, {high})")),
            between,
            "{low} {high}"
        );
    }
    for (low, high) in [
        ("'a0'", "'a0'"),
        ("'b'", "'a'"),
        ("''", "NULL"),
        ("'aé'", "NULL"),
        ("'a0 '", "NULL"),
        ("'!'", "NULL"),
    ] {
        assert!(
            a.try_exec(&format!("SELECT crsql_fract_key_between({low}, {high})")).is_err(),
            "{low} {high}"
        );
    }
}

#[test]
fn fractional_keys_are_always_strictly_between() {
    let a = site("SELECT 1");
    let mut keys: Vec<String> = vec![a.text("SELECT crsql_fract_key_between(NULL, NULL)")];
    let mut rng = crsql_tests::Rng::new(1);
    for _ in 0..400 {
        let at = rng.below(keys.len() + 1);
        let low = at.checked_sub(1).map(|i| SqlValue::text(&keys[i])).unwrap_or(SqlValue::Null);
        let high = keys.get(at).map(|key| SqlValue::text(key)).unwrap_or(SqlValue::Null);
        let key = a.value_with("SELECT crsql_fract_key_between(?1, ?2)", &[&low, &high]).as_str().to_string();
        assert!(at == 0 || keys[at - 1] < key);
        assert!(at == keys.len() || key < keys[at]);
        keys.insert(at, key);
    }
}

const LIST: &str =
    "CREATE TABLE item (id INTEGER PRIMARY KEY NOT NULL, list INT, ord TEXT, name TEXT); CRR item;
    SELECT crsql_fract_as_ordered('item', 'ord', 'list')";

#[test]
fn an_ordered_list_appends_prepends_and_moves() {
    let [a, b] = sites(LIST);
    a.exec("INSERT INTO item VALUES (1, 9, '1', 'one'), (2, 9, '1', 'two'), (3, 9, '-1', 'zero'), (4, 8, '1', 'other list')");
    let order = "SELECT name FROM item WHERE list = 9 ORDER BY ord";
    assert_eq!(a.rows(order), ["'zero'", "'one'", "'two'"]);
    a.exec("INSERT INTO item_fractindex (id, list, name, after_id) VALUES (5, 9, 'after one', 1)");
    assert_eq!(a.rows(order), ["'zero'", "'one'", "'after one'", "'two'"]);
    a.exec("UPDATE item_fractindex SET after_id = 2 WHERE id = 3");
    assert_eq!(a.rows(order), ["'one'", "'after one'", "'two'", "'zero'"]);
    a.exec("UPDATE item SET ord = '-1' WHERE id = 2");
    assert_eq!(a.rows(order), ["'two'", "'one'", "'after one'", "'zero'"]);
    sync(&a, &b);
    assert_eq!(b.rows(order), a.rows(order));
    assert_converged(&[&a, &b]);
}

#[test]
fn concurrent_moves_to_one_place_converge() {
    let [a, b] = sites(LIST);
    a.exec("INSERT INTO item VALUES (1, 9, '1', 'one'), (2, 9, '1', 'two')");
    sync(&a, &b);
    a.exec("INSERT INTO item_fractindex (id, list, name, after_id) VALUES (10, 9, 'from a', 1)");
    b.exec("INSERT INTO item_fractindex (id, list, name, after_id) VALUES (20, 9, 'from b', 1)");
    sync(&a, &b);
    assert_converged(&[&a, &b]);
    a.exec("INSERT INTO item_fractindex (id, list, name, after_id) VALUES (30, 9, 'between', 10)");
    sync(&a, &b);
    let order = "SELECT name FROM item WHERE list = 9 ORDER BY ord, id";
    assert_eq!(a.rows(order), b.rows(order));
    assert_converged(&[&a, &b]);
}

#[test]
fn ordering_errors_say_what_is_wrong() {
    let a = site(T);
    assert!(a.error("SELECT crsql_fract_as_ordered('t')").contains("column"));
    for call in [
        "crsql_fract_as_ordered('t', 'missing')",
        "crsql_fract_as_ordered('missing', 'x')",
        "crsql_fract_as_ordered('t', 'x', 'missing')",
    ] {
        let message = a.error(&format!("SELECT {call}"));
        assert!(message.contains("missing"), "{call}: {message}");
    }
}

#[test]
fn names_of_the_surface_exist() {
    let a = site(T);
    for table in ["crsql_changes", "crsql_parked", "crsql_conflicts", "crsql_peers"] {
        assert!(
            a.try_exec(&format!("SELECT * FROM {table}")).is_ok(),
            "{table}: {:?}",
            a.try_exec(&format!("SELECT * FROM {table}"))
        );
    }
}

#[test]
fn peers_lists_the_sites_whose_changes_are_held() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 1)");
    b.exec("INSERT INTO t VALUES (2, 2); UPDATE t SET x = 3");
    sync(&a, &b);
    let peers = a.values("SELECT site_id, site_version FROM crsql_peers");
    assert!(peers.contains(&vec![b.site_id().into(), 2.into()]), "{peers:?}");
}
