//! Compressed frames: unpacked where they arrive, packed where they leave, so that nothing in between knows of them.
//!
//! Only with the feature `zstd`. Without it nobody is told that we can, so nothing compressed comes.

use crsql_protocol::message::Frame;

/// The bits of the handshake that this adds.
#[cfg(feature = "zstd")]
pub const FEATURES: u64 = crsql_protocol::message::features::ZSTD;
/// The bits of the handshake that this adds.
#[cfg(not(feature = "zstd"))]
pub const FEATURES: u64 = 0;

/// Shorter bodies are left as they are: a compressed one would hardly be shorter.
#[cfg(feature = "zstd")]
const PACK_MIN: usize = 256;

/// The level of compression: beyond it, time grows faster than what it saves.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 3;

/// The longest body that a frame may unpack to, in bytes.
#[cfg(feature = "zstd")]
const UNPACKED_MAX: usize = crsql_protocol::limits::MESSAGE_BYTES_MAX;

/// The frame as everything here wants it. What can't be unpacked stays as it is, and is refused for its codec.
#[cfg(feature = "zstd")]
pub fn unpacked(frame: Frame) -> Frame {
    use crsql_protocol::message::{CODEC_PLAIN, CODEC_ZSTD};
    use crsql_protocol::wire::Blob;
    use std::io::Read;
    if frame.codec != CODEC_ZSTD {
        return frame;
    }
    let mut body = Vec::new();
    let read = zstd::Decoder::with_buffer(&frame.body.0[..])
        .and_then(|decoder| decoder.take(UNPACKED_MAX as u64 + 1).read_to_end(&mut body));
    match read {
        Ok(len) if len <= UNPACKED_MAX => Frame { codec: CODEC_PLAIN, body: Blob(body), ..frame },
        _ => frame,
    }
}

/// The frame as everything here wants it.
#[cfg(not(feature = "zstd"))]
pub fn unpacked(frame: Frame) -> Frame {
    frame
}

/// The frame for somebody who can unpack, if that makes it shorter.
#[cfg(feature = "zstd")]
pub fn packed(frame: Frame) -> Frame {
    use crsql_protocol::message::{CODEC_PLAIN, CODEC_ZSTD};
    use crsql_protocol::wire::Blob;
    if frame.codec != CODEC_PLAIN || frame.body.0.len() < PACK_MIN {
        return frame;
    }
    match zstd::bulk::compress(&frame.body.0, LEVEL) {
        Ok(body) if body.len() < frame.body.0.len() => Frame { codec: CODEC_ZSTD, body: Blob(body), ..frame },
        _ => frame,
    }
}

/// The frame for somebody who can unpack.
#[cfg(not(feature = "zstd"))]
pub fn packed(frame: Frame) -> Frame {
    frame
}
