//! Fuzzing without a special compiler: targets as plain functions, and a driver that mutates by seed.
//!
//! A target takes bytes and panics if a promise is broken. `cargo run --profile soak -p crsql-tests --bin fuzz` drives
//! all of them; `tests/fuzz` hands the same functions to cargo-fuzz. Each gives a signature of what happened, so that
//! inputs which do something new are kept and mutated further.

mod corpus;
mod decoders;
mod files;
mod mutate;
mod queries;
mod session;

pub use corpus::{committed, seeds};
pub use mutate::Mutator;

use crate::Rng;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its directory under `tests/fuzz/corpus`.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    /// Runs it; the answer tells apart what happened.
    pub run: fn(&[u8]) -> u64,
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "key",
        promise: "packed keys have one encoding and one canonical form",
        run: decoders::key,
    },
    Target {
        name: "changeset",
        promise: "any bytes are an error or a changeset whose changes survive writing and reading",
        run: decoders::changeset,
    },
    Target { name: "vector", promise: "a version vector has one encoding", run: decoders::vector },
    Target {
        name: "wire",
        promise: "any bytes are an error or a message with one encoding",
        run: decoders::wire,
    },
    Target { name: "session", promise: "no sequence of messages breaks a session", run: session::session },
    Target {
        name: "arguments",
        promise: "no argument of a SQL function harms the host",
        run: queries::arguments,
    },
    Target { name: "plans", promise: "crsql_changes answers as a plain table would", run: queries::plans },
    Target { name: "file", promise: "a damaged database file is an error, never a crash", run: files::file },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// How a campaign went.
#[derive(Debug, Default)]
pub struct Campaign {
    /// How often the target ran.
    pub executions: u64,
    /// How many different things happened.
    pub signatures: usize,
    /// The input that broke a promise, and the panic's message.
    pub failure: Option<(Vec<u8>, String)>,
}

/// How many inputs that did something new are kept for mutation.
const POOL_MAX: usize = 4096;

/// Drives a target for a while; everything but the duration follows from the seed.
pub fn drive(target: &Target, seed: u64, duration: Duration) -> Campaign {
    let mut pool: Vec<Vec<u8>> = committed(target.name).into_iter().map(|(_, bytes)| bytes).collect();
    pool.extend(seeds(target.name));
    let mut mutator = Mutator::new(Rng::new(seed ^ 0xf022));
    let mut campaign = Campaign::default();
    let mut seen: HashSet<u64> = HashSet::new();
    let start = Instant::now();
    let mut next = 0;
    while start.elapsed() < duration {
        // Looking at the clock costs more than a small decoder.
        for _ in 0..64 {
            let input = if next < pool.len() && campaign.executions < 100_000 {
                next += 1;
                pool[next - 1].clone()
            } else {
                mutator.mutate(&pool, target.name)
            };
            campaign.executions += 1;
            match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
                Ok(signature) => {
                    if seen.insert(signature) && pool.len() < POOL_MAX {
                        pool.push(input);
                    }
                }
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
                    campaign.failure = Some((input, text.unwrap_or_default()));
                    campaign.signatures = seen.len();
                    return campaign;
                }
            }
        }
    }
    campaign.signatures = seen.len();
    campaign
}

/// A signature of a few numbers.
fn signature(parts: &[u64]) -> u64 {
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| {
        (hash ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
    })
}

/// A signature of a text without its numbers: of an error's kind rather than of its details.
fn kind_of(text: &str) -> u64 {
    let letters = text.bytes().filter(|byte| !byte.is_ascii_digit());
    letters.fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)))
}
