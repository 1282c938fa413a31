//! Digests, presence, errors and liveness.

use crsql_core::ids::SiteId;

use crate::code::Code;
use crate::wire::{Blob, Fingerprint, Sum, record};

record! {
    /// A range of rows of one table, by canonical packed key.
    pub struct DigestRange {
        /// The table.
        pub table: String,
        /// The least key in it; empty for the beginning.
        pub from: Blob,
        /// The least key after it; none for the end.
        pub to: Option<Blob>,
    }
}

record! {
    /// The sum of a range.
    pub struct DigestEntry {
        /// The range.
        pub range: DigestRange,
        /// How many rows it has, deleted ones of which something is known included.
        pub rows: u64,
        /// The sum of their records, authorship included.
        pub sum: Sum,
    }
}

record! {
    /// Asks for digests: of every table, or of ranges cut up so that the differing rows can be found.
    pub struct DigestRequest {
        /// Repeated in the answer.
        pub id: u64,
        /// The ranges; none asks for one entry per table.
        pub ranges: Vec<DigestRange>,
        /// Into how many ranges of about equal size each one is to be cut; 1 leaves it whole.
        pub cut: u32,
        /// Whether the rows themselves are wanted, as a delta without claims. `cut` is ignored then.
        pub rows: bool,
    }
}

record! {
    /// Digests, all of one moment.
    pub struct DigestResponse {
        /// The request's.
        pub id: u64,
        /// What the sender held at that moment; sums are comparable only if it is equal on both sides.
        pub held_fingerprint: Fingerprint,
        /// One for each range, in the order asked for.
        pub entries: Vec<DigestEntry>,
    }
}

record! {
    /// A value that lives for seconds: a cursor, a name, "is typing". Never stored, replaced by the next of its
    /// site and topic.
    pub struct Presence {
        /// Whose.
        pub site: SiteId,
        /// What it is about.
        pub topic: String,
        /// The greater count replaces the lesser.
        pub count: u64,
        /// For how long it holds, in milliseconds; 0 takes it back.
        pub ttl_ms: u64,
        /// The value.
        pub data: Blob,
    }
}

record! {
    /// Something is wrong.
    pub struct Error {
        /// What.
        pub code: Code,
        /// When to try again, in milliseconds; 0 for no advice.
        pub retry_after_ms: u64,
        /// Whether the connection ends with it.
        pub fatal: bool,
        /// For people.
        pub detail: String,
    }
}

record! {
    /// The acceptor is about to leave.
    pub struct Goaway {
        /// Why, for people.
        pub reason: String,
        /// How long to wait before connecting again, in milliseconds, a different time for each reader.
        pub reconnect_ms: u64,
        /// Where to connect instead.
        pub instead: Option<String>,
    }
}

record! {
    /// Are you there, and did you get all I sent?
    #[derive(Copy)]
    pub struct Ping {
        /// Repeated in the answer.
        pub nonce: u64,
        /// The last position sent by the acceptor; 0 from the dialer.
        pub pos: u64,
        /// The number of parts sent by the acceptor, or of pushes sent by the dialer.
        pub parts: u64,
    }
}

record! {
    /// The answer to [`Ping`].
    #[derive(Copy)]
    pub struct Pong {
        /// The ping's.
        pub nonce: u64,
    }
}
