//! A deterministic world of nodes, wires and accidents, replayed by seed.
//!
//! Every node has a store that forgets what was not flushed, drives real sessions over wires that lose, repeat and
//! swap messages, and is cut, crashed and restored from old copies. Afterwards the world is left in peace and must
//! come to rest with every node holding the same transactions, none of them half, none that was acknowledged gone.
//!
//! The same world with one rule of the protocol broken ([`Mutant`]) must be caught: that is what shows that the
//! checks see anything.

mod accidents;
mod net;
mod node;
mod store;
mod tests;
mod world;

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// "I have version 7 of a site" is taken to mean all before it.
    NaiveCursor,
    /// `Stored` is said before the flush.
    AckBeforeDurable,
    /// A restored journal keeps its epoch.
    NoEpochAfterRestore,
    /// A chunk is shown as soon as it comes.
    EarlyChunk,
    /// No mutant but the control of two of them: gaps are not asked for, all other rules hold.
    AsksForNothing,
    /// What was known already is journaled and passed on all the same.
    ForwardWithoutSetTest,
}

/// A small generator (splitmix64): the seed decides everything.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}
