//! What a header may say, and what is told of collected tombstones.

use super::*;
use crate::changeset::{ChangesetError, Order, Told, bare, split, write_changes};
use crate::collect::Collected;

fn told(floor: u64) -> Told {
    let mut deletes = VersionVector::default();
    deletes.insert_range(SiteId([3; 16]), 1, 9);
    Told { collected: Collected { floor, deletes }, is_whole: true }
}

fn with_told(told: Option<Told>) -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Value);
    writer.tell_collected(told);
    writer.finish(&VersionVector::default(), false)
}

fn refusal(bytes: &[u8]) -> String {
    match Changeset::open(bytes, &Limits::default()) {
        Err(ChangesetError::Header(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was read"),
    }
}

#[test]
fn what_was_collected_travels_and_a_piece_is_not_everything() {
    let bytes = with_told(Some(told(4)));
    let changeset = Changeset::open(&bytes, &Limits::default()).unwrap();
    assert_eq!(changeset.told(), Some(&told(4)));
    assert_eq!(changeset.tie_break(), TieBreak::Value);
    let pieces = split(&bytes, 1000, Order::AsGiven, &VersionVector::default()).unwrap();
    let piece = Changeset::open(&pieces[0].bytes, &Limits::default()).unwrap();
    assert_eq!(piece.told(), Some(&Told { is_whole: false, ..told(4) }));
    let nothing = Told { collected: Collected::default(), is_whole: true };
    assert_eq!(with_told(Some(nothing)), with_told(None));
}

#[test]
fn a_floor_that_leaves_no_room_is_refused() {
    for floor in [3, u64::MAX - 1] {
        assert!(refusal(&with_told(Some(told(floor)))).contains("floor"), "{floor}");
        assert_eq!(Collected::decode(&told(floor).collected.encode()), None);
    }
    assert_eq!(Collected::decode(&told(6).collected.encode()), Some(told(6).collected));
    assert_eq!(Collected::decode(b"\x92"), None);
    assert_eq!(Collected::decode(&Collected::default().encode()), Some(Collected::default()));
}

#[test]
#[cfg_attr(miri, ignore)] // 40,000 names take it minutes
fn names_and_numbers_of_columns_are_bounded() {
    let describe = |name: &str, keys: u32, columns: &[String]| {
        let mut writer = Writer::new(TieBreak::Site);
        writer.table(name, keys, columns);
        writer.finish(&VersionVector::default(), false)
    };
    let long = "n".repeat(70_000);
    let many: Vec<String> = (0..40_000).map(|n| n.to_string()).collect();
    for (bytes, why) in [
        (describe(&long, 1, &[]), "a table name of 70000 bytes"),
        (describe("t", 1, std::slice::from_ref(&long)), "a column name of 70000 bytes"),
        (describe("t", 0, &[]), "0 key columns"),
        (describe("t", 256, &[]), "256 key columns"),
        (describe("t", 1, &many), "40000 columns"),
        (describe("t", 1, &["a".into(), "a".into()]), "twice"),
    ] {
        let reason = refusal(&bytes);
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn claims_ascend_within_the_versions_there_are() {
    let claiming = |ranges: &[(u64, u64)]| {
        let claims: Vec<(u32, Vec<(u64, u64)>)> = vec![(0, ranges.to_vec())];
        let nothing = std::collections::BTreeMap::<u8, u8>::new();
        let header =
            rmp_serde::to_vec(&(0_u8, [SiteId([1; 16])], [0_u8; 0], claims, nothing)).expect("in memory");
        crate::changeset::header::decode(&header).map(|header| header.claims.ranges().count())
    };
    assert_eq!(claiming(&[(1, 2), (4, 1 << 48)]).unwrap(), 2);
    for bad in [&[(0, 1)][..], &[(2, 1)], &[(1, 2), (2, 3)], &[(1, (1 << 48) + 1)]] {
        assert!(claiming(bad).unwrap_err().to_string().contains("they ascend from 1 to 2^48"), "{bad:?}");
    }
}

#[test]
fn a_table_of_the_same_name_with_another_shape_is_another_table() {
    let mut writer = Writer::new(TieBreak::Site);
    let first = writer.table("t", 1, &["a"]);
    assert_eq!(writer.table("t", 1, &["a"]), first);
    let others =
        [writer.table("t", 2, &["a"]), writer.table("t", 1, &["b"]), writer.table("t", 1, &["a", "b"])];
    assert_eq!(others, [1, 2, 3]);
    assert!(writer.is_empty());
    let site = writer.site(SiteId([1; 16]));
    let runs = sample_runs(first, site);
    writer.begin_run(&runs[0].header);
    assert!(writer.is_empty(), "a run without rows is nothing");
    write(&mut writer, &runs[0]);
    assert!(!writer.is_empty());
}

#[test]
fn only_changesets_of_one_site_have_a_bare_form() {
    let site = SiteId([1; 16]);
    let empty = write_changes(TieBreak::Site, &[], &VersionVector::default());
    assert_eq!(bare(&empty, site), None, "of no site");
    let mut claims = VersionVector::default();
    claims.insert(site, 4);
    let own = write_changes(TieBreak::Site, &[], &claims);
    assert!(bare(&own, site).is_some());
    assert_eq!(bare(&own, SiteId([2; 16])), None, "of another site");
    assert_eq!(bare(&own[..own.len() - 1], site), None, "damaged");
    assert_eq!(bare(b"", site), None);
}

#[test]
#[cfg_attr(miri, ignore)] // five million of anything take it minutes
fn a_header_of_five_million_values_is_not_held_in_memory() {
    // An array of five million nils.
    let mut header = vec![0xdd];
    header.extend(5_000_000_u32.to_be_bytes());
    header.resize(5_000_005, 0xc0);
    let error = crate::changeset::header::decode(&header).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("too many values"), "{error}");
}
