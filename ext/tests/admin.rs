//! Settings, statistics, peers, garbage, and the small functions of cr-sqlite's surface.
#![cfg(feature = "static")]

mod support;

use rusqlite::Connection;
use support::text;

fn open() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    crsql::register(&db).unwrap();
    db
}

fn todo() -> Connection {
    let db = open();
    db.execute_batch("CREATE TABLE todo (id INTEGER PRIMARY KEY, title); SELECT crsql_as_crr('todo')")
        .unwrap();
    db
}

fn sync(from: &Connection, to: &Connection) {
    let changeset: Vec<u8> = from.query_row("SELECT crsql_changeset(0)", [], |row| row.get(0)).unwrap();
    to.query_row("SELECT crsql_apply(?1)", [changeset], |_| Ok(())).unwrap();
}

fn json(db: &Connection, function: &str, path: &str) -> String {
    text(db, &format!("SELECT json_extract({function}(), '$.{path}')"))
}

#[test]
fn settings_are_set_once_for_all_connections() {
    let db = open();
    assert_eq!(text(&db, "SELECT crsql_config_get('tie-break')"), "site");
    assert_eq!(text(&db, "SELECT crsql_config_get('merge-equal-values')"), "0");
    assert_eq!(text(&db, "SELECT crsql_config_set('tie-break', 'value')"), "value");
    assert_eq!(text(&db, "SELECT crsql_config_set('merge-equal-values', 1)"), "1");
    assert_eq!(
        text(&db, "SELECT crsql_config_get('tie-break') || crsql_config_get('merge-equal-values')"),
        "value1"
    );
    for (call, error) in [
        ("set('tie-break', 'x')", "setting \"tie-break\" must be 'site' or 'value'"),
        ("set('merge-equal-values', 'x')", "setting \"merge-equal-values\" must be 0 or 1"),
        ("set('x', 1)", "Unknown setting name \"x\""),
        ("get('x')", "Unknown setting name \"x\""),
        ("set(NULL, 1)", "crsql_config_set() argument 1 must be text, not NULL"),
        ("get(NULL)", "crsql_config_get() argument 1 must be text, not NULL"),
        ("set('tie-break')", "crsql_config_set() takes 2 arguments: name, value, not 1"),
        ("get()", "crsql_config_get() takes 1 argument: name, not 0"),
    ] {
        assert_eq!(text(&db, &format!("SELECT crsql_config_{call}")), format!("error: {error}"));
    }
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY); SELECT crsql_as_crr('t')").unwrap();
    assert!(
        text(&db, "SELECT crsql_config_set('tie-break', 'site')")
            .contains("before the first table is replicated")
    );
}

#[test]
fn statistics_count_rows_tombstones_and_bytes() {
    let db = open();
    assert_eq!(text(&db, "SELECT crsql_stats()"), "{\"tables\":[],\"db_version\":0,\"site_version\":0}");
    let db = todo();
    db.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO todo SELECT i, 'x' FROM n;
         DELETE FROM todo WHERE id > 9990; INSERT INTO todo VALUES (20000, 'y')",
    )
    .unwrap();
    for (path, value) in [
        ("rows", "9991"),
        ("tombstones", "10"),
        ("segments", "1"),
        ("tables[0].table", "todo"),
        ("tables[0].rows", "9991"),
        ("log_entries", "2"),
        ("parked", "0"),
        ("sites", "1"),
        ("db_version", "3"),
        ("site_version", "3"),
    ] {
        assert_eq!(json(&db, "crsql_stats", path), value, "{path}");
    }
    assert!(json(&db, "crsql_stats", "bytes_per_row").parse::<f64>().unwrap() < 0.1);
    assert_eq!(json(&db, "crsql_stats", "site_id"), text(&db, "SELECT lower(hex(crsql_site_id()))"));
    db.execute_batch("BEGIN; DELETE FROM todo").unwrap();
    assert_eq!(json(&db, "crsql_stats", "rows"), "0", "what the transaction did counts");
}

#[test]
fn peers_are_listed_with_what_is_missing_of_theirs() {
    let [a, b, c] = [todo(), todo(), todo()];
    for id in 1..=4 {
        a.execute("INSERT INTO todo VALUES (?1, 'a')", [id]).unwrap();
    }
    sync(&a, &b);
    sync(&b, &c);
    let site = text(&a, "SELECT hex(crsql_site_id())");
    for db in [&b, &c] {
        let peer = format!(
            "SELECT site_version || ' ' || versions || ' ' || gaps FROM crsql_peers WHERE site_id = x'{site}'"
        );
        assert_eq!(text(db, &peer), "4 4 ");
    }
    assert_eq!(text(&a, "SELECT site_id = crsql_site_id() AND site_version = 4 FROM crsql_peers"), "1");
    assert_eq!(text(&b, "SELECT count(*) FROM crsql_peers"), "1", "its own versions are none");
    assert_eq!(text(&open(), "SELECT count(*) FROM crsql_peers"), "0");
    // Versions that came one by one leave gaps.
    let pieces = "BEGIN; INSERT INTO __crsql_vector SELECT ordinal, 9, 9 FROM __crsql_site WHERE ordinal > 1;
        INSERT INTO __crsql_vector SELECT ordinal, 7, 7 FROM __crsql_site WHERE ordinal > 1; COMMIT";
    b.execute_batch(pieces).unwrap();
    assert_eq!(
        text(&b, "SELECT site_version || ' ' || versions || ' ' || gaps FROM crsql_peers"),
        "9 6 5-6,8"
    );
    assert!(b.execute_batch("DELETE FROM crsql_peers").is_err());
}

#[test]
fn garbage_is_what_dropped_tables_left_and_never_a_tombstone() {
    let db = todo();
    db.execute_batch(
        "CREATE TABLE gone (id INTEGER PRIMARY KEY, a); SELECT crsql_as_crr('gone');
         INSERT INTO gone VALUES (1, 2); INSERT INTO todo VALUES (1, 'x'), (2, 'y'); DELETE FROM todo WHERE id = 2; DROP TABLE gone",
    )
    .unwrap();
    let report = text(&db, "SELECT crsql_gc()");
    assert!(
        report.contains("\"dropped_tables\":1,\"dropped_segments\":1,\"tombstones_collected\":0"),
        "{report}"
    );
    assert!(report.contains("no site is registered"), "{report}");
    assert_eq!(text(&db, "SELECT count(*) FROM __crsql_log"), "0");
    assert_eq!(text(&db, "SELECT count(DISTINCT table_id) FROM __crsql_segment"), "1");
    assert_eq!(json(&db, "crsql_stats", "tombstones"), "1");
    let again = text(&db, "SELECT crsql_gc()");
    assert!(
        again.starts_with("{\"log_rows_folded\":0,\"dropped_tables\":0,\"dropped_segments\":0"),
        "{again}"
    );
    db.execute_batch("UPDATE todo SET title = 'z'; CREATE TABLE gone (id INTEGER PRIMARY KEY, a); SELECT crsql_as_crr('gone'); INSERT INTO gone VALUES (1, 3)").unwrap();
    assert_eq!(text(&db, "SELECT crsql_doctor()"), "[]");
    assert_eq!(text(&db, "SELECT group_concat(val) FROM crsql_changes WHERE cid <> '-1'"), "z,3");
    db.execute_batch("BEGIN").unwrap();
    assert_eq!(
        text(&db, "SELECT crsql_gc()"),
        "error: crsql_gc() can't run inside a transaction; commit first"
    );
    assert!(text(&open(), "SELECT crsql_gc()").starts_with('{'), "nothing replicates");
}

#[test]
fn merged_rows_are_counted_until_the_transaction_ends() {
    let b = todo();
    assert_eq!(text(&b, "SELECT crsql_rows_impacted()"), "0");
    b.execute_batch(
        "BEGIN; INSERT INTO crsql_changes VALUES ('todo', x'010901', 'title', 'x', 1, 1, zeroblob(16), 1, 0),
           ('todo', x'010902', 'title', 'y', 1, 1, zeroblob(16), 1, 1)",
    )
    .unwrap();
    assert_eq!(text(&b, "SELECT crsql_rows_impacted()"), "2");
    b.execute_batch("ROLLBACK").unwrap();
    assert_eq!(text(&b, "SELECT crsql_rows_impacted()"), "0");
}

#[test]
fn what_cr_sqlite_needed_is_accepted() {
    let db = todo();
    assert_eq!(text(&db, "SELECT crsql_finalize()"), "finalized");
    assert_eq!(text(&db, "SELECT crsql_finalize()"), "finalized");
    db.execute_batch("INSERT INTO todo VALUES (1, 'still works')").unwrap();
    assert_eq!(text(&db, "SELECT crsql_internal_sync_bit()"), "0");
    assert_eq!(
        text(&db, "SELECT crsql_internal_sync_bit(1)"),
        "error: crsql_internal_sync_bit() takes no arguments, since it can only be read, not 1"
    );
    for function in ["crsql_finalize", "crsql_rows_impacted", "crsql_stats", "crsql_gc", "crsql_doctor"] {
        assert_eq!(
            text(&db, &format!("SELECT {function}(NULL)")),
            format!("error: {function}() takes no arguments, not 1")
        );
    }
    let between = "SELECT crsql_fract_unique_key_between";
    assert!(
        text(&db, &format!("{between}(1, NULL)")).contains("argument 1 must be text or NULL, not an integer")
    );
    assert!(text(&db, &format!("{between}('a ')")).contains("takes 2 arguments"));
    db.close().map_err(|(_, e)| e).unwrap();
}

fn digest(db: &Connection) -> String {
    text(db, "SELECT crsql_digest()")
}

/// Two files with one identity that both went on writing.
fn clones() -> (Connection, Connection, std::path::PathBuf) {
    let original = todo();
    original.execute_batch("INSERT INTO todo VALUES (1, 'milk'), (2, 'bread'), (3, 'tea')").unwrap();
    let path = std::env::temp_dir().join(format!("crsql-clone-{:032x}", rand_id(&original)));
    original.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    let clone = Connection::open(&path).unwrap();
    crsql::register(&clone).unwrap();
    (original, clone, path)
}

fn rand_id(db: &Connection) -> i64 {
    db.query_row("SELECT abs(random())", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_clone_that_takes_a_new_site_hands_its_later_versions_to_it() {
    let (original, clone, path) = clones();
    assert_eq!(text(&original, "SELECT hex(crsql_site_id())"), text(&clone, "SELECT hex(crsql_site_id())"));
    original.execute_batch("UPDATE todo SET title = 'oat milk' WHERE id = 1").unwrap();
    clone
        .execute_batch(
            "UPDATE todo SET title = 'rye bread' WHERE id = 2; DELETE FROM todo WHERE id = 3;
             INSERT INTO todo VALUES (4, 'salt'); INSERT INTO todo VALUES (3, 'green tea')",
        )
        .unwrap();
    let old: Vec<u8> = clone.query_row("SELECT crsql_site_id()", [], |row| row.get(0)).unwrap();
    let new: Vec<u8> = clone.query_row("SELECT crsql_new_site(1)", [], |row| row.get(0)).unwrap();
    assert!(new > old);
    let held = |site: &[u8]| {
        clone
            .query_row("SELECT site_version FROM crsql_peers WHERE site_id = ?1", [site], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
    };
    assert_eq!((held(&old), held(&new)), (1, 4));
    assert_eq!(
        clone
            .query_row(
                "SELECT count(*) FROM crsql_changes WHERE site_id = ?1 AND site_version > 1",
                [&old],
                |row| row.get::<_, i64>(0)
            )
            .unwrap(),
        0
    );
    clone.execute_batch("UPDATE todo SET title = 'sea salt' WHERE id = 4").unwrap();
    assert_eq!(held(&new), 5);
    sync(&original, &clone);
    sync(&clone, &original);
    assert_eq!(digest(&original), digest(&clone));
    assert_eq!(
        text(&original, "SELECT group_concat(title, ', ') FROM (SELECT title FROM todo ORDER BY id)"),
        "oat milk, rye bread, green tea, sea salt"
    );
    assert_eq!(text(&original, "SELECT crsql_doctor()"), "[]");
    assert_eq!(text(&clone, "SELECT crsql_doctor()"), "[]");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_new_site_takes_over_deletes_and_rows_of_nothing_but_a_key() {
    let db = open();
    db.execute_batch("CREATE TABLE tag (name TEXT PRIMARY KEY NOT NULL); SELECT crsql_as_crr('tag')")
        .unwrap();
    db.execute_batch("INSERT INTO tag VALUES ('a'), ('b'); DELETE FROM tag WHERE name = 'a'").unwrap();
    let old: Vec<u8> = db.query_row("SELECT crsql_site_id()", [], |row| row.get(0)).unwrap();
    db.query_row("SELECT crsql_new_site(0)", [], |_| Ok(())).unwrap();
    let by_old = "SELECT count(*) FROM crsql_changes WHERE site_id = ?1";
    assert_eq!(db.query_row(by_old, [old], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(text(&db, "SELECT count(*) FROM crsql_changes"), "2");
    assert_eq!(
        text(&db, "SELECT crsql_new_site(-1)"),
        "error: crsql_new_site: a version is never negative, not -1"
    );
}

#[test]
fn what_a_vector_lacks_is_looked_for_from_a_position_on() {
    let a = todo();
    for title in ["milk", "bread", "tea"] {
        a.execute("INSERT INTO todo (title) VALUES (?1)", [title]).unwrap();
    }
    let b = todo();
    sync(&a, &b);
    let position: i64 = a.query_row("SELECT crsql_db_version()", [], |row| row.get(0)).unwrap();
    let vector: Vec<u8> = a.query_row("SELECT crsql_version_vector()", [], |row| row.get(0)).unwrap();
    a.execute_batch("UPDATE todo SET title = 'rye' WHERE id = 2").unwrap();
    let delta: Vec<u8> = a
        .query_row("SELECT crsql_changeset(?1, 0, ?2)", rusqlite::params![vector, position], |row| row.get(0))
        .unwrap();
    b.query_row("SELECT crsql_apply(?1)", [delta], |_| Ok(())).unwrap();
    assert_eq!(digest(&a), digest(&b));
    assert!(text(&a, "SELECT crsql_changeset(0, 0, 0)").contains("goes with a version vector"));
    assert!(text(&a, "SELECT crsql_changeset(crsql_version_vector(), 0, -1)").contains("never negative"));
}

#[test]
fn digests_of_ranges_cover_a_table_and_show_the_row_that_differs() {
    let (a, b) = (todo(), todo());
    for id in 0..100 {
        a.execute("INSERT INTO todo VALUES (?1, 'x')", [id]).unwrap();
    }
    a.execute_batch("DELETE FROM todo WHERE id = 7").unwrap();
    sync(&a, &b);
    let parts = |db: &Connection| -> Vec<String> {
        let sql = "SELECT value FROM json_each(crsql_digest('todo', x'', NULL, 10))";
        let mut select = db.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(parts(&a).len(), 10);
    assert_eq!(parts(&a), parts(&b));
    let rows = "SELECT sum(value ->> 'rows') FROM json_each(crsql_digest('todo', x'', NULL, 10))";
    assert_eq!(text(&a, rows), "100", "the deleted row counts");
    let whole = "SELECT crsql_digest('todo', x'', NULL, 1) ->> '$[0].sum' = crsql_digest('todo')";
    assert_eq!(text(&a, whole), "1");
    b.execute_batch("UPDATE todo SET title = 'y' WHERE id = 42").unwrap();
    let differ: Vec<_> = parts(&a).into_iter().zip(parts(&b)).filter(|(a, b)| a != b).collect();
    assert_eq!(differ.len(), 1);
    assert_eq!(text(&a, "SELECT crsql_digest('nowhere', x'', NULL, 1) ->> '$[0].rows'"), "0");
    assert!(text(&a, "SELECT crsql_digest('todo', 1, 2, 3)").starts_with("error: crsql_digest()"));
}
