//! Copies of a room's database, for newcomers and as backups.

use std::path::PathBuf;
use std::sync::Arc;

use crsql_protocol::wire::Fingerprint;
use rusqlite::{Connection, params};

use super::{Store, StoreError, vector};
use crate::random;

/// Of every site, the chain at the last version that the copy has: whoever goes on with it compares histories by it.
const CHAINS: &str = "
CREATE TABLE __crsql_snapshot_chain (
    site BLOB NOT NULL,
    version INTEGER NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (site, version)
) WITHOUT ROWID";

/// A copy on disk; the file goes with the last who uses it.
#[derive(Debug)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// The epoch of the journal.
    pub epoch: u64,
    /// The position up to which everything is in it.
    pub pos: u64,
    /// Its length.
    pub bytes: u64,
    /// The first 16 bytes of its blake3.
    pub checksum: Fingerprint,
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        std::fs::remove_file(&self.path).ok();
    }
}

impl Store {
    /// The last snapshot, if it is of this epoch and position or a later one; else a new one.
    pub async fn snapshot(self: &Arc<Self>, after: u64) -> Result<Arc<SnapshotFile>, crsql_protocol::Fault> {
        if let Some(known) = self.known_snapshot(after) {
            return Ok(known);
        }
        let store = self.clone();
        self.ask(move |connection, pos| {
            // Somebody else may have waited for the same.
            if let Some(known) = store.known_snapshot(after) {
                return Ok(known);
            }
            let file = Arc::new(store.copy(connection, pos)?);
            store.metrics.snapshots.add(1);
            *store.snapshot.lock().unwrap_or_else(|e| e.into_inner()) = Some(file.clone());
            Ok(file)
        })
        .await
    }

    /// The last snapshot if it has everything up to a position.
    pub fn known_snapshot(&self, after: u64) -> Option<Arc<SnapshotFile>> {
        let known = self.snapshot.lock().unwrap_or_else(|e| e.into_inner()).clone();
        known.filter(|known| known.pos >= after)
    }

    fn copy(&self, connection: &Connection, pos: u64) -> Result<SnapshotFile, StoreError> {
        std::fs::create_dir_all(&self.snapshots)?;
        let name = format!("{:016x}.{pos}.{:016x}.db", self.epoch, random::u64());
        let path = self.snapshots.join(name);
        // The copy outlives no restart, so it need not be on disk. Nothing else is written meanwhile.
        connection.pragma_update(None, "synchronous", "off")?;
        let made = connection.execute("VACUUM INTO ?1", [path.to_string_lossy()]);
        connection.pragma_update(None, "synchronous", super::SYNCHRONOUS)?;
        made?;
        let mut file =
            SnapshotFile { path, epoch: self.epoch, pos, bytes: 0, checksum: Fingerprint::default() };
        {
            let copy = Connection::open(&file.path)?;
            copy.pragma_update(None, "synchronous", "off")?;
            let tx = copy.unchecked_transaction()?;
            // Where the relay stood is nothing to whoever gets it; the chains of the histories are.
            tx.execute_batch(
                "DROP TABLE __crsql_relay; DROP TABLE __crsql_relay_chunk;
                 DROP TABLE IF EXISTS __crsql_relay_clock",
            )?;
            tx.execute_batch(CHAINS)?;
            let mut insert = tx.prepare("INSERT INTO __crsql_snapshot_chain VALUES (?1, ?2, ?3)")?;
            for (site, version) in vector(connection)?.heads() {
                if let Some(chain) = self.journal.chain(self.key, site, version)? {
                    insert.execute(params![site.0, version as i64, chain.0])?;
                }
            }
            drop(insert);
            tx.commit()?;
        }
        let mut hasher = blake3::Hasher::new();
        let (mut copy, mut piece) = (std::fs::File::open(&file.path)?, vec![0; 1 << 16]);
        loop {
            let read = std::io::Read::read(&mut copy, &mut piece)?;
            if read == 0 {
                break;
            }
            hasher.update(&piece[..read]);
            file.bytes += read as u64;
        }
        file.checksum.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(file)
    }
}
