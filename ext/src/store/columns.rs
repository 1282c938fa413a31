//! Sets of a row's clocked slots: slot 0 is the row's existence, slot `n` the column with id `n`, and slots from
//! [`PARTS`] on are those of counters, which have a clock for each site.

use super::bytes::{Cursor, damaged, put};
use crate::sqlite::Result;

/// The slot of a row's existence.
pub const ROW: u32 = 0;

/// The first slot of a counter's parts. Of these slots a row has one clock *for each site*; of every other it has one.
pub const PARTS: u32 = 1 << 16;

/// A table has at most so many counters, those that it once had included.
pub const COUNTERS_MAX: u32 = 64;

/// Whether a slot is one of a counter's parts.
#[inline]
pub fn is_part(slot: u32) -> bool {
    slot >= PARTS
}

/// Bytes of a stored set, at most, its counters not counted.
const BYTES_MAX: usize = (PARTS / 8) as usize;

/// A set of slots. Those below 64 live inline: nearly every table has no more, and then a set is a number.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Columns {
    low: u64,
    /// The other slots; `None` without any, so equality is equality.
    high: Option<Box<High>>,
}

/// The slots from 64 on.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct High {
    /// 64 a word. The last word is not zero.
    words: Vec<u64>,
    /// Those from [`PARTS`] on.
    parts: u64,
}

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
        self.high.as_ref().map_or(&[], |high| &high.words)
    }

    #[inline]
    fn part_bits(&self) -> u64 {
        self.high.as_ref().map_or(0, |high| high.parts)
    }

    /// True when a counter's slot is in.
    #[inline]
    pub fn has_parts(&self) -> bool {
        self.part_bits() != 0
    }

    /// The slots of counters.
    pub fn parts(&self) -> Columns {
        Columns::of_parts(self.part_bits())
    }

    fn of_parts(parts: u64) -> Columns {
        Columns { low: 0, high: (parts != 0).then(|| Box::new(High { words: Vec::new(), parts })) }
    }

    /// The other slots.
    pub fn without_parts(&self) -> Columns {
        let mut set = self.clone();
        if let Some(high) = &mut set.high {
            high.parts = 0;
            set.trim();
        }
        set
    }

    /// Takes out every slot that a write of `other` by `author` supersedes in a group of `site`.
    #[inline]
    pub fn supersede(&mut self, other: &Columns, is_same_site: bool) {
        if is_same_site || !other.has_parts() {
            self.subtract(other);
        } else {
            self.subtract(&other.without_parts());
        }
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
        } else if is_part(slot) {
            self.high.get_or_insert_default().parts |= 1 << ((slot - PARTS) % COUNTERS_MAX);
        } else {
            let (word, high) = ((slot / 64) as usize - 1, &mut self.high.get_or_insert_default().words);
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
        } else if let Some(high) = &mut self.high {
            if is_part(slot) {
                high.parts &= !(1 << ((slot - PARTS) % COUNTERS_MAX));
            } else if let Some(word) = high.words.get_mut((slot / 64) as usize - 1) {
                *word &= !(1 << (slot % 64));
            }
            self.trim();
        }
    }

    /// True when `slot` is in.
    #[inline]
    pub fn contains(&self, slot: u32) -> bool {
        if is_part(slot) {
            return self.part_bits() >> ((slot - PARTS) % COUNTERS_MAX) & 1 == 1;
        }
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
        match &self.high {
            None => self.low.count_ones(),
            Some(_) => self.ones(),
        }
    }

    fn ones(&self) -> u32 {
        let words = self.high().iter().map(|word| word.count_ones()).sum::<u32>();
        self.low.count_ones() + words + self.part_bits().count_ones()
    }

    /// How many slots below `slot` are in.
    #[inline]
    pub fn rank(&self, slot: u32) -> u32 {
        let below = (1u64 << (slot % 64)) - 1;
        if slot < 64 {
            return (self.low & below).count_ones();
        }
        if is_part(slot) {
            let below = (1u64 << ((slot - PARTS) % COUNTERS_MAX)) - 1;
            return self.ones() - (self.part_bits() & !below).count_ones();
        }
        let word = (slot / 64) as usize;
        let whole: u32 = self.high().iter().take(word - 1).map(|w| w.count_ones()).sum();
        self.low.count_ones() + whole + (self.word(word) & below).count_ones()
    }

    /// True when the sets share a slot.
    #[inline]
    pub fn intersects(&self, other: &Columns) -> bool {
        self.low & other.low != 0
            || self.high().iter().zip(other.high()).any(|(a, b)| a & b != 0)
            || self.part_bits() & other.part_bits() != 0
    }

    /// The slots in both.
    #[inline]
    pub fn intersection(&self, other: &Columns) -> Columns {
        let mut set = Columns::of_bits(self.low & other.low);
        if let (Some(a), Some(b)) = (&self.high, &other.high) {
            let words = a.words.iter().zip(&b.words).map(|(a, b)| a & b).collect();
            set.high = Some(Box::new(High { words, parts: a.parts & b.parts }));
            set.trim();
        }
        set
    }

    /// Adds every slot of `other`.
    #[inline]
    pub fn union_with(&mut self, other: &Columns) {
        self.low |= other.low;
        if let Some(theirs) = &other.high {
            let mine = self.high.get_or_insert_default();
            if mine.words.len() < theirs.words.len() {
                mine.words.resize(theirs.words.len(), 0);
            }
            mine.words.iter_mut().zip(&theirs.words).for_each(|(a, b)| *a |= b);
            mine.parts |= theirs.parts;
        }
    }

    /// Takes every slot of `other` out.
    #[inline]
    pub fn subtract(&mut self, other: &Columns) {
        self.low &= !other.low;
        if let (Some(mine), Some(theirs)) = (&mut self.high, &other.high) {
            mine.words.iter_mut().zip(&theirs.words).for_each(|(a, b)| *a &= !b);
            mine.parts &= !theirs.parts;
            self.trim();
        }
    }

    /// The first slot from `slot` on.
    #[inline]
    pub fn next_from(&self, slot: u32) -> Option<u32> {
        if is_part(slot) {
            let above = self.part_bits() & u64::MAX.checked_shl(slot - PARTS).unwrap_or(0);
            return (above != 0).then(|| PARTS + above.trailing_zeros());
        }
        let mut word = (slot / 64) as usize;
        let mut bits = self.word(word) & (u64::MAX << (slot % 64));
        while bits == 0 {
            if word >= self.high().len() {
                let parts = self.part_bits();
                return (parts != 0).then(|| PARTS + parts.trailing_zeros());
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
        let parts = slots_of(0, self.part_bits()).map(|slot| PARTS + slot);
        slots_of(0, self.low).chain(high.flat_map(|(word, bits)| slots_of(word + 1, *bits))).chain(parts)
    }

    fn trim(&mut self) {
        if let Some(high) = &mut self.high {
            while high.words.last() == Some(&0) {
                high.words.pop();
            }
            if high.words.is_empty() && high.parts == 0 {
                self.high = None;
            }
        }
    }

    /// Appends the set: its byte length, then its bits, least significant byte first. With counters the length is past
    /// [`BYTES_MAX`] by one more than it is, and their bits follow as a number.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let words = self.high().len();
        let used = words * 8 + 8 - self.word(words).leading_zeros() as usize / 8;
        let parts = self.part_bits();
        put(out, if parts == 0 { used } else { used + BYTES_MAX + 1 } as u64);
        for index in 0..used {
            out.push((self.word(index / 8) >> (index % 8 * 8)) as u8);
        }
        if parts != 0 {
            put(out, parts);
        }
    }

    /// Reads what [`Columns::encode`] wrote.
    pub fn decode(cursor: &mut Cursor) -> Result<Columns> {
        let len = usize::try_from(cursor.number()?).map_err(|_| damaged())?;
        if len > 2 * BYTES_MAX + 1 {
            return Err(damaged());
        }
        let has_parts = len > BYTES_MAX;
        let bytes = cursor.take(if has_parts { len - BYTES_MAX - 1 } else { len })?;
        let (low, high) = bytes.split_at(bytes.len().min(8));
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let mut set = Columns::of_bits(word(low));
        if !high.is_empty() {
            let words = high.chunks(8).map(word).collect();
            set.high = Some(Box::new(High { words, parts: 0 }));
            set.trim();
        }
        if has_parts {
            set.union_with(&Columns::of_parts(cursor.number()?));
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
        for slots in [
            vec![],
            vec![0],
            vec![1, 2, 63],
            vec![0, 64, 127, 128, 1999],
            vec![PARTS],
            vec![1, PARTS + 2, PARTS + 63],
            vec![1, 200, PARTS],
        ] {
            let set: Columns = slots.iter().copied().collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), slots);
            for (rank, slot) in slots.iter().enumerate() {
                assert_eq!(set.rank(*slot), rank as u32);
            }
            let mut out = Vec::new();
            set.encode(&mut out);
            assert_eq!(Columns::decode(&mut Cursor::new(&out)).unwrap(), set);
            let mut stepped = Vec::new();
            let mut next = set.next_from(0);
            while let Some(slot) = next {
                stepped.push(slot);
                next = set.next_from(slot + 1);
            }
            assert_eq!(stepped, slots);
        }
    }

    #[test]
    fn counters_are_slots_like_others_but_for_being_superseded_by_their_own_site_only() {
        let mut set: Columns = [1, 70, PARTS, PARTS + 5].into_iter().collect();
        assert!(set.contains(PARTS + 5) && !set.contains(PARTS + 4) && set.has_parts());
        assert_eq!(set.parts().iter().collect::<Vec<_>>(), [PARTS, PARTS + 5]);
        assert_eq!(set.without_parts().iter().collect::<Vec<_>>(), [1, 70]);
        let write: Columns = [70, PARTS].into_iter().collect();
        set.supersede(&write, false);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, PARTS, PARTS + 5]);
        set.supersede(&write, true);
        set.remove(PARTS + 5);
        assert_eq!(set, Columns::one(1));
        assert!(
            Columns::one(PARTS).intersects(&write) && write.intersection(&Columns::one(PARTS)).len() == 1
        );
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
