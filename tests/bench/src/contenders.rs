//! Who is compared, and how each one turns table `t` into a replicated table.

use std::path::{Path, PathBuf};

use crate::database::{Database, Failure, Result};
use crate::dataset::KeyKind;
use crate::session::Session;

/// One column of the comparison.
#[derive(Debug, Clone)]
pub struct Contender {
    /// The name in tables and for `--contenders`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a contender is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// SQLite alone: what everything is divided by.
    Plain,
    /// SQLite with a trigger of each kind that does nothing: what any capture by triggers costs at the least.
    Triggers,
    /// SQLite's session extension.
    Session,
    /// crsql linked into this program.
    Static,
    /// crsql loaded from a file.
    Loaded(PathBuf),
    /// Another extension with cr-sqlite's surface, and its entry point when SQLite can't derive it.
    Peer(PathBuf, Option<String>),
}

impl Contender {
    /// Whether it has `crsql_as_crr` and `crsql_changes`.
    pub fn replicates(&self) -> bool {
        !matches!(self.kind, Kind::Plain | Kind::Triggers | Kind::Session)
    }

    /// Whether the bars are meant for it.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Static | Kind::Loaded(_))
    }

    /// The size of its library file in bytes, where it has one.
    pub fn file_bytes(&self) -> Option<u64> {
        match &self.kind {
            Kind::Loaded(path) | Kind::Peer(path, _) => Some(std::fs::metadata(path).ok()?.len()),
            _ => None,
        }
    }

    fn attach(&self, database: &Database) -> Result<()> {
        match &self.kind {
            Kind::Plain | Kind::Triggers | Kind::Session => Ok(()),
            Kind::Static => register_static(database),
            Kind::Loaded(path) => database.load_extension(path, Some("sqlite3_crsql_init")),
            Kind::Peer(path, entry) => database.load_extension(path, entry.as_deref()),
        }
    }
}

/// The one place that knows how a program links crsql.
fn register_static(database: &Database) -> Result<()> {
    // SAFETY: the handle is open, and stays so until `Replica` closes it.
    unsafe { crsql::register_raw(database.handle()) }.map_err(|error| Failure::Failed(error.to_string()))
}

/// Triggers that are never true, so that they read no column and run no statement.
fn idle_triggers() -> String {
    let trigger =
        |event| format!("CREATE TRIGGER idle_{event} AFTER {event} ON t WHEN 0 BEGIN SELECT 1; END;");
    ["INSERT", "UPDATE", "DELETE"].map(trigger).concat()
}

/// A database file that is deleted, with its log, when this goes out of scope.
pub struct ScratchFile(PathBuf);

impl ScratchFile {
    /// Takes charge of `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        ScratchFile(path)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the file where it is.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.0.clone().into_os_string();
            name.push(suffix);
            // What is left behind goes with the directory at the end.
            let _ = std::fs::remove_file(name);
        }
    }
}

/// A database file open as one contender. The fields are dropped in this order: the session before the
/// connection it records, the connection before its file.
pub struct Replica {
    session: Option<Session>,
    /// The connection.
    pub database: Database,
    file: Option<ScratchFile>,
    is_peer: bool,
}

impl Replica {
    /// Opens a file that has table `t` already.
    pub fn open(contender: &Contender, file: ScratchFile) -> Result<Self> {
        let mut replica = Self::connect(contender, file.path())?;
        replica.file = Some(file);
        replica.start_session(contender)?;
        Ok(replica)
    }

    /// Creates a file with an empty table `t`, replicated in the contender's way.
    pub fn create(contender: &Contender, file: ScratchFile, keys: KeyKind) -> Result<Self> {
        let mut replica = Self::connect(contender, file.path())?;
        replica.file = Some(file);
        replica.database.exec(&keys.create_table("t"))?;
        if contender.replicates() {
            replica.database.exec("SELECT crsql_as_crr('t')")?;
        }
        if contender.kind == Kind::Triggers {
            replica.database.exec(&idle_triggers())?;
        }
        replica.start_session(contender)?;
        Ok(replica)
    }

    /// A second connection to the same file, which must close before this one.
    pub fn reader(&self, contender: &Contender) -> Result<Replica> {
        let file = self.file.as_ref().expect("only a reader has no file, and nobody reads beside one");
        Self::connect(contender, file.path())
    }

    fn connect(contender: &Contender, path: &Path) -> Result<Self> {
        let database = Database::open(path)?;
        contender.attach(&database)?;
        let is_peer = matches!(contender.kind, Kind::Peer(..));
        Ok(Replica { session: None, database, file: None, is_peer })
    }

    fn start_session(&mut self, contender: &Contender) -> Result<()> {
        if contender.kind == Kind::Session {
            self.session = Some(Session::start(&self.database)?);
        }
        Ok(())
    }

    /// The session that records this connection, for the contender that has one.
    pub fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or(Failure::NotApplicable)
    }

    /// Empties the log, closes the connection and leaves the file, whose path it returns.
    pub fn close(mut self) -> Result<PathBuf> {
        self.database.exec("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(self.file.take().map(ScratchFile::keep).unwrap_or_default())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if self.is_peer {
            // cr-sqlite keeps statements open that would keep the file open; an extension without the function
            // needs no such call.
            let _ = self.database.exec("SELECT crsql_finalize()");
        }
    }
}
