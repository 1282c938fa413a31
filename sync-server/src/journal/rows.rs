//! The tables of a journal file, and their rows.

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::{ChainAt, Frame, Head};
use crsql_protocol::wire::{Blob, Chain};
use rusqlite::{Connection, Row, types::Type};

use super::{Claim, Entry, Holding, Item};

/// The format of the file, in `PRAGMA user_version`.
pub const FORMAT: i64 = 1;

/// Rooms share one file so that one fsync makes the appends of many of them durable. Frames lie in the order of room
/// and position, as readers want them; `entry_version` finds a transaction by its name.
const TABLES: &str = "
CREATE TABLE guard (dev INTEGER, ino INTEGER, seconds INTEGER, nanoseconds INTEGER) STRICT;
CREATE TABLE room (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    head INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    tie_break INTEGER NOT NULL
) STRICT;
CREATE TABLE entry (
    room INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    more INTEGER NOT NULL,
    site BLOB,
    version INTEGER,
    seq_lo INTEGER,
    seq_hi INTEGER,
    last_seq INTEGER,
    chain BLOB,
    codec INTEGER,
    body BLOB NOT NULL,
    PRIMARY KEY (room, pos)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_version ON entry (room, site, version, seq_lo) WHERE version > 0;
CREATE TABLE claim (
    room INTEGER NOT NULL,
    site BLOB NOT NULL,
    hi INTEGER NOT NULL,
    lo INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (room, site, hi, lo)
) STRICT, WITHOUT ROWID;
CREATE TABLE chain (
    room INTEGER NOT NULL,
    site BLOB NOT NULL,
    version INTEGER NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (room, site, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE holding (
    room INTEGER NOT NULL,
    site BLOB NOT NULL,
    versions BLOB NOT NULL,
    version INTEGER NOT NULL,
    chain BLOB NOT NULL,
    owner TEXT,
    PRIMARY KEY (room, site)
) STRICT, WITHOUT ROWID;
CREATE TABLE partial (
    room INTEGER NOT NULL,
    site BLOB NOT NULL,
    version INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    PRIMARY KEY (room, site, version, pos)
) STRICT, WITHOUT ROWID;
";

/// The columns of an entry, for [`entry`].
pub const ENTRY: &str = "pos, more, site, version, seq_lo, seq_hi, last_seq, chain, codec, body";

/// Makes the tables of a new file, and refuses one of a later format.
pub fn prepare(connection: &Connection) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match format {
        FORMAT => Ok(()),
        0 => {
            let tx = connection.unchecked_transaction()?;
            tx.execute_batch(TABLES)?;
            tx.pragma_update(None, "user_version", FORMAT)?;
            Ok(tx.commit()?)
        }
        newer => {
            Err(format!("it has format {newer}, and this crsql-server knows {FORMAT}: use a newer one")
                .into())
        }
    }
}

/// Reads an entry from the columns of [`ENTRY`].
pub fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let body: Vec<u8> = row.get(9)?;
    let version: Option<i64> = row.get(3)?;
    let item = match version {
        None => Item::Claim(claim(&body)?),
        Some(version) => Item::Frame(Frame {
            site: SiteId(row.get(2)?),
            site_version: version as u64,
            seq_lo: row.get::<_, i64>(4)? as u64,
            seq_hi: row.get::<_, i64>(5)? as u64,
            last_seq: row.get::<_, i64>(6)? as u64,
            chain: Chain(row.get(7)?),
            codec: row.get(8)?,
            body: Blob(body),
        }),
    };
    Ok(Entry { pos: row.get::<_, i64>(0)? as u64, more: row.get(1)?, item })
}

/// A claim from its body.
pub fn claim(body: &[u8]) -> rusqlite::Result<Claim> {
    let (versions, chains): (VersionVector, Vec<ChainAt>) =
        crsql_core::msgpack::from_slice(body).map_err(|error| corrupt(9, error))?;
    Ok(Claim { versions, chains })
}

/// The body of a claim.
pub fn claim_body(claim: &Claim) -> Vec<u8> {
    rmp_serde::to_vec(&(&claim.versions, &claim.chains)).expect("writing numbers to memory cannot fail")
}

/// Reads site, versions, version, chain, owner.
pub fn holding(row: &Row<'_>) -> rusqlite::Result<Holding> {
    let site = SiteId(row.get(0)?);
    let versions: Vec<u8> = row.get(1)?;
    let versions =
        VersionVector::decode(&versions, &Default::default()).map_err(|error| corrupt(1, error))?;
    Ok(Holding {
        site,
        versions: versions.of_site(site).cloned().unwrap_or_default(),
        head: Head { version: row.get::<_, i64>(2)? as u64, chain: Chain(row.get(3)?) },
        owner: row.get(4)?,
    })
}

/// The versions of a holding as they are stored.
pub fn versions_of(holding: &Holding) -> Vec<u8> {
    let mut vector = VersionVector::default();
    for (lo, hi) in holding.versions.iter() {
        vector.insert_range(holding.site, lo, hi);
    }
    vector.encode()
}

fn corrupt(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
}
