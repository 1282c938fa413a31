//! Databases of a released format, and what later versions must find in them.
//!
//! `cargo run -p crsql-tests --bin fixture` writes those of the present format to `tests/fixtures/format-N`, with a
//! text beside each that says what it holds. Files of a released format are never written again.

use crate::site::Site;
use crate::{pull, site};
use std::path::{Path, PathBuf};

/// Where the fixtures are, one directory for each format.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The format that this version writes.
pub fn present_format() -> i64 {
    site("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); CRR t").int("SELECT format FROM __crsql_state")
}

/// A fixture: its name, and what makes it.
pub type Fixture = (&'static str, fn(&Site));

/// Each kind of content that a format can hold.
pub const FIXTURES: [Fixture; 6] = [
    ("log", log),
    ("segments", segments),
    ("parked", parked),
    ("value-tie-break", by_value),
    ("alters", alters),
    ("typed", typed),
];

const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); CRR t;
    CREATE TABLE k (v DEFAULT 0, name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, w, PRIMARY KEY (n, name)) WITHOUT ROWID; CRR k;
    CREATE TABLE u (id PRIMARY KEY NOT NULL, v); CRR u;
    CREATE TABLE r (id REAL NOT NULL, s TEXT NOT NULL, v ANY, PRIMARY KEY (id, s)) STRICT; CRR r";

fn some_work(a: &Site) {
    a.exec(
        "INSERT INTO t VALUES (1, 'é', x'00ff'), (2, 1.5, NULL), (3, 9223372036854775807, ''), (-7, 'minus', -0.5);
         UPDATE t SET x = 'changed' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t (id) VALUES (2);
         INSERT INTO k (name, n, w) VALUES ('Key', 1, 'w'), ('other', 2, x''); REPLACE INTO k (name, n) VALUES ('KEY', 1);
         INSERT INTO u VALUES (1.0, 'one'), ('1', 'text'), (x'31', 'blob'); UPDATE u SET id = 2 WHERE id = 1;
         INSERT INTO r VALUES (1, 'a', 1), (2.5, 'b', NULL); DELETE FROM r WHERE id = 1;
         BEGIN; UPDATE t SET y = 'in a transaction'; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; DELETE FROM t WHERE id = 3; COMMIT",
    );
}

fn from_elsewhere(a: &Site) {
    let b = site(SCHEMA);
    b.exec("INSERT INTO t VALUES (1, 'theirs', 1), (50, 'only theirs', 2); DELETE FROM t WHERE id = 50; UPDATE t SET x = 'twice'");
    pull(a, &b);
    let c = site(SCHEMA);
    c.exec("INSERT INTO u VALUES ('raw', 1), ('rows', 2)");
    a.merge(&c.changes()[..1]);
}

fn log(a: &Site) {
    a.exec(SCHEMA);
    some_work(a);
    from_elsewhere(a);
}

fn segments(a: &Site) {
    a.exec(SCHEMA);
    some_work(a);
    from_elsewhere(a);
    a.exec(
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO t SELECT i, i * 2, 'bulk' FROM n;
         UPDATE t SET x = 'scattered' WHERE id % 37 = 0; DELETE FROM t WHERE id % 41 = 0; SELECT crsql_gc()",
    );
}

fn parked(a: &Site) {
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x INT CHECK (x < 10)); CRR t; INSERT INTO t VALUES (1, 1)");
    let b = site(SCHEMA);
    some_work(&b);
    b.exec("INSERT INTO t VALUES (60, 60, 'refused by the CHECK')");
    pull(a, &b);
}

fn by_value(a: &Site) {
    a.exec("SELECT crsql_config_set('tie-break', 'value')");
    a.exec(SCHEMA);
    some_work(a);
}

fn alters(a: &Site) {
    a.exec(SCHEMA);
    some_work(a);
    a.exec(
        "SELECT crsql_begin_alter('t'); ALTER TABLE t ADD COLUMN z DEFAULT 'dz'; UPDATE t SET z = 1 WHERE id = 1; SELECT crsql_commit_alter('t');
         ALTER TABLE t RENAME COLUMN x TO \"renamed x\"; UPDATE t SET \"renamed x\" = 2 WHERE id = 2;
         ALTER TABLE k ADD COLUMN plain; UPDATE k SET plain = 3; SELECT crsql_as_table('u'); DROP TABLE r",
    );
}

fn typed(a: &Site) {
    a.exec(SCHEMA);
    a.exec(
        "CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, n INT NOT NULL DEFAULT 0, high, low, v);
         SELECT crsql_as_crr('c', '{\"columns\":{\"n\":\"counter\",\"high\":\"max\",\"low\":\"min\"}}');
         INSERT INTO c VALUES (1, 5, 5, 5, 'v'), (2, 0, NULL, NULL, NULL); UPDATE c SET n = n + 2, high = 9, low = 1 WHERE id = 1;
         UPDATE c SET n = n - 1; DELETE FROM c WHERE id = 2; INSERT INTO c (id) VALUES (2); INSERT INTO t VALUES (1, 1, 1)",
    );
}

/// What a replica holds, as text: tables, clocks, what is parked, counters, digest.
pub fn describe(a: &Site) -> String {
    let mut lines = Vec::new();
    for table in a.crrs() {
        lines.push(format!("table {table}"));
        lines.extend(a.table(&table));
    }
    lines.push("clocks".into());
    lines.extend(a.clocks());
    lines.push("parked".into());
    let mut parked = a.rows(r#"SELECT "table", pk, cid, val FROM crsql_parked"#);
    parked.sort();
    lines.extend(parked);
    lines.push("counters".into());
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    lines.push(format!("site {}", hex(a.site_id())));
    lines.push(format!("db_version {}, own site_version {}", a.db_version(), a.own_site_version()));
    lines.push(format!("version vector {}", hex(a.version_vector())));
    lines.push(format!("digest {}", a.digest()));
    lines.push(String::new());
    lines.join("\n")
}

/// Writes the fixtures of the present format; refuses to write over some.
pub fn write_all() -> Result<PathBuf, String> {
    let directory = directory().join(format!("format-{}", present_format()));
    if directory.exists() {
        return Err(format!(
            "{} exists: the fixtures of a format are not written twice; a change of the format needs a new number",
            directory.display()
        ));
    }
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    for (name, make) in FIXTURES {
        let path = directory.join(format!("{name}.db"));
        let a = Site::open(&path);
        a.exec("PRAGMA page_size = 1024");
        make(&a);
        assert_eq!(a.doctor(), "[]", "{name}");
        std::fs::write(path.with_extension("txt"), describe(&a)).map_err(|error| error.to_string())?;
    }
    Ok(directory)
}
