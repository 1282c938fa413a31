//! Seeds that must end well, and broken rules that must not.

use super::Mutant;
use super::world::{Shape, World};

/// More with `CRSQL_SIM_SEEDS=10000`.
fn seeds() -> u64 {
    std::env::var("CRSQL_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(250)
}

/// Where to begin, to replay one seed: `CRSQL_SIM_FROM=315 CRSQL_SIM_SEEDS=1`.
fn from() -> u64 {
    std::env::var("CRSQL_SIM_FROM").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
}

fn run(seed: u64, shape: Shape, mutant: Option<Mutant>) -> Result<usize, String> {
    let mut world = World::new(seed, shape, mutant);
    world.run(250).map(|()| world.delivered)
}

fn all_end_well(shape: Shape) {
    let mut delivered = 0;
    for seed in from()..from() + seeds() {
        match run(seed, shape, None) {
            Ok(count) => delivered += count,
            Err(failure) => panic!("seed {seed} of {shape:?}: {failure}"),
        }
    }
    assert!(delivered as u64 > 100 * seeds(), "hardly anything happened: {delivered} messages");
}

fn is_caught(mutant: Mutant, shape: Shape) {
    let caught = (0..200).filter(|seed| run(*seed, shape, Some(mutant)).is_err()).count();
    assert!(caught > 3, "{mutant:?} was caught {caught} times in 200 seeds");
    println!("{mutant:?}: caught in {caught} of 200 seeds");
}

#[test]
fn clients_of_one_relay_converge() {
    all_end_well(Shape::OneRelay);
}

#[test]
fn clients_between_two_relays_converge() {
    all_end_well(Shape::TwoRelays);
}

#[test]
fn peers_without_a_relay_converge() {
    all_end_well(Shape::Peers);
}

#[test]
fn a_naive_cursor_is_caught() {
    is_caught(Mutant::NaiveCursor, Shape::TwoRelays);
}

#[test]
fn an_ack_before_the_flush_is_caught() {
    is_caught(Mutant::AckBeforeDurable, Shape::TwoRelays);
}

#[test]
fn an_old_epoch_after_a_restore_is_caught() {
    is_caught(Mutant::NoEpochAfterRestore, Shape::OneRelay);
}

#[test]
fn what_catches_a_cursor_or_an_old_epoch_is_not_that_gaps_are_not_asked_for() {
    for shape in [Shape::OneRelay, Shape::TwoRelays] {
        for seed in 0..200 {
            assert!(run(seed, shape, Some(Mutant::AsksForNothing)).is_ok(), "seed {seed} of {shape:?}");
        }
    }
}

#[test]
fn a_chunk_shown_early_is_caught() {
    is_caught(Mutant::EarlyChunk, Shape::OneRelay);
}

#[test]
fn passing_on_without_the_set_test_is_caught() {
    is_caught(Mutant::ForwardWithoutSetTest, Shape::Peers);
}
