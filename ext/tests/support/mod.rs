//! What the tests of the fence share.

use crsql::sqlite::Db;
use rusqlite::Connection;

/// A database in memory and its fence handle.
#[allow(dead_code, reason = "not every test file needs it")]
pub fn open() -> (Connection, Db) {
    let connection = Connection::open_in_memory().unwrap();
    // SAFETY: the tests drop what they make of the handle before the connection.
    let db = unsafe { Db::from_handle(connection.handle()) };
    (connection, db)
}

/// The first column of the first row, as SQLite's text.
#[allow(dead_code, reason = "not every test file needs it")]
pub fn text(connection: &Connection, sql: &str) -> String {
    connection.query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0)).map_or_else(
        |e| format!("error: {}", message(&e)),
        |value| match value {
            rusqlite::types::Value::Null => "NULL".to_owned(),
            rusqlite::types::Value::Integer(i) => i.to_string(),
            rusqlite::types::Value::Real(r) => format!("{r:?}"),
            rusqlite::types::Value::Text(t) => t,
            rusqlite::types::Value::Blob(b) => b.iter().map(|b| format!("{b:02X}")).collect(),
        },
    )
}

/// The message without the SQL text that rusqlite adds to errors of prepare.
#[allow(dead_code, reason = "not every test file needs it")]
pub fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
