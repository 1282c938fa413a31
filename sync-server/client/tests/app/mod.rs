//! An application with a database file, and waiting for facts. Shared by the tests of the client and of the server.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crsql_client::sync::{Address, Client, Config, Target};
use rusqlite::Connection;

/// Generous: reached only by a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(90);

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT);
CREATE TABLE account (id INTEGER PRIMARY KEY NOT NULL, balance INT NOT NULL DEFAULT 0);
SELECT crsql_as_crr('todo');
SELECT crsql_as_crr('account');";

/// An application: another connection to the file than the one that syncs it.
pub struct App {
    pub conn: Connection,
    pub path: PathBuf,
}

impl App {
    /// With the tables `todo` and `account`.
    pub fn new(dir: &Path, name: &str) -> App {
        let app = App::bare(dir, name);
        app.exec(SCHEMA);
        app
    }

    /// Without tables.
    pub fn bare(dir: &Path, name: &str) -> App {
        let path = dir.join(name);
        let conn = Connection::open(&path).unwrap();
        crsql::register(&conn).unwrap();
        conn.busy_timeout(DEADLINE).unwrap();
        conn.pragma_update(None, "synchronous", "OFF").unwrap();
        App { conn, path }
    }

    pub fn exec(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap_or_else(|error| panic!("{error}\n in {sql}"));
    }

    pub fn text(&self, sql: &str) -> String {
        self.conn
            .query_row(&format!("SELECT CAST(({sql}) AS TEXT)"), [], |row| row.get(0))
            .unwrap_or_default()
    }

    pub fn titles(&self) -> String {
        self.text("SELECT coalesce(group_concat(title), '') FROM (SELECT title FROM todo ORDER BY id)")
    }

    pub fn digest(&self) -> String {
        self.text("SELECT crsql_digest()")
    }
}

/// Syncs with the room `demo` of the relay at this address.
pub fn with_relay(address: SocketAddr) -> Config {
    let address = Address::parse(&format!("ws://{address}/demo"), "demo").unwrap();
    Config { targets: vec![Target::new(address)], ..Config::default() }
}

/// A client of that room that has caught up.
pub async fn synced(app: &App, address: SocketAddr) -> Client {
    let client = Client::open(&app.path, with_relay(address)).await.unwrap();
    client.synced().await.unwrap();
    client
}

/// Waits for a fact.
pub async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < end, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until all hold the same.
pub async fn until_equal(apps: &[&App]) {
    until("all digests are equal", || {
        let first = apps[0].digest();
        apps.iter().all(|app| app.digest() == first)
    })
    .await;
}
