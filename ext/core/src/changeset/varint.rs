//! Unsigned LEB128: seven bits a byte, least significant first, the high bit set on all but the last byte.
//!
//! Only the shortest form is valid. Signed integers are zigzagged first.

/// Appends `value`.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        push_long(out, value);
    }
}

/// Appends `value` so that small magnitudes of either sign stay short.
#[inline]
pub(super) fn push_signed(out: &mut Vec<u8>, value: i64) {
    push(out, zigzag(value));
}

fn push_long(out: &mut Vec<u8>, mut value: u64) {
    let mut bytes = [0; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    out.extend_from_slice(&bytes[..=len]);
}

/// 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...
#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
