//! What is written is read back.

use super::*;
use crate::change::{Change, Fact};
use crate::changeset::{COMPRESS_BYTES_MIN, IMPLIED_ROWS_MAX, write_changes};
use crate::merge::Stamp;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

const COLUMNS: u32 = 12;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-200i64..200).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| ValueRef::Real(f64::from_bits(bits)).storable().to_owned_value()),
        vec(any::<u8>(), 0..200).prop_map(Value::Text),
        vec(any::<u8>(), 0..200).prop_map(Value::Blob),
        vec(any::<u8>(), 16).prop_map(Value::Blob),
    ]
}

/// Groups over disjoint columns: each bit is given to one of three groups or to none.
fn groups() -> impl Strategy<Value = Vec<GroupHeader>> {
    let clocks = (1u64..1 << 40, 0u32..2, 0u64..1 << 48, 0u64..1 << 48, 0u64..9, 0u64..3);
    let group = (clocks, proptest::option::of(btree_set(0..=COLUMNS, 0..4)));
    (vec(0u8..4, COLUMNS as usize + 1), vec(group, 3)).prop_map(|(owner, groups)| {
        let groups = groups.into_iter().enumerate().map(|(i, (clocks, extra))| {
            let columns: Vec<u32> =
                (0..=COLUMNS).filter(|bit| usize::from(owner[*bit as usize]) == i).collect();
            let rank = extra.map(|mut rank| {
                rank.extend(&columns);
                rank.into_iter().collect::<Vec<_>>()
            });
            let rank = rank.filter(|rank| *rank != columns);
            let (col_version, site, version, seq, seq_step, version_step) = clocks;
            GroupHeader { columns, rank, col_version, site, version, seq, seq_step, version_step }
        });
        groups.filter(|group| !group.columns.is_empty()).collect()
    })
}

fn existence() -> GroupHeader {
    GroupHeader { columns: vec![0], col_version: 1, ..GroupHeader::default() }
}

fn run() -> impl Strategy<Value = Run> {
    // Some room for the rows, up to the very last key.
    let first_key = proptest::option::of(prop_oneof![i64::MIN..i64::MAX - 4, i64::MAX - 9..i64::MAX - 4]);
    let groups = groups().prop_map(|groups| if groups.is_empty() { vec![existence()] } else { groups });
    (groups, first_key, 0u32..2, 1u64..1 << 31).prop_flat_map(|(groups, first_key, table, cl)| {
        let header = RunHeader { table, cl, groups, first_key };
        let row = (vec(any::<u8>(), 0..20), vec(value(), header.values_per_row()));
        vec(row, 1..6).prop_map(move |rows| {
            let key = |i: usize, pk: Vec<u8>| {
                header.first_key.map_or(Key::Packed(pk), |key| Key::Integer(key + i as i64))
            };
            let rows = rows.into_iter().enumerate().map(|(i, (pk, values))| (key(i, pk), values)).collect();
            Run { header: header.clone(), rows }
        })
    })
}

fn change() -> impl Strategy<Value = Change> {
    let fact = prop_oneof![
        Just(Fact::Row),
        (0u8..5, 1u64..3, value()).prop_map(|(c, col_version, value)| Fact::Cell {
            column: format!("c{c}"),
            col_version,
            value
        }),
    ];
    let stamp = (any::<bool>(), 0u64..3, 0u64..6).prop_map(|(site, version, seq)| Stamp {
        site: SiteId([u8::from(site); 16]),
        version,
        seq,
    });
    let key = prop_oneof![
        (0i64..6).prop_map(|key| crate::pack::pack(&[ValueRef::Integer(key)]).unwrap()),
        (0i64..6).prop_map(|key| crate::pack::pack(&[ValueRef::Integer(key), ValueRef::Null]).unwrap()),
        vec(any::<u8>(), 0..3),
    ];
    (0u8..2, key, fact, 1u64..3, stamp).prop_map(|(table, pk, fact, cl, stamp)| Change {
        table: format!("t{table}"),
        pk,
        fact,
        cl,
        stamp,
    })
}

fn written(runs: &[Run], compress: bool) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Value);
    let columns: Vec<String> = (1..=COLUMNS).map(|i| format!("c{i}")).collect();
    for (i, site) in [SiteId([1; 16]), SiteId([2; 16])].into_iter().enumerate() {
        assert_eq!(writer.site(site), i as u32);
    }
    assert_eq!((writer.table("a", 1, &columns), writer.table("b", 1, &columns)), (0, 1));
    runs.iter().for_each(|run| write(&mut writer, run));
    writer.finish(&VersionVector::default(), compress)
}

/// For comparing as multisets: a changeset orders a row's facts by column.
fn sorted(changes: &[Change]) -> Vec<String> {
    let mut texts: Vec<String> = changes.iter().map(|change| format!("{change:?}")).collect();
    texts.sort();
    texts
}

proptest! {
    #[test]
    fn runs_survive(runs in vec(run(), 0..5), compress: bool) {
        prop_assert_eq!(read(&written(&runs, compress)).unwrap(), runs);
    }

    #[test]
    fn changes_survive(changes in vec(change(), 0..40)) {
        let bytes = write_changes(TieBreak::Site, &changes, &VersionVector::default());
        prop_assert_eq!(sorted(&Changeset::changes(&bytes).unwrap()), sorted(&changes));
    }

    #[test]
    fn skipped_rows_do_not_disturb_the_next_run(runs in vec(run(), 1..5), read_rows in 0usize..3) {
        let bytes = written(&runs, false);
        let changeset = Changeset::open(&bytes, &Limits::default()).unwrap();
        let (mut reader, mut values) = (changeset.reader(), Vec::new());
        for run in &runs {
            let header = reader.next_run().unwrap();
            prop_assert_eq!(header.as_ref(), Some(&run.header));
            for _ in 0..read_rows {
                reader.next_row(&mut values).unwrap();
            }
        }
        prop_assert_eq!(reader.next_run().unwrap(), None);
    }

    #[test]
    fn claims_survive(versions in vec((0u8..4, 1u64..1000, 0u64..50), 0..20)) {
        let mut claims = VersionVector::default();
        for (site, lo, len) in versions {
            claims.insert_range(SiteId([site; 16]), lo, lo + len);
        }
        let bytes = Writer::new(TieBreak::Site).finish(&claims, true);
        let changeset = Changeset::open(&bytes, &Limits::default()).unwrap();
        prop_assert_eq!(changeset.claims(), &claims);
        prop_assert!(read(&bytes).unwrap().is_empty());
    }
}

#[test]
fn a_bulk_insert_of_changes_becomes_one_run() {
    let mut changes = Vec::new();
    for key in 1..=100 {
        for column in 0..3 {
            let value = Value::Integer(key * column);
            let seq = (key - 1) as u64 * 3 + column as u64;
            changes.push(Change {
                table: "t".into(),
                pk: crate::pack::pack(&[ValueRef::Integer(key)]).unwrap(),
                fact: Fact::Cell { column: format!("c{column}"), col_version: 1, value },
                cl: 1,
                stamp: Stamp { site: SiteId([3; 16]), version: 5, seq },
            });
        }
    }
    let bytes = write_changes(TieBreak::Site, &changes, &VersionVector::default());
    let runs = read(&bytes).unwrap();
    assert_eq!((runs.len(), runs[0].rows.len()), (1, 100));
    assert_eq!(runs[0].header.first_key, Some(1));
    assert_eq!(Changeset::changes(&bytes).unwrap(), changes);
}

#[test]
fn a_run_without_rows_leaves_no_trace() {
    let run = &sample_runs(0, 0)[0];
    let mut writer = Writer::new(TieBreak::Site);
    let (_, _) = (writer.site(SiteId([0; 16])), writer.table("todo", 1, &["title", "done"]));
    writer.begin_run(&run.header);
    assert!(writer.is_empty());
    writer.begin_run(&run.header);
    assert!(read(&writer.finish(&VersionVector::default(), false)).unwrap().is_empty());
}

#[test]
fn a_site_and_a_table_are_listed_once_and_another_column_list_is_another_table() {
    let mut writer = Writer::new(TieBreak::Site);
    assert_eq!((writer.site(SiteId([1; 16])), writer.site(SiteId([1; 16]))), (0, 0));
    assert_eq!((writer.table("t", 1, &["a"]), writer.table("t", 1, &["a"])), (0, 0));
    assert_eq!(writer.table("t", 1, &["a", "b"]), 1);
    assert_eq!(writer.table("t", 1, &["a"]), 0);
}

#[test]
fn only_a_payload_that_shrinks_is_compressed() {
    let codec = |bytes: &[u8]| bytes[8];
    assert_eq!(codec(&sample(true)), 0, "shorter than {COMPRESS_BYTES_MIN} bytes");
    let rows = |seed: fn(i64) -> i64| {
        let group = GroupHeader { columns: vec![1], col_version: 1, version: 1, ..GroupHeader::default() };
        let header = RunHeader { table: 0, cl: 1, groups: vec![group], first_key: Some(1) };
        let value = |i| Value::Blob(blake3::hash(&seed(i).to_le_bytes()).as_bytes().to_vec());
        Run { header, rows: (1..50).map(|i| (Key::Integer(i), vec![value(i)])).collect() }
    };
    let written = |run: &Run| {
        let mut writer = Writer::new(TieBreak::Site);
        let (_, _) = (writer.site(SiteId(*b"0123456789abcdef")), writer.table("t", 1, &["v"]));
        write(&mut writer, run);
        writer.finish(&VersionVector::default(), true)
    };
    let (noise, same) = (rows(|i| i), rows(|_| 0));
    assert_eq!(codec(&written(&noise)), 0, "noise does not shrink");
    assert_eq!(codec(&written(&same)), 1);
    assert_eq!(read(&written(&same)).unwrap(), [same]);
}

#[test]
fn rows_past_the_implied_limit_are_spelled_out() {
    let deleted =
        GroupHeader { columns: vec![0], col_version: 2, version: 1, seq_step: 1, ..GroupHeader::default() };
    let header = RunHeader { table: 0, cl: 2, groups: vec![deleted], first_key: Some(-7) };
    let mut writer = Writer::new(TieBreak::Site);
    let (_, _) = (writer.site(SiteId([0; 16])), writer.table::<&str>("t", 1, &[]));
    writer.begin_run(&header);
    (0..IMPLIED_ROWS_MAX + 3).for_each(|_| writer.end_row());
    writer.begin_run(&header);
    writer.end_row();
    let bytes = writer.finish(&VersionVector::default(), false);

    let changeset = Changeset::open(&bytes, &Limits::default()).unwrap();
    let (mut reader, mut values) = (changeset.reader(), Vec::new());
    assert_eq!(reader.next_run().unwrap().unwrap().first_key, Some(-7));
    assert_eq!(u64::from(reader.rows_left()), IMPLIED_ROWS_MAX);
    let rest = reader.next_run().unwrap().unwrap();
    assert_eq!((rest.first_key, rest.groups[0].seq, reader.rows_left()), (None, IMPLIED_ROWS_MAX, 3));
    let first = crate::pack::pack(&[ValueRef::Integer(IMPLIED_ROWS_MAX as i64 - 7)]).unwrap();
    assert_eq!(reader.next_row(&mut values).unwrap(), Some(RowKey::Packed(&first)));
    reader.next_run().unwrap().unwrap();
    let again = crate::pack::pack(&[ValueRef::Integer(-7)]).unwrap();
    assert_eq!(reader.next_row(&mut values).unwrap(), Some(RowKey::Packed(&again)));
}

#[test]
fn a_seq_counts_the_columns_of_the_rank() {
    let group = GroupHeader {
        columns: vec![2, 5],
        rank: Some(vec![0, 2, 3, 5, 6]),
        seq: 10,
        seq_step: 5,
        version: 3,
        version_step: 2,
        ..GroupHeader::default()
    };
    let seqs: Vec<u64> = group.seq_offsets().map(|offset| group.seq_of_row(1) + offset).collect();
    assert_eq!(seqs, [16, 18]);
    assert_eq!(group.version_of_row(1), 5);
}

/// A run of one row in which the column with this name is in a group of each of these sites.
fn shared(column: &str, sites: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Site);
    let table = writer.table("t", 1, &["other", column]);
    let groups: Vec<GroupHeader> = sites
        .iter()
        .map(|n| {
            let site = writer.site(SiteId([*n; 16]));
            GroupHeader { columns: vec![2], col_version: 1, site, version: 1, ..GroupHeader::default() }
        })
        .collect();
    writer.begin_run(&RunHeader { table, cl: 1, groups, first_key: Some(1) });
    sites.iter().for_each(|n| writer.value(ValueRef::Integer(i64::from(*n))));
    writer.end_row();
    writer.end_run();
    writer.finish(&VersionVector::default(), false)
}

#[test]
fn a_counter_has_a_part_of_each_site_and_a_register_one_cell() {
    let parts = read(&shared("counter(n)", &[1, 2, 3, 4, 5])).unwrap();
    assert_eq!(parts[0].header.groups.len(), 5, "more groups than columns");
    assert_eq!(parts[0].rows[0].1, [1, 2, 3, 4, 5].map(Value::Integer));
    for (column, sites) in [("counter(n)", &[1, 2, 1][..]), ("n", &[1, 2]), ("max(n)", &[1, 2])] {
        assert!(read(&shared(column, sites)).is_err(), "{column} {sites:?}");
    }
    let changes = Changeset::changes(&shared("counter(n)", &[1, 2])).unwrap();
    let again = write_changes(TieBreak::Site, &changes, &Default::default());
    assert_eq!(Changeset::changes(&again).unwrap(), changes);
}
