//! What a session is told and what it asks for.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

use crate::code::{Code, Fault};
use crate::holdings::{Holdings, Needs};
use crate::message::*;
use crate::wire::{Blob, Fingerprint};

/// Something that happened, for [`Session::handle`](super::Session::handle).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Dialer: the transport is open, say hello.
    Open(Box<Local>),
    /// A message arrived.
    Message(&'a [u8]),
    /// Acceptor: the answer to [`Output::Admit`], if the peer may come in. If not, [`Input::Fail`].
    Admit(Box<Admission>),
    /// Dialer: the answer to [`Output::Compare`]. `Unknown` if the chain at that version is not kept.
    Compared(Ancestry),
    /// Dialer: this node now holds these versions, by a local commit or through another session.
    Gained(VersionVector),
    /// Acceptor: the journal grew. See [`Live`].
    Live(Live),
    /// The answer to [`Output::Read`] with [`Read::Versions`] or [`Read::Rows`].
    Parcel(Parcel),
    /// Acceptor: the answer to [`Output::Read`] with [`Read::Tail`].
    Tail(Tail),
    /// Acceptor: the answer to [`Output::Store`]. Everything in it survives a power failure.
    Stored(Ack),
    /// Dialer: the answer to [`Output::Apply`]: frames, claims and cursor are committed.
    Applied(u64),
    /// Something is missing here that the peer should send: dropped chunks, a damaged row.
    Want(Needs),
    /// Rows to put right at the peer: a push or batch of a delta without claims.
    Repair(Vec<Frame>),
    /// A presence value to pass on.
    Present(Presence),
    /// Digests to ask for.
    Ask(DigestRequest),
    /// The answer to [`Output::Digest`].
    Digests(DigestResponse),
    /// Time passed. Once a second is enough.
    Tick,
    /// Acceptor: say that this node is about to leave.
    Leave(Goaway),
    /// End the session for this reason.
    Fail(Fault),
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this message.
    Send(Vec<u8>),
    /// Send the bytes that came with this [`Input::Live`], shared with all other readers.
    SendLive,
    /// Acceptor: may this peer in? Answer with [`Input::Admit`] or [`Input::Fail`].
    Admit(Box<Hello>),
    /// Dialer: is this the chain of our own version? Answer with [`Input::Compared`].
    Compare(Head),
    /// Read something from the store; at most one read is open at a time.
    Read(Read),
    /// Acceptor: make these durable, then [`Input::Stored`].
    Store(Push),
    /// Dialer: apply these, then [`Input::Applied`].
    Apply(Apply),
    /// The peer wants these digests; answer with [`Input::Digests`].
    Digest(DigestRequest),
    /// Something worth knowing. Nothing has to be done.
    Event(Event),
    /// Close the transport. The session is over; tell the user why if there is a reason.
    Close(Option<Fault>),
}

/// Who dials, and what it holds at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The room it wants.
    pub room: String,
    /// Its token.
    pub token: Option<String>,
    /// Its site.
    pub site: SiteId,
    /// The last version that is durable here, and its chain.
    pub head: Head,
    /// How its database decides ties: 0 by site, 1 by value.
    pub tie_break: u8,
    /// Its schema.
    pub schema: SchemaId,
    /// The cursor stored for this acceptor, in the same transaction as the data before it.
    pub resume: Option<Cursor>,
    /// [`Ledger::fingerprint`](crate::ledger::Ledger::fingerprint).
    pub fingerprint: Fingerprint,
    /// What it holds durably.
    pub held: Holdings,
}

/// What the acceptor found out about the peer, all in one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// This node's own site; zeros if it has none.
    pub site: SiteId,
    /// What the token allows: [`READ`] and [`WRITE`].
    pub permissions: u8,
    /// The journal's last position.
    pub head: Cursor,
    /// The least position from which the journal can be read: everything after it is there.
    pub floor_pos: u64,
    /// The last version held of the peer's site, with its chain.
    pub your_head: Head,
    /// The last version held of the peer's site up to `hello.head`, with its chain; zeros if no chain is kept
    /// for any.
    pub your_common: Head,
    /// How the peer's history looks: [`Ledger::ancestry`](crate::ledger::Ledger::ancestry).
    pub ancestry: Ancestry,
    /// How this database decides ties.
    pub tie_break: u8,
    /// What to say about the peer's schema.
    pub schema: SchemaAction,
    /// What this node holds.
    pub held: Holdings,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// A snapshot to offer when the peer can't resume and lacks a great part.
    pub snapshot: Option<Snapshot>,
    /// A changeset that tells what was collected here, if anything was and others must know.
    pub collected: Option<Blob>,
    /// How often the peer should say what it holds, in milliseconds; 0: never.
    pub members_ms: u64,
}

/// New journal entries, encoded once for all readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// The position before them.
    pub after: u64,
    /// The position of the last one.
    pub upto: u64,
    /// The length of the encoded tail [`Batch`], or none if it is too long to send at once: then every reader
    /// reads the journal for itself.
    pub bytes: Option<u64>,
    /// Whether this session's peer is known to hold all of it: it pushed it.
    pub echo: bool,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Some of these, about `bytes` of them, in one snapshot of the store; answered by [`Input::Parcel`].
    ///
    /// Answer original frames, chunks, deltas, or claims of versions that were superseded. Claim only what is held
    /// completely, and only together with what superseded it, unless the peer has that. Answering more than was
    /// asked is fine. What is not held is passed over. A delta may take several answers, each with `more` and some
    /// of its frames; the claims come with the last.
    Versions {
        /// What the peer lacks.
        needs: Needs,
        /// How much to answer at most; a single larger frame may go alone.
        bytes: u64,
    },
    /// The journal after a position, about `bytes` of it; answered by [`Input::Tail`].
    Tail {
        /// The position.
        after: u64,
        /// How much.
        bytes: u64,
    },
    /// The rows of these ranges as a delta without claims; answered by [`Input::Parcel`].
    Rows {
        /// The ranges.
        ranges: Vec<DigestRange>,
        /// How much.
        bytes: u64,
    },
}

/// An answer to [`Read::Versions`] or [`Read::Rows`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Versions complete with these frames, besides those that the frames name.
    pub claims: VersionVector,
    /// Of every site claimed, the chain at its last claimed version, where it is kept.
    pub chains: Vec<ChainAt>,
    /// Whether reading on would give more of what was asked.
    pub more: bool,
}

/// An answer to [`Read::Tail`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The position that was asked for.
    pub after: u64,
    /// The position of the last entry in this answer; `after` if there is none.
    pub upto: u64,
    /// The frames in journal order.
    pub frames: Vec<Frame>,
    /// The claims among the entries.
    pub claims: VersionVector,
    /// Their chains.
    pub chains: Vec<ChainAt>,
    /// Whether the next entry belongs to the same cut as the last one here: deltas that hold only together with the
    /// claims at the end of their cut. Nothing else is sent before the cut is closed.
    pub more: bool,
}

/// Something to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// For [`Input::Applied`]. What has to wait for the end of its cut counts as applied once it is put aside: a
    /// cut may be larger than the window.
    pub id: u64,
    /// Frames: record each in the ledger, store chunks, apply versions that became whole.
    pub frames: Vec<Frame>,
    /// Versions held once this is applied. Not taken if any frame of the same cut was set aside: a claim rests on
    /// the frames beside it.
    pub claims: VersionVector,
    /// Their chains.
    pub chains: Vec<ChainAt>,
    /// False: deltas, claims and the cursor wait for the next one with true, and are applied together with it.
    /// Whole versions and chunks need not wait.
    pub cut: bool,
    /// To be stored in the same transaction, when there is one.
    pub cursor: Option<Cursor>,
}

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Ready(Box<Welcome>),
    /// Dialer: everything known when the session began has been delivered here.
    CaughtUp,
    /// Dialer: the acceptor holds these durably.
    Confirmed(VersionVector),
    /// Dialer: the acceptor set this aside. It is not sent again in this session.
    Rejected(Rejected),
    /// Dialer: the acceptor holds versions of *our* site that we lack: this database was restored from a copy. They
    /// are on their way here; write nothing as this site until they are applied, or there will be a fork. If one
    /// of `lost` exists here all the same, written since [`Input::Open`] and not yet reported by
    /// [`Input::Gained`], end the session and dial again: the next Hello tells what it is.
    LostTail {
        /// The last version of our site there.
        head: Head,
        /// The versions that we lack.
        lost: VersionVector,
    },
    /// Dialer: the acceptor holds another history of our site: this file is a clone, or it lost its tail and went
    /// on writing. Take a new site id, write the unconfirmed transactions anew under it and
    /// forget them under the old one, forget all cursors (they lie behind frames that were refused here), connect
    /// again.
    Fork(Head),
    /// Dialer: fetch this and connect again.
    Snapshot(Snapshot),
    /// Acceptor: the dialer says that it holds these.
    Holds(VersionVector),
    /// A presence value arrived; see [`presence::Room`](crate::presence::Room).
    Presence(Presence),
    /// Digests arrived; see [`Comparison`](crate::compare::Comparison).
    Digests(DigestResponse),
    /// The peer is about to leave.
    Goaway(Goaway),
    /// The peer says that something is wrong, but goes on.
    Warning(Fault),
    /// Dialer: an incomplete version was all sent and is still not whole there; it is sent once more.
    Incomplete(SiteId, u64),
}

impl Admission {
    pub(super) fn can_resume(&self, resume: Option<Cursor>) -> Option<u64> {
        let Cursor { epoch, pos } = resume?;
        (epoch == self.head.epoch && (self.floor_pos..=self.head.pos).contains(&pos)).then_some(pos)
    }
}

pub(super) fn unexpected(what: impl std::fmt::Display) -> Fault {
    Fault::new(Code::UNEXPECTED, format!("{what} makes no sense now"))
}
