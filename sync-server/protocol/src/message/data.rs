//! Frames and what moves them: pushes up, batches down, and the bookkeeping of both.

use crsql_core::changeset;
use crsql_core::ids::SiteId;
use crsql_core::msgpack::{Malformed, Read, Reader};
use crsql_core::version_vector::VersionVector;

use crate::code::Code;
use crate::wire::{Blob, BlobRef, Chain, record};
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// The body is the changeset itself.
pub const CODEC_PLAIN: u8 = 0;
/// The body is a zstd frame around the changeset; only where both have the feature.
pub const CODEC_ZSTD: u8 = 1;
/// On the wire alone: the body is the bare form of the changeset, which has nothing that the frame says.
const CODEC_BARE: u8 = 2;
/// Never on the wire: the body is the short form, which has the site as well; see [`crate::names`].
pub(crate) const CODEC_SHORT: u8 = 0xff;

/// Longer bodies travel as they are: what their envelope takes is nothing beside the rest.
pub(crate) const SMALL_BYTES_MAX: usize = 4096;

record! {
    /// A frame as it travels.
    pub struct FrameRecord {
        pub site: SiteId,
        pub site_version: u64,
        pub seq_lo: u64,
        pub seq_hi: u64,
        pub last_seq: u64,
        pub chain: Chain,
        pub codec: u8,
        pub body: Blob,
    }
}

record! {
    /// A whole frame as it travels among those who share its names.
    pub struct ShortRecord {
        pub site_version: u64,
        pub last_seq: u64,
        pub chain: Chain,
        pub body: Blob,
    }
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.codec == CODEC_SHORT {
            let (site_version, last_seq, chain) = (self.site_version, self.last_seq, self.chain);
            return (site_version, last_seq, chain, BlobRef(&self.body.0)).serialize(serializer);
        }
        let is_small = self.codec == CODEC_PLAIN && self.body.0.len() <= SMALL_BYTES_MAX;
        let bare = is_small.then(|| changeset::bare(&self.body.0, self.site)).flatten();
        let (codec, body) = match &bare {
            Some(bare) => (CODEC_BARE, &bare[..]),
            None => (self.codec, &self.body.0[..]),
        };
        let mut record = serializer.serialize_struct("Frame", 8)?;
        record.serialize_field("site", &self.site)?;
        record.serialize_field("site_version", &self.site_version)?;
        record.serialize_field("seq_lo", &self.seq_lo)?;
        record.serialize_field("seq_hi", &self.seq_hi)?;
        record.serialize_field("last_seq", &self.last_seq)?;
        record.serialize_field("chain", &self.chain)?;
        record.serialize_field("codec", &codec)?;
        record.serialize_field("body", &BlobRef(body))?;
        record.end()
    }
}

impl Read for Frame {
    fn read(input: &mut Reader<'_, '_>) -> Result<Frame, Malformed> {
        if input.is_list_of_numbers() {
            let ShortRecord { site_version, last_seq, chain, body } = ShortRecord::read(input)?;
            let (site, seq_lo, seq_hi, codec) = (SiteId::default(), 0, last_seq, CODEC_SHORT);
            return Ok(Frame { site, site_version, seq_lo, seq_hi, last_seq, chain, codec, body });
        }
        let record = FrameRecord::read(input)?;
        let FrameRecord { site, site_version, seq_lo, seq_hi, last_seq, chain, codec, body } = record;
        // What can't be dressed keeps its codec, and is set aside for it: one bad frame, not one bad message.
        let (codec, body) = match codec {
            CODEC_BARE => match changeset::dressed(&body.0, site) {
                Ok(body) => (CODEC_PLAIN, Blob(body)),
                Err(_) => (codec, body),
            },
            CODEC_SHORT => return Err(Malformed("a codec that does not travel".into())),
            _ => (codec, body),
        };
        Ok(Frame { site, site_version, seq_lo, seq_hi, last_seq, chain, codec, body })
    }
}

/// A transaction of one site, or a chunk of one.
///
/// `body` is a `crsql_core::changeset` with the changes `seq_lo..=seq_hi` of this version, or with those that
/// are left of them. A frame with `site_version` 0 is a *delta*: its changeset has changes of many versions,
/// and the `claims` of its message say which versions the receiver then holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who wrote it.
    pub site: SiteId,
    /// Which of its transactions; 0 for a delta.
    pub site_version: u64,
    /// The first seq that this frame answers for.
    pub seq_lo: u64,
    /// The last seq that this frame answers for.
    pub seq_hi: u64,
    /// The last seq of the whole version, the same in all of its chunks.
    pub last_seq: u64,
    /// The site's chain at this version, the same in all of its chunks.
    pub chain: Chain,
    /// How the body is compressed: [`CODEC_PLAIN`] or [`CODEC_ZSTD`].
    pub codec: u8,
    /// The changes.
    pub body: Blob,
}

impl Frame {
    /// A delta: a changeset, not compressed, of many versions, as `site` knows them.
    pub fn delta(site: SiteId, body: Vec<u8>) -> Frame {
        Frame {
            site,
            site_version: 0,
            seq_lo: 0,
            seq_hi: 0,
            last_seq: 0,
            chain: Chain::default(),
            codec: CODEC_PLAIN,
            body: Blob(body),
        }
    }

    /// Whether it covers many versions, named by the claims beside it.
    pub fn is_delta(&self) -> bool {
        self.site_version == 0
    }

    /// Whether it is all of its version.
    pub fn is_whole(&self) -> bool {
        !self.is_delta() && self.seq_lo == 0 && self.seq_hi == self.last_seq
    }

    /// About how many bytes it takes in a message.
    pub fn wire_bytes(&self) -> usize {
        self.body.0.len() + 64
    }
}

record! {
    /// The chain of a site at a version.
    #[derive(Copy)]
    pub struct ChainAt {
        /// The site.
        pub site: SiteId,
        /// The version.
        pub version: u64,
        /// The chain.
        pub chain: Chain,
    }
}

record! {
    /// Transactions from the dialer. Answered by an [`Ack`] of the same id once they are durable.
    pub struct Push {
        /// 1, 2, 3, … on each connection.
        pub id: u64,
        /// The transactions.
        pub frames: Vec<Frame>,
        /// Versions that are complete without further frames: covered by a delta, or superseded.
        pub claims: VersionVector,
        /// The chains of the claims: of every site at the last version claimed, where it is known. Without them
        /// a later fork at these versions could not be told from a lost tail.
        pub chains: Vec<ChainAt>,
        /// Whether the delta or the answer goes on in the next push; claims hold only after the last one.
        pub more: bool,
    }
}

record! {
    /// A transaction that was set aside; the others of its push are not affected.
    #[derive(Copy)]
    pub struct Rejected {
        /// Its author.
        pub site: SiteId,
        /// Its version.
        pub site_version: u64,
        /// Why.
        pub code: Code,
    }
}

record! {
    /// What was pushed is durable: it survives a power failure of the acceptor.
    pub struct Ack {
        /// The push.
        pub id: u64,
        /// The journal position up to which it went; 0 if nothing of it was new.
        pub pos: u64,
        /// The versions of this push that the acceptor now holds whole. A version that is neither here nor in
        /// `rejected` waits for more chunks.
        pub held: VersionVector,
        /// What was set aside.
        pub rejected: Vec<Rejected>,
    }
}

record! {
    /// Transactions from the acceptor.
    ///
    /// A *tail* batch (`part` 0) is the journal from `after`, exclusive, to `upto`, inclusive. The same bytes go to
    /// every reader. Other batches are numbered by `part` from 1 on each connection.
    pub struct Batch {
        /// In a tail batch, the position before it.
        pub after: u64,
        /// In a tail batch, its last position.
        pub upto: u64,
        /// 0 in a tail batch.
        pub part: u64,
        /// The transactions.
        pub frames: Vec<Frame>,
        /// Versions that are complete once all parts up to this one are applied.
        pub claims: VersionVector,
        /// The chains of the claims: of every site at the last version claimed, where it is known. Without them
        /// a later fork at these versions could not be told from a lost tail.
        pub chains: Vec<ChainAt>,
        /// Whether the cut is still open: parts up to and including the first with `more` false are applied
        /// together.
        pub more: bool,
    }
}

record! {
    /// The journal from `after` to `upto` has nothing for the dialer. Ends the needs phase.
    #[derive(Copy)]
    pub struct Pos {
        /// The position before; not checked when it ends the needs phase.
        pub after: u64,
        /// The position now.
        pub upto: u64,
        /// How many parts were sent so far.
        pub parts: u64,
    }
}

record! {
    /// A batch was applied; as much may be sent again.
    #[derive(Copy)]
    pub struct Credit {
        /// How many bytes more.
        pub bytes: u64,
        /// The position up to which everything is applied.
        pub pos: u64,
    }
}

record! {
    /// A version of which some chunks are held.
    pub struct Partial {
        /// Its author.
        pub site: SiteId,
        /// The version.
        pub site_version: u64,
        /// Its last seq.
        pub last_seq: u64,
        /// The seqs held: ends of ascending ranges, `[lo, hi, lo, hi, …]`.
        pub have: Vec<u64>,
    }
}

record! {
    /// Everything the sender holds.
    pub struct Have {
        /// Whole versions.
        pub whole: VersionVector,
        /// Incomplete versions.
        pub partial: Vec<Partial>,
    }
}

record! {
    /// The wanted seqs of a version.
    pub struct NeededPart {
        /// Its author.
        pub site: SiteId,
        /// The version.
        pub site_version: u64,
        /// The seqs wanted, as in [`Partial`].
        pub seqs: Vec<u64>,
    }
}

record! {
    /// What the sender wants. Answered with frames, or claims for what was superseded; what the receiver does not
    /// hold completely is passed over.
    pub struct Need {
        /// Whole versions.
        pub whole: VersionVector,
        /// Parts of versions.
        pub partial: Vec<NeededPart>,
    }
}

record! {
    /// Versions of which nothing is left, because later ones replaced all they wrote. Only a node that holds them
    /// completely may say so. The same as a push or batch of nothing but claims.
    pub struct Empty {
        /// The versions.
        pub versions: VersionVector,
    }
}

record! {
    /// What the sender calls by number from now on, counted from 0 in each direction.
    pub struct Names {
        /// The number of the first of these.
        pub first: u32,
        /// The names.
        pub names: Vec<NameRecord>,
    }
}

record! {
    /// Something with a number.
    #[derive(Hash)]
    pub struct NameRecord {
        /// 0: a site, 1: a table with its columns.
        pub kind: u8,
        /// A site's 16 bytes, or an entry of the tables of a changeset's header.
        pub bytes: Blob,
    }
}
