//! How a result became another one: runs of rows that were there before, and new rows.
//!
//! ```text
//! patch = ops:u32 op* rows            op = 0 start:u32 len:u32 (rows of the old result) | 1 len:u32 (the next new rows)
//! ```
//! Rows are compared by hash, so an unchanged row keeps its identity wherever it moved.

use std::collections::HashMap;

/// One step of a patch.
#[derive(Debug, PartialEq, Eq)]
pub enum Op {
    /// These rows of the old result.
    Keep { start: u32, len: u32 },
    /// So many of the new rows.
    Fresh { len: u32 },
}

/// The steps from `old` to `new`, and for each row of `new` whether it is a new one.
pub fn diff(old: &[u64], new: &[u64]) -> (Vec<Op>, Vec<bool>) {
    let same = |(a, b): &(&u64, &u64)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);

    // Equal rows are taken in order, so that the copies of one row stay in theirs.
    let mut places: HashMap<u64, Vec<u32>> = HashMap::new();
    for index in (head..old_end).rev() {
        places.entry(old[index]).or_default().push(index as u32);
    }
    let mut patch = Patch::default();
    patch.keep(0, head as u32);
    let mut fresh = vec![false; new.len()];
    for index in head..new_end {
        match places.get_mut(&new[index]).and_then(Vec::pop) {
            Some(place) => patch.keep(place, 1),
            None => {
                fresh[index] = true;
                patch.fresh();
            }
        }
    }
    patch.keep(old_end as u32, tail as u32);
    (patch.0, fresh)
}

/// Appends the steps to `out`.
pub fn write_to(ops: &[Op], out: &mut Vec<u8>) {
    out.extend((ops.len() as u32).to_le_bytes());
    for op in ops {
        match op {
            Op::Keep { start, len } => {
                out.push(0);
                out.extend(start.to_le_bytes());
                out.extend(len.to_le_bytes());
            }
            Op::Fresh { len } => {
                out.push(1);
                out.extend(len.to_le_bytes());
            }
        }
    }
}

#[derive(Default)]
struct Patch(Vec<Op>);

impl Patch {
    fn keep(&mut self, from: u32, count: u32) {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some(Op::Keep { start, len }) if *start + *len == from => *len += count,
            _ => self.0.push(Op::Keep { start: from, len: count }),
        }
    }

    fn fresh(&mut self) {
        match self.0.last_mut() {
            Some(Op::Fresh { len }) => *len += 1,
            _ => self.0.push(Op::Fresh { len: 1 }),
        }
    }
}
