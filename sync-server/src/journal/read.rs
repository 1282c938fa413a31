//! Reads a journal in the order of positions.

use crsql_protocol::limits::FRAMES_PER_MESSAGE_MAX;
use rusqlite::{Connection, params};

use super::{Entry, rows};

/// The entries after a position, about `bytes` of them and at least one.
pub fn after(connection: &Connection, room: i64, after: u64, bytes: u64) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {} FROM entry WHERE room = ?1 AND pos > ?2 ORDER BY pos", rows::ENTRY);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![room, after as i64])?;
    let (mut entries, mut taken) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let entry = super::rows::entry(row)?;
        let size = entry.item.wire_bytes();
        if !entries.is_empty() && (taken + size > bytes || entries.len() >= FRAMES_PER_MESSAGE_MAX) {
            break;
        }
        taken += size;
        entries.push(entry);
    }
    Ok(entries)
}
