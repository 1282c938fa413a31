//! What a node tells its owner.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Fault;
use crsql_protocol::message::{DigestRange, Goaway, Presence, Rejected, Snapshot, Welcome};

use super::LinkId;

/// Something worth knowing. Nothing has to be done.
#[derive(Clone, Debug)]
pub enum Event {
    /// A handshake is done.
    Ready {
        /// The connection.
        link: LinkId,
        /// What the acceptor said, on either side.
        welcome: Box<Welcome>,
    },
    /// Everything that the acceptor had when we dialed is here.
    CaughtUp {
        /// The connection.
        link: LinkId,
    },
    /// These are now held here, whole and durable: local commits that were published, and what came from others.
    Gained {
        /// The versions.
        versions: VersionVector,
        /// Whether some of them came from others, so that tables may have changed.
        remote: bool,
    },
    /// These are durable behind a connection.
    Confirmed {
        /// The connection.
        link: LinkId,
        /// The versions.
        versions: VersionVector,
    },
    /// The acceptor set a transaction aside.
    Rejected {
        /// The connection.
        link: LinkId,
        /// Which and why.
        rejected: Rejected,
    },
    /// Something that came was set aside here; the rest of it was taken.
    SetAside {
        /// The connection.
        link: LinkId,
        /// A sentence for people.
        reason: String,
    },
    /// This file was restored from a copy: its former versions are coming back.
    Recovering {
        /// The connection.
        link: LinkId,
        /// The versions that we lack.
        lost: VersionVector,
    },
    /// Another history of our site exists, so this file has a new name; what nobody had confirmed was written anew
    /// under it. All connections were closed and should be opened again.
    NewSite {
        /// The former site.
        old: SiteId,
        /// The present site.
        new: SiteId,
    },
    /// The acceptor offers a copy of its database instead of everything since the beginning. The connection was
    /// closed; fetch the copy and have it taken over, or dial again without (`Node::take_snapshots`).
    Snapshot {
        /// The connection.
        link: LinkId,
        /// Where it is.
        snapshot: Snapshot,
        /// The epoch of its position.
        epoch: u64,
    },
    /// A snapshot took the place of what was here before.
    Adopted {
        /// What is held now and was not before.
        versions: VersionVector,
    },
    /// Others had collected deletes that this database lacked: it began again with a copy of theirs, and wrote anew what
    /// only it had.
    BeganAgain {
        /// What became of its own writes, as [`crsql_rebootstrap`] tells it.
        ///
        /// [`crsql_rebootstrap`]: https://docs.rs/crsql
        report: String,
    },
    /// Somebody says something; see [`Node::presence`](super::Node::presence).
    Presence(Presence),
    /// What somebody said is over.
    Left {
        /// Who.
        site: SiteId,
        /// What about.
        topic: String,
    },
    /// A comparison ended.
    Compared {
        /// The connection.
        link: LinkId,
        /// Whether both sides held the same transactions: if not, nothing was compared.
        comparable: bool,
        /// What differed; both sides' facts about it were exchanged. Empty if nothing did.
        differing: Vec<DigestRange>,
    },
    /// The acceptor is about to leave.
    Goaway {
        /// The connection.
        link: LinkId,
        /// When and where to go on.
        goaway: Goaway,
    },
    /// The other side says that something is wrong, but goes on.
    Warning {
        /// The connection.
        link: LinkId,
        /// What.
        fault: Fault,
    },
}
