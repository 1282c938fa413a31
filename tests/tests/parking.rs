//! Changes for tables and columns this replica does not have yet: kept, forwarded, and applied when they appear.

use crsql_tests::exchange::NINE;
use crsql_tests::{NO_ROWS, Site, assert_converged, assert_same_tables, pull, site, sites, sync};

const NEW: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, z DEFAULT 'dz'); CRR t;
    CREATE TABLE later (id TEXT PRIMARY KEY NOT NULL, v); CRR later";
const OLD: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t";

fn upgrade(s: &Site) {
    s.exec(
        "SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z DEFAULT 'dz'; SELECT crsql_commit_alter('t');
         CREATE TABLE later (id TEXT PRIMARY KEY NOT NULL, v); CRR later",
    );
}

#[test]
fn changes_of_an_unknown_table_wait_for_the_table() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO later VALUES ('k', 'v'), ('l', 'w'); DELETE FROM later WHERE id = 'l'");
    let report = pull(&old, &new);
    assert_eq!(report.parked, 2, "the cell of k and the delete of l");
    assert_eq!(
        old.rows(r#"SELECT "table", cid, val, cl FROM crsql_parked ORDER BY pk"#),
        ["'later'|'v'|'v'|1", "'later'|'-1'|NULL|2"]
    );
    assert!(old.text("SELECT reason FROM crsql_parked LIMIT 1").contains("later"));
    upgrade(&old);
    assert_eq!(old.rows("SELECT * FROM later"), ["'k'|'v'"]);
    assert_eq!(old.rows("SELECT * FROM crsql_parked"), NO_ROWS);
    assert_converged(&[&new, &old]);
}

#[test]
fn changes_of_an_unknown_column_wait_for_the_column() {
    for alter in [
        "SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z DEFAULT 'dz'; SELECT crsql_commit_alter('t')",
        "ALTER TABLE t ADD COLUMN z DEFAULT 'dz'",
    ] {
        let (new, old) = (site(NEW), site(OLD));
        new.exec("INSERT INTO t VALUES (1, 'x', 'z'), (2, 'x', 'z'); UPDATE t SET z = 'newer' WHERE id = 2");
        pull(&old, &new);
        assert_eq!(old.rows("SELECT * FROM t ORDER BY id"), ["1|'x'", "2|'x'"]);
        assert_eq!(old.rows("SELECT cid, val FROM crsql_parked ORDER BY pk"), ["'z'|'z'", "'z'|'newer'"]);
        old.exec(alter);
        old.exec("INSERT INTO t (id, x) VALUES (3, 'any write makes us look')");
        assert_eq!(old.rows("SELECT id, z FROM t ORDER BY id"), ["1|'z'", "2|'newer'", "3|'dz'"], "{alter}");
        assert_eq!(old.rows("SELECT * FROM crsql_parked"), NO_ROWS);
        pull(&new, &old);
        assert_converged(&[&new, &old]);
    }
}

#[test]
fn one_statement_brings_known_and_unknown_columns_of_a_new_row() {
    for reverse in [false, true] {
        let (new, old) = (site(NEW), site(OLD));
        new.exec("INSERT INTO t VALUES (1, NULL, 'z'), (2, 'x', 'z')");
        let mut changes = new.changes();
        if reverse {
            changes.reverse();
        }
        old.merge_in_one_statement(&changes);
        assert_eq!(old.rows("SELECT * FROM t ORDER BY id"), ["1|NULL", "2|'x'"]);
        let clocks = "SELECT pk, cid, col_version FROM crsql_changes WHERE cid = 'x' ORDER BY pk";
        assert_eq!(old.rows(clocks), new.rows(clocks));
        upgrade(&old);
        assert_converged(&[&new, &old]);
    }
}

#[test]
fn a_write_after_a_plain_alter_beats_what_waits_for_its_cell_and_nothing_else() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z')");
    pull(&old, &new);
    new.exec("UPDATE t SET x = 'meanwhile' WHERE id = 1");
    old.exec("ALTER TABLE t ADD COLUMN z DEFAULT 'dz'");
    old.exec("UPDATE t SET z = 'mine' WHERE id = 1");
    sync(&new, &old);
    assert_eq!(new.rows("SELECT * FROM t"), ["1|'meanwhile'|'mine'"]);
    assert_same_tables(&["t"], &[&new, &old]);
    for replica in [&new, &old] {
        let clocks = "SELECT cid, cl, col_version FROM crsql_changes ORDER BY cid";
        assert_eq!(replica.rows(clocks), ["'x'|1|2", "'z'|1|2"], "the row did not begin anew");
    }
}

#[test]
fn a_row_moved_right_after_a_plain_alter_takes_along_what_waited_for_its_column() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z')");
    pull(&old, &new);
    old.exec("ALTER TABLE t ADD COLUMN z DEFAULT 'dz'");
    // Whoever looks in between, and whatever the transaction wrote before.
    old.rows("SELECT crsql_version_vector(), count(*) FROM crsql_changes");
    old.exec("CREATE TABLE other (id INTEGER PRIMARY KEY NOT NULL); CRR other");
    old.exec("BEGIN; INSERT INTO other VALUES (1); UPDATE t SET id = 2 WHERE id = 1; COMMIT");
    assert_eq!(old.rows("SELECT * FROM t"), ["2|'x'|'z'"]);
    sync(&new, &old);
    assert_same_tables(&["t"], &[&new, &old]);
}

#[test]
fn a_transaction_that_only_parks_takes_an_apply_position() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z')");
    let mut changes = new.changes();
    changes.sort_by_key(|change| change[2].as_str() == "z");
    changes.iter().for_each(|change| old.merge(std::slice::from_ref(change)));
    assert_eq!(old.db_version(), old.int("SELECT max(db_version) FROM crsql_changes"));
    let before = old.db_version();
    old.exec("UPDATE t SET x = 'y'");
    assert_eq!(
        old.db_version(),
        before + 1,
        "a reader that waits for what follows the parked change misses nothing"
    );
    let third = site(NEW);
    third.apply(&old.changeset());
    assert_eq!(third.rows("SELECT * FROM t"), ["1|'y'|'z'"]);
}

#[test]
fn parked_changes_are_forwarded() {
    let (new, old, third) = (site(NEW), site(OLD), site(NEW));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z'); INSERT INTO later VALUES ('k', 'v')");
    pull(&old, &new);
    pull(&third, &old);
    assert_converged(&[&new, &third]);
    assert_eq!(third.version_vector(), new.version_vector());
}

#[test]
fn parked_changes_are_forwarded_by_the_raw_recipes_too() {
    let (new, old, third) = (site(NEW), site(OLD), site(NEW));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z'); INSERT INTO later VALUES ('k', 'v')");
    old.merge(&new.changes());
    assert_eq!(old.int("SELECT count(*) FROM crsql_parked"), 2);
    third.merge(&old.changes());
    assert_converged(&[&new, &third]);
    let fourth = site(NEW);
    fourth.merge(&old.values(&format!("SELECT {NINE} FROM crsql_changes")));
    assert_same_tables(&["t", "later"], &[&new, &fourth]);
}

#[test]
fn the_digest_counts_what_is_parked() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z'); INSERT INTO later VALUES ('k', 'v')");
    pull(&old, &new);
    assert_eq!(old.digest(), new.digest(), "both hold the same facts");
}

#[test]
fn parked_changes_are_superseded_in_the_same_order_as_any() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO later VALUES ('k', 1)");
    let first = new.changeset();
    new.exec("UPDATE later SET v = 2; UPDATE later SET v = 3");
    let last = new.changeset();
    old.apply(&last);
    old.apply(&first);
    assert_eq!(old.rows("SELECT val, col_version FROM crsql_parked"), ["3|3"]);
    new.exec("DELETE FROM later");
    pull(&old, &new);
    old.apply(&last);
    assert_eq!(old.rows("SELECT cid, cl FROM crsql_parked"), ["'-1'|2"]);
    upgrade(&old);
    assert_eq!(old.rows("SELECT * FROM later"), NO_ROWS);
    assert_converged(&[&new, &old]);
}

#[test]
fn deleting_or_replacing_a_row_drops_what_is_parked_for_it() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z'), (2, 'x', 'z')");
    pull(&old, &new);
    old.exec("DELETE FROM t WHERE id = 1; REPLACE INTO t VALUES (2, 'replaced')");
    assert_eq!(old.rows("SELECT * FROM crsql_parked"), NO_ROWS);
    upgrade(&old);
    assert_eq!(old.rows("SELECT * FROM t"), ["2|'replaced'|'dz'"]);
    sync(&new, &old);
    assert_converged(&[&new, &old]);
}

#[test]
fn a_write_beats_what_is_parked_under_another_spelling_of_its_key() {
    let key = "id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL";
    for (spelled, written) in [("k", "k"), ("k", "K"), ("K", "k"), ("K", "K")] {
        let new = site(&format!("CREATE TABLE t ({key}, x); CRR t"));
        let old = site(&format!("CREATE TABLE t ({key}, x CHECK (x < 10)); CRR t"));
        new.exec(&format!("INSERT INTO t VALUES ('{spelled}', 50)"));
        pull(&old, &new);
        assert_eq!(old.int("SELECT count(*) > 0 FROM crsql_parked"), 1);
        old.exec(&format!("INSERT INTO t VALUES ('{written}', 1)"));
        // Which spelling the row keeps is another matter, that of the marker.
        assert_eq!(old.rows("SELECT * FROM crsql_parked WHERE cid = 'x'"), NO_ROWS, "{spelled}, {written}");
        sync(&new, &old);
        assert_eq!(new.rows("SELECT x FROM t"), ["1"], "{spelled}, {written}");
        assert_converged(&[&new, &old]);
    }
}

#[test]
fn a_row_known_only_by_a_parked_column_exists() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z')");
    old.merge(&new.changes_where("cid = 'z'"));
    let known = old.rows("SELECT * FROM t");
    assert!(known == ["1|NULL"] || known == NO_ROWS, "{known:?}");
    upgrade(&old);
    old.merge(&new.changes());
    assert_converged(&[&new, &old]);
}

#[test]
fn writes_on_an_old_replica_meet_writes_to_the_new_column() {
    let (new, old) = (site(NEW), site(OLD));
    new.exec("INSERT INTO t VALUES (1, 'x', 'z')");
    pull(&old, &new);
    old.exec("UPDATE t SET x = 'old writes'; INSERT INTO t VALUES (2, 'old inserts')");
    new.exec("UPDATE t SET z = 'new writes'");
    sync(&new, &old);
    assert_eq!(
        new.rows("SELECT * FROM t ORDER BY id"),
        ["1|'old writes'|'new writes'", "2|'old inserts'|'dz'"]
    );
    upgrade(&old);
    sync(&new, &old);
    assert_converged(&[&new, &old]);
}

#[test]
fn adding_a_column_with_a_default_emits_nothing() {
    let old = site(OLD);
    old.exec("INSERT INTO t VALUES (1, 'x'), (2, 'x')");
    let before = (old.clocks(), old.db_version(), old.digest());
    old.exec("SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z DEFAULT 'dz'; SELECT crsql_commit_alter('t')");
    assert_eq!((old.clocks(), old.db_version(), old.digest()), before);
    old.exec("ALTER TABLE t ADD COLUMN w");
    assert_eq!((old.clocks(), old.db_version(), old.digest()), before);
}

#[test]
fn parked_changes_survive_closing_and_a_crash_of_the_connection() {
    let dir = crsql_tests::TempDir::new();
    let new = site(NEW);
    new.exec("INSERT INTO later VALUES ('k', 'v')");
    let old = Site::open(dir.join("old.db"));
    old.exec(OLD);
    pull(&old, &new);
    drop(old);
    let old = Site::open(dir.join("old.db"));
    assert_eq!(old.int("SELECT count(*) FROM crsql_parked"), 1);
    upgrade(&old);
    assert_converged(&[&new, &old]);
}

#[test]
fn the_case_of_a_table_or_column_name_does_not_park_it() {
    let (a, b) = (
        site("CREATE TABLE Todo (Id INTEGER PRIMARY KEY NOT NULL, Title TEXT); SELECT crsql_as_crr('Todo')"),
        site("CREATE TABLE Todo (Id INTEGER PRIMARY KEY NOT NULL, Title TEXT); SELECT crsql_as_crr('todo')"),
    );
    a.exec("INSERT INTO TODO VALUES (1, 'x')");
    b.exec("INSERT INTO todo VALUES (2, 'y')");
    sync(&a, &b);
    assert_eq!(a.rows("SELECT id FROM todo ORDER BY id"), ["1", "2"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_key_of_another_arity_is_parked_or_refused_but_stops_nothing() {
    let a = site(
        "CREATE TABLE t (id INTEGER NOT NULL, part INTEGER NOT NULL, x, PRIMARY KEY (id, part)); CRR t;
                  CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, x); CRR u",
    );
    let b = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t;
                  CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, x); CRR u",
    );
    a.exec("INSERT INTO t VALUES (1, 2, 'two parts'); INSERT INTO u VALUES (1, 'fine')");
    let report = b.try_apply(&a.changeset()).unwrap();
    assert_eq!(report.parked + report.refused.len() as i64, 1);
    assert_eq!(b.rows("SELECT * FROM t"), NO_ROWS);
    assert_eq!(b.rows("SELECT * FROM u"), ["1|'fine'"]);
    b.exec("INSERT INTO t VALUES (5, 'tracked')");
    assert_eq!(b.int("SELECT count(*) FROM crsql_changes WHERE site_id = crsql_site_id()"), 1);
}

#[test]
fn what_waits_for_a_column_is_ordered_by_value_where_values_break_ties() {
    let schema = "SELECT crsql_config_set('tie-break', 'value'); CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, z); CRR t";
    for values in [["1", "'a'"], ["'a'", "1"], ["'b'", "'a'"], ["'a'", "'b'"], ["x'00'", "NULL"]] {
        let [a, b] = sites(schema);
        let old = site(
            "SELECT crsql_config_set('tie-break', 'value'); CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL); CRR t",
        );
        for (writer, value) in [&a, &b].into_iter().zip(values) {
            writer.exec(&format!("INSERT INTO t VALUES (1, {value})"));
            pull(&old, writer);
        }
        sync(&a, &b);
        assert_eq!(old.digest(), a.digest(), "{values:?} wait");
        old.exec("ALTER TABLE t ADD COLUMN z; INSERT INTO t (id) VALUES (2)");
        sync(&a, &old);
        sync(&b, &old);
        assert_converged(&[&a, &b, &old]);
    }
}

#[test]
fn a_cell_that_waits_for_its_column_is_one_cell_under_every_spelling_of_its_key() {
    let schema = "CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, x); CRR t";
    let new = site("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, x, z); CRR t");
    new.exec("INSERT INTO t VALUES ('k', 1, 2)");
    let row = new.changes_where("cid = 'z'").remove(0);
    let mut other = row.clone();
    other[1] = new.value("SELECT crsql_pack_columns('K')");
    let old = site(schema);
    old.merge(&[row.clone(), other.clone()]);
    let fresh = Site::memory();
    fresh.merge(&[row, other]);
    fresh.exec(schema);
    for replica in [&old, &fresh] {
        assert_eq!(replica.int("SELECT count(*) FROM crsql_changes WHERE cid = 'z'"), 1);
        pull(replica, &new);
        assert_eq!(replica.digest(), new.digest());
        replica.exec("ALTER TABLE t ADD COLUMN z; INSERT INTO t (id) VALUES ('other')");
        assert_eq!(replica.rows("SELECT id, z FROM t WHERE id = 'k'"), ["'k'|2"]);
        assert_eq!(replica.doctor(), "[]");
    }
}
