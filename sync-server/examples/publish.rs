//! What publishing one large commit takes of memory.
//!
//! `cargo run --release -p crsql-server --example publish -- 500000`

use std::rc::Rc;

use crsql_client::node::Node;
use crsql_client::replica::{Options, Replica};
use rusqlite::Connection;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn main() -> Result<()> {
    let rows: u64 = std::env::args().nth(1).unwrap_or("500000".into()).parse()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.db");
    {
        let app = Connection::open(&path)?;
        crsql::register(&app).map_err(|error| error.to_string())?;
        app.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
        app.execute_batch(&format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY NOT NULL, a TEXT, b TEXT, c INTEGER, d REAL);
             SELECT crsql_as_crr('item');
             INSERT INTO item WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             SELECT i, 'item ' || i, hex(randomblob(20)), i * 7 % 1000, i / 3.0 FROM n"
        ))?;
    }
    let conn = Connection::open(&path)?;
    let mut node = Node::new(Replica::open(Rc::new(conn), Options::default())?);
    // The peak from here on.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = status_kib("VmRSS:");
    node.refresh(0)?;
    node.flush(0)?;
    let bytes: i64 = node.replica().connection().query_row(
        "SELECT sum(length(entry)) FROM __crsql_sync_journal",
        [],
        |row| row.get(0),
    )?;
    println!(
        "{rows} rows, {:.1} MB in the journal: {} MiB before, {} MiB at the peak",
        bytes as f64 / 1e6,
        before / 1024,
        status_kib("VmHWM:") / 1024
    );
    Ok(())
}
