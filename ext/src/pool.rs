//! Prepared statements that are used again by whoever needs the same text next.

use crate::sqlite::{Db, Result, Statement};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Statements kept. Few, because every savepoint of a merge looks through the connection's statements.
const KEPT_MAX: usize = 6;

/// And while rows are hidden and shown, which takes so many different ones for each row.
const KEPT_WIDE: usize = 24;

/// Statements that nobody uses at the moment, with their texts.
#[derive(Default)]
pub struct Pool {
    kept: RefCell<Vec<(String, Statement)>>,
    is_wide: Cell<bool>,
}

/// A statement out of the pool; dropped, it goes back and is ready again.
pub struct Pooled {
    sql: String,
    /// `None` only while it is dropped.
    statement: Option<Statement>,
    pool: Rc<Pool>,
}

impl Pool {
    /// A statement with this text. It must not name a virtual table of ours, which it would keep connected: see
    /// `store::let_close`.
    pub fn prepare(self: &Rc<Self>, db: Db, sql: &str) -> Result<Pooled> {
        let known = {
            let mut kept = self.kept.borrow_mut();
            kept.iter().rposition(|(known, _)| known == sql).map(|at| kept.remove(at))
        };
        let (sql, statement) = match known {
            Some(known) => known,
            None => (sql.to_owned(), db.prepare_persistent(sql)?),
        };
        Ok(Pooled { sql, statement: Some(statement), pool: self.clone() })
    }

    /// Keeps more from now on.
    pub fn widen(&self) {
        self.is_wide.set(true);
    }

    /// Keeps few again.
    pub fn narrow(&self) {
        if self.is_wide.replace(false)
            && let Ok(mut kept) = self.kept.try_borrow_mut()
        {
            let surplus = kept.len().saturating_sub(KEPT_MAX);
            let gone: Vec<_> = kept.drain(..surplus).collect();
            drop(kept);
            drop(gone);
        }
    }

    fn kept_max(&self) -> usize {
        if self.is_wide.get() { KEPT_WIDE } else { KEPT_MAX }
    }

    /// Gives up what it keeps, so that the connection can close.
    pub fn take_statements(&self) -> Option<impl Sized + use<>> {
        self.kept.try_borrow_mut().ok().map(|mut kept| std::mem::take(&mut *kept))
    }
}

impl Deref for Pooled {
    type Target = Statement;

    #[inline]
    fn deref(&self) -> &Statement {
        self.statement.as_ref().expect("a statement is there until it is dropped")
    }
}

impl DerefMut for Pooled {
    #[inline]
    fn deref_mut(&mut self) -> &mut Statement {
        self.statement.as_mut().expect("a statement is there until it is dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(mut statement) = self.statement.take() else { return };
        statement.reset();
        statement.clear_bindings();
        let oldest = match self.pool.kept.try_borrow_mut() {
            Ok(mut kept) => {
                kept.push((std::mem::take(&mut self.sql), statement));
                (kept.len() > self.pool.kept_max()).then(|| kept.remove(0))
            }
            Err(_) => return,
        };
        drop(oldest);
    }
}
