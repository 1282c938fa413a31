//! Reads the ledger from the database, and corrects it when something could not be applied after all.

use crsql_core::ids::SiteId;
use crsql_core::merge::TieBreak;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::ledger::Ledger;
use crsql_protocol::message::{ChainAt, Frame, Head};

use super::journal::read;
use super::{Replica, tables};
use crate::Result;

impl Replica {
    /// Becomes what the database says.
    pub(super) fn load(&mut self) -> Result<()> {
        self.site = tables::site(&self.conn)?;
        let tie_break: String =
            self.conn.query_row("SELECT crsql_config_get('tie-break')", [], |row| row.get(0))?;
        self.tie_break = if tie_break == "value" { TieBreak::Value } else { TieBreak::Site };
        let state = tables::state(&self.conn)?;
        (self.seen, self.looked_at) = (state.seen, None);
        let is_same = state.site == self.site;
        self.acked = if is_same { state.acked.max(self.acked) } else { 0 };
        // Own versions count from the moment they are published.
        let held = tables::vector(&self.conn)?;
        let own = own(&held, self.site);
        let unpublished = if is_same { own.difference(&state.published) } else { own };
        let whole = held.difference(&unpublished);
        let heads = tables::heads(&self.conn)?;
        let held = |(site, head): &(SiteId, Head)| whole.contains(*site, head.version);
        let heads: Vec<_> = heads.into_iter().filter(held).collect();
        self.ledger = Ledger::of(whole, heads, self.options.limits);
        self.journal.load(&self.conn)?;
        self.load_stage()
    }

    fn load_stage(&mut self) -> Result<()> {
        let mut select = self.conn.prepare("SELECT entry FROM main.__crsql_sync_stage ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for frame in read(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?.frames {
                // What no longer fits, after limits changed for instance, is asked for again.
                self.ledger.record(0, &frame, None).ok();
            }
        }
        Ok(())
    }

    /// A version that was recorded could not be applied: it is not held after all.
    pub(super) fn unhold(&mut self, now_ms: u64, site: SiteId, version: u64) -> Result<()> {
        let mut whole = self.ledger.whole().clone();
        whole.remove(site, version);
        let mut heads = Vec::new();
        for (of, _) in whole.iter() {
            let mut head = self.ledger.head(*of);
            if (*of, head.version) == (site, version) {
                head = tables::last_chain(&self.conn, site, version.saturating_sub(1))?;
            }
            heads.push((*of, head));
        }
        let heads = heads.into_iter().filter(|(_, head)| head.version > 0);
        let mut ledger = Ledger::of(whole, heads.collect::<Vec<_>>(), self.options.limits);
        for (site, version) in self.ledger.stage().progress().into_keys() {
            let chunks: Vec<Frame> = self.ledger.stage().chunks(site, version).to_vec();
            chunks.iter().for_each(|chunk| drop(ledger.record(now_ms, chunk, None)));
        }
        self.ledger = ledger;
        Ok(())
    }

    /// Writes down who this is and what is published.
    pub(super) fn save_state(&mut self) -> Result<()> {
        let published = own(self.ledger.whole(), self.site);
        let state = tables::State { site: self.site, seen: self.seen, acked: self.acked, published };
        self.acked_changed = false;
        tables::save_state(&self.conn, &state)
    }

    pub(super) fn save_chains(&self, chains: &[ChainAt]) -> Result<()> {
        chains.iter().try_for_each(|at| {
            tables::save_chain(&self.conn, at.site, Head { version: at.version, chain: at.chain })
        })
    }
}

/// The versions of one site.
pub fn own(versions: &VersionVector, site: SiteId) -> VersionVector {
    let mut own = VersionVector::default();
    for (lo, hi) in versions.of_site(site).into_iter().flat_map(|ranges| ranges.iter()) {
        own.insert_range(site, lo, hi);
    }
    own
}
