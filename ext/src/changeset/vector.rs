//! The version vector of this replica.

use crate::sqlite::Result;
use crate::state::State;
use crsql_core::version_vector::VersionVector;

/// Which versions of which sites are held completely.
pub fn version_vector(state: &State) -> Result<VersionVector> {
    let mut store = state.store.borrow_mut();
    let mut vector = VersionVector::default();
    for (ordinal, ranges) in store.vector()? {
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
