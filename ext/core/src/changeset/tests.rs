//! Golden bytes, round trips, hostile bytes, sizes. The speed test is ignored: it needs a release build.

mod golden;
mod header;
mod hostile;
mod round_trip;
mod size_and_speed;
mod splits;

use super::{Changeset, GroupHeader, Limits, RowKey, RunHeader, Writer};
use crate::ids::SiteId;
use crate::merge::TieBreak;
use crate::value::{Value, ValueRef};
use crate::version_vector::VersionVector;

/// A run with its rows, owned: what a writer is given and a reader should give back.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    header: RunHeader,
    rows: Vec<(Key, Vec<Value>)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Key {
    Integer(i64),
    Packed(Vec<u8>),
}

/// Every run of a changeset, or the first error.
fn read(bytes: &[u8]) -> super::error::Result<Vec<Run>> {
    let changeset = Changeset::open(bytes, &Limits::default())?;
    let mut reader = changeset.reader();
    let (mut runs, mut values) = (Vec::new(), Vec::new());
    while let Some(header) = reader.next_run()? {
        let mut rows = Vec::new();
        while let Some(key) = reader.next_row(&mut values)? {
            let key = match key {
                RowKey::Integer(key) => Key::Integer(key),
                RowKey::Packed(pk) => Key::Packed(pk.to_vec()),
            };
            rows.push((key, values.iter().map(ValueRef::to_owned_value).collect()));
        }
        runs.push(Run { header, rows });
    }
    Ok(runs)
}

fn write(writer: &mut Writer, run: &Run) {
    writer.begin_run(&run.header);
    for (key, values) in &run.rows {
        if let Key::Packed(pk) = key {
            writer.key(pk);
        }
        values.iter().for_each(|value| writer.value(value.as_ref()));
        writer.end_row();
    }
    writer.end_run();
}

/// The changeset of the worked example in `docs/changeset-format.md`: two inserts by one site, what is left of
/// an older one, and three deletes.
fn sample(compress: bool) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Site);
    let site = writer.site(SiteId(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"));
    let table = writer.table("todo", 1, &["title", "done"]);
    sample_runs(table, site).iter().for_each(|run| write(&mut writer, run));
    let mut claims = VersionVector::default();
    claims.insert_range(SiteId(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"), 1, 300);
    writer.finish(&claims, compress)
}

fn sample_runs(table: u32, site: u32) -> Vec<Run> {
    let group = GroupHeader { col_version: 1, site, ..GroupHeader::default() };
    let inserted = GroupHeader { columns: vec![1, 2], version: 300, seq_step: 2, ..group.clone() };
    let remnant =
        GroupHeader { columns: vec![2], rank: Some(vec![1, 2]), version: 7, seq: 4, ..group.clone() };
    let deleted = GroupHeader { columns: vec![0], col_version: 2, version: 9, version_step: 1, ..group };
    let run = |cl, group, first_key| RunHeader { table, cl, groups: vec![group], first_key };
    vec![
        Run {
            header: run(1, inserted, Some(1)),
            rows: vec![
                (Key::Integer(1), vec![Value::text("milk"), Value::Integer(0)]),
                (Key::Integer(2), vec![Value::text("tea"), Value::Integer(-1000)]),
            ],
        },
        Run {
            header: run(1, remnant, None),
            rows: vec![(Key::Packed(b"\x01\x0b\x01k".to_vec()), vec![Value::Real(0.5)])],
        },
        Run {
            header: run(2, deleted, Some(-5)),
            rows: vec![(Key::Integer(-5), vec![]), (Key::Integer(-4), vec![]), (Key::Integer(-3), vec![])],
        },
    ]
}
