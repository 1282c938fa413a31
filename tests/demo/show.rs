//! What the demo prints: headlines, lines, and progress on what takes long.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Starts a numbered chapter.
pub fn headline(title: &str) {
    static CHAPTER: AtomicUsize = AtomicUsize::new(1);
    let number = CHAPTER.fetch_add(1, Ordering::Relaxed);
    println!("\n{}", bold(&format!("{number}. {title}")));
}

/// Prints one indented line.
pub fn line(text: &str) {
    println!("   {text}");
}

/// Emphasised text, where the terminal can.
pub fn bold(text: &str) -> String {
    match styled() {
        true => format!("\x1b[1m{text}\x1b[0m"),
        false => text.to_string(),
    }
}

/// Good news in green, where the terminal can.
pub fn good(text: &str) -> String {
    match styled() {
        true => format!("\x1b[32m{text}\x1b[0m"),
        false => text.to_string(),
    }
}

/// A number with separators: 40116 is `40,116`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the unit a person would use.
pub fn bytes(number: usize) -> String {
    match number {
        0..=9_999 => format!("{} bytes", count(number)),
        10_000..=9_999_999 => format!("{} kB", count(number / 1000)),
        _ => format!("{} MB", count(number / 1_000_000)),
    }
}

/// A duration with two useful digits.
pub fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} ms", seconds * 1000.0),
    }
}

/// A bar on the terminal while something runs; nothing where output is not a terminal.
pub struct Progress {
    what: String,
    total: usize,
    started: Instant,
    drawn: Instant,
}

impl Progress {
    /// Starts at 0 of `total`.
    pub fn new(what: &str, total: usize) -> Progress {
        let now = Instant::now();
        Progress {
            what: what.to_string(),
            total: total.max(1),
            started: now,
            drawn: now - Duration::from_secs(1),
        }
    }

    /// Draws how far it is, ten times a second at most.
    pub fn at(&mut self, done: usize) {
        if !std::io::stdout().is_terminal() || self.drawn.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.drawn = Instant::now();
        let filled = (done * 30 / self.total).min(30);
        print!("\r   {} [{:<30}] {:>3} %", self.what, "#".repeat(filled), done * 100 / self.total);
        let _ = std::io::stdout().flush();
    }

    /// Removes the bar and gives the time it took.
    pub fn finish(self) -> Duration {
        if std::io::stdout().is_terminal() {
            print!("\r{:78}\r", "");
        }
        self.started.elapsed()
    }
}

fn styled() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
