//! Reads base rows in the order in which clocks name them: along a run it steps, elsewhere it seeks.

use crate::catalog::{Shape, Table};
use crate::pool::Pooled;
use crate::schema::Ident;
use crate::sqlite::{Error, Result, Statement, ValueRef};
use crate::state::State;
use crate::store::Key;
use crate::typed::FactsReader;
use crsql_core::key::{Collation, canonical_packed_key, stored_key};
use crsql_core::pack::{Packer, unpack, unpack_into};
use crsql_core::value::Value;
use std::rc::Rc;

/// A cursor over one base table.
pub struct RowReader {
    table: Rc<Table>,
    statement: Pooled,
    /// The rowid that the statement stands on.
    at: Option<i64>,
    /// The packed key that the statement was bound to, and whether a row was found.
    packed: Option<(Vec<u8>, bool)>,
    /// How many columns come before the key's.
    key_at: usize,
    /// No column to spare for the rowid: rows are found one by one.
    is_widest: bool,
    /// By slot: where the column is in the table's list, plus one; 0 for a slot that is none.
    positions: Vec<u32>,
    /// Counts the moves, so that what was made of a row is known to be of this row.
    moves: u64,
}

impl RowReader {
    /// Prepares to read `table`.
    pub fn new(state: &State, table: Rc<Table>) -> Result<RowReader> {
        let mut list: Vec<String> = Vec::new();
        let place = match table.shape {
            Shape::Integer => Some(Ident(&table.key_names[0]).to_string()),
            Shape::Rowid(rowid) => Some(rowid.to_owned()),
            Shape::Packed => None,
        };
        // A rowid beside all columns of a table as wide as SQLite allows is one column too many for a result; the
        // INTEGER PRIMARY KEY stands for it.
        let is_widest = table.shape != Shape::Integer && table.key_columns.len() + table.registers >= 1999;
        let place = place.filter(|_| !is_widest);
        if table.shape != Shape::Integer {
            list.extend(place.clone());
        }
        let key_at = list.len();
        list.push(table.key_list());
        let registers = &table.columns[..table.registers];
        list.extend(registers.iter().map(|column| Ident(&column.name).to_string()));
        let condition = match &place {
            Some(place) => format!("{place} >= ?1 ORDER BY {place}"),
            None => table.place_condition(),
        };
        let sql = format!("SELECT {} FROM {} WHERE {condition}", list.join(", "), table.sql_name());
        // Ids are small numbers; one that is not, in a table somebody wrote to, is searched for.
        let ids = table.columns.iter().map(|column| column.id as usize).filter(|id| *id < 1 << 16);
        let mut positions = vec![0; ids.map(|id| id + 1).max().unwrap_or(0)];
        for (index, column) in table.columns.iter().enumerate() {
            if let Some(position) = positions.get_mut(column.id as usize) {
                *position = index as u32 + 1;
            }
        }
        Ok(RowReader {
            statement: state.pool.prepare(state.db, &sql)?,
            table,
            at: None,
            packed: None,
            key_at,
            is_widest,
            positions,
            moves: 0,
        })
    }

    /// Where the table's list has the column with this id.
    #[inline]
    pub fn position(&self, id: u32) -> Option<usize> {
        match self.positions.get(id as usize) {
            Some(position) => (*position as usize).checked_sub(1),
            None => self.table.columns.iter().position(|column| column.id == id),
        }
    }

    /// Grows with every move to another row.
    #[inline]
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Moves to the row with this rowid; false when there is none.
    #[inline]
    pub fn seek(&mut self, rowid: i64) -> Result<bool> {
        if self.is_widest {
            self.moves += 1;
            self.statement.reset();
            self.statement.bind_i64(1, rowid)?;
            return self.statement.step();
        }
        if self.at == Some(rowid) {
            return Ok(true);
        }
        self.moves += 1;
        match self.at {
            Some(at) if at.checked_add(1) == Some(rowid) => {
                // The next row of the scan, most likely.
                self.at = if self.statement.step()? { Some(self.statement.column_i64(0)) } else { None };
                if self.at.is_none_or(|at| at >= rowid) {
                    return Ok(self.at == Some(rowid));
                }
            }
            _ => {}
        }
        self.statement.reset();
        self.statement.bind_i64(1, rowid)?;
        self.at = if self.statement.step()? { Some(self.statement.column_i64(0)) } else { None };
        Ok(self.at == Some(rowid))
    }

    /// Moves to the row with this packed key; false when there is none.
    pub fn seek_packed(&mut self, key: &[u8]) -> Result<bool> {
        if let Some((known, found)) = &self.packed
            && known == key
        {
            return Ok(*found);
        }
        self.moves += 1;
        self.statement.reset();
        let mut values = Vec::new();
        unpack_into(key, &mut values).map_err(crate::sqlite::Error::refused)?;
        for (index, value) in values.iter().enumerate() {
            self.statement.bind_value(index + 1, *value)?;
        }
        let found = self.statement.step()?;
        self.packed = Some((key.to_vec(), found));
        Ok(found)
    }

    /// The row's key as stored, packed.
    pub fn key(&self, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let mut packer = Packer::new(out);
        for index in 0..self.table.key_columns.len() {
            packer
                .push(self.statement.column_value(self.key_at + index))
                .map_err(crate::sqlite::Error::refused)?;
        }
        Ok(())
    }

    /// The value of the column at `index` of the table's list.
    #[inline]
    pub fn value(&self, index: usize) -> ValueRef<'_> {
        self.statement.column_value(self.column_at(index))
    }

    /// Where the statement has the column at `index` of the table's list.
    #[inline]
    pub fn column_at(&self, index: usize) -> usize {
        self.key_at + self.table.key_columns.len() + self.table.base_column(index)
    }

    /// The value of the cell of the column at `index` by the site with this ordinal, on the row with this place.
    pub fn cell(
        &self,
        state: &State,
        facts: &mut FactsReader,
        place: &Key,
        index: usize,
        site: u32,
    ) -> Result<Value> {
        let id = self.table.columns[index].id;
        let Some(typed) = self.table.typed(id) else { return Ok(self.value(index).to_owned_value()) };
        let key = match (self.table.shape, place) {
            (Shape::Rowid(_), Key::Int(_)) => {
                let mut stored = Vec::new();
                self.key(&mut stored)?;
                let key = canonical_packed_key(&stored, &self.table.key_columns);
                &Key::Bytes(key.map_err(Error::refused)?.bytes.into())
            }
            _ => place,
        };
        match facts.value(state, &self.table, typed, key, (id, site))? {
            Some(value) => Ok(value.clone()),
            None => Ok(self.value(index).to_owned_value()),
        }
    }

    /// The statement, on the row.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The table.
    pub fn table(&self) -> &Rc<Table> {
        &self.table
    }
}

/// True when a packed canonical key is always the stored one.
pub fn is_stored_canonically(table: &Table) -> bool {
    use crsql_core::key::Affinity;
    table.key_columns.iter().all(|column| {
        column.collation == Collation::Binary && matches!(column.affinity, Affinity::Text | Affinity::Integer)
    })
}

/// How a deleted row's key is told: it has no spelling of its own, so as its table would store the canonical one.
pub fn key_of_deleted(table: &Table, canonical: &[u8]) -> Result<Vec<u8>> {
    if is_stored_canonically(table) {
        return Ok(canonical.to_vec());
    }
    let values = unpack(canonical).map_err(crate::sqlite::Error::refused)?;
    stored_key(&values, &table.key_columns).map_err(crate::sqlite::Error::refused)
}
