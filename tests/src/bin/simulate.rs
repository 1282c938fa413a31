//! The simulator: random histories on real SQLite, from seeds, for as long as it is told.
//!
//!     cargo run --profile soak -p crsql-tests --bin simulate -- --minutes 480
//!
//! `--seconds`, `--minutes` or `--operations` say how long (10 seconds without); `--seed` is the first seed, each
//! history takes the next; `--steps` the steps of a history; `--replay SEED` runs one, shrinks it if it fails and
//! prints its script; `--only 1,5,9` replays those steps; `--go-on` does not stop at a failure.
//!
//! `--about counter`, `max`, `min` or `text` makes tables of such columns; `--about unique`, `foreign-keys` or `lists`
//! runs the histories of [`crsql_tests::special`] instead, which are not shrunk.
//!
//! Single-threaded: everything follows from the seeds.

use crsql_core::column::ColumnType;
use crsql_tests::history::shrink::{failure_of, failure_text, shrink};
use crsql_tests::history::{Plan, coverage, run};
use crsql_tests::special::{History, foreign_keys, lists, unique};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(10);
/// Histories that have no model look through a replica after so many steps: looking takes longer than the step.
const LOOK_EVERY: usize = 6;
/// How many runs shrinking may take.
const SHRINKING_RUNS: usize = 600;

/// What histories are about.
#[derive(Clone, Copy)]
enum About {
    /// What the model knows: everything, or columns of a type.
    Model(Option<ColumnType>),
    /// What has an expectation of its own.
    Special(History),
}

impl About {
    fn named(name: &str) -> Option<About> {
        Some(match name {
            "everything" => About::Model(None),
            "counter" => About::Model(Some(ColumnType::Counter)),
            "max" => About::Model(Some(ColumnType::Max)),
            "min" => About::Model(Some(ColumnType::Min)),
            "text" => About::Model(Some(ColumnType::Text)),
            "unique" => About::Special(unique::history),
            "foreign-keys" => About::Special(foreign_keys::history),
            "lists" => About::Special(lists::history),
            _ => return None,
        })
    }
}

struct Options {
    about: About,
    duration: Duration,
    operations: u64,
    seed: u64,
    steps: usize,
    replay: bool,
    only: Option<Vec<usize>>,
    go_on: bool,
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!(
                "{message}\nusage: simulate [--minutes N | --seconds N | --operations N] [--seed N] [--steps N] [--about TYPE] [--replay SEED [--only N,N,...]] [--go-on]"
            );
            std::process::exit(2);
        }
    };
    let failed = match options.replay {
        true => !replay(&options),
        false => simulate(&options) > 0,
    };
    std::process::exit(failed as i32);
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        about: About::Model(None),
        duration: Duration::from_secs(10),
        operations: u64::MAX,
        seed: 0,
        steps: 500,
        replay: false,
        only: None,
        go_on: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--go-on" {
            options.go_on = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        if word == "--about" {
            options.about =
                About::named(&value).ok_or(format!("--about {value:?}: there are no such histories"))?;
            continue;
        }
        let number =
            || value.replace('_', "").parse::<u64>().map_err(|_| format!("{word} {value:?}: not a number"));
        match word.as_str() {
            "--minutes" => options.duration = Duration::from_secs(60 * number()?),
            "--seconds" => options.duration = Duration::from_secs(number()?),
            "--operations" => {
                options.operations = number()?;
                options.duration = Duration::MAX;
            }
            "--seed" => options.seed = number()?,
            "--steps" => options.steps = number()? as usize,
            "--replay" => (options.seed, options.replay) = (number()?, true),
            "--only" => {
                let steps = value.split(',').map(|step| step.trim().parse::<usize>());
                options.only =
                    Some(steps.collect::<Result<_, _>>().map_err(|error| format!("--only: {error}"))?);
            }
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

/// Runs histories; returns how many failed.
fn simulate(options: &Options) -> u64 {
    let start = Instant::now();
    let (mut printed, mut operations, mut histories, mut failures) = (start, 0_u64, 0_u64, 0_u64);
    // The shrunk script is worth more than the first panic's message, which it repeats.
    std::panic::set_hook(Box::new(|_| {}));
    while start.elapsed() < options.duration && operations < options.operations {
        let seed = options.seed + histories;
        match history(options, seed) {
            Ok(taken) => operations += taken,
            Err(failure) => {
                failures += 1;
                match options.about {
                    About::Model(_) => report(&plan(options, seed), options.steps),
                    About::Special(_) => {
                        println!("FAILED: seed {seed} of {} steps: {failure}", options.steps)
                    }
                }
                if !options.go_on {
                    break;
                }
            }
        }
        histories += 1;
        if printed.elapsed() >= PROGRESS {
            printed = Instant::now();
            let rate = operations as f64 / start.elapsed().as_secs_f64();
            println!(
                "{:>6} s  {operations} operations, {rate:.0}/s, {histories} histories, seeds {}..{}, {failures} failed{}",
                start.elapsed().as_secs(),
                options.seed,
                options.seed + histories,
                seen_so_far(options.about)
            );
        }
    }
    println!(
        "{operations} operations in {histories} histories, {failures} failed, {} s",
        start.elapsed().as_secs()
    );
    if let About::Special(_) = options.about {
        return failures;
    }
    let seen = coverage::seen();
    for what in coverage::RARE {
        println!("{:>12}  {what}", seen.get(what).copied().unwrap_or(0));
    }
    failures
}

/// What of the rare events was seen, where they are counted.
fn seen_so_far(about: About) -> String {
    match about {
        About::Model(_) => format!(", {} of {} rare events", coverage::seen().len(), coverage::RARE.len()),
        About::Special(_) => String::new(),
    }
}

fn plan(options: &Options, seed: u64) -> Plan {
    let about = match options.about {
        About::Model(about) => about,
        About::Special(_) => None,
    };
    Plan { about, only: options.only.clone(), ..Plan::of_seed_with_schema(seed, options.steps) }
}

/// Runs the history of a seed; the operations it took, or what it failed with.
fn history(options: &Options, seed: u64) -> Result<u64, String> {
    let caught = match options.about {
        About::Model(_) => {
            let plan = plan(options, seed);
            catch_unwind(|| run(&plan) as u64)
        }
        About::Special(history) => catch_unwind(|| history(seed, options.steps, LOOK_EVERY).operations),
    };
    caught.map_err(|error| failure_text(&*error))
}

/// Runs one history; true if it is sound.
fn replay(options: &Options) -> bool {
    if let About::Special(_) = options.about {
        let failure = history(options, options.seed).err();
        println!("{}", failure.as_deref().unwrap_or("sound"));
        return failure.is_none();
    }
    let plan = plan(options, options.seed);
    println!("{plan:?}");
    std::panic::set_hook(Box::new(|_| {}));
    let failure = failure_of(&plan);
    match &failure {
        None => println!("sound"),
        Some(_) => report(&plan, options.steps),
    }
    failure.is_none()
}

/// Shrinks a failing history and prints it.
fn report(plan: &Plan, steps: usize) {
    println!("FAILED: replay with --replay {} --steps {steps}\n{plan:?}", plan.seed);
    // Shrinking may take long; this is what there is to know before.
    println!("{}", failure_of(plan).unwrap_or_default().chars().take(2000).collect::<String>());
    let Some(shrunk) = shrink(plan, SHRINKING_RUNS) else {
        println!("it does not fail when it is run again");
        return;
    };
    let only: Vec<String> = shrunk.plan.only.iter().flatten().map(usize::to_string).collect();
    println!(
        "shrunk to {} steps: --replay {} --steps {steps} --only {}",
        only.len(),
        plan.seed,
        only.join(",")
    );
    for line in &shrunk.script {
        println!("| {}", line.chars().take(1500).collect::<String>());
    }
    println!("{}", shrunk.failure);
}
