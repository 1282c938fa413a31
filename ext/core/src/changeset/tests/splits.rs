use super::super::{Changeset, Order, split, write_changes};
use crate::change::{Change, Fact};
use crate::ids::SiteId;
use crate::merge::{Stamp, TieBreak};
use crate::value::Value;
use crate::version_vector::VersionVector;

const SITE: SiteId = SiteId([7; 16]);

fn cell(id: u8, column: &str, seq: u64) -> Change {
    Change {
        table: "todo".into(),
        pk: vec![1, 9, id],
        fact: Fact::Cell { column: column.into(), col_version: 1, value: Value::Text(vec![b'x'; 100]) },
        cl: 1,
        stamp: Stamp { site: SITE, version: 3, seq },
    }
}

fn claims() -> VersionVector {
    let mut claims = VersionVector::default();
    claims.insert(SITE, 3);
    claims
}

fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(|change| change.stamp.seq);
    changes
}

#[test]
fn pieces_say_together_what_the_changeset_says() {
    let changes: Vec<_> = (0..50)
        .flat_map(|id| [cell(id, "a", 2 * u64::from(id)), cell(id, "b", 2 * u64::from(id) + 1)])
        .collect();
    let bytes = write_changes(TieBreak::Site, &changes, &claims());
    for order in [Order::AsGiven, Order::BySeq] {
        let pieces = split(&bytes, 1000, order, &claims()).unwrap();
        assert!(pieces.len() > 5, "{}", pieces.len());
        assert!(pieces.windows(2).all(|pair| pair[0].seq_max < pair[1].seq_min));
        let all: Vec<_> = pieces.iter().flat_map(|piece| Changeset::changes(&piece.bytes).unwrap()).collect();
        assert_eq!(all, changes);
        let claimed: Vec<_> = pieces
            .iter()
            .map(|piece| Changeset::open(&piece.bytes, &Default::default()).unwrap().claims().clone())
            .collect();
        assert!(claimed[..claimed.len() - 1].iter().all(VersionVector::is_empty));
        assert_eq!(claimed.last(), Some(&claims()));
    }
}

#[test]
fn rows_out_of_order_are_sorted_and_interleaved_ones_stay_together() {
    // Keys ascend, seqs do not; rows 0 and 1 are interleaved.
    let mut changes = vec![cell(0, "a", 90), cell(0, "b", 92), cell(1, "a", 91)];
    changes.extend((2..40).map(|id| cell(id, "a", 80 - u64::from(id))));
    let bytes = write_changes(TieBreak::Site, &changes, &VersionVector::default());
    let pieces = split(&bytes, 300, Order::BySeq, &VersionVector::default()).unwrap();
    assert!(
        pieces.len() > 5 && pieces.windows(2).all(|pair| pair[0].seq_max < pair[1].seq_min),
        "{pieces:?}"
    );
    let all = pieces.iter().flat_map(|piece| Changeset::changes(&piece.bytes).unwrap()).collect();
    assert_eq!(sorted(all), sorted(changes));
}

#[test]
fn nothing_is_one_piece() {
    let bytes = write_changes(TieBreak::Site, &[], &VersionVector::default());
    let pieces = split(&bytes, 300, Order::BySeq, &claims()).unwrap();
    assert_eq!((pieces.len(), pieces[0].seq_min, pieces[0].seq_max), (1, 0, 0));
    assert!(split(b"nonsense", 300, Order::AsGiven, &claims()).is_err());
}

#[test]
fn rows_with_integer_keys_are_split_as_well() {
    let bytes = super::sample(false);
    let pieces = split(&bytes, 1, Order::AsGiven, &claims()).unwrap();
    assert_eq!(pieces.len(), 6, "a piece for each row");
    let all: Vec<_> = pieces.iter().flat_map(|piece| Changeset::changes(&piece.bytes).unwrap()).collect();
    assert_eq!(all, Changeset::changes(&bytes).unwrap());
}

#[test]
fn long_changesets_are_compressed_where_a_piece_of_them_shrinks() {
    let text = |of: &mut dyn FnMut(usize) -> u8| Value::Blob((0..200_000).map(of).collect());
    let whole = |value: Value| {
        let fact = Fact::Cell { column: "a".into(), col_version: 1, value };
        write_changes(TieBreak::Site, &[Change { fact, ..cell(1, "a", 0) }], &VersionVector::default())
    };
    let mut state = 1_u64;
    let mut noise = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for (value, shrinks) in [(text(&mut |at| b"abcd"[at % 4]), true), (text(&mut noise), false)] {
        let bytes = whole(value);
        let pieces = split(&bytes, 1 << 20, Order::AsGiven, &VersionVector::default()).unwrap();
        assert_eq!(pieces[0].bytes.len() < 100_000, shrinks, "{} bytes", pieces[0].bytes.len());
    }
}
