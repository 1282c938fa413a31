//! Random histories of what the model of [`crate::history`] does not know: UNIQUE by winner, FOREIGN KEYs, ordered
//! lists. Each has an expectation of its own, which is worked out from everything that a replica holds.
//!
//! A few of each run in the suite; `simulate --about unique`, `foreign-keys` or `lists` runs them for long.

pub mod foreign_keys;
pub mod lists;
pub mod unique;

use crate::exchange::{ARRIVALS, deliver};
use crate::{Rng, Site, pull};
use std::ops::AddAssign;

/// What a history came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// Statements, ends of transactions, and deliveries.
    pub operations: u64,
    /// How often the rare thing was seen that it is about: a row that is hidden, a place that two replicas chose at once.
    pub rare: u64,
}

impl AddAssign for Taken {
    fn add_assign(&mut self, other: Taken) {
        self.operations += other.operations;
        self.rare += other.rare;
    }
}

/// A history: its seed, its steps, and after how many of them a replica is looked through.
pub type History = fn(u64, usize, usize) -> Taken;

/// Runs these histories one after the other, of `steps` steps each; a seed whose history fails is printed.
pub fn all(history: History, seeds: Vec<u64>, steps: usize) -> Taken {
    let mut taken = Taken::default();
    for seed in seeds {
        let _named = Named(seed);
        taken += history(seed, steps, 1);
    }
    println!("{} operations, {} rare", taken.operations, taken.rare);
    taken
}

/// Names the seed of a history that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CRSQL_SEED={}", self.0);
        }
    }
}

/// The rows that wait.
fn hidden(site: &Site) -> Vec<String> {
    site.rows(r#"SELECT DISTINCT "table", pk FROM crsql_conflicts ORDER BY 1, 2"#)
}

/// Lets a replica hear of another in one of five ways; the first two are a changeset.
fn hear(at: &Site, of: &Site, way: usize, rng: &mut Rng) {
    match way {
        0 | 1 => drop(pull(at, of)),
        2 => at.merge(&of.changes()),
        3 => deliver(at, &mut of.changes(), *rng.pick(&ARRIVALS)),
        _ => {
            let nine: Vec<_> = of.changes().iter().map(|change| change[..9].to_vec()).collect();
            at.merge(&nine);
        }
    }
}

/// Gives a replica that has not written yet an id that follows from the seed, so that a seed is one history for ever.
fn name(site: &Site, rng: &mut Rng) {
    site.exec(&format!("SELECT crsql_new_site(x'{:016x}{:016x}')", rng.bits(), rng.bits()));
}
