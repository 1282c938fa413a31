//! The version vector of this replica.

use crate::sqlite::Result;
use crate::state::State;
use crsql_core::version_vector::{RangeSet, VersionVector};
use std::collections::BTreeMap;

/// Which versions of which sites are held completely.
pub fn version_vector(state: &State) -> Result<VersionVector> {
    let held = state.store.borrow_mut().vector()?;
    by_id(state, held)
}

/// Versions of which not all lies at one apply position.
pub fn loose(state: &State) -> Result<VersionVector> {
    let marked = state.store.borrow_mut().loose()?;
    by_id(state, marked)
}

/// Versions by site instead of by ordinal.
fn by_id(state: &State, versions: BTreeMap<u32, RangeSet>) -> Result<VersionVector> {
    let mut store = state.store.borrow_mut();
    let mut vector = VersionVector::default();
    for (ordinal, ranges) in versions {
        let site = store.sites.id(state.db, ordinal)?;
        for (lo, hi) in ranges.iter() {
            vector.insert_range(site, lo, hi);
        }
    }
    Ok(vector)
}

/// The version vector as `crsql_version_vector()` gives it.
pub fn encoded_vector(state: &State) -> Result<Vec<u8>> {
    Ok(version_vector(state)?.encode())
}
