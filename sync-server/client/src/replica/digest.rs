//! Digests of stretches of tables, and the rows in them, to find and repair what differs.

use crsql_core::change::{Change, Fact};
use crsql_core::changeset::{Order, split, write_changes};
use crsql_core::ids::SiteId;
use crsql_core::merge::{Stamp, TieBreak};
use crsql_core::value::Value;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::limits::DIGEST_ENTRIES_MAX;
use crsql_protocol::message::{DigestEntry, DigestRange, DigestRequest, DigestResponse};
use crsql_protocol::session::Parcel;
use crsql_protocol::wire::{Blob, Sum};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::publish::{CHUNK_BYTES, damaged, deltas};
use super::{Replica, tables};
use crate::{Error, Result};

impl Replica {
    /// The digests that a peer asked for.
    ///
    /// # Errors
    /// SQLite's.
    pub fn digests(&self, request: &DigestRequest) -> Result<DigestResponse> {
        let mut entries = Vec::new();
        if request.ranges.is_empty() {
            for range in self.tables()? {
                entries.extend(self.range_digests(&range, 1)?);
            }
        }
        for range in &request.ranges {
            entries.extend(self.range_digests(range, request.cut)?);
        }
        entries.truncate(DIGEST_ENTRIES_MAX);
        Ok(DigestResponse { id: request.id, held_fingerprint: self.ledger.fingerprint(), entries })
    }

    /// Our own digests of exactly the ranges of a peer's answer, and of tables that it does not know if it named all
    /// that it does.
    ///
    /// # Errors
    /// SQLite's.
    pub fn digests_of(&self, response: &DigestResponse, all_tables: bool) -> Result<DigestResponse> {
        let mut ranges: Vec<_> = response.entries.iter().map(|entry| entry.range.clone()).collect();
        if all_tables {
            ranges.extend(self.tables()?);
            ranges.sort_by(|a, b| (&a.table, &a.from.0).cmp(&(&b.table, &b.from.0)));
            ranges.dedup();
        }
        let mut entries = Vec::new();
        for range in &ranges {
            entries.extend(self.range_digests(range, 1)?);
        }
        Ok(DigestResponse { id: response.id, held_fingerprint: self.ledger.fingerprint(), entries })
    }

    /// The facts of the rows in these ranges; see [`rows`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn rows(&self, ranges: &[DigestRange], bytes: u64) -> Result<Parcel> {
        rows(&self.conn, self.site, self.tie_break, ranges, bytes)
    }

    fn tables(&self) -> Result<Vec<DigestRange>> {
        let mut select = self.conn.prepare_cached(
            "SELECT name FROM main.__crsql_table UNION SELECT table_name FROM main.__crsql_parked ORDER BY 1",
        )?;
        let tables = select.query_map([], |row| row.get(0))?;
        tables.map(|table| Ok(DigestRange { table: table?, from: Blob::default(), to: None })).collect()
    }

    fn range_digests(&self, range: &DigestRange, cut: u32) -> Result<Vec<DigestEntry>> {
        let mut select = self.conn.prepare_cached(
            "SELECT value ->> 'from', value ->> 'to', value ->> 'rows', value ->> 'sum'
             FROM json_each(crsql_digest(?1, ?2, ?3, ?4))",
        )?;
        let to = range.to.as_ref().map(|to| &to.0);
        let mut rows = select.query(params![range.table, range.from.0, to, cut])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let (from, to): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            let sum: [u8; 32] = unhex(&row.get::<_, String>(3)?)?
                .try_into()
                .map_err(|_| Error::Damaged("a digest that is not 32 bytes long".into()))?;
            let range = DigestRange {
                table: range.table.clone(),
                from: Blob(unhex(&from)?),
                to: to.map(|to| unhex(&to).map(Blob)).transpose()?,
            };
            entries.push(DigestEntry { range, rows: row.get::<_, i64>(2)? as u64, sum: Sum(sum) });
        }
        Ok(entries)
    }
}

/// The facts of the rows in these ranges, as a delta of `site` without claims. At most about `bytes`; a repair that
/// needs more goes on with the next comparison.
///
/// # Errors
/// SQLite's; a database whose clocks are damaged.
pub fn rows(
    conn: &Connection,
    site: SiteId,
    tie_break: TieBreak,
    ranges: &[DigestRange],
    bytes: u64,
) -> Result<Parcel> {
    let mut changes = Vec::new();
    for range in ranges {
        changes_of(conn, range, &mut changes)?;
    }
    if changes.is_empty() {
        return Ok(Parcel::default());
    }
    let changeset = write_changes(tie_break, &changes, &VersionVector::default());
    let pieces =
        split(&changeset, CHUNK_BYTES, Order::AsGiven, &VersionVector::default()).map_err(damaged)?;
    let (mut frames, mut size) = (Vec::new(), 0);
    for frame in deltas(site, pieces) {
        size += frame.wire_bytes() as u64;
        if size > bytes && !frames.is_empty() {
            break;
        }
        frames.push(frame);
    }
    Ok(Parcel { frames, ..Parcel::default() })
}

fn changes_of(conn: &Connection, range: &DigestRange, out: &mut Vec<Change>) -> Result<()> {
    let mut select = conn.prepare_cached(
        "SELECT pk, cid, val, col_version, site_id, cl, seq, site_version, crsql_canonical_key(?1, pk) AS key
             FROM crsql_changes
             WHERE \"table\" = ?1
             ORDER BY key, site_version, seq",
    )?;
    let mut rows = select.query([&range.table])?;
    while let Some(row) = rows.next()? {
        let key = row.get_ref(8)?.as_blob().map_err(rusqlite::Error::from)?;
        if key < &range.from.0[..] || range.to.as_ref().is_some_and(|to| key >= &to.0[..]) {
            continue;
        }
        let site: Vec<u8> = row.get(4)?;
        let cid: String = row.get(1)?;
        let fact = match cid.as_str() {
            "-1" => Fact::Row,
            _ => Fact::Cell {
                column: cid,
                col_version: row.get::<_, i64>(3)? as u64,
                value: value(row.get_ref(2)?),
            },
        };
        let version = row.get::<_, i64>(7)? as u64;
        let stamp = Stamp { site: tables::site_of(&site)?, version, seq: row.get::<_, i64>(6)? as u64 };
        let cl = row.get::<_, i64>(5)? as u64;
        out.push(Change { table: range.table.clone(), pk: row.get(0)?, fact, cl, stamp });
    }
    Ok(())
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    digits.collect::<Option<_>>().ok_or_else(|| Error::Damaged("a digest that is not hexadecimal".into()))
}
