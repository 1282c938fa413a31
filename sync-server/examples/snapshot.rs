//! How long a newcomer to a large room takes, beside copying the room's file twice.
//!
//! `cargo run --release -p crsql-server --example snapshot -- 1000000`

use std::time::{Duration, Instant};

use crsql_client::sync::{Address, Client, Config, Target};
use crsql_server::config::{Flags, Settings};
use crsql_server::serve::Relay;
use rusqlite::Connection;

const SCHEMA: &str = "
CREATE TABLE item (id INTEGER PRIMARY KEY NOT NULL, a TEXT, b TEXT, c INTEGER, d REAL);
SELECT crsql_as_crr('item');";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn open(path: &std::path::Path) -> Result<Connection> {
    let conn = Connection::open(path)?;
    crsql::register(&conn).map_err(|error| error.to_string())?;
    conn.busy_timeout(Duration::from_secs(60))?;
    conn.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
    Ok(conn)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

#[tokio::main]
async fn main() -> Result<()> {
    let rows: u64 = std::env::args().nth(1).unwrap_or("1000000".into()).parse()?;
    let dir = tempfile::tempdir()?;
    let flags = Flags {
        listen: Some("127.0.0.1:0".into()),
        data: Some(dir.path().join("data").display().to_string()),
        bytes_per_second: Some("1GiB".into()),
        room_bytes_per_second: Some("4GiB".into()),
        messages_per_second: Some("1000000".into()),
        log: Some("warn".into()),
        ..Flags::default()
    };
    let relay = Relay::start(Settings::load_from(&flags, &|_| None)?).await?;
    let base = format!("http://{}/v1/rooms/big", relay.address());
    let url = format!("{base}/schema");
    tokio::task::spawn_blocking(move || ureq::put(&url).send(SCHEMA).map(drop)).await??;
    let a = open(&dir.path().join("a.db"))?;
    a.execute_batch(SCHEMA)?;
    let part = rows / 20;
    let address = Address::parse(&format!("ws://{}/big", relay.address()), "big")?;
    let config =
        |snapshots| Config { targets: vec![Target::new(address.clone())], snapshots, ..Config::default() };
    let writer = Client::open(dir.path().join("a.db"), config(false)).await?;
    for at in 0..20 {
        a.execute_batch(&format!(
            "INSERT INTO item WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1})
             SELECT i, 'item ' || i, hex(randomblob(8)), i * 7 % 1000, i / 3.0 FROM n",
            at * part + 1,
            (at + 1) * part
        ))?;
        writer.flush().await?;
    }
    while relay.metrics().materialised.get() < relay.metrics().frames_in.get() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let digest: String = a.query_row("SELECT crsql_digest()", [], |row| row.get(0))?;
    println!("{rows} rows, peak so far {} MiB", resident_kib() / 1024);
    for (name, snapshots) in [("replay", false), ("snapshot, first", true), ("snapshot, again", true)] {
        let file = dir.path().join(format!("{name}.db"));
        let b = open(&file)?;
        b.execute_batch(SCHEMA)?;
        let began = Instant::now();
        let client = Client::open(&file, config(snapshots)).await?;
        client.synced().await?;
        let took = began.elapsed();
        let same = b.query_row("SELECT crsql_digest()", [], |row| row.get::<_, String>(0))? == digest;
        client.close().await;
        b.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let bytes = std::fs::metadata(&file)?.len();
        let began = Instant::now();
        for copy in 0..2 {
            let to = dir.path().join(format!("copy{copy}"));
            std::fs::copy(&file, &to)?;
            std::fs::File::open(&to)?.sync_all()?;
        }
        println!(
            "{name}: {took:?}, equal {same}, peak {} MiB; copying its {} MB twice: {:?}",
            resident_kib() / 1024,
            bytes / 1_000_000,
            began.elapsed()
        );
    }
    writer.close().await;
    relay.stop().await;
    Ok(())
}
