//! Sets of a row's clocked slots: slot 0 is the row's existence, slot `n` the column with id `n`.

use super::bytes::{Cursor, damaged, put};
use crate::sqlite::Result;

/// The slot of a row's existence.
pub const ROW: u32 = 0;

/// A set of slots. Those below 64 live inline: nearly every table has no more, and then a set is a number.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Columns {
    low: u64,
    /// The other slots; `None` without any, so equality is equality.
    high: Option<Box<High>>,
}

/// The slots from 64 on, 64 a word. The last word is not zero.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct High(Vec<u64>);

/// The slots of one word.
#[inline]
fn slots_of(word: usize, bits: u64) -> impl Iterator<Item = u32> {
    std::iter::successors((bits != 0).then_some(bits), |w| Some(w & (w - 1)).filter(|w| *w != 0))
        .map(move |w| word as u32 * 64 + w.trailing_zeros())
}

impl Columns {
    /// No slot.
    #[inline]
    pub fn new() -> Self {
        Columns::default()
    }

    /// The slots below 64 whose bits are set.
    #[inline]
    pub fn of_bits(low: u64) -> Self {
        Columns { low, high: None }
    }

    /// Just `slot`.
    #[inline]
    pub fn one(slot: u32) -> Self {
        let mut set = Columns::new();
        set.insert(slot);
        set
    }

    /// The words from slot 64 on.
    #[inline]
    fn high(&self) -> &[u64] {
        self.high.as_ref().map_or(&[], |high| &high.0)
    }

    #[inline]
    fn word(&self, word: usize) -> u64 {
        match word {
            0 => self.low,
            _ => self.high().get(word - 1).copied().unwrap_or(0),
        }
    }

    /// Adds `slot`.
    #[inline]
    pub fn insert(&mut self, slot: u32) {
        if slot < 64 {
            self.low |= 1 << slot;
        } else {
            let (word, high) = ((slot / 64) as usize - 1, &mut self.high.get_or_insert_default().0);
            if high.len() <= word {
                high.resize(word + 1, 0);
            }
            high[word] |= 1 << (slot % 64);
        }
    }

    /// Takes `slot` out.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        if slot < 64 {
            self.low &= !(1 << slot);
        } else if let Some(word) = self.high.as_mut().and_then(|h| h.0.get_mut((slot / 64) as usize - 1)) {
            *word &= !(1 << (slot % 64));
            self.trim();
        }
    }

    /// True when `slot` is in.
    #[inline]
    pub fn contains(&self, slot: u32) -> bool {
        self.word((slot / 64) as usize) >> (slot % 64) & 1 == 1
    }

    /// True without a slot.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_none()
    }

    /// True when these are the slots below 64 whose bits are set, and no others.
    #[inline]
    pub fn is_bits(&self, bits: u64) -> bool {
        self.low == bits && self.high.is_none()
    }

    /// The number of slots.
    #[inline]
    pub fn len(&self) -> u32 {
        self.low.count_ones() + self.high().iter().map(|word| word.count_ones()).sum::<u32>()
    }

    /// How many slots below `slot` are in.
    #[inline]
    pub fn rank(&self, slot: u32) -> u32 {
        let below = (1u64 << (slot % 64)) - 1;
        if slot < 64 {
            return (self.low & below).count_ones();
        }
        let word = (slot / 64) as usize;
        let whole: u32 = self.high().iter().take(word - 1).map(|w| w.count_ones()).sum();
        self.low.count_ones() + whole + (self.word(word) & below).count_ones()
    }

    /// True when the sets share a slot.
    #[inline]
    pub fn intersects(&self, other: &Columns) -> bool {
        self.low & other.low != 0 || self.high().iter().zip(other.high()).any(|(a, b)| a & b != 0)
    }

    /// The slots in both.
    #[inline]
    pub fn intersection(&self, other: &Columns) -> Columns {
        let mut set = Columns::of_bits(self.low & other.low);
        if let (Some(a), Some(b)) = (&self.high, &other.high) {
            set.high = Some(Box::new(High(a.0.iter().zip(&b.0).map(|(a, b)| a & b).collect())));
            set.trim();
        }
        set
    }

    /// Adds every slot of `other`.
    #[inline]
    pub fn union_with(&mut self, other: &Columns) {
        self.low |= other.low;
        if let Some(theirs) = &other.high {
            let mine = &mut self.high.get_or_insert_default().0;
            if mine.len() < theirs.0.len() {
                mine.resize(theirs.0.len(), 0);
            }
            mine.iter_mut().zip(&theirs.0).for_each(|(a, b)| *a |= b);
        }
    }

    /// Takes every slot of `other` out.
    #[inline]
    pub fn subtract(&mut self, other: &Columns) {
        self.low &= !other.low;
        if let (Some(mine), Some(theirs)) = (&mut self.high, &other.high) {
            mine.0.iter_mut().zip(&theirs.0).for_each(|(a, b)| *a &= !b);
            self.trim();
        }
    }

    /// The first slot from `slot` on.
    #[inline]
    pub fn next_from(&self, slot: u32) -> Option<u32> {
        let mut word = (slot / 64) as usize;
        let mut bits = self.word(word) & (u64::MAX << (slot % 64));
        while bits == 0 {
            if word >= self.high().len() {
                return None;
            }
            word += 1;
            bits = self.word(word);
        }
        Some(word as u32 * 64 + bits.trailing_zeros())
    }

    /// The slots, ascending.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let high = self.high().iter().enumerate();
        slots_of(0, self.low).chain(high.flat_map(|(word, bits)| slots_of(word + 1, *bits)))
    }

    fn trim(&mut self) {
        if let Some(high) = &mut self.high {
            while high.0.last() == Some(&0) {
                high.0.pop();
            }
            if high.0.is_empty() {
                self.high = None;
            }
        }
    }

    /// Appends the set: its byte length, then its bits, least significant byte first.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let words = self.high().len();
        let used = words * 8 + 8 - self.word(words).leading_zeros() as usize / 8;
        put(out, used as u64);
        for index in 0..used {
            out.push((self.word(index / 8) >> (index % 8 * 8)) as u8);
        }
    }

    /// Reads what [`Columns::encode`] wrote.
    pub fn decode(cursor: &mut Cursor) -> Result<Columns> {
        let bytes = cursor.bytes()?;
        if bytes.len() > 8192 {
            return Err(damaged());
        }
        let (low, high) = bytes.split_at(bytes.len().min(8));
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let mut set = Columns::of_bits(word(low));
        if !high.is_empty() {
            set.high = Some(Box::new(High(high.chunks(8).map(word).collect())));
            set.trim();
        }
        Ok(set)
    }
}

impl FromIterator<u32> for Columns {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut set = Columns::new();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_rank_and_survive_encoding() {
        for slots in [vec![], vec![0], vec![1, 2, 63], vec![0, 64, 127, 128, 1999]] {
            let set: Columns = slots.iter().copied().collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), slots);
            for (rank, slot) in slots.iter().enumerate() {
                assert_eq!(set.rank(*slot), rank as u32);
            }
            let mut out = Vec::new();
            set.encode(&mut out);
            assert_eq!(Columns::decode(&mut Cursor::new(&out)).unwrap(), set);
        }
    }

    #[test]
    fn sets_stay_comparable_after_subtraction() {
        let mut set: Columns = [1, 200].into_iter().collect();
        set.subtract(&Columns::one(200));
        assert_eq!(set, Columns::one(1));
        set.remove(1);
        assert!(set.is_empty());
    }

    #[test]
    fn sets_of_many_columns_behave_as_those_of_few() {
        let slots = |step: usize| (0..300).step_by(step).collect::<Vec<u32>>();
        let set = |step| slots(step).into_iter().collect::<Columns>();
        let (two, three) = (set(2), set(3));
        assert_eq!(two.intersection(&three), set(6));
        let mut rest = two.clone();
        rest.subtract(&set(6));
        assert!(!rest.intersects(&three) && two.intersects(&three));
        assert_eq!(rest.len() + set(6).len(), two.len());
        rest.union_with(&set(6));
        assert_eq!(rest, two);
        let next = |from| two.next_from(from);
        assert_eq!((next(0), next(63), next(127), next(299)), (Some(0), Some(64), Some(128), None));
        assert!(two.contains(298) && !two.contains(299) && !two.is_bits(u64::MAX / 3));
        assert_eq!(set(6).intersection(&Columns::of_bits(u64::MAX)).len(), 11);
    }
}
