//! Errors on their way to JavaScript: an `Error` with SQLite's result code beside the text.

use crsql::sqlite;
use wasm_bindgen::JsValue;

use crate::vfs;

/// SQLite's or crsql's refusal.
#[derive(Debug)]
pub struct Error {
    code: i32,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A request that makes no sense: SQLITE_MISUSE.
    pub fn misuse(message: impl Into<String>) -> Error {
        Error { code: rusqlite::ffi::SQLITE_MISUSE, message: message.into() }
    }
}

impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Error {
        Error::with_cause(error.code(), error.to_string())
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        let code = error.sqlite_error().map_or(rusqlite::ffi::SQLITE_ERROR, |e| e.extended_code);
        Error::with_cause(code, error.to_string())
    }
}

impl Error {
    /// SQLite only says "disk I/O error"; the storage knows why.
    fn with_cause(code: i32, message: String) -> Error {
        let io = matches!(
            code & 0xff,
            rusqlite::ffi::SQLITE_IOERR | rusqlite::ffi::SQLITE_FULL | rusqlite::ffi::SQLITE_CANTOPEN
        );
        let message = match vfs::take_last_error() {
            Some(cause) if io => format!("{message}: {cause}"),
            _ => message,
        };
        Error { code, message }
    }
}

impl From<Error> for JsValue {
    fn from(error: Error) -> JsValue {
        let object = js_sys::Error::new(&error.message);
        // Setting a property of a fresh object can't fail.
        let _ = js_sys::Reflect::set(&object, &"sqliteCode".into(), &error.code.into());
        object.into()
    }
}
