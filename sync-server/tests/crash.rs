//! A real process, killed without warning again and again: what it acknowledged is there, whole and once.
//!
//! `CRSQL_KILLS` sets how often.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Event;
use crsql_protocol::message::Frame;
use support::*;

/// A relay of its own process; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(directory: &Path) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_crsql-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"])
            .arg(directory.join("data"))
            .args(["--messages-per-second", "1000000", "--bytes-per-second", "1GiB"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the relay ended before it listened").unwrap();
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = json["fields"]["address"].as_str() {
                break address.parse().unwrap();
            }
        };
        // What it says later nobody reads, but the pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What was promised: by whom, and what it was.
#[derive(Default)]
struct Promises {
    held: VersionVector,
    frames: BTreeMap<(SiteId, u64), Vec<Frame>>,
}

impl Promises {
    fn note(&mut self, client: &Client) {
        for event in &client.events {
            if let Event::Confirmed(versions) = event {
                self.held.union_with(versions);
            }
        }
        self.frames.extend(client.device.frames.iter().map(|(name, frames)| (*name, frames.clone())));
    }

    fn check(&self, reader: &Device) {
        for (site, lo, hi) in self.held.ranges() {
            for version in lo..=hi {
                let found = reader.frames.get(&(site, version));
                assert_eq!(found, self.frames.get(&(site, version)), "{site} {version} was acknowledged");
            }
        }
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_relay_is_killed() {
    let kills: u64 = std::env::var("CRSQL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let directory = tempfile::tempdir().unwrap();
    let options = Options::default();
    let mut promises = Promises::default();
    let mut devices = vec![Device::new(1), Device::new(2)];
    for kill in 0..kills {
        let relay = Process::start(directory.path());
        let mut clients = Vec::new();
        for device in devices.drain(..) {
            let mut client = Client::connect(relay.address, device, &options).await;
            client.ready().await;
            clients.push(client);
        }
        // As much as the window takes, small and large, so that the kill meets it in every state.
        for number in 0..20 + kill % 30 {
            for client in &mut clients {
                let version = match number % 7 {
                    3 => client.device.write_in_chunks(5, &"chunk".repeat(400)),
                    _ => client.device.write(&format!("row {number} of {kill}")),
                };
                client.gained(version).await;
                tokio::time::timeout(Duration::from_micros(300), client.step()).await.ok();
            }
        }
        tokio::time::sleep(Duration::from_micros(kill * 3_700 % 20_000)).await;
        drop(relay);
        for mut client in clients {
            client.settled("the end", |client| client.closed.is_some()).await;
            promises.note(&client);
            devices.push(client.into_device());
        }
        let relay = Process::start(directory.path());
        let mut reader = Client::connect(relay.address, Device::new(9), &options).await;
        let t = std::time::Instant::now();
        reader.caught_up().await;
        eprintln!("kill {kill}: {:?} {} bytes {}", t.elapsed(), reader.received, reader.device.frames.len());
        promises.check(&reader.device);
    }
    assert!(
        promises.held.ranges().map(|(_, lo, hi)| hi - lo + 1).sum::<u64>() > kills,
        "something was acknowledged"
    );
    // And what was not acknowledged comes again.
    let relay = Process::start(directory.path());
    let mut reader = Client::connect(relay.address, Device::new(9), &options).await;
    reader.ready().await;
    for device in devices {
        let site = device.site;
        let head = device.ledger.head(site).version;
        let mut client = Client::connect(relay.address, device, &options).await;
        client.ready().await;
        client.flushed().await;
        reader
            .until("everything", |reader| (1..=head).all(|version| reader.device.holds(site, version)))
            .await;
    }
}
