//! Change rows copied out of one replica to be written into another: a flat array, so that walking it costs the
//! merge being measured next to nothing.

use std::ffi::c_int;

use rusqlite::ffi;

use crate::contenders::{Contender, Replica};
use crate::database::Result;
use crate::statement::Statement;

/// Which columns of `crsql_changes` travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// What each extension's documentation teaches: the visible columns, and crsql's hidden `site_version`, which
    /// keeps a change's identity.
    Taught,
    /// Those of `SELECT *`: cr-sqlite's nine, or a fork's ten.
    Visible,
}

impl Recipe {
    /// The column names, quoted and separated by commas, and how many there are.
    pub fn columns(self, replica: &Replica, contender: &Contender) -> Result<(String, c_int)> {
        let listing =
            "SELECT group_concat('\"' || name || '\"', ', ') FROM pragma_table_info('crsql_changes')";
        let visible = replica.database.text(listing)?;
        if visible.is_empty() {
            return Err("no such table: crsql_changes".to_string().into());
        }
        let count = visible.split(", ").count() as c_int;
        match self {
            Recipe::Taught if contender.is_ours() => Ok((format!("{visible}, site_version"), count + 1)),
            _ => Ok((visible, count)),
        }
    }
}

#[derive(Clone, Copy)]
enum Slot {
    Null,
    Integer(i64),
    Real(f64),
    Text { start: u32, length: u32 },
    Blob { start: u32, length: u32 },
}

/// Copied change rows.
pub struct Changes {
    /// The columns' names, as for a SELECT or INSERT.
    pub columns: String,
    /// How many columns a row has.
    pub width: c_int,
    slots: Vec<Slot>,
    bytes: Vec<u8>,
}

impl Changes {
    /// Every change that the replica holds, in its own order.
    pub fn read(replica: &Replica, contender: &Contender, recipe: Recipe) -> Result<Self> {
        let (columns, width) = recipe.columns(replica, contender)?;
        let sql = format!("SELECT {columns} FROM crsql_changes ORDER BY db_version, seq");
        let mut changes = Changes { columns, width, slots: Vec::new(), bytes: Vec::new() };
        let mut statement = replica.database.prepare(&sql)?;
        while statement.step()? {
            (0..width).for_each(|column| changes.push(&statement, column));
        }
        Ok(changes)
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.slots.len() / self.width as usize
    }

    fn push(&mut self, statement: &Statement<'_>, column: c_int) {
        let slot = match statement.column_type(column) {
            ffi::SQLITE_INTEGER => Slot::Integer(statement.integer(column)),
            ffi::SQLITE_FLOAT => Slot::Real(statement.real(column)),
            ffi::SQLITE_NULL => Slot::Null,
            kind => {
                let (start, length) = self.store(statement.bytes(column));
                match kind {
                    ffi::SQLITE_TEXT => Slot::Text { start, length },
                    _ => Slot::Blob { start, length },
                }
            }
        };
        self.slots.push(slot);
    }

    /// Table, key and site repeat from row to row; storing them once keeps the array small enough not to push
    /// the database out of the processor's caches.
    fn store(&mut self, value: &[u8]) -> (u32, u32) {
        let above = self.slots.len().checked_sub(self.width as usize).map(|index| self.slots[index]);
        if let Some(Slot::Text { start, length } | Slot::Blob { start, length }) = above
            && self.slice(start, length) == value
        {
            return (start, length);
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        (start, value.len() as u32)
    }

    fn slice(&self, start: u32, length: u32) -> &[u8] {
        &self.bytes[start as usize..(start + length) as usize]
    }

    /// Binds the columns of change `index` from parameter `first` on.
    #[inline]
    pub fn bind<'a>(&'a self, index: usize, statement: &mut Statement<'a>, first: c_int) {
        let width = self.width as usize;
        let row = &self.slots[index * width..(index + 1) * width];
        for (parameter, slot) in (first..).zip(row) {
            match *slot {
                Slot::Null => statement.bind_null(parameter),
                Slot::Integer(value) => statement.bind_integer(parameter, value),
                Slot::Real(value) => statement.bind_real(parameter, value),
                Slot::Text { start, length } => statement.bind_text(parameter, self.slice(start, length)),
                Slot::Blob { start, length } => statement.bind_blob(parameter, self.slice(start, length)),
            }
        }
    }

    /// `(?, ?, …), (?, ?, …)` for that many changes.
    pub fn parameters(&self, changes: usize) -> String {
        let row = format!("({})", vec!["?"; self.width as usize].join(", "));
        vec![row; changes].join(", ")
    }
}
