//! What comes from elsewhere for columns that have a type.

use super::{Facts, facts, facts_key, forget_row, store};
use crate::catalog::{Table, Typed};
use crate::merge::{Incoming, Order, RowPlace};
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::{Group, RowClock};
use crsql_core::column::{ColumnType, cell_beats};
use crsql_core::value::Value;

/// The value of a cell of a column's type, on its way in.
#[derive(Clone, Copy, Debug)]
pub struct TypedCell<'a> {
    /// Its slot.
    pub slot: u32,
    /// The author's ordinal.
    pub site: u32,
    /// The column's type.
    pub kind: ColumnType,
    /// Its value.
    pub value: ValueRef<'a>,
}

impl TypedCell<'_> {
    /// The same without its value.
    pub fn unbound(&self) -> TypedCell<'static> {
        TypedCell { slot: self.slot, site: self.site, kind: self.kind, value: ValueRef::Null }
    }
}

/// What a row's typed columns will hold, and what the base table is to show of them.
pub struct Assignments<'t> {
    facts: Vec<(&'t Typed, Facts)>,
    shown: Vec<(u32, Value)>,
}

impl<'t> Assignments<'t> {
    fn add(&mut self, state: &State, typed: &'t Typed, facts: Facts) -> Result<()> {
        self.shown.extend(facts.shown(state, typed)?.map(|value| (typed.slot, value)));
        self.facts.push((typed, facts));
        Ok(())
    }

    /// What the base table is to be given: of the registers in `values` what is given, of the rest what is shown.
    /// By column id.
    pub fn with<'a>(&'a self, table: &Table, values: &[(u32, ValueRef<'a>)]) -> Vec<(u32, ValueRef<'a>)> {
        let registers = values.iter().copied().filter(|(id, _)| table.typed(*id).is_none());
        let shown = self.shown.iter().map(|(slot, value)| (*slot, value.as_ref()));
        let mut all: Vec<_> = registers.chain(shown).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// Stores it, once the base row is written.
    pub fn store(&self, state: &State, table: &Table, place: &RowPlace) -> Result<()> {
        let key = facts_key(table, place.rowid.unwrap_or(0), &place.pk);
        self.facts.iter().try_for_each(|(typed, facts)| store(state, table.id, typed, &key, facts))
    }
}

/// What the typed columns of a new incarnation hold.
pub fn assign_new<'t>(state: &State, table: &'t Table, row: &Incoming<'_>) -> Result<Assignments<'t>> {
    let mut assignments = Assignments { facts: Vec::new(), shown: Vec::new() };
    for typed in &table.typed {
        let mut facts = Facts::default();
        let base = row.values.iter().find(|(id, _)| *id == typed.register);
        facts.base = base.map(|(_, value)| value.to_owned_value());
        for cell in row.cells.iter().filter(|cell| cell.slot == typed.slot) {
            facts.set(typed, cell.slot, cell.site, cell.value.to_owned_value());
        }
        assignments.add(state, typed, facts)?;
    }
    Ok(assignments)
}

/// Stores what [`assign_new`] found, in place of what the row held before.
pub fn store_new(
    state: &State,
    table: &Table,
    place: &RowPlace,
    assignments: Option<&Assignments<'_>>,
) -> Result<()> {
    if table.typed.is_empty() {
        return Ok(());
    }
    forget_row(state, table.id, &facts_key(table, place.rowid.unwrap_or(0), &place.pk))?;
    assignments.map_or(Ok(()), |assignments| assignments.store(state, table, place))
}

/// What typed columns hold once `winners` are taken; only those of which there is one among them.
pub fn assign_winners<'t>(
    state: &State,
    table: &'t Table,
    row: &Incoming<'_>,
    place: &RowPlace,
    local: &RowClock,
    winners: &[Group],
) -> Result<Assignments<'t>> {
    let mut assignments = Assignments { facts: Vec::new(), shown: Vec::new() };
    for typed in &table.typed {
        let mut known = None;
        for group in winners {
            for slot in [typed.register, typed.slot].into_iter().filter(|slot| group.columns.contains(*slot))
            {
                let facts = match &mut known {
                    Some(facts) => facts,
                    none => none.insert(facts_of(state, table, typed, row, place, local)?),
                };
                let value = incoming_value(row, typed, slot, group.site);
                facts.set(typed, slot, group.site, value.to_owned_value());
            }
        }
        if let Some(facts) = known {
            assignments.add(state, typed, facts)?;
        }
    }
    Ok(assignments)
}

fn incoming_value<'a>(row: &Incoming<'a>, typed: &Typed, slot: u32, site: u32) -> ValueRef<'a> {
    if slot == typed.register {
        return row.values.iter().find(|(id, _)| *id == slot).map_or(ValueRef::Null, |(_, value)| *value);
    }
    let is_it = |cell: &&TypedCell<'a>| cell.slot == slot && cell.site == site;
    row.cells.iter().find(is_it).map_or(ValueRef::Null, |cell| cell.value)
}

/// What is held of a column of a row that is merged.
pub fn facts_of(
    state: &State,
    table: &Table,
    typed: &Typed,
    row: &Incoming<'_>,
    place: &RowPlace,
    local: &RowClock,
) -> Result<Facts> {
    let key = facts_key(table, place.rowid.unwrap_or(0), &place.pk);
    facts(state, table, typed, &key, local, || {
        crate::merge::shown_value(state, table, place.rowid, row.key, typed.slot)
    })
}

/// Whether the incoming cell in `slot`, of the group `theirs`, beats the one that is here.
#[allow(clippy::too_many_arguments)] // the whole context of one comparison, in one place
pub fn beats(
    order: &Order<'_>,
    table: &Table,
    typed: &Typed,
    row: &Incoming<'_>,
    place: &RowPlace,
    local: &RowClock,
    theirs: &Group,
    slot: u32,
) -> Result<bool> {
    let Some(ours) = local.group_for(slot, theirs.site) else { return Ok(true) };
    let facts = facts_of(order.state, table, typed, row, place, local)?;
    let kind = if slot == typed.register { ColumnType::Register } else { typed.kind };
    let known = facts.cell(typed, slot, theirs.site).map_or(ValueRef::Null, Value::as_ref);
    let remote = incoming_value(row, typed, slot, theirs.site);
    let (here, there) = (order.cell(ours, slot)?, order.cell(theirs, slot)?);
    Ok(cell_beats(kind, Some((&here, known)), (&there, remote), order.state.tie_break()?))
}
