//! Membership and collection in a room's database.

use std::collections::HashMap;
use std::path::Path;

use crsql_core::collect::Collected;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{Store, StoreError};

/// Renews the leases of those who are here and of those who were heard of, notes what they hold, and collects the deletes
/// that all members hold. How many went, and all that was ever collected.
pub fn collect(
    connection: &Connection,
    lease_seconds: u64,
    connected: &[SiteId],
    heard: &HashMap<SiteId, Option<VersionVector>>,
) -> Result<(u64, Collected), StoreError> {
    let tx = connection.unchecked_transaction()?;
    {
        let mut register = tx.prepare_cached("SELECT crsql_register_peer(?1, ?2)")?;
        let mut note = tx.prepare_cached("SELECT crsql_peer_vector(?1, ?2)")?;
        for site in heard.keys().chain(connected) {
            register.query_row(params![site.0, lease_seconds as i64], |_| Ok(()))?;
        }
        for (site, held) in heard.iter().filter_map(|(site, held)| Some((site, held.as_ref()?))) {
            note.query_row(params![site.0, held.encode()], |_| Ok(()))?;
        }
    }
    tx.commit()?;
    let gone: i64 =
        connection.query_row("SELECT crsql_gc() ->> 'tombstones_collected'", [], |row| row.get(0))?;
    Ok((gone as u64, collected(connection)?))
}

/// The greatest causal length and col_version that a room took.
pub type Greatest = (u64, u64);

/// How far the clocks of the room are.
const CLOCKS: &str = "
CREATE TABLE IF NOT EXISTS __crsql_relay_clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cl INTEGER NOT NULL,
    col_version INTEGER NOT NULL
)";

impl Store {
    /// Writes down the greatest causal length and col_version that came.
    pub fn note_clocks(&self, (cl, col_version): Greatest) -> Result<(), StoreError> {
        self.with(|connection, _| {
            connection.execute_batch(CLOCKS)?;
            let clocks = params![cl as i64, col_version as i64];
            connection.execute("INSERT OR REPLACE INTO __crsql_relay_clock VALUES (1, ?1, ?2)", clocks)?;
            Ok(())
        })
    }
}

/// What was collected in a database file that may not exist yet, and how far its clocks are, if that is known.
pub fn remembered(path: &Path) -> Result<(Collected, Option<Greatest>), StoreError> {
    if !path.exists() {
        return Ok(Default::default());
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    let clocks = match connection.table_exists(Some("main"), "__crsql_relay_clock")? {
        true => connection
            .query_row("SELECT cl, col_version FROM main.__crsql_relay_clock", [], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
            })
            .optional()?,
        false => None,
    };
    Ok((collected(&connection)?, clocks))
}

fn collected(connection: &Connection) -> Result<Collected, StoreError> {
    if !connection.table_exists(Some("main"), "__crsql_config")? {
        return Ok(Collected::default());
    }
    let found: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM main.__crsql_config WHERE name = 'collected'", [], |row| row.get(0))
        .optional()?;
    let Some(bytes) = found else { return Ok(Collected::default()) };
    // Without it deleted rows would come back, so nothing goes on.
    Collected::decode(&bytes).ok_or_else(|| StoreError::Refused("what it collected is damaged".into()))
}
