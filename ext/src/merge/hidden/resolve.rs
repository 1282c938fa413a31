//! Which rows of a table are shown: the core's decision, carried out on base rows and parked changes.

use super::orphans::{self, Missing};
use super::{Hidden, act, doubt, doubt_held_by, follow_names, held_by, hide_shown, leave, load, tell};
use crate::catalog::{Table, Term};
use crate::merge::row::{self, Found, Outcome};
use crate::park::{self, Loose};
use crate::schema::Ident;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crsql_core::clash::{Rank, Rows, settle};
use crsql_core::limits::COL_VERSION_MAX;
use crsql_core::merge::{CellClock, Stamp};
use crsql_core::parents::{Need, strata, supported};
use crsql_core::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Shows and hides rows until those that are shown are those that all rows decide.
pub fn resolve(state: &State) -> Result<()> {
    let done = resolve_all(state);
    state.pool.narrow();
    done
}

fn resolve_all(state: &State) -> Result<()> {
    let is_settled = state.in_doubt.borrow().is_empty()
        && state.suspects.borrow().is_empty()
        && state.changed_parents.borrow().is_empty();
    if is_settled {
        return Ok(());
    }
    let _mute = state.mute();
    state.pool.widen();
    // Triggers are off also because SQLite allows them nothing while it commits.
    state.db.without_triggers(|| {
        state.db.without_foreign_keys(|| {
            let mut strata = Vec::new();
            loop {
                orphans::spread(state)?;
                let doubtful = doubtful(state);
                let Some(first) = doubtful.first() else { return Ok(()) };
                if !strata.iter().any(|stratum: &Vec<u32>| stratum.contains(first)) {
                    strata = strata_around(state, &doubtful)?;
                }
                let next = strata.iter().find(|stratum| stratum.iter().any(|id| doubtful.contains(id)));
                settle_stratum(state, next.unwrap_or(&vec![*first]))?;
            }
        })
    })
}

/// The tables of which rows are in doubt, ascending.
fn doubtful(state: &State) -> BTreeSet<u32> {
    let (in_doubt, suspects) = (state.in_doubt.borrow(), state.suspects.borrow());
    in_doubt.iter().chain(&*suspects).map(|(table, _)| *table).collect()
}

/// The strata of these tables and all that their rows need or are needed by.
fn strata_around(state: &State, tables: &BTreeSet<u32>) -> Result<Vec<Vec<u32>>> {
    let (mut next, mut seen, mut needs) = (tables.clone(), Vec::new(), Vec::new());
    while let Some(id) = next.pop_first() {
        seen.push(id);
        let Ok(table) = state.table(id) else { continue };
        needs.extend(table.links.iter().map(|link| (id, link.parent)));
        let others = table.links.iter().map(|link| link.parent).chain(table.referrers.iter().copied());
        next.extend(others.filter(|other| !seen.contains(other)));
    }
    Ok(strata(&seen, &needs))
}

/// Decides about the rows of one stratum that are in doubt; what they need is decided.
fn settle_stratum(state: &State, stratum: &[u32]) -> Result<()> {
    let mut has_orphans = false;
    for id in stratum {
        // A table that is gone has nothing to show.
        let Ok(table) = state.table(*id) else {
            state.suspects.borrow_mut().retain(|(table, _)| table != id);
            continue;
        };
        if table.hides() {
            follow_names(state, &table)?;
        }
        for key in orphans::shown_orphans(state, &table)? {
            orphans::hide(state, &table, &key)?;
            has_orphans = true;
        }
    }
    if has_orphans {
        // Their children are looked at before anything is shown.
        return Ok(());
    }
    let all = std::mem::take(&mut *state.in_doubt.borrow_mut());
    let (mine, others): (BTreeSet<_>, BTreeSet<_>) =
        all.into_iter().partition(|(table, _)| stratum.contains(table));
    state.in_doubt.borrow_mut().extend(others);
    let tables: Vec<Rc<Table>> = stratum.iter().filter_map(|id| state.table(*id).ok()).collect();
    match &tables[..] {
        [table] if table.links.iter().all(|link| link.parent != table.id) => settle_table(state, table, mine),
        _ => settle_circle(state, &tables, mine),
    }
}

/// Shows what has its parents and keeps its values.
fn settle_table(state: &State, table: &Rc<Table>, keys: BTreeSet<(u32, Vec<u8>)>) -> Result<()> {
    let mut mover = Mover { state, table: table.clone() };
    let mut in_doubt = BTreeSet::new();
    for (_, key) in keys {
        let Some(hidden) = load(state, table, &key)? else { continue };
        if !table.links.is_empty() {
            if let Some(missing) = orphans::missing(state, table, &hidden)? {
                stay(state, table, &key, &hidden, &missing)?;
                continue;
            }
            orphans::stop_waiting(state, table.id, &key)?;
        }
        in_doubt.insert(mover.rank_of(&hidden, key));
    }
    // What it moves is in doubt once more, and then stays where it is.
    settle(&mut mover, in_doubt)
}

/// An orphan waits for its parent, or has done to it what the parent's delete does.
fn stay(state: &State, table: &Table, key: &[u8], hidden: &Hidden, missing: &Missing) -> Result<()> {
    if act::act(state, table, key, hidden, missing)? {
        return Ok(());
    }
    // It keeps nobody from anything any more.
    doubt_held_by(state, table.id, key)?;
    orphans::wait(state, table, key, hidden, missing)
}

/// Shows rows of tables that need each other, or themselves.
fn settle_circle(state: &State, tables: &[Rc<Table>], keys: BTreeSet<(u32, Vec<u8>)>) -> Result<()> {
    type Place = (u32, Vec<u8>);
    let table_of = |id: u32| tables.iter().find(|table| table.id == id);
    let mut needs: BTreeMap<Place, Vec<Need<Place>>> = BTreeMap::new();
    let mut missing: BTreeMap<Place, Vec<Missing>> = BTreeMap::new();
    let mut next: Vec<Place> = keys.into_iter().collect();
    while let Some((id, key)) = next.pop() {
        let place = (id, key);
        let Some(table) = table_of(id).filter(|_| !needs.contains_key(&place)) else { continue };
        let Some(hidden) = load(state, table, &place.1)? else { continue };
        let (mut of_row, mut wants) = (Vec::new(), Vec::new());
        for (at, link) in table.links.iter().enumerate() {
            let Some(values) = orphans::reference(state, table, &hidden, link)? else { continue };
            let wanted = orphans::wanted(link, &values)?;
            of_row.push(if orphans::has_parent(state, link, &values)? {
                Need::Shown
            } else if link.is_key && table_of(link.parent).is_some() {
                Need::Hidden((link.parent, wanted.clone()))
            } else {
                Need::Absent
            });
            wants.push(Missing { link: at, wanted });
        }
        // Who waits for it may be shown with it.
        next.extend(orphans::waiting(state, id, &place.1)?);
        missing.insert(place.clone(), wants);
        needs.insert(place, of_row);
    }
    let (shown, lacking) = supported(&needs);
    for (id, key) in shown {
        if let Some(table) = table_of(id)
            && let Some(hidden) = load(state, table, &key)?
        {
            show(state, table, &hidden, &key)?;
        }
    }
    for (place, at) in lacking {
        let table = table_of(place.0);
        let wanted = missing.get(&place).and_then(|wants| wants.get(at));
        if let (Some(table), Some(missing)) = (table, wanted)
            && let Some(hidden) = load(state, table, &place.1)?
        {
            stay(state, table, &place.1, &hidden, missing)?;
        }
    }
    Ok(())
}

/// Writes a hidden row to its table.
fn show(state: &State, table: &Table, hidden: &Hidden, key: &[u8]) -> Result<()> {
    leave(state, table, key)?;
    if let Outcome::Hidden(_) = park::write_row(state, table, &hidden.pk, &hidden.changes)? {
        // An index that SQLite sees and this does not: the row stays hidden, and is not tried again at once.
        state.in_doubt.borrow_mut().remove(&(table.id, key.to_vec()));
    }
    Ok(())
}

struct Mover<'a> {
    state: &'a State,
    table: Rc<Table>,
}

impl Mover<'_> {
    /// A hidden row's rank; `None` if there is none of this key, or it waits for a parent and clashes with nobody.
    fn rank(&self, key: Vec<u8>) -> Result<Option<Rank>> {
        let Some(hidden) = load(self.state, &self.table, &key)? else { return Ok(None) };
        if !self.table.links.is_empty() && orphans::missing(self.state, &self.table, &hidden)?.is_some() {
            doubt(self.state, self.table.id, key);
            return Ok(None);
        }
        Ok(Some(self.rank_of(&hidden, key)))
    }

    fn rank_of(&self, hidden: &Hidden, key: Vec<u8>) -> Rank {
        let unique = |change: &&(i64, Loose)| {
            let column = self.table.column_of_cell(park::column_of(&change.1.cid));
            !change.1.is_row() && column.is_some_and(|column| self.table.unique.contains(column.id))
        };
        let clocks = hidden.changes.iter().filter(unique);
        let clock = clocks.map(|(_, c)| CellClock { col_version: c.col_version, stamp: c.stamp }).max();
        Rank { clock, key }
    }

    fn found(&self, rank: &Rank) -> Result<Found> {
        let key = crsql_core::pack::unpack(&rank.key).map_err(Error::refused)?;
        row::find(self.state, &self.table, &key)
    }

    /// The values of a hidden row in an index; `None` if one of them is NULL, which clashes with nothing.
    fn values_in(&self, terms: &[Term], hidden: &Hidden) -> Result<Option<Vec<Value>>> {
        let mut values = Vec::new();
        for term in terms {
            let value = orphans::value_of(self.state, &self.table, hidden, &term.column)?;
            if value == Value::Null {
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some(values))
    }

    fn rank_of_shown(&self, found: &Found, key: Vec<u8>) -> Result<Rank> {
        let mut greatest = None;
        for group in found.clock.iter().flat_map(|clock| &clock.groups) {
            for slot in group.columns.intersection(&self.table.unique).iter() {
                let site = self.state.store.borrow_mut().sites.id(self.state.db, group.site)?;
                let stamp = Stamp { site, version: group.version, seq: group.seq_of(slot) };
                greatest = greatest.max(Some(CellClock { col_version: group.col_version, stamp }));
            }
        }
        Ok(Rank { clock: greatest, key })
    }
}

impl Rows for Mover<'_> {
    type Error = Error;

    fn rivals(&mut self, hidden: &Rank) -> Result<Vec<Rank>> {
        let (state, table) = (self.state, &self.table);
        let Some(row) = load(state, table, &hidden.key)? else { return Ok(Vec::new()) };
        let mut rivals = Vec::new();
        for terms in &table.clashes {
            let Some(values) = self.values_in(terms, &row)? else { continue };
            let condition = |(at, term): (usize, &Term)| {
                format!("{} COLLATE {} = ?{}", Ident(&term.column), Ident(&term.collation), at + 1)
            };
            let conditions: Vec<String> = terms.iter().enumerate().map(condition).collect();
            let sql = format!(
                "SELECT {} FROM {} WHERE {}",
                table.key_list(),
                table.sql_name(),
                conditions.join(" AND ")
            );
            let params: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
            let mut select = state.pool.prepare(state.db, &sql)?;
            let mut rows = select.query(&params)?;
            while rows.step()? {
                let key: Vec<ValueRef<'_>> =
                    (0..table.key_names.len()).map(|at| rows.column_value(at)).collect();
                let key = crsql_core::key::canonical_key(&key, &table.key_columns).map_err(Error::refused)?;
                rivals.push(key.bytes);
            }
        }
        rivals.sort_unstable();
        rivals.dedup();
        let mut ranks = Vec::new();
        for key in rivals.into_iter().filter(|key| *key != hidden.key) {
            let found = self.found(&Rank { clock: None, key: key.clone() })?;
            ranks.push(self.rank_of_shown(&found, key)?);
        }
        Ok(ranks)
    }

    fn insists(&mut self, shown: &Rank, hidden: &Rank) -> Result<bool> {
        let found = self.found(shown)?;
        let local = self.state.store.borrow().next_local();
        let Some(goal) = hidden.clock.map(|clock| clock.col_version).filter(|goal| *goal < COL_VERSION_MAX)
        else {
            return Ok(false);
        };
        let groups = found.clock.iter().flat_map(|clock| &clock.groups);
        for group in groups.filter(|group| group.site == local.site && group.version == local.version) {
            if let Some(slot) = group.columns.intersection(&self.table.unique).iter().next() {
                crate::merge::raise(self.state, &self.table, &found.place, group, slot, goal + 1);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hide(&mut self, shown: &Rank) -> Result<Vec<Rank>> {
        let Found { place, clock, .. } = self.found(shown)?;
        if let Some(clock) = clock {
            hide_shown(self.state, &self.table, &place, clock, &shown.key)?;
        }
        if !self.table.referrers.is_empty() {
            orphans::changed(self.state, self.table.id, shown.key.clone(), true);
        }
        let mut held = Vec::new();
        for key in held_by(self.state, self.table.id, &shown.key)? {
            held.extend(self.rank(key)?);
        }
        Ok(held)
    }

    fn show(&mut self, hidden: &Rank) -> Result<()> {
        match load(self.state, &self.table, &hidden.key)? {
            Some(row) => show(self.state, &self.table, &row, &hidden.key),
            None => Ok(()),
        }
    }

    fn hold_back(&mut self, hidden: &Rank, by: &Rank) -> Result<()> {
        let (state, table) = (self.state, &*self.table);
        let Some(row) = load(state, table, &hidden.key)? else { return Ok(()) };
        state
            .pool
            .prepare(
                state.db,
                "UPDATE main.__crsql_hidden SET held_by = ?3 WHERE table_id = ?1 AND key = ?2",
            )?
            .execute(&[
                ValueRef::Integer(i64::from(table.id)),
                ValueRef::Blob(&hidden.key),
                ValueRef::Blob(&by.key),
            ])?;
        let key = crsql_core::pack::unpack(&by.key).map_err(Error::refused)?;
        let key: Vec<String> = key.iter().map(spelled).collect();
        let reason = format!("UNIQUE: the row with the key {} keeps the value", key.join(", "));
        tell(state, &row, &reason)
    }
}

/// A value for people to read.
pub fn spelled(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => {
            bytes.iter().fold("x'".to_owned(), |text, byte| format!("{text}{byte:02x}")) + "'"
        }
    }
}
