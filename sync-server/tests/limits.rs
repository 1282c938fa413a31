//! Each limit: what goes beyond it is refused with its code and counted; everybody else goes on.

mod support;

use std::time::Duration;

use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
use crsql_core::merge::TieBreak;
use crsql_core::value::ValueRef;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Code;
use crsql_protocol::message::*;
use crsql_server::config::Flags;
use crsql_server::serve::Relay;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn relay_with(directory: &tempfile::TempDir, change: impl FnOnce(&mut Flags)) -> Relay {
    Relay::start(settings(directory.path(), change)).await.unwrap()
}

/// A transaction of one row in each of so many tables, with so many columns, a blob key of so many bytes and values of
/// so many.
fn shaped(device: &Device, version: u64, tables: usize, columns: usize, key: usize, value: usize) -> Frame {
    let mut writer = Writer::new(TieBreak::Site);
    let site = writer.site(device.site);
    let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
    for at in 0..tables {
        let table = writer.table(&format!("t{at}"), 1, &names);
        let columns = (1..=columns as u32).collect();
        let seq = (at * names.len()) as u64;
        let group = GroupHeader { columns, col_version: 1, site, version, seq, ..Default::default() };
        writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: None });
        let mut pk = vec![1];
        crsql_core::pack::pack_value(ValueRef::Blob(&vec![7; key]), &mut pk);
        writer.key(&pk);
        names.iter().for_each(|_| writer.value(ValueRef::Text(&vec![b'x'; value])));
        writer.end_row();
    }
    let last_seq = (tables * columns) as u64 - 1;
    let body = writer.finish(&VersionVector::default(), false);
    Frame { seq_hi: last_seq, last_seq, ..device.frame(version, body) }
}

#[tokio::test]
async fn tables_columns_keys_and_cells_are_bounded_and_large_cells_counted() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.tables = Some("3".into());
        flags.columns = Some("4".into());
        flags.key_bytes = Some("100".into());
        flags.cell_bytes = Some("1000".into());
        flags.cell_warning = Some("500".into());
    })
    .await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    let me = Device::new(1);
    let beyond = [(4, 1, 8, 8), (1, 5, 8, 8), (1, 1, 101, 8), (1, 1, 8, 1001)];
    let frames = beyond.iter().zip(1..).map(|(&(t, c, k, v), version)| shaped(&me, version, t, c, k, v));
    let push =
        Push { id: 1, frames: frames.collect(), claims: Default::default(), chains: vec![], more: false };
    a.send(push).await;
    a.settled("four refusals", |_| relay.metrics().rejects(Code::QUOTA) == 4).await;
    assert_eq!(relay.metrics().large_cells.get(), 0);
    let within = shaped(&me, 20, 3, 4, 90, 600);
    let push = Push { id: 2, frames: vec![within], claims: Default::default(), chains: vec![], more: false };
    a.send(push).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &Options::default()).await;
    b.until("what is within", |b| b.device.holds(me.site, 20)).await;
    assert_eq!(relay.metrics().large_cells.get(), 12);
    assert_eq!(relay.metrics().rejects(Code::QUOTA), 4);
    relay.stop().await;
}

/// A transaction of one row with these clocks.
fn clocked(device: &Device, version: u64, cl: u64, col_version: u64) -> Frame {
    let mut writer = Writer::new(TieBreak::Site);
    let (site, table) = (writer.site(device.site), writer.table("t", 1, &["a"]));
    let group = GroupHeader { columns: vec![1], col_version, site, version, ..Default::default() };
    writer.begin_run(&RunHeader { table, cl, groups: vec![group], first_key: Some(version as i64) });
    writer.value(ValueRef::Text(b"x"));
    writer.end_row();
    device.frame(version, writer.finish(&VersionVector::default(), false))
}

#[tokio::test]
async fn nobody_drives_a_clock_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |_| {}).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    let me = Device::new(1);
    let push = |id, frames| Push { id, frames, claims: Default::default(), chains: vec![], more: false };
    // Whoever is first in a room may have a past.
    a.send(push(1, vec![clocked(&me, 1, 101, 1001)])).await;
    a.settled("a beginning", |_| relay.metrics().frames_in.get() == 1).await;
    let refused = [(1 << 31) - 1, 101 + (1 << 16) + 2].map(|cl| (cl, 1));
    let refused = refused.into_iter().chain([(1, 1 << 40), (1, 1001 + (1 << 20) + 1)]);
    let frames = refused.zip(2..).map(|((cl, col_version), version)| clocked(&me, version, cl, col_version));
    a.send(push(2, frames.collect())).await;
    a.settled("four refusals", |_| relay.metrics().rejects(Code::CLOCK) == 4).await;
    // As far as it goes, which is not far enough to go on from.
    let frames =
        vec![clocked(&me, 10, 101 + (1 << 16), 1001 + (1 << 20)), clocked(&me, 11, 101 + (1 << 17), 1)];
    a.send(push(3, frames)).await;
    a.settled("a fifth", |_| relay.metrics().rejects(Code::CLOCK) == 5).await;
    assert_eq!(relay.metrics().frames_in.get(), 2);
    // What is known survives a restart.
    tokio::time::sleep(Duration::from_secs(7)).await;
    relay.stop().await;
    let relay = relay_with(&directory, |_| {}).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &Options::default()).await;
    b.ready().await;
    let you = Device::new(2);
    b.send(push(1, vec![clocked(&you, 1, (1 << 31) - 1, 1), clocked(&you, 2, 103 + (1 << 16), 1)])).await;
    b.settled("a refusal", |_| relay.metrics().rejects(Code::CLOCK) == 1).await;
    assert_eq!(relay.metrics().frames_in.get(), 1);
    relay.stop().await;
    // Unless the relay is told not to mind.
    let relay = relay_with(&directory, |flags| flags.clock_steps = Some("false".into())).await;
    let mut c = Client::connect(relay.address(), Device::new(3), &Options::default()).await;
    c.ready().await;
    c.send(push(1, vec![clocked(&Device::new(3), 1, (1 << 31) - 1, 1)])).await;
    c.settled("an old one", |_| relay.metrics().frames_in.get() == 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_room_receives_no_more_than_its_rate_allows() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| flags.room_bytes_per_second = Some("20KiB".into())).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    let began = std::time::Instant::now();
    // 100 KiB at once are allowed; the next 40 take two seconds, which the writer only notices as slowness.
    for _ in 0..14 {
        a.write(&"x".repeat(10 << 10)).await;
    }
    a.flushed().await;
    assert!(began.elapsed() >= Duration::from_millis(1000), "{:?}", began.elapsed());
    assert_eq!(relay.metrics().faults(Code::RATE), 0);
    // By HTTP nobody waits: it is refused.
    let url = format!("http://{}/v1/rooms/demo/changes", relay.address());
    let body = shaped(&Device::new(3), 1, 1, 1, 8, 90 << 10).body.0;
    let post = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.post(&url).send(&body[..]).unwrap().status().as_u16()
    };
    assert_eq!(tokio::task::spawn_blocking(post).await.unwrap(), 429);
    relay.stop().await;
}

#[tokio::test]
async fn connections_and_handshakes_are_bounded_over_all() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.connections = Some("5".into());
        flags.handshakes = Some("2".into());
        flags.hello_timeout = Some("20s".into());
    })
    .await;
    // Two that never say hello hold both places: a third waits until one of them goes.
    let first = socket(relay.address(), "demo").await.unwrap();
    let _second = socket(relay.address(), "demo").await.unwrap();
    let mut third = Box::pin(socket(relay.address(), "demo"));
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut third).await.is_err(), "it got in");
    drop(first);
    third.await.unwrap();
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(TcpStream::connect(relay.address()).await.unwrap());
    }
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while relay.metrics().refused_connections.get() == 0 {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(relay.metrics().connections.get() <= 5);
    drop(open);
    relay.stop().await;
}

#[tokio::test]
async fn a_body_that_drips_in_or_never_comes_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.header_timeout = Some("1s".into());
        flags.min_bytes_per_second = Some("1KiB".into());
    })
    .await;
    let post = "POST /v1/rooms/demo/changes HTTP/1.1\r\nhost: x\r\n";
    for (length, drips) in [
        ("content-length: 60000", true),
        ("content-length: 60000", false),
        ("transfer-encoding: chunked", false),
    ] {
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(format!("{post}{length}\r\n\r\n").as_bytes()).await.unwrap();
        let dripping = tokio::spawn(async move {
            while !drips || write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut answer = vec![0; 12];
        let came = tokio::time::timeout(Duration::from_secs(30), read.read_exact(&mut answer)).await;
        came.expect("an answer").unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408", "{length}, {drips}");
        dripping.abort();
    }
    // As slow as is allowed: 3000 bytes in some 2.5 seconds, of which it is not the length that is wrong.
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    stream.write_all(format!("{post}content-length: 3000\r\n\r\n").as_bytes()).await.unwrap();
    for _ in 0..25 {
        stream.write_all(&[b'x'; 120]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 400");
    relay.stop().await;
}

#[tokio::test]
async fn a_message_that_drips_in_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.header_timeout = Some("1s".into());
        flags.min_bytes_per_second = Some("1KiB".into());
    })
    .await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    // A connection of its own, by hand: after Hello, a WebSocket frame of 60,000 bytes, a byte at a time.
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    let head = "GET /v1/rooms/demo/sync HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-protocol: crsql-sync.v1\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let hello = Hello {
        proto_min: 1,
        proto_max: 1,
        features: 0,
        room: "demo".into(),
        token: None,
        site: Device::new(9).site,
        head: Head::default(),
        tie_break: 0,
        schema: SchemaId::default(),
        resume: None,
        held_fingerprint: Default::default(),
        held: Some(Have { whole: Default::default(), partial: vec![] }),
        message_max: 1 << 20,
        credit: 1 << 20,
        agent: "drip".into(),
    };
    let hello = crsql_protocol::codec::encode(&hello.into());
    let mut frame = vec![0x82, 0x80 | 126, (hello.len() >> 8) as u8, hello.len() as u8, 0, 0, 0, 0];
    frame.extend(&hello);
    stream.write_all(&frame).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let dripping = tokio::spawn(async move {
        writing
            .write_all(&[0x82, 0x80 | 126, 60_000u32.to_be_bytes()[2], 60_000u32.to_be_bytes()[3]])
            .await
            .ok();
        while writing.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(40), reading.read_to_end(&mut rest)).await.unwrap().ok();
    dripping.abort();
    assert_eq!(relay.metrics().faults(Code::SLOW), 1);
    a.write("still here").await;
    a.flushed().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_room_of_mostly_deleted_rows_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| flags.tombstone_interval = Some("10ms".into())).await;
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, v); SELECT crsql_as_crr('t')";
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    crsql::register(&conn).unwrap();
    conn.execute_batch(schema).unwrap();
    conn.execute_batch(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         SELECT i, i FROM n;
         DELETE FROM t WHERE id > 100",
    )
    .unwrap();
    let changeset: Vec<u8> = conn.query_row("SELECT crsql_changeset()", [], |row| row.get(0)).unwrap();
    let base = format!("http://{}/v1/rooms/demo", relay.address());
    let send = move || {
        ureq::put(format!("{base}/schema")).send(schema).unwrap();
        ureq::post(format!("{base}/changes")).send(&changeset[..]).unwrap().status().as_u16()
    };
    assert_eq!(tokio::task::spawn_blocking(send).await.unwrap(), 200);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while relay.metrics().tombstone_alarms.get() == 0 {
        assert!(std::time::Instant::now() < end, "it is never reported");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(relay.metrics().text().contains("crsql_tombstone_alarms_total"));
    relay.stop().await;
}
