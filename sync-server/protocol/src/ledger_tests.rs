use crsql_core::limits::SITE_VERSION_STEP_MAX;

use super::*;
use crate::wire::Blob;

const A: SiteId = SiteId([1; 16]);

fn frame(site_version: u64, seq_lo: u64, seq_hi: u64, last_seq: u64) -> Frame {
    let body = Blob(vec![seq_lo as u8; 10]);
    Frame { site: A, site_version, seq_lo, seq_hi, last_seq, chain: Chain([9; 16]), codec: 0, body }
}

fn ledger() -> Ledger {
    let limits = Limits {
        partials_per_site: 2,
        staged_bytes_per_site: 500,
        tx_bytes: 400,
        site_version_step: SITE_VERSION_STEP_MAX,
        ..Limits::default()
    };
    Ledger::new(limits)
}

#[test]
fn only_what_changed_the_set_is_passed_on() {
    let mut ledger = ledger();
    assert_eq!(ledger.record(0, &frame(1, 0, 3, 3), None), Ok(Recorded::Whole(vec![frame(1, 0, 3, 3)])));
    assert_eq!(ledger.record(0, &frame(1, 0, 3, 3), None), Ok(Recorded::Known));
    assert_eq!(ledger.record(0, &frame(1, 1, 2, 3), None), Ok(Recorded::Known));
}

#[test]
fn chunks_are_held_back_until_the_version_is_whole() {
    let mut ledger = ledger();
    assert_eq!(ledger.record(0, &frame(5, 6, 9, 9), None), Ok(Recorded::Part));
    assert_eq!(ledger.record(0, &frame(5, 0, 2, 9), None), Ok(Recorded::Part));
    assert_eq!(ledger.record(0, &frame(5, 7, 8, 9), None), Ok(Recorded::Known));
    assert!(!ledger.whole().contains(A, 5) && ledger.stage().len() == 1);
    assert_eq!(ledger.holdings().partial[&(A, 5)].lacking().iter().collect::<Vec<_>>(), [(3, 5)]);
    let Ok(Recorded::Whole(frames)) = ledger.record(0, &frame(5, 2, 6, 9), None) else { panic!() };
    assert_eq!(frames.iter().map(|f| (f.seq_lo, f.seq_hi)).collect::<Vec<_>>(), [(0, 2), (2, 6), (6, 9)]);
    assert!(ledger.whole().contains(A, 5) && ledger.stage().is_empty() && ledger.stage().bytes() == 0);
}

#[test]
fn another_history_is_refused() {
    let mut ledger = ledger();
    ledger.record(0, &frame(1, 0, 0, 0), None).unwrap();
    ledger.record(0, &frame(2, 0, 0, 0), None).unwrap();
    let forked = |version| Frame { chain: Chain([8; 16]), ..frame(version, 0, 0, 0) };
    assert_eq!(ledger.record(0, &forked(2), None), Err(Code::FORKED));
    assert_eq!(ledger.record(0, &forked(1), Some(Chain([9; 16]))), Err(Code::FORKED));
    ledger.record(0, &frame(3, 0, 0, 2), None).unwrap();
    assert_eq!(ledger.record(0, &frame(3, 1, 1, 3), None), Err(Code::CONTRADICTION));
    // Of two incomplete histories the later one replaces the earlier.
    let chunk = Frame { seq_lo: 1, seq_hi: 2, last_seq: 2, ..forked(3) };
    assert_eq!(ledger.record(0, &chunk, None), Ok(Recorded::Part));
    assert_eq!(ledger.holdings().partial[&(A, 3)].lacking().iter().collect::<Vec<_>>(), [(0, 0)]);
    let head = |version, chain| Head { version, chain: Chain([chain; 16]) };
    assert_eq!(ledger.ancestry(A, head(2, 9), None), Ancestry::Same);
    assert_eq!(ledger.ancestry(A, head(2, 8), None), Ancestry::Fork);
    assert_eq!(ledger.ancestry(A, head(7, 8), None), Ancestry::Unknown);
    assert_eq!(ledger.ancestry(A, Head::default(), None), Ancestry::Same);
}

#[test]
fn absurd_frames_are_refused_one_by_one() {
    let mut ledger = ledger();
    for version in [0, SITE_VERSION_MAX + 1, u64::MAX] {
        assert_eq!(ledger.record(0, &frame(version, 0, 0, 0), None), Err(Code::CLOCK));
    }
    for (lo, hi, last) in [(2, 1, 3), (0, 4, 3), (0, SEQ_MAX + 1, SEQ_MAX + 1), (u64::MAX, 0, 0)] {
        assert_eq!(ledger.record(0, &frame(1, lo, hi, last), None), Err(Code::SEQ_RANGE));
    }
    assert_eq!(ledger.record(0, &Frame { codec: 7, ..frame(1, 0, 0, 0) }, None), Err(Code::CODEC));
    ledger.record(0, &frame(10, 0, 0, 0), None).unwrap();
    assert_eq!(ledger.record(0, &frame(11 + SITE_VERSION_STEP_MAX, 0, 0, 0), None), Err(Code::CLOCK));
    assert!(ledger.record(0, &frame(10 + SITE_VERSION_STEP_MAX, 0, 0, 0), None).is_ok());
}

#[test]
fn the_stage_is_bounded_in_versions_bytes_and_time() {
    let mut ledger = ledger();
    ledger.record(0, &frame(1, 0, 0, 99), None).unwrap();
    ledger.record(5, &frame(2, 0, 0, 99), None).unwrap();
    assert_eq!(ledger.record(5, &frame(3, 0, 0, 99), None), Err(Code::QUOTA));
    let mut seq = 1;
    let refused = loop {
        match ledger.record(6, &frame(1, seq, seq, 99), None) {
            Ok(_) => seq += 1,
            Err(code) => break code,
        }
    };
    assert_eq!((refused, ledger.stage().bytes() <= 500), (Code::TX_TOO_LARGE, true));
    let ttl = Limits::default().stage_ttl_ms;
    assert_eq!(ledger.expire(ttl + 5), [(A, 2)]);
    assert_eq!(ledger.expire(ttl + 6), [(A, 1)]);
    assert!(ledger.stage().is_empty() && ledger.stage().bytes() == 0);
    assert_eq!(ledger.gaps().whole.ranges().collect::<Vec<_>>(), [(A, 1, 2)], "to be asked for");
}

#[test]
fn the_stage_is_bounded_over_all_sites() {
    let mut ledger = Ledger::new(Limits { staged_bytes: 600, ..Limits::default() });
    let of = |site: u8| Frame { site: SiteId([site; 16]), ..frame(1, 0, 0, 99) };
    let refused = (1..100).find_map(|site| ledger.record(0, &of(site), None).err());
    assert_eq!((refused, ledger.stage().bytes() <= 600), (Some(Code::QUOTA), true));
}

#[test]
fn a_claim_ends_the_wait_for_chunks() {
    let mut ledger = ledger();
    ledger.record(0, &frame(2, 0, 0, 9), None).unwrap();
    let mut claims = VersionVector::default();
    claims.insert_range(A, 1, 3);
    let chains = [ChainAt { site: A, version: 3, chain: Chain([7; 16]) }];
    assert_eq!(ledger.claim(&claims, &chains), claims);
    assert!(ledger.claim(&claims, &[]).is_empty() && ledger.stage().is_empty());
    assert_eq!(ledger.head(A), Head { version: 3, chain: Chain([7; 16]) });
}
