//! The bars crsql is held to, as data: how often plain SQLite's cost a workload may cost at most, in CPU time at
//! 100,000 rows, or the limit of whatever else the metric says.

use crate::dataset::KeyKind::{self, Blob, Int, Random};
use crate::workloads::Metric::{self, AgainCpu, Cpu, File, FileRatio, Lock, P50};

/// One bar.
pub struct Bar {
    /// The workload's id.
    pub workload: &'static str,
    /// Which of its figures.
    pub metric: Metric,
    /// The bar for each key kind that has one.
    pub limits: &'static [(KeyKind, f64)],
}

/// The most that crsql may show, where there is a bar.
pub fn limit(workload: &str, metric: Metric, keys: KeyKind) -> Option<f64> {
    let bar = BARS.iter().find(|bar| bar.workload == workload && bar.metric == metric)?;
    bar.limits.iter().find(|(of, _)| *of == keys).map(|(_, limit)| *limit)
}

/// The most bytes the stripped loadable library may have.
pub const LIBRARY_BYTES: u64 = 600_000;

const fn bar(workload: &'static str, metric: Metric, limits: &'static [(KeyKind, f64)]) -> Bar {
    Bar { workload, metric, limits }
}

/// Every bar.
pub const BARS: &[Bar] = &[
    bar("insert-one-tx", Cpu, &[(Int, 1.8), (Blob, 1.6), (Random, 2.1)]),
    bar("insert-one-tx", File, &[(Int, 1.0), (Blob, 1.0)]),
    bar("insert-1000-tx", Cpu, &[(Int, 1.8), (Blob, 1.5)]),
    bar("update-one-column", Cpu, &[(Int, 2.0), (Blob, 1.5)]),
    bar("update-four-columns", Cpu, &[(Int, 2.0), (Blob, 2.0)]),
    bar("update-random-100", Cpu, &[(Int, 1.8), (Blob, 1.8)]),
    bar("update-every-row", File, &[(Int, 25.0), (Blob, 25.0)]),
    bar("update-all", Cpu, &[(Int, 3.2), (Blob, 3.0)]),
    bar("delete", Cpu, &[(Int, 2.4), (Blob, 2.0)]),
    bar("single-insert", P50, &[(Int, 1.6), (Blob, 1.6)]),
    bar("single-update", P50, &[(Int, 1.6), (Blob, 1.6)]),
    bar("single-delete", P50, &[(Int, 1.6), (Blob, 1.6)]),
    // Reading a replicated table must cost what it costs anyway; what is above 1 is the measurement's noise.
    bar("read-scan", Cpu, &[(Int, 1.05), (Blob, 1.05)]),
    bar("read-point", Cpu, &[(Int, 1.05), (Blob, 1.05)]),
    bar("pull-changes", Cpu, &[(Int, 9.5), (Blob, 8.5)]),
    bar("pull-changeset", Cpu, &[(Int, 1.3), (Blob, 1.3)]),
    bar("pull-hundred-changes", Cpu, &[(Int, 2.5), (Blob, 2.5)]),
    bar("pull-hundred-changeset", Cpu, &[(Int, 2.5), (Blob, 2.5)]),
    bar("merge-apply", Cpu, &[(Int, 2.0), (Blob, 1.5)]),
    bar("merge-apply", AgainCpu, &[(Int, 0.2), (Blob, 0.7)]),
    bar("merge-apply", Lock, &[(Int, 0.3), (Blob, 0.3)]),
    bar("merge-rows", Cpu, &[(Int, 6.5), (Blob, 3.3)]),
    bar("merge-rows", Lock, &[(Int, 0.3), (Blob, 0.3)]),
    bar("merge-rows-nine", Cpu, &[(Int, 6.5), (Blob, 3.3)]),
    bar("merge-select", Cpu, &[(Int, 6.5), (Blob, 3.3)]),
    bar("merge-select", Lock, &[(Int, 0.3), (Blob, 0.3)]),
    bar("merge-select-nine", Cpu, &[(Int, 6.5), (Blob, 3.3)]),
    bar("merge-each", Cpu, &[(Int, 12.0), (Blob, 5.0)]),
    bar("merge-each", Lock, &[(Int, 0.3), (Blob, 0.3)]),
    bar("merge-each-nine", Cpu, &[(Int, 12.0), (Blob, 5.0)]),
    bar("build-large", Cpu, &[(Int, 1.8)]),
    bar("build-large", FileRatio, &[(Int, 1.03)]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads;

    #[test]
    fn every_bar_names_a_workload() {
        for bar in BARS {
            assert!(workloads::ALL.iter().any(|workload| workload.id == bar.workload), "{}", bar.workload);
        }
    }
}
