//! What rooms' databases have is taken out of the journals, and whoever lacks it gets it from there.

#[path = "../client/tests/app/mod.rs"]
mod app;
mod support;

use std::path::Path;
use std::time::Duration;

use app::{App, synced, until_equal};
use crsql_client::sync::Client;
use crsql_server::serve::Relay;
use support::settings;

const KEEP: u64 = 64 << 10;

async fn relay(dir: &Path) -> Relay {
    Relay::start(settings(dir, |flags| flags.journal_keep = Some("64KiB".into()))).await.unwrap()
}

fn journal_bytes(dir: &Path) -> i64 {
    let journal = rusqlite::Connection::open(dir.join("data/journal-0.db")).unwrap();
    journal.query_row("SELECT coalesce(sum(length(body)), 0) FROM entry", [], |row| row.get(0)).unwrap()
}

/// Commits one by one until the journal was trimmed of so many bytes since.
async fn write_until_trimmed(app: &App, client: &Client, relay: &Relay, bytes: u64) {
    let goal = relay.metrics().trimmed_bytes.get() + bytes;
    let mut at = 0;
    while relay.metrics().trimmed_bytes.get() < goal {
        // Nothing that can be compressed.
        app.exec(&format!("INSERT OR REPLACE INTO todo VALUES ({}, hex(randomblob(2000)))", at % 90));
        at += 1;
        client.flush().await.unwrap();
        if at > 300 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(at < 3000, "it is never trimmed");
    }
}

#[tokio::test]
async fn a_trimmed_journal_stays_small_and_everybody_still_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| App::new(dir.path(), name));
    let first = relay(dir.path()).await;
    a.exec("INSERT INTO account VALUES (1, 100)");
    let writer = synced(&a, first.address()).await;
    // One that was here before and comes back to a journal that no longer reaches to where it was.
    synced(&c, first.address()).await.close().await;
    write_until_trimmed(&a, &writer, &first, 400_000).await;
    assert!(journal_bytes(dir.path()) < 4 * KEEP as i64, "{}", journal_bytes(dir.path()));
    let [two, three] = [synced(&b, first.address()).await, synced(&c, first.address()).await];
    until_equal(&[&a, &b, &c]).await;
    assert!(first.metrics().fills.get() >= 2);
    // Live, and with what the newcomer writes.
    b.exec("UPDATE account SET balance = 7");
    until_equal(&[&a, &b, &c]).await;
    for client in [writer, two, three] {
        client.close().await;
    }
    first.stop().await;
    let second = relay(dir.path()).await;
    let late = synced(&d, second.address()).await;
    until_equal(&[&a, &d]).await;
    late.close().await;
    second.stop().await;
}

#[tokio::test]
async fn a_room_whose_database_is_lost_after_trimming_gets_it_back_from_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| App::new(dir.path(), name));
    let first = relay(dir.path()).await;
    let writer = synced(&a, first.address()).await;
    let other = synced(&b, first.address()).await;
    b.exec("INSERT INTO account VALUES (5, 50)");
    other.flush().await.unwrap();
    write_until_trimmed(&a, &writer, &first, 300_000).await;
    until_equal(&[&a, &b]).await;
    writer.close().await;
    other.close().await;
    first.stop().await;
    std::fs::remove_dir_all(dir.path().join("data/rooms")).unwrap();
    let second = relay(dir.path()).await;
    let clients = [synced(&a, second.address()).await, synced(&b, second.address()).await];
    let newcomer = synced(&c, second.address()).await;
    until_equal(&[&a, &b, &c]).await;
    assert_eq!(c.text("SELECT crsql_doctor()"), "[]");
    for client in clients.into_iter().chain([newcomer]) {
        client.close().await;
    }
    second.stop().await;
}
