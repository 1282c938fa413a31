//! The journal: the frames of late, in the order in which this node came to hold them.
//!
//! An entry is kept as the bytes of the tail batch that live readers get. Positions are dense. The epoch is drawn
//! when the database is opened: a copy of the file must not hand out the same positions for other frames, so a reader
//! of an earlier epoch compares vectors instead.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::codec;
use crsql_protocol::limits::MESSAGE_BYTES_MAX;
use crsql_protocol::message::{Batch, ChainAt, Frame, Message};
use crsql_protocol::session::Tail;
use rusqlite::{Connection, OptionalExtension, params};

use super::Replica;
use crate::{Error, Result};

/// The largest entry, in bytes: it goes to live readers in one message, which every acceptable peer takes.
pub const ENTRY_BYTES_MAX: usize = 512 << 10;

/// So many bytes of new entries are held for live readers, in one batch of work.
const LIVE_BYTES_MAX: usize = 4 << 20;

/// An entry that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position; the one before is one less.
    pub pos: u64,
    /// The encoded tail batch, unless a batch of work has added too much to hold all of it: then readers read it from
    /// the journal.
    pub bytes: Option<std::sync::Arc<[u8]>>,
    /// The connection it came from.
    pub from: Option<u64>,
}

#[derive(Debug)]
pub struct Journal {
    pub epoch: u64,
    /// The last position.
    pub head: u64,
    /// Everything after it can be read.
    pub floor: u64,
    bytes: u64,
}

/// What an entry answers for by itself.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// These versions of a site.
    Versions(SiteId, u64, u64),
    /// A chunk of a version.
    Chunk(SiteId, u64, (u64, u64), u64),
    /// Claims of many sites: only readers of the journal can use it.
    Nothing,
}

impl Names {
    /// What a frame answers for.
    pub fn of(frame: &Frame) -> Names {
        match frame.is_whole() {
            true => Names::Versions(frame.site, frame.site_version, frame.site_version),
            false => {
                let seqs = (frame.seq_lo, frame.seq_hi);
                Names::Chunk(frame.site, frame.site_version, seqs, frame.last_seq)
            }
        }
    }
}

/// What goes into an entry.
#[derive(Default)]
pub struct Content {
    pub frames: Vec<Frame>,
    pub claims: VersionVector,
    pub chains: Vec<ChainAt>,
}

impl Journal {
    pub fn open(conn: &Connection) -> Result<Journal> {
        let mut journal = Journal { epoch: 0, head: 0, floor: 0, bytes: 0 };
        journal.load(conn)?;
        journal.renew(conn)?;
        Ok(journal)
    }

    /// Reads where it stands, after a rollback too.
    pub fn load(&mut self, conn: &Connection) -> Result<()> {
        let (first, last, bytes): (i64, i64, i64) = conn.query_row(
            "SELECT coalesce(min(pos), 1), coalesce(max(pos), 0), coalesce(sum(length(entry)), 0)
             FROM main.__crsql_sync_journal",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        (self.head, self.bytes) = (last as u64, bytes as u64);
        self.floor = self.floor.max(first as u64 - 1);
        Ok(())
    }

    /// Whether nobody else has appended to it.
    pub fn is_current(&self, conn: &Connection) -> Result<bool> {
        let last: i64 = conn
            .prepare_cached("SELECT coalesce(max(pos), 0) FROM main.__crsql_sync_journal")?
            .query_row([], |row| row.get(0))?;
        Ok(last as u64 == self.head)
    }

    /// A new epoch: nothing before can be resumed.
    pub fn renew(&mut self, conn: &Connection) -> Result<()> {
        self.epoch = conn.query_row("SELECT random()", [], |row| row.get::<_, i64>(0))? as u64;
        self.floor = self.head;
        Ok(())
    }

    /// Appends an entry.
    pub fn append(
        &mut self,
        conn: &Connection,
        names: Names,
        content: Content,
        from: Option<u64>,
    ) -> Result<Entry> {
        let Content { frames, claims, chains } = content;
        let (after, upto) = (self.head, self.head + 1);
        let batch = Batch { after, upto, part: 0, frames, claims, chains, more: false };
        let bytes = codec::encode(&batch.into());
        let (site, first, last, seqs) = match names {
            Names::Versions(site, first, last) => (Some(site.0), first, last, None),
            Names::Chunk(site, version, (lo, hi), last) => {
                (Some(site.0), version, version, Some((lo, hi, last)))
            }
            Names::Nothing => (None, 0, 0, None),
        };
        conn.prepare_cached("INSERT INTO main.__crsql_sync_journal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                upto as i64,
                site.as_ref().map(<[u8; 16]>::as_slice),
                first as i64,
                last as i64,
                seqs.map(|seqs| seqs.0 as i64),
                seqs.map(|seqs| seqs.1 as i64),
                seqs.map(|seqs| seqs.2 as i64),
                bytes
            ])?;
        self.head = upto;
        self.bytes += bytes.len() as u64;
        Ok(Entry { pos: upto, bytes: Some(bytes.into()), from })
    }

    /// Drops the oldest entries beyond `bytes_max`; the last one stays, so that positions go on from it.
    pub fn trim(&mut self, conn: &Connection, bytes_max: u64) -> Result<()> {
        while self.bytes > bytes_max {
            let oldest = conn
                .prepare_cached(
                    "SELECT pos, length(entry) FROM main.__crsql_sync_journal ORDER BY pos LIMIT 1",
                )?
                .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
                .optional()?;
            let Some((pos, len)) = oldest.filter(|(pos, _)| (*pos as u64) < self.head) else { return Ok(()) };
            conn.prepare_cached("DELETE FROM main.__crsql_sync_journal WHERE pos = ?1")?.execute([pos])?;
            self.bytes -= len as u64;
            self.floor = self.floor.max(pos as u64);
        }
        Ok(())
    }
}

impl Replica {
    /// The journal after a position, about `bytes` of it. None if it no longer reaches back that far.
    ///
    /// # Errors
    /// SQLite's; an entry that can't be read.
    pub fn tail(&self, after: u64, bytes: u64) -> Result<Option<Tail>> {
        if after < self.journal.floor {
            return Ok(None);
        }
        let mut tail = Tail { after, upto: after, ..Tail::default() };
        let mut select = self
            .conn
            .prepare_cached("SELECT pos, entry FROM main.__crsql_sync_journal WHERE pos > ?1 ORDER BY pos")?;
        let mut rows = select.query([after as i64])?;
        let (mut size, bytes) = (0, bytes.min(ENTRY_BYTES_MAX as u64));
        while let Some(row) = rows.next()? {
            let entry = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            size += entry.len() as u64;
            if size > bytes && tail.upto > after {
                break;
            }
            let batch = read(entry)?;
            tail.upto = row.get::<_, i64>(0)? as u64;
            tail.frames.extend(batch.frames);
            tail.claims.union_with(&batch.claims);
            tail.chains.extend(batch.chains);
        }
        Ok(Some(tail))
    }

    pub(super) fn append(&mut self, names: Names, content: Content, from: Option<u64>) -> Result<()> {
        let mut entry = self.journal.append(&self.conn, names, content, from)?;
        let batch = self.batch_mut();
        batch.entry_bytes += entry.bytes.as_ref().map_or(0, |bytes| bytes.len());
        if batch.entry_bytes > LIVE_BYTES_MAX {
            entry.bytes = None;
        }
        batch.entries.push(entry);
        Ok(())
    }

    /// What was gained can't be told to readers of the journal: they connect again and compare vectors.
    pub(super) fn restart_journal(&mut self) -> Result<()> {
        self.journal.renew(&self.conn)?;
        self.batch_mut().restarted = true;
        Ok(())
    }
}

/// An entry from its bytes.
pub fn read(entry: &[u8]) -> Result<Batch> {
    match codec::decode(entry, MESSAGE_BYTES_MAX) {
        Ok(Some(Message::Batch(batch))) => Ok(batch),
        Ok(_) => Err(Error::Damaged("a journal entry is no batch".into())),
        Err(fault) => Err(Error::Damaged(format!("a journal entry: {fault}"))),
    }
}
