//! What replication costs: crsql, linked and loaded, beside plain SQLite, SQLite's session extension and any other
//! extension with cr-sqlite's surface, interleaved in one process run.
//!
//! `cargo run --release -p crsql-bench -- --help` lists the options. Figures are CPU time, ratios are to plain
//! SQLite in the same round, and the bars beside them are the project's own ([`bars`]). `docs/performance.md`
//! explains the results.
//!
//! It does not check that anybody's answers are right, beyond counting the rows that a merge brought: the tests
//! do that.

mod args;
mod bars;
mod changes;
mod contenders;
mod database;
mod dataset;
mod figures;
mod json;
mod report;
mod results;
mod session;
mod stage;
mod statement;
mod svg;
mod timing;
mod workloads;

use std::ffi::CStr;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use args::{Args, Mode};
use contenders::Contender;
use database::Failure;
use results::Plan;
use stage::{Round, Stage};

fn main() -> ExitCode {
    let outcome = Args::parse(std::env::args().skip(1)).and_then(|args| match &args.mode {
        Mode::Compare => compare(&args),
        Mode::Once(workload, contender) => run_once(&args, workload, contender),
        Mode::List => {
            list();
            Ok(())
        }
        Mode::Help => {
            print!("{}", args::HELP);
            Ok(())
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("crsql-bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let contenders = args.contenders();
    let workloads = args.workloads();
    if workloads.is_empty() {
        return Err(format!("no workload's id contains any of {:?}; --list shows them", args.only));
    }
    let plan = Plan {
        contenders: &contenders,
        keys: &args.keys,
        workloads,
        rows: args.rows,
        large: args.large,
        rounds: args.rounds,
    };
    let stage = Stage::new(args.directory.as_deref()).map_err(text_of)?;
    let setting = setting(args);
    println!("SQLite {}, {}, {} rounds", setting.sqlite, setting.processor, args.rounds);
    println!("databases in {}, WAL, synchronous=NORMAL", stage.directory().display());
    let outcomes = plan.run(&stage, show_progress);
    clear_progress();
    print!("{}", report::table(&outcomes, &contenders, &args.keys, args.rows));
    if let Some(path) = &args.json {
        save(path, &json::document(&setting, &contenders, &outcomes))?;
    }
    if let Some(path) = &args.svg {
        save(path, &svg::draw(&outcomes, &contenders, &args.keys, args.rows))?;
    }
    Ok(())
}

/// One workload, one contender, one run: what callgrind can follow.
fn run_once(args: &Args, workload: &str, contender: &str) -> Result<(), String> {
    let workload = workloads::ALL
        .iter()
        .find(|known| known.id == workload)
        .ok_or(format!("there is no workload {workload:?}; --list shows them"))?;
    let contenders = args.contenders();
    let contender = contenders
        .iter()
        .find(|known| known.name == contender)
        .ok_or(format!("there is no contender {contender:?} among {:?}", names(&contenders)))?;
    let keys = args.keys[0];
    let stage = Stage::new(args.directory.as_deref()).map_err(text_of)?;
    let data = stage.dataset(keys, args.rows);
    let measures = (workload.run)(&Round { stage: &stage, contender, data: &data }).map_err(text_of)?;
    println!("{}, {}, {}, {} rows", workload.id, contender.name, keys.name(), args.rows);
    for measure in measures {
        println!("  {}: {}", measure.metric.name(), measure.value);
    }
    Ok(())
}

fn list() {
    for workload in workloads::ALL {
        println!("{:<24}{}", workload.id, workload.title);
    }
}

fn setting(args: &Args) -> json::Setting {
    // SAFETY: the version is a terminated string that lives for ever.
    let sqlite =
        unsafe { CStr::from_ptr(rusqlite::ffi::sqlite3_libversion()) }.to_string_lossy().into_owned();
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = name.map_or("unknown processor", |(_, name)| name).to_string();
    json::Setting { sqlite, processor, rows: args.rows, rounds: args.rounds }
}

fn names(contenders: &[Contender]) -> Vec<&str> {
    contenders.iter().map(|contender| contender.name.as_str()).collect()
}

fn save(path: &Path, content: &str) -> Result<(), String> {
    std::fs::write(path, content).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// One line that is written over on a terminal; elsewhere a line for each step would only fill a log.
fn show_progress(step: &str) {
    let mut output = std::io::stderr();
    if output.is_terminal() {
        // A progress line that cannot be shown is not worth failing for.
        let _ = write!(output, "\r\x1b[K{step}");
        let _ = output.flush();
    }
}

fn clear_progress() {
    show_progress("");
}

fn text_of(failure: Failure) -> String {
    match failure {
        Failure::NotApplicable => "the workload does not apply to this contender".to_string(),
        Failure::Failed(reason) => reason,
    }
}
