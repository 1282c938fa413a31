//! Applies what the journal has, in its order and cut where it is cut.

use crsql_core::changeset::Writer;
use crsql_core::ids::SiteId;
use crsql_core::merge::TieBreak;
use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::message::Frame;
use rusqlite::{Connection, params};

use super::{Database, Store, StoreError};
use crate::journal::{Entry, Item};
use crate::room::check::plain;

/// Bytes of entries applied in one transaction, if no cut is longer.
const BATCH_BYTES: u64 = 1 << 20;

impl Store {
    /// Applies everything that came since.
    pub(super) fn follow(&self, database: &mut Database) -> Result<(), StoreError> {
        loop {
            let mut entries = self.journal.read(self.key, database.pos, BATCH_BYTES)?;
            if entries.is_empty() {
                return Ok(());
            }
            let tx = database.connection.unchecked_transaction()?;
            let mut pos = database.pos;
            while !entries.is_empty() {
                let more = entries.last().is_some_and(|entry| entry.more);
                for entry in entries {
                    pos = entry.pos;
                    self.entry(&tx, entry)?;
                    self.metrics.materialised.add(1);
                }
                // Nobody sees half of a cut.
                entries = match more {
                    true => self.journal.read(self.key, pos, BATCH_BYTES)?,
                    false => Vec::new(),
                };
            }
            tx.execute("UPDATE __crsql_relay SET pos = ?1", [pos as i64])?;
            tx.commit()?;
            database.pos = pos;
        }
    }

    /// Merges facts of rows, all of them or none.
    pub fn merge(&self, deltas: &[Frame]) -> Result<(), StoreError> {
        self.with(|connection, _| {
            let tx = connection.unchecked_transaction()?;
            deltas.iter().try_for_each(|frame| self.body(&tx, frame))?;
            Ok(tx.commit()?)
        })
    }

    fn entry(&self, connection: &Connection, entry: Entry) -> Result<(), StoreError> {
        match entry.item {
            Item::Frame(frame) if frame.is_delta() => self.body(connection, &frame),
            Item::Frame(frame) if frame.is_whole() => {
                self.forget_chunks(connection, frame.site, frame.site_version)?;
                self.version(connection, &[frame])
            }
            Item::Frame(frame) => self.chunk(connection, frame),
            Item::Claim(claim) => self.claim(connection, &claim.versions),
        }
    }

    /// Remembers a chunk, and applies its version if it was the last.
    fn chunk(&self, connection: &Connection, frame: Frame) -> Result<(), StoreError> {
        let (site, version) = (frame.site.0, frame.site_version as i64);
        connection.execute(
            "DELETE FROM __crsql_relay_chunk WHERE site = ?1 AND version = ?2 AND chain <> ?3",
            params![site, version, frame.chain.0],
        )?;
        connection.execute(
            "INSERT OR REPLACE INTO __crsql_relay_chunk VALUES (?1, ?2, ?3, ?4, ?5)",
            params![site, version, frame.seq_lo as i64, frame.seq_hi as i64, frame.chain.0],
        )?;
        let mut select = connection
            .prepare("SELECT seq_lo, seq_hi FROM __crsql_relay_chunk WHERE site = ?1 AND version = ?2")?;
        let ranges = select.query_map(params![site, version], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
        })?;
        let have: RangeSet = ranges.collect::<Result<Vec<_>, _>>()?.into_iter().collect();
        if !have.contains_range(0, frame.last_seq) {
            return Ok(());
        }
        let found =
            self.journal.find(self.key, frame.site, frame.site_version, frame.site_version, u64::MAX)?;
        self.forget_chunks(connection, frame.site, frame.site_version)?;
        self.version(connection, &found.frames)
    }

    fn forget_chunks(&self, connection: &Connection, site: SiteId, version: u64) -> Result<(), StoreError> {
        connection.execute(
            "DELETE FROM __crsql_relay_chunk WHERE site = ?1 AND version = ?2",
            params![site.0, version as i64],
        )?;
        Ok(())
    }

    /// All frames of one version, in the order of their seqs.
    fn version(&self, connection: &Connection, frames: &[Frame]) -> Result<(), StoreError> {
        for frame in frames {
            self.body(connection, frame)?;
        }
        let mut held = VersionVector::default();
        for frame in frames.iter().take(1) {
            held.insert(frame.site, frame.site_version);
        }
        self.claim(connection, &held)
    }

    fn claim(&self, connection: &Connection, versions: &VersionVector) -> Result<(), StoreError> {
        let tie_break = if self.tie_break == 1 { TieBreak::Value } else { TieBreak::Site };
        let claim = Writer::new(tie_break).finish(versions, false);
        connection.query_row("SELECT crsql_apply(?1)", [claim], |_| Ok(()))?;
        Ok(())
    }

    /// One bad transaction does not hold up the others: it is counted and passed over.
    fn body(&self, connection: &Connection, frame: &Frame) -> Result<(), StoreError> {
        let told = |error: &dyn std::fmt::Display| {
            self.metrics.materialise_failures.add(1);
            let (site, version) = (frame.site, frame.site_version);
            tracing::error!(%site, version, %error, "a transaction cannot be applied");
        };
        let body = match plain(frame, self.settings.raw_bytes.bytes()) {
            Ok(frame) => frame.body.0,
            Err(code) => {
                told(&code.name());
                return Ok(());
            }
        };
        match connection.query_row("SELECT crsql_apply(?1)", [body], |_| Ok(())) {
            Ok(()) => Ok(()),
            // The disk is at fault and not the transaction: it is applied again later.
            Err(error) if is_of_disk(&error) => Err(error.into()),
            Err(error) => {
                told(&error);
                Ok(())
            }
        }
    }
}

fn is_of_disk(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::*;
    matches!(
        error.sqlite_error_code(),
        Some(
            DiskFull | SystemIoFailure | DatabaseBusy | DatabaseLocked | OutOfMemory | CannotOpen | ReadOnly
        )
    )
}
