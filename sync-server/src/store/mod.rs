//! The database of a room: an ordinary crsql database, kept up to date behind the journal.
//!
//! Nothing that is acknowledged waits for it and nothing is lost with it: it remembers, in the transaction that
//! applied them, up to which entry it came, and goes on there. Digests, snapshots and what HTTP reads come from it.

mod apply;
mod collect;
mod digest;
mod fill;
mod snapshot;

pub use collect::{collect, remembered};
pub use digest::digests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::Cursor;
use crsql_protocol::{Code, Fault};
use rusqlite::{Connection, OptionalExtension, params};

use crate::config::Settings;
use crate::journal::{JournalError, RoomKey, SharedJournal, Trimmed};
use crate::metrics::Metrics;
use crate::pool::Pool;

pub use fill::Fill;
pub use snapshot::SnapshotFile;

/// Room databases open over all rooms.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// What a power failure takes away is read from the journal again.
const SYNCHRONOUS: &str = "normal";

/// Where the database stands, and the chunks that wait for others of their version.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS __crsql_relay (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    pos INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS __crsql_relay_chunk (
    site BLOB NOT NULL,
    version INTEGER NOT NULL,
    seq_lo INTEGER NOT NULL,
    seq_hi INTEGER NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (site, version, seq_lo, seq_hi)
) WITHOUT ROWID;
";

/// Why a room's database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite or crsql says so.
    #[error("the room's database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The extension could not be registered.
    #[error("the room's database: {0}")]
    Extension(String),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file can't be read or written.
    #[error("the room's files: {0}")]
    File(#[from] std::io::Error),
    /// A changeset of the database can't be read.
    #[error("a changeset of the room's database: {0}")]
    Changeset(#[from] crsql_core::changeset::ChangesetError),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Refused(String),
}

/// The database of one room.
pub struct Store {
    journal: SharedJournal,
    key: RoomKey,
    epoch: u64,
    tie_break: u8,
    path: PathBuf,
    snapshots: PathBuf,
    pool: Pool,
    metrics: Arc<Metrics>,
    settings: Arc<Settings>,
    runtime: tokio::runtime::Handle,
    open: Mutex<Option<Database>>,
    scheduled: AtomicBool,
    /// Where the database stands, and whether it has replicated tables, as far as is known without asking it.
    standing: AtomicU64,
    has_tables: AtomicBool,
    bytes: AtomicU64,
    snapshot: Mutex<Option<Arc<SnapshotFile>>>,
}

/// An open database and what is known of it.
struct Database {
    connection: Connection,
    pos: u64,
}

impl Store {
    /// The database of a room; nothing is opened yet.
    pub fn new(
        context: &crate::context::Context,
        room: &str,
        key: RoomKey,
        epoch: u64,
        tie_break: u8,
    ) -> Arc<Store> {
        let data = &context.settings.data;
        let path = path_of(data, room);
        let name = blake3::hash(room.as_bytes()).to_hex();
        Arc::new(Store {
            journal: context.journal.clone(),
            key,
            epoch,
            tie_break,
            path,
            snapshots: data.join("snapshots").join(&name[..2]),
            pool: context.materialisers.clone(),
            metrics: context.metrics.clone(),
            settings: context.settings.clone(),
            runtime: tokio::runtime::Handle::current(),
            open: Mutex::default(),
            scheduled: AtomicBool::new(false),
            standing: AtomicU64::new(0),
            has_tables: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            snapshot: Mutex::default(),
        })
    }

    /// Has it follow the journal, in a while.
    pub fn wake(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let (store, delay) = (self.clone(), self.settings.materialise_delay.duration());
        self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            let pool = store.pool.clone();
            pool.run(move || {
                store.scheduled.store(false, Ordering::Release);
                if let Err(error) = store.with(|_, _| Ok(())) {
                    store.metrics.materialise_failures.add(1);
                    tracing::error!(path = %store.path.display(), %error, "cannot follow the journal");
                }
            });
        });
    }

    /// Runs `body` on the database once it has everything that is durable now; `pos` is where it stands then.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        body: impl FnOnce(&Connection, u64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let store = self.clone();
        let done = self.pool.ask(move || store.with(body)).await;
        let done = done.map_err(|error| Fault::new(Code::INTERNAL, error.to_string()))?;
        done.map_err(|error| match error {
            StoreError::Refused(text) => Fault::new(Code::BODY, text),
            error => {
                tracing::error!(path = %self.path.display(), %error, "a question to a room's database failed");
                Fault { retry_after_ms: 1000, ..Fault::new(Code::UNAVAILABLE, error.to_string()) }
            }
        })
    }

    /// Runs `body` on a thread that may block on the database.
    pub fn run(self: &Arc<Self>, body: impl FnOnce(&Store) + Send + 'static) {
        let store = self.clone();
        self.pool.run(move || body(&store));
    }

    /// Takes away from the journal what is in the database for good, as long as it has more than `keep_bytes`.
    pub fn trim(&self, keep_bytes: u64) -> Result<Option<Trimmed>, StoreError> {
        // A power failure may take the last transactions of the database away, but not what was checkpointed.
        let pos = self.with(|connection, pos| {
            let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            Ok((!busy).then_some(pos))
        })?;
        pos.map(|pos| Ok(self.journal.trim(self.key, pos, keep_bytes)?)).transpose()
    }

    /// How many rows there are, and how many deleted ones of which the clocks are kept.
    pub fn rows_and_tombstones(&self) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT value ->> 'rows', value ->> 'tombstones' FROM (SELECT crsql_stats() AS value)";
        self.with(|connection, _| {
            let count =
                |row: &rusqlite::Row<'_>, at| row.get::<_, Option<i64>>(at).map(|n| n.unwrap_or(0) as u64);
            Ok(connection.query_row(sql, [], |row| Ok((count(row, 0)?, count(row, 1)?)))?)
        })
    }

    /// Where the database is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The length of the database when it was looked at last, in bytes; 0 before.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether a copy made now would have tables and everything up to a position.
    pub fn is_ready(&self, pos: u64) -> bool {
        self.has_tables.load(Ordering::Acquire) && self.standing.load(Ordering::Acquire) >= pos
    }

    fn with<T>(&self, body: impl FnOnce(&Connection, u64) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        let mut database = match open.take() {
            Some(database) => database,
            None => self.connect()?,
        };
        self.follow(&mut database)?;
        let done = body(&database.connection, database.pos)?;
        self.has_tables.store(has_tables(&database.connection)?, Ordering::Release);
        self.standing.store(database.pos, Ordering::Release);
        self.bytes.store(size(&database.connection)?, Ordering::Release);
        if OPEN.load(Ordering::Relaxed) <= self.settings.open_rooms {
            *open = Some(database);
        }
        Ok(done)
    }

    fn connect(&self) -> Result<Database, StoreError> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", SYNCHRONOUS)?;
        crsql::register(&connection).map_err(|error| StoreError::Extension(error.to_string()))?;
        connection.execute_batch(TABLES)?;
        let stood: Option<(i64, i64)> = connection
            .query_row("SELECT epoch, pos FROM __crsql_relay", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let pos = match stood {
            Some((epoch, pos)) if epoch as u64 == self.epoch => pos as u64,
            stood => {
                if stood.is_none() && self.tie_break == 1 {
                    connection.query_row("SELECT crsql_config_set('tie-break', 'value')", [], |_| Ok(()))?;
                }
                // Another journal: everything is read again, and merging it again changes nothing.
                connection.execute(
                    "INSERT OR REPLACE INTO __crsql_relay VALUES (1, ?1, 0)",
                    params![self.epoch as i64],
                )?;
                connection.execute_batch("DELETE FROM __crsql_relay_chunk")?;
                0
            }
        };
        OPEN.fetch_add(1, Ordering::Relaxed);
        Ok(Database { connection, pos })
    }
}

/// Where the database of a room lies. Names of rooms are anybody's words and never become paths.
pub fn path_of(data: &std::path::Path, room: &str) -> PathBuf {
    let name = blake3::hash(room.as_bytes()).to_hex();
    data.join("rooms").join(&name[..2]).join(format!("{name}.db"))
}

/// Makes a database that follows its journal from a position on.
pub fn follows(connection: &Connection, at: Cursor) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    let place = params![at.epoch as i64, at.pos as i64];
    connection.execute("INSERT OR REPLACE INTO __crsql_relay VALUES (1, ?1, ?2)", place).map(drop)
}

impl Drop for Database {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn size(connection: &Connection) -> Result<u64, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?;
    Ok(select.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

fn has_tables(connection: &Connection) -> Result<bool, StoreError> {
    let mut exists = connection.prepare_cached("SELECT 1 FROM sqlite_master WHERE name = '__crsql_table'")?;
    Ok(exists.exists([])? && connection.prepare_cached("SELECT 1 FROM __crsql_table")?.exists([])?)
}

/// Makes the database look like a schema.
pub fn migrate(connection: &Connection, schema: &str) -> Result<(), StoreError> {
    let done = connection.query_row("SELECT crsql_automigrate(?1)", [schema], |_| Ok(()));
    done.map_err(|error| StoreError::Refused(error.to_string()))
}

/// Everything that is not in `vector`, as a changeset.
pub fn delta(connection: &Connection, vector: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let changeset = connection.query_row("SELECT crsql_changeset(?1)", [vector], |row| row.get(0));
    changeset.map_err(|error| StoreError::Refused(error.to_string()))
}

/// The versions that the database holds.
pub fn vector(connection: &Connection) -> Result<VersionVector, StoreError> {
    let bytes: Vec<u8> = connection.query_row("SELECT crsql_version_vector()", [], |row| row.get(0))?;
    let vector = VersionVector::decode(&bytes, &Default::default());
    vector.map_err(|error| StoreError::Refused(error.to_string()))
}

/// The text of the room's schema, as [`migrate`] takes it.
pub fn schema(connection: &Connection) -> Result<String, StoreError> {
    let mut select = connection.prepare(
        "SELECT sql || ';' FROM sqlite_master
         WHERE sql IS NOT NULL AND name NOT LIKE '\\_\\_crsql\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name NOT LIKE 'crsql\\_%' ESCAPE '\\'",
    )?;
    let mut lines = select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    if has_tables(connection)? {
        let mut select = connection.prepare("SELECT name, options FROM __crsql_table WHERE name <> ''")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (name, options): (String, String) = (row.get(0)?, row.get(1)?);
            let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let options = match declared(connection, &name, &options)?.as_str() {
                "{}" => String::new(),
                options => format!(", {}", literal(options)),
            };
            lines.push(format!("SELECT crsql_as_crr({}{options});", literal(&name)));
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// What a table declares, the types of its columns included, as the options object of `crsql_as_crr`.
fn declared(connection: &Connection, table: &str, options: &str) -> Result<String, StoreError> {
    let malformed = |error: serde_json::Error| StoreError::Refused(error.to_string());
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(options).map_err(malformed)?;
    let mut select = connection
        .prepare(r#"SELECT "column", type FROM crsql_columns WHERE "table" = ?1 AND type <> 'register'"#)?;
    let columns = select.query_map([table], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into())))?;
    let columns = columns.collect::<Result<serde_json::Map<String, serde_json::Value>, _>>()?;
    if !columns.is_empty() {
        object.insert("columns".into(), columns.into());
    }
    serde_json::to_string(&object).map_err(malformed)
}
