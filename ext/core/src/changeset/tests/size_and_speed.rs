//! Bars on bytes per change, and cells per second in a release build:
//! `cargo test --release -p crsql-core changeset -- --ignored --nocapture`.

use super::*;
use std::time::{Duration, Instant};

const COLUMNS: [&str; 5] = ["title", "done", "list", "due", "note"];

/// Texts of 13 to 17 bytes, 15 on average.
fn texts(rows: usize) -> Vec<Vec<u8>> {
    (0..rows * 5)
        .map(|i| {
            let noise = blake3::hash(&i.to_le_bytes()).to_hex();
            noise.as_bytes()[..13 + (i * 7) % 5].to_vec()
        })
        .collect()
}

fn insert(keys: &[Vec<u8>], values: &[ValueRef<'_>], compress: bool) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Site);
    let site_id = SiteId([0xab; 16]);
    let site = writer.site(site_id);
    let table = writer.table("todo", 1, &COLUMNS);
    let columns = (1..=5).collect();
    let group =
        GroupHeader { columns, col_version: 1, site, version: 1, seq_step: 5, ..GroupHeader::default() };
    let first_key = if keys.is_empty() { Some(1) } else { None };
    writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key });
    for (row, values) in values.chunks_exact(5).enumerate() {
        if let Some(key) = keys.get(row) {
            writer.key(key);
        }
        values.iter().for_each(|value| writer.value(*value));
        writer.end_row();
    }
    let mut claims = VersionVector::default();
    claims.insert_range(site_id, 1, 1);
    writer.finish(&claims, compress)
}

fn uuid_keys(rows: usize) -> Vec<Vec<u8>> {
    (0..rows)
        .map(|i| {
            crate::pack::pack(&[ValueRef::Blob(&blake3::hash(&i.to_le_bytes()).as_bytes()[..16])]).unwrap()
        })
        .collect()
}

#[test]
fn a_bulk_insert_costs_at_most_21_raw_bytes_a_change() {
    let texts = texts(20_000);
    let values: Vec<_> = texts.iter().map(|text| ValueRef::Text(text)).collect();
    let raw: usize = texts.iter().map(Vec::len).sum();
    assert_eq!(raw / texts.len(), 15);
    let (sequence, uuids) = (insert(&[], &values, false), insert(&uuid_keys(20_000), &values, false));
    println!(
        "integer keys {:.2}, uuid keys {:.2} bytes a change",
        per(&sequence, &values),
        per(&uuids, &values)
    );
    assert!(per(&sequence, &values) <= 16.1);
    assert!(per(&uuids, &values) <= 21.0);
}

fn per(bytes: &[u8], values: &[ValueRef<'_>]) -> f64 {
    bytes.len() as f64 / values.len() as f64
}

#[test]
fn the_insert_of_one_row_costs_at_most_140_bytes() {
    let values = [
        ValueRef::Text(b"buy oat milk"),
        ValueRef::Integer(0),
        ValueRef::Text(b"home"),
        ValueRef::Integer(1_795_219_200),
        ValueRef::Null,
    ];
    let bytes = insert(&[], &values, true);
    println!("one row: {} bytes", bytes.len());
    assert!(bytes.len() <= 140, "{} bytes", bytes.len());
}

#[test]
#[ignore = "a measurement: needs a release build"]
fn cells_per_second() {
    let texts = texts(20_000);
    let mixed: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| match i % 5 {
            0 => ValueRef::Integer(i as i64 * 1000),
            1 => ValueRef::Real(i as f64),
            2 => ValueRef::Integer(1),
            _ => ValueRef::Text(text),
        })
        .collect();
    let texts: Vec<_> = texts.iter().map(|text| ValueRef::Text(text)).collect();
    let keys = uuid_keys(20_000);
    for (name, values, keys) in [
        ("text, integer keys", &texts, &[][..]),
        ("text, uuid keys", &texts, &keys),
        ("mixed, uuid keys", &mixed, &keys),
    ] {
        let bytes = insert(keys, values, false);
        let packed = insert(keys, values, true);
        let rate = |time: Duration| values.len() as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{name}: write {:.0}, write lz4 {:.0}, read {:.0}, read lz4 {:.0} M cells/s; {:.2} raw, {:.2} lz4 bytes a cell",
            rate(best(|| insert(keys, values, false).len())),
            rate(best(|| insert(keys, values, true).len())),
            rate(best(|| count(&bytes))),
            rate(best(|| count(&packed))),
            per(&bytes, values),
            per(&packed, values),
        );
    }
}

fn count(bytes: &[u8]) -> usize {
    let changeset = Changeset::open(bytes, &Limits::default()).unwrap();
    let (mut reader, mut values, mut cells) = (changeset.reader(), Vec::new(), 0);
    while reader.next_run().unwrap().is_some() {
        while reader.next_row(&mut values).unwrap().is_some() {
            cells += std::hint::black_box(&values).len();
        }
    }
    cells
}

fn best(mut work: impl FnMut() -> usize) -> Duration {
    let run = |_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    (0..30).map(run).min().expect("thirty runs")
}
