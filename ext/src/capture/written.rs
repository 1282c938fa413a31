//! The tables `crsql_capture_update(…)` and `crsql_capture_delete(…)`, which triggers read to hand over a row.
//!
//! A function would do the same, but SQLite takes any call of a function for something that can fail, so each
//! statement that fires the trigger would keep a journal of its own to undo itself: half of the cost of an UPDATE.
//! Reading a table is no such thing. The price is that a failure here can't undo the statement, so it is told as
//! one that makes SQLite roll back the whole transaction: a row that was not captured is never committed.

use super::row;
use crate::sqlite::{
    Args, Error, IndexInfo, Module, Operator, Output, Result, Risk, VtabConfig, catch_panic,
};
use crate::state::State;
use std::ffi::CStr;
use std::rc::Rc;

/// A column that is never read and the arguments: a table, a rowid, 40 columns of the key, 8 columns' id, new
/// and old value.
pub const SCHEMA: &CStr = c"CREATE TABLE x(done,
    a0 HIDDEN, a1 HIDDEN, a2 HIDDEN, a3 HIDDEN, a4 HIDDEN, a5 HIDDEN, a6 HIDDEN, a7 HIDDEN, a8 HIDDEN, a9 HIDDEN,
    b0 HIDDEN, b1 HIDDEN, b2 HIDDEN, b3 HIDDEN, b4 HIDDEN, b5 HIDDEN, b6 HIDDEN, b7 HIDDEN, b8 HIDDEN, b9 HIDDEN,
    c0 HIDDEN, c1 HIDDEN, c2 HIDDEN, c3 HIDDEN, c4 HIDDEN, c5 HIDDEN, c6 HIDDEN, c7 HIDDEN, c8 HIDDEN, c9 HIDDEN,
    d0 HIDDEN, d1 HIDDEN, d2 HIDDEN, d3 HIDDEN, d4 HIDDEN, d5 HIDDEN, d6 HIDDEN, d7 HIDDEN, d8 HIDDEN, d9 HIDDEN,
    e0 HIDDEN, e1 HIDDEN, e2 HIDDEN, e3 HIDDEN, e4 HIDDEN, e5 HIDDEN, e6 HIDDEN, e7 HIDDEN, e8 HIDDEN, e9 HIDDEN,
    f0 HIDDEN, f1 HIDDEN, f2 HIDDEN, f3 HIDDEN, f4 HIDDEN, f5 HIDDEN, f6 HIDDEN, f7 HIDDEN, f8 HIDDEN, f9 HIDDEN,
    g0 HIDDEN, g1 HIDDEN, g2 HIDDEN, g3 HIDDEN, g4 HIDDEN, g5 HIDDEN, g6 HIDDEN, g7 HIDDEN, g8 HIDDEN, g9 HIDDEN)";

/// Has all arguments passed to `filter`, in order. `Ok(false)` when one is not known yet.
pub fn take_arguments(index: &mut IndexInfo<'_>) -> Result<bool> {
    for at in 0..index.constraint_count() {
        let Some(term) = index.constraint(at) else { continue };
        if term.operator != Operator::Eq || term.column < 1 {
            continue;
        }
        if !term.usable {
            return Ok(false);
        }
        index.take(at, term.column as usize - 1, true);
    }
    index.set_cost(1.0);
    index.set_rows(1);
    index.set_unique();
    Ok(true)
}

/// A table without rows whose arguments are what it is read for.
pub struct Written<const IS_DELETE: bool>(Rc<State>);

impl<const IS_DELETE: bool> Written<IS_DELETE> {
    fn capture(&self, args: &Args<'_>) -> Result<()> {
        let state = &*self.0;
        if state.muted.get() > 0 {
            return Ok(());
        }
        state.join()?;
        if IS_DELETE { row::delete(state, args) } else { row::update(state, args) }
    }
}

impl<const IS_DELETE: bool> Module for Written<IS_DELETE> {
    type State = State;
    type Cursor = ();

    const SCHEMA: &'static CStr = SCHEMA;

    fn connect(state: &Rc<State>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        Ok(Written(state.clone()))
    }

    fn best_index(&self, index: &mut IndexInfo<'_>) -> Result<bool> {
        // Asked once for every statement that is prepared with one of our triggers: see `schema::triggers`.
        self.0.look_ahead();
        take_arguments(index)
    }

    #[inline]
    fn open(&self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn filter(&self, (): &mut (), _: i32, _: &str, args: Args<'_>) -> Result<()> {
        catch_panic(|| self.capture(&args)).map_err(Error::uncaptured)
    }

    fn next(&self, (): &mut ()) -> Result<()> {
        Ok(())
    }

    #[inline]
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
