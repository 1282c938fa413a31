//! Which versions of which sites are held.

use super::log::Tail;
use super::{Store, bytes, sites};
use crate::sqlite::Result;
use crsql_core::version_vector::RangeSet;
use std::collections::BTreeMap;

impl Store {
    /// The versions held of every site, this one included, by ordinal.
    pub fn vector(&mut self) -> Result<BTreeMap<u32, RangeSet>> {
        if !self.refresh()? {
            return Ok(BTreeMap::new());
        }
        let (site, Tail { version, generation, .. }) = (self.site, self.tail());
        let statements = self.statements.as_mut().ok_or_else(bytes::damaged)?;
        let mut vector = self.sites.vector(self.db, statements, generation)?.clone();
        let mut own = RangeSet::default();
        if version > 0 {
            own.insert(1, version);
        }
        if let Some(missing) = vector.get(&(site | sites::MISSING)) {
            own = own.difference(missing);
        }
        for (lo, hi) in vector.get(&site).map(|held| held.iter().collect::<Vec<_>>()).unwrap_or_default() {
            own.insert(lo, hi);
        }
        vector.retain(|ordinal, _| ordinal & (sites::MISSING | sites::LOOSE) == 0);
        vector.insert(site, own);
        Ok(vector)
    }

    /// The versions whose changes may lie at several apply positions, by site.
    pub fn loose(&mut self) -> Result<BTreeMap<u32, RangeSet>> {
        if !self.refresh()? {
            return Ok(BTreeMap::new());
        }
        let generation = self.tail().generation;
        let statements = self.statements.as_mut().ok_or_else(bytes::damaged)?;
        let marked = self.sites.vector(self.db, statements, generation)?.iter();
        Ok(marked
            .filter(|(ordinal, _)| *ordinal & sites::LOOSE != 0)
            .map(|(ordinal, ranges)| (ordinal & !sites::LOOSE, ranges.clone()))
            .collect())
    }

    /// True when a version is held, or, with [`LOOSE`] in the ordinal, marked.
    pub fn holds_version(&mut self, site: u32, version: u64) -> Result<bool> {
        if !self.refresh()? {
            return Ok(false);
        }
        let own = self.site;
        let tail = self.tail();
        let is_own = site == own && version <= tail.version && self.raised == 0;
        let statements = self.statements.as_mut().ok_or_else(bytes::damaged)?;
        let vector = self.sites.vector(self.db, statements, tail.generation)?;
        let has = |ordinal: u32| vector.get(&ordinal).is_some_and(|ranges| ranges.contains(version));
        Ok(has(site) || (is_own && !has(own | sites::MISSING)))
    }

    /// True when some of our own versions are known to be missing here.
    pub fn misses_own(&mut self) -> Result<bool> {
        self.refresh()?;
        let (site, generation) = (self.site, self.tail().generation);
        let Some(statements) = self.statements.as_mut() else { return Ok(false) };
        let vector = self.sites.vector(self.db, statements, generation)?;
        Ok(self.raised > 0 || vector.contains_key(&(site | sites::MISSING)))
    }
}
