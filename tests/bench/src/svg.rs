//! The comparison as a picture: for each key kind a panel, in it a group of bars for each workload, to the right
//! of 1 what costs more than plain SQLite and to the left what costs less, on a logarithmic scale.

use std::fmt::Write;

use crate::contenders::{Contender, Kind};
use crate::dataset::KeyKind;
use crate::figures::{compared, thousands};
use crate::report::{self, Line};
use crate::results::Outcome;
use crate::workloads::Metric;

const LABELS: f64 = 262.0;
const PANEL: f64 = 330.0;
const GAP: f64 = 34.0;
const TOP: f64 = 92.0;
const BAR: f64 = 9.0;
const GROUP_GAP: f64 = 9.0;
const PEERS: [&str; 4] = ["#d9622b", "#8250a8", "#b3263e", "#8a6d1d"];

/// Draws the ratios of the given key kinds, at most two of them so that the picture fits a page.
pub fn draw(outcomes: &[Outcome], contenders: &[Contender], keys: &[KeyKind], rows: usize) -> String {
    let keys: Vec<KeyKind> = keys.iter().copied().take(2).collect();
    let panels: Vec<Vec<Line<'_>>> = keys.iter().map(|keys| drawn(outcomes, *keys)).collect();
    let Some(first) = panels.first() else { return String::new() };
    let scale = Scale::of(&panels, contenders.len());
    let group = (contenders.len() - 1) as f64 * BAR + GROUP_GAP;
    let (width, height) =
        (LABELS + panels.len() as f64 * (PANEL + GAP), TOP + first.len() as f64 * group + 34.0);
    let mut svg = String::new();
    open(&mut svg, width, height);
    legend(&mut svg, contenders, rows);
    for (row, line) in first.iter().enumerate() {
        let middle = TOP + row as f64 * group + (group - GROUP_GAP) / 2.0 + 4.0;
        text(&mut svg, LABELS - 10.0, middle, "end", "#1f2933", &line.title());
    }
    for (panel, (lines, keys)) in panels.iter().zip(&keys).enumerate() {
        let left = LABELS + panel as f64 * (PANEL + GAP);
        let bottom = TOP + first.len() as f64 * group;
        axis(&mut svg, &scale, left, bottom, keys.title());
        for (row, line) in lines.iter().enumerate() {
            bars(&mut svg, &scale, line, contenders, left, TOP + row as f64 * group);
        }
    }
    svg + "</svg>\n"
}

/// Ratios of time alone, and of the merges only the recipe that the documentation teaches.
fn drawn(outcomes: &[Outcome], keys: KeyKind) -> Vec<Line<'_>> {
    let mut lines = report::lines(outcomes, keys);
    lines.retain(|line| {
        let id = line.outcome.workload.id;
        let again = line.metric == Metric::AgainCpu && id == "merge-apply";
        (matches!(line.metric, Metric::Cpu | Metric::P50) || again)
            && !id.ends_with("-nine")
            && !id.ends_with("-identity")
    });
    lines
}

/// A logarithmic axis from a power of ten to another, with 1 inside.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn of(panels: &[Vec<Line<'_>>], contenders: usize) -> Self {
        let ratios = panels.iter().flatten().flat_map(|line| {
            (1..contenders).filter_map(|who| line.outcome.compared(who, line.metric)).chain(line.limit)
        });
        let (mut least, mut most) = (0.5_f64, 10.0_f64);
        for ratio in ratios.filter(|ratio| *ratio > 0.0) {
            least = least.min(ratio);
            most = most.max(ratio);
        }
        // Room for the number behind the longest bar.
        Scale { least: least.max(0.01).log10(), most: (most * 2.2).log10() }
    }

    fn x(&self, ratio: f64) -> f64 {
        PANEL * (ratio.log10().clamp(self.least, self.most) - self.least) / (self.most - self.least)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let all = (-2..=4).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        let (least, most) = (self.least, self.most);
        all.filter(move |tick| (least..=most).contains(&tick.log10()))
    }
}

fn open(svg: &mut String, width: f64, height: f64) {
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"11\" role=\"img\">\n\
         <title>Cost relative to plain SQLite</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
    );
}

fn legend(svg: &mut String, contenders: &[Contender], rows: usize) {
    let _ = writeln!(
        svg,
        "<text x=\"14\" y=\"24\" font-size=\"15\" font-weight=\"600\" fill=\"#1f2933\">Cost relative to plain \
         SQLite, {} rows (logarithmic; shorter is better)</text>",
        thousands(rows as u64)
    );
    let mut x = 14.0;
    for (who, contender) in contenders.iter().enumerate().skip(1) {
        let colour = colour(contenders, who);
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"36\" width=\"11\" height=\"11\" fill=\"{colour}\"/>");
        text(svg, x + 16.0, 46.0, "start", "#1f2933", &contender.name);
        x += 34.0 + 7.0 * contender.name.chars().count() as f64;
    }
    let _ = writeln!(svg, "<path d=\"M{x} 36v11\" stroke=\"#111111\" stroke-width=\"2\"/>");
    text(svg, x + 8.0, 46.0, "start", "#1f2933", "the bar crsql is held to");
}

fn colour(contenders: &[Contender], who: usize) -> &'static str {
    match contenders[who].kind {
        Kind::Plain => "#1f2933",
        Kind::Triggers => "#ced4da",
        Kind::Session => "#9aa5b1",
        Kind::Static => "#0b7285",
        Kind::Loaded(_) => "#66b8c7",
        Kind::Peer(..) => {
            let before =
                contenders[..who].iter().filter(|other| matches!(other.kind, Kind::Peer(..))).count();
            PEERS[before % PEERS.len()]
        }
    }
}

fn axis(svg: &mut String, scale: &Scale, left: f64, bottom: f64, title: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\" font-size=\"12\" font-weight=\"600\" fill=\"#1f2933\">{title}</text>",
        TOP - 26.0
    );
    for tick in scale.ticks() {
        let x = left + scale.x(tick);
        let stroke = if tick == 1.0 { "#1f2933" } else { "#e4e7eb" };
        let _ = writeln!(svg, "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"{stroke}\"/>", TOP - 6.0);
        text(svg, x, TOP - 11.0, "middle", "#52606d", &format!("{tick}"));
        text(svg, x, bottom + 14.0, "middle", "#52606d", &format!("{tick}"));
    }
}

fn bars(svg: &mut String, scale: &Scale, line: &Line<'_>, contenders: &[Contender], left: f64, top: f64) {
    let mut numbers = String::new();
    for who in 1..contenders.len() {
        let y = top + (who - 1) as f64 * BAR;
        let Some(ratio) = line.outcome.compared(who, line.metric) else { continue };
        let (from, to) = (scale.x(ratio.min(1.0)), scale.x(ratio.max(1.0)));
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>",
            left + from,
            (to - from).max(0.8),
            BAR - 1.0,
            colour(contenders, who)
        );
        // Behind the bar, and behind its limit where that would lie under the number.
        let limit = line.limit.filter(|_| contenders[who].is_ours()).map_or(0.0, |limit| scale.x(limit));
        let end = if (to..to + 32.0).contains(&limit) { limit } else { to };
        let _ = writeln!(
            numbers,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"8\" fill=\"#323f4b\" stroke=\"#ffffff\" \
             stroke-width=\"2.5\" paint-order=\"stroke\">{}</text>",
            left + end + 3.0,
            y + BAR - 2.0,
            compared(line.metric, ratio)
        );
    }
    if let Some(limit) = line.limit {
        let x = left + scale.x(limit);
        for who in (1..contenders.len()).filter(|who| contenders[*who].is_ours()) {
            let y = top + (who - 1) as f64 * BAR;
            let _ =
                writeln!(svg, "<path d=\"M{x:.1} {y:.1}v{BAR}\" stroke=\"#111111\" stroke-width=\"1.6\"/>");
        }
    }
    // Above the grid, with a white edge, so that every number stays readable.
    svg.push_str(&numbers);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, fill: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_puts_one_between_what_costs_less_and_what_costs_more() {
        let scale = Scale { least: 0.1_f64.log10(), most: 10.0_f64.log10() };
        assert_eq!((scale.x(0.1), scale.x(1.0), scale.x(10.0)), (0.0, PANEL / 2.0, PANEL));
        assert_eq!(scale.x(1000.0), PANEL);
        assert!(scale.ticks().eq([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]));
    }
}
