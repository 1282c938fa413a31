//! Runs the contenders in turn, round after round, and keeps every figure.
//!
//! Interleaving (A B C, A B C, …) spreads whatever else the machine does over all of them, and a ratio is taken
//! within a round before the median is taken over the rounds.

use crate::contenders::Contender;
use crate::database::{Failure, Result};
use crate::dataset::KeyKind;
use crate::stage::{Round, Stage};
use crate::timing::median;
use crate::workloads::{Comparison, Measure, Metric, Scale, Workload};

/// What to run.
pub struct Plan<'a> {
    /// The contenders; the first is plain SQLite.
    pub contenders: &'a [Contender],
    /// The key kinds.
    pub keys: &'a [KeyKind],
    /// The workloads.
    pub workloads: Vec<&'static Workload>,
    /// How many rows.
    pub rows: usize,
    /// Whether large workloads run on ten times as many.
    pub large: bool,
    /// How often each contender runs each workload.
    pub rounds: usize,
}

impl Plan<'_> {
    /// How many rows a workload gets, or none when it is not asked for.
    pub fn rows_of(&self, workload: &Workload) -> Option<usize> {
        match (workload.scale, self.large) {
            (Scale::Rows, _) | (Scale::LargeIfAsked, false) => Some(self.rows),
            (Scale::LargeIfAsked | Scale::LargeOnly, true) => Some(self.rows * 10),
            (Scale::LargeOnly, false) => None,
        }
    }

    /// Runs everything; `progress` is told before each run.
    pub fn run(&self, stage: &Stage, mut progress: impl FnMut(&str)) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for keys in self.keys {
            for workload in &self.workloads {
                if let Some(rows) = self.rows_of(workload) {
                    let runs = self.compare(stage, workload, *keys, rows, &mut progress);
                    outcomes.push(Outcome { workload, keys: *keys, rows, runs });
                }
            }
            stage.forget(*keys);
        }
        outcomes
    }

    fn compare(
        &self,
        stage: &Stage,
        workload: &Workload,
        keys: KeyKind,
        rows: usize,
        progress: &mut impl FnMut(&str),
    ) -> Vec<Runs> {
        let data = stage.dataset(keys, rows);
        let mut runs: Vec<Runs> = self.contenders.iter().map(|_| Ok(Vec::new())).collect();
        // What takes long varies less, and waiting has its limits.
        let rounds = if rows > 500_000 { self.rounds.min(3) } else { self.rounds };
        for number in 1..=rounds {
            for (contender, runs) in self.contenders.iter().zip(&mut runs) {
                let Ok(done) = runs else { continue };
                progress(&format!(
                    "{}  {}  round {number}/{rounds}  {}",
                    keys.name(),
                    workload.id,
                    contender.name
                ));
                match (workload.run)(&Round { stage, contender, data: &data }) {
                    Ok(measures) => done.push(measures),
                    Err(failure) => *runs = Err(failure),
                }
            }
        }
        runs
    }
}

/// What one contender gave for one workload: the figures of each round, or why there are none.
pub type Runs = Result<Vec<Vec<Measure>>>;

/// One workload with one key kind.
pub struct Outcome {
    /// The workload.
    pub workload: &'static Workload,
    /// The keys.
    pub keys: KeyKind,
    /// On how many rows.
    pub rows: usize,
    /// By contender, in the plan's order.
    pub runs: Vec<Runs>,
}

impl Outcome {
    /// The figures of one metric, a round each.
    pub fn samples(&self, contender: usize, metric: Metric) -> Vec<f64> {
        let rounds = self.runs[contender].as_deref().unwrap_or(&[]);
        let of =
            |round: &Vec<Measure>| round.iter().find(|measure| measure.metric == metric).map(|m| m.value);
        rounds.iter().filter_map(of).collect()
    }

    /// The metrics that any contender has.
    pub fn metrics(&self) -> Vec<Metric> {
        let given = |metric: &Metric| (0..self.runs.len()).any(|who| !self.samples(who, *metric).is_empty());
        Metric::ALL.into_iter().filter(given).collect()
    }

    /// The median of the figures themselves.
    pub fn value(&self, contender: usize, metric: Metric) -> Option<f64> {
        let samples = self.samples(contender, metric);
        (!samples.is_empty()).then(|| median(&samples))
    }

    /// The median over the rounds of the comparison with plain SQLite in the same round.
    pub fn compared(&self, contender: usize, metric: Metric) -> Option<f64> {
        let ours = self.samples(contender, metric);
        let plain = self.samples(0, metric);
        let compared: Vec<f64> = match metric.comparison() {
            Comparison::Absolute => ours,
            Comparison::Ratio => ours.iter().zip(&plain).map(|(ours, plain)| ours / plain).collect(),
            Comparison::BeyondPerRow => {
                ours.iter().zip(&plain).map(|(ours, plain)| (ours - plain) / self.rows as f64).collect()
            }
        };
        (!compared.is_empty()).then(|| median(&compared))
    }

    /// Why a contender has no figures, unless that was to be expected.
    pub fn failure(&self, contender: usize) -> Option<&str> {
        match &self.runs[contender] {
            Err(Failure::Failed(reason)) => Some(reason),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads;

    fn outcome(plain: &[f64], ours: &[f64], metric: Metric) -> Outcome {
        let runs = [plain, ours]
            .map(|values| Ok(values.iter().map(|value| vec![Measure { metric, value: *value }]).collect()));
        Outcome { workload: &workloads::ALL[0], keys: KeyKind::Int, rows: 10, runs: runs.into() }
    }

    #[test]
    fn a_ratio_is_taken_within_the_round_before_the_median() {
        let outcome = outcome(&[1.0, 10.0, 1.0], &[2.0, 30.0, 4.0], Metric::Cpu);
        assert_eq!(outcome.compared(1, Metric::Cpu), Some(3.0));
        assert_eq!(outcome.value(1, Metric::Cpu), Some(4.0));
    }

    #[test]
    fn bytes_are_counted_beyond_plain_and_by_row() {
        assert_eq!(outcome(&[100.0], &[105.0], Metric::File).compared(1, Metric::File), Some(0.5));
    }

    #[test]
    fn a_metric_nobody_gave_has_no_value() {
        let outcome = outcome(&[1.0], &[2.0], Metric::Cpu);
        assert_eq!(outcome.compared(1, Metric::P50), None);
        assert_eq!(outcome.metrics(), [Metric::Cpu]);
    }
}
