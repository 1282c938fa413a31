//! Columns of types other than register: what they hold besides what the base table shows.
//!
//! The base table has one value, what [`crsql_core::column::show`] makes of the column's base and of the cells of its
//! type. As long as there is only one of all these, it *is* the value shown, and nothing else is stored: a million rows
//! inserted into a table with a counter take no more space than without. With the second cell the values go to
//! `__crsql_typed`, one blob a row and column; the clocks lie where all clocks lie.
//!
//! ```text
//! data   = head:u8 [revision:8] [base] (site value)*      head: 1 with a base, and 2 with a text's revision
//! site   = the author's ordinal, LEB128      value = as packed in a key
//! ```

mod capture;
mod declare;
mod fork;
mod merge;
#[cfg(feature = "text")]
pub mod text;

pub use capture::{capture, capture_insert, drop_row, is_stored_as, record, renews_at_limit};
pub use declare::declare;
pub use fork::drop_parts;
use fork::row_at;
pub use merge::{TypedCell, assign_new, assign_winners, beats, facts_of, store_new};

use crate::catalog::{Shape, Table, Typed};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::bytes::{Cursor, damaged, put};
use crate::store::tables::key_value;
use crate::store::{Key, RowClock};
use crsql_core::column::{ColumnType, show};
use crsql_core::pack::{pack_value, unpack_value};
use crsql_core::value::Value;

/// What the base table shows of a column of a live row with this causal length, of which these are the `facts` on its
/// first level; `None` when it shows the default, and of the other levels of a text.
pub fn shown_by(
    state: &State,
    table: &Table,
    typed: &Typed,
    key: &Key,
    facts: &Facts,
    cl: u64,
) -> Result<Option<Value>> {
    if typed.level > 0 {
        return Ok(None);
    }
    #[cfg(feature = "text")]
    if typed.kind == ColumnType::Text {
        let read = |level: &Typed| Ok(stored(state, table.id, level, key)?.unwrap_or_default());
        let known = table.typed.iter().filter(|level| level.slot == typed.slot);
        let known = known.map(|level| (level, facts.clone())).collect();
        return text::Held::new(table, typed, known, read)?.shown(state, cl);
    }
    let _ = (table, key, cl);
    facts.shown(state, typed)
}

/// Whether this build has columns of a type.
pub fn is_built_in(kind: ColumnType) -> bool {
    kind != ColumnType::Text || cfg!(feature = "text")
}

/// What a column of one row holds; of a text, what it holds on one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// What it was given as a register.
    pub base: Option<Value>,
    /// The cells of its type: one for each site, by its ordinal, or only one.
    pub cells: Vec<(u32, Value)>,
    /// Of a text: a random number that every write changes, so that it is known what was put together from it.
    pub revision: u64,
}

impl Facts {
    /// How many cells there are.
    fn len(&self) -> usize {
        usize::from(self.base.is_some()) + self.cells.len()
    }

    /// Whether the base table shows all of it.
    fn is_shown(&self) -> bool {
        self.len() < 2
    }

    /// The value of the cell in `slot` by the site with this ordinal.
    pub fn cell(&self, typed: &Typed, slot: u32, site: u32) -> Option<&Value> {
        if slot == typed.register {
            return self.base.as_ref();
        }
        let is_it = |(author, _): &&(u32, Value)| !typed.kind.is_parted() || *author == site;
        self.cells.iter().find(is_it).map(|(_, value)| value)
    }

    /// Puts a cell in the place of the one that it beat.
    pub fn set(&mut self, typed: &Typed, slot: u32, site: u32, value: Value) {
        if slot == typed.register {
            self.base = Some(value);
            return;
        }
        if !typed.kind.is_parted() {
            self.cells.clear();
        }
        match self.cells.iter_mut().find(|(author, _)| *author == site) {
            Some(known) => known.1 = value,
            None => self.cells.push((site, value)),
        }
    }

    /// What the base table shows; `None` when it shows the default.
    pub fn shown(&self, state: &State, typed: &Typed) -> Result<Option<Value>> {
        let mut store = state.store.borrow_mut();
        let site = |(site, value): &(u32, Value)| Ok((store.sites.id(state.db, *site)?, value.clone()));
        let cells = self.cells.iter().map(site).collect::<Result<Vec<_>>>()?;
        Ok(show(typed.kind, self.base.as_ref(), &cells))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.base.is_some()) | if self.revision == 0 { 0 } else { 2 }];
        if self.revision != 0 {
            out.extend_from_slice(&self.revision.to_le_bytes());
        }
        if let Some(base) = &self.base {
            pack_value(base.as_ref(), &mut out);
        }
        for (site, value) in &self.cells {
            put(&mut out, u64::from(*site));
            pack_value(value.as_ref(), &mut out);
        }
        out
    }

    fn decode(data: &[u8]) -> Result<Facts> {
        let mut cursor = Cursor::new(data);
        let mut facts = Facts::default();
        fn value(cursor: &mut Cursor<'_>) -> Result<Value> {
            let (value, rest) = unpack_value(cursor.rest()).map_err(|_| damaged())?;
            *cursor = Cursor::new(rest);
            Ok(value.to_owned_value())
        }
        let head = cursor.byte()?;
        if head & 2 != 0 {
            for shift in (0..64).step_by(8) {
                facts.revision |= u64::from(cursor.byte()?) << shift;
            }
        }
        if head & 1 != 0 {
            facts.base = Some(value(&mut cursor)?);
        }
        while !cursor.is_empty() {
            let site = u32::try_from(cursor.number()?).map_err(|_| damaged())?;
            let value = value(&mut cursor)?;
            facts.cells.push((site, value));
        }
        Ok(facts)
    }
}

/// The key under which a row's facts lie: its integer key, or its canonical packed key. Unlike the place of its clock
/// it never moves.
pub fn facts_key(table: &Table, rowid: i64, pk: &[u8]) -> Key {
    match table.shape {
        Shape::Integer => Key::Int(rowid),
        Shape::Rowid(_) | Shape::Packed => Key::Bytes(pk.into()),
    }
}

/// What is stored of a column of a row; `None` when it has at most one cell.
pub fn stored(state: &State, table: u32, typed: &Typed, key: &Key) -> Result<Option<Facts>> {
    let mut select = state.pool.prepare(
        state.db,
        "SELECT data FROM main.__crsql_typed WHERE table_id = ?1 AND key = ?2 AND slot = ?3",
    )?;
    let place = [ValueRef::Integer(i64::from(table)), key_value(key), ValueRef::Integer(typed.slot.into())];
    select.query_row(&place, |row| Facts::decode(row.column_blob(0)))
}

/// What a column of a row holds, by its clock; `shown` reads what the base table shows.
pub fn facts(
    state: &State,
    table: &Table,
    typed: &Typed,
    key: &Key,
    clock: &RowClock,
    shown: impl FnOnce() -> Result<Value>,
) -> Result<Facts> {
    if let Some(stored) = stored(state, table.id, typed, key)? {
        return Ok(stored);
    }
    if typed.level > 0 {
        return Ok(Facts::default());
    }
    if clock.group_of(typed.register).is_some() {
        return Ok(Facts { base: Some(shown()?), ..Facts::default() });
    }
    match clock.group_of(typed.slot) {
        Some(group) => Ok(Facts { cells: vec![(group.site, shown()?)], ..Facts::default() }),
        None => Ok(Facts::default()),
    }
}

/// Stores what a column of a row holds, or that the base table shows all of it.
pub fn store(state: &State, table: u32, typed: &Typed, key: &Key, facts: &Facts) -> Result<()> {
    store_unless(state, table, typed, key, facts, facts.is_shown())
}

/// Stores what a column of a row holds, unless it is shown.
fn store_unless(
    state: &State,
    table: u32,
    typed: &Typed,
    key: &Key,
    facts: &Facts,
    is_shown: bool,
) -> Result<()> {
    let place = [ValueRef::Integer(i64::from(table)), key_value(key), ValueRef::Integer(typed.slot.into())];
    if is_shown {
        let sql = "DELETE FROM main.__crsql_typed WHERE table_id = ?1 AND key = ?2 AND slot = ?3";
        return state.pool.prepare(state.db, sql)?.execute(&place);
    }
    let sql = "INSERT OR REPLACE INTO main.__crsql_typed (table_id, key, slot, data) VALUES (?1, ?2, ?3, ?4)";
    let data = facts.encode();
    let [table, key, slot] = place;
    state.pool.prepare(state.db, sql)?.execute(&[table, key, slot, ValueRef::Blob(&data)])
}

/// Forgets what is stored of a row: it is gone, or all new.
pub fn forget_row(state: &State, table: u32, key: &Key) -> Result<()> {
    let sql = "DELETE FROM main.__crsql_typed WHERE table_id = ?1 AND key = ?2";
    state.pool.prepare(state.db, sql)?.execute(&[ValueRef::Integer(i64::from(table)), key_value(key)])
}

/// Reads cells of rows in whatever order, remembering the last row's.
#[derive(Default)]
pub struct FactsReader {
    last: Option<(u32, u32, Key, Option<Facts>)>,
}

impl FactsReader {
    /// The value of the cell of `typed` in `slot` by `site`; `None` when the base table shows it.
    pub fn value(
        &mut self,
        state: &State,
        table: &Table,
        typed: &Typed,
        key: &Key,
        cell: (u32, u32),
    ) -> Result<Option<&Value>> {
        let is_known = self
            .last
            .as_ref()
            .is_some_and(|(known, slot, place, _)| (*known, *slot) == (table.id, typed.slot) && place == key);
        if !is_known {
            let facts = stored(state, table.id, typed, key)?;
            self.last = Some((table.id, typed.slot, key.clone(), facts));
        }
        let facts = self.last.as_ref().and_then(|(.., facts)| facts.as_ref());
        match facts {
            // The base table shows what a text's levels make, never one of the upper ones.
            None if typed.level > 0 => Err(missing(table, typed)),
            None => Ok(None),
            Some(facts) => facts.cell(typed, cell.0, cell.1).map(Some).ok_or_else(|| missing(table, typed)),
        }
    }
}

#[cold]
fn missing(table: &Table, typed: &Typed) -> Error {
    Error::Corrupt(format!(
        "column {:?} of table {:?} has a clock without a value; run SELECT crsql_doctor()",
        typed.name, table.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_as_they_were_written_and_damage_is_an_error() {
        let some = Facts {
            base: Some(Value::Real(0.5)),
            cells: vec![(1, Value::Integer(-3)), (300, Value::text("x")), (2, Value::Null)],
            revision: 0,
        };
        let revised = Facts { revision: u64::MAX - 7, ..some.clone() };
        for facts in [Facts::default(), Facts { base: None, ..some.clone() }, some, revised] {
            let data = facts.encode();
            assert_eq!(Facts::decode(&data).unwrap(), facts);
            for cut in 0..data.len() {
                let _ = Facts::decode(&data[..cut]);
            }
        }
        assert!(Facts::decode(&[]).is_err());
        assert!(Facts::decode(&[1]).is_err());
        assert!(Facts::decode(&[0, 5, 0xff]).is_err());
    }
}
