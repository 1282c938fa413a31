//! Finds transactions by their names.

use std::collections::BTreeSet;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::RangeSet;
use crsql_protocol::message::{Frame, Head};
use crsql_protocol::wire::Chain;
use rusqlite::{Connection, params};

use super::{Entry, Item, rows};

/// How many heads are tried to find one that is whole. Incomplete versions of a site are few.
const HEADS: usize = 64;

/// What a journal has of some versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Frames in the order of versions and seqs; all of a version's history that is the latest.
    pub frames: Vec<Frame>,
    /// The cuts that claimed some of the versions: first and last position.
    pub cuts: BTreeSet<(u64, u64)>,
    /// The versions that the frames and cuts answer for. Of the versions looked at, those that are held and not here
    /// were trimmed away, or are not whole.
    pub covered: RangeSet,
    /// The first version that was not looked at because there was enough.
    pub next: Option<u64>,
}

/// Frames and cuts of versions `lo..=hi`.
pub fn find(
    connection: &Connection,
    room: i64,
    site: SiteId,
    lo: u64,
    hi: u64,
    bytes: u64,
) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    let sql = format!(
        "SELECT {} FROM entry INDEXED BY entry_version
         WHERE room = ?1 AND site = ?2 AND version BETWEEN ?3 AND ?4 AND version > 0
         ORDER BY version, seq_lo",
        rows::ENTRY
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![room, site.as_bytes(), lo as i64, hi as i64])?;
    let (mut taken, mut version): (u64, Vec<Entry>) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        let entry = super::rows::entry(row)?;
        let Item::Frame(frame) = &entry.item else { continue };
        if version.first().is_some_and(|first| name(first) != Some(frame.site_version)) {
            found.take(&mut version);
            if taken >= bytes {
                found.next = Some(frame.site_version);
                break;
            }
        }
        taken += frame.wire_bytes() as u64;
        version.push(entry);
    }
    if found.next.is_none() {
        found.take(&mut version);
    }
    let mut select = connection.prepare_cached(
        "SELECT first, last, lo, hi FROM claim WHERE room = ?1 AND site = ?2 AND hi >= ?3 AND lo <= ?4",
    )?;
    let hi = found.next.map_or(hi, |next| next - 1);
    let mut rows = select.query(params![room, site.as_bytes(), lo as i64, hi as i64])?;
    while let Some(row) = rows.next()? {
        let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
        found.cuts.insert((number(0)?, number(1)?));
        found.covered.insert(number(2)?, number(3)?);
    }
    Ok(found)
}

impl Found {
    /// Takes the frames of one version. Chunks of a history that its writer gave up are left out: those of the latest
    /// are the ones that count.
    fn take(&mut self, version: &mut Vec<Entry>) {
        let chain_of = |entry: &Entry| match &entry.item {
            Item::Frame(frame) => Some(frame.chain),
            Item::Claim(_) => None,
        };
        let latest = version.iter().max_by_key(|entry| entry.pos).and_then(chain_of);
        let mut seqs = RangeSet::default();
        for entry in version.drain(..) {
            if let Item::Frame(frame) = entry.item
                && Some(frame.chain) == latest
            {
                seqs.insert(frame.seq_lo, frame.seq_hi);
                if seqs.contains_range(0, frame.last_seq) {
                    self.covered.insert(frame.site_version, frame.site_version);
                }
                self.frames.push(frame);
            }
        }
    }
}

fn name(entry: &Entry) -> Option<u64> {
    match &entry.item {
        Item::Frame(frame) => Some(frame.site_version),
        Item::Claim(_) => None,
    }
}

/// The greatest versions up to one of which the chain is kept.
pub fn chains_upto(
    connection: &Connection,
    room: i64,
    site: SiteId,
    version: u64,
) -> rusqlite::Result<Vec<Head>> {
    let mut select = connection.prepare_cached(
        "SELECT version, chain FROM (
             SELECT version, chain, pos FROM entry INDEXED BY entry_version
             WHERE room = ?1 AND site = ?2 AND version <= ?3 AND version > 0
             ORDER BY version DESC LIMIT ?4)
         UNION ALL
         SELECT version, chain FROM (
             SELECT version, chain FROM chain WHERE room = ?1 AND site = ?2 AND version <= ?3
             ORDER BY version DESC LIMIT ?4)
         UNION ALL
         SELECT version, chain FROM holding WHERE room = ?1 AND site = ?2 AND version <= ?3",
    )?;
    let rows = select.query_map(params![room, site.as_bytes(), version as i64, HEADS as i64], |row| {
        Ok(Head { version: row.get::<_, i64>(0)? as u64, chain: Chain(row.get(1)?) })
    })?;
    let mut heads: Vec<Head> = rows.collect::<Result<_, _>>()?;
    heads.sort_by_key(|head| std::cmp::Reverse(head.version));
    heads.dedup();
    Ok(heads)
}
