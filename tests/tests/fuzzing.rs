//! A second of each fuzz target, and every committed case. The long runs are `cargo run --bin fuzz`.

use crsql_tests::fuzz::{TARGETS, committed, drive, seeds};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The file target replaces SQLite's allocator, which has to come before anything else.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    crsql_tests::fault_host::install();
    guard
}

#[test]
fn a_second_of_each_target_breaks_no_promise() {
    let _alone = alone();
    for target in &TARGETS {
        let campaign = drive(target, 1, Duration::from_millis(700));
        if let Some((input, message)) = campaign.failure {
            panic!("{}: {message}\n  input: {}", target.name, hex(&input));
        }
        println!("{}: {} executions, {} outcomes", target.name, campaign.executions, campaign.signatures);
        assert!(campaign.executions >= 64 && campaign.signatures > 1, "{} does nothing", target.name);
    }
}

#[test]
fn every_committed_case_keeps_its_promise() {
    let _alone = alone();
    for target in &TARGETS {
        for (name, bytes) in committed(target.name) {
            println!("{} {name}: {:x}", target.name, (target.run)(&bytes));
        }
    }
}

#[test]
fn seeds_are_well_formed_where_a_format_has_a_form() {
    let _alone = alone();
    assert!(seeds("key").iter().all(|bytes| crsql_core::pack::unpack(bytes).is_ok()));
    assert!(seeds("changeset").iter().all(|bytes| crsql_core::changeset::Changeset::changes(bytes).is_ok()));
    assert!(seeds("wire").iter().all(|bytes| crsql_protocol::codec::decode(bytes, 1 << 20).is_ok()));
    assert!(seeds("file").len() >= 5);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(600).map(|byte| format!("{byte:02x}")).collect()
}
