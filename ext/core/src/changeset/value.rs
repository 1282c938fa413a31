//! One cell's value: a tag byte, then what the tag calls for.
//!
//! | tag        | value                        | then                                   |
//! |------------|------------------------------|----------------------------------------|
//! | `00`       | NULL                         |                                        |
//! | `01`       | integer                      | zigzag varint                          |
//! | `02`       | real, not NaN                | IEEE 754 double, 8 bytes little endian |
//! | `03`       | text                         | varint length, bytes                   |
//! | `04`       | blob                         | varint length, bytes                   |
//! | `05`       | blob of 16 bytes             | 16 bytes                               |
//! | `06`..`0f` | reserved                     |                                        |
//! | `10`..`7f` | integer tag - 32: -16 to 95  |                                        |
//! | `80`..`ff` | text of tag - 128 bytes      | bytes                                  |
//!
//! A writer uses the shortest form; a reader takes any. Text is bytes: SQLite stores invalid UTF-8 as well.

use super::cursor::Cursor;
use super::error::Result;
use super::varint;
use crate::value::ValueRef;

const NULL: u8 = 0x00;
const INTEGER: u8 = 0x01;
const REAL: u8 = 0x02;
const TEXT: u8 = 0x03;
const BLOB: u8 = 0x04;
const BLOB_16: u8 = 0x05;
const SMALL_INTEGER_FIRST: u8 = 0x10;
const SMALL_INTEGER_LAST: u8 = 0x7f;
const SMALL_INTEGER_ZERO: i64 = 0x20;
const SHORT_TEXT: u8 = 0x80;
const SHORT_TEXT_LEN_MAX: usize = 0x7f;

/// Appends `value` in its shortest form.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value.storable() {
        ValueRef::Null => out.push(NULL),
        ValueRef::Integer(integer) => push_integer(out, integer),
        ValueRef::Real(real) => {
            let mut bytes = [REAL; 9];
            bytes[1..].copy_from_slice(&real.to_bits().to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        ValueRef::Text(text) if text.len() <= SHORT_TEXT_LEN_MAX => {
            out.push(SHORT_TEXT | text.len() as u8);
            out.extend_from_slice(text);
        }
        ValueRef::Text(text) => push_sized(out, TEXT, text),
        ValueRef::Blob(blob) if blob.len() == 16 => {
            out.push(BLOB_16);
            out.extend_from_slice(blob);
        }
        ValueRef::Blob(blob) => push_sized(out, BLOB, blob),
    }
}

#[inline]
fn push_integer(out: &mut Vec<u8>, integer: i64) {
    let tag = integer.wrapping_add(SMALL_INTEGER_ZERO);
    if (i64::from(SMALL_INTEGER_FIRST)..=i64::from(SMALL_INTEGER_LAST)).contains(&tag) {
        out.push(tag as u8);
    } else {
        out.push(INTEGER);
        varint::push_signed(out, integer);
    }
}

fn push_sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint::push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads one value; text and blobs borrow from the payload.
#[inline]
pub(super) fn read<'p>(cursor: &mut Cursor<'p>) -> Result<ValueRef<'p>> {
    let tag = cursor.byte()?;
    Ok(match tag {
        SHORT_TEXT.. => ValueRef::Text(cursor.take(usize::from(tag & !SHORT_TEXT))?),
        SMALL_INTEGER_FIRST.. => ValueRef::Integer(i64::from(tag) - SMALL_INTEGER_ZERO),
        NULL => ValueRef::Null,
        INTEGER => ValueRef::Integer(cursor.signed()?),
        REAL => {
            let real = f64::from_bits(u64::from_le_bytes(cursor.array()?));
            if real.is_nan() {
                return Err(cursor.malformed("a real is not a number"));
            }
            ValueRef::Real(real)
        }
        TEXT => ValueRef::Text(cursor.sized()?),
        BLOB => ValueRef::Blob(cursor.sized()?),
        BLOB_16 => ValueRef::Blob(cursor.take(16)?),
        _ => return Err(cursor.malformed("unknown value tag")),
    })
}
