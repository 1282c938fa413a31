//! Ordered lists over random histories: a row stands where it was put, no two rows of a list ever end at one place,
//! replicas agree on the order, and keys stay short.

use super::{Taken, name};
use crate::exchange::{ARRIVALS, deliver};
use crate::{Rng, Site, assert_converged, exchange_all, pull, sites};

const SCHEMAS: [&str; 3] = [
    "CREATE TABLE item (id INTEGER PRIMARY KEY NOT NULL, list TEXT, pos TEXT, title)",
    "CREATE TABLE item (list TEXT, id TEXT PRIMARY KEY NOT NULL, title, pos) WITHOUT ROWID",
    "CREATE TABLE item (id INTEGER NOT NULL, pos TEXT COLLATE NOCASE, list, title, PRIMARY KEY (id))",
];

/// Rows have ids from 1 to this.
const ROWS: i64 = 24;
/// A key takes a character every five or six halvings, and then counts.
const KEY_MAX: i64 = 60;

/// The ids of a list, in its order, and whether no two stand at one place.
fn order(site: &Site, list: &str) -> (Vec<i64>, bool) {
    let sql =
        "SELECT CAST(id AS INT), pos FROM item WHERE list = ?1 ORDER BY pos COLLATE BINARY, CAST(id AS INT)";
    let rows = site.values_with(sql, &[&list]);
    let is_clear = rows.windows(2).all(|pair| pair[0][1] != pair[1][1]);
    (rows.iter().map(|row| row[0].integer()).collect(), is_clear)
}

/// Puts a row somewhere: the new order has it there, and all others as they were.
fn put(at: &Site, rng: &mut Rng, about: &str) {
    let id = rng.between(1, ROWS);
    // A row has one list for ever: a key that was made in another may be one that this one has.
    let list = ["a", "b"][id as usize % 2];
    let is_there = !at.rows(&format!("SELECT 1 FROM item WHERE id = {id}")).is_empty();
    let (before, was_clear) = order(at, list);
    let others: Vec<i64> = before.iter().copied().filter(|other| *other != id).collect();
    let anchor = if others.is_empty() { None } else { Some(*rng.pick(&others)) };
    // Most of the work is at one place.
    let anchor = if rng.one_in(2) { others.first().copied() } else { anchor };
    let behind = anchor.map_or("NULL".into(), |anchor| anchor.to_string());
    let (sql, place) = match (is_there, rng.below(6)) {
        (false, 0) => (format!("INSERT INTO item (id, list, pos) VALUES ({id}, '{list}', 1)"), others.len()),
        (false, 1) => (format!("INSERT INTO item (id, list, pos) VALUES ({id}, '{list}', -1)"), 0),
        (true, 0) => (format!("UPDATE item SET pos = 1 WHERE id = {id}"), others.len()),
        (true, 1) => (format!("UPDATE item SET pos = -1 WHERE id = {id}"), 0),
        (is_there, _) => {
            let place = anchor.and_then(|anchor| others.iter().position(|other| *other == anchor));
            let sql = match is_there {
                true => format!("UPDATE item_fractindex SET after_id = {behind} WHERE id = {id}"),
                false => {
                    format!(
                        "INSERT INTO item_fractindex (id, list, after_id) VALUES ({id}, '{list}', {behind})"
                    )
                }
            };
            (sql, place.map_or(0, |place| place + 1))
        }
    };
    at.exec(&sql);
    let (after, is_clear) = order(at, list);
    let mut expected = others;
    expected.insert(place, id);
    if was_clear {
        assert_eq!(after, expected, "{about}: {sql}");
        assert!(is_clear, "{about}: {sql} put a row where one is");
    } else {
        // Where two are at one place, the one that is to be followed moves behind the other first.
        let stands = |row: i64| after.iter().position(|other| *other == row);
        let is_behind = stands(id) == anchor.and_then(stands).map(|place| place + 1);
        assert!(place == 0 || place == expected.len() - 1 || is_behind, "{about}: {sql} made {after:?}");
    }
}

/// A history of three replicas, of which one is looked through after every `every` steps.
pub fn history(seed: u64, steps: usize, every: usize) -> Taken {
    let mut rng = Rng::new(seed);
    let schema = format!(
        "{}; SELECT crsql_as_crr('item'); SELECT crsql_fract_as_ordered('item', 'pos', 'list')",
        rng.pick(&SCHEMAS)
    );
    let replicas: [Site; 3] = sites(&schema);
    replicas.iter().for_each(|replica| name(replica, &mut rng));
    let mut taken = Taken::default();
    for step in 0..steps {
        let (at, of) = (&replicas[rng.below(3)], &replicas[rng.below(3)]);
        let about = format!("seed {seed}, step {step}, {schema}");
        taken.operations += 1;
        match rng.below(16) {
            0..=9 => {
                let is_long = rng.one_in(4);
                at.exec(if is_long { "BEGIN" } else { "" });
                for _ in 0..if is_long { 4 } else { 1 } {
                    put(at, &mut rng, &about);
                    taken.operations += 1;
                }
                at.exec(if !is_long {
                    ""
                } else if rng.one_in(4) {
                    "ROLLBACK"
                } else {
                    "COMMIT"
                });
            }
            10 => {
                at.exec(&format!("DELETE FROM item WHERE id = {}", rng.between(1, ROWS)));
            }
            11 => {
                at.exec(&format!("UPDATE item SET title = {step} WHERE id = {}", rng.between(1, ROWS)));
            }
            12 | 13 => drop(pull(at, of)),
            14 => deliver(at, &mut of.changes(), *rng.pick(&ARRIVALS)),
            _ => {
                exchange_all(&[&replicas[0], &replicas[1], &replicas[2]]);
                taken.rare += agreed(&replicas, &about);
            }
        }
        if step % every == 0 {
            assert_eq!(at.doctor(), "[]", "{about}");
        }
    }
    let [a, b, c] = [&replicas[0], &replicas[1], &replicas[2]];
    exchange_all(&[a, b, c]);
    assert_converged(&[a, b, c]);
    taken.rare += agreed(&replicas, &format!("seed {seed} at the end"));
    taken
}

/// Panics unless all have the same order, without two rows at one place and without long keys. Returns how many pairs of
/// neighbours have keys that different sites made between the same two.
fn agreed(replicas: &[Site; 3], about: &str) -> u64 {
    for list in ["a", "b"] {
        let (first, is_clear) = order(&replicas[0], list);
        assert!(is_clear, "{about}: two rows at one place");
        for other in &replicas[1..] {
            assert_eq!(order(other, list).0, first, "{about}");
        }
    }
    let longest = replicas[0].int("SELECT coalesce(max(length(pos)), 0) FROM item");
    assert!(longest < KEY_MAX, "{about}: a key of {longest} characters");
    let keys = replicas[0].rows("SELECT pos FROM item ORDER BY list, pos COLLATE BINARY");
    // A site's own characters are the last ten.
    let place = |key: &str| key.len().checked_sub(11).and_then(|end| key.get(..end)).map(str::to_owned);
    keys.windows(2).filter(|pair| place(&pair[0]).is_some() && place(&pair[0]) == place(&pair[1])).count()
        as u64
}
