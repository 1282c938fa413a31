//! UNIQUE by winner over random histories: what is shown is what all rows decide, whatever came when.

use super::{Taken, hear, hidden, name};
use crate::{Rng, Site, SqlValue, assert_converged, exchange_all, sites};
use crsql_core::clash::{Rank, shown};
use crsql_core::ids::SiteId;
use crsql_core::merge::{CellClock, Stamp};
use std::collections::BTreeMap;

const RANDOM: [&str; 2] = [
    "CREATE TABLE r (id INTEGER PRIMARY KEY NOT NULL, a UNIQUE, b, c, UNIQUE (b, c))",
    "CREATE TABLE r (id BLOB PRIMARY KEY NOT NULL, a UNIQUE, b, c, UNIQUE (b, c))",
];

/// The rows that should be shown, of everything that a replica holds.
fn expected(site: &Site) -> Vec<String> {
    type Row = (Option<CellClock>, BTreeMap<String, SqlValue>);
    let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
    let changes = site.values(
        r#"SELECT pk, cid, val, col_version, site_id, site_version, seq FROM crsql_changes WHERE cl % 2 = 1"#,
    );
    for change in changes {
        let row = rows.entry(change[0].blob().to_vec()).or_default();
        let cid = change[1].as_str().to_owned();
        if cid == "-1" {
            continue;
        }
        let stamp = Stamp {
            site: SiteId::try_from(change[4].blob()).expect("16 bytes"),
            version: change[5].integer() as u64,
            seq: change[6].integer() as u64,
        };
        row.0 = row.0.max(Some(CellClock { col_version: change[3].integer() as u64, stamp }));
        row.1.insert(cid, change[2].clone());
    }
    let key = |values: &BTreeMap<String, SqlValue>, columns: &[&str]| {
        let values: Vec<_> =
            columns.iter().map(|c| values.get(*c).cloned().unwrap_or(SqlValue::Null)).collect();
        (!values.contains(&SqlValue::Null)).then_some(values)
    };
    let all: BTreeMap<Rank, _> = rows
        .into_iter()
        .map(|(pk, (clock, values))| {
            (Rank { clock, key: pk }, vec![key(&values, &["a"]), key(&values, &["b", "c"])])
        })
        .collect();
    shown(&all)
        .iter()
        .map(|rank| {
            let key = crsql_core::pack::unpack(&rank.key).expect("a key");
            match key[0] {
                crsql_core::value::ValueRef::Integer(id) => id.to_string(),
                _ => panic!("ids are integers"),
            }
        })
        .collect()
}

/// A history of three replicas, of which one is looked through after every `every` steps.
pub fn history(seed: u64, steps: usize, every: usize) -> Taken {
    let mut rng = Rng::new(seed);
    let schema = format!("{}; SELECT crsql_as_crr('r', '{{\"unique\":\"winner\"}}')", rng.pick(&RANDOM));
    let replicas: [Site; 3] = sites(&schema);
    replicas.iter().for_each(|replica| name(replica, &mut rng));
    let mut taken = Taken::default();
    for step in 0..steps {
        let (at, of) = (&replicas[rng.below(3)], &replicas[rng.below(3)]);
        taken.operations += 1;
        match rng.below(10) {
            0..=4 => {
                let is_long = rng.one_in(3);
                at.exec(if is_long { "BEGIN" } else { "" });
                for _ in 0..if is_long { 4 } else { 1 } {
                    let (id, v, w) = (rng.between(1, 7), rng.between(0, 4), rng.between(0, 1));
                    let value = if v == 0 { "NULL".to_owned() } else { v.to_string() };
                    let sql = match rng.below(7) {
                        0 | 1 => format!("INSERT INTO r VALUES ({id}, {value}, {w}, {v})"),
                        2 => format!("INSERT OR REPLACE INTO r VALUES ({id}, {value}, {w}, {v})"),
                        3 => format!("UPDATE r SET a = {value} WHERE id = {id}"),
                        4 => format!("UPDATE OR REPLACE r SET b = {w}, c = {v} WHERE id = {id}"),
                        5 => format!("UPDATE r SET id = {id} WHERE id = {}", rng.between(1, 7)),
                        _ => format!("DELETE FROM r WHERE id = {id}"),
                    };
                    let _ = at.try_exec(&sql);
                    taken.operations += 1;
                    if is_long && rng.one_in(5) && !std::ptr::eq(at, of) {
                        // In the middle of the transaction, between its own writes.
                        at.apply(&of.changeset());
                    }
                }
                at.exec(if !is_long {
                    ""
                } else if rng.one_in(4) {
                    "ROLLBACK"
                } else {
                    "COMMIT"
                });
            }
            way => hear(at, of, way - 5, &mut rng),
        }
        if step % every != 0 {
            continue;
        }
        let problems = at.doctor();
        assert_eq!(problems, "[]", "seed {seed}, step {step}");
        let mut ids: Vec<String> = expected(at);
        ids.sort();
        assert_eq!(at.rows("SELECT id FROM r ORDER BY id"), ids, "seed {seed}, step {step}");
        assert_eq!(at.rows("PRAGMA integrity_check"), ["'ok'"]);
        taken.rare += hidden(at).len() as u64;
    }
    exchange_all(&[&replicas[0], &replicas[1], &replicas[2]]);
    let (a, b, c) = (&replicas[0], &replicas[1], &replicas[2]);
    exchange_all(&[a, b, c]);
    assert_converged(&[a, b, c]);
    assert_eq!(hidden(a), hidden(c), "seed {seed}");
    taken
}
