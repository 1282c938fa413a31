//! What all parts of a text have together, in an order in which it can be integrated.
//!
//! The text is a function of the cells that are held, whatever they are and in whatever order they came: parts are
//! taken in one order, of two that claim the same unit the first counts, and a block goes in as soon as its client's
//! blocks before it and both its neighbours are in. What waits for a neighbour that nobody here has is left out.

use std::collections::{BTreeMap, VecDeque};

use super::is_of;
use super::part::{Block, Content, Id, Part, Ranges};
use crate::ids::SiteId;

/// The parts of a text in the order in which they count.
pub struct Weave<'p> {
    sources: BTreeMap<u64, Vec<&'p [Block]>>,
    deletes: BTreeMap<u64, Ranges>,
}

/// What can be integrated.
#[derive(Default)]
pub struct Woven {
    /// Runs of one client each, in an order in which every one finds its neighbours.
    pub runs: Vec<(u64, Vec<Block>)>,
    /// How many units of each client are in.
    pub next: BTreeMap<u64, u32>,
    /// What is deleted of those.
    pub deletes: BTreeMap<u64, Ranges>,
}

impl<'p> Weave<'p> {
    /// Takes parts with their authors; `None` wrote what a register held.
    pub fn new(parts: impl Iterator<Item = (Option<SiteId>, &'p Part)>) -> Weave<'p> {
        let mut weave = Weave { sources: BTreeMap::new(), deletes: BTreeMap::new() };
        for (site, part) in parts {
            for (client, blocks) in &part.blocks {
                if is_of(*client, site.as_ref()) {
                    weave.sources.entry(*client).or_default().push(blocks);
                    for block in blocks.iter().filter(|block| matches!(block.content, Content::Deleted(_))) {
                        weave.deletes.entry(*client).or_default().insert(block.clock, block.end());
                    }
                }
            }
            for (client, ranges) in &part.deletes {
                let known = weave.deletes.entry(*client).or_default();
                ranges.iter().for_each(|(from, to)| known.insert(from, to));
            }
        }
        weave
    }

    /// The clock behind the last unit that anybody has of a client.
    pub fn end_of(&self, client: u64) -> u32 {
        let lists = self.sources.get(&client).into_iter().flatten();
        lists.filter_map(|blocks| blocks.last()).map(Block::end).max().unwrap_or(0)
    }

    /// The next block of a client, from `clock` on.
    fn block_from(&self, client: u64, clock: u32) -> Option<Block> {
        self.sources.get(&client)?.iter().find_map(|blocks| {
            let at = blocks.partition_point(|block| block.end() <= clock);
            blocks.get(at).filter(|block| block.clock <= clock)?.from(client, clock)
        })
    }

    /// Puts what is there in order, on top of the units that are in already: `next` by client.
    pub fn weave(&self, next: BTreeMap<u64, u32>) -> Woven {
        let mut woven = Woven { next, ..Woven::default() };
        let mut ready: VecDeque<u64> = self.sources.keys().copied().collect();
        let mut waiting: BTreeMap<Id, Vec<u64>> = BTreeMap::new();
        while let Some(client) = ready.pop_front() {
            let start = woven.next.get(&client).copied().unwrap_or(0);
            let mut next = start;
            let mut run: Vec<Block> = Vec::new();
            while let Some(block) = self.block_from(client, next) {
                let known = |id: &&Id| match id.client == client {
                    true => id.clock < next,
                    false => woven.next.get(&id.client).is_some_and(|end| id.clock < *end),
                };
                let missing = block.left.iter().chain(&block.right).find(|id| !known(id));
                if let Some(missing) = missing {
                    // What waits for its own client's later units waits for ever.
                    if missing.client != client {
                        waiting.entry(*missing).or_default().push(client);
                    }
                    break;
                }
                next = block.end();
                run.push(block);
            }
            if next == start {
                continue;
            }
            woven.next.insert(client, next);
            woven.runs.push((client, run));
            let (from, to) = (Id { client, clock: start }, Id { client, clock: next });
            let woken: Vec<Id> = waiting.range(from..to).map(|(id, _)| *id).collect();
            for id in woken {
                ready.extend(waiting.remove(&id).into_iter().flatten());
            }
        }
        for (client, ranges) in &self.deletes {
            let Some(end) = woven.next.get(client) else { continue };
            for (from, to) in ranges.iter().filter(|(from, _)| from < end) {
                woven.deletes.entry(*client).or_default().insert(from, to.min(*end));
            }
        }
        woven
    }
}
