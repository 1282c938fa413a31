//! SQLite's file system on [`Store`]s: one database is three files that are open before SQLite is.
//!
//! The owner of a database is alone with it (a Web Lock and exclusive handles see to that), so locks always succeed.
//! `xCheckReservedLock` answers "no": anything else would keep SQLite from rolling a hot journal back after a crash.
//! There is no shared memory, so the log needs `locking_mode=exclusive` before the first read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::rc::Rc;
use std::slice;

use rusqlite::ffi;

use crate::files::{Failure, Store};

/// The name under which the file system is registered.
pub const NAME: &CStr = c"crsql-web";

/// The files of one database.
pub struct FileSet {
    pub main: Rc<Store>,
    pub journal: Rc<Store>,
    pub wal: Rc<Store>,
}

thread_local! {
    static SETS: RefCell<BTreeMap<String, FileSet>> = const { RefCell::new(BTreeMap::new()) };
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes the files known under `path`; SQLite may then open it.
pub fn mount(path: &str, files: FileSet) -> rusqlite::Result<()> {
    register()?;
    SETS.with_borrow_mut(|sets| sets.insert(path.to_owned(), files));
    Ok(())
}

/// Forgets the files. Whoever has one open keeps it.
pub fn unmount(path: &str) {
    SETS.with_borrow_mut(|sets| sets.remove(path));
}

/// What the storage said when an operation last failed.
pub fn take_last_error() -> Option<String> {
    LAST_ERROR.with_borrow_mut(Option::take)
}

fn fail(failure: Failure) -> c_int {
    LAST_ERROR.with_borrow_mut(|last| *last = Some(failure.reason));
    failure.code
}

fn find(name: &str) -> Option<Rc<Store>> {
    SETS.with_borrow(|sets| {
        if let Some(path) = name.strip_suffix("-journal") {
            return sets.get(path).map(|files| files.journal.clone());
        }
        if let Some(path) = name.strip_suffix("-wal") {
            return sets.get(path).map(|files| files.wal.clone());
        }
        sets.get(name).map(|files| files.main.clone())
    })
}

fn register() -> rusqlite::Result<()> {
    // SAFETY: the struct is leaked, so SQLite may keep it; all its functions have the types it declares.
    unsafe {
        if !ffi::sqlite3_vfs_find(NAME.as_ptr()).is_null() {
            return Ok(());
        }
        // Time, randomness and sleep are those of the memory file system that comes with SQLite.
        let base = ffi::sqlite3_vfs_find(ptr::null());
        if base.is_null() {
            return Err(rusqlite::Error::InvalidPath("SQLite has no file system".into()));
        }
        let vfs = ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: size_of::<OpenFile>() as c_int,
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path_name),
            ..ptr::read(base)
        };
        match ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0) {
            ffi::SQLITE_OK => Ok(()),
            code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
        }
    }
}

/// An open file: SQLite's part and, behind it, ours.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    store: *const Store,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// # Safety
/// `name` is null or a C string that outlives the result.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes `szOsFile` bytes for the file, a name or null, and a pointer or null for the flags.
    unsafe {
        let file = file.cast::<OpenFile>();
        (*file).base.pMethods = ptr::null();
        let store = match text(name) {
            // A temporary file without a name is nobody else's.
            None => Rc::new(Store::memory()),
            Some(path) => match find(path) {
                Some(store) => store,
                None => {
                    let reason =
                        format!("there is no database {path:?} here; attach \":memory:\" or import it");
                    return fail(Failure { code: ffi::SQLITE_CANTOPEN, reason });
                }
            },
        };
        (*file).store = Rc::into_raw(store);
        (*file).base.pMethods = &METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, name: *const c_char, _sync_dir: c_int) -> c_int {
    // SAFETY: SQLite passes a name.
    match unsafe { text(name) }.and_then(find) {
        Some(store) => store.truncate(0).and_then(|()| store.flush()).map_or_else(fail, |()| ffi::SQLITE_OK),
        None => ffi::SQLITE_OK,
    }
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes a name and a pointer for the answer.
    unsafe {
        let size = match text(name).and_then(find) {
            Some(store) => match store.size() {
                Ok(size) => size,
                Err(failure) => return fail(failure),
            },
            None => 0,
        };
        *out = c_int::from(size > 0);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path_name(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    out_len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a C string and room for `out_len` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > out_len as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

/// # Safety
/// `file` was opened by [`open`] and not closed yet.
unsafe fn store<'a>(file: *mut ffi::sqlite3_file) -> &'a Store {
    // SAFETY: by this function's contract the pointer came out of an `Rc` that is still counted.
    unsafe { &*(*file.cast::<OpenFile>()).store }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open file once; `open` counted the `Rc` for it.
    unsafe { drop(Rc::from_raw((*file.cast::<OpenFile>()).store)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, len: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes an open file and room for `len` bytes.
    let (store, into) = unsafe { (store(file), slice::from_raw_parts_mut(into.cast::<u8>(), len as usize)) };
    match store.read(into, at as u64) {
        Ok(count) if count == into.len() => ffi::SQLITE_OK,
        Ok(count) => {
            into[count..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(failure) => fail(failure),
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, len: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes an open file and `len` bytes.
    let (store, from) = unsafe { (store(file), slice::from_raw_parts(from.cast::<u8>(), len as usize)) };
    store.write(from, at as u64).map_or_else(fail, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite passes an open file; so it does below.
    unsafe { store(file) }.truncate(size as u64).map_or_else(fail, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: see `truncate`.
    unsafe { store(file) }.flush().map_or_else(fail, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: see `truncate`; `out` is where SQLite wants the answer.
    match unsafe { store(file) }.size() {
        Ok(size) => {
            unsafe { *out = size as i64 };
            ffi::SQLITE_OK
        }
        Err(failure) => fail(failure),
    }
}

unsafe extern "C" fn lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: `out` is where SQLite wants the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(
    _file: *mut ffi::sqlite3_file,
    _op: c_int,
    _argument: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}
