//! Clocks and the little statistics the report needs.
//!
//! CPU time is what ratios are made of, because other work on the machine lengthens it least; wall time is kept
//! beside it and is what latencies are measured in.

use std::time::Instant;

use crate::database::Result;

/// How long a piece of work took, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// CPU time of the whole process, user and system.
    pub cpu: f64,
    /// Time by the clock on the wall.
    pub wall: f64,
}

/// Runs `work` once and times it.
///
/// It is never inlined, so that `valgrind --tool=callgrind --toggle-collect='*timing::measured*'` counts the
/// instructions of the timed work and of nothing else.
#[inline(never)]
pub fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Timing)> {
    let wall = Instant::now();
    let cpu = cpu_seconds();
    let value = work()?;
    let cpu = cpu_seconds() - cpu;
    Ok((value, Timing { cpu, wall: wall.elapsed().as_secs_f64() }))
}

/// CPU seconds this process has used.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one every supported system has, and `time` is ours to write.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Wall seconds of each of `count` runs of `work`, which gets the run's number.
#[inline(never)]
pub fn latencies(count: usize, mut work: impl FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(count);
    for run in 0..count {
        let start = Instant::now();
        work(run)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// The value that `share` (0 to 1) of the values lie below; NaN of nothing.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() as f64 * share) as usize;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_of_few_values_is_one_of_them() {
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.99), 3.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
