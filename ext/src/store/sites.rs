//! The sites that this replica knows, by ordinal, and the versions of each that it holds completely.

use super::log::{self, Completed};
use super::tables::Statements;
use crate::sqlite::{Db, Result, ValueRef};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::RangeSet;
use std::collections::{BTreeMap, HashMap};

/// Set in the ordinal of a range that says what is *missing* of our own versions after a restore.
pub const MISSING: u32 = 1 << 31;

/// Set in the ordinal of a range of versions of which a part may lie at another apply position than the rest: it came
/// without the whole, or once more. A changeset since a position can't vouch for those.
pub const LOOSE: u32 = 1 << 30;

/// A cache of `__crsql_site` and `__crsql_vector`; the log adds what it completed.
#[derive(Default)]
pub struct Sites {
    ids: HashMap<u32, SiteId>,
    ordinals: HashMap<SiteId, u32>,
    is_loaded: bool,
    vector: Option<BTreeMap<u32, RangeSet>>,
    /// The last site looked up: changes come author by author.
    last: Option<(u32, SiteId)>,
    /// What the log's rows completed, as far as they were read: within one generation the log only grows.
    by_log: ByLog,
}

#[derive(Default)]
struct ByLog {
    generation: u64,
    /// Read up to this apply position.
    until: i64,
    completed: Vec<Completed>,
}

impl Sites {
    /// Forgets everything: a rollback may have changed it.
    pub fn forget(&mut self) {
        *self = Sites::default();
    }

    /// Forgets what another connection may have changed.
    pub fn forget_shared(&mut self) {
        *self = Sites { by_log: std::mem::take(&mut self.by_log), ..Sites::default() };
    }

    fn load(&mut self, db: Db) -> Result<()> {
        if self.is_loaded {
            return Ok(());
        }
        let mut select = db.prepare("SELECT ordinal, site_id FROM main.__crsql_site")?;
        let mut rows = select.query(&[])?;
        while rows.step()? {
            if let Ok(id) = SiteId::try_from(rows.column_blob(1)) {
                self.ids.insert(rows.column_i64(0) as u32, id);
                self.ordinals.insert(id, rows.column_i64(0) as u32);
            }
        }
        self.is_loaded = true;
        Ok(())
    }

    /// The id of the site with `ordinal`.
    pub fn id(&mut self, db: Db, ordinal: u32) -> Result<SiteId> {
        if let Some((known, id)) = self.last
            && known == ordinal
        {
            return Ok(id);
        }
        self.load(db)?;
        let id = self.ids.get(&ordinal).copied().ok_or_else(super::bytes::damaged)?;
        self.last = Some((ordinal, id));
        Ok(id)
    }

    /// The ordinal of `id`, if the site is known.
    pub fn find(&mut self, db: Db, id: &SiteId) -> Result<Option<u32>> {
        if let Some((ordinal, known)) = &self.last
            && known == id
        {
            return Ok(Some(*ordinal));
        }
        self.load(db)?;
        let ordinal = self.ordinals.get(id).copied();
        self.last = ordinal.map(|ordinal| (ordinal, *id)).or(self.last);
        Ok(ordinal)
    }

    /// The ordinal of `id`; a new site is written down.
    pub fn ordinal(&mut self, db: Db, id: &SiteId) -> Result<u32> {
        if let Some(ordinal) = self.find(db, id)? {
            return Ok(ordinal);
        }
        let rowid = db.last_insert_rowid();
        let mut insert = db.prepare("INSERT INTO main.__crsql_site (site_id) VALUES (?1)")?;
        insert.execute(&[ValueRef::Blob(&id.0)])?;
        let ordinal = db.last_insert_rowid() as u32;
        db.set_last_insert_rowid(rowid);
        self.ids.insert(ordinal, *id);
        self.ordinals.insert(*id, ordinal);
        Ok(ordinal)
    }

    /// Every known site.
    pub fn all(&mut self, db: Db) -> Result<Vec<(u32, SiteId)>> {
        self.load(db)?;
        Ok(self.ids.iter().map(|(ordinal, id)| (*ordinal, *id)).collect())
    }

    /// The versions held of every site but this one, whose versions are all held.
    pub fn vector(
        &mut self,
        db: Db,
        statements: &mut Statements,
        generation: u64,
    ) -> Result<&BTreeMap<u32, RangeSet>> {
        if self.vector.is_none() {
            let mut vector: BTreeMap<u32, RangeSet> = BTreeMap::new();
            let mut select = db.prepare("SELECT site, lo, hi FROM main.__crsql_vector")?;
            let mut rows = select.query(&[])?;
            while rows.step()? {
                let ranges = vector.entry(rows.column_i64(0) as u32).or_default();
                ranges.insert(rows.column_i64(1) as u64, rows.column_i64(2) as u64);
            }
            for (site, lo, hi) in self.completed_by_log(statements, generation)? {
                vector.entry(*site).or_default().insert(*lo, *hi);
            }
            self.vector = Some(vector);
        }
        Ok(self.vector.as_ref().expect("just loaded"))
    }

    /// Versions that a log row completed.
    pub fn note(&mut self, completed: &[Completed]) {
        if let Some(vector) = &mut self.vector {
            for (site, lo, hi) in completed {
                vector.entry(*site).or_default().insert(*lo, *hi);
            }
        }
    }

    /// What the rows of the log, which is of this generation, completed.
    pub fn completed_by_log(&mut self, statements: &mut Statements, generation: u64) -> Result<&[Completed]> {
        let known = &mut self.by_log;
        if known.generation != generation || known.until == 0 {
            *known = ByLog { generation, until: -1, completed: Vec::new() };
        }
        let after = [ValueRef::Integer(known.until)];
        let mut rows = statements.log_after.query(&after)?;
        while rows.step()? {
            known.until = rows.column_i64(0);
            known.completed.extend(log::decode(known.until as u64, rows.column_blob(1))?.completed);
        }
        Ok(&known.completed)
    }

    /// Writes completed versions to the table.
    pub fn complete(&mut self, db: Db, completed: &[Completed]) -> Result<()> {
        if completed.is_empty() {
            return Ok(());
        }
        let mut by_site: BTreeMap<u32, RangeSet> = BTreeMap::new();
        for (site, lo, hi) in completed {
            by_site.entry(*site).or_default().insert(*lo, *hi);
        }
        let mut select = db.prepare("SELECT lo, hi FROM main.__crsql_vector WHERE site = ?1")?;
        let mut delete = db.prepare("DELETE FROM main.__crsql_vector WHERE site = ?1")?;
        let mut insert = db.prepare("INSERT INTO main.__crsql_vector VALUES (?1, ?2, ?3)")?;
        for (site, mut ranges) in by_site {
            let site = ValueRef::Integer(i64::from(site));
            {
                let args = [site];
                let mut rows = select.query(&args)?;
                while rows.step()? {
                    ranges.insert(rows.column_i64(0) as u64, rows.column_i64(1) as u64);
                }
            }
            delete.execute(&[site])?;
            for (lo, hi) in ranges.iter() {
                insert.execute(&[site, ValueRef::Integer(lo as i64), ValueRef::Integer(hi as i64)])?;
            }
        }
        self.note(completed);
        Ok(())
    }
}
