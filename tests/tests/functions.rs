//! Every SQL function: what it answers, and a typed error for NULL, wrong types and wrong arity.

use crsql_tests::{Site, assert_converged, pull, site, sites, sync};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, ord TEXT); CRR t";

/// Every function of the surface that an application may call.
const FUNCTIONS: [&str; 38] = [
    "crsql_as_crr",
    "crsql_as_table",
    "crsql_begin_alter",
    "crsql_commit_alter",
    "crsql_automigrate",
    "crsql_finalize",
    "crsql_site_id",
    "crsql_db_version",
    "crsql_next_db_version",
    "crsql_rows_impacted",
    "crsql_config_get",
    "crsql_config_set",
    "crsql_fract_as_ordered",
    "crsql_fract_key_between",
    "crsql_pack_columns",
    "crsql_changeset",
    "crsql_apply",
    "crsql_version_vector",
    "crsql_digest",
    "crsql_token",
    "crsql_wait_for",
    "crsql_stats",
    "crsql_new_site",
    "crsql_gc",
    "crsql_register_peer",
    "crsql_unregister_peer",
    "crsql_peer_vector",
    "crsql_rebootstrap",
    "crsql_doctor",
    "crsql_version",
    "crsql_sha",
    "crsql_unpack_columns",
    "crsql_increment_and_get_seq",
    "crsql_get_seq",
    "crsql_internal_sync_bit",
    "crsql_after_insert",
    "crsql_after_update",
    "crsql_after_delete",
];

const VALUES: [&str; 12] = [
    "NULL",
    "0",
    "-1",
    "9223372036854775807",
    "1.5",
    "''",
    "'t'",
    "'nonsense'",
    "'{}'",
    "x''",
    "x'00'",
    "zeroblob(40)",
];

#[test]
fn no_argument_of_any_kind_or_number_brings_the_process_down_or_stops_tracking() {
    for function in FUNCTIONS {
        let a = site(T);
        a.exec("INSERT INTO t VALUES (1, 'x', 'a ')");
        for arity in 0..6 {
            for (i, value) in VALUES.iter().enumerate() {
                let arguments: Vec<&str> =
                    (0..arity).map(|k| if k == 0 { value } else { VALUES[(i + k * 5) % 12] }).collect();
                let call = format!("SELECT {function}({})", arguments.join(", "));
                if let Err(message) = a.try_exec(&call) {
                    assert!(message.len() > 8 && message != "SQL logic error", "{call}: {message:?}");
                }
                if !a.conn.is_autocommit() {
                    a.exec("ROLLBACK");
                }
                if arity == 0 {
                    break;
                }
            }
        }
        let b = site(T);
        a.exec("CRR t");
        a.exec("INSERT INTO t VALUES (77, 'still tracked', NULL)");
        pull(&b, &a);
        assert_eq!(b.rows("SELECT x FROM t WHERE id = 77"), ["'still tracked'"], "after {function}");
        assert_eq!(a.doctor(), "[]", "after {function}");
    }
}

#[test]
fn null_and_wrong_types_are_refused_with_a_reason() {
    let a = site(T);
    for call in [
        "crsql_as_crr(NULL)",
        "crsql_as_crr(5)",
        "crsql_as_crr(x'74')",
        "crsql_as_crr('')",
        "crsql_as_crr('t', '{not json')",
        "crsql_as_crr('t', '{\"columns\":5}')",
        "crsql_as_crr('t', '{\"unknown\":1}')",
        "crsql_as_table(NULL)",
        "crsql_begin_alter(NULL)",
        "crsql_commit_alter(NULL)",
        "crsql_changeset(NULL)",
        "crsql_changeset('1')",
        "crsql_changeset(1.5)",
        "crsql_changeset(-1)",
        "crsql_apply(NULL)",
        "crsql_apply('text')",
        "crsql_apply(5)",
        "crsql_digest(NULL)",
        "crsql_digest('missing')",
        "crsql_digest(5)",
        "crsql_config_set(NULL, 1)",
        "crsql_config_set('nonsense', 1)",
        "crsql_config_set('tie-break', NULL)",
        "crsql_config_set('merge-equal-values', 'text')",
        "crsql_config_get('nonsense')",
        "crsql_config_get(NULL)",
        "crsql_fract_key_between(1, 2)",
        "crsql_fract_key_between('b', 'a')",
        "crsql_fract_as_ordered('t', 'missing')",
        "crsql_fract_as_ordered(NULL, NULL)",
        "crsql_fract_as_ordered('missing', 'ord')",
        "crsql_wait_for(NULL, 10)",
        "crsql_wait_for('nonsense', 10)",
    ] {
        let message = a.error(&format!("SELECT {call}"));
        assert!(message.len() > 8 && message != "SQL logic error", "{call}: {message:?}");
    }
}

#[test]
fn wrong_arity_is_refused() {
    let a = site(T);
    for call in [
        "crsql_site_id(1)",
        "crsql_db_version(1)",
        "crsql_changeset(1, 2, 3, 4)",
        "crsql_apply()",
        "crsql_apply(1, 2, 3)",
        "crsql_version_vector(1)",
        "crsql_digest('t', 't', 't')",
        "crsql_as_crr()",
        "crsql_as_table()",
        "crsql_begin_alter()",
        "crsql_commit_alter()",
        "crsql_automigrate()",
        "crsql_config_get()",
        "crsql_config_set('a')",
        "crsql_stats(1, 2, 3)",
        "crsql_new_site(1, 2)",
        "crsql_doctor(1, 2, 3)",
        "crsql_version(1)",
        "crsql_fract_key_between('a')",
        "crsql_fract_as_ordered()",
        "crsql_wait_for()",
        "crsql_token(1, 2)",
    ] {
        let message = a.error(&format!("SELECT {call}"));
        assert!(message.len() > 8, "{call}: {message:?}");
    }
}

#[test]
fn results_have_upstreams_types_and_texts() {
    let a = site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x)");
    assert_eq!(a.rows("SELECT crsql_as_crr('t'), crsql_as_crr('main', 't')"), ["'OK'|'OK'"]);
    assert_eq!(
        a.rows("SELECT typeof(crsql_site_id()), length(crsql_site_id()), crsql_db_version()"),
        ["'blob'|16|0"]
    );
    assert_eq!(
        a.rows("SELECT crsql_next_db_version(), crsql_next_db_version(), crsql_db_version()"),
        ["1|1|0"]
    );
    assert_eq!(a.rows("SELECT crsql_rows_impacted(), crsql_finalize()"), ["0|'finalized'"]);
    assert_eq!(
        a.rows("SELECT crsql_config_set('merge-equal-values', 1), crsql_config_get('merge-equal-values')"),
        ["1|1"]
    );
    assert_ne!(a.show("SELECT crsql_version()"), "NULL");
    assert_eq!(a.rows("SELECT typeof(crsql_sha())"), ["'text'"]);
    assert_eq!(a.rows("SELECT typeof(crsql_version_vector()), typeof(crsql_changeset())"), ["'blob'|'blob'"]);
    assert_eq!(
        a.rows("SELECT length(crsql_digest()), length(crsql_digest('t')), crsql_doctor()"),
        ["64|64|'[]'"]
    );
    assert_eq!(a.rows("SELECT json_valid(crsql_stats()), typeof(crsql_token())"), ["1|'text'"]);
    assert_eq!(a.rows("SELECT crsql_internal_sync_bit()"), ["0"]);
}

#[test]
fn as_crr_is_idempotent_in_any_letter_case() {
    let [a, b] = sites(T);
    for name in ["t", "T"] {
        assert_eq!(a.rows(&format!("SELECT crsql_as_crr('{name}')")), ["'OK'"]);
    }
    a.exec("INSERT INTO t VALUES (1, 'x', NULL)");
    assert_eq!(a.int("SELECT count(*) FROM crsql_changes"), 2);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn asking_for_the_next_version_takes_none() {
    let a = site(T);
    for _ in 0..5 {
        assert_eq!(a.int("SELECT crsql_next_db_version()"), 1);
    }
    a.exec("INSERT INTO t (id) VALUES (1)");
    assert_eq!(a.db_version(), 1);
    assert_eq!(a.rows("SELECT DISTINCT site_version, db_version FROM crsql_changes"), ["1|1"]);
}

#[test]
fn the_digest_changes_with_every_fact_and_returns_with_it() {
    let a = site(T);
    let empty = a.digest();
    assert_eq!(empty, Site::memory().digest(), "nothing held");
    a.exec("INSERT INTO t VALUES (1, 'x', NULL)");
    let one = a.digest();
    assert_ne!(one, empty);
    a.exec("BEGIN; UPDATE t SET x = 'y'");
    assert_ne!(a.digest(), one, "it sees the open transaction");
    a.exec("ROLLBACK");
    assert_eq!(a.digest(), one);
    assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
}

#[test]
fn the_digest_of_a_table_depends_on_that_table_only() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t; CREATE TABLE u (id INTEGER PRIMARY KEY NOT NULL, x); CRR u",
    );
    a.exec("INSERT INTO t VALUES (1, 'x')");
    let (t, u, all) = (a.text("SELECT crsql_digest('t')"), a.text("SELECT crsql_digest('u')"), a.digest());
    a.exec("INSERT INTO u VALUES (1, 'x')");
    assert_eq!(a.text("SELECT crsql_digest('t')"), t);
    assert_ne!(a.text("SELECT crsql_digest('u')"), u);
    assert_ne!(a.digest(), all);
}

#[test]
fn the_doctor_notices_a_row_changed_behind_our_back() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t; CREATE TABLE k (name TEXT PRIMARY KEY NOT NULL, v); CRR k",
    );
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y'); INSERT INTO k VALUES ('a', 1)");
    assert_eq!(a.doctor(), "[]");
    let triggers = a.values("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 't'");
    for trigger in &triggers {
        a.exec(&format!("DROP TRIGGER \"{}\"", trigger[0].as_str()));
    }
    let _ = a.try_exec("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, 'z')");
    assert_ne!(a.doctor(), "[]");
    assert_eq!(a.int("SELECT json_valid(crsql_doctor())"), 1);
}

#[test]
fn waiting_for_what_is_already_here_returns_at_once() {
    let [a, b] = sites(T);
    a.exec("INSERT INTO t VALUES (1, 'x', NULL)");
    let token = a.text("SELECT crsql_token()");
    assert_eq!(a.value_with("SELECT crsql_wait_for(?1, 1000)", &[&token]).integer(), 1);
    assert_eq!(b.value_with("SELECT crsql_wait_for(?1, 10)", &[&token]).integer(), 0);
    pull(&b, &a);
    assert_eq!(b.value_with("SELECT crsql_wait_for(?1, 1000)", &[&token]).integer(), 1);
}

#[test]
fn functions_that_change_state_are_not_for_triggers_or_views() {
    let a = site(T);
    a.exec("CREATE TABLE victim (x)");
    for call in [
        "crsql_apply(NEW.x)",
        "crsql_new_site()",
        "crsql_as_crr(NEW.x)",
        "crsql_automigrate(NEW.x)",
        "crsql_gc()",
        "crsql_register_peer(NEW.x)",
        "crsql_rebootstrap(NEW.x)",
    ] {
        a.exec(&format!("CREATE TRIGGER evil AFTER INSERT ON victim BEGIN SELECT {call}; END"));
        let message = a.error("INSERT INTO victim VALUES ('t')");
        assert!(message.contains("unsafe use of"), "{call}: {message}");
        a.exec("DROP TRIGGER evil");
    }
    a.exec("CREATE VIEW v AS SELECT crsql_db_version() AS version, crsql_site_id() AS id");
    assert_eq!(a.int("SELECT version FROM v"), 0, "harmless ones are");
}

#[test]
fn stats_count_tables_rows_and_tombstones() {
    let a = site(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x); CRR t; CREATE TABLE u (id TEXT PRIMARY KEY NOT NULL, x); CRR u",
    );
    a.exec("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3); INSERT INTO u VALUES ('a', 1), ('b', 2); DELETE FROM t WHERE id = 1; DELETE FROM u WHERE id = 'a'");
    assert_eq!(
        a.rows("SELECT json_extract(s, '$.rows', '$.tombstones'), json_array_length(s, '$.tables') FROM (SELECT crsql_stats() AS s)"),
        ["'[3,2]'|2"]
    );
}
