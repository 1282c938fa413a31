//! What is measured: the list of workloads, and the figures each of them gives.
//!
//! A workload runs once for one contender and returns what it measured. What plain SQLite does under the same
//! name, the divisor of every ratio, is part of the workload: a scan for a pull, an insert of the same rows for
//! a merge.

mod latency;
mod memory;
mod merge;
mod pull;
mod writes;

use crate::database::Result;
use crate::stage::Round;
use crate::timing::Timing;

/// A figure that a workload gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// CPU seconds.
    Cpu,
    /// Wall seconds.
    Wall,
    /// CPU seconds of doing the same once more, when there is nothing new in it.
    AgainCpu,
    /// Wall seconds of the same.
    AgainWall,
    /// Median wall seconds of one statement.
    P50,
    /// 99th percentile of the same.
    P99,
    /// Bytes of the file after the log was moved into it.
    File,
    /// The same bytes, looked at as a ratio.
    FileRatio,
    /// Wall seconds that the write lock was held, for 100,000 changes.
    Lock,
    /// The process's greatest resident size in bytes.
    Memory,
}

/// How a metric is compared with plain SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Divided by plain SQLite's.
    Ratio,
    /// What there is beyond plain SQLite's, divided by the number of rows.
    BeyondPerRow,
    /// Not at all.
    Absolute,
}

impl Metric {
    /// Every metric, in the order shown.
    pub const ALL: [Metric; 10] = [
        Metric::Cpu,
        Metric::Wall,
        Metric::AgainCpu,
        Metric::AgainWall,
        Metric::P50,
        Metric::P99,
        Metric::File,
        Metric::FileRatio,
        Metric::Lock,
        Metric::Memory,
    ];

    /// How it is compared.
    pub fn comparison(self) -> Comparison {
        match self {
            Metric::File => Comparison::BeyondPerRow,
            Metric::Lock | Metric::Memory => Comparison::Absolute,
            _ => Comparison::Ratio,
        }
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu_seconds",
            Metric::Wall => "wall_seconds",
            Metric::AgainCpu => "again_cpu_seconds",
            Metric::AgainWall => "again_wall_seconds",
            Metric::P50 => "p50_seconds",
            Metric::P99 => "p99_seconds",
            Metric::File => "file_bytes",
            Metric::FileRatio => "file_ratio_bytes",
            Metric::Lock => "lock_seconds_per_100k_changes",
            Metric::Memory => "peak_bytes",
        }
    }

    /// What is added to the workload's title where figures of one kind stand together.
    pub fn suffix(self) -> &'static str {
        match self {
            Metric::AgainCpu => ", the same again",
            Metric::P50 => ", median",
            Metric::P99 => ", p99",
            Metric::FileRatio => ", whole file",
            _ => "",
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// What it says.
    pub metric: Metric,
    /// In the metric's unit.
    pub value: f64,
}

/// The two figures of a timing.
fn timed(timing: Timing) -> Vec<Measure> {
    vec![measure(Metric::Cpu, timing.cpu), measure(Metric::Wall, timing.wall)]
}

fn measure(metric: Metric, value: f64) -> Measure {
    Measure { metric, value }
}

/// How many rows a workload works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Those of `--rows`.
    Rows,
    /// Ten times as many with `--large`, those of `--rows` without.
    LargeIfAsked,
    /// Ten times as many, and only with `--large`.
    LargeOnly,
}

/// One workload.
pub struct Workload {
    /// The name for `--only` and in JSON.
    pub id: &'static str,
    /// What a reader is shown.
    pub title: &'static str,
    /// On how many rows.
    pub scale: Scale,
    /// Runs it once.
    pub run: fn(&Round<'_>) -> Result<Vec<Measure>>,
}

const fn workload(
    id: &'static str,
    title: &'static str,
    run: fn(&Round<'_>) -> Result<Vec<Measure>>,
) -> Workload {
    Workload { id, title, scale: Scale::Rows, run }
}

/// Every workload, in the order run and shown.
pub const ALL: &[Workload] = &[
    workload("insert-one-tx", "insert, one transaction", writes::insert_in_one_transaction),
    workload("insert-1000-tx", "insert, 1,000-row transactions", writes::insert_in_thousands),
    workload("insert-select", "INSERT … SELECT", writes::insert_select),
    workload("update-one-column", "update one column", writes::update_one_column),
    workload("update-four-columns", "update four columns", writes::update_four_columns),
    workload("update-random-100", "random updates, 100 a transaction", writes::update_random_tenth),
    workload("update-every-row", "every row in random order, 100 a tx", writes::update_every_row_at_random),
    workload("update-all", "UPDATE of all rows, one statement", writes::update_all),
    workload("delete", "delete, one transaction", writes::delete),
    workload("single-insert", "autocommit insert", latency::insert),
    workload("single-update", "autocommit update", latency::update),
    workload("single-delete", "autocommit delete", latency::delete),
    workload("read-scan", "SELECT of the whole table", pull::read_scan),
    workload("read-point", "SELECT by key", pull::read_points),
    workload("pull-changes", "crsql_changes, everything / scan", pull::changes),
    workload("pull-changes-identity", "  with site_version", pull::changes_with_identity),
    workload("pull-changeset", "crsql_changeset(0) / scan", pull::changeset),
    Workload {
        id: "pull-hundred-changes",
        title: "100 changed rows, crsql_changes / index",
        scale: Scale::LargeIfAsked,
        run: pull::hundred_by_changes,
    },
    Workload {
        id: "pull-hundred-changeset",
        title: "100 changed rows, changeset / index",
        scale: Scale::LargeIfAsked,
        run: pull::hundred_by_changeset,
    },
    workload("merge-apply", "crsql_apply / insert", merge::apply),
    workload("merge-rows", "merge, a statement a row / insert", merge::row_statements),
    workload("merge-rows-nine", "  without site_version", merge::row_statements_visible),
    workload("merge-select", "merge, one INSERT … SELECT / insert", merge::one_select),
    workload("merge-select-nine", "  without site_version", merge::one_select_visible),
    workload("merge-each", "merge, a statement a change / insert", merge::change_statements),
    workload("merge-each-nine", "  without site_version", merge::change_statements_visible),
    workload("merge-interleaved", "merge, two sites' rows in turn / insert", merge::interleaved),
    workload("memory-insert", "insert, one transaction", memory::insert),
    workload("memory-update", "UPDATE of all rows", memory::update),
    workload("memory-apply", "crsql_apply", memory::apply),
    workload("memory-merge", "merge, one INSERT … SELECT", memory::merge),
    Workload {
        id: "build-large",
        title: "build of ten times the rows",
        scale: Scale::LargeOnly,
        run: writes::build,
    },
];
