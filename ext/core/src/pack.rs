//! cr-sqlite's packing of column values, byte for byte: how keys travel and how they are compared.
//!
//! ```text
//! packed  = count:u8 value*
//! value   = tag:u8 payload          tag = n << 3 | type
//! INTEGER   type 1, n payload bytes, big-endian, unsigned, as few as hold it (0 takes none, negatives eight)
//! REAL      type 2, n = 0, eight bytes IEEE 754 big-endian
//! TEXT      type 3, n bytes of length as INTEGER's payload, then the bytes
//! BLOB      type 4, like TEXT
//! NULL      type 5, n = 0
//! ```
//!
//! A tuple has exactly one encoding, and [`unpack`] accepts no other: a length with a leading zero, a tag with a
//! stray `n`, or a byte after the last value is an error, so equal keys are equal bytes.

use crate::limits::PACKED_VALUES_MAX;
use crate::value::ValueRef;

const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;
const NULL: u8 = 5;

/// Why values could not be packed, or bytes are not a packed tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The count is one byte.
    #[error("cannot pack {0} values: at most 255 fit")]
    TooManyValues(usize),
    /// No count byte.
    #[error("packed values are empty: at least the count byte is needed")]
    Empty,
    /// A value needs more bytes than there are.
    #[error("packed values end in the middle of value {index}")]
    Truncated {
        /// Which value, from 0.
        index: usize,
    },
    /// A type that does not exist.
    #[error("packed value {index} has the unknown tag {tag:#04x}")]
    UnknownTag {
        /// Which value, from 0.
        index: usize,
        /// The tag byte.
        tag: u8,
    },
    /// The same value has a shorter encoding, the only one accepted.
    #[error("packed value {index} is not in its shortest form")]
    NotShortest {
        /// Which value, from 0.
        index: usize,
    },
    /// Bytes after the last value.
    #[error("{0} bytes follow the last packed value")]
    TrailingBytes(usize),
}

/// Appends one value, without a count.
pub fn pack_value(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => out.push(NULL),
        ValueRef::Integer(integer) => pack_unsigned(integer as u64, INTEGER, out),
        ValueRef::Real(real) => {
            out.push(REAL);
            out.extend_from_slice(&real.to_bits().to_be_bytes());
        }
        ValueRef::Text(bytes) => pack_bytes(bytes, TEXT, out),
        ValueRef::Blob(bytes) => pack_bytes(bytes, BLOB, out),
    }
}

fn pack_bytes(bytes: &[u8], kind: u8, out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 9);
    pack_unsigned(bytes.len() as u64, kind, out);
    out.extend_from_slice(bytes);
}

fn pack_unsigned(number: u64, kind: u8, out: &mut Vec<u8>) {
    let n = 8 - number.leading_zeros() as usize / 8;
    out.push((n as u8) << 3 | kind);
    out.extend_from_slice(&number.to_be_bytes()[8 - n..]);
}

/// Packs a tuple.
///
/// ```
/// # use crsql_core::{pack::{pack, unpack}, value::ValueRef};
/// let bytes = pack(&[ValueRef::Integer(1), ValueRef::Text(b"a"), ValueRef::Null]).unwrap();
/// assert_eq!(bytes, [3, 0x09, 1, 0x0b, 1, b'a', 5]);
/// assert_eq!(unpack(&bytes).unwrap().len(), 3);
/// ```
pub fn pack(values: &[ValueRef<'_>]) -> Result<Vec<u8>, PackError> {
    let mut bytes = Vec::new();
    let mut packer = Packer::new(&mut bytes);
    values.iter().try_for_each(|value| packer.push(*value))?;
    Ok(bytes)
}

/// Appends one tuple to bytes that may already hold others, value by value.
pub struct Packer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Packer<'a> {
    /// Begins a tuple of no values at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Packer<'a> {
        let start = out.len();
        out.push(0);
        Packer { out, start }
    }

    /// Appends a value. An error leaves the tuple as it was.
    pub fn push(&mut self, value: ValueRef<'_>) -> Result<(), PackError> {
        let count = &mut self.out[self.start];
        *count = count.checked_add(1).ok_or(PackError::TooManyValues(PACKED_VALUES_MAX + 1))?;
        pack_value(value, self.out);
        Ok(())
    }
}

/// Reads a packed tuple; the values borrow from `bytes`.
pub fn unpack(bytes: &[u8]) -> Result<Vec<ValueRef<'_>>, PackError> {
    let mut values = Vec::new();
    unpack_into(bytes, &mut values)?;
    Ok(values)
}

/// [`unpack`] into a vector that is reused from row to row; it is cleared first.
pub fn unpack_into<'a>(bytes: &'a [u8], values: &mut Vec<ValueRef<'a>>) -> Result<(), PackError> {
    values.clear();
    let (&count, mut rest) = bytes.split_first().ok_or(PackError::Empty)?;
    for index in 0..count as usize {
        let (value, tail) = split_value(rest).map_err(|defect| defect.at(index))?;
        values.push(value);
        rest = tail;
    }
    if rest.is_empty() { Ok(()) } else { Err(PackError::TrailingBytes(rest.len())) }
}

/// What is wrong with a value, before it is known which one it is.
enum Defect {
    Truncated,
    UnknownTag(u8),
    NotShortest,
}

impl Defect {
    fn at(self, index: usize) -> PackError {
        match self {
            Defect::Truncated => PackError::Truncated { index },
            Defect::UnknownTag(tag) => PackError::UnknownTag { index, tag },
            Defect::NotShortest => PackError::NotShortest { index },
        }
    }
}

/// The value at the beginning of `bytes`, as [`pack_value`] wrote it, and what follows.
pub fn unpack_value(bytes: &[u8]) -> Result<(ValueRef<'_>, &[u8]), PackError> {
    split_value(bytes).map_err(|defect| defect.at(0))
}

fn split_value(bytes: &[u8]) -> Result<(ValueRef<'_>, &[u8]), Defect> {
    let (&tag, rest) = bytes.split_first().ok_or(Defect::Truncated)?;
    let n = (tag >> 3) as usize;
    match (tag & 7, n) {
        (INTEGER, 0..=8) => {
            let (number, rest) = unpack_unsigned(rest, n)?;
            Ok((ValueRef::Integer(number as i64), rest))
        }
        (REAL, 0) => {
            let (bits, rest) = rest.split_first_chunk::<8>().ok_or(Defect::Truncated)?;
            Ok((ValueRef::Real(f64::from_bits(u64::from_be_bytes(*bits))), rest))
        }
        (TEXT, 0..=8) => unpack_bytes(rest, n).map(|(bytes, rest)| (ValueRef::Text(bytes), rest)),
        (BLOB, 0..=8) => unpack_bytes(rest, n).map(|(bytes, rest)| (ValueRef::Blob(bytes), rest)),
        (NULL, 0) => Ok((ValueRef::Null, rest)),
        _ => Err(Defect::UnknownTag(tag)),
    }
}

fn unpack_bytes(bytes: &[u8], n: usize) -> Result<(&[u8], &[u8]), Defect> {
    let (len, rest) = unpack_unsigned(bytes, n)?;
    let len = usize::try_from(len).map_err(|_| Defect::Truncated)?;
    rest.split_at_checked(len).ok_or(Defect::Truncated)
}

fn unpack_unsigned(bytes: &[u8], n: usize) -> Result<(u64, &[u8]), Defect> {
    let (payload, rest) = bytes.split_at_checked(n).ok_or(Defect::Truncated)?;
    if payload.first() == Some(&0) {
        return Err(Defect::NotShortest);
    }
    Ok((payload.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn assert_packs(values: &[Value], expected: &str) {
        let refs: Vec<_> = values.iter().map(Value::as_ref).collect();
        let packed = pack(&refs).unwrap();
        assert_eq!(packed, hex(expected), "{values:?}");
        let back: Vec<_> = unpack(&packed).unwrap().iter().map(ValueRef::to_owned_value).collect();
        assert_eq!(back, values);
    }

    #[test]
    fn integers_take_the_bytes_cr_sqlite_gives_them() {
        for (integer, expected) in [
            (0, "0101"),
            (1, "010901"),
            (127, "01097F"),
            (128, "010980"),
            (255, "0109FF"),
            (256, "01110100"),
            (65535, "0111FFFF"),
            (65536, "0119010000"),
            (16_777_216, "012101000000"),
            (2_147_483_648, "012180000000"),
            (4_294_967_296, "01290100000000"),
            ((1 << 56) - 1, "0139FFFFFFFFFFFFFF"),
            (1 << 56, "01410100000000000000"),
            (i64::MAX, "01417FFFFFFFFFFFFFFF"),
            (-1, "0141FFFFFFFFFFFFFFFF"),
            (-128, "0141FFFFFFFFFFFFFF80"),
        ] {
            assert_packs(&[Value::Integer(integer)], expected);
        }
    }

    #[test]
    fn the_other_classes_take_the_bytes_cr_sqlite_gives_them() {
        assert_packs(&[Value::Real(1.0)], "01023FF0000000000000");
        assert_packs(&[Value::Real(-0.0)], "01028000000000000000");
        assert_packs(&[Value::text("")], "0103");
        assert_packs(&[Value::text("abc")], "010B03616263");
        assert_packs(&[Value::text("é")], "010B02C3A9");
        assert_packs(&[Value::text("x\0y")], "010B03780079");
        assert_packs(&[Value::Blob(vec![])], "0104");
        assert_packs(&[Value::Blob(vec![0, 255])], "010C0200FF");
        assert_packs(&[Value::Null], "0105");
        assert_packs(&[Value::Integer(1), Value::text("a"), Value::Null], "0309010B016105");
        assert_packs(&[], "00");
        assert!(pack(&[ValueRef::Text(&[b'a'; 70_000])]).unwrap().starts_with(&hex("011B011170")));
        assert!(pack(&[ValueRef::Blob(&[0; 300])]).unwrap().starts_with(&hex("0114012C")));
    }

    #[test]
    fn the_count_is_one_byte() {
        assert_eq!(pack(&[ValueRef::Null; 255]).unwrap()[0], 255);
        assert_eq!(unpack(&pack(&[ValueRef::Null; 255]).unwrap()).unwrap().len(), 255);
        assert_eq!(pack(&[ValueRef::Null; 256]), Err(PackError::TooManyValues(256)));
    }

    #[test]
    fn a_packer_appends_to_what_is_there() {
        let mut bytes = vec![9, 9];
        let mut packer = Packer::new(&mut bytes);
        packer.push(ValueRef::Integer(1)).unwrap();
        packer.push(ValueRef::Null).unwrap();
        assert_eq!(bytes, [9, 9, 2, 9, 1, 5]);
    }

    #[test]
    fn only_the_one_encoding_is_accepted() {
        for (bytes, expected) in [
            ("", PackError::Empty),
            ("01", PackError::Truncated { index: 0 }),
            ("020109", PackError::Truncated { index: 1 }),
            ("010200", PackError::Truncated { index: 0 }),
            ("010B", PackError::Truncated { index: 0 }),
            ("010B0261", PackError::Truncated { index: 0 }),
            ("0143FFFFFFFFFFFFFFFF", PackError::Truncated { index: 0 }),
            ("0100", PackError::UnknownTag { index: 0, tag: 0 }),
            ("0106", PackError::UnknownTag { index: 0, tag: 6 }),
            ("010F00", PackError::UnknownTag { index: 0, tag: 15 }),
            ("0149010101010101010101", PackError::UnknownTag { index: 0, tag: 0x49 }),
            ("014B010101010101010101", PackError::UnknownTag { index: 0, tag: 0x4b }),
            ("010A3FF0000000000000", PackError::UnknownTag { index: 0, tag: 10 }),
            ("010D01", PackError::UnknownTag { index: 0, tag: 13 }),
            ("010900", PackError::NotShortest { index: 0 }),
            ("01110001", PackError::NotShortest { index: 0 }),
            ("0205130003616263", PackError::NotShortest { index: 1 }),
            ("0000", PackError::TrailingBytes(1)),
            ("01010101", PackError::TrailingBytes(2)),
        ] {
            assert_eq!(unpack(&hex(bytes)).unwrap_err(), expected, "{bytes}");
        }
        assert!(PackError::UnknownTag { index: 3, tag: 6 }.to_string().contains("0x06"));
    }
}
