//! Random histories by seed: writes, cuts, restarts, restored copies and clones, and what must be true of all of them.

mod support;

use crsql_client::replica::Options;
use support::{SCHEMA, World};

/// A small generator: the seed decides everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

/// Rows are written in pairs with one value: half a transaction shows as a pair that differs.
fn pairs_are_whole(world: &World) {
    for (at, site) in world.sites.iter().enumerate() {
        let torn = "SELECT count(*) FROM todo AS a JOIN todo AS b ON b.id = a.id + 1000 WHERE a.title IS NOT b.title";
        assert_eq!(site.text(torn), "0", "node {at} shows half a transaction");
    }
}

fn history(seed: u64) {
    let mut dice = Dice(seed);
    let journal_bytes = [3_000, 16 << 20][dice.below(2)];
    let count = 3 + dice.below(2);
    let mut world =
        World::with(count, Options { passes_on: true, journal_bytes, ..Options::default() }, SCHEMA);
    let mut written = 0;
    for _ in 0..250 {
        let at = dice.below(count);
        match dice.below(20) {
            0..5 => {
                written += 1;
                // The node has a transaction open until it is flushed.
                world.flush(at);
                let key = dice.below(12);
                let title = if dice.below(8) == 0 { "x".repeat(200_000) } else { format!("{at}-{written}") };
                world.sites[at].exec(&format!(
                    "BEGIN; INSERT OR REPLACE INTO todo VALUES ({key}, '{title}', {written});
                     INSERT OR REPLACE INTO todo VALUES ({}, '{title}', {written}); COMMIT",
                    key + 1000
                ));
            }
            5..8 => world.flush(at),
            8..10 => {
                let to = (at + 1 + dice.below(count - 1)) % count;
                world.dial(at, to);
            }
            10 => world.cut(at, (at + 1) % count),
            11 if dice.below(4) == 0 => world.restart(at),
            12 => world.tick(1_000),
            _ => {
                let wires = world.wires().max(1);
                world.deliver(dice.below(wires), dice.below(2) == 0);
            }
        }
        pairs_are_whole(&world);
    }
    for round in 0..6 {
        for at in 1..count {
            world.dial(at, at - 1);
        }
        world.settle();
        world.tick(if round % 2 == 0 { 11_000 } else { 1_000 });
    }
    world.settle();
    pairs_are_whole(&world);
    world.assert_converged();
}

/// Another range of seeds: `CRSQL_SEEDS=1000..2000 cargo test -p crsql-client --test histories`.
#[test]
fn nodes_converge_whatever_happens_and_show_no_half() {
    let range = std::env::var("CRSQL_SEEDS").unwrap_or("0..6".into());
    let (from, to) = range.split_once("..").expect("a range of seeds such as 0..100");
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        eprintln!("seed {seed}");
        history(seed);
    }
}
