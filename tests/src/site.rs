//! One replica: a connection with the extension, and short ways to ask it things.
//!
//! Every helper panics with the SQL and SQLite's message, so that a failing test says what was asked.

use crate::value::{SqlValue, render_row};
use rusqlite::{Connection, OpenFlags, Statement, ToSql};
use std::path::{Path, PathBuf};

/// What [`Site::rows`] gives for an empty result, for comparisons: `assert_eq!(a.rows(sql), NO_ROWS)`.
pub const NO_ROWS: [&str; 0] = [];

/// A replica.
pub struct Site {
    /// The connection, for what has no helper.
    pub conn: Connection,
    path: Option<PathBuf>,
}

/// A replica in memory with this schema. A statement `CRR t` stands for `SELECT crsql_as_crr('t')`.
pub fn site(schema: &str) -> Site {
    let site = Site::memory();
    site.exec(schema);
    site
}

/// Several replicas in memory with the same schema.
pub fn sites<const N: usize>(schema: &str) -> [Site; N] {
    std::array::from_fn(|_| site(schema))
}

impl Site {
    /// A replica in memory.
    pub fn memory() -> Site {
        Site::around(Connection::open_in_memory().expect("memory opens"), None)
    }

    /// A replica in a file, created if missing.
    pub fn open(path: impl AsRef<Path>) -> Site {
        let path = path.as_ref();
        let conn = Connection::open(path).unwrap_or_else(|error| panic!("cannot open {path:?}: {error}"));
        Site::around(conn, Some(path.to_path_buf()))
    }

    /// A replica opened for reading only.
    pub fn open_read_only(path: impl AsRef<Path>) -> Site {
        let path = path.as_ref();
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap_or_else(|error| panic!("cannot open {path:?}: {error}"));
        Site::around(conn, Some(path.to_path_buf()))
    }

    /// A replica on this connection, which gets the extension.
    pub fn around(conn: Connection, path: Option<PathBuf>) -> Site {
        load_extension(&conn).unwrap_or_else(|error| panic!("cannot load the extension: {error}"));
        conn.busy_timeout(std::time::Duration::from_secs(20)).expect("busy timeout");
        Site { conn, path }
    }

    /// A replica on this connection, which has the extension already.
    pub fn with_extension_on(conn: Connection) -> Site {
        Site { conn, path: None }
    }

    /// Another connection to the same file.
    pub fn reopen(&self) -> Site {
        Site::open(self.path())
    }

    /// The file; panics for a replica in memory.
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("a replica in a file")
    }

    /// Runs statements, discarding results.
    pub fn exec(&self, sql: &str) -> &Site {
        if let Err(error) = self.try_exec(sql) {
            panic!("{error}\n  in: {}", abbreviated(sql));
        }
        self
    }

    /// Runs statements; the error is SQLite's message.
    pub fn try_exec(&self, sql: &str) -> Result<(), String> {
        self.conn.execute_batch(&expand_crr(sql)).map_err(message)
    }

    /// Runs statements that must fail, and gives the message.
    pub fn error(&self, sql: &str) -> String {
        match self.try_exec(sql) {
            Err(message) => message,
            Ok(()) => panic!("expected an error from: {}", abbreviated(sql)),
        }
    }

    /// Runs one statement with parameters.
    pub fn run(&self, sql: &str, params: &[&dyn ToSql]) -> usize {
        self.try_run(sql, params).unwrap_or_else(|error| panic!("{error}\n  in: {}", abbreviated(sql)))
    }

    /// Runs one statement with parameters; the error is SQLite's message. Rows it returns are discarded.
    pub fn try_run(&self, sql: &str, params: &[&dyn ToSql]) -> Result<usize, String> {
        let mut statement = self.conn.prepare(sql).map_err(message)?;
        let mut rows = statement.query(params).map_err(message)?;
        while rows.next().map_err(message)?.is_some() {}
        drop(rows);
        drop(statement);
        Ok(self.conn.changes() as usize)
    }

    /// The rows of a query as values.
    pub fn values(&self, sql: &str) -> Vec<Vec<SqlValue>> {
        self.values_with(sql, &[])
    }

    /// The rows of a query with parameters as values.
    pub fn values_with(&self, sql: &str, params: &[&dyn ToSql]) -> Vec<Vec<SqlValue>> {
        self.try_values_with(sql, params)
            .unwrap_or_else(|error| panic!("{error}\n  in: {}", abbreviated(sql)))
    }

    /// The rows of a query with parameters as values; the error is SQLite's message.
    pub fn try_values_with(&self, sql: &str, params: &[&dyn ToSql]) -> Result<Vec<Vec<SqlValue>>, String> {
        // A statement with parameters is run again and again.
        if params.is_empty() {
            return values_of(&mut self.conn.prepare(sql).map_err(message)?, params);
        }
        values_of(&mut *self.conn.prepare_cached(sql).map_err(message)?, params)
    }

    /// The rows of a query, each as SQL literals joined by `|`.
    pub fn rows(&self, sql: &str) -> Vec<String> {
        self.values(sql).iter().map(|row| render_row(row)).collect()
    }

    /// The single value of a query.
    pub fn value(&self, sql: &str) -> SqlValue {
        self.value_with(sql, &[])
    }

    /// The single value of a query with parameters.
    pub fn value_with(&self, sql: &str, params: &[&dyn ToSql]) -> SqlValue {
        let mut rows = self.values_with(sql, params);
        assert!(rows.len() == 1 && rows[0].len() == 1, "expected one value, found {rows:?}\n  in: {sql}");
        rows.remove(0).remove(0)
    }

    /// The single value of a query; the error is SQLite's message.
    pub fn try_value(&self, sql: &str) -> Result<SqlValue, String> {
        let rows = self.try_values_with(sql, &[])?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).unwrap_or(SqlValue::Null))
    }

    /// The single value of a query as a literal.
    pub fn show(&self, sql: &str) -> String {
        self.value(sql).to_string()
    }

    /// The single integer of a query.
    pub fn int(&self, sql: &str) -> i64 {
        self.value(sql).integer()
    }

    /// The single text of a query.
    pub fn text(&self, sql: &str) -> String {
        self.value(sql).as_str().to_string()
    }

    /// The single blob of a query.
    pub fn blob(&self, sql: &str) -> Vec<u8> {
        self.value(sql).blob().to_vec()
    }

    /// `crsql_db_version()`.
    pub fn db_version(&self) -> i64 {
        self.int("SELECT crsql_db_version()")
    }

    /// `crsql_site_id()`.
    pub fn site_id(&self) -> Vec<u8> {
        self.blob("SELECT crsql_site_id()")
    }

    /// `crsql_version_vector()`.
    pub fn version_vector(&self) -> Vec<u8> {
        self.blob("SELECT crsql_version_vector()")
    }

    /// `crsql_digest()`.
    pub fn digest(&self) -> String {
        self.text("SELECT crsql_digest()")
    }

    /// The problems `crsql_doctor()` reports; `[]` when sound.
    pub fn doctor(&self) -> String {
        self.text("SELECT crsql_doctor()")
    }

    /// This site's own greatest `site_version`, 0 without one.
    pub fn own_site_version(&self) -> i64 {
        self.int("SELECT coalesce(max(site_version), 0) FROM crsql_changes WHERE site_id = crsql_site_id()")
    }
}

/// Registers the extension statically, or loads the file that `CRSQL_EXTENSION` names.
pub fn load_extension(conn: &Connection) -> Result<(), String> {
    let Ok(path) = std::env::var("CRSQL_EXTENSION") else {
        return crsql::register(conn).map_err(|error| error.to_string());
    };
    // SAFETY: the file is the extension under test, named by whoever runs the suite; loading is switched off
    // again before any other statement runs.
    unsafe {
        conn.load_extension_enable().map_err(message)?;
        conn.load_extension(&path, Some("sqlite3_crsql_init")).map_err(message)?;
    }
    conn.load_extension_disable().map_err(message)
}

fn values_of(statement: &mut Statement, params: &[&dyn ToSql]) -> Result<Vec<Vec<SqlValue>>, String> {
    let columns = statement.column_count();
    let mut rows = statement.query(params).map_err(message)?;
    let mut result = Vec::new();
    while let Some(row) = rows.next().map_err(message)? {
        let value = |i| row.get_ref(i).map(SqlValue::from).map_err(message);
        result.push((0..columns).map(value).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(result)
}

/// SQLite's own message of an error, without rusqlite's wrapping.
pub fn message(error: rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text,
        #[cfg(feature = "bundled")]
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    }
}

/// Replaces lines `CRR name` by calls of `crsql_as_crr`, to keep schemas in tests short.
fn expand_crr(sql: &str) -> String {
    if !sql.contains("CRR ") {
        return sql.to_string();
    }
    let expand = |statement: &str| match statement.trim().strip_prefix("CRR ") {
        Some(table) => format!("SELECT crsql_as_crr('{}')", table.trim()),
        None => statement.to_string(),
    };
    sql.split(';').map(expand).collect::<Vec<_>>().join(";")
}

fn abbreviated(sql: &str) -> String {
    let mut text: String = sql.chars().take(600).collect();
    if text.len() < sql.len() {
        text.push_str(" ...");
    }
    text
}
