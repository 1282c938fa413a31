//! Prepared statements.
//!
//! A [`Statement`] is always in one of two states: ready, or on a row. It is on a row only after
//! [`Statement::step`] returned true; reaching the end or failing resets it at once, and binding or running
//! it again resets it first. So an error path that forgets a statement can't break its next user.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::{self, NonNull};

use super::ValueRef;
use rusqlite::ffi;

use super::value::{bytes, not_null, value_ref};
use super::{Args, Db, Error, Result};

/// A compiled statement; dropping it finalises it.
#[derive(Debug)]
pub struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
    parameters: u32,
    /// Between a step that returned a row and the reset.
    on_row: bool,
    /// Some parameter points into memory of the caller of `execute` or `query`.
    borrows: bool,
}

impl Statement {
    pub(super) fn prepare(db: Db, sql: &str, flags: c_uint) -> Result<Statement> {
        let (statement, _) = Self::prepare_next(db, sql, flags)?;
        statement.ok_or_else(|| Error::Misuse("the SQL text contains no statement".to_owned()))
    }

    /// Compiles one statement; `None` for whitespace and comments. Also returns what follows it.
    pub(super) fn prepare_next(db: Db, sql: &str, flags: c_uint) -> Result<(Option<Statement>, &str)> {
        let len = c_int::try_from(sql.len()).map_err(|_| {
            Error::Refused(format!("the SQL text has {} bytes, which SQLite can't take", sql.len()))
        })?;
        let mut raw = ptr::null_mut();
        let mut tail: *const c_char = ptr::null();
        let start = sql.as_ptr().cast::<c_char>();
        // SAFETY: the handle is open; the text has `len` bytes; both out-pointers are ours.
        let rc = unsafe { ffi::sqlite3_prepare_v3(db.handle(), start, len, flags, &mut raw, &mut tail) };
        db.check(rc)?;
        let used = if tail.is_null() { sql.len() } else { tail as usize - start as usize };
        let rest = sql.get(used..).unwrap_or("");
        let Some(raw) = NonNull::new(raw) else { return Ok((None, rest)) };
        // SAFETY: just prepared.
        let parameters = unsafe { ffi::sqlite3_bind_parameter_count(raw.as_ptr()) };
        let parameters = u32::try_from(parameters).unwrap_or(0);
        Ok((Some(Statement { raw, parameters, on_row: false, borrows: false }), rest))
    }

    /// How many parameters the statement has.
    #[inline]
    pub fn parameter_count(&self) -> usize {
        self.parameters as usize
    }

    /// A parameter's name (from 1) with its sigil, such as `:id`; `None` for `?`.
    pub fn parameter_name(&self, parameter: usize) -> Option<&str> {
        // SAFETY: see `bind_i64`; the name lives as long as the statement.
        unsafe {
            let name = ffi::sqlite3_bind_parameter_name(self.raw.as_ptr(), parameter as c_int);
            if name.is_null() { None } else { CStr::from_ptr(name).to_str().ok() }
        }
    }

    /// Binds an integer to a parameter (from 1).
    #[inline]
    pub fn bind_i64(&mut self, parameter: usize, value: i64) -> Result<()> {
        self.make_ready();
        // SAFETY: here and below, `raw` is a live statement until drop.
        self.check(unsafe { ffi::sqlite3_bind_int64(self.raw.as_ptr(), parameter as c_int, value) })
    }

    /// Binds a real to a parameter (from 1).
    #[inline]
    pub fn bind_f64(&mut self, parameter: usize, value: f64) -> Result<()> {
        self.make_ready();
        // SAFETY: see `bind_i64`.
        self.check(unsafe { ffi::sqlite3_bind_double(self.raw.as_ptr(), parameter as c_int, value) })
    }

    /// Binds NULL to a parameter (from 1).
    #[inline]
    pub fn bind_null(&mut self, parameter: usize) -> Result<()> {
        self.make_ready();
        // SAFETY: see `bind_i64`.
        self.check(unsafe { ffi::sqlite3_bind_null(self.raw.as_ptr(), parameter as c_int) })
    }

    /// Binds a copy of a text, given by its bytes, to a parameter (from 1).
    #[inline]
    pub fn bind_text(&mut self, parameter: usize, value: &[u8]) -> Result<()> {
        self.make_ready();
        // SAFETY: SQLite copies the bytes before it returns.
        unsafe { self.bind_any(parameter, ValueRef::Text(value), ffi::SQLITE_TRANSIENT()) }
    }

    /// Binds a copy of a blob to a parameter (from 1).
    #[inline]
    pub fn bind_blob(&mut self, parameter: usize, value: &[u8]) -> Result<()> {
        self.make_ready();
        // SAFETY: as in `bind_text`.
        unsafe { self.bind_any(parameter, ValueRef::Blob(value), ffi::SQLITE_TRANSIENT()) }
    }

    /// Binds a copy of any value to a parameter (from 1).
    #[inline]
    pub fn bind_value(&mut self, parameter: usize, value: ValueRef<'_>) -> Result<()> {
        self.make_ready();
        // SAFETY: as in `bind_text`.
        unsafe { self.bind_any(parameter, value, ffi::SQLITE_TRANSIENT()) }
    }

    /// Binds a copy of a callback's argument (from 0; NULL past the end) to a parameter (from 1), without
    /// looking at it.
    #[inline]
    pub fn bind_arg(&mut self, parameter: usize, args: &Args<'_>, index: usize) -> Result<()> {
        self.make_ready();
        let value = args.raw(index).unwrap_or(ptr::null_mut());
        if value.is_null() {
            return self.bind_null(parameter);
        }
        // SAFETY: see `bind_i64`; the argument is valid during the callback and SQLite copies it.
        self.check(unsafe { ffi::sqlite3_bind_value(self.raw.as_ptr(), parameter as c_int, value) })
    }

    /// Binds a copy of a column (from 0) of another statement's current row to a parameter (from 1), without
    /// looking at it.
    #[inline]
    pub fn bind_column(&mut self, parameter: usize, from: &Statement, column: usize) -> Result<()> {
        self.make_ready();
        // SAFETY: see `bind_i64`; an unprotected value may be passed on to bind, and SQLite copies it.
        self.check(unsafe {
            ffi::sqlite3_bind_value(self.raw.as_ptr(), parameter as c_int, from.raw_column(column))
        })
    }

    /// Runs to the next row. `false`: the end was reached and the statement is ready again.
    #[inline]
    pub fn step(&mut self) -> Result<bool> {
        if self.borrows {
            self.make_ready_slowly();
        }
        self.step_unchecked()
    }

    /// Ready again: a row is left behind, bound values stay (except those that `execute` borrowed).
    #[inline]
    pub fn reset(&mut self) {
        self.make_ready();
    }

    /// Sets every parameter to NULL.
    pub fn clear_bindings(&mut self) {
        self.make_ready();
        // SAFETY: see `bind_i64`.
        unsafe { ffi::sqlite3_clear_bindings(self.raw.as_ptr()) };
    }

    /// Binds every parameter, runs to the end ignoring rows, and is ready again. Texts and blobs are not
    /// copied: the statement forgets them before this returns.
    #[inline]
    pub fn execute(&mut self, values: &[ValueRef<'_>]) -> Result<()> {
        let mut rows = self.query(values)?;
        while rows.step()? {}
        Ok(())
    }

    /// Runs with what is bound, to the end, ignoring rows.
    #[inline]
    pub fn run(&mut self) -> Result<()> {
        self.make_ready();
        while self.step_unchecked()? {}
        Ok(())
    }

    /// Binds every parameter and hands out the rows. Texts and blobs are not copied: the statement forgets
    /// them when the rows are dropped.
    #[inline]
    pub fn query<'s>(&'s mut self, values: &[ValueRef<'s>]) -> Result<Rows<'s>> {
        self.make_ready();
        if values.len() != self.parameters as usize {
            return Err(self.wrong_parameter_count(values.len()));
        }
        // From here on the guard makes the statement forget the values, whatever happens.
        let rows = Rows { statement: self, ended: false };
        for (index, value) in values.iter().enumerate() {
            rows.statement.borrows |= matches!(value, ValueRef::Text(_) | ValueRef::Blob(_));
            // SAFETY: the values outlive the guard, whose drop clears the bindings. If the guard is leaked,
            // `borrows` makes the statement clear them before it runs again.
            unsafe { rows.statement.bind_any(index + 1, *value, ffi::SQLITE_STATIC())? };
        }
        Ok(rows)
    }

    /// The first column of the first row as an integer; `None` without a row.
    pub fn query_i64(&mut self, values: &[ValueRef<'_>]) -> Result<Option<i64>> {
        let mut rows = self.query(values)?;
        Ok(if rows.step()? { Some(rows.column_i64(0)) } else { None })
    }

    /// The first row by `read`; `None` without a row.
    pub fn query_row<T>(
        &mut self,
        values: &[ValueRef<'_>],
        read: impl FnOnce(&Statement) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut rows = self.query(values)?;
        if rows.step()? { read(&rows).map(Some) } else { Ok(None) }
    }

    /// How many columns a row has.
    #[inline]
    pub fn column_count(&self) -> usize {
        // SAFETY: see `bind_i64`.
        usize::try_from(unsafe { ffi::sqlite3_column_count(self.raw.as_ptr()) }).unwrap_or(0)
    }

    /// A column's name (from 0); empty past the end.
    pub fn column_name(&self, column: usize) -> &str {
        // SAFETY: see `bind_i64`; the name lives until the statement runs again, which needs `&mut self`.
        unsafe {
            let name = ffi::sqlite3_column_name(self.raw.as_ptr(), column as c_int);
            if name.is_null() { "" } else { CStr::from_ptr(name).to_str().unwrap_or("") }
        }
    }

    /// A column (from 0) of the current row by SQLite's conversion to integer; 0 when not on a row.
    #[inline]
    pub fn column_i64(&self, column: usize) -> i64 {
        // SAFETY: see `bind_i64`; off a row or out of range SQLite answers with NULL.
        unsafe { ffi::sqlite3_column_int64(self.raw.as_ptr(), column as c_int) }
    }

    /// A column (from 0) of the current row by SQLite's conversion to real; 0 when not on a row.
    #[inline]
    pub fn column_f64(&self, column: usize) -> f64 {
        // SAFETY: see `column_i64`.
        unsafe { ffi::sqlite3_column_double(self.raw.as_ptr(), column as c_int) }
    }

    /// The column (from 0) of the current row is NULL, or there is no such column or row.
    #[inline]
    pub fn column_is_null(&self, column: usize) -> bool {
        self.column_type(column) == ffi::SQLITE_NULL
    }

    /// The bytes of a blob column (from 0) of the current row; empty for any other storage class.
    #[inline]
    pub fn column_blob(&self, column: usize) -> &[u8] {
        if self.column_type(column) != ffi::SQLITE_BLOB {
            return &[];
        }
        // SAFETY: it is a blob.
        unsafe { self.blob_bytes(column) }
    }

    /// The bytes of a text column (from 0) of the current row; empty for any other storage class.
    #[inline]
    pub fn column_text(&self, column: usize) -> &[u8] {
        if self.column_type(column) != ffi::SQLITE_TEXT {
            return &[];
        }
        // SAFETY: it is a text.
        unsafe { self.text_bytes(column) }
    }

    /// A text column (from 0) of the current row, as valid UTF-8.
    pub fn column_str(&self, column: usize) -> Result<&str> {
        let text = self.column_text(column);
        std::str::from_utf8(text)
            .map_err(|_| Error::Corrupt(format!("{:?} is not valid UTF-8", String::from_utf8_lossy(text))))
    }

    /// A column (from 0) of the current row; NULL when there is no such column or row.
    #[inline]
    pub fn column_value(&self, column: usize) -> ValueRef<'_> {
        // SAFETY: the value lives until the statement runs again, which needs `&mut self`. It counts as protected:
        // whoever calls this does so inside of a callback, which SQLite makes with the connection's mutex held, or
        // has the connection for itself.
        unsafe { value_ref(self.raw_column(column)) }
    }

    /// The statement writes nothing to the database.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: see `bind_i64`.
        unsafe { ffi::sqlite3_stmt_readonly(self.raw.as_ptr()) != 0 }
    }

    #[inline]
    pub(super) fn raw_column(&self, column: usize) -> *mut ffi::sqlite3_value {
        // SAFETY: see `column_i64`.
        unsafe { ffi::sqlite3_column_value(self.raw.as_ptr(), column as c_int) }
    }

    #[inline]
    fn column_type(&self, column: usize) -> c_int {
        // SAFETY: see `column_i64`.
        unsafe { ffi::sqlite3_column_type(self.raw.as_ptr(), column as c_int) }
    }

    /// # Safety
    /// The column is a blob. A value read only by its own storage class is never converted, so nothing moves
    /// the bytes while they are borrowed; they live until the statement runs again, which needs `&mut self`.
    #[inline]
    unsafe fn blob_bytes(&self, column: usize) -> &[u8] {
        // SAFETY: see `bind_i64`, and this function's contract.
        unsafe {
            let start = ffi::sqlite3_column_blob(self.raw.as_ptr(), column as c_int).cast();
            bytes(start, ffi::sqlite3_column_bytes(self.raw.as_ptr(), column as c_int))
        }
    }

    /// # Safety
    /// The column is a text, as in `blob_bytes`. Asking for its length converts UTF-16 once; the text is then taken
    /// as it lies, since asking for it as a text would copy it for a terminator.
    #[inline]
    unsafe fn text_bytes(&self, column: usize) -> &[u8] {
        // SAFETY: see `bind_i64`, and this function's contract.
        unsafe {
            let len = ffi::sqlite3_column_bytes(self.raw.as_ptr(), column as c_int);
            if len == 0 {
                // Empty, or SQLite could not allocate: then the text is null.
                not_null(ffi::sqlite3_column_text(self.raw.as_ptr(), column as c_int));
            }
            bytes(ffi::sqlite3_column_blob(self.raw.as_ptr(), column as c_int).cast(), len)
        }
    }

    #[inline]
    fn step_unchecked(&mut self) -> Result<bool> {
        // SAFETY: see `bind_i64`.
        match unsafe { ffi::sqlite3_step(self.raw.as_ptr()) } {
            ffi::SQLITE_ROW => {
                self.on_row = true;
                Ok(true)
            }
            ffi::SQLITE_DONE => {
                self.on_row = false;
                // SAFETY: see `bind_i64`.
                unsafe { ffi::sqlite3_reset(self.raw.as_ptr()) };
                Ok(false)
            }
            rc => Err(self.failed(rc)),
        }
    }

    /// Reads the error before the reset, which may run other code.
    #[cold]
    fn failed(&mut self, rc: c_int) -> Error {
        let error = self.error(rc);
        self.on_row = false;
        // SAFETY: see `bind_i64`. The reset repeats the error that was just read.
        unsafe { ffi::sqlite3_reset(self.raw.as_ptr()) };
        error
    }

    /// # Safety
    /// With the `SQLITE_STATIC` destructor a text's or blob's bytes outlive the binding.
    #[inline]
    unsafe fn bind_any(
        &mut self,
        parameter: usize,
        value: ValueRef<'_>,
        lifetime: ffi::sqlite3_destructor_type,
    ) -> Result<()> {
        let (raw, index) = (self.raw.as_ptr(), parameter as c_int);
        // SAFETY: see `bind_i64`, and this function's contract.
        let rc = unsafe {
            match value {
                ValueRef::Null => ffi::sqlite3_bind_null(raw, index),
                ValueRef::Integer(value) => ffi::sqlite3_bind_int64(raw, index, value),
                ValueRef::Real(value) => ffi::sqlite3_bind_double(raw, index, value),
                ValueRef::Text(value) => {
                    let (start, len) = (value.as_ptr().cast::<c_char>(), value.len() as u64);
                    ffi::sqlite3_bind_text64(raw, index, start, len, lifetime, ffi::SQLITE_UTF8 as u8)
                }
                ValueRef::Blob(value) => {
                    ffi::sqlite3_bind_blob64(raw, index, value.as_ptr().cast(), value.len() as u64, lifetime)
                }
            }
        };
        self.check(rc)
    }

    #[inline]
    fn make_ready(&mut self) {
        if self.on_row || self.borrows {
            self.make_ready_slowly();
        }
    }

    fn make_ready_slowly(&mut self) {
        // SAFETY: see `bind_i64`. An error that reset repeats was reported by the step that failed.
        unsafe {
            if self.on_row {
                ffi::sqlite3_reset(self.raw.as_ptr());
            }
            if self.borrows {
                ffi::sqlite3_clear_bindings(self.raw.as_ptr());
            }
        }
        self.on_row = false;
        self.borrows = false;
    }

    #[inline]
    fn check(&self, rc: c_int) -> Result<()> {
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(self.error(rc)) }
    }

    #[cold]
    fn error(&self, rc: c_int) -> Error {
        // SAFETY: see `bind_i64`; a live statement belongs to an open connection.
        Error::from_connection(unsafe { ffi::sqlite3_db_handle(self.raw.as_ptr()) }, rc)
    }

    #[cold]
    fn wrong_parameter_count(&self, given: usize) -> Error {
        Error::Misuse(format!(
            "the statement has {} parameters but {given} values were given",
            self.parameters
        ))
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: `raw` is finalised exactly once, here.
        unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
    }
}

/// The rows of [`Statement::query`]; dropping them makes the statement ready again. Columns are read through
/// the statement it dereferences to.
#[derive(Debug)]
pub struct Rows<'s> {
    statement: &'s mut Statement,
    ended: bool,
}

impl Rows<'_> {
    /// Moves to the next row; `false` at the end. Stepping past the end does not start over.
    #[inline]
    pub fn step(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let result = self.statement.step_unchecked();
        self.ended = !matches!(result, Ok(true));
        result
    }
}

impl std::ops::Deref for Rows<'_> {
    type Target = Statement;

    #[inline]
    fn deref(&self) -> &Statement {
        self.statement
    }
}

impl Drop for Rows<'_> {
    #[inline]
    fn drop(&mut self) {
        self.statement.make_ready();
    }
}
