//! Opens a changeset and walks its runs and rows. Values borrow from the payload.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::error::Result;
use super::header::{self, Header, Table, Told};
use super::{IMPLIED_ROWS_MAX, Limits, RunHeader, envelope, run, value};
use crate::ids::SiteId;
use crate::merge::TieBreak;
use crate::value::ValueRef;
use crate::version_vector::VersionVector;

/// A changeset that has been verified and decompressed; its runs have yet to be read.
#[derive(Debug, Clone)]
pub struct Changeset<'a> {
    payload: Cow<'a, [u8]>,
    runs_at: usize,
    header: Header,
}

/// Walks the runs of a [`Changeset`]. After an error it is spent: what it gives then means nothing.
#[derive(Debug, Clone)]
pub struct Reader<'c> {
    header: &'c Header,
    cursor: Cursor<'c>,
    rows_left: u32,
    values_per_row: usize,
    /// In a run of integer keys, the next row's.
    next_key: Option<i64>,
    implied_rows: u64,
}

/// A row's primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKey<'c> {
    /// The one key column's integer.
    Integer(i64),
    /// Packed as in `crsql_changes.pk`, and not checked: `pack::unpack` does that.
    Packed(&'c [u8]),
}

impl<'a> Changeset<'a> {
    /// Checks the frame, the checksum and the header of `bytes`, and decompresses them.
    pub fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self> {
        let payload = envelope::open(bytes, limits)?;
        let mut cursor = Cursor::new(&payload);
        let header = header::decode(cursor.sized()?)?;
        let runs_at = payload.len() - cursor.remaining();
        Ok(Changeset { payload, runs_at, header })
    }

    /// How the database that wrote it decides ties. A database of the other kind must refuse it.
    pub fn tie_break(&self) -> TieBreak {
        self.header.tie_break
    }

    /// The sites that groups and claims refer to.
    pub fn sites(&self) -> &[SiteId] {
        &self.header.sites
    }

    /// The tables that runs refer to.
    pub fn tables(&self) -> &[Table] {
        &self.header.tables
    }

    /// The site versions that are held completely once every change has been applied.
    pub fn claims(&self) -> &VersionVector {
        &self.header.claims
    }

    /// What its writer has collected; `None` for nothing.
    pub fn told(&self) -> Option<&Told> {
        self.header.collected.as_ref()
    }

    /// A reader at the first run.
    pub fn reader(&self) -> Reader<'_> {
        let mut cursor = Cursor::new(&self.payload);
        cursor.take(self.runs_at).expect("open has read this far");
        Reader {
            header: &self.header,
            cursor,
            rows_left: 0,
            values_per_row: 0,
            next_key: None,
            implied_rows: 0,
        }
    }
}

impl<'c> Reader<'c> {
    /// The next run, or none at the end. Rows of the last run that have not been read are skipped.
    pub fn next_run(&mut self) -> Result<Option<RunHeader>> {
        self.skip_rows()?;
        if self.cursor.is_empty() {
            return Ok(None);
        }
        let (run, rows) = run::read(&mut self.cursor, self.header)?;
        self.values_per_row = run.values_per_row();
        self.rows_left = rows;
        self.next_key = run.first_key;
        if self.rows_take_no_bytes() {
            self.implied_rows += u64::from(rows);
            if self.implied_rows > IMPLIED_ROWS_MAX {
                return Err(self.cursor.malformed("more than 16,777,216 rows take no bytes"));
            }
        }
        Ok(Some(run))
    }

    /// The next row of the run: its key, and in `values`, which is cleared first, its values in group and bit
    /// order. None when the run is over.
    #[inline]
    pub fn next_row(&mut self, values: &mut Vec<ValueRef<'c>>) -> Result<Option<RowKey<'c>>> {
        values.clear();
        if self.rows_left == 0 {
            return Ok(None);
        }
        self.rows_left -= 1;
        let key = self.read_key()?;
        for _ in 0..self.values_per_row {
            values.push(value::read(&mut self.cursor)?);
        }
        Ok(Some(key))
    }

    /// How many rows of the run have not been read.
    pub fn rows_left(&self) -> u32 {
        self.rows_left
    }

    #[inline]
    fn read_key(&mut self) -> Result<RowKey<'c>> {
        match self.next_key {
            Some(key) => {
                // Past the run's last row this may wrap, and is not used.
                self.next_key = Some(key.wrapping_add(1));
                Ok(RowKey::Integer(key))
            }
            None => Ok(RowKey::Packed(self.cursor.sized()?)),
        }
    }

    fn skip_rows(&mut self) -> Result<()> {
        if self.rows_take_no_bytes() {
            self.rows_left = 0;
        }
        while self.rows_left > 0 {
            self.rows_left -= 1;
            self.read_key()?;
            for _ in 0..self.values_per_row {
                value::read(&mut self.cursor)?;
            }
        }
        Ok(())
    }

    fn rows_take_no_bytes(&self) -> bool {
        self.next_key.is_some() && self.values_per_row == 0
    }
}
