//! Columns of type text: what plain SQL does to them, what editors do, and what replicas make of it together.

use crsql_tests::exchange::sync_all;
use crsql_tests::{Rng, Site, assert_converged, site, sites, sync};

const NOTES: &str = r#"CREATE TABLE note (id INTEGER PRIMARY KEY NOT NULL, body TEXT, title TEXT);
    SELECT crsql_as_crr('note', '{"columns":{"body":"text"}}')"#;

#[test]
fn edits_of_one_text_merge_character_by_character() {
    let [a, b, c] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'the cat', 'x')");
    sync_all(&[&a, &b, &c]);
    a.exec("UPDATE note SET body = 'the black cat'");
    b.exec("UPDATE note SET body = body || ' sat', title = 'y'");
    c.exec("UPDATE note SET body = replace(body, 'the', 'a')");
    sync_all(&[&a, &b, &c]);
    assert_eq!(a.rows("SELECT body, title FROM note"), ["'a black cat sat'|'y'"]);
    a.exec("UPDATE note SET body = ''");
    b.exec("UPDATE note SET body = body || ' on the mat'");
    sync_all(&[&a, &b, &c]);
    assert_eq!(c.text("SELECT body FROM note"), " on the mat");
}

#[test]
fn a_text_that_was_inserted_is_stored_nowhere_but_in_its_row() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'one', NULL), (2, NULL, NULL), (3, '', NULL)");
    sync_all(&[&a, &b]);
    assert_eq!(b.rows("SELECT body FROM note"), ["'one'", "NULL", "''"]);
    for site in [&a, &b] {
        assert_eq!(site.int("SELECT count(*) FROM __crsql_typed"), 0);
    }
    b.exec("UPDATE note SET body = 'first' WHERE id = 2");
    assert_eq!(
        b.rows("SELECT cid, val FROM crsql_changes WHERE site_id = crsql_site_id()"),
        ["'text(body)'|'first'"]
    );
    sync_all(&[&a, &b]);
    // Nobody takes back that a text was written.
    a.exec("UPDATE note SET body = NULL WHERE id = 2");
    assert_eq!(a.text("SELECT body FROM note WHERE id = 2"), "");
    sync_all(&[&a, &b]);
}

#[test]
fn a_text_of_a_row_that_was_deleted_or_replaced_begins_anew() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'first', 'x'), (2, 'second', 'y')");
    sync(&a, &b);
    b.exec("UPDATE note SET body = body || ' life'");
    a.exec("UPDATE note SET body = 'x' || body; DELETE FROM note WHERE id = 1; INSERT INTO note VALUES (1, 'again', 'x')");
    a.exec("REPLACE INTO note VALUES (2, 'replaced', 'y')");
    sync_all(&[&a, &b]);
    assert_eq!(b.rows("SELECT body FROM note"), ["'again'", "'replaced'"]);
    assert_eq!(b.int("SELECT count(*) FROM __crsql_typed"), 0);
    b.exec("UPDATE note SET body = body || '!'");
    a.exec("UPDATE note SET id = id + 10, body = body || '?'");
    sync_all(&[&a, &b]);
    assert_eq!(a.rows("SELECT id, body FROM note"), ["11|'again?'", "12|'replaced?'"]);
}

#[test]
fn a_rollback_takes_back_what_was_typed_and_typing_goes_on() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'a', 'x')");
    sync(&a, &b);
    a.exec("BEGIN; UPDATE note SET body = 'ab'; SAVEPOINT s; UPDATE note SET body = 'abX'; ROLLBACK TO s; UPDATE note SET body = 'abc'; COMMIT");
    a.exec("BEGIN; UPDATE note SET body = 'abcY'; ROLLBACK");
    a.exec("UPDATE note SET body = 'abcd'");
    a.error("UPDATE note SET body = body || 'Z', id = NULL");
    a.exec("BEGIN; INSERT INTO note VALUES (2, 'new', NULL); UPDATE note SET body = 'renewed' WHERE id = 2; COMMIT");
    b.exec("UPDATE note SET body = 'b' || body");
    sync_all(&[&a, &b]);
    assert_eq!(b.rows("SELECT body FROM note"), ["'babcd'", "'renewed'"]);
}

#[test]
fn what_is_no_text_is_refused_with_the_table_the_column_and_the_way_out() {
    let a = site(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'x', NULL)");
    for sql in [
        "UPDATE note SET body = x'00'",
        "INSERT INTO note VALUES (2, x'ff', NULL)",
        "UPDATE note SET body = CAST(x'ff' AS TEXT)",
    ] {
        let error = a.error(sql);
        assert!(
            error.contains("\"body\"") && error.contains("\"note\"") && error.contains("column of their own"),
            "{error}"
        );
    }
    a.exec("UPDATE note SET body = 12");
    assert_eq!(a.rows("SELECT body FROM note"), ["'12'"]);
    let b = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, n INTEGER, body TEXT, raw TEXT DEFAULT x'00');
         INSERT INTO t VALUES (1, 1, x'00', '')",
    );
    for (column, why) in
        [("n", "declare the column TEXT"), ("body", "a row holds a blob"), ("raw", "its default is a blob")]
    {
        let error = b.error(&format!(r#"SELECT crsql_as_crr('t', '{{"columns":{{"{column}":"text"}}}}')"#));
        assert!(error.contains(why) && error.contains(column), "{error}");
    }
}

#[test]
fn sites_that_declare_a_text_start_from_what_the_register_held() {
    let a = site("CREATE TABLE note (id INTEGER PRIMARY KEY NOT NULL, body TEXT, title TEXT); CRR note");
    let [b, c] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'hello', 'x')");
    for site in [&b, &c] {
        site.apply(&a.changeset());
    }
    b.exec("UPDATE note SET body = 'hello, world'");
    c.exec("UPDATE note SET body = 'oh, hello'");
    sync(&b, &c);
    assert_eq!(b.text("SELECT body FROM note"), "oh, hello, world");
    a.apply(&b.changeset());
    assert_eq!(a.text("SELECT body FROM note"), "hello", "there it is a register still");
    assert_eq!(a.int("SELECT count(*) FROM crsql_parked WHERE cid = 'text(body)'"), 2);
    assert!(a.text("SELECT min(reason) FROM crsql_parked").contains("declare it here"));
    assert_eq!(a.digest(), b.digest(), "they hold the same");
    let relayed = site(NOTES);
    relayed.apply(&a.changeset());
    assert_eq!(relayed.text("SELECT body FROM note"), "oh, hello, world", "parked cells are forwarded");
    a.exec(r#"SELECT crsql_as_crr('note', '{"columns":{"body":"text"}}')"#);
    assert_eq!(a.text("SELECT body FROM note"), "oh, hello, world");
    a.exec("UPDATE note SET body = body || '!'");
    sync_all(&[&a, &b, &c, &relayed]);
    assert_eq!(c.text("SELECT body FROM note"), "oh, hello, world!");
}

#[test]
fn a_text_is_renamed_dropped_and_rebuilt_like_any_other_column() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'text', 'x')");
    sync(&a, &b);
    b.exec("UPDATE note SET body = 'a text'");
    for site in [&a, &b] {
        site.exec("ALTER TABLE note RENAME COLUMN body TO words");
    }
    a.exec("UPDATE note SET words = words || '!'");
    sync_all(&[&a, &b]);
    assert_eq!(a.text("SELECT words FROM note"), "a text!");
    for site in [&a, &b] {
        site.exec("SELECT crsql_begin_alter('note'); ALTER TABLE note ADD COLUMN extra; UPDATE note SET words = words || '.'");
        site.exec("SELECT crsql_commit_alter('note')");
    }
    sync_all(&[&a, &b]);
    assert_eq!(a.text("SELECT words FROM note"), "a text!..");
    for site in [&a, &b] {
        site.exec("SELECT crsql_begin_alter('note'); ALTER TABLE note DROP COLUMN words; SELECT crsql_commit_alter('note')");
    }
    assert_eq!(a.int("SELECT count(*) FROM __crsql_typed"), 0);
    sync_all(&[&a, &b]);
}

#[test]
fn a_long_text_reaches_a_column_that_was_renamed_meanwhile() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'short', 'x')");
    sync(&a, &b);
    b.exec("SELECT crsql_begin_alter('note'); ALTER TABLE note RENAME COLUMN body TO words; SELECT crsql_commit_alter('note')");
    for turn in 0..60 {
        a.exec(&format!("UPDATE note SET body = 'word{turn} ' || body"));
    }
    assert!(a.int("SELECT count(*) FROM crsql_changes WHERE cid = 'textb(body)'") > 0);
    b.apply(&a.changeset_for(&b.version_vector()));
    assert_eq!(b.rows("SELECT words FROM note"), a.rows("SELECT body FROM note"));
    assert_eq!(b.int("SELECT count(*) FROM crsql_parked"), 0);
}

#[test]
fn changes_travel_one_by_one_and_in_any_order() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'one', 'x'), (2, 'two', 'y')");
    sync(&a, &b);
    let mut rng = Rng::new(3);
    for turn in 0..200 {
        let site = if turn % 3 == 0 { &b } else { &a };
        let at = rng.below(40);
        site.exec(&format!(
            "UPDATE note SET body = substr(body, 1, {at}) || 'word{turn} ' || substr(body, {at} + 1)"
        ));
        if turn % 20 == 0 {
            sync(&a, &b);
        }
    }
    sync_all(&[&a, &b]);
    assert!(a.int("SELECT count(*) FROM crsql_changes WHERE cid = 'textb(body)'") > 0);
    for one_statement in [true, false] {
        for turn in 0..4 {
            let c = site(NOTES);
            let mut changes = a.changes();
            let count = changes.len();
            changes.rotate_left(turn * 3 % count);
            match one_statement {
                true => c.merge_in_one_statement(&changes),
                false => c.merge(&changes),
            }
            assert_converged(&[&a, &c]);
            assert_eq!(c.text("SELECT crsql_doctor()"), "[]");
            assert_eq!(c.rows("SELECT body FROM note"), a.rows("SELECT body FROM note"));
        }
    }
}

#[test]
fn an_editor_types_splices_and_keeps_its_cursor() {
    let [a, b] = sites(
        r#"CREATE TABLE t (k TEXT, n INTEGER, body TEXT NOT NULL DEFAULT '', PRIMARY KEY (k, n)) WITHOUT ROWID;
        SELECT crsql_as_crr('t', '{"columns":{"body":"text"}}')"#,
    );
    a.exec("INSERT INTO t VALUES ('k', 1, 'hello wörld')");
    sync(&a, &b);
    a.exec("CREATE TABLE kept AS SELECT crsql_text_cursor('t', 'body', 'k', 1, 6) AS at");
    a.exec("SELECT crsql_text_splice('t', 'body', 'k', 1, 0, 5, 'Good bye')");
    b.exec("SELECT crsql_text_splice('t', 'body', 'k', 1, 11, 0, '!')");
    assert_eq!(a.text("SELECT body FROM t"), "Good bye wörld");
    assert_eq!(a.int("SELECT crsql_text_position('t', 'body', 'k', 1, at) FROM kept"), 9);
    sync_all(&[&a, &b]);
    assert_eq!(b.text("SELECT body FROM t"), "Good bye wörld!");
    // What another replica's editor has, it can write; once is enough.
    b.exec("CREATE TABLE state AS SELECT crsql_text_state('t', 'body', 'k', 1) AS update_");
    assert_eq!(b.int("SELECT crsql_text_apply('t', 'body', 'k', 1, update_) FROM state"), 0);
    for (sql, why) in [
        ("SELECT crsql_text_splice('t', 'body', 'k', 1, 99, 0, 'x')", "in a text of 15"),
        ("SELECT crsql_text_splice('t', 'body', 'k', 1, 3, -1, 'x')", "in a text of 15"),
        ("SELECT crsql_text_cursor('t', 'body', 'k', 1, 16)", "no place 16"),
        ("SELECT crsql_text_apply('t', 'body', 'k', 1, x'01')", "no whole update"),
        ("SELECT crsql_text_apply('t', 'body', 'k', 2, x'0000')", "no row with this key"),
        ("SELECT crsql_text_state('t', 'n', 'k', 1)", "is no text"),
        ("SELECT crsql_text_state('u', 'n', 'k', 1)", "is not replicated"),
        ("SELECT crsql_text_state('t', 'body', 'k')", "has 2 columns"),
        ("SELECT crsql_text_state('t', 'body', 'k', 1, x'ffff')", "state vector"),
        ("SELECT crsql_text_state('t', NULL, 'k', 1)", "must be text"),
    ] {
        let error = a.error(sql);
        assert!(error.contains(why), "{sql}: {error}");
    }
    assert_eq!(a.rows("SELECT crsql_text_position('t', 'body', 'k', 1, x'ffff')"), ["NULL"]);
    assert_eq!(a.text("SELECT crsql_doctor()"), "[]");
}

#[test]
fn what_a_hostile_peer_sends_shows_nothing_and_stops_nobody() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'safe', 'x')");
    sync(&a, &b);
    let values = [
        "x'ff'",
        "7",
        "x'0101ffffffffffffff0f0004017401', NULL",
        "'forged'",
        "x'010105e8070444'",
        "zeroblob(100)",
    ];
    for (at, value) in values.iter().enumerate() {
        let value = value.split(',').next().unwrap_or_default();
        for cid in ["text(body)", "textb(body)", "textd(body)"] {
            let site = format!("x'{:032x}'", at + 1);
            let insert = format!(
                "INSERT INTO crsql_changes (\"table\", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version)
                 SELECT 'note', crsql_pack_columns(1), '{cid}', {value}, 1, 1, {site}, 1, 0, {}",
                at + 1
            );
            for to in [&a, &b] {
                to.exec(&insert);
            }
        }
    }
    a.exec("UPDATE note SET body = 'very ' || body");
    sync_all(&[&a, &b]);
    assert!(a.text("SELECT body FROM note").contains("very"), "{}", a.text("SELECT body FROM note"));
}

#[test]
fn a_copy_that_takes_a_new_name_types_under_other_numbers() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'text', 'x')");
    a.exec("UPDATE note SET body = 'a text'");
    sync(&a, &b);
    let dir = crsql_tests::TempDir::new();
    let copy = dir.path().join("copy.db");
    a.exec(&format!("VACUUM INTO '{}'", copy.display()));
    let copy = Site::open(&copy);
    copy.exec("SELECT crsql_new_site()");
    copy.exec("UPDATE note SET body = body || ' of the copy'");
    a.exec("UPDATE note SET body = 'A' || body");
    sync_all(&[&a, &b, &copy]);
    assert_eq!(b.text("SELECT body FROM note"), "Aa text of the copy");
}

#[test]
fn a_fork_that_gives_way_takes_the_text_from_the_others() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'text', 'x')");
    a.exec("UPDATE note SET body = 'a text'");
    sync(&a, &b);
    let keep = a.int("SELECT max(site_version) FROM crsql_changes WHERE site_id = crsql_site_id()");
    let dir = crsql_tests::TempDir::new();
    let copy = dir.path().join("copy.db");
    a.exec(&format!("VACUUM INTO '{}'", copy.display()));
    let copy = Site::open(&copy);
    a.exec("UPDATE note SET body = body || ' by a'");
    copy.exec("UPDATE note SET body = 'forked ' || body; INSERT INTO note VALUES (2, 'of the fork', NULL)");
    copy.exec(&format!("SELECT crsql_new_site({keep})"));
    copy.exec("UPDATE note SET body = body || '!' WHERE id = 2");
    sync_all(&[&a, &b, &copy]);
    assert_eq!(b.rows("SELECT body FROM note"), ["'a text by a'", "'of the fork!'"]);
}

#[test]
fn two_connections_type_into_one_file() {
    let dir = crsql_tests::TempDir::new();
    let path = dir.path().join("notes.db");
    let a = Site::open(&path);
    a.exec(NOTES);
    a.exec("INSERT INTO note VALUES (1, 'x', NULL)");
    let b = Site::open(&path);
    for turn in 0..20 {
        a.exec(&format!("UPDATE note SET body = body || 'a{turn}'"));
        b.exec(&format!("UPDATE note SET body = 'b{turn}' || body"));
        assert_eq!(a.rows("SELECT body FROM note"), b.rows("SELECT body FROM note"));
    }
    assert_eq!(a.text("SELECT crsql_doctor()"), "[]");
    let c = site(NOTES);
    c.apply(&a.changeset());
    assert_eq!(c.rows("SELECT body FROM note"), a.rows("SELECT body FROM note"));
}

#[test]
fn an_alter_of_the_table_keeps_long_texts() {
    let [a, b] = sites(NOTES);
    a.exec("INSERT INTO note (id, body) VALUES (1, 'x')");
    sync(&a, &b);
    a.exec(&format!("UPDATE note SET body = '{}'", "many words ".repeat(1000)));
    a.exec("SELECT crsql_begin_alter('note'); ALTER TABLE note ADD COLUMN more; SELECT crsql_commit_alter('note')");
    b.exec("ALTER TABLE note ADD COLUMN more");
    sync(&a, &b);
    a.exec("UPDATE note SET body = body || 'and more'");
    sync(&a, &b);
    assert_eq!(a.doctor(), "[]");
    assert_converged(&[&a, &b]);
    assert_eq!(b.int("SELECT length(body) FROM note"), 11_008);
}
