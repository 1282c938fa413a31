//! Databases for this module's tests.

use rusqlite::Connection;

use crate::schema::describe::describe;
use crate::schema::table::TableInfo;
use crate::sqlite::Db;

/// A connection in memory that has run `sql`, under the settings that distrust schemas most.
pub fn database(sql: &str) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("PRAGMA trusted_schema = OFF").unwrap();
    use rusqlite::config::DbConfig;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

/// The connection as the fence sees it.
#[allow(unsafe_code)]
pub fn db(connection: &Connection) -> Db {
    // SAFETY: the tests keep the connection open for as long as they use the result.
    unsafe { Db::from_handle(connection.handle()) }
}

/// The table `name` of a database made by `sql`.
pub fn table(sql: &str, name: &str) -> TableInfo {
    describe(&db(&database(sql)), name).unwrap().unwrap()
}
