//! Notices commits of other connections and processes: by the operating system's word that the file or its
//! write-ahead log was written.

use std::path::Path;

use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::absolute;
use super::engine::Command;

/// How long nothing is looked at after an event.
const REST: std::time::Duration = std::time::Duration::from_millis(1);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    /// None where the system can't watch; then the slow poll of the database thread has to do.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Watcher {
    /// Watches the database at `path`.
    ///
    /// The directory is watched and not the file, because the log comes and goes.
    pub fn new(path: &Path, commands: mpsc::Sender<Command>) -> Watcher {
        let path = absolute(path);
        let Some(directory) = path.parent().map(Path::to_path_buf) else { return Watcher { _watcher: None } };
        let Some(name) = path.file_name().map(|name| name.to_os_string()) else {
            return Watcher { _watcher: None };
        };
        let concerns = move |event: &Event| {
            let is_write = !matches!(event.kind, EventKind::Access(_));
            is_write
                && event.paths.iter().any(|path| {
                    let of = path.file_name().unwrap_or_default().as_encoded_bytes();
                    let rest = of.strip_prefix(name.as_encoded_bytes());
                    matches!(rest, Some(b"" | b"-wal" | b"-journal"))
                })
        };
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().is_ok_and(&concerns) {
                // If the queue is full, the thread is busy and will look anyway.
                commands.try_send(Command::Look).ok();
            }
            // A large commit is thousands of writes, and equal events become one while nobody takes them.
            std::thread::sleep(REST);
        });
        let watcher = watcher.ok().and_then(|mut watcher| {
            watcher.watch(&directory, RecursiveMode::NonRecursive).ok()?;
            Some(watcher)
        });
        Watcher { _watcher: watcher }
    }
}
