//! A relay and its clients over real sockets.

mod support;

use crsql_protocol::message::*;
use crsql_protocol::{Code, Config, Event};
use support::*;

#[tokio::test]
async fn what_one_client_writes_comes_to_another_live_and_to_a_third_later() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options::default();
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &options).await;
    a.ready().await;
    b.caught_up().await;
    let site = a.device.site;
    for number in 0..20 {
        a.write(&format!("row {number}")).await;
    }
    a.flushed().await;
    b.until("all rows", |b| b.device.holds(site, 20)).await;
    let mut c = Client::connect(relay.address(), Device::new(3), &options).await;
    c.caught_up().await;
    assert_eq!(c.device.frames, a.device.frames);
    assert_eq!(b.device.frames, a.device.frames);
    relay.stop().await;
}

#[tokio::test]
async fn who_comes_later_is_told_the_names_that_others_know_already() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options::default();
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &options).await;
    a.ready().await;
    b.caught_up().await;
    let site = a.device.site;
    a.write("one").await;
    a.flushed().await;
    b.until("the first row", |b| b.device.holds(site, 1)).await;
    let mut c = Client::connect(relay.address(), Device::new(3), &options).await;
    c.caught_up().await;
    let (b_before, c_before) = (b.received, c.received);
    a.write("two").await;
    a.flushed().await;
    b.until("the second row", |b| b.device.holds(site, 2)).await;
    c.until("the second row", |c| c.device.holds(site, 2)).await;
    assert_eq!(c.device.frames, a.device.frames);
    let (b_took, c_took) = (b.received - b_before, c.received - c_before);
    assert!(c_took > b_took + 16, "{c_took} bytes with names, {b_took} without");
    relay.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_positions_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let first = relay(directory.path()).await;
    let options = Options::default();
    let mut a = Client::connect(first.address(), Device::new(1), &options).await;
    a.ready().await;
    let version = a.device.write_in_chunks(30, "part");
    a.gained(version).await;
    a.write("row").await;
    a.flushed().await;
    let mut b = Client::connect(first.address(), Device::new(2), &options).await;
    b.caught_up().await;
    first.stop().await;
    let (a, mut b) = (a.into_device(), b.into_device());
    assert_eq!(a.frames, b.frames);

    let again = relay(directory.path()).await;
    let mut a = Client::connect(again.address(), a, &options).await;
    a.ready().await;
    let version = a.write("after").await;
    a.flushed().await;
    let before = b.cursor.unwrap();
    b.deltas.clear();
    let mut b = Client::connect(again.address(), b, &options).await;
    b.until("the new row", |b| b.device.holds(a.device.site, version)).await;
    let Event::Ready(welcome) = &b.events[0] else { panic!() };
    assert_eq!((welcome.epoch, &welcome.plan), (before.epoch, &Plan::Tail { from: before.pos }));
    again.stop().await;
}

#[tokio::test]
async fn a_restored_journal_has_another_epoch_and_clients_bring_back_what_it_lost() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = Options::default();
    let first = relay(directory.path()).await;
    let mut a = Client::connect(first.address(), Device::new(1), &options).await;
    a.ready().await;
    a.write("kept").await;
    a.flushed().await;
    first.stop().await;
    let copy = directory.path().join("copy.db");
    std::fs::copy(data.join("journal-0.db"), &copy).unwrap();

    let second = relay(directory.path()).await;
    let mut a = Client::connect(second.address(), a.into_device(), &options).await;
    a.caught_up().await;
    a.write("lost").await;
    a.flushed().await;
    a.until("its own echo", |a| a.device.cursor.is_some_and(|cursor| cursor.pos == 2)).await;
    let before = a.device.cursor.unwrap();
    second.stop().await;
    std::fs::copy(&copy, data.join("journal-0.db")).unwrap();

    let third = relay(directory.path()).await;
    let mut a = Client::connect(third.address(), a.into_device(), &options).await;
    a.ready().await;
    let Event::Ready(welcome) = &a.events[0] else { panic!() };
    assert_ne!(welcome.epoch, before.epoch);
    a.flushed().await;
    let mut b = Client::connect(third.address(), Device::new(2), &options).await;
    b.caught_up().await;
    assert!(b.device.holds(a.device.site, 2));
    third.stop().await;
}

#[tokio::test]
async fn chunks_are_passed_on_as_they_come_and_count_when_whole() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options::default();
    let mut source = Device::new(1);
    let version = source.write_in_chunks(10, &"x".repeat(5000));
    let mut frames = source.frames.remove(&(source.site, version)).unwrap();
    let last = frames.split_off(7);
    source.frames.insert((source.site, version), frames);
    let mut a = Client::connect(relay.address(), source, &options).await;
    a.ready().await;
    let mut b = Client::connect(relay.address(), Device::new(2), &options).await;
    let site = a.device.site;
    let part = |b: &Client| b.device.ledger.stage().chunks(site, version).len();
    b.until("seven chunks", |b| part(b) == 7).await;
    assert!(!b.device.holds(site, version));
    let push = Push { id: 2, frames: last, claims: Default::default(), chains: vec![], more: false };
    a.send(push).await;
    b.until("the rest", |b| b.device.holds(site, version)).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_cut_of_deltas_is_taken_as_a_whole_and_reaches_everybody_as_one() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options::default();
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &options).await;
    a.ready().await;
    b.caught_up().await;
    let site = a.device.site;
    let delta = |version| {
        let body = one_row(site, version, 0, version as i64, &vec![b'x'; 200_000]);
        Frame { site_version: 0, ..a.device.frame(version, body) }
    };
    let mut claims = crsql_core::version_vector::VersionVector::default();
    claims.insert_range(site, 1, 8);
    let chains = vec![ChainAt { site, version: 8, chain: delta(8).chain }];
    let pushes: Vec<_> = (1..=8)
        .map(|id| Push {
            id,
            frames: vec![delta(id)],
            claims: Default::default(),
            chains: vec![],
            more: true,
        })
        .chain([Push { id: 9, frames: vec![], claims: claims.clone(), chains: chains.clone(), more: false }])
        .collect();
    for push in pushes {
        a.send(push).await;
    }
    b.until("the claims", |b| b.device.holds(site, 8)).await;
    assert_eq!(b.device.deltas.len(), 8);
    assert_eq!(b.device.ledger.head(site).chain, chains[0].chain);
    // Who asks by what it lacks gets the same.
    let mut c = Client::connect(relay.address(), Device::new(3), &options).await;
    c.caught_up().await;
    assert!(c.device.deltas.len() == 8 && c.device.ledger.whole() == &claims);
    relay.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_served_from_the_journal_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options::default();
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    let mut slow = Client::connect(relay.address(), Device::new(2), &options).await;
    a.ready().await;
    slow.caught_up().await;
    slow.reads = false;
    for _ in 0..60 {
        a.write(&"x".repeat(100_000)).await;
        a.flushed().await;
    }
    let site = a.device.site;
    let mut b = Client::connect(relay.address(), Device::new(3), &options).await;
    b.until("all", |b| b.device.holds(site, 60)).await;
    assert!(relay.metrics().deliveries.get() < 30, "the slow one has credit for ten");
    slow.reads = true;
    slow.send(Credit { bytes: 16 << 20, pos: 0 }).await;
    slow.until("all", |slow| slow.device.holds(site, 60)).await;
    assert!(relay.metrics().tail_reads.get() >= 20);
    relay.stop().await;
}

#[tokio::test]
async fn two_relays_do_not_share_their_data() {
    let directory = tempfile::tempdir().unwrap();
    let first = relay(directory.path()).await;
    let second = crsql_server::serve::Relay::start(settings(directory.path(), |_| {})).await;
    assert!(second.err().is_some_and(|error| error.contains("another relay uses the data directory")));
    first.stop().await;
    relay(directory.path()).await.stop().await;
}

#[tokio::test]
async fn somebody_else_with_the_same_site_is_told_of_the_fork() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options::default();
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    a.ready().await;
    for text in ["one", "two"] {
        a.write(text).await;
    }
    a.flushed().await;
    let mut clone = Device::new(1);
    clone.write("another one");
    let mut clone = Client::connect(relay.address(), clone, &options).await;
    assert_eq!(clone.refused().await, Code::FORK);
    relay.stop().await;
}

#[tokio::test]
async fn presence_reaches_the_others_and_ends_with_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay(directory.path()).await;
    let options = Options { config: Config::default(), ..Options::default() };
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    let mut b = Client::connect(relay.address(), Device::new(2), &options).await;
    a.ready().await;
    b.ready().await;
    let data = crsql_protocol::wire::Blob(vec![7]);
    let said = Presence { site: a.device.site, topic: "cursor".into(), count: 1, ttl_ms: 30_000, data };
    a.send(said.clone()).await;
    let heard = |event: &Event| matches!(event, Event::Presence(presence) if *presence == said);
    b.until("presence", |b| b.events.iter().any(heard)).await;
    let mut late = Client::connect(relay.address(), Device::new(3), &options).await;
    late.until("what is being said", |late| late.events.iter().any(heard)).await;
    drop(a);
    let gone = |event: &Event| matches!(event, Event::Presence(presence) if presence.ttl_ms == 0);
    b.until("the end of it", |b| b.events.iter().any(gone)).await;
    relay.stop().await;
}

#[tokio::test]
async fn more_than_a_burst_at_once_is_taken_at_its_rate_and_not_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let slow = settings(directory.path(), |flags| flags.bytes_per_second = Some("100KiB".into()));
    let relay = crsql_server::serve::Relay::start(slow).await.unwrap();
    let options = Options::default();
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    a.ready().await;
    // A burst is 500 KiB; the seventh part waits until the sixth is paid for.
    let began = std::time::Instant::now();
    for row in 0..7u64 {
        // Nothing that could be compressed.
        let value: String = (0..3200)
            .map(|at| blake3::hash(&[row, at].map(u64::to_le_bytes).concat()).to_hex()[..32].to_owned())
            .collect();
        a.write(&value).await;
    }
    a.flushed().await;
    assert!(began.elapsed().as_millis() >= 500, "{:?}", began.elapsed());
    assert_eq!(a.closed, None);
    relay.stop().await;
}
