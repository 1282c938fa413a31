//! The order and the bounds, case by case; the laws they add up to are in `tests/laws`.

use super::*;
use crate::limits::*;

fn stamp(site: u8, version: u64, seq: u64) -> Stamp {
    Stamp { site: SiteId([site; 16]), version, seq }
}

fn clock(col_version: u64, site: u8, version: u64, seq: u64) -> CellClock {
    CellClock { col_version, stamp: stamp(site, version, seq) }
}

const ZERO: ValueRef<'_> = ValueRef::Integer(0);
const ONE: ValueRef<'_> = ValueRef::Integer(1);

#[test]
fn greater_causal_lengths_are_newer_incarnations() {
    assert_eq!(incarnation(0, 1), Incarnation::Newer);
    assert_eq!(incarnation(2, 2), Incarnation::Same);
    assert_eq!(incarnation(3, 2), Incarnation::Older);
}

#[test]
fn the_clock_is_compared_part_by_part() {
    let ascending =
        [clock(1, 1, 9, 9), clock(2, 1, 0, 7), clock(2, 1, 1, 0), clock(2, 1, 1, 1), clock(2, 2, 0, 0)];
    for (i, local) in ascending.iter().enumerate() {
        for (j, remote) in ascending.iter().enumerate() {
            assert_eq!(cell_wins(Some(local), remote), j > i);
            assert_eq!(cell_wins_by_value(Some((local, ZERO)), (remote, ZERO), TieBreak::Site), j > i);
            assert_eq!(cell_wins_by_value(Some((local, ZERO)), (remote, ZERO), TieBreak::Value), j > i);
            assert_eq!(row_stamp_wins(Some(&local.stamp), &remote.stamp), remote.stamp > local.stamp);
        }
        assert!(cell_wins(None, local));
        assert!(cell_wins_by_value(None, (local, ZERO), TieBreak::Site));
        assert!(row_stamp_wins(None, &local.stamp));
    }
}

#[test]
fn the_mode_says_whether_site_or_value_comes_first() {
    let (low, high) = (clock(1, 1, 1, 0), clock(1, 2, 1, 0));
    assert!(cell_wins_by_value(Some((&low, ONE)), (&high, ZERO), TieBreak::Site));
    assert!(!cell_wins_by_value(Some((&low, ONE)), (&high, ZERO), TieBreak::Value));
    assert!(cell_wins_by_value(Some((&high, ZERO)), (&low, ONE), TieBreak::Value));
}

#[test]
fn values_are_the_last_resort() {
    let same = clock(1, 1, 1, 0);
    for tie in [TieBreak::Site, TieBreak::Value] {
        assert!(cell_wins_by_value(Some((&same, ZERO)), (&same, ONE), tie));
        assert!(!cell_wins_by_value(Some((&same, ONE)), (&same, ZERO), tie));
        assert!(!cell_wins_by_value(Some((&same, ONE)), (&same, ONE), tie));
        let zeros = [ValueRef::Real(0.0), ValueRef::Real(-0.0)];
        let wins = [0, 1].map(|i| cell_wins_by_value(Some((&same, zeros[i])), (&same, zeros[1 - i]), tie));
        assert_ne!(wins[0], wins[1]);
    }
    let row = stamp(1, 1, 0);
    assert!(row_wins_by_spelling(Some((&row, b"K")), (&row, b"k")));
    assert!(!row_wins_by_spelling(Some((&row, b"k")), (&row, b"K")));
    assert!(row_wins_by_spelling(None, (&row, b"k")));
}

#[test]
fn a_known_identity_replaces_an_unknown_one() {
    assert!(!stamp(1, 0, 3).has_identity());
    assert!(stamp(1, 4, 3).has_identity());
    assert!(row_stamp_wins(Some(&stamp(1, 0, 3)), &stamp(1, 4, 3)));
    assert!(cell_wins(Some(&clock(2, 1, 0, 3)), &clock(2, 1, 4, 3)));
}

#[test]
fn local_writes_move_the_causal_length() {
    for (cl, insert, update, delete) in [
        (0, Some(1), None, None),
        (1, Some(3), Some(1), Some(2)),
        (2, Some(3), None, None),
        (CAUSAL_LENGTH_MAX - 1, None, Some(CAUSAL_LENGTH_MAX - 1), Some(CAUSAL_LENGTH_MAX)),
        (CAUSAL_LENGTH_MAX, None, None, None),
        (u64::MAX, None, None, None),
        (u64::MAX - 1, None, None, None),
    ] {
        assert_eq!(next_causal_length(cl, LocalWrite::Insert), insert, "{cl}");
        assert_eq!(next_causal_length(cl, LocalWrite::Update), update, "{cl}");
        assert_eq!(next_causal_length(cl, LocalWrite::Delete), delete, "{cl}");
    }
    assert_eq!(next_col_version(0), Some(1));
    assert_eq!(next_col_version(COL_VERSION_MAX - 1), Some(COL_VERSION_MAX));
    assert_eq!(next_col_version(COL_VERSION_MAX), None);
}

const FINE: Clocks = Clocks { cl: 1, col_version: 1, version: 0, seq: 0 };

#[test]
fn clocks_inside_the_bounds_pass() {
    assert_eq!(validate(&FINE), Ok(()));
    let most = Clocks {
        cl: CAUSAL_LENGTH_MAX,
        col_version: COL_VERSION_MAX,
        version: SITE_VERSION_MAX,
        seq: SEQ_MAX,
    };
    assert_eq!(validate(&most), Ok(()));
    assert_eq!(Clocks::from_signed(1, 1, 0, 0), Ok(FINE));
}

#[test]
fn clocks_outside_name_the_clock_the_value_and_the_limit() {
    let refused = |clocks: Clocks| validate(&clocks).unwrap_err().to_string();
    assert_eq!(refused(Clocks { cl: 0, ..FINE }), "cl 0 is below 1");
    assert_eq!(refused(Clocks { col_version: 0, ..FINE }), "col_version 0 is below 1");
    assert_eq!(refused(Clocks { cl: 2_147_483_649, ..FINE }), "cl 2147483649 is beyond the limit 2147483648");
    assert!(refused(Clocks { col_version: COL_VERSION_MAX + 1, ..FINE }).starts_with("col_version"));
    assert!(refused(Clocks { version: SITE_VERSION_MAX + 1, ..FINE }).starts_with("site_version"));
    assert!(refused(Clocks { seq: u64::MAX, ..FINE }).starts_with("seq"));
    for signed in [(-1, 1, 0, 0), (1, -1, 0, 0), (1, 1, -1, 0), (1, 1, 0, i64::MIN)] {
        let refusal = Clocks::from_signed(signed.0, signed.1, signed.2, signed.3).unwrap_err();
        assert!(matches!(refusal, Refusal::TooSmall { value: ..0, .. }), "{refusal}");
    }
}

#[test]
fn a_row_change_carries_its_causal_length_twice() {
    assert_eq!(validate_row(&Clocks { cl: 3, col_version: 3, ..FINE }), Ok(()));
    let refusal = validate_row(&Clocks { cl: 3, col_version: 2, ..FINE }).unwrap_err();
    assert_eq!(refusal.to_string(), "col_version 2 of a row-existence change differs from its cl 3");
    assert!(validate_row(&Clocks { cl: 0, col_version: 0, ..FINE }).is_err());
}

#[test]
fn steps_are_measured_from_what_is_known() {
    let known = Clocks { cl: 3, col_version: 7, version: 10, seq: 0 };
    assert_eq!(validate_step(&known, &known), Ok(()));
    let step = |remote: Clocks| validate_step(&known, &remote).map_err(|refusal| refusal.to_string());
    assert!(step(Clocks { col_version: 7 + COL_VERSION_STEP_MAX, ..known }).is_ok());
    assert!(step(Clocks { col_version: 8 + COL_VERSION_STEP_MAX, ..known }).is_err());
    assert!(step(Clocks { cl: 5, col_version: 1 + COL_VERSION_STEP_MAX, ..known }).is_err());
    assert!(step(Clocks { cl: 3 + CAUSAL_LENGTH_STEP_MAX, ..known }).is_ok());
    assert!(step(Clocks { cl: 4 + CAUSAL_LENGTH_STEP_MAX, ..known }).is_err());
    let far = step(Clocks { version: 11 + SITE_VERSION_STEP_MAX, ..known }).unwrap_err();
    assert_eq!(far, "site_version 65547 is more than 65536 beyond the known 10");
    let first_contact = Clocks { version: 0, ..known };
    assert!(validate_step(&first_contact, &Clocks { version: SITE_VERSION_MAX, ..known }).is_ok());
}

#[test]
fn tie_breaks_have_codes() {
    for mode in [TieBreak::Site, TieBreak::Value] {
        assert_eq!(TieBreak::of_code(mode.code()), Some(mode));
    }
    assert_eq!(TieBreak::of_code(2), None);
}
