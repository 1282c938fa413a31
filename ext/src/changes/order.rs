//! Brings runs of clocks into the order of changes, in bounded memory.
//!
//! Segments lie by key, changes are read by apply position. A pass over the segments keeps the [`SPANS_MAX`] spans
//! that come first; when there were more, what follows the last of them is the next pass's. A bulk load is one
//! span, so nearly every read takes one pass.

use crate::pool::Pool;
use crate::sqlite::{Db, Result};
use crate::store::{Group, Key, Layer, Run, scan};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// Spans kept at a time.
pub const SPANS_MAX: usize = 1 << 16;

/// What comes first among changes of one apply position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By author, version, seq: rows stay together.
    Author,
    /// By seq, whoever wrote it.
    Seq,
}

/// A change's place in the order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    db_version: u64,
    major: [u64; 3],
    /// Tells changes without identity apart.
    tie: u64,
}

/// Changes of one group of one run that are still to come.
pub struct Span {
    table: u32,
    run: Rc<Run>,
    group: usize,
    row: u64,
    slot: u32,
    at: Position,
    order: Order,
}

impl Span {
    fn new(table: u32, run: Rc<Run>, group: usize, row: u64, order: Order) -> Option<Span> {
        let slot = run.clock.groups[group].columns.next_from(0)?;
        let mut span = Span { table, run, group, row, slot, at: Position::default(), order };
        span.at = span.position();
        Some(span)
    }

    /// The table's id.
    #[inline]
    pub fn table(&self) -> u32 {
        self.table
    }

    /// The slot.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The group as it is for the first row.
    #[inline]
    pub fn group(&self) -> &Group {
        &self.run.clock.groups[self.group]
    }

    /// The row's causal length.
    #[inline]
    pub fn cl(&self) -> u64 {
        self.run.clock.cl
    }

    /// The row's rowid, or `None` where its place is a packed key.
    #[inline]
    pub fn rowid(&self) -> Option<i64> {
        self.run.first_int().map(|first| first.wrapping_add(self.row as i64))
    }

    /// The row's packed key, where that is its place.
    #[inline]
    pub fn packed(&self) -> Option<&[u8]> {
        match &self.run.key {
            Key::Bytes(key) => Some(key),
            Key::Int(_) => None,
        }
    }

    /// The author's site_version.
    #[inline]
    pub fn version(&self) -> u64 {
        self.group().version + self.row * self.run.steps[self.group].version
    }

    /// The apply position.
    #[inline]
    pub fn db_version(&self) -> u64 {
        self.group().db_version + self.row * self.run.steps[self.group].db_version
    }

    /// The place inside the version.
    #[inline]
    pub fn seq(&self) -> u64 {
        self.group().seq_of(self.slot) + self.row * self.run.steps[self.group].seq
    }

    #[inline]
    fn first_slot(&self) -> u32 {
        self.group().columns.next_from(0).unwrap_or(0)
    }

    fn position(&self) -> Position {
        let (site, version, seq) = (u64::from(self.group().site), self.version(), self.seq());
        let major = match self.order {
            Order::Author => [site, version, seq],
            Order::Seq => [seq, site, version],
        };
        let tie = if version > 0 { 0 } else { tie_of(self.table, &self.run.key, self.row, self.slot) };
        Position { db_version: self.db_version(), major, tie }
    }

    /// Moves to the next change; false past the last.
    #[inline]
    fn advance(&mut self) -> bool {
        if let Some(slot) = self.group().columns.next_from(self.slot + 1) {
            self.slot = slot;
            // The row stays: only what the slot decides moves.
            if self.at.major[self.version_at()] > 0 {
                let seq = self.seq();
                self.at.major[self.seq_at()] = seq;
                return true;
            }
        } else {
            self.row += 1;
            if self.row >= self.run.count {
                return false;
            }
            self.slot = self.first_slot();
        }
        self.at = self.position();
        true
    }

    fn seq_at(&self) -> usize {
        if self.order == Order::Seq { 0 } else { 2 }
    }

    fn version_at(&self) -> usize {
        if self.order == Order::Seq { 2 } else { 1 }
    }

    /// Moves past `position`; false when nothing is left.
    fn skip_to(&mut self, after: &Position) -> bool {
        if self.at > *after {
            return true;
        }
        // Rows ascend, so the first row that is not wholly before is found by halving.
        let (mut low, mut high) = (self.row, self.run.count);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let (row, slot) = (self.row, self.slot);
            (self.row, self.slot) = (middle, self.first_slot());
            let is_before = self.position() <= *after;
            (self.row, self.slot) = (row, slot);
            if is_before { low = middle } else { high = middle }
        }
        if low != self.row {
            (self.row, self.slot) = (low, self.first_slot());
            self.at = self.position();
        }
        while self.at <= *after {
            if !self.advance() {
                return false;
            }
        }
        true
    }
}

fn tie_of(table: u32, key: &Key, row: u64, slot: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    match key {
        Key::Int(first) => hasher.update(&first.wrapping_add(row as i64).to_le_bytes()),
        Key::Bytes(key) => hasher.update(key),
    };
    hasher.update(&table.to_le_bytes());
    hasher.update(&slot.to_le_bytes());
    let hash = hasher.finalize();
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes")) | 1
}

impl PartialEq for Span {
    fn eq(&self, other: &Span) -> bool {
        self.at == other.at
    }
}

impl Eq for Span {}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Span) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Span {
    fn cmp(&self, other: &Span) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// Which changes are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Apply positions above this.
    pub since: u64,
    /// Apply positions up to this.
    pub until: u64,
    /// Only this table.
    pub table: Option<u32>,
    /// Only this author.
    pub site: Option<u32>,
    /// Not this author.
    pub not_site: Option<u32>,
    /// The order.
    pub order: Order,
}

/// The changes in order.
pub struct Changes {
    pool: Rc<Pool>,
    db: Db,
    layer: Rc<Layer>,
    wanted: Wanted,
    /// The span at hand, kept out of the heap: mostly the next change is its next one.
    current: Option<Span>,
    heap: BinaryHeap<std::cmp::Reverse<Span>>,
    /// Where the next pass begins, if this one could not hold everything.
    bound: Option<Position>,
}

impl Changes {
    /// Finds the first change.
    pub fn open(pool: Rc<Pool>, db: Db, layer: Rc<Layer>, wanted: Wanted) -> Result<Changes> {
        let mut changes =
            Changes { pool, db, layer, wanted, current: None, heap: BinaryHeap::new(), bound: None };
        changes.pass(None)?;
        Ok(changes)
    }

    /// The change at hand.
    #[inline]
    pub fn current(&self) -> Option<&Span> {
        self.current.as_ref()
    }

    /// The apply position and order of the change at hand.
    #[inline]
    pub fn position(&self) -> Option<(u64, u64)> {
        self.current.as_ref().map(|span| (span.at.db_version, span.at.major[0]))
    }

    /// Moves to the next change.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        let Some(span) = &mut self.current else { return Ok(()) };
        let last = span.at;
        if !span.advance() {
            self.current = None;
        } else if let Some(mut next) = self.heap.peek_mut()
            && next.0 < *span
        {
            std::mem::swap(&mut next.0, span);
        }
        if self.current.is_some() && self.bound.is_none() {
            return Ok(());
        }
        self.settle(last)
    }

    /// Takes the next span from the heap, or from the next pass.
    fn settle(&mut self, last: Position) -> Result<()> {
        if self.current.is_none() {
            self.current = self.heap.pop().map(|std::cmp::Reverse(span)| span);
        }
        let is_past = |span: &Span, bound: &Option<Position>| bound.is_some_and(|bound| span.at >= bound);
        match &self.current {
            Some(span) if !is_past(span, &self.bound) => Ok(()),
            None if self.bound.is_none() => Ok(()),
            _ => self.pass(Some(last)),
        }
    }

    /// Collects the spans that come first after `after`.
    fn pass(&mut self, after: Option<Position>) -> Result<()> {
        let mut first: BinaryHeap<Span> = BinaryHeap::new();
        let mut bound: Option<Position> = None;
        let wanted = self.wanted.clone();
        let mut keep = |span: Option<Span>| {
            let Some(mut span) = span else { return };
            if after.is_some_and(|after| !span.skip_to(&after)) {
                return;
            }
            first.push(span);
            if first.len() > SPANS_MAX
                && let Some(last) = first.pop()
            {
                bound = Some(bound.map_or(last.at, |bound| bound.min(last.at)));
            }
        };
        let since = after.map_or(wanted.since, |after| wanted.since.max(after.db_version.saturating_sub(1)));
        scan::newer(&self.pool, self.db, &self.layer, since, &mut |table, run| {
            if wanted.table.is_none_or(|only| only == table) {
                spans(table, run, &wanted, &mut keep);
            }
            Ok(())
        })?;
        self.heap = first.into_vec().into_iter().map(std::cmp::Reverse).collect();
        self.bound = bound;
        self.current = self.heap.pop().map(|std::cmp::Reverse(span)| span);
        Ok(())
    }
}

/// Cuts a run into spans whose changes ascend, leaving out what is not wanted.
fn spans(table: u32, run: Run, wanted: &Wanted, keep: &mut impl FnMut(Option<Span>)) {
    let run = Rc::new(run);
    for (index, group) in run.clock.groups.iter().enumerate() {
        if wanted.site.is_some_and(|site| site != group.site)
            || wanted.not_site.is_some_and(|site| site == group.site)
        {
            continue;
        }
        let step = run.steps[index];
        let last = group.db_version + step.db_version * (run.count - 1);
        if last <= wanted.since || group.db_version > wanted.until {
            continue;
        }
        let ascends = run.count == 1
            || step.db_version > 0
            || (wanted.order == Order::Author && step.version > 0)
            || step.seq >= u64::from(group.rank.len());
        let is_whole = group.db_version > wanted.since && last <= wanted.until;
        if ascends && is_whole {
            keep(Span::new(table, run.clone(), index, 0, wanted.order));
            continue;
        }
        for row in 0..run.count {
            let db_version = group.db_version + row * step.db_version;
            if db_version > wanted.since && db_version <= wanted.until {
                let one = Rc::new(run.slice(row, 1));
                keep(Span::new(table, one, index, 0, wanted.order));
            }
        }
    }
}
