//! What the relay costs, beside a bare tokio-tungstenite broadcast in the same run.
//!
//! ```text
//! cargo run --release -p crsql-server --example measure -- [connections] [messages] [rounds]
//! ```
//!
//! CPU is user and system time of the server's process, from /proc, so it hardly depends on what else runs; times by
//! the clock do. Each server is a process of its own, new in each round.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
use crsql_core::merge::TieBreak;
use crsql_core::value::ValueRef;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::*;
use crsql_server::config::{Flags, Settings};
use crsql_server::serve::Relay;
use futures_util::{SinkExt, StreamExt};
use support::{Client, Device, Options};
use tokio_tungstenite::tungstenite::Message as Ws;

/// Messages in flight.
const WINDOW: u64 = 4;

/// The value of a row: the message comes to about as much as what the floor sends.
const VALUE: &str = "a value of some length";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve-floor") => runtime(1).block_on(serve_floor()),
        Some("serve-relay") => runtime(2).block_on(serve_relay(&args[1])),
        _ => {
            let number = |at: usize, default| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
            runtime(2).block_on(measure(number(0, 1000), number(1, 300), number(2, 3)));
        }
    }
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

/// Accepts WebSockets and sends everything that one says to all.
async fn serve_floor() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let all = tokio::sync::broadcast::Sender::<bytes::Bytes>::new(1024);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let all = all.clone();
        tokio::spawn(async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let mut said = all.subscribe();
            loop {
                tokio::select! {
                    message = socket.next() => match message {
                        Some(Ok(Ws::Binary(bytes))) => drop(all.send(bytes)),
                        Some(Ok(_)) => {}
                        _ => return,
                    },
                    Ok(bytes) = said.recv() => if socket.send(Ws::Binary(bytes)).await.is_err() { return },
                }
            }
        });
    }
}

async fn serve_relay(directory: &str) {
    let mut flags =
        Flags { listen: Some("127.0.0.1:0".into()), data: Some(directory.into()), ..Flags::default() };
    let big = || Some("1000000".into());
    (flags.connections, flags.connections_per_ip, flags.messages_per_second) = (big(), big(), big());
    (flags.bytes_per_second, flags.room_bytes_per_second) = (Some("1GiB".into()), Some("1GiB".into()));
    flags.connections_per_room = big();
    let relay = Relay::start(Settings::load_from(&flags, &|_| None).unwrap()).await.unwrap();
    println!("{}", relay.address());
    // Until the other side of the pipe is gone.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().ok();
    relay.stop().await;
}

struct Server {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(kind: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(kind)
            .arg(directory.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, address: line.trim().parse().unwrap(), _directory: directory }
    }

    /// User and system time so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime and stime are fields 14 and 15; the text after the name begins with field 3. In hundredths.
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Memory in use, in KiB.
    fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn measure(connections: u64, messages: u64, rounds: u64) {
    println!("{connections} connections, {messages} messages, window {WINDOW}");
    for round in 1..=rounds {
        let (floor, floor_kib) = floor(connections, messages).await;
        let (relay, relay_kib, acks) = relay(connections, messages).await;
        println!(
            "round {round}: CPU per delivery: floor {floor:.2} us, relay {relay:.2} us, ratio {:.2}; memory per idle \
             connection: floor {floor_kib:.1} KiB, relay {relay_kib:.1} KiB; ack p50 {:.1} ms, p99 {:.1} ms",
            relay / floor,
            percentile(&acks, 50),
            percentile(&acks, 99),
        );
    }
    bytes_per_change().await;
    catch_up().await;
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// Microseconds of CPU per delivery, and KiB per idle connection.
async fn floor(connections: u64, messages: u64) -> (f64, f64) {
    let server = Server::start("serve-floor");
    let before = server.rss_kib();
    let delivered = Arc::new(AtomicU64::new(0));
    for _ in 0..connections {
        let url = format!("ws://{}", server.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let delivered = delivered.clone();
        tokio::spawn(async move {
            while let Some(Ok(_)) = socket.next().await {
                delivered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let kib = (server.rss_kib() - before) as f64 / connections as f64;
    let (mut sender, _) = tokio_tungstenite::connect_async(format!("ws://{}", server.address)).await.unwrap();
    let cpu = server.cpu();
    for sent in 0..messages {
        while delivered.load(Ordering::Relaxed) + WINDOW * connections <= sent * connections {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        sender.send(Ws::Binary(vec![7; 230].into())).await.unwrap();
        while let Ok(Some(Ok(_))) = tokio::time::timeout(Duration::ZERO, sender.next()).await {}
    }
    while delivered.load(Ordering::Relaxed) < messages * connections {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let used = server.cpu() - cpu;
    (used.as_secs_f64() * 1e6 / (messages * connections) as f64, kib)
}

/// The same of the relay, and how long acks took.
async fn relay(connections: u64, messages: u64) -> (f64, f64, Vec<Duration>) {
    let server = Server::start("serve-relay");
    let options = Options::default();
    let mut sender = Client::connect(server.address, Device::new(1), &options).await;
    sender.ready().await;
    let before = server.rss_kib();
    let delivered = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    for at in 0..connections {
        let mut device = Device::new(2);
        device.site.0[..8].copy_from_slice(&(at + 1).to_be_bytes());
        let mut client = Client::connect(server.address, device, &options).await;
        client.ready().await;
        let (delivered, stop) = (delivered.clone(), stop.clone());
        tokio::spawn(async move {
            let mut counted = 0;
            while client.closed.is_none() && !stop.load(Ordering::Relaxed) {
                client.step().await;
                let held = client.device.frames.len() as u64;
                delivered.fetch_add(held - counted, Ordering::Relaxed);
                counted = held;
            }
        });
    }
    let kib = (server.rss_kib() - before) as f64 / connections as f64;
    let cpu = server.cpu();
    let mut acks = Vec::new();
    for sent in 0..messages {
        while delivered.load(Ordering::Relaxed) + WINDOW * connections <= sent * connections {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let began = Instant::now();
        sender.write(VALUE).await;
        sender.flushed().await;
        acks.push(began.elapsed());
    }
    while delivered.load(Ordering::Relaxed) < messages * connections {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let used = server.cpu() - cpu;
    stop.store(true, Ordering::Relaxed);
    acks.sort();
    (used.as_secs_f64() * 1e6 / (messages * connections) as f64, kib, acks)
}

/// A transaction of `rows` rows of five texts.
fn bulk(device: &Device, version: u64, rows: u64) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Site);
    let site = writer.site(device.site);
    let table = writer.table("t", 1, &["a", "b", "c", "d", "e"]);
    let columns = vec![1, 2, 3, 4, 5];
    let group = GroupHeader { columns, col_version: 1, site, version, seq_step: 5, ..Default::default() };
    let first_key = Some((version * 1_000_000) as i64);
    writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key });
    // Fifteen letters of chance, which no compression takes below 7.5 bytes.
    let mut dice = version;
    for _ in 0..rows {
        for _ in 0..5 {
            dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            writer.value(ValueRef::Text(format!("{:015x}", (dice ^ (dice >> 29)) >> 4).as_bytes()));
        }
        writer.end_row();
    }
    writer.finish(&VersionVector::default(), false)
}

fn frame(device: &Device, version: u64, rows: u64, zstd: bool) -> Frame {
    let body = bulk(device, version, rows);
    let last = 5 * rows - 1;
    let frame = Frame { seq_hi: last, last_seq: last, ..device.frame(version, body) };
    if zstd { crsql_client::replica::pack::packed(frame) } else { frame }
}

/// What goes over the wire to a reader, per change.
async fn bytes_per_change() {
    for (what, rows, versions, zstd) in
        [("one row", 1, 50, false), ("bulk insert", 1000, 20, false), ("bulk insert, zstd", 1000, 20, true)]
    {
        let server = Server::start("serve-relay");
        let mut options = Options::default();
        options.config.features |= features::ZSTD;
        let mut sender = Client::connect(server.address, Device::new(1), &options).await;
        let mut reader = Client::connect(server.address, Device::new(2), &options).await;
        sender.ready().await;
        reader.caught_up().await;
        let before = reader.received;
        let site = sender.device.site;
        for version in 1..=versions {
            let frame = frame(&sender.device, version, rows, zstd);
            sender.device.own(version, vec![frame]);
            sender.gained(version).await;
            // Takes in its acks, or the window would fill up.
            sender.flushed().await;
            reader.until("the transaction", |reader| reader.device.holds(site, version)).await;
        }
        let bytes = (reader.received - before) as f64;
        let (change, transaction) = (bytes / (rows * versions * 5) as f64, bytes / versions as f64);
        println!("{what}: {change:.1} bytes a change, {transaction:.1} a transaction");
    }
}

/// A newcomer takes in 100,000 changes.
async fn catch_up() {
    let server = Server::start("serve-relay");
    let options = Options::default();
    let mut sender = Client::connect(server.address, Device::new(1), &options).await;
    sender.ready().await;
    for version in 1..=1000 {
        let frame = frame(&sender.device, version, 20, false);
        sender.device.own(version, vec![frame]);
        sender.gained(version).await;
    }
    sender.flushed().await;
    for round in 1..=3 {
        let (began, cpu) = (Instant::now(), server.cpu());
        let mut reader = Client::connect(server.address, Device::new(3), &options).await;
        reader.caught_up().await;
        assert!(reader.device.holds(sender.device.site, 1000));
        println!(
            "catch-up {round}: 100,000 changes in 1,000 transactions, {} bytes, {:.0} ms, {:.0} ms CPU of the relay",
            reader.received,
            began.elapsed().as_secs_f64() * 1e3,
            (server.cpu() - cpu).as_secs_f64() * 1e3
        );
    }
}
