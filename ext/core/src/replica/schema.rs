//! Tables and columns, and what happens to parked changes when one appears.

use std::collections::BTreeMap;

use super::Replica;
use super::row::{CellName, Row};
use crate::column::ColumnType;
use crate::ids::CausalLength;
use crate::key::{KeyColumn, KeyError, canonical_packed_key, stored_key};
use crate::pack::unpack;
use crate::value::Value;

/// A replicated table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    /// The columns of its primary key, in the key's order.
    pub key: Vec<KeyColumn>,
    /// The other columns.
    pub columns: Vec<Column>,
}

/// A column outside the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What a row has there until somebody writes it.
    pub default: Value,
    /// How it merges.
    pub kind: ColumnType,
}

impl Column {
    /// A register.
    pub fn register(name: &str, default: Value) -> Column {
        Column { name: name.into(), default, kind: ColumnType::Register }
    }

    /// The name of the cell that it has, or had, as a register.
    pub(super) fn base(&self) -> CellName {
        CellName { column: ColumnType::Register.cell_name(&self.name).into_owned(), site: None }
    }
}

/// Why a schema change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A row without a key has no identity.
    #[error("cannot replicate {0:?}: it has no primary key")]
    NoKey(String),
    /// The name is taken.
    #[error("table {0:?} is replicated already")]
    TableExists(String),
    /// The name is taken.
    #[error("table {table:?} has a column {column:?} already")]
    ColumnExists {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// No such table.
    #[error("table {0:?} is not replicated")]
    NoSuchTable(String),
}

impl TableSchema {
    /// A table that has a key and nothing else.
    pub fn new(name: &str, key: impl Into<Vec<KeyColumn>>) -> TableSchema {
        TableSchema { name: name.into(), key: key.into(), columns: Vec::new() }
    }

    /// The same table with one more column.
    pub fn column(mut self, name: &str, default: Value) -> TableSchema {
        self.columns.push(Column::register(name, default));
        self
    }

    /// The same table with one more column, of a type.
    pub fn typed(mut self, name: &str, kind: ColumnType, default: Value) -> TableSchema {
        self.columns.push(Column { kind, ..Column::register(name, default) });
        self
    }

    /// Whether the cells called `cell` are of a column outside the key, as it is declared here.
    pub fn has_cells(&self, cell: &str) -> bool {
        self.columns.iter().any(|column| {
            ColumnType::Register.cell_name(&column.name) == cell || column.kind.has_cell(&column.name, cell)
        })
    }

    /// Whether a column of this name exists outside the key.
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }
}

/// A table's rows by key: canonical with a schema, as received without.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub schema: Option<TableSchema>,
    /// The columns outside the key in the order in which they, and their types, came: see [`Table::in_seq_order`].
    pub arrived: Vec<String>,
    pub rows: BTreeMap<Vec<u8>, Row>,
}

/// A key as a table sees it.
pub(super) struct Identity {
    /// What the row is found by.
    pub key: Vec<u8>,
    /// How the base table would spell the key as given.
    pub spelling: Vec<u8>,
    /// How it spells the canonical values: 1 is 1.0 in a REAL column.
    pub canonical_spelling: Vec<u8>,
}

impl Identity {
    /// How a row of this causal length is spelled when this key comes with its existence. A deleted row has no
    /// spelling of its own.
    pub fn spelling_at(&self, cl: u64) -> &[u8] {
        if CausalLength(cl).is_alive() { &self.spelling } else { &self.canonical_spelling }
    }

    /// Whether the canonical values say how the key is spelled.
    pub fn is_canonical(&self) -> bool {
        self.spelling == self.canonical_spelling
    }
}

impl Table {
    /// Reads a packed key. Without a schema nothing is known of its columns and it is taken as it is.
    pub fn identity(&self, pk: &[u8]) -> Result<Identity, KeyError> {
        let Some(schema) = &self.schema else {
            return Ok(Identity { key: pk.to_vec(), spelling: pk.to_vec(), canonical_spelling: pk.to_vec() });
        };
        let key = canonical_packed_key(pk, &schema.key)?.bytes;
        let spelling = stored_key(&unpack(pk)?, &schema.key)?;
        let canonical_spelling = stored_key(&unpack(&key)?, &schema.key)?;
        Ok(Identity { key, spelling, canonical_spelling })
    }

    /// The columns in the order in which an insert's writes of them are numbered: as they came. A type comes after
    /// all columns that the table had by then; columns of which every site has a cell are the last ones.
    pub fn in_seq_order(&self) -> impl Iterator<Item = &Column> {
        let columns = self.schema.iter().flat_map(|schema| &schema.columns);
        let mut columns: Vec<&Column> = columns.collect();
        columns.sort_by_cached_key(|column| {
            let arrived = self.arrived.iter().position(|name| *name == column.name);
            (column.kind.is_parted(), arrived)
        });
        columns.into_iter()
    }

    /// A column came, or its type.
    fn arrive(&mut self, column: &str) {
        self.arrived.retain(|name| name != column);
        self.arrived.push(column.into());
    }

    /// How the base table spells a row's key: as the winning row-existence change did, or else canonically.
    pub fn spelling(&self, key: &[u8], row: &Row) -> Vec<u8> {
        match &row.existence {
            Some(existence) => existence.spelling.clone(),
            None => self.identity(key).expect("a row's key is a key of its table").canonical_spelling,
        }
    }
}

impl Replica {
    /// Begins to replicate an empty table. Changes that waited for it are merged under its keys. Those whose key
    /// does not fit the table are dropped, as they would have been refused had it been there; returns how many.
    pub fn create_table(&mut self, schema: TableSchema) -> Result<usize, SchemaError> {
        if schema.key.is_empty() {
            return Err(SchemaError::NoKey(schema.name));
        }
        if let Some(twice) = schema.columns.iter().enumerate().find_map(|(i, column)| {
            schema.columns[..i].iter().any(|other| other.name == column.name).then_some(&column.name)
        }) {
            return Err(SchemaError::ColumnExists { column: twice.clone(), table: schema.name });
        }
        let table = self.tables.entry(schema.name.clone()).or_default();
        if table.schema.is_some() {
            return Err(SchemaError::TableExists(schema.name));
        }
        let (registers, typed): (Vec<_>, Vec<_>) =
            schema.columns.iter().partition(|column| column.kind == ColumnType::Register);
        table.arrived = registers.into_iter().chain(typed).map(|column| column.name.clone()).collect();
        table.schema = Some(schema);

        let mut dropped = 0;
        for (pk, parked) in std::mem::take(&mut table.rows) {
            let Ok(identity) = table.identity(&pk) else {
                dropped += parked.into_entries().count();
                continue;
            };
            let cl = parked.cl;
            let row = table.rows.entry(identity.key.clone()).or_default();
            for entry in parked.into_entries() {
                row.absorb(cl, entry.spelled(identity.spelling_at(cl)), self.tie_break);
            }
        }
        Ok(dropped)
    }

    /// Adds a column. It emits nothing; cells that waited for it become visible.
    pub fn add_column(&mut self, table: &str, column: &str, default: Value) -> Result<(), SchemaError> {
        let held = self.tables.get_mut(table).ok_or_else(|| SchemaError::NoSuchTable(table.into()))?;
        let schema = held.schema.as_mut().ok_or_else(|| SchemaError::NoSuchTable(table.into()))?;
        if schema.has_column(column) {
            return Err(SchemaError::ColumnExists { table: table.into(), column: column.into() });
        }
        schema.columns.push(Column::register(column, default));
        held.arrive(column);
        Ok(())
    }

    /// Declares the type of a register. It emits nothing: what was written stays the column's base, and cells of the
    /// type that waited become visible. A column of another type stays as it is.
    pub fn declare(&mut self, table: &str, column: &str, kind: ColumnType) -> Result<(), SchemaError> {
        let held = self.tables.get_mut(table).ok_or_else(|| SchemaError::NoSuchTable(table.into()))?;
        let schema = held.schema.as_mut().ok_or_else(|| SchemaError::NoSuchTable(table.into()))?;
        let mut registers = schema.columns.iter_mut().filter(|known| known.kind == ColumnType::Register);
        if kind != ColumnType::Register
            && let Some(known) = registers.find(|known| known.name == column)
        {
            known.kind = kind;
            held.arrive(column);
        }
        Ok(())
    }
}
