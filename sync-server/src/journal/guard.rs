//! Notices that a journal was restored from a copy.
//!
//! Positions that were given away before the restore are given away again after it, for other things, so the rooms of a
//! restored journal need new epochs. Beside each journal lies a small file that is written anew at every start, and the
//! journal remembers which file that was and when it was last changed. A copy brings either another file or another
//! time of change, which no tool can set back. What this cannot notice (a volume set back as a whole) is what
//! `--new-epoch` is for.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

/// What is remembered of the guard file: device, inode, time of change.
type Mark = (i64, i64, i64, i64);

/// Whether the journal goes on where it stopped.
pub fn is_continuous(connection: &Connection, path: &Path) -> rusqlite::Result<bool> {
    let remembered: Option<Mark> = connection
        .query_row("SELECT dev, ino, seconds, nanoseconds FROM guard", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    Ok(remembered.is_some() && remembered == mark(path).ok())
}

/// Writes the guard file anew and remembers it.
pub fn renew(connection: &Connection, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let fresh = path.with_extension("guard-new");
    let mut file = File::create(&fresh)?;
    writeln!(file, "Do not copy or restore: by this file crsql-server notices that its data was restored.")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let (dev, ino, seconds, nanoseconds) = mark(path)?;
    connection.execute_batch("DELETE FROM guard")?;
    connection
        .execute("INSERT INTO guard VALUES (?1, ?2, ?3, ?4)", params![dev, ino, seconds, nanoseconds])?;
    Ok(())
}

fn mark(path: &Path) -> std::io::Result<Mark> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.dev() as i64, meta.ino() as i64, meta.ctime(), meta.ctime_nsec()))
}
