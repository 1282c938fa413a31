//! Local writes: what SQL statements mean for the clocks.
//!
//! Every method is one statement on one row. It changes nothing when it returns an error. Values are what the
//! columns store; affinity is applied to keys only.

use std::collections::BTreeMap;

use super::row::{Cell, CellName, Existence, Row};
use super::schema::{Column, Identity, TableSchema};
use super::transaction::Transaction;
use crate::column::{ColumnType, count, is_write};
use crate::key::KeyError;
use crate::merge::{CellClock, Clock, LocalWrite, next_causal_length, next_col_version};
use crate::pack::pack;
use crate::value::Value;

/// Why a local write is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No such table.
    #[error("table {0:?} is not replicated")]
    NoSuchTable(String),
    /// No such column outside the key.
    #[error("table {table:?} has no column {column:?} outside its key")]
    NoSuchColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// Not a key of the table.
    #[error("table {table:?}: {reason}")]
    Key {
        /// The table.
        table: String,
        /// What is wrong.
        reason: KeyError,
    },
    /// A live row has the key.
    #[error("table {0:?} has a row of this key: use a statement that replaces it")]
    RowExists(String),
    /// A clock has reached its limit. A site that has no version left needs a new site id.
    #[error("{0} has reached its limit")]
    Exhausted(Clock),
}

type Result<T> = std::result::Result<T, WriteError>;

/// Column values by name; the last one counts if a name comes twice.
type Sets<'a> = &'a [(&'a str, Value)];

impl Transaction<'_> {
    /// `INSERT`: a new row with defaults where nothing is set, or [`WriteError::RowExists`].
    pub fn insert(&mut self, table: &str, key: &[Value], sets: Sets<'_>) -> Result<()> {
        let identity = self.identity(table, key)?;
        if self.row(table, &identity).is_alive() {
            return Err(WriteError::RowExists(table.into()));
        }
        self.put(table, &identity, sets, Row::default())
    }

    /// `INSERT OR REPLACE`: a new incarnation whatever was there.
    pub fn insert_or_replace(&mut self, table: &str, key: &[Value], sets: Sets<'_>) -> Result<()> {
        let identity = self.identity(table, key)?;
        self.put(table, &identity, sets, Row::default())
    }

    /// `UPDATE`: writes the cells that change. False if there is no such row.
    pub fn update(&mut self, table: &str, key: &[Value], sets: Sets<'_>) -> Result<bool> {
        let identity = self.identity(table, key)?;
        let schema = self.schema(table)?;
        let set = by_name(&schema, sets)?;
        let old = self.row(table, &identity);
        if !old.is_alive() {
            return Ok(false);
        }
        let mut row = old.clone();
        let mut columns = self.in_seq_order(table);
        // A write of a register is known at once, one of a type only when it is counted or compared.
        columns.sort_by_key(|column| column.kind != ColumnType::Register);
        for column in &columns {
            let Some(&value) = set.get(column.name.as_str()) else { continue };
            let shown = row.shown(column);
            if !is_write(column.kind, shown.as_ref(), value.as_ref()) {
                continue;
            }
            #[cfg(feature = "text")]
            if column.kind == ColumnType::Text {
                self.write_text(&mut row, column, value);
                continue;
            }
            let name = self.cell_name(column);
            let cell = row.cells.get(&name);
            let known = cell.map_or(0, |cell| cell.clock.col_version);
            // Nobody but this site writes its part: at the limit the site's versions go on telling its writes apart.
            let next = next_col_version(known).or(column.kind.is_parted().then_some(known));
            let Some(col_version) = next else {
                // The clock cannot pass this write, an incarnation can.
                let spelling = self.spelling(table, &identity.key, &old);
                return self.put(table, &Identity { spelling, ..identity }, sets, old).map(|()| true);
            };
            let clock = CellClock { col_version, stamp: self.pending_stamp() };
            let value = match column.kind {
                ColumnType::Counter => {
                    let own = cell.map(|cell| &cell.value);
                    let is_alone = !row.cells.keys().any(|known| {
                        *known != name && (known.column == name.column || *known == column.base())
                    });
                    count(own, is_alone, shown.as_ref(), value.as_ref())
                }
                _ => value.clone(),
            };
            row.cells.insert(name, Cell { clock, value, at: self.at() });
        }
        if row != old {
            self.write(table, &identity.key, row);
        }
        Ok(true)
    }

    /// Writes a text: what changed of it goes to this site's cells.
    #[cfg(feature = "text")]
    fn write_text(&mut self, row: &mut Row, column: &Column, value: &Value) {
        let site = self.replica().site();
        let name = |level| CellName {
            column: column.kind.level_name(&column.name, level).into_owned(),
            site: Some(site),
        };
        let cells = row.text_cells(column);
        let base = row.cells.get(&column.base()).map(|cell| &cell.value);
        let known = |level: usize| row.cells.get(&name(level)).map(|cell| cell.value.clone());
        let base = if cells.is_empty() { base.or(Some(&column.default)) } else { base };
        let Ok(written) = crate::text::set(base, &cells, row.cl, &site, value, known) else { return };
        for (level, value) in written {
            let col_version = row.cells.get(&name(level)).map_or(0, |cell| cell.clock.col_version);
            let col_version = next_col_version(col_version).unwrap_or(col_version);
            let clock = CellClock { col_version, stamp: self.pending_stamp() };
            row.cells.insert(name(level), Cell { clock, value, at: self.at() });
        }
    }

    /// `DELETE`. False if there is no such row.
    pub fn delete(&mut self, table: &str, key: &[Value]) -> Result<bool> {
        let identity = self.identity(table, key)?;
        let row = self.row(table, &identity);
        if !row.is_alive() {
            return Ok(false);
        }
        self.bury(table, &identity, row.cl)?;
        Ok(true)
    }

    /// `UPDATE` of the key and perhaps other columns: the old key dies, the new one gets a new incarnation with
    /// every column. If only the spelling of the key differs, the row becomes its own next incarnation. False if
    /// there is no such row; [`WriteError::RowExists`] if the new key's is alive.
    pub fn update_key(&mut self, table: &str, old: &[Value], new: &[Value], sets: Sets<'_>) -> Result<bool> {
        self.rekey(table, old, new, sets, false)
    }

    /// `UPDATE OR REPLACE` of the key: [`update_key`](Self::update_key) over a live row, too.
    pub fn replace_key(&mut self, table: &str, old: &[Value], new: &[Value], sets: Sets<'_>) -> Result<bool> {
        self.rekey(table, old, new, sets, true)
    }

    fn rekey(
        &mut self,
        table: &str,
        old: &[Value],
        new: &[Value],
        sets: Sets<'_>,
        replace: bool,
    ) -> Result<bool> {
        let (old_identity, new_identity) = (self.identity(table, old)?, self.identity(table, new)?);
        by_name(&self.schema(table)?, sets)?;
        let row = self.row(table, &old_identity);
        if !row.is_alive() {
            return Ok(false);
        }
        if old_identity.key == new_identity.key {
            if self.spelling(table, &old_identity.key, &row) == new_identity.spelling {
                return self.update(table, old, sets);
            }
            return self.put(table, &new_identity, sets, row).map(|()| true);
        }
        if !replace && self.row(table, &new_identity).is_alive() {
            return Err(WriteError::RowExists(table.into()));
        }
        let start = self.savepoint();
        let written =
            self.bury(table, &old_identity, row.cl).and_then(|()| self.put(table, &new_identity, sets, row));
        if written.is_err() {
            self.rollback_to(&start);
        }
        written.map(|()| true)
    }

    /// Writes a new incarnation with every column: what is set, else what `carried` has, else the default. Cells
    /// of columns that this replica does not know stay behind with the old incarnation.
    fn put(&mut self, table: &str, identity: &Identity, sets: Sets<'_>, carried: Row) -> Result<()> {
        let schema = self.schema(table)?;
        let known = self.row(table, identity).cl;
        let start = if known == 0 { self.replica().collected().floor } else { known };
        let cl = next_cl(start, LocalWrite::Insert)?;
        let set = by_name(&schema, sets)?;
        let at = self.at();
        let mut row = Row { cl, ..Row::default() };

        // The first incarnation of a row goes without saying, unless it has no cells that imply it or a spelling
        // that they don't tell.
        if cl > 1 || schema.columns.is_empty() || !identity.is_canonical() {
            let spelling = identity.spelling_at(cl).to_vec();
            row.existence = Some(Existence { stamp: self.pending_stamp(), spelling, at });
        }
        let columns = self.in_seq_order(table);
        let values = columns.iter().map(|column| {
            let set = set.get(column.name.as_str()).map(|value| (*value).clone());
            (self.cell_name(column), set.unwrap_or_else(|| carried.shown(column)))
        });
        let values: Vec<_> = values.collect();
        for (name, value) in values {
            let clock = CellClock { col_version: 1, stamp: self.pending_stamp() };
            row.cells.insert(name, Cell { clock, value, at });
        }
        self.write(table, &identity.key, row);
        Ok(())
    }

    /// Writes the tombstone of a live row.
    fn bury(&mut self, table: &str, identity: &Identity, cl: u64) -> Result<()> {
        let cl = next_cl(cl, LocalWrite::Delete)?;
        let spelling = identity.spelling_at(cl).to_vec();
        let existence = Existence { stamp: self.pending_stamp(), spelling, at: self.at() };
        self.write(table, &identity.key, Row { cl, existence: Some(existence), cells: BTreeMap::new() });
        Ok(())
    }

    /// The cell that this site's writes of a column go to.
    fn cell_name(&self, column: &Column) -> CellName {
        CellName::new(&column.kind.cell_name(&column.name), self.replica().site())
    }

    /// The columns of a known table in the order in which an insert's writes of them are numbered.
    fn in_seq_order(&self, table: &str) -> Vec<Column> {
        self.replica().tables[table].in_seq_order().cloned().collect()
    }

    fn schema(&self, table: &str) -> Result<TableSchema> {
        self.replica().schema(table).cloned().ok_or_else(|| WriteError::NoSuchTable(table.into()))
    }

    fn identity(&self, table: &str, key: &[Value]) -> Result<Identity> {
        self.schema(table)?;
        let values: Vec<_> = key.iter().map(Value::as_ref).collect();
        let identity =
            pack(&values).map_err(KeyError::from).and_then(|pk| self.replica().identity(table, &pk));
        identity.map_err(|reason| WriteError::Key { table: table.into(), reason })
    }

    /// The row, or one nobody has written yet.
    fn row(&self, table: &str, identity: &Identity) -> Row {
        self.replica().row_of(table, &identity.key).cloned().unwrap_or_default()
    }

    fn spelling(&self, table: &str, key: &[u8], row: &Row) -> Vec<u8> {
        self.replica().tables[table].spelling(key, row)
    }
}

fn next_cl(cl: u64, write: LocalWrite) -> Result<u64> {
    next_causal_length(cl, write).ok_or(WriteError::Exhausted(Clock::CausalLength))
}

fn by_name<'a>(schema: &TableSchema, sets: Sets<'a>) -> Result<BTreeMap<&'a str, &'a Value>> {
    if let Some((unknown, _)) = sets.iter().find(|(name, _)| !schema.has_column(name)) {
        return Err(WriteError::NoSuchColumn { table: schema.name.clone(), column: (*unknown).into() });
    }
    Ok(sets.iter().map(|(name, value)| (*name, value)).collect())
}
