//! Clocks as such: within their limits, of sites that are known, each slot once.

use super::Report;
use crate::catalog::{Shape, Table};
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key, ROW, Run, scan};
use crsql_core::limits::{CAUSAL_LENGTH_MAX, COL_VERSION_MAX, SEQ_MAX, SITE_VERSION_MAX};
use std::collections::BTreeSet;

/// What no clock may exceed.
pub struct Limits {
    sites: BTreeSet<u32>,
    own: u32,
    own_version: u64,
    db_version: u64,
}

impl Limits {
    /// The counters, those of an open transaction included.
    pub fn read(state: &State) -> Result<Limits> {
        let is_open = !state.ops.borrow().is_empty();
        let mut store = state.store.borrow_mut();
        store.refresh()?;
        let (tail, next) = (store.tail(), store.next_local());
        let is_open = is_open || store.is_spilled();
        Ok(Limits {
            sites: store.sites.all(state.db)?.into_iter().map(|(ordinal, _)| ordinal).collect(),
            own: store.site(),
            own_version: if is_open { next.version } else { tail.version },
            db_version: if is_open { next.db_version } else { tail.db_version },
        })
    }
}

/// Checks every clock of a table.
pub fn check(state: &State, table: &Table, limits: &Limits, report: &mut Report) -> Result<()> {
    let last_column = state
        .db
        .prepare("SELECT max(max(id, slot)) FROM main.__crsql_column WHERE table_id = ?1")?
        .query_i64(&[ValueRef::Integer(i64::from(table.id))])?
        .unwrap_or(0)
        .max(table.columns.iter().map(|column| i64::from(column.id)).max().unwrap_or(0));
    let layer = state.layer()?;
    let mut has_keyed_tombstones = false;
    scan::table(state.db, &layer, table.id, &mut |run| {
        if let Some(reason) = unsound(&run, limits, last_column as u64) {
            report.add("unsound clock", &table.name, format_args!("{:?}: {reason}", run.key));
        }
        let is_misplaced = match (table.shape, &run.key) {
            (Shape::Integer, key) => matches!(key, Key::Bytes(_)),
            (Shape::Packed, key) => matches!(key, Key::Int(_)),
            // A live row's rowid, a dead row's key.
            (Shape::Rowid(_), key) => matches!(key, Key::Int(_)) != run.clock.is_alive(),
        };
        if is_misplaced {
            report.add("misplaced clock", &table.name, format_args!("{:?}", run.key));
        }
        has_keyed_tombstones |= matches!(run.key, Key::Bytes(_)) && !run.clock.is_alive();
        Ok(())
    })?;
    if matches!(table.shape, Shape::Rowid(_))
        && has_keyed_tombstones
        && !state.may_have_tombstones(table.id)?
    {
        report.add("unmarked tombstones", &table.name, "inserts would not find the tombstones of their keys");
    }
    Ok(())
}

fn unsound(run: &Run, limits: &Limits, last_column: u64) -> Option<String> {
    let clock = &run.clock;
    if clock.cl == 0 || clock.cl > CAUSAL_LENGTH_MAX {
        return Some(format!("the causal length is {}", clock.cl));
    }
    let mut seen = Columns::new();
    for (index, group) in clock.groups.iter().enumerate() {
        // A counter has one for each site.
        let parts = group.columns.parts();
        let has_part =
            |slot| clock.groups[..index].iter().any(|g| g.site == group.site && g.columns.contains(slot));
        if group.columns.is_empty() || group.columns.intersects(&seen) || parts.iter().any(has_part) {
            return Some("a column has no clock or two".to_owned());
        }
        seen.union_with(&group.columns.without_parts());
        if !clock.is_alive() && group.columns != Columns::one(ROW) {
            return Some("a deleted row has clocks of columns".to_owned());
        }
        if let Some(slot) = group.columns.iter().last().filter(|slot| u64::from(*slot) > last_column) {
            return Some(format!("column {slot} was never known"));
        }
        if !limits.sites.contains(&group.site) {
            return Some(format!("site {} is unknown", group.site));
        }
        if group.col_version == 0 || group.col_version > COL_VERSION_MAX {
            return Some(format!("the column version is {}", group.col_version));
        }
        let step = run.steps.get(index).copied().unwrap_or_default();
        let last =
            |first: u64, step: u64| first.saturating_add(step.saturating_mul(run.count.saturating_sub(1)));
        let (version, seq) = (last(group.version, step.version), last(group.seq, step.seq));
        let newest = if group.site == limits.own { limits.own_version } else { SITE_VERSION_MAX };
        if version > newest {
            return Some(format!("site_version {version} is above {newest}, the last of its site"));
        }
        if seq > SEQ_MAX {
            return Some(format!("seq {seq} is above its limit"));
        }
        let db_version = last(group.db_version, step.db_version);
        if db_version > limits.db_version {
            return Some(format!("db_version {db_version} is above {}, the last one", limits.db_version));
        }
    }
    None
}
