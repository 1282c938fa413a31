//! Which of the rows that clash in a UNIQUE index are shown.
//!
//! Every live row has a [`Rank`]: the greatest clock among its unique columns, then its key. A row is shown unless a
//! shown row of greater rank clashes with it. By induction from the greatest rank downwards there is exactly one set of
//! rows of which that is true, whatever the number of indexes and whatever the order in which the rows became known:
//! [`shown`] computes it from all rows, [`settle`] gets there from any earlier state by looking only at rows in doubt.

use crate::merge::CellClock;
use std::collections::{BTreeMap, BTreeSet};

/// What decides between rows that clash; the greater keeps the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The greatest clock of the row's unique columns; `None` if nobody wrote any of them.
    pub clock: Option<CellClock>,
    /// The row's canonical packed key.
    pub key: Vec<u8>,
}

/// The rows of one table, shown and hidden, as [`settle`] sees and moves them.
pub trait Rows {
    /// What can go wrong when a row is read or moved.
    type Error;

    /// The shown rows that clash with a hidden one.
    fn rivals(&mut self, hidden: &Rank) -> Result<Vec<Rank>, Self::Error>;

    /// A shown row that would yield to `hidden` was written here and is not committed: it has seen what it clashes
    /// with, and stays by growing above it. False where that can't be.
    fn insists(&mut self, shown: &Rank, hidden: &Rank) -> Result<bool, Self::Error>;

    /// Hides a shown row. Tells which hidden rows it held back.
    fn hide(&mut self, shown: &Rank) -> Result<Vec<Rank>, Self::Error>;

    /// Shows a hidden row that nothing holds back.
    fn show(&mut self, hidden: &Rank) -> Result<(), Self::Error>;

    /// A hidden row stays so because of a shown one.
    fn hold_back(&mut self, hidden: &Rank, by: &Rank) -> Result<(), Self::Error>;
}

/// Reconsiders hidden rows. To be in doubt is every row that was hidden without being held back, and every row that is
/// held back by one that was deleted or written.
///
/// It ends: a row that is shown takes the place of lesser ones only, so the shown rows, listed from the greatest rank,
/// go up in dictionary order.
pub fn settle<R: Rows>(rows: &mut R, mut in_doubt: BTreeSet<Rank>) -> Result<(), R::Error> {
    while let Some(row) = in_doubt.pop_last() {
        let rivals = rows.rivals(&row)?;
        let mut by = rivals.iter().find(|rival| **rival > row);
        if by.is_none() {
            for rival in &rivals {
                if rows.insists(rival, &row)? {
                    by = Some(rival);
                    break;
                }
            }
        }
        match by {
            Some(by) => rows.hold_back(&row, by)?,
            None => {
                for rival in rivals {
                    in_doubt.extend(rows.hide(&rival)?);
                    in_doubt.insert(rival);
                }
                rows.show(&row)?;
                // One of those may have held back this very row.
                in_doubt.remove(&row);
            }
        }
    }
    Ok(())
}

/// The keys of the rows that are shown, of all live rows with their values in each index (NULL clashes with nothing).
pub fn shown<T: Ord + Clone>(rows: &BTreeMap<Rank, Vec<Option<T>>>) -> BTreeSet<Rank> {
    let mut taken: BTreeSet<(usize, T)> = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for (rank, values) in rows.iter().rev() {
        let values: Vec<(usize, T)> =
            values.iter().cloned().enumerate().filter_map(|(index, value)| Some((index, value?))).collect();
        if values.iter().all(|value| !taken.contains(value)) {
            taken.extend(values);
            shown.insert(rank.clone());
        }
    }
    shown
}
