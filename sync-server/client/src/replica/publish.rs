//! Local commits become frames.
//!
//! A single new version is a frame of its own, or chunks of one if it is large. Several are published together, as a
//! delta with claims: what a later one replaced of an earlier one is gone from the database, so only all of them
//! together are what some reader saw here.
//!
//! The chain is drawn when a version is published, over what was published: `chain(v) = blake3(chain before, site, v,
//! blake3(changeset))`. Two files that publish different things under one version have different chains from then on.

use std::borrow::Cow;

use crsql_core::change::Change;
use crsql_core::changeset::{
    Changeset, ChangesetError, Order, Piece, split, split_each, write_changes_telling,
};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::message::{CODEC_PLAIN, ChainAt, Frame, Head};
use crsql_protocol::wire::{Blob, Chain};
use rusqlite::params;

use super::journal::{Content, ENTRY_BYTES_MAX, Names};
use super::ledger::own;
use super::{Replica, tables};
use crate::{Error, Result};

/// Larger transactions are cut into chunks of about this size, in bytes before compression.
pub const CHUNK_BYTES: usize = 128 << 10;

/// Up to this many bytes a changeset is worth being looked at for what could be left out.
const SMALL_BYTES: usize = 8 << 10;

/// A transaction beyond this is chunked without holding all of its chunks, in bytes.
const STREAMED_BYTES_MIN: usize = 1 << 20;

/// Larger publications are not copied into the journal but read from the tables when they are wanted, in bytes.
const PUBLISH_BYTES_MAX: usize = 64 << 20;

impl Replica {
    /// Publishes what was committed since the last time. Inside a batch that has not written anything yet.
    pub(super) fn publish(&mut self) -> Result<()> {
        self.follow_others()?;
        let at = tables::db_version(&self.conn)?;
        if self.looked_at == Some(at) {
            return Ok(());
        }
        let site = tables::site(&self.conn)?;
        if site != self.site {
            // Somebody called crsql_new_site(): what the old one wrote is now like anybody's.
            (self.site, self.acked) = (site, 0);
        }
        let held = tables::vector(&self.conn)?;
        let news = held.difference(self.ledger.whole());
        let written = own(&news, self.site);
        let merged = news.difference(&written);
        if !merged.is_empty() {
            // Somebody applied changesets by hand, so there are no frames of these.
            self.ledger.claim(&merged, &[]);
            self.batch_mut().gained.union_with(&merged);
            self.restart_journal()?;
        }
        if let Some(versions) = written.of_site(self.site) {
            self.publish_own(versions, &held.difference(&written))?;
            self.batch_mut().gained.union_with(&written);
            self.batch_mut().published.union_with(&written);
        }
        self.seen = at;
        if !news.is_empty() {
            self.save_state()?;
        }
        self.looked_at = Some(at);
        Ok(())
    }

    /// Reads everything again if another process syncs the same file, too, and has published or recorded something:
    /// what it gave a chain must not get another one here.
    fn follow_others(&mut self) -> Result<()> {
        let state = tables::state(&self.conn)?;
        let is_same = state.site != self.site || state.published == own(self.ledger.whole(), self.site);
        match is_same && self.journal.is_current(&self.conn)? {
            true => Ok(()),
            false => self.load(),
        }
    }

    fn publish_own(&mut self, versions: &RangeSet, before: &VersionVector) -> Result<()> {
        let (first, last) = match (versions.iter().next(), versions.max()) {
            (Some((first, _)), Some(last)) => (first, last),
            _ => return Ok(()),
        };
        // It is read where the extension wrote it: a large one is in memory once.
        let conn = self.conn.clone();
        let mut select = conn.prepare_cached("SELECT crsql_changeset(?1, 0, ?2)")?;
        let mut rows = select.query(params![before.encode(), self.seen as i64])?;
        let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let bytes = &shortened(only_of(bytes, self.site)?)?[..];
        let mut claims = VersionVector::default();
        for (lo, hi) in versions.iter() {
            claims.insert_range(self.site, lo, hi);
        }
        let chain = link(self.ledger.head(self.site).chain, self.site, last, bytes);
        let head = Head { version: last, chain };
        let chains = vec![ChainAt { site: self.site, version: last, chain }];
        self.ledger.claim(&claims, &chains);
        tables::save_chain(&self.conn, self.site, head)?;
        if bytes.len() > PUBLISH_BYTES_MAX {
            return self.restart_journal();
        }
        if first == last && bytes.len() > STREAMED_BYTES_MIN {
            return self.append_chunks(head, bytes, &claims);
        }
        let order = if first == last { Order::BySeq } else { Order::AsGiven };
        let pieces = split(bytes, CHUNK_BYTES, order, &claims).map_err(damaged)?;
        let names = Names::Versions(self.site, first, last);
        if is_empty(&pieces)? {
            return self.append(names, Content { frames: Vec::new(), claims, chains }, None);
        }
        if first == last {
            for frame in chunks(self.site, head, pieces) {
                self.append(Names::of(&frame), Content { frames: vec![frame], ..Content::default() }, None)?;
            }
            return Ok(());
        }
        let frames = deltas(self.site, pieces);
        if frames.iter().map(Frame::wire_bytes).sum::<usize>() > ENTRY_BYTES_MAX {
            return self.restart_journal();
        }
        self.append(names, Content { frames, claims, chains }, None)
    }

    /// Appends a large transaction chunk by chunk: beside itself, no more than a chunk of it is in memory.
    fn append_chunks(&mut self, head: Head, bytes: &[u8], claims: &VersionVector) -> Result<()> {
        // Where the chunks begin and where the last one ends is in the first of them, so it is found out before.
        let (mut starts, mut last_seq) = (Vec::new(), 0);
        split_each(bytes, CHUNK_BYTES, Order::BySeq, claims, |piece| {
            last_seq = piece.seq_max;
            starts.push(piece.seq_min);
            Ok::<_, ChangesetError>(())
        })
        .map_err(damaged)?;
        let mut at = 0;
        split_each(bytes, CHUNK_BYTES, Order::BySeq, claims, |piece| {
            let frame = chunk(self.site, head, (&starts, last_seq), at, piece);
            at += 1;
            self.append(Names::of(&frame), Content { frames: vec![frame], ..Content::default() }, None)
        })
    }
}

/// The pieces of one version as its frames: their ranges of seqs lie side by side.
fn chunks(site: SiteId, head: Head, pieces: Vec<Piece>) -> Vec<Frame> {
    let last_seq = pieces.last().map_or(0, |piece| piece.seq_max);
    let starts: Vec<u64> = pieces.iter().map(|piece| piece.seq_min).collect();
    let frame = |(at, piece)| chunk(site, head, (&starts, last_seq), at, piece);
    pieces.into_iter().enumerate().map(frame).collect()
}

/// The piece at `at` of a version as a frame, by where the pieces begin and where the last one ends.
fn chunk(site: SiteId, head: Head, (starts, last_seq): (&[u64], u64), at: usize, piece: Piece) -> Frame {
    Frame {
        site,
        site_version: head.version,
        seq_lo: if at == 0 { 0 } else { starts[at] },
        seq_hi: starts.get(at + 1).map_or(last_seq, |next| next - 1),
        last_seq,
        chain: head.chain,
        codec: CODEC_PLAIN,
        body: Blob(piece.bytes),
    }
}

/// Pieces of many versions as frames of a delta.
pub fn deltas(site: SiteId, pieces: Vec<Piece>) -> Vec<Frame> {
    pieces.into_iter().map(|piece| Frame::delta(site, piece.bytes)).collect()
}

/// A link of a site's history.
fn link(before: Chain, site: SiteId, version: u64, changeset: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0).update(&site.0).update(&version.to_le_bytes());
    hasher.update(blake3::hash(changeset).as_bytes());
    let mut chain = Chain::default();
    chain.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    chain
}

fn is_empty(pieces: &[Piece]) -> Result<bool> {
    let [piece] = pieces else { return Ok(false) };
    let changeset = Changeset::open(&piece.bytes, &Default::default()).map_err(damaged)?;
    Ok(changeset.reader().next_run().map_err(damaged)?.is_none())
}

/// A small changeset without the names of the columns that it says nothing about: of a wide table they would be most
/// of it.
fn shortened(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>> {
    if bytes.len() > SMALL_BYTES {
        return Ok(bytes);
    }
    let changeset = Changeset::open(&bytes, &Default::default()).map_err(damaged)?;
    let changes = Changeset::changes(&bytes).map_err(damaged)?;
    let told = changeset.told();
    let short = write_changes_telling(changeset.tie_break(), &changes, changeset.claims(), told);
    drop(changeset);
    Ok(if short.len() < bytes.len() { short.into() } else { bytes })
}

/// The changeset without what others wrote or what has no identity, such as rows inserted into `crsql_changes`
/// without their site_version: we may speak for ourselves only.
fn only_of(bytes: &[u8], site: SiteId) -> Result<Cow<'_, [u8]>> {
    let is_ours = |change: &Change| change.stamp.site == site && change.stamp.version > 0;
    {
        let changeset = Changeset::open(bytes, &Default::default()).map_err(damaged)?;
        let mut reader = changeset.reader();
        let mut all_ours = true;
        while let Some(run) = reader.next_run().map_err(damaged)? {
            all_ours &= run
                .groups
                .iter()
                .all(|group| changeset.sites()[group.site as usize] == site && group.version > 0);
        }
        if all_ours {
            return Ok(bytes.into());
        }
        let mut changes = Changeset::changes(bytes).map_err(damaged)?;
        changes.retain(is_ours);
        let told = changeset.told();
        Ok(write_changes_telling(changeset.tie_break(), &changes, changeset.claims(), told).into())
    }
}

pub fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(format!("a changeset of this database: {error}"))
}
