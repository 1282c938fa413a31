//! What can go wrong at the SQLite boundary, and how it is told to SQLite again.

use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};

use rusqlite::ffi;

use super::value::OutOfMemory;

/// The result of everything that may touch SQLite.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error on its way to the caller of the SQL statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// SQLite refused: its extended result code and its message.
    #[error("{message}")]
    Sqlite {
        /// SQLite's extended result code.
        code: i32,
        /// SQLite's message, read when the error happened.
        message: String,
    },
    /// The request can't be carried out; the text names the object, the reason and the way out.
    #[error("{0}")]
    Refused(String),
    /// An argument of an SQL function has the wrong type, or is NULL.
    #[error("{function}() argument {position} must be {expected}, not {found}")]
    Argument {
        /// The SQL function.
        function: &'static str,
        /// The argument's position, from 1.
        position: usize,
        /// What is accepted.
        expected: &'static str,
        /// The storage class that was given.
        found: &'static str,
    },
    /// An SQL function was called with a number of arguments that it does not take.
    #[error("{function}() takes {expected}, not {found}")]
    ArgumentCount {
        /// The SQL function.
        function: &'static str,
        /// What is accepted, such as `2 arguments: a, b`.
        expected: &'static str,
        /// How many were given.
        found: usize,
    },
    /// A constraint of the user's schema is broken.
    #[error("{0}")]
    Constraint(String),
    /// The interface was used in an order or a way that it does not have.
    #[error("{0}")]
    Misuse(String),
    /// Stored metadata can't be what crsql wrote.
    #[error("{0}")]
    Corrupt(String),
    /// The database or the connection is read-only.
    #[error("{0}")]
    ReadOnly(String),
    /// A defect of crsql, caught before it could reach the host.
    #[error("crsql panicked: {0}; please report this")]
    Panic(String),
}

impl Error {
    /// A [`Error::Refused`] of anything printable.
    #[cold]
    pub fn refused(reason: impl std::fmt::Display) -> Error {
        Error::Refused(reason.to_string())
    }

    /// A write that was not captured, where SQLite can't undo the statement alone: the code is one after which it
    /// rolls the transaction back.
    #[cold]
    pub(crate) fn uncaptured(reason: Error) -> Error {
        match reason.primary_code() {
            ffi::SQLITE_NOMEM | ffi::SQLITE_IOERR | ffi::SQLITE_INTERRUPT | ffi::SQLITE_FULL => reason,
            _ => Error::Sqlite { code: ffi::SQLITE_IOERR, message: reason.to_string() },
        }
    }

    /// The result code under which SQLite reports this error.
    pub fn code(&self) -> i32 {
        match self {
            Error::Sqlite { code, .. } => *code,
            Error::Constraint(_) => ffi::SQLITE_CONSTRAINT,
            Error::Misuse(_) => ffi::SQLITE_MISUSE,
            Error::Corrupt(_) => ffi::SQLITE_CORRUPT,
            Error::ReadOnly(_) => ffi::SQLITE_READONLY,
            Error::Refused(_) | Error::Argument { .. } | Error::ArgumentCount { .. } | Error::Panic(_) => {
                ffi::SQLITE_ERROR
            }
        }
    }

    /// SQLite's primary result code: [`Error::code`] without the extension.
    pub fn primary_code(&self) -> i32 {
        self.code() & 0xff
    }

    /// The user's schema refused the row: CHECK, NOT NULL, UNIQUE, a STRICT type, a foreign key, RAISE(ABORT).
    pub fn is_constraint(&self) -> bool {
        self.primary_code() == ffi::SQLITE_CONSTRAINT
    }

    /// A UNIQUE index other than the key refused the row.
    pub fn is_unique(&self) -> bool {
        self.code() == ffi::SQLITE_CONSTRAINT_UNIQUE
    }

    /// `sqlite3_interrupt` stopped the statement.
    pub fn is_interrupt(&self) -> bool {
        self.primary_code() == ffi::SQLITE_INTERRUPT
    }

    /// Another connection holds the lock.
    pub fn is_busy(&self) -> bool {
        matches!(self.primary_code(), ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED)
    }

    /// Reads the connection's latest error. A null handle gives the generic text of `code`.
    #[cold]
    pub(super) fn from_connection(db: *mut ffi::sqlite3, code: c_int) -> Error {
        if db.is_null() {
            return Error::from_code(code);
        }
        // SAFETY: the handle is open, as every handle inside the fence; the text is copied at once.
        let (extended, message) =
            unsafe { (ffi::sqlite3_extended_errcode(db), text_of(ffi::sqlite3_errmsg(db))) };
        // The connection remembers only its latest call, which may not be the one that returned `code`.
        if extended & 0xff == code & 0xff {
            Error::Sqlite { code: extended, message }
        } else {
            Error::from_code(code)
        }
    }

    /// The generic text of a result code.
    #[cold]
    pub(super) fn from_code(code: c_int) -> Error {
        // SAFETY: returns a static string for every code.
        Error::Sqlite { code, message: unsafe { text_of(ffi::sqlite3_errstr(code)) } }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        let code = error.sqlite_error().map_or(ffi::SQLITE_ERROR, |e| e.extended_code);
        Error::Sqlite { code, message: error.to_string() }
    }
}

/// The message of a caught panic.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

/// Runs a callback of SQLite and turns a panic into an error, since unwinding through C is undefined.
#[inline(always)]
pub(crate) fn guard<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => Err(caught(payload)),
    }
}

#[cold]
fn caught(payload: Box<dyn Any + Send>) -> Error {
    let error = if payload.is::<OutOfMemory>() {
        Error::from_code(ffi::SQLITE_NOMEM)
    } else {
        Error::Panic(panic_message(payload.as_ref()))
    };
    // Dropping a payload may panic in turn; it is leaked rather than trusted.
    std::mem::forget(payload);
    error
}

/// Runs a destructor that SQLite calls; a panic in it has nobody to be told to.
pub(super) fn guard_drop(body: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        std::mem::forget(payload);
    }
}

/// A copy of `message` in SQLite's own memory, as `zErrMsg` and `pzErrMsg` want it; null when out of memory.
#[cold]
pub(crate) fn sqlite_string(message: &str) -> *mut c_char {
    // A NUL would cut the text; C can't show what follows it.
    let bytes = message.as_bytes().split(|b| *b == 0).next().unwrap_or_default();
    // SAFETY: the allocation has room for the text and its terminator.
    unsafe {
        let copy = ffi::sqlite3_malloc64(bytes.len() as u64 + 1).cast::<u8>();
        if !copy.is_null() {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            copy.add(bytes.len()).write(0);
        }
        copy.cast()
    }
}

/// Frees what [`sqlite_string`] made.
///
/// # Safety
/// `text` is null or memory of `sqlite3_malloc` that nobody else frees.
pub(super) unsafe fn free_sqlite_string(text: *mut c_char) {
    // SAFETY: by this function's contract; freeing null is allowed.
    unsafe { ffi::sqlite3_free(text.cast::<c_void>()) }
}

/// # Safety
/// `text` is null or a NUL-terminated string.
pub(super) unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
