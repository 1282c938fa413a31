//! Changes that can't be written yet: of tables and columns that are unknown here, and of rows that the base
//! table's constraints refuse. They are kept under the merge order, forwarded, and tried again.

mod sweep;

pub use sweep::{sweep, sweep_changes};

use crate::catalog::Table;
use crate::collect::{Source, merge_as};
use crate::merge::{Incoming, Outcome, hidden, merge_row};
use crate::sqlite::{Error, Result, Statement, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, ROW, RowClock};
use crate::typed::TypedCell;
use crsql_core::column::{ColumnType, cell_beats};
use crsql_core::ids::SiteId;
use crsql_core::key::canonical_packed_key;
use crsql_core::merge::{CellClock, Stamp, TieBreak, row_stamp_wins};
use crsql_core::value::Value;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Why a change is parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Its table or column is unknown.
    Schema,
    /// The base table refuses the row.
    Constraint,
}

/// A change as it travels: one row of `crsql_changes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Loose {
    /// The table's name.
    pub table: String,
    /// The packed key.
    pub pk: Vec<u8>,
    /// The column's name; `-1` for the row's existence.
    pub cid: String,
    /// The value; NULL for the row's existence.
    pub value: Value,
    /// The column's version; the causal length for the row's existence.
    pub col_version: u64,
    /// The row's causal length.
    pub cl: u64,
    /// Who wrote it, and when.
    pub stamp: Stamp,
    /// The apply position here.
    pub db_version: u64,
}

/// The name of the row-existence change.
pub const SENTINEL: &str = "-1";

/// A column's name as `cid` spells it. A column called `-1` would pass for the row's existence, so it is quoted;
/// and so is one that is called like that.
pub fn cid_of(name: &str) -> Cow<'_, str> {
    if name.trim_matches('"') == SENTINEL { format!("\"{name}\"").into() } else { name.into() }
}

/// The column that a `cid` names.
pub fn column_of(cid: &str) -> &str {
    match cid.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(name) if name.trim_matches('"') == SENTINEL => name,
        _ => cid,
    }
}

impl Loose {
    /// True for a row-existence change, and for every change of a dead row, which says the same.
    pub fn is_row(&self) -> bool {
        self.cid == SENTINEL || self.cl.is_multiple_of(2)
    }

    /// How its column merges.
    fn kind(&self) -> ColumnType {
        if self.is_row() { ColumnType::Register } else { ColumnType::of_cell(column_of(&self.cid)) }
    }

    /// The site whose part of a column it is, where each has a cell of its own; else empty.
    pub fn part(&self) -> &[u8] {
        if self.kind().is_parted() { &self.stamp.site.0 } else { &[] }
    }

    /// Whether `other` is of the same cell of the same row.
    pub fn is_same_cell(&self, cid: &str, site: &SiteId) -> bool {
        column_of(&self.cid) == cid && (!self.kind().is_parted() || self.stamp.site == *site)
    }
}

/// True when the row has begun another incarnation since, or its clock beats the change: it is nothing any more.
fn is_stale(state: &State, change: &Loose) -> Result<bool> {
    let Some(table) = state.table_named(&change.table)? else { return Ok(false) };
    let Ok(key) = crsql_core::pack::unpack(&change.pk) else { return Ok(false) };
    if key.len() != table.key_columns.len() {
        return Ok(false);
    }
    let Some(clock) = crate::merge::clock_by_key(state, &table, &key)? else { return Ok(false) };
    if change.cl != clock.cl {
        return Ok(change.cl < clock.cl);
    }
    let slot =
        if change.is_row() { Some(ROW) } else { table.column_of_cell(column_of(&change.cid)).map(|c| c.id) };
    let ordinal = state.store.borrow_mut().sites.ordinal(state.db, &change.stamp.site)?;
    let Some((slot, group)) = slot.and_then(|slot| Some((slot, clock.group_for(slot, ordinal)?))) else {
        return Ok(false);
    };
    let site = state.store.borrow_mut().sites.id(state.db, group.site)?;
    let stamp = Stamp { site, version: group.version, seq: group.seq_of(slot) };
    let typed = table.typed(slot).filter(|typed| slot == typed.slot);
    let value = match typed {
        Some(typed) if !typed.kind.is_parted() => crate::merge::cell_by_key(state, &table, &key, typed)?,
        _ => change.value.clone(),
    };
    let known = Loose { col_version: group.col_version, stamp, value, ..change.clone() };
    if typed.is_none() && state.tie_break()? == TieBreak::Value && change.col_version == known.col_version {
        // The value of the base row decides, which merging reads when the change is tried again.
        return Ok(change.stamp == known.stamp);
    }
    Ok(!beats(change, &known, TieBreak::Site))
}

/// Parks a change, unless one that beats it is known already; false then.
pub fn put(state: &State, change: &Loose, kind: Kind, reason: &str) -> Result<bool> {
    if is_stale(state, change)? {
        return Ok(false);
    }
    let cid = if change.cl.is_multiple_of(2) { SENTINEL } else { change.cid.as_str() };
    let name = ValueRef::Text(change.table.as_bytes());
    let place = place_of(state, change, kind)?;
    let pk = ValueRef::Blob(&place);
    let newest: Option<i64> = state
        .pool
        .prepare(state.db, "SELECT max(cl) FROM main.__crsql_parked WHERE table_name = ?1 AND pk = ?2")?
        .query_row(&[name, pk], |row| Ok(row.column_i64(0)))?;
    if newest.is_some_and(|cl| cl as u64 > change.cl) {
        return Ok(false);
    }
    if newest.is_some_and(|cl| (cl as u64) < change.cl) {
        state
            .pool
            .prepare(state.db, "DELETE FROM main.__crsql_parked WHERE table_name = ?1 AND pk = ?2")?
            .execute(&[name, pk])?;
    }
    let known = state
        .pool
        .prepare(state.db, &format!("{SELECT} WHERE table_name = ?1 AND pk = ?2 AND cid = ?3 AND part = ?4"))?
        .query_row(&[name, pk, ValueRef::Text(cid.as_bytes()), ValueRef::Blob(change.part())], read)?;
    let tie_break = state.tie_break()?;
    if known.is_some_and(|known| !beats(change, &known, tie_break)) {
        return Ok(false);
    }
    let rowid = state.db.last_insert_rowid();
    let db_version = state.next_db_version()?;
    let sql = "
        INSERT OR REPLACE INTO main.__crsql_parked
          (table_name, pk, cid, val, col_version, cl, site_id, site_version, seq, db_version, kind, reason, part)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    state.pool.prepare(state.db, sql)?.execute(&[
        name,
        pk,
        ValueRef::Text(cid.as_bytes()),
        change.value.as_ref(),
        ValueRef::Integer(change.col_version as i64),
        ValueRef::Integer(change.cl as i64),
        ValueRef::Blob(&change.stamp.site.0),
        ValueRef::Integer(change.stamp.version as i64),
        ValueRef::Integer(change.stamp.seq as i64),
        ValueRef::Integer(db_version as i64),
        ValueRef::Text(if kind == Kind::Schema { b"schema" } else { b"constraint" }),
        ValueRef::Text(reason.as_bytes()),
        ValueRef::Blob(change.part()),
    ])?;
    state.db.set_last_insert_rowid(rowid);
    state.note_parked();
    Ok(true)
}

/// The key under which a change waits. A cell that waits for its column may come under any spelling of its row's key
/// and is one cell all the same, so it waits under the canonical one. Whatever may tell the spelling keeps it.
fn place_of<'c>(state: &State, change: &'c Loose, kind: Kind) -> Result<Cow<'c, [u8]>> {
    if kind == Kind::Schema
        && !change.is_row()
        && let Some(table) = state.table_named(&change.table)?
        && let Ok(canonical) = canonical_packed_key(&change.pk, &table.key_columns)
    {
        return Ok(crate::changes::key_of_deleted(&table, &canonical.bytes)?.into());
    }
    Ok(Cow::Borrowed(&change.pk))
}

fn beats(change: &Loose, known: &Loose, tie_break: TieBreak) -> bool {
    if change.is_row() {
        return row_stamp_wins(Some(&known.stamp), &change.stamp);
    }
    let clock = |c: &Loose| CellClock { col_version: c.col_version, stamp: c.stamp };
    let (known_clock, clock) = (clock(known), clock(change));
    let known = (&known_clock, known.value.as_ref());
    cell_beats(change.kind(), Some(known), (&clock, change.value.as_ref()), tie_break)
}

/// Why a cell of a known table waits.
pub fn unknown_column(table: &Table, cid: &str) -> String {
    let (name, cell) = (&table.name, column_of(cid));
    let kind = ColumnType::of_cell(cell);
    let column = table.columns[..table.registers].iter().find(|column| kind.has_cell(&column.name, cell));
    match column.filter(|_| kind != ColumnType::Register) {
        None => format!("table {name:?} has no replicated column {cid:?} here"),
        Some(column) => {
            let declaration = crate::json::Object::new().text(&column.name, kind.name()).end();
            format!(
                "column {:?} of table {name:?} is of type \"{kind}\" where this comes from; declare it here with \
                 SELECT crsql_as_crr({}, {})",
                column.name,
                crate::schema::Literal(name),
                crate::schema::Literal(&format!("{{\"columns\":{declaration}}}")),
            )
        }
    }
}

/// Parks all changes of a row; tells how many were not known already.
pub fn row(
    state: &State,
    table: &Table,
    pk: &[u8],
    row: &Incoming<'_>,
    kind: Kind,
    reason: &str,
) -> Result<u64> {
    let mut parked = 0;
    for group in &row.clock.groups {
        let site = state.store.borrow_mut().sites.id(state.db, group.site)?;
        for slot in group.columns.iter() {
            let value = row.values.iter().find(|(id, _)| *id == slot).map(|(_, value)| value);
            let of_type = || row.cells.iter().find(|cell| cell.slot == slot && cell.site == group.site);
            let value = value.or_else(|| of_type().map(|cell| &cell.value)).map(ValueRef::to_owned_value);
            let cid = match slot {
                ROW => SENTINEL.to_owned(),
                id => table.column(id).map(|c| cid_of(&c.cell).into_owned()).unwrap_or_default(),
            };
            let change = Loose {
                table: table.name.clone(),
                pk: pk.to_vec(),
                cid,
                value: value.unwrap_or(Value::Null),
                col_version: if slot == ROW { row.clock.cl } else { group.col_version },
                cl: row.clock.cl,
                stamp: Stamp { site, version: group.version, seq: group.seq_of(slot) },
                db_version: 0,
            };
            parked += u64::from(put(state, &change, kind, reason)?);
        }
    }
    Ok(parked)
}

/// The columns that [`read`] expects.
pub const SELECT: &str =
    "SELECT table_name, pk, cid, val, col_version, cl, site_id, site_version, seq, db_version
 FROM main.__crsql_parked";

/// Reads a parked change from a row of [`SELECT`].
pub fn read(row: &Statement) -> Result<Loose> {
    Ok(Loose {
        table: row.column_str(0)?.to_owned(),
        pk: row.column_blob(1).to_vec(),
        cid: row.column_str(2)?.to_owned(),
        value: row.column_value(3).to_owned_value(),
        col_version: row.column_i64(4) as u64,
        cl: row.column_i64(5) as u64,
        stamp: Stamp {
            site: SiteId::try_from(row.column_blob(6)).map_err(Error::refused)?,
            version: row.column_i64(7) as u64,
            seq: row.column_i64(8) as u64,
        },
        db_version: row.column_i64(9) as u64,
    })
}

/// Calls `each` with every parked change after `since`, in the order of their apply positions.
pub fn scan(state: &State, since: u64, mut each: impl FnMut(Loose) -> Result<()>) -> Result<()> {
    let sql = format!("{SELECT} WHERE db_version > ?1 ORDER BY db_version, seq, id");
    let mut select = state.pool.prepare(state.db, &sql)?;
    let args = [ValueRef::Integer(i64::try_from(since).unwrap_or(i64::MAX))];
    let mut rows = select.query(&args)?;
    while rows.step()? {
        let change = read(&rows)?;
        if !is_stale(state, &change)? {
            each(change)?;
        }
    }
    Ok(())
}

/// The next parked change of a statement on [`SELECT`] that still means something.
pub fn next(state: &State, rows: &mut Statement) -> Result<Option<Loose>> {
    while rows.step()? {
        let change = read(rows)?;
        if !is_stale(state, &change)? {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

/// Writes what can be written by now. Call it inside a transaction that our table has joined, not in `sync`.
pub fn retry(state: &State) -> Result<()> {
    // What waits may have come by another connection, from sites that this one has not heard of.
    state.store.borrow_mut().refresh()?;
    let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
    {
        // What waits for a table that is not here is not even looked at: on a relay without a schema that is
        // everything, and every transaction would read all of it again.
        let mut select = state.db.prepare(
            "SELECT DISTINCT table_name, pk FROM main.__crsql_parked
             WHERE table_name IN (SELECT name FROM main.__crsql_table)",
        )?;
        while select.step()? {
            rows.push((select.column_str(0)?.to_owned(), select.column_blob(1).to_vec()));
        }
    }
    let _mute = state.mute();
    for (name, pk) in rows {
        if let Some(table) = state.table_named(&name)? {
            retry_row(state, &table, &pk)?;
            unite_spellings(state, &table, &pk)?;
        }
    }
    Ok(())
}

/// Moves what came under one spelling of a key before its table was known, and still waits for its column, to the
/// place of all spellings.
fn unite_spellings(state: &State, table: &Table, pk: &[u8]) -> Result<()> {
    let mut moved: Vec<(i64, Loose)> = Vec::new();
    {
        let sql = SELECT.replace(" FROM", ", id FROM");
        let mut select =
            state.db.prepare(&format!("{sql} WHERE table_name = ?1 AND pk = ?2 AND kind = 'schema'"))?;
        let args = [ValueRef::Text(table.name.as_bytes()), ValueRef::Blob(pk)];
        let mut rows = select.query(&args)?;
        while rows.step()? {
            let change = read(&rows)?;
            if *place_of(state, &change, Kind::Schema)? != *pk {
                moved.push((rows.column_i64(10), change));
            }
        }
    }
    moved.iter().try_for_each(|(id, change)| park_again(state, *id, change))
}

/// Parks what waits with this id as `change` instead, for the same reason. What waits there already goes on if it beats it.
pub fn park_again(state: &State, id: i64, change: &Loose) -> Result<()> {
    let id = [ValueRef::Integer(id)];
    let mut find =
        state.db.prepare("SELECT kind = 'schema', reason FROM main.__crsql_parked WHERE id = ?1")?;
    let known = find.query_row(&id, |row| Ok((row.column_i64(0) != 0, row.column_str(1)?.to_owned())))?;
    let Some((is_schema, reason)) = known else { return Ok(()) };
    state.db.prepare("DELETE FROM main.__crsql_parked WHERE id = ?1")?.execute(&id)?;
    put(state, change, if is_schema { Kind::Schema } else { Kind::Constraint }, &reason).map(drop)
}

/// Takes what waits for names that a plain ALTER has brought, before the first statement that may write: it sees
/// the row as it is.
pub fn take_for_new_columns(state: &State) -> Result<()> {
    if !state.store.borrow_mut().exists()? || !state.may_have_parked()? {
        return Ok(());
    }
    let mut names: Vec<String> = Vec::new();
    {
        let mut select = state.db.prepare("SELECT DISTINCT table_name FROM main.__crsql_parked")?;
        while select.step()? {
            names.push(select.column_str(0)?.to_owned());
        }
    }
    let (mut is_new, mut renamed) = (false, Vec::new());
    for name in names {
        if let Some(table) = state.table_named(&name)? {
            is_new |= !table.untriggered.is_empty();
            if table.is_renamed {
                renamed.push(table);
            }
        }
    }
    if !is_new && renamed.is_empty() {
        return Ok(());
    }
    crate::alter::atomically(state, || {
        crate::capture::enlist(state)?;
        renamed.iter().try_for_each(|table| crate::former::follow(state, table))?;
        retry(state)?;
        if !renamed.is_empty() {
            state.forget_schema();
        }
        Ok(())
    })
}

/// What is parked of a row and still means something, with its ids.
pub fn of_row(state: &State, table: &str, pk: &[u8]) -> Result<Vec<(i64, Loose)>> {
    let changes = all_of_row(state, table, pk)?;
    let mut means = Vec::new();
    for (id, change) in changes {
        if !is_stale(state, &change)? {
            means.push((id, change));
        }
    }
    Ok(means)
}

/// What is parked of a row, with its ids.
fn all_of_row(state: &State, table: &str, pk: &[u8]) -> Result<Vec<(i64, Loose)>> {
    let mut changes = Vec::new();
    let sql = SELECT.replace(" FROM", ", id FROM");
    let mut select = state.pool.prepare(state.db, &format!("{sql} WHERE table_name = ?1 AND pk = ?2"))?;
    let args = [ValueRef::Text(table.as_bytes()), ValueRef::Blob(pk)];
    let mut rows = select.query(&args)?;
    while rows.step()? {
        changes.push((rows.column_i64(10), read(&rows)?));
    }
    Ok(changes)
}

/// Forgets parked changes.
pub fn remove(state: &State, changes: &[(i64, Loose)]) -> Result<()> {
    let mut delete = state.pool.prepare(state.db, "DELETE FROM main.__crsql_parked WHERE id = ?1")?;
    changes.iter().try_for_each(|(id, _)| delete.execute(&[ValueRef::Integer(*id)]))
}

/// Tries the parked changes of one row, whose key came as `pk`.
pub fn retry_row(state: &State, table: &Table, pk: &[u8]) -> Result<()> {
    if hidden::is_hidden(state, table, pk)? {
        return Ok(());
    }
    let changes = all_of_row(state, &table.name, pk)?;
    write_row(state, table, pk, &changes).map(drop)
}

/// Writes parked changes of one row, as far as their columns are known. What is refused stays parked, with the reason.
pub fn write_row(state: &State, table: &Table, pk: &[u8], changes: &[(i64, Loose)]) -> Result<Outcome> {
    let is_known = |change: &&(i64, Loose)| {
        change.1.is_row() || table.column_of_cell(column_of(&change.1.cid)).is_some()
    };
    let changes: Vec<(i64, Loose)> = changes.iter().filter(is_known).cloned().collect();
    let Ok(key) = crsql_core::pack::unpack(pk) else { return Ok(Outcome::Ignored) };
    if changes.is_empty() || key.len() != table.key_columns.len() {
        return Ok(Outcome::Ignored);
    }
    let loose: Vec<&Loose> = changes.iter().map(|(_, change)| change).collect();
    let clock = clock_of(state, table, &loose)?;
    let mut values: Vec<(u32, ValueRef<'_>)> = Vec::new();
    let mut cells: Vec<TypedCell<'_>> = Vec::new();
    for (change, group) in loose.iter().zip(&clock.groups).filter(|(change, _)| !change.is_row()) {
        let Some(column) = table.column_of_cell(column_of(&change.cid)) else { continue };
        let (slot, site, kind, value) = (column.id, group.site, column.kind, change.value.as_ref());
        match kind {
            ColumnType::Register => values.push((slot, value)),
            _ => cells.push(TypedCell { slot, site, kind, value }),
        }
    }
    values.sort_by_key(|(id, _)| *id);
    // What waited is held here, whatever was collected since.
    let _source = merge_as(state, Source::Own);
    let incoming = Incoming { key: &key, clock, values: &values, cells: &cells };
    let outcome = if table.info.user_triggers.is_empty() {
        merge_row(state, table, &incoming)?
    } else {
        state.db.without_triggers(|| merge_row(state, table, &incoming))?
    };
    match &outcome {
        Outcome::Refused(reason) => {
            let mut update = state
                .db
                .prepare("UPDATE main.__crsql_parked SET kind = 'constraint', reason = ?2 WHERE id = ?1")?;
            changes.iter().try_for_each(|(id, _)| {
                update.execute(&[ValueRef::Integer(*id), ValueRef::Text(reason.as_bytes())])
            })?;
        }
        // What is hidden has been parked again, and may lie in the same place.
        Outcome::Hidden(_) | Outcome::Clash(_) => {}
        _ => {
            for change in &loose {
                let site = state.store.borrow_mut().sites.ordinal(state.db, &change.stamp.site)?;
                state.mark_loose(site, change.stamp.version)?;
            }
            remove(state, &changes)?;
        }
    }
    Ok(outcome)
}

/// The clock that loose changes of one row and one causal length make together.
pub fn clock_of(state: &State, table: &Table, changes: &[&Loose]) -> Result<RowClock> {
    let mut groups: SmallVec<[Group; 2]> = SmallVec::new();
    for change in changes {
        let slot = match change.is_row() {
            true => ROW,
            false => table.column_of_cell(column_of(&change.cid)).map_or(ROW, |column| column.id),
        };
        let only = Columns::one(slot);
        groups.push(Group {
            columns: only.clone(),
            rank: only,
            col_version: change.col_version,
            site: state.store.borrow_mut().sites.ordinal(state.db, &change.stamp.site)?,
            version: change.stamp.version,
            seq: change.stamp.seq,
            db_version: 0,
        });
    }
    Ok(RowClock { cl: changes.first().map_or(0, |change| change.cl), groups })
}
