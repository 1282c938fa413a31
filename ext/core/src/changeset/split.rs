//! Cuts a changeset into smaller ones that together say the same: the chunks of a large transaction.

use super::error::{ChangesetError, Result};
use super::{Changeset, Compress, Limits, RowKey, RunHeader, Told, Writer, write_changes};
use crate::version_vector::VersionVector;

/// A part of a changeset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// A changeset of its own. The last one has the claims.
    pub bytes: Vec<u8>,
    /// The least seq of its changes.
    pub seq_min: u64,
    /// The greatest.
    pub seq_max: u64,
}

/// In which order the changes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they are.
    AsGiven,
    /// No piece has a seq between two of another piece. For changesets of a single version.
    BySeq,
}

/// Cuts `bytes` into pieces of about `piece_bytes` before compression. A row is never cut, so one that is larger
/// is a piece by itself. A changeset without changes is one piece without changes.
///
/// Ordering by seq costs memory in proportion to the changes, unless the rows come in that order already, as those
/// of a bulk load do.
///
/// # Errors
/// `bytes` are no changeset.
pub fn split(bytes: &[u8], piece_bytes: usize, order: Order, claims: &VersionVector) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    split_each(bytes, piece_bytes, order, claims, |piece| {
        pieces.push(piece);
        Ok::<_, ChangesetError>(())
    })?;
    Ok(pieces)
}

/// As [`split`], one piece at a time, so that nobody has to hold all of them.
///
/// # Errors
/// `bytes` are no changeset; and those of `each`, after which no more pieces come.
pub fn split_each<E: From<ChangesetError>>(
    bytes: &[u8],
    piece_bytes: usize,
    order: Order,
    claims: &VersionVector,
    each: impl FnMut(Piece) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let changeset = Changeset::open(bytes, &Limits::default())?;
    if order == Order::AsGiven || is_ascending(&changeset)? {
        return cut(&changeset, changeset.told(), piece_bytes, order, claims, each);
    }
    let mut changes = Changeset::changes(bytes)?;
    changes.sort_by_key(|change| change.stamp.seq);
    let sorted = write_changes(changeset.tie_break(), &changes, &VersionVector::default());
    drop(changes);
    cut(&Changeset::open(&sorted, &Limits::default())?, changeset.told(), piece_bytes, order, claims, each)
}

/// Whether each row's seqs come after those of all rows before it.
fn is_ascending(changeset: &Changeset<'_>) -> Result<bool> {
    let mut reader = changeset.reader();
    let mut next = 0;
    while let Some(run) = reader.next_run()? {
        let (mut row, rows) = (0, u64::from(reader.rows_left()));
        while row < rows {
            let (min, max) = seqs(&run, row);
            if min < next {
                return Ok(false);
            }
            next = max + 1;
            row += 1;
        }
    }
    Ok(true)
}

fn cut<E: From<ChangesetError>>(
    changeset: &Changeset<'_>,
    told: Option<&Told>,
    piece_bytes: usize,
    order: Order,
    claims: &VersionVector,
    mut each: impl FnMut(Piece) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let (mut reader, mut values) = (changeset.reader(), Vec::new());
    let mut draft = Draft::new(changeset, told);
    while let Some(run) = reader.next_run()? {
        let mut row = 0;
        draft.begin(&run, row);
        while let Some(key) = reader.next_row(&mut values)? {
            let (min, max) = seqs(&run, row);
            // With overlapping seqs a border here would fall into another row.
            let is_border = order == Order::AsGiven || min > draft.seqs.1;
            if draft.has_rows && is_border && draft.writer.bytes_so_far() >= piece_bytes {
                let full = std::mem::replace(&mut draft, Draft::new(changeset, told));
                each(full.finish(&VersionVector::default()))?;
                draft.begin(&run, row);
            }
            draft.seqs = (draft.seqs.0.min(min), draft.seqs.1.max(max));
            draft.has_rows = true;
            if let RowKey::Packed(key) = key {
                draft.writer.key(key);
            }
            values.iter().for_each(|value| draft.writer.value(*value));
            draft.writer.end_row();
            row += 1;
        }
    }
    each(draft.finish(claims))
}

struct Draft<'a> {
    changeset: &'a Changeset<'a>,
    writer: Writer,
    seqs: (u64, u64),
    has_rows: bool,
}

impl<'a> Draft<'a> {
    fn new(changeset: &'a Changeset<'a>, told: Option<&Told>) -> Draft<'a> {
        let mut writer = Writer::new(changeset.tie_break());
        // A piece by itself is not everything.
        writer.tell_collected(told.map(|told| Told { is_whole: false, ..told.clone() }));
        Draft { changeset, writer, seqs: (u64::MAX, 0), has_rows: false }
    }

    /// Goes on with a run from one of its rows on.
    fn begin(&mut self, run: &RunHeader, row: u64) {
        let mut run = run.after(row);
        let table = &self.changeset.tables()[run.table as usize];
        run.table = self.writer.table(&table.name, table.key_columns, &table.columns);
        for group in &mut run.groups {
            group.site = self.writer.site(self.changeset.sites()[group.site as usize]);
        }
        self.writer.begin_run(&run);
    }

    fn finish(self, claims: &VersionVector) -> Piece {
        let (seq_min, seq_max) = if self.has_rows { self.seqs } else { (0, 0) };
        Piece { bytes: self.writer.finish_as(claims, Compress::WhereItPays), seq_min, seq_max }
    }
}

/// The least and the greatest seq of a row.
fn seqs(run: &RunHeader, row: u64) -> (u64, u64) {
    let (mut min, mut max) = (u64::MAX, 0);
    for group in &run.groups {
        let seq = group.seq_of_row(row);
        min = min.min(seq + group.seq_offsets().next().unwrap_or(0));
        max = max.max(seq + group.seq_offsets().last().unwrap_or(0));
    }
    (min, max)
}
