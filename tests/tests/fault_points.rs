//! Every point at which a scripted piece of work can fail, in a process of its own, because SQLite's allocator is
//! replaced. `CRSQL_FAULTS=all` strikes at every point, `CRSQL_FAULTS=7` at every seventh; a share of them runs otherwise.

use crsql_tests::fault_host::{Io, Lasting};
use crsql_tests::faults::{KINDS, Kind, MODES, campaign, scripts};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// SQLite shares some memory between threads, so that what one leaks could not be told from what another uses.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How many points of each script and kind are struck in an ordinary run, spread over all there are.
const SHARE: u64 = 6;

#[test]
fn whatever_fails_the_replica_is_in_a_committed_state_and_goes_on() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    crsql_tests::fault_host::install();
    let stride = match std::env::var("CRSQL_FAULTS").as_deref() {
        Ok("all") => Some(1),
        _ => crsql_tests::rng::number("CRSQL_FAULTS"),
    };
    let start = Instant::now();
    let mut total = 0;
    for mode in MODES {
        for script in scripts(mode) {
            for kind in KINDS {
                let struck = match stride {
                    Some(stride) => campaign(&script, kind, 1, stride, u64::MAX),
                    None => share(|point| script.strike(kind, point)),
                };
                total += struck;
                if stride.is_some() {
                    println!(
                        "{:>6} s  {total} points, {mode:?}, {}, {kind:?}: {struck}",
                        start.elapsed().as_secs(),
                        script.name
                    );
                }
            }
        }
    }
    println!("{total} fault points in {} s", start.elapsed().as_secs());
    assert!(total > 500, "only {total} faults struck: the injection does not work");
}

/// Strikes at points that grow by powers, so that early and late ones are among them.
fn share(mut strike: impl FnMut(u64) -> bool) -> u64 {
    let (mut point, mut struck) = (1, 0);
    while struck < SHARE && strike(point) {
        struck += 1;
        point = point * 3 + struck;
    }
    struck
}

#[test]
fn each_kind_of_fault_strikes() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    crsql_tests::fault_host::install();
    for script in scripts(MODES[0]).iter().take(1) {
        for kind in KINDS {
            assert!(script.strike(kind, 1), "{kind:?} never strikes in {}", script.name);
            assert!(!script.strike(kind, 10_000_000), "{kind:?} strikes where nothing happens");
        }
        assert!(!script.strike(Kind::Interrupt, 10_000_000));
    }
}

#[test]
fn a_statement_whose_preparation_ends_the_transaction_does_not_commit_by_itself() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    crsql_tests::fault_host::install();
    let scripts = scripts(MODES[0]);
    let script =
        scripts.iter().find(|script| script.name == "a transaction with savepoints").expect("it is there");
    // The schema is looked at while the UPDATE is prepared; a read that fails there rolls the INSERT back.
    assert!(campaign(script, Kind::Disk(Io::Read, Lasting::Once), 1, 1, 40) > 10);
}

#[test]
fn a_rollback_while_the_buffer_is_read_leaves_nothing_in_it() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    crsql_tests::fault_host::install();
    let scripts = scripts(MODES[0]);
    let script = scripts.iter().find(|script| script.name == "a schema that changes").expect("it is there");
    // In `crsql_commit_alter`, whose rows are stored while SQLite gives up the transaction for want of memory.
    assert_eq!(campaign(script, Kind::Allocation(Lasting::Once), 14_980, 1, 150), 150);
}
