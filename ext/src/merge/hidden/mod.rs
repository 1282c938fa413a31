//! Rows that a UNIQUE index keeps out of their table, `'{"unique":"winner"}'`, or that a parent is missing of.
//!
//! Which rows are shown `crsql_core::clash` and `crsql_core::parents` decide. A hidden row's changes are parked, so they travel, count in the
//! digest and are listed like those of a shown row; `__crsql_hidden` says that they are a whole row, and which shown row
//! holds it back. A row that clashes is hidden first and reconsidered at the end of the statement, the changeset or the
//! transaction, so rows that swap their values pass each other.

mod act;
mod orphans;
mod resolve;

pub use orphans::{reconsider, suspect_all};
pub use resolve::resolve;

use super::base::{self, RowPlace};
use super::fire;
use super::row::{self, Found, Incoming, Outcome};
use crate::catalog::{Shape, Table};
use crate::park::{self, Kind, Loose};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{ROW, RowClock};
use crsql_core::merge::Stamp;
use crsql_core::value::Value;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What is kept of hidden rows besides their parked changes. Made with the first table that asks for it.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS main.__crsql_hidden (
  table_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  pk BLOB NOT NULL,
  held_by BLOB,
  PRIMARY KEY (table_id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS main.__crsql_hidden_by ON __crsql_hidden (table_id, held_by)";

/// Makes what hidden rows are kept in, unless it is there.
pub fn create(state: &State) -> Result<()> {
    state.db.exec(TABLE)?;
    state.db.exec(orphans::TABLE)
}

const UNDECIDED: &str = "hidden until it is decided which rows are shown";

/// Up to this many rows of a transaction are looked up one by one; after more all hidden rows are reconsidered.
const LOOKED_UP_MAX: u64 = 4096;

/// A hidden row.
struct Hidden {
    /// The key as its changes are parked under.
    pk: Vec<u8>,
    cl: u64,
    /// Its changes, with their ids among the parked ones.
    changes: Vec<(i64, Loose)>,
}

/// Merges changes of a row that may clash with others, need others or be needed.
pub fn merge(state: &State, table: &Table, incoming: &Incoming<'_>, found: &mut Found) -> Result<Outcome> {
    if table.is_unenforced {
        return state.db.without_foreign_keys(|| merge_related(state, table, incoming, found));
    }
    merge_related(state, table, incoming, found)
}

fn merge_related(
    state: &State,
    table: &Table,
    incoming: &Incoming<'_>,
    found: &mut Found,
) -> Result<Outcome> {
    if !table.hides() && table.referrers.is_empty() {
        return fire::merge(state, table, incoming, found);
    }
    state.pool.widen();
    let key = key_of(table, &found.place)?;
    if table.hides() {
        follow_names(state, table)?;
    }
    if table.hides()
        && has_hidden(state, table.id)?
        && let Some(pk) = pk_of(state, table, &key)?
    {
        if let Some(hidden) = load(state, table, &key)? {
            match incoming.clock.cl.cmp(&hidden.cl) {
                Ordering::Less => return Ok(Outcome::Ignored),
                Ordering::Equal => return absorb(state, table, incoming, &key, &hidden),
                Ordering::Greater => forget(state, table, &key, &hidden)?,
            }
        } else {
            // Written again by its key in this transaction: that has seen what was hidden, and comes after it.
            park::sweep_changes(state, &park::of_row(state, &table.name, &pk)?)?;
            leave(state, table, &key)?;
            *found = row::find(state, table, incoming.key)?;
        }
    }
    let is_alive = |found: &Found| found.clock.as_ref().is_some_and(|clock| clock.is_alive());
    let was_alive = is_alive(found);
    let mut outcome = fire::merge(state, table, incoming, found)?;
    match outcome {
        Outcome::Clash(reason) => {
            outcome = hide_incoming(state, table, incoming, found, &key, &reason)?;
        }
        Outcome::Applied(_) => {
            if !table.clashes.is_empty() {
                doubt_held_by(state, table.id, &key)?;
            }
            if !table.links.is_empty() && is_alive(found) {
                orphans::suspect(state, table.id, key.clone());
            }
        }
        other => return Ok(other),
    }
    if !table.referrers.is_empty() {
        orphans::changed(state, table.id, key, was_alive);
    }
    Ok(outcome)
}

fn key_of(table: &Table, place: &RowPlace) -> Result<Vec<u8>> {
    match (table.shape, place.rowid) {
        (Shape::Integer, Some(rowid)) => {
            crsql_core::pack::pack(&[ValueRef::Integer(rowid)]).map_err(Error::refused)
        }
        _ => Ok(place.pk.clone()),
    }
}

// --- what is hidden -------------------------------------------------------------------------------------------

/// The tables of which rows are hidden, from one to the next: a DISTINCT would read all hidden rows for each commit.
const TABLES: &str = "
WITH RECURSIVE found (id) AS (
  SELECT min(table_id) FROM main.__crsql_hidden
  UNION ALL
  SELECT (SELECT min(table_id) FROM main.__crsql_hidden WHERE table_id > found.id) FROM found WHERE found.id IS NOT NULL)
SELECT id FROM found WHERE id IS NOT NULL";

/// True when rows of the table may be hidden.
fn has_hidden(state: &State, table: u32) -> Result<bool> {
    let now = state.store.borrow().data_version();
    let mut known = state.hidden.borrow_mut();
    if known.1 != now {
        let mut select = state.pool.prepare(state.db, TABLES)?;
        known.0.clear();
        while select.step()? {
            known.0.insert(select.column_i64(0) as u32);
        }
        known.1 = now;
    }
    Ok(known.0.contains(&table))
}

fn enter(state: &State, table: &Table, key: &[u8], pk: &[u8]) -> Result<()> {
    let rowid = state.db.last_insert_rowid();
    state
        .pool
        .prepare(
            state.db,
            "INSERT OR REPLACE INTO main.__crsql_hidden (table_id, key, pk) VALUES (?1, ?2, ?3)",
        )?
        .execute(&[ValueRef::Integer(i64::from(table.id)), ValueRef::Blob(key), ValueRef::Blob(pk)])?;
    state.db.set_last_insert_rowid(rowid);
    state.hidden.borrow_mut().0.insert(table.id);
    doubt(state, table.id, key.to_vec());
    Ok(())
}

fn leave(state: &State, table: &Table, key: &[u8]) -> Result<()> {
    if !table.links.is_empty() {
        orphans::stop_waiting(state, table.id, key)?;
    }
    state
        .pool
        .prepare(state.db, "DELETE FROM main.__crsql_hidden WHERE table_id = ?1 AND key = ?2")?
        .execute(&[ValueRef::Integer(i64::from(table.id)), ValueRef::Blob(key)])
}

fn pk_of(state: &State, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
    state
        .pool
        .prepare(state.db, "SELECT pk FROM main.__crsql_hidden WHERE table_id = ?1 AND key = ?2")?
        .query_row(&[ValueRef::Integer(i64::from(table.id)), ValueRef::Blob(key)], |row| {
            Ok(row.column_blob(0).to_vec())
        })
}

fn load(state: &State, table: &Table, key: &[u8]) -> Result<Option<Hidden>> {
    let Some(pk) = pk_of(state, table, key)? else { return Ok(None) };
    let values = crsql_core::pack::unpack(key).map_err(Error::refused)?;
    if row::clock_by_key(state, table, &values)?.is_some_and(|clock| clock.is_alive()) {
        // Written again by its key here, over what was hidden: the commit sees to that.
        return Ok(None);
    }
    let mut changes = park::of_row(state, &table.name, &pk)?;
    let cl = changes.iter().map(|(_, change)| change.cl).max().unwrap_or(0);
    changes.retain(|(_, change)| change.cl == cl);
    if changes.is_empty() {
        leave(state, table, key)?;
        return Ok(None);
    }
    Ok(Some(Hidden { pk, cl, changes }))
}

/// Takes changes of the incarnation that is hidden.
fn absorb(
    state: &State,
    table: &Table,
    incoming: &Incoming<'_>,
    key: &[u8],
    hidden: &Hidden,
) -> Result<Outcome> {
    let parked = park::row(state, table, &hidden.pk, incoming, Kind::Constraint, UNDECIDED)?;
    if parked == 0 {
        return Ok(Outcome::Ignored);
    }
    let spelled = crsql_core::pack::pack(incoming.key).map_err(Error::refused)?;
    if spelled != hidden.pk && incoming.clock.group_of(ROW).is_some() {
        respell(state, table, key, hidden, &spelled, incoming)?;
    }
    doubt(state, table.id, key.to_vec());
    Ok(Outcome::Hidden(parked))
}

/// The row's existence tells how its key is spelled: where the one that came won, all of the row is spelled like it.
fn respell(
    state: &State,
    table: &Table,
    key: &[u8],
    hidden: &Hidden,
    spelled: &[u8],
    incoming: &Incoming<'_>,
) -> Result<()> {
    let Some(group) = incoming.clock.group_of(ROW) else { return Ok(()) };
    let site = state.store.borrow_mut().sites.id(state.db, group.site)?;
    let theirs = Stamp { site, version: group.version, seq: group.seq_of(ROW) };
    let known = park::of_row(state, &table.name, &hidden.pk)?;
    if known.iter().any(|(_, change)| change.is_row() && change.stamp == theirs) {
        let mut update = state
            .pool
            .prepare(state.db, "UPDATE OR REPLACE main.__crsql_parked SET pk = ?2 WHERE id = ?1")?;
        for (id, _) in &known {
            update.execute(&[ValueRef::Integer(*id), ValueRef::Blob(spelled)])?;
        }
        enter(state, table, key, spelled)?;
    }
    Ok(())
}

/// A later incarnation has come.
fn forget(state: &State, table: &Table, key: &[u8], hidden: &Hidden) -> Result<()> {
    park::remove(state, &hidden.changes)?;
    leave(state, table, key)
}

/// A hidden row is parked under names; the clocks of a shown one follow its ids. After a rename the names follow, too.
fn follow_names(state: &State, table: &Table) -> Result<()> {
    let version = state.schema_seen();
    if state.named_at.borrow().get(&table.id) == Some(&version) || !has_hidden(state, table.id)? {
        return Ok(());
    }
    crate::former::follow(state, table)?;
    state.named_at.borrow_mut().insert(table.id, version);
    Ok(())
}

// --- hiding ---------------------------------------------------------------------------------------------------

/// Hides a row together with changes that made it clash.
fn hide_incoming(
    state: &State,
    table: &Table,
    incoming: &Incoming<'_>,
    found: &mut Found,
    key: &[u8],
    reason: &str,
) -> Result<Outcome> {
    // The row that was to be replaced may have come back under another rowid.
    *found = row::find(state, table, incoming.key)?;
    let mut pk = match incoming.clock.group_of(ROW) {
        Some(_) => crsql_core::pack::pack(incoming.key).map_err(Error::refused)?,
        None => key.to_vec(),
    };
    if let Some(clock) = found.clock.take() {
        if !clock.is_alive() {
            // All that is known of a hidden row is parked, or its death would be told beside its life.
            row::forget(state, table, &found.place.dead_key(table));
        } else if clock.cl == incoming.clock.cl {
            pk = hide_shown(state, table, &found.place, clock, key)?;
        } else {
            // Of the incarnation that is over nothing stays.
            base::delete(state, table, found.place.rowid, incoming.key)?;
            forget_clock(state, table, &found.place);
        }
        doubt_held_by(state, table.id, key)?;
        if let Shape::Rowid(_) = table.shape {
            found.place.rowid = None;
        }
    }
    let parked = park::row(state, table, &pk, incoming, Kind::Constraint, reason)?;
    enter(state, table, key, &pk)?;
    Ok(Outcome::Hidden(parked))
}

fn forget_clock(state: &State, table: &Table, place: &RowPlace) {
    if let Some(key) = place.live_key(table) {
        row::forget(state, table, &key);
    }
}

/// Takes a shown row out of its table and parks its changes; tells under which key.
fn hide_shown(
    state: &State,
    table: &Table,
    place: &RowPlace,
    mut clock: RowClock,
    key: &[u8],
) -> Result<Vec<u8>> {
    let local = state.store.borrow().next_local();
    let is_ours = clock.groups.iter().any(|group| group.site == local.site && group.version == local.version);
    if is_ours && !state.ops.borrow().is_empty() {
        // What is parked has its place in the version, so what is written so far gets it now.
        state.spill()?;
        if let Some(live) = place.live_key(table) {
            clock = super::clock_of(state, table.id, &live)?.unwrap_or(clock);
        }
    }
    let canonical = crsql_core::pack::unpack(key).map_err(Error::refused)?;
    let spelling = row::key_values(state, table, place, &canonical)?;
    let spelling: Vec<ValueRef<'_>> = spelling.iter().map(Value::as_ref).collect();
    let values = base::read_values(state, table, place.rowid, &canonical, &table.all)?.unwrap_or_default();
    let values: Vec<(u32, ValueRef<'_>)> = table.all.iter().zip(values.iter().map(Value::as_ref)).collect();
    base::delete(state, table, place.rowid, &canonical)?;
    forget_clock(state, table, place);
    let pk = crsql_core::pack::pack(&spelling).map_err(Error::refused)?;
    let incoming = Incoming { key: &spelling, clock, values: &values, cells: &[] };
    park::row(state, table, &pk, &incoming, Kind::Constraint, UNDECIDED)?;
    for group in &incoming.clock.groups {
        state.mark_loose(group.site, group.version)?;
    }
    enter(state, table, key, &pk)?;
    Ok(pk)
}

// --- reconsidering --------------------------------------------------------------------------------------------

/// A hidden row is to be reconsidered.
pub fn doubt(state: &State, table: u32, key: Vec<u8>) {
    state.in_doubt.borrow_mut().insert((table, key));
}

fn doubt_held_by(state: &State, table: u32, key: &[u8]) -> Result<()> {
    for held in held_by(state, table, key)? {
        doubt(state, table, held);
    }
    Ok(())
}

fn held_by(state: &State, table: u32, key: &[u8]) -> Result<Vec<Vec<u8>>> {
    if !has_hidden(state, table)? {
        return Ok(Vec::new());
    }
    let mut select = state
        .pool
        .prepare(state.db, "SELECT key FROM main.__crsql_hidden WHERE table_id = ?1 AND held_by = ?2")?;
    let args = [ValueRef::Integer(i64::from(table)), ValueRef::Blob(key)];
    keys(&mut select.query(&args)?)
}

fn keys(rows: &mut crate::sqlite::Rows<'_>) -> Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    while rows.step()? {
        keys.push(rows.column_blob(0).to_vec());
    }
    Ok(keys)
}

/// True when this parked row is a hidden one, which then is reconsidered instead of tried.
pub fn is_hidden(state: &State, table: &Table, pk: &[u8]) -> Result<bool> {
    if !table.hides() || !has_hidden(state, table.id)? {
        return Ok(false);
    }
    let Ok(key) = crsql_core::key::canonical_packed_key(pk, &table.key_columns) else { return Ok(false) };
    let hidden = pk_of(state, table, &key.bytes)?.is_some_and(|known| known == pk);
    if hidden {
        doubt(state, table.id, key.bytes);
    }
    Ok(hidden)
}

/// Forgets which rows are hidden, of one table or of all.
pub fn forget_all(state: &State, table: Option<u32>) -> Result<()> {
    let table = table.map_or(ValueRef::Null, |id| ValueRef::Integer(i64::from(id)));
    for hidden in ["__crsql_hidden", "__crsql_orphan"] {
        if state.db.has_table(hidden)? {
            state
                .db
                .prepare(&format!("DELETE FROM main.{hidden} WHERE ?1 IS NULL OR table_id = ?1"))?
                .execute(&[table])?;
        }
    }
    state.hidden.borrow_mut().1 = u32::MAX;
    Ok(())
}

/// What was written here is about to be stored: hidden rows that it held back, or whose key it took, or whose parent it
/// wrote, are in doubt; and where SQLite did not see to FOREIGN KEYs, so are the rows themselves and their children.
pub fn note_local(state: &State) -> Result<()> {
    if !state.has_related.get() {
        return Ok(());
    }
    let tables: BTreeSet<u32> = state.ops.borrow().pending().iter().map(|op| op.table).collect();
    let is_enforced = state.db.enforces_foreign_keys()? && !state.is_unenforced.get();
    for id in tables {
        let Ok(table) = state.table(id) else { continue };
        let has_hidden_rows = table.hides() && has_hidden(state, id)?;
        let mut is_awaited = !is_enforced && !table.referrers.is_empty();
        for child in &table.referrers {
            is_awaited |= has_hidden(state, *child)?;
        }
        let is_suspect = !is_enforced && !table.links.is_empty();
        if !has_hidden_rows && !is_awaited && !is_suspect {
            continue;
        }
        if has_hidden_rows {
            follow_names(state, &table)?;
        }
        if state.ops.borrow().rows() > LOOKED_UP_MAX {
            if has_hidden_rows {
                doubt_all(state, id)?;
            }
            if is_awaited {
                orphans::changed(state, id, Vec::new(), !is_enforced);
            }
            if is_suspect {
                suspect_all(state, id);
            }
            continue;
        }
        for key in written_keys(state, &table)? {
            if has_hidden_rows {
                doubt_held_by(state, id, &key)?;
                if pk_of(state, &table, &key)?.is_some() {
                    doubt(state, id, key.clone());
                }
            }
            if is_suspect {
                orphans::suspect(state, id, key.clone());
            }
            if is_awaited {
                orphans::changed(state, id, key, !is_enforced);
            }
        }
    }
    Ok(())
}

/// All hidden rows of a table are to be reconsidered.
fn doubt_all(state: &State, table: u32) -> Result<()> {
    let mut select =
        state.pool.prepare(state.db, "SELECT key FROM main.__crsql_hidden WHERE table_id = ?1")?;
    let args = [ValueRef::Integer(i64::from(table))];
    let all = keys(&mut select.query(&args)?)?;
    all.into_iter().for_each(|key| doubt(state, table, key));
    Ok(())
}

/// Says why a row is hidden.
fn tell(state: &State, hidden: &Hidden, reason: &str) -> Result<()> {
    let mut update = state
        .pool
        .prepare(state.db, "UPDATE main.__crsql_parked SET reason = ?2 WHERE id = ?1 AND reason <> ?2")?;
    hidden
        .changes
        .iter()
        .try_for_each(|(id, _)| update.execute(&[ValueRef::Integer(*id), ValueRef::Text(reason.as_bytes())]))
}

/// The canonical keys of the table's rows in the buffer.
pub fn written_keys(state: &State, table: &Table) -> Result<BTreeSet<Vec<u8>>> {
    let ops = state.ops.borrow();
    let mut keys = BTreeSet::new();
    for op in ops.pending().iter().filter(|op| op.table == table.id) {
        if let Some(pk) = ops.pk_of(op) {
            keys.insert(pk.to_vec());
        }
        for row in (0..op.count).filter(|_| !op.by_pk) {
            let rowid = op.key.wrapping_add(i64::from(row));
            if table.shape == Shape::Integer {
                keys.insert(crsql_core::pack::pack(&[ValueRef::Integer(rowid)]).map_err(Error::refused)?);
                continue;
            }
            let place = RowPlace { pk: Vec::new(), rowid: Some(rowid) };
            let key = row::key_values(state, table, &place, &[])?;
            let key: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
            if let Ok(key) = crsql_core::key::canonical_key(&key, &table.key_columns) {
                keys.insert(key.bytes);
            }
        }
    }
    Ok(keys)
}
