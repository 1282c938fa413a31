//! The outside of a changeset: magic, format, codec, length, checksum. The content is `header` and `run`.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::error::{ChangesetError, Result};
use super::{COMPRESS_BYTES_MIN, FORMAT, Limits, MAGIC, varint};

const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;
const CODEC_AT: usize = MAGIC.len() + 1;
const CHECKSUM_LEN: usize = 16;
const PREFIX_LEN_MAX: usize = CODEC_AT + 1 + 10 + CHECKSUM_LEN;

/// An lz4 block can't unpack to more than this many bytes for each of its own.
const LZ4_RATIO_MAX: u64 = 255;

/// Whether a changeset is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// Never.
    No,
    /// When that makes it smaller.
    Yes,
    /// When a piece of it shrinks to less than half: compressing takes longer than everything else.
    WhereItPays,
}

/// So much of the payload is compressed to see what that brings.
const PROBE_LEN: usize = 1 << 14;

impl Compress {
    fn is_wanted(self, payload: &[u8]) -> bool {
        match self {
            Compress::No => false,
            Compress::Yes => payload.len() >= COMPRESS_BYTES_MIN,
            Compress::WhereItPays if payload.len() <= 2 * PROBE_LEN => payload.len() >= COMPRESS_BYTES_MIN,
            Compress::WhereItPays => {
                // From the middle, since the beginning is the header.
                let probe = &payload[payload.len() / 2..][..PROBE_LEN];
                lz4_flex::block::compress(probe).len() < PROBE_LEN / 2
            }
        }
    }
}

/// Wraps the payload that `head` and `body` make up. The body is most of it and stays where it is, if it is not
/// compressed.
pub(super) fn seal(head: &[&[u8]], body: Vec<u8>, compress: Compress) -> Vec<u8> {
    let head_len: usize = head.iter().map(|part| part.len()).sum();
    let raw_len = head_len + body.len();
    let mut before = Vec::with_capacity(PREFIX_LEN_MAX + head_len);
    before.extend_from_slice(MAGIC);
    before.push(FORMAT);
    before.push(CODEC_NONE);
    varint::push(&mut before, raw_len as u64);
    let checksum_at = before.len();
    before.extend_from_slice(&[0; CHECKSUM_LEN]);
    let payload_at = before.len();
    for part in head {
        before.extend_from_slice(part);
    }
    let mut out = body;
    out.splice(0..0, before);
    if compress.is_wanted(&out[payload_at..]) {
        let packed = lz4_flex::block::compress(&out[payload_at..]);
        if packed.len() < raw_len {
            out[CODEC_AT] = CODEC_LZ4;
            out.truncate(payload_at);
            out.extend_from_slice(&packed);
        }
    }
    let sum = checksum(&out[..checksum_at], &out[payload_at..]);
    out[checksum_at..payload_at].copy_from_slice(&sum);
    out
}

/// Checks `bytes` and gives their payload, decompressed.
pub(super) fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Cow<'a, [u8]>> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(ChangesetError::NotAChangeset)?;
    // Before the checksum, so that a changeset of the future is told from a damaged one.
    match rest.first() {
        Some(&FORMAT) => {}
        Some(&format) => return Err(ChangesetError::UnknownFormat(format)),
        None => return Err(ChangesetError::Checksum),
    }
    let frame = Frame::split(bytes).map_err(|_| ChangesetError::Checksum)?;
    let Frame { raw_len, stored, .. } = frame;
    if checksum(frame.prefix, stored) != frame.checksum {
        return Err(ChangesetError::Checksum);
    }
    if raw_len > limits.raw_bytes as u64 {
        return Err(ChangesetError::TooLarge { bytes: raw_len, limit: limits.raw_bytes as u64 });
    }
    match frame.codec {
        CODEC_NONE if raw_len == stored.len() as u64 => Ok(Cow::Borrowed(stored)),
        CODEC_NONE => {
            Err(ChangesetError::Malformed { at: 0, reason: "the payload is not as long as declared" })
        }
        CODEC_LZ4 => decompress(stored, raw_len).map(Cow::Owned),
        codec => Err(ChangesetError::UnknownCodec(codec)),
    }
}

struct Frame<'a> {
    codec: u8,
    raw_len: u64,
    /// Everything before the checksum.
    prefix: &'a [u8],
    checksum: [u8; CHECKSUM_LEN],
    stored: &'a [u8],
}

impl<'a> Frame<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        cursor.take(CODEC_AT)?;
        let codec = cursor.byte()?;
        let raw_len = cursor.varint()?;
        let prefix = &bytes[..bytes.len() - cursor.remaining()];
        let checksum = cursor.array()?;
        let stored = cursor.take(cursor.remaining())?;
        Ok(Frame { codec, raw_len, prefix, checksum, stored })
    }
}

fn decompress(stored: &[u8], raw_len: u64) -> Result<Vec<u8>> {
    // The output is allocated up front, so the declared length has to be one the input can produce.
    if raw_len > LZ4_RATIO_MAX * stored.len() as u64 {
        return Err(ChangesetError::Decompress(format!(
            "{} bytes cannot unpack to the declared {raw_len}",
            stored.len()
        )));
    }
    let mut raw = vec![0; raw_len as usize];
    let len = lz4_flex::block::decompress_into(stored, &mut raw)
        .map_err(|error| ChangesetError::Decompress(error.to_string()))?;
    if len != raw.len() {
        return Err(ChangesetError::Decompress(format!("{len} bytes come out where {raw_len} are declared")));
    }
    Ok(raw)
}

/// The first 16 bytes of blake3 over everything but the checksum itself.
fn checksum(prefix: &[u8], stored: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prefix);
    hasher.update(stored);
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_LEN]);
    sum
}
