//! Virtual tables.
//!
//! A [`Module`] is implemented by the type of a connected table. Its methods take `&self`, because SQLite
//! calls a table again while one of its methods is running SQL; a cursor belongs to one statement and is
//! borrowed mutably. `sqlite3_module` is filled as version 2 (savepoints), which every supported host has;
//! the fields of later versions stay empty.

mod index;
mod trampoline;

use std::ffi::{CStr, c_void};
use std::rc::Rc;

use rusqlite::ffi;

use super::{Args, Db, Output, Result, ValueRef};
pub use index::{Constraint, IndexInfo, Operator, OrderTerm};
use trampoline::{Registered, Table};

/// What a module lets SQL do with its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// SELECT only.
    ReadOnly,
    /// Also INSERT, UPDATE and DELETE, through [`Module::update`].
    Writable,
    /// Writable, and told about transactions and savepoints.
    Transactional,
}

/// A virtual table, as long as it is connected. One is connected per connection (and schema) on first use.
pub trait Module: Sized + 'static {
    /// What all functions and modules of the connection share.
    type State: 'static;
    /// An open scan.
    type Cursor: 'static;

    /// The declaration: `CREATE TABLE x(...)`, the name being ignored.
    const SCHEMA: &'static CStr;
    /// Whether `update` and the transaction methods are called.
    const ACCESS: Access = Access::ReadOnly;
    /// Usable under its own name only. Otherwise `CREATE VIRTUAL TABLE ... USING` works as well.
    const EPONYMOUS_ONLY: bool = true;

    /// Makes the table; SQLite declares [`Module::SCHEMA`] right after.
    fn connect(state: &Rc<Self::State>, config: &VtabConfig) -> Result<Self>;

    /// Chooses a plan. `Ok(false)` refuses this combination of constraints, so that SQLite tries another.
    fn best_index(&self, index: &mut IndexInfo<'_>) -> Result<bool>;

    /// Opens a cursor; `filter` comes before anything else.
    fn open(&self) -> Result<Self::Cursor>;

    /// Starts (or restarts) a scan by the plan that `best_index` made, and moves to its first row.
    fn filter(&self, cursor: &mut Self::Cursor, plan: i32, detail: &str, args: Args<'_>) -> Result<()>;

    /// Moves to the next row.
    fn next(&self, cursor: &mut Self::Cursor) -> Result<()>;

    /// The scan is past its last row.
    fn eof(&self, cursor: &Self::Cursor) -> bool;

    /// Answers one column (from 0) of the current row.
    fn column(&self, cursor: &mut Self::Cursor, column: usize, output: &Output<'_>) -> Result<()>;

    /// The current row's rowid.
    fn rowid(&self, cursor: &Self::Cursor) -> Result<i64>;

    /// INSERT, UPDATE or DELETE of one row. Returns the new row's rowid for an INSERT, else anything.
    fn update(&self, _change: &RowChange<'_>) -> Result<i64> {
        Err(super::Error::Misuse("the table is read-only".to_owned()))
    }

    /// Tells of a row that is not even to be counted as a change. `true` is allowed only under
    /// [`OnConflict::Ignore`], and with [`VtabConfig::set_constraint_support`].
    #[inline]
    fn skips(&self, _change: &RowChange<'_>) -> bool {
        false
    }

    /// The connection's first write to the table in this transaction.
    fn begin(&self) -> Result<()> {
        Ok(())
    }

    /// The transaction is about to commit; the last chance to write, and to refuse.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// The transaction has committed.
    fn commit(&self) {}

    /// The transaction has been rolled back.
    fn rollback(&self) {}

    /// Savepoint `n` begins: later `release` and `rollback_to` name it.
    fn savepoint(&self, _n: i32) -> Result<()> {
        Ok(())
    }

    /// Savepoints `n` and higher are forgotten, their changes kept.
    fn release(&self, _n: i32) -> Result<()> {
        Ok(())
    }

    /// Everything since savepoint `n` began is undone; it stays open.
    fn rollback_to(&self, _n: i32) -> Result<()> {
        Ok(())
    }

    /// The table is about to be dropped: it was disconnected, or the connection is closing. Statements kept in
    /// the state must be dropped here, or `sqlite3_close` answers BUSY. SQLite may connect again later.
    fn disconnect(&self) {}
}

/// What may be set while a table is being connected.
pub struct VtabConfig {
    db: Db,
}

/// Where a virtual table may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// Harmless: in triggers and views even with `trusted_schema=off`.
    Innocuous,
    /// Only from top-level SQL.
    DirectOnly,
}

impl VtabConfig {
    pub(super) fn new(db: Db) -> VtabConfig {
        VtabConfig { db }
    }

    /// The connection that the table is connected on.
    pub fn db(&self) -> Db {
        self.db
    }

    /// Says where the table may be used; otherwise it depends on `trusted_schema`.
    pub fn set_risk(&self, risk: Risk) -> Result<()> {
        let option = match risk {
            Risk::Innocuous => ffi::SQLITE_VTAB_INNOCUOUS,
            Risk::DirectOnly => ffi::SQLITE_VTAB_DIRECTONLY,
        };
        // SAFETY: called from xConnect only, since only the trampoline makes a `VtabConfig`.
        self.db.check(unsafe { ffi::sqlite3_vtab_config(self.db.handle(), option) })
    }

    /// Promises that `update` honours [`RowChange::on_conflict`]: a refused row then leaves no half of itself.
    pub fn set_constraint_support(&self) -> Result<()> {
        // SAFETY: as in `set_risk`.
        self.db.check(unsafe { super::api::vtab_constraint_support(self.db.handle()) })
    }
}

/// One row that a statement writes to a virtual table.
pub enum RowChange<'a> {
    /// `INSERT`.
    Insert {
        /// The connection.
        db: Db,
        /// The rowid that was given, or NULL.
        rowid: ValueRef<'a>,
        /// A value per declared column.
        values: Args<'a>,
    },
    /// `UPDATE`.
    Update {
        /// The connection.
        db: Db,
        /// The row.
        rowid: ValueRef<'a>,
        /// What its rowid becomes, mostly the same.
        new_rowid: ValueRef<'a>,
        /// A value per declared column.
        values: Args<'a>,
    },
    /// `DELETE`.
    Delete {
        /// The connection.
        db: Db,
        /// The row.
        rowid: ValueRef<'a>,
    },
}

/// What the statement wants when a row breaks a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Roll the transaction back.
    Rollback,
    /// Skip the row.
    Ignore,
    /// Stop, keeping earlier rows.
    Fail,
    /// Undo the statement: the default.
    Abort,
    /// Remove what is in the way.
    Replace,
}

impl RowChange<'_> {
    /// The conflict clause of the statement that is running; inside a trigger that of the statement that fired
    /// it, when it has one.
    #[inline]
    pub fn on_conflict(&self) -> OnConflict {
        let (RowChange::Insert { db, .. } | RowChange::Update { db, .. } | RowChange::Delete { db, .. }) =
            self;
        // SAFETY: called during xUpdate only, since only the trampoline makes a `RowChange`.
        match unsafe { ffi::sqlite3_vtab_on_conflict(db.handle()) } {
            ffi::SQLITE_ROLLBACK => OnConflict::Rollback,
            ffi::SQLITE_IGNORE => OnConflict::Ignore,
            ffi::SQLITE_FAIL => OnConflict::Fail,
            ffi::SQLITE_REPLACE => OnConflict::Replace,
            _ => OnConflict::Abort,
        }
    }
}

/// Registers `M` under `name`. SQLite drops the state's reference when the connection closes or the module
/// is replaced.
pub fn register_module<M: Module>(db: Db, name: &CStr, state: &Rc<M::State>) -> Result<()> {
    let registered = Box::into_raw(Box::new(Registered::<M> { state: Rc::clone(state) }));
    // SAFETY: the connection is open; the module lives for ever; the box is handed to SQLite, which passes it
    // to `destroy` exactly once, even when the registration fails.
    let rc = unsafe {
        ffi::sqlite3_create_module_v2(
            db.handle(),
            name.as_ptr(),
            Table::<M>::MODULE,
            registered.cast::<c_void>(),
            Some(trampoline::destroy_registered::<M>),
        )
    };
    db.check(rc)
}
