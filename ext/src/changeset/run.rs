//! A run of a changeset in the terms of this replica: ordinals for sites, ids for columns.

use crate::catalog::Table;
use crate::sqlite::ValueRef;
use crate::store::clock::Step;
use crate::store::{Columns, Group, ROW, RowClock};
use crate::typed::TypedCell;
use crsql_core::changeset::RunHeader;
use crsql_core::column::ColumnType;
use crsql_core::merge::{Clocks, Refusal, validate, validate_row};
use smallvec::SmallVec;

/// What each value of a row is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A column of the table.
    Column(u32),
    /// A cell of a column that has a type: slot, author's ordinal, type.
    Cell(u32, u32, ColumnType),
    /// A column that is unknown here: (group, bit).
    Unknown(usize, u32),
}

/// A translated run.
pub struct Translated {
    /// The first row's clock, of known slots only; groups in the order of the header's.
    pub clock: RowClock,
    /// How its groups move.
    pub steps: SmallVec<[Step; 2]>,
    /// What the values of a row are, in order.
    pub targets: Vec<Target>,
    /// Some columns are unknown here.
    pub has_unknown: bool,
}

impl Translated {
    /// Whether the base table shows every value as it comes: of no column with a type there is more than one cell.
    pub fn is_shown(&self, table: &Table) -> bool {
        table.typed.iter().all(|typed| {
            // What a text shows is made of its cells, and may be none of them.
            if typed.kind == ColumnType::Text {
                return false;
            }
            let is_of_it = |target: &&Target| match target {
                Target::Column(id) | Target::Cell(id, ..) => *id == typed.register || *id == typed.slot,
                Target::Unknown(..) => false,
            };
            self.targets.iter().filter(is_of_it).count() < 2
        })
    }
}

/// Translates a run for `table`, whose changeset columns have these names.
pub fn translate(header: &RunHeader, names: &[String], table: &Table, sites: &[u32]) -> Translated {
    let mut groups = SmallVec::new();
    let mut steps = SmallVec::new();
    let mut targets = Vec::new();
    let mut has_unknown = false;
    let target = |id: u32, site: u32| match table.column(id).map(|column| column.kind) {
        None | Some(ColumnType::Register) => Target::Column(id),
        Some(kind) => Target::Cell(id, site, kind),
    };
    let id_of = |bit: u32| match bit.checked_sub(1) {
        None => Some(ROW),
        Some(index) => names.get(index as usize).and_then(|name| table.column_of_cell(name)).map(|c| c.id),
    };
    for (at, group) in header.groups.iter().enumerate() {
        for bit in group.columns.iter().filter(|bit| **bit > 0) {
            let site = sites[group.site as usize];
            targets.push(id_of(*bit).map_or(Target::Unknown(at, *bit), |id| target(id, site)));
        }
        let ids: Vec<Option<u32>> = group.columns.iter().map(|bit| id_of(*bit)).collect();
        let ranks: Vec<Option<u32>> =
            group.rank.as_ref().unwrap_or(&group.columns).iter().map(|bit| id_of(*bit)).collect();
        has_unknown |= ids.contains(&None);
        let site = sites[group.site as usize];
        let made = |columns: Columns, rank: Columns, seq: u64| Group {
            columns,
            rank,
            col_version: group.col_version,
            site,
            version: group.version,
            seq,
            db_version: 0,
        };
        let step = Step { seq: group.seq_step, version: group.version_step, db_version: 0 };
        // Ranks are taken in the order of our ids; where theirs differs, each slot goes on its own.
        let is_same_order = ranks.iter().all(Option::is_some) && ranks.is_sorted();
        if is_same_order && !ids.contains(&None) {
            groups.push(made(
                ids.iter().flatten().copied().collect(),
                ranks.into_iter().flatten().collect(),
                group.seq,
            ));
            steps.push(step);
        } else {
            for (id, seq) in ids.iter().zip(group.seq_offsets()) {
                if let Some(id) = id {
                    groups.push(made(Columns::one(*id), Columns::one(*id), group.seq + seq));
                    steps.push(step);
                }
            }
        }
    }
    Translated { clock: RowClock { cl: header.cl, groups }, steps, targets, has_unknown }
}

/// Checks the clocks of the first and the last row of every group.
pub fn check(header: &RunHeader, rows: u64) -> Result<(), Refusal> {
    let last = rows.saturating_sub(1);
    for group in &header.groups {
        for row in [0, last] {
            let clocks = Clocks {
                cl: header.cl,
                col_version: if group.has_row() { header.cl } else { group.col_version },
                version: group.version_of_row(row),
                seq: group.seq_of_row(row),
            };
            if group.has_row() {
                validate_row(&clocks)?
            } else {
                validate(&clocks)?
            }
            validate(&Clocks { col_version: group.col_version, ..clocks })?;
        }
    }
    Ok(())
}

/// The values of a row in the order in which statements take them: by column id.
pub struct Order<'c> {
    /// As they come.
    pub values: Vec<ValueRef<'c>>,
    /// (column id, index into `values`), by id: what an INSERT takes.
    by_id: Vec<(u32, usize)>,
    /// The ids.
    pub columns: Columns,
    /// Cells of columns that have a type, with their index into `values`.
    cells: Vec<(TypedCell<'static>, usize)>,
    /// The parameters of an INSERT.
    pub buffer: Vec<ValueRef<'c>>,
}

impl<'c> Order<'c> {
    /// Of a run whose values are these.
    pub fn new(targets: &[Target]) -> Order<'c> {
        let mut by_id: Vec<(u32, usize)> = targets
            .iter()
            .enumerate()
            .filter_map(|(at, target)| match target {
                Target::Column(id) | Target::Cell(id, ..) => Some((*id, at)),
                Target::Unknown(..) => None,
            })
            .collect();
        let cells = targets.iter().enumerate().filter_map(|(at, target)| match target {
            Target::Cell(slot, site, kind) => {
                Some((TypedCell { slot: *slot, site: *site, kind: *kind, value: ValueRef::Null }, at))
            }
            _ => None,
        });
        let cells = cells.collect();
        by_id.sort_unstable();
        let columns = by_id.iter().map(|(id, _)| *id).collect();
        Order { values: Vec::new(), by_id, columns, cells, buffer: Vec::new() }
    }

    /// Fills the parameters of an INSERT: the key, then the values.
    pub fn fill(&mut self, key: &[ValueRef<'c>]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(key);
        self.buffer.extend(self.by_id.iter().map(|(_, at)| self.values[*at]));
    }

    /// The values of registers by column id.
    pub fn by_column(&self) -> Vec<(u32, ValueRef<'c>)> {
        let is_register = |at: usize| self.cells.iter().all(|(_, cell)| *cell != at);
        let registers = self.by_id.iter().filter(|(_, at)| is_register(*at));
        registers.map(|(id, at)| (*id, self.values[*at])).collect()
    }

    /// The cells of columns that have a type.
    pub fn typed_cells(&self) -> Vec<TypedCell<'c>> {
        self.cells.iter().map(|(cell, at)| TypedCell { value: self.values[*at], ..*cell }).collect()
    }
}
