//! A disk and an allocator that fail when told: what stands below SQLite in the fault tests.
//!
//! All `unsafe` of the test harness is here. The disk is a VFS in memory, one per thread, that counts its reads,
//! writes, syncs and locks, fails any of them, and can lose power: what was not synced is then there in part, in any
//! order. The allocator is SQLite's own with a count in front. Neither is shared between threads.

use crate::Rng;
use rusqlite::ffi;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

/// The name of the VFS.
pub const VFS: &str = "crsql-fault";
/// Writes reach the disk in pieces of this many bytes.
const SECTOR: usize = 512;

/// One operation of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// A read.
    Read,
    /// A write or a truncation.
    Write,
    /// A sync.
    Sync,
    /// A lock taken.
    Lock,
    /// A file opened, deleted, or asked for.
    Name,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The n-th operation of a kind fails, once or from then on.
    Fails(Io, u64, Lasting),
    /// The n-th write and all after find the disk full.
    Full(u64),
    /// Power goes at the n-th write or sync: it does not happen, nor does anything after.
    PowerLoss(u64),
}

/// Whether a failure goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// Only that operation fails.
    Once,
    /// All operations from then on fail.
    Forever,
}

#[derive(Clone, Default)]
struct File {
    /// What the program sees.
    live: Vec<u8>,
    /// What survives the loss of power, whatever happens.
    durable: Vec<u8>,
    /// What was done since the last sync, in order.
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// The contents of a disk.
#[derive(Clone, Default)]
pub struct Image(BTreeMap<String, File>);

#[derive(Default)]
struct Disk {
    image: Image,
    trouble: Option<Trouble>,
    count: u64,
    fired: bool,
}

thread_local! {
    static DISK: RefCell<Disk> = RefCell::default();
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static FAIL_AT: Cell<u64> = const { Cell::new(u64::MAX) };
    static FAIL_FOREVER: Cell<bool> = const { Cell::new(false) };
    static ALLOCATION_FAILED: Cell<bool> = const { Cell::new(false) };
    static OUTSTANDING: Cell<i64> = const { Cell::new(0) };
}

/// Makes SQLite use the disk and the allocator. Call it before anything else opens a database in this process.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: nothing of this process uses SQLite yet, as `sqlite3_config` demands; the structures live for ever.
        unsafe {
            let mut original: ffi::sqlite3_mem_methods = std::mem::zeroed();
            assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &mut original), ffi::SQLITE_OK);
            ORIGINAL.0.set(Some(original));
            let mut counting = original;
            counting.xMalloc = Some(allocate);
            counting.xRealloc = Some(reallocate);
            counting.xFree = Some(free);
            assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &counting), ffi::SQLITE_OK);
            // Every allocation is to be seen.
            assert_eq!(ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, 0, 0), ffi::SQLITE_OK);
            assert_eq!(ffi::sqlite3_initialize(), ffi::SQLITE_OK);
            let default = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!default.is_null(), "SQLite has a VFS");
            let vfs = ffi::sqlite3_vfs {
                iVersion: 1,
                szOsFile: size_of::<Handle>() as c_int,
                mxPathname: 200,
                pNext: std::ptr::null_mut(),
                zName: c"crsql-fault".as_ptr(),
                pAppData: std::ptr::null_mut(),
                xOpen: Some(open),
                xDelete: Some(delete),
                xAccess: Some(access),
                xFullPathname: Some(full_path),
                ..*default
            };
            let vfs = Box::leak(Box::new(vfs));
            assert_eq!(ffi::sqlite3_vfs_register(vfs, 0), ffi::SQLITE_OK);
        }
    });
}

/// Puts these contents on the disk of this thread and forgets all trouble. No connection may be open.
pub fn insert_disk(image: &Image) {
    DISK.with_borrow_mut(|disk| *disk = Disk { image: image.clone(), ..Disk::default() });
}

/// The contents as the program sees them; all of it durable.
pub fn image() -> Image {
    DISK.with_borrow(|disk| {
        let files = disk.image.0.iter().map(|(name, file)| {
            let durable = file.live.clone();
            (name.clone(), File { live: file.live.clone(), durable, pending: Vec::new() })
        });
        Image(files.collect())
    })
}

/// What is left after a loss of power: everything synced, and of the rest any part, sector by sector, in any order.
pub fn image_after_power_loss(rng: &mut Rng) -> Image {
    DISK.with_borrow(|disk| {
        let files = disk.image.0.iter().map(|(name, file)| {
            let mut durable = file.durable.clone();
            // All, none, or some of it.
            let keep = rng.below(4);
            let mut pieces: Vec<Pending> = file.pending.iter().flat_map(sectors).collect();
            if keep == 3 {
                rng.shuffle(&mut pieces);
            }
            for piece in pieces {
                if keep == 1 || (keep >= 2 && rng.one_in(2)) {
                    apply(&mut durable, &piece);
                }
            }
            (name.clone(), File { live: durable.clone(), durable, pending: Vec::new() })
        });
        Image(files.collect())
    })
}

/// Arms one trouble; it counts operations from now on.
pub fn arm(trouble: Trouble) {
    DISK.with_borrow_mut(|disk| (disk.trouble, disk.count, disk.fired) = (Some(trouble), 0, false));
}

/// Ends the trouble; true if it struck.
pub fn disarm() -> bool {
    DISK.with_borrow_mut(|disk| {
        disk.trouble = None;
        std::mem::take(&mut disk.fired)
    })
}

/// Whether the trouble has struck; it goes on.
pub fn has_struck() -> bool {
    DISK.with_borrow(|disk| disk.fired)
}

/// Lets the n-th allocation of this thread fail, from 1.
pub fn fail_allocation(n: u64, lasting: Lasting) {
    ALLOCATIONS.set(0);
    ALLOCATION_FAILED.set(false);
    FAIL_FOREVER.set(lasting == Lasting::Forever);
    FAIL_AT.set(n);
}

/// Ends that; true if an allocation failed.
pub fn allow_allocations() -> bool {
    FAIL_AT.set(u64::MAX);
    ALLOCATION_FAILED.take()
}

/// How many allocations of SQLite on this thread have not been freed.
pub fn outstanding_allocations() -> i64 {
    OUTSTANDING.get()
}

/// The bytes of a file, to be changed by a test; `None` if there is none.
pub fn read_file(name: &str) -> Option<Vec<u8>> {
    DISK.with_borrow(|disk| disk.image.0.get(name).map(|file| file.live.clone()))
}

/// Replaces a file.
pub fn write_file(name: &str, bytes: Vec<u8>) {
    DISK.with_borrow_mut(|disk| {
        let file = File { durable: bytes.clone(), live: bytes, pending: Vec::new() };
        disk.image.0.insert(name.into(), file);
    });
}

fn sectors(pending: &Pending) -> Vec<Pending> {
    match pending {
        Pending::Truncate(size) => vec![Pending::Truncate(*size)],
        Pending::Write(at, bytes) => {
            let mut pieces = Vec::new();
            let mut start = 0;
            while start < bytes.len() {
                let end = (start + SECTOR - (at + start) % SECTOR).min(bytes.len());
                pieces.push(Pending::Write(at + start, bytes[start..end].to_vec()));
                start = end;
            }
            pieces
        }
    }
}

fn apply(content: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Truncate(size) => content.resize((*size).min(content.len()), 0),
        Pending::Write(at, bytes) => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*at..end].copy_from_slice(bytes);
        }
    }
}

impl Disk {
    /// Counts an operation; the error it fails with, if it does.
    fn strike(&mut self, io: Io) -> Option<c_int> {
        let counts = match self.trouble? {
            Trouble::Fails(kind, ..) => io == kind,
            Trouble::Full(_) => io == Io::Write,
            Trouble::PowerLoss(_) => matches!(io, Io::Write | Io::Sync),
        };
        if !counts {
            return None;
        }
        self.count += 1;
        let (strikes, code) = match self.trouble? {
            Trouble::Fails(_, n, Lasting::Once) => (self.count == n, code_of(io)),
            Trouble::Fails(_, n, Lasting::Forever) => (self.count >= n, code_of(io)),
            Trouble::Full(n) => (self.count >= n, ffi::SQLITE_FULL),
            Trouble::PowerLoss(n) => (self.count >= n, code_of(io)),
        };
        self.fired |= strikes;
        strikes.then_some(code)
    }
}

fn code_of(io: Io) -> c_int {
    match io {
        Io::Read => ffi::SQLITE_IOERR_READ,
        Io::Write => ffi::SQLITE_IOERR_WRITE,
        Io::Sync => ffi::SQLITE_IOERR_FSYNC,
        Io::Lock => ffi::SQLITE_BUSY,
        Io::Name => ffi::SQLITE_CANTOPEN,
    }
}

// The allocator.

struct Original(Cell<Option<ffi::sqlite3_mem_methods>>);
// SAFETY: written once inside `Once`, before SQLite allocates anything, and only read afterwards.
unsafe impl Sync for Original {}
static ORIGINAL: Original = Original(Cell::new(None));

fn allocation_fails() -> bool {
    let count = ALLOCATIONS.get() + 1;
    ALLOCATIONS.set(count);
    let at = FAIL_AT.get();
    let fails = count == at || (count > at && FAIL_FOREVER.get());
    if fails {
        ALLOCATION_FAILED.set(true);
    }
    fails
}

fn original() -> ffi::sqlite3_mem_methods {
    ORIGINAL.0.get().expect("installed")
}

unsafe extern "C" fn allocate(size: c_int) -> *mut c_void {
    if allocation_fails() {
        return std::ptr::null_mut();
    }
    // SAFETY: SQLite's own function, called as SQLite would.
    let pointer = unsafe { original().xMalloc.expect("a method")(size) };
    OUTSTANDING.set(OUTSTANDING.get() + i64::from(!pointer.is_null()));
    pointer
}

unsafe extern "C" fn reallocate(pointer: *mut c_void, size: c_int) -> *mut c_void {
    if allocation_fails() {
        return std::ptr::null_mut();
    }
    // SAFETY: as above; SQLite never passes null here.
    unsafe { original().xRealloc.expect("a method")(pointer, size) }
}

unsafe extern "C" fn free(pointer: *mut c_void) {
    OUTSTANDING.set(OUTSTANDING.get() - i64::from(!pointer.is_null()));
    // SAFETY: as above.
    unsafe { original().xFree.expect("a method")(pointer) }
}

// The disk.

/// An open file. Temporary files have a name of their own.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    name: *mut String,
    delete_on_close: bool,
    lock: c_int,
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
    xUnlock: Some(unlock),
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

/// Runs an operation on a file unless trouble strikes.
fn operate(file: *mut ffi::sqlite3_file, io: Io, work: impl FnOnce(&mut File) -> c_int) -> c_int {
    // SAFETY: SQLite passes what `open` filled in.
    let name = unsafe { &*(*file.cast::<Handle>()).name };
    DISK.with_borrow_mut(|disk| match disk.strike(io) {
        Some(code) => code,
        // A file may have been deleted while it was open.
        None => work(disk.image.0.entry(name.clone()).or_default()),
    })
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    thread_local! {
        static TEMPORARY: Cell<u64> = const { Cell::new(0) };
    }
    let name = if name.is_null() {
        TEMPORARY.set(TEMPORARY.get() + 1);
        format!("temporary {}", TEMPORARY.get())
    } else {
        // SAFETY: SQLite passes a terminated string.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    let code = DISK.with_borrow_mut(|disk| {
        if let Some(code) = disk.strike(Io::Name) {
            return code;
        }
        let exists = disk.image.0.contains_key(&name);
        if !exists && flags & ffi::SQLITE_OPEN_CREATE == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        disk.image.0.entry(name.clone()).or_default();
        ffi::SQLITE_OK
    });
    let handle = Handle {
        base: ffi::sqlite3_file {
            pMethods: if code == ffi::SQLITE_OK { &METHODS } else { std::ptr::null() },
        },
        name: if code == ffi::SQLITE_OK { Box::into_raw(Box::new(name)) } else { std::ptr::null_mut() },
        delete_on_close: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
        lock: 0,
    };
    // SAFETY: SQLite passes `szOsFile` bytes to be filled in, and perhaps a place for the flags.
    unsafe {
        file.cast::<Handle>().write(handle);
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    code
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes each file once; the name came from a box.
    let (name, delete) = unsafe {
        let handle = &mut *file.cast::<Handle>();
        (Box::from_raw(handle.name), handle.delete_on_close)
    };
    if delete {
        DISK.with_borrow_mut(|disk| disk.image.0.remove(&*name));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, out: *mut c_void, amount: c_int, at: i64) -> c_int {
    operate(file, Io::Read, |file| {
        let (at, amount) = (at as usize, amount as usize);
        let available = file.live.len().saturating_sub(at).min(amount);
        // SAFETY: SQLite passes room for `amount` bytes.
        let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), amount) };
        out[available..].fill(0);
        if available == 0 {
            return ffi::SQLITE_IOERR_SHORT_READ;
        }
        out[..available].copy_from_slice(&file.live[at..at + available]);
        if available < amount { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
    })
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    at: i64,
) -> c_int {
    operate(file, Io::Write, |file| {
        // SAFETY: SQLite passes `amount` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), amount as usize) };
        let pending = Pending::Write(at as usize, bytes.to_vec());
        apply(&mut file.live, &pending);
        file.pending.push(pending);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    operate(file, Io::Write, |file| {
        let pending = Pending::Truncate(size as usize);
        apply(&mut file.live, &pending);
        file.pending.push(pending);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    operate(file, Io::Sync, |file| {
        let mut durable = std::mem::take(&mut file.durable);
        file.pending.drain(..).for_each(|pending| apply(&mut durable, &pending));
        file.durable = durable;
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    operate(file, Io::Name, |file| {
        // SAFETY: SQLite passes a place for the size.
        unsafe { *size = file.live.len() as i64 };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes what `open` filled in.
    let handle = unsafe { &mut *file.cast::<Handle>() };
    if level <= handle.lock {
        return ffi::SQLITE_OK;
    }
    let code = operate(file, Io::Lock, |_| ffi::SQLITE_OK);
    if code == ffi::SQLITE_OK {
        handle.lock = level;
    }
    code
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes what `open` filled in.
    unsafe { (*file.cast::<Handle>()).lock = level };
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a place for the answer. Each disk has one connection.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    SECTOR as c_int
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    // SAFETY: SQLite passes a terminated string.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    DISK.with_borrow_mut(|disk| {
        // Deleting a journal commits a transaction: it is written to the directory as a write is to a file.
        // It needs no room.
        if let Some(code) = disk.strike(Io::Write)
            && code != ffi::SQLITE_FULL
        {
            return ffi::SQLITE_IOERR_DELETE;
        }
        match disk.image.0.remove(&*name) {
            Some(_) => ffi::SQLITE_OK,
            None => ffi::SQLITE_IOERR_DELETE_NOENT,
        }
    })
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes a terminated string and a place for the answer.
    unsafe {
        let name = CStr::from_ptr(name).to_string_lossy();
        *out = DISK.with_borrow(|disk| c_int::from(disk.image.0.contains_key(&*name)));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a terminated string and room for `size` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > size as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast::<u8>(), bytes.len());
    }
    ffi::SQLITE_OK
}
