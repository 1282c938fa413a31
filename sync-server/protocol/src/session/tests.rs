//! What two sessions say to each other, without a store behind them.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

use super::*;
use crate::holdings::{Holdings, Needs};
use crate::wire::{Blob, Chain, Fingerprint};

pub(crate) const SITE: SiteId = SiteId([1; 16]);
pub(crate) const OTHER: SiteId = SiteId([2; 16]);
pub(crate) const EPOCH: u64 = 42;

/// A dialer and an acceptor that know nothing yet.
pub(crate) struct Pair {
    pub client: Session,
    pub relay: Session,
    pub local: Local,
    pub admission: Admission,
}

pub(crate) fn versions(site: SiteId, lo: u64, hi: u64) -> VersionVector {
    let mut versions = VersionVector::default();
    versions.insert_range(site, lo, hi);
    versions
}

pub(crate) fn chain(version: u64) -> Chain {
    Chain([version as u8; 16])
}

pub(crate) fn head(version: u64) -> Head {
    Head { version, chain: chain(version) }
}

pub(crate) fn frame(site: SiteId, site_version: u64, bytes: usize) -> Frame {
    let body = Blob(vec![0; bytes]);
    Frame {
        site,
        site_version,
        seq_lo: 0,
        seq_hi: 0,
        last_seq: 0,
        chain: chain(site_version),
        codec: 0,
        body,
    }
}

pub(crate) fn messages(outputs: &[Output]) -> Vec<Message> {
    let sent = |output: &Output| match output {
        Output::Send(bytes) => codec::decode(bytes, 1 << 20).unwrap(),
        _ => None,
    };
    outputs.iter().filter_map(sent).collect()
}

pub(crate) fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| match output {
        Output::Event(event) => Some(event.clone()),
        _ => None,
    };
    outputs.iter().filter_map(event).collect()
}

pub(crate) fn fault(outputs: &[Output]) -> Code {
    match outputs.last() {
        Some(Output::Close(Some(fault))) => fault.code,
        other => panic!("it should have closed, not {other:?}"),
    }
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(Config::default())
    }

    pub fn with(config: Config) -> Pair {
        let local = Local {
            room: "room".into(),
            token: None,
            site: SITE,
            head: Head::default(),
            tie_break: 0,
            schema: SchemaId::default(),
            resume: Some(Cursor { epoch: EPOCH, pos: 5 }),
            fingerprint: Fingerprint([1; 16]),
            held: Holdings::default(),
        };
        let admission = Admission {
            site: SiteId([0; 16]),
            permissions: READ | WRITE,
            head: Cursor { epoch: EPOCH, pos: 5 },
            floor_pos: 0,
            your_head: Head::default(),
            your_common: Head::default(),
            ancestry: Ancestry::Unknown,
            tie_break: 0,
            schema: SchemaAction::Ok,
            held: Holdings::default(),
            fingerprint: Fingerprint([2; 16]),
            snapshot: None,
            collected: None,
            members_ms: 0,
        };
        Pair { client: Session::dial(config.clone()), relay: Session::accept(config), local, admission }
    }

    /// What the client does on Welcome, and what the relay did besides sending it.
    pub fn shake_hands(&mut self) -> (Vec<Output>, Vec<Output>) {
        let hello = self.client.handle(0, Input::Open(Box::new(self.local.clone())));
        self.say_to_relay(&hello);
        let mut relay = self.relay.handle(0, Input::Admit(Box::new(self.admission.clone())));
        let Output::Send(welcome) = relay.remove(0) else { panic!("no welcome in {relay:?}") };
        (self.client.handle(0, Input::Message(&welcome)), relay)
    }

    pub fn say_to_relay(&mut self, outputs: &[Output]) -> Vec<Output> {
        let mut answers = Vec::new();
        for output in outputs {
            if let Output::Send(bytes) = output {
                answers.extend(self.relay.handle(0, Input::Message(bytes)));
            }
        }
        answers
    }

    pub fn say_to_client(&mut self, message: impl Into<Message>) -> Vec<Output> {
        self.client.handle(0, Input::Message(&codec::encode(&message.into())))
    }
}

#[test]
fn a_known_position_is_resumed_and_nothing_else_is_asked() {
    let mut pair = Pair::new();
    pair.admission.head.pos = 9;
    let (client, relay) = pair.shake_hands();
    let [Event::Ready(welcome)] = &events(&client)[..] else { panic!() };
    assert_eq!((&welcome.plan, &welcome.held), (&Plan::Tail { from: 5 }, &None));
    assert!(matches!(relay.last(), Some(Output::Read(Read::Tail { after: 5, .. }))));
}

#[test]
fn a_position_of_another_epoch_or_beyond_the_journal_means_needs() {
    for (epoch, pos, floor_pos) in [(43, 5, 0), (EPOCH, 10, 0), (EPOCH, 5, 6)] {
        let mut pair = Pair::new();
        (pair.admission.head.pos, pair.admission.floor_pos) = (9, floor_pos);
        pair.admission.held.whole = versions(OTHER, 1, 3);
        pair.local.resume = Some(Cursor { epoch, pos });
        let (client, relay) = pair.shake_hands();
        assert_eq!(messages(&client), [Holdings::default().to_have().into()]);
        assert_eq!(relay.len(), 1, "only an event: nothing is read before the client said what it holds");
        let relay = pair.say_to_relay(&client);
        let [Output::Read(Read::Versions { needs, .. })] = &relay[..] else { panic!("{relay:?}") };
        assert_eq!(needs.whole, versions(OTHER, 1, 3));
        // Once they are met, the journal is joined where it stood at the handshake.
        let parcel = Parcel { claims: versions(OTHER, 1, 3), ..Parcel::default() };
        let sent = messages(&pair.relay.handle(0, Input::Parcel(parcel)));
        let [Message::Batch(batch), Message::Pos(moved)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((batch.part, moved.upto, moved.parts), (1, 9, 1));
    }
}

#[test]
fn equal_sets_need_nothing_even_in_a_new_epoch() {
    let mut pair = Pair::new();
    pair.local.resume = None;
    pair.admission.fingerprint = pair.local.fingerprint;
    let (client, _) = pair.shake_hands();
    assert!(events(&client).contains(&Event::CaughtUp));
}

#[test]
fn a_snapshot_is_offered_to_who_knows_what_it_is() {
    let snapshot = Snapshot { url: "/snapshot".into(), pos: 9, bytes: 1, checksum: Fingerprint::default() };
    let mut pair = Pair::new();
    pair.local.resume = None;
    pair.admission.snapshot = Some(snapshot.clone());
    let (client, _) = pair.shake_hands();
    assert!(events(&client).contains(&Event::Snapshot(snapshot)) && pair.client.is_closed());
}

#[test]
fn versions_and_tie_breaks_must_agree() {
    let mut pair = Pair::new();
    pair.admission.tie_break = 1;
    let hello = pair.client.handle(0, Input::Open(Box::new(pair.local.clone())));
    pair.say_to_relay(&hello);
    let relay = pair.relay.handle(0, Input::Admit(Box::new(pair.admission.clone())));
    assert_eq!(fault(&relay), Code::TIE_BREAK);

    let mut pair = Pair::new();
    let hello = messages(&pair.client.handle(0, Input::Open(Box::new(pair.local.clone()))));
    let Message::Hello(hello) = hello[0].clone() else { panic!() };
    let newer = Hello { proto_min: 2, proto_max: 9, ..hello };
    assert_eq!(fault(&pair.relay.handle(0, Input::Message(&codec::encode(&newer.into())))), Code::VERSION);
}

#[test]
fn the_handshake_and_silence_have_their_time() {
    let mut relay = Session::accept(Config::default());
    assert!(relay.handle(100, Input::Tick).is_empty());
    assert_eq!(fault(&relay.handle(5_100, Input::Tick)), Code::IDLE);
    let mut pair = Pair::new();
    pair.shake_hands();
    assert_eq!(
        messages(&pair.relay.handle(20_000, Input::Tick)),
        [Ping { nonce: 1, pos: 5, parts: 0 }.into()]
    );
    assert_eq!(fault(&pair.relay.handle(45_000, Input::Tick)), Code::IDLE);
    assert!(pair.relay.handle(45_001, Input::Tick).is_empty());
}

#[test]
fn a_lost_tail_is_fetched_before_anything_is_pushed() {
    let mut pair = Pair::new();
    (pair.local.head, pair.local.held.whole) = (head(3), versions(SITE, 1, 3));
    pair.admission.held.whole = versions(SITE, 1, 5);
    (pair.admission.your_head, pair.admission.your_common) = (head(5), head(3));
    let (client, _) = pair.shake_hands();
    assert!(events(&client).contains(&Event::LostTail { head: head(5), lost: versions(SITE, 4, 5) }));
    let need = Needs { whole: versions(SITE, 4, 5), ..Needs::default() };
    assert_eq!(messages(&client), [need.to_need().into()]);
    assert!(!pair.client.is_flushed());
    pair.client.handle(0, Input::Gained(versions(SITE, 4, 5)));
    assert!(pair.client.is_flushed());
}

#[test]
fn two_histories_under_one_name_are_a_fork() {
    let forked = |change: fn(&mut Pair)| {
        let mut pair = Pair::new();
        (pair.local.head, pair.local.held.whole) = (head(3), versions(SITE, 1, 3));
        change(&mut pair);
        let (client, _) = pair.shake_hands();
        let fork = matches!(events(&client)[..], [Event::Ready(_), Event::Fork(_)]);
        fork && fault(&client) == Code::FORK
    };
    assert!(forked(|pair| pair.admission.ancestry = Ancestry::Fork));
    assert!(forked(|pair| {
        let other = Head { version: 3, chain: chain(9) };
        (pair.admission.your_head, pair.admission.your_common) = (other, other);
    }));
    // Held there without a chain to compare.
    assert!(forked(|pair| {
        pair.admission.held.whole = versions(SITE, 1, 4);
        (pair.admission.your_head, pair.admission.your_common) = (head(4), head(1));
    }));
    assert!(!forked(|pair| (pair.admission.your_head, pair.admission.your_common) = (head(3), head(3))));
}

#[test]
fn an_older_common_version_is_compared_before_pushing() {
    for (answer, forks) in [(Ancestry::Same, false), (Ancestry::Fork, true)] {
        let mut pair = Pair::new();
        (pair.local.head, pair.local.held.whole) = (head(3), versions(SITE, 1, 3));
        pair.admission.held.whole = versions(SITE, 1, 2);
        (pair.admission.your_head, pair.admission.your_common) = (head(2), head(2));
        let (client, _) = pair.shake_hands();
        assert!(client.contains(&Output::Compare(head(2))));
        let client = pair.client.handle(0, Input::Compared(answer));
        assert_eq!(matches!(client[0], Output::Event(Event::Fork(_))), forks);
        assert_eq!(matches!(client[0], Output::Read(Read::Versions { .. })), !forks);
    }
}
