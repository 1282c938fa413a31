//! Who wins: the order of competing writes, and the clocks of the next one.
//!
//! A row's causal length decides first: a greater one is a new incarnation in which nothing older exists. Inside
//! one incarnation a cell's writes are ordered by (col_version, site, site_version, seq, value), the greatest
//! wins and its whole tuple is kept, so authorship converges with the value. Site before value means that no
//! value is favoured, that merging reads no base row, and that of two concurrent writes of a whole row one wins
//! whole. [`TieBreak::Value`] compares the value right after col_version, for exchange with cr-sqlite.

use std::cmp::Ordering;

use crate::ids::SiteId;
use crate::limits::{CAUSAL_LENGTH_MAX, COL_VERSION_MAX};
use crate::value::ValueRef;

mod bounds;
mod loss;

pub use bounds::{Clock, ClockWindow, Clocks, Refusal, validate, validate_row, validate_step};
pub use loss::{Loss, Write, loss};

/// The name of a change: which site wrote it, in which of its versions, at which place. Ordered in that sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The author.
    pub site: SiteId,
    /// The author's site_version; 0 when it is unknown. A copy that knows it is greater, and so replaces one
    /// that doesn't.
    pub version: u64,
    /// The place inside the version.
    pub seq: u64,
}

impl Stamp {
    /// Whether the author's site_version is known.
    pub fn has_identity(&self) -> bool {
        self.version > 0
    }
}

/// A cell's clock inside its incarnation. The derived order is the one of [`TieBreak::Site`] without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellClock {
    /// The cell's Lamport clock, from 1.
    pub col_version: u64,
    /// Who wrote it.
    pub stamp: Stamp,
}

/// What decides between two writes of equal col_version. One setting for a whole mesh of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum TieBreak {
    /// The site, then the value as the last resort.
    #[default]
    Site,
    /// The value, as cr-sqlite does, then the site.
    Value,
}

impl TieBreak {
    /// The byte that stands for it in formats.
    pub fn code(self) -> u8 {
        match self {
            TieBreak::Site => 0,
            TieBreak::Value => 1,
        }
    }

    /// The mode a byte stands for.
    pub fn of_code(code: u8) -> Option<TieBreak> {
        [TieBreak::Site, TieBreak::Value].into_iter().find(|mode| mode.code() == code)
    }
}

/// A remote change's incarnation, seen from the local row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Incarnation {
    /// Over; the change says nothing any more.
    Older,
    /// The current one; clocks decide.
    Same,
    /// A new one: every local cell and the row's stamp are dropped before the change is taken.
    Newer,
}

/// Compares causal lengths; an unknown row has 0.
pub fn incarnation(local_cl: u64, remote_cl: u64) -> Incarnation {
    match remote_cl.cmp(&local_cl) {
        Ordering::Less => Incarnation::Older,
        Ordering::Equal => Incarnation::Same,
        Ordering::Greater => Incarnation::Newer,
    }
}

/// Whether a remote cell beats the local one of the same incarnation under [`TieBreak::Site`]. An equal clock is
/// the same write and does not win; only a forger gives one clock two values, and then
/// [`cell_wins_by_value`] decides.
#[inline]
pub fn cell_wins(local: Option<&CellClock>, remote: &CellClock) -> bool {
    local.is_none_or(|local| remote > local)
}

/// Whether a remote cell beats the local one of the same incarnation, by the full order including the value.
pub fn cell_wins_by_value(
    local: Option<(&CellClock, ValueRef<'_>)>,
    remote: (&CellClock, ValueRef<'_>),
    tie: TieBreak,
) -> bool {
    let Some((local_clock, local_value)) = local else { return true };
    let (remote_clock, remote_value) = remote;
    let by_version = remote_clock.col_version.cmp(&local_clock.col_version);
    let by_stamp = || remote_clock.stamp.cmp(&local_clock.stamp);
    let order = match tie {
        TieBreak::Site => by_version.then_with(by_stamp),
        TieBreak::Value => {
            by_version.then_with(|| remote_value.cmp_by_content(&local_value)).then_with(by_stamp)
        }
    };
    order.then_with(|| remote_value.cmp_total(&local_value)).is_gt()
}

/// Whether a remote row-existence change beats the local one of the same incarnation.
#[inline]
pub fn row_stamp_wins(local: Option<&Stamp>, remote: &Stamp) -> bool {
    local.is_none_or(|local| remote > local)
}

/// [`row_stamp_wins`] with the key's stored spelling as the last resort, for two changes that claim one stamp.
pub fn row_wins_by_spelling(local: Option<(&Stamp, &[u8])>, remote: (&Stamp, &[u8])) -> bool {
    local.is_none_or(|local| remote > local)
}

/// A local write, seen from the row's causal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalWrite {
    /// The row is put there: over nothing, over a tombstone, or over a live row (REPLACE).
    Insert,
    /// Cells of a live row change.
    Update,
    /// A live row goes.
    Delete,
}

/// The causal length after a local write; `None` when the row is not there to be updated or deleted, or when the
/// next length is beyond [`CAUSAL_LENGTH_MAX`].
pub fn next_causal_length(local_cl: u64, write: LocalWrite) -> Option<u64> {
    let is_alive = local_cl % 2 == 1;
    let next = match write {
        LocalWrite::Insert if is_alive => local_cl.checked_add(2)?,
        LocalWrite::Insert => local_cl.checked_add(1)?,
        LocalWrite::Update if is_alive => local_cl,
        LocalWrite::Delete if is_alive => local_cl.checked_add(1)?,
        LocalWrite::Update | LocalWrite::Delete => return None,
    };
    (next <= CAUSAL_LENGTH_MAX).then_some(next)
}

/// The col_version of the next local write to a cell, 0 for a cell without clock; `None` at [`COL_VERSION_MAX`],
/// where the write has to open a new incarnation of the row instead.
pub fn next_col_version(local: u64) -> Option<u64> {
    (local < COL_VERSION_MAX).then_some(local + 1)
}

#[cfg(test)]
mod tests;
