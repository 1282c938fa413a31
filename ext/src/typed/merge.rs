//! What comes from elsewhere for columns that have a type.

use super::{Facts, facts, facts_key, forget_row, store};
use crate::catalog::{Table, Typed};
use crate::merge::{Incoming, Order, RowPlace};
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
#[cfg(feature = "text")]
use crate::store::{Columns, Key};
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
    #[cfg(feature = "text")]
    texts: Vec<(super::text::Held<'t>, Columns)>,
}

impl<'t> Assignments<'t> {
    fn new() -> Assignments<'t> {
        Assignments {
            facts: Vec::new(),
            shown: Vec::new(),
            #[cfg(feature = "text")]
            texts: Vec::new(),
        }
    }

    /// Puts together the texts of which some levels are known, now that all of them are.
    #[cfg(feature = "text")]
    fn add_texts(
        &mut self,
        state: &State,
        table: &'t Table,
        key: Option<&Key>,
        cl: u64,
        read: impl Fn(&Typed) -> Result<Facts>,
    ) -> Result<()> {
        let (texts, others) = std::mem::take(&mut self.facts)
            .into_iter()
            .partition(|(typed, _)| typed.kind == ColumnType::Text);
        self.facts = others;
        let texts: Vec<(&'t Typed, Facts)> = texts;
        for typed in table.typed.iter().filter(|typed| typed.kind == ColumnType::Text && typed.level == 0) {
            let known = texts.iter().filter(|(known, _)| known.register == typed.register);
            let mut known: Vec<_> = known.cloned().collect();
            known.iter_mut().for_each(|(_, facts)| facts.revision = 0);
            let changed: Columns = known.iter().map(|(typed, _)| typed.slot).collect();
            if known.is_empty() {
                continue;
            }
            let mut held = super::text::Held::new(table, typed, known, &read)?;
            let shown = match key {
                Some(key) => held.show(state, (table.id, key.clone(), typed.register), cl)?,
                None => held.shown(state, cl)?,
            };
            self.shown.extend(shown.map(|value| (typed.slot, value)));
            self.texts.push((held, changed));
        }
        Ok(())
    }

    fn add(&mut self, state: &State, typed: &'t Typed, facts: Facts) -> Result<()> {
        if typed.kind != ColumnType::Text {
            self.shown.extend(facts.shown(state, typed)?.map(|value| (typed.slot, value)));
        }
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
        #[cfg(feature = "text")]
        for (held, changed) in &self.texts {
            held.store(state, table.id, &key, |typed| changed.contains(typed.slot))?;
        }
        self.facts.iter().try_for_each(|(typed, facts)| store(state, table.id, typed, &key, facts))
    }
}

/// What the typed columns of a new incarnation hold.
pub fn assign_new<'t>(state: &State, table: &'t Table, row: &Incoming<'_>) -> Result<Assignments<'t>> {
    let mut assignments = Assignments::new();
    for typed in &table.typed {
        let mut facts = Facts::default();
        let base = row.values.iter().find(|(id, _)| *id == typed.register && typed.level == 0);
        facts.base = base.map(|(_, value)| value.to_owned_value());
        for cell in row.cells.iter().filter(|cell| cell.slot == typed.slot) {
            facts.set(typed, cell.slot, cell.site, cell.value.to_owned_value());
        }
        // The upper levels of a text are seldom there.
        if typed.level == 0 || facts != Facts::default() {
            assignments.add(state, typed, facts)?;
        }
    }
    #[cfg(feature = "text")]
    assignments.add_texts(state, table, None, row.clock.cl, |_| Ok(Facts::default()))?;
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
    let mut assignments = Assignments::new();
    for typed in &table.typed {
        let registers = if typed.level == 0 { Some(typed.register) } else { None };
        let mut known = None;
        for group in winners {
            let slots = registers.into_iter().chain([typed.slot]);
            for slot in slots.filter(|slot| group.columns.contains(*slot)) {
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
    #[cfg(feature = "text")]
    {
        let key = facts_key(table, place.rowid.unwrap_or(0), &place.pk);
        let read = |level: &Typed| facts_of(state, table, level, row, place, local);
        assignments.add_texts(state, table, Some(&key), local.cl, read)?;
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
