//! The sidecar and the client library with a relay: real files, real sockets, real processes.

#[path = "../client/tests/app/mod.rs"]
mod app;
mod support;

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use app::{App, DEADLINE, until, with_relay};
use crsql_client::sync::{Client, Config, Target};
use crsql_server::serve::Relay;
use support::{relay, settings};

/// A process that ends with the test, however that ends.
struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `crsql-server sync` as a process.
fn sidecar(file: &Path, arguments: &[&str]) -> Sidecar {
    let child = Command::new(env!("CARGO_BIN_EXE_crsql-server"))
        .arg("sync")
        .arg(file)
        .args(arguments)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Sidecar(child)
}

fn finished(mut child: Sidecar) -> ExitStatus {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "the sidecar never ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn terminate(child: &Sidecar) {
    let killed = Command::new("kill").arg(child.0.id().to_string()).status().unwrap();
    assert!(killed.success());
}

#[tokio::test]
async fn two_databases_converge_through_a_relay() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = relay(dir.path()).await;
    // Several commits before anybody looked, a large one, and some that overwrite each other.
    for at in 0..200 {
        a.exec(&format!("INSERT OR REPLACE INTO todo VALUES ({}, 't{at}')", at % 70));
    }
    a.exec(
        "INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         SELECT i, i % 7 FROM n",
    );
    b.exec("INSERT INTO todo VALUES (1000, 'from b')");
    let one = Client::open(&a.path, with_relay(relay.address())).await.unwrap();
    one.synced().await.unwrap();
    let two = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    two.synced().await.unwrap();
    until("the digests are equal", || a.digest() == b.digest()).await;
    for at in 0..20 {
        a.exec(&format!("UPDATE todo SET title = 'a{at}' WHERE id = {at}"));
        b.exec(&format!("DELETE FROM todo WHERE id = {}", at + 10));
    }
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    until("the digests are equal again", || a.digest() == b.digest()).await;
    assert_eq!((one.status().unconfirmed, two.status().unconfirmed), (0, 0));
    one.close().await;
    two.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn two_relays_are_bridged_by_a_client_of_both() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let relays = [relay(dirs[0].path()).await, relay(dirs[1].path()).await];
    let dir = tempfile::tempdir().unwrap();
    let apps: Vec<_> = (0..3).map(|at| App::new(dir.path(), &format!("{at}.db"))).collect();
    apps[0].exec("INSERT INTO todo VALUES (1, 'milk')");
    apps[2].exec("INSERT INTO todo VALUES (2, 'bread')");
    let bridge = Config {
        targets: relays
            .iter()
            .flat_map(|relay| with_relay(relay.address()).targets)
            .map(|target| Target { gossip: true, ..target })
            .collect(),
        ..Config::default()
    };
    let one = Client::open(&apps[0].path, with_relay(relays[0].address())).await.unwrap();
    let both = Client::open(&apps[1].path, bridge).await.unwrap();
    let two = Client::open(&apps[2].path, with_relay(relays[1].address())).await.unwrap();
    until("everybody has both", || apps.iter().all(|app| app.text("SELECT count(*) FROM todo") == "2")).await;
    until("the digests are equal", || apps.iter().all(|app| app.digest() == apps[0].digest())).await;
    for client in [one, both, two] {
        client.close().await;
    }
}

#[tokio::test]
async fn a_relay_that_comes_back_empty_is_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let first = relay(dir.path()).await;
    let address = first.address();
    let one = Client::open(&a.path, with_relay(address)).await.unwrap();
    let two = Client::open(&b.path, with_relay(address)).await.unwrap();
    a.exec("INSERT INTO todo VALUES (1, 'milk'); INSERT INTO todo VALUES (2, 'bread')");
    b.exec("INSERT INTO todo VALUES (3, 'tea')");
    until("the digests are equal", || a.digest() == b.digest()).await;
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    first.stop().await;
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    a.exec("UPDATE todo SET title = 'rye' WHERE id = 2");
    let second =
        Relay::start(settings(dir.path(), |flags| flags.listen = Some(address.to_string()))).await.unwrap();
    let c = App::new(dir.path(), "c.db");
    let three = Client::open(&c.path, with_relay(address)).await.unwrap();
    until("a newcomer has everything", || c.digest() == a.digest() && c.digest() == b.digest()).await;
    assert_eq!(c.text("SELECT group_concat(title) FROM todo"), "milk,rye,tea");
    for client in [one, two, three] {
        client.close().await;
    }
    second.stop().await;
}

#[tokio::test]
async fn the_sidecar_syncs_once_and_says_by_its_exit_code_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = relay(dir.path()).await;
    let url = format!("ws://{}/demo", relay.address());
    a.exec("INSERT INTO todo VALUES (1, 'milk')");
    let code =
        |child: Sidecar| async { tokio::task::spawn_blocking(|| finished(child)).await.unwrap().code() };
    assert_eq!(code(sidecar(&a.path, &[&url, "--once"])).await, Some(0));
    assert_eq!(code(sidecar(&b.path, &[&url, "--once"])).await, Some(0));
    assert_eq!(a.digest(), b.digest());
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("ws://{nowhere}");
    assert_eq!(code(sidecar(&a.path, &[&nowhere, "--once", "--timeout", "1"])).await, Some(3));
    assert_eq!(code(sidecar(&a.path, &[])).await, Some(2));
    assert_eq!(code(sidecar(&a.path, &["ftp://x"])).await, Some(2));
    assert_eq!(code(sidecar(&a.path, &["--listen", "0.0.0.0:0"])).await, Some(2));
    std::fs::write(dir.path().join("no.db"), [b'x'; 4096]).unwrap();
    assert_eq!(code(sidecar(&dir.path().join("no.db"), &[&url])).await, Some(1));
    // Peers refuse who asks for another room.
    let listen = crsql_client::sync::Listen::new("127.0.0.1:0".parse().unwrap(), "mine");
    let peer = Client::open(&b.path, Config { listen: Some(listen), ..Config::default() }).await.unwrap();
    let url = format!("ws://{}/other", peer.address().unwrap());
    assert_eq!(code(sidecar(&a.path, &["--peer", &url, "--once"])).await, Some(4));
    peer.close().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_sidecar_that_is_told_to_stop_sends_what_was_just_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = relay(dir.path()).await;
    let url = format!("ws://{}/demo", relay.address());
    let child = sidecar(&a.path, &[&url]);
    a.exec("INSERT INTO todo VALUES (1, 'milk')");
    let reader = Client::open(&b.path, with_relay(relay.address())).await.unwrap();
    until("milk is there", || b.text("SELECT count(*) FROM todo") == "1").await;
    a.exec("INSERT INTO todo VALUES (2, 'bread')");
    terminate(&child);
    let status = tokio::task::spawn_blocking(|| finished(child)).await.unwrap();
    assert_eq!(status.code(), Some(0));
    until("bread is there", || b.text("SELECT count(*) FROM todo") == "2").await;
    reader.close().await;
    relay.stop().await;
}

/// How often sidecars are killed. More by hand: `CRSQL_KILLS=200 cargo test -p crsql-server --test sync kill`.
fn kills() -> usize {
    std::env::var("CRSQL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_killed_in_the_middle_of_it_lose_nothing_and_show_no_half() {
    let dir = tempfile::tempdir().unwrap();
    let apps = [App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db")];
    let relay = relay(dir.path()).await;
    let url = format!("ws://{}/demo", relay.address());
    apps[0].exec(
        "INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
         SELECT i, 100 FROM n",
    );
    let mut running: Vec<_> = apps.iter().map(|app| sidecar(&app.path, &[&url])).collect();
    let mut dice: u64 = 0x5eed;
    let mut roll = |n: u64| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) % n
    };
    until("the accounts are there", || apps[1].text("SELECT count(*) FROM account") == "50").await;
    for kill in 0..kills() {
        // Transfers on one side only, so that the sum of all accounts stays what it is in every state there was.
        for _ in 0..10 {
            let (from, to, amount) = (roll(50) + 1, roll(50) + 1, roll(10));
            apps[0].exec(&format!(
                "BEGIN IMMEDIATE;
                 UPDATE account SET balance = balance - {amount} WHERE id = {from};
                 UPDATE account SET balance = balance + {amount} WHERE id = {to};
                 COMMIT"
            ));
            apps[1].exec(&format!("INSERT OR REPLACE INTO todo VALUES ({}, 'n{kill}')", roll(100)));
            for app in &apps {
                assert_eq!(app.text("SELECT sum(balance) FROM account"), "5000");
            }
            tokio::time::sleep(Duration::from_millis(roll(8))).await;
        }
        let at = roll(2) as usize;
        running[at].0.kill().unwrap();
        running[at].0.wait().unwrap();
        running[at] = sidecar(&apps[at].path, &[&url]);
    }
    until("the digests are equal", || {
        assert_eq!(apps[1].text("SELECT sum(balance) FROM account"), "5000");
        apps[0].digest() == apps[1].digest()
    })
    .await;
    for app in &apps {
        assert_eq!(app.text("SELECT crsql_doctor()"), "[]");
        // Nothing was taken for another history.
        assert_eq!(app.text("SELECT count(*) FROM crsql_peers"), "2");
    }
    drop(running);
    relay.stop().await;
}

/// The most memory that a process ever had, in MB.
#[cfg(target_os = "linux")]
fn peak_mb(child: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_commit_of_half_a_million_rows_takes_a_sidecar_a_few_times_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let relay = relay(dir.path()).await;
    let url = format!("ws://{}/demo", relay.address());
    let one = sidecar(&a.path, &[&url]);
    a.exec("INSERT INTO todo VALUES (0, 'first')");
    let two = sidecar(&b.path, &[&url]);
    until("both are there", || b.text("SELECT count(*) FROM todo") == "1").await;
    let before = [peak_mb(&one), peak_mb(&two)];
    // 34 MB of changes.
    a.exec(
        "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000)
         SELECT i, printf('%064d', i * 7919) FROM n",
    );
    until("all of it is there", || b.text("SELECT count(*) FROM todo") == "500001").await;
    assert_eq!(a.digest(), b.digest());
    let after = [peak_mb(&one), peak_mb(&two)];
    println!("{before:?} MB before, {after:?} MB after: who sent it, who got it");
    assert!(after[0] - before[0] <= 5 * 34, "{after:?} MB");
    drop((one, two));
    relay.stop().await;
}

#[tokio::test]
async fn rows_that_differ_at_the_relay_are_found_and_put_right_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::new(dir.path(), "a.db");
    app.exec(
        "INSERT INTO todo WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         SELECT i, 't' || i FROM n",
    );
    let first = relay(dir.path()).await;
    let client = Client::open(&app.path, with_relay(first.address())).await.unwrap();
    client.synced().await.unwrap();
    let compared = client.compare().await.unwrap();
    assert!(compared[0].comparable && compared[0].differing.is_empty());
    client.close().await;
    first.stop().await;
    // Faults: facts that no version stands for, one on each side.
    let fault = |id: u32| {
        format!(
            "INSERT INTO crsql_changes (\"table\", pk, cid, val, col_version, db_version, site_id, cl, seq)
             VALUES ('todo', crsql_pack_columns({id}), 'title', 'wrong', 7, 1, crsql_site_id(), 1, 0)"
        )
    };
    let rooms = std::fs::read_dir(dir.path().join("data/rooms")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(rooms).unwrap().map(|file| file.unwrap().path());
    let room = files.into_iter().find(|file| file.extension().is_some_and(|is| is == "db")).unwrap();
    let conn = rusqlite::Connection::open(&room).unwrap();
    crsql::register(&conn).unwrap();
    conn.execute_batch(&fault(7)).unwrap();
    let digest = |conn: &rusqlite::Connection| -> String {
        conn.query_row("SELECT crsql_digest()", [], |row| row.get(0)).unwrap()
    };
    let second = relay(dir.path()).await;
    let client = Client::open(&app.path, with_relay(second.address())).await.unwrap();
    client.synced().await.unwrap();
    app.exec(&fault(1234));
    assert_ne!(digest(&conn), app.digest());
    let compared = client.compare().await.unwrap();
    assert!(compared[0].comparable, "{compared:?}");
    assert_eq!(compared[0].differing.len(), 2);
    until("both are equal", || digest(&conn) == app.digest()).await;
    assert_eq!(app.text("SELECT title FROM todo WHERE id = 7"), "wrong");
    assert!(second.metrics().repairs.get() > 0);
    let compared = client.compare().await.unwrap();
    assert!(compared[0].comparable && compared[0].differing.is_empty());
    client.close().await;
    second.stop().await;
}

#[tokio::test]
async fn peers_connect_by_tls_and_trust_only_what_they_were_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    a.exec("INSERT INTO todo VALUES (1, 'milk')");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (listen, files) = (format!("127.0.0.1:{port}"), [cert.to_str().unwrap(), key.to_str().unwrap()]);
    let arguments = ["--listen", &listen, "--tls-cert", files[0], "--tls-key", files[1], "--room", "demo"];
    let _server = sidecar(&a.path, &arguments);
    let once = |url: String, trusts: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crsql-server"));
        command.arg("sync").arg(&b.path).args(["--peer", &url, "--room", "demo", "--once", "--timeout", "8"]);
        if trusts {
            command.env("SSL_CERT_FILE", &cert);
        }
        Sidecar(command.stderr(Stdio::null()).spawn().unwrap())
    };
    let code = |child| async { tokio::task::spawn_blocking(|| finished(child)).await.unwrap().code() };
    assert_eq!(code(once(format!("wss://localhost:{port}"), true)).await, Some(0));
    assert_eq!(b.titles(), "milk");
    assert_eq!(a.digest(), b.digest());
    a.exec("INSERT INTO todo VALUES (2, 'bread')");
    let [strange, plain] =
        [once(format!("wss://localhost:{port}"), false), once(format!("ws://localhost:{port}"), false)];
    assert_eq!(code(strange).await, Some(3), "nobody vouches for it");
    assert_eq!(code(plain).await, Some(3), "it speaks TLS only");
    assert_eq!(b.titles(), "milk");
    // What is no certificate is an error at the start.
    let wrong = ["--listen", "127.0.0.1:0", "--tls-cert", files[1], "--tls-key", files[1]];
    assert_eq!(code(sidecar(&a.path, &wrong)).await, Some(2));
}
