//! Whole database files: whatever is in our tables, or in any page, is an answer or an error.

use super::{kind_of, signature};
use crate::Rng;
use crate::fault_host::{self, VFS};
use crate::site::{Site, load_extension};
use rusqlite::{Connection, OpenFlags};

const FILE: &str = "fuzzed.db";

/// Opens the bytes as a database and does what applications do.
pub fn file(bytes: &[u8]) -> u64 {
    fault_host::install();
    fault_host::insert_disk(&fault_host::Image::default());
    fault_host::write_file(FILE, bytes.to_vec());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(conn) = Connection::open_with_flags_and_vfs(FILE, flags, VFS) else { return 1 };
    // A schema may hold anything as well, so it is trusted no more than the data.
    if let Err(message) = load_extension(&conn) {
        return signature(&[2, kind_of(&message)]);
    }
    let site = Site::with_extension_on(conn);
    // What a damaged b-tree makes SQLite read has no end otherwise.
    let mut steps = 0;
    let limit = move || {
        steps += 1;
        steps > 200
    };
    site.conn.progress_handler(1000, Some(limit)).expect("a handler");
    let mut outcomes = Vec::new();
    // Most damage makes a page unreadable; half of the inputs damage what is in our tables instead.
    let seed = bytes.iter().fold(0_u64, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte));
    let rng = &mut Rng::new(seed);
    if rng.one_in(2) {
        for _ in 0..1 + rng.below(3) {
            outcomes.push(u64::from(damage(&site, rng)));
        }
    }
    for sql in [
        "SELECT count(*) FROM crsql_changes",
        "SELECT * FROM crsql_changes WHERE db_version > 3 ORDER BY cid",
        "SELECT crsql_changeset(), crsql_digest(), crsql_version_vector(), crsql_stats()",
        "SELECT crsql_doctor()",
        "UPDATE t SET y = 'fuzzed' WHERE id = 1",
        "INSERT OR REPLACE INTO t (id) VALUES (3)",
        "DELETE FROM t WHERE id = 2",
        "SELECT crsql_apply(crsql_changeset())",
        "SELECT crsql_gc()",
        "SELECT * FROM crsql_parked, crsql_peers",
    ] {
        let outcome = match site.try_values_with(sql, &[]) {
            Ok(_) => 1,
            Err(message) => {
                assert!(!message.contains("panic"), "{sql}: {message}");
                kind_of(&message)
            }
        };
        outcomes.push(outcome);
    }
    signature(&outcomes)
}

/// Changes something in one of our tables, as any program can that opens the file; true if it worked.
fn damage(site: &Site, rng: &mut Rng) -> bool {
    let (table, column) = *rng.pick(&[
        ("__crsql_segment", "data"),
        ("__crsql_segment", "data"),
        ("__crsql_segment", "start"),
        ("__crsql_log", "data"),
        ("__crsql_log", "data"),
        ("__crsql_site", "site_id"),
        ("__crsql_vector", "lo"),
        ("__crsql_vector", "hi"),
        ("__crsql_state", "db_version"),
        ("__crsql_state", "site_version"),
        ("__crsql_state", "site"),
        ("__crsql_state", "generation"),
        ("__crsql_column", "name"),
        ("__crsql_table", "name"),
        ("__crsql_parked", "pk"),
        ("__crsql_parked", "cl"),
        ("__crsql_parked", "site_version"),
        ("__crsql_segment", "max_db_version"),
    ]);
    let byte = rng.bits() as u8;
    let value = match rng.below(4) {
        0 => rng
            .pick(&["-1", "0", "9223372036854775807", "NULL", "x''", "'t'", "1 << 48", "zeroblob(16)"])
            .to_string(),
        // One byte of the blob becomes another.
        _ => format!(
            "CAST(substr({column}, 1, {at}) || x'{byte:02x}' || substr({column}, {at} + 2) AS BLOB)",
            at = rng.below(40)
        ),
    };
    let sql = format!(
        "UPDATE OR REPLACE {table} SET {column} = {value} WHERE {column} IN (SELECT {column} FROM {table} ORDER BY 1 LIMIT 1 OFFSET {})",
        rng.below(6)
    );
    site.try_exec(&sql).is_ok()
}
