//! Random histories on 3 to 7 replicas with loss, duplication, reordering, partial delivery, restarts, restored
//! backups and late schemas, each replica compared with the model of the rules.
//!
//! The same on tables that follow from the seed is the `simulate` program, of which a few seconds run here; it also
//! shrinks what fails.
//!
//! `CRSQL_OPS` is the number of operations over all histories (the bar is 1_000_000, in a release build),
//! `CRSQL_SEED` runs one history, `CRSQL_COMPARE=1` compares after every operation. A seed decides
//! everything.

use crsql_tests::history::shrink::{failure_of, shrink};
use crsql_tests::history::{Plan, run};
use crsql_tests::rng::number;
use std::sync::atomic::{AtomicU64, Ordering};

const OPERATIONS_OF_A_HISTORY: usize = 500;

#[test]
fn random_histories_never_diverge_from_each_other_or_from_the_model() {
    if let Some(seed) = number("CRSQL_SEED") {
        run(&Plan::of_seed(seed, OPERATIONS_OF_A_HISTORY));
        return;
    }
    let operations = number("CRSQL_OPS").unwrap_or(30_000);
    let histories = operations.div_ceil(OPERATIONS_OF_A_HISTORY as u64);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        break;
                    }
                    let plan = Plan::of_seed(seed, OPERATIONS_OF_A_HISTORY);
                    // The seed comes first, whatever the failure says.
                    if std::panic::catch_unwind(|| run(&plan)).is_err() {
                        panic!("history failed: replay with CRSQL_SEED={seed} ({plan:?})");
                    }
                }
            });
        }
    });
    println!("{histories} histories, {} operations", histories * OPERATIONS_OF_A_HISTORY as u64);
}

#[test]
fn a_few_seconds_of_the_simulator_find_nothing() {
    for seed in 0..10 {
        let plan = Plan::of_seed_with_schema(seed, OPERATIONS_OF_A_HISTORY / 2);
        if let Some(failure) = failure_of(&plan) {
            let steps = shrink(&plan, 200).and_then(|shrunk| shrunk.plan.only).unwrap_or_default();
            panic!("simulate --replay {seed} --steps {} --only {steps:?}: {failure}", plan.operations);
        }
    }
}

#[test]
fn a_history_that_is_shrunk_to_nothing_is_sound() {
    let plan = Plan { only: Some(Vec::new()), ..Plan::of_seed_with_schema(1, 10) };
    assert_eq!(run(&plan), 0);
}
