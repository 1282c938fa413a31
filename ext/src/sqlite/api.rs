//! What differs between the two link modes.

#[cfg(not(feature = "loadable"))]
use std::ffi::c_int;

#[cfg(not(feature = "loadable"))]
use rusqlite::ffi;

/// `sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)`.
///
/// # Safety
/// Called from xConnect with the connection being connected.
#[cfg(not(feature = "loadable"))]
pub(super) unsafe fn vtab_constraint_support(db: *mut ffi::sqlite3) -> c_int {
    const ON: c_int = 1;
    // SAFETY: by this function's contract.
    unsafe { ffi::sqlite3_vtab_config(db, ffi::SQLITE_VTAB_CONSTRAINT_SUPPORT, ON) }
}

#[cfg(feature = "loadable")]
pub(crate) use loadable::load;
#[cfg(feature = "loadable")]
pub(super) use loadable::vtab_constraint_support;

#[cfg(feature = "loadable")]
mod loadable {
    use std::ffi::{c_char, c_int};
    use std::mem;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use rusqlite::ffi;

    /// The oldest host whose interface has all we call.
    const HOST_VERSION_MIN: c_int = 3_034_001;

    /// The type of `sqlite3_vtab_config`, a variadic function whose wrapper in `rusqlite::ffi` passes on only
    /// the fixed arguments.
    type VtabConfigFn = unsafe extern "C" fn(*mut ffi::sqlite3, c_int, ...) -> c_int;

    static VTAB_CONFIG: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

    /// Takes over the host's API table. Otherwise puts the reason into `message` and returns the result code.
    ///
    /// # Safety
    /// `api` is null or the table that a host passes to an extension's entry point, `message` null or a valid
    /// pointer.
    pub(crate) unsafe fn load(
        api: *mut ffi::sqlite3_api_routines,
        message: *mut *mut c_char,
    ) -> Result<(), c_int> {
        if api.is_null() {
            // Without a table there is no allocator for a message either.
            return Err(ffi::SQLITE_ERROR);
        }
        // SAFETY: by this function's contract. The table of an older host is shorter than the struct, so it
        // is only read through the pointer, and up to the version check only in members that every SQLite 3
        // with extensions has.
        unsafe {
            let version = (*api).libversion_number.map_or(0, |libversion_number| libversion_number());
            if version < HOST_VERSION_MIN {
                refuse(api, message, version);
                return Err(ffi::SQLITE_ERROR);
            }
            if let Some(vtab_config) = (*api).vtab_config {
                VTAB_CONFIG.store(vtab_config as *mut (), Ordering::Release);
            }
            ffi::rusqlite_extension_init2(api).map_err(|_| ffi::SQLITE_ERROR)
        }
    }

    /// Tells an older host why. The rest of the fence can't be used yet, so the text goes through the
    /// table's own allocator.
    ///
    /// # Safety
    /// As [`load`].
    unsafe fn refuse(api: *mut ffi::sqlite3_api_routines, message: *mut *mut c_char, version: c_int) {
        let (major, minor, patch) = (version / 1_000_000, version / 1000 % 1000, version % 1000);
        let text = format!(
            "crsql needs SQLite 3.34.1 or later, but this program has {major}.{minor}.{patch}; \
             update the program's SQLite"
        );
        // SAFETY: by this function's contract; the allocation has room for the text and its terminator.
        unsafe {
            let Some(malloc) = (*api).malloc else { return };
            let copy = malloc(text.len() as c_int + 1).cast::<u8>();
            if message.is_null() || copy.is_null() {
                return;
            }
            ptr::copy_nonoverlapping(text.as_ptr(), copy, text.len());
            copy.add(text.len()).write(0);
            *message = copy.cast();
        }
    }

    /// As the static build's function of the same name.
    ///
    /// # Safety
    /// Called from xConnect with the connection being connected.
    pub(crate) unsafe fn vtab_constraint_support(db: *mut ffi::sqlite3) -> c_int {
        const ON: c_int = 1;
        let vtab_config = VTAB_CONFIG.load(Ordering::Acquire);
        if vtab_config.is_null() {
            return ffi::SQLITE_MISUSE;
        }
        // SAFETY: only `load` stores the pointer, from a member of this very type.
        let vtab_config = unsafe { mem::transmute::<*mut (), VtabConfigFn>(vtab_config) };
        // SAFETY: by this function's contract.
        unsafe { vtab_config(db, ffi::SQLITE_VTAB_CONSTRAINT_SUPPORT, ON) }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::ffi::{CStr, c_void};

        unsafe extern "C" fn old_version() -> c_int {
            3_033_000
        }

        unsafe extern "C" fn malloc(size: c_int) -> *mut c_void {
            Box::leak(vec![0u8; size as usize].into_boxed_slice()).as_mut_ptr().cast()
        }

        #[test]
        fn an_older_host_is_refused_with_a_sentence() {
            // SAFETY: a struct of optional functions; the two that are set are what their types say.
            let (rc, text) = unsafe {
                let mut api: ffi::sqlite3_api_routines = mem::zeroed();
                api.libversion_number = Some(old_version);
                api.malloc = Some(malloc);
                let mut message = ptr::null_mut();
                let rc = load(&mut api, &mut message);
                (rc, CStr::from_ptr(message).to_str().unwrap())
            };
            assert_eq!(rc, Err(ffi::SQLITE_ERROR));
            assert_eq!(
                text,
                "crsql needs SQLite 3.34.1 or later, but this program has 3.33.0; update the program's SQLite"
            );
        }

        #[test]
        fn a_missing_table_is_refused() {
            // SAFETY: null is allowed.
            assert_eq!(unsafe { load(ptr::null_mut(), ptr::null_mut()) }, Err(ffi::SQLITE_ERROR));
        }
    }
}
