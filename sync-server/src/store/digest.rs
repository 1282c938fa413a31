//! Digests of a room's database.

use crsql_core::ids::SiteId;
use crsql_core::merge::TieBreak;
use crsql_protocol::limits::DIGEST_ENTRIES_MAX;
use crsql_protocol::message::{DigestEntry, DigestRange, DigestRequest};
use crsql_protocol::session::Parcel;
use crsql_protocol::wire::{Blob, Sum};
use rusqlite::{Connection, params};

use super::{Store, StoreError};

/// The digests of the ranges asked for, or one for each table.
pub fn digests(connection: &Connection, request: &DigestRequest) -> Result<Vec<DigestEntry>, StoreError> {
    let mut entries = Vec::new();
    if request.ranges.is_empty() {
        for range in tables(connection)? {
            entries.extend(of_range(connection, &range, 1)?);
        }
    }
    for range in &request.ranges {
        entries.extend(of_range(connection, range, request.cut)?);
    }
    entries.truncate(DIGEST_ENTRIES_MAX);
    Ok(entries)
}

impl Store {
    /// The facts of the rows in some ranges, as deltas without claims.
    pub fn rows(&self, ranges: &[DigestRange], bytes: u64) -> Result<Parcel, StoreError> {
        let tie_break = if self.tie_break == 1 { TieBreak::Value } else { TieBreak::Site };
        self.with(|connection, _| {
            crsql_client::replica::rows(connection, SiteId::default(), tie_break, ranges, bytes)
                .map_err(|error| StoreError::Refused(error.to_string()))
        })
    }
}

fn tables(connection: &Connection) -> Result<Vec<DigestRange>, StoreError> {
    // The extension makes its tables when it needs them first.
    let exists: bool = connection.query_row(
        "SELECT count(*) FROM sqlite_master WHERE name IN ('__crsql_table', '__crsql_parked')",
        [],
        |row| Ok(row.get::<_, i64>(0)? == 2),
    )?;
    if !exists {
        return Ok(Vec::new());
    }
    let mut select = connection
        .prepare("SELECT name FROM __crsql_table UNION SELECT table_name FROM __crsql_parked ORDER BY 1")?;
    let tables = select.query_map([], |row| row.get(0))?;
    tables.map(|table| Ok(DigestRange { table: table?, from: Blob::default(), to: None })).collect()
}

fn of_range(connection: &Connection, range: &DigestRange, cut: u32) -> Result<Vec<DigestEntry>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT unhex(value ->> 'from'), unhex(value ->> 'to'), value ->> 'rows', unhex(value ->> 'sum')
         FROM json_each(crsql_digest(?1, ?2, ?3, ?4))",
    )?;
    let to = range.to.as_ref().map(|to| &to.0);
    let entries = select.query_map(params![range.table, range.from.0, to, cut], |row| {
        let (from, to): (Vec<u8>, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?);
        let range = DigestRange { table: range.table.clone(), from: Blob(from), to: to.map(Blob) };
        Ok(DigestEntry { range, rows: row.get::<_, i64>(2)? as u64, sum: Sum(row.get(3)?) })
    })?;
    Ok(entries.collect::<Result<_, _>>()?)
}
