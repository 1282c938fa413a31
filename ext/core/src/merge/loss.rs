//! Which values that lose are worth telling of: those that nobody meant to replace.
//!
//! A clock does not say what its author had seen, so two writes can't always be told to be concurrent. What can be
//! said without more metadata: equal col_versions of different sites are concurrent, because a write dominates what
//! its author has seen; and a write that is news to a site was unknown to it when it wrote what beats it. Of a value
//! of one's own that another site's write replaces only that one knows whether it had seen it.

use super::CellClock;
use crate::ids::SiteId;

/// A write of a cell: the incarnation of the row, and the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The row's causal length.
    pub cl: u64,
    /// The cell's clock, or that of the row-existence change which began or ended the row.
    pub clock: CellClock,
}

/// How a write came to lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Neither author had seen the other's write.
    Concurrent,
    /// This site's own write was replaced, perhaps by somebody who had seen it.
    OwnReplaced,
    /// Not known to be more than an ordinary overwrite.
    Ordinary,
}

/// How `loser` lost to `winner` at the site `here`, where `is_news` says whether the loser's version was unknown until
/// now.
pub fn loss(winner: &Write, loser: &Write, here: SiteId, is_news: bool) -> Loss {
    let (by, of) = (winner.clock.stamp.site, loser.clock.stamp.site);
    let is_tie = winner.cl == loser.cl && winner.clock.col_version == loser.clock.col_version;
    if by == of {
        Loss::Ordinary
    } else if is_tie || (by == here && is_news) {
        Loss::Concurrent
    } else if of == here {
        Loss::OwnReplaced
    } else {
        Loss::Ordinary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::{Stamp, cell_wins};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SITES: usize = 4;

    /// One cell on one site, and what that site has seen.
    #[derive(Clone, Default)]
    struct Site {
        cell: Option<CellClock>,
        seen: BTreeSet<Stamp>,
    }

    /// Every write with what its author had seen.
    #[derive(Default)]
    struct World {
        sites: Vec<Site>,
        pasts: Vec<(Stamp, BTreeSet<Stamp>)>,
        listed: Vec<(usize, Stamp, Loss)>,
    }

    fn id(site: usize) -> SiteId {
        SiteId([site as u8 + 1; 16])
    }

    impl World {
        fn write(&mut self, site: usize) {
            let here = &mut self.sites[site];
            let version = here.seen.iter().filter(|stamp| stamp.site == id(site)).count() as u64 + 1;
            let stamp = Stamp { site: id(site), version, seq: 0 };
            let col_version = here.cell.map_or(0, |cell| cell.col_version) + 1;
            self.pasts.push((stamp, here.seen.clone()));
            here.seen.insert(stamp);
            here.cell = Some(CellClock { col_version, stamp });
        }

        /// One site tells another what it holds, as a delta does.
        fn tell(&mut self, from: usize, to: usize) {
            let teller = self.sites[from].clone();
            let here = &mut self.sites[to];
            if let Some(remote) = teller.cell
                && here.cell.map(|cell| cell.stamp) != Some(remote.stamp)
            {
                let is_news = !here.seen.contains(&remote.stamp);
                let write = |clock| Write { cl: 1, clock };
                if let Some(local) = here.cell {
                    let wins = cell_wins(Some(&local), &remote);
                    let (winner, loser) = if wins { (remote, local) } else { (local, remote) };
                    let told = loss(&write(winner), &write(loser), id(to), !wins && is_news);
                    self.check(told, winner.stamp, loser.stamp);
                    self.listed.push((to, loser.stamp, told));
                    if wins {
                        self.sites[to].cell = Some(remote);
                    }
                } else {
                    here.cell = Some(remote);
                }
            }
            self.sites[to].seen.extend(teller.seen);
        }

        fn knows(&self, of: Stamp, other: Stamp) -> bool {
            self.pasts.iter().any(|(stamp, past)| *stamp == of && past.contains(&other))
        }

        /// What is called concurrent is; an own write that somebody replaced without knowing it is told of.
        fn check(&self, told: Loss, winner: Stamp, loser: Stamp) {
            let is_concurrent = !self.knows(winner, loser) && !self.knows(loser, winner);
            if told == Loss::Concurrent {
                assert!(is_concurrent, "{winner:?} and {loser:?} were called concurrent");
            }
        }
    }

    proptest! {
        #[test]
        fn no_ordinary_overwrite_is_called_concurrent_and_no_own_loss_is_hidden(
            steps in proptest::collection::vec((0..SITES, 0..SITES), 1..60)
        ) {
            let mut world = World { sites: vec![Site::default(); SITES], ..World::default() };
            for (from, to) in steps {
                let before = world.sites[to].cell;
                match from == to {
                    true => world.write(to),
                    false => world.tell(from, to),
                }
                // Whatever a site wrote itself and another site's write replaced there is told of.
                let (Some(old), Some(new)) = (before, world.sites[to].cell) else { continue };
                if old.stamp.site == id(to) && new.stamp.site != id(to) {
                    let told = world.listed.iter().any(|(at, stamp, told)| {
                        *at == to && *stamp == old.stamp && *told != Loss::Ordinary
                    });
                    prop_assert!(told, "{:?} was replaced silently", old.stamp);
                }
            }
        }
    }

    #[test]
    fn a_delete_and_a_write_are_concurrent_if_the_write_is_news_to_who_deleted() {
        let write = |cl, col_version, site: usize| Write {
            cl,
            clock: CellClock { col_version, stamp: Stamp { site: id(site), version: 3, seq: 0 } },
        };
        let (death, cell) = (write(2, 2, 0), write(1, 2, 1));
        assert_eq!(loss(&death, &cell, id(0), true), Loss::Concurrent);
        assert_eq!(loss(&death, &cell, id(0), false), Loss::Ordinary);
        assert_eq!(loss(&death, &cell, id(1), false), Loss::OwnReplaced);
        assert_eq!(loss(&death, &cell, id(2), true), Loss::Ordinary);
        assert_eq!(loss(&write(1, 2, 0), &cell, id(2), false), Loss::Concurrent, "a tie");
        assert_eq!(loss(&write(1, 3, 1), &cell, id(2), true), Loss::Ordinary, "one author");
    }
}
