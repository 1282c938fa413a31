//! The table `crsql_capture_ahead`, which triggers name and never read.

use crate::sqlite::{Args, IndexInfo, Module, Output, Result, Risk, VtabConfig};
use crate::state::State;
use std::ffi::CStr;
use std::rc::Rc;

/// An empty table. SQLite asks it for a plan whenever it prepares a statement that fires the trigger: see
/// [`crate::schema::triggers`].
pub struct Ahead(Rc<State>);

impl Module for Ahead {
    type State = State;
    type Cursor = ();

    const SCHEMA: &'static CStr = c"CREATE TABLE x(never)";

    fn connect(state: &Rc<State>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        Ok(Ahead(state.clone()))
    }

    fn best_index(&self, _: &mut IndexInfo<'_>) -> Result<bool> {
        self.0.look_ahead()?;
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
}
