//! The names of a text's visible characters, in order, so that an edit need not walk through the document for them.
//!
//! The library finds a place by walking over all items of the text, deleted ones included: at the text of a book, the
//! most that a keystroke costs. [`Runs`] has the visible ones side by side in memory and remembers where it was. A
//! new character lies between its **left**, the last item before the next visible character, deleted or not, and its
//! **right**, that visible character. Inside a run both are known; between runs only once somebody typed or deleted
//! there, since what is deleted is not among the runs. Where it is not known the library is asked.

use std::collections::HashMap;
use std::ops::Range;

use super::part::{Id, units};

/// Visible units that lie side by side, and were named one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Id,
    bytes: usize,
    units: u32,
}

impl Run {
    /// The unit at `unit`, counted from the first one.
    fn at(&self, unit: u32) -> Id {
        Id { clock: self.first.clock + unit, ..self.first }
    }

    fn last(&self) -> Id {
        self.at(self.units - 1)
    }

    /// How many units lie in `bytes` of it, which say `text`.
    fn units_of(&self, text: &str) -> u32 {
        if self.bytes == self.units as usize { text.len() as u32 } else { units(text) as u32 }
    }
}

/// Between which two a character is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What lies before it, `None` at the beginning.
    pub left: Option<Id>,
    /// The visible character behind it, `None` at the end.
    pub right: Option<Id>,
}

/// The visible characters of a text by their names.
#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// What lies directly before a visible character, or before the end, as far as that is known.
    before: HashMap<Option<Id>, Option<Id>>,
    /// A run, and where it begins: whoever types goes on nearby.
    near: (usize, usize),
}

impl Runs {
    /// Adds an item behind the others: the name of its first unit, what it says.
    pub fn push(&mut self, first: Id, text: &str) {
        let run = Run { first, bytes: text.len(), units: units(text) as u32 };
        if run.units > 0 {
            self.runs.push(run);
        }
    }

    /// The run that has the byte at `at`, or the end, and where it begins.
    fn find(&mut self, at: usize) -> (usize, usize) {
        let (mut index, mut start) = self.near;
        while start > at {
            index -= 1;
            start -= self.runs[index].bytes;
        }
        while let Some(run) = self.runs.get(index)
            && start + run.bytes <= at
        {
            start += run.bytes;
            index += 1;
        }
        self.near = (index, start);
        self.near
    }

    /// Between what a character that is inserted at a byte of `text` lies, as far as that is known.
    pub fn gap(&mut self, text: &str, at: usize) -> Option<Gap> {
        let (index, start) = self.find(at);
        let run = self.runs.get(index);
        if let Some(run) = run
            && start < at
        {
            let unit = run.units_of(&text[start..at]);
            return Some(Gap { left: Some(run.at(unit - 1)), right: Some(run.at(unit)) });
        }
        let right = run.map(|run| run.first);
        self.before.get(&right).map(|left| Gap { left: *left, right })
    }

    /// Notes that `inserted` was typed at a byte of `text`, between these two, under names from `first` on.
    pub fn insert(&mut self, text: &str, at: usize, gap: Gap, first: Id, inserted: &str) {
        let new = Run { first, bytes: inserted.len(), units: units(inserted) as u32 };
        let (mut index, start) = self.find(at);
        if let Some(run) = self.runs.get(index).copied()
            && start < at
        {
            let unit = run.units_of(&text[start..at]);
            let rest = Run { first: run.at(unit), bytes: start + run.bytes - at, units: run.units - unit };
            self.runs[index] = Run { bytes: at - start, units: unit, ..run };
            index += 1;
            self.runs.insert(index, rest);
            self.near = (index, at);
        }
        self.before.insert(gap.right, Some(new.last()));
        let before = index.checked_sub(1).and_then(|before| self.runs.get_mut(before));
        if let Some(before) = before.filter(|run| {
            Some(run.last()) == gap.left
                && run.first.client == first.client
                && run.last().clock + 1 == first.clock
        }) {
            before.bytes += new.bytes;
            before.units += new.units;
            self.near = (index - 1, at + new.bytes - self.runs[index - 1].bytes);
            return;
        }
        self.before.insert(Some(first), gap.left);
        self.runs.insert(index, new);
        self.near = (index, at);
    }

    /// Takes bytes of `text` out: the names of what went.
    pub fn delete(&mut self, text: &str, gone: Range<usize>) -> Vec<(Id, u32)> {
        let mut deleted = Vec::new();
        let (mut index, mut start) = self.find(gone.start);
        // Runs that go as a whole.
        let mut whole = index..index;
        let mut at = gone.start;
        while at < gone.end {
            let Some(run) = self.runs.get(index).copied() else { break };
            let end = start + run.bytes;
            let (from, to) = (run.units_of(&text[start..at]), end.min(gone.end));
            let count = run.units_of(&text[at..to]);
            deleted.push((run.at(from), count));
            let head = Run { bytes: at - start, units: from, ..run };
            let tail = Run { first: run.at(from + count), bytes: end - to, units: run.units - from - count };
            if tail.units > 0 {
                self.before.insert(Some(tail.first), Some(run.at(from + count - 1)));
            }
            match (head.units > 0, tail.units > 0) {
                (true, true) => {
                    self.runs[index] = head;
                    self.runs.insert(index + 1, tail);
                }
                (true, false) => {
                    self.runs[index] = head;
                    whole = index + 1..index + 1;
                }
                (false, true) => self.runs[index] = tail,
                (false, false) => whole.end = index + 1,
            }
            (at, start, index) = (to, end, index + 1);
        }
        // Where it was found something begins still: what was left of it, or what followed.
        self.runs.drain(whole);
        deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: u64, clock: u32) -> Id {
        Id { client, clock }
    }

    #[test]
    fn a_place_inside_a_run_is_known_and_one_between_runs_once_somebody_typed_there() {
        let mut runs = Runs::default();
        runs.push(id(1, 0), "one");
        runs.push(id(2, 7), "😀two");
        assert_eq!(runs.gap("one😀two", 2), Some(Gap { left: Some(id(1, 1)), right: Some(id(1, 2)) }));
        assert_eq!(runs.gap("one😀two", 7), Some(Gap { left: Some(id(2, 8)), right: Some(id(2, 9)) }));
        assert_eq!(
            (runs.gap("one😀two", 3), runs.gap("one😀two", 10), runs.gap("one😀two", 0)),
            (None, None, None)
        );
        // Something deleted lies between the two.
        let gap = Gap { left: Some(id(1, 3)), right: Some(id(2, 7)) };
        runs.insert("one😀two", 3, gap, id(9, 0), "x");
        assert_eq!(runs.gap("onex😀two", 4), Some(Gap { left: Some(id(9, 0)), right: Some(id(2, 7)) }));
        assert_eq!(runs.gap("onex😀two", 3), Some(Gap { left: Some(id(1, 3)), right: Some(id(9, 0)) }));
        assert_eq!(runs.delete("onex😀two", 2..9), [(id(1, 2), 1), (id(9, 0), 1), (id(2, 7), 3)]);
        assert_eq!(runs.gap("onwo", 2), Some(Gap { left: Some(id(2, 9)), right: Some(id(2, 10)) }));
        assert_eq!(runs.delete("onwo", 0..4), [(id(1, 0), 2), (id(2, 10), 2)]);
        assert_eq!(runs.gap("", 0), None);
    }
}
