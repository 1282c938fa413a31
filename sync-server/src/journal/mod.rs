//! The order in which a room took things in: appended durably, read again by everybody who follows.
//!
//! A room has nothing but positions to give to its readers, so whatever stands behind [`Journal`] must never lose
//! or reuse one that it made known. The embedded [`Local`] keeps the rooms in shared SQLite files; another engine can
//! stand in for it by this trait alone.

mod find;
mod guard;
mod local;
mod read;
mod rows;
mod trim;
mod writer;

use std::sync::{Arc, Weak};

use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::message::{ChainAt, Cursor, Frame, Head};
use crsql_protocol::wire::Chain;

pub use find::Found;
pub use local::Local;

/// A room, as its journal knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoomKey {
    /// Which journal.
    pub journal: usize,
    /// Its number there.
    pub id: i64,
}

/// What is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A transaction, a chunk of one, or a delta.
    Frame(Frame),
    /// Versions held from here on, complete with the deltas of the same cut.
    Claim(Claim),
}

/// Versions that are complete without frames of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The versions.
    pub versions: VersionVector,
    /// The chains of the last of them.
    pub chains: Vec<ChainAt>,
}

/// An item in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place, from 1.
    pub pos: u64,
    /// Whether the next entry belongs to the same cut.
    pub more: bool,
    /// What.
    pub item: Item,
}

/// What a room holds of one site, kept beside the entries so that nobody must read them all to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whose.
    pub site: SiteId,
    /// Versions held whole.
    pub versions: RangeSet,
    /// The last of them.
    pub head: Head,
    /// Whose token first wrote for this site.
    pub owner: Option<String>,
}

/// Entries to append, and what they change.
pub struct Append {
    /// Where.
    pub room: RoomKey,
    /// The position before the first.
    pub after: u64,
    /// The items with whether the next belongs to the same cut; may be empty.
    pub items: Vec<(Item, bool)>,
    /// What is held of these sites now.
    pub holdings: Vec<Holding>,
    /// Versions that are no longer incomplete: whole, claimed or given up.
    pub settled: Vec<(SiteId, u64)>,
    /// Who appends, for [`Appended::origin`].
    pub origin: u64,
    /// Called once everything before it and it is durable, or not. From another thread; it must not block.
    pub done: Box<dyn FnOnce(Result<(), JournalError>) + Send>,
}

/// Entries that are durable now.
#[derive(Debug)]
pub struct Appended {
    /// The position before the first.
    pub after: u64,
    /// The position of the last.
    pub upto: u64,
    /// Who appended them; 0 for nobody of this process.
    pub origin: u64,
    /// The items.
    pub items: Vec<(Item, bool)>,
}

/// Hears of everything that is appended to a room.
pub trait Listener: Send + Sync {
    /// In the order of positions, each once. From another thread; it must not block.
    fn appended(&self, appended: Appended);
}

/// A room as it was found.
#[derive(Debug)]
pub struct Opened {
    /// Its key from now on.
    pub key: RoomKey,
    /// Epoch and last position.
    pub head: Cursor,
    /// The least position after which everything is there.
    pub floor: u64,
    /// Bytes of all entries.
    pub bytes: u64,
    /// How its databases decide ties.
    pub tie_break: u8,
    /// What it holds.
    pub holdings: Vec<Holding>,
    /// The chunks of incomplete versions, in journal order.
    pub staged: Vec<Frame>,
}

/// What [`Journal::trim`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// The least position after which everything is there.
    pub floor: u64,
    /// Bytes of the entries that went.
    pub freed: u64,
    /// Whether it stopped only so that others have their turn.
    pub more: bool,
}

/// Why a journal failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says so.
    #[error("journal {journal}: {text}")]
    Sqlite {
        /// Which journal.
        journal: usize,
        /// Why.
        text: String,
        /// Whether the journal takes nothing any more until the relay is started again: what was written may or may
        /// not have reached the disk, and trying again would only hide that.
        broken: bool,
    },
    /// An append to a position that is not the end: one before it failed.
    #[error("journal {0}: an append before this one failed")]
    Gap(usize),
    /// A position that was trimmed away.
    #[error("journal {0}: it no longer reaches back that far")]
    Trimmed(usize),
    /// The process is about to end.
    #[error("the journal is closed")]
    Closed,
}

/// The order in which rooms took things in.
///
/// Everything but [`append`](Journal::append), [`subscribe`](Journal::subscribe) and
/// [`is_sound`](Journal::is_sound) may block.
pub trait Journal: Send + Sync {
    /// Opens a room. With `create` (the tie-break of a new one), makes it if there is none.
    fn open(&self, room: &str, create: Option<u8>) -> Result<Option<Opened>, JournalError>;

    /// The names of all rooms.
    fn rooms(&self) -> Result<Vec<String>, JournalError>;

    /// Appends; says so when it is durable. Appends are taken in the order in which they are given.
    fn append(&self, append: Append);

    /// Tells `listener` of everything appended from now on. It replaces an earlier one of the room.
    fn subscribe(&self, room: RoomKey, listener: Weak<dyn Listener>);

    /// Forgets every entry: only what is in the room's database is held, up to the position that this answers.
    fn restore(&self, room: RoomKey, holdings: Vec<Holding>) -> Result<Cursor, JournalError>;

    /// The entries after a position, about `bytes` of them and at least one.
    fn read(&self, room: RoomKey, after: u64, bytes: u64) -> Result<Vec<Entry>, JournalError>;

    /// The last position that is durable.
    fn head(&self, room: RoomKey) -> Result<u64, JournalError>;

    /// Forgets the oldest entries up to a position, as long as more than `keep_bytes` of them are left. What they held
    /// stays held. Stops after a while, so that appends need not wait long; chunks of incomplete versions stay, and cuts
    /// are not cut.
    fn trim(&self, room: RoomKey, upto: u64, keep_bytes: u64) -> Result<Trimmed, JournalError>;

    /// Begins anew with what is held: another epoch, from the same position on.
    fn restart(&self, room: RoomKey, holdings: Vec<Holding>) -> Result<(), JournalError>;

    /// What it has of versions `lo..=hi` of a site: frames in the order of versions and seqs, about `bytes` of
    /// them, and the cuts that claimed some of them.
    fn find(&self, room: RoomKey, site: SiteId, lo: u64, hi: u64, bytes: u64) -> Result<Found, JournalError>;

    /// The chain of a version, where it is kept.
    fn chain(&self, room: RoomKey, site: SiteId, version: u64) -> Result<Option<Chain>, JournalError>;

    /// The greatest versions of a site up to one of which the chain is kept, greatest first, a few of them. They
    /// need not be whole.
    fn chains_upto(&self, room: RoomKey, site: SiteId, version: u64) -> Result<Vec<Head>, JournalError>;

    /// Whether it takes appends.
    fn is_sound(&self) -> bool;

    /// Makes everything durable and closes.
    fn close(&self);
}

/// A journal shared by everybody.
pub type SharedJournal = Arc<dyn Journal>;

impl Item {
    /// About how many bytes it takes in a message.
    pub fn wire_bytes(&self) -> u64 {
        match self {
            Item::Frame(frame) => frame.wire_bytes() as u64,
            Item::Claim(claim) => {
                claim.versions.ranges().count() as u64 * 24 + claim.chains.len() as u64 * 40
            }
        }
    }
}
