//! What writers did and readers saw, and whether both fit together.

use std::collections::{BTreeMap, BTreeSet};

/// A transaction of one writer: it adds the row (writer, number) to the list, and writes the same value to both halves
/// of a pair. Nobody ever writes one half alone, and nobody takes a row off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Who.
    pub writer: usize,
    /// Which of its transactions, from 1.
    pub number: u64,
    /// Which pair.
    pub pair: u64,
}

impl Write {
    /// The value of both halves: nobody else ever writes it.
    pub fn value(&self) -> String {
        format!("{}-{}", self.writer, self.number)
    }
}

/// What somebody saw in one read transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The rows of the list.
    pub list: BTreeSet<(usize, u64)>,
    /// Both halves of every pair.
    pub pairs: BTreeMap<u64, (Option<String>, Option<String>)>,
}

/// The history of a run: who committed what, and what every replica showed, in order.
#[derive(Debug, Default)]
pub struct History {
    committed: BTreeMap<(usize, u64), Write>,
    seen: BTreeMap<usize, Seen>,
    /// What was wrong.
    pub faults: Vec<String>,
    /// How many reads were looked at.
    pub reads: u64,
}

impl History {
    /// A commit was reported to its writer.
    pub fn committed(&mut self, write: Write) {
        self.committed.insert((write.writer, write.number), write);
    }

    /// How many.
    pub fn commits(&self) -> usize {
        self.committed.len()
    }

    /// Somebody read at a replica.
    pub fn saw(&mut self, replica: usize, seen: Seen) {
        self.reads += 1;
        for (pair, (left, right)) in &seen.pairs {
            if left != right {
                self.faults.push(format!(
                    "replica {replica} showed half of a transaction: {pair}: {left:?} {right:?}"
                ));
            }
            for value in [left, right].into_iter().flatten() {
                self.check_value(replica, *pair, value, &seen);
            }
        }
        if let Some(before) = self.seen.get(&replica) {
            let gone: Vec<_> = before.list.difference(&seen.list).take(3).collect();
            if !gone.is_empty() {
                self.faults.push(format!("replica {replica} forgot {gone:?}"));
            }
        }
        self.seen.insert(replica, seen);
    }

    /// A value was written by the transaction of its name, of which the row is there too.
    fn check_value(&mut self, replica: usize, pair: u64, value: &str, seen: &Seen) {
        let name = value
            .split_once('-')
            .and_then(|(writer, number)| Some((writer.parse::<usize>().ok()?, number.parse::<u64>().ok()?)));
        let Some(name) = name else {
            self.faults.push(format!("replica {replica} shows {value:?}, which nobody wrote"));
            return;
        };
        if self.committed.get(&name).is_some_and(|write| write.pair != pair) {
            self.faults.push(format!("replica {replica} shows {value:?} at the wrong place"));
        }
        if !seen.list.contains(&name) {
            self.faults
                .push(format!("replica {replica} showed half of a transaction: {value:?} without its row"));
        }
    }

    /// Everything is quiet: what was committed must be everywhere, and everywhere the same.
    pub fn settled(&mut self, replicas: usize) {
        for replica in 0..replicas {
            let seen = self.seen.get(&replica).cloned().unwrap_or_default();
            let lost: Vec<_> =
                self.committed.keys().filter(|name| !seen.list.contains(name)).take(3).collect();
            if !lost.is_empty() {
                self.faults.push(format!("replica {replica} lacks {lost:?}"));
            }
            if Some(&seen) != self.seen.get(&0) {
                self.faults.push(format!("replica {replica} differs from replica 0"));
            }
        }
    }
}

/// The checker itself is checked with histories of systems that have the faults it is there for.
#[cfg(test)]
mod tests {
    use super::*;

    const WRITES: [Write; 3] = [
        Write { writer: 0, number: 1, pair: 5 },
        Write { writer: 1, number: 1, pair: 5 },
        Write { writer: 0, number: 2, pair: 6 },
    ];

    fn all() -> Seen {
        let mut seen = Seen::default();
        for write in WRITES {
            seen.list.insert((write.writer, write.number));
            seen.pairs.insert(write.pair, (Some(write.value()), Some(write.value())));
        }
        seen
    }

    fn faults(change: impl FnOnce(&mut Seen)) -> Vec<String> {
        let mut history = History::default();
        WRITES.into_iter().for_each(|write| history.committed(write));
        history.saw(0, all());
        let mut seen = all();
        change(&mut seen);
        history.saw(1, seen);
        history.settled(2);
        history.faults
    }

    #[test]
    fn a_history_without_faults_has_none() {
        assert_eq!(faults(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        type Fault = fn(&mut Seen);
        let kinds: [(&str, Fault); 5] = [
            // A cursor per origin passes over what came another way; an acknowledgement before the fsync loses its end.
            ("lacks", |seen| assert!(seen.list.remove(&(1, 1)))),
            // Chunks shown as they come.
            ("half of a transaction", |seen| drop(seen.pairs.insert(6, (Some("0-2".into()), None)))),
            ("without its row", |seen| assert!(seen.list.remove(&(0, 2)))),
            // A merge that depends on the order of delivery.
            ("differs", |seen| drop(seen.pairs.insert(5, (Some("0-1".into()), Some("0-1".into()))))),
            ("nobody wrote", |seen| drop(seen.pairs.insert(6, (Some("x".into()), Some("x".into()))))),
        ];
        for (name, change) in kinds {
            let found = faults(change);
            assert!(found.iter().any(|fault| fault.contains(name)), "{name}: {found:?}");
        }
        // Without a new epoch after a restore a reader skips what took the places that it knows, and never gets it.
        let mut history = History::default();
        history.committed(WRITES[0]);
        history.saw(0, all());
        history.saw(0, Seen::default());
        assert!(history.faults.iter().any(|fault| fault.contains("forgot")), "{:?}", history.faults);
    }
}
