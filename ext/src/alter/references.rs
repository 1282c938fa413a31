//! Whether a table's FOREIGN KEYs can be kept by merges.

use crate::catalog::Table;
use crate::options::Options;
use crate::schema::eligibility::ForeignKeyPolicy;
use crate::schema::{Ineligible, Literal};
use crate::sqlite::{Error, Result};
use crate::state::State;

/// Refuses FOREIGN KEYs of which no rule tells alike everywhere which rows lack what they refer to.
pub fn check(state: &State, table: &Table, options: &Options) -> Result<()> {
    if options.foreign_keys.is_none_or(|policy| policy == ForeignKeyPolicy::Ignore) {
        return check_circles(state, table);
    }
    let name = || table.name.clone();
    for key in &table.info.foreign_keys {
        let parent = key.parent.clone();
        if let Some(column) = key.columns.iter().find(|column| {
            table.info.column(column).is_some_and(|column| table.info.columns[column].generated)
        }) {
            return Err(Ineligible::GeneratedReference { table: name(), column: column.clone() }.into());
        }
        if super::find_replicated(state, &parent)?.is_none() && !refers_to(state, &parent, &table.name)? {
            return Err(Ineligible::ParentNotReplicated { table: name(), parent }.into());
        }
        // SQLite says so when it compiles a look for violations.
        let look = format!("PRAGMA main.foreign_key_check({})", Literal(&table.name));
        match state.db.prepare(&look) {
            Err(error) if error.to_string().contains("mismatch") => {
                return Err(Ineligible::ParentMismatch { table: name(), parent }.into());
            }
            other => drop(other?),
        }
    }
    check_circles(state, table)
}

/// Whether the table `from` refers to the table `to`, directly or through others.
fn refers_to(state: &State, from: &str, to: &str) -> Result<bool> {
    let mut next = vec![from.to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(name) = next.pop() {
        if name.eq_ignore_ascii_case(to) {
            return Ok(true);
        }
        if seen.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            continue;
        }
        let info = crate::schema::describe(&state.db, &name)?;
        next.extend(info.iter().flat_map(|info| &info.foreign_keys).map(|key| key.parent.clone()));
        seen.push(name);
    }
    Ok(false)
}

/// Refuses tables in which rows clash among those that need each other.
fn check_circles(state: &State, table: &Table) -> Result<()> {
    let above = |id: u32| -> Result<Vec<u32>> {
        let (mut next, mut seen) = (vec![id], Vec::new());
        while let Some(at) = next.pop() {
            let Ok(table) = state.table(at) else { continue };
            let parents = table.links.iter().map(|link| link.parent);
            let fresh: Vec<u32> = parents.filter(|parent| !seen.contains(parent)).collect();
            seen.extend(&fresh);
            next.extend(fresh);
        }
        Ok(seen)
    };
    let reached = above(table.id)?;
    if !reached.contains(&table.id) {
        return Ok(());
    }
    for id in reached {
        let other = state.table(id)?;
        if !other.clashes.is_empty() && above(id)?.contains(&table.id) {
            let parent = table.links.iter().map(|link| link.parent_name.clone()).next().unwrap_or_default();
            let (table, unique) = (table.name.clone(), other.name.clone());
            return Err(Ineligible::UniqueInCycle { table, parent, unique }.into());
        }
    }
    Ok(())
}

/// Refuses to make a table ordinary whose rows others wait for.
pub fn check_unreferenced(state: &State, table: &Table) -> Result<()> {
    match table.referrers.iter().find(|child| **child != table.id) {
        None => Ok(()),
        Some(child) => {
            let child = state.table(*child)?.name.clone();
            Err(Error::from(Ineligible::HasChildren { table: table.name.clone(), child }))
        }
    }
}
