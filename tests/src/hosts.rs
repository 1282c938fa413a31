//! What tests need to run the extension in other programs.

use crate::extension::target_directory;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether a host that is missing is a failure, and may be fetched: `CRSQL_HOSTS=all`.
pub fn all_hosts() -> bool {
    std::env::var("CRSQL_HOSTS").is_ok_and(|hosts| hosts == "all")
}

/// Says that something was not tested, on standard error past the capture of test output; with
/// `CRSQL_HOSTS=all` it is a failure.
pub fn skipped(name: &str, reason: &str) {
    assert!(!all_hosts(), "{name}: {reason}");
    writeln!(std::io::stderr(), "skipped: {name}: {reason}").expect("standard error");
}

/// A file of `tests/hosts`.
pub fn driver(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts").join(name)
}

/// A directory for what hosts need, kept between runs.
pub fn cache(name: &str) -> Result<PathBuf, String> {
    let directory = target_directory()?.join("hosts").join(name);
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    Ok(directory)
}

/// Runs a program that must end well; otherwise answers the last lines of its messages.
pub fn succeeds(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last: Vec<&str> = errors.lines().rev().take(3).collect();
            Err(format!("{} {arguments:?} failed: {}", program.display(), last.join(" / ")))
        }
    }
}
