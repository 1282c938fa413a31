//! The C callbacks of `sqlite3_module`, generic over [`Module`]. Each reads its C arguments, runs the
//! method under a panic guard, and turns an error into `zErrMsg` and a result code.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem;
use std::ptr;
use std::rc::Rc;

use rusqlite::ffi;

use super::{Access, IndexInfo, Module, RowChange, VtabConfig};
use crate::sqlite::error::{free_sqlite_string, guard, guard_drop, sqlite_string};
use crate::sqlite::{Args, Db, Error, Output, Result, ValueRef};

/// A module's client data.
pub(super) struct Registered<M: Module> {
    pub(super) state: Rc<M::State>,
}

/// A connected table. SQLite sees only `base`, its first field.
#[repr(C)]
pub(super) struct Table<M: Module> {
    base: ffi::sqlite3_vtab,
    db: Db,
    module: M,
    /// A closed cursor's memory, or null: triggers open and close one for every row.
    spare: Cell<*mut Cursor<M>>,
}

/// An open cursor. SQLite sees only `base`, its first field.
#[repr(C)]
struct Cursor<M: Module> {
    base: ffi::sqlite3_vtab_cursor,
    cursor: M::Cursor,
    module: PhantomData<M>,
}

impl<M: Module> Table<M> {
    pub(super) const MODULE: &'static ffi::sqlite3_module = &{
        // SAFETY: integers and optional functions only, for which all zeroes are valid.
        let mut module: ffi::sqlite3_module = unsafe { mem::zeroed() };
        module.iVersion = 2;
        if !M::EPONYMOUS_ONLY {
            module.xCreate = Some(connect::<M>);
        }
        module.xConnect = Some(connect::<M>);
        module.xBestIndex = Some(best_index::<M>);
        module.xDisconnect = Some(disconnect::<M>);
        module.xDestroy = Some(disconnect::<M>);
        module.xOpen = Some(open::<M>);
        module.xClose = Some(close::<M>);
        module.xFilter = Some(filter::<M>);
        module.xNext = Some(next::<M>);
        module.xEof = Some(eof::<M>);
        module.xColumn = Some(column::<M>);
        module.xRowid = Some(rowid::<M>);
        if !matches!(M::ACCESS, Access::ReadOnly) {
            module.xUpdate = Some(update::<M>);
        }
        if matches!(M::ACCESS, Access::Transactional) {
            module.xBegin = Some(begin::<M>);
            module.xSync = Some(sync::<M>);
            module.xCommit = Some(commit::<M>);
            module.xRollback = Some(rollback::<M>);
            module.xSavepoint = Some(savepoint::<M>);
            module.xRelease = Some(release::<M>);
            module.xRollbackTo = Some(rollback_to::<M>);
        }
        module
    };
}

pub(super) unsafe extern "C" fn destroy_registered<M: Module>(data: *mut c_void) {
    // SAFETY: made by `Box::into_raw` at registration; SQLite calls this once.
    guard_drop(|| drop(unsafe { Box::from_raw(data.cast::<Registered<M>>()) }));
}

/// Runs a method of a connected table.
///
/// # Safety
/// `vtab` is what `connect::<M>` made and is not yet disconnected. SQLite counts the statements that use a
/// table and disconnects it only when none is left, so this holds through nested SQL as well.
#[inline]
unsafe fn with_table<M: Module>(vtab: *mut ffi::sqlite3_vtab, body: impl FnOnce(&M) -> Result<()>) -> c_int {
    // SAFETY: by this function's contract. Only shared references to a module are ever made, and none to the
    // whole table, whose `base` SQLite writes meanwhile.
    let module = unsafe { &(*vtab.cast::<Table<M>>()).module };
    match guard(|| body(module)) {
        Ok(()) => ffi::SQLITE_OK,
        // SAFETY: as above.
        Err(error) => unsafe { report(vtab, &error) },
    }
}

/// Runs a method of an open cursor.
///
/// # Safety
/// `raw` is what `open::<M>` made and is not yet closed. It belongs to one statement, and a statement is not
/// stepped while it is being stepped, so nobody else borrows it.
#[inline]
unsafe fn with_cursor<M: Module>(
    raw: *mut ffi::sqlite3_vtab_cursor,
    body: impl FnOnce(&M, &mut M::Cursor) -> Result<()>,
) -> c_int {
    // SAFETY: by this function's contract; SQLite has set `pVtab`, and keeps the table while it has cursors.
    unsafe {
        let vtab = (*raw).pVtab;
        let cursor = &mut (*raw.cast::<Cursor<M>>()).cursor;
        with_table::<M>(vtab, |module| body(module, cursor))
    }
}

/// # Safety
/// As [`with_table`].
#[cold]
unsafe fn report(vtab: *mut ffi::sqlite3_vtab, error: &Error) -> c_int {
    // SAFETY: by this function's contract; SQLite frees the message when it takes it.
    unsafe {
        free_sqlite_string((*vtab).zErrMsg);
        (*vtab).zErrMsg = sqlite_string(&error.to_string());
    }
    error.code()
}

unsafe extern "C" fn connect<M: Module>(
    handle: *mut ffi::sqlite3,
    data: *mut c_void,
    _argc: c_int,
    _argv: *const *const c_char,
    out: *mut *mut ffi::sqlite3_vtab,
    message: *mut *mut c_char,
) -> c_int {
    let connected = guard(|| {
        // SAFETY: the connection is open and outlives the table; the client data is the registration's.
        let (db, registered) = unsafe { (Db::from_handle(handle), &*data.cast::<Registered<M>>()) };
        // SAFETY: called from xConnect, with a NUL-terminated declaration.
        db.check(unsafe { ffi::sqlite3_declare_vtab(handle, M::SCHEMA.as_ptr()) })?;
        let module = M::connect(&registered.state, &VtabConfig::new(db))?;
        // SAFETY: a pointer and integers, which SQLite fills in.
        let base = unsafe { mem::zeroed() };
        Ok(Box::new(Table { base, db, module, spare: Cell::new(ptr::null_mut()) }))
    });
    match connected {
        Ok(table) => {
            // SAFETY: SQLite gives a valid out-pointer; `base` is the first field of a `repr(C)` struct.
            unsafe { *out = Box::into_raw(table).cast() };
            ffi::SQLITE_OK
        }
        Err(error) => {
            // SAFETY: SQLite gives a valid out-pointer, and frees the message.
            unsafe { *message = sqlite_string(&error.to_string()) };
            error.code()
        }
    }
}

unsafe extern "C" fn disconnect<M: Module>(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: made by `connect::<M>`; SQLite calls this once, after every cursor is closed.
    let table = unsafe { Box::from_raw(vtab.cast::<Table<M>>()) };
    guard_drop(|| table.module.disconnect());
    // SAFETY: every cursor is closed, and `close` leaves nothing but memory here.
    unsafe { free_spare(table.spare.replace(ptr::null_mut())) };
    // SAFETY: SQLite leaves a message it has not taken to the table's owner.
    unsafe { free_sqlite_string(table.base.zErrMsg) };
    guard_drop(|| drop(table));
    ffi::SQLITE_OK
}

unsafe extern "C" fn best_index<M: Module>(
    vtab: *mut ffi::sqlite3_vtab,
    info: *mut ffi::sqlite3_index_info,
) -> c_int {
    let mut accepted = true;
    // SAFETY: a connected table; the index info is valid and ours during the call.
    let rc = unsafe {
        with_table::<M>(vtab, |module| {
            accepted = module.best_index(&mut IndexInfo::new(&mut *info))?;
            Ok(())
        })
    };
    match rc & 0xff {
        ffi::SQLITE_OK if !accepted => ffi::SQLITE_CONSTRAINT,
        // To the planner this one code means "try another plan", which only `Ok(false)` is to say.
        ffi::SQLITE_CONSTRAINT => ffi::SQLITE_ERROR,
        _ => rc,
    }
}

unsafe extern "C" fn open<M: Module>(
    vtab: *mut ffi::sqlite3_vtab,
    out: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    // SAFETY: a connected table and a valid out-pointer; `base` is the first field of a `repr(C)` struct. A spare is
    // memory of `Box` with nothing in it.
    unsafe {
        with_table::<M>(vtab, |module| {
            let cursor = Cursor::<M> { base: mem::zeroed(), cursor: module.open()?, module: PhantomData };
            let spare = (*vtab.cast::<Table<M>>()).spare.replace(ptr::null_mut());
            let opened = if spare.is_null() {
                Box::into_raw(Box::new(cursor))
            } else {
                spare.write(cursor);
                spare
            };
            *out = opened.cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn close<M: Module>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: made by `open::<M>`; SQLite calls this once, while the table is connected. The content is dropped
    // here, so that what is kept is memory only.
    unsafe {
        let spare = &(*(*cursor).pVtab.cast::<Table<M>>()).spare;
        let cursor = cursor.cast::<Cursor<M>>();
        guard_drop(|| ptr::drop_in_place(&raw mut (*cursor).cursor));
        free_spare(spare.replace(cursor));
    }
    ffi::SQLITE_OK
}

/// # Safety
/// `spare` is null or the memory of a closed cursor, which nobody else knows.
unsafe fn free_spare<M: Module>(spare: *mut Cursor<M>) {
    if !spare.is_null() {
        // SAFETY: by this function's contract; its content is dropped already.
        drop(unsafe { Box::from_raw(spare.cast::<mem::MaybeUninit<Cursor<M>>>()) });
    }
}

unsafe extern "C" fn filter<M: Module>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    plan: c_int,
    detail: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    // SAFETY: an open cursor; the detail is null or the text `best_index` set; the arguments are valid during
    // the call.
    unsafe {
        with_cursor::<M>(cursor, |module, cursor| {
            let detail =
                if detail.is_null() { "" } else { CStr::from_ptr(detail).to_str().unwrap_or_default() };
            module.filter(cursor, plan, detail, Args::new(argc, argv))
        })
    }
}

unsafe extern "C" fn next<M: Module>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: an open cursor.
    unsafe { with_cursor::<M>(cursor, M::next) }
}

unsafe extern "C" fn eof<M: Module>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    let mut at_end = true;
    // SAFETY: an open cursor. A panic ends the scan, and its message stays for the statement's error.
    unsafe {
        with_cursor::<M>(cursor, |module, cursor| {
            at_end = module.eof(cursor);
            Ok(())
        })
    };
    c_int::from(at_end)
}

unsafe extern "C" fn column<M: Module>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    column: c_int,
) -> c_int {
    // SAFETY: an open cursor, and a context that is valid during the call.
    unsafe {
        with_cursor::<M>(cursor, |module, cursor| {
            module.column(cursor, usize::try_from(column).unwrap_or(usize::MAX), &Output::new(context))
        })
    }
}

unsafe extern "C" fn rowid<M: Module>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open cursor and a valid out-pointer.
    unsafe {
        with_cursor::<M>(cursor, |module, cursor| {
            *out = module.rowid(cursor)?;
            Ok(())
        })
    }
}

unsafe extern "C" fn update<M: Module>(
    vtab: *mut ffi::sqlite3_vtab,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    let mut skipped = false;
    // SAFETY: a connected table, arguments that are valid during the call, and a valid out-pointer.
    let rc = unsafe {
        with_table::<M>(vtab, |module| {
            let db = (*vtab.cast::<Table<M>>()).db;
            let args: Args<'_> = Args::new(argc, argv);
            let rowid = args.get(0);
            let change = if argc == 1 {
                RowChange::Delete { db, rowid }
            } else if matches!(rowid, ValueRef::Null) {
                RowChange::Insert { db, rowid: args.get(1), values: args.skip(2) }
            } else {
                RowChange::Update { db, rowid, new_rowid: args.get(1), values: args.skip(2) }
            };
            skipped = module.skips(&change);
            if skipped {
                return Ok(());
            }
            let rowid = module.update(&change)?;
            if matches!(change, RowChange::Insert { .. }) && !out.is_null() {
                *out = rowid;
            }
            Ok(())
        })
    };
    // Under OR IGNORE a broken constraint is no error, and nothing that counts.
    if skipped && rc == ffi::SQLITE_OK { ffi::SQLITE_CONSTRAINT } else { rc }
}

unsafe extern "C" fn begin<M: Module>(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: here and below, a connected table: SQLite keeps those that are part of a transaction.
    unsafe { with_table::<M>(vtab, |module| module.begin()) }
}

unsafe extern "C" fn sync<M: Module>(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: see `begin`.
    unsafe { with_table::<M>(vtab, |module| module.sync()) }
}

unsafe extern "C" fn commit<M: Module>(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: see `begin`.
    unsafe {
        with_table::<M>(vtab, |module| {
            module.commit();
            Ok(())
        })
    }
}

unsafe extern "C" fn rollback<M: Module>(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: see `begin`.
    unsafe {
        with_table::<M>(vtab, |module| {
            module.rollback();
            Ok(())
        })
    }
}

unsafe extern "C" fn savepoint<M: Module>(vtab: *mut ffi::sqlite3_vtab, n: c_int) -> c_int {
    // SAFETY: see `begin`.
    unsafe { with_table::<M>(vtab, |module| module.savepoint(n)) }
}

unsafe extern "C" fn release<M: Module>(vtab: *mut ffi::sqlite3_vtab, n: c_int) -> c_int {
    // SAFETY: see `begin`.
    unsafe { with_table::<M>(vtab, |module| module.release(n)) }
}

unsafe extern "C" fn rollback_to<M: Module>(vtab: *mut ffi::sqlite3_vtab, n: c_int) -> c_int {
    // SAFETY: see `begin`.
    unsafe { with_table::<M>(vtab, |module| module.rollback_to(n)) }
}
