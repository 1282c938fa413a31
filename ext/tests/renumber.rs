//! Clocks follow the rowids of tables without an INTEGER PRIMARY KEY wherever SQLite takes them.
#![cfg(feature = "static")]

mod support;

use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{message, text};

/// A directory of this test's own, gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("crsql-renumber-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    crsql::register(&db).unwrap();
    db
}

/// Rowids with gaps, several clock patterns, tombstones; half of it in segments, half in the log.
fn populated(path: &Path) -> Connection {
    let db = open(path);
    db.execute_batch(
        "CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, a, b); SELECT crsql_as_crr('t');
         CREATE TABLE two (x INT NOT NULL, y TEXT NOT NULL COLLATE NOCASE, v, PRIMARY KEY (y, x)); SELECT crsql_as_crr('two');
         CREATE TABLE only (k BLOB PRIMARY KEY NOT NULL); SELECT crsql_as_crr('only');
         CREATE TABLE plain (id INTEGER PRIMARY KEY, a); SELECT crsql_as_crr('plain');
         CREATE TABLE packed (k TEXT PRIMARY KEY NOT NULL, a) WITHOUT ROWID; SELECT crsql_as_crr('packed');
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO t SELECT hex(i * 7919 % 1009), i, i % 3 FROM n;
         INSERT INTO plain SELECT b + 10 * a, k FROM t; INSERT INTO packed SELECT k, a FROM t;
         DELETE FROM t WHERE a BETWEEN 100 AND 300 OR a % 7 = 0;
         UPDATE t SET b = 'x' WHERE a % 5 = 0;
         INSERT INTO two SELECT a, 'K' || b, k FROM t WHERE a < 400; DELETE FROM two WHERE x < 50;
         INSERT INTO only SELECT CAST(k AS BLOB) FROM t WHERE a > 900;",
    )
    .unwrap();
    db.execute_batch(
        "INSERT INTO t VALUES ('late', 1, 2), ('later', 3, 4); DELETE FROM t WHERE k = 'late';
         UPDATE t SET a = 'again' WHERE k = 'later'; UPDATE two SET v = 0 WHERE x = 99",
    )
    .unwrap();
    db
}

const CHANGES: &str =
    "SELECT \"table\", pk, cid, quote(val), col_version, db_version, quote(site_id), cl, seq, site_version
    FROM crsql_changes ORDER BY \"table\", pk, cid";

fn changes(db: &Connection) -> Vec<String> {
    let mut select = db.prepare(CHANGES).unwrap();
    let rows = select.query_map([], |row| {
        Ok(format!(
            "{:?}",
            (0..10).map(|at| row.get::<_, rusqlite::types::Value>(at).unwrap()).collect::<Vec<_>>()
        ))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// What dumping tools do: the rows of each table in rowid order, without the rowids.
fn dumped(path: &Path) -> String {
    let db = Connection::open(path).unwrap();
    let entries = |kind: &str| -> Vec<(String, String)> {
        let mut select = db
            .prepare(&format!(
                "SELECT name, sql FROM sqlite_master WHERE {kind} AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            ))
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut script = String::from("BEGIN;\n");
    for (name, sql) in entries("type = 'table'") {
        let columns = text(
            &db,
            &format!(
                "SELECT group_concat('quote(\"' || name || '\")', '||'',''||') FROM pragma_table_info('{name}')"
            ),
        );
        let mut select = db.prepare(&format!("SELECT {columns} FROM \"{name}\"")).unwrap();
        let rows: Vec<String> =
            select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        script += &format!("{sql};\n");
        script.extend(rows.iter().map(|values| format!("INSERT INTO \"{name}\" VALUES ({values});\n")));
    }
    script.extend(entries("type <> 'table'").iter().map(|(_, sql)| format!("{sql};\n")));
    script + "COMMIT;"
}

fn restored(script: &str, path: &Path) {
    Connection::open(path).unwrap().execute_batch(script).unwrap();
}

#[test]
fn a_restored_dump_tells_the_same_changes() {
    let directory = Directory::new("dump");
    let source = populated(&directory.file("a.db"));
    let (before, digest) = (changes(&source), text(&source, "SELECT crsql_digest()"));
    assert!(before.len() > 1000);
    let script = dumped(&directory.file("a.db"));
    restored(&script, &directory.file("b.db"));
    let copy = open(&directory.file("b.db"));
    assert_eq!(text(&copy, "SELECT rowid FROM __crsql_canary"), "1", "the restore did renumber");
    assert!(changes(&copy) == before);
    assert_eq!(text(&copy, "SELECT crsql_digest()"), digest);
    assert_eq!(text(&copy, "SELECT crsql_doctor()"), "[]");
    assert_eq!(text(&copy, "SELECT rowid FROM __crsql_canary"), "7");
    // And everything goes on as on the original.
    for db in [&source, &copy] {
        db.execute_batch("UPDATE t SET b = 'y' WHERE a > 500; DELETE FROM two WHERE x = 60; INSERT INTO t VALUES ('late', 0, 0)")
            .unwrap();
    }
    assert!(changes(&copy) == changes(&source));
    assert_eq!(text(&copy, "SELECT crsql_doctor()"), "[]");
}

#[test]
fn a_write_may_be_what_a_connection_does_first() {
    let directory = Directory::new("write");
    let source = populated(&directory.file("a.db"));
    let script = dumped(&directory.file("a.db"));
    for (at, first) in [
        "INSERT INTO t VALUES ('new', 1, 1)",
        "DELETE FROM t WHERE a < 50",
        "REPLACE INTO t SELECT k, a, 'r' FROM t WHERE a > 900",
        "BEGIN; UPDATE two SET v = 'u'; DELETE FROM t WHERE k = 'later'; COMMIT",
        "INSERT INTO plain VALUES (-5, 0)",
    ]
    .iter()
    .enumerate()
    {
        let path = directory.file(&format!("{at}.db"));
        restored(&script, &path);
        let copy = open(&path);
        copy.execute_batch(first).unwrap();
        source
            .execute_batch(&format!("SAVEPOINT s; {first}").replace("BEGIN;", "").replace("COMMIT", ""))
            .unwrap();
        assert_eq!(text(&copy, "SELECT crsql_doctor()"), "[]", "{first}");
        let expected = changes(&source);
        assert!(changes(&copy) == expected, "{first}");
        source.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
    }
}

#[test]
fn the_shell_of_another_sqlite_dumps_and_restores() {
    let directory = Directory::new("shell");
    let source = populated(&directory.file("a.db"));
    let shell = |path: PathBuf, input: &str| -> Option<String> {
        let child = Command::new("sqlite3").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.ok()?;
        std::io::Write::write_all(&mut child.stdin.take()?, input.as_bytes()).ok()?;
        String::from_utf8(child.wait_with_output().ok()?.stdout).ok()
    };
    let Some(script) = shell(directory.file("a.db"), ".dump\n").filter(|script| !script.is_empty()) else {
        eprintln!("no sqlite3 shell here, so nothing was tested");
        return;
    };
    shell(directory.file("b.db"), &script).unwrap();
    let copy = open(&directory.file("b.db"));
    assert!(changes(&copy) == changes(&source));
    assert_eq!(text(&copy, "SELECT crsql_doctor()"), "[]");
    let kept = shell(directory.file("a.db"), ".dump --preserve-rowids\n").unwrap();
    shell(directory.file("c.db"), &kept).unwrap();
    let copy = open(&directory.file("c.db"));
    assert_eq!(text(&copy, "SELECT rowid FROM __crsql_canary"), "7");
    assert!(changes(&copy) == changes(&source));
}

#[test]
fn vacuum_in_place_and_into_another_file_keep_rowids() {
    let directory = Directory::new("vacuum");
    let source = populated(&directory.file("a.db"));
    let before = changes(&source);
    source.execute("VACUUM INTO ?1", [directory.file("b.db").to_str().unwrap()]).unwrap();
    source.execute_batch("VACUUM").unwrap();
    let copy = open(&directory.file("b.db"));
    for db in [&source, &copy, &open(&directory.file("a.db"))] {
        assert_eq!(text(db, "SELECT rowid FROM __crsql_canary"), "7");
        assert!(changes(db) == before);
        assert_eq!(text(db, "SELECT crsql_doctor()"), "[]");
    }
}

#[test]
fn a_restore_that_lost_rows_is_refused_with_a_reason() {
    let directory = Directory::new("lost");
    populated(&directory.file("a.db"));
    let script = dumped(&directory.file("a.db"));
    let at = script.find("INSERT INTO \"t\" ").unwrap();
    let end = at + script[at..].find('\n').unwrap();
    restored(&format!("{}{}", &script[..at], &script[end..]), &directory.file("b.db"));
    let copy = open(&directory.file("b.db"));
    for sql in
        ["UPDATE t SET a = 1", "SELECT count(*) FROM crsql_changes", "SELECT crsql_digest()", "DELETE FROM t"]
    {
        let error = message(&copy.execute_batch(sql).unwrap_err());
        assert!(error.starts_with("table \"t\" was restored from a dump"), "{sql}: {error}");
    }
    assert!(text(&copy, "SELECT crsql_doctor()").contains("restored from a dump"));
    assert_eq!(text(&copy, "SELECT rowid FROM __crsql_canary"), "1");
}

#[test]
fn a_read_only_connection_says_that_it_cannot_follow() {
    let directory = Directory::new("readonly");
    populated(&directory.file("a.db"));
    restored(&dumped(&directory.file("a.db")), &directory.file("b.db"));
    let reader =
        Connection::open_with_flags(directory.file("b.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    crsql::register(&reader).unwrap();
    assert!(text(&reader, "SELECT count(*) FROM crsql_changes").contains("open it writable once"));
    assert_eq!(text(&reader, "SELECT count(*) > 0 FROM t"), "1");
    let writer = open(&directory.file("b.db"));
    assert_eq!(text(&writer, "SELECT crsql_doctor()"), "[]");
    assert_eq!(text(&reader, "SELECT count(*) > 0 FROM crsql_changes"), "1");
}
