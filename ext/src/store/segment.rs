//! The byte format of a segment: sorted runs, each told by how it differs from the one before.
//!
//! ```text
//! segment = format:u8 (1) run*
//! run     = head:u8 key [count] [cl] [groups] group*
//! head      1 one row           2 cl as before        4 as many groups as before
//!           8 every group as predicted: no group follows
//! key       integers: distance from the end of the run before; bytes: shared prefix, rest
//! group   = flags:u8 …          1 columns and rank as before   2 rank = columns     4 col_version as before
//!           8 site and (db_version - version) as before       16 db_version as before
//!          32 seq as predicted by the distance in rows        64 natural steps
//!         128 seq as predicted by the distance in keys
//! ```
//! "As before" refers to the group at the same place in the run before, or to an empty group. A bulk insert is
//! one run of some 15 bytes; a row updated on its own costs about ten.

use super::bytes::{Cursor, damaged, put, put_bytes, put_signed};
use super::clock::{Group, Key, RowClock, Run, Step, natural_step};
use super::columns::Columns;
use crate::sqlite::Result;
use crsql_core::limits::{CAUSAL_LENGTH_MAX, COL_VERSION_MAX, SEQ_MAX, SITE_VERSION_MAX};
use smallvec::SmallVec;

/// Segments are cut before they outgrow the local payload of an index page (1,002 bytes of 4,096).
pub const SEGMENT_BYTES_MAX: usize = 900;

const FORMAT: u8 = 1;
/// More than a table can have columns, and the row's existence.
const GROUPS_MAX: usize = 1 << 12;
/// More rows than a database can hold.
const ROWS_MAX: u64 = 1 << 40;

/// A finished segment.
pub struct Encoded {
    /// The first run's key.
    pub start: Key,
    /// The greatest apply position inside.
    pub max_db_version: u64,
    /// The runs.
    pub data: Vec<u8>,
}

/// Takes runs in key order, joins neighbours, and cuts them into segments.
#[derive(Default)]
pub struct SegmentWriter {
    data: Vec<u8>,
    start: Option<Key>,
    max_db_version: u64,
    /// The last run written to `data`.
    before: Option<Run>,
    /// A run that the next one may still extend.
    open: Option<Run>,
    done: Vec<Encoded>,
}

impl SegmentWriter {
    /// Adds a run whose key is above all before.
    pub fn push(&mut self, run: Run) {
        if run.clock.groups.is_empty() && run.clock.cl == 0 {
            return;
        }
        if let Some(open) = &mut self.open {
            if open.try_extend(&run) {
                return;
            }
            let open = self.open.replace(run);
            self.write(open.expect("open was just seen"));
        } else {
            self.open = Some(run);
        }
    }

    /// The segments that are complete so far.
    pub fn drain(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.done)
    }

    /// Ends the last segment.
    pub fn finish(&mut self) -> Vec<Encoded> {
        if let Some(open) = self.open.take() {
            self.write(open);
        }
        self.cut();
        self.drain()
    }

    fn write(&mut self, run: Run) {
        if self.data.len() >= SEGMENT_BYTES_MAX - 40 {
            self.cut();
        }
        if self.start.is_none() {
            self.start = Some(run.key.clone());
            self.data.push(FORMAT);
        }
        encode_run(&mut self.data, &run, self.before.as_ref());
        self.max_db_version = self.max_db_version.max(run.max_db_version());
        self.before = Some(run);
    }

    fn cut(&mut self) {
        if let Some(start) = self.start.take() {
            let data = std::mem::take(&mut self.data);
            self.done.push(Encoded { start, max_db_version: self.max_db_version, data });
        }
        self.before = None;
        self.max_db_version = 0;
    }
}

/// The group a missing predecessor stands for.
fn empty_group() -> Group {
    Group {
        columns: Columns::new(),
        rank: Columns::new(),
        col_version: 1,
        site: 0,
        version: 0,
        seq: 0,
        db_version: 0,
    }
}

/// What a group's `seq` would be by the two predictions: per row of the run before, per key since its start.
fn predicted(before: Option<&Run>, index: usize, key: &Key) -> (u64, u64) {
    let Some(run) = before else { return (0, 0) };
    let Some(group) = run.clock.groups.get(index) else { return (0, 0) };
    let step = run.steps[index].seq;
    let rows = group.seq.wrapping_add(step.wrapping_mul(run.count));
    let keys = match (run.first_int(), key) {
        (Some(first), Key::Int(key)) => {
            group.seq.wrapping_add(step.wrapping_mul(key.wrapping_sub(first) as u64))
        }
        _ => rows,
    };
    (rows, keys)
}

fn encode_run(out: &mut Vec<u8>, run: &Run, before: Option<&Run>) {
    let head_at = out.len();
    let mut head = 0;
    out.push(0);
    encode_key(out, &run.key, before);
    if run.count == 1 {
        head |= 1;
    } else {
        put(out, run.count);
    }
    if before.map_or(1, |b| b.clock.cl) == run.clock.cl {
        head |= 2;
    } else {
        put(out, run.clock.cl);
    }
    if before.map_or(1, |b| b.clock.groups.len()) == run.clock.groups.len() {
        head |= 4;
    } else {
        put(out, run.clock.groups.len() as u64);
    }
    let groups_at = out.len();
    let mut all_predicted = true;
    for (index, group) in run.clock.groups.iter().enumerate() {
        let flags = encode_group(out, run, before, index, group);
        all_predicted &= flags == PREDICTED || flags == PREDICTED | 128;
    }
    if all_predicted && !run.clock.groups.is_empty() {
        out.truncate(groups_at);
        head |= 8;
    }
    out[head_at] = head;
}

/// Everything as before, natural steps, `seq` going on by rows.
const PREDICTED: u8 = 1 | 4 | 8 | 16 | 32 | 64;

fn encode_group(out: &mut Vec<u8>, run: &Run, before: Option<&Run>, index: usize, group: &Group) -> u8 {
    let empty = empty_group();
    let base = before.and_then(|b| b.clock.groups.get(index)).unwrap_or(&empty);
    let (by_rows, by_keys) = predicted(before, index, &run.key);
    let flags_at = out.len();
    let mut flags = 0;
    out.push(0);
    if base.columns == group.columns && base.rank == group.rank {
        flags |= 1;
    } else {
        group.columns.encode(out);
        if group.columns == group.rank {
            flags |= 2;
        } else {
            group.rank.encode(out);
        }
    }
    if base.col_version == group.col_version {
        flags |= 4;
    } else {
        put(out, group.col_version);
    }
    if base.site == group.site
        && base.db_version.wrapping_sub(base.version) == group.db_version.wrapping_sub(group.version)
    {
        flags |= 8;
    } else {
        put(out, u64::from(group.site));
        put_signed(out, group.db_version.wrapping_sub(group.version) as i64);
    }
    if base.db_version == group.db_version {
        flags |= 16;
    } else {
        put_signed(out, group.db_version.wrapping_sub(base.db_version) as i64);
    }
    if group.seq == by_rows {
        flags |= 32;
    } else if group.seq == by_keys {
        flags |= 128;
    } else {
        put(out, group.seq);
    }
    if run.steps[index] == natural_step(group) {
        flags |= 64;
    } else {
        put(out, run.steps[index].seq);
        put(out, run.steps[index].version | run.steps[index].db_version << 1);
    }
    out[flags_at] = flags;
    flags
}

fn encode_key(out: &mut Vec<u8>, key: &Key, before: Option<&Run>) {
    match key {
        Key::Int(key) => {
            let end = before.and_then(Run::last_int);
            match end {
                Some(end) => put(out, key.wrapping_sub(end) as u64),
                None => put_signed(out, *key),
            }
        }
        Key::Bytes(key) => {
            let shared = match before.map(|b| &b.key) {
                Some(Key::Bytes(b)) => b.iter().zip(key.iter()).take_while(|(a, b)| a == b).count(),
                _ => 0,
            };
            put(out, shared as u64);
            put_bytes(out, &key[shared..]);
        }
    }
}

/// Reads a segment's runs. `integers` tells the kind of its keys.
pub fn decode(data: &[u8], integers: bool) -> Result<Vec<Run>> {
    let mut cursor = Cursor::new(data);
    if cursor.byte()? != FORMAT {
        return Err(damaged());
    }
    let mut runs: Vec<Run> = Vec::with_capacity(data.len() / 8);
    while !cursor.is_empty() {
        let run = decode_run(&mut cursor, runs.last(), integers)?;
        runs.push(run);
    }
    Ok(runs)
}

fn decode_run(cursor: &mut Cursor, before: Option<&Run>, integers: bool) -> Result<Run> {
    let head = cursor.byte()?;
    let key = decode_key(cursor, before, integers)?;
    let count = if head & 1 != 0 { 1 } else { cursor.number()? };
    let cl = if head & 2 != 0 { before.map_or(1, |b| b.clock.cl) } else { cursor.number()? };
    let len = if head & 4 != 0 {
        before.map_or(1, |b| b.clock.groups.len())
    } else {
        usize::try_from(cursor.number()?).ok().filter(|len| *len <= GROUPS_MAX).ok_or_else(damaged)?
    };
    let mut groups = SmallVec::new();
    let mut steps = SmallVec::new();
    for index in 0..len {
        let (group, step) = if head & 8 != 0 {
            decode_group(&mut Cursor::new(&[PREDICTED]), before, index, &key)?
        } else {
            decode_group(cursor, before, index, &key)?
        };
        groups.push(group);
        steps.push(step);
    }
    let run = Run { key, count, clock: RowClock { cl, groups }, steps };
    if is_possible(&run) { Ok(run) } else { Err(damaged()) }
}

/// Whether the clocks of all rows are numbers that clocks can be, so that nobody has to look out for overflows who
/// computes with them. A damaged file says anything.
fn is_possible(run: &Run) -> bool {
    let last = run.count.wrapping_sub(1);
    let reaches = |first: u64, step: u64, limit: u64| {
        step.checked_mul(last).and_then(|moved| moved.checked_add(first)).is_some_and(|end| end <= limit)
    };
    let is_one = matches!(run.key, Key::Int(_)) || run.count == 1;
    (1..=ROWS_MAX).contains(&run.count)
        && is_one
        && (1..=CAUSAL_LENGTH_MAX).contains(&run.clock.cl)
        && run.clock.groups.iter().zip(&run.steps).all(|(group, step)| {
            reaches(group.db_version, step.db_version, SITE_VERSION_MAX)
                && reaches(group.version, step.version, SITE_VERSION_MAX)
                && reaches(group.seq, step.seq, 2 * SEQ_MAX)
                && group.col_version <= COL_VERSION_MAX
        })
}

fn decode_group(cursor: &mut Cursor, before: Option<&Run>, index: usize, key: &Key) -> Result<(Group, Step)> {
    let empty;
    let base = match before.and_then(|b| b.clock.groups.get(index)) {
        Some(base) => base,
        None => {
            empty = empty_group();
            &empty
        }
    };
    let flags = cursor.byte()?;
    let (columns, rank) = if flags & 1 != 0 {
        (base.columns.clone(), base.rank.clone())
    } else {
        let columns = Columns::decode(cursor)?;
        let rank = if flags & 2 != 0 { columns.clone() } else { Columns::decode(cursor)? };
        (columns, rank)
    };
    let col_version = if flags & 4 != 0 { base.col_version } else { cursor.number()? };
    let (site, lead) = if flags & 8 != 0 {
        (base.site, base.db_version.wrapping_sub(base.version))
    } else {
        (u32::try_from(cursor.number()?).map_err(|_| damaged())?, cursor.signed()? as u64)
    };
    let db_version =
        if flags & 16 != 0 { base.db_version } else { base.db_version.wrapping_add(cursor.signed()? as u64) };
    let seq = match flags & (32 | 128) {
        0 => cursor.number()?,
        32 => predicted(before, index, key).0,
        _ => predicted(before, index, key).1,
    };
    let group =
        Group { columns, rank, col_version, site, version: db_version.wrapping_sub(lead), seq, db_version };
    let step = if flags & 64 != 0 {
        natural_step(&group)
    } else {
        let seq = cursor.number()?;
        let versions = cursor.number()?;
        Step { seq, version: versions & 1, db_version: versions >> 1 & 1 }
    };
    Ok((group, step))
}

fn decode_key(cursor: &mut Cursor, before: Option<&Run>, integers: bool) -> Result<Key> {
    if integers {
        return Ok(Key::Int(match before.and_then(Run::last_int) {
            Some(end) => end.wrapping_add(cursor.number()? as i64),
            None => cursor.signed()?,
        }));
    }
    let shared = usize::try_from(cursor.number()?).map_err(|_| damaged())?;
    let rest = cursor.bytes()?;
    let prefix = match before.map(|b| &b.key) {
        Some(Key::Bytes(b)) => b.get(..shared).ok_or_else(damaged)?,
        _ if shared == 0 => &[][..],
        _ => return Err(damaged()),
    };
    Ok(Key::Bytes([prefix, rest].concat().into_boxed_slice()))
}

#[cfg(test)]
mod tests {
    use super::super::clock::tests::{group, row};
    use super::*;

    fn segments(runs: impl IntoIterator<Item = Run>) -> Vec<Encoded> {
        let mut writer = SegmentWriter::default();
        runs.into_iter().for_each(|run| writer.push(run));
        writer.finish()
    }

    fn rows(segments: &[Encoded], integers: bool) -> Vec<(Key, RowClock)> {
        segments
            .iter()
            .flat_map(|s| decode(&s.data, integers).unwrap())
            .flat_map(|run| {
                (0..run.count).map(move |i| (run.slice(i, 1).key, run.clock_at(i))).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn a_bulk_insert_is_a_few_bytes() {
        let encoded = segments((0..100_000).map(|i| row(i, 1, 2 * i as u64)));
        assert_eq!(encoded.len(), 1);
        assert!(encoded[0].data.len() < 20, "{} bytes", encoded[0].data.len());
        assert_eq!(rows(&encoded, true).len(), 100_000);
    }

    #[test]
    fn a_row_updated_on_its_own_costs_about_ten_bytes() {
        let runs: Vec<Run> = (0..1000u64)
            .map(|i| {
                let mut old = group(&[1, 2, 3, 4], 1, i * 4);
                old.columns.remove(2);
                let version = 2 + i * 7919 % 1000;
                let new = Group { col_version: 2, ..group(&[2], version, i * 31 % 100) };
                Run::single(Key::Int(i as i64), RowClock { cl: 1, groups: SmallVec::from_iter([old, new]) })
            })
            .collect();
        let encoded = segments(runs.clone());
        let bytes: usize = encoded.iter().map(|s| s.data.len()).sum();
        assert!(bytes < 10_500, "{bytes} bytes for 1000 rows");
        let expected: Vec<_> = runs.into_iter().map(|run| (run.key, run.clock)).collect();
        assert_eq!(rows(&encoded, true), expected);
        assert!(encoded.iter().all(|s| s.data.len() <= SEGMENT_BYTES_MAX));
    }

    #[test]
    fn random_clocks_survive() {
        let mut seed = 42u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for integers in [true, false] {
            let mut key = i64::MIN;
            let mut clocks = Vec::new();
            for index in 0..2000u64 {
                key = key.wrapping_add(1 + (random(3) * random(1 << 40)) as i64);
                let groups = (0..random(3) + 1)
                    .map(|g| Group {
                        columns: Columns::one(g as u32 * 70),
                        rank: [g as u32 * 70, 300 * random(2) as u32].into_iter().collect(),
                        col_version: 1 + random(3),
                        site: random(3) as u32,
                        version: random(100),
                        seq: random(4) * index,
                        db_version: 100 + random(3),
                    })
                    .collect();
                let key = if integers {
                    Key::Int(key)
                } else {
                    Key::Bytes(format!("{index:08}{}", random(9)).into_bytes().into_boxed_slice())
                };
                clocks.push((key, RowClock { cl: 1 + random(3), groups }));
            }
            let encoded = segments(clocks.iter().map(|(k, c)| Run::single(k.clone(), c.clone())));
            assert_eq!(rows(&encoded, integers), clocks);
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_and_not_a_panic() {
        let encoded = segments((0..50).map(|i| row(i * 3, i as u64, 7)));
        for at in 0..encoded[0].data.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut data = encoded[0].data.clone();
                data[at] = value;
                let _ = decode(&data, true);
                let _ = decode(&data[..at], false);
            }
        }
    }
}
