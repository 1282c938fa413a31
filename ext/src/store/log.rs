//! The redo log: one row per small transaction, folded into segments when it has grown.
//!
//! A transaction of a few rows appends what it did and reads nothing: which clocks result is worked out when
//! somebody needs them, by replaying the log over the segments. A row:
//!
//! ```text
//! row    = format:u8 (1) generation:varint version:varint flags:varint rows:varint count:varint op* vector*
//! op     = kind:u8 (| 8 by packed key | 16 has a packed key) table:varint [key:signed] [rows:varint] [pk:bytes] …
//!            local: columns    merge: cl, group count, groups (columns, rank, cv, site, version, seq, step)
//! vector = site:varint lo:varint hi:varint          versions that the transaction completed
//! ```
//! `version` is this site's last site_version after the row, `rows` how many rows the log holds with it.

use super::bytes::{Cursor, damaged, put, put_bytes, put_signed};
use super::clock::{Group, Key, RowClock, Run, Step};
use super::columns::Columns;
use super::op::{Kind, Op, Ops};
use crate::sqlite::Result;
use smallvec::SmallVec;

const FORMAT: u8 = 1;

/// What the latest log row, or the state row of an empty log, says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// The last apply position.
    pub db_version: u64,
    /// This site's last site_version.
    pub version: u64,
    /// Counts folds: segments change only with it.
    pub generation: u64,
    /// Rows that wait in the log.
    pub rows: u64,
}

/// Site versions that a transaction completed: (site ordinal, first, last).
pub type Completed = (u32, u64, u64);

/// Encodes the pending operations as a log row. `tail` is the state after it.
pub fn encode(out: &mut Vec<u8>, tail: &Tail, has_local: bool, ops: &Ops, completed: &[Completed]) {
    out.push(FORMAT);
    put(out, tail.generation);
    put(out, tail.version);
    put(out, u64::from(has_local));
    put(out, tail.rows);
    put(out, ops.pending().len() as u64);
    for op in ops.pending() {
        encode_op(out, op, ops);
    }
    for (site, lo, hi) in completed {
        put(out, u64::from(*site));
        put(out, *lo);
        put(out, *hi);
    }
}

fn encode_op(out: &mut Vec<u8>, op: &Op, ops: &Ops) {
    let pk = ops.pk_of(op);
    out.push(op.kind as u8 | if op.by_pk { 8 } else { 0 } | if pk.is_some() { 16 } else { 0 });
    put(out, u64::from(op.table));
    if !op.by_pk {
        put_signed(out, op.key);
        put(out, u64::from(op.count));
    }
    if let Some(pk) = pk {
        put_bytes(out, pk);
    }
    match op.kind {
        Kind::Insert | Kind::InsertSpelled | Kind::Update => ops.columns_of(op).encode(out),
        Kind::Delete | Kind::Forget => {}
        Kind::Merge | Kind::MergeNew | Kind::Raise => encode_clocks(out, ops.run_of(op)),
    }
}

fn encode_clocks(out: &mut Vec<u8>, run: &Run) {
    put(out, run.clock.cl);
    put(out, run.clock.groups.len() as u64);
    for (group, step) in run.clock.groups.iter().zip(&run.steps) {
        group.columns.encode(out);
        group.rank.encode(out);
        for number in
            [group.col_version, u64::from(group.site), group.version, group.seq, step.seq, step.version]
        {
            put(out, number);
        }
    }
}

/// Reads the head of a log row.
pub fn decode_tail(db_version: u64, data: &[u8]) -> Result<Tail> {
    let mut cursor = Cursor::new(data);
    let (tail, _) = head(db_version, &mut cursor)?;
    Ok(tail)
}

fn head(db_version: u64, cursor: &mut Cursor) -> Result<(Tail, bool)> {
    if cursor.byte()? != FORMAT {
        return Err(damaged());
    }
    let generation = cursor.number()?;
    let version = cursor.number()?;
    let has_local = cursor.number()? & 1 == 1;
    let rows = cursor.number()?;
    Ok((Tail { db_version, version, generation, rows }, has_local))
}

/// A log row, decoded for replay.
pub struct Entry {
    /// The state after the row.
    pub tail: Tail,
    /// Its operations.
    pub ops: Ops,
    /// The versions it completed.
    pub completed: Vec<Completed>,
}

/// Reads a whole log row.
pub fn decode(db_version: u64, data: &[u8]) -> Result<Entry> {
    let mut cursor = Cursor::new(data);
    let (tail, _) = head(db_version, &mut cursor)?;
    let mut ops = Ops::default();
    for _ in 0..cursor.number()? {
        decode_op(&mut cursor, &mut ops)?;
    }
    let mut completed = Vec::new();
    while !cursor.is_empty() {
        completed.push((narrow(cursor.number()?)?, cursor.number()?, cursor.number()?));
    }
    Ok(Entry { tail, ops, completed })
}

fn narrow(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| damaged())
}

fn decode_op(cursor: &mut Cursor, ops: &mut Ops) -> Result<()> {
    let head = cursor.byte()?;
    let (by_pk, has_pk) = (head & 8 != 0, head & 16 != 0);
    let table = narrow(cursor.number()?)?;
    let (key, count) = if by_pk { (0, 1) } else { (cursor.signed()?, narrow(cursor.number()?)?) };
    let pk = if has_pk { Some(cursor.bytes()?) } else { None };
    let kind = match head & 7 {
        0 => Kind::Insert,
        1 => Kind::InsertSpelled,
        2 => Kind::Update,
        3 => Kind::Delete,
        4 => Kind::Merge,
        5 => Kind::MergeNew,
        6 => Kind::Forget,
        7 => Kind::Raise,
        _ => return Err(damaged()),
    };
    if count == 0 || (by_pk && !has_pk) {
        return Err(damaged());
    }
    match kind {
        Kind::Merge | Kind::MergeNew | Kind::Raise => {
            let (clock, steps) = decode_clocks(cursor)?;
            let key = if by_pk { Key::Bytes(pk.unwrap_or_default().into()) } else { Key::Int(key) };
            let run = Run { key, count: u64::from(count), clock, steps };
            ops.push_clocks(table, kind, run);
        }
        _ => {
            let set = match kind {
                Kind::Delete | Kind::Forget => 0,
                _ => ops.intern(&Columns::decode(cursor)?),
            };
            match pk {
                Some(pk) => ops.push_keyed(table, kind, key, set, pk, by_pk),
                None => ops.push_run(table, kind, key, count, set),
            }
        }
    }
    Ok(())
}

fn decode_clocks(cursor: &mut Cursor) -> Result<(RowClock, SmallVec<[Step; 2]>)> {
    let cl = cursor.number()?;
    let (mut groups, mut steps) = (SmallVec::new(), SmallVec::new());
    for _ in 0..cursor.number()? {
        let columns = Columns::decode(cursor)?;
        let rank = Columns::decode(cursor)?;
        let col_version = cursor.number()?;
        let site = narrow(cursor.number()?)?;
        let (version, seq) = (cursor.number()?, cursor.number()?);
        groups.push(Group { columns, rank, col_version, site, version, seq, db_version: 0 });
        steps.push(Step { seq: cursor.number()?, version: cursor.number()?, db_version: 0 });
    }
    Ok((RowClock { cl, groups }, steps))
}

#[cfg(test)]
mod tests {
    use super::super::clock::tests::row;
    use super::*;

    #[test]
    fn a_log_row_tells_what_was_done() {
        let mut ops = Ops::default();
        let set = ops.intern(&Columns::one(3));
        ops.push_row(7, Kind::Insert, -5, set);
        ops.push_row(7, Kind::Insert, -4, set);
        ops.push_keyed(8, Kind::Delete, 12, 0, b"key", false);
        ops.push_keyed(9, Kind::Update, 0, set, b"other", true);
        let mut merged = row(3, 4, 5);
        merged.clock.groups[0].db_version = 0;
        ops.push_merge(7, true, merged.clone());
        let tail = Tail { db_version: 20, version: 19, generation: 2, rows: 5 };
        let mut out = Vec::new();
        encode(&mut out, &tail, true, &ops, &[(1, 2, 9)]);
        assert_eq!(decode_tail(20, &out).unwrap(), tail);
        let entry = decode(20, &out).unwrap();
        assert_eq!(entry.ops.pending().len(), 4);
        assert_eq!(entry.ops.pending()[0].count, 2);
        assert_eq!(entry.ops.pk_of(&entry.ops.pending()[1]).unwrap(), b"key");
        assert!(entry.ops.pending()[2].by_pk);
        assert_eq!(*entry.ops.run_of(&entry.ops.pending()[3]), merged);
        assert_eq!(entry.completed, [(1, 2, 9)]);
        (0..out.len()).for_each(|at| drop(decode(20, &out[..at])));
    }

    #[test]
    fn one_small_write_is_a_short_row() {
        let mut ops = Ops::default();
        let set = ops.intern(&Columns::one(3));
        ops.push_row(1, Kind::Update, 1000, set);
        let mut out = Vec::new();
        encode(&mut out, &Tail { db_version: 300, version: 300, generation: 2, rows: 5 }, true, &ops, &[]);
        assert!(out.len() <= 15, "{} bytes", out.len());
    }
}
