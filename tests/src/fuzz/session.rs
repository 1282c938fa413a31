//! Sequences of messages, on both sides of a session.

use super::signature;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::holdings::Holdings;
use crsql_protocol::message::*;
use crsql_protocol::session::{Admission, Local, Parcel, Read, Tail};
use crsql_protocol::wire::{Blob, Chain, Fingerprint};
use crsql_protocol::{Config, Input, Output, Session};

/// How much one message may make a session want at once.
const OUTPUTS_MAX: usize = 4096;

/// What the dialer says about itself.
pub fn local() -> Local {
    let site = SiteId([7; 16]);
    let mut held = Holdings::default();
    held.whole.insert_range(site, 1, 3);
    Local {
        room: "demo".into(),
        token: Some("secret".into()),
        site,
        head: Head { version: 3, chain: Chain([1; 16]) },
        tie_break: 0,
        schema: SchemaId::default(),
        resume: None,
        fingerprint: Fingerprint([1; 16]),
        held,
    }
}

/// What the acceptor says of the dialer.
pub fn admission() -> Admission {
    let mut held = Holdings::default();
    held.whole.insert_range(SiteId([9; 16]), 1, 5);
    Admission {
        site: SiteId([0; 16]),
        permissions: READ | WRITE,
        head: Cursor { epoch: 42, pos: 7 },
        floor_pos: 0,
        your_head: Head::default(),
        your_common: Head::default(),
        ancestry: Ancestry::Unknown,
        tie_break: 0,
        schema: SchemaAction::Ok,
        held,
        fingerprint: Fingerprint([0; 16]),
        snapshot: None,
        collected: None,
        members_ms: 0,
    }
}

/// A frame of the dialer's site.
pub fn frame(version: u64) -> Frame {
    Frame {
        site: SiteId([7; 16]),
        site_version: version,
        seq_lo: 0,
        seq_hi: 2,
        last_seq: 2,
        chain: Chain([version as u8; 16]),
        codec: CODEC_PLAIN,
        body: Blob(b"a changeset".to_vec()),
    }
}

/// Messages, each after two bytes of length. The first bit of the input says which side gets them.
pub fn session(bytes: &[u8]) -> u64 {
    let Some((&side, mut rest)) = bytes.split_first() else { return 0 };
    let dials = side & 1 == 1;
    let mut session =
        if dials { Session::dial(Config::default()) } else { Session::accept(Config::default()) };
    let mut now = 0;
    let mut states = Vec::new();
    if dials {
        let outputs = session.handle(now, Input::Open(Box::new(local())));
        answer(&mut session, now, outputs, 0);
    }
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (message, after) = tail.split_at(length);
        rest = after;
        now += 100;
        let was_closed = session.is_closed();
        let outputs = session.handle(now, Input::Message(message));
        assert!(outputs.len() <= OUTPUTS_MAX, "one message makes {} outputs", outputs.len());
        assert!(!was_closed || outputs.is_empty(), "a session that is over goes on");
        answer(&mut session, now, outputs, 0);
        states.push(
            u64::from(session.is_open())
                + 2 * u64::from(session.is_closed())
                + 4 * u64::from(message.first().copied().unwrap_or(0)),
        );
        if states.len() > 64 {
            break;
        }
    }
    let outputs = session.handle(now + 1_000_000, Input::Tick);
    answer(&mut session, now, outputs, 0);
    signature(&states)
}

/// Does what the session wants, as a store without content would.
fn answer(session: &mut Session, now: u64, outputs: Vec<Output>, depth: usize) {
    if depth > 8 {
        return;
    }
    for output in outputs {
        let more = match output {
            Output::Admit(_) => session.handle(now, Input::Admit(Box::new(admission()))),
            Output::Compare(_) => session.handle(now, Input::Compared(Ancestry::Unknown)),
            Output::Read(Read::Tail { after, .. }) => {
                session.handle(now, Input::Tail(Tail { after, upto: after, ..Tail::default() }))
            }
            Output::Read(_) => session.handle(now, Input::Parcel(Parcel::default())),
            Output::Store(push) => {
                let mut held = VersionVector::default();
                for frame in &push.frames {
                    held.insert(frame.site, frame.site_version);
                }
                session.handle(now, Input::Stored(Ack { id: push.id, pos: 1, held, rejected: vec![] }))
            }
            Output::Apply(apply) => session.handle(now, Input::Applied(apply.id)),
            Output::Digest(request) => {
                let held_fingerprint = Fingerprint([0; 16]);
                let response = DigestResponse { id: request.id, held_fingerprint, entries: vec![] };
                session.handle(now, Input::Digests(response))
            }
            _ => Vec::new(),
        };
        answer(session, now, more, depth + 1);
    }
}
