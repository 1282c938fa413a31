//! The SQL functions that need no replicated state.
#![cfg(feature = "static")]

mod support;

use rusqlite::Connection;
use support::{message, text};

fn open() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    crsql::register(&connection).unwrap();
    connection
}

#[test]
fn the_version_is_the_release_as_text() {
    let db = open();
    assert_eq!(text(&db, "SELECT crsql_version()"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&db, "SELECT typeof(crsql_version()) || typeof(crsql_sha())"), "texttext");
    assert_eq!(
        text(&db, "SELECT crsql_version(1)"),
        "error: wrong number of arguments to function crsql_version()"
    );
}

#[test]
fn packing_is_that_of_cr_sqlite_byte_for_byte() {
    let db = open();
    for (values, packed) in [
        ("0", "0101"),
        ("1", "010901"),
        ("128", "010980"),
        ("65536", "0119010000"),
        ("72057594037927935", "0139FFFFFFFFFFFFFF"),
        ("-1", "0141FFFFFFFFFFFFFFFF"),
        ("-128", "0141FFFFFFFFFFFFFF80"),
        ("1.0", "01023FF0000000000000"),
        ("''", "0103"),
        ("'é'", "010B02C3A9"),
        ("'x' || char(0) || 'y'", "010B03780079"),
        ("x'00ff'", "010C0200FF"),
        ("NULL", "0105"),
        ("1, 'a', NULL", "0309010B016105"),
        ("", "00"),
    ] {
        assert_eq!(text(&db, &format!("SELECT crsql_pack_columns({values})")), packed, "{values}");
    }
    assert!(text(&db, "SELECT hex(crsql_pack_columns(zeroblob(300)))").starts_with("0114012C"));
}

#[test]
fn packing_works_in_triggers_of_an_untrusted_schema() {
    let db = open();
    db.execute_batch(
        "PRAGMA trusted_schema = off; CREATE TABLE t (a); CREATE TABLE log (pk, a);
         CREATE TRIGGER tr AFTER INSERT ON t BEGIN
           INSERT INTO log SELECT crsql_pack_columns(new.a), cell FROM crsql_unpack_columns(crsql_pack_columns(new.a));
         END;
         INSERT INTO t VALUES (5)",
    )
    .unwrap();
    assert_eq!(text(&db, "SELECT hex(pk) || ' ' || a FROM log"), "010905 5");
}

#[test]
fn unpacking_gives_back_every_value() {
    let db = open();
    let round = "SELECT group_concat(quote(cell)) FROM crsql_unpack_columns(crsql_pack_columns(1, -1, 1.5, 'a''b', x'00', NULL, ''))";
    assert_eq!(text(&db, round), "1,-1,1.5,'a''b',X'00',NULL,''");
    assert_eq!(text(&db, "SELECT count(*) FROM crsql_unpack_columns(x'00')"), "0");
}

#[test]
fn unpacking_takes_other_constraints_and_shows_its_package() {
    let db = open();
    let package = "x'0309010902090A'";
    assert_eq!(
        text(&db, &format!("SELECT cell FROM crsql_unpack_columns WHERE package = {package} AND cell = 2")),
        "2"
    );
    assert_eq!(
        text(&db, &format!("SELECT cell FROM crsql_unpack_columns WHERE {package} = package AND cell > 2")),
        "10"
    );
    assert_eq!(text(&db, &format!("SELECT package FROM crsql_unpack_columns({package})")), "0309010902090A");
    assert_eq!(
        text(&db, &format!("SELECT cell FROM crsql_unpack_columns({package}) ORDER BY rowid DESC")),
        "10"
    );
    let contradiction = format!("SELECT count(*) FROM crsql_unpack_columns({package}) WHERE package = x'00'");
    assert_eq!(text(&db, &contradiction), "0");
}

#[test]
fn unpacking_joins_in_either_order() {
    let db = open();
    db.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, pk BLOB);
         INSERT INTO t (pk) VALUES (crsql_pack_columns(1, 'a')), (crsql_pack_columns(2, 'b'))",
    )
    .unwrap();
    let expected = "1=1,1=a,2=2,2=b";
    for from in ["t, crsql_unpack_columns(t.pk)", "crsql_unpack_columns u, t WHERE u.package = t.pk"] {
        let sql =
            format!("SELECT group_concat(id || '=' || cell) FROM (SELECT id, cell FROM {from} ORDER BY id)");
        assert_eq!(text(&db, &sql), expected, "{from}");
    }
    assert_eq!(
        text(&db, "SELECT count(*) FROM crsql_unpack_columns(x'0105') a, crsql_unpack_columns(x'020505') b"),
        "2"
    );
}

#[test]
fn what_is_no_package_is_an_error() {
    let db = open();
    let unpack = |package: &str| text(&db, &format!("SELECT count(*) FROM crsql_unpack_columns({package})"));
    assert_eq!(unpack("NULL"), "error: crsql_unpack_columns() argument 1 must be a blob, not NULL");
    assert_eq!(unpack("'a'"), "error: crsql_unpack_columns() argument 1 must be a blob, not text");
    for garbage in
        ["x''", "x'01'", "x'0109'", "x'0149010203040506070809'", "x'01FF'", "x'010901FF'", "x'0100'", "x'FF'"]
    {
        let error = unpack(garbage);
        assert!(
            error.starts_with("error: crsql_unpack_columns(): packed value")
                || error.contains("follow the last"),
            "{garbage}: {error}"
        );
    }
    let error = db.prepare("SELECT * FROM crsql_unpack_columns").map(|_| ()).unwrap_err();
    assert!(message(&error).starts_with("crsql_unpack_columns has no rows by itself"));
    let error = db.execute_batch("INSERT INTO crsql_unpack_columns VALUES (1)").unwrap_err();
    assert_eq!(message(&error), "table crsql_unpack_columns may not be modified");
}

#[test]
fn fractional_keys_are_made_between_two_others() {
    let db = open();
    assert_eq!(text(&db, "SELECT crsql_fract_key_between(NULL, NULL)"), "a ");
    assert_eq!(text(&db, "SELECT crsql_fract_key_between('a ', 'a!')"), "a P");
    for (arguments, error) in [
        ("'a0', 'a0'", "key_between - a must be before b: \"a0\" is not before \"a0\""),
        ("'', NULL", "head is out of range: the key \"\" must begin with a letter from a to z or A to Z"),
        ("'aé', NULL", "the key \"aé\" has a character that is not printable ASCII"),
        ("1, NULL", "crsql_fract_key_between() argument 1 must be text or NULL, not an integer"),
        ("NULL, x'61'", "crsql_fract_key_between() argument 2 must be text or NULL, not a blob"),
    ] {
        assert_eq!(
            text(&db, &format!("SELECT crsql_fract_key_between({arguments})")),
            format!("error: {error}")
        );
    }
}
