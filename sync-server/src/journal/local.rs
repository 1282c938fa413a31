//! The embedded journal: shared SQLite files, each with a writer of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use crsql_core::ids::SiteId;
use crsql_protocol::message::{Cursor, Frame, Head};
use crsql_protocol::wire::Chain;
use rusqlite::{Connection, OptionalExtension, params};

use super::writer::Writer;
use super::{
    Append, Entry, Found, Holding, Journal, JournalError, Listener, Opened, RoomKey, Trimmed, find, guard,
    read, rows,
};
use crate::metrics::Metrics;
use crate::random;

/// Who listens to which room.
pub(super) type Listeners = RwLock<HashMap<i64, Weak<dyn Listener>>>;

/// Journals in the files `journal-<n>.db` of one directory.
pub struct Local {
    files: Vec<JournalFile>,
}

struct JournalFile {
    number: usize,
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
    listeners: Arc<Listeners>,
    broken: Arc<AtomicBool>,
}

impl Local {
    /// Opens the journals of a directory; at least `count` of them. With `new_epoch` all positions given away
    /// before are void.
    pub fn open(
        directory: &Path,
        count: usize,
        new_epoch: bool,
        metrics: Arc<Metrics>,
    ) -> Result<Local, JournalError> {
        // Rooms stay in the journal they were made in, so a smaller number takes none away.
        let existing = (0..).take_while(|number| file_of(directory, *number).exists()).count();
        let numbers = 0..count.max(existing);
        let files = numbers.map(|number| JournalFile::open(directory, number, new_epoch, &metrics));
        Ok(Local { files: files.collect::<Result<_, _>>()? })
    }

    fn file(&self, room: RoomKey) -> &JournalFile {
        &self.files[room.journal]
    }
}

impl Journal for Local {
    fn open(&self, room: &str, create: Option<u8>) -> Result<Option<Opened>, JournalError> {
        for file in &self.files {
            if let Some(opened) = file.with(|connection| find_room(connection, file.number, room))? {
                return Ok(Some(opened));
            }
        }
        let Some(tie_break) = create else { return Ok(None) };
        let hash = blake3::hash(room.as_bytes());
        let file = &self.files[usize::from(hash.as_bytes()[0]) % self.files.len()];
        file.writer.create(room, random::u64(), tie_break)?;
        file.with(|connection| find_room(connection, file.number, room))
    }

    fn rooms(&self) -> Result<Vec<String>, JournalError> {
        let mut rooms = Vec::new();
        for file in &self.files {
            file.with(|connection| {
                let mut select = connection.prepare_cached("SELECT name FROM room ORDER BY name")?;
                for name in select.query_map([], |row| row.get(0))? {
                    rooms.push(name?);
                }
                Ok(())
            })?;
        }
        Ok(rooms)
    }

    fn append(&self, append: Append) {
        self.file(append.room).writer.append(append);
    }

    fn subscribe(&self, room: RoomKey, listener: Weak<dyn Listener>) {
        let mut listeners = self.file(room).listeners.write().unwrap_or_else(|e| e.into_inner());
        listeners.retain(|_, listener| listener.strong_count() > 0);
        listeners.insert(room.id, listener);
    }

    fn read(&self, room: RoomKey, after: u64, bytes: u64) -> Result<Vec<Entry>, JournalError> {
        self.file(room).with(|connection| read::after(connection, room.id, after, bytes))
    }

    fn head(&self, room: RoomKey) -> Result<u64, JournalError> {
        self.file(room).with(|connection| {
            connection.query_row("SELECT head FROM room WHERE id = ?1", [room.id], |row| {
                row.get::<_, i64>(0).map(|head| head as u64)
            })
        })
    }

    fn trim(&self, room: RoomKey, upto: u64, keep_bytes: u64) -> Result<Trimmed, JournalError> {
        self.file(room).writer.trim(room, upto, keep_bytes)
    }

    fn restart(&self, room: RoomKey, holdings: Vec<Holding>) -> Result<(), JournalError> {
        self.file(room).writer.restart(room, random::u64(), holdings)
    }

    fn find(&self, room: RoomKey, site: SiteId, lo: u64, hi: u64, bytes: u64) -> Result<Found, JournalError> {
        self.file(room).with(|connection| find::find(connection, room.id, site, lo, hi, bytes))
    }

    fn chain(&self, room: RoomKey, site: SiteId, version: u64) -> Result<Option<Chain>, JournalError> {
        let chains = self.chains_upto(room, site, version)?;
        Ok(chains.into_iter().find(|head| head.version == version).map(|head| head.chain))
    }

    fn chains_upto(&self, room: RoomKey, site: SiteId, version: u64) -> Result<Vec<Head>, JournalError> {
        self.file(room).with(|connection| find::chains_upto(connection, room.id, site, version))
    }

    fn restore(&self, room: RoomKey, holdings: Vec<Holding>) -> Result<Cursor, JournalError> {
        let epoch = random::u64();
        self.file(room).writer.restore(room, epoch, holdings).map(|pos| Cursor { epoch, pos })
    }

    fn is_sound(&self) -> bool {
        self.files.iter().all(|file| !file.broken.load(Ordering::Relaxed))
    }

    fn close(&self) {
        self.files.iter().for_each(|file| file.writer.close());
    }
}

impl JournalFile {
    fn open(
        directory: &Path,
        number: usize,
        new_epoch: bool,
        metrics: &Arc<Metrics>,
    ) -> Result<JournalFile, JournalError> {
        let path = file_of(directory, number);
        let told = |error: &dyn std::fmt::Display| JournalError::Sqlite {
            journal: number,
            text: format!("cannot open {}: {error}", path.display()),
            broken: true,
        };
        let connection = Connection::open(&path).map_err(|error| told(&error))?;
        set_up(&connection, new_epoch, &path.with_extension("guard")).map_err(|error| told(&error))?;
        let listeners = Arc::new(Listeners::default());
        let broken = Arc::new(AtomicBool::new(false));
        let writer = Writer::start(connection, number, listeners.clone(), broken.clone(), metrics.clone());
        Ok(JournalFile { number, path, readers: Mutex::default(), writer, listeners, broken })
    }

    /// Runs `body` with a reading connection.
    fn with<T>(&self, body: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, JournalError> {
        let told = |error: rusqlite::Error| JournalError::Sqlite {
            journal: self.number,
            text: error.to_string(),
            broken: false,
        };
        let idle = self.readers.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => reader(&self.path).map_err(told)?,
        };
        let done = body(&connection).map_err(told)?;
        self.readers.lock().unwrap_or_else(|e| e.into_inner()).push(connection);
        Ok(done)
    }
}

fn file_of(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("journal-{number}.db"))
}

fn set_up(
    connection: &Connection,
    new_epoch: bool,
    guard_file: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "page_size", 8192)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = wal", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(format!("the file system allows no WAL, only {mode:?}: use a local disk").into());
    }
    // An acknowledgement promises that the data survives a power failure.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    rows::prepare(connection)?;
    if new_epoch || !guard::is_continuous(connection, guard_file)? {
        let mut select = connection.prepare("SELECT id FROM room")?;
        let ids: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in ids {
            connection
                .execute("UPDATE room SET epoch = ?2 WHERE id = ?1", params![id, random::u64() as i64])?;
        }
    }
    guard::renew(connection, guard_file)
}

fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn find_room(connection: &Connection, journal: usize, room: &str) -> rusqlite::Result<Option<Opened>> {
    // One snapshot for all of it.
    let tx = connection.unchecked_transaction()?;
    let found = tx
        .query_row(
            "SELECT id, epoch, head, floor, bytes, tie_break FROM room WHERE name = ?1",
            [room],
            |row| {
                let numbers: [i64; 5] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
                Ok((numbers, row.get::<_, u8>(5)?))
            },
        )
        .optional()?;
    let Some(([id, epoch, head, floor, bytes], tie_break)) = found else { return Ok(None) };
    let mut select =
        tx.prepare_cached("SELECT site, versions, version, chain, owner FROM holding WHERE room = ?1")?;
    let holdings = select.query_map([id], rows::holding)?.collect::<Result<_, _>>()?;
    Ok(Some(Opened {
        key: RoomKey { journal, id },
        head: Cursor { epoch: epoch as u64, pos: head as u64 },
        floor: floor as u64,
        bytes: bytes as u64,
        tie_break,
        holdings,
        staged: staged(&tx, id)?,
    }))
}

fn staged(connection: &Connection, room: i64) -> rusqlite::Result<Vec<Frame>> {
    let sql = format!(
        "SELECT {} FROM partial p JOIN entry e ON e.room = p.room AND e.pos = p.pos
         WHERE p.room = ?1 ORDER BY p.pos",
        rows::ENTRY.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", ")
    );
    let mut select = connection.prepare_cached(&sql)?;
    let entries = select.query_map([room], rows::entry)?;
    let frames = entries.filter_map(|entry| match entry {
        Ok(Entry { item: super::Item::Frame(frame), .. }) => Some(Ok(frame)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    frames.collect()
}
