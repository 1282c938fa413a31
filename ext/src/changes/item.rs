//! The stream of changes that a cursor walks: clocks in order, and parked changes where they belong.

use super::order::{Changes, Order, Span};
use super::plan::Plan;
use super::reader::{RowReader, is_stored_canonically, key_of_deleted};
use crate::park::{self, Loose};
use crate::pool::Pooled;
use crate::sqlite::{Result, ValueRef};
use crate::state::State;
use crate::store::{Key, ROW};
use crate::typed::FactsReader;
use crsql_core::value::Value;
use std::cell::RefCell;

/// A scan.
pub struct Stream {
    changes: Changes,
    readers: Vec<RowReader>,
    /// The reader of the change at hand, and where its table's list has the change's column.
    reader: usize,
    column: Option<usize>,
    /// The packed key last made, and of what: table, rowid, moves of the reader.
    key: Vec<u8>,
    key_of: Option<(u32, i64, u64)>,
    facts: RefCell<FactsReader>,
    needs_row: bool,
    order: Order,
    parked: Option<Pooled>,
    next_parked: Option<Loose>,
    /// The change at hand is the parked one.
    on_parked: bool,
    /// Holds the read transaction, so that all reads of the scan see one state.
    _snapshot: Pooled,
}

/// The change at hand.
pub enum Item<'s> {
    /// From the clocks.
    Clock(&'s Span),
    /// From the parked ones.
    Parked(&'s Loose),
}

impl Stream {
    /// Finds the first change.
    pub fn open(state: &State, snapshot: Pooled, plan: Plan) -> Result<Stream> {
        let layer = state.layer()?;
        let parked = format!(
            "{} WHERE db_version > ?1 AND db_version <= ?2 ORDER BY db_version, seq, id",
            park::SELECT
        );
        let mut parked = state.pool.prepare(state.db, &parked)?;
        parked.bind_i64(1, i64::try_from(plan.wanted.since).unwrap_or(i64::MAX))?;
        parked.bind_i64(2, i64::try_from(plan.wanted.until).unwrap_or(i64::MAX))?;
        let order = plan.wanted.order;
        let mut stream = Stream {
            changes: Changes::open(state.pool.clone(), state.db, layer, plan.wanted)?,
            readers: Vec::new(),
            reader: 0,
            column: None,
            key: Vec::new(),
            key_of: None,
            facts: RefCell::default(),
            needs_row: plan.needs_row,
            order,
            parked: Some(parked),
            next_parked: None,
            on_parked: false,
            _snapshot: snapshot,
        };
        stream.fetch_parked(state)?;
        stream.settle(state)?;
        Ok(stream)
    }

    fn fetch_parked(&mut self, state: &State) -> Result<()> {
        let Some(parked) = &mut self.parked else { return Ok(()) };
        self.next_parked = park::next(state, parked)?;
        if self.next_parked.is_none() {
            self.parked = None;
        }
        Ok(())
    }

    /// Moves to the next change.
    #[inline]
    pub fn advance(&mut self, state: &State) -> Result<()> {
        if self.on_parked {
            self.fetch_parked(state)?;
        } else {
            self.changes.advance()?;
        }
        self.settle(state)
    }

    /// Passes over what can't be told: columns that are gone, rows that are missing.
    #[inline]
    fn settle(&mut self, state: &State) -> Result<()> {
        while self.next_parked.is_none() {
            self.on_parked = false;
            if self.changes.current().is_none() || self.is_tellable(state)? {
                return Ok(());
            }
            self.changes.advance()?;
        }
        self.settle_among_parked(state)
    }

    fn settle_among_parked(&mut self, state: &State) -> Result<()> {
        loop {
            self.on_parked = match (&self.next_parked, self.changes.position()) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(parked), Some((db_version, major))) => {
                    let tie = if self.order == Order::Seq { major } else { 0 };
                    let mine = if self.order == Order::Seq { parked.stamp.seq } else { 1 };
                    (parked.db_version, mine) < (db_version, tie)
                }
            };
            if self.on_parked || self.changes.current().is_none() || self.is_tellable(state)? {
                return Ok(());
            }
            self.changes.advance()?;
        }
    }

    #[inline]
    fn is_tellable(&mut self, state: &State) -> Result<bool> {
        let Some(span) = self.changes.current() else { return Ok(false) };
        let (table, slot) = (span.table(), span.slot());
        if self.readers.get(self.reader).is_none_or(|reader| reader.table().id != table)
            && !self.find_reader(state, table)?
        {
            return Ok(false);
        }
        let Some(span) = self.changes.current() else { return Ok(false) };
        let reader = &mut self.readers[self.reader];
        self.column = reader.position(slot);
        if slot != ROW && self.column.is_none() {
            return Ok(false);
        }
        let rowid = span.rowid();
        if span.cl() % 2 == 0
            || !self.needs_row
            || (slot == ROW && rowid.is_none() && is_stored_canonically(reader.table()))
        {
            return Ok(true);
        }
        match (rowid, span.packed()) {
            (Some(rowid), _) => reader.seek(rowid),
            (None, Some(packed)) => reader.seek_packed(packed),
            (None, None) => Ok(false),
        }
    }

    /// Turns to the reader of `table`; false when the table is gone.
    fn find_reader(&mut self, state: &State, table: u32) -> Result<bool> {
        if let Some(known) = self.readers.iter().position(|reader| reader.table().id == table) {
            self.reader = known;
            return Ok(true);
        }
        let Some(table) = state.catalog.borrow_mut().table(state.db, table)? else { return Ok(false) };
        self.reader = self.readers.len();
        self.readers.push(RowReader::new(state, table)?);
        Ok(true)
    }

    /// True past the last change.
    #[inline]
    pub fn is_at_end(&self) -> bool {
        !self.on_parked && self.changes.current().is_none()
    }

    /// The change at hand.
    #[inline]
    pub fn item(&self) -> Option<Item<'_>> {
        if self.on_parked {
            self.next_parked.as_ref().map(Item::Parked)
        } else {
            self.changes.current().map(Item::Clock)
        }
    }

    /// The reader that stands on the change's row.
    #[inline]
    pub fn reader(&self) -> Option<&RowReader> {
        self.readers.get(self.reader)
    }

    /// Where the table's list has the column of the change at hand, one from the clocks.
    #[inline]
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    /// The value of the change at hand, one from the clocks of a table that has typed columns; `position` is where the
    /// table's list has its column.
    pub fn value(&self, state: &State, position: usize) -> Result<Value> {
        let (Some(span), Some(reader)) = (self.changes.current(), self.readers.get(self.reader)) else {
            return Ok(Value::Null);
        };
        if span.cl() % 2 == 0 {
            return Ok(Value::Null);
        }
        let place = match (span.rowid(), span.packed()) {
            (Some(rowid), _) => Key::Int(rowid),
            (None, packed) => Key::Bytes(packed.unwrap_or_default().into()),
        };
        reader.cell(state, &mut self.facts.borrow_mut(), &place, position, span.group().site)
    }

    /// The packed key of the change at hand, one from the clocks, as stored.
    pub fn key(&mut self) -> Result<&[u8]> {
        let (Some(span), Some(reader)) = (self.changes.current(), self.readers.get(self.reader)) else {
            return Ok(&[]);
        };
        let key_of = span.rowid().map(|rowid| (span.table(), rowid, reader.moves()));
        if key_of.is_some() && self.key_of == key_of {
            return Ok(&self.key);
        }
        self.key_of = None;
        let out = &mut self.key;
        out.clear();
        let table = reader.table();
        match (span.rowid(), span.packed()) {
            (Some(rowid), _) if table.shape == crate::catalog::Shape::Integer => {
                let mut packer = crsql_core::pack::Packer::new(out);
                packer.push(ValueRef::Integer(rowid)).map_err(crate::sqlite::Error::refused)?;
            }
            (_, Some(packed)) if is_stored_canonically(table) => out.extend_from_slice(packed),
            (_, Some(packed)) if span.cl() % 2 == 0 => *out = key_of_deleted(table, packed)?,
            _ => reader.key(out)?,
        }
        self.key_of = key_of;
        Ok(&self.key)
    }
}
