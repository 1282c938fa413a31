//! Who this replica is, and how far it has come.

use crate::alter::{atomically, enter};
use crate::capture::enlist;
use crate::changeset::version_vector;
use crate::sqlite::{Error, Result};
use crate::state::State;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use std::time::Duration;
#[cfg(not(target_arch = "wasm32"))]
use std::time::Instant;

/// This replica's id; made on first use.
pub fn site_id(state: &State) -> Result<SiteId> {
    enter(state)?;
    state.create()?;
    // A statement of its own, so that the counters are read inside a transaction.
    let mut select = state.db.prepare(
        "SELECT site_id FROM main.__crsql_state AS t JOIN main.__crsql_site AS s ON s.ordinal = t.site",
    )?;
    let id = select.query_row(&[], |row| SiteId::try_from(row.column_blob(0)).map_err(Error::refused))?;
    id.ok_or_else(crate::store::bytes::damaged)
}

/// Gives this file a new identity: for a copy of a database that lives on beside the original. What the old
/// identity wrote stays its own.
pub fn new_site(state: &State) -> Result<SiteId> {
    enter(state)?;
    state.create()?;
    let id = SiteId(*uuid::Uuid::new_v4().as_bytes());
    rename(state, id, false)?;
    Ok(id)
}

/// Makes this file the one in which a site goes on: for a copy of another database that takes the place of the site's
/// own. What is held of the site are its own versions from then on.
pub fn become_site(state: &State, id: SiteId) -> Result<()> {
    if site_id(state)? == id {
        return Ok(());
    }
    rename(state, id, true)
}

/// Gives the file another identity. `goes_on`: the versions of that site that are held here are its own from then on.
fn rename(state: &State, id: SiteId, goes_on: bool) -> Result<()> {
    atomically(state, || {
        enlist(state)?;
        state.spill()?;
        let mut store = state.store.borrow_mut();
        store.refresh()?;
        let vector = store.vector()?;
        store.become_site(&id, &vector)?;
        if goes_on {
            let ordinal = store.sites.ordinal(state.db, &id)?;
            store.own(vector.get(&ordinal))?;
        }
        Ok(())
    })?;
    state.store.borrow_mut().forget();
    Ok(())
}

/// The apply position of the last committed change.
pub fn db_version(state: &State) -> Result<u64> {
    if !state.store.borrow_mut().exists()? {
        return Ok(0);
    }
    let mut snapshot = state.db.prepare("SELECT id FROM main.__crsql_state")?;
    snapshot.step()?;
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    Ok(store.tail().db_version)
}

/// What a reader elsewhere must have seen to read its own writes of here: the version vector as hexadecimal text.
pub fn token(state: &State) -> Result<String> {
    enter(state)?;
    let mut snapshot = state.db.prepare("SELECT name FROM main.sqlite_master LIMIT 1")?;
    snapshot.step()?;
    let vector = version_vector(state)?.encode();
    Ok(vector.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits until this replica holds what `token` names, at most `wait_ms`. True when it does.
pub fn wait_for(state: &State, token: &str, wait_ms: i64) -> Result<bool> {
    let wanted = decode_token(token)?;
    let end = Deadline::after(wait_ms);
    loop {
        enter(state)?;
        {
            let mut snapshot = state.db.prepare("SELECT name FROM main.sqlite_master LIMIT 1")?;
            snapshot.step()?;
            if state.store.borrow_mut().exists()? && version_vector(state)?.is_superset(&wanted) {
                return Ok(true);
            }
        }
        if end.is_over() {
            return Ok(wanted.is_empty());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// When a wait ends. A browser's worker has one thread and no clock of this kind: nothing can change while it
/// waits, so every wait is over at once there.
struct Deadline(#[cfg(not(target_arch = "wasm32"))] Instant);

impl Deadline {
    #[cfg(not(target_arch = "wasm32"))]
    fn after(wait_ms: i64) -> Deadline {
        Deadline(Instant::now() + Duration::from_millis(wait_ms.clamp(0, 3_600_000) as u64))
    }

    #[cfg(target_arch = "wasm32")]
    fn after(_wait_ms: i64) -> Deadline {
        Deadline()
    }

    fn is_over(&self) -> bool {
        #[cfg(not(target_arch = "wasm32"))]
        return Instant::now() >= self.0;
        #[cfg(target_arch = "wasm32")]
        true
    }
}

fn decode_token(token: &str) -> Result<VersionVector> {
    let refuse =
        |reason: &str| Error::refused(format_args!("crsql_wait_for: {reason}; take one from crsql_token()"));
    let digits = token.as_bytes();
    if !digits.len().is_multiple_of(2) || !token.is_ascii() {
        return Err(refuse("the token is damaged"));
    }
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let bytes = bytes.ok_or_else(|| refuse("the token is not hexadecimal"))?;
    VersionVector::decode(&bytes, &Default::default()).map_err(|e| refuse(&e.to_string()))
}
