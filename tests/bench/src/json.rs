//! Every figure as JSON, for whoever wants to plot or to compare runs.

use std::fmt::Write;

use crate::contenders::Contender;
use crate::report::Line;
use crate::results::Outcome;
use crate::workloads::Metric;

/// Where and how a run was made.
pub struct Setting {
    /// The bundled SQLite's version.
    pub sqlite: String,
    /// The processor, where the system tells.
    pub processor: String,
    /// How many rows.
    pub rows: usize,
    /// How many rounds.
    pub rounds: usize,
}

/// The whole document: `setting`, `contenders`, and one entry of `results` per workload, keys and metric with
/// each contender's samples in the order of the rounds.
pub fn document(setting: &Setting, contenders: &[Contender], outcomes: &[Outcome]) -> String {
    let contenders_text: Vec<String> = contenders
        .iter()
        .map(|contender| {
            let bytes = contender.file_bytes().map_or("null".to_string(), |bytes| bytes.to_string());
            format!("    {{\"name\": {}, \"library_bytes\": {bytes}}}", quote(&contender.name))
        })
        .collect();
    let results: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| entries(outcome, contenders))
        .map(|entry| format!("    {entry}"))
        .collect();
    let mut text = String::from("{\n");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "  \"setting\": {{\"sqlite\": {}, \"processor\": {}, \"rows\": {}, \"rounds\": {}}},",
        quote(&setting.sqlite),
        quote(&setting.processor),
        setting.rows,
        setting.rounds
    );
    let _ = writeln!(text, "  \"contenders\": [\n{}\n  ],", contenders_text.join(",\n"));
    let _ = writeln!(text, "  \"results\": [\n{}\n  ]\n}}", results.join(",\n"));
    text
}

fn entries(outcome: &Outcome, contenders: &[Contender]) -> Vec<String> {
    let entry = |metric: Metric| {
        let limit = crate::bars::limit(outcome.workload.id, metric, outcome.keys);
        let line = Line { outcome, metric, limit };
        let by: Vec<String> = (0..contenders.len()).map(|who| contestant(&line, contenders, who)).collect();
        format!(
            "{{\"workload\": {}, \"keys\": {}, \"rows\": {}, \"metric\": {}, \"bar\": {}, \"contenders\": {{{}}}}}",
            quote(outcome.workload.id),
            quote(outcome.keys.name()),
            outcome.rows,
            quote(metric.name()),
            number(limit),
            by.join(", ")
        )
    };
    // A workload that nobody finished is told too, with the reasons.
    let mut metrics = outcome.metrics();
    if metrics.is_empty() {
        metrics.push(Metric::Cpu);
    }
    metrics.into_iter().map(entry).collect()
}

fn contestant(line: &Line<'_>, contenders: &[Contender], who: usize) -> String {
    let name = quote(&contenders[who].name);
    if let Some(reason) = line.outcome.failure(who) {
        return format!("{name}: {{\"failure\": {}}}", quote(reason));
    }
    let samples: Vec<String> =
        line.outcome.samples(who, line.metric).iter().map(|sample| number(Some(*sample))).collect();
    if samples.is_empty() {
        return format!("{name}: null");
    }
    let passes = line.passes(contenders, who).map_or("null".to_string(), |passes| passes.to_string());
    format!(
        "{name}: {{\"median\": {}, \"compared\": {}, \"passes\": {passes}, \"samples\": [{}]}}",
        number(line.outcome.value(who, line.metric)),
        number(line.outcome.compared(who, line.metric)),
        samples.join(", ")
    )
}

/// Six digits say more than the clocks do; JSON has no infinities.
fn number(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        Some(value) if value == 0.0 || value.abs() >= 1e-3 => format!("{}", (value * 1e6).round() / 1e6),
        Some(value) => format!("{value:.5e}"),
        None => "null".to_string(),
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            character if character < ' ' => quoted += &format!("\\u{:04x}", character as u32),
            character => quoted.push(character),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_and_numbers_are_never_infinite() {
        assert_eq!(quote("a \"b\"\n\\"), "\"a \\\"b\\\"\\u000a\\\\\"");
        assert_eq!(number(Some(f64::INFINITY)), "null");
        assert_eq!(number(Some(1.5)), "1.5");
        assert_eq!(number(Some(3.5e-6)), "3.50000e-6");
    }
}
