//! Seeded bugs, and whether the tests see them.
//!
//!     cargo run -p crsql-tests --bin mutants [-- NAME-OR-FILE ...]
//!
//! Each bug is a replacement of text in `tests/mutants/*.txt`. They are made one by one in a copy of the workspace
//! under the target directory, with a target directory of its own that is kept between runs; the suites of each are
//! run in their order until one fails. Words given select bugs by name, or a whole file (`core`, `ext`, `protocol`).
//!
//! A bug whose text is not found any more, or that does not compile, is an error: it has to be brought up to date.
//! The exit code is 0 when at least 95 % are killed and none has to be brought up to date.

use crsql_tests::extension::target_directory;
use crsql_tests::files::workspace;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A mutant that takes longer than this hangs, which is noticed, too.
const PATIENCE: Duration = Duration::from_secs(420);
/// How many of a hundred have to be killed.
const BAR: usize = 95;

struct Mutant {
    name: String,
    group: String,
    file: String,
    suites: Vec<String>,
    old: String,
    new: String,
}

enum Fate {
    Killed(String),
    Survived,
    Outdated(String),
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mutants = read_all();
    let chosen: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| {
            words.is_empty()
                || words.iter().any(|word| mutant.group == *word || mutant.name.contains(word.as_str()))
        })
        .collect();
    let scratch = Scratch::new();
    let start = Instant::now();
    let (mut killed, mut survivors, mut outdated) = (0, Vec::new(), Vec::new());
    let mut times = Vec::new();
    for mutant in &chosen {
        let began = Instant::now();
        let fate = scratch.try_out(mutant);
        let seconds = began.elapsed().as_secs();
        match fate {
            Fate::Killed(by) => {
                killed += 1;
                times.push(seconds);
                println!("killed    {seconds:>4} s  {}: {}, by {by}", mutant.group, mutant.name);
            }
            Fate::Survived => {
                survivors.push(&mutant.name);
                println!("SURVIVED  {seconds:>4} s  {}: {}", mutant.group, mutant.name);
            }
            Fate::Outdated(why) => {
                outdated.push(&mutant.name);
                println!("OUTDATED  {seconds:>4} s  {}: {}: {why}", mutant.group, mutant.name);
            }
        }
    }
    times.sort_unstable();
    let tried = killed + survivors.len();
    println!(
        "{killed} of {tried} mutants killed, {} outdated, in {} s; half of them within {} s",
        outdated.len(),
        start.elapsed().as_secs(),
        times.get(times.len() / 2).copied().unwrap_or(0)
    );
    for name in &survivors {
        println!("survivor: {name}");
    }
    for name in &outdated {
        println!("no longer applies: {name}");
    }
    let is_enough = killed * 100 >= tried * BAR && tried > 0;
    std::process::exit((!is_enough || !outdated.is_empty()) as i32);
}

fn read_all() -> Vec<Mutant> {
    let directory = workspace().join("tests").join("mutants");
    // The quick ones first.
    ["core", "protocol", "ext"]
        .iter()
        .flat_map(|group| {
            let path = directory.join(format!("{group}.txt"));
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let parts: Vec<Mutant> = text.split("\n## ").skip(1).map(|part| parse(group, part)).collect();
            parts
        })
        .collect()
}

fn parse(group: &str, part: &str) -> Mutant {
    let name = part.lines().next().unwrap_or_default().to_string();
    let field = |field: &str| {
        let line = part.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap_or_else(|| panic!("mutant {name:?} has no {field}")).trim().to_string()
    };
    let between = |from: &str, to: &str| {
        let rest = part.split_once(from).map(|(_, rest)| rest);
        let text = rest.and_then(|rest| rest.split_once(to)).map(|(text, _)| text);
        text.unwrap_or_else(|| panic!("mutant {name:?} has no {from:?} … {to:?}")).to_string()
    };
    let (file, suites) = (field("file:"), field("suites:").split(' ').map(String::from).collect());
    let (old, new) = (between("<<<<\n", "====\n"), between("====\n", ">>>>"));
    let ends = |text: String| text.trim_end_matches('\n').to_string();
    Mutant { file, suites, old: ends(old), new: ends(new), group: group.into(), name }
}

/// The copy in which bugs are made.
struct Scratch {
    source: PathBuf,
    target: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        let root = target_directory().expect("a target directory").join("mutants");
        let scratch = Scratch { source: root.join("source"), target: root.join("target") };
        std::fs::create_dir_all(&scratch.source).expect("a directory for the copy");
        let listed = Command::new("git")
            .args(["ls-files", "-co", "--exclude-standard"])
            .current_dir(workspace())
            .output();
        let listed = listed.expect("git lists the files of the workspace").stdout;
        for file in String::from_utf8_lossy(&listed).lines() {
            let (from, to) = (workspace().join(file), scratch.source.join(file));
            // Only what differs, so that what was built stays built.
            if let Ok(bytes) = std::fs::read(&from)
                && std::fs::read(&to).ok().as_ref() != Some(&bytes)
            {
                std::fs::create_dir_all(to.parent().expect("a directory")).expect("the copy is writable");
                std::fs::write(&to, bytes).expect("the copy is writable");
            }
        }
        scratch
    }

    fn try_out(&self, mutant: &Mutant) -> Fate {
        let path = self.source.join(&mutant.file);
        let Ok(original) = std::fs::read_to_string(&path) else {
            return Fate::Outdated(format!("{} is gone", mutant.file));
        };
        let found = original.matches(&mutant.old).count();
        if found != 1 {
            return Fate::Outdated(format!("its text is in {} {found} times", mutant.file));
        }
        write(&path, &original.replace(&mutant.old, &mutant.new));
        let fate = self.judge(mutant);
        write(&path, &original);
        fate
    }

    fn judge(&self, mutant: &Mutant) -> Fate {
        for suite in &mutant.suites {
            for arguments in commands(suite) {
                let what = arguments
                    .iter()
                    .filter(|word| !word.starts_with('-'))
                    .skip(1)
                    .cloned()
                    .collect::<Vec<_>>();
                // What does not compile says nothing about the tests.
                match self.cargo(&building(&arguments)) {
                    Some((true, _)) => {}
                    Some((false, output)) => return Fate::Outdated(first_error(&output)),
                    None => return Fate::Outdated("building takes too long".into()),
                }
                match self.cargo(&arguments) {
                    None => return Fate::Killed(format!("{} (it hangs)", what.join(" "))),
                    Some((true, _)) => {}
                    Some((false, output)) => {
                        return Fate::Killed(format!("{} ({})", what.join(" "), first_failure(&output)));
                    }
                }
            }
        }
        Fate::Survived
    }

    /// Runs cargo in the copy; `None` when it had to be killed.
    fn cargo(&self, arguments: &[String]) -> Option<(bool, String)> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let log = self.target.with_extension("log");
        let file = std::fs::File::create(&log).expect("a log");
        let mut child = Command::new(cargo)
            .args(arguments)
            .current_dir(&self.source)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CRSQL_OPS", "6000")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("a log"))
            .stdout(file)
            .spawn()
            .expect("cargo runs");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return Some((status.success(), std::fs::read_to_string(&log).unwrap_or_default()));
            }
            if began.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The same, but only built.
fn building(arguments: &[String]) -> Vec<String> {
    let until = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    let mut build = arguments[..until].to_vec();
    match build[0].as_str() {
        "run" => build[0] = "build".into(),
        _ => build.push("--no-run".into()),
    }
    build
}

fn commands(suite: &str) -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
    match suite {
        "core" => ["--lib", "--test replica", "--test laws"]
            .iter()
            .map(|tests| words(&format!("test -q -p crsql-core --features text {tests}")))
            .collect(),
        "protocol" => vec![words("test -q -p crsql-protocol --lib")],
        "simulate" => vec![words("run -q -p crsql-tests --bin simulate -- --operations 20000")],
        test => vec![words(&format!("test -q -p crsql-tests --test {test}"))],
    }
}

fn first_error(output: &str) -> String {
    let line = output.lines().find(|line| line.starts_with("error")).unwrap_or("it does not compile");
    format!("it does not compile: {line}")
}

fn first_failure(output: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix("thread '")?.split('\'').next());
    let failed = output.lines().find(|line| line.starts_with("FAILED"));
    line.or(failed).unwrap_or("it fails").to_string()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
