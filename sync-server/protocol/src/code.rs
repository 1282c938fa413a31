//! Why something was refused: one number space for connections and for single transactions.

use std::fmt;

use crsql_core::msgpack::{Malformed, Read, Reader};
use serde::Serialize;

/// The reason of an error or of a rejected transaction. Numbers are stable; unknown ones keep their number.
///
/// Below 64 they concern a connection, from 64 on a single transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Code(pub u16);

impl Read for Code {
    fn read(input: &mut Reader<'_, '_>) -> Result<Code, Malformed> {
        u16::read(input).map(Code)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($number);)*

            /// A stable word for logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                    _ => "unknown",
                }
            }
        }

        /// All known codes, for the tables of the documentation.
        #[cfg(test)]
        pub(crate) const ALL: &[Code] = &[$(Code::$name),*];
    };
}

codes! {
    /// Bytes that are no message.
    MALFORMED = 1, "malformed";
    /// Beyond a limit.
    TOO_LARGE = 2, "too-large";
    /// A message with an unknown tag that must not be skipped.
    UNKNOWN_MESSAGE = 3, "unknown-message";
    /// A message that makes no sense now.
    UNEXPECTED = 4, "unexpected";
    /// No protocol version in common.
    VERSION = 5, "version";
    /// The token is missing, wrong or expired.
    UNAUTHORIZED = 6, "unauthorized";
    /// The token does not allow this.
    FORBIDDEN = 7, "forbidden";
    /// There is no such room.
    NO_ROOM = 8, "no-room";
    /// The other side decides ties differently, so both would keep different values.
    TIE_BREAK = 9, "tie-break";
    /// Two histories under one site id: one of them needs a new site id.
    FORK = 10, "fork";
    /// The transport lost or reordered a message: connect again and resume.
    LOST = 11, "lost";
    /// Too much in too short a time.
    RATE = 12, "rate";
    /// No credit for too long.
    SLOW = 13, "slow";
    /// Nothing heard for too long.
    IDLE = 14, "idle";
    /// Not now: try again later.
    UNAVAILABLE = 15, "unavailable";
    /// A fault of this side.
    INTERNAL = 16, "internal";
    /// The schema is too old to take part.
    SCHEMA = 17, "schema";

    /// A clock beyond its absolute or step limit.
    CLOCK = 64, "clock";
    /// `seq_lo..=seq_hi` is not within `0..=last_seq`.
    SEQ_RANGE = 65, "seq-range";
    /// A chunk that contradicts the other chunks of its version.
    CONTRADICTION = 66, "contradiction";
    /// The version is held with another history.
    FORKED = 67, "forked";
    /// The sender may not write for this site.
    FOREIGN_SITE = 68, "foreign-site";
    /// Too much is staged for this site.
    QUOTA = 69, "quota";
    /// Compressed in a way that was not negotiated.
    CODEC = 70, "codec";
    /// The body cannot be read.
    BODY = 71, "body";
    /// The transaction is beyond a limit.
    TX_TOO_LARGE = 72, "tx-too-large";
    /// The site is quarantined.
    QUARANTINED = 73, "quarantined";
    /// All chunks were sent and yet the version is not whole.
    INCOMPLETE = 74, "incomplete";
    /// The sender may not write in this room.
    READ_ONLY = 75, "read-only";
    /// Deletes were collected that its author, as far as it tells, has not seen.
    BEHIND = 76, "behind";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a session ended, or has to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Fault {
    /// The reason.
    pub code: Code,
    /// The object and the way out, for people.
    pub detail: String,
    /// When to try again, in milliseconds; 0 if the other side does not say.
    pub retry_after_ms: u64,
}

impl Fault {
    /// A fault without advice on when to try again.
    pub fn new(code: Code, detail: impl Into<String>) -> Fault {
        Fault { code, detail: detail.into(), retry_after_ms: 0 }
    }
}
