//! `INSERT INTO crsql_changes`: a change merged at once, or, inside a statement of several rows, with its row.

use super::plan;
use crate::catalog::{Shape, Table};
use crate::merge::{self, Author, HeldRow, Incoming, Outcome};
use crate::park::{self, Kind, Loose, SENTINEL};
use crate::sqlite::{Args, Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Group, ROW, RowClock, is_part};
use crate::typed::TypedCell;
use crsql_core::collect::Admission;
use crsql_core::ids::SiteId;
use crsql_core::limits;
use crsql_core::merge::{Clocks, Stamp, TieBreak, validate, validate_row};
use crsql_core::pack::unpack;
use smallvec::SmallVec;
use std::rc::Rc;

/// The row that a statement of several rows is collecting.
#[derive(Default)]
pub struct Bracket {
    /// The savepoint of the statement, while one runs.
    open: Option<i32>,
    row: Option<Box<Collected>>,
    /// The memory of the row before.
    spare: Option<Box<Collected>>,
}

/// A row that is being collected, with the author of its last change.
struct Collected {
    table: Rc<Table>,
    pk: Vec<u8>,
    row: HeldRow,
    site: SiteId,
    version: u64,
    /// Where the table's list has the column after that of the last change.
    next_column: usize,
}

fn refuse<T>(reason: impl std::fmt::Display) -> Result<T> {
    Err(Error::refused(format_args!("crsql_changes: {reason}")))
}

fn integer(values: &Args<'_>, column: usize, name: &str) -> Result<i64> {
    match values.get(column) {
        ValueRef::Integer(value) => Ok(value),
        _ => refuse(format_args!("{name} must be an integer")),
    }
}

fn text<'a>(values: &Args<'a>, column: usize, name: &str, max: usize) -> Result<&'a str> {
    let ValueRef::Text(text) = values.get(column) else { return refuse(format_args!("{name} must be text")) };
    if text.len() > max {
        return Err(Error::refused(format_args!("crsql - {name} name exceeded max length of {max} bytes")));
    }
    if text.contains(&0) {
        return refuse(format_args!("{name} contains a NUL, which no name can"));
    }
    std::str::from_utf8(text).or_else(|_| refuse(format_args!("{name} is not valid UTF-8")))
}

/// Merges one change. Returns the rowid that `last_insert_rowid()` gets: the change's if it won, else the same.
pub fn insert(state: &State, values: &Args<'_>) -> Result<i64> {
    if let Some(rowid) = continue_row(state, values) {
        return Ok(rowid);
    }
    if let Some(rowid) = next_cell(state, values)? {
        return Ok(rowid);
    }
    let name = text(values, plan::TABLE, "table", limits::TABLE_NAME_MAX)?;
    let ValueRef::Blob(pk) = values.get(plan::PK) else {
        return refuse("pk must be a blob of packed values");
    };
    let cid = text(values, plan::CID, "column", limits::COLUMN_NAME_MAX)?;
    let ValueRef::Blob(site) = values.get(plan::SITE_ID) else {
        return refuse("site_id must be a blob of 16 bytes");
    };
    let Ok(site) = SiteId::try_from(site) else {
        return refuse(format_args!("site id must be a blob of 16 bytes, not {}", site.len()));
    };
    let version = match values.get(plan::SITE_VERSION) {
        // Not given: the nine columns of cr-sqlite. The identity is unknown.
        ValueRef::Null => 0,
        ValueRef::Integer(version) => version,
        _ => return refuse("site_version must be an integer"),
    };
    if !matches!(values.get(plan::DB_VERSION), ValueRef::Integer(_) | ValueRef::Null) {
        return refuse("db_version must be an integer");
    }
    let cl = integer(values, plan::CL, "cl")?;
    let col_version = integer(values, plan::COL_VERSION, "col_version")?;
    let seq = integer(values, plan::SEQ, "seq")?;
    let clocks = Clocks::from_signed(cl, col_version, version, seq).or_else(refuse)?;
    let is_row = cid == SENTINEL || clocks.cl % 2 == 0;
    if cid == SENTINEL { validate_row(&clocks) } else { validate(&clocks) }.or_else(refuse)?;
    let key = unpack(pk).or_else(|e| refuse(format_args!("pk of table {name:?}: {e}")))?;
    state.create()?;
    state.check_suspect_schema()?;
    let loose = || Loose {
        table: name.to_owned(),
        pk: pk.to_vec(),
        cid: if is_row { SENTINEL.to_owned() } else { cid.to_owned() },
        value: if is_row { crsql_core::value::Value::Null } else { values.get(plan::VAL).to_owned_value() },
        col_version: clocks.col_version,
        cl: clocks.cl,
        stamp: Stamp { site, version: clocks.version, seq: clocks.seq },
        db_version: 0,
    };
    state.see_own(&site, clocks.version)?;
    let ordinal = state.store.borrow_mut().sites.ordinal(state.db, &site)?;
    state.note_loose(ordinal, clocks.version)?;
    let Some(table) = known_table(state, name)? else {
        match crate::collect::admit_parked(state, &loose())? {
            Admission::Take => {}
            Admission::Known => return Ok(state.db.last_insert_rowid()),
            Admission::Behind => return refuse(format_args!("table {name:?}: {}", crate::collect::BEHIND)),
        }
        park::put(state, &loose(), Kind::Schema, &format!("table {name:?} is not replicated here"))?;
        return Ok(state.db.last_insert_rowid());
    };
    let slot = match is_row {
        true => ROW,
        false => match known_column(state, &table, park::column_of(cid))? {
            Some(id) => id,
            None => {
                let reason = park::unknown_column(&table, cid);
                if key.len() == table.key_columns.len() {
                    // The row's incarnation begins all the same, after what came before in this statement.
                    flush(state)?;
                    let clock = RowClock { cl: clocks.cl, groups: SmallVec::new() };
                    let _mute = state.mute();
                    merge::hold(state, &table, pk, &Incoming { key: &key, clock, values: &[], cells: &[] })?;
                }
                park::put(state, &loose(), Kind::Schema, &reason)?;
                return Ok(state.db.last_insert_rowid());
            }
        },
    };
    let table = state.table(table.id)?;
    if table.shape != Shape::Integer || !matches!(key[..], [ValueRef::Integer(_)]) {
        crsql_core::key::canonical_key(&key, &table.key_columns)
            .or_else(|e| refuse(format_args!("pk of table {name:?}: {e}")))?;
    }
    let only = Columns::one(slot);
    let group = Group {
        columns: only.clone(),
        rank: only,
        col_version: clocks.col_version,
        site: ordinal,
        version: clocks.version,
        seq: clocks.seq,
        db_version: 0,
    };
    let clock = RowClock { cl: clocks.cl, groups: SmallVec::from_iter([group]) };
    let value = [(slot, values.get(plan::VAL))];
    if !table.typed.is_empty() {
        return insert_typed(state, &table, pk, &key, clock, (!is_row).then_some(value[0]));
    }
    let incoming = Incoming { key: &key, clock, values: if is_row { &[] } else { &value }, cells: &[] };
    if is_collected(state, &table, pk, &incoming, &site)? {
        return Ok(rowid(&table, pk, slot, 0));
    }
    let _mute = state.mute();
    let is_new = merge::hold_next(state, &table, pk, &incoming)?;
    if let Some(mut known) = state.last_merged.take().filter(|known| known.is_of(state, &table, pk)) {
        let version = clocks.version;
        known.author = Some(Author { table: table.clone(), site, ordinal, version });
        state.last_merged.set(Some(known));
    }
    if state.may_have_parked()? || table.is_related {
        reconsider(state, &table, pk)?;
    }
    if is_new {
        state.rows_impacted.set(state.rows_impacted.get() + 1);
        state.spill_if_heavy()?;
        return Ok(rowid(&table, pk, slot, 0));
    }
    Ok(state.db.last_insert_rowid())
}

/// Merges one change of a table that has typed columns. These come one by one: what they show is read from the row, so
/// it is written each time.
fn insert_typed(
    state: &State,
    table: &Rc<Table>,
    pk: &[u8],
    key: &[ValueRef<'_>],
    clock: RowClock,
    value: Option<(u32, ValueRef<'_>)>,
) -> Result<i64> {
    flush(state)?;
    let group = &clock.groups[0];
    let slot = value.map_or(ROW, |(slot, _)| slot);
    let rowid = rowid(table, pk, slot, group.site);
    let typed = table.typed(slot).filter(|typed| typed.slot == slot);
    let cell = typed.zip(value).map(|(typed, (slot, value))| TypedCell {
        slot,
        site: group.site,
        kind: typed.kind,
        value,
    });
    let value = value.filter(|_| cell.is_none());
    let incoming = Incoming { key, clock, values: value.as_slice(), cells: cell.as_slice() };
    let is_new = {
        let _mute = state.mute();
        let is_new = merge::hold(state, table, pk, &incoming)?;
        if state.may_have_parked()? || table.is_related {
            reconsider(state, table, pk)?;
        }
        is_new
    };
    if !is_new {
        return Ok(state.db.last_insert_rowid());
    }
    state.rows_impacted.set(state.rows_impacted.get() + 1);
    state.spill_if_heavy()?;
    Ok(rowid)
}

/// What of the row waits is tried again, and rows that hang on each other are shown and hidden.
fn reconsider(state: &State, table: &Table, pk: &[u8]) -> Result<()> {
    if state.may_have_parked()? {
        park::retry_row(state, table, pk)?;
    }
    merge::hidden::resolve(state)
}

fn known_table(state: &State, name: &str) -> Result<Option<Rc<Table>>> {
    if let Some(table) = state.table_named(name)? {
        return Ok(Some(table));
    }
    // It may have come since this connection looked.
    state.check_schema()?;
    state.table_named(name)
}

fn known_column(state: &State, table: &Table, name: &str) -> Result<Option<u32>> {
    if let Some(column) = table.column_of_cell(name) {
        return Ok(Some(column.id));
    }
    state.check_schema()?;
    Ok(state.table(table.id)?.column_of_cell(name).map(|column| column.id))
}

fn rowid(table: &Table, pk: &[u8], slot: u32, site: u32) -> i64 {
    Mixer::default().bytes(pk).number(u64::from(table.id)).number(cell_number(slot, site)).rowid()
}

/// Tells the cells of a row apart.
#[inline]
pub fn cell_number(slot: u32, site: u32) -> u64 {
    u64::from(slot) | if is_part(slot) { u64::from(site) << 32 } else { 0 }
}

/// Makes rowids of what names a change. They are compared within one database only, and nobody gains by making two
/// changes share one, so this is a quick hash and not a cryptographic one.
#[derive(Clone, Copy, Default)]
pub struct Mixer(u64);

impl Mixer {
    /// Adds a number.
    #[inline]
    pub fn number(self, number: u64) -> Mixer {
        let product = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        Mixer((product as u64) ^ ((product >> 64) as u64).rotate_left(29))
    }

    /// Adds bytes with their length.
    #[inline]
    pub fn bytes(mut self, bytes: &[u8]) -> Mixer {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self = self.number(u64::from_le_bytes(*word));
        }
        let tail = rest.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        self.number(tail).number(bytes.len() as u64)
    }

    /// A positive rowid.
    #[inline]
    pub fn rowid(self) -> i64 {
        (self.number(0).0 >> 1) as i64
    }
}

// --- statements of several rows ---------------------------------------------------------------------------

/// The table joins a transaction. Where that is one statement of several rows, without BEGIN, it has no savepoint of its
/// own: it collects until the commit.
pub fn open_for_transaction(state: &State) {
    if state.db.is_autocommit() && state.db.busy_writer_sql().is_some_and(|sql| writes_many(&sql)) {
        // Outside of every savepoint.
        state.bracket.borrow_mut().open = Some(-1);
    }
}

/// The transaction is about to commit: the last row of its one statement is written.
pub fn close_for_commit(state: &State) -> Result<()> {
    if state.bracket.borrow().row.is_none() {
        return Ok(());
    }
    // Our triggers write to a virtual table, which SQLite forbids while it commits; muted, they do nothing anyway.
    state.is_committing.set(true);
    let done = state.db.without_triggers(|| flush(state));
    state.is_committing.set(false);
    done
}

/// A savepoint opened: of a statement, or of the user, in which single statements still write at once.
pub fn open_bracket(state: &State, n: i32) {
    if state.bracket.borrow().open.is_some() || !state.db.has_busy_writer() {
        return;
    }
    // While the table joins the transaction SQLite tells of the innermost savepoint, whoever opened it. A statement
    // has one of its own only if it may write several rows, and only the end of its own is told in time.
    let is_joining = state.is_joining.replace(false);
    if is_joining && !state.db.busy_writer_sql().is_some_and(|sql| writes_many(&sql)) {
        return;
    }
    state.bracket.borrow_mut().open = Some(n);
}

/// Whether an INSERT may write more than one row: from a query, or from several tuples.
fn writes_many(sql: &str) -> bool {
    let mut depth = 0i32;
    let mut tuples = 0;
    for token in crate::schema::tokens::tokenize(sql) {
        match token.text {
            "(" => {
                tuples += i32::from(depth == 0);
                depth += 1;
            }
            ")" => depth -= 1,
            text if text.eq_ignore_ascii_case("select") => return true,
            text if text.eq_ignore_ascii_case("values") => tuples = 0,
            _ => {}
        }
    }
    tuples > 1
}

/// The statement ended well: its last row is written.
pub fn close_bracket(state: &State, n: i32) -> Result<()> {
    let is_open = state.bracket.borrow().open.is_some_and(|open| open >= n);
    if is_open {
        flush(state)?;
        state.bracket.borrow_mut().open = None;
    }
    Ok(())
}

/// The statement failed.
pub fn drop_bracket(state: &State, n: i32) {
    if state.muted.get() > 0 {
        return;
    }
    let mut bracket = state.bracket.borrow_mut();
    if bracket.open.is_some_and(|open| open >= n) {
        bracket.open = None;
    }
    bracket.row = None;
}

/// Adds a change to the row that is being collected when it is one more cell of it by the same author: all that can be
/// refused of it was looked at with the row's first. `None`: it has to be looked at.
fn continue_row(state: &State, values: &Args<'_>) -> Option<i64> {
    let mut bracket = state.bracket.borrow_mut();
    let Bracket { open: Some(_), row: Some(collected), .. } = &mut *bracket else { return None };
    let Collected { table, pk, row, site, version, next_column } = &mut **collected;
    let (clocks, at) = cell_of(values, pk, table, site, *version, row.cl(), *next_column)?;
    let slot = table.columns[at].id;
    if !row.add_cell(slot, clocks.col_version, clocks.seq, values.get(plan::VAL)) {
        return None;
    }
    *next_column = at + 1;
    Some(rowid(table, pk, slot, 0))
}

/// The clocks of a change, and where its table's list has its column, if it is a cell of this live row by this author
/// in this version.
fn cell_of(
    values: &Args<'_>,
    pk: &[u8],
    table: &Table,
    site: &SiteId,
    version: u64,
    cl: u64,
    next_column: usize,
) -> Option<(Clocks, usize)> {
    let is_of_row = values.is_blob(plan::PK, pk)
        && values.is_text(plan::TABLE, table.name.as_bytes())
        && values.is_blob(plan::SITE_ID, &site.0);
    if !is_of_row {
        return None;
    }
    let site_version = match values.get(plan::SITE_VERSION) {
        ValueRef::Null => 0,
        ValueRef::Integer(version) => version,
        _ => return None,
    };
    if !matches!(values.get(plan::DB_VERSION), ValueRef::Integer(_) | ValueRef::Null) {
        return None;
    }
    let col_version = values.integer(plan::COL_VERSION)?;
    let (claimed, seq) = (values.integer(plan::CL)?, values.integer(plan::SEQ)?);
    let clocks = Clocks::from_signed(claimed, col_version, site_version, seq).ok()?;
    if clocks.version != version || clocks.cl != cl || cl.is_multiple_of(2) {
        return None;
    }
    validate(&clocks).ok()?;
    let ValueRef::Text(cid) = values.get(plan::CID) else { return None };
    if cid == SENTINEL.as_bytes() || cid.starts_with(b"\"") {
        // The row's existence, or a column that is perhaps spelled otherwise: see `park::column_of`.
        return None;
    }
    // Mostly the column after the last one.
    let at = match table.columns.get(next_column) {
        Some(next) if next.cell.as_bytes() == cid => next_column,
        _ => table.columns.iter().position(|column| column.cell.as_bytes() == cid)?,
    };
    Some((clocks, at))
}

/// Merges a change that is one more cell of the row that was merged last, by the same author: all that can be refused
/// of it was looked at with the one before. `None`: it has to be looked at.
fn next_cell(state: &State, values: &Args<'_>) -> Result<Option<i64>> {
    if state.bracket.borrow().open.is_some() || state.is_schema_suspect() || !state.held.borrow().is_empty() {
        return Ok(None);
    }
    let Some(known) = state.last_merged.take() else { return Ok(None) };
    let cell = known.author.as_ref().filter(|_| known.is_fresh(state)).and_then(|author| {
        let Author { table, site, version, .. } = author;
        cell_of(values, &known.pk, table, site, *version, known.cl(), usize::MAX)
    });
    let (Some(author), Some((clocks, at))) = (&known.author, cell) else {
        state.last_merged.set(Some(known));
        return Ok(None);
    };
    let table = author.table.clone();
    let is_simple = table.shape != Shape::Packed
        && table.typed.is_empty()
        && table.info.user_triggers.is_empty()
        && !table.is_related
        && state.tie_break()? == TieBreak::Site
        && !state.may_have_parked()?;
    if !is_simple {
        state.last_merged.set(Some(known));
        return Ok(None);
    }
    let slot = table.columns[at].id;
    let only = Columns::one(slot);
    let group = Group {
        columns: only.clone(),
        rank: only,
        col_version: clocks.col_version,
        site: author.ordinal,
        version: clocks.version,
        seq: clocks.seq,
        db_version: 0,
    };
    let rowid = rowid(&table, &known.pk, slot, 0);
    let clock = RowClock { cl: clocks.cl, groups: SmallVec::from_iter([group]) };
    let value = [(slot, values.get(plan::VAL))];
    let _mute = state.mute();
    match known.merge(state, &table, &Incoming { key: &[], clock, values: &value, cells: &[] })? {
        Outcome::Applied(_) => {
            state.rows_impacted.set(state.rows_impacted.get() + 1);
            state.spill_if_heavy()?;
            Ok(Some(rowid))
        }
        Outcome::Ignored => Ok(Some(state.db.last_insert_rowid())),
        // Nothing was written; it is told why when the change is looked at from the start.
        Outcome::Refused(_) | Outcome::Clash(_) | Outcome::Hidden(_) | Outcome::Behind => Ok(None),
    }
}

/// Adds a change to the row that is being collected; false when no statement collects.
fn is_collected(
    state: &State,
    table: &Rc<Table>,
    pk: &[u8],
    incoming: &Incoming<'_>,
    site: &SiteId,
) -> Result<bool> {
    {
        let bracket = state.bracket.borrow();
        // The last row of a statement that commits by itself would be written while triggers can't fire.
        if bracket.open.is_none() || (table.fires && bracket.open == Some(-1)) {
            return Ok(false);
        }
        let continues = bracket.row.as_ref().is_some_and(|known| {
            known.table.id == table.id && known.pk == pk && known.row.continues(incoming)
        });
        if !continues {
            drop(bracket);
            flush(state)?;
        }
    }
    let version = incoming.clock.groups.first().map_or(0, |group| group.version);
    let slot = incoming.values.first().map(|(slot, _)| *slot);
    let next_column =
        slot.and_then(|slot| table.columns.iter().position(|c| c.id == slot)).map_or(0, |at| at + 1);
    let mut bracket = state.bracket.borrow_mut();
    let Bracket { row, spare, .. } = &mut *bracket;
    let collected = row.get_or_insert_with(|| match spare.take() {
        Some(mut spare) => {
            spare.table = table.clone();
            spare.pk.extend_from_slice(pk);
            spare
        }
        None => Box::new(Collected {
            table: table.clone(),
            pk: pk.to_vec(),
            row: HeldRow::default(),
            site: *site,
            version,
            next_column,
        }),
    });
    collected.row.add(incoming);
    (collected.site, collected.version, collected.next_column) = (*site, version, next_column);
    Ok(true)
}

/// Writes the row that was collected so far.
pub fn flush(state: &State) -> Result<()> {
    let Some(mut collected) = state.bracket.borrow_mut().row.take() else { return Ok(()) };
    let cells = collected.row.cells();
    let is_new = {
        let Collected { table, pk, row, .. } = &mut *collected;
        let key = unpack(pk).map_err(Error::refused)?;
        let clock = row.take_clock();
        let values = row.values();
        let incoming = Incoming { key: &key, clock, values: &values, cells: &[] };
        let _mute = state.mute();
        let is_new = merge::hold(state, table, pk, &incoming)?;
        if state.may_have_parked()? || table.is_related {
            reconsider(state, table, pk)?;
        }
        is_new
    };
    collected.pk.clear();
    collected.row.clear();
    state.bracket.borrow_mut().spare = Some(collected);
    if is_new {
        state.rows_impacted.set(state.rows_impacted.get() + cells);
        state.spill_if_heavy()?;
    }
    Ok(())
}
