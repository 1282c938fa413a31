//! Prepared statements that bind without copying: whatever this adds to a call of SQLite is a check at most.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;

use rusqlite::ffi;

use crate::database::{Failure, Result, last_error};

/// A prepared statement. Text and blobs are bound where they lie, so they live as long as it does.
pub struct Statement<'a> {
    handle: *mut ffi::sqlite3_stmt,
    _bound: PhantomData<&'a [u8]>,
}

// SAFETY, for every block below: the handle is that of a live statement, finalised only in `Drop`; indices out of
// range are answered by SQLite with an error or a NULL.
impl<'a> Statement<'a> {
    /// Takes over a prepared statement.
    ///
    /// # Safety
    /// `handle` is a live statement that nobody else finalises, of a connection that lives for `'a`.
    pub unsafe fn from_handle(handle: *mut ffi::sqlite3_stmt) -> Self {
        Statement { handle, _bound: PhantomData }
    }

    /// Binds an integer; parameters count from 1.
    #[inline]
    pub fn bind_integer(&mut self, parameter: c_int, value: i64) {
        unsafe { ffi::sqlite3_bind_int64(self.handle, parameter, value) };
    }

    /// Binds a real number.
    #[inline]
    pub fn bind_real(&mut self, parameter: c_int, value: f64) {
        unsafe { ffi::sqlite3_bind_double(self.handle, parameter, value) };
    }

    /// Binds NULL.
    #[inline]
    pub fn bind_null(&mut self, parameter: c_int) {
        unsafe { ffi::sqlite3_bind_null(self.handle, parameter) };
    }

    /// Binds text without copying it.
    #[inline]
    pub fn bind_text(&mut self, parameter: c_int, value: &'a [u8]) {
        let length = value.len() as c_int;
        unsafe { ffi::sqlite3_bind_text(self.handle, parameter, value.as_ptr().cast(), length, None) };
    }

    /// Binds a blob without copying it.
    #[inline]
    pub fn bind_blob(&mut self, parameter: c_int, value: &'a [u8]) {
        let length = value.len() as c_int;
        unsafe { ffi::sqlite3_bind_blob(self.handle, parameter, value.as_ptr().cast(), length, None) };
    }

    /// Steps once; true when there is a row.
    #[inline]
    pub fn step(&mut self) -> Result<bool> {
        match unsafe { ffi::sqlite3_step(self.handle) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            _ => Err(self.failure()),
        }
    }

    /// Makes the statement ready to run again with the same bindings.
    #[inline]
    pub fn reset(&mut self) {
        unsafe { ffi::sqlite3_reset(self.handle) };
    }

    /// Steps to the end, dropping rows, and resets.
    #[inline]
    pub fn run(&mut self) -> Result<()> {
        while self.step()? {}
        self.reset();
        Ok(())
    }

    /// How many columns a row has.
    pub fn column_count(&self) -> c_int {
        unsafe { ffi::sqlite3_column_count(self.handle) }
    }

    /// The fundamental type of a column of the current row, such as `ffi::SQLITE_TEXT`; columns count from 0.
    #[inline]
    pub fn column_type(&self, column: c_int) -> c_int {
        unsafe { ffi::sqlite3_column_type(self.handle, column) }
    }

    /// A column of the current row as an integer.
    #[inline]
    pub fn integer(&self, column: c_int) -> i64 {
        unsafe { ffi::sqlite3_column_int64(self.handle, column) }
    }

    /// A column of the current row as a real number.
    #[inline]
    pub fn real(&self, column: c_int) -> f64 {
        unsafe { ffi::sqlite3_column_double(self.handle, column) }
    }

    /// A column of the current row as the bytes of its text or blob, valid until the next step.
    #[inline]
    pub fn bytes(&self, column: c_int) -> &[u8] {
        unsafe {
            let start = ffi::sqlite3_column_blob(self.handle, column);
            match ffi::sqlite3_column_bytes(self.handle, column) {
                0 => &[],
                length => std::slice::from_raw_parts(start.cast(), length as usize),
            }
        }
    }

    /// Reads each column of the current row as a host would and returns a number that depends on all of them,
    /// so that no read can be left out.
    #[inline]
    pub fn touch(&self, columns: c_int) -> i64 {
        (0..columns).fold(0, |sum, column| match self.column_type(column) {
            ffi::SQLITE_INTEGER => sum ^ self.integer(column),
            ffi::SQLITE_FLOAT => sum ^ self.real(column).to_bits() as i64,
            ffi::SQLITE_NULL => sum,
            _ => sum + self.bytes(column).len() as i64,
        })
    }

    fn failure(&mut self) -> Failure {
        let reason = unsafe {
            let text = ffi::sqlite3_sql(self.handle);
            let shown: String = match text.is_null() {
                true => String::new(),
                false => CStr::from_ptr(text).to_string_lossy().chars().take(80).collect(),
            };
            format!("{shown}: {}", last_error(ffi::sqlite3_db_handle(self.handle)))
        };
        self.reset();
        Failure::Failed(reason)
    }
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        unsafe { ffi::sqlite3_finalize(self.handle) };
    }
}
