//! Which tables a transaction changed.
//!
//! SQLite's preupdate hook tells of every row, whoever changes it: a statement, a trigger, a foreign key, a merge; of
//! tables without rowid too, and it keeps `DELETE FROM t` from being cut short. The update hook does none of that.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_void};

use crsql::sqlite::Db;
use rusqlite::Connection;
use rusqlite::ffi;

/// The tables of `main` that changed since they were last asked for.
#[derive(Default)]
pub struct Changed(RefCell<BTreeSet<String>>);

impl Changed {
    /// Watches a connection.
    ///
    /// The result must be kept until the connection is closed, and is told no more after that.
    pub fn watch(connection: &Connection) -> Box<Changed> {
        let changed = Box::<Changed>::default();
        let context = std::ptr::from_ref(&*changed).cast_mut().cast::<c_void>();
        // SAFETY: the connection is open; the box does not move and outlives it by this function's contract, which
        // `Database` keeps by closing the connection first.
        unsafe {
            ffi::sqlite3_preupdate_hook(connection.handle(), Some(row_changed), context);
            ffi::sqlite3_rollback_hook(connection.handle(), Some(rolled_back), context);
        }
        changed
    }

    /// The tables, and from now on none.
    pub fn take(&self) -> BTreeSet<String> {
        self.0.take()
    }
}

unsafe extern "C" fn row_changed(
    context: *mut c_void,
    _db: *mut ffi::sqlite3,
    _operation: c_int,
    schema: *const c_char,
    table: *const c_char,
    _old_rowid: i64,
    _new_rowid: i64,
) {
    // SAFETY: the context is the box of `watch`, the names are C strings.
    let (changed, schema, table) =
        unsafe { (&*context.cast::<Changed>(), CStr::from_ptr(schema), CStr::from_ptr(table)) };
    if schema != c"main" {
        return;
    }
    let Ok(table) = table.to_str() else { return };
    let mut tables = changed.0.borrow_mut();
    if !tables.contains(table) {
        tables.insert(table.to_owned());
    }
}

unsafe extern "C" fn rolled_back(context: *mut c_void) {
    // SAFETY: as in `row_changed`.
    unsafe { &*context.cast::<Changed>() }.0.borrow_mut().clear();
}

/// What a statement reads: the names of tables, views and virtual tables, and whether it asks crsql.
#[derive(Default)]
pub struct Reads {
    pub tables: BTreeSet<String>,
    /// It calls functions or reads virtual tables of crsql, whose answers depend on any change.
    pub anything: bool,
}

/// Finds out what a statement reads, by watching SQLite ask for permission while it compiles it. `tables_used` would
/// leave virtual tables out.
pub fn reads(connection: &Connection, sql: &str) -> crsql::sqlite::Result<Reads> {
    let mut reads = Reads::default();
    let context = std::ptr::from_mut(&mut reads).cast::<c_void>();
    // SAFETY: the connection is open; the authorizer is taken back before `reads` goes out of scope.
    unsafe { ffi::sqlite3_set_authorizer(connection.handle(), Some(authorize), context) };
    let result = db(connection).prepare(sql);
    // SAFETY: as above.
    unsafe { ffi::sqlite3_set_authorizer(connection.handle(), None, std::ptr::null_mut()) };
    result.map(|_| reads)
}

unsafe extern "C" fn authorize(
    context: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _schema: *const c_char,
    _trigger: *const c_char,
) -> c_int {
    // SAFETY: the context is the local of `reads`; each name is null or a C string.
    let (reads, first, second) = unsafe {
        let text = |name: *const c_char| {
            if name.is_null() { "" } else { CStr::from_ptr(name).to_str().unwrap_or("") }
        };
        (&mut *context.cast::<Reads>(), text(first), text(second))
    };
    let ours = |name: &str| name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("crsql_"));
    match action {
        ffi::SQLITE_READ if ours(first) => reads.anything = true,
        ffi::SQLITE_READ if !first.is_empty() => {
            reads.tables.insert(first.to_owned());
        }
        ffi::SQLITE_FUNCTION => reads.anything |= ours(second),
        _ => {}
    }
    ffi::SQLITE_OK
}

/// The connection as crsql's own fence sees it.
pub fn db(connection: &Connection) -> Db {
    // SAFETY: the connection is open; the statements made from this are dropped before it is closed, see `Database`.
    unsafe { Db::from_handle(connection.handle()) }
}
