//! FOREIGN KEYs over random histories: what is shown is what all rows decide, whatever came when, and with every policy.

use super::{Taken, hear, hidden, name};
use crate::exchange::{ARRIVALS, deliver};
use crate::{NO_ROWS, Rng, Site, SqlValue, assert_converged, exchange_all, site, sites};
use crsql_core::clash::Rank;
use crsql_core::ids::SiteId;
use crsql_core::merge::{CellClock, Stamp};
use crsql_core::parents::{Row, shown, strata};
use crsql_core::value::ValueRef;
use std::collections::{BTreeMap, BTreeSet};

/// A table as the expectation sees it: name, key, unique indexes, and references: columns, parent, its columns.
struct Shape {
    name: &'static str,
    key: &'static [&'static str],
    unique: &'static [&'static [&'static str]],
    links: &'static [(&'static [&'static str], &'static str, &'static [&'static str])],
}

struct Schema {
    ddl: &'static str,
    shapes: &'static [Shape],
    /// Statements with `I` for a small number, `T` for a short text, `N` for a small number or NULL.
    writes: &'static [&'static str],
}

const SCHEMAS: [Schema; 5] = [
    Schema {
        ddl: "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, v);
            CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, p INT REFERENCES p ACTION, v);
            CREATE TABLE g (id TEXT PRIMARY KEY NOT NULL, c INT DEFAULT 1 REFERENCES c ACTION, p INT REFERENCES p ACTION);
            CRR p; POLICY c; POLICY g",
        shapes: &[
            Shape { name: "p", key: &["id"], unique: &[], links: &[] },
            Shape { name: "c", key: &["id"], unique: &[], links: &[(&["p"], "p", &["id"])] },
            Shape { name: "g", key: &["id"], unique: &[], links: &[(&["c"], "c", &["id"]), (&["p"], "p", &["id"])] },
        ],
        writes: &[
            "INSERT INTO p VALUES (I, I)", "INSERT INTO p VALUES (I, I)", "DELETE FROM p WHERE id = I",
            "INSERT OR REPLACE INTO p VALUES (I, I)", "UPDATE p SET id = I WHERE id = I", "UPDATE p SET v = I WHERE id = I",
            "INSERT INTO c VALUES (I, N, I)", "INSERT INTO c VALUES (I, I, I)", "UPDATE c SET p = N WHERE id = I",
            "DELETE FROM c WHERE id = I", "UPDATE c SET v = I WHERE id = I", "INSERT OR REPLACE INTO c VALUES (I, I, 0)",
            "INSERT INTO g VALUES (T, N, N)", "INSERT INTO g VALUES (T, I, NULL)", "UPDATE g SET c = N, p = N WHERE id = T",
            "DELETE FROM g WHERE id = T", "UPDATE g SET id = T WHERE id = T", "UPDATE c SET id = I WHERE id = I",
        ],
    },
    Schema {
        ddl: "CREATE TABLE n (id INTEGER PRIMARY KEY NOT NULL, up INT REFERENCES n ACTION, v); POLICY n",
        shapes: &[Shape { name: "n", key: &["id"], unique: &[], links: &[(&["up"], "n", &["id"])] }],
        writes: &[
            "INSERT INTO n VALUES (I, I, I)", "INSERT INTO n VALUES (I, N, I)", "INSERT INTO n VALUES (I, NULL, I)",
            "UPDATE n SET up = N WHERE id = I", "UPDATE n SET up = I WHERE id = I", "DELETE FROM n WHERE id = I",
            "UPDATE n SET id = I WHERE id = I", "INSERT OR REPLACE INTO n VALUES (I, N, 9)", "UPDATE n SET v = I WHERE id = I",
            "INSERT INTO n SELECT id + 1, id, 0 FROM n WHERE id = I", "UPDATE n SET up = id WHERE id = I",
        ],
    },
    Schema {
        ddl: "CREATE TABLE a (id INTEGER PRIMARY KEY NOT NULL, b TEXT REFERENCES b ACTION DEFERRABLE INITIALLY DEFERRED);
            CREATE TABLE b (id TEXT PRIMARY KEY NOT NULL, a INT REFERENCES a ACTION DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
            CREATE TABLE x (id INTEGER PRIMARY KEY NOT NULL, a INT REFERENCES a ACTION);
            POLICY a; POLICY b; POLICY x",
        shapes: &[
            Shape { name: "a", key: &["id"], unique: &[], links: &[(&["b"], "b", &["id"])] },
            Shape { name: "b", key: &["id"], unique: &[], links: &[(&["a"], "a", &["id"])] },
            Shape { name: "x", key: &["id"], unique: &[], links: &[(&["a"], "a", &["id"])] },
        ],
        writes: &[
            "INSERT INTO a VALUES (I, T)", "INSERT INTO a VALUES (I, NULL)", "INSERT INTO b VALUES (T, I)",
            "INSERT INTO b VALUES (T, N)", "UPDATE a SET b = T WHERE id = I", "UPDATE b SET a = N WHERE id = T",
            "DELETE FROM a WHERE id = I", "DELETE FROM b WHERE id = T", "INSERT INTO x VALUES (I, I)",
            "DELETE FROM x WHERE id = I", "UPDATE x SET a = N", "INSERT OR REPLACE INTO b VALUES (T, I)",
        ],
    },
    Schema {
        ddl: "CREATE TABLE p (id INTEGER PRIMARY KEY NOT NULL, code INT UNIQUE);
            SELECT crsql_as_crr('p', '{\"unique\":\"winner\"}');
            CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, code INT REFERENCES p (code) ON UPDATE CASCADE, p INT REFERENCES p ACTION,
                            name UNIQUE);
            CREATE TABLE g (id INTEGER PRIMARY KEY NOT NULL, name REFERENCES c (name));
            UNIQUEPOLICY c; POLICY g",
        shapes: &[
            Shape { name: "p", key: &["id"], unique: &[&["code"]], links: &[] },
            Shape { name: "c", key: &["id"], unique: &[&["name"]], links: &[(&["code"], "p", &["code"]), (&["p"], "p", &["id"])] },
            Shape { name: "g", key: &["id"], unique: &[], links: &[(&["name"], "c", &["name"])] },
        ],
        writes: &[
            "INSERT INTO p VALUES (I, N)", "INSERT INTO p VALUES (I, I)", "UPDATE p SET code = N WHERE id = I",
            "DELETE FROM p WHERE id = I", "INSERT OR REPLACE INTO p VALUES (I, I)", "INSERT INTO c VALUES (I, N, N, N)",
            "INSERT INTO c VALUES (I, I, NULL, I)", "UPDATE c SET name = N WHERE id = I", "UPDATE c SET code = N, p = N WHERE id = I",
            "DELETE FROM c WHERE id = I", "UPDATE OR REPLACE c SET name = I WHERE id = I", "INSERT INTO g VALUES (I, N)",
            "UPDATE g SET name = I WHERE id = I", "DELETE FROM g WHERE id = I",
        ],
    },
    Schema {
        ddl: "CREATE TABLE p (a INT NOT NULL, b TEXT NOT NULL, v, PRIMARY KEY (a, b)) WITHOUT ROWID;
            CREATE TABLE c (id INTEGER PRIMARY KEY NOT NULL, x TEXT, y INT, FOREIGN KEY (x, y) REFERENCES p (b, a) ACTION);
            CREATE TABLE k (y INT NOT NULL, x TEXT NOT NULL, PRIMARY KEY (y, x), FOREIGN KEY (y, x) REFERENCES p ACTION);
            CRR p; POLICY c; POLICY k",
        shapes: &[
            Shape { name: "p", key: &["a", "b"], unique: &[], links: &[] },
            Shape { name: "c", key: &["id"], unique: &[], links: &[(&["y", "x"], "p", &["a", "b"])] },
            Shape { name: "k", key: &["y", "x"], unique: &[], links: &[(&["y", "x"], "p", &["a", "b"])] },
        ],
        writes: &[
            "INSERT INTO p VALUES (I, T, I)", "INSERT INTO p VALUES (I, T, I)", "DELETE FROM p WHERE a = I",
            "UPDATE p SET a = I WHERE b = T AND a = I", "INSERT INTO c VALUES (I, T, I)", "INSERT INTO c VALUES (I, T, N)",
            "UPDATE c SET x = T WHERE id = I", "DELETE FROM c WHERE id = I", "INSERT INTO k VALUES (I, T)",
            "DELETE FROM k WHERE y = I", "INSERT INTO c SELECT a, b, a FROM p WHERE a = I LIMIT 1",
            "INSERT INTO k SELECT a, b FROM p WHERE b = T LIMIT 1", "UPDATE k SET y = I WHERE y = I",
        ],
    },
];

type Target = (String, Vec<String>);

/// The tables and keys that should be shown, of everything that a replica holds.
fn expected(site: &Site, schema: &Schema) -> BTreeSet<(u32, Vec<u8>)> {
    type Held = (Option<CellClock>, BTreeMap<String, SqlValue>);
    let mut rows: BTreeMap<(u32, Vec<u8>), Held> = BTreeMap::new();
    let at = |name: &str| schema.shapes.iter().position(|shape| shape.name == name).expect("a table") as u32;
    let changes = site.values(
        r#"SELECT "table", pk, cid, val, col_version, site_id, site_version, seq FROM crsql_changes WHERE cl % 2 = 1"#,
    );
    for change in changes {
        let table = at(change[0].as_str());
        let row = rows.entry((table, change[1].blob().to_vec())).or_default();
        let cid = change[2].as_str().to_owned();
        if cid == "-1" {
            continue;
        }
        let stamp = Stamp {
            site: SiteId::try_from(change[5].blob()).expect("16 bytes"),
            version: change[6].integer() as u64,
            seq: change[7].integer() as u64,
        };
        if schema.shapes[table as usize].unique.iter().any(|index| index.contains(&cid.as_str())) {
            let clock = CellClock { col_version: change[4].integer() as u64, stamp };
            row.0 = row.0.max(Some(clock));
        }
        row.1.insert(cid, change[3].clone());
    }
    let all: Vec<Row<Target>> = rows
        .into_iter()
        .map(|((table, pk), (clock, mut values))| {
            let shape = &schema.shapes[table as usize];
            let key = crsql_core::pack::unpack(&pk).expect("a key");
            for (name, value) in shape.key.iter().zip(key) {
                values.insert((*name).to_owned(), sql_value(&value));
            }
            let of = |name: &str, columns: &[&str], from: &[&str]| -> Option<Target> {
                let values = from.iter().map(|column| values.get(*column).cloned().unwrap_or(SqlValue::Null));
                let values: Vec<SqlValue> = values.collect();
                let target = format!("{name} {columns:?}");
                (!values.contains(&SqlValue::Null))
                    .then(|| (target, values.iter().map(|value| value.to_string()).collect()))
            };
            let offered = schema.shapes.iter().flat_map(|shape| shape.links);
            let offers = offered.filter(|link| link.1 == shape.name);
            Row {
                table,
                unique: shape.unique.iter().map(|index| of(shape.name, index, index)).collect(),
                offers: offers.filter_map(|link| of(link.1, link.2, link.2)).collect(),
                needs: shape.links.iter().filter_map(|link| of(link.1, link.2, link.0)).collect(),
                rank: Rank { clock, key: pk },
            }
        })
        .collect();
    let tables: Vec<u32> = (0..schema.shapes.len() as u32).collect();
    let needs: Vec<(u32, u32)> = tables
        .iter()
        .flat_map(|id| schema.shapes[*id as usize].links.iter().map(move |link| (*id, at(link.1))))
        .collect();
    shown(&all, &strata(&tables, &needs))
}

fn sql_value(value: &ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Integer(number) => SqlValue::from(*number),
        ValueRef::Text(text) => SqlValue::text(std::str::from_utf8(text).expect("UTF-8")),
        other => panic!("keys here are integers and texts, not {other:?}"),
    }
}

fn shown_now(site: &Site, schema: &Schema) -> BTreeSet<(u32, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for (id, shape) in schema.shapes.iter().enumerate() {
        let sql = format!("SELECT crsql_pack_columns({}) FROM {}", shape.key.join(", "), shape.name);
        found.extend(site.values(&sql).iter().map(|row| (id as u32, row[0].blob().to_vec())));
    }
    found
}

fn filled(rng: &mut Rng, write: &str) -> String {
    let mut sql = String::new();
    let mut previous = ' ';
    let mut chars = write.chars().peekable();
    while let Some(c) = chars.next() {
        let is_alone =
            !previous.is_alphanumeric() && !chars.peek().is_some_and(|next| next.is_alphanumeric());
        match c {
            'I' if is_alone => sql.push_str(&rng.between(1, 5).to_string()),
            'T' if is_alone => sql.push_str(&format!("'{}'", rng.between(1, 3))),
            'N' if is_alone && rng.one_in(3) => sql.push_str("NULL"),
            'N' if is_alone => sql.push_str(&rng.between(1, 5).to_string()),
            _ => sql.push(c),
        }
        previous = c;
    }
    sql
}

/// A history of three replicas, of which one is looked through after every `every` steps.
pub fn history(seed: u64, steps: usize, every: usize) -> Taken {
    let mut rng = Rng::new(seed);
    let schema = &SCHEMAS[rng.below(SCHEMAS.len())];
    let policy = ["park", "cascade", "ignore"][if rng.one_in(6) { 2 } else { rng.below(2) }];
    let action = [
        "",
        "ON DELETE CASCADE",
        "ON DELETE SET NULL ON UPDATE CASCADE",
        "ON DELETE SET DEFAULT",
        "ON DELETE RESTRICT",
    ][rng.below(5)];
    let mut ddl = String::new();
    for part in schema.ddl.replace("ACTION", action).split(';') {
        let part = part.trim();
        if let Some(table) = part.strip_prefix("POLICY ") {
            ddl.push_str(&format!("SELECT crsql_as_crr('{table}', '{{\"fk\":\"{policy}\"}}');"));
        } else if let Some(table) = part.strip_prefix("UNIQUEPOLICY ") {
            ddl.push_str(&format!(
                "SELECT crsql_as_crr('{table}', '{{\"fk\":\"{policy}\",\"unique\":\"winner\"}}');"
            ));
        } else {
            ddl.push_str(part);
            ddl.push(';');
        }
    }
    let replicas: [Site; 3] = sites(&ddl);
    let about = format!("seed {seed}, {policy} {action:?}, {}", schema.ddl);
    for replica in &replicas {
        replica.exec(&format!("PRAGMA foreign_keys = {}", rng.pick(&["off", "on"])));
        name(replica, &mut rng);
    }
    let mut taken = Taken::default();
    for step in 0..steps {
        let (at, of) = (&replicas[rng.below(3)], &replicas[rng.below(3)]);
        taken.operations += 1;
        match rng.below(11) {
            0..=5 => {
                let is_long = rng.one_in(3);
                at.exec(if is_long { "BEGIN" } else { "" });
                for _ in 0..if is_long { 4 } else { 2 } {
                    let write = schema.writes[rng.below(schema.writes.len())];
                    let _ = at.try_exec(&filled(&mut rng, write));
                    taken.operations += 1;
                    if is_long && rng.one_in(6) && !std::ptr::eq(at, of) {
                        at.apply(&of.changeset());
                    }
                }
                if is_long && (rng.one_in(4) || at.try_exec("COMMIT").is_err()) {
                    at.exec("ROLLBACK");
                }
            }
            way => hear(at, of, way - 6, &mut rng),
        }
        if step % every != 0 {
            continue;
        }
        let about = format!("{about}, step {step}");
        assert_eq!(at.doctor(), "[]", "{about}");
        assert_eq!(at.rows("PRAGMA integrity_check"), ["'ok'"], "{about}");
        if policy != "ignore" {
            assert_eq!(at.rows("PRAGMA foreign_key_check"), NO_ROWS, "{about}");
            assert_eq!(shown_now(at, schema), expected(at, schema), "{about}");
        }
        taken.rare += hidden(at).len() as u64;
    }
    let [a, b, c] = [&replicas[0], &replicas[1], &replicas[2]];
    // What the authors of orphans write when they hear of the parents' end takes rounds of its own.
    for _ in 0..4 {
        exchange_all(&[a, b, c]);
    }
    let versions = |replicas: &[Site; 3]| replicas.each_ref().map(|replica| replica.own_site_version());
    let before = versions(&replicas);
    exchange_all(&[a, b, c]);
    assert_eq!(versions(&replicas), before, "nobody answers any more: {about}");
    assert_converged(&[a, b, c]);
    assert_eq!(hidden(a), hidden(c), "{about}");
    // Whoever gets all of it in one piece or in crumbs sees the same.
    for arrival in [*rng.pick(&ARRIVALS), *rng.pick(&ARRIVALS)] {
        let late = site(&ddl);
        late.exec(&format!("PRAGMA foreign_keys = {}", rng.pick(&["off", "on"])));
        let mut changes = a.changes();
        if rng.one_in(2) {
            changes.reverse();
        }
        deliver(&late, &mut changes, arrival);
        for table in a.crrs() {
            assert_eq!(a.table(&table), late.table(&table), "{about}, {arrival:?}");
        }
        assert_eq!(a.digest(), late.digest(), "{about}, {arrival:?}");
    }
    taken
}
