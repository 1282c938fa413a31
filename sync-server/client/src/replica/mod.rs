//! A database as the store behind sync sessions: what it holds, what it lacks, its own commits as frames.
//!
//! Everything that must survive lies in the database itself, in tables that begin with `__crsql_sync_`, and moves in
//! the same transaction as the data: cursors, chains, chunks of incomplete transactions, and the recent frames (the
//! *journal*), from which other nodes are served without reading the tables again.
//!
//! Work is done in batches: [`Replica::begin`], any number of [`Replica::take`], [`Replica::commit`]. A batch begins
//! by publishing what was committed locally, by any process, so that each local transaction becomes a frame as it was
//! before remote changes are merged into the same rows. Only what [`Replica::commit`] returned may be told to others.

mod adopt;
mod answer;
mod collect;
mod digest;
mod fork;
mod journal;
mod ledger;
pub mod pack;
mod publish;
mod tables;
mod take;

#[cfg(feature = "tokio")]
pub use adopt::Adoption;
pub use adopt::{Folded, Snapshot};
pub use answer::Fill;
pub use digest::rows;
pub use journal::Entry;
pub use take::{Cut, Incoming, Taken};

use std::cell::Cell;
use std::rc::Rc;

use crsql_core::ids::SiteId;
use crsql_core::merge::TieBreak;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::ledger::Ledger;
use crsql_protocol::limits::Limits;
use crsql_protocol::message::{Ancestry, Cursor, Head, Hello, SchemaAction, SchemaId};
use crsql_protocol::session::{Admission, Local};
use crsql_protocol::wire::Fingerprint;
use rusqlite::Connection;

use crate::{Error, Result};
use journal::Journal;

/// How a replica behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Keep what others wrote in the journal too, because other nodes read it here: set where nodes connect to us.
    pub passes_on: bool,
    /// How much of the journal is kept, in bytes. Whoever lags further behind is served from the tables.
    pub journal_bytes: u64,
    /// The bounds on what is accepted.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options { passes_on: false, journal_bytes: 16 << 20, limits: limits() }
    }
}

/// What a client takes. Larger cells than a relay's default pass between peers.
fn limits() -> Limits {
    Limits {
        message_bytes: 16 << 20,
        frame_bytes: 15 << 20,
        window_bytes: 4 << 20,
        messages_per_second: 20_000,
        bytes_per_second: 1 << 30,
        ..Limits::default()
    }
}

/// A database that syncs. See the [module](self).
pub struct Replica {
    conn: Rc<Connection>,
    options: Options,
    site: SiteId,
    tie_break: TieBreak,
    ledger: Ledger,
    journal: Journal,
    /// Everything up to this apply position is in the ledger.
    seen: u64,
    /// The apply position at which there was nothing left to publish.
    looked_at: Option<u64>,
    /// The greatest own version that somebody else confirmed.
    acked: u64,
    acked_changed: bool,
    batch: Option<Batch>,
    /// Somebody sent what is left after deletes that are not here: only all of it brings this database up to date.
    is_behind: Cell<bool>,
    /// What had been collected when deletes were last collected here.
    collected: Option<Vec<u8>>,
}

/// What an open batch did.
#[derive(Debug, Default)]
struct Batch {
    gained: VersionVector,
    published: VersionVector,
    entries: Vec<Entry>,
    entry_bytes: usize,
    restarted: bool,
}

/// What a committed batch did; it is durable.
#[derive(Debug, Default)]
pub struct Committed {
    /// Versions that became whole here: tell the sessions that dial.
    pub gained: VersionVector,
    /// Those of them that were committed locally.
    pub published: VersionVector,
    /// What was added to the journal: tell the sessions that accept.
    pub entries: Vec<Entry>,
    /// The journal has a new epoch: sessions that accept must end, their dialers connect again.
    pub restarted: bool,
}

impl Replica {
    /// Takes a connection over for sync, adds crsql to it and reads what the database holds.
    ///
    /// The connection may go on being used for anything but pragmas that weaken durability. Other connections and
    /// processes may write to the file.
    ///
    /// # Errors
    /// SQLite's; a database whose sync state is damaged or of a newer format; an open transaction.
    pub fn open(conn: Rc<Connection>, options: Options) -> Result<Replica> {
        crsql::register(&conn).map_err(|error| Error::Register(error.to_string()))?;
        if !conn.is_autocommit() {
            return Err(Error::InTransaction);
        }
        // What is published must survive a power failure, and so must every commit before it.
        conn.pragma_update(None, "synchronous", "FULL")?;
        tables::create(&conn)?;
        let mut replica = Replica {
            site: SiteId::default(),
            tie_break: TieBreak::Site,
            ledger: Ledger::new(options.limits),
            journal: Journal::open(&conn)?,
            seen: 0,
            looked_at: None,
            acked: 0,
            acked_changed: false,
            batch: None,
            is_behind: Cell::new(false),
            collected: None,
            conn,
            options,
        };
        replica.load()?;
        Ok(replica)
    }

    /// Becomes what the database says, whatever was known of it before.
    fn reload(&mut self) -> Result<()> {
        (self.looked_at, self.acked_changed) = (None, false);
        self.journal = Journal::open(&self.conn)?;
        self.load()
    }

    /// The connection.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.conn
    }

    /// Who this database is.
    pub fn site(&self) -> SiteId {
        self.site
    }

    /// The transactions held and published.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The greatest own version that somebody else is known to hold durably.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether a transaction of somebody else is open on the connection, so that nothing can be done now.
    pub fn is_busy(&self) -> bool {
        self.batch.is_none() && !self.conn.is_autocommit()
    }

    /// The bounds on what is accepted.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// The last position of the journal.
    pub fn journal_head(&self) -> u64 {
        self.journal.head
    }

    /// Whether there are chunks that may have waited too long, or confirmations to write down.
    pub fn has_to_tidy(&self) -> bool {
        self.acked_changed || !self.ledger.stage().is_empty()
    }

    /// Whether a batch is open.
    pub fn is_in_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Whether something was committed that is not published yet.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_news(&self) -> Result<bool> {
        Ok(self.looked_at != Some(tables::db_version(&self.conn)?))
    }

    /// Begins a batch unless one is open, and publishes what was committed locally.
    ///
    /// # Errors
    /// SQLite's; [`Error::InTransaction`]. Nothing was done then.
    pub fn begin(&mut self) -> Result<()> {
        if self.batch.is_some() {
            return Ok(());
        }
        if !self.conn.is_autocommit() {
            return Err(Error::InTransaction);
        }
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        self.batch = Some(Batch::default());
        let published = self.publish();
        if published.is_err() {
            self.rollback();
        }
        published
    }

    /// Commits the batch, if one is open. What it returns is durable.
    ///
    /// # Errors
    /// SQLite's. The batch is rolled back then.
    pub fn commit(&mut self) -> Result<Committed> {
        if self.batch.is_none() {
            return Ok(Committed::default());
        }
        let done = self.try_commit();
        if done.is_err() {
            self.rollback();
            return Err(done.expect_err("it is an error"));
        }
        let Batch { gained, published, entries, restarted, .. } = self.batch.take().unwrap_or_default();
        Ok(Committed { gained, published, entries, restarted })
    }

    fn try_commit(&mut self) -> Result<()> {
        if self.acked_changed {
            tables::save_acked(&self.conn, self.acked)?;
        }
        self.journal.trim(&self.conn, self.options.journal_bytes)?;
        self.conn.execute_batch("COMMIT")?;
        self.acked_changed = false;
        Ok(())
    }

    /// Undoes the batch, if one is open.
    pub fn rollback(&mut self) {
        if self.batch.take().is_none() {
            return;
        }
        // SQLite may have rolled back by itself, after a full disk for instance.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK").ok();
        }
        // What can't be read now is read again by the next batch: its publishing starts from what is here.
        self.load().ok();
    }

    /// What to say when dialing. `peer` names the acceptor and its room among the cursors.
    ///
    /// # Errors
    /// SQLite's.
    pub fn local(&self, peer: &str, room: &str, token: Option<String>) -> Result<Local> {
        Ok(Local {
            room: room.to_owned(),
            token,
            site: self.site,
            head: self.ledger.head(self.site),
            tie_break: self.tie_break_number(),
            schema: self.schema()?,
            resume: tables::cursor(&self.conn, peer)?,
            fingerprint: self.ledger.fingerprint(),
            held: self.ledger.holdings(),
        })
    }

    /// What this node knows of a dialer.
    ///
    /// # Errors
    /// SQLite's.
    pub fn admission(&self, hello: &Hello, permissions: u8) -> Result<Admission> {
        let known = tables::chain(&self.conn, hello.site, hello.head.version)?;
        let schema = match hello.schema.version.cmp(&self.schema()?.version) {
            std::cmp::Ordering::Less => SchemaAction::Upgrade,
            std::cmp::Ordering::Equal => SchemaAction::Ok,
            std::cmp::Ordering::Greater => SchemaAction::Park,
        };
        Ok(Admission {
            site: self.site,
            permissions,
            head: Cursor { epoch: self.journal.epoch, pos: self.journal.head },
            floor_pos: self.journal.floor,
            your_head: self.ledger.head(hello.site),
            your_common: tables::last_chain(&self.conn, hello.site, hello.head.version)?,
            ancestry: self.ledger.ancestry(hello.site, hello.head, known),
            tie_break: self.tie_break_number(),
            schema,
            held: self.ledger.holdings(),
            fingerprint: self.ledger.fingerprint(),
            snapshot: None,
            collected: None,
            members_ms: 0,
        })
    }

    /// Whether `head` is a part of our own history.
    ///
    /// # Errors
    /// SQLite's.
    pub fn compare(&self, head: Head) -> Result<Ancestry> {
        Ok(match tables::chain(&self.conn, self.site, head.version)? {
            Some(chain) if chain == head.chain => Ancestry::Same,
            Some(_) => Ancestry::Fork,
            None => Ancestry::Unknown,
        })
    }

    /// Somebody holds these durably. Written down with the next batch.
    pub fn confirmed(&mut self, versions: &VersionVector) {
        let own = versions.of_site(self.site).and_then(|own| own.max()).unwrap_or(0);
        if own > self.acked {
            (self.acked, self.acked_changed) = (own, true);
        }
    }

    fn tie_break_number(&self) -> u8 {
        match self.tie_break {
            TieBreak::Site => 0,
            TieBreak::Value => 1,
        }
    }

    fn schema(&self) -> Result<SchemaId> {
        let mut hasher = blake3::Hasher::new();
        let mut select = self.conn.prepare_cached(
            "SELECT t.name, c.name
             FROM __crsql_table AS t LEFT JOIN __crsql_column AS c ON c.table_id = t.id
             ORDER BY 1, 2",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for at in 0..2 {
                let name: Option<String> = row.get(at)?;
                hasher.update(name.unwrap_or_default().as_bytes()).update(&[0]);
            }
        }
        let version: i64 = self.conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let mut fingerprint = Fingerprint::default();
        fingerprint.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(SchemaId { fingerprint, version: version as u32 })
    }

    fn batch_mut(&mut self) -> &mut Batch {
        self.batch.as_mut().expect("callers are inside a batch")
    }
}
