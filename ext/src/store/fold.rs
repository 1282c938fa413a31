//! Moves clocks and counters outside of a commit: the log into segments, clocks to other keys, the file to another site.

use super::{Completed, Layer, Store, Tail, bulk, bytes, sites};
use crate::sqlite::{Result, ValueRef};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::RangeSet;
use std::collections::BTreeMap;
use std::rc::Rc;

impl Store {
    /// Moves the log into the segments.
    pub fn fold(&mut self) -> Result<()> {
        let overlay = self.overlay()?;
        let generation = self.tail().generation;
        let statements = self.statements.as_mut().expect("refresh prepared them");
        let completed = self.sites.completed_by_log(statements, generation)?.to_vec();
        bulk::write_layer(statements, &overlay)?;
        statements.log_clear.run()?;
        self.sites.complete(self.db, &completed)?;
        let tail = self.tail();
        self.set_state(Tail { generation: tail.generation + 1, rows: 0, ..tail })
    }

    /// Puts clocks where they belong now, outside of any version. Nothing may be pending.
    pub fn rewrite(&mut self, layer: &Layer) -> Result<()> {
        self.refresh()?;
        if self.tail().rows > 0 {
            self.fold()?;
        }
        bulk::write_layer(self.statements.as_mut().ok_or_else(bytes::damaged)?, layer)?;
        self.segments_changed()
    }

    /// Segments were changed outside of a commit: every connection must read them again.
    pub fn segments_changed(&mut self) -> Result<()> {
        if !self.refresh()? {
            return Ok(());
        }
        let tail = self.tail();
        if tail.rows > 0 {
            return self.fold();
        }
        self.set_state(Tail { generation: tail.generation + 1, ..tail })
    }

    /// Goes on as another site. `vector` is what is held now; the old identity's versions become a range like
    /// any other site's.
    pub fn become_site(&mut self, id: &SiteId, vector: &BTreeMap<u32, RangeSet>) -> Result<()> {
        if self.tail().rows > 0 {
            self.fold()?;
        }
        let old = self.site;
        let held: Vec<Completed> = vector
            .get(&old)
            .map(|own| own.iter().map(|(lo, hi)| (old, lo, hi)).collect())
            .unwrap_or_default();
        self.db
            .prepare("DELETE FROM main.__crsql_vector WHERE site = ?1")?
            .execute(&[ValueRef::Integer(i64::from(old | sites::MISSING))])?;
        self.sites.complete(self.db, &held)?;
        let ordinal = self.sites.ordinal(self.db, id)?;
        self.db
            .prepare("UPDATE main.__crsql_state SET site = ?1")?
            .execute(&[ValueRef::Integer(i64::from(ordinal))])?;
        let tail = self.tail();
        self.site = ordinal;
        self.set_state(Tail { version: 0, generation: tail.generation + 1, ..tail })
    }

    /// Versions of this site that were held as somebody else's are our own now: all of them up to the last, but for the
    /// holes between them.
    pub fn own(&mut self, held: Option<&RangeSet>) -> Result<()> {
        let Some(last) = held.and_then(RangeSet::max) else { return Ok(()) };
        let missing = held.map(|held| RangeSet::of(1, last).difference(held)).unwrap_or_default();
        let missing: Vec<Completed> =
            missing.iter().map(|(lo, hi)| (self.site | sites::MISSING, lo, hi)).collect();
        self.db
            .prepare("DELETE FROM main.__crsql_vector WHERE site = ?1")?
            .execute(&[ValueRef::Integer(i64::from(self.site))])?;
        self.sites.complete(self.db, &missing)?;
        let tail = self.tail();
        self.set_state(Tail { version: last, ..tail })
    }

    /// Sets the counters of an empty log.
    pub fn set_state(&mut self, tail: Tail) -> Result<()> {
        let statements = self.statements.as_mut().expect("refresh prepared them");
        statements.state_update.execute(&[
            ValueRef::Integer(tail.db_version as i64),
            ValueRef::Integer(tail.version as i64),
            ValueRef::Integer(tail.generation as i64),
        ])?;
        self.tail = Some(tail);
        self.lookup.clear();
        self.overlay = Rc::default();
        self.overlay_at = tail.db_version;
        self.overlay_generation = tail.generation;
        Ok(())
    }
}
