//! One row's replicated state, and what an arriving fact does to it.

use std::collections::BTreeMap;

use super::schema::Column;
use crate::column::{ColumnType, cell_beats, show};
use crate::ids::{CausalLength, SiteId};
use crate::merge::{CellClock, Incarnation, Stamp, TieBreak, incarnation, row_wins_by_spelling};
use crate::value::Value;

/// What a replica knows of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The causal length: odd alive, even deleted, 0 unknown.
    pub cl: u64,
    /// The row-existence change of this incarnation, if one is held. The first incarnation of a row with columns
    /// and a canonical spelling has none.
    pub existence: Option<Existence>,
    /// The cells written in this incarnation. A column without a cell has its default; a cell whose column does
    /// not exist here is parked.
    pub cells: BTreeMap<CellName, Cell>,
}

/// What a cell is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellName {
    /// The column's name, or that of the cells of its type: see [`ColumnType::cell_name`].
    pub column: String,
    /// Whose part it is, where every site has a cell of its own.
    pub site: Option<SiteId>,
}

impl CellName {
    /// The name of the cell called `column` that `author` writes.
    pub fn new(column: &str, author: SiteId) -> CellName {
        let site = ColumnType::of_cell(column).is_parted().then_some(author);
        CellName { column: column.into(), site }
    }
}

/// A held row-existence change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existence {
    /// Who wrote it.
    pub stamp: Stamp,
    /// The packed key as the base table spells it; of a deleted row, as the canonical values do.
    pub spelling: Vec<u8>,
    /// The replica's db_version at which it was taken.
    pub at: u64,
}

/// A held cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its clock and author.
    pub clock: CellClock,
    /// Its value.
    pub value: Value,
    /// The replica's db_version at which it was taken.
    pub at: u64,
}

/// One fact about a row, on its way in.
pub(super) enum Entry {
    Existence(Existence),
    Cell(String, Cell),
}

impl Entry {
    /// The same fact about a row whose key is spelled so.
    pub fn spelled(self, spelling: &[u8]) -> Entry {
        match self {
            Entry::Existence(existence) => {
                Entry::Existence(Existence { spelling: spelling.to_vec(), ..existence })
            }
            cell => cell,
        }
    }
}

impl Row {
    /// Whether the base table has the row.
    pub fn is_alive(&self) -> bool {
        CausalLength(self.cl).is_alive()
    }

    /// Takes a fact of the incarnation `cl` if it wins. True if anything changed.
    pub(super) fn absorb(&mut self, cl: u64, entry: Entry, tie: TieBreak) -> bool {
        match incarnation(self.cl, cl) {
            Incarnation::Older => return false,
            Incarnation::Same => {}
            // Nothing of the old incarnation survives, not even clocks: a value that did would be resurrected.
            Incarnation::Newer => *self = Row { cl, ..Row::default() },
        }
        match entry {
            Entry::Existence(remote) => {
                let local = self.existence.as_ref().map(|local| (&local.stamp, &local.spelling[..]));
                let wins = row_wins_by_spelling(local, (&remote.stamp, &remote.spelling));
                if wins {
                    self.existence = Some(remote);
                }
                wins
            }
            Entry::Cell(column, remote) => {
                let kind = ColumnType::of_cell(&column);
                let name = CellName::new(&column, remote.clock.stamp.site);
                let local = self.cells.get(&name).map(|local| (&local.clock, local.value.as_ref()));
                let wins = cell_beats(kind, local, (&remote.clock, remote.value.as_ref()), tie);
                if wins {
                    self.cells.insert(name, remote);
                }
                wins
            }
        }
    }

    /// What the base table shows of a column.
    pub fn shown(&self, column: &Column) -> Value {
        let base = self.cells.get(&column.base()).map(|cell| &cell.value);
        let of_type: Vec<_> = match column.kind {
            ColumnType::Register => Vec::new(),
            #[cfg(feature = "text")]
            ColumnType::Text => {
                let shown = crate::text::show(base, &self.text_cells(column), self.cl);
                return shown.unwrap_or_else(|| column.default.clone());
            }
            kind => {
                let name = kind.cell_name(&column.name);
                let cells = self.cells.iter().filter(|(cell, _)| cell.column == name);
                cells.map(|(_, cell)| (cell.clock.stamp.site, cell.value.clone())).collect()
            }
        };
        show(column.kind, base, &of_type).unwrap_or_else(|| column.default.clone())
    }

    /// The cells of a text column.
    #[cfg(feature = "text")]
    pub(super) fn text_cells(&self, column: &Column) -> Vec<crate::text::TextCell> {
        let levels = 0..column.kind.levels();
        let of_level = |level: usize| {
            let name = column.kind.level_name(&column.name, level).into_owned();
            let cells = self.cells.iter().filter(move |(cell, _)| cell.column == name);
            cells.map(move |(_, cell)| (cell.clock.stamp.site, level, cell.value.clone()))
        };
        levels.flat_map(of_level).collect()
    }

    /// Everything held of the row, as it would arrive elsewhere.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        let cells = self.cells.into_iter().map(|(name, cell)| Entry::Cell(name.column, cell));
        self.existence.into_iter().map(Entry::Existence).chain(cells)
    }
}
