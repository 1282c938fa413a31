//! Reads primitives off the front of a payload. Every read is checked, and nothing is allocated here.

use super::error::{ChangesetError, Result};
use super::varint::unzigzag;

/// The unread part of a payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'p> {
    rest: &'p [u8],
    /// Length of the whole payload, to tell where an error is.
    len: usize,
}

impl<'p> Cursor<'p> {
    pub(super) fn new(payload: &'p [u8]) -> Self {
        Cursor { rest: payload, len: payload.len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The error that names this place.
    #[cold]
    pub(super) fn malformed(&self, reason: &'static str) -> ChangesetError {
        ChangesetError::Malformed { at: self.len - self.rest.len(), reason }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8> {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                Ok(byte)
            }
            None => Err(self.malformed("the payload ends too early")),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'p [u8]> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.malformed("the payload ends too early")),
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.malformed("the payload ends too early")),
        }
    }

    /// A length in bytes followed by that many bytes.
    #[inline]
    pub(super) fn sized(&mut self) -> Result<&'p [u8]> {
        let len = self.varint()?;
        // A length past the address space is past the payload too.
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                // Alone it would have been read above.
                if byte == 0 {
                    return Err(self.malformed("a varint is longer than it needs to be"));
                }
                if i == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        let reason =
            if self.rest.len() < 10 { "the payload ends too early" } else { "a varint exceeds 64 bits" };
        Err(self.malformed(reason))
    }

    #[inline]
    pub(super) fn signed(&mut self) -> Result<i64> {
        Ok(unzigzag(self.varint()?))
    }

    /// A varint that is used as an index or a count.
    pub(super) fn u32(&mut self, reason: &'static str) -> Result<u32> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.malformed(reason))
    }

    /// A varint that fits SQLite's integers, as every clock must.
    pub(super) fn clock(&mut self) -> Result<u64> {
        let value = self.varint()?;
        if value > i64::MAX as u64 {
            return Err(self.malformed("a clock exceeds 63 bits"));
        }
        Ok(value)
    }
}
