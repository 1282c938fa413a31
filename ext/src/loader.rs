//! The ways into the extension. This file decides only whether the connection can have it; what is then
//! registered is the business of [`crate::register_db`].
//!
//! - Loadable build: the entry points `sqlite3_crsql_init` and, for hosts that know the library under cr-sqlite's
//!   name, `sqlite3_crsqlite_init`.
//! - Static build: [`register`], [`register_raw`], [`register_auto`].

use std::ffi::{c_char, c_int};

use rusqlite::ffi;

use crate::sqlite::{Db, Error, Result, catch_panic, sqlite_string};

/// Adds crsql to a connection of the loading host.
///
/// # Safety
/// Called by SQLite as an extension's entry point.
#[cfg(feature = "loadable")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_crsql_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: the arguments are SQLite's. Nothing but `load` touches the API before the check of the host's
    // version; rusqlite's own entry helper would abort on an older host.
    unsafe {
        match crate::sqlite::load_api(api, message) {
            Ok(()) => enter(db, message),
            Err(code) => code,
        }
    }
}

/// The same under the name that hosts of cr-sqlite ask for.
///
/// # Safety
/// Called by SQLite as an extension's entry point.
#[cfg(feature = "loadable")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_crsqlite_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: the arguments are SQLite's.
    unsafe { sqlite3_crsql_init(db, message, api) }
}

/// Adds crsql to a connection. Doing it again is harmless.
#[cfg(not(feature = "loadable"))]
pub fn register(connection: &rusqlite::Connection) -> Result<()> {
    // SAFETY: the connection is open, and closing it destroys all that is registered on it.
    unsafe { register_raw(connection.handle()) }
}

/// Adds crsql to a connection that something other than rusqlite opened, with the SQLite that this crate is
/// linked with. Doing it again is harmless.
///
/// # Safety
/// `db` is an open connection, and no other thread uses it during the call.
#[cfg(not(feature = "loadable"))]
pub unsafe fn register_raw(db: *mut ffi::sqlite3) -> Result<()> {
    // SAFETY: by this function's contract; all that keeps the `Db` is registered on the connection itself, and
    // destroyed before the handle is.
    let db = unsafe { Db::from_handle(db) };
    catch_panic(|| register_once(db))
}

/// Adds crsql to every connection that the process opens from now on.
#[cfg(not(feature = "loadable"))]
pub fn register_auto() -> Result<()> {
    // SAFETY: the entry point has the signature of an automatic extension, and opens no connection itself.
    let rc = unsafe { ffi::sqlite3_auto_extension(Some(auto_extension)) };
    if rc == ffi::SQLITE_OK { Ok(()) } else { Err(Error::Refused("out of memory".to_owned())) }
}

/// A statically linked SQLite may pass no API table, and this build needs none.
#[cfg(not(feature = "loadable"))]
unsafe extern "C" fn auto_extension(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    _api: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: the arguments are SQLite's.
    unsafe { enter(db, message) }
}

/// # Safety
/// `db` is an open connection, `message` null or a valid pointer.
unsafe fn enter(db: *mut ffi::sqlite3, message: *mut *mut c_char) -> c_int {
    // SAFETY: as in `register_raw`.
    let db = unsafe { Db::from_handle(db) };
    match catch_panic(|| register_once(db)) {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => {
            if !message.is_null() {
                // SAFETY: by this function's contract; SQLite frees the text.
                unsafe { *message = sqlite_string(&error.to_string()) };
            }
            error.code()
        }
    }
}

fn register_once(db: Db) -> Result<()> {
    match loaded(db)? {
        Loaded::Nothing => crate::register_db(db),
        Loaded::Crsql => Ok(()),
        Loaded::Other => Err(Error::Refused(
            "cannot load crsql: this connection has cr-sqlite loaded, which has the same functions; \
             load only one of them"
                .to_owned(),
        )),
    }
}

enum Loaded {
    Nothing,
    Crsql,
    Other,
}

/// Asks SQL itself, because this library may be in the process twice, under two names. It asks for the
/// functions by name first: compiling a call of a missing one would go to the host's error log, and would make
/// `sqlite3_open` of an automatic extension fail, which takes over the error code it finds.
fn loaded(db: Db) -> Result<Loaded> {
    let names = db.prepare(
        "SELECT name FROM pragma_function_list
         WHERE name IN ('crsql_version', 'crsql_site_id') ORDER BY name DESC",
    );
    let mut names = names.map_err(|error| match error.to_string().contains("pragma_function_list") {
        true => Error::Refused(
            "cannot load crsql: this program's SQLite has no pragma_function_list; compile it without \
             SQLITE_OMIT_SCHEMA_PRAGMAS and SQLITE_OMIT_INTROSPECTION_PRAGMAS"
                .to_owned(),
        ),
        false => error,
    })?;
    if !names.step()? {
        return Ok(Loaded::Nothing);
    }
    if names.column_text(0) != b"crsql_version" {
        return Ok(Loaded::Other);
    }
    // The fork of cr-sqlite that has this function answers with a number.
    let mut version = db.prepare("SELECT typeof(crsql_version())")?;
    let is_text = version.step()? && version.column_text(0) == b"text";
    Ok(if is_text { Loaded::Crsql } else { Loaded::Other })
}
