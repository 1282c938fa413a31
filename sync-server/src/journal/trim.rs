//! Forgets what the rooms' databases have: else journals would grow for ever.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Item, Trimmed, rows};

/// Entries looked at in one transaction: appends wait for it.
const ENTRIES: usize = 4096;

/// Bytes forgotten in one transaction, for the same reason.
const BYTES: u64 = 8 << 20;

/// How many versions of a site keep their chains after their frames are gone. Histories that part further back are
/// still told apart, but only as "perhaps another one", which costs the writer a new name.
const CHAINS_KEPT: i64 = 4096;

/// What an entry weighs besides its body, as `Item::wire_bytes` counts.
const ENTRY_BYTES: u64 = 64;

/// Forgets the oldest entries up to `upto` while more than `keep_bytes` are left.
pub fn trim(connection: &Connection, room: i64, upto: u64, keep_bytes: u64) -> rusqlite::Result<Trimmed> {
    let tx = connection.unchecked_transaction()?;
    let (floor, bytes): (i64, i64) =
        tx.query_row("SELECT floor, bytes FROM room WHERE id = ?1", [room], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let before = Trimmed { floor: floor as u64, freed: 0, more: false };
    // Chunks of incomplete versions are in nothing but the journal.
    let first: Option<i64> =
        tx.query_row("SELECT min(pos) FROM partial WHERE room = ?1", [room], |row| row.get(0))?;
    let upto = first.map_or(upto as i64, |first| (upto as i64).min(first - 1));
    let Some(cut) = Cut::find(&tx, room, upto, bytes as u64, keep_bytes)? else { return Ok(before) };
    forget(&tx, room, &cut)?;
    tx.execute(
        "UPDATE room SET floor = ?2, bytes = ?3 WHERE id = ?1",
        params![room, cut.pos, cut.left as i64],
    )?;
    tx.commit()?;
    Ok(Trimmed { floor: cut.pos as u64, freed: bytes as u64 - cut.left, more: cut.more })
}

/// Where the journal is cut off.
struct Cut {
    /// The last position that goes.
    pos: i64,
    /// Bytes that stay.
    left: u64,
    /// Whose frames go, and perhaps some more.
    sites: BTreeSet<[u8; 16]>,
    /// Whether more could go.
    more: bool,
}

impl Cut {
    fn find(
        connection: &Connection,
        room: i64,
        upto: i64,
        bytes: u64,
        keep_bytes: u64,
    ) -> rusqlite::Result<Option<Cut>> {
        let mut select = connection.prepare_cached(
            "SELECT pos, more, length(body), site, version, seq_lo > 0 OR seq_hi < last_seq,
                 CASE WHEN version IS NULL THEN body END
             FROM entry WHERE room = ?1 AND pos <= ?2 ORDER BY pos",
        )?;
        let mut rows = select.query(params![room, upto])?;
        let (mut cut, mut sites): (Option<Cut>, _) = (None, BTreeSet::new());
        let (mut count, mut left) = (0, bytes);
        while let Some(row) = rows.next()? {
            if left <= keep_bytes {
                break;
            }
            if let Some(cut) = &mut cut
                && (count >= ENTRIES || bytes - cut.left >= BYTES)
            {
                cut.more = true;
                break;
            }
            count += 1;
            let size = match (row.get::<_, Option<[u8; 16]>>(3)?, row.get::<_, Option<i64>>(4)?) {
                (Some(site), Some(version)) => {
                    // Whoever applies a version when its last chunk comes looks for all of them.
                    if version > 0 && row.get(5)? && goes_on(connection, room, &site, version, upto)? {
                        break;
                    }
                    sites.insert(site);
                    row.get::<_, i64>(2)? as u64 + ENTRY_BYTES
                }
                _ => Item::Claim(rows::claim(&row.get::<_, Vec<u8>>(6)?)?).wire_bytes(),
            };
            left = left.saturating_sub(size);
            if !row.get::<_, bool>(1)? {
                cut = Some(Cut { pos: row.get(0)?, left, sites: BTreeSet::new(), more: false });
            }
        }
        Ok(cut.map(|cut| Cut { sites, ..cut }))
    }
}

/// Whether a chunk of this version lies beyond a position.
fn goes_on(
    connection: &Connection,
    room: i64,
    site: &[u8],
    version: i64,
    upto: i64,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM entry INDEXED BY entry_version
             WHERE room = ?1 AND site = ?2 AND version = ?3 AND version > 0 AND pos > ?4",
        )?
        .exists(params![room, site, version, upto])
}

fn forget(connection: &Connection, room: i64, cut: &Cut) -> rusqlite::Result<()> {
    for site in &cut.sites {
        let oldest: Option<i64> = connection
            .prepare_cached("SELECT version FROM holding WHERE room = ?1 AND site = ?2")?
            .query_row(params![room, site], |row| row.get(0))
            .optional()?;
        let oldest = oldest.unwrap_or(0) - CHAINS_KEPT;
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO chain
                 SELECT room, site, version, chain FROM entry INDEXED BY entry_version
                 WHERE room = ?1 AND site = ?2 AND version > max(?3, 0) AND version > 0 AND pos <= ?4",
            )?
            .execute(params![room, site, oldest, cut.pos])?;
        connection
            .prepare_cached("DELETE FROM chain WHERE room = ?1 AND site = ?2 AND version <= ?3")?
            .execute(params![room, site, oldest])?;
    }
    connection.execute("DELETE FROM entry WHERE room = ?1 AND pos <= ?2", params![room, cut.pos])?;
    connection.execute("DELETE FROM claim WHERE room = ?1 AND last <= ?2", params![room, cut.pos])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crsql_core::ids::SiteId;
    use crsql_protocol::message::{CODEC_PLAIN, Frame};
    use crsql_protocol::wire::{Blob, Chain};

    use super::*;
    use crate::journal::{Append, Holding, Journal, Local};

    const SITE: SiteId = SiteId([1; 16]);

    fn frame(version: u64, seq: u64, last_seq: u64) -> Item {
        let (seq_lo, seq_hi) = (seq, seq);
        Item::Frame(Frame {
            site: SITE,
            site_version: version,
            seq_lo,
            seq_hi,
            last_seq,
            chain: Chain([version as u8; 16]),
            codec: CODEC_PLAIN,
            body: Blob(vec![0; 100]),
        })
    }

    fn append(journal: &Local, room: &str, after: u64, items: Vec<Item>, settled: Vec<(SiteId, u64)>) {
        let room = journal.open(room, Some(0)).unwrap().unwrap().key;
        let head = crsql_protocol::message::Head { version: 99, chain: Chain([99; 16]) };
        let holdings = vec![Holding { site: SITE, versions: Default::default(), head, owner: None }];
        let (done, is_done) = std::sync::mpsc::channel();
        let items = items.into_iter().map(|item| (item, false)).collect();
        let done = Box::new(move |result| done.send(result).unwrap());
        journal.append(Append { room, after, items, holdings, settled, origin: 0, done });
        is_done.recv().unwrap().unwrap();
    }

    #[test]
    fn chunks_stay_until_their_version_is_applied_and_chains_stay_longer() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Local::open(dir.path(), 1, false, Default::default()).unwrap();
        append(&journal, "r", 0, vec![frame(1, 0, 0), frame(2, 0, 1)], vec![]);
        append(&journal, "r", 2, (3..50).map(|version| frame(version, 0, 0)).collect(), vec![]);
        let room = journal.open("r", None).unwrap().unwrap().key;
        let trim = |upto| journal.trim(room, upto, 0).unwrap();
        assert_eq!(trim(49), Trimmed { floor: 1, freed: 164, more: false }, "a chunk waits for its other");
        append(&journal, "r", 49, vec![frame(2, 1, 1)], vec![(SITE, 2)]);
        assert_eq!(trim(49).floor, 1, "the database has not come to the other chunk");
        assert_eq!(trim(50), Trimmed { floor: 50, freed: 49 * 164, more: false });
        let opened = journal.open("r", None).unwrap().unwrap();
        assert_eq!((opened.floor, opened.bytes, opened.head.pos), (50, 0, 50));
        assert_eq!(journal.chain(room, SITE, 7).unwrap(), Some(Chain([7; 16])));
        assert!(journal.read(room, 0, u64::MAX).unwrap().is_empty());
        append(&journal, "r", 50, vec![frame(51, 0, 0)], vec![]);
        assert_eq!(trim(51).floor, 51, "positions go on");
    }

    #[test]
    fn what_is_kept_is_kept_and_cuts_are_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Local::open(dir.path(), 1, false, Default::default()).unwrap();
        append(&journal, "r", 0, (1..=100).map(|version| frame(version, 0, 0)).collect(), vec![]);
        let room = journal.open("r", None).unwrap().unwrap().key;
        assert_eq!(journal.trim(room, 100, 50 * 164).unwrap().floor, 50);
        assert_eq!(journal.trim(room, 60, 0).unwrap().floor, 60, "what the database lacks stays");
        // Positions 101 to 103 are one cut.
        let (done, is_done) = std::sync::mpsc::channel();
        let items = vec![(frame(101, 0, 0), true), (frame(102, 0, 0), true), (frame(103, 0, 0), false)];
        let done = Box::new(move |result| done.send(result).unwrap());
        let (holdings, settled) = Default::default();
        journal.append(Append { room, after: 100, items, holdings, settled, origin: 0, done });
        is_done.recv().unwrap().unwrap();
        assert_eq!(journal.trim(room, 103, 164).unwrap().floor, 100);
        assert_eq!(journal.trim(room, 103, 163).unwrap().floor, 103);
    }
}
