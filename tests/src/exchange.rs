//! Ways to exchange changes between replicas, and the comparisons that must hold afterwards.
//!
//! [`pull`] and [`sync`] use `crsql_changeset` and `crsql_apply`; [`RawPull`] moves rows of `crsql_changes` by
//! plain SQL, in the ten-column form that carries identity and in the nine-column form written for cr-sqlite.

use crate::site::Site;
use crate::value::{Ident, SqlValue, render_row};
use crate::{Rng, value};
use rusqlite::ToSql;
use std::collections::BTreeSet;

/// The ten columns of the recipe that loses nothing.
pub const TEN: &str = r#""table", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version"#;
/// The nine columns of cr-sqlite's surface, in its order.
pub const NINE: &str = r#""table", pk, cid, val, col_version, db_version, site_id, cl, seq"#;
/// What identifies a change and its clocks, without this replica's apply position.
pub const CLOCKS: &str = r#""table", pk, cid, val, col_version, site_id, cl, seq, site_version"#;

/// A row of `crsql_changes`: nine or ten values.
pub type ChangeRow = Vec<SqlValue>;

/// What `crsql_apply` reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Changes that changed this replica's state.
    pub applied: i64,
    /// Changes that lost or were known.
    pub ignored: i64,
    /// Changes kept for later.
    pub parked: i64,
    /// The reasons of changes that were refused.
    pub refused: Vec<String>,
    /// This replica's apply position afterwards.
    pub db_version: i64,
}

impl Site {
    /// A changeset of everything.
    pub fn changeset(&self) -> Vec<u8> {
        self.blob("SELECT crsql_changeset()")
    }

    /// A changeset of what a replica with this version vector lacks.
    pub fn changeset_for(&self, version_vector: &[u8]) -> Vec<u8> {
        self.value_with("SELECT crsql_changeset(?1)", &[&version_vector]).blob().to_vec()
    }

    /// A changeset of what this replica applied after a position.
    pub fn changeset_since(&self, db_version: i64) -> Vec<u8> {
        self.value_with("SELECT crsql_changeset(?1)", &[&db_version]).blob().to_vec()
    }

    /// Applies a changeset; panics on an error or a refused change.
    pub fn apply(&self, changeset: &[u8]) -> Report {
        let report = self.try_apply(changeset).unwrap_or_else(|error| panic!("crsql_apply: {error}"));
        assert!(report.refused.is_empty(), "refused: {:?}", report.refused);
        report
    }

    /// Applies a changeset; the error is SQLite's message.
    pub fn try_apply(&self, changeset: &[u8]) -> Result<Report, String> {
        let rows = self.try_values_with("SELECT crsql_apply(?1)", &[&changeset])?;
        Ok(self.parse_report(rows[0][0].as_str()))
    }

    fn parse_report(&self, json: &str) -> Report {
        let numbers = "SELECT json_extract(?1, '$.applied'), json_extract(?1, '$.ignored'), json_extract(?1, '$.parked'), json_extract(?1, '$.db_version')";
        let numbers = self.values_with(numbers, &[&json]).remove(0);
        let refused = self.values_with(
            "SELECT coalesce(json_extract(value, '$.reason'), value) FROM json_each(?1, '$.refused')",
            &[&json],
        );
        Report {
            applied: numbers[0].integer(),
            ignored: numbers[1].integer(),
            parked: numbers[2].integer(),
            refused: refused.into_iter().map(|row| row[0].as_str().to_string()).collect(),
            db_version: numbers[3].integer(),
        }
    }

    /// All changes, ten columns, in this replica's order.
    pub fn changes(&self) -> Vec<ChangeRow> {
        self.changes_where("true")
    }

    /// The changes that satisfy a condition, ten columns, in this replica's order.
    pub fn changes_where(&self, condition: &str) -> Vec<ChangeRow> {
        self.values(&format!("SELECT {TEN} FROM crsql_changes WHERE {condition} ORDER BY db_version, seq"))
    }

    /// Clocks and authorship of everything held, rendered and sorted, without apply positions.
    pub fn clocks(&self) -> Vec<String> {
        let mut rows = self.rows(&format!("SELECT {CLOCKS} FROM crsql_changes"));
        rows.sort();
        rows
    }

    /// Inserts changes, one single-row statement each.
    pub fn merge(&self, changes: &[ChangeRow]) {
        for change in changes {
            if let Err(error) = self.try_merge(std::slice::from_ref(change)) {
                panic!("{error}\n  merging {}", render_row(change));
            }
        }
    }

    /// Inserts changes, one single-row statement each, until one fails.
    pub fn try_merge(&self, changes: &[ChangeRow]) -> Result<(), String> {
        for change in changes {
            let params: Vec<&dyn ToSql> = change.iter().map(|value| value as &dyn ToSql).collect();
            let sql = match change.len() {
                9 => format!("INSERT INTO crsql_changes ({NINE}) VALUES (?,?,?,?,?,?,?,?,?)"),
                _ => format!("INSERT INTO crsql_changes ({TEN}) VALUES (?,?,?,?,?,?,?,?,?,?)"),
            };
            let mut statement = self.conn.prepare_cached(&sql).map_err(crate::site::message)?;
            statement.execute(params.as_slice()).map_err(crate::site::message)?;
        }
        Ok(())
    }

    /// Inserts changes with one statement of many rows.
    pub fn merge_in_one_statement(&self, changes: &[ChangeRow]) {
        for chunk in changes.chunks(500) {
            let columns = if chunk[0].len() == 9 { NINE } else { TEN };
            let marks = format!("({})", vec!["?"; chunk[0].len()].join(","));
            let sql = format!(
                "INSERT INTO crsql_changes ({columns}) VALUES {}",
                vec![marks.as_str(); chunk.len()].join(",")
            );
            let params: Vec<&dyn ToSql> = chunk.iter().flatten().map(|value| value as &dyn ToSql).collect();
            self.run(&sql, &params);
        }
    }

    /// The replicated tables: those that carry the extension's triggers.
    pub fn crrs(&self) -> Vec<String> {
        let sql = "SELECT DISTINCT tbl_name FROM main.sqlite_schema
                   WHERE type = 'trigger' AND name LIKE '%crsql%' ORDER BY tbl_name";
        self.values(sql).into_iter().map(|row| row[0].as_str().to_string()).collect()
    }

    /// The rows of a table with storage class and bits, sorted; columns by name.
    pub fn table(&self, table: &str) -> Vec<String> {
        let columns =
            self.values_with("SELECT name FROM pragma_table_xinfo(?1, 'main') ORDER BY name", &[&table]);
        let columns: Vec<String> =
            columns.iter().map(|row| value::Ident(row[0].as_str()).to_string()).collect();
        let sql = format!("SELECT {} FROM main.{}", columns.join(", "), Ident(table));
        let mut rows = self.rows(&sql);
        rows.sort();
        rows
    }
}

/// `to` pulls what it lacks from `from` by version vector.
pub fn pull(to: &Site, from: &Site) -> Report {
    to.apply(&from.changeset_for(&to.version_vector()))
}

/// Both replicas pull from each other.
pub fn sync(a: &Site, b: &Site) {
    pull(b, a);
    pull(a, b);
}

/// Everybody gets everything, by going round the ring twice.
pub fn exchange_all(sites: &[&Site]) {
    for _ in 0..2 {
        for (i, to) in sites.iter().enumerate() {
            pull(to, sites[(i + 1) % sites.len()]);
        }
    }
    for (i, to) in sites.iter().enumerate() {
        pull(to, sites[(i + sites.len() - 1) % sites.len()]);
    }
}

/// Everybody with everybody, until nothing moves: all are equal then, and sound.
pub fn sync_all(sites: &[&Site]) {
    for _ in 0..2 {
        for from in sites {
            for to in sites.iter().filter(|to| !std::ptr::eq(**to, *from)) {
                pull(to, from);
            }
        }
    }
    assert_converged(sites);
}

/// Panics unless all replicas hold equal tables, clocks, authorship and digests, and are sound. A table that one of
/// them lacks is compared by what they hold of it.
pub fn assert_converged(sites: &[&Site]) {
    let mut tables = sites[0].crrs();
    for site in sites {
        let known = site.crrs();
        tables.retain(|table| known.contains(table));
    }
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    assert_same_tables(&tables, sites);
    let (clocks, digest) = (sites[0].clocks(), sites[0].digest());
    for (i, site) in sites.iter().enumerate() {
        assert_same_lines(&clocks, &site.clocks(), &format!("clocks of replica 0 and replica {i}"));
        assert_eq!(digest, site.digest(), "digests of replica 0 and replica {i} differ");
        assert_eq!(site.doctor(), "[]", "replica {i} is not sound");
    }
}

/// Panics unless these tables are equal, byte for byte, on all replicas.
pub fn assert_same_tables(tables: &[&str], sites: &[&Site]) {
    for table in tables {
        let first = sites[0].table(table);
        for (i, site) in sites.iter().enumerate() {
            assert_same_lines(
                &first,
                &site.table(table),
                &format!("table {table:?} of replica 0 and replica {i}"),
            );
        }
    }
}

fn assert_same_lines(left: &[String], right: &[String], what: &str) {
    if left == right {
        return;
    }
    let lefts: BTreeSet<&String> = left.iter().collect();
    let rights: BTreeSet<&String> = right.iter().collect();
    let show = |name: &str, lines: Vec<&&String>| {
        let shown: String = lines.iter().take(12).map(|line| format!("\n    {line}")).collect();
        format!("\n  only {name} ({}):{shown}", lines.len())
    };
    panic!(
        "{what} differ{}{}",
        show("left", lefts.difference(&rights).collect()),
        show("right", rights.difference(&lefts).collect())
    );
}

/// How raw changes arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// One statement a change, each its own transaction, in order.
    Autocommit,
    /// One statement a change in one transaction.
    Transaction,
    /// One statement of many rows.
    OneStatement,
    /// One statement a change in one transaction, in a random order given by the seed.
    Shuffled(u64),
}

/// All arrivals, for tests that try each.
pub const ARRIVALS: [Arrival; 5] = [
    Arrival::Autocommit,
    Arrival::Transaction,
    Arrival::OneStatement,
    Arrival::Shuffled(1),
    Arrival::Shuffled(2),
];

/// An exchange through `crsql_changes` with a watermark: cr-sqlite's recipe, one per direction of a pair.
#[derive(Debug, Clone)]
pub struct RawPull {
    columns: &'static str,
    arrival: Arrival,
    seen: i64,
}

impl RawPull {
    /// The recipe that names the hidden `site_version`.
    pub fn ten_columns(arrival: Arrival) -> RawPull {
        RawPull { columns: TEN, arrival, seen: 0 }
    }

    /// The recipe of code written for cr-sqlite.
    pub fn nine_columns(arrival: Arrival) -> RawPull {
        RawPull { columns: NINE, arrival, seen: 0 }
    }

    /// Moves what `from` has above the watermark and `to` did not write; returns the number of changes.
    pub fn run(&mut self, to: &Site, from: &Site) -> usize {
        let sql = format!(
            "SELECT {} FROM crsql_changes WHERE db_version > ?1 AND site_id IS NOT ?2 ORDER BY db_version, seq",
            self.columns
        );
        let mut changes = from.values_with(&sql, &[&self.seen, &to.site_id()]);
        self.seen = changes.iter().map(|change| change[5].integer()).fold(self.seen, i64::max);
        deliver(to, &mut changes, self.arrival);
        changes.len()
    }
}

/// Delivers raw changes in one of the ways.
pub fn deliver(to: &Site, changes: &mut [ChangeRow], arrival: Arrival) {
    if changes.is_empty() {
        return;
    }
    match arrival {
        Arrival::Autocommit => to.merge(changes),
        Arrival::OneStatement => to.merge_in_one_statement(changes),
        Arrival::Transaction => in_transaction(to, changes),
        Arrival::Shuffled(seed) => {
            Rng::new(seed).shuffle(changes);
            in_transaction(to, changes);
        }
    }
}

fn in_transaction(to: &Site, changes: &[ChangeRow]) {
    to.exec("BEGIN");
    to.merge(changes);
    to.exec("COMMIT");
}
