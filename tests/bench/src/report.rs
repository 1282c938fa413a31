//! The comparison as aligned text: plain SQLite's figure, everybody else's ratio to it, and the bar beside them.

use crate::bars;
use crate::contenders::Contender;
use crate::dataset::KeyKind;
use crate::figures::{absolute, bar, compared, thousands};
use crate::results::Outcome;
use crate::workloads::Metric;

/// One line of the table: a metric of a workload.
pub struct Line<'a> {
    /// Whose figures.
    pub outcome: &'a Outcome,
    /// Which figure.
    pub metric: Metric,
    /// The bar, where there is one.
    pub limit: Option<f64>,
}

impl Line<'_> {
    /// What a reader is shown.
    pub fn title(&self) -> String {
        format!("{}{}", self.outcome.workload.title, self.metric.suffix())
    }

    /// Whether a contender keeps the bar; none where it has no figure or the bars are not meant for it.
    pub fn passes(&self, contenders: &[Contender], who: usize) -> Option<bool> {
        let limit = self.limit.filter(|_| contenders[who].is_ours())?;
        // To the digits shown, so that no figure fails a bar that it seems to equal.
        self.outcome.compared(who, self.metric).map(|value| (value * 100.0).round() / 100.0 <= limit)
    }
}

/// The lines of one key kind. Wall times are left to the JSON.
pub fn lines(outcomes: &[Outcome], keys: KeyKind) -> Vec<Line<'_>> {
    let of_keys = outcomes.iter().filter(|outcome| outcome.keys == keys);
    let shown = |metric: &Metric| !matches!(metric, Metric::Wall | Metric::AgainWall);
    of_keys
        .flat_map(|outcome| {
            let line =
                move |metric| Line { outcome, metric, limit: bars::limit(outcome.workload.id, metric, keys) };
            outcome.metrics().into_iter().filter(shown).map(line)
        })
        .collect()
}

/// The whole report.
pub fn table(outcomes: &[Outcome], contenders: &[Contender], keys: &[KeyKind], rows: usize) -> String {
    let mut text = String::new();
    for keys in keys {
        let lines = lines(outcomes, *keys);
        if !lines.is_empty() {
            text += &format!("\n{}, {} rows\n", keys.title(), thousands(rows as u64));
            text += &grid(&lines, contenders);
        }
    }
    text += &missing(outcomes, contenders);
    text += &libraries(contenders);
    text += &summary(outcomes, contenders, keys);
    if rows != 100_000 {
        text += "The bars are meant for 100,000 rows; this run had another number.\n";
    }
    text
}

fn grid(lines: &[Line<'_>], contenders: &[Contender]) -> String {
    let mut cells = vec![header(contenders)];
    for section in Section::ALL {
        let mut inside = lines.iter().filter(|line| section.holds(line)).peekable();
        if let (Some(heading), Some(_)) = (section.heading(), inside.peek()) {
            let mut row = vec![heading.to_string()];
            row.resize(contenders.len() + 2, String::new());
            cells.push(row);
        }
        for line in inside {
            let mut row = vec![line.title()];
            row.extend((0..contenders.len()).map(|who| cell(line, contenders, who)));
            row.push(line.limit.map_or(String::new(), |limit| format!("≤ {}", bar(line.metric, limit))));
            cells.push(row);
        }
    }
    align(&cells)
}

/// The parts of a table, each of one kind of figure.
#[derive(Clone, Copy)]
enum Section {
    Time,
    File,
    Lock,
    Memory,
}

impl Section {
    const ALL: [Section; 4] = [Section::Time, Section::File, Section::Lock, Section::Memory];

    fn heading(self) -> Option<&'static str> {
        match self {
            Section::Time => None,
            Section::File => Some("-- file: bytes a row, and beyond plain"),
            Section::Lock => Some("-- write lock held for 100k changes"),
            Section::Memory => Some("-- peak memory"),
        }
    }

    fn holds(self, line: &Line<'_>) -> bool {
        match line.metric {
            // The recipe without site_version leaves the same file.
            Metric::File => matches!(self, Section::File) && !line.outcome.workload.id.ends_with("-nine"),
            Metric::FileRatio => matches!(self, Section::File),
            Metric::Lock => matches!(self, Section::Lock),
            Metric::Memory => matches!(self, Section::Memory),
            _ => matches!(self, Section::Time),
        }
    }
}

fn header(contenders: &[Contender]) -> Vec<String> {
    let mut row = vec![String::new()];
    // Two more places, where the others have their ✓.
    row.extend(
        contenders.iter().map(|who| if who.is_ours() { format!("{}  ", who.name) } else { who.name.clone() }),
    );
    row.push("bar".to_string());
    row
}

fn cell(line: &Line<'_>, contenders: &[Contender], who: usize) -> String {
    let (outcome, metric) = (line.outcome, line.metric);
    let mark = match line.passes(contenders, who) {
        Some(true) => " ✓",
        Some(false) => " ✗",
        None if contenders[who].is_ours() => "  ",
        None => "",
    };
    let figure = match who {
        0 => outcome.value(0, metric).map(|value| absolute(metric, value, outcome.rows)),
        _ => outcome.compared(who, metric).map(|value| compared(metric, value)),
    };
    let absent = if outcome.failure(who).is_some() { "n/a" } else { "–" };
    format!("{}{mark}", figure.unwrap_or_else(|| absent.to_string()))
}

/// The first column to the left, the last too, the rest to the right.
fn align(cells: &[Vec<String>]) -> String {
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    let last = widths.len() - 1;
    let mut text = String::new();
    for row in cells {
        let mut line = String::from("  ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => line += &format!("{cell:<width$}"),
                column if column == last => line += &format!("   {cell}"),
                _ => line += &format!("   {cell:>width$}"),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Why there are holes in the table: each reason once, with the workloads it left out.
fn missing(outcomes: &[Outcome], contenders: &[Contender]) -> String {
    let mut reasons: Vec<(usize, &str, Vec<&str>)> = Vec::new();
    for outcome in outcomes {
        for who in 0..contenders.len() {
            let Some(reason) = outcome.failure(who) else { continue };
            let id = outcome.workload.id;
            match reasons.iter_mut().find(|known| known.0 == who && known.1 == reason) {
                Some(known) if known.2.contains(&id) => {}
                Some(known) => known.2.push(id),
                None => reasons.push((who, reason, vec![id])),
            }
        }
    }
    let line = |(who, reason, ids): (usize, &str, Vec<&str>)| {
        format!("{}: not available: {reason} [{}]\n", contenders[who].name, ids.join(", "))
    };
    let text: String = reasons.into_iter().map(line).collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn libraries(contenders: &[Contender]) -> String {
    let line = |contender: &Contender| {
        let bytes = contender.file_bytes()?;
        let verdict = match contender.is_ours() {
            true if bytes <= bars::LIBRARY_BYTES => format!(" ✓ (≤ {})", thousands(bars::LIBRARY_BYTES)),
            true => format!(" ✗ (≤ {})", thousands(bars::LIBRARY_BYTES)),
            false => String::new(),
        };
        Some(format!("{}: library of {} bytes{verdict}\n", contender.name, thousands(bytes)))
    };
    let text: String = contenders.iter().filter_map(line).collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn summary(outcomes: &[Outcome], contenders: &[Contender], keys: &[KeyKind]) -> String {
    let lines: Vec<Line<'_>> = keys.iter().flat_map(|keys| lines(outcomes, *keys)).collect();
    let mut text = String::from("\n");
    for (who, contender) in contenders.iter().enumerate().filter(|(_, contender)| contender.is_ours()) {
        let bars = lines.iter().filter(|line| line.limit.is_some()).count();
        let kept = lines.iter().filter(|line| line.passes(contenders, who) == Some(true)).count();
        text += &format!("{}: {kept} of {bars} bars\n", contender.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_they_hold() {
        let row = |cells: [&str; 3]| cells.map(str::to_string).to_vec();
        let text = align(&[row(["", "crsql  ", "bar"]), row(["insert", "1.69 × ✓", "≤ 1.8"])]);
        assert_eq!(text, "            crsql     bar\n  insert   1.69 × ✓   ≤ 1.8\n");
    }
}
