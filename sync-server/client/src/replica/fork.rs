//! The way out of a fork: another history of our site exists, so we take another name.

use rusqlite::params;

use super::{Committed, Replica, tables};
use crate::{Error, Result};

impl Replica {
    /// Takes a new site id. What nobody is known to hold of what we wrote is written anew under it, with the same
    /// clocks, and forgotten under the old one; so are all cursors, which lie behind frames that were refused here.
    /// All connections must end first and begin anew afterwards.
    ///
    /// # Errors
    /// SQLite's; [`Error::InTransaction`]. Nothing was done then.
    pub fn take_new_site(&mut self) -> Result<Committed> {
        self.rollback();
        if !self.conn.is_autocommit() {
            return Err(Error::InTransaction);
        }
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        self.batch = Some(super::Batch::default());
        let taken = self.give_way();
        if let Err(error) = taken {
            self.rollback();
            return Err(error);
        }
        self.conn.execute_batch("COMMIT").map_err(Error::from).inspect_err(|_| self.rollback())?;
        self.batch = None;
        self.load()?;
        // Publishes what was written anew.
        self.begin()?;
        self.commit()
    }

    fn give_way(&mut self) -> Result<()> {
        let (old, keep) = (self.site, self.acked);
        self.conn.query_row("SELECT crsql_new_site(?1)", [keep as i64], |_| Ok(()))?;
        let later = params![old.0.as_slice(), keep as i64];
        for table in ["chain", "stage"] {
            let sql = format!("DELETE FROM main.__crsql_sync_{table} WHERE site = ?1 AND version > ?2");
            self.conn.execute(&sql, later)?;
        }
        // Positions must stay dense, so entries are emptied and not removed.
        self.conn.execute(
            "UPDATE main.__crsql_sync_journal SET site = NULL WHERE site = ?1 AND last > ?2",
            later,
        )?;
        tables::forget_cursors(&self.conn)?;
        self.restart_journal()?;
        let seen = tables::State {
            site: tables::site(&self.conn)?,
            // What was written anew lies after everything that was published.
            seen: self.seen,
            acked: 0,
            published: Default::default(),
        };
        (self.acked, self.acked_changed) = (0, false);
        tables::save_state(&self.conn, &seen)
    }
}
