//! The comparison of a replica with its model: data, clocks, authorship, positions, digests.

use super::twin::{Twin, sql_value};
use crate::value::{Ident, SqlValue, render_row};
use crsql_core::change::ROW_CID;
use crsql_core::key::canonical_packed_key;
use crsql_core::replica::StampedChange;
use crsql_core::version_vector::{Limits, VersionVector};
use std::collections::{BTreeMap, BTreeSet};

/// Where the apply position stands in a row.
const DB_VERSION: usize = 5;

impl Twin {
    /// Panics on any difference between the replica and its model.
    pub fn compare(&self, what: &str) {
        if self.has_unseen_column() {
            return;
        }
        let real: Vec<_> = self.site.values(
            r#"SELECT "table", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version FROM crsql_changes"#,
        );
        let model: Vec<_> = self.model.changes().map(|change| row_of(&change)).collect();
        let ranked = if self.complete { ranked } else { unranked };
        let (real, model) = (self.without_parked_spelling(real), self.without_parked_spelling(model));
        assert_same_rows(&ranked(real), &ranked(model), &format!("{what}: changes"));
        for table in &self.schema.tables {
            let Some(schema) = self.model.schema(&table.name) else { continue };
            let keys = table.key.iter().map(|column| column.name.as_str());
            let columns: Vec<String> = keys
                .chain(schema.columns.iter().map(|column| column.name.as_str()))
                .map(|name| Ident(name).to_string())
                .collect();
            let real =
                self.site.values(&format!("SELECT {} FROM {}", columns.join(", "), Ident(&table.name)));
            let model = self.model.rows(&table.name).into_iter();
            let model: Vec<Vec<SqlValue>> =
                model.map(|(key, values)| key.iter().chain(&values).map(sql_value).collect()).collect();
            assert_same_rows(&real, &model, &format!("{what}: table {}", table.name));
        }
        assert_eq!(self.site.digest(), self.model.digest().hex(), "{what}: digest");
        let parked = self.site.int("SELECT count(*) FROM crsql_parked");
        assert_eq!(parked as usize, self.model.parked().len(), "{what}: parked changes");
        let held =
            VersionVector::decode(&self.site.version_vector(), &Limits::default()).expect("a version vector");
        let forgotten: Vec<_> = self.model.held().difference(&held).ranges().collect();
        assert!(
            forgotten.is_empty(),
            "{what}: the replica forgot versions it holds: {forgotten:?}\nit has {held:?}"
        );
    }
}

impl Twin {
    /// Rows of `crsql_changes` with canonical keys where the column is not here: what waits keeps the spelling of the
    /// key that it came with, while the model gives it its row's.
    fn without_parked_spelling(&self, mut rows: Vec<Vec<SqlValue>>) -> Vec<Vec<SqlValue>> {
        for row in &mut rows {
            let Some(schema) = self.model.schema(row[0].as_str()) else { continue };
            let cid = row[2].as_str();
            if cid != ROW_CID && !schema.has_column(cid) {
                let canonical = canonical_packed_key(row[1].blob(), &schema.key).expect("a key of the table");
                row[1] = canonical.bytes.into();
            }
        }
        rows
    }

    /// Whether a plain ALTER has not been noticed yet: what waits for its column is taken with the next write.
    pub(super) fn has_unseen_column(&self) -> bool {
        if self.complete {
            return false;
        }
        let parked = "SELECT count(*) FROM crsql_parked WHERE \"table\" = ?1 AND cid = ?2 AND reason LIKE '%no replicated column%'";
        let late = self.late_columns();
        late.iter().any(|(table, column)| self.site.value_with(parked, &[table, column]).integer() > 0)
    }
}

fn row_of(stamped: &StampedChange) -> Vec<SqlValue> {
    let change = &stamped.change;
    vec![
        SqlValue::text(&change.table),
        change.pk.clone().into(),
        change.cid().into(),
        sql_value(&change.value().to_owned_value()),
        (change.col_version() as i64).into(),
        (stamped.db_version.0 as i64).into(),
        change.stamp.site.as_bytes().to_vec().into(),
        (change.cl as i64).into(),
        (change.stamp.seq as i64).into(),
        (change.stamp.version as i64).into(),
    ]
}

/// Replaces apply positions by their ranks. The database may take a position for a transaction that only completed
/// versions, which the model does not; which changes came together, and in which order, must be the same.
fn ranked(mut rows: Vec<Vec<SqlValue>>) -> Vec<Vec<SqlValue>> {
    let positions: BTreeSet<i64> = rows.iter().map(|row| row[DB_VERSION].integer()).collect();
    let ranks: BTreeMap<i64, i64> = positions.into_iter().zip(1..).collect();
    for row in &mut rows {
        row[DB_VERSION] = ranks[&row[DB_VERSION].integer()].into();
    }
    rows
}

/// Drops apply positions: the database takes parked changes a second time when their table or column appears.
fn unranked(mut rows: Vec<Vec<SqlValue>>) -> Vec<Vec<SqlValue>> {
    rows.iter_mut().for_each(|row| row[DB_VERSION] = SqlValue::Null);
    rows
}

fn assert_same_rows(real: &[Vec<SqlValue>], model: &[Vec<SqlValue>], what: &str) {
    let render = |rows: &[Vec<SqlValue>]| rows.iter().map(|row| render_row(row)).collect::<BTreeSet<_>>();
    let (real_set, model_set) = (render(real), render(model));
    if real_set == model_set && real.len() == model.len() {
        return;
    }
    let lines =
        |set: Vec<&String>| set.iter().take(20).map(|line| format!("\n    {line}")).collect::<String>();
    panic!(
        "{what} differ ({} rows, the model has {})\n  only the replica:{}\n  only the model:{}",
        real.len(),
        model.len(),
        lines(real_set.difference(&model_set).collect()),
        lines(model_set.difference(&real_set).collect())
    );
}
