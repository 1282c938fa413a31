//! What one connection's functions and virtual tables share.

mod buffer;
mod savepoints;
mod tombstones;

use crate::capture::{Candidates, Quick};
use crate::catalog::{Catalog, Table};
use crate::pool::Pool;
use crate::sqlite::{Db, Error, Result, Statement};
use crate::store::{Columns, Completed, Kind, LOOSE, Mark, Ops, Store};
use buffer::Replayed;
use crsql_core::ids::SiteId;
use crsql_core::merge::TieBreak;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The buffer is stored early when it weighs this much: records, 32-byte pieces of keys, quarter runs.
const SPILL_WEIGHT: usize = 1 << 19;

/// The state of a connection.
pub struct State {
    /// The connection.
    pub db: Db,
    /// The clocks.
    pub store: RefCell<Store>,
    /// What the open transaction did.
    pub ops: RefCell<Ops>,
    /// The replicated tables.
    pub catalog: RefCell<Catalog>,
    /// Rows that the next write may replace.
    pub candidates: RefCell<Candidates>,
    /// The row that an update during an alter began with.
    pub before: RefCell<crate::capture::Before>,
    /// Above 0 our own writes to base tables are not captured: they are merges.
    pub muted: Cell<u32>,
    /// Changes that merges could not write yet.
    pub held: RefCell<crate::merge::Held>,
    /// Statements of readers.
    pub pool: Rc<Pool>,
    /// The row that was merged last.
    pub last_merged: Cell<Option<Box<crate::merge::Known>>>,
    /// The row that a statement on `crsql_changes` is collecting.
    pub bracket: RefCell<crate::changes::Bracket>,
    marks: RefCell<Vec<Mark>>,
    /// The buffer's operations replayed, for merges and readers inside the transaction.
    replay: RefCell<Replayed>,
    completed: RefCell<Vec<Completed>>,
    schema_version: Cell<i64>,
    /// The schema for which everything that waited for a column was taken.
    taken_for: Cell<i64>,
    is_schema_suspect: Cell<bool>,
    /// Tables that may hold tombstones by key, as far as this connection knows, and when it looked.
    tombstones: RefCell<(BTreeSet<u32>, u32)>,
    /// The last table asked for and whether it may hold some, while no other connection can change that.
    tombstones_of: Cell<Option<(u32, bool)>>,
    began_explicitly: Cell<bool>,
    has_parked: Cell<bool>,
    /// The last version that was noted as loose in this transaction.
    last_loose: Cell<(u32, u64)>,
    may_have_parked: Cell<(bool, u32)>,
    /// The data version in the transaction that is being committed.
    synced_at: Cell<u32>,
    is_active: Cell<bool>,
    /// `crsql_changes` is joining the transaction right now.
    pub is_joining: Cell<bool>,
    is_store_stale: Cell<bool>,
    /// `None`: to be read. See [`State::tie_break`].
    pub tie_break: Cell<Option<TieBreak>>,
    /// Tables whose triggers miss a column.
    stale: RefCell<BTreeSet<u32>>,
    /// Tables of which the catalogue does not know the names yet.
    renamed: RefCell<BTreeSet<u32>>,
    /// The statement of [`crate::capture::restore_changes`].
    pub restore_changes: RefCell<Option<Statement>>,
    /// The statement of [`crate::capture::enlist`].
    pub enlist: Cell<Option<Statement>>,
    /// The table that was captured last.
    last_table: RefCell<Option<Rc<Table>>>,
    /// What is known of the next row to be captured.
    pub quick: Cell<Quick>,
    /// A table was seen in which rows hang on others.
    pub has_related: Cell<bool>,
    /// Tables of which rows are hidden, as far as this connection knows, and when it looked.
    pub hidden: RefCell<(BTreeSet<u32>, u32)>,
    /// The schema by whose names the hidden rows of a table are parked.
    pub named_at: RefCell<BTreeMap<u32, i64>>,
    /// Hidden rows to be reconsidered, by table and canonical key.
    pub in_doubt: RefCell<BTreeSet<(u32, Vec<u8>)>>,
    /// Shown rows whose parents are to be looked for, likewise; all of a table under an empty key.
    pub suspects: RefCell<BTreeSet<(u32, Vec<u8>)>>,
    /// Rows to which others may refer and that came, went or changed, likewise, and whether others referred to them.
    pub changed_parents: RefCell<BTreeMap<(u32, Vec<u8>), bool>>,
    /// Whose changes are merged right now.
    pub source: Cell<crate::collect::Source>,
    /// The registered sites that hold what was collected, and when that was read.
    pub past_members: RefCell<Option<PastMembers>>,
    /// What the statement of a merge that triggers hear of gives to capture.
    pub own: RefCell<Option<crate::merge::fire::Own>>,
    /// In this transaction triggers wrote while SQLite enforced no FOREIGN KEYs.
    pub is_unenforced: Cell<bool>,
    /// SQLite is committing: triggers can't write.
    pub is_committing: Cell<bool>,
    /// Merge rows that changed something in this transaction: `crsql_rows_impacted()`.
    pub rows_impacted: Cell<i64>,
    /// Texts that somebody types in.
    #[cfg(feature = "text")]
    pub texts: RefCell<crate::typed::text::Texts>,
}

/// See [`State::past_members`].
pub type PastMembers = (Rc<BTreeSet<SiteId>>, u32);

/// Keeps capture quiet while a merge writes base tables.
pub struct Mute<'a>(&'a Cell<u32>);

impl Drop for Mute<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl State {
    /// The state of a fresh connection.
    pub fn new(db: Db) -> State {
        State {
            db,
            store: RefCell::new(Store::new(db)),
            ops: RefCell::default(),
            catalog: RefCell::default(),
            candidates: RefCell::default(),
            before: RefCell::default(),
            muted: Cell::new(0),
            held: RefCell::default(),
            pool: Rc::default(),
            last_merged: Cell::new(None),
            bracket: RefCell::default(),
            marks: RefCell::default(),
            replay: RefCell::default(),
            completed: RefCell::default(),
            schema_version: Cell::new(-1),
            taken_for: Cell::new(-1),
            is_schema_suspect: Cell::new(true),
            tombstones: RefCell::new((BTreeSet::new(), u32::MAX)),
            tombstones_of: Cell::new(None),
            began_explicitly: Cell::new(false),
            has_parked: Cell::new(false),
            last_loose: Cell::new((0, 0)),
            may_have_parked: Cell::new((true, u32::MAX)),
            synced_at: Cell::new(0),
            is_active: Cell::new(false),
            is_joining: Cell::new(false),
            is_store_stale: Cell::new(false),
            tie_break: Cell::new(None),
            stale: RefCell::default(),
            renamed: RefCell::default(),
            restore_changes: RefCell::new(None),
            enlist: Cell::new(None),
            last_table: RefCell::new(None),
            quick: Cell::default(),
            has_related: Cell::new(false),
            hidden: RefCell::new((BTreeSet::new(), u32::MAX)),
            named_at: RefCell::default(),
            in_doubt: RefCell::default(),
            suspects: RefCell::default(),
            changed_parents: RefCell::default(),
            source: Cell::new(crate::collect::Source::Peer { is_past: false }),
            past_members: RefCell::new(None),
            own: RefCell::new(None),
            is_unenforced: Cell::new(false),
            is_committing: Cell::new(false),
            rows_impacted: Cell::new(0),
            #[cfg(feature = "text")]
            texts: RefCell::default(),
        }
    }

    /// Stops capture until the guard is dropped, however that happens.
    pub fn mute(&self) -> Mute<'_> {
        self.muted.set(self.muted.get() + 1);
        self.quick.take();
        Mute(&self.muted)
    }

    // --- schema -------------------------------------------------------------------------------------------

    /// The `schema_version` that was seen last.
    pub fn schema_seen(&self) -> i64 {
        self.schema_version.get()
    }

    /// A statement that touches replicated tables was prepared: the schema may have changed.
    pub fn suspect_schema(&self) {
        self.is_schema_suspect.set(true);
        self.quick.take();
    }

    /// Whether [`State::check_suspect_schema`] has a reason.
    #[inline]
    pub fn is_schema_suspect(&self) -> bool {
        self.is_schema_suspect.get()
    }

    /// Looks at `schema_version` and forgets the catalogue if it moved.
    pub fn check_schema(&self) -> Result<()> {
        self.is_schema_suspect.set(false);
        self.forget_if_stale();
        let version = self.db.schema_version()?;
        if version != self.schema_version.get() {
            self.last_merged.set(None);
            self.schema_version.set(version);
            self.quick.take();
            self.catalog.borrow_mut().forget();
            *self.last_table.borrow_mut() = None;
            self.store.borrow_mut().recheck_schema();
            if let Err(error) = crate::renumber::follow(self) {
                self.forget_schema();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Forgets the catalogue: we changed the schema ourselves.
    pub fn forget_schema(&self) {
        self.last_merged.set(None);
        self.schema_version.set(-1);
        self.suspect_schema();
    }

    /// As [`State::check_schema`], when there is a reason.
    #[inline]
    pub fn check_suspect_schema(&self) -> Result<()> {
        if self.is_schema_suspect.get() { self.check_schema() } else { Ok(()) }
    }

    /// A statement is being prepared that will write rows and join the transaction only after its first one. Clocks
    /// that lag behind rowids are matched now, while rows and clocks are as many. Where that fails, it fails again
    /// when the statement runs; unless the failure was one that ends the transaction, as an I/O error does. Then it
    /// must not run, or it would commit by itself what belongs to a transaction that is gone.
    pub fn look_ahead(&self) -> Result<()> {
        self.suspect_schema();
        let is_busy = self.muted.get() > 0
            || self.catalog.try_borrow_mut().is_err()
            || self.store.try_borrow_mut().is_err();
        if is_busy {
            return Ok(());
        }
        let is_explicit = !self.db.is_autocommit();
        let mut looked = self.check_schema();
        if looked.is_err() {
            self.suspect_schema();
        } else if self.schema_version.get() != self.taken_for.get() && !self.db.has_busy_writer() {
            // Any read may have looked at the schema since. What fails here is tried again when the transaction commits.
            looked = crate::park::take_for_new_columns(self);
            if looked.is_ok() {
                self.taken_for.set(self.schema_version.get());
            }
        }
        match looked {
            Err(error) if is_explicit && self.db.is_autocommit() => Err(error),
            _ => Ok(()),
        }
    }

    /// A replicated table by id.
    #[inline]
    pub fn table(&self, id: u32) -> Result<Rc<Table>> {
        if let Some(last) = &*self.last_table.borrow()
            && last.id == id
        {
            return Ok(last.clone());
        }
        let table = self.find_table(id)?;
        *self.last_table.borrow_mut() = Some(table.clone());
        Ok(table)
    }

    fn find_table(&self, id: u32) -> Result<Rc<Table>> {
        match self.catalog.borrow_mut().table(self.db, id)? {
            Some(table) => {
                self.has_related.set(self.has_related.get() || table.is_related);
                if table.is_renamed {
                    self.renamed.borrow_mut().insert(id);
                }
                Ok(table)
            }
            None => Err(Error::refused(format_args!(
                "no replicated table has the id {id}; run crsql_as_crr on the table that this trigger belongs to"
            ))),
        }
    }

    /// The replicated table that changes call so: by its exact name, or one that it had before.
    pub fn table_named(&self, name: &str) -> Result<Option<Rc<Table>>> {
        if !self.store.borrow_mut().exists()? {
            return Ok(None);
        }
        self.catalog.borrow_mut().once_named(self.db, name)
    }

    /// A replicated table by its exact name.
    pub fn table_called(&self, name: &str) -> Result<Option<Rc<Table>>> {
        if !self.store.borrow_mut().exists()? {
            return Ok(None);
        }
        self.catalog.borrow_mut().named(self.db, name)
    }

    /// Every replicated table, by id.
    pub fn tables(&self) -> Result<Vec<Rc<Table>>> {
        if !self.store.borrow_mut().exists()? {
            return Ok(Vec::new());
        }
        let mut catalog = self.catalog.borrow_mut();
        let ids = catalog.ids(self.db)?;
        ids.into_iter().filter_map(|id| catalog.table(self.db, id).transpose()).collect()
    }

    /// Makes our tables, with a fresh site id, unless they are there.
    pub fn create(&self) -> Result<()> {
        let mut store = self.store.borrow_mut();
        if !store.exists()? {
            store.create(*uuid::Uuid::new_v4().as_bytes())?;
            drop(store);
            self.forget_schema();
        }
        Ok(())
    }

    /// A column has come by a plain ALTER: it gets its id now, and its triggers when the transaction commits,
    /// because the statement that runs would go on with the old ones.
    pub fn note_stale(&self, table: &Table) -> Result<()> {
        if self.stale.borrow_mut().insert(table.id) {
            crate::alter::write_columns(self, table)?;
        }
        Ok(())
    }

    // --- the transaction ----------------------------------------------------------------------------------

    /// True while a row needs no more than to be recorded: in a transaction that we joined, with capture on and a
    /// catalogue that is up to date.
    #[inline]
    pub fn is_capturing(&self) -> bool {
        self.is_active.get() && self.muted.get() == 0 && !self.is_schema_suspect.get()
    }

    /// Joins the transaction unless that is done.
    #[inline]
    pub fn join(&self) -> Result<()> {
        if self.is_active.get() { Ok(()) } else { crate::capture::enlist(self) }
    }

    /// Our table joined a transaction.
    pub fn begin(&self) -> Result<()> {
        // Before the first row is written, since clocks that lag behind rowids could no longer be matched then.
        self.check_suspect_schema()?;
        // Both of our tables join; the first one opens the bracket.
        if !self.is_active.replace(true) {
            self.began_explicitly.set(!self.db.is_autocommit());
            self.marks.borrow_mut().clear();
            if let Ok(mut store) = self.store.try_borrow_mut() {
                store.set_writing(true);
            }
        }
        Ok(())
    }

    /// Stores everything: the transaction is about to commit.
    pub fn sync(&self) -> Result<()> {
        self.is_committing.set(true);
        let done = self.store_all();
        self.is_committing.set(false);
        done
    }

    fn store_all(&self) -> Result<()> {
        self.synced_at.set(self.db.data_version());
        crate::merge::settle(self)?;
        if !self.ops.borrow().is_empty() && self.store.borrow_mut().exists()? && self.may_have_parked()? {
            crate::park::sweep(self)?;
        }
        crate::merge::hidden::note_local(self)?;
        crate::merge::hidden::resolve(self)?;
        let stale = std::mem::take(&mut *self.stale.borrow_mut());
        let renamed = std::mem::take(&mut *self.renamed.borrow_mut());
        let has_new_names = !stale.is_empty() || !renamed.is_empty();
        // Each name must have been known while it was one, or it would be unknown once it is a former one.
        for id in renamed {
            let table = self.catalog.borrow_mut().table(self.db, id)?;
            table.map_or(Ok(()), |table| crate::former::follow(self, &table))?;
            self.forget_schema();
        }
        for table in stale {
            crate::alter::renew_triggers(self, table)?;
        }
        if has_new_names && self.may_have_parked()? {
            // What waited for them; triggers are off because SQLite allows them nothing while it commits.
            self.db.without_triggers(|| crate::park::retry(self))?;
        }
        if !self.has_uncommitted() {
            return Ok(());
        }
        let ops = self.ops.borrow();
        let completed = self.completed.borrow();
        let has_parked = self.has_parked.get();
        let changes = self.db.changes64();
        let written = self.store.borrow_mut().write(&ops, &completed, has_parked, true);
        drop((ops, completed));
        self.forget_if_stale();
        written?;
        self.end();
        if self.began_explicitly.get() {
            crate::capture::restore_changes(self, changes)?;
        }
        Ok(())
    }

    /// The transaction is over: nothing is pending.
    pub fn end(&self) {
        self.quick.take();
        self.is_active.set(false);
        self.last_merged.set(None);
        if let Ok(mut store) = self.store.try_borrow_mut() {
            store.set_writing(false);
        }
        self.tombstones_of.set(None);
        if self.ops.try_borrow_mut().is_err() {
            self.is_store_stale.set(true);
            return;
        }
        self.ops.borrow_mut().clear();
        self.completed.borrow_mut().clear();
        self.marks.borrow_mut().clear();
        self.candidates.borrow_mut().clear();
        self.held.borrow_mut().clear();
        self.in_doubt.borrow_mut().clear();
        self.suspects.borrow_mut().clear();
        self.changed_parents.borrow_mut().clear();
        *self.bracket.borrow_mut() = Default::default();
        *self.replay.borrow_mut() = Default::default();
        self.stale.borrow_mut().clear();
        self.has_parked.set(false);
        self.last_loose.set((0, 0));
        self.rows_impacted.set(0);
        self.is_unenforced.set(false);
    }

    /// The transaction has committed. Another connection can't have written between its read and its commit, so what
    /// was known inside it is still true; but only that. Whatever this transaction had no need to read may be from
    /// before the commits of others, and would pass for fresh if it got the new number.
    pub fn committed(&self) {
        self.end();
        let before = self.synced_at.get();
        self.store.borrow_mut().committed(before);
        let now = self.db.data_version();
        let mut tombstones = self.tombstones.borrow_mut();
        if tombstones.1 == before {
            tombstones.1 = now;
        }
        let parked = self.may_have_parked.get();
        if parked.1 == before {
            self.may_have_parked.set((parked.0, now));
        }
    }

    /// The transaction was rolled back.
    pub fn rollback(&self) {
        self.end();
        self.forget_rolled_back();
    }

    fn forget_rolled_back(&self) {
        match self.store.try_borrow_mut() {
            Ok(mut store) => store.forget(),
            // One of our own statements failed while the store ran it: see `State::write`.
            Err(_) => self.is_store_stale.set(true),
        }
        self.tombstones.borrow_mut().1 = u32::MAX;
        self.past_members.take();
        self.hidden.borrow_mut().1 = u32::MAX;
        self.named_at.take();
        self.forget_schema();
    }

    /// A rollback came while the store was at work; its caches are worth nothing now.
    fn forget_if_stale(&self) {
        if self.is_store_stale.replace(false) {
            let mut store = self.store.borrow_mut();
            store.forget();
            store.set_writing(false);
            drop(store);
            self.tombstones.borrow_mut().1 = u32::MAX;
            // The transaction ended while the buffer was read, so that it could not be emptied.
            if !self.is_active.get() {
                self.end();
            }
        }
    }

    /// Adds a row with a rowid to the buffer, as `kind` of `set`.
    #[inline]
    pub fn record(&self, table: u32, kind: Kind, rowid: i64, set: &Columns) -> Result<()> {
        let mut ops = self.ops.borrow_mut();
        let set = if kind == Kind::Delete { 0 } else { ops.intern(set) };
        let is_new = ops.add_row(table, kind, rowid, set);
        drop(ops);
        if is_new { self.spill_if_heavy() } else { Ok(()) }
    }

    /// Stores the buffer before the commit when it has grown too large.
    #[inline]
    pub fn spill_if_heavy(&self) -> Result<()> {
        if self.ops.borrow().weight() > SPILL_WEIGHT { self.spill() } else { Ok(()) }
    }

    /// Stores the buffer before the commit.
    pub fn spill(&self) -> Result<()> {
        self.quick.take();
        crate::merge::hidden::note_local(self)?;
        let outer = self.marks.borrow().last().copied();
        let written = self.store.borrow_mut().write(&self.ops.borrow(), &[], false, false);
        self.forget_if_stale();
        written?;
        self.ops.borrow_mut().set_written(outer);
        self.last_merged.set(None);
        *self.replay.borrow_mut() = Default::default();
        Ok(())
    }

    /// The apply position that the open transaction will have.
    pub fn next_db_version(&self) -> Result<u64> {
        let mut store = self.store.borrow_mut();
        store.refresh()?;
        Ok(store.next_local().db_version)
    }

    /// A change was parked: the transaction has an apply position even if nothing else happened.
    pub fn note_parked(&self) {
        self.has_parked.set(true);
        self.may_have_parked.set((true, u32::MAX));
    }

    /// A change or a claim names one of our own versions. One that we do not know was ours before this file was
    /// restored from an older copy: our next version must come after it.
    pub fn see_own(&self, site: &SiteId, version: u64) -> Result<()> {
        let mut store = self.store.borrow_mut();
        store.refresh()?;
        let own = store.sites.find(self.db, site)? == Some(store.site());
        if own && version > store.tail().version {
            store.raise_version(version);
        }
        Ok(())
    }

    /// True when changes may be parked; looked up when somebody else may have parked some.
    pub fn may_have_parked(&self) -> Result<bool> {
        let now = self.store.borrow().data_version();
        let known = self.may_have_parked.get();
        if known.1 == now || self.has_parked.get() {
            return Ok(known.0 || self.has_parked.get());
        }
        let found = self.db.prepare("SELECT 1 FROM main.__crsql_parked LIMIT 1")?.query_i64(&[])?.is_some();
        self.may_have_parked.set((found, now));
        Ok(found)
    }

    /// Which order decides between writes of equal `col_version`.
    pub fn tie_break(&self) -> Result<TieBreak> {
        if let Some(known) = self.tie_break.get() {
            return Ok(known);
        }
        let known = match crate::config::text(self, "tie-break")?.as_deref() {
            Some("value") => TieBreak::Value,
            _ => TieBreak::Site,
        };
        self.tie_break.set(Some(known));
        Ok(known)
    }

    /// Takes the versions that are recorded so far, for readers inside the transaction.
    pub fn completed(&self) -> Vec<Completed> {
        self.completed.borrow().iter().filter(|(site, _, _)| site & LOOSE == 0).copied().collect()
    }

    /// Drops everything that would keep the connection from closing.
    pub fn disconnect(&self) {
        // Taken out first: a statement that is dropped may disconnect the other table, and come here again.
        let store = self.store.try_borrow_mut().ok().and_then(|mut store| store.take_statements());
        let restore = self.restore_changes.try_borrow_mut().ok().and_then(|mut kept| kept.take());
        let enlist = self.enlist.take();
        let tables = self.catalog.try_borrow().map(|catalog| catalog.take_statements());
        let pooled = self.pool.take_statements();
        self.forget_schema();
        drop((store, restore, enlist, tables, pooled));
    }
}
