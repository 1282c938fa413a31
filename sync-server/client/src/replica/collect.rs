//! Deletes of which nothing is left elsewhere: taking over what others collected, and beginning again where that is not
//! enough. The rules are `crsql_core::collect`'s, the work is the extension's.

use rusqlite::{ErrorCode, OptionalExtension};

use super::take::BEHIND;
use super::{Replica, tables};
use crate::Result;

impl Replica {
    /// Whether somebody sent what is left after deletes that are not here. Asking forgets it; inside a batch of work.
    ///
    /// # Errors
    /// SQLite's.
    pub fn take_behind(&mut self) -> Result<bool> {
        let is_behind = self.is_behind.take();
        if is_behind {
            // A part of a cut may have been applied that is not claimed: what is said to be held must be what is.
            self.load()?;
        }
        Ok(is_behind)
    }

    /// Takes over what an acceptor collected, once everything that it had is here; inside a batch of work. False if
    /// this database lacks some of those deletes.
    ///
    /// # Errors
    /// SQLite's.
    pub fn hear_collected(&mut self, told: &[u8]) -> Result<bool> {
        let done = self
            .conn
            .prepare_cached("SELECT crsql_apply(?1)")?
            .query_row([told], |row| row.get::<_, String>(0));
        match done {
            Ok(_) => Ok(true),
            Err(rusqlite::Error::SqliteFailure(error, Some(message)))
                if error.code == ErrorCode::Unknown && message.contains(BEHIND) =>
            {
                tables::forget_cursors(&self.conn)?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets the frames that were not sent yet, so that what is left of them is put together anew from the tables and
    /// tells of the deletes that were collected since; inside a batch of work.
    ///
    /// # Errors
    /// SQLite's.
    pub fn put_together_anew(&mut self) -> Result<()> {
        self.conn.execute("DELETE FROM main.__crsql_sync_journal WHERE site IS NOT NULL", [])?;
        self.journal.load(&self.conn)?;
        self.restart_journal()
    }

    /// Collects deletes here if others have collected since the last time. Nothing may be open on the connection.
    ///
    /// # Errors
    /// SQLite's, such as a busy database; it is tried again later.
    pub fn collect(&mut self) -> Result<()> {
        if self.batch.is_some() || self.is_busy() {
            return Ok(());
        }
        let now: Option<Vec<u8>> = self
            .conn
            .prepare_cached("SELECT value FROM main.__crsql_config WHERE name = 'collected'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        if now == self.collected {
            return Ok(());
        }
        self.conn.query_row("SELECT crsql_gc()", [], |_| Ok(()))?;
        self.collected = now;
        Ok(())
    }
}
