//! Where inputs begin: cases with names, committed under `tests/fuzz/corpus`, and what the code itself makes.

use super::session::{admission, frame, local};
use crate::plans::SCHEMA;
use crate::{files, fixture, sites, sync};
use crsql_protocol::codec::encode;
use crsql_protocol::message::*;
use crsql_protocol::{Config, Input, Output, Session};

/// The committed cases of a target, by name.
pub fn committed(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = files::workspace().join("tests").join("fuzz").join("corpus").join(target);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut cases: Vec<(String, Vec<u8>)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, std::fs::read(entry.path()).ok()?)))
        .collect();
    cases.sort();
    cases
}

/// Inputs that are well formed.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "key" => keys(),
        "changeset" => changesets(),
        "vector" => vectors(),
        "wire" => messages(),
        "session" => conversations(),
        "arguments" | "plans" => (0..32u64).map(|seed| seed.to_le_bytes().to_vec()).collect(),
        "file" => databases(),
        _ => Vec::new(),
    }
}

fn historied() -> [crate::Site; 2] {
    let [a, b] = sites(SCHEMA);
    a.exec(
        "INSERT INTO t VALUES (1, 'x', 1.5), (2, x'00', NULL), (300, 70000, ''); UPDATE t SET x = 'y' WHERE id = 1; DELETE FROM t WHERE id = 2;
         INSERT INTO k VALUES ('K', 1, 'v', 9223372036854775807), ('É', 2, NULL, -1); REPLACE INTO k VALUES ('k', 1, 'w', 0); INSERT INTO tag VALUES (x'ff')",
    );
    b.exec("INSERT INTO t VALUES (1, 'theirs', 2); UPDATE t SET y = zeroblob(200)");
    sync(&a, &b);
    [a, b]
}

fn keys() -> Vec<Vec<u8>> {
    let [a, _] = historied();
    let rows = a.values("SELECT DISTINCT pk FROM crsql_changes");
    let mut keys: Vec<Vec<u8>> = rows.iter().map(|row| row[0].blob().to_vec()).collect();
    keys.push(a.blob("SELECT crsql_pack_columns(1, 2.5, 'text', x'00ff', NULL, -1, 0, 65536, 'A ', '')"));
    keys
}

fn changesets() -> Vec<Vec<u8>> {
    let [a, b] = historied();
    let mut all =
        vec![a.changeset(), b.changeset(), a.changeset_since(3), a.changeset_for(&b.version_vector())];
    all.extend([0, 1].map(|compress| a.blob(&format!("SELECT crsql_changeset(0, {compress})"))));
    all
}

fn vectors() -> Vec<Vec<u8>> {
    let [a, b] = historied();
    b.merge(&a.changes()[..1]);
    vec![a.version_vector(), b.version_vector(), crate::Site::memory().version_vector()]
}

fn messages() -> Vec<Vec<u8>> {
    let mut session = Session::dial(Config::default());
    let mut other = Session::accept(Config::default());
    let sent = |outputs: Vec<Output>| {
        outputs
            .into_iter()
            .filter_map(|output| if let Output::Send(bytes) = output { Some(bytes) } else { None })
    };
    let mut all: Vec<Vec<u8>> = sent(session.handle(0, Input::Open(Box::new(local())))).collect();
    for hello in all.clone() {
        other.handle(1, Input::Message(&hello));
    }
    let answers: Vec<Vec<u8>> = sent(other.handle(2, Input::Admit(Box::new(admission())))).collect();
    all.extend(answers);
    let mut held = crsql_core::version_vector::VersionVector::default();
    held.insert_range(crsql_core::ids::SiteId([7; 16]), 1, 9);
    let frames = vec![frame(4), Frame { seq_hi: 1, ..frame(5) }];
    let push = Push { id: 1, frames: frames.clone(), claims: held.clone(), chains: vec![], more: false };
    let batch =
        Batch { after: 7, upto: 8, part: 0, frames, claims: held.clone(), chains: vec![], more: true };
    let have = Have {
        whole: held.clone(),
        partial: vec![Partial {
            site: crsql_core::ids::SiteId([8; 16]),
            site_version: 2,
            last_seq: 9,
            have: vec![0, 3],
        }],
    };
    all.push(encode(&Message::Push(push)));
    all.push(encode(&Message::Batch(batch)));
    all.push(encode(&Message::Have(have)));
    all.push(encode(&Message::Need(Need { whole: held.clone(), partial: vec![] })));
    all.push(encode(&Message::Empty(Empty { versions: held.clone() })));
    all.push(encode(&Message::Ack(Ack { id: 1, pos: 2, held, rejected: vec![] })));
    all.push(encode(&Message::Pos(Pos { after: 1, upto: 2, parts: 0 })));
    all.push(encode(&Message::Credit(Credit { bytes: 1 << 20, pos: 3 })));
    // Names, and a push whose one frame is short: one row of a table by number, as docs/protocol.md shows it.
    let name = |kind, bytes: &[u8]| NameRecord { kind, bytes: crsql_protocol::wire::Blob(bytes.to_vec()) };
    let names = vec![name(0, &[7; 16]), name(1, b"\x93\xa4todo\x01\x91\xa5title")];
    all.push(encode(&Message::Names(Names { first: 0, names })));
    let mut short = vec![3, 0x95, 1, 0x91, 0x94, 7, 0, 0xc4, 16];
    short.extend([7; 16]);
    short.extend(b"\xc4\x15\0\x06\x01\0\x01\x01\x02\x01\x01\0\x01\x02\x01\0\x07\0\x84milk\x90\x90\xc2");
    all.push(short);
    all
}

fn conversations() -> Vec<Vec<u8>> {
    let messages = messages();
    let write = |side: u8, which: &[usize]| {
        let mut bytes = vec![side];
        for at in which.iter().filter(|at| **at < messages.len()) {
            bytes.extend_from_slice(&(messages[*at].len() as u16).to_be_bytes());
            bytes.extend_from_slice(&messages[*at]);
        }
        bytes
    };
    let all: Vec<usize> = (0..messages.len()).collect();
    vec![
        write(0, &all),
        write(1, &all[1..]),
        write(0, &[0, 3, 3, 4, 5]),
        write(1, &[1, 2, 4, 4, 8, 8]),
        write(0, &[0, 0]),
        write(1, &[1, 1]),
    ]
}

/// The fixtures, each after nothing.
fn databases() -> Vec<Vec<u8>> {
    let directory = fixture::directory().join(format!("format-{}", fixture::present_format()));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
    files.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
