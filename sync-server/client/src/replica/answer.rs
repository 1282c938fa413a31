//! Answers what other nodes lack: frames from the journal while it has them all, else one delta from the tables.
//!
//! A frame from the journal is the transaction as it was. From the tables only what is left of it can be had, so then
//! everything that the other lacks goes as one delta: whatever replaced a part of something is in it as well, and
//! nobody sees half of a transaction.

use std::collections::BTreeMap;

use crsql_core::changeset::{Order, split_each};
use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::holdings::Needs;
use crsql_protocol::message::{ChainAt, Frame};
use crsql_protocol::session::Parcel;
use rusqlite::params;

use super::journal::read;
use super::publish::CHUNK_BYTES;
use super::{Replica, tables};
use crate::{Error, Result};

/// A delta on its way to one connection, over several answers. Its frames lie in a temporary table, since it can be as
/// large as the database; forget it with the connection.
#[derive(Debug, Default)]
pub struct Fill {
    /// Which rows of the table: after the first number, up to the second.
    rows: (i64, i64),
    claims: VersionVector,
    chains: Vec<ChainAt>,
}

impl Replica {
    /// Some of what a peer needs, about `bytes` of it. `fill` is what is left of a delta that an earlier answer began.
    ///
    /// # Errors
    /// SQLite's; a database whose clocks are damaged.
    pub fn answer(&self, needs: &Needs, bytes: u64, fill: &mut Option<Fill>) -> Result<Parcel> {
        if let Some(rest) = fill {
            let parcel = self.go_on(rest, bytes)?;
            if !parcel.more {
                *fill = None;
            }
            return Ok(self.and_more(parcel, needs));
        }
        let mut wanted = needs.whole.clone();
        for (site, version) in needs.partial.keys() {
            wanted.insert(*site, *version);
        }
        let wanted = held_of(&wanted, self.ledger.whole());
        let Some(positions) = self.entries_for(&wanted)? else {
            let mut rest = self.fill(wanted)?;
            let parcel = self.go_on(&mut rest, bytes)?;
            *fill = parcel.more.then_some(rest);
            return Ok(self.and_more(parcel, needs));
        };
        self.parcel(needs, &positions, bytes)
    }

    /// Whether there is more to be read than what is in the parcel.
    fn and_more(&self, mut parcel: Parcel, needs: &Needs) -> Parcel {
        let mut open = needs.clone();
        open.remove(&parcel.claims);
        parcel.more |= !held_of(&open.whole, self.ledger.whole()).is_empty() || !open.partial.is_empty();
        parcel
    }

    /// The positions of the entries that answer for all of `wanted`, in order; none if some of it is not in the
    /// journal.
    fn entries_for(&self, wanted: &VersionVector) -> Result<Option<Vec<i64>>> {
        let mut positions = Vec::new();
        let mut select = self.conn.prepare_cached(
            "SELECT pos, first, last, seq_lo, seq_hi, last_seq FROM main.__crsql_sync_journal
             WHERE site = ?1 AND last >= ?2 AND first <= ?3",
        )?;
        for (site, lo, hi) in wanted.ranges() {
            let mut covered = RangeSet::default();
            // The older chunks of a version may have been dropped from the journal and the younger ones not.
            let mut chunks: BTreeMap<u64, RangeSet> = BTreeMap::new();
            let mut rows = select.query(params![site.0.as_slice(), lo as i64, hi as i64])?;
            while let Some(row) = rows.next()? {
                let (pos, first, last): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                match (row.get::<_, Option<i64>>(3)?, row.get::<_, Option<i64>>(4)?) {
                    (Some(seq_lo), Some(seq_hi)) => {
                        let seqs = chunks.entry(first as u64).or_default();
                        seqs.insert(seq_lo as u64, seq_hi as u64);
                        if seqs.contains_range(0, row.get::<_, i64>(5)? as u64) {
                            covered.insert(first as u64, first as u64);
                        }
                    }
                    _ => drop(covered.insert(first as u64, last as u64)),
                }
                positions.push(pos);
            }
            if !covered.contains_range(lo, hi) {
                return Ok(None);
            }
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(Some(positions))
    }

    fn parcel(&self, needs: &Needs, positions: &[i64], bytes: u64) -> Result<Parcel> {
        let mut parcel = Parcel::default();
        let mut size = 0;
        let mut select =
            self.conn.prepare_cached("SELECT entry FROM main.__crsql_sync_journal WHERE pos = ?1")?;
        let wanted = |frame: &Frame| {
            frame.is_delta()
                || needs.whole.contains(frame.site, frame.site_version)
                || needs.partial.get(&(frame.site, frame.site_version)).is_some_and(|seqs| {
                    let covered = RangeSet::of(frame.seq_lo, frame.seq_hi);
                    covered.difference(seqs) != covered
                })
        };
        for (at, pos) in positions.iter().enumerate() {
            let batch = select.query_row([pos], |row| {
                Ok(read(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?))
            })??;
            parcel.frames.extend(batch.frames.into_iter().filter(wanted));
            parcel.claims.union_with(&batch.claims);
            parcel.chains.extend(batch.chains);
            size = parcel.frames.iter().map(Frame::wire_bytes).sum::<usize>();
            if size as u64 >= bytes && at + 1 < positions.len() {
                parcel.more = true;
                return Ok(parcel);
            }
        }
        // Chunks of versions that are not whole here either.
        for (site, version) in needs.partial.keys() {
            let chunks = self.ledger.stage().chunks(*site, *version);
            for chunk in chunks.iter().filter(|chunk| wanted(chunk)) {
                if parcel.frames.contains(chunk) {
                    continue;
                }
                if size as u64 >= bytes {
                    parcel.more = true;
                    return Ok(parcel);
                }
                size += chunk.wire_bytes();
                parcel.frames.push(chunk.clone());
            }
        }
        Ok(parcel)
    }

    /// What is left of these versions, as a delta.
    fn fill(&self, claims: VersionVector) -> Result<Fill> {
        let lacking = tables::vector(&self.conn)?.difference(&claims);
        let bytes: Vec<u8> = self
            .conn
            .prepare_cached("SELECT crsql_changeset(?1, 0)")?
            .query_row([lacking.encode()], |row| row.get(0))?;
        self.conn.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS __crsql_sync_fill (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
        )?;
        let mut insert = self.conn.prepare_cached("INSERT INTO temp.__crsql_sync_fill (body) VALUES (?1)")?;
        let (mut first, mut last) = (None, 0);
        split_each(&bytes, CHUNK_BYTES, Order::AsGiven, &VersionVector::default(), |piece| {
            last = insert.insert([piece.bytes])?;
            first.get_or_insert(last);
            Ok::<_, Error>(())
        })?;
        drop(bytes);
        let mut chains = Vec::new();
        for (site, version) in claims.heads() {
            let chain = tables::chain(&self.conn, site, version)?;
            chains.extend(chain.map(|chain| ChainAt { site, version, chain }));
        }
        Ok(Fill { rows: (first.unwrap_or(1) - 1, last), claims, chains })
    }

    /// About `bytes` more of a delta; the claims come with the last.
    fn go_on(&self, fill: &mut Fill, bytes: u64) -> Result<Parcel> {
        let mut parcel = Parcel::default();
        let mut size = 0;
        let (after, last) = fill.rows;
        let mut select = self.conn.prepare_cached(
            "SELECT id, body FROM temp.__crsql_sync_fill WHERE id > ?1 AND id <= ?2 ORDER BY id",
        )?;
        let mut rows = select.query([after, last])?;
        while let Some(row) = rows.next()? {
            fill.rows.0 = row.get(0)?;
            let frame = Frame::delta(self.site, row.get(1)?);
            size += frame.wire_bytes() as u64;
            parcel.frames.push(frame);
            if size >= bytes {
                break;
            }
        }
        drop(rows);
        self.conn
            .prepare_cached("DELETE FROM temp.__crsql_sync_fill WHERE id > ?1 AND id <= ?2")?
            .execute([after, fill.rows.0])?;
        parcel.more = fill.rows.0 < last;
        if !parcel.more {
            parcel.claims = std::mem::take(&mut fill.claims);
            parcel.chains = std::mem::take(&mut fill.chains);
        }
        Ok(parcel)
    }

    /// Drops what is left of a delta whose connection ended.
    pub fn forget_fill(&self, fill: &Fill) {
        // If it fails, a table that lives as long as this connection is a little longer.
        let sql = "DELETE FROM temp.__crsql_sync_fill WHERE id > ?1 AND id <= ?2";
        self.conn.execute(sql, [fill.rows.0, fill.rows.1]).ok();
    }
}

/// The versions of `needs` that are held.
fn held_of(needs: &VersionVector, held: &VersionVector) -> VersionVector {
    needs.difference(&needs.difference(held))
}
