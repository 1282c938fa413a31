//! Why bytes are not a changeset.

/// Why a changeset cannot be read. Nothing was applied, and the bytes will not get better by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangesetError {
    /// The first bytes are something else.
    #[error(
        "cannot read changeset: it does not begin with \"crsqlcs\"; pass the blob that crsql_changeset() returned"
    )]
    NotAChangeset,

    /// Written by a version of crsql with another format.
    #[error("cannot read changeset of format {0}: this build reads format 1; upgrade crsql")]
    UnknownFormat(u8),

    /// Compressed in a way this build does not know.
    #[error("cannot read changeset with codec {0}: this build knows 0 (none) and 1 (lz4); upgrade crsql")]
    UnknownCodec(u8),

    /// Bytes were changed on the way, or cut off.
    #[error("cannot read changeset: its checksum does not match its content; fetch it again")]
    Checksum,

    /// Larger than the reader allows.
    #[error("cannot read changeset of {bytes} bytes: the limit is {limit}; ask for it in smaller parts")]
    TooLarge {
        /// The length the changeset declares, decompressed.
        bytes: u64,
        /// [`Limits::raw_bytes`](super::Limits::raw_bytes).
        limit: u64,
    },

    /// The lz4 block does not unpack to the declared length.
    #[error("cannot decompress changeset: {0}; its writer is faulty")]
    Decompress(String),

    /// The header is not the MessagePack array it must be.
    #[error("cannot read changeset header: {0}; its writer is faulty")]
    Header(String),

    /// The checksum is right but the content breaks the grammar.
    #[error("cannot read changeset: {reason} at byte {at} of its payload; its writer is faulty")]
    Malformed {
        /// Offset into the decompressed payload.
        at: usize,
        /// The rule that was broken.
        reason: &'static str,
    },
}

pub(super) type Result<T> = std::result::Result<T, ChangesetError>;
