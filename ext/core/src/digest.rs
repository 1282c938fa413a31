//! A digest of everything a replica holds, kept up to date by addition and subtraction.
//!
//! Each record is hashed with blake3 and the hashes are summed modulo 2^256, so the order of records does not
//! matter and one record can be taken out or put in. Two replicas with equal digests hold the same cells, with the
//! same values and the same authors.
//!
//! ```text
//! record  = bytes(table) bytes(pk) cl:u64 (cell | row)
//! cell    = 0x01 bytes(column) col_version:u64 stamp value
//! row     = 0x02 (0x00 | 0x01 stamp)
//! stamp   = site:16 version:u64 seq:u64
//! bytes   = length:u32 then that many bytes
//! value   = as packed in a key
//! ```
//! Integers are little-endian, `pk` is the canonical key. A row has a row record when its causal length is 2 or
//! more or when a stamp of its existence is held; otherwise its cells say all there is. Tombstones that may have been
//! collected have none: see `collect::Collected::hides`.
//!
//! The sum detects accidents and honest bugs. It does not authenticate: whoever may write may craft rows.

use std::fmt;

use crate::merge::{CellClock, Stamp};
use crate::pack::pack_value;
use crate::value::ValueRef;

const CELL: u8 = 1;
const ROW: u8 = 2;

/// A sum of record hashes modulo 2^256, as little-endian bytes. The default is the sum of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Puts a record, or the digest of some, in.
    pub fn add(&mut self, other: &Digest) {
        self.combine(other, |a, b, carry| {
            let (sum, first) = a.overflowing_add(b);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (sum, first | second)
        });
    }

    /// Takes a record, or the digest of some, out.
    pub fn sub(&mut self, other: &Digest) {
        self.combine(other, |a, b, borrow| {
            let (difference, first) = a.overflowing_sub(b);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            (difference, first | second)
        });
    }

    /// 64 hexadecimal digits in the order of the bytes.
    pub fn hex(&self) -> String {
        self.to_string()
    }

    fn combine(&mut self, other: &Digest, limb: impl Fn(u64, u64, bool) -> (u64, bool)) {
        let mut carry = false;
        for (mine, theirs) in self.0.as_chunks_mut::<8>().0.iter_mut().zip(other.0.as_chunks::<8>().0) {
            let (result, out) = limb(u64::from_le_bytes(*mine), u64::from_le_bytes(*theirs), carry);
            *mine = result.to_le_bytes();
            carry = out;
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes the records of one row after the other with a buffer that is reused.
///
/// ```
/// # use crsql_core::{digest::*, ids::SiteId, merge::*, value::ValueRef};
/// let stamp = Stamp { site: SiteId([1; 16]), version: 1, seq: 0 };
/// let mut hasher = RecordHasher::default();
/// hasher.row("todo", &[1, 9, 1], 1);
/// let cell = hasher.cell("title", &CellClock { col_version: 1, stamp }, ValueRef::Text(b"milk"));
/// let mut sum = Digest::default();
/// sum.add(&cell);
/// sum.sub(&cell);
/// assert_eq!(sum, Digest::default());
/// ```
#[derive(Clone, Debug, Default)]
pub struct RecordHasher {
    buffer: Vec<u8>,
    prefix: usize,
}

impl RecordHasher {
    /// Turns to a row: its table, canonical packed key and causal length.
    pub fn row(&mut self, table: &str, pk: &[u8], cl: u64) {
        self.buffer.clear();
        self.bytes(table.as_bytes());
        self.bytes(pk);
        self.buffer.extend_from_slice(&cl.to_le_bytes());
        self.prefix = self.buffer.len();
    }

    /// The hash of one of the row's cells.
    pub fn cell(&mut self, column: &str, clock: &CellClock, value: ValueRef<'_>) -> Digest {
        self.buffer.truncate(self.prefix);
        self.buffer.push(CELL);
        self.bytes(column.as_bytes());
        self.buffer.extend_from_slice(&clock.col_version.to_le_bytes());
        self.stamp(&clock.stamp);
        pack_value(value, &mut self.buffer);
        self.finish()
    }

    /// The hash of the row's existence. Only of rows that have this record; see the module.
    pub fn existence(&mut self, stamp: Option<&Stamp>) -> Digest {
        self.buffer.truncate(self.prefix);
        self.buffer.extend_from_slice(&[ROW, u8::from(stamp.is_some())]);
        if let Some(stamp) = stamp {
            self.stamp(stamp);
        }
        self.finish()
    }

    fn stamp(&mut self, stamp: &Stamp) {
        self.buffer.extend_from_slice(&stamp.site.0);
        self.buffer.extend_from_slice(&stamp.version.to_le_bytes());
        self.buffer.extend_from_slice(&stamp.seq.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(bytes);
    }

    fn finish(&self) -> Digest {
        Digest(*blake3::hash(&self.buffer).as_bytes())
    }
}

/// Whether a row of this causal length and stamp has a row record.
pub fn has_row_record(cl: u64, stamp: Option<&Stamp>) -> bool {
    cl >= 2 || stamp.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SiteId;

    const STAMP: Stamp = Stamp { site: SiteId([1; 16]), version: 2, seq: 3 };
    const CLOCK: CellClock = CellClock { col_version: 4, stamp: STAMP };

    fn cell() -> Digest {
        let mut hasher = RecordHasher::default();
        hasher.row("t", &[1, 1], 1);
        hasher.cell("c", &CLOCK, ValueRef::Text(b"v"))
    }

    #[test]
    fn the_records_have_these_bytes() {
        let mut expected = Vec::new();
        expected.extend_from_slice(b"\x01\0\0\0t\x02\0\0\0\x01\x01\x01\0\0\0\0\0\0\0");
        let mut row = expected.clone();
        expected.extend_from_slice(b"\x01\x01\0\0\0c\x04\0\0\0\0\0\0\0");
        let stamp = [&[1; 16][..], b"\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"].concat();
        expected.extend_from_slice(&stamp);
        expected.extend_from_slice(b"\x0b\x01v");
        assert_eq!(cell().0, *blake3::hash(&expected).as_bytes());

        let mut hasher = RecordHasher::default();
        hasher.row("other", b"", 9);
        hasher.cell("x", &CLOCK, ValueRef::Null);
        hasher.row("t", &[1, 1], 1);
        let bare = hasher.existence(None);
        row.push(2);
        assert_eq!(bare.0, *blake3::hash(&[&row[..], &[0]].concat()).as_bytes());
        let stamped = hasher.existence(Some(&STAMP));
        assert_eq!(stamped.0, *blake3::hash(&[&row[..], &[1], &stamp].concat()).as_bytes());
    }

    #[test]
    fn sums_carry_and_come_back() {
        let mut sum = Digest([0xff; 32]);
        let mut one = Digest::default();
        one.0[0] = 1;
        sum.add(&one);
        assert_eq!(sum, Digest::default());
        sum.sub(&one);
        assert_eq!(sum, Digest([0xff; 32]));
        sum.add(&cell());
        sum.add(&one);
        assert_eq!(sum, cell());
        assert_eq!(one.hex(), format!("01{}", "00".repeat(31)));
    }

    #[test]
    fn every_part_of_a_cell_counts() {
        let hash = |table, pk: &[u8], cl, column, clock: CellClock, value| {
            let mut hasher = RecordHasher::default();
            hasher.row(table, pk, cl);
            hasher.cell(column, &clock, value)
        };
        let text = ValueRef::Text(b"v");
        let other_site = CellClock { stamp: Stamp { site: SiteId([2; 16]), ..STAMP }, ..CLOCK };
        let all = [
            cell(),
            hash("u", &[1, 1], 1, "c", CLOCK, text),
            hash("t", &[1, 5], 1, "c", CLOCK, text),
            hash("t", &[1, 1], 3, "c", CLOCK, text),
            hash("t", &[1, 1], 1, "d", CLOCK, text),
            hash("t", &[1, 1], 1, "c", CellClock { col_version: 5, ..CLOCK }, text),
            hash("t", &[1, 1], 1, "c", other_site, text),
            hash("t", &[1, 1], 1, "c", CellClock { stamp: Stamp { version: 9, ..STAMP }, ..CLOCK }, text),
            hash("t", &[1, 1], 1, "c", CellClock { stamp: Stamp { seq: 9, ..STAMP }, ..CLOCK }, text),
            hash("t", &[1, 1], 1, "c", CLOCK, ValueRef::Blob(b"v")),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn only_rows_with_a_history_have_a_row_record() {
        assert!(!has_row_record(1, None));
        assert!(has_row_record(1, Some(&STAMP)));
        assert!(has_row_record(2, None));
    }
}
