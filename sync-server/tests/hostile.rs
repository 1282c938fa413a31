//! What a relay meets that is not a well-behaved client. Whoever it is gets an error and is let go; nobody else notices.

mod support;

use std::time::Duration;

use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
use crsql_core::merge::TieBreak;
use crsql_core::value::ValueRef;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::*;
use crsql_protocol::{Code, Event};
use crsql_server::config::Flags;
use crsql_server::serve::Relay;
use futures_util::{SinkExt, StreamExt};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Ws;

async fn relay_with(directory: &tempfile::TempDir, change: impl FnOnce(&mut Flags)) -> Relay {
    Relay::start(settings(directory.path(), change)).await.unwrap()
}

/// The code of the Error with which a raw socket is let go.
async fn last_word(mut socket: Socket) -> Option<Code> {
    let mut code = None;
    while let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_secs(20), socket.next()).await {
        if let Ws::Binary(bytes) = message
            && let Ok(Some(Message::Error(error))) = crsql_protocol::codec::decode(&bytes, 1 << 20)
        {
            code = Some(error.code);
        }
    }
    code
}

/// Everybody else: one who writes and one who reads.
async fn still_works(relay: &Relay, name: u8) {
    let options = Options { room: "witness".into(), ..Options::default() };
    let mut a = Client::connect(relay.address(), Device::new(name), &options).await;
    a.ready().await;
    a.write("still here").await;
    a.flushed().await;
    let mut b = Client::connect(relay.address(), Device::new(name + 100), &options).await;
    b.caught_up().await;
    assert!(b.device.holds(a.device.site, 1));
}

#[tokio::test]
async fn names_that_are_many_or_were_never_told_end_that_connection_alone() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let site =
        |at: u32| NameRecord { kind: 0, bytes: crsql_protocol::wire::Blob(at.to_be_bytes().repeat(4)) };
    let names = |first, count| Names { first, names: (0..count).map(site).collect() }.into();
    // A push whose one frame is short: the site by number 5, no tables, the first run of table 0 with one row.
    let mut unknown = vec![3, 0x95, 1, 0x91, 0x94, 1, 0, 0xc4, 16];
    unknown.extend([7; 16]);
    unknown.extend([0xc4, 4, 5, 0, 0, 1, 0x90, 0x90, 0xc2]);
    let cases: [(Message, Option<Vec<u8>>, Code); 3] = [
        (names(0, 4000), None, Code::TOO_LARGE),
        (names(7, 1), None, Code::LOST),
        (names(0, 2), Some(unknown), Code::LOST),
    ];
    for (at, (told, then, code)) in cases.into_iter().enumerate() {
        let mut client =
            Client::connect(relay.address(), Device::new(at as u8 + 1), &Options::default()).await;
        client.ready().await;
        client.send(told).await;
        if let Some(bytes) = then {
            client.send_bytes(bytes).await;
        }
        assert_eq!(client.refused().await, code);
    }
    still_works(&relay, 50).await;
    relay.stop().await;
}

#[tokio::test]
async fn garbage_instead_of_hello_closes_that_connection_alone() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let garbage: [(&[u8], Code); 6] = [
        (&[], Code::MALFORMED),
        (&[0, 1, 2, 3], Code::UNKNOWN_MESSAGE),
        (&[1, 0xff, 0xff], Code::MALFORMED),
        // An array of 4 G elements, a string of 4 GB.
        (&[1, 0xdd, 0xff, 0xff, 0xff, 0xff], Code::MALFORMED),
        (&[1, 0x9f, 1, 1, 0, 0xdb, 0xff, 0xff, 0xff, 0xff, b'x'], Code::MALFORMED),
        (&[3, 0x95, 1, 0x90, 0x90, 0x90, 0xc2], Code::UNEXPECTED),
    ];
    for (bytes, code) in garbage {
        let mut raw = socket(relay.address(), "demo").await.unwrap();
        raw.send(Ws::Binary(bytes.to_vec().into())).await.unwrap();
        assert_eq!(last_word(raw).await, Some(code), "{bytes:?}");
        assert!(relay.metrics().faults(code) > 0);
    }
    let mut raw = socket(relay.address(), "demo").await.unwrap();
    raw.send(Ws::Text("hello".into())).await.unwrap();
    assert_eq!(last_word(raw).await, Some(Code::MALFORMED));
    still_works(&relay, 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_websocket_frame_of_a_declared_4_gb_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    let request = "GET /v1/rooms/demo/sync HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-protocol: crsql-sync.v1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5]).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().ok();
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    assert_eq!(relay.metrics().faults(Code::TOO_LARGE), 1);
    still_works(&relay, 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn who_says_nothing_or_says_it_slowly_is_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.hello_timeout = Some("200ms".into());
        flags.header_timeout = Some("200ms".into());
    })
    .await;
    // Nothing at all, half a request, a request without its headers, and a WebSocket without a Hello.
    for start in ["", "GET /healthz HT", "GET /v1/rooms/demo/sync HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{start:?}");
    }
    let silent = socket(relay.address(), "demo").await.unwrap();
    assert_eq!(last_word(silent).await, Some(Code::IDLE));
    still_works(&relay, 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_request_without_the_headers_of_a_websocket_is_told_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    for (headers, status) in [
        ("", "400"),
        ("upgrade: websocket\r\nconnection: upgrade\r\n", "400"),
        (
            "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "400",
        ),
        ("origin: https://elsewhere.example\r\n", "403"),
    ] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        let request =
            format!("GET /v1/rooms/demo/sync HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers:?}: {answer}");
    }
    relay.stop().await;
}

/// A frame of one row with these clocks.
fn clocked(device: &Device, version: u64, cl: u64, col_version: u64, seq: u64) -> Frame {
    let mut writer = Writer::new(TieBreak::Site);
    let site = writer.site(device.site);
    let table = writer.table("t", 1, &["v"]);
    let group = GroupHeader { columns: vec![1], col_version, site, version, seq, ..Default::default() };
    writer.begin_run(&RunHeader { table, cl, groups: vec![group], first_key: Some(1) });
    writer.value(ValueRef::Text(b"x"));
    writer.end_row();
    let body = writer.finish(&VersionVector::default(), false);
    device.frame(version, body)
}

#[tokio::test]
async fn bad_transactions_are_set_aside_one_by_one_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    let me = Device::new(1);
    let whole = |frame: Frame| Frame { last_seq: 0, ..frame };
    let bomb = {
        let zeros = vec![0u8; 9 << 20];
        Frame { codec: CODEC_ZSTD, ..me.frame(7, zstd::encode_all(&zeros[..], 3).unwrap()) }
    };
    let internal = {
        let mut writer = Writer::new(TieBreak::Site);
        let site = writer.site(me.site);
        let table = writer.table("sqlite_master", 1, &["sql"]);
        let group = GroupHeader { columns: vec![1], col_version: 1, site, version: 14, ..Default::default() };
        writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: Some(1) });
        writer.value(ValueRef::Text(b"x"));
        writer.end_row();
        writer.finish(&VersionVector::default(), false)
    };
    let bad = vec![
        (me.frame(1, b"garbage".to_vec()), Code::BODY),
        (me.frame(2, one_row(me.site, 3, 0, 1, b"another version inside")), Code::BODY),
        (me.frame(3, one_row(Device::new(8).site, 3, 0, 1, b"another site inside")), Code::FOREIGN_SITE),
        (clocked(&me, 4, 1, 1 << 62, 0), Code::CLOCK),
        (clocked(&me, 5, 1 << 40, 1, 0), Code::CLOCK),
        (whole(clocked(&me, 6, 1, 1, 9)), Code::SEQ_RANGE),
        (bomb, Code::TX_TOO_LARGE),
        (Frame { codec: 9, ..me.frame(8, one_row(me.site, 8, 0, 1, b"x")) }, Code::CODEC),
        (Frame { seq_lo: 5, seq_hi: 1, ..me.frame(9, one_row(me.site, 9, 0, 1, b"x")) }, Code::SEQ_RANGE),
        (clocked(&me, 1 << 50, 1, 1, 0), Code::CLOCK),
        (me.frame(11, vec![b'x'; 300 << 10]), Code::TX_TOO_LARGE),
        (me.frame(12, one_row(me.site, 12, 0, 1, &vec![b'x'; 200 << 10])[..100].to_vec()), Code::BODY),
        (me.frame(14, internal), Code::BODY),
    ];
    let good = me.frame(20, one_row(me.site, 20, 0, 1, b"fine"));
    let (mut frames, codes): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
    frames.push(good);
    a.send(Push { id: 1, frames, claims: VersionVector::default(), chains: vec![], more: false }).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &Options::default()).await;
    b.until("the good one", |b| b.device.holds(me.site, 20)).await;
    assert_eq!(b.device.frames.len(), 1);
    for code in &codes {
        let expected = codes.iter().filter(|other| *other == code).count() as u64;
        assert_eq!(relay.metrics().rejects(*code), expected, "{code:?}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_site_cannot_run_ahead_of_itself_once_it_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    a.write("one").await;
    a.flushed().await;
    let me = Device::new(1);
    let far = clocked(&me, 1 << 40, 1, 1, 0);
    let mut claims = VersionVector::default();
    claims.insert_range(me.site, 2, 1 << 47);
    let push =
        Push { id: 2, frames: vec![far], claims: VersionVector::default(), chains: vec![], more: false };
    a.send(push).await;
    a.send(Push { id: 3, frames: vec![], claims, chains: vec![], more: false }).await;
    a.settled("both refusals", |_| relay.metrics().rejects(Code::CLOCK) == 2).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_flood_is_read_slowly_and_keeps_nobody_else_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| flags.messages_per_second = Some("100".into())).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    let began = std::time::Instant::now();
    for _ in 0..700 {
        a.send(Pong { nonce: 1 }).await;
    }
    still_works(&relay, 2).await;
    // 500 at once, then 100 a second: what comes after the flood has its turn after two seconds.
    a.write("after").await;
    a.flushed().await;
    assert!(began.elapsed().as_millis() >= 1500, "{:?}", began.elapsed());
    relay.stop().await;
}

#[tokio::test]
async fn connections_rooms_and_sites_are_limited_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.connections_per_ip = Some("4".into());
        flags.connections_per_room = Some("2".into());
        flags.rooms = Some("1".into());
        flags.new_sites_per_hour = Some("2".into());
        flags.room_bytes = Some("1KiB".into());
    })
    .await;
    let address = relay.address();
    let mut a = Client::connect(address, Device::new(1), &Options::default()).await;
    a.ready().await;
    let mut elsewhere =
        Client::connect(address, Device::new(2), &Options { room: "b".into(), ..Options::default() }).await;
    assert_eq!(elsewhere.refused().await, Code::NO_ROOM);
    let mut b = Client::connect(address, Device::new(2), &Options::default()).await;
    b.ready().await;
    let mut c = Client::connect(address, Device::new(3), &Options::default()).await;
    assert_eq!(c.refused().await, Code::UNAVAILABLE);
    drop((elsewhere, c));
    // Others' sites: this relay has no tokens, so they may be passed on, but not any number of them.
    let frames = (10..14).map(Device::new).map(|d| d.frame(1, one_row(d.site, 1, 0, 1, b"x")));
    let push =
        Push { id: 1, frames: frames.collect(), claims: Default::default(), chains: vec![], more: false };
    a.send(push).await;
    a.settled("refusals", |_| relay.metrics().rejects(Code::QUOTA) == 2).await;
    // The room is full.
    let big = Device::new(10);
    let frame = big.frame(2, one_row(big.site, 2, 0, 1, &[b'x'; 2000]));
    a.send(Push { id: 2, frames: vec![frame], claims: Default::default(), chains: vec![], more: false })
        .await;
    a.settled("a refusal", |_| relay.metrics().rejects(Code::QUOTA) == 3).await;
    // Too many connections from here: they are closed without a word.
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    a.settled("refused connections", |_| relay.metrics().refused_connections.get() > 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn incomplete_transactions_are_bounded_per_site() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory, |flags| flags.partials_per_site = Some("3".into())).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    let me = Device::new(1);
    let part = |version| Frame { last_seq: 9, ..me.frame(version, one_row(me.site, version, 0, 1, b"x")) };
    let frames = (1..=5).map(part).collect();
    a.send(Push { id: 1, frames, claims: Default::default(), chains: vec![], more: false }).await;
    a.settled("refusals", |_| relay.metrics().rejects(Code::QUOTA) == 2).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_stopping_relay_says_goodbye_and_acknowledges_what_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
    a.ready().await;
    for _ in 0..50 {
        a.write(&"x".repeat(1000)).await;
    }
    let stopped = tokio::spawn(relay.stop());
    a.settled("the end", |a| a.closed.is_some()).await;
    assert!(a.events.iter().any(|event| matches!(event, Event::Goaway(bye) if bye.reconnect_ms >= 250)));
    stopped.await.unwrap();
    let confirmed = a.events.iter().filter_map(|event| match event {
        Event::Confirmed(versions) => Some(versions.clone()),
        _ => None,
    });
    let confirmed: Vec<_> = confirmed.collect();
    let again = support::relay(directory.path()).await;
    let mut b = Client::connect(again.address(), Device::new(2), &Options::default()).await;
    b.caught_up().await;
    assert!(confirmed.iter().all(|versions| b.device.ledger.whole().is_superset(versions)));
    again.stop().await;
}

#[tokio::test]
async fn random_bytes_never_take_the_relay_down() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let template = crsql_protocol::codec::encode(
        &Push {
            id: 1,
            frames: vec![Device::new(1).frame(1, one_row(Device::new(1).site, 1, 0, 1, b"x"))],
            claims: Default::default(),
            chains: vec![],
            more: false,
        }
        .into(),
    );
    for round in 0..60u64 {
        let mut a = Client::connect(relay.address(), Device::new(1), &Options::default()).await;
        a.ready().await;
        for _ in 0..5 {
            let mut bytes = template.clone();
            for _ in 0..=round % 7 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
            a.send_bytes(bytes).await;
        }
    }
    still_works(&relay, 50).await;
    relay.stop().await;
}
