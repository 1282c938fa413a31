//! Where clocks live: run-length segments, a short redo log before them, and the counters.
//!
//! ```text
//! transaction -> Ops --small--> __crsql_log --when grown--> __crsql_segment
//!                    \--large------------------------------/
//! clock of a row = the log, replayed (the overlay), else the segment that covers its key
//! ```
//! What it does not do: decide merges, read or write the user's tables, know their columns.

mod bulk;
pub mod bytes;
pub mod clock;
mod collected;
pub mod columns;
pub mod draft;
mod edit;
mod fold;
pub mod log;
mod lookup;
pub mod op;
mod overlay;
pub mod replay;
pub mod scan;
pub mod segment;
mod sites;
pub mod tables;
mod versions;

pub use clock::{Group, Key, RowClock, Run};
pub use columns::{COUNTERS_MAX, Columns, PARTS, ROW, is_part};
pub use draft::LocalVersion;
pub use log::{Completed, Tail};
pub use op::{Kind, Mark, Ops};
pub use replay::{Layer, Replay};
pub use sites::{LOOSE, MISSING, Sites};

use crate::sqlite::{Db, Error, Result, ValueRef};
use crsql_core::collect::Collected;
use lookup::{Lookup, Segments};
use std::rc::Rc;
use tables::Statements;

/// Transactions of at most this many rows go to the log.
const LOG_ROWS_MAX: u64 = 256;
/// The same for transactions whose rows lie here and there: segments take one row with as much work as a run.
const LOG_SCATTERED_MAX: u64 = 2048;
/// The log is folded into segments when it holds more rows than this.
const FOLD_ROWS: u64 = 8192;

/// A transaction that has stored something before its commit.
#[derive(Clone, Copy)]
struct Spilled {
    next_seq: u64,
    has_local: bool,
}

/// The clock store of one connection.
pub struct Store {
    db: Db,
    statements: Option<Statements>,
    /// `None`: to be read.
    tail: Option<Tail>,
    /// This site's ordinal.
    site: u32,
    data_version: u32,
    lookup: Lookup,
    overlay: Rc<Layer>,
    /// The overlay holds the log up to here.
    overlay_at: u64,
    overlay_generation: u64,
    /// The versions held, by site.
    pub sites: Sites,
    spilled: Option<Spilled>,
    has_schema: Option<bool>,
    /// This connection holds the write lock, so nobody else moves the counters.
    is_writing: bool,
    /// Read since then.
    is_current: bool,
    /// A version of ours that we have seen and did not know: see [`Store::raise_version`].
    raised: u64,
    /// What was collected, here or elsewhere.
    collected: Rc<Collected>,
}

impl Store {
    /// A store that has read nothing yet.
    pub fn new(db: Db) -> Store {
        Store {
            db,
            statements: None,
            tail: None,
            site: 0,
            data_version: 0,
            lookup: Lookup::default(),
            overlay: Rc::default(),
            overlay_at: 0,
            overlay_generation: 0,
            sites: Sites::default(),
            spilled: None,
            has_schema: None,
            is_writing: false,
            is_current: false,
            raised: 0,
            collected: Rc::default(),
        }
    }

    /// True when the database has the store's tables.
    pub fn exists(&mut self) -> Result<bool> {
        if let Some(known) = self.has_schema {
            return Ok(known);
        }
        let known = self.db.has_table("__crsql_state")?;
        if known {
            let mut format = self.db.prepare("SELECT format FROM main.__crsql_state")?;
            let format = format.query_i64(&[])?.unwrap_or(0);
            if format != tables::FORMAT && format != tables::FORMAT_COLLECTED {
                return Err(Error::refused(format_args!(
                    "this database has clock format {format}, and this crsql reads format {}; \
                     open it with a newer crsql",
                    tables::FORMAT
                )));
            }
        }
        self.has_schema = Some(known);
        Ok(known)
    }

    /// Makes the store's tables if they are missing, for a new site.
    pub fn create(&mut self, site_id: [u8; 16]) -> Result<()> {
        if self.exists()? {
            return Ok(());
        }
        if self.db.is_read_only() {
            return Err(Error::ReadOnly(
                "this database is read-only and holds no crsql tables yet; open it writable once".into(),
            ));
        }
        // An INSERT INTO crsql_changes may be the first that this database hears of us, and SQLite opens no savepoint
        // inside a statement that writes. Then a failure is undone by hand.
        let has_savepoint = self.db.exec("SAVEPOINT crsql_create").is_ok();
        let made = self.db.exec(tables::SCHEMA).and_then(|()| {
            self.db
                .prepare("INSERT INTO main.__crsql_site VALUES (1, ?1)")?
                .execute(&[ValueRef::Blob(&site_id)])?;
            // A rowid above 1: a dump and restore renumbers it, and tells that rowids were lost.
            self.db.exec(
                "INSERT INTO main.__crsql_canary (rowid, id) VALUES (7, 'canary');
                 INSERT INTO main.__crsql_state VALUES (1, 1, 1, 0, 0, 1)",
            )
        });
        match (has_savepoint, &made) {
            (true, Ok(())) => self.db.exec("RELEASE crsql_create")?,
            (true, Err(_)) => {
                self.db.exec("ROLLBACK TO crsql_create").ok();
                self.db.exec("RELEASE crsql_create")?;
            }
            (false, Ok(())) => {}
            (false, Err(_)) => self.drop_tables(),
        }
        made?;
        self.forget();
        self.has_schema = Some(true);
        Ok(())
    }

    /// Drops the tables of a store that was made in part.
    fn drop_tables(&self) {
        let names =
            tables::SCHEMA.split("CREATE TABLE main.").skip(1).filter_map(|rest| rest.split(' ').next());
        for name in names {
            self.db.exec(&format!("DROP TABLE IF EXISTS main.{name}")).ok();
        }
    }

    /// Forgets whatever a rollback, a schema change or somebody else's write may have changed.
    pub fn forget(&mut self) {
        self.tail = None;
        self.has_schema = None;
        self.lookup.clear();
        self.overlay = Rc::default();
        self.overlay_at = 0;
        self.overlay_generation = 0;
        self.sites.forget();
        self.spilled = None;
        self.is_current = false;
        self.raised = 0;
    }

    /// A transaction that holds the write lock begins or ends.
    pub fn set_writing(&mut self, is_writing: bool) {
        self.is_writing = is_writing;
        self.is_current = false;
    }

    /// As [`Db::data_version`], without asking when it can't have changed.
    #[inline]
    pub fn data_version(&self) -> u32 {
        if self.is_current { self.data_version } else { self.db.data_version() }
    }

    /// The transaction has committed: SQLite counts our own commits, too, as a change of the file. `before` is what
    /// it counted inside the transaction; counters of an earlier number are to be read again.
    pub fn committed(&mut self, before: u32) {
        if self.data_version == before {
            self.data_version = self.db.data_version();
        }
    }

    /// A rollback to a savepoint: what was stored since may be gone. `is_spilled` tells whether any is left.
    pub fn forget_to_savepoint(&mut self, is_spilled: bool) {
        let spilled = self.spilled.filter(|_| is_spilled);
        self.forget();
        self.spilled = spilled;
    }

    /// The schema changed: our tables may have come or gone, or others may have taken their place.
    pub fn recheck_schema(&mut self) {
        match self.spilled {
            None => {
                let raised = self.raised;
                self.forget();
                self.raised = raised;
            }
            // A part of the open transaction is ours; nobody else can have written.
            Some(_) => self.has_schema = None,
        }
    }

    /// True when a part of the open transaction is stored already.
    pub fn is_spilled(&self) -> bool {
        self.spilled.is_some()
    }

    /// Gives up every prepared statement, so that the connection can close.
    pub fn take_statements(&mut self) -> Option<impl Sized + use<>> {
        self.statements.take()
    }

    /// Brings the counters up to date. Call it inside a read or write transaction. False without tables.
    #[inline]
    pub fn refresh(&mut self) -> Result<bool> {
        if self.is_current && self.has_schema == Some(true) && self.tail.is_some() {
            return Ok(true);
        }
        self.refresh_slowly()
    }

    fn refresh_slowly(&mut self) -> Result<bool> {
        if !self.exists()? {
            return Ok(false);
        }
        let data_version = self.db.data_version();
        self.is_current = self.is_writing;
        if self.tail.is_some() && data_version == self.data_version {
            return Ok(true);
        }
        self.is_current = false;
        if data_version != self.data_version {
            self.sites.forget_shared();
        }
        if self.statements.is_none() {
            let_close(self.db)?;
            self.statements = Some(Statements::prepare(self.db)?);
        }
        let statements = self.statements.as_mut().expect("just prepared");
        let state = statements.state.query_row(&[], |row| {
            Ok((
                Tail {
                    db_version: row.column_i64(0) as u64,
                    version: row.column_i64(1) as u64,
                    generation: row.column_i64(2) as u64,
                    rows: 0,
                },
                row.column_i64(3) as u32,
                row.column_i64(4),
            ))
        })?;
        let (state, site, format) = state.ok_or_else(bytes::damaged)?;
        let last = statements
            .log_last
            .query_row(&[], |row| log::decode_tail(row.column_i64(0) as u64, row.column_blob(1)))?;
        let tail = last.unwrap_or(state);
        if tail.generation != self.overlay_generation {
            self.lookup.clear();
            self.overlay = Rc::default();
            self.overlay_at = state.db_version;
            self.overlay_generation = tail.generation;
            self.collected = match format {
                tables::FORMAT => Rc::default(),
                _ => collected::read(self.db)?,
            };
        }
        self.site = site;
        self.tail = Some(tail);
        self.data_version = data_version;
        self.is_current = self.is_writing;
        Ok(true)
    }

    /// The counters; call [`Store::refresh`] before.
    pub fn tail(&self) -> Tail {
        self.tail.unwrap_or_default()
    }

    /// This site's ordinal.
    pub fn site(&self) -> u32 {
        self.site
    }

    /// The version that the open transaction's local writes will get.
    pub fn next_local(&self) -> LocalVersion {
        let tail = self.tail();
        let version = tail.version.max(self.raised) + 1;
        let floor = self.collected.floor;
        LocalVersion { site: self.site, version, db_version: tail.db_version.saturating_add(1), floor }
    }

    /// Our own version `version` exists, though this file does not know it (it was restored from an older copy).
    /// Nothing is ever written under it again; until they arrive, it and those below count as missing.
    pub fn raise_version(&mut self, version: u64) {
        self.raised = self.raised.max(version);
    }

    /// Where the `seq` of the open transaction's pending writes will begin.
    pub fn next_seq(&self) -> u64 {
        self.spilled.map_or(0, |spilled| spilled.next_seq)
    }

    /// Stores the pending operations: at commit, or before it when there are too many to keep (`is_last` false).
    ///
    /// The caller clears the buffer. A rollback of any kind must be followed by [`Store::forget`].
    pub fn write(
        &mut self,
        ops: &Ops,
        completed: &[Completed],
        has_parked: bool,
        is_last: bool,
    ) -> Result<()> {
        if ops.is_empty() && completed.is_empty() && !has_parked && self.spilled.is_none() {
            return Ok(());
        }
        if !self.refresh()? {
            return Err(Error::refused(
                "the crsql tables of this database are gone; restore them from a copy",
            ));
        }
        let rowid = self.db.last_insert_rowid();
        let known = self.tail().version;
        let mut all;
        let completed = if is_last && self.raised > known {
            all = completed.to_vec();
            // First, so that what the same transaction brought of them counts as held.
            all.insert(0, (self.site | sites::MISSING, known + 1, self.raised));
            &all[..]
        } else {
            completed
        };
        let written = self.write_ops(ops, completed, has_parked, is_last);
        if is_last {
            self.raised = 0;
        }
        self.db.set_last_insert_rowid(rowid);
        written
    }

    fn write_ops(
        &mut self,
        ops: &Ops,
        completed: &[Completed],
        has_parked: bool,
        is_last: bool,
    ) -> Result<()> {
        let tail = self.tail();
        if is_last && ops.is_empty() && !has_parked && self.spilled.is_none() {
            // Versions completed, and nothing changed: no apply position for that.
            self.sites.complete(self.db, completed)?;
            if self.raised > tail.version {
                if tail.rows > 0 {
                    self.fold()?;
                }
                self.set_state(Tail {
                    version: self.raised,
                    generation: tail.generation + 1,
                    rows: 0,
                    ..tail
                })?;
            }
            return Ok(());
        }
        let has_local = ops
            .pending()
            .iter()
            .any(|op| !matches!(op.kind, Kind::Merge | Kind::MergeNew | Kind::Forget | Kind::Raise));
        let rows = ops.rows();
        let is_scattered = ops.pending().len() as u64 * 2 > rows;
        let log_max = if is_scattered { LOG_SCATTERED_MAX } else { LOG_ROWS_MAX };
        if is_last && self.spilled.is_none() && rows <= log_max {
            let next = Tail {
                db_version: tail.db_version.saturating_add(1),
                version: tail.version.max(self.raised) + u64::from(has_local),
                rows: tail.rows + rows + 1,
                ..tail
            };
            let mut row = Vec::with_capacity(32 + ops.pending().len() * 16);
            log::encode(&mut row, &next, has_local, ops, completed);
            let statements = self.statements.as_mut().expect("refresh prepared them");
            statements
                .log_insert
                .execute(&[ValueRef::Integer(next.db_version as i64), ValueRef::Blob(&row)])?;
            self.tail = Some(next);
            self.sites.note(completed);
            return if next.rows > FOLD_ROWS { self.fold() } else { Ok(()) };
        }
        if tail.rows > 0 {
            self.fold()?;
        }
        let local = self.next_local();
        let mut spilled = self.spilled.unwrap_or(Spilled { next_seq: 0, has_local: false });
        let statements = self.statements.as_mut().expect("refresh prepared them");
        let mut segments = Segments { lookup: &mut self.lookup, statements };
        spilled.next_seq = bulk::write(&mut segments, ops, local, spilled.next_seq)?;
        spilled.has_local |= has_local;
        self.lookup.clear();
        self.sites.complete(self.db, completed)?;
        if !is_last {
            self.spilled = Some(spilled);
            return Ok(());
        }
        self.spilled = None;
        let tail = self.tail();
        self.set_state(Tail {
            db_version: local.db_version,
            version: tail.version.max(self.raised) + u64::from(spilled.has_local),
            generation: tail.generation + 1,
            rows: 0,
        })
    }
}

/// Call it before a statement that is kept is prepared. SQLite disconnects virtual tables before it checks for open
/// statements at close, and that is when ours are dropped; so a table must be connected from the first statement on. Not
/// `crsql_capture`: our statements on base tables name it through the triggers, and keep it connected.
pub fn let_close(db: Db) -> Result<()> {
    db.prepare("SELECT cl FROM main.crsql_changes").map(drop)
}
