//! A run of a changeset in the terms of this replica: ordinals for sites, ids for columns.

use crate::catalog::Table;
use crate::sqlite::ValueRef;
use crate::store::clock::Step;
use crate::store::{Columns, Group, ROW, RowClock};
use crsql_core::changeset::RunHeader;
use crsql_core::merge::{Clocks, Refusal, validate, validate_row};
use smallvec::SmallVec;

/// What each value of a row is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A column of the table.
    Column(u32),
    /// A column that is unknown here: (group, bit).
    Unknown(usize, u32),
}

/// A translated run.
pub struct Translated {
    /// The first row's clock, of known slots only; groups in the order of the header's.
    pub clock: RowClock,
    /// How its groups move.
    pub steps: SmallVec<[Step; 1]>,
    /// What the values of a row are, in order.
    pub targets: Vec<Target>,
    /// Some columns are unknown here.
    pub has_unknown: bool,
}

/// Translates a run for `table`, whose changeset columns have these names.
pub fn translate(header: &RunHeader, names: &[String], table: &Table, sites: &[u32]) -> Translated {
    let mut groups = SmallVec::new();
    let mut steps = SmallVec::new();
    let mut targets = Vec::new();
    let mut has_unknown = false;
    let id_of = |bit: u32| match bit.checked_sub(1) {
        None => Some(ROW),
        Some(index) => names.get(index as usize).and_then(|name| table.column_named(name)).map(|c| c.id),
    };
    for (at, group) in header.groups.iter().enumerate() {
        for bit in group.columns.iter().filter(|bit| **bit > 0) {
            targets.push(id_of(*bit).map_or(Target::Unknown(at, *bit), Target::Column));
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
    /// (column id, index into `values`), by id.
    by_id: Vec<(u32, usize)>,
    /// The ids.
    pub columns: Columns,
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
                Target::Column(id) => Some((*id, at)),
                Target::Unknown(..) => None,
            })
            .collect();
        by_id.sort_unstable();
        let columns = by_id.iter().map(|(id, _)| *id).collect();
        Order { values: Vec::new(), by_id, columns, buffer: Vec::new() }
    }

    /// Fills the parameters of an INSERT: the key, then the values.
    pub fn fill(&mut self, key: &[ValueRef<'c>]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(key);
        self.buffer.extend(self.by_id.iter().map(|(_, at)| self.values[*at]));
    }

    /// The values by column id.
    pub fn by_column(&self) -> Vec<(u32, ValueRef<'c>)> {
        self.by_id.iter().map(|(id, at)| (*id, self.values[*at])).collect()
    }
}
