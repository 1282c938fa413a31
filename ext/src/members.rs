//! The sites that take part for certain, each with a lease and with what it holds as far as it said: what is collected
//! depends on them.

use crate::alter::{atomically, enter};
use crate::capture::enlist;
use crate::changeset::version_vector;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crsql_core::collect::Heard;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Made with the first member, since most databases have none.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS main.__crsql_member (
  site_id BLOB PRIMARY KEY,
  expires INTEGER,
  vector BLOB NOT NULL,
  waiting BLOB
) WITHOUT ROWID";

/// A registered site.
#[derive(Clone, Debug)]
pub struct Member {
    /// Unix seconds; `None` for as long as it is registered.
    pub expires: Option<i64>,
    /// Its lease is not over.
    pub is_live: bool,
    /// What it said it holds.
    pub heard: Heard,
}

/// Every registered site.
pub fn members(state: &State) -> Result<BTreeMap<SiteId, Member>> {
    let mut members = BTreeMap::new();
    if !state.db.has_table("__crsql_member")? {
        return Ok(members);
    }
    let mut select = state.db.prepare(
        "SELECT site_id, expires, expires IS NULL OR expires > CAST(strftime('%s', 'now') AS INTEGER), vector, waiting
         FROM main.__crsql_member",
    )?;
    while select.step()? {
        let vector = |column| VersionVector::decode(select.column_blob(column), &Default::default());
        let has = |column| !matches!(select.column_value(column), ValueRef::Null);
        let site = SiteId::try_from(select.column_blob(0)).map_err(Error::refused)?;
        let member = Member {
            expires: has(1).then(|| select.column_i64(1)),
            is_live: select.column_i64(2) != 0,
            heard: Heard {
                vector: vector(3).map_err(Error::refused)?,
                waiting: if has(4) { Some(vector(4).map_err(Error::refused)?) } else { None },
            },
        };
        members.insert(site, member);
    }
    Ok(members)
}

/// Registers a site, or renews its lease: for so many seconds from now, or until it is unregistered.
pub fn register(state: &State, site: SiteId, lease_seconds: Option<i64>) -> Result<()> {
    change(state, || {
        state.db.exec(TABLE)?;
        state
            .db
            .prepare(
                "INSERT INTO main.__crsql_member (site_id, expires, vector)
                 VALUES (?1, CAST(strftime('%s', 'now') AS INTEGER) + ?2, ?3)
                 ON CONFLICT (site_id) DO UPDATE SET expires = excluded.expires",
            )?
            .execute(&[
                ValueRef::Blob(&site.0),
                lease_seconds.map_or(ValueRef::Null, ValueRef::Integer),
                ValueRef::Blob(&VersionVector::default().encode()),
            ])
    })
}

/// Forgets a site: nothing waits for it any more. True if it was registered.
pub fn unregister(state: &State, site: SiteId) -> Result<bool> {
    enter(state)?;
    if !members(state)?.contains_key(&site) {
        return Ok(false);
    }
    change(state, || {
        state
            .db
            .prepare("DELETE FROM main.__crsql_member WHERE site_id = ?1")?
            .execute(&[ValueRef::Blob(&site.0)])
    })?;
    Ok(true)
}

/// Notes what a site said it holds. True if that includes everything that was collected here; else it has to begin
/// again with a whole changeset.
pub fn hear(state: &State, site: SiteId, held: &VersionVector) -> Result<bool> {
    enter(state)?;
    state.create()?;
    let here = here(state)?;
    if let Some(mut member) = members(state)?.remove(&site) {
        member.heard.hear(site, &here, held);
        write(state, site, &member.heard)?;
    }
    let store = state.store.borrow();
    Ok(held.is_superset(&store.collected().deletes))
}

/// What this replica holds, read at one moment.
fn here(state: &State) -> Result<VersionVector> {
    let mut snapshot = state.db.prepare("SELECT id FROM main.__crsql_state")?;
    snapshot.step()?;
    version_vector(state)
}

/// Takes what members said earlier, where what they had written by then has come.
pub fn settle_all(state: &State, here: &VersionVector) -> Result<BTreeMap<SiteId, Member>> {
    let mut members = members(state)?;
    for (site, member) in &mut members {
        if member.heard.settle(*site, here) {
            write(state, *site, &member.heard)?;
        }
    }
    Ok(members)
}

fn write(state: &State, site: SiteId, heard: &Heard) -> Result<()> {
    let waiting = heard.waiting.as_ref().map(VersionVector::encode);
    change(state, || {
        state
            .db
            .prepare("UPDATE main.__crsql_member SET vector = ?2, waiting = ?3 WHERE site_id = ?1")?
            .execute(&[
                ValueRef::Blob(&site.0),
                ValueRef::Blob(&heard.vector.encode()),
                waiting.as_deref().map_or(ValueRef::Null, ValueRef::Blob),
            ])
    })
}

fn change(state: &State, body: impl FnOnce() -> Result<()>) -> Result<()> {
    enter(state)?;
    let rowid = state.db.last_insert_rowid();
    let done = atomically(state, || {
        state.create()?;
        enlist(state)?;
        body()
    });
    state.db.set_last_insert_rowid(rowid);
    state.past_members.take();
    done
}

/// The registered sites that hold everything that was collected here, of which every later write is welcome.
pub fn past(state: &State) -> Result<Rc<BTreeSet<SiteId>>> {
    let now = state.store.borrow().data_version();
    if let Some((known, at)) = &*state.past_members.borrow()
        && *at == now
    {
        return Ok(known.clone());
    }
    let deletes = state.store.borrow().collected().deletes.clone();
    let members = members(state)?.into_iter();
    let past: BTreeSet<SiteId> = members
        .filter(|(_, member)| member.heard.vector.is_superset(&deletes))
        .map(|(site, _)| site)
        .collect();
    let past = Rc::new(past);
    *state.past_members.borrow_mut() = Some((past.clone(), now));
    Ok(past)
}
