//! Which rows of a table are shown: the core's decision, carried out on base rows and parked changes.

use super::{Hidden, held_by, hide_shown, leave, load};
use crate::catalog::{Table, Term};
use crate::merge::row::{self, Found, Outcome};
use crate::park::{self, Loose};
use crate::schema::Ident;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crsql_core::clash::{Rank, Rows, settle};
use crsql_core::limits::COL_VERSION_MAX;
use crsql_core::merge::{CellClock, Stamp};
use crsql_core::value::Value;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Shows and hides rows until those that are shown are those that all rows decide.
pub fn resolve(state: &State) -> Result<()> {
    if state.in_doubt.borrow().is_empty() {
        return Ok(());
    }
    let _mute = state.mute();
    // Also because SQLite allows triggers nothing while it commits.
    state.db.without_triggers(|| {
        loop {
            let all = std::mem::take(&mut *state.in_doubt.borrow_mut());
            let Some((id, _)) = all.first().cloned() else { return Ok(()) };
            let (mine, others): (BTreeSet<_>, BTreeSet<_>) =
                all.into_iter().partition(|(table, _)| *table == id);
            state.in_doubt.borrow_mut().extend(others);
            // A table that is gone has nothing to show.
            let Ok(table) = state.table(id) else { continue };
            let mut mover = Mover { state, table };
            let mut in_doubt = BTreeSet::new();
            for (_, key) in mine {
                in_doubt.extend(mover.rank(key)?);
            }
            // What it moves is in doubt once more, and then stays where it is.
            settle(&mut mover, in_doubt)?;
        }
    })
}

struct Mover<'a> {
    state: &'a State,
    table: Rc<Table>,
}

impl Mover<'_> {
    /// A hidden row's rank; `None` if there is none of this key.
    fn rank(&self, key: Vec<u8>) -> Result<Option<Rank>> {
        let Some(hidden) = load(self.state, &self.table, &key)? else { return Ok(None) };
        let unique = |change: &&(i64, Loose)| {
            let column = self.table.column_of_cell(park::column_of(&change.1.cid));
            !change.1.is_row() && column.is_some_and(|column| self.table.unique.contains(column.id))
        };
        let clocks = hidden.changes.iter().filter(unique);
        let clock = clocks.map(|(_, c)| CellClock { col_version: c.col_version, stamp: c.stamp }).max();
        Ok(Some(Rank { clock, key }))
    }

    fn found(&self, rank: &Rank) -> Result<Found> {
        let key = crsql_core::pack::unpack(&rank.key).map_err(Error::refused)?;
        row::find(self.state, &self.table, &key)
    }

    /// The values of a hidden row in an index; `None` if one of them is NULL, which clashes with nothing.
    fn values_in(&self, terms: &[Term], hidden: &Hidden) -> Result<Option<Vec<Value>>> {
        let key = crsql_core::pack::unpack(&hidden.pk).map_err(Error::refused)?;
        let mut values = Vec::new();
        for term in terms {
            let value = match term.key {
                Some(at) => key.get(at).map(ValueRef::to_owned_value),
                None => {
                    let of = |(_, change): &&(i64, Loose)| {
                        !change.is_row() && park::column_of(&change.cid) == term.column
                    };
                    hidden.changes.iter().find(of).map(|(_, change)| change.value.clone())
                }
            };
            let value = match value {
                Some(value) => value,
                None => self.default_of(&term.column)?,
            };
            if value == Value::Null {
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some(values))
    }

    fn default_of(&self, column: &str) -> Result<Value> {
        let column = self.table.column_of_cell(column);
        let Some(default) = column.and_then(|column| column.default_sql.as_deref()) else {
            return Ok(Value::Null);
        };
        let mut select = self.state.db.prepare(&format!("SELECT ({default})"))?;
        Ok(select.query_row(&[], |row| Ok(row.column_value(0).to_owned_value()))?.unwrap_or(Value::Null))
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
            let mut select = state.db.prepare(&sql)?;
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
        let mut held = Vec::new();
        for key in held_by(self.state, self.table.id, &shown.key)? {
            held.extend(self.rank(key)?);
        }
        Ok(held)
    }

    fn show(&mut self, hidden: &Rank) -> Result<()> {
        let (state, table) = (self.state, &*self.table);
        let Some(row) = load(state, table, &hidden.key)? else { return Ok(()) };
        leave(state, table, &hidden.key)?;
        if let Outcome::Hidden(_) = park::write_row(state, table, &row.pk, &row.changes)? {
            // An index that SQLite sees and this does not: the row stays hidden, and is not tried again at once.
            state.in_doubt.borrow_mut().remove(&(table.id, hidden.key.clone()));
        }
        Ok(())
    }

    fn hold_back(&mut self, hidden: &Rank, by: &Rank) -> Result<()> {
        let (state, table) = (self.state, &*self.table);
        let Some(row) = load(state, table, &hidden.key)? else { return Ok(()) };
        state
            .db
            .prepare("UPDATE main.__crsql_hidden SET held_by = ?3 WHERE table_id = ?1 AND key = ?2")?
            .execute(&[
                ValueRef::Integer(i64::from(table.id)),
                ValueRef::Blob(&hidden.key),
                ValueRef::Blob(&by.key),
            ])?;
        let key = crsql_core::pack::unpack(&by.key).map_err(Error::refused)?;
        let key: Vec<String> = key.iter().map(spelled).collect();
        let reason = format!("UNIQUE: the row with the key {} keeps the value", key.join(", "));
        let mut update =
            state.db.prepare("UPDATE main.__crsql_parked SET reason = ?2 WHERE id = ?1 AND reason <> ?2")?;
        row.changes.iter().try_for_each(|(id, _)| {
            update.execute(&[ValueRef::Integer(*id), ValueRef::Text(reason.as_bytes())])
        })
    }
}

/// A value for people to read.
fn spelled(value: &ValueRef<'_>) -> String {
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
