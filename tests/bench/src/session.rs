//! SQLite's own session extension: what a C implementation inside SQLite costs that captures into memory and
//! keeps no clocks. It is the anchor the extensions are compared with.

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;

use rusqlite::ffi;

use crate::database::{Database, Result, last_error};

/// A session that records every change of table `t` made through one connection.
pub struct Session {
    handle: *mut ffi::sqlite3_session,
}

impl Session {
    /// Starts recording.
    pub fn start(database: &Database) -> Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: the connection is open, and its owner drops the session before it (see `Replica`).
        let code = unsafe {
            match ffi::sqlite3session_create(database.handle(), c"main".as_ptr(), &mut handle) {
                ffi::SQLITE_OK => ffi::sqlite3session_attach(handle, c"t".as_ptr()),
                code => code,
            }
        };
        let session = Session { handle };
        if code != ffi::SQLITE_OK {
            return Err(format!("cannot start a session: {}", last_error(database.handle())).into());
        }
        Ok(session)
    }

    /// Everything recorded so far as one changeset.
    pub fn changeset(&self) -> Result<Changeset<'_>> {
        let mut length = 0;
        let mut start = ptr::null_mut();
        // SAFETY: the session is live; SQLite hands over a buffer that `Changeset` frees.
        let code = unsafe { ffi::sqlite3session_changeset(self.handle, &mut length, &mut start) };
        if code != ffi::SQLITE_OK {
            return Err(format!("sqlite3session_changeset: error {code}").into());
        }
        Ok(Changeset { start, length, _session: PhantomData })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: created by `start`, deleted once.
            unsafe { ffi::sqlite3session_delete(self.handle) };
        }
    }
}

/// A changeset in SQLite's memory.
pub struct Changeset<'a> {
    start: *mut c_void,
    length: c_int,
    _session: PhantomData<&'a Session>,
}

impl Changeset<'_> {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Applies it; a row that is there already is left as it is.
    pub fn apply(&self, database: &Database) -> Result<()> {
        // SAFETY: the buffer is a changeset of `length` bytes, and `keep_ours` needs no context.
        let code = unsafe {
            ffi::sqlite3changeset_apply(
                database.handle(),
                self.length,
                self.start,
                None::<unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int>,
                Some(keep_ours),
                ptr::null_mut(),
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(format!("sqlite3changeset_apply: {}", last_error(database.handle())).into());
        }
        Ok(())
    }
}

impl Drop for Changeset<'_> {
    fn drop(&mut self) {
        // SAFETY: allocated by SQLite for us, freed once.
        unsafe { ffi::sqlite3_free(self.start) };
    }
}

unsafe extern "C" fn keep_ours(
    _context: *mut c_void,
    _conflict: c_int,
    _change: *mut ffi::sqlite3_changeset_iter,
) -> c_int {
    ffi::SQLITE_CHANGESET_OMIT
}
