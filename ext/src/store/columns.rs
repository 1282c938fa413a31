//! Sets of a row's clocked slots: slot 0 is the row's existence, slot `n` the column with id `n`.

use super::bytes::{Cursor, damaged, put};
use crate::sqlite::Result;
use smallvec::SmallVec;

/// The slot of a row's existence.
pub const ROW: u32 = 0;

/// A set of slots. Up to 127 columns live inline; no trailing zero word is ever kept, so equality is equality.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Columns(SmallVec<[u64; 2]>);

impl Columns {
    /// No slot.
    pub fn new() -> Self {
        Columns(SmallVec::new())
    }

    /// The slots below 64 whose bits are set.
    #[inline]
    pub fn of_bits(bits: u64) -> Self {
        let mut set = Columns::new();
        if bits != 0 {
            set.0.push(bits);
        }
        set
    }

    /// Just `slot`.
    pub fn one(slot: u32) -> Self {
        let mut set = Columns::new();
        set.insert(slot);
        set
    }

    /// Adds `slot`.
    #[inline]
    pub fn insert(&mut self, slot: u32) {
        let word = (slot / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (slot % 64);
    }

    /// Takes `slot` out.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut((slot / 64) as usize) {
            *word &= !(1 << (slot % 64));
            self.trim();
        }
    }

    /// True when `slot` is in.
    #[inline]
    pub fn contains(&self, slot: u32) -> bool {
        self.0.get((slot / 64) as usize).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// True without a slot.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Equality, quick for tables of fewer than 64 columns.
    #[inline]
    pub fn same(&self, other: &Columns) -> bool {
        match (&self.0[..], &other.0[..]) {
            ([a], [b]) => a == b,
            (a, b) => a == b,
        }
    }

    /// True when these are the slots below 64 whose bits are set, and no others.
    #[inline]
    pub fn is_bits(&self, bits: u64) -> bool {
        matches!(self.0[..], [word] if word == bits)
    }

    /// The number of slots.
    #[inline]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// How many slots below `slot` are in.
    #[inline]
    pub fn rank(&self, slot: u32) -> u32 {
        let word = (slot / 64) as usize;
        let below: u32 = self.0.iter().take(word).map(|w| w.count_ones()).sum();
        below + self.0.get(word).map_or(0, |w| (w & ((1u64 << (slot % 64)) - 1)).count_ones())
    }

    /// True when the sets share a slot.
    #[inline]
    pub fn intersects(&self, other: &Columns) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// The slots in both.
    pub fn intersection(&self, other: &Columns) -> Columns {
        let mut set = Columns(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect());
        set.trim();
        set
    }

    /// Adds every slot of `other`.
    pub fn union_with(&mut self, other: &Columns) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    /// Takes every slot of `other` out.
    pub fn subtract(&mut self, other: &Columns) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a &= !b;
        }
        self.trim();
    }

    /// The first slot from `slot` on.
    #[inline]
    pub fn next_from(&self, slot: u32) -> Option<u32> {
        let mut word = (slot / 64) as usize;
        let mut bits = self.0.get(word)? & (u64::MAX << (slot % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word as u32 * 64 + bits.trailing_zeros())
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors((word != 0).then_some(word), |w| Some(w & (w - 1)).filter(|w| *w != 0))
                .map(move |w| index as u32 * 64 + w.trailing_zeros())
        })
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Appends the set: its byte length, then its bits, least significant byte first.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let used = self.0.last().map_or(0, |last| self.0.len() * 8 - last.leading_zeros() as usize / 8);
        put(out, used as u64);
        for index in 0..used {
            out.push((self.0[index / 8] >> (index % 8 * 8)) as u8);
        }
    }

    /// Reads what [`Columns::encode`] wrote.
    pub fn decode(cursor: &mut Cursor) -> Result<Columns> {
        let bytes = cursor.bytes()?;
        if bytes.len() > 8192 {
            return Err(damaged());
        }
        let mut set = Columns(SmallVec::from_elem(0, bytes.len().div_ceil(8)));
        for (index, byte) in bytes.iter().enumerate() {
            set.0[index / 8] |= u64::from(*byte) << (index % 8 * 8);
        }
        set.trim();
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
}
