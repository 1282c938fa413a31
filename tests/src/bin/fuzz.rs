//! Drives the fuzz targets on a stable compiler.
//!
//!     cargo run --profile soak -p crsql-tests --bin fuzz -- --seconds 60 [TARGET ...]
//!
//! `--seed N` begins elsewhere; `--replay FILE TARGET` runs one input. An input that breaks a promise is written to the
//! current directory and the exit code is 1.

use crsql_tests::fuzz::{TARGETS, Target, drive, target};
use std::time::{Duration, Instant};

fn main() {
    // Before anything else uses SQLite: the file target brings its own disk and allocator.
    crsql_tests::fault_host::install();
    let mut words = std::env::args().skip(1);
    let (mut seconds, mut seed, mut replay, mut chosen) = (10, 0, None, Vec::<Target>::new());
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value
                .replace('_', "")
                .parse::<u64>()
                .unwrap_or_else(|_| usage(&format!("{word} {value}: not a number")))
        };
        match word.as_str() {
            "--seconds" => seconds = number(),
            "--seed" => seed = number(),
            "--replay" => replay = words.next(),
            name => chosen.push(*target(name).unwrap_or_else(|| usage(&format!("no target {name:?}")))),
        }
    }
    if chosen.is_empty() {
        chosen = TARGETS.to_vec();
    }
    if let Some(path) = replay {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| usage(&format!("{path}: {error}")));
        for target in chosen {
            println!("{}: {:x}", target.name, (target.run)(&bytes));
        }
        return;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let (mut total, mut failed) = (0, false);
    for target in chosen {
        let start = Instant::now();
        let campaign = drive(&target, seed, Duration::from_secs(seconds));
        total += campaign.executions;
        let rate = campaign.executions as f64 / start.elapsed().as_secs_f64();
        println!(
            "{:<10} {:>14} executions, {rate:>10.0}/s, {:>5} outcomes: {}",
            target.name, campaign.executions, campaign.signatures, target.promise
        );
        if let Some((input, message)) = campaign.failure {
            let path = format!("failed-{}.bin", target.name);
            std::fs::write(&path, &input).expect("the current directory is writable");
            println!("BROKEN: {message}\n  the input of {} bytes is in {path}", input.len());
            failed = true;
        }
    }
    println!("{total} executions");
    std::process::exit(failed as i32);
}

fn usage(message: &str) -> ! {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!(
        "{message}\nusage: fuzz [--seconds N] [--seed N] [--replay FILE] [TARGET ...]\ntargets: {}",
        names.join(", ")
    );
    std::process::exit(2);
}
