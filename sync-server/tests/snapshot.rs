//! Newcomers begin with a copy of the room's database.

#[path = "../client/tests/app/mod.rs"]
mod app;
mod support;

use std::path::Path;
use std::time::Duration;

use app::{App, until, until_equal, with_relay};
use crsql_client::node::Event;
use crsql_client::sync::Client;
use crsql_server::serve::Relay;
use support::settings;

const TABLES: &str = "
CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT);
CREATE TABLE account (id INTEGER PRIMARY KEY NOT NULL, balance INT NOT NULL DEFAULT 0);
SELECT crsql_as_crr('todo');
SELECT crsql_as_crr('account');";

async fn relay(dir: &Path) -> Relay {
    Relay::start(settings(dir, |flags| flags.snapshot_min = Some("64KiB".into()))).await.unwrap()
}

async fn migrate(relay: &Relay, schema: &str) {
    let url = format!("http://{}/v1/rooms/demo/schema", relay.address());
    let schema = schema.to_owned();
    let put = move || ureq::put(&url).send(schema).map(drop);
    tokio::task::spawn_blocking(put).await.unwrap().unwrap();
}

/// A room of so many accounts, written by `app`, whose database is up to date.
async fn room(dir: &Path, app: &App, rows: u32) -> (Relay, Client) {
    let relay = relay(dir).await;
    migrate(&relay, TABLES).await;
    app.exec(&format!(
        "INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         SELECT i, i % 1000 FROM n"
    ));
    let writer = Client::open(&app.path, with_relay(relay.address())).await.unwrap();
    app.exec("INSERT INTO todo VALUES (1, 'milk')");
    writer.flush().await.unwrap();
    until("the room's database has everything", || relay.metrics().materialised.get() >= 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    (relay, writer)
}

async fn adopted(client: &Client) -> bool {
    let mut events = client.events();
    let wait = async {
        loop {
            match events.recv().await {
                Ok(Event::Adopted { .. }) => return true,
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or(false)
}

#[tokio::test]
async fn a_newcomer_begins_with_a_copy_and_keeps_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let (relay, writer) = room(dir.path(), &a, 30_000).await;
    b.exec(
        "CREATE TABLE settings (name PRIMARY KEY, value) WITHOUT ROWID;
         INSERT INTO settings VALUES ('colour', 'red');
         CREATE INDEX todo_title ON todo (title);
         CREATE TABLE seen (id);
         CREATE TRIGGER todo_seen AFTER INSERT ON todo BEGIN INSERT INTO seen VALUES (new.id); END;
         CREATE VIEW rich AS SELECT * FROM account WHERE balance > 990;
         INSERT INTO todo VALUES (2, 'bread');
         INSERT INTO account VALUES (7, 70000)",
    );
    let site = b.text("SELECT hex(crsql_site_id())");
    let newcomer = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    assert!(adopted(&newcomer).await, "{}", newcomer.status());
    newcomer.synced().await.unwrap();
    until_equal(&[&a, &b]).await;
    assert_eq!(relay.metrics().snapshots.get(), 1);
    assert_eq!(b.titles(), "milk,bread");
    assert_eq!(a.titles(), "milk,bread");
    assert_eq!(b.text("SELECT hex(crsql_site_id())"), site);
    assert_eq!(b.text("SELECT value FROM settings"), "red");
    assert_eq!(b.text("SELECT group_concat(id) FROM seen"), "2", "copying fires nothing");
    // The application's connection, open all the time, goes on.
    b.exec("INSERT INTO todo VALUES (3, 'tea'); UPDATE account SET balance = 1 WHERE id = 9");
    assert_eq!(b.text("SELECT group_concat(id) FROM seen"), "2,3");
    assert_eq!(b.text("SELECT count(*) FROM pragma_index_list('todo') WHERE name = 'todo_title'"), "1");
    a.exec("DELETE FROM todo WHERE id = 1");
    newcomer.flush().await.unwrap();
    until_equal(&[&a, &b]).await;
    for app in [&a, &b] {
        assert_eq!(app.text("SELECT crsql_doctor()"), "[]");
        assert_eq!(app.text("SELECT integrity_check FROM pragma_integrity_check"), "ok");
    }
    newcomer.close().await;
    // Coming back, it goes on from its position.
    let reads = relay.metrics().needs_reads.get();
    let again = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    again.synced().await.unwrap();
    assert_eq!(relay.metrics().needs_reads.get(), reads);
    assert_eq!(relay.metrics().snapshots.get(), 1);
    let compared = again.compare().await.unwrap();
    assert!(compared[0].comparable && compared[0].differing.is_empty(), "{compared:?}");
    assert!(
        !std::fs::read_dir(dir.path())
            .unwrap()
            .any(|file| { file.unwrap().file_name().to_string_lossy().contains("-snapshot-") })
    );
    again.close().await;
    writer.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_file_without_tables_gets_them_with_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::bare(dir.path(), "b.db"));
    let (relay, writer) = room(dir.path(), &a, 20_000).await;
    // What a relay could put into its copies to have it run by others.
    let rooms = std::fs::read_dir(dir.path().join("data/rooms")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(rooms).unwrap().map(|file| file.unwrap().path());
    let room = files.into_iter().find(|file| file.extension().is_some_and(|is| is == "db")).unwrap();
    let conn = rusqlite::Connection::open(&room).unwrap();
    conn.busy_timeout(app::DEADLINE).unwrap();
    for name in ["harmless", "__crsql_1_x", "__crsql_2_insert_x"] {
        let sql = format!("CREATE TRIGGER {name} AFTER INSERT ON todo BEGIN DELETE FROM account; END");
        conn.execute_batch(&sql).unwrap();
    }
    let newcomer = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    assert!(adopted(&newcomer).await, "{}", newcomer.status());
    newcomer.synced().await.unwrap();
    until_equal(&[&a, &b]).await;
    let triggers = |app: &App| {
        app.text("SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema WHERE type = 'trigger' ORDER BY 1)")
    };
    assert_eq!(triggers(&b), triggers(&a));
    b.exec("INSERT INTO todo VALUES (5, 'of b')");
    assert_eq!(b.text("SELECT count(*) FROM account"), "20000");
    until("it is there", || a.titles() == "milk,of b").await;
    newcomer.close().await;
    writer.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn where_a_copy_does_not_fit_everything_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::bare(dir.path(), "b.db"));
    let (relay, writer) = room(dir.path(), &a, 20_000).await;
    b.exec("CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, more TEXT); SELECT crsql_as_crr('todo')");
    b.exec("INSERT INTO todo (id, more) VALUES (3, 'x')");
    let newcomer = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    newcomer.synced().await.unwrap();
    until_equal(&[&a, &b]).await;
    assert_eq!(b.text("SELECT group_concat(title) FROM todo"), "milk");
    newcomer.close().await;
    writer.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn what_was_counted_and_not_sent_counts_in_the_copy() {
    const TALLY: &str = "
        CREATE TABLE tally (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0);
        SELECT crsql_as_crr('tally', '{\"columns\":{\"n\":\"counter\"}}');";
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    [&a, &b].iter().for_each(|app| app.exec(TALLY));
    a.exec("INSERT INTO tally VALUES (1, 0); UPDATE tally SET n = n + 5");
    let relay = relay(dir.path()).await;
    migrate(&relay, &format!("{TABLES}{TALLY}")).await;
    a.exec(
        "INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT i, i % 1000 FROM n",
    );
    let writer = Client::open(&a.path, with_relay(relay.address())).await.unwrap();
    writer.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    b.exec("INSERT INTO tally VALUES (1, 0); UPDATE tally SET n = n + 3");
    let newcomer = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    assert!(adopted(&newcomer).await, "{}", newcomer.status());
    newcomer.synced().await.unwrap();
    until_equal(&[&a, &b]).await;
    let counted = |app: &App| app.text("SELECT n FROM tally");
    assert_eq!((counted(&a), counted(&b)), ("8".into(), "8".into()));
    b.exec("UPDATE tally SET n = n + 2");
    a.exec("UPDATE tally SET n = n - 1");
    until("both counts came", || (counted(&a), counted(&b)) == ("9".into(), "9".into())).await;
    until_equal(&[&a, &b]).await;
    assert_eq!(b.text("SELECT crsql_doctor()"), "[]");
    newcomer.close().await;
    writer.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_copy_leaves_what_this_replica_declares_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let (relay, writer) = room(dir.path(), &a, 20_000).await;
    // Ids of tables and columns are others than in the copy, where nothing was ever called `memo`.
    b.exec(
        "SELECT crsql_as_table('todo'); DROP TABLE todo;
         CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, memo TEXT); SELECT crsql_as_crr('todo', '{\"losers\":5}');
         ALTER TABLE todo RENAME COLUMN memo TO title; INSERT INTO todo VALUES (2, 'bread')",
    );
    let newcomer = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    assert!(adopted(&newcomer).await, "{}", newcomer.status());
    newcomer.synced().await.unwrap();
    until_equal(&[&a, &b]).await;
    assert_eq!(b.text("SELECT options FROM crsql_crrs WHERE \"table\" = 'todo'"), r#"{"losers":5}"#);
    assert_eq!(b.text("SELECT count(*) FROM __crsql_config WHERE name LIKE 'former%'"), "0");
    assert_eq!(b.text("SELECT count(*) FROM crsql_losers"), "0");
    newcomer.close().await;
    writer.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_copy_that_declares_less_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let (relay, writer) = room(dir.path(), &a, 20_000).await;
    b.exec("SELECT crsql_as_crr('account', '{\"columns\":{\"balance\":\"counter\"}}')");
    let newcomer = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    newcomer.synced().await.unwrap();
    b.exec("UPDATE account SET balance = balance + 5 WHERE id = 1");
    assert_eq!(b.text("SELECT type FROM crsql_columns WHERE \"column\" = 'balance'"), "counter");
    assert_eq!(b.text("SELECT cid FROM crsql_changes WHERE site_id = crsql_site_id()"), "counter(balance)");
    newcomer.close().await;
    writer.close().await;
    relay.stop().await;
}
