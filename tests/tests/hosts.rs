//! The same loadable file in every host: the sqlite3 shell, a C program, Python, apsw, Node, a Rust program.
//!
//! What a machine lacks is skipped with a line on standard error. `CRSQL_HOSTS=all` makes a missing host a failure.

use crsql_tests::extension::loadable;
use crsql_tests::hosts::{cache, driver, skipped, succeeds};
use crsql_tests::{Site, TempDir, assert_converged, site};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SCHEMA: [&str; 4] = [
    "CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, done INT DEFAULT 0)",
    "CREATE TABLE tag (name TEXT COLLATE NOCASE NOT NULL, todo INT NOT NULL, color BLOB, PRIMARY KEY (todo, name)) WITHOUT ROWID",
    "SELECT crsql_as_crr('todo')",
    "SELECT crsql_as_crr('tag')",
];

/// A host: makes the command that runs statements from standard input on a database.
struct Host {
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// The sqlite3 shell loads by a dot command instead of an argument.
    is_shell: bool,
}

impl Host {
    fn new(program: impl Into<PathBuf>, arguments: &[PathBuf]) -> Host {
        Host { program: program.into(), arguments: arguments.to_vec(), is_shell: false }
    }

    fn run(&self, entry: &str, database: &Path, statements: &[String]) -> Vec<String> {
        let extension = loadable().expect("the extension builds");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let mut script = String::new();
        if self.is_shell {
            command.args(["-batch", "-bail"]).arg(database);
            script.push_str(&format!(".nullvalue NULL\n.load {} {entry}\n", extension.display()));
        } else {
            command.arg(&extension).arg(entry).arg(database);
        }
        for statement in statements {
            script.push_str(&statement.replace('\n', " "));
            script.push_str(if self.is_shell { ";\n" } else { "\n" });
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", self.program));
        child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("the host reads");
        let output = child.wait_with_output().expect("the host ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?} {}: {errors}", self.program, output.status);
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_string).collect()
    }
}

/// Two sessions of the host on one file, exchanging with a replica of this program.
fn assert_replicates(host: &Host) {
    let dir = TempDir::new();
    let database = dir.join("host.db");
    let hub = site(&SCHEMA.join(";"));
    let mut first: Vec<String> = SCHEMA.map(String::from).to_vec();
    for sql in [
        "INSERT INTO todo VALUES (1, 'milk', 0), (2, 'it''s ''quoted'' and ünïcode 🦀', 1)",
        "INSERT INTO tag VALUES ('Red', 1, x'ff0000'), ('blue', 1, NULL)",
        "BEGIN",
        "UPDATE todo SET done = 1 WHERE id = 1",
        "SAVEPOINT s",
        "DELETE FROM todo",
        "ROLLBACK TO s",
        "COMMIT",
        "INSERT OR REPLACE INTO tag VALUES ('BLUE', 1, x'0000ff')",
        "SELECT count(*), max(db_version) FROM crsql_changes",
        "SELECT hex(crsql_changeset())",
    ] {
        first.push(sql.to_string());
    }
    let answers = host.run("sqlite3_crsql_init", &database, &first);
    assert_eq!(answers[answers.len() - 2], "8|4", "{answers:?}");
    apply_hex(&hub, &answers[answers.len() - 1]);
    assert_eq!(
        hub.rows("SELECT name, color FROM tag ORDER BY name"),
        ["'BLUE'|x'0000ff'", "'Red'|x'ff0000'"]
    );

    hub.exec("UPDATE todo SET title = 'oat milk' WHERE id = 1; DELETE FROM tag WHERE name = 'red'; INSERT INTO todo VALUES (3, 'from the hub', 0)");
    let changeset = hub.text("SELECT hex(crsql_changeset())");
    let second = [
        format!("SELECT crsql_apply(x'{changeset}')"),
        "UPDATE todo SET done = 5 WHERE id = 3".to_string(),
        "SELECT group_concat(title, ',') FROM (SELECT title FROM todo ORDER BY id)".to_string(),
        "SELECT hex(crsql_changeset())".to_string(),
        "SELECT crsql_digest()".to_string(),
        "SELECT crsql_doctor()".to_string(),
    ];
    let answers = host.run("sqlite3_crsqlite_init", &database, &second);
    let [.., titles, changeset, digest, doctor] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(titles, "oat milk,it's 'quoted' and ünïcode 🦀,from the hub");
    assert_eq!(doctor, "[]");
    apply_hex(&hub, changeset);
    assert_eq!(*digest, hub.digest());
    assert_converged(&[&hub, &Site::open(&database)]);
}

fn apply_hex(hub: &Site, hex: &str) {
    let report = hub.text(&format!("SELECT crsql_apply(x'{hex}')"));
    assert!(report.contains("\"refused\":[]"), "{report}");
}

/// Runs the test with a host, or says why not.
fn with_host(name: &str, host: Result<Host, String>) {
    match host {
        Ok(host) => assert_replicates(&host),
        Err(reason) => skipped(name, &reason),
    }
}

#[test]
fn the_sqlite3_shell_replicates() {
    let shell = PathBuf::from("sqlite3");
    let found = succeeds(&shell, &["--version"]);
    with_host("sqlite3 shell", found.map(|()| Host { is_shell: true, ..Host::new(shell, &[]) }));
}

#[test]
fn a_python_program_with_the_standard_sqlite3_replicates() {
    let can_load = ["-c", "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)"];
    let pythons = ["/usr/bin/python3", "python3"].map(PathBuf::from);
    let found = pythons.iter().find(|python| succeeds(python, &can_load).is_ok());
    let found = found.ok_or_else(|| "no python3 whose sqlite3 can load extensions".to_string());
    with_host("python sqlite3", found.map(|python| Host::new(python, &[driver("host.py")])));
}

#[test]
fn apsw_with_the_newest_sqlite_replicates() {
    let find = || {
        let environment = cache("apsw")?;
        let python = environment.join("bin").join("python");
        if succeeds(&python, &["-c", "import apsw"]).is_err() {
            succeeds(Path::new("/usr/bin/python3"), &["-m", "venv", &environment.to_string_lossy()])?;
            succeeds(&python, &["-m", "pip", "install", "--quiet", "apsw"])?;
        }
        Ok(Host::new(python, &[driver("host.py")]))
    };
    with_host("apsw", find());
}

#[test]
fn node_with_its_own_sqlite_replicates() {
    let has_sqlite = ["-e", "require('node:sqlite')"];
    let find = || {
        let mut node = PathBuf::from("node");
        if succeeds(&node, &has_sqlite).is_err() {
            // An older Node: its package manager can fetch a newer one.
            let directory = cache("node")?;
            node = directory.join("node_modules").join("node").join("bin").join("node");
            if succeeds(&node, &has_sqlite).is_err() {
                npm_install(&directory, "node@24")?;
            }
        }
        Ok(Host::new(node, &[driver("host_node.mjs")]))
    };
    with_host("node:sqlite", find());
}

#[test]
fn node_with_better_sqlite3_replicates() {
    let find = || {
        let directory = cache("better-sqlite3")?;
        let program = directory.join("host_better.cjs");
        std::fs::copy(driver("host_better.cjs"), &program).map_err(|error| error.to_string())?;
        let node = PathBuf::from("node");
        let module = directory.join("node_modules").join("better-sqlite3");
        let can_load = format!("new (require({:?}))(':memory:')", module.to_string_lossy());
        if succeeds(&node, &["-e", &can_load]).is_err() {
            npm_install(&directory, "better-sqlite3@12")?;
            succeeds(&node, &["-e", &can_load])?;
        }
        Ok(Host::new(node, &[program]))
    };
    with_host("better-sqlite3", find());
}

fn npm_install(directory: &Path, package: &str) -> Result<(), String> {
    let prefix = directory.to_string_lossy();
    succeeds(Path::new("npm"), &["install", "--no-audit", "--no-fund", "--prefix", &prefix, package])
}

fn c_host() -> Result<Host, String> {
    let program = cache("c")?.join("host");
    let source = driver("host.c");
    let compile = ["-o", &program.to_string_lossy(), &source.to_string_lossy(), "-lsqlite3", "-ldl"];
    succeeds(Path::new("cc"), &compile)?;
    Ok(Host::new(program, &[]))
}

#[test]
fn a_c_program_replicates_and_closes_with_plain_sqlite3_close() {
    with_host("C program with libsqlite3", c_host());
}

#[test]
fn a_host_older_than_supported_is_refused_with_a_sentence() {
    match c_host() {
        Err(reason) => writeln!(std::io::stderr(), "skipped: old host: {reason}").expect("standard error"),
        Ok(host) => {
            for entry in ["sqlite3_crsql_init", "sqlite3_crsqlite_init"] {
                let answer = host.run(entry, Path::new("--old"), &[]).join(" ");
                assert!(answer.contains("3.34.0") && answer.contains("3.34.1"), "{answer}");
            }
        }
    }
}

#[test]
fn a_rust_program_loads_the_same_file() {
    let extension = loadable().expect("the extension builds");
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    // SAFETY: the file is the extension just built, and nothing else runs on this connection yet.
    unsafe {
        conn.load_extension_enable().unwrap();
        conn.load_extension(&extension, None::<&str>).expect("the entry point follows from the file's name");
        conn.load_extension_disable().unwrap();
    }
    conn.execute_batch(&SCHEMA.join(";")).unwrap();
    conn.execute_batch("INSERT INTO todo VALUES (1, 'loaded', 0)").unwrap();
    let hub = site(&SCHEMA.join(";"));
    let changeset: Vec<u8> = conn.query_row("SELECT crsql_changeset()", [], |row| row.get(0)).unwrap();
    hub.apply(&changeset);
    assert_eq!(hub.rows("SELECT title FROM todo"), ["'loaded'"]);
    if let Err((_, error)) = conn.close() {
        panic!("sqlite3_close answered: {error}");
    }
}

#[test]
fn the_loadable_file_exports_its_entry_points_and_little_else() {
    let extension = loadable().expect("the extension builds");
    let listed = Command::new("nm").args(["-D", "--defined-only"]).arg(&extension).output();
    let Ok(listed) = listed else {
        return writeln!(std::io::stderr(), "skipped: exported symbols: no nm").expect("standard error");
    };
    let symbols = String::from_utf8_lossy(&listed.stdout).into_owned();
    for entry in ["sqlite3_crsql_init", "sqlite3_crsqlite_init"] {
        assert!(symbols.contains(&format!(" T {entry}")), "{entry} is missing:\n{symbols}");
    }
    assert!(!symbols.contains("sqlite3_open"), "SQLite itself is not inside");
}
