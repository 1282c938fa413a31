//! The messages: one byte of tag, then a MessagePack array.
//!
//! Tags from 128 on may be skipped by who does not know them; an unknown tag below is an error. `docs/protocol.md`
//! is the grammar, with the bytes that the golden tests compare.

mod control;
mod data;
mod handshake;

pub use control::{
    DigestEntry, DigestRange, DigestRequest, DigestResponse, Error, Goaway, Ping, Pong, Presence,
};
pub use data::{
    Ack, Batch, CODEC_PLAIN, CODEC_ZSTD, ChainAt, Credit, Empty, Frame, Have, NameRecord, Names, Need,
    NeededPart, Partial, Pos, Push, Rejected,
};
pub(crate) use data::{CODEC_SHORT, SMALL_BYTES_MAX};
pub use handshake::{
    Ancestry, Cursor, Head, Hello, Plan, READ, SchemaAction, SchemaId, Snapshot, Terms, WRITE, Welcome,
    features,
};

/// The protocol versions this build speaks, lowest and highest.
pub const PROTOCOL_VERSIONS: (u16, u16) = (1, 1);

/// The first tag that a reader may skip.
pub const SKIPPABLE_TAG_MIN: u8 = 128;

macro_rules! messages {
    ($($tag:literal $(#[$doc:meta])* $name:ident,)*) => {
        /// Any message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $($(#[$doc])* $name($name),)*
        }

        impl Message {
            /// The first byte of the message.
            pub fn tag(&self) -> u8 {
                match self { $(Message::$name(_) => $tag,)* }
            }

            /// A word for logs and metrics.
            pub fn name(&self) -> &'static str {
                match self { $(Message::$name(_) => stringify!($name),)* }
            }

            pub(crate) fn write_fields(&self, out: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
                match self { $(Message::$name(fields) => rmp_serde::encode::write(out, fields),)* }
            }

            pub(crate) fn read_fields(
                tag: u8,
                fields: &[u8],
            ) -> Option<Result<Message, crsql_core::msgpack::Malformed>> {
                Some(match tag {
                    $($tag => crsql_core::msgpack::from_slice(fields).map(Message::$name),)*
                    _ => return None,
                })
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Message {
                Message::$name(message)
            }
        })*
    };
}

messages! {
    1 /// Who dials, what it wants and what it holds.
    Hello,
    2 /// The answer to Hello: terms and plan.
    Welcome,
    3 /// Transactions from the dialer.
    Push,
    4 /// What of a push is durable, and what was rejected.
    Ack,
    5 /// Transactions from the acceptor.
    Batch,
    6 /// The acceptor's position moved over what the dialer does not need.
    Pos,
    7 /// The dialer applied something and has room for more.
    Credit,
    8 /// Everything the sender holds.
    Have,
    9 /// What the sender wants, whole or in part.
    Need,
    10 /// Versions of which nothing is left: superseded altogether.
    Empty,
    11 /// Asks for digests.
    DigestRequest,
    12 /// Digests.
    DigestResponse,
    13 /// A value that lives for seconds.
    Presence,
    14 /// Something is wrong.
    Error,
    15 /// The acceptor is about to leave.
    Goaway,
    // 16 is reserved for Retire, the hint that a site will never write again.
    17 /// Are you there, and did you get all I sent?
    Ping,
    18 /// I am.
    Pong,
    19 /// What the sender calls by number from now on.
    Names,
}
