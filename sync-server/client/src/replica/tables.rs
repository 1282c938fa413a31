//! The tables of the sync state, and short ways to them.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::{Cursor, Head};
use crsql_protocol::wire::Chain;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Error, Result};

/// The version of [`SCHEMA`].
const FORMAT: i64 = 1;

/// How many versions of a site keep their chain. Comparing histories further back answers "unknown".
const CHAINS_KEPT: u64 = 4096;

const SCHEMA: &str = "
CREATE TABLE main.__crsql_sync_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  format INTEGER NOT NULL,
  site BLOB NOT NULL,
  seen INTEGER NOT NULL,
  acked INTEGER NOT NULL,
  published BLOB NOT NULL
);
CREATE TABLE main.__crsql_sync_chain (
  site BLOB NOT NULL,
  version INTEGER NOT NULL,
  chain BLOB NOT NULL,
  PRIMARY KEY (site, version)
) WITHOUT ROWID;
CREATE TABLE main.__crsql_sync_cursor (
  peer TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL,
  pos INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE main.__crsql_sync_stage (
  id INTEGER PRIMARY KEY,
  site BLOB NOT NULL,
  version INTEGER NOT NULL,
  entry BLOB NOT NULL
);
CREATE TABLE main.__crsql_sync_journal (
  pos INTEGER PRIMARY KEY,
  site BLOB,
  first INTEGER,
  last INTEGER,
  seq_lo INTEGER,
  seq_hi INTEGER,
  last_seq INTEGER,
  entry BLOB NOT NULL
);
CREATE INDEX main.__crsql_sync_journal_version ON __crsql_sync_journal (site, last);
";

/// Creates the tables if they are missing.
pub fn create(conn: &Connection) -> Result<()> {
    let format: Option<i64> = match conn.table_exists(Some("main"), "__crsql_sync_state")? {
        true => {
            conn.query_row("SELECT format FROM main.__crsql_sync_state", [], |row| row.get(0)).optional()?
        }
        false => None,
    };
    match format {
        Some(FORMAT) => return Ok(()),
        Some(newer @ 2..) => return Err(Error::NewerFormat(newer)),
        Some(other) => return Err(Error::Damaged(format!("format {other} never existed"))),
        None => {}
    }
    let site = site(conn)?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let made = || -> Result<()> {
        // Another process may have been first.
        if !conn.table_exists(Some("main"), "__crsql_sync_state")? {
            conn.execute_batch(SCHEMA)?;
            conn.execute(
                "INSERT INTO main.__crsql_sync_state VALUES (1, ?1, ?2, 0, 0, ?3)",
                params![FORMAT, site.0.as_slice(), VersionVector::default().encode()],
            )?;
        }
        Ok(())
    };
    let made = made();
    conn.execute_batch(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    made
}

/// The database's identity.
pub fn site(conn: &Connection) -> Result<SiteId> {
    let id: Vec<u8> = conn.prepare_cached("SELECT crsql_site_id()")?.query_row([], |row| row.get(0))?;
    site_of(&id)
}

/// The apply position after the last committed change.
pub fn db_version(conn: &Connection) -> Result<u64> {
    Ok(conn.prepare_cached("SELECT crsql_db_version()")?.query_row([], |row| row.get::<_, i64>(0))? as u64)
}

/// The versions that the database holds completely, published or not.
pub fn vector(conn: &Connection) -> Result<VersionVector> {
    let bytes: Vec<u8> =
        conn.prepare_cached("SELECT crsql_version_vector()")?.query_row([], |row| row.get(0))?;
    vector_of(&bytes)
}

fn vector_of(bytes: &[u8]) -> Result<VersionVector> {
    VersionVector::decode(bytes, &Default::default()).map_err(|error| Error::Damaged(error.to_string()))
}

/// What the row of the state says.
pub struct State {
    /// Who this was at the last publication.
    pub site: SiteId,
    /// Everything up to this apply position is published or somebody else's.
    pub seen: u64,
    /// The greatest own version that somebody else holds.
    pub acked: u64,
    /// Own versions that have a frame, or came back from others.
    pub published: VersionVector,
}

/// Reads the state.
pub fn state(conn: &Connection) -> Result<State> {
    let (site, seen, acked, published) =
        conn.query_row("SELECT site, seen, acked, published FROM main.__crsql_sync_state", [], |row| {
            let site: Vec<u8> = row.get(0)?;
            Ok((site, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, Vec<u8>>(3)?))
        })?;
    let published = vector_of(&published)?;
    Ok(State { site: site_of(&site)?, seen: seen as u64, acked: acked as u64, published })
}

/// Writes the state.
pub fn save_state(conn: &Connection, state: &State) -> Result<()> {
    conn.prepare_cached(
        "UPDATE main.__crsql_sync_state SET site = ?1, seen = ?2, acked = ?3, published = ?4",
    )?
    .execute(params![
        state.site.0.as_slice(),
        state.seen as i64,
        state.acked as i64,
        state.published.encode()
    ])?;
    Ok(())
}

/// Writes what others confirmed.
pub fn save_acked(conn: &Connection, acked: u64) -> Result<()> {
    conn.prepare_cached("UPDATE main.__crsql_sync_state SET acked = ?1")?.execute([acked as i64])?;
    Ok(())
}

/// The chain of a site at a version, if it is kept.
pub fn chain(conn: &Connection, site: SiteId, version: u64) -> Result<Option<Chain>> {
    let head = last_chain(conn, site, version)?;
    Ok((head.version == version && version > 0).then_some(head.chain))
}

/// The last version of a site up to `version` whose chain is kept; version 0 if there is none.
pub fn last_chain(conn: &Connection, site: SiteId, version: u64) -> Result<Head> {
    let found = conn
        .prepare_cached(
            "SELECT version, chain FROM main.__crsql_sync_chain
             WHERE site = ?1 AND version <= ?2
             ORDER BY version DESC LIMIT 1",
        )?
        .query_row(params![site.0.as_slice(), version as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    let Some((version, chain)) = found else { return Ok(Head::default()) };
    Ok(Head { version: version as u64, chain: chain_of(&chain)? })
}

/// Writes a chain down.
pub fn save_chain(conn: &Connection, site: SiteId, head: Head) -> Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO main.__crsql_sync_chain VALUES (?1, ?2, ?3)")?
        .execute(params![site.0.as_slice(), head.version as i64, head.chain.0.as_slice()])?;
    if head.version.is_multiple_of(CHAINS_KEPT / 4) && head.version > CHAINS_KEPT {
        conn.execute(
            "DELETE FROM main.__crsql_sync_chain WHERE site = ?1 AND version < ?2",
            params![site.0.as_slice(), (head.version - CHAINS_KEPT) as i64],
        )?;
    }
    Ok(())
}

/// The last version of every site whose chain is kept.
pub fn heads(conn: &Connection) -> Result<Vec<(SiteId, Head)>> {
    // With max() SQLite takes the other columns from the row that has it.
    let mut select =
        conn.prepare("SELECT site, max(version), chain FROM main.__crsql_sync_chain GROUP BY site")?;
    let mut rows = select.query([])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        let (site, version, chain): (Vec<u8>, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        heads.push((site_of(&site)?, Head { version: version as u64, chain: chain_of(&chain)? }));
    }
    Ok(heads)
}

/// Where reading a peer stopped.
pub fn cursor(conn: &Connection, peer: &str) -> Result<Option<Cursor>> {
    let found = conn
        .prepare_cached("SELECT epoch, pos FROM main.__crsql_sync_cursor WHERE peer = ?1")?
        .query_row([peer], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    Ok(found.map(|(epoch, pos)| Cursor { epoch: epoch as u64, pos: pos as u64 }))
}

/// Writes a cursor.
pub fn save_cursor(conn: &Connection, peer: &str, cursor: Cursor) -> Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO main.__crsql_sync_cursor VALUES (?1, ?2, ?3)")?
        .execute(params![peer, cursor.epoch as i64, cursor.pos as i64])?;
    Ok(())
}

/// Forgets all cursors: what lies before them is needed again.
pub fn forget_cursors(conn: &Connection) -> Result<()> {
    conn.execute("DELETE FROM main.__crsql_sync_cursor", [])?;
    Ok(())
}

/// A site id from a column.
pub fn site_of(bytes: &[u8]) -> Result<SiteId> {
    SiteId::try_from(bytes).map_err(|error| Error::Damaged(error.to_string()))
}

fn chain_of(bytes: &[u8]) -> Result<Chain> {
    let chain = bytes.try_into().map_err(|_| Error::Damaged(format!("a chain of {} bytes", bytes.len())))?;
    Ok(Chain(chain))
}
