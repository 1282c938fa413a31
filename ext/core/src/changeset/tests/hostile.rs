//! Bytes from anybody: an error or an equal result, never a panic, never memory out of proportion.

use super::*;
use crate::changeset::{ChangesetError, FORMAT, IMPLIED_ROWS_MAX, MAGIC, envelope, varint};
use proptest::collection::vec;
use proptest::prelude::*;

/// Walks everything; what matters is that it returns. Of a forged count of rows without bytes the first thousand
/// are enough.
fn walk(bytes: &[u8]) {
    let Ok(changeset) = Changeset::open(bytes, &Limits::default()) else { return };
    let (mut reader, mut values) = (changeset.reader(), Vec::new());
    while let Ok(Some(run)) = reader.next_run() {
        for row in 0..1000 {
            let Ok(Some(_)) = reader.next_row(&mut values) else { break };
            assert_eq!(values.len(), run.values_per_row());
            for group in &run.groups {
                let seqs = group.seq_offsets().map(|offset| group.seq_of_row(row) + offset);
                assert_eq!(seqs.count(), group.columns.len());
            }
        }
    }
}

/// A changeset around any payload, with a valid checksum.
fn sealed(codec: u8, raw_len: u64, stored: &[u8]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[FORMAT, codec]].concat();
    varint::push(&mut bytes, raw_len);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes).update(stored);
    bytes.extend_from_slice(&hasher.finalize().as_bytes()[..16]);
    bytes.extend_from_slice(stored);
    bytes
}

fn plain(payload: &[u8]) -> Vec<u8> {
    sealed(0, payload.len() as u64, payload)
}

/// The payload of the sample, and where its runs begin.
fn sample_payload() -> (Vec<u8>, usize) {
    let payload = envelope::open(&sample(false), &Limits::default()).unwrap().into_owned();
    let runs_at = 1 + usize::from(payload[0]);
    (payload, runs_at)
}

/// The error of the sample with its runs replaced.
fn with_runs(runs: &[u8]) -> ChangesetError {
    let (payload, runs_at) = sample_payload();
    read(&plain(&[&payload[..runs_at], runs].concat())).unwrap_err()
}

fn reason(error: ChangesetError) -> &'static str {
    match error {
        ChangesetError::Malformed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_changed_byte_is_detected() {
    for bytes in [sample(false), compressed_sample()] {
        for at in 0..bytes.len() {
            for flip in 1..=255 {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                assert!(read(&damaged).is_err(), "byte {at} with {flip:#x} flipped");
            }
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_detected() {
    for bytes in [sample(false), compressed_sample()] {
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn every_changed_byte_under_a_valid_checksum_gives_rows_or_an_error() {
    let (payload, _) = sample_payload();
    for at in 0..payload.len() {
        for flip in 1..=255 {
            let mut forged = payload.clone();
            forged[at] ^= flip;
            walk(&plain(&forged));
        }
    }
}

#[test]
fn every_changed_byte_of_an_lz4_block_under_a_valid_checksum_gives_rows_or_an_error() {
    let bytes = compressed_sample();
    let raw_len = envelope::open(&bytes, &Limits::default()).unwrap().len() as u64;
    let stored = bytes[11 + 16..].to_vec();
    assert_eq!(sealed(1, raw_len, &stored), bytes);
    for at in 0..stored.len() {
        for flip in 1..=255 {
            let mut forged = stored.clone();
            forged[at] ^= flip;
            walk(&sealed(1, raw_len, &forged));
        }
    }
}

/// Long enough for a declared length of two bytes and for lz4.
fn compressed_sample() -> Vec<u8> {
    let mut writer = Writer::new(TieBreak::Site);
    let (site, table) = (writer.site(SiteId([9; 16])), writer.table("todo", 1, &["title", "done"]));
    let runs = sample_runs(table, site);
    (0..8).for_each(|_| runs.iter().for_each(|run| write(&mut writer, run)));
    let bytes = writer.finish(&VersionVector::default(), true);
    assert_eq!(bytes[8], 1);
    bytes
}

#[test]
fn another_format_codec_or_file_is_named() {
    let mut bytes = sample(false);
    bytes[7] = 2;
    assert_eq!(read(&bytes).unwrap_err(), ChangesetError::UnknownFormat(2));
    assert_eq!(read(&sealed(9, 1, b"x")).unwrap_err(), ChangesetError::UnknownCodec(9));
    assert_eq!(read(b"SQLite format 3\0").unwrap_err(), ChangesetError::NotAChangeset);
    assert_eq!(read(b"").unwrap_err(), ChangesetError::NotAChangeset);
    assert_eq!(read(MAGIC).unwrap_err(), ChangesetError::Checksum);
}

#[test]
fn a_declared_length_is_checked_before_anything_is_allocated() {
    let limits = Limits { raw_bytes: 1000 };
    let error = Changeset::open(&sealed(1, 1001, b"xxxxxxxx"), &limits).unwrap_err();
    assert_eq!(error, ChangesetError::TooLarge { bytes: 1001, limit: 1000 });
    // Within the limit, but more than this block could unpack to.
    let error = read(&sealed(1, 1 << 30, &[0x1f; 64])).unwrap_err();
    assert!(matches!(error, ChangesetError::Decompress(_)), "{error:?}");
    let error = read(&sealed(0, 5, b"xxxx")).unwrap_err();
    assert_eq!(reason(error), "the payload is not as long as declared");
    // A header, a list, a key and a text of absurd length.
    let error = read(&plain(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")).unwrap_err();
    assert_eq!(reason(error), "the payload ends too early");
    for list in
        [&b"\x95\x00\xdd\xff\xff\xff\xff"[..], b"\x95\x00\x90\xdd\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"]
    {
        let error = read(&plain(&[&[list.len() as u8], list].concat())).unwrap_err();
        assert!(matches!(error, ChangesetError::Header(_)), "{error:?}");
    }
    let run = b"\x00\x01\x00\x00\x00\x00\x01\x01\x00\x01\x02\x01\x00\x01\x00";
    assert_eq!(reason(with_runs(&[&run[..], b"\xff\xff\x7f"].concat())), "the payload ends too early");
    assert_eq!(
        reason(with_runs(&[&run[..], b"\x00\x03\xff\xff\x7f"].concat())),
        "the payload ends too early"
    );
}

#[test]
fn a_block_that_declares_more_than_it_can_unpack_to_is_not_allocated_for() {
    let error = read(&sealed(1, 1 << 20, &[0; 20])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("20 bytes cannot unpack to the declared 1048576"), "{text}");
}

#[test]
fn a_header_that_breaks_a_rule_is_refused() {
    let refused = |header: &[u8]| match read(&plain(&[&[header.len() as u8], header].concat())).unwrap_err() {
        ChangesetError::Header(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"\x95\x02\x90\x90\x90\x80"), "tie-break 2 is neither 0 (site) nor 1 (value)");
    assert!(refused(b"\x95\x00\x91\xc4\x03abc\x90\x90\x80").contains("16"));
    assert_eq!(
        refused(b"\x95\x00\x90\x91\x93\xa1t\x00\x90\x90\x80"),
        "table \"t\" has 0 key columns, it may have 1 to 255"
    );
    assert_eq!(
        refused(b"\x95\x00\x90\x91\x93\xa1t\x01\x92\xa1a\xa1a\x90\x80"),
        "table \"t\" lists column \"a\" twice"
    );
    assert_eq!(refused(b"\x95\x00\x90\x90\x91\x92\x00\x90\x80"), "a claim for site 0 of 0");
    let one_site = [&b"\x95\x00\x91\xc4\x10"[..], &[7; 16]].concat();
    for claim in [[0, 5], [5, 4]] {
        let claims = [&b"\x90\x91\x92\x00\x91\x92"[..], &claim, b"\x80"].concat();
        assert!(refused(&[&one_site[..], &claims].concat()).starts_with("a claim of versions"));
    }
    let backwards = b"\x90\x91\x92\x00\x92\x92\x05\x05\x92\x03\x03\x80";
    assert!(refused(&[&one_site[..], backwards].concat()).contains("3 to 3 after 5"));
    let twice = b"\x90\x92\x92\x00\x91\x92\x03\x03\x92\x00\x91\x92\x05\x05\x80";
    assert!(refused(&[&one_site[..], twice].concat()).ends_with("has two claims"));
    // Extensions of the future are read past, but not without end.
    assert!(read(&plain(b"\x0a\x95\x00\x90\x90\x90\x81\xa1x\x91\x05")).unwrap().is_empty());
    let deep = [&b"\x95\x00\x90\x90\x90\x81\xa1x"[..], &[0x91; 100], b"\x00"].concat();
    assert!(refused(&deep).contains("depth"));
}

#[test]
fn a_run_that_breaks_a_rule_is_refused() {
    let refused = |run: &[u8]| reason(with_runs(run));
    assert_eq!(refused(b"\x01"), "a run names a table that is not in the header");
    assert_eq!(refused(b"\x00\x00\x00\x00\x00"), "a run has no rows");
    assert_eq!(refused(b"\x00\x01\x00\x00\x00\x02"), "unknown run flags");
    let keys_up_to_the_last = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    let run = [&b"\x00\x02\x00\x00\x00\x01"[..], keys_up_to_the_last].concat();
    assert_eq!(refused(&run), "the keys of a run exceed 64 bits");
    assert_eq!(
        refused(b"\x00\x01\x00\x00\x00\x00\x01\x00"),
        "a run has no groups or more than the table has columns"
    );
    assert_eq!(
        refused(b"\x00\x01\x00\x00\x00\x00\x01\x04"),
        "a run has no groups or more than the table has columns"
    );
    let group = |bytes: &[u8]| refused(&[&b"\x00\x05\x00\x00\x00\x00\x01\x01"[..], bytes].concat());
    assert_eq!(group(b"\x08"), "unknown group flags");
    assert_eq!(group(b"\x00\x00"), "a bitmap is empty, too long or ends in a zero byte");
    assert_eq!(group(b"\x00\x02\x01\x00"), "a bitmap is empty, too long or ends in a zero byte");
    assert_eq!(group(b"\x00\x01\x08"), "a group names a column that is not in the header");
    assert_eq!(group(b"\x01\x01\x06\x01\x04"), "a group has a column outside its rank");
    assert_eq!(group(b"\x00\x01\x02\x01\x01"), "a group names a site that is not in the header");
    let max = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    let steps = [&b"\x04\x01\x02\x01\x00\x01\x00"[..], max].concat();
    assert_eq!(group(&steps), "the clocks of a run exceed 63 bits");
    assert_eq!(group(b"\x00\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "a clock exceeds 63 bits");
    assert_eq!(group(b"\x00\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "a varint exceeds 64 bits");
    assert_eq!(group(b"\x00\x01\x02\x81\x00"), "a varint is longer than it needs to be");
    let twice = b"\x00\x01\x00\x00\x00\x00\x01\x02\x00\x01\x02\x01\x00\x01\x00\x00\x01\x06\x01\x00\x01\x00";
    assert_eq!(refused(twice), "a column is in two groups");
    let value = |bytes: &[u8]| {
        refused(&[&b"\x00\x01\x00\x00\x00\x00\x01\x01\x00\x01\x02\x01\x00\x01\x00\x00"[..], bytes].concat())
    };
    assert_eq!(value(b"\x06"), "unknown value tag");
    assert_eq!(value(b"\x02\0\0\0\0\0\0\xf8\x7f"), "a real is not a number");
    assert_eq!(value(b"\x02\0\0"), "the payload ends too early");
}

#[test]
fn a_few_bytes_cannot_announce_rows_without_end() {
    let run = |rows: u64| {
        [&[0][..], &(rows as u32).to_le_bytes(), b"\x01\x00\x02\x01\x00\x01\x01\x02\x00\x01\x00"].concat()
    };
    let refused = reason(with_runs(&run(IMPLIED_ROWS_MAX + 1)));
    assert_eq!(refused, "more than 16,777,216 rows take no bytes");
    let (payload, runs_at) = sample_payload();
    let bytes = plain(&[&payload[..runs_at], &run(IMPLIED_ROWS_MAX), &run(1)].concat());
    let changeset = Changeset::open(&bytes, &Limits::default()).unwrap();
    let mut reader = changeset.reader();
    reader.next_run().unwrap().unwrap();
    assert_eq!(reason(reader.next_run().unwrap_err()), refused);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
        walk(&bytes);
        walk(&[&MAGIC[..], &[FORMAT], &bytes].concat());
        walk(&plain(&bytes));
    }

    #[test]
    fn arbitrary_runs_are_survived(runs in vec(any::<u8>(), 0..300), small in vec(0u8..6, 0..60)) {
        let (payload, runs_at) = sample_payload();
        walk(&plain(&[&payload[..runs_at], &runs].concat()));
        // Small bytes get further: indices, flags and counts are in range.
        walk(&plain(&[&payload[..runs_at], &[0, 1, 0, 0, 0], &small, &runs].concat()));
    }

    #[test]
    fn arbitrary_blocks_are_survived(block in vec(any::<u8>(), 0..300), raw_len in 0u64..70_000) {
        walk(&sealed(1, raw_len, &block));
    }
}

#[test]
fn a_payload_with_another_header_has_no_bare_form() {
    let site = crate::ids::SiteId([1; 16]);
    for payload in [&b"\x01\x90"[..], b"\x02\x95\xcc", b"\x02\x95\x00", b"\x09", b""] {
        assert_eq!(crate::changeset::bare(&plain(payload), site), None, "{payload:?}");
    }
}

#[test]
fn a_bitmap_longer_than_any_table_is_refused() {
    let (payload, runs_at) = sample_payload();
    let mut runs = payload[runs_at..].to_vec();
    // The first group's bitmap: one byte, columns 1 and 2.
    let at = runs.windows(2).position(|pair| pair == [1, 0b110]).expect("it is there");
    let mut long = Vec::new();
    varint::push(&mut long, 70_000);
    long.resize(long.len() + 70_000, 1);
    runs.splice(at..at + 2, long);
    assert_eq!(reason(with_runs(&runs)), "a bitmap is empty, too long or ends in a zero byte");
}
