//! The simulator: random histories on real SQLite, from seeds, for as long as it is told.
//!
//!     cargo run --profile soak -p crsql-tests --bin simulate -- --minutes 480
//!
//! `--seconds`, `--minutes` or `--operations` say how long (10 seconds without); `--seed` is the first seed, each
//! history takes the next; `--steps` the steps of a history; `--replay SEED` runs one, shrinks it if it fails and
//! prints its script; `--only 1,5,9` replays those steps; `--go-on` does not stop at a failure.
//!
//! Single-threaded: everything follows from the seeds.

use crsql_tests::history::shrink::{failure_of, shrink};
use crsql_tests::history::{Plan, coverage, run};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(10);
/// How many runs shrinking may take.
const SHRINKING_RUNS: usize = 600;

struct Options {
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
                "{message}\nusage: simulate [--minutes N | --seconds N | --operations N] [--seed N] [--steps N] [--replay SEED [--only N,N,...]] [--go-on]"
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
        let plan = Plan::of_seed_with_schema(options.seed + histories, options.steps);
        match catch_unwind(|| run(&plan)) {
            Ok(taken) => operations += taken as u64,
            Err(_) => {
                failures += 1;
                report(&plan, options.steps);
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
                "{:>6} s  {operations} operations, {rate:.0}/s, {histories} histories, seeds {}..{}, {failures} failed, {} of {} rare events",
                start.elapsed().as_secs(),
                options.seed,
                options.seed + histories,
                coverage::seen().len(),
                coverage::RARE.len()
            );
        }
    }
    println!(
        "{operations} operations in {histories} histories, {failures} failed, {} s",
        start.elapsed().as_secs()
    );
    let seen = coverage::seen();
    for what in coverage::RARE {
        println!("{:>12}  {what}", seen.get(what).copied().unwrap_or(0));
    }
    failures
}

/// Runs one history; true if it is sound.
fn replay(options: &Options) -> bool {
    let mut plan = Plan::of_seed_with_schema(options.seed, options.steps);
    plan.only = options.only.clone();
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
