//! Rows that wait for their parents: `'{"fk":"park"}'` and `'{"fk":"cascade"}'`.
//!
//! An orphan is hidden like a row that clashes; `__crsql_orphan` says which parent it waits for. Nobody is told when a
//! row comes or goes, so what happens to parents and children in a transaction is noted here, and looked at when
//! hidden rows are reconsidered: a parent that is gone leads to its children, one that is there to those that wait.

use super::{Hidden, LOOKED_UP_MAX, doubt, has_hidden, hide_shown, keys};
use crate::catalog::{Link, Table};
use crate::merge::row;
use crate::park::{self, Loose};
use crate::sqlite::{Error, Result, Statement, ValueRef};
use crate::state::State;
use crsql_core::key::canonical_key;
use crsql_core::value::Value;

/// What orphans wait for. Made with the first table that asks for it.
pub const TABLE: &str = "
CREATE TABLE IF NOT EXISTS main.__crsql_orphan (
  table_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  parent_id INTEGER NOT NULL,
  is_key INTEGER NOT NULL,
  wanted BLOB NOT NULL,
  PRIMARY KEY (table_id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS main.__crsql_orphan_of ON __crsql_orphan (parent_id, is_key, wanted)";

/// What a row needs and does not find.
pub struct Missing {
    /// The position of its FOREIGN KEY among the table's links.
    pub link: usize,
    /// The values, packed, as the parent tells them apart.
    pub wanted: Vec<u8>,
}

// --- what happened --------------------------------------------------------------------------------------------

/// A row was written: whether its parents are there is to be looked at.
pub fn suspect(state: &State, table: u32, key: Vec<u8>) {
    let mut suspects = state.suspects.borrow_mut();
    if !suspects.contains(&(table, Vec::new())) {
        suspects.insert((table, key));
        if suspects.len() as u64 > LOOKED_UP_MAX {
            suspects.retain(|(id, _)| *id != table);
            suspects.insert((table, Vec::new()));
        }
    }
}

/// All rows of a table are to be looked at.
pub fn suspect_all(state: &State, table: u32) {
    state.suspects.borrow_mut().insert((table, Vec::new()));
}

/// A row to which others may refer came, went or changed; `had_children` if some may have referred to it before.
pub fn changed(state: &State, table: u32, key: Vec<u8>, had_children: bool) {
    let mut changed = state.changed_parents.borrow_mut();
    let all = (table, Vec::new());
    if let Some(known) = changed.get_mut(&all) {
        *known |= had_children;
        return;
    }
    *changed.entry((table, key)).or_default() |= had_children;
    if changed.len() as u64 > LOOKED_UP_MAX {
        let of_table = |(id, _): &&(u32, Vec<u8>)| *id == table;
        let had_children = changed.iter().filter(|(key, _)| of_table(key)).any(|(_, had)| *had);
        changed.retain(|(id, _), _| *id != table);
        changed.insert(all, had_children);
    }
}

/// Any row of a table may have come, gone or changed.
pub fn changed_all(state: &State, table: u32) {
    state.changed_parents.borrow_mut().insert((table, Vec::new()), true);
}

/// Leads from parents that changed to those that wait for them and to those that may have lost them.
pub fn spread(state: &State) -> Result<()> {
    let changed = std::mem::take(&mut *state.changed_parents.borrow_mut());
    for ((id, key), had_children) in changed {
        let Ok(table) = state.table(id) else { continue };
        let parent = crsql_core::pack::unpack(&key).unwrap_or_default();
        let is_shown = !key.is_empty() && is_shown(state, &table, &parent)?;
        for child in &table.referrers {
            let Ok(child) = state.table(*child) else { continue };
            if has_hidden(state, child.id)? {
                doubt_waiting(state, child.id, id, &key)?;
            }
            for link in child.links.iter().filter(|link| link.parent == id && had_children) {
                if key.is_empty() || !link.is_key || !link.is_alike {
                    // Whom it leaves behind no index tells: all children are looked at.
                    suspect_all(state, child.id);
                } else if !is_shown {
                    for key in children(state, &child, link, &parent)? {
                        suspect(state, child.id, key);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Orphans of `child` that wait for a row of `parent`, or for any if the key is empty, are in doubt.
fn doubt_waiting(state: &State, child: u32, parent: u32, key: &[u8]) -> Result<()> {
    let mut select = state.pool.prepare(
        state.db,
        "SELECT key FROM main.__crsql_orphan
         WHERE parent_id = ?1 AND table_id = ?2 AND (is_key = 0 OR ?3 = x'' OR (is_key = 1 AND wanted = ?3))",
    )?;
    let args =
        [ValueRef::Integer(i64::from(parent)), ValueRef::Integer(i64::from(child)), ValueRef::Blob(key)];
    for key in keys(&mut select.query(&args)?)? {
        doubt(state, child, key);
    }
    Ok(())
}

/// The keys of the orphans that wait for this row.
pub fn waiting(state: &State, parent: u32, key: &[u8]) -> Result<Vec<(u32, Vec<u8>)>> {
    let mut select = state.pool.prepare(
        state.db,
        "SELECT table_id, key FROM main.__crsql_orphan WHERE parent_id = ?1 AND is_key = 1 AND wanted = ?2",
    )?;
    let args = [ValueRef::Integer(i64::from(parent)), ValueRef::Blob(key)];
    let mut rows = select.query(&args)?;
    let mut found = Vec::new();
    while rows.step()? {
        found.push((rows.column_i64(0) as u32, rows.column_blob(1).to_vec()));
    }
    Ok(found)
}

fn is_shown(state: &State, table: &Table, key: &[ValueRef<'_>]) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {} WHERE {}", table.sql_name(), table.key_condition());
    Ok(state.pool.prepare(state.db, &sql)?.query_i64(key)?.is_some())
}

/// The canonical keys of shown rows that refer to these values.
fn children(state: &State, child: &Table, link: &Link, parent: &[ValueRef<'_>]) -> Result<Vec<Vec<u8>>> {
    let sql =
        format!("SELECT {} FROM {} WHERE {}", child.key_list(), child.sql_name(), link.child_condition());
    let mut select = state.pool.prepare(state.db, &sql)?;
    canonical_keys(&mut select, child, parent)
}

fn canonical_keys(select: &mut Statement, table: &Table, args: &[ValueRef<'_>]) -> Result<Vec<Vec<u8>>> {
    let mut rows = select.query(args)?;
    let mut found = Vec::new();
    while rows.step()? {
        let key: Vec<ValueRef<'_>> = (0..table.key_names.len()).map(|at| rows.column_value(at)).collect();
        found.push(canonical_key(&key, &table.key_columns).map_err(Error::refused)?.bytes);
    }
    Ok(found)
}

// --- looking --------------------------------------------------------------------------------------------------

/// Of the suspects of a table, the keys of those that are shown without a parent.
pub fn shown_orphans(state: &State, table: &Table) -> Result<Vec<Vec<u8>>> {
    let mut suspects: Vec<Vec<u8>> = Vec::new();
    state.suspects.borrow_mut().retain(|(id, key)| {
        let is_other = *id != table.id;
        if !is_other {
            suspects.push(key.clone());
        }
        is_other
    });
    if table.links.is_empty() || suspects.is_empty() {
        return Ok(Vec::new());
    }
    let conditions: Vec<String> = table.links.iter().map(Link::orphan_condition).collect();
    let list: Vec<String> =
        table.key_names.iter().map(|name| format!("c.{}", crate::schema::Ident(name))).collect();
    let all = format!(
        "SELECT {} FROM {} AS c WHERE ({})",
        list.join(", "),
        table.sql_name(),
        conditions.join(" OR ")
    );
    if suspects[0].is_empty() {
        return canonical_keys(&mut state.db.prepare(&all)?, table, &[]);
    }
    let mut one = state.db.prepare(&format!("{all} AND {}", table.key_condition()))?;
    let mut found = Vec::new();
    for key in suspects {
        let values = crsql_core::pack::unpack(&key).map_err(Error::refused)?;
        found.extend(canonical_keys(&mut one, table, &values)?);
    }
    Ok(found)
}

/// Takes a row that is shown without a parent out of its table; it is in doubt then.
pub fn hide(state: &State, table: &Table, key: &[u8]) -> Result<()> {
    let values = crsql_core::pack::unpack(key).map_err(Error::refused)?;
    let found = row::find(state, table, &values)?;
    if let Some(clock) = found.clock.filter(|clock| clock.is_alive()) {
        hide_shown(state, table, &found.place, clock, key)?;
        super::doubt_held_by(state, table.id, key)?;
        changed(state, table.id, key.to_vec(), true);
    }
    Ok(())
}

/// What a hidden row refers to by a FOREIGN KEY; `None` if a column of it is NULL, which refers to nothing.
pub fn reference(state: &State, table: &Table, hidden: &Hidden, link: &Link) -> Result<Option<Vec<Value>>> {
    let mut values = Vec::new();
    for column in &link.columns {
        let value = value_of(state, table, hidden, column)?;
        if value == Value::Null {
            return Ok(None);
        }
        values.push(value);
    }
    Ok(Some(values))
}

/// Whether a row that is shown has these values in what a FOREIGN KEY refers to.
pub fn has_parent(state: &State, link: &Link, values: &[Value]) -> Result<bool> {
    let values: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
    Ok(state.pool.prepare(state.db, &link.parent_query())?.query_i64(&values)?.is_some())
}

/// The values as the parent tells them apart, packed.
pub fn wanted(link: &Link, values: &[Value]) -> Result<Vec<u8>> {
    let values: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
    match canonical_key(&values, &link.kinds) {
        Ok(key) => Ok(key.bytes),
        // No row can have it.
        Err(_) => crsql_core::pack::pack(&values).map_err(Error::refused),
    }
}

/// What a hidden row needs and does not find among the shown ones.
pub fn missing(state: &State, table: &Table, hidden: &Hidden) -> Result<Option<Missing>> {
    for (at, link) in table.links.iter().enumerate() {
        if let Some(values) = reference(state, table, hidden, link)?
            && !has_parent(state, link, &values)?
        {
            return Ok(Some(Missing { link: at, wanted: wanted(link, &values)? }));
        }
    }
    Ok(None)
}

/// A hidden row's value in a column.
pub fn value_of(state: &State, table: &Table, hidden: &Hidden, column: &str) -> Result<Value> {
    if let Some(at) = table.key_names.iter().position(|name| name == column) {
        let key = crsql_core::pack::unpack(&hidden.pk).map_err(Error::refused)?;
        return Ok(key.get(at).map(ValueRef::to_owned_value).unwrap_or_default());
    }
    let of = |(_, change): &&(i64, Loose)| !change.is_row() && park::column_of(&change.cid) == column;
    match hidden.changes.iter().find(of) {
        Some((_, change)) => Ok(change.value.clone()),
        None => default_of(state, table, column),
    }
}

/// What a column holds that nobody wrote.
pub fn default_of(state: &State, table: &Table, column: &str) -> Result<Value> {
    let column = table.column_of_cell(column);
    let Some(default) = column.and_then(|column| column.default_sql.as_deref()) else {
        return Ok(Value::Null);
    };
    let mut select = state.pool.prepare(state.db, &format!("SELECT ({default})"))?;
    Ok(select.query_row(&[], |row| Ok(row.column_value(0).to_owned_value()))?.unwrap_or(Value::Null))
}

// --- remembering ----------------------------------------------------------------------------------------------

/// Notes which parent a hidden row waits for, and says so to who asks.
pub fn wait(state: &State, table: &Table, key: &[u8], hidden: &Hidden, missing: &Missing) -> Result<()> {
    let link = &table.links[missing.link];
    let (id, key) = (ValueRef::Integer(i64::from(table.id)), ValueRef::Blob(key));
    let rowid = state.db.last_insert_rowid();
    state
        .pool
        .prepare(
            state.db,
            "INSERT OR REPLACE INTO main.__crsql_orphan (table_id, key, parent_id, is_key, wanted)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(&[
            id,
            key,
            ValueRef::Integer(i64::from(link.parent)),
            ValueRef::Integer(i64::from(link.is_key)),
            ValueRef::Blob(&missing.wanted),
        ])?;
    state.db.set_last_insert_rowid(rowid);
    state
        .pool
        .prepare(state.db, "UPDATE main.__crsql_hidden SET held_by = NULL WHERE table_id = ?1 AND key = ?2")?
        .execute(&[id, key])?;
    let wanted = crsql_core::pack::unpack(&missing.wanted).map_err(Error::refused)?;
    let wanted: Vec<String> = wanted.iter().map(super::resolve::spelled).collect();
    let columns = link.parent_columns.join(", ");
    let reason =
        format!("FOREIGN KEY: {:?} shows no row with the {columns} {}", link.parent_name, wanted.join(", "));
    super::tell(state, hidden, &reason)
}

/// A hidden row waits for no parent any more.
pub fn stop_waiting(state: &State, table: u32, key: &[u8]) -> Result<()> {
    state
        .pool
        .prepare(state.db, "DELETE FROM main.__crsql_orphan WHERE table_id = ?1 AND key = ?2")?
        .execute(&[ValueRef::Integer(i64::from(table)), ValueRef::Blob(key)])
}

/// Looks at everything anew that hangs on a table: its options, its FOREIGN KEYs or its indexes are others now.
pub fn reconsider(state: &State, table: &Table) -> Result<()> {
    if !state.db.has_table("__crsql_hidden")? {
        return Ok(());
    }
    super::doubt_all(state, table.id)?;
    if !table.links.is_empty() {
        suspect_all(state, table.id);
    }
    if !table.referrers.is_empty() {
        changed_all(state, table.id);
    }
    Ok(())
}
