//! Fractional keys: texts that leave room between any two of them, for a user-defined order of rows.
//!
//! A key is an integer part and a fraction, both of digits in base 95: the printable ASCII characters, space
//! being 0. The first character of the integer part gives its sign and length: `a` to `z` are the non-negative
//! ones of 2 to 27 characters, `Z` down to `A` the negative ones of 2 to 27. So keys sort as their bytes do. A
//! fraction never ends with a space, or there would be keys with nothing between them. `'a '` is zero.
//!
//! Appending and prepending count the integer part up and down, so a key grows by a character in 95, 95^2, ...
//! steps; inserting between two halves the fraction. Pure: it knows no table. [`site`] adds a site to a key.

pub mod site;

/// Why there is no key between two others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FractionError {
    /// The keys are equal or in the wrong order.
    #[error("key_between - a must be before b: {after:?} is not before {before:?}")]
    NotBefore {
        /// The lower key.
        after: String,
        /// The upper key.
        before: String,
    },
    /// The first character says nothing about the integer part.
    #[error("head is out of range: the key {0:?} must begin with a letter from a to z or A to Z")]
    Head(String),
    /// The integer part is cut off.
    #[error("integer part of key is too long: {0:?} has fewer characters than its first one announces")]
    IntegerPart(String),
    /// The key is the lowest that could be, so nothing could ever be put before it.
    #[error("Key is too small: nothing sorts before {0:?}")]
    TooSmall(String),
    /// The fraction ends with the digit zero.
    #[error("Fractional part should not end with ' ' (space), as that of {0:?} does")]
    TrailingZero(String),
    /// A character is no digit.
    #[error("the key {0:?} has a character that is not printable ASCII")]
    Digit(String),
}

const ZERO: u8 = b' ';
const TOP: u8 = b'~';
const BASE: usize = 95;
/// The key of the first row.
const FIRST: &str = "a ";

/// A key that sorts after `after` and before `before`; `None` stands for the beginning and the end.
///
/// ```
/// use crsql::functions::fraction::key_between;
/// let first = key_between(None, None)?;
/// let last = key_between(Some(&first), None)?;
/// assert_eq!(key_between(Some(&first), Some(&last))?, "a P");
/// # Ok::<(), crsql::functions::fraction::FractionError>(())
/// ```
pub fn key_between(after: Option<&str>, before: Option<&str>) -> Result<String, FractionError> {
    if let (Some(after), Some(before)) = (after, before)
        && after >= before
    {
        return Err(FractionError::NotBefore { after: after.to_owned(), before: before.to_owned() });
    }
    let after = after.map(Key::parse).transpose()?;
    let before = before.map(Key::parse).transpose()?;
    let bytes = match (after, before) {
        (None, None) => FIRST.as_bytes().to_vec(),
        (None, Some(before)) => below(&before),
        (Some(after), None) => above(&after),
        (Some(after), Some(before)) => between(&after, &before),
    };
    // Every byte is a digit or a letter, all of them ASCII.
    Ok(bytes.into_iter().map(char::from).collect())
}

struct Key<'a> {
    integer: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Key<'a> {
    fn parse(key: &'a str) -> Result<Key<'a>, FractionError> {
        let bytes = key.as_bytes();
        let head = *bytes.first().ok_or_else(|| FractionError::Head(key.to_owned()))?;
        let len = integer_len(head).ok_or_else(|| FractionError::Head(key.to_owned()))?;
        if !bytes.iter().all(|b| (ZERO..=TOP).contains(b)) {
            return Err(FractionError::Digit(key.to_owned()));
        }
        let Some((integer, fraction)) = bytes.split_at_checked(len) else {
            return Err(FractionError::IntegerPart(key.to_owned()));
        };
        if fraction.last() == Some(&ZERO) {
            return Err(FractionError::TrailingZero(key.to_owned()));
        }
        if fraction.is_empty() && is_lowest(integer) {
            return Err(FractionError::TooSmall(key.to_owned()));
        }
        Ok(Key { integer, fraction })
    }

    fn is_after(&self, integer: &[u8]) -> bool {
        integer < self.integer || (integer == self.integer && !self.fraction.is_empty())
    }
}

/// The length of an integer part, its first character included.
fn integer_len(head: u8) -> Option<usize> {
    match head {
        b'a'..=b'z' => Some(usize::from(head - b'a') + 2),
        b'A'..=b'Z' => Some(usize::from(b'Z' - head) + 2),
        _ => None,
    }
}

fn is_lowest(integer: &[u8]) -> bool {
    integer.first() == Some(&b'A') && integer[1..].iter().all(|b| *b == ZERO)
}

fn below(key: &Key<'_>) -> Vec<u8> {
    if is_lowest(key.integer) {
        return joined(key.integer, &midpoint(b"", Some(key.fraction)));
    }
    if !key.fraction.is_empty() {
        return key.integer.to_vec();
    }
    // Only the lowest integer has none below it, and that was the first case.
    let integer = decremented(key.integer).unwrap_or_else(|| key.integer.to_vec());
    // The lowest integer alone is not a key.
    if is_lowest(&integer) { joined(&integer, &midpoint(b"", None)) } else { integer }
}

fn above(key: &Key<'_>) -> Vec<u8> {
    incremented(key.integer).unwrap_or_else(|| joined(key.integer, &midpoint(key.fraction, None)))
}

fn between(after: &Key<'_>, before: &Key<'_>) -> Vec<u8> {
    if after.integer == before.integer {
        return joined(after.integer, &midpoint(after.fraction, Some(before.fraction)));
    }
    match incremented(after.integer) {
        Some(integer) if before.is_after(&integer) => integer,
        _ => joined(after.integer, &midpoint(after.fraction, None)),
    }
}

fn joined(integer: &[u8], fraction: &[u8]) -> Vec<u8> {
    [integer, fraction].concat()
}

/// A fraction strictly between two, `None` being 1. `low < high`, and neither ends with a zero digit. A loop,
/// because a user's keys are as long as they like.
fn midpoint(mut low: &[u8], mut high: Option<&[u8]>) -> Vec<u8> {
    let mut result = Vec::with_capacity(low.len() + 1);
    loop {
        let low_digit = low.first().map_or(0, |b| usize::from(b - ZERO));
        // An exhausted `high` can't happen, as it is greater; reading it as 1 ends the loop all the same.
        let high_digit = high.and_then(|h| h.first()).map_or(BASE, |b| usize::from(b - ZERO));
        let rest = low.get(1..).unwrap_or(b"");
        if low_digit == high_digit {
            result.push(digit(low_digit));
            (low, high) = (rest, high.and_then(|h| h.get(1..)));
        } else if high_digit - low_digit > 1 {
            result.push(digit((low_digit + high_digit).div_ceil(2)));
            return result;
        } else if high.is_some_and(|h| h.len() > 1) {
            // `high` goes on, so its first digit alone is below it.
            result.push(digit(high_digit));
            return result;
        } else {
            result.push(digit(low_digit));
            (low, high) = (rest, None);
        }
    }
}

fn digit(value: usize) -> u8 {
    ZERO + value.min(BASE - 1) as u8
}

/// The next integer part; `None` after the highest.
fn incremented(integer: &[u8]) -> Option<Vec<u8>> {
    let mut next = integer.to_vec();
    for byte in next[1..].iter_mut().rev() {
        if *byte != TOP {
            *byte += 1;
            return Some(next);
        }
        *byte = ZERO;
    }
    match next[0] {
        b'z' => None,
        b'Z' => Some(FIRST.as_bytes().to_vec()),
        head => {
            next[0] = head + 1;
            next.resize(integer_len(next[0])?, ZERO);
            Some(next)
        }
    }
}

/// The previous integer part; `None` before the lowest.
fn decremented(integer: &[u8]) -> Option<Vec<u8>> {
    let mut next = integer.to_vec();
    for byte in next[1..].iter_mut().rev() {
        if *byte != ZERO {
            *byte -= 1;
            return Some(next);
        }
        *byte = TOP;
    }
    match next[0] {
        b'A' => None,
        b'a' => Some(vec![b'Z', TOP]),
        head => {
            next[0] = head - 1;
            next.resize(integer_len(next[0])?, TOP);
            Some(next)
        }
    }
}

#[cfg(test)]
mod tests;
