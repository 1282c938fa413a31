//! Numbers as people read them.

use crate::workloads::{Comparison, Metric};

/// A figure as it was measured.
pub fn absolute(metric: Metric, value: f64, rows: usize) -> String {
    match metric {
        Metric::File => format!("{:.1} B", value / rows as f64),
        Metric::FileRatio | Metric::Memory => format!("{:.1} MB", value / 1e6),
        _ => seconds(value),
    }
}

/// A figure beside plain SQLite's.
pub fn compared(metric: Metric, value: f64) -> String {
    match metric.comparison() {
        Comparison::Ratio if value >= 99.95 => format!("{value:.0} ×"),
        Comparison::Ratio if value >= 9.995 => format!("{value:.1} ×"),
        Comparison::Ratio => format!("{value:.2} ×"),
        Comparison::BeyondPerRow => format!("{value:+.2} B"),
        Comparison::Absolute => absolute(metric, value, 1),
    }
}

/// A bar in the form of the figures it is for.
pub fn bar(metric: Metric, limit: f64) -> String {
    match metric.comparison() {
        Comparison::Ratio => format!("{limit}"),
        Comparison::BeyondPerRow => format!("{limit} B"),
        Comparison::Absolute => absolute(metric, limit, 1),
    }
}

fn seconds(value: f64) -> String {
    match value {
        value if value >= 9.995 => format!("{value:.1} s"),
        value if value >= 0.9995 => format!("{value:.2} s"),
        value if value >= 9.995e-3 => format!("{:.1} ms", value * 1e3),
        value if value >= 0.9995e-3 => format!("{:.2} ms", value * 1e3),
        value => format!("{:.1} µs", value * 1e6),
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_three_digits() {
        assert_eq!(compared(Metric::Cpu, 1.694), "1.69 ×");
        assert_eq!(compared(Metric::Cpu, 37.94), "37.9 ×");
        assert_eq!(compared(Metric::Cpu, 120.4), "120 ×");
        assert_eq!(compared(Metric::File, 0.3), "+0.30 B");
        assert_eq!(absolute(Metric::Cpu, 0.0356, 1), "35.6 ms");
        assert_eq!(absolute(Metric::P50, 3.5e-6, 1), "3.5 µs");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
    }
}
