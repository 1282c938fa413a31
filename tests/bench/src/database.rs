//! A connection through SQLite's C interface, with as little around it as Rust allows, and the one error type.
//!
//! The benchmark measures extensions, so its host must cost nothing: no statement cache, no row objects, no
//! conversion. Whatever this file adds to a call is a bounds check at most.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr;

use rusqlite::ffi;

use crate::statement::Statement;

/// Why a contender gave no figure for a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The workload means nothing for this contender, such as a merge into plain SQLite by `crsql_apply`.
    NotApplicable,
    /// It should have worked; the text says what was tried and what SQLite answered.
    Failed(String),
}

/// What every step of the benchmark returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure::Failed(reason)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// One connection.
pub struct Database {
    handle: *mut ffi::sqlite3,
}

impl Database {
    /// Opens or creates the file, in the state every contender is measured in: WAL, `synchronous=NORMAL`,
    /// pages of 4096 bytes, the default cache.
    pub fn open(path: &Path) -> Result<Self> {
        let name = CString::new(path.to_string_lossy().as_bytes()).map_err(|error| error.to_string())?;
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE | ffi::SQLITE_OPEN_NOMUTEX;
        let mut handle = ptr::null_mut();
        // SAFETY: `name` is terminated and lives through the call; SQLite sets `handle` even when it fails, and
        // `Drop` closes whatever it set.
        let code = unsafe { ffi::sqlite3_open_v2(name.as_ptr(), &mut handle, flags, ptr::null()) };
        let database = Database { handle };
        database.check(code, "open")?;
        database.exec("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")?;
        Ok(database)
    }

    /// The raw handle, for the session extension and for registering crsql.
    pub fn handle(&self) -> *mut ffi::sqlite3 {
        self.handle
    }

    /// Runs any number of statements and drops their rows.
    pub fn exec(&self, sql: &str) -> Result<()> {
        let text = CString::new(sql).map_err(|error| error.to_string())?;
        // SAFETY: the handle is open and `text` is terminated.
        let code =
            unsafe { ffi::sqlite3_exec(self.handle, text.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
        self.check(code, sql)
    }

    /// Prepares one statement; `'a` is as long as both the connection and everything bound to it live.
    pub fn prepare<'a>(&'a self, sql: &str) -> Result<Statement<'a>> {
        let mut handle = ptr::null_mut();
        // SAFETY: the length is given, so `sql` needs no terminator.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.handle,
                sql.as_ptr().cast(),
                sql.len() as c_int,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &mut handle,
                ptr::null_mut(),
            )
        };
        self.check(code, sql)?;
        // SAFETY: the statement was just prepared and nobody else has it.
        Ok(unsafe { Statement::from_handle(handle) })
    }

    /// The first column of the first row as an integer.
    pub fn integer(&self, sql: &str) -> Result<i64> {
        let mut statement = self.prepare(sql)?;
        if !statement.step()? {
            return Err(format!("{sql}: no row").into());
        }
        Ok(statement.integer(0))
    }

    /// The first column of the first row as text; an empty string for NULL.
    pub fn text(&self, sql: &str) -> Result<String> {
        let mut statement = self.prepare(sql)?;
        if !statement.step()? {
            return Err(format!("{sql}: no row").into());
        }
        Ok(String::from_utf8_lossy(statement.bytes(0)).into_owned())
    }

    /// Loads an extension from a file, through `entry` or the name SQLite derives.
    pub fn load_extension(&self, path: &Path, entry: Option<&str>) -> Result<()> {
        let file = CString::new(path.to_string_lossy().as_bytes()).map_err(|error| error.to_string())?;
        let entry = entry.map(CString::new).transpose().map_err(|error| error.to_string())?;
        let entry_name = entry.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        let mut message: *mut c_char = ptr::null_mut();
        // SAFETY: both names are terminated; the message, when set, is ours to free.
        let (code, reason) = unsafe {
            ffi::sqlite3_enable_load_extension(self.handle, 1);
            let code = ffi::sqlite3_load_extension(self.handle, file.as_ptr(), entry_name, &mut message);
            let reason = match message.is_null() {
                true => String::new(),
                false => CStr::from_ptr(message).to_string_lossy().into_owned(),
            };
            ffi::sqlite3_free(message.cast());
            (code, reason)
        };
        if code != ffi::SQLITE_OK {
            return Err(format!("cannot load {}: {reason}", path.display()).into());
        }
        Ok(())
    }

    /// Moves the log into the file, empties it, and returns the file's size in bytes.
    pub fn file_bytes(&self) -> Result<f64> {
        self.exec("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok((self.integer("PRAGMA page_count")? * self.integer("PRAGMA page_size")?) as f64)
    }

    fn check(&self, code: c_int, doing: &str) -> Result<()> {
        if code == ffi::SQLITE_OK {
            return Ok(());
        }
        let shown: String = doing.chars().take(80).collect();
        Err(format!("{shown}: {}", last_error(self.handle)).into())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: every `Statement` borrows the connection, so none of ours is left, and nobody uses the handle
        // again.
        let code = unsafe { ffi::sqlite3_close(self.handle) };
        if code != ffi::SQLITE_OK {
            // An extension that keeps statements open; the connection stays, and so does its memory.
            eprintln!("cannot close a connection: {}", last_error(self.handle));
        }
    }
}

/// The connection's last error, for a call that this file does not wrap.
pub fn last_error(handle: *mut ffi::sqlite3) -> String {
    // SAFETY: sqlite3_errmsg takes any handle, null too, and returns a terminated string.
    unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(handle)) }.to_string_lossy().into_owned()
}
