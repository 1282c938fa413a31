//! Deletes are collected in a room, by everybody, and nothing that was deleted comes back.

#[path = "../client/tests/app/mod.rs"]
mod app;
mod support;

use std::path::Path;
use std::time::Duration;

use app::{App, until, until_equal, with_relay};
use crsql_client::node::Event;
use crsql_client::sync::{Client, Config};
use crsql_server::config::Flags;
use crsql_server::serve::Relay;
use support::settings;
use tokio::sync::broadcast::Receiver;

async fn collecting(dir: &Path, lease: &str, change: impl FnOnce(&mut Flags)) -> Relay {
    let settings = settings(dir, |flags| {
        flags.tombstone_lease = Some(lease.into());
        flags.tombstone_interval = Some("100ms".into());
        change(flags);
    });
    Relay::start(settings).await.unwrap()
}

async fn open(app: &App, relay: &Relay) -> Client {
    let client = Client::open(&app.path, with_relay(relay.address())).await.unwrap();
    let synced = tokio::time::timeout(Duration::from_secs(60), client.synced()).await;
    assert!(synced.is_ok(), "{}", client.status());
    client
}

fn tombstones(app: &App) -> i64 {
    app.text("SELECT crsql_stats() ->> 'tombstones'").parse().unwrap()
}

fn gone(relay: &Relay) -> u64 {
    relay.metrics().tombstones_collected.get()
}

/// Writes so much that a short journal has forgotten all that was there before.
async fn trim(app: &App, client: &Client, relay: &Relay) {
    let before = relay.metrics().trimmed_bytes.get();
    let mut at = 0;
    while relay.metrics().trimmed_bytes.get() < before + 6000 {
        at += 1;
        app.exec(&format!("INSERT OR REPLACE INTO account VALUES ({at}, 1)"));
        client.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the file began again, as far as the events tell.
fn began_again(events: &mut Receiver<Event>) -> Option<String> {
    while let Ok(event) = events.try_recv() {
        if let Event::BeganAgain { report } = event {
            return Some(report);
        }
    }
    None
}

const ROWS: &str =
    "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
    SELECT i, 't' || i FROM n";

#[tokio::test]
async fn deletes_are_collected_at_the_relay_and_at_every_client() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = collecting(dir.path(), "1h", |_| {}).await;
    let (one, two) = (open(&a, &relay).await, open(&b, &relay).await);
    a.exec(ROWS);
    one.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    a.exec("DELETE FROM todo WHERE id <= 10");
    until("the relay has collected", || gone(&relay) == 10).await;
    until("everybody has collected", || tombstones(&a) == 0 && tombstones(&b) == 0).await;
    // Afterwards everything goes on: rows under new and under old keys, more deletes.
    a.exec("INSERT INTO todo VALUES (1, 'again'), (100, 'new'); UPDATE todo SET title = 'a' WHERE id = 15");
    b.exec("INSERT INTO todo VALUES (2, 'too'); DELETE FROM todo WHERE id = 16");
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    until("the relay has collected again", || gone(&relay) == 11).await;
    let c = App::new(dir.path(), "c.db");
    let three = open(&c, &relay).await;
    c.exec("INSERT INTO todo VALUES (3, 'c')");
    three.flush().await.unwrap();
    until_equal(&[&a, &b, &c]).await;
    let rest = "SELECT group_concat(title) FROM (SELECT title FROM todo ORDER BY id)";
    assert_eq!(a.text(rest), "again,too,c,t11,t12,t13,t14,a,t17,t18,t19,t20,new");
    let compared = three.compare().await.unwrap();
    assert!(compared[0].comparable && compared[0].differing.is_empty(), "{compared:?}");
    for app in [&a, &b, &c] {
        assert_eq!(app.text("SELECT crsql_doctor()"), "[]");
    }
    assert_eq!(relay.metrics().materialise_failures.get(), 0);
    for client in [one, two, three] {
        client.close().await;
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_member_that_is_away_holds_collection_up() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = collecting(dir.path(), "1h", |_| {}).await;
    let (one, two) = (open(&a, &relay).await, open(&b, &relay).await);
    a.exec(ROWS);
    one.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    two.close().await;
    a.exec("DELETE FROM todo WHERE id <= 10");
    one.flush().await.unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(gone(&relay), 0);
    b.exec("UPDATE todo SET title = 'stale' WHERE id = 1; INSERT INTO todo VALUES (50, 'b')");
    let two = open(&b, &relay).await;
    until("the relay has collected", || gone(&relay) == 10).await;
    until_equal(&[&a, &b]).await;
    assert_eq!(a.text("SELECT count(*) FROM todo"), "11");
    one.close().await;
    two.close().await;
    relay.stop().await;
}

/// Somebody comes back after his lease, with writes of his own. `keep` is what the relay's journal keeps.
async fn left_behind(keep: &str) -> (bool, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = collecting(dir.path(), "1s", |flags| flags.journal_keep = Some(keep.into())).await;
    let (one, two) = (open(&a, &relay).await, open(&b, &relay).await);
    a.exec(ROWS);
    one.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    two.close().await;
    a.exec("DELETE FROM todo WHERE id <= 10; UPDATE todo SET title = 'a' WHERE id = 15");
    until("the relay has collected", || gone(&relay) == 10).await;
    if keep == "1KiB" {
        trim(&a, &one, &relay).await;
    }
    b.exec(
        "UPDATE todo SET title = 'stale' WHERE id = 1;
         UPDATE todo SET title = 'fresh' WHERE id = 20;
         INSERT INTO todo VALUES (50, 'b');
         DELETE FROM todo WHERE id = 19;
         INSERT INTO todo VALUES (51, 'c')",
    );
    // With a client there, though it reaches nobody, each commit is known as it was.
    let nowhere = with_relay("127.0.0.1:9".parse().unwrap());
    let alone = Client::open(&b.path, nowhere).await.unwrap();
    until("it is published", || alone.status().unconfirmed > 0).await;
    b.exec("UPDATE todo SET title = 'd' WHERE id = 51");
    alone.close().await;
    let two = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    let mut events = two.events();
    let has_come = || a.digest() == b.digest() && a.text("SELECT count(*) FROM todo WHERE id >= 50") == "2";
    for _ in 0..600 {
        if has_come() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(has_come(), "{}: {} and {}", two.status(), a.titles(), b.titles());
    let synced = tokio::time::timeout(Duration::from_secs(60), two.synced()).await;
    assert!(synced.is_ok(), "{}", two.status());
    let began_again = began_again(&mut events).is_some();
    for app in [&a, &b] {
        let rest = "SELECT group_concat(title) FROM (SELECT title FROM todo ORDER BY id)";
        assert_eq!(app.text(rest), "t11,t12,t13,t14,a,t16,t17,t18,fresh,b,d");
        assert_eq!(app.text("SELECT crsql_doctor()"), "[]");
    }
    // The room's database says the same, and so does whoever comes now.
    let c = App::new(dir.path(), "c.db");
    let three = open(&c, &relay).await;
    until_equal(&[&a, &c]).await;
    let compared = three.compare().await.unwrap();
    assert!(compared[0].comparable && compared[0].differing.is_empty(), "{compared:?}");
    assert_eq!(relay.metrics().materialise_failures.get(), 0);
    // And it goes on, in both directions.
    b.exec("INSERT INTO todo VALUES (60, 'later'); DELETE FROM todo WHERE id = 11");
    a.exec("INSERT INTO todo VALUES (61, 'later')");
    until("everybody has the same", || {
        a.digest() == b.digest() && c.digest() == b.digest() && b.text("SELECT count(*) FROM todo") == "12"
    })
    .await;
    let titles = vec![a.titles(), b.titles()];
    for client in [one, two, three] {
        client.close().await;
    }
    relay.stop().await;
    (began_again, titles)
}

#[tokio::test]
async fn a_site_left_behind_begins_again_and_keeps_what_it_wrote() {
    let (began_again, titles) = left_behind("1KiB").await;
    assert!(began_again, "{titles:?}");
}

#[tokio::test]
async fn a_site_that_can_still_get_the_deletes_needs_no_copy() {
    let (began_again, titles) = left_behind("64MiB").await;
    assert!(!began_again, "{titles:?}");
}

#[tokio::test]
async fn a_relay_that_was_stopped_knows_what_it_collected() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = collecting(dir.path(), "1s", |_| {}).await;
    let (one, two) = (open(&a, &relay).await, open(&b, &relay).await);
    a.exec(ROWS);
    one.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    two.close().await;
    a.exec("DELETE FROM todo WHERE id <= 10");
    until("the relay has collected", || gone(&relay) == 10).await;
    until("a has collected", || tombstones(&a) == 0).await;
    one.close().await;
    relay.stop().await;
    b.exec("UPDATE todo SET title = 'stale' WHERE id = 1");
    // Turned off: what was collected stays collected, and nothing else goes.
    let relay = support::relay(dir.path()).await;
    let (two, one) = (open(&b, &relay).await, open(&a, &relay).await);
    until_equal(&[&a, &b]).await;
    assert_eq!(a.text("SELECT count(*) FROM todo"), "10");
    a.exec("DELETE FROM todo WHERE id = 12");
    one.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    assert_eq!(gone(&relay), 0);
    one.close().await;
    two.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn whoever_takes_no_snapshots_is_told_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = collecting(dir.path(), "1s", |flags| flags.journal_keep = Some("1KiB".into())).await;
    let (one, two) = (open(&a, &relay).await, open(&b, &relay).await);
    a.exec(ROWS);
    one.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    two.close().await;
    a.exec("DELETE FROM todo WHERE id <= 10");
    until("the relay has collected", || gone(&relay) == 10).await;
    trim(&a, &one, &relay).await;
    let config = Config { snapshots: false, ..with_relay(relay.address()) };
    let two = Client::open(&b.path, config).await.unwrap();
    until("it says so", || two.status().to_string().contains("begin again")).await;
    assert_eq!(b.text("SELECT count(*) FROM todo"), "20", "nothing of it was applied");
    two.close().await;
    one.close().await;
    relay.stop().await;
}

/// A process that ends with the test, however that ends.
struct Process(std::process::Child, Vec<String>);

impl Process {
    fn start(arguments: &[&str]) -> Process {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        Process(Process::spawn(&arguments), arguments)
    }

    fn spawn(arguments: &[String]) -> std::process::Child {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_crsql-server"));
        let quiet = std::process::Stdio::null;
        command.args(arguments).stderr(quiet()).stdout(quiet()).spawn().unwrap()
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.0 = Process::spawn(&self.1);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Rows come and go on three databases while the relay collects, everybody is killed, and some stay away for longer than
/// their lease. `CRSQL_KILLS` says how often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_deleted_comes_back_and_nothing_else_goes_whoever_is_killed() {
    let kills: u64 = std::env::var("CRSQL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let dir = tempfile::tempdir().unwrap();
    let apps = ["a.db", "b.db", "c.db"].map(|name| App::new(dir.path(), name));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let data = dir.path().join("data").display().to_string();
    let (listen, url) = (port.to_string(), format!("ws://{port}/demo"));
    let mut relay = Process::start(&[
        "serve",
        "--listen",
        &listen,
        "--data",
        &data,
        "--journal-keep=4KiB",
        "--tombstone-lease=2s",
        "--tombstone-interval=100ms",
    ]);
    let path = |app: &App| app.path.display().to_string();
    let mut sidecars = [0, 1, 2].map(|at| Process::start(&["sync", &path(&apps[at]), &url, "--quiet"]));
    let mut dice: u64 = 0xc011ec7;
    let mut roll = |n: u64| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) % n
    };
    let (mut next, mut alive, mut away) = (0, std::collections::BTreeSet::new(), None);
    let mut makers = Vec::new();
    for kill in 0..kills {
        for _ in 0..8 {
            let who = roll(3) as usize;
            let app = &apps[who];
            next += 1;
            makers.push(who);
            app.exec(&format!("INSERT INTO todo VALUES ({next}, 'row {next}')"));
            alive.insert(next);
            let other = roll(next) + 1;
            // Others' rows: who writes all over his own before any sidecar looks does not know any more that he made it.
            let edited = roll(next) + 1;
            if makers[edited as usize - 1] != who {
                app.exec(&format!("UPDATE todo SET title = title || '!' WHERE id = {edited}"));
            }
            // Gone everywhere if it is here.
            if app.text(&format!("SELECT count(*) FROM todo WHERE id = {other}")) == "1" {
                app.exec(&format!("DELETE FROM todo WHERE id = {other}"));
                alive.remove(&other);
            }
            tokio::time::sleep(Duration::from_millis(30 + roll(60))).await;
        }
        if let Some(at) = away.take() {
            let sidecar: &mut Process = &mut sidecars[at];
            sidecar.start_again();
        }
        let at = roll(4) as usize;
        let process = if at < 3 { &mut sidecars[at] } else { &mut relay };
        process.kill();
        match at < 3 && kill % 3 == 0 {
            // Long enough that deletes are collected without it.
            true => {
                away = Some(at);
                tokio::time::sleep(Duration::from_secs(8)).await;
            }
            false => process.start_again(),
        }
    }
    if let Some(at) = away {
        sidecars[at].start_again();
    }
    until_equal(&[&apps[0], &apps[1], &apps[2]]).await;
    let rows = "SELECT group_concat(id) FROM (SELECT id FROM todo ORDER BY id)";
    let lost = |app: &App| {
        let rows = app.text(rows);
        let here: std::collections::BTreeSet<u64> =
            rows.split(',').filter_map(|id| id.parse().ok()).collect();
        let lost: Vec<_> = alive.difference(&here).copied().collect();
        let back: Vec<_> = here.difference(&alive).copied().collect();
        (lost, back)
    };
    until("all databases have what is alive", || apps.iter().all(|app| lost(app) == (vec![], vec![]))).await;
    until("everything is collected", || apps.iter().all(|app| tombstones(app) == 0)).await;
    for app in &apps {
        assert_eq!(lost(app), (vec![], vec![]), "lost, and come back");
        assert_eq!(app.text("SELECT crsql_doctor()"), "[]");
    }
    println!("{kills} kills, {next} rows of which {} are left", alive.len());
}
