//! The result of a function call or of a virtual table's column.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ValueRef;
use rusqlite::ffi;

use super::{Args, Error, Statement};

/// Blobs from so many bytes on are given to SQLite as they are.
const GIVEN_BYTES_MIN: usize = 1 << 20;

/// What SQLite was given and has not released yet, by where it begins: a destructor is told nothing else.
static GIVEN: Mutex<BTreeMap<usize, Vec<u8>>> = Mutex::new(BTreeMap::new());

fn given() -> MutexGuard<'static, BTreeMap<usize, Vec<u8>>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite has no further use for a blob. Any thread may say so.
unsafe extern "C" fn release(start: *mut c_void) {
    let blob = given().remove(&(start as usize));
    drop(blob);
}

/// Where a callback puts its value; untouched it stays NULL. Text and blobs are copied.
pub struct Output<'a> {
    context: *mut ffi::sqlite3_context,
    callback: PhantomData<&'a ffi::sqlite3_context>,
}

impl Output<'_> {
    /// # Safety
    /// `context` is valid during the output's lifetime.
    #[inline]
    pub(super) unsafe fn new(context: *mut ffi::sqlite3_context) -> Self {
        Output { context, callback: PhantomData }
    }

    /// NULL.
    #[inline]
    pub fn set_null(&self) {
        // SAFETY: here and below, the context outlives `self`.
        unsafe { ffi::sqlite3_result_null(self.context) }
    }

    /// An integer.
    #[inline]
    pub fn set_i64(&self, value: i64) {
        // SAFETY: see `set_null`.
        unsafe { ffi::sqlite3_result_int64(self.context, value) }
    }

    /// A real; SQLite turns NaN into NULL.
    #[inline]
    pub fn set_f64(&self, value: f64) {
        // SAFETY: see `set_null`.
        unsafe { ffi::sqlite3_result_double(self.context, value) }
    }

    /// A text.
    #[inline]
    pub fn set_text(&self, value: &str) {
        self.set_text_bytes(value.as_bytes());
    }

    /// A text by its bytes, which may be invalid UTF-8 as any SQLite text.
    #[inline]
    pub fn set_text_bytes(&self, value: &[u8]) {
        // SAFETY: see `set_null`; SQLite copies the bytes before it returns.
        unsafe {
            ffi::sqlite3_result_text64(
                self.context,
                value.as_ptr().cast::<c_char>(),
                value.len() as u64,
                ffi::SQLITE_TRANSIENT(),
                ffi::SQLITE_UTF8 as u8,
            );
        }
    }

    /// A blob.
    #[inline]
    pub fn set_blob(&self, value: &[u8]) {
        // SAFETY: as in `set_text_bytes`.
        unsafe {
            ffi::sqlite3_result_blob64(
                self.context,
                value.as_ptr().cast(),
                value.len() as u64,
                ffi::SQLITE_TRANSIENT(),
            );
        }
    }

    /// A blob that is handed over: a large one is not copied.
    pub fn give_blob(&self, value: Vec<u8>) {
        if value.len() < GIVEN_BYTES_MIN {
            return self.set_blob(&value);
        }
        let (start, len) = (value.as_ptr(), value.len() as u64);
        given().insert(start as usize, value);
        // SAFETY: see `set_null`; the bytes stay where they are until SQLite calls `release`, which it does even if it
        // refuses them.
        unsafe { ffi::sqlite3_result_blob64(self.context, start.cast(), len, Some(release)) }
    }

    /// Any value.
    #[inline]
    pub fn set_value(&self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.set_null(),
            ValueRef::Integer(value) => self.set_i64(value),
            ValueRef::Real(value) => self.set_f64(value),
            ValueRef::Text(value) => self.set_text_bytes(value),
            ValueRef::Blob(value) => self.set_blob(value),
        }
    }

    /// The value of a column of `statement`'s current row (from 0), without looking at it.
    #[inline]
    pub fn set_column(&self, statement: &Statement, column: usize) {
        // SAFETY: see `set_null`; an unprotected value may be passed on as a result, and SQLite copies it.
        unsafe { ffi::sqlite3_result_value(self.context, statement.raw_column(column)) }
    }

    /// One of the callback's own arguments (from 0; NULL past the end), without looking at it.
    #[inline]
    pub fn set_arg(&self, args: &Args<'_>, index: usize) {
        match args.raw(index) {
            // SAFETY: see `set_null`; the arguments outlive the callback.
            Some(value) => unsafe { ffi::sqlite3_result_value(self.context, value) },
            None => self.set_null(),
        }
    }

    /// Fails the statement with `error`'s code and message.
    #[cold]
    pub(super) fn set_error(&self, error: &Error) {
        let message = error.to_string();
        let len = i32::try_from(message.len()).unwrap_or(i32::MAX);
        // SAFETY: see `set_null`; the message is copied. The code is set last, since setting the message
        // resets it.
        unsafe {
            ffi::sqlite3_result_error(self.context, message.as_ptr().cast(), len);
            ffi::sqlite3_result_error_code(self.context, error.code());
        }
    }
}
