//! `crsql-server doctor`: looks through a relay's data, or through one database file, and says what is wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rusqlite::{Connection, OpenFlags};

/// What `crsql-server doctor` takes.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// The directory of a relay, running or not, or a database file
    #[arg(default_value = "data")]
    pub path: PathBuf,
}

/// Looks through all of it. Exit code 0: nothing is wrong; 1: something is.
pub fn main(flags: &Flags) -> ExitCode {
    let mut files = Vec::new();
    match flags.path.is_dir() {
        true => collect(&flags.path, &mut files),
        false => files.push(flags.path.clone()),
    }
    if files.is_empty() {
        eprintln!("crsql-server: there is no database in {}", flags.path.display());
        return ExitCode::FAILURE;
    }
    files.sort();
    let mut is_sound = true;
    for file in files {
        let problems = problems(&file).unwrap_or_else(|error| vec![error]);
        is_sound &= problems.is_empty();
        match problems.is_empty() {
            true => println!("{}: sound", file.display()),
            false => problems.iter().for_each(|problem| println!("{}: {problem}", file.display())),
        }
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            // Copies that are being sent come and go.
            if path.file_name().is_some_and(|name| name != "snapshots") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|ending| ending == "db") {
            files.push(path);
        }
    }
}

fn problems(file: &Path) -> Result<Vec<String>, String> {
    let told = |error: rusqlite::Error| error.to_string();
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(told)?;
    conn.busy_timeout(std::time::Duration::from_secs(10)).map_err(told)?;
    let mut select = conn.prepare("PRAGMA integrity_check").map_err(told)?;
    let lines = select.query_map([], |row| row.get::<_, String>(0)).map_err(told)?;
    let mut problems: Vec<String> = lines.collect::<Result<_, _>>().map_err(told)?;
    problems.retain(|line| line != "ok");
    let is_replica = conn.table_exists(Some("main"), "__crsql_state").map_err(told)?;
    if is_replica && problems.is_empty() {
        crsql::register(&conn).map_err(|error| error.to_string())?;
        let found: String = conn.query_row("SELECT crsql_doctor()", [], |row| row.get(0)).map_err(told)?;
        let found: Vec<serde_json::Value> =
            serde_json::from_str(&found).map_err(|error| error.to_string())?;
        problems.extend(found.iter().map(serde_json::Value::to_string));
    }
    Ok(problems)
}
