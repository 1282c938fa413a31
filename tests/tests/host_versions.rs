//! The loadable file in SQLites compiled from published sources: versions, compile options, kinds of database.
//!
//! Every one runs `tests/hosts/acceptance.sql` and must print the same. `CRSQL_HOSTS=all` fetches the sources and
//! runs all of it; otherwise the oldest and the newest version are run if their sources are already there.

use crsql_tests::TempDir;
use crsql_tests::extension::loadable;
use crsql_tests::hosts::{all_hosts, cache, driver, skipped, succeeds};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the source of a SQLite version has been published.
enum Source {
    /// In this version of the crate `libsqlite3-sys`.
    Crate(&'static str),
    /// In this version of the npm package `better-sqlite3`.
    Npm(&'static str),
}
use Source::{Crate, Npm};

const TOO_OLD: [(&str, Source); 2] = [("3.33.0", Crate("0.20.1")), ("3.34.0", Npm("7.1.2"))];

const OLDEST: (&str, Source) = ("3.35.2", Npm("7.1.4"));
const MIDDLE: (&str, Source) = ("3.45.0", Crate("0.28.0"));
const NEWEST: (&str, Source) = ("3.54.1", Crate("0.39.1"));

const BETWEEN: [(&str, Source); 11] = [
    ("3.35.4", Crate("0.22.2")),
    ("3.37.0", Crate("0.23.2")),
    ("3.38.2", Crate("0.24.2")),
    ("3.39.2", Crate("0.25.2")),
    ("3.41.2", Crate("0.26.0")),
    ("3.44.0", Crate("0.27.0")),
    ("3.46.0", Crate("0.30.1")),
    ("3.49.1", Crate("0.33.0")),
    ("3.50.2", Crate("0.35.0")),
    ("3.51.3", Crate("0.37.0")),
    ("3.53.2", Crate("0.38.2")),
];

/// What hosts compile SQLite with. The last is the set that SQLite's own documentation recommends.
const OPTIONS: [&str; 21] = [
    "-DSQLITE_THREADSAFE=0",
    "-DSQLITE_THREADSAFE=2",
    "-DSQLITE_DQS=0",
    "-DSQLITE_OMIT_DEPRECATED",
    "-DSQLITE_OMIT_SHARED_CACHE",
    "-DSQLITE_OMIT_DECLTYPE",
    "-DSQLITE_OMIT_PROGRESS_CALLBACK",
    "-DSQLITE_OMIT_AUTOINIT",
    "-DSQLITE_OMIT_AUTHORIZATION",
    "-DSQLITE_OMIT_JSON",
    "-DSQLITE_OMIT_TRACE",
    "-DSQLITE_OMIT_WAL",
    "-DSQLITE_DEFAULT_PAGE_SIZE=512",
    "-DSQLITE_DEFAULT_PAGE_SIZE=65536",
    "-DSQLITE_DEFAULT_FOREIGN_KEYS=1",
    "-DSQLITE_DEFAULT_RECURSIVE_TRIGGERS=1",
    "-DSQLITE_TRUSTED_SCHEMA=0",
    "-DSQLITE_STRICT_SUBTYPE=1",
    "-DSQLITE_UNTESTABLE",
    "-DSQLITE_ENABLE_API_ARMOR",
    "-DSQLITE_DQS=0 -DSQLITE_THREADSAFE=0 -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_DEFAULT_WAL_SYNCHRONOUS=1 \
     -DSQLITE_LIKE_DOESNT_MATCH_BLOBS -DSQLITE_MAX_EXPR_DEPTH=0 -DSQLITE_OMIT_DECLTYPE -DSQLITE_OMIT_DEPRECATED \
     -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_USE_ALLOCA -DSQLITE_STRICT_SUBTYPE=1 \
     -DSQLITE_OMIT_AUTOINIT",
];

const ENCODINGS: [&str; 3] = ["UTF-8", "UTF-16le", "UTF-16be"];
const PAGE_SIZES: [u32; 3] = [512, 4096, 65536];
const JOURNALS: [&str; 4] = ["delete", "wal", "memory", "truncate"];

/// The directory that holds `sqlite3.c` of a version, fetched if all hosts are wanted.
fn source(version: &str, source: &Source) -> Result<PathBuf, String> {
    let directory = cache(&format!("sqlite-{version}"))?;
    if directory.join("sqlite3.h").exists() {
        return Ok(directory);
    }
    if !all_hosts() {
        return Err(format!("no source of SQLite {version}; CRSQL_HOSTS=all fetches it"));
    }
    match source {
        Crate(release) => fetch_crate(release, &directory)?,
        Npm(release) => fetch_npm(release, &directory)?,
    }
    let header = std::fs::read_to_string(directory.join("sqlite3.h")).map_err(|error| error.to_string())?;
    match header.contains(&format!("\"{version}\"")) {
        true => Ok(directory),
        false => Err(format!("{} is not SQLite {version}", directory.display())),
    }
}

/// Cargo fetches and checks the crate; its sources stay in cargo's home.
fn fetch_crate(release: &str, directory: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = format!("libsqlite3-sys@{release}");
    succeeds(Path::new(&cargo), &["info", "--quiet", "--registry", "crates-io", &package])?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).ok_or("no home directory")?;
    let registries = std::fs::read_dir(home.join("registry/src")).map_err(|error| error.to_string())?;
    let found = registries
        .flatten()
        .map(|registry| registry.path().join(format!("libsqlite3-sys-{release}/sqlite3")))
        .find(|sources| sources.join("sqlite3.c").exists())
        .ok_or_else(|| format!("cargo info has not unpacked {package}"))?;
    // The header comes last: it says that the directory is complete.
    for file in ["sqlite3.c", "sqlite3.h"] {
        std::fs::copy(found.join(file), directory.join(file)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn fetch_npm(release: &str, directory: &Path) -> Result<(), String> {
    let to = directory.to_string_lossy();
    let package = format!("better-sqlite3@{release}");
    succeeds(Path::new("npm"), &["pack", "--silent", "--pack-destination", &to, &package])?;
    let archive = directory.join(format!("better-sqlite3-{release}.tgz"));
    succeeds(Path::new("tar"), &["xzf", &archive.to_string_lossy(), "-C", &to])?;
    let inner = directory.join("package/deps/sqlite3.tar.gz");
    succeeds(Path::new("tar"), &["xzf", &inner.to_string_lossy(), "-C", &to, "sqlite3.c", "sqlite3.h"])
}

/// Compiles the driver with a SQLite and options. The program vanishes with the directory.
fn compile(sources: &Path, options: &str, directory: &TempDir) -> Result<PathBuf, String> {
    let program = directory.join("driver");
    let mut command = Command::new("cc");
    command.args(["-O0", "-w", "-o"]).arg(&program).arg("-I").arg(sources).args(options.split_whitespace());
    command.arg(driver("driver.c")).arg(sources.join("sqlite3.c")).args(["-lpthread", "-ldl", "-lm"]);
    let output = command.output().map_err(|error| format!("cannot run cc: {error}"))?;
    match output.status.success() {
        true => Ok(program),
        false => Err(format!("cc {options}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// What the acceptance prints on a database with these pragmas, or why it ended early.
fn accept(program: &Path, pragmas: &[String]) -> Result<String, String> {
    let directory = TempDir::new();
    let mut command = Command::new(program);
    command.arg(loadable()?).arg(driver("acceptance.sql")).arg(directory.path()).args(pragmas);
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(printed),
        false => {
            let messages = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: {} after\n{printed}", output.status, messages.trim()))
        }
    }
}

/// The acceptance on a version with options, against what the newest version prints.
fn assert_accepted(version: &str, sources: &Path, options: &str, expected: &str) {
    let directory = TempDir::new();
    let printed = compile(sources, options, &directory).and_then(|program| accept(&program, &[]));
    let printed = printed.unwrap_or_else(|error| panic!("SQLite {version} {options}: {error}"));
    assert_eq!(printed, expected, "SQLite {version} {options}");
}

/// The newest version's sources and what the acceptance prints there. The script itself compares its two replicas
/// and asks the doctor.
fn newest() -> Result<(PathBuf, String), String> {
    let sources = source(NEWEST.0, &NEWEST.1)?;
    let directory = TempDir::new();
    let program = compile(&sources, "", &directory)?;
    let printed = accept(&program, &[]).unwrap_or_else(|error| panic!("SQLite {}: {error}", NEWEST.0));
    assert!(printed.ends_with("\n[]\nok\n"), "{printed}");
    Ok((sources, printed))
}

#[test]
fn the_oldest_and_the_newest_sqlite_print_the_same() {
    match newest().and_then(|(_, expected)| Ok((source(OLDEST.0, &OLDEST.1)?, expected))) {
        Err(reason) => skipped("oldest and newest SQLite", &reason),
        Ok((oldest, expected)) => assert_accepted(OLDEST.0, &oldest, "", &expected),
    }
}

#[test]
fn every_published_version_prints_the_same() {
    let name = "SQLite versions";
    if !all_hosts() {
        return skipped(name, "CRSQL_HOSTS=all fetches, compiles and runs them");
    }
    let (_, expected) = newest().unwrap_or_else(|error| panic!("{name}: {error}"));
    for (version, published) in BETWEEN.iter().chain([&MIDDLE]) {
        let sources = source(version, published).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_accepted(version, &sources, "", &expected);
    }
}

#[test]
fn real_versions_before_the_oldest_supported_are_refused_with_a_sentence() {
    let name = "SQLite versions that are too old";
    if !all_hosts() {
        return skipped(name, "CRSQL_HOSTS=all fetches, compiles and runs them");
    }
    for (version, published) in &TOO_OLD {
        let sources = source(version, published).unwrap_or_else(|error| panic!("{name}: {error}"));
        let directory = TempDir::new();
        let program = compile(&sources, "", &directory).unwrap_or_else(|error| panic!("{version}: {error}"));
        let refusal = accept(&program, &[]).expect_err(version);
        let sentence = format!("crsql needs SQLite 3.34.1 or later, but this program has {version}");
        assert!(refusal.contains(&sentence) && refusal.starts_with("exit status: 1"), "{refusal}");
    }
}

#[test]
fn a_host_without_the_list_of_functions_is_refused_with_a_sentence() {
    let name = "SQLite without pragma_function_list";
    if !all_hosts() {
        return skipped(name, "CRSQL_HOSTS=all compiles and runs it");
    }
    let sources = source(NEWEST.0, &NEWEST.1).unwrap_or_else(|error| panic!("{name}: {error}"));
    for option in ["SQLITE_OMIT_SCHEMA_PRAGMAS", "SQLITE_OMIT_INTROSPECTION_PRAGMAS"] {
        let directory = TempDir::new();
        let program = compile(&sources, &format!("-D{option}"), &directory).expect(option);
        let refusal = accept(&program, &[]).expect_err(option);
        assert!(refusal.contains("has no pragma_function_list; compile it without"), "{refusal}");
        assert!(refusal.contains(option), "{refusal}");
    }
}

#[test]
fn hosts_with_options_that_programs_use_print_the_same() {
    let name = "SQLite compile options";
    if !all_hosts() {
        return skipped(name, "CRSQL_HOSTS=all compiles and runs them");
    }
    let (newest_sources, expected) = newest().unwrap_or_else(|error| panic!("{name}: {error}"));
    let middle = source(MIDDLE.0, &MIDDLE.1).unwrap_or_else(|error| panic!("{name}: {error}"));
    for options in OPTIONS {
        assert_accepted(NEWEST.0, &newest_sources, options, &expected);
        assert_accepted(MIDDLE.0, &middle, options, &expected);
    }
}

#[test]
fn databases_of_every_kind_print_the_same_in_the_middle_and_the_newest_sqlite() {
    let name = "kinds of database";
    if !all_hosts() {
        return skipped(name, "CRSQL_HOSTS=all compiles and runs them");
    }
    let (newest_sources, expected) = newest().unwrap_or_else(|error| panic!("{name}: {error}"));
    let middle = source(MIDDLE.0, &MIDDLE.1).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (version, sources) in [(NEWEST.0, newest_sources), (MIDDLE.0, middle)] {
        let directory = TempDir::new();
        let program = compile(&sources, "", &directory).unwrap_or_else(|error| panic!("{version}: {error}"));
        for encoding in ENCODINGS {
            for page_size in PAGE_SIZES {
                for journal in JOURNALS {
                    let pragmas = [
                        format!("PRAGMA encoding = '{encoding}'"),
                        format!("PRAGMA page_size = {page_size}"),
                        format!("PRAGMA journal_mode = {journal}"),
                    ];
                    let printed = accept(&program, &pragmas);
                    let printed =
                        printed.unwrap_or_else(|error| panic!("SQLite {version} {pragmas:?}: {error}"));
                    assert_eq!(printed, expected, "SQLite {version} {pragmas:?}");
                }
            }
        }
    }
}

#[test]
fn valgrind_finds_no_error_and_no_leak_in_the_newest_sqlite() {
    let name = "valgrind";
    if !all_hosts() {
        return skipped(name, "CRSQL_HOSTS=all runs it");
    }
    let valgrind = Path::new("valgrind");
    if let Err(reason) = succeeds(valgrind, &["--version"]) {
        return skipped(name, &reason);
    }
    let sources = source(NEWEST.0, &NEWEST.1).unwrap_or_else(|error| panic!("{name}: {error}"));
    let directory = TempDir::new();
    // Without SQLite's own pool of small allocations, so that valgrind sees each of them.
    let program = compile(&sources, "-g -DSQLITE_DEFAULT_LOOKASIDE=0,0", &directory).expect("compiles");
    let extension = loadable().expect("the extension builds");
    let mut arguments = vec!["--quiet", "--error-exitcode=9", "--leak-check=full"];
    let script = driver("acceptance.sql");
    let paths = [program.as_path(), &extension, &script, directory.path()].map(Path::to_string_lossy);
    arguments.extend(paths.iter().map(AsRef::as_ref));
    succeeds(valgrind, &arguments).unwrap_or_else(|error| panic!("{error}"));
}
