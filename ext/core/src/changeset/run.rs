//! Runs: what a stretch of rows of one table has in common, and how that is written.

use super::cursor::Cursor;
use super::error::Result;
use super::header::{Header, Table};
use super::{COLUMNS_MAX, varint};
use crate::column::ColumnType;
use std::collections::HashSet;

/// Set in a run's flags when its keys are consecutive integers and only the first is written.
const FLAG_INTEGER_KEYS: u8 = 1;

/// Set in a group's flags when the field follows; it is absent when it would say nothing.
const GROUP_RANK: u8 = 1;
const GROUP_SEQ_STEP: u8 = 2;
const GROUP_VERSION_STEP: u8 = 4;

/// Flags, a bitmap of one byte, four clocks of one.
const GROUP_LEN_MIN: usize = 7;

const BITMAP_LEN_MAX: u64 = (COLUMNS_MAX as u64 + 1).div_ceil(8);

/// What the rows of a run share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunHeader {
    /// Index into [`Changeset::tables`](super::Changeset::tables).
    pub table: u32,
    /// The causal length of every row: odd alive, even deleted.
    pub cl: u64,
    /// The facts of every row, by clock pattern. No column is in two groups, but for one of which every site has a cell
    /// of its own: that one may be in a group of each.
    pub groups: Vec<GroupHeader>,
    /// The key of the first row, when the key is one integer column and each row's key is the last one's plus 1.
    /// The rows then carry no key.
    pub first_key: Option<i64>,
}

/// Columns of a run's rows that were written by the same site with the same clock pattern.
///
/// In row `r` of the run (from 0) they have site version `version + r * version_step`, and the column with the
/// `n`-th set bit of the rank has seq `seq + r * seq_step + n`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupHeader {
    /// Ascending bits: 0 is the row's existence, `i + 1` is column `i` of the table's list. Never empty.
    pub columns: Vec<u32>,
    /// The ascending bits that the seqs were counted over, when some of those columns have been overwritten since
    /// and `columns` is only what is left of them.
    pub rank: Option<Vec<u32>>,
    /// The column version of every cell. A row's existence has its causal length instead.
    pub col_version: u64,
    /// Index into [`Changeset::sites`](super::Changeset::sites).
    pub site: u32,
    /// Site version of the first row.
    pub version: u64,
    /// Seq of the rank's first column in the first row.
    pub seq: u64,
    /// From row to row, how much seq grows.
    pub seq_step: u64,
    /// From row to row, how much the site version grows.
    pub version_step: u64,
}

impl RunHeader {
    /// How many values each row carries.
    pub fn values_per_row(&self) -> usize {
        self.groups.iter().map(|group| group.columns.len() - usize::from(group.has_row())).sum()
    }

    /// The header of a run that goes on after this one's first `rows` rows.
    pub(super) fn after(&self, rows: u64) -> RunHeader {
        let mut rest = self.clone();
        rest.first_key = self.first_key.map(|key| key.wrapping_add_unsigned(rows));
        for group in &mut rest.groups {
            group.version = group.version_of_row(rows);
            group.seq = group.seq_of_row(rows);
        }
        rest
    }
}

impl GroupHeader {
    /// Whether the row's existence is one of the facts.
    pub fn has_row(&self) -> bool {
        self.columns.first() == Some(&0)
    }

    /// The site version of row `row` of the run.
    pub fn version_of_row(&self, row: u64) -> u64 {
        self.version.saturating_add(row.saturating_mul(self.version_step))
    }

    /// The seq that row `row` of the run counts from; add [`seq_offsets`](Self::seq_offsets).
    pub fn seq_of_row(&self, row: u64) -> u64 {
        self.seq.saturating_add(row.saturating_mul(self.seq_step))
    }

    /// For each of `columns`, how far its seq is from the row's first: its place in the rank.
    pub fn seq_offsets(&self) -> impl Iterator<Item = u64> {
        let rank = self.rank.as_deref().unwrap_or(&self.columns);
        let mut at = 0;
        self.columns.iter().map(move |column| {
            while rank.get(at).is_some_and(|bit| bit < column) {
                at += 1;
            }
            at as u64
        })
    }
}

/// Appends a run's header with no rows yet, and tells where their number goes.
pub(super) fn push(out: &mut Vec<u8>, run: &RunHeader) -> usize {
    varint::push(out, run.table.into());
    let rows_at = out.len();
    out.extend_from_slice(&[0; 4]);
    match run.first_key {
        Some(key) => {
            out.push(FLAG_INTEGER_KEYS);
            varint::push_signed(out, key);
        }
        None => out.push(0),
    }
    varint::push(out, run.cl);
    varint::push(out, run.groups.len() as u64);
    for group in &run.groups {
        push_group(out, group);
    }
    rows_at
}

fn push_group(out: &mut Vec<u8>, group: &GroupHeader) {
    let rank = group.rank.as_ref().filter(|rank| **rank != group.columns);
    let mut flags = 0;
    flags |= if rank.is_some() { GROUP_RANK } else { 0 };
    flags |= if group.seq_step != 0 { GROUP_SEQ_STEP } else { 0 };
    flags |= if group.version_step != 0 { GROUP_VERSION_STEP } else { 0 };
    out.push(flags);
    push_bitmap(out, &group.columns);
    if let Some(rank) = rank {
        push_bitmap(out, rank);
    }
    varint::push(out, group.col_version);
    varint::push(out, group.site.into());
    varint::push(out, group.version);
    varint::push(out, group.seq);
    if group.seq_step != 0 {
        varint::push(out, group.seq_step);
    }
    if group.version_step != 0 {
        varint::push(out, group.version_step);
    }
}

fn push_bitmap(out: &mut Vec<u8>, bits: &[u32]) {
    debug_assert!(bits.is_sorted_by(|a, b| a < b), "bits ascend");
    let last = *bits.last().expect("a group has a column");
    let len = last as usize / 8 + 1;
    varint::push(out, len as u64);
    let at = out.len();
    out.resize(at + len, 0);
    for bit in bits {
        out[at + *bit as usize / 8] |= 1 << (bit % 8);
    }
}

/// Reads a run's header and how many rows follow, of which there is at least one.
pub(super) fn read(cursor: &mut Cursor<'_>, header: &Header) -> Result<(RunHeader, u32)> {
    let table = cursor.u32("a table index exceeds 32 bits")?;
    let Some(schema) = header.tables.get(table as usize) else {
        return Err(cursor.malformed("a run names a table that is not in the header"));
    };
    let rows = u32::from_le_bytes(cursor.array()?);
    if rows == 0 {
        return Err(cursor.malformed("a run has no rows"));
    }
    let first_key = read_first_key(cursor, schema, rows)?;
    let cl = cursor.clock()?;
    let count = cursor.varint()?;
    if count == 0 || (count > schema.columns.len() as u64 + 1 && count > groups_max(schema, header)) {
        return Err(cursor.malformed("a run has no groups or more than the table has columns"));
    }
    let mut groups = Vec::with_capacity((count as usize).min(cursor.remaining() / GROUP_LEN_MIN));
    let mut taken = Vec::new();
    let mut parts = None;
    for _ in 0..count {
        let (group, bitmap) = read_group(cursor, header, schema)?;
        check_steps(cursor, &group, rows)?;
        if count > 1
            && !take_bits(&mut taken, bitmap)
            && !parts.get_or_insert_with(|| Parts::of(schema, &groups)).take(&groups, &group)
        {
            return Err(cursor.malformed("a column is in two groups"));
        }
        groups.push(group);
    }
    Ok((RunHeader { table, cl, groups, first_key }, rows))
}

/// How many groups a run of a table with parted columns may have.
fn groups_max(table: &Table, header: &Header) -> u64 {
    let parted = table.columns.iter().filter(|column| ColumnType::of_cell(column).is_parted()).count();
    table.columns.len() as u64 + 1 + parted as u64 * header.sites.len() as u64
}

/// The cells of parted columns that the groups so far have. Made when the first column comes a second time.
struct Parts {
    parted: HashSet<u32>,
    /// Bits and sites.
    taken: HashSet<(u32, u32)>,
    /// Of so many groups.
    groups: usize,
}

impl Parts {
    fn of(table: &Table, groups: &[GroupHeader]) -> Parts {
        let is_parted = |column: &String| ColumnType::of_cell(column).is_parted();
        let bits = (1..).zip(&table.columns).filter(|(_, column)| is_parted(column)).map(|(bit, _)| bit);
        let mut parts = Parts { parted: bits.collect(), taken: HashSet::new(), groups: 0 };
        parts.note(groups);
        parts
    }

    fn note(&mut self, groups: &[GroupHeader]) {
        for group in &groups[self.groups..] {
            let bits = group.columns.iter().filter(|bit| self.parted.contains(bit));
            self.taken.extend(bits.map(|bit| (*bit, group.site)));
        }
        self.groups = groups.len();
    }

    /// Whether `group`, of which a bit is in one of `groups`, shares none but parted ones of other sites.
    fn take(&mut self, groups: &[GroupHeader], group: &GroupHeader) -> bool {
        self.note(groups);
        let others = group.columns.iter().filter(|bit| !self.parted.contains(bit));
        let shares_register = || {
            let others: HashSet<&u32> = others.collect();
            !others.is_empty()
                && groups.iter().any(|known| known.columns.iter().any(|bit| others.contains(bit)))
        };
        let is_taken = |bit: &u32| self.taken.contains(&(*bit, group.site));
        !group.columns.iter().any(is_taken) && !shares_register()
    }
}

fn read_first_key(cursor: &mut Cursor<'_>, table: &Table, rows: u32) -> Result<Option<i64>> {
    match cursor.byte()? {
        0 => Ok(None),
        FLAG_INTEGER_KEYS => {
            let key = cursor.signed()?;
            if table.key_columns != 1 {
                return Err(cursor.malformed("integer keys for a table with several key columns"));
            }
            if key.checked_add(i64::from(rows) - 1).is_none() {
                return Err(cursor.malformed("the keys of a run exceed 64 bits"));
            }
            Ok(Some(key))
        }
        _ => Err(cursor.malformed("unknown run flags")),
    }
}

fn read_group<'p>(
    cursor: &mut Cursor<'p>,
    header: &Header,
    table: &Table,
) -> Result<(GroupHeader, &'p [u8])> {
    let flags = cursor.byte()?;
    if flags & !(GROUP_RANK | GROUP_SEQ_STEP | GROUP_VERSION_STEP) != 0 {
        return Err(cursor.malformed("unknown group flags"));
    }
    let bitmap = read_bitmap(cursor)?;
    let columns = bits(bitmap);
    if columns.last().is_some_and(|last| *last as usize > table.columns.len()) {
        return Err(cursor.malformed("a group names a column that is not in the header"));
    }
    let rank = if flags & GROUP_RANK != 0 { Some(read_rank(cursor, bitmap)?) } else { None };
    let col_version = cursor.clock()?;
    let site = cursor.u32("a site index exceeds 32 bits")?;
    if site as usize >= header.sites.len() {
        return Err(cursor.malformed("a group names a site that is not in the header"));
    }
    let version = cursor.clock()?;
    let seq = cursor.clock()?;
    let seq_step = if flags & GROUP_SEQ_STEP != 0 { cursor.clock()? } else { 0 };
    let version_step = if flags & GROUP_VERSION_STEP != 0 { cursor.clock()? } else { 0 };
    Ok((GroupHeader { columns, rank, col_version, site, version, seq, seq_step, version_step }, bitmap))
}

fn read_bitmap<'p>(cursor: &mut Cursor<'p>) -> Result<&'p [u8]> {
    let bitmap = cursor.sized()?;
    if bitmap.last().is_none_or(|last| *last == 0) || bitmap.len() as u64 > BITMAP_LEN_MAX {
        return Err(cursor.malformed("a bitmap is empty, too long or ends in a zero byte"));
    }
    Ok(bitmap)
}

fn read_rank(cursor: &mut Cursor<'_>, columns: &[u8]) -> Result<Vec<u32>> {
    let rank = read_bitmap(cursor)?;
    let covers = |(i, byte): (usize, &u8)| byte & !rank.get(i).copied().unwrap_or(0) == 0;
    if !columns.iter().enumerate().all(covers) {
        // Two columns could get the same seq.
        return Err(cursor.malformed("a group has a column outside its rank"));
    }
    Ok(bits(rank))
}

fn bits(bitmap: &[u8]) -> Vec<u32> {
    let mut bits = Vec::with_capacity(bitmap.iter().map(|byte| byte.count_ones() as usize).sum());
    for (i, &byte) in bitmap.iter().enumerate() {
        let mut left = byte;
        while left != 0 {
            bits.push(i as u32 * 8 + left.trailing_zeros());
            left &= left - 1;
        }
    }
    bits
}

/// Adds `bitmap` to `taken` unless a bit is in both.
fn take_bits(taken: &mut Vec<u8>, bitmap: &[u8]) -> bool {
    if taken.len() < bitmap.len() {
        taken.resize(bitmap.len(), 0);
    }
    let mut disjoint = true;
    for (taken, byte) in taken.iter_mut().zip(bitmap) {
        disjoint &= *taken & byte == 0;
        *taken |= byte;
    }
    disjoint
}

/// Refuses clocks that leave 63 bits before the last row, so that consumers may add without checking.
fn check_steps(cursor: &Cursor<'_>, group: &GroupHeader, rows: u32) -> Result<()> {
    let last = u128::from(rows) - 1;
    let offset = group.rank.as_ref().map_or(group.columns.len(), Vec::len) as u128;
    let version = u128::from(group.version) + last * u128::from(group.version_step);
    let seq = u128::from(group.seq) + last * u128::from(group.seq_step) + offset;
    if version.max(seq) > i64::MAX as u128 {
        return Err(cursor.malformed("the clocks of a run exceed 63 bits"));
    }
    Ok(())
}
