//! The host's connection, borrowed: opened and closed by the host, never by us.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use rusqlite::ffi;

use super::error::text_of;
use super::{Error, Result, Statement, ValueRef};

/// A connection handle. Copying it is free; it never closes the connection.
///
/// Everything that holds one belongs to a function or a module registered on that connection, and SQLite
/// destroys those before it frees the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Db(*mut ffi::sqlite3);

/// How far the connection is into a transaction on `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// No transaction.
    None,
    /// A read transaction.
    Read,
    /// A write transaction: this connection holds the write lock.
    Write,
}

impl Db {
    /// Wraps an open connection.
    ///
    /// # Safety
    /// `handle` is an open connection and outlives every copy of the result and everything prepared on it.
    #[inline]
    pub unsafe fn from_handle(handle: *mut ffi::sqlite3) -> Db {
        Db(handle)
    }

    /// The raw handle, for the fence itself.
    #[inline]
    pub(super) fn handle(self) -> *mut ffi::sqlite3 {
        self.0
    }

    /// Compiles the first statement of `sql`.
    pub fn prepare(&self, sql: &str) -> Result<Statement> {
        Statement::prepare(*self, sql, 0)
    }

    /// Compiles the first statement of `sql`, to be kept and used many times.
    pub fn prepare_persistent(&self, sql: &str) -> Result<Statement> {
        Statement::prepare(*self, sql, ffi::SQLITE_PREPARE_PERSISTENT)
    }

    /// Compiles the first statement of `sql` and says what follows it; `None` when there is only whitespace or
    /// a comment up to there.
    pub fn prepare_first<'s>(&self, sql: &'s str) -> Result<(Option<Statement>, &'s str)> {
        Statement::prepare_next(*self, sql, ffi::SQLITE_PREPARE_PERSISTENT)
    }

    /// Runs every statement of `sql`, ignoring rows. Stops at the first error; it opens no transaction.
    pub fn exec(&self, sql: &str) -> Result<()> {
        let mut rest = sql;
        loop {
            let (statement, tail) = Statement::prepare_next(*self, rest, 0)?;
            match statement {
                Some(mut statement) => while statement.step()? {},
                None if tail.is_empty() => return Ok(()),
                None => {}
            }
            if tail.len() == rest.len() {
                return Err(Error::Misuse("the SQL text contains a NUL character".to_owned()));
            }
            rest = tail;
        }
    }

    /// Rows changed by the latest INSERT, UPDATE or DELETE, without those changed by its triggers.
    ///
    /// `sqlite3_changes64` is newer than the oldest supported host, so counts past 2^31 wrap.
    #[inline]
    pub fn changes64(&self) -> i64 {
        // SAFETY: here and below, the handle is open by `from_handle`'s contract.
        i64::from(unsafe { ffi::sqlite3_changes(self.0) })
    }

    /// Rows changed since the connection was opened, triggers included.
    #[inline]
    pub fn total_changes(&self) -> i64 {
        // SAFETY: see `changes64`.
        i64::from(unsafe { ffi::sqlite3_total_changes(self.0) })
    }

    /// The rowid of the latest INSERT.
    #[inline]
    pub fn last_insert_rowid(&self) -> i64 {
        // SAFETY: see `changes64`.
        unsafe { ffi::sqlite3_last_insert_rowid(self.0) }
    }

    /// Sets what `last_insert_rowid()` answers, so that our own writes don't show.
    #[inline]
    pub fn set_last_insert_rowid(&self, rowid: i64) {
        // SAFETY: see `changes64`.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.0, rowid) }
    }

    /// No explicit transaction is open.
    #[inline]
    pub fn is_autocommit(&self) -> bool {
        // SAFETY: see `changes64`.
        unsafe { ffi::sqlite3_get_autocommit(self.0) != 0 }
    }

    /// The transaction state of `main`.
    #[inline]
    pub fn transaction(&self) -> Transaction {
        // SAFETY: see `changes64`.
        match unsafe { ffi::sqlite3_txn_state(self.0, c"main".as_ptr()) } {
            ffi::SQLITE_TXN_WRITE => Transaction::Write,
            ffi::SQLITE_TXN_READ => Transaction::Read,
            _ => Transaction::None,
        }
    }

    /// A number that differs from an earlier answer when another connection, or this one, has committed to
    /// `main` in between. Only comparable on the same connection, and only up to date inside a transaction:
    /// before one has read anything, it is what the previous transaction saw.
    #[inline]
    pub fn data_version(&self) -> u32 {
        let mut version: u32 = 0;
        // SAFETY: see `changes64`; this file control writes one unsigned int.
        unsafe {
            ffi::sqlite3_file_control(
                self.0,
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_DATA_VERSION,
                ptr::from_mut(&mut version).cast::<c_void>(),
            );
        }
        version
    }

    /// Whether `main` has a table of this name.
    pub fn has_table(&self, name: &str) -> Result<bool> {
        let mut find = self.prepare("SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ?1")?;
        Ok(find.query_i64(&[ValueRef::Text(name.as_bytes())])?.is_some())
    }

    /// `PRAGMA main.schema_version`. Compiles a statement: where it is asked often, keep one.
    pub fn schema_version(&self) -> Result<i64> {
        let mut statement = self.prepare("PRAGMA main.schema_version")?;
        if statement.step()? { Ok(statement.column_i64(0)) } else { Ok(0) }
    }

    /// `main` was opened read-only.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        // SAFETY: see `changes64`.
        unsafe { ffi::sqlite3_db_readonly(self.0, c"main".as_ptr()) == 1 }
    }

    /// A run-time limit, by its `SQLITE_LIMIT_` number.
    #[inline]
    pub fn limit(&self, id: i32) -> i32 {
        // SAFETY: see `changes64`; -1 only reads.
        unsafe { ffi::sqlite3_limit(self.0, id, -1) }
    }

    /// Another statement that writes is between its first step and its reset. The statements that are being
    /// stepped further up the stack count too.
    pub fn has_busy_writer(&self) -> bool {
        self.busy_writers() > 0
    }

    /// How many writing statements are between their first step and their reset.
    pub fn busy_writers(&self) -> usize {
        let mut count = 0;
        // SAFETY: see `changes64`; the list does not change while it is walked, because nothing is prepared
        // or finalised here.
        unsafe {
            let mut statement = ffi::sqlite3_next_stmt(self.0, ptr::null_mut());
            while !statement.is_null() {
                if ffi::sqlite3_stmt_busy(statement) != 0 && ffi::sqlite3_stmt_readonly(statement) == 0 {
                    count += 1;
                }
                statement = ffi::sqlite3_next_stmt(self.0, statement);
            }
        }
        count
    }

    /// The text of a writing statement that is running.
    pub fn busy_writer_sql(&self) -> Option<String> {
        // SAFETY: as `busy_writers`; the text belongs to the statement and is copied at once.
        unsafe {
            let mut statement = ffi::sqlite3_next_stmt(self.0, ptr::null_mut());
            while !statement.is_null() {
                if ffi::sqlite3_stmt_busy(statement) != 0 && ffi::sqlite3_stmt_readonly(statement) == 0 {
                    let sql = ffi::sqlite3_sql(statement);
                    return (!sql.is_null()).then(|| CStr::from_ptr(sql).to_string_lossy().into_owned());
                }
                statement = ffi::sqlite3_next_stmt(self.0, statement);
            }
        }
        None
    }

    /// Switches all triggers of the connection on or off; returns what it was before. Affects statements
    /// that are compiled from now on, and compiled ones are compiled again.
    pub fn set_enable_trigger(&self, enabled: bool) -> Result<bool> {
        let before = self.are_triggers_enabled()?;
        if before != enabled {
            self.config_switch(ffi::SQLITE_DBCONFIG_ENABLE_TRIGGER, c_int::from(enabled))?;
        }
        Ok(before)
    }

    /// Runs `body` while no trigger fires, and leaves the switch as it was found, whatever comes of it.
    pub fn without_triggers<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.set_enable_trigger(false)?;
        let done = body();
        if before {
            self.set_enable_trigger(true)?;
        }
        done
    }

    /// Runs `body` while SQLite enforces no FOREIGN KEY, runs none of their actions and counts no violation, and
    /// leaves the switch as it was found. Unlike `PRAGMA foreign_keys` this works inside a transaction.
    pub fn without_foreign_keys<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.enforces_foreign_keys()? {
            return body();
        }
        self.config_switch(ffi::SQLITE_DBCONFIG_ENABLE_FKEY, 0)?;
        let done = body();
        self.config_switch(ffi::SQLITE_DBCONFIG_ENABLE_FKEY, 1)?;
        done
    }

    /// SQLite enforces FOREIGN KEYs on this connection.
    pub fn enforces_foreign_keys(&self) -> Result<bool> {
        Ok(self.config_switch(ffi::SQLITE_DBCONFIG_ENABLE_FKEY, -1)? != 0)
    }

    /// Triggers run on this connection.
    pub fn are_triggers_enabled(&self) -> Result<bool> {
        Ok(self.config_switch(ffi::SQLITE_DBCONFIG_ENABLE_TRIGGER, -1)? != 0)
    }

    /// Sets (0, 1) or only reads (-1) one of the on/off settings; returns its value afterwards.
    fn config_switch(&self, setting: c_int, value: c_int) -> Result<c_int> {
        let mut now: c_int = 0;
        // SAFETY: see `changes64`; the on/off settings take an int and a pointer to an int.
        let rc = unsafe { ffi::sqlite3_db_config(self.0, setting, value, ptr::from_mut(&mut now)) };
        self.check(rc)?;
        Ok(now)
    }

    /// The message of the latest failed call.
    pub fn errmsg(&self) -> String {
        // SAFETY: see `changes64`; copied before any other call can replace it.
        unsafe { text_of(ffi::sqlite3_errmsg(self.0)) }
    }

    /// The extended result code of the latest failed call.
    pub fn extended_errcode(&self) -> i32 {
        // SAFETY: see `changes64`.
        unsafe { ffi::sqlite3_extended_errcode(self.0) }
    }

    /// The file of an attached database, `None` when it has none (in memory, temporary) or does not exist.
    pub fn file_name(&self, schema: &CStr) -> Option<String> {
        // SAFETY: see `changes64`; copied before the database can be detached.
        let name = unsafe { text_of(ffi::sqlite3_db_filename(self.0, schema.as_ptr()).cast::<c_char>()) };
        (!name.is_empty()).then_some(name)
    }

    /// The host's SQLite version, such as 3040001.
    pub fn sqlite_version() -> i32 {
        // SAFETY: has no preconditions.
        unsafe { ffi::sqlite3_libversion_number() }
    }

    #[inline]
    pub(super) fn check(self, rc: c_int) -> Result<()> {
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(Error::from_connection(self.0, rc)) }
    }
}
