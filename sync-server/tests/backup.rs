//! The subcommands backup, restore and doctor, as processes.

#[path = "../client/tests/app/mod.rs"]
mod app;
mod support;

use std::process::{Command, Output};

use app::{App, synced, until_equal};
use support::relay;

/// Runs `crsql-server`; its exit code and what it said.
async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crsql-server"));
    command.args(arguments);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

#[tokio::test]
async fn a_room_comes_back_from_a_hot_backup_and_clients_bring_back_what_is_newer() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| App::new(dir.path(), name));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (backup, data, other) = (path("backup.db"), path("data"), path("other"));
    let first = relay(dir.path()).await;
    let writer = synced(&a, first.address()).await;
    a.exec("INSERT INTO todo VALUES (1, 'milk'), (2, 'bread'); INSERT INTO account VALUES (1, 100)");
    writer.flush().await.unwrap();
    let url = format!("http://{}", first.address());
    let (code, said) = run(&["backup", &url, "demo", &backup]).await;
    assert_eq!(code, Some(0), "{said}");
    a.exec("UPDATE todo SET title = 'rye' WHERE id = 2; INSERT INTO todo VALUES (3, 'tea')");
    writer.flush().await.unwrap();
    // While the relay runs, nothing can be restored, but everything looked through.
    let (code, said) = run(&["restore", &backup, "demo", "--data", &data]).await;
    assert!(code == Some(1) && said.contains("another relay uses"), "{said}");
    let (code, said) = run(&["doctor", &data]).await;
    assert!(code == Some(0) && said.matches(": sound").count() == 2, "{said}");
    let (code, said) = run(&["backup", &url, "nothing", &path("none.db")]).await;
    assert!(code == Some(1) && said.contains("no-room"), "{said}");
    writer.close().await;
    first.stop().await;

    let (code, said) = run(&["restore", &backup, "demo", "--data", &data]).await;
    assert_eq!((code, said.trim()), (Some(0), "room \"demo\" has 2 transactions again"));
    let second = relay(dir.path()).await;
    let newcomer = synced(&b, second.address()).await;
    assert_eq!(b.titles(), "milk,bread", "as it was then");
    let writer = synced(&a, second.address()).await;
    until_equal(&[&a, &b]).await;
    assert_eq!(b.titles(), "milk,rye,tea", "and what was written since");
    writer.close().await;
    newcomer.close().await;
    second.stop().await;

    // On another machine, under another name.
    let (code, said) = run(&["restore", &backup, "demo", "--data", &other]).await;
    assert_eq!(code, Some(0), "{said}");
    let third =
        crsql_server::serve::Relay::start(support::settings(dir.path(), |flags| flags.data = Some(other)));
    let third = third.await.unwrap();
    let client = synced(&c, third.address()).await;
    assert_eq!(c.titles(), "milk,bread");
    c.exec("DELETE FROM todo WHERE id = 1");
    client.flush().await.unwrap();
    client.close().await;
    third.stop().await;
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let app = App::new(dir.path(), "app.db");
    app.exec("INSERT INTO todo VALUES (1, 'milk')");
    let data = path("data");
    for (file, reason) in [("app.db", "the backup is no room of a relay"), ("nothing.db", "there is no file")]
    {
        let (code, said) = run(&["restore", &path(file), "demo", "--data", &data]).await;
        assert!(code == Some(1) && said.contains(reason), "{said}");
    }
    let (code, said) = run(&["doctor", &path("app.db")]).await;
    assert!(code == Some(0) && said.contains("app.db: sound"), "{said}");
    // A row that its clocks know nothing of, by a connection without the extension's triggers.
    let plain = rusqlite::Connection::open(&app.path).unwrap();
    let triggers: String = plain
        .query_row(
            "SELECT group_concat('DROP TRIGGER ' || quote(name) || ';', ' ') FROM sqlite_schema WHERE type = 'trigger'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    plain.execute_batch(&triggers).unwrap();
    plain.execute_batch("INSERT INTO todo VALUES (2, 'from nowhere')").unwrap();
    let (code, said) = run(&["doctor", &path("app.db")]).await;
    assert!(code == Some(1) && said.contains("todo"), "{said}");
}
