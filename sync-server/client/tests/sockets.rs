//! Databases in files, real sockets on loopback, other connections that write.

#[path = "app/mod.rs"]
mod app;

use std::net::SocketAddr;
use std::time::Duration;

use app::{App, DEADLINE, until, until_equal};
use crsql_client::node::Event;
use crsql_client::sync::{Address, Client, Config, Listen, Phase, Target};

fn open(app: &App, config: Config) -> impl Future<Output = Client> {
    let path = app.path.clone();
    async move { Client::open(path, config).await.unwrap() }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn listening() -> Config {
    Config { listen: Some(Listen::new(loopback(), "demo")), ..Config::default() }
}

fn peer(address: SocketAddr) -> Target {
    Target::peer(Address::parse(&format!("ws://{address}"), "demo").unwrap())
}

fn to(addresses: &[SocketAddr]) -> Config {
    Config { targets: addresses.iter().map(|address| peer(*address)).collect(), ..listening() }
}

#[tokio::test]
async fn commits_of_other_connections_reach_the_peer_without_being_announced() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    a.exec("INSERT INTO todo VALUES (1, 'milk')");
    let server = open(&a, listening()).await;
    let client = open(&b, to(&[server.address().unwrap()])).await;
    client.synced().await.unwrap();
    assert_eq!(b.titles(), "milk");
    b.exec("INSERT INTO todo VALUES (2, 'bread')");
    until("bread is there", || a.titles() == "milk,bread").await;
    a.exec("DELETE FROM todo WHERE id = 1");
    until("milk is gone", || b.titles() == "bread").await;
    until_equal(&[&a, &b]).await;
    b.exec("UPDATE todo SET title = 'rye'");
    client.flush().await.unwrap();
    assert_eq!(a.titles(), "rye");
    assert_eq!(client.status().unconfirmed, 0);
    assert!(client.status().is_synced(), "{}", client.status());
    client.close().await;
    server.close().await;
}

#[tokio::test]
async fn peers_in_a_line_a_ring_and_a_mesh_converge_through_a_partition() {
    for shape in ["line", "ring", "mesh"] {
        let dir = tempfile::tempdir().unwrap();
        let apps: Vec<_> = (0..4).map(|at| App::new(dir.path(), &format!("{at}.db"))).collect();
        let mut clients: Vec<Client> = Vec::new();
        for app in &apps {
            let known: Vec<_> = clients.iter().map(|client| client.address().unwrap()).collect();
            let dialed = match shape {
                "line" => known.last().copied().into_iter().collect(),
                "ring" if known.len() == 3 => vec![known[2], known[0]],
                "ring" => known.last().copied().into_iter().collect(),
                _ => known,
            };
            clients.push(open(app, to(&dialed)).await);
        }
        for (at, app) in apps.iter().enumerate() {
            app.exec(&format!("INSERT INTO todo VALUES ({at}, 't{at}')"));
        }
        until("everybody has everything", || apps.iter().all(|app| app.titles() == "t0,t1,t2,t3")).await;
        // The last node leaves, both sides go on writing, it comes back.
        let alone = clients.pop().unwrap();
        alone.close().await;
        apps[3].exec("INSERT INTO todo VALUES (10, 'alone'); UPDATE todo SET title = 'by 3' WHERE id = 0");
        apps[0]
            .exec("INSERT INTO todo VALUES (11, 'meanwhile'); UPDATE todo SET title = 'by 0' WHERE id = 0");
        let known: Vec<_> = clients.iter().map(|client| client.address().unwrap()).collect();
        clients.push(open(&apps[3], to(&known[2..])).await);
        until_equal(&apps.iter().collect::<Vec<_>>()).await;
        assert_eq!(apps[1].text("SELECT count(*) FROM todo"), "6", "{shape}");
        for client in clients {
            client.close().await;
        }
    }
}

#[tokio::test]
async fn who_was_offline_sends_everything_later() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    // A free port at which nobody listens yet.
    let address = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let client = open(&b, Config { targets: vec![peer(address)], ..Config::default() }).await;
    for at in 0..50 {
        b.exec(&format!("INSERT INTO todo VALUES ({at}, 't{at}')"));
    }
    until("it is noticed that nobody answers", || {
        matches!(client.status().links[0].phase, Phase::Waiting { .. })
            && client.status().links[0].fault.is_some()
    })
    .await;
    assert!(!client.status().is_synced());
    let listen = Listen::new(address, "demo");
    let server = open(&a, Config { listen: Some(listen), ..Config::default() }).await;
    client.flush().await.unwrap();
    assert_eq!(a.digest(), b.digest());
    server.close().await;
    client.close().await;
}

#[tokio::test]
async fn a_wrong_token_and_a_wrong_room_are_told_and_a_callback_is_asked_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let listen = Listen { token: Some("secret".into()), ..Listen::new(loopback(), "demo") };
    let server = open(&a, Config { listen: Some(listen), ..Config::default() }).await;
    let address = server.address().unwrap();
    let fault_with = async |target: Target| {
        let client = open(&b, Config { targets: vec![target], ..Config::default() }).await;
        until("it is refused", || {
            let link = client.status().links[0].clone();
            // The reason came with the connection's end, and was once lost to it.
            assert!(link.fault.is_some() || !matches!(link.phase, Phase::Waiting { .. }), "{link:?}");
            link.fault.is_some()
        })
        .await;
        let fault = client.status().links[0].fault.clone().unwrap();
        client.close().await;
        fault
    };
    assert!(fault_with(peer(address)).await.starts_with("unauthorized (6)"));
    assert!(fault_with(peer(address).with_token("guess")).await.starts_with("unauthorized (6)"));
    let elsewhere = Target::peer(Address::parse(&format!("ws://{address}/other"), "demo").unwrap());
    assert_eq!(
        fault_with(elsewhere).await,
        "no-room (8): this node holds room \"demo\", not \"other\"".to_owned()
    );
    let target = peer(address).with_token_callback(|| Box::pin(async { Ok("secret".to_owned()) }));
    let client = open(&b, Config { targets: vec![target], ..Config::default() }).await;
    client.synced().await.unwrap();
    let broken = peer(address).with_token_callback(|| Box::pin(async { Err("the login failed".to_owned()) }));
    assert!(fault_with(broken).await.contains("the login failed"));
    client.close().await;
    server.close().await;
}

#[tokio::test]
async fn presence_and_comparison_go_through_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let server = open(&a, listening()).await;
    let client = open(&b, to(&[server.address().unwrap()])).await;
    client.synced().await.unwrap();
    let mut events = server.events();
    client.present("cursor", b"7", Duration::from_secs(30)).await.unwrap();
    loop {
        let event = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
        if let Event::Presence(presence) = event {
            assert_eq!((presence.topic.as_str(), &presence.data.0[..]), ("cursor", &b"7"[..]));
            break;
        }
    }
    assert_eq!(server.presence().await.unwrap().len(), 1);
    let compared = client.compare().await.unwrap();
    assert_eq!((compared.len(), compared[0].comparable, compared[0].differing.len()), (1, true, 0));
    client.close().await;
    server.close().await;
}

#[tokio::test]
async fn strangers_and_browsers_get_nothing_and_harm_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (App::new(dir.path(), "a.db"), App::new(dir.path(), "b.db"));
    let server = open(&a, listening()).await;
    let address = server.address().unwrap();
    for (headers, answer) in [
        ("Origin: https://evil.example\r\nSec-WebSocket-Protocol: crsql-sync.v1\r\n", "403"),
        ("", "400"),
        ("Sec-WebSocket-Protocol: chat\r\n", "400"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = vec![0; 12];
        stream.read_exact(&mut response).await.unwrap();
        assert_eq!(&response[9..12], answer.as_bytes());
    }
    let mut garbage = tokio::net::TcpStream::connect(address).await.unwrap();
    garbage.write_all(&[0xff; 4096]).await.unwrap();
    let client = open(&b, to(&[address])).await;
    b.exec("INSERT INTO todo VALUES (1, 'milk')");
    client.flush().await.unwrap();
    assert_eq!(a.titles(), "milk");
    client.close().await;
    server.close().await;
}

#[tokio::test]
async fn what_is_no_database_or_can_not_be_listened_on_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.db");
    std::fs::write(&path, "this is no database, whatever its name says, and it is long enough").unwrap();
    let error = Client::open(&path, Config::default()).await.unwrap_err().to_string();
    assert!(error.contains("not a database"), "{error}");
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let listen = Some(Listen::new(taken.local_addr().unwrap(), "demo"));
    let app = App::new(dir.path(), "a.db");
    let error =
        Client::open(&app.path, Config { listen, ..Config::default() }).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
}
