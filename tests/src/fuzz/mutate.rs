//! Mutations: bytes flipped, numbers at their limits, pieces cut, doubled, exchanged between inputs; and envelopes
//! repaired, so that what is behind a checksum is reached.

use crate::Rng;

/// Longer inputs are cut: what matters happens in small ones.
const INPUT_MAX: usize = 64 << 10;
/// Bytes that formats give a meaning.
const TELLING: [u8; 24] = [
    0x00, 0x01, 0x02, 0x03, 0x05, 0x09, 0x0b, 0x0c, 0x41, 0x7f, 0x80, 0x81, 0x90, 0x91, 0xa0, 0xc0, 0xc4,
    0xcc, 0xcf, 0xd9, 0xdc, 0xdd, 0xfe, 0xff,
];

/// Makes inputs from inputs.
pub struct Mutator {
    rng: Rng,
}

impl Mutator {
    /// One that follows from its generator.
    pub fn new(rng: Rng) -> Mutator {
        Mutator { rng }
    }

    /// A mutation of one of the pool, for the target of this name.
    pub fn mutate(&mut self, pool: &[Vec<u8>], target: &str) -> Vec<u8> {
        let mut input = if pool.is_empty() { Vec::new() } else { self.rng.pick(pool).clone() };
        if matches!(target, "wire" | "session") && self.rng.one_in(16) {
            input = vec![self.rng.below(20) as u8];
            self.message_pack(&mut input, 3);
        }
        for _ in 0..1 + self.rng.below(4) {
            self.once(&mut input, pool);
        }
        input.truncate(INPUT_MAX);
        if target == "changeset" && !self.rng.one_in(8) {
            super::decoders::repair_checksum(&mut input);
        }
        input
    }

    fn once(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let rng = &mut self.rng;
        if input.is_empty() {
            input.push(rng.bits() as u8);
            return;
        }
        let at = rng.below(input.len());
        match rng.below(10) {
            0 => input[at] ^= 1 << rng.below(8),
            1 => input[at] = *rng.pick(&TELLING),
            2 => input[at] = input[at].wrapping_add(1),
            3 => input[at] = input[at].wrapping_sub(1),
            4 => input.insert(at, *rng.pick(&TELLING)),
            5 => {
                input.remove(at);
            }
            6 => {
                let end = (at + 1 + rng.below(16)).min(input.len());
                input.drain(at..end);
            }
            7 => {
                let end = (at + 1 + rng.below(32)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = rng.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            8 => {
                let number =
                    *rng.pick(&[0, 1, u64::MAX, 1 << 48, (1 << 48) + 1, 1 << 40, 1 << 31, i64::MAX as u64]);
                let bytes = number.to_be_bytes();
                let take = 1 + rng.below(8);
                let end = (at + take).min(input.len());
                input.splice(at..end, bytes[8 - take..].iter().copied());
            }
            _ => {
                let other = rng.pick(pool);
                if !other.is_empty() {
                    let from = rng.below(other.len());
                    let end = (from + 1 + rng.below(64)).min(other.len());
                    let until = (at + rng.below(32)).min(input.len());
                    input.splice(at..until, other[from..end].iter().copied());
                }
            }
        }
    }

    /// Random MessagePack of some depth.
    fn message_pack(&mut self, out: &mut Vec<u8>, depth: usize) {
        let kinds = if depth == 0 { 7 } else { 9 };
        match self.rng.below(kinds) {
            0 => out.push(self.rng.below(128) as u8),
            1 => out.push(0xc0),
            2 => out.push(0xc2 + self.rng.below(2) as u8),
            3 => {
                out.push(0xcf);
                out.extend_from_slice(&(self.rng.bits() >> self.rng.below(64)).to_be_bytes());
            }
            4 => {
                let len = self.rng.below(20);
                out.push(0xa0 | len as u8);
                out.extend((0..len).map(|i| b'a' + i as u8));
            }
            5 => {
                let len = if self.rng.one_in(2) { 16 } else { self.rng.below(40) };
                out.extend_from_slice(&[0xc4, len as u8]);
                let byte = self.rng.bits() as u8;
                out.extend(std::iter::repeat_n(byte, len));
            }
            6 => {
                out.push(0xd3);
                out.extend_from_slice(&self.rng.bits().to_be_bytes());
            }
            _ => {
                let len = self.rng.below(12);
                out.push(0x90 | len as u8);
                for _ in 0..len {
                    self.message_pack(out, depth - 1);
                }
            }
        }
    }
}
