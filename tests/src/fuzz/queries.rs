//! SQL functions with any arguments, and the plans of `crsql_changes`. The bytes are a seed here: what they stand for is
//! a whole statement.

use super::{kind_of, signature};
use crate::plans::{assert_same_answers, historied, refresh};
use crate::{Rng, Site};
use std::cell::RefCell;

/// Every function of ours that may be called with anything.
const FUNCTIONS: [&str; 34] = [
    "crsql_as_crr",
    "crsql_as_table",
    "crsql_begin_alter",
    "crsql_commit_alter",
    "crsql_automigrate",
    "crsql_changeset",
    "crsql_apply",
    "crsql_version_vector",
    "crsql_digest",
    "crsql_canonical_key",
    "crsql_rows_impacted",
    "crsql_doctor",
    "crsql_stats",
    "crsql_new_site",
    "crsql_gc",
    "crsql_token",
    "crsql_site_id",
    "crsql_db_version",
    "crsql_next_db_version",
    "crsql_version",
    "crsql_sha",
    "crsql_pack_columns",
    "crsql_fract_key_between",
    "crsql_fract_as_ordered",
    "crsql_config_set",
    "crsql_config_get",
    "crsql_finalize",
    "crsql_internal_sync_bit",
    "crsql_capture_insert",
    "crsql_capture_delete",
    "crsql_capture_update",
    "crsql_capture_key",
    "crsql_capture_candidate",
    "crsql_capture_after",
];

const VALUES: [&str; 40] = [
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "9223372036854775807",
    "-9223372036854775808",
    "0.0",
    "-0.0",
    "1.5",
    "9e999",
    "-9e999",
    "''",
    "'t'",
    "'k'",
    "'main'",
    "'temp'",
    "'no such table'",
    "'\"'",
    "'''; DROP TABLE t; --'",
    "'{}'",
    "'{\"columns\":{\"x\":\"nonsense\"}}'",
    "'{'",
    "'tie-break'",
    "'value'",
    "'a '",
    "'zzz'",
    "char(0)",
    "'é' || char(0) || 'x'",
    "x''",
    "x'00'",
    "x'0105'",
    "x'010901'",
    "x'ff'",
    "zeroblob(16)",
    "zeroblob(70000)",
    "CAST(x'ff' AS TEXT)",
    "crsql_changeset()",
    "crsql_version_vector()",
    "'CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x)'",
];

thread_local! {
    static REPLICA: RefCell<Option<(Site, u32, bool)>> = const { RefCell::new(None) };
    static DATABASES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    static HISTORIED: RefCell<Option<Site>> = const { RefCell::new(None) };
}

fn rng_of(bytes: &[u8]) -> Rng {
    let seed = bytes
        .iter()
        .fold(bytes.len() as u64, |seed, byte| seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte));
    Rng::new(seed)
}

/// A call of one function or an INSERT of one change, with arguments of every kind.
pub fn arguments(bytes: &[u8]) -> u64 {
    let rng = &mut rng_of(bytes);
    REPLICA.with_borrow_mut(|replica| {
        // Now and then another database: the last one has seen much.
        if replica.as_ref().is_none_or(|(_, uses, _)| *uses > 300) {
            DATABASES.set(DATABASES.get() + 1);
            *replica = Some((crate::site(crate::plans::SCHEMA), 0, false));
            if let Some((site, ..)) = replica {
                site.exec("INSERT INTO t VALUES (1, 'x', 2); INSERT INTO k VALUES ('K', 1, 2, 3)");
            }
        }
        let (site, uses, by_hand) = replica.as_mut().expect("just made");
        *uses += 1;
        let count = rng.below(6);
        let values: Vec<&str> = (0..count).map(|_| *rng.pick(&VALUES)).collect();
        let (what, sql) = match rng.below(10) {
            0 => (
                "an insert",
                format!(
                    "INSERT INTO crsql_changes ({}) VALUES ({})",
                    crate::exchange::TEN,
                    ten(rng).join(", ")
                ),
            ),
            1 => (
                "unpack",
                format!("SELECT cell FROM crsql_unpack_columns WHERE package = {}", rng.pick(&VALUES)),
            ),
            _ => {
                // Every other database sees no call of what only triggers call.
                let callable =
                    if DATABASES.get().is_multiple_of(2) { FUNCTIONS.len() } else { FUNCTIONS.len() - 6 };
                let function = FUNCTIONS[rng.below(callable)];
                *by_hand |= function.starts_with("crsql_capture");
                (function, format!("SELECT {function}({})", values.join(", ")))
            }
        };
        let answer = site.try_values_with(&sql, &[]);
        if !site.conn.is_autocommit() {
            site.exec("ROLLBACK");
        }
        if uses.is_multiple_of(50) {
            assert_eq!(site.rows("PRAGMA integrity_check"), ["'ok'"], "{sql}");
            // Whoever calls what our triggers call writes clocks by hand; that is not to crash, but it is not sound.
            if !*by_hand {
                assert_eq!(site.doctor(), "[]", "{sql}");
            }
        }
        match answer {
            Ok(_) => signature(&[1, kind_of(what), count as u64]),
            Err(message) => {
                assert!(!message.contains("panic"), "{sql}: {message}");
                signature(&[2, kind_of(what), kind_of(&message)])
            }
        }
    })
}

fn ten(rng: &mut Rng) -> Vec<String> {
    let usual = ["'t'", "x'010901'", "'x'", "1", "1", "1", "zeroblob(16)", "1", "0", "1"];
    usual.iter().map(|usual| if rng.one_in(3) { rng.pick(&VALUES) } else { usual }.to_string()).collect()
}

/// One random query, on `crsql_changes` and on a plain copy.
pub fn plans(bytes: &[u8]) -> u64 {
    let rng = &mut rng_of(bytes);
    HISTORIED.with_borrow_mut(|replica| {
        let site = replica.get_or_insert_with(historied);
        refresh(site);
        assert_same_answers(site, rng, 16);
    });
    rng.bits() % 64
}
