//! Tombstones that go, and what is taken from others afterwards. The rules are `crsql_core::collect`'s.

use crate::changeset::version_vector;
use crate::members;
use crate::park::Loose;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Key, ROW, RowClock, Run};
use crsql_core::changeset::Told;
use crsql_core::collect::{Admission, Collected, admit, deletes_within, is_collectable, stable_cut};
use crsql_core::ids::SiteId;
use crsql_core::merge::Stamp;
use crsql_core::version_vector::VersionVector;
use std::collections::{BTreeMap, HashMap};

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Tombstones dropped.
    pub dropped: u64,
    /// Tombstones that stay.
    pub kept: u64,
    /// Sites whose lease is not over.
    pub live: usize,
    /// Sites whose lease is over.
    pub expired: usize,
}

/// Drops the tombstones that every registered live site holds. Nothing may be pending, and the log must be empty.
pub fn sweep(state: &State) -> Result<Sweep> {
    let here = version_vector(state)?;
    let own = crate::site::site_id(state)?;
    let members = members::settle_all(state, &here)?;
    let live: Vec<&VersionVector> = members
        .iter()
        .filter(|(_, member)| member.is_live)
        .map(|(site, member)| if *site == own { &here } else { &member.heard.vector })
        .collect();
    let mut sweep = Sweep { live: live.len(), expired: members.len() - live.len(), ..Sweep::default() };
    let mut collected = (*state.store.borrow().collected()).clone();
    let mut cut = stable_cut(&here, live);
    // What others have collected every live site of theirs holds.
    cut.union_with(&collected.deletes);
    let mut last: BTreeMap<SiteId, u64> = BTreeMap::new();
    let sites: HashMap<u32, SiteId> = state.store.borrow_mut().sites.all(state.db)?.into_iter().collect();
    for table in tables(state)? {
        let mut keyed_left = 0;
        let gone = |run: &Run| {
            let (goes, len) = verdict(run, &sites, &cut, &mut last);
            if goes {
                collected.note(run.clock.cl);
                sweep.dropped += len;
            } else {
                sweep.kept += len;
                keyed_left += u64::from(matches!(run.key, Key::Bytes(_)));
            }
            Ok((goes, len))
        };
        state.store.borrow_mut().drop_runs(table, gone)?;
        if keyed_left == 0 {
            state.forget_tombstones(table)?;
        }
    }
    sweep_parked(state, &cut, &mut collected, &mut last, &mut sweep)?;
    if sweep.dropped > 0 {
        collected.deletes.union_with(&deletes_within(&cut, last));
        state.store.borrow_mut().set_collected(collected)?;
        state.past_members.take();
    }
    Ok(sweep)
}

fn tables(state: &State) -> Result<Vec<u32>> {
    let mut select = state.db.prepare("SELECT DISTINCT table_id FROM main.__crsql_segment")?;
    let mut ids = Vec::new();
    while select.step()? {
        ids.push(select.column_i64(0) as u32);
    }
    Ok(ids)
}

/// Whether the first rows of a run of dead ones go, and how many.
fn verdict(
    run: &Run,
    sites: &HashMap<u32, SiteId>,
    cut: &VersionVector,
    last: &mut BTreeMap<SiteId, u64>,
) -> (bool, u64) {
    let position = run.clock.groups.iter().position(|group| group.columns.contains(ROW));
    let Some(at) = position.filter(|_| is_collectable(run.clock.cl)) else { return (false, run.count) };
    let (group, step) = (&run.clock.groups[at], run.steps[at].version);
    let Some(site) = sites.get(&group.site).copied() else { return (false, run.count) };
    let goes = cut.contains(site, group.version);
    let count = match step {
        0 => run.count,
        step => (1..run.count)
            .find(|row| cut.contains(site, group.version + row * step) != goes)
            .unwrap_or(run.count),
    };
    if goes {
        let newest = last.entry(site).or_default();
        *newest = (*newest).max(group.version + (count - 1) * step);
    }
    (goes, count)
}

fn site_of(state: &State, ordinal: u32) -> Result<SiteId> {
    state.store.borrow_mut().sites.id(state.db, ordinal)
}

/// The same for deletes of tables that are unknown here: on a relay without schema that is every delete.
fn sweep_parked(
    state: &State,
    cut: &VersionVector,
    collected: &mut Collected,
    last: &mut BTreeMap<SiteId, u64>,
    sweep: &mut Sweep,
) -> Result<()> {
    let mut gone: Vec<i64> = Vec::new();
    {
        let mut select = state.db.prepare(
            "SELECT id, cl, site_id, site_version FROM main.__crsql_parked WHERE cl % 2 = 0 AND kind = 'schema'",
        )?;
        while select.step()? {
            let (cl, version) = (select.column_i64(1) as u64, select.column_i64(3) as u64);
            let site = SiteId::try_from(select.column_blob(2)).map_err(Error::refused)?;
            if !is_collectable(cl) || !cut.contains(site, version) {
                sweep.kept += 1;
                continue;
            }
            gone.push(select.column_i64(0));
            collected.note(cl);
            let newest = last.entry(site).or_default();
            *newest = (*newest).max(version);
        }
    }
    sweep.dropped += gone.len() as u64;
    let mut delete = state.db.prepare("DELETE FROM main.__crsql_parked WHERE id = ?1")?;
    gone.iter().try_for_each(|id| delete.execute(&[ValueRef::Integer(*id)]))
}

/// Whose changes are merged right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody's. Whether the sender has taken over everything that was collected here.
    Peer {
        /// It has.
        is_past: bool,
    },
    /// What is held here already, or is to be held whatever was collected.
    Own,
}

/// Restores the source when it is dropped.
pub struct SourceGuard<'a>(&'a State, Source);

impl Drop for SourceGuard<'_> {
    fn drop(&mut self) {
        self.0.source.set(self.1);
    }
}

/// From here to the end of the guard's life changes come from `source`.
pub fn merge_as(state: &State, source: Source) -> SourceGuard<'_> {
    SourceGuard(state, state.source.replace(source))
}

/// Judges the changes of a row that has no clock here.
#[cold]
pub fn admit_row(state: &State, clock: &RowClock) -> Result<Admission> {
    if state.source.get() == Source::Own {
        return Ok(Admission::Take);
    }
    let mut admission = Admission::Known;
    for group in &clock.groups {
        let stamp = Stamp { site: site_of(state, group.site)?, version: group.version, seq: group.seq };
        match admit_change(state, clock.cl, &stamp)? {
            // Who is past says so of a row that was not collected, whoever else wrote it.
            Admission::Take => return Ok(Admission::Take),
            Admission::Behind => admission = Admission::Behind,
            Admission::Known => {}
        }
    }
    Ok(admission)
}

/// Judges a change of a table that is unknown here.
pub fn admit_parked(state: &State, change: &Loose) -> Result<Admission> {
    if change.cl > state.store.borrow().floor() || state.source.get() == Source::Own {
        return Ok(Admission::Take);
    }
    let mut known =
        state.db.prepare("SELECT 1 FROM main.__crsql_parked WHERE table_name = ?1 AND pk = ?2")?;
    let row = [ValueRef::Text(change.table.as_bytes()), ValueRef::Blob(&change.pk)];
    if known.query_i64(&row)?.is_some() {
        return Ok(Admission::Take);
    }
    admit_change(state, change.cl, &change.stamp)
}

fn admit_change(state: &State, cl: u64, stamp: &Stamp) -> Result<Admission> {
    let is_held = {
        let mut store = state.store.borrow_mut();
        match store.sites.find(state.db, &stamp.site)? {
            Some(ordinal) => stamp.has_identity() && store.holds_version(ordinal, stamp.version)?,
            None => false,
        }
    };
    let is_past = state.source.get() == Source::Peer { is_past: true }
        || (stamp.has_identity() && members::past(state)?.contains(&stamp.site));
    let collected = state.store.borrow().collected();
    Ok(admit(&collected, cl, is_held, is_past))
}

/// Why changes of an unknown row are refused.
pub const BEHIND: &str = "the row is unknown here, deletes were collected, and the author may not have seen them, so it \
                          could be a deleted row; let its site pull first and send changesets, or register it";

/// Takes over what the sender of a changeset has collected. Whether the sender has taken over what was collected here.
///
/// # Errors
/// This replica lacks some of it: what is left at the sender does not tell of the deletes.
pub fn adopt(state: &State, told: Option<&Told>) -> Result<bool> {
    // This may be the first that is done on the connection.
    state.store.borrow_mut().refresh()?;
    let own = state.store.borrow().collected();
    let Some(Told { collected: theirs, .. }) = told else { return Ok(own.is_empty()) };
    let is_past = theirs.covers(&own);
    if own.covers(theirs) {
        return Ok(is_past);
    }
    let is_empty = {
        let store = state.store.borrow();
        store.tail().db_version == 0 && !store.is_spilled() && state.ops.borrow().is_empty()
    };
    let mut held = version_vector(state)?;
    // The deletes may have come in this very transaction.
    for (ordinal, lo, hi) in state.completed() {
        held.insert_range(site_of(state, ordinal)?, lo, hi);
    }
    if !is_empty && !own.has_seen(&held, theirs) {
        return Err(Error::refused(
            "crsql_apply: this replica has to re-bootstrap: it lacks deletes that the sender has collected, so what is \
             left there can't bring it up to date; ask the sender for everything (crsql_changeset()) and pass that to \
             crsql_rebootstrap()",
        ));
    }
    let mut all = (*own).clone();
    all.adopt(theirs);
    state.spill()?;
    state.store.borrow_mut().set_collected(all)?;
    state.past_members.take();
    Ok(is_past)
}
