//! The most memory a transaction takes, measured in a child process of its own, so that what earlier work left
//! in the allocator hides nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

use super::merge::{all_changes, changeset_of, load_incoming};
use super::{Measure, Metric, measure};
use crate::changes::Recipe;
use crate::contenders::Kind;
use crate::database::{Failure, Result};
use crate::stage::{Round, insert as insert_rows};

pub fn insert(round: &Round<'_>) -> Result<Vec<Measure>> {
    let rows: Vec<_> = round.data.rows.iter().collect();
    peak(|| round.empty(), |replica| insert_rows(replica, round.data.keys, &rows, usize::MAX))
}

pub fn update(round: &Round<'_>) -> Result<Vec<Measure>> {
    // Prefilled here, so that the child only copies a file.
    drop(round.filled()?);
    peak(|| round.filled(), |replica| replica.database.exec("UPDATE t SET b = b + 1"))
}

pub fn apply(round: &Round<'_>) -> Result<Vec<Measure>> {
    match round.contender.kind {
        Kind::Plain => insert(round),
        Kind::Session => {
            let source = round.empty()?;
            let rows: Vec<_> = round.data.rows.iter().collect();
            insert_rows(&source, round.data.keys, &rows, usize::MAX)?;
            let changeset = source.session()?.changeset()?;
            peak(|| round.empty_plain(), |target| changeset.apply(&target.database))
        }
        Kind::Triggers | Kind::Peer(..) => Err(Failure::NotApplicable),
        Kind::Static | Kind::Loaded(_) => {
            let blob = changeset_of(&round.filled()?)?;
            peak(
                || round.empty(),
                |target| {
                    let mut apply = target.database.prepare("SELECT crsql_apply(?1)")?;
                    apply.bind_blob(1, &blob);
                    apply.run()
                },
            )
        }
    }
}

pub fn merge(round: &Round<'_>) -> Result<Vec<Measure>> {
    if round.contender.kind == Kind::Plain {
        return insert(round);
    }
    round.replicating()?;
    let changes = all_changes(round, Recipe::Visible)?;
    peak(
        || {
            let target = round.empty()?;
            let sql = load_incoming(&target, &changes)?;
            Ok((target, sql))
        },
        |(target, sql)| target.database.exec(sql),
    )
}

/// Prepares and works in a forked child and returns what the work added, at its peak, to the resident size.
fn peak<T>(prepare: impl FnOnce() -> Result<T>, work: impl FnOnce(&T) -> Result<()>) -> Result<Vec<Measure>> {
    let mut ends = [0; 2];
    // SAFETY: this program has one thread, so a forked child may go on using everything; the pipe's two ends
    // are owned by the `File`s made from them and by nothing else.
    let (mut reader, writer, child) = unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]), libc::fork())
    };
    if child == 0 {
        drop(reader);
        report(writer, || {
            let prepared = prepare()?;
            let before = start_counting()?;
            work(&prepared)?;
            Ok(status_bytes("VmHWM:")?.saturating_sub(before))
        });
    }
    drop(writer);
    if child < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let mut answer = String::new();
    reader.read_to_string(&mut answer)?;
    // SAFETY: the child is ours, and its status is of no interest beyond what it wrote.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    match answer.split_once(' ') {
        Some(("peak", bytes)) => {
            let bytes: f64 = bytes.parse().map_err(|error| format!("{error}"))?;
            Ok(vec![measure(Metric::Memory, bytes)])
        }
        Some(("failed", reason)) => Err(reason.to_string().into()),
        _ => Err("the child that measures memory died".to_string().into()),
    }
}

/// The child's life: measure, tell the parent, go without running the parent's destructors.
fn report(mut writer: File, work: impl FnOnce() -> Result<u64>) -> ! {
    let answer = match work() {
        Ok(bytes) => format!("peak {bytes}"),
        Err(Failure::NotApplicable) => "failed not applicable".to_string(),
        Err(Failure::Failed(reason)) => format!("failed {reason}"),
    };
    // Without an answer the parent reports that the child died.
    let _ = writer.write_all(answer.as_bytes());
    drop(writer);
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// Gives free memory back, so that work which needs it again is seen to, forgets the peak so far, and returns
/// the resident size.
fn start_counting() -> Result<u64> {
    // SAFETY: takes no pointer and keeps what is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    // "5" resets the peak; see proc(5).
    std::fs::write("/proc/self/clear_refs", "5")?;
    status_bytes("VmRSS:")
}

fn status_bytes(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok());
    let kilobytes: u64 = kilobytes.ok_or_else(|| format!("/proc/self/status has no {field}"))?;
    Ok(kilobytes * 1024)
}
