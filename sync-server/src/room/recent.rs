//! The last entries of a room, encoded once for all who read at its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::codec;
use crsql_protocol::message::{Batch, CODEC_PLAIN, ChainAt, Frame, Message, Names};
use crsql_protocol::names::Lexicon;

use super::check;
use crate::journal::{Appended, Item};

/// Bytes kept, at most. Who is further behind reads the journal, so a slow reader costs nothing here.
const BYTES: usize = 1 << 20;

/// Batches kept, at most.
const COUNT: usize = 1024;

/// What was appended at once.
#[derive(Debug)]
pub struct Live {
    /// The position before it.
    pub after: u64,
    /// The position of its last entry.
    pub upto: u64,
    /// Which connection pushed it.
    pub origin: u64,
    /// How many names of the room a reader must have been told.
    pub names: u32,
    /// The message, for whoever can decompress.
    bytes: Option<Bytes>,
    /// The message for those who cannot, made when the first of them comes; the same if nothing is compressed.
    plain: OnceLock<Option<Bytes>>,
    items: Vec<(Item, bool)>,
    raw_bytes: usize,
}

/// The last of them.
#[derive(Debug, Default)]
pub struct Recent {
    batches: Mutex<(VecDeque<Arc<Live>>, usize)>,
    /// What is called by number in them.
    names: Mutex<Lexicon>,
}

impl Live {
    fn new(appended: Appended, message_bytes: usize, raw_bytes: usize, names: &mut Lexicon) -> Live {
        let Appended { after, upto, origin, items } = appended;
        let size: u64 = items.iter().map(|(item, _)| item.wire_bytes()).sum();
        let fits = size <= message_bytes as u64;
        let mut shorten = |frame: Frame| names.shorten(&frame).unwrap_or(frame);
        let bytes = fits.then(|| encoded(after, upto, &items, None, &mut shorten)).flatten();
        let is_plain = items.iter().all(|(item, _)| {
            matches!(item, Item::Claim(_)) || matches!(item, Item::Frame(f) if f.codec == CODEC_PLAIN)
        });
        let plain = if is_plain { OnceLock::from(bytes.clone()) } else { OnceLock::new() };
        // Once encoded, the items are of no further use, save to be decompressed.
        let items = if is_plain { Vec::new() } else { items };
        Live { after, upto, origin, names: names.len(), bytes, plain, items, raw_bytes }
    }

    /// The message for a reader; none if it is too long to be sent at once.
    pub fn bytes(&self, zstd: bool) -> Option<&Bytes> {
        if zstd {
            return self.bytes.as_ref();
        }
        self.plain
            .get_or_init(|| {
                self.bytes.as_ref()?;
                encoded(self.after, self.upto, &self.items, Some(self.raw_bytes), &mut |frame| frame)
            })
            .as_ref()
    }
}

impl Recent {
    /// Encodes what was appended, if it is no longer than `message_bytes`, and forgets the oldest.
    pub fn push(&self, appended: Appended, message_bytes: usize, raw_bytes: usize) {
        let mut names = self.names.lock().unwrap_or_else(|e| e.into_inner());
        let live = Live::new(appended, message_bytes, raw_bytes, &mut names);
        drop(names);
        let mut batches = self.batches.lock().unwrap_or_else(|e| e.into_inner());
        batches.1 += live.weight();
        batches.0.push_back(Arc::new(live));
        while batches.0.len() > COUNT || (batches.1 > BYTES && batches.0.len() > 1) {
            let Some(oldest) = batches.0.pop_front() else { break };
            batches.1 -= oldest.weight();
        }
    }

    /// The names that somebody lacks who was told so many.
    pub fn names(&self, told: u32) -> Option<Names> {
        self.names.lock().unwrap_or_else(|e| e.into_inner()).since(told)
    }

    /// What came after a position, as far as it is kept: nothing before the first was lost only if that begins there.
    pub fn after(&self, pos: u64) -> Vec<Arc<Live>> {
        let batches = self.batches.lock().unwrap_or_else(|e| e.into_inner());
        let from = batches.0.partition_point(|live| live.upto <= pos);
        batches.0.range(from..).cloned().collect()
    }
}

impl Live {
    fn weight(&self) -> usize {
        let items: u64 = self.items.iter().map(|(item, _)| item.wire_bytes()).sum();
        self.bytes.as_ref().map_or(0, Bytes::len) + items as usize + 64
    }
}

fn encoded(
    after: u64,
    upto: u64,
    items: &[(Item, bool)],
    unpack: Option<usize>,
    frame: &mut dyn FnMut(Frame) -> Frame,
) -> Option<Bytes> {
    let (frames, claims, chains) = gathered(items.iter().map(|(item, _)| item), unpack)?;
    let frames = frames.into_iter().map(frame).collect();
    let batch = Batch { after, upto, part: 0, frames, claims, chains, more: false };
    Some(codec::encode(&Message::Batch(batch)).into())
}

/// The items of a batch by kind; decompressed up to this many bytes each if asked for.
pub fn gathered<'a>(
    items: impl Iterator<Item = &'a Item>,
    unpack: Option<usize>,
) -> Option<(Vec<Frame>, VersionVector, Vec<ChainAt>)> {
    let (mut frames, mut claims, mut chains) = (Vec::new(), VersionVector::default(), Vec::new());
    for item in items {
        match (item, unpack) {
            (Item::Frame(frame), Some(limit)) => frames.push(check::plain(frame, limit).ok()?),
            (Item::Frame(frame), None) => frames.push(frame.clone()),
            (Item::Claim(claim), _) => {
                claims.union_with(&claim.versions);
                chains.extend(&claim.chains);
            }
        }
    }
    Some((frames, claims, chains))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Claim;

    fn appended(after: u64, bytes: usize) -> Appended {
        let body = crsql_protocol::wire::Blob(vec![0; bytes]);
        let frame = Frame {
            site: crsql_core::ids::SiteId([1; 16]),
            site_version: after + 1,
            seq_lo: 0,
            seq_hi: 0,
            last_seq: 0,
            chain: Default::default(),
            codec: CODEC_PLAIN,
            body,
        };
        let items = vec![(Item::Frame(frame), false), (Item::Claim(Claim::default()), false)];
        Appended { after, upto: after + 2, origin: 0, items }
    }

    fn live(after: u64, bytes: usize) -> Live {
        Live::new(appended(after, bytes), 1 << 20, 1 << 20, &mut Lexicon::default())
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_number() {
        let recent = Recent::default();
        (0..20).for_each(|at| recent.push(appended(2 * at, 100_000), 1 << 20, 1 << 20));
        let kept = recent.after(0);
        assert!((9..=10).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().map(|live| live.upto), Some(40));
        (20..3000).for_each(|at| recent.push(appended(2 * at, 1), 1 << 20, 1 << 20));
        assert_eq!(recent.after(0).len(), COUNT);
        assert_eq!(recent.after(5997).len(), 2);
        assert!(recent.after(6000).is_empty());
    }

    #[test]
    fn what_is_too_long_for_a_message_has_no_bytes() {
        assert!(live(0, 2 << 20).bytes(true).is_none());
        assert!(live(0, 10).bytes(true).is_some_and(|bytes| live(0, 10).bytes(false) == Some(bytes)));
    }
}
