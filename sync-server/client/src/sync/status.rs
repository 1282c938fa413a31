//! How things stand, for people and programs.

use std::fmt;

use crsql_core::ids::SiteId;

/// How a database's sync stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Who this database is.
    pub site: SiteId,
    /// Transactions held, of all sites.
    pub held: u64,
    /// Own transactions that nobody else is known to hold.
    pub unconfirmed: u64,
    /// The targets in the order of the configuration, then who is connected to us.
    pub links: Vec<LinkStatus>,
    /// What is wrong with the database, if something is.
    pub error: Option<String>,
}

/// How one connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The target's address, or where the peer connected from.
    pub name: String,
    /// Whether we dial.
    pub dialed: bool,
    /// How far it is.
    pub phase: Phase,
    /// Why the connection before ended, if it did not end well.
    pub fault: Option<String>,
    /// Whether that was a refusal: a wrong token, no such room, databases that do not fit. Trying again will not
    /// help before somebody changes something.
    pub refused: bool,
    /// Bytes received on this connection.
    pub received: u64,
    /// Bytes sent on this connection.
    pub sent: u64,
}

/// How far a connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not connected; tried again after this many milliseconds.
    Waiting {
        /// Milliseconds from when it began to wait.
        ms: u64,
    },
    /// Being connected.
    #[default]
    Connecting,
    /// Getting a copy of the other side's database, because it costs less than every change since the beginning.
    Fetching {
        /// Bytes that came.
        done: u64,
        /// Bytes there are in all.
        total: u64,
    },
    /// Getting what the other side had.
    CatchingUp {
        /// Transactions that came.
        done: u64,
        /// Transactions there are to come in all.
        total: u64,
    },
    /// Up to date; what is committed on either side goes over at once.
    Live {
        /// Whether everything of ours is durable there.
        flushed: bool,
    },
}

impl Status {
    /// Whether every target is up to date, both ways.
    pub fn is_synced(&self) -> bool {
        let is_synced = |link: &LinkStatus| link.phase == Phase::Live { flushed: true };
        self.links.iter().filter(|link| link.dialed).all(is_synced)
    }
}

impl fmt::Display for Status {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} transactions, {} unconfirmed", self.held, self.unconfirmed)?;
        for link in &self.links {
            write!(f, " | {link}")?;
        }
        match &self.error {
            Some(error) => write!(f, " | {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", if self.dialed { "->" } else { "<-" }, self.name)?;
        match self.phase {
            Phase::Waiting { ms } => write!(f, "waiting {:.1} s", ms as f64 / 1000.0),
            Phase::Connecting => write!(f, "connecting"),
            Phase::Fetching { done, total } => {
                write!(f, "fetching a snapshot, {:.1}/{:.1} MB", done as f64 / 1e6, total as f64 / 1e6)
            }
            Phase::CatchingUp { done, total } => {
                write!(f, "catching up {done}/{total} transactions, {:.1} MB", self.received as f64 / 1e6)
            }
            Phase::Live { flushed: true } => write!(f, "in sync"),
            Phase::Live { flushed: false } => write!(f, "sending"),
        }?;
        match (&self.fault, &self.phase) {
            (Some(fault), Phase::Waiting { .. } | Phase::Connecting) => write!(f, " ({fault})"),
            _ => Ok(()),
        }
    }
}
