//! Writes a large transaction straight into segments, key by key in order, without a record per row.

use super::clock::Key;
use super::draft::{Draft, LocalVersion};
use super::edit::Editor;
use super::lookup::Segments;
use super::op::{Kind, Op, Ops};
use super::replay::{Layer, Replay};
use super::tables::Statements;
use crate::sqlite::Result;

/// Past this many pieces overlapping operations are written in two halves instead.
const PIECES_MAX: usize = 1 << 21;

/// A stretch of rows and the operations on all of them, as indices into the buffer.
struct Piece {
    key: i64,
    count: u64,
    op: usize,
}

/// Writes the pending operations. Returns where `seq` ends: it is dense over the final state of the rows, in
/// the order of table and key.
pub fn write(segments: &mut Segments, ops: &Ops, local: LocalVersion, mut seq: u64) -> Result<u64> {
    let mut tables: Vec<u32> = ops.pending().iter().map(|op| op.table).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        let of_table: Vec<&Op> = ops.pending().iter().filter(|op| op.table == table).collect();
        seq = if of_table.iter().any(|op| crosses(op, ops)) {
            row_by_row(segments, &of_table, ops, local, seq)?
        } else {
            write_table(segments.statements, table, &of_table, ops, local, seq)?
        };
    }
    Ok(seq)
}

/// An insert whose past lies under another key: pieces sorted by key would lose the order between the two.
fn crosses(op: &Op, ops: &Ops) -> bool {
    matches!(op.kind, Kind::Insert | Kind::InsertSpelled) && !op.by_pk && ops.pk_of(op).is_some()
}

fn row_by_row(
    segments: &mut Segments,
    of_table: &[&Op],
    ops: &Ops,
    local: LocalVersion,
    seq: u64,
) -> Result<u64> {
    let mut replay = Replay::default();
    for op in of_table {
        replay.apply(op, 0, ops, local, segments)?;
    }
    let (layer, seq) = replay.into_layer(local, seq);
    write_layer(segments.statements, &layer)?;
    Ok(seq)
}

/// Writes finished clocks.
pub fn write_layer(statements: &mut Statements, layer: &Layer) -> Result<()> {
    let mut rest = layer.iter().peekable();
    while let Some(((table, key), _)) = rest.peek() {
        let (table, integers) = (*table, matches!(key, Key::Int(_)));
        let mut editor = Editor::new(statements, table, integers);
        while let Some(((_, key), clock)) =
            rest.next_if(|((t, key), _)| *t == table && matches!(key, Key::Int(_)) == integers)
        {
            editor.set(key, clock.clone())?;
        }
        editor.finish()?;
    }
    Ok(())
}

fn write_table(
    statements: &mut Statements,
    table: u32,
    of_table: &[&Op],
    ops: &Ops,
    local: LocalVersion,
    mut seq: u64,
) -> Result<u64> {
    let mut pieces: Vec<Piece> = Vec::new();
    // Operations on packed keys, and the tombstones that deletes by rowid leave under theirs.
    let mut by_pk: Vec<(&[u8], usize, u64)> = Vec::new();
    for (index, op) in of_table.iter().enumerate() {
        if op.by_pk {
            by_pk.push((ops.pk_of(op).unwrap_or_default(), index, 0));
        } else {
            pieces.push(Piece { key: op.key, count: u64::from(op.count), op: index });
        }
    }
    let in_order = pieces.windows(2).all(|w| end(&w[0]) < w[1].key);
    if !in_order {
        match split(pieces) {
            Some(split) => pieces = split,
            None => {
                let (first, second) = of_table.split_at(of_table.len() / 2);
                let seq = write_table(statements, table, first, ops, local, seq)?;
                return write_table(statements, table, second, ops, local, seq);
            }
        }
    }
    let mut editor = Editor::new(statements, table, true);
    let mut at = 0;
    while at < pieces.len() {
        let mut next = at + 1;
        let piece = &pieces[at];
        while next < pieces.len() && pieces[next].key == piece.key {
            next += 1;
        }
        let mut last = end(piece);
        // Neighbours with the same single operation are one stretch.
        if next == at + 1 && is_uniform(of_table[piece.op]) {
            while next < pieces.len()
                && last.checked_add(1) == Some(pieces[next].key)
                && pieces.get(next + 1).is_none_or(|p| p.key != pieces[next].key)
                && same_effect(of_table[piece.op], of_table[pieces[next].op])
            {
                last = end(&pieces[next]);
                next += 1;
            }
        }
        let group = &pieces[at..next];
        let single = group.iter().all(|p| p.key == piece.key);
        editor.edit_range(piece.key, last, |first, count, mut draft| {
            let known = draft.cl() > 0;
            for p in if single { group } else { &group[..1] } {
                effect(&mut draft, of_table[p.op], ops, (first, count), p.op as u64, local);
            }
            let leaves_tombstone = if single {
                group.iter().any(|p| is_keyed_delete(of_table[p.op]))
            } else {
                is_keyed_delete(of_table[group[0].op])
            };
            if leaves_tombstone && draft.cl() % 2 == 0 {
                // Deleted rows of such tables live on under their key.
                let mut left = (draft.cl() > 0).then(|| draft.cl());
                let from = group.partition_point(|p| p.key < first);
                let below = first.saturating_add_unsigned(count);
                for p in group[from..].iter().take_while(|p| p.key < below || p.key == first) {
                    let op = of_table[p.op];
                    if let (Kind::Delete, Some(pk), Some(cl)) = (op.kind, ops.pk_of(op), left) {
                        by_pk.push((pk, p.op, cl));
                        if single {
                            left = None;
                        }
                    }
                }
                return None;
            }
            if draft.cl() == 0 || (!known && !draft.is_changed()) {
                return None;
            }
            let width = draft.width();
            draft.seal(local, seq);
            seq += width * count;
            Some(draft)
        })?;
        at = next;
    }
    editor.finish()?;
    write_keyed(statements, table, by_pk, of_table, ops, local, seq)
}

fn write_keyed(
    statements: &mut Statements,
    table: u32,
    by_pk: Vec<(&[u8], usize, u64)>,
    of_table: &[&Op],
    ops: &Ops,
    local: LocalVersion,
    mut seq: u64,
) -> Result<u64> {
    if by_pk.is_empty() {
        return Ok(seq);
    }
    // The first eight bytes decide nearly always, without a look at the key itself.
    let mut by_pk: Vec<(u64, &[u8], usize, u64)> =
        by_pk.into_iter().map(|(pk, op, cl)| (prefix(pk), pk, op, cl)).collect();
    by_pk.sort_unstable_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    let mut editor = Editor::new(statements, table, false);
    for group in by_pk.chunk_by(|a, b| a.0 == b.0 && a.1 == b.1) {
        editor.edit(&Key::Bytes(group[0].1.into()), |mut draft| {
            for (_, _, index, cl) in group {
                let op = of_table[*index];
                if *cl > 0 {
                    draft = Draft::tombstone(*cl, *index as u64);
                } else {
                    effect(&mut draft, op, ops, (0, 1), *index as u64, local);
                }
            }
            let width = draft.width();
            draft.seal(local, seq);
            seq += width;
            (draft.cl() > 0).then_some(draft)
        })?;
    }
    editor.finish()?;
    Ok(seq)
}

/// The first bytes of a key as a number: numbers that differ are ordered as the keys are.
fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = key.len().min(8);
    first[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(first)
}

/// What `op` does to the clocks of `rows`: the first and how many.
fn effect(draft: &mut Draft, op: &Op, ops: &Ops, rows: (i64, u64), order: u64, local: LocalVersion) {
    let (first, count) = rows;
    match op.kind {
        Kind::Insert | Kind::InsertSpelled => {
            draft.insert(ops.columns_of(op), op.kind == Kind::InsertSpelled, order, local.floor);
        }
        Kind::Update => draft.update(ops.columns_of(op), order),
        Kind::Delete => draft.delete(order),
        Kind::Merge | Kind::MergeNew => {
            let skip = if op.by_pk { 0 } else { first.abs_diff(op.key) };
            draft.merge(&ops.run_of(op).slice(skip, count), op.kind == Kind::MergeNew, local.db_version);
        }
        Kind::Raise => draft.raise(&ops.run_of(op).clock),
        Kind::Forget => *draft = Draft::default(),
    }
}

fn is_uniform(op: &Op) -> bool {
    !matches!(op.kind, Kind::Merge | Kind::MergeNew | Kind::Forget | Kind::Raise)
}

fn is_keyed_delete(op: &Op) -> bool {
    op.kind == Kind::Delete && op.pk != 0
}

fn same_effect(a: &Op, b: &Op) -> bool {
    a.kind == b.kind && (a.set == b.set || a.kind == Kind::Delete) && (a.pk == 0) == (b.pk == 0)
}

fn end(piece: &Piece) -> i64 {
    piece.key.wrapping_add(piece.count as i64 - 1)
}

/// Sorts by key and cuts overlapping stretches at each other's ends, so that stretches are equal or disjoint.
/// `None` when that would be too many.
fn split(mut pieces: Vec<Piece>) -> Option<Vec<Piece>> {
    pieces.sort_unstable_by_key(|p| (p.key, p.op));
    let disjoint_or_equal = pieces
        .windows(2)
        .all(|w| end(&w[0]) < w[1].key || (w[0].key == w[1].key && w[0].count == w[1].count));
    if disjoint_or_equal {
        return Some(pieces);
    }
    let mut cuts: Vec<i64> =
        pieces.iter().flat_map(|p| [Some(p.key), end(p).checked_add(1)]).flatten().collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut out = Vec::with_capacity(pieces.len() * 2);
    for piece in pieces {
        let last = end(&piece);
        let mut key = piece.key;
        let mut cut = cuts.partition_point(|c| *c <= key);
        loop {
            let stop = cuts.get(cut).map_or(last, |c| (c - 1).min(last));
            out.push(Piece { key, count: stop.abs_diff(key) + 1, op: piece.op });
            if out.len() > PIECES_MAX {
                return None;
            }
            if stop == last {
                break;
            }
            key = stop + 1;
            cut += 1;
        }
    }
    out.sort_unstable_by_key(|p| (p.key, p.op));
    Some(out)
}
