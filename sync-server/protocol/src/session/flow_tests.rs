//! Pushes, batches, credit and floods, after the handshake.

use crsql_core::version_vector::VersionVector;

use super::tests::*;
use super::*;
use crate::wire::Blob;

#[test]
fn a_rejected_transaction_does_not_hold_up_the_others() {
    let mut pair = Pair::new();
    (pair.local.head, pair.local.held.whole) = (head(2), versions(SITE, 1, 2));
    pair.shake_hands();
    let frames = vec![frame(SITE, 1, 10), frame(SITE, 2, 10)];
    let pushed = pair.client.handle(0, Input::Parcel(Parcel { frames, ..Parcel::default() }));
    let [Output::Store(push)] = &pair.say_to_relay(&pushed)[..] else { panic!() };
    let rejected = Rejected { site: SITE, site_version: 1, code: Code::BODY };
    let ack = Ack { id: push.id, pos: 6, held: versions(SITE, 2, 2), rejected: vec![rejected] };
    let sent = messages(&pair.relay.handle(0, Input::Stored(ack)));
    let client = pair.say_to_client(sent[0].clone());
    assert_eq!(events(&client), [Event::Rejected(rejected), Event::Confirmed(versions(SITE, 2, 2))]);
    assert!(pair.client.is_flushed());
    assert!(pair.client.handle(0, Input::Gained(versions(SITE, 1, 1))).is_empty(), "not sent again");
}

#[test]
fn pushes_keep_within_the_window() {
    let limits = Limits { window_bytes: 1000, ..Limits::default() };
    let mut pair = Pair::with(Config { limits, ..Config::default() });
    (pair.local.head, pair.local.held.whole) = (head(9), versions(SITE, 1, 9));
    pair.shake_hands();
    let parcel =
        |version| Parcel { frames: vec![frame(SITE, version, 600)], more: true, ..Parcel::default() };
    let first = pair.client.handle(0, Input::Parcel(parcel(1)));
    assert!(matches!(&first[..], [Output::Send(_), Output::Read(Read::Versions { bytes: 1..400, .. })]));
    let second = pair.client.handle(0, Input::Parcel(parcel(2)));
    assert!(matches!(&second[..], [Output::Send(_)]), "the window is full");
    let held = versions(SITE, 1, 1);
    let after = pair.say_to_client(Ack { id: 1, pos: 6, held, rejected: vec![] });
    assert!(matches!(after.last(), Some(Output::Read(_))));
}

#[test]
fn a_reader_without_credit_costs_nothing_and_goes_on_where_it_was() {
    let limits = Limits { window_bytes: 1000, ..Limits::default() };
    let mut pair = Pair::with(Config { limits, ..Config::default() });
    pair.shake_hands();
    let live = |after, upto| Live { after, upto, bytes: Some(600), echo: false };
    assert_eq!(pair.relay.handle(0, Input::Live(live(5, 6))), [Output::SendLive]);
    assert_eq!(pair.relay.handle(0, Input::Live(live(6, 7))), [Output::SendLive]);
    assert_eq!(pair.relay.handle(0, Input::Live(live(7, 8))), []);
    assert_eq!(pair.relay.handle(0, Input::Live(live(8, 9))), []);
    let credit = codec::encode(&Credit { bytes: 1200, pos: 7 }.into());
    let read = pair.relay.handle(0, Input::Message(&credit));
    assert!(matches!(read[..], [Output::Read(Read::Tail { after: 7, .. })]), "{read:?}");
    // Its own writes only move the position.
    let tail = Tail { after: 7, upto: 9, frames: vec![frame(OTHER, 1, 9)], ..Tail::default() };
    assert!(matches!(messages(&pair.relay.handle(0, Input::Tail(tail)))[..], [Message::Batch(_)]));
    let echo = Live { echo: true, ..live(9, 10) };
    assert_eq!(
        messages(&pair.relay.handle(0, Input::Live(echo))),
        [Pos { after: 9, upto: 10, parts: 0 }.into()]
    );
}

#[test]
fn a_cut_of_the_journal_is_applied_at_its_end_and_nothing_comes_between() {
    let mut pair = Pair::new();
    pair.shake_hands();
    let live = Live { after: 5, upto: 8, bytes: None, echo: false };
    let read = pair.relay.handle(0, Input::Live(live));
    assert!(matches!(read[..], [Output::Read(Read::Tail { after: 5, .. })]), "{read:?}");
    let delta = frame(OTHER, 0, 10);
    let part =
        |after, more| Tail { after, upto: after + 1, frames: vec![delta.clone()], more, ..Tail::default() };
    // A Need that comes in the middle has to wait.
    let first = pair.relay.handle(0, Input::Tail(part(5, true)));
    assert!(matches!(first.last(), Some(Output::Read(Read::Tail { after: 6, .. }))), "{first:?}");
    let need = crate::holdings::Needs { whole: versions(OTHER, 1, 1), ..Default::default() };
    assert_eq!(pair.relay.handle(0, Input::Message(&codec::encode(&need.to_need().into()))), []);
    let second = pair.relay.handle(0, Input::Tail(Tail { claims: versions(OTHER, 1, 3), ..part(6, false) }));
    assert!(matches!(second.last(), Some(Output::Read(Read::Versions { .. }))), "{second:?}");
    let applies: Vec<_> = [first, second]
        .iter()
        .flat_map(|outputs| messages(outputs))
        .flat_map(|message| pair.say_to_client(message))
        .filter_map(|output| match output {
            Output::Apply(apply) => Some((apply.cut, apply.cursor.map(|cursor| cursor.pos))),
            _ => None,
        })
        .collect();
    assert_eq!(applies, [(false, Some(6)), (true, Some(7))]);
}

#[test]
fn a_part_inside_a_cut_of_the_journal_is_a_fault() {
    let mut pair = Pair::new();
    pair.shake_hands();
    let batch = |part, more| Batch {
        after: 5,
        upto: 6,
        part,
        frames: vec![frame(OTHER, 0, 10)],
        claims: Default::default(),
        chains: vec![],
        more,
    };
    pair.say_to_client(batch(0, true));
    assert_eq!(fault(&pair.say_to_client(batch(1, false))), Code::LOST);
}

#[test]
fn a_delta_in_many_reads_is_not_taken_for_an_answer_in_vain() {
    let mut pair = Pair::new();
    (pair.local.head, pair.local.held.whole) = (head(9), versions(SITE, 1, 9));
    pair.shake_hands();
    let part = Parcel { frames: vec![frame(SITE, 0, 600)], more: true, ..Parcel::default() };
    for _ in 0..3 {
        let pushed = pair.client.handle(0, Input::Parcel(part.clone()));
        assert!(matches!(&pushed[..], [Output::Send(_), Output::Read(Read::Versions { .. })]), "{pushed:?}");
    }
    let last = Parcel { claims: versions(SITE, 1, 9), ..part };
    let pushed = pair.client.handle(0, Input::Parcel(last));
    assert!(matches!(&messages(&pushed)[..], [Message::Push(Push { more: false, .. })]), "{pushed:?}");
}

#[test]
fn a_reader_that_never_takes_anything_is_let_go() {
    let mut pair = Pair::new();
    pair.shake_hands();
    let live = |after| Live { after, upto: after + 1, bytes: Some(1 << 20), echo: false };
    assert_eq!(pair.relay.handle(0, Input::Live(live(5))), [Output::SendLive]);
    assert_eq!(pair.relay.handle(0, Input::Live(live(6))), []);
    for second in 1..60 {
        let pong = codec::encode(&Pong { nonce: 1 }.into());
        pair.relay.handle(second * 1000, Input::Message(&pong));
        pair.relay.handle(second * 1000, Input::Tick);
    }
    assert_eq!(fault(&pair.relay.handle(60_000, Input::Tick)), Code::SLOW);
}

#[test]
fn gaps_in_what_arrives_end_the_connection() {
    let batch = |after, upto, part| {
        let (frames, claims, chains) = Default::default();
        Batch { after, upto, part, frames, claims, chains, more: false }
    };
    let fails = |message: Message| {
        let mut pair = Pair::new();
        pair.shake_hands();
        assert_eq!(fault(&pair.say_to_client(message)), Code::LOST);
    };
    fails(batch(6, 7, 0).into());
    fails(batch(0, 0, 2).into());
    fails(Pos { after: 6, upto: 7, parts: 0 }.into());
    fails(Pos { after: 5, upto: 7, parts: 1 }.into());
    fails(Ping { nonce: 1, pos: 6, parts: 0 }.into());
    fails(Ping { nonce: 1, pos: 5, parts: 1 }.into());
    // What was had already is passed over.
    let mut pair = Pair::new();
    pair.shake_hands();
    assert_eq!(pair.say_to_client(batch(4, 5, 0)), []);
    let applied = pair.say_to_client(batch(5, 6, 0));
    let [Output::Apply(Apply { id: 1, cut: true, cursor: Some(cursor), .. })] = &applied[..] else {
        panic!()
    };
    assert_eq!(*cursor, Cursor { epoch: EPOCH, pos: 6 });
    assert_eq!(pair.client.handle(0, Input::Applied(1)), [], "a little credit is not worth a message");
}

#[test]
fn credit_is_given_back_before_the_acceptor_runs_dry() {
    let limits = Limits { window_bytes: 1000, ..Limits::default() };
    let mut pair = Pair::with(Config { limits, ..Config::default() });
    pair.shake_hands();
    let (mut granted, mut sent) = (0, 0);
    for pos in 5..50 {
        let live = Live { after: pos, upto: pos + 1, bytes: Some(0), echo: false };
        assert_eq!(pair.relay.handle(0, Input::Live(live)), [Output::SendLive]);
        let frames = vec![frame(OTHER, pos, 50)];
        let (claims, chains) = (VersionVector::default(), vec![]);
        let batch = Batch { after: pos, upto: pos + 1, part: 0, frames, claims, chains, more: false };
        sent += codec::encode(&batch.clone().into()).len() as u64;
        let applied = pair.say_to_client(batch);
        let [Output::Apply(Apply { id, .. })] = applied[..] else { panic!("{applied:?}") };
        for message in messages(&pair.client.handle(0, Input::Applied(id))) {
            let Message::Credit(credit) = message else { panic!("{message:?}") };
            granted += credit.bytes;
        }
        assert!(sent - granted < 250, "{} of 1000 are kept back", sent - granted);
    }
}

#[test]
fn a_reader_may_not_push() {
    let mut pair = Pair::new();
    pair.admission.permissions = READ;
    (pair.local.head, pair.local.held.whole) = (head(1), versions(SITE, 1, 1));
    let (client, _) = pair.shake_hands();
    assert!(!client.iter().any(|output| matches!(output, Output::Read(_))), "the client knows");
    let (claims, chains) = Default::default();
    let push = Push { id: 1, frames: vec![frame(SITE, 1, 1)], claims, chains, more: false };
    let relay = messages(&pair.relay.handle(0, Input::Message(&codec::encode(&push.into()))));
    let [Message::Ack(ack)] = &relay[..] else { panic!() };
    assert_eq!(ack.rejected, [Rejected { site: SITE, site_version: 1, code: Code::READ_ONLY }]);
}

#[test]
fn chunks_that_the_acceptor_lost_are_sent_once_more() {
    let mut pair = Pair::new();
    (pair.local.head, pair.local.held.whole) = (head(1), versions(SITE, 1, 1));
    pair.shake_hands();
    for round in 1..=2u64 {
        let pushed = pair
            .client
            .handle(0, Input::Parcel(Parcel { frames: vec![frame(SITE, 1, 9)], ..Parcel::default() }));
        assert_eq!(messages(&pushed).len(), 1);
        let ack = Ack { id: round, pos: 0, held: VersionVector::default(), rejected: vec![] };
        let client = pair.say_to_client(ack);
        match round {
            1 => assert!(matches!(client[..], [Output::Event(Event::Incomplete(..)), Output::Read(_)])),
            _ => assert!(matches!(
                events(&client)[..],
                [Event::Rejected(Rejected { code: Code::INCOMPLETE, .. })]
            )),
        }
    }
}

#[test]
fn floods_are_refused_and_presence_is_dropped() {
    let mut pair = Pair::new();
    pair.shake_hands();
    let presence = Presence { site: SITE, topic: "t".into(), count: 1, ttl_ms: 1000, data: Blob::default() };
    let presence = codec::encode(&presence.into());
    let taken = (0..300).filter(|_| !pair.relay.handle(0, Input::Message(&presence)).is_empty()).count();
    assert_eq!(taken, 100);
    let pong = codec::encode(&Pong { nonce: 1 }.into());
    let last =
        (0..2000).map(|_| pair.relay.handle(0, Input::Message(&pong))).find(|outputs| !outputs.is_empty());
    assert_eq!(fault(&last.unwrap()), Code::RATE);
}

#[test]
fn who_has_much_to_say_is_read_more_slowly_and_never_turned_away() {
    let limits = Limits { bytes_per_second: 100, messages_per_second: 1000, ..Limits::default() };
    let mut pair = Pair::with(Config { limits, ..Config::default() });
    pair.shake_hands();
    let pong = codec::encode(&Pong { nonce: 1 }.into());
    let mut now_ms = 0;
    for _ in 0..3000 {
        assert!(pair.relay.handle(now_ms, Input::Message(&pong)).is_empty());
        now_ms = now_ms.max(pair.relay.read_after_ms());
    }
    let seconds = 3000 * pong.len() as u64 / 100;
    assert!((seconds - 8..seconds).contains(&(now_ms / 1000)), "{now_ms} ms for {seconds} s of messages");
}

#[test]
fn a_delta_larger_than_the_window_takes_several_answers_and_is_claimed_by_the_last() {
    let limits = Limits { window_bytes: 1000, ..Limits::default() };
    let mut pair = Pair::with(Config { limits, ..Config::default() });
    (pair.local.head, pair.local.held.whole) = (head(9), versions(SITE, 1, 9));
    pair.shake_hands();
    let part = |more, claims| {
        let delta = Frame { site_version: 0, ..frame(SITE, 1, 1200) };
        Parcel { frames: vec![delta], more, claims, ..Parcel::default() }
    };
    for id in 1..=3 {
        let sent = pair.client.handle(0, Input::Parcel(part(true, VersionVector::default())));
        let Message::Push(push) = &messages(&sent)[0] else { panic!() };
        assert!(push.more && push.claims.is_empty());
        let ack = Ack { id, pos: 6, held: VersionVector::default(), rejected: vec![] };
        let after = pair.say_to_client(ack);
        assert!(matches!(&after[..], [Output::Read(Read::Versions { needs, .. })] if needs.wants(SITE, 9)));
    }
    let last = pair.client.handle(0, Input::Parcel(part(false, versions(SITE, 1, 9))));
    assert!(matches!(&messages(&last)[..], [Message::Push(push)] if !push.more && !push.claims.is_empty()));
    pair.say_to_client(Ack { id: 4, pos: 6, held: versions(SITE, 1, 9), rejected: vec![] });
    assert!(pair.client.is_flushed());
}
