//! Building the loadable extension, as `cargo ext` does.

use crate::Outcome;
use crate::show::{bytes, line, time};
use std::path::PathBuf;
use std::time::Instant;

/// Builds the extension and gives its file.
pub fn build() -> Outcome<PathBuf> {
    line("cargo ext builds the loadable extension; the first time takes a minute.");
    let started = Instant::now();
    let path = crsql_tests::extension::build(true)?;
    let size = std::fs::metadata(&path)
        .map_err(|error| format!("no extension at {}: {error}", path.display()))?
        .len();
    line(&format!("{}: {}, {}", path.display(), bytes(size as usize), time(started.elapsed())));
    Ok(path)
}
