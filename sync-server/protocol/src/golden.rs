//! The bytes of every message, compared with `docs/protocol.md`, and decoders that meet anything at all.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use proptest::prelude::*;

use crate::code::{ALL, Code};
use crate::codec::{decode, encode};
use crate::message::*;
use crate::names::Lexicon;
use crate::wire::{Blob, Chain, Fingerprint, Sum};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");
const SITE: SiteId = SiteId([0xaa; 16]);
const CHAIN: Chain = Chain([0xcc; 16]);

fn versions(lo: u64, hi: u64) -> VersionVector {
    let mut versions = VersionVector::default();
    versions.insert_range(SITE, lo, hi);
    versions
}

fn frame() -> Frame {
    let body = Blob(vec![1, 2, 3]);
    Frame { site: SITE, site_version: 7, seq_lo: 0, seq_hi: 4, last_seq: 4, chain: CHAIN, codec: 0, body }
}

fn have() -> Have {
    let partial = vec![Partial { site: SITE, site_version: 9, last_seq: 20, have: vec![0, 3, 8, 8] }];
    Have { whole: versions(1, 7), partial }
}

fn range() -> DigestRange {
    DigestRange { table: "todo".into(), from: Blob(vec![1, 9, 1]), to: None }
}

/// One of each, in the order of the tags.
fn examples() -> Vec<Message> {
    let head = Head { version: 7, chain: CHAIN };
    let terms =
        Terms { message_max: 1 << 20, frame_max: 1 << 18, tx_max: 1 << 28, window: 1 << 20, ping_ms: 20_000 };
    let chains = vec![ChainAt { site: SITE, version: 6, chain: CHAIN }];
    let entry = DigestEntry { range: range(), rows: 2, sum: Sum([5; 32]) };
    vec![
        Hello {
            proto_min: 1,
            proto_max: 1,
            features: 62,
            room: "demo".into(),
            token: None,
            site: SITE,
            head,
            tie_break: 0,
            schema: SchemaId { fingerprint: Fingerprint([0x11; 16]), version: 3 },
            resume: Some(Cursor { epoch: 42, pos: 1000 }),
            held_fingerprint: Fingerprint([0x22; 16]),
            held: None,
            message_max: 1 << 20,
            credit: 1 << 20,
            agent: "doc".into(),
        }
        .into(),
        Welcome {
            proto: 1,
            features: 62,
            agent: "doc".into(),
            site: SiteId([0; 16]),
            epoch: 42,
            head_pos: 1005,
            permissions: READ | WRITE,
            terms,
            your_head: head,
            your_common: head,
            ancestry: Ancestry::Same,
            your_held: versions(1, 7),
            schema: SchemaAction::Ok,
            plan: Plan::Tail { from: 1000 },
            held: None,
            collected: Some(Blob(vec![1, 2, 3])),
            members_ms: 60_000,
        }
        .into(),
        Push { id: 1, frames: vec![frame()], claims: versions(5, 6), chains: chains.clone(), more: false }
            .into(),
        Ack {
            id: 1,
            pos: 1006,
            held: versions(5, 7),
            rejected: vec![Rejected { site: SITE, site_version: 8, code: Code::CLOCK }],
        }
        .into(),
        Batch {
            after: 1000,
            upto: 1001,
            part: 0,
            frames: vec![frame()],
            claims: VersionVector::default(),
            chains: vec![],
            more: false,
        }
        .into(),
        Pos { after: 1001, upto: 1005, parts: 0 }.into(),
        Credit { bytes: 65_536, pos: 1005 }.into(),
        have().into(),
        Need {
            whole: versions(8, 8),
            partial: vec![NeededPart { site: SITE, site_version: 9, seqs: vec![4, 7, 9, 20] }],
        }
        .into(),
        Empty { versions: versions(2, 3) }.into(),
        DigestRequest { id: 2, ranges: vec![range()], cut: 16, rows: false }.into(),
        DigestResponse { id: 2, held_fingerprint: Fingerprint([0x22; 16]), entries: vec![entry] }.into(),
        Presence { site: SITE, topic: "cursor".into(), count: 5, ttl_ms: 30_000, data: Blob(vec![9]) }.into(),
        Error { code: Code::RATE, retry_after_ms: 1000, fatal: true, detail: "too much".into() }.into(),
        Goaway { reason: "restart".into(), reconnect_ms: 4000, instead: None }.into(),
        Ping { nonce: 3, pos: 1005, parts: 2 }.into(),
        Pong { nonce: 3 }.into(),
        Names {
            first: 0,
            names: vec![
                NameRecord { kind: 0, bytes: Blob(SITE.0.to_vec()) },
                NameRecord { kind: 1, bytes: Blob(b"\x93\xa4todo\x01\x91\xa5title".to_vec()) },
            ],
        }
        .into(),
    ]
}

/// 40 bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(40).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_document_shows_the_bytes_of_every_message() {
    let mut missing = String::new();
    for message in examples() {
        let bytes = encode(&message);
        assert_eq!(decode(&bytes, 1 << 20).unwrap(), Some(message.clone()), "{}", message.name());
        let shown = format!("`{}` = {}:\n\n```\n{}\n```", message.name(), message.tag(), hex(&bytes));
        if !DOCUMENT.contains(&shown) {
            missing += &format!("{shown}\n\n");
        }
    }
    assert!(missing.is_empty(), "docs/protocol.md does not show:\n\n{missing}");
}

#[test]
fn the_document_lists_every_code() {
    for code in ALL {
        let row = format!("| {} | `{}` |", code.0, code.name());
        assert!(DOCUMENT.contains(&row), "docs/protocol.md does not have {row:?}");
    }
    assert_eq!(Code(999).to_string(), "unknown (999)");
}

#[test]
fn unknown_messages_are_skipped_only_from_128_on() {
    assert_eq!(decode(&[200, 1, 2, 3], 100).unwrap(), None);
    assert_eq!(decode(&[128], 100).unwrap(), None);
    for tag in [0, 16, 20, 127] {
        assert_eq!(decode(&[tag, 0x90], 100).unwrap_err().code, Code::UNKNOWN_MESSAGE);
    }
    assert_eq!(decode(&[], 100).unwrap_err().code, Code::MALFORMED);
    assert_eq!(decode(&[200; 101], 100).unwrap_err().code, Code::TOO_LARGE);
}

#[test]
fn later_fields_are_skipped() {
    let mut bytes = encode(&Pong { nonce: 3 }.into());
    assert_eq!(bytes, [18, 0x91, 3]);
    bytes[1] = 0x93;
    bytes.extend([0x92, 0xc3, 0xa1, b'x', 0x80]);
    bytes[1] = 0x94;
    bytes.truncate(3);
    bytes.extend([0x92, 0xc3, 0xa1, b'x', 0x80, 0xc0]);
    assert_eq!(decode(&bytes, 100).unwrap(), Some(Pong { nonce: 3 }.into()));
    bytes.push(0xc0);
    assert_eq!(decode(&bytes, 100).unwrap_err().code, Code::MALFORMED);
}

#[test]
fn limits_hold_in_every_message() {
    let too_large = |message: Message| {
        assert_eq!(
            decode(&encode(&message), 16 << 20).unwrap_err().code,
            Code::TOO_LARGE,
            "{}",
            message.name()
        );
    };
    let frames = vec![Frame { body: Blob::default(), ..frame() }; crate::limits::FRAMES_PER_MESSAGE_MAX + 1];
    too_large(Push { id: 1, frames, claims: VersionVector::default(), chains: vec![], more: false }.into());
    too_large(
        Presence { site: SITE, topic: String::new(), count: 1, ttl_ms: 1, data: Blob(vec![0; 5000]) }.into(),
    );
    too_large(DigestRequest { id: 1, ranges: vec![range(); 100], cut: u32::MAX, rows: false }.into());
    let partial = vec![have().partial[0].clone(); crate::limits::PARTIALS_MAX + 1];
    too_large(Have { partial, ..have() }.into());
    let mut gaps = VersionVector::default();
    for at in 0..=crate::limits::RANGES_MAX as u64 {
        gaps.insert(SITE, 1 + 2 * at);
    }
    too_large(Empty { versions: gaps }.into());
}

#[test]
fn declared_lengths_are_not_believed() {
    for tag in 1..=19u8 {
        for bomb in
            [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0x9f, 0xc6, 0xff, 0xff, 0xff, 0xff], &[0x91; 5000]]
        {
            assert!(decode(&[&[tag], bomb].concat(), 1 << 20).is_err());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, 1 << 20);
    }

    /// Nearly right bytes get further than noise.
    #[test]
    fn damaged_messages_decode_or_fail(which in 0..18usize, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = encode(&examples()[which]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Some(message)) = decode(&bytes, 1 << 20) {
            prop_assert_eq!(decode(&encode(&message), 1 << 20).unwrap(), Some(message));
        }
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&bytes, 1 << 20);
    }

    /// Neither side panics, whatever it is told after or instead of a handshake.
    #[test]
    fn sessions_survive_anything(
        open: bool,
        dialer: bool,
        noise in proptest::collection::vec((0..18usize, any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut pair = crate::session::tests::Pair::new();
        if open {
            pair.shake_hands();
        }
        for (which, at, byte) in noise {
            let mut bytes = encode(&examples()[which]);
            let at = at.index(bytes.len());
            if byte > 100 {
                bytes[at] = byte;
            }
            let session = if dialer { &mut pair.client } else { &mut pair.relay };
            session.handle(5, crate::Input::Message(&bytes));
        }
    }
}

/// The changeset of one row with one column, as the document has it.
fn milk(claims: &VersionVector) -> Blob {
    use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
    let mut writer = Writer::new(crsql_core::merge::TieBreak::Site);
    let (site, table) = (writer.site(SITE), writer.table("todo", 1, &["title"]));
    let group = GroupHeader { columns: vec![1], col_version: 1, site, version: 7, ..Default::default() };
    writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: Some(1) });
    writer.value(crsql_core::value::ValueRef::Text(b"milk"));
    writer.end_row();
    Blob(writer.finish(claims, false))
}

#[test]
fn a_frame_of_one_row_travels_without_what_the_frame_says_already() {
    let body = milk(&VersionVector::default());
    let whole = Frame { seq_hi: 0, last_seq: 0, body, ..frame() };
    let bytes = rmp_serde::to_vec(&whole).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> = DOCUMENT.lines().map(str::trim).collect();
    assert!(lines.concat().contains(&hex), "docs/protocol.md lacks: {hex}");
    assert_eq!(crsql_core::msgpack::from_slice::<Frame>(&bytes).unwrap(), whole);
    // What is bare and can't be dressed is one bad frame.
    let mut damaged = bytes.clone();
    let at = bytes.len() - whole.body.0.len() / 3;
    damaged.truncate(at.max(60));
    assert!(crsql_core::msgpack::from_slice::<Frame>(&damaged).is_err());
    let strange = rmp_serde::to_vec(&(SITE, 7, 0, 0, 0, CHAIN, 2, Blob(vec![1, 2]))).unwrap();
    assert_eq!(crsql_core::msgpack::from_slice::<Frame>(&strange).unwrap().codec, 2);
}

/// A batch of one row with five texts, and what it takes whose names are known.
fn one_row(version: u64, key: Option<i64>) -> (usize, usize) {
    use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
    let mut writer = Writer::new(crsql_core::merge::TieBreak::Site);
    let (site, table) = (writer.site(SITE), writer.table("t", 1, &["a", "b", "c", "d", "e"]));
    let columns = vec![1, 2, 3, 4, 5];
    let group = GroupHeader { columns, col_version: 1, site, version, ..Default::default() };
    writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: key });
    if key.is_none() {
        writer.key(&[&[1, 0x0c, 16][..], &[7; 16]].concat());
    }
    (0..5).for_each(|_| writer.value(crsql_core::value::ValueRef::Text(b"fifteen bytes..")));
    writer.end_row();
    // As whoever publishes a commit claims it.
    let body = Blob(writer.finish(&versions(version, version), false));
    let whole = Frame { site_version: version, seq_hi: 4, last_seq: 4, body, ..frame() };
    let batch = |frame: Frame| {
        let frames = vec![frame];
        let (claims, chains) = Default::default();
        encode(&Batch { after: 100, upto: 101, part: 0, frames, claims, chains, more: false }.into())
    };
    let (mut told, mut heard) = (Lexicon::default(), Lexicon::default());
    let short = batch(told.shorten(&whole).unwrap());
    heard.hear(told.since(0).unwrap()).unwrap();
    let Some(Message::Batch(mut came)) = decode(&short, 1 << 20).unwrap() else { panic!() };
    heard.lengthen(&mut came.frames).unwrap();
    assert_eq!(came.frames, std::slice::from_ref(&whole));
    (batch(whole).len(), short.len())
}

#[test]
fn one_row_of_five_columns_takes_hardly_more_than_its_values_and_its_identity() {
    // 75 are the values, 16 the chain; a blob as key is 16 more.
    for (key, bar) in [(Some(1000), 130), (None, 148)] {
        let (whole, short) = one_row(7, key);
        println!("key {key:?}: {whole} bytes by itself, {short} once the names are known");
        assert!(short <= bar, "{short} bytes");
    }
    // Numbers grow with time, and they come twice.
    assert!(one_row(1_000_000, Some(1_000_000_000)).1 <= 140);
}

#[test]
fn a_short_frame_is_as_the_document_shows_it() {
    let body = milk(&versions(7, 7));
    let mut told = Lexicon::default();
    let short = told.shorten(&Frame { seq_hi: 0, last_seq: 0, body, ..frame() }).unwrap();
    let hex: String = rmp_serde::to_vec(&short).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(DOCUMENT.contains(&hex), "docs/protocol.md lacks: {hex}");
    // The names are those of the document's example of their message.
    let Some(Message::Names(names)) = examples().pop() else { panic!() };
    assert_eq!(told.since(0), Some(names));
    // In the long form there is no such codec.
    let strange = rmp_serde::to_vec(&(SITE, 7, 0, 0, 0, CHAIN, 0xff, Blob(vec![1, 2]))).unwrap();
    assert!(crsql_core::msgpack::from_slice::<Frame>(&strange).is_err());
}
