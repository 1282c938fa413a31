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

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use crsql_core::changeset::{GroupHeader, Order, RunHeader, Writer, split};
    use crsql_core::ids::SiteId;
    use crsql_core::merge::TieBreak;
    use crsql_core::value::ValueRef;
    use crsql_core::version_vector::VersionVector;

    use super::*;

    /// 20,000 rows of five texts of 15 letters, of which 10 digits are chance, which is 4.2 bytes of each.
    #[test]
    fn a_bulk_insert_takes_21_bytes_a_change_and_9_compressed() {
        let mut writer = Writer::new(TieBreak::Site);
        let site = writer.site(SiteId([7; 16]));
        let table = writer.table("item", 1, &["a", "b", "c", "d", "e"]);
        let columns = vec![1, 2, 3, 4, 5];
        let group =
            GroupHeader { columns, col_version: 1, site, version: 1, seq_step: 5, ..Default::default() };
        writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: Some(1) });
        let mut dice: u64 = 7;
        for _ in 0..20_000 {
            for _ in 0..5 {
                dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let text = format!("user-{:010}", (dice ^ (dice >> 29)) % 10_000_000_000);
                writer.value(ValueRef::Text(text.as_bytes()));
            }
            writer.end_row();
        }
        let bytes = writer.finish(&VersionVector::default(), false);
        let pieces = split(&bytes, 128 << 10, Order::BySeq, &VersionVector::default()).unwrap();
        let frames: Vec<Frame> =
            pieces.into_iter().map(|piece| Frame::delta(SiteId([7; 16]), piece.bytes)).collect();
        let a_change =
            |frames: &[Frame]| frames.iter().map(Frame::wire_bytes).sum::<usize>() as f64 / 100_000.0;
        let raw = a_change(&frames);
        let packed: Vec<Frame> = frames.iter().cloned().map(packed).collect();
        println!("{raw:.1} bytes a change, {:.1} compressed", a_change(&packed));
        assert!(raw <= 21.0, "{raw}");
        assert!(a_change(&packed) <= 9.0, "{}", a_change(&packed));
        let back: Vec<Frame> = packed.into_iter().map(unpacked).collect();
        assert_eq!(back, frames);
    }
}
