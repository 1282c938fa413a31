//! Tombstones that go: who must have seen the delete, what the file weighs then, what a replica that was left behind
//! has to do, and that no deleted row comes back, whatever arrives how late.

use crsql_core::ids::SiteId;
use crsql_core::key::{Affinity, KeyColumn};
use crsql_core::merge::TieBreak;
use crsql_core::replica::{Delta, Replica, TableSchema, WriteError};
use crsql_core::value::Value;
use crsql_core::version_vector::{Limits, VersionVector};
use crsql_tests::exchange::{assert_converged, pull, sync};
use crsql_tests::rng::seeds;
use crsql_tests::site::{Site, site, sites};
use crsql_tests::{NO_ROWS, Rng, TempDir};

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t";

/// `at` hears what `of` holds, as a registered member.
fn hear(at: &Site, of: &Site) -> i64 {
    at.value_with("SELECT crsql_register_peer(?1)", &[&of.site_id()]);
    at.value_with("SELECT crsql_peer_vector(?1, ?2)", &[&of.site_id(), &of.version_vector()]).integer()
}

fn collect(at: &Site) -> i64 {
    at.int("SELECT crsql_gc() ->> 'tombstones_collected'")
}

#[test]
fn a_tombstone_goes_when_every_registered_site_has_its_delete() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    sync(&a, &b);
    a.exec("DELETE FROM t WHERE id = 1");
    assert_eq!(collect(&a), 0, "nobody is registered");
    hear(&a, &b);
    assert_eq!(collect(&a), 0, "b lacks the delete");
    sync(&a, &b);
    assert_eq!(collect(&a), 0, "b has not said that it has it");
    assert_eq!(hear(&a, &b), 1);
    assert_eq!(collect(&a), 1);
    assert_eq!(a.rows("SELECT pk, cl FROM crsql_changes WHERE cl = 2"), NO_ROWS);
    assert_converged_but_for_tombstones(&[&a, &b]);
}

#[test]
fn a_site_whose_lease_is_over_holds_nothing_up() {
    let [a, b, c] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x')");
    sync(&a, &b);
    sync(&a, &c);
    a.exec("DELETE FROM t");
    pull(&b, &a);
    hear(&a, &b);
    a.value_with("SELECT crsql_register_peer(?1, 1)", &[&c.site_id()]);
    assert_eq!(collect(&a), 0);
    assert_eq!(a.int("SELECT sum(registered) FROM crsql_peers"), 2);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(a.int("SELECT sum(registered) FROM crsql_peers"), 1);
    assert_eq!(collect(&a), 1);
    assert_eq!(hear(&a, &c), 0, "c is told to begin again");
}

#[test]
fn a_site_that_was_left_behind_begins_again_and_keeps_what_it_wrote() {
    let [a, c] = sites("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v, w); CRR t");
    a.exec("INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)");
    sync(&a, &c);
    a.exec("DELETE FROM t WHERE id = 1; UPDATE t SET w = 20 WHERE id = 2");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    // Meanwhile, without a: an update of the deleted row, of a living one, a new row, a delete.
    c.exec("UPDATE t SET v = 'stale' WHERE id = 1; UPDATE t SET v = 'fresh' WHERE id = 2");
    c.exec(
        "INSERT INTO t VALUES (9, 'mine', 9); UPDATE t SET w = 10 WHERE id = 9; DELETE FROM t WHERE id = 3",
    );

    let whole = a.changeset();
    let refused = a.try_apply(&c.changeset_for(&a.version_vector())).expect("a merge never fails");
    assert!(refused.refused.iter().any(|reason| reason.contains("could be a deleted row")), "{refused:?}");
    assert_eq!(a.rows("SELECT id FROM t WHERE id = 1"), NO_ROWS);
    let error = c.try_apply(&a.changeset_for(&c.version_vector())).unwrap_err();
    assert!(error.contains("re-bootstrap") && error.contains("crsql_rebootstrap"), "{error}");

    let report = c.value_with("SELECT crsql_rebootstrap(?1)", &[&whole]);
    let json = report.as_str();
    assert!(json.contains(r#""kept":2,"renewed":1,"dropped":1"#), "{json}");
    assert_eq!(c.doctor(), "[]");
    sync(&a, &c);
    assert_eq!(a.rows("SELECT * FROM t ORDER BY id"), ["2|'fresh'|20", "9|'mine'|10"]);
    assert_converged(&[&a, &c]);
}

#[test]
fn a_connection_that_does_nothing_else_first_knows_what_it_lacks_and_what_it_collected() {
    let directory = TempDir::new();
    let [a, c] = ["a.db", "c.db"].map(|name| {
        let site = Site::open(directory.join(name));
        site.exec(SCHEMA);
        site
    });
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    sync(&a, &c);
    let (old, raw) = (a.changeset(), a.changes());
    a.exec("DELETE FROM t WHERE id = 1");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    let since = a.changeset_for(&c.version_vector());
    let error = c.reopen().try_apply(&since).unwrap_err();
    assert!(error.contains("re-bootstrap"), "{error}");
    assert_eq!(a.reopen().apply(&old).applied, 0);
    a.reopen().merge(&raw);
    a.reopen().exec("INSERT INTO t VALUES (3, 'new')");
    assert_eq!(
        a.rows("SELECT id, cl FROM t JOIN crsql_changes ON pk = crsql_pack_columns(id) AND cid = 'v'"),
        ["2|1", "3|3"]
    );
}

#[test]
fn deletes_and_that_they_were_collected_may_come_in_one_transaction() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    sync(&a, &b);
    a.exec("DELETE FROM t WHERE id = 1");
    let delete = a.changeset_for(&b.version_vector());
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    a.exec("INSERT INTO t VALUES (3, 'z')");
    b.exec("BEGIN");
    b.apply(&delete);
    b.apply(&a.changeset_for(&a.version_vector()));
    b.exec("COMMIT");
    pull(&b, &a);
    assert_eq!(collect(&b), 1);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_row_written_all_over_does_not_come_back_and_one_that_was_made_here_stays() {
    let [a, c] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    sync(&a, &c);
    a.exec("DELETE FROM t WHERE id = 1");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    let position = c.db_version();
    c.exec("INSERT INTO t VALUES (9, 'mine'), (10, 'mine too')");
    let written = c.changeset_since(position);
    // Of the inserts nothing is left, neither of a's row nor of c's.
    c.exec("UPDATE t SET v = 'stale' WHERE id = 1; UPDATE t SET v = 'edited' WHERE id = 9");
    let whole = a.changeset();
    let report = c.value_with("SELECT crsql_rebootstrap(?1, ?2)", &[&whole, &written]);
    assert!(report.as_str().contains(r#""renewed":2,"dropped":1"#), "{report:?}");
    sync(&a, &c);
    assert_eq!(a.rows("SELECT * FROM t ORDER BY id"), ["2|'y'", "9|'edited'", "10|'mine too'"]);
    assert_converged(&[&a, &c]);
}

#[test]
fn without_its_own_history_a_row_written_all_over_counts_as_somebody_elses() {
    let [a, c] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    sync(&a, &c);
    a.exec("DELETE FROM t WHERE id = 1");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    c.exec("INSERT INTO t VALUES (9, 'mine')");
    c.exec("UPDATE t SET v = 'stale' WHERE id = 1; UPDATE t SET v = 'edited' WHERE id = 9");
    let report = c.value_with("SELECT crsql_rebootstrap(?1)", &[&a.changeset()]);
    assert!(report.as_str().contains(r#""renewed":0,"dropped":2"#), "{report:?}");
    assert_eq!(c.rows("SELECT id FROM t"), ["2"]);
}

#[test]
fn an_old_changeset_that_arrives_once_more_brings_nothing_back() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x')");
    let old = a.changeset();
    b.apply(&old);
    b.exec("UPDATE t SET v = 'later'");
    let later = b.changeset_since(1);
    sync(&a, &b);
    let raw = a.changes();
    a.exec("DELETE FROM t");
    sync(&a, &b);
    hear(&a, &b);
    assert_eq!(collect(&a), 1);
    for blob in [&old, &later] {
        assert_eq!(a.apply(blob).applied, 0);
    }
    a.merge(&raw);
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
    let unnamed: Vec<_> = raw.iter().map(|change| change[..9].to_vec()).collect();
    let error = a.try_merge(&unnamed).unwrap_err();
    assert!(error.contains("could be a deleted row"), "{error}");
    assert_eq!(a.rows("SELECT * FROM t"), NO_ROWS);
    // b took over what a collected, and is as safe.
    pull(&b, &a);
    assert_eq!(collect(&b), 1);
    assert_eq!(b.apply(&old).applied, 0);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_row_that_is_inserted_again_beats_the_tombstone_that_others_still_have() {
    let [a, b] = sites(
        "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t; CREATE TABLE k (name TEXT PRIMARY KEY NOT NULL, v); CRR k",
    );
    a.exec("INSERT INTO t VALUES (1, 'x'); INSERT INTO k VALUES ('n', 1)");
    sync(&a, &b);
    a.exec("DELETE FROM t; DELETE FROM k");
    sync(&a, &b);
    hear(&a, &b);
    assert_eq!(collect(&a), 2);
    a.exec("INSERT INTO t VALUES (1, 'again'); INSERT INTO k VALUES ('n', 2), ('m', 3)");
    assert_eq!(a.rows("SELECT DISTINCT cl FROM crsql_changes"), ["3"]);
    sync(&a, &b);
    assert_eq!(b.rows("SELECT v FROM t UNION ALL SELECT v FROM k"), ["'again'", "2", "3"]);
    assert_converged(&[&a, &b]);
}

#[test]
fn a_new_replica_starts_where_the_collected_one_is() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    a.exec("DELETE FROM t WHERE id = 1");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    pull(&b, &a);
    b.exec("INSERT INTO t VALUES (1, 'b')");
    assert_eq!(b.rows("SELECT DISTINCT cl FROM crsql_changes WHERE val = 'b'"), ["3"]);
    sync(&a, &b);
    assert_converged(&[&a, &b]);
}

#[test]
fn after_collection_the_file_is_as_small_as_a_fresh_one() {
    for (schema, key) in [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v TEXT); CRR t", "n"),
        (
            "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v TEXT); CRR t",
            "printf('key %08d', n * 7919 % 1000003)",
        ),
        (
            "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v TEXT) WITHOUT ROWID; CRR t",
            "printf('key %08d', n * 7919 % 1000003)",
        ),
    ] {
        let fill = |low: i64, high: i64| {
            format!(
                "WITH RECURSIVE c(n) AS (SELECT {low} UNION ALL SELECT n + 1 FROM c WHERE n < {high})
                 INSERT INTO t SELECT {key}, 'value ' || n FROM c"
            )
        };
        let directory = TempDir::new();
        let a = Site::open(directory.join("a.db"));
        a.exec(schema).exec(&fill(1, 100_000)).exec(&fill(100_001, 120_000));
        a.exec(&format!("DELETE FROM t WHERE id IN (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) SELECT {key} FROM c)"));
        a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
        assert_eq!(collect(&a), 100_000);
        let pages = a.int("PRAGMA page_count") - a.int("PRAGMA freelist_count");
        a.exec("VACUUM");
        assert_eq!(a.doctor(), "[]");
        let fresh = Site::open(directory.join("fresh.db"));
        fresh.exec(schema).exec(&fill(100_001, 120_000)).exec("VACUUM");
        let size = |site: &Site| site.int("PRAGMA page_count") as f64;
        assert!(size(&a) <= 1.05 * size(&fresh), "{} pages against {} ({schema})", size(&a), size(&fresh));
        // Without VACUUM the rest of the file is free for what comes next, as SQLite leaves it.
        assert!(pages as f64 <= 2.2 * size(&fresh), "{pages} pages in use against {}", size(&fresh));
    }
}

#[test]
fn other_connections_see_a_collection_and_a_rollback_takes_back_a_registration() {
    let directory = TempDir::new();
    let a = Site::open(directory.join("a.db"));
    a.exec("PRAGMA journal_mode = wal").exec(SCHEMA);
    let other = a.reopen();
    other.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y'); DELETE FROM t WHERE id = 1");
    a.exec("BEGIN");
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    a.exec("ROLLBACK");
    assert_eq!(collect(&a), 0);
    a.value_with("SELECT crsql_register_peer(?1)", &[&a.site_id()]);
    assert_eq!(collect(&a), 1);
    other.exec("INSERT INTO t VALUES (1, 'again')");
    assert_eq!(a.rows("SELECT cl FROM crsql_changes WHERE val = 'again'"), ["3"]);
    assert_eq!(a.value_with("SELECT crsql_unregister_peer(?1)", &[&a.site_id()]).integer(), 1);
    a.exec("DELETE FROM t");
    assert_eq!(collect(&other), 0, "nobody is registered any more");
    assert_eq!(a.doctor(), "[]");
}

#[test]
fn a_member_that_was_restored_from_an_older_copy_is_heard_as_what_it_is() {
    let [a, b] = sites(SCHEMA);
    a.exec("INSERT INTO t VALUES (1, 'x')");
    sync(&a, &b);
    let before = b.version_vector();
    a.exec("DELETE FROM t");
    sync(&a, &b);
    hear(&a, &b);
    assert_eq!(collect(&a), 1);
    let heard = a.value_with("SELECT crsql_peer_vector(?1, ?2)", &[&b.site_id(), &before]);
    assert_eq!(heard.integer(), 0, "it lacks the delete again");
    assert!(a.int("SELECT lacks FROM crsql_peers WHERE registered") > 0);
}

#[test]
fn a_relay_without_the_schema_collects_as_well() {
    let a = site(SCHEMA);
    let relay = Site::memory();
    a.exec("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    let old = a.changeset();
    relay.apply(&old);
    a.exec("DELETE FROM t WHERE id = 1");
    pull(&relay, &a);
    hear(&relay, &a);
    assert_eq!(collect(&relay), 1);
    assert_eq!(relay.apply(&old).parked, 0);
    assert_eq!(relay.int("SELECT count(*) FROM crsql_parked"), 1);
    pull(&a, &relay);
    assert_eq!(collect(&a), 1, "a took over what the relay collected");
    assert_eq!(a.digest(), relay.digest());
}

#[test]
fn bad_arguments_are_named() {
    let a = site(SCHEMA);
    for (sql, expected) in [
        ("SELECT crsql_register_peer(NULL)", "crsql_register_peer"),
        ("SELECT crsql_register_peer(x'00')", "16 bytes"),
        ("SELECT crsql_register_peer(zeroblob(16), 0)", "1 second"),
        ("SELECT crsql_register_peer(zeroblob(16), 'x')", "integer"),
        ("SELECT crsql_peer_vector(zeroblob(16), x'00')", "no version vector"),
        ("SELECT crsql_rebootstrap(x'00')", "crsql_rebootstrap"),
        ("SELECT crsql_rebootstrap(crsql_changeset())", "not everything"),
    ] {
        let error = a.error(sql);
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

fn assert_converged_but_for_tombstones(sites: &[&Site]) {
    let lines = |site: &Site| {
        let mut lines = site.clocks();
        lines.retain(|line| !line.contains("'-1'"));
        (lines, site.table("t"), site.doctor())
    };
    sites.iter().for_each(|site| assert_eq!(lines(site), lines(sites[0])));
}

// --- random histories beside the model ------------------------------------------------------------------------

const TABLES: [(&str, &str); 3] = [
    ("t", "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, a, b DEFAULT 0); CRR t"),
    ("k", "CREATE TABLE k (id BLOB PRIMARY KEY NOT NULL, a, b DEFAULT 0); CRR k"),
    ("w", "CREATE TABLE w (id BLOB PRIMARY KEY NOT NULL, a, b DEFAULT 0) WITHOUT ROWID; CRR w"),
];

struct Twin {
    site: Site,
    model: Replica,
}

impl Twin {
    fn new() -> Twin {
        let site = Site::memory();
        for (_, ddl) in TABLES {
            site.exec(ddl);
        }
        let id = SiteId::try_from(&site.site_id()[..]).expect("16 bytes");
        let mut model = Replica::new(id, TieBreak::Site);
        for (name, _) in TABLES {
            let affinity = if name == "t" { Affinity::Integer } else { Affinity::Blob };
            let schema = TableSchema::new(name, [KeyColumn::binary(affinity)]);
            let schema = schema.column("a", Value::Null).column("b", Value::Integer(0));
            model.create_table(schema).expect("a new table");
        }
        Twin { site, model }
    }

    /// A random transaction; what it said, as a changeset and as a delta.
    fn write(&mut self, rng: &mut Rng) -> Option<(Vec<u8>, Delta)> {
        let position = self.site.db_version();
        let mut tx = self.model.begin();
        self.site.exec("BEGIN");
        for _ in 0..1 + rng.below(4) {
            let table = rng.pick(&TABLES).0;
            let (id, value) = (rng.between(1, 6), rng.between(0, 3));
            let key = [Value::Integer(id)];
            let set = [(if rng.one_in(2) { "a" } else { "b" }, Value::Integer(value))];
            let column = set[0].0;
            match rng.below(5) {
                0 | 1 => {
                    let done = self
                        .site
                        .try_exec(&format!("INSERT INTO {table} (id, {column}) VALUES ({id}, {value})"));
                    match tx.insert(table, &key, &set) {
                        Ok(()) => assert_eq!(done, Ok(())),
                        Err(WriteError::RowExists(_)) => assert!(done.is_err()),
                        Err(error) => panic!("{error}"),
                    }
                }
                2 | 3 => {
                    self.site.exec(&format!("UPDATE {table} SET {column} = {value} WHERE id = {id}"));
                    tx.update(table, &key, &set).expect("an update");
                }
                _ => {
                    self.site.exec(&format!("DELETE FROM {table} WHERE id = {id}"));
                    tx.delete(table, &key).expect("a delete");
                }
            }
        }
        self.site.exec("COMMIT");
        let version = tx.commit().expect("a commit").site_version?.0;
        let changes = self.model.changes_of(self.model.site(), version);
        let mut claims = VersionVector::default();
        claims.insert(self.model.site(), version);
        let delta = Delta { changes, claims, collected: self.model.collected().clone() };
        Some((self.site.changeset_since(position), delta))
    }

    fn apply(&mut self, blob: &[u8], delta: &Delta) -> bool {
        let applied = self.model.apply(delta);
        let report = self.site.try_apply(blob);
        assert_eq!(applied.must_begin_again, report.is_err(), "{report:?}");
        if let Ok(report) = report {
            assert_eq!(applied.behind.is_empty(), report.refused.is_empty(), "{applied:?} {report:?}");
        }
        applied.must_begin_again
    }

    fn compare(&self, what: &str) {
        assert_eq!(self.site.digest(), self.model.digest().hex(), "{what}: digest");
        for (name, _) in TABLES {
            let real = self.site.rows(&format!("SELECT id, a, b FROM {name} ORDER BY id"));
            let show = |value: &Value| match value {
                Value::Null => "NULL".to_owned(),
                Value::Integer(n) => n.to_string(),
                other => format!("{other:?}"),
            };
            let model: Vec<String> = self
                .model
                .rows(name)
                .iter()
                .map(|(key, values)| key.iter().chain(values).map(show).collect::<Vec<_>>().join("|"))
                .collect();
            assert_eq!(real, model, "{what}: table {name}");
        }
        let changes = self.site.int("SELECT count(*) FROM crsql_changes");
        assert_eq!(changes, self.model.changes().count() as i64, "{what}: changes");
        let held = VersionVector::decode(&self.site.version_vector(), &Limits::default()).expect("a vector");
        assert_eq!(&held, self.model.held(), "{what}: versions");
    }
}

fn pull_twin(twins: &mut [Twin], to: usize, from: usize) {
    if to == from {
        return;
    }
    let delta = twins[from].model.delta(twins[to].model.held());
    let blob = twins[from].site.changeset_for(&twins[to].site.version_vector());
    if twins[to].apply(&blob, &delta) {
        let whole = twins[from].model.delta(&VersionVector::default());
        assert!(!twins[to].model.begin_again(&whole).must_begin_again);
        let blob = twins[from].site.changeset();
        twins[to].site.value_with("SELECT crsql_rebootstrap(?1)", &[&blob]);
    }
}

fn history(seed: u64) -> (i64, u32) {
    let mut rng = Rng::new(seed);
    let mut twins: Vec<Twin> = (0..3).map(|_| Twin::new()).collect();
    let mut said: Vec<(Vec<u8>, Delta)> = Vec::new();
    let (mut collected, mut begun) = (0, 0);
    for step in 0..60 {
        let (at, of) = (rng.below(3), rng.below(3));
        let what = match rng.below(10) {
            0..=3 => {
                said.extend(twins[at].write(&mut rng));
                "write"
            }
            4 | 5 => {
                let before = twins[at].model.collected().clone();
                pull_twin(&mut twins, at, of);
                begun += u32::from(before != *twins[at].model.collected());
                "pull"
            }
            6 if !said.is_empty() => {
                let (blob, delta) = rng.pick(&said).clone();
                twins[at].apply(&blob, &delta);
                "deliver"
            }
            7 | 8 => {
                let (site, held) = (twins[of].model.site(), twins[of].model.held().clone());
                twins[at].model.register(site, &held);
                let of = (twins[of].site.site_id(), twins[of].site.version_vector());
                twins[at].site.value_with("SELECT crsql_register_peer(?1)", &[&of.0]);
                twins[at].site.value_with("SELECT crsql_peer_vector(?1, ?2)", &[&of.0, &of.1]);
                "hear"
            }
            _ => {
                let count = twins[at].model.collect() as i64;
                assert_eq!(collect(&twins[at].site), count, "seed {seed}, step {step}");
                collected += count;
                "collect"
            }
        };
        twins[at].compare(&format!("seed {seed}, step {step}, {what} at {at}"));
    }
    for _ in 0..5 {
        for to in 0..3 {
            (0..3).for_each(|from| pull_twin(&mut twins, to, from));
        }
    }
    twins.iter().for_each(|twin| twin.compare(&format!("seed {seed}, at the end")));
    for twin in &twins {
        assert_eq!(twin.site.doctor(), "[]", "seed {seed}");
        assert_eq!(twin.site.digest(), twins[0].site.digest(), "seed {seed}");
        TABLES.iter().for_each(|(name, _)| assert_eq!(twin.site.table(name), twins[0].site.table(name)));
    }
    (collected, begun)
}

#[test]
fn random_histories_with_collection_are_those_of_the_model() {
    let (mut collected, mut begun) = (0, 0);
    for seed in seeds(60) {
        let (more, again) = history(seed);
        collected += more;
        begun += again;
    }
    assert!(collected > 0 && begun > 0, "{collected} tombstones, {begun} taken over");
}
