//! The virtual table `crsql_capture`: the transaction's bracket.

use super::row;
use crate::sqlite::{
    Access, Args, IndexInfo, Module, OnConflict, Output, Result, Risk, RowChange, VtabConfig,
};
use crate::state::State;
use std::ffi::CStr;
use std::rc::Rc;

/// An empty table whose only content is the transaction it takes part in.
pub struct CaptureTable(Rc<State>);

impl Module for CaptureTable {
    type State = State;
    type Cursor = ();

    /// A table's id and the key of a row that is about to be inserted: see [`crate::schema::triggers`].
    const SCHEMA: &'static CStr = c"CREATE TABLE x(op, a, b, c, d, e)";
    const ACCESS: Access = Access::Transactional;

    fn connect(state: &Rc<State>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        config.set_constraint_support()?;
        Ok(CaptureTable(state.clone()))
    }

    fn best_index(&self, _: &mut IndexInfo<'_>) -> Result<bool> {
        // Asked once for every statement that is prepared with one of our triggers: see `schema::triggers`.
        self.0.suspect_schema();
        Ok(true)
    }

    fn open(&self) -> Result<()> {
        Ok(())
    }

    fn filter(&self, (): &mut (), _: i32, _: &str, _: Args<'_>) -> Result<()> {
        Ok(())
    }

    fn next(&self, (): &mut ()) -> Result<()> {
        Ok(())
    }

    fn eof(&self, (): &()) -> bool {
        true
    }

    fn column(&self, (): &mut (), _: usize, _: &Output<'_>) -> Result<()> {
        Ok(())
    }

    fn rowid(&self, (): &()) -> Result<i64> {
        Ok(0)
    }

    fn update(&self, change: &RowChange<'_>) -> Result<i64> {
        if let RowChange::Insert { values, .. } = change
            && matches!(self.0.muted.get(), 0 | crate::merge::fire::FIRING)
            && change.on_conflict() == OnConflict::Replace
        {
            row::find_candidates(&self.0, values)?;
        }
        Ok(self.0.db.last_insert_rowid())
    }

    #[inline]
    fn skips(&self, change: &RowChange<'_>) -> bool {
        change.on_conflict() == OnConflict::Ignore
    }

    fn begin(&self) -> Result<()> {
        self.0.begin()
    }

    fn sync(&self) -> Result<()> {
        // Whichever of our two tables SQLite asks first.
        crate::changes::close_for_commit(&self.0)?;
        self.0.sync()
    }

    fn commit(&self) {
        self.0.committed();
    }

    fn rollback(&self) {
        self.0.rollback();
    }

    fn savepoint(&self, n: i32) -> Result<()> {
        self.0.savepoint(n)
    }

    fn release(&self, n: i32) -> Result<()> {
        self.0.release(n);
        Ok(())
    }

    fn rollback_to(&self, n: i32) -> Result<()> {
        self.0.rollback_to(n);
        Ok(())
    }

    fn disconnect(&self) {
        self.0.disconnect();
    }
}
