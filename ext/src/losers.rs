//! `crsql_losers`: values that lost a merge, for tables that ask for it, and the way to bring one back.
//!
//! A merge keeps one value of a register and drops the other. A table with the option `"losers": n` keeps the last n
//! dropped ones on this replica: who wrote each, who won, and when it was noticed here. They do not travel and
//! are in no digest. Which losses are worth keeping is `crsql_core::merge::loss`'s decision.

use crate::catalog::Table;
use crate::merge::{Incoming, Order, RowPlace, shown_value};
use crate::schema::Ident;
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Group, ROW, RowClock};
use crsql_core::key::canonical_key;
use crsql_core::merge::{CellClock, Loss, Write, loss};
use crsql_core::value::Value;

/// Made when the first table asks for it.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS main.__crsql_loser (
  id INTEGER PRIMARY KEY,
  table_id INTEGER NOT NULL,
  pk BLOB NOT NULL,
  column_id INTEGER NOT NULL,
  val,
  cl INTEGER NOT NULL,
  col_version INTEGER NOT NULL,
  site_id BLOB NOT NULL,
  site_version INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  winner_cl INTEGER NOT NULL,
  winner_site_id BLOB NOT NULL,
  winner_site_version INTEGER NOT NULL,
  is_concurrent INTEGER NOT NULL,
  noticed_at INTEGER NOT NULL,
  UNIQUE (table_id, pk, column_id, cl, col_version, site_id, site_version, seq)
);
CREATE VIEW IF NOT EXISTS main.crsql_losers AS
SELECT l.id, t.name AS \"table\", l.pk, c.name AS cid, l.val, l.site_id, l.site_version,
       l.winner_site_id, l.winner_site_version,
       CASE WHEN l.winner_cl = l.cl THEN 'write' WHEN l.winner_cl % 2 = 0 THEN 'delete' ELSE 'replace' END AS lost_to,
       l.is_concurrent AS concurrent, l.noticed_at
FROM __crsql_loser AS l
JOIN __crsql_table AS t ON t.id = l.table_id
JOIN __crsql_column AS c ON c.table_id = l.table_id AND c.id = l.column_id
WHERE t.name <> '' AND c.name <> ''";

/// Makes the table and its view, if they are not there.
pub fn create(state: &State) -> Result<()> {
    state.db.exec(TABLE)
}

/// Forgets what a table lost.
pub fn forget_table(state: &State, table: u32) -> Result<()> {
    if state.db.has_table("__crsql_loser")? {
        let id = [ValueRef::Integer(i64::from(table))];
        state.db.prepare("DELETE FROM main.__crsql_loser WHERE table_id = ?1")?.execute(&id)?;
    }
    Ok(())
}

/// One that lost, and what it lost to.
struct Lost<'a> {
    slot: u32,
    value: ValueRef<'a>,
    loser: Write,
    winner: Write,
    loss: Loss,
}

/// Before the changes of a live row's incarnation are written of which `winners` win: keeps what is lost, of them or of
/// the row.
#[cold]
pub fn in_row(
    state: &State,
    table: &Table,
    row: &Incoming<'_>,
    place: &RowPlace,
    local: &RowClock,
    winners: &[Group],
) -> Result<()> {
    let order = Order { state, db: state.db };
    let here = crate::site::site_id(state)?;
    for group in &row.clock.groups {
        for slot in registers_in(table, group) {
            let Some(ours) = local.group_of(slot) else { continue };
            let write = |clock| Write { cl: local.cl, clock };
            let (mine, theirs) = (write(order.cell(ours, slot)?), write(order.cell(group, slot)?));
            if mine.clock.stamp == theirs.clock.stamp {
                continue;
            }
            let wins =
                winners.iter().any(|winner| winner.site == group.site && winner.columns.contains(slot));
            let shown = shown_value(state, table, place.rowid, row.key, slot)?;
            let told = value_of(row, slot);
            if shown.as_ref().cmp_total(&told).is_eq() {
                continue;
            }
            let (winner, loser, value) =
                if wins { (theirs, mine, shown.as_ref()) } else { (mine, theirs, told) };
            let is_news = !wins && is_news(state, group)?;
            let loss = loss(&winner, &loser, here, is_news);
            keep(state, table, row.key, Lost { slot, value, loser, winner, loss })?;
        }
    }
    Ok(())
}

/// Keeps what changes of an incarnation that is over would have said.
#[cold]
pub fn too_late(state: &State, table: &Table, row: &Incoming<'_>, local: &RowClock) -> Result<()> {
    let Some(winner) = author_of(state, local)? else { return Ok(()) };
    let here = crate::site::site_id(state)?;
    let order = Order { state, db: state.db };
    for group in row.clock.groups.iter().filter(|_| row.clock.is_alive()) {
        let is_news = is_news(state, group)?;
        for slot in registers_in(table, group) {
            let loser = Write { cl: row.clock.cl, clock: order.cell(group, slot)? };
            let loss = loss(&winner, &loser, here, is_news);
            keep(state, table, row.key, Lost { slot, value: value_of(row, slot), loser, winner, loss })?;
        }
    }
    Ok(())
}

/// Before a live row ends or begins anew: keeps what it holds of this site's.
#[cold]
pub fn with_row(
    state: &State,
    table: &Table,
    row: &Incoming<'_>,
    place: &RowPlace,
    local: &RowClock,
) -> Result<()> {
    let Some(winner) = author_of(state, &row.clock)? else { return Ok(()) };
    let here = crate::site::site_id(state)?;
    let order = Order { state, db: state.db };
    for group in local.groups.iter().filter(|_| local.is_alive()) {
        for slot in registers_in(table, group) {
            let loser = Write { cl: local.cl, clock: order.cell(group, slot)? };
            let loss = loss(&winner, &loser, here, false);
            if loss != Loss::Ordinary {
                let value = shown_value(state, table, place.rowid, row.key, slot)?;
                keep(state, table, row.key, Lost { slot, value: value.as_ref(), loser, winner, loss })?;
            }
        }
    }
    Ok(())
}

/// The registers of a table without a type of their own, of those in `group`.
fn registers_in<'a>(table: &'a Table, group: &'a Group) -> impl Iterator<Item = u32> + 'a {
    group.columns.iter().filter(|slot| *slot != ROW && table.typed(*slot).is_none())
}

fn value_of<'a>(row: &Incoming<'a>, slot: u32) -> ValueRef<'a> {
    row.values.iter().find(|(id, _)| *id == slot).map_or(ValueRef::Null, |(_, value)| *value)
}

/// Who began or ended the row's incarnation, if that is known: cells alone don't tell.
fn author_of(state: &State, clock: &RowClock) -> Result<Option<Write>> {
    let Some((group, slot)) = clock.existence() else { return Ok(None) };
    let CellClock { stamp, .. } = (Order { state, db: state.db }).cell(group, slot)?;
    Ok(Some(Write { cl: clock.cl, clock: CellClock { col_version: clock.cl, stamp } }))
}

/// Whether a version was unknown here until this change came. Of one without identity nobody can tell.
fn is_news(state: &State, group: &Group) -> Result<bool> {
    Ok(group.version > 0 && !state.store.borrow_mut().holds_version(group.site, group.version)?)
}

fn keep(state: &State, table: &Table, key: &[ValueRef<'_>], lost: Lost<'_>) -> Result<()> {
    if lost.loss == Loss::Ordinary {
        return Ok(());
    }
    let integer = |number: u64| ValueRef::Integer(number as i64);
    let canonical = canonical_key(key, &table.key_columns)
        .map_err(|error| Error::refused(format_args!("table {:?}: {error}", table.name)))?;
    let Lost { loser, winner, .. } = &lost;
    let (of, by) = (&loser.clock.stamp, &winner.clock.stamp);
    state
        .db
        .prepare(
            "INSERT OR IGNORE INTO main.__crsql_loser (table_id, pk, column_id, val, cl, col_version, site_id, site_version,
               seq, winner_cl, winner_site_id, winner_site_version, is_concurrent, noticed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
               CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))",
        )?
        .execute(&[
            integer(u64::from(table.id)),
            ValueRef::Blob(&canonical.bytes),
            integer(u64::from(lost.slot)),
            lost.value,
            integer(loser.cl),
            integer(loser.clock.col_version),
            ValueRef::Blob(&of.site.0),
            integer(of.version),
            integer(of.seq),
            integer(winner.cl),
            ValueRef::Blob(&by.site.0),
            integer(by.version),
            ValueRef::Integer(i64::from(lost.loss == Loss::Concurrent)),
        ])?;
    // The oldest ones go. Ids grow, and those of other tables lie between.
    state
        .db
        .prepare(
            "DELETE FROM main.__crsql_loser WHERE table_id = ?1 AND id <=
               (SELECT id FROM main.__crsql_loser WHERE table_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(&[integer(u64::from(table.id)), integer(u64::from(table.losers))])
}

const NAME: &str = "crsql_bring_back";

/// Writes a lost value to its cell as a new write of this site, and strikes it from the list.
///
/// # Errors
/// Names the row or the column when it is not there any more; whatever the table's constraints refuse.
pub fn bring_back(state: &State, id: i64) -> Result<()> {
    let gone = || {
        Error::refused(format_args!(
            "{NAME}: there is no row with the id {id} in crsql_losers; look there for one"
        ))
    };
    crate::alter::enter(state)?;
    if !state.db.has_table("__crsql_loser")? {
        return Err(gone());
    }
    crate::alter::atomically(state, || write_back(state, id, gone))
}

fn write_back(state: &State, id: i64, gone: impl Fn() -> Error) -> Result<()> {
    let by_id = [ValueRef::Integer(id)];
    let mut select =
        state.db.prepare("SELECT table_id, pk, column_id, val FROM main.__crsql_loser WHERE id = ?1")?;
    let found = select.query_row(&by_id, |row| {
        let (table, column) = (row.column_i64(0) as u32, row.column_i64(2) as u32);
        Ok((table, row.column_blob(1).to_owned(), column, row.column_value(3).to_owned_value()))
    })?;
    drop(select);
    let (table, pk, column, value): (u32, Vec<u8>, u32, Value) = found.ok_or_else(gone)?;
    let table = state.table(table)?;
    let Some(column) = table.column(column) else {
        return Err(Error::refused(format_args!(
            "{NAME}: table {:?} does not have the column any more",
            table.name
        )));
    };
    let key = crsql_core::pack::unpack(&pk).map_err(Error::refused)?;
    let condition = table.key_condition();
    let sql = format!(
        "UPDATE {} SET {} = ?{} WHERE {condition}",
        table.sql_name(),
        Ident(&column.name),
        table.key_names.len() + 1
    );
    let params: Vec<ValueRef<'_>> = key.iter().copied().chain([value.as_ref()]).collect();
    state.db.prepare(&sql)?.execute(&params)?;
    if state.db.changes64() == 0 {
        return Err(Error::refused(format_args!(
            "{NAME}: the row of table {:?} that the value was in is not there any more; insert it first",
            table.name
        )));
    }
    state.db.prepare("DELETE FROM main.__crsql_loser WHERE id = ?1")?.execute(&by_id)
}
