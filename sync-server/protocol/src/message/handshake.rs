//! Hello and Welcome: two nodes agree on terms and on where to begin.

use crsql_core::ids::SiteId;
use crsql_core::msgpack::{Malformed, Read, Reader};
use crsql_core::version_vector::VersionVector;
use serde::ser::{Serialize, Serializer};

use super::data::Have;
use crate::wire::{Blob, Chain, Fingerprint, record};

/// The bits of `features`; both sides use what both have.
pub mod features {
    /// Frame bodies may be compressed with zstd.
    pub const ZSTD: u64 = 1;
    /// Frames that cover many versions at once (site_version 0).
    pub const DELTA: u64 = 1 << 1;
    /// The dialer passes on what others wrote, so Welcome tells it what the acceptor holds.
    pub const GOSSIP: u64 = 1 << 2;
    /// Presence messages.
    pub const PRESENCE: u64 = 1 << 3;
    /// Digest messages.
    pub const DIGEST: u64 = 1 << 4;
    /// Plans may be a snapshot.
    pub const SNAPSHOT: u64 = 1 << 5;
    /// All that this build knows, save zstd: whoever can decompress adds it.
    pub const DEFAULT: u64 = DELTA | PRESENCE | DIGEST | SNAPSHOT;
}

/// Permission bit: may receive.
pub const READ: u8 = 1;
/// Permission bit: may push.
pub const WRITE: u8 = 2;

record! {
    /// A place in one journal. Positions of different epochs have nothing to do with each other.
    #[derive(Copy, Hash)]
    pub struct Cursor {
        /// The journal: drawn at random when it is created or restored.
        pub epoch: u64,
        /// The last position that was taken.
        pub pos: u64,
    }
}

record! {
    /// The last version of a site, and the chain up to it.
    #[derive(Copy, Default, Hash)]
    pub struct Head {
        /// The version; 0 if there is none.
        pub version: u64,
        /// The chain at that version.
        pub chain: Chain,
    }
}

record! {
    /// Which schema a node has.
    #[derive(Default)]
    pub struct SchemaId {
        /// A hash of tables, keys, columns and options.
        pub fingerprint: Fingerprint,
        /// The application's number for it.
        pub version: u32,
    }
}

record! {
    /// The first message, by the dialer.
    pub struct Hello {
        /// The lowest protocol version spoken.
        pub proto_min: u16,
        /// The highest protocol version spoken.
        pub proto_max: u16,
        /// What the dialer can do, see [`features`].
        pub features: u64,
        /// The replicated database it wants.
        pub room: String,
        /// What proves that it may.
        pub token: Option<String>,
        /// Who it is.
        pub site: SiteId,
        /// Its own last version.
        pub head: Head,
        /// How its database decides ties: 0 by site, 1 by value.
        pub tie_break: u8,
        /// Its schema.
        pub schema: SchemaId,
        /// Where it stopped reading this acceptor.
        pub resume: Option<Cursor>,
        /// [`Holdings::fingerprint`](crate::holdings::Holdings::fingerprint) of what it holds.
        pub held_fingerprint: Fingerprint,
        /// What it holds, when it expects that `resume` will not do.
        pub held: Option<Have>,
        /// The longest message it takes, in bytes.
        pub message_max: u64,
        /// The credit it begins with, in bytes.
        pub credit: u64,
        /// Program and version, for logs.
        pub agent: String,
    }
}

record! {
    /// What the acceptor takes, and how often it wants to hear something.
    pub struct Terms {
        /// Longest message, in bytes.
        pub message_max: u64,
        /// Largest frame body, in bytes.
        pub frame_max: u64,
        /// Largest transaction, in bytes.
        pub tx_max: u64,
        /// Bytes of pushes that may be unacknowledged.
        pub window: u64,
        /// Silence after which to ping, in milliseconds.
        pub ping_ms: u64,
    }
}

record! {
    /// The answer to [`Hello`].
    pub struct Welcome {
        /// The protocol version to speak.
        pub proto: u16,
        /// The features that both sides have.
        pub features: u64,
        /// The acceptor's name, for logs.
        pub agent: String,
        /// The acceptor's own site id; zeros if it writes nothing itself.
        pub site: SiteId,
        /// Its journal's epoch.
        pub epoch: u64,
        /// The last position of its journal.
        pub head_pos: u64,
        /// What the dialer may do: [`READ`] and [`WRITE`].
        pub permissions: u8,
        /// The acceptor's terms.
        pub terms: Terms,
        /// The last version of the *dialer's* site that the acceptor holds, with its chain there.
        pub your_head: Head,
        /// The last version up to the one in Hello that the acceptor holds, with its chain: where both histories
        /// can be compared. Below `your_head` if the acceptor has gaps or knows a lost tail.
        pub your_common: Head,
        /// How the dialer's history looks from the acceptor.
        pub ancestry: Ancestry,
        /// The versions of the dialer's site that the acceptor holds; one site or none.
        pub your_held: VersionVector,
        /// What the acceptor makes of the dialer's schema.
        pub schema: SchemaAction,
        /// How the dialer gets what it lacks.
        pub plan: Plan,
        /// What the acceptor holds: with [`features::GOSSIP`], or when the plan is not a tail.
        pub held: Option<VersionVector>,
        /// A changeset without changes that tells which deletes were collected, if any were: the acceptor takes only
        /// frames that tell as much.
        pub collected: Option<Blob> = None,
        /// How often the dialer should say what it holds, because that decides which deletes may be collected, in
        /// milliseconds; 0: never.
        pub members_ms: u64 = 0,
    }
}

/// Whether the dialer's chain at its head is the one that the acceptor knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ancestry {
    /// The acceptor does not hold the dialer's head, so it cannot tell.
    #[default]
    Unknown,
    /// The same history.
    Same,
    /// Another history under the same site id.
    Fork,
}

/// What the acceptor makes of the dialer's schema. In every case data flows; unknown columns are parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaAction {
    /// The same, or nothing to say.
    #[default]
    Ok,
    /// The dialer's schema is newer: what the acceptor does not know it parks.
    Park,
    /// The dialer's schema is older: it should migrate.
    Upgrade,
}

macro_rules! small_number {
    ($name:ident, $what:literal, $($number:literal => $variant:ident),*) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(match self { $($name::$variant => $number),* })
            }
        }

        impl Read for $name {
            fn read(input: &mut Reader<'_, '_>) -> Result<$name, Malformed> {
                match u8::read(input)? {
                    $($number => Ok($name::$variant),)*
                    other => Err(format!(concat!($what, " {} is unknown"), other).into()),
                }
            }
        }
    };
}
small_number!(Ancestry, "ancestry", 0 => Unknown, 1 => Same, 2 => Fork);
small_number!(SchemaAction, "schema action", 0 => Ok, 1 => Park, 2 => Upgrade);

record! {
    /// A copy of the database to begin with, instead of every change since the beginning.
    pub struct Snapshot {
        /// Where it is, relative to the acceptor's own URL.
        pub url: String,
        /// The journal position it contains.
        pub pos: u64,
        /// Its length, in bytes.
        pub bytes: u64,
        /// The first 16 bytes of its blake3.
        pub checksum: Fingerprint,
    }
}

/// How the dialer gets what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Everything in the journal after this position.
    Tail {
        /// The position.
        from: u64,
    },
    /// Everything that is not in the dialer's [`Have`], then a [`Pos`](super::Pos), then the journal after that.
    Needs,
    /// Fetch this first, then connect again with its position.
    Snapshot(Snapshot),
}

record! {
    /// On the wire a plan is an array of its kind and what the kind needs.
    pub struct PlanRecord { pub kind: u8, pub pos: u64, pub snapshot: Option<Snapshot> }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = match self {
            Plan::Tail { from } => PlanRecord { kind: 0, pos: *from, snapshot: None },
            Plan::Needs => PlanRecord { kind: 1, pos: 0, snapshot: None },
            Plan::Snapshot(snapshot) => PlanRecord { kind: 2, pos: 0, snapshot: Some(snapshot.clone()) },
        };
        record.serialize(serializer)
    }
}

impl Read for Plan {
    fn read(input: &mut Reader<'_, '_>) -> Result<Plan, Malformed> {
        match PlanRecord::read(input)? {
            PlanRecord { kind: 0, pos, .. } => Ok(Plan::Tail { from: pos }),
            PlanRecord { kind: 1, .. } => Ok(Plan::Needs),
            PlanRecord { kind: 2, snapshot: Some(snapshot), .. } => Ok(Plan::Snapshot(snapshot)),
            PlanRecord { kind, .. } => Err(format!("plan {kind} is unknown").into()),
        }
    }
}
