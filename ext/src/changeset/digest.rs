//! A digest of the replicated state: equal on two replicas iff they hold the same cells with the same clocks and
//! authors, parked ones included, in whatever order they came.

use crate::catalog::Table;
use crate::changes::RowReader;
use crate::park;
use crate::sqlite::{Error, Result};
use crate::state::State;
use crate::store::{Key, ROW, scan};
use crate::typed::FactsReader;
use crsql_core::collect::Collected;
use crsql_core::digest::{Digest, RecordHasher, has_row_record};
use crsql_core::merge::{CellClock, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The digest of one table, or of all.
pub fn digest(state: &State, only: Option<&str>) -> Result<Digest> {
    let mut tally = Tally::All(Digest::default());
    tally_up(state, only, &mut tally)?;
    match tally {
        Tally::All(sum) => Ok(sum),
        Tally::Rows { .. } => unreachable!("it was made a few lines above"),
    }
}

/// A stretch of a table by canonical packed key, and the digest of the rows in it.
#[derive(Debug)]
pub struct RangeDigest {
    /// The least key in it; empty for the beginning.
    pub from: Vec<u8>,
    /// The least key after it; none for the end.
    pub to: Option<Vec<u8>>,
    /// How many rows, deleted ones included.
    pub rows: u64,
    /// Their sum.
    pub sum: Digest,
}

/// The digests of a stretch of a table, cut into up to `cut` of about equal size. Takes memory for every row of it.
pub fn range_digests(
    state: &State,
    table: &str,
    from: &[u8],
    to: Option<&[u8]>,
    cut: usize,
) -> Result<Vec<RangeDigest>> {
    let mut tally = Tally::Rows { from, to, rows: BTreeMap::new() };
    tally_up(state, Some(table), &mut tally)?;
    let Tally::Rows { rows, .. } = tally else { unreachable!("it was made a few lines above") };
    let step = rows.len().div_ceil(cut.max(1)).max(1);
    let mut ranges = vec![RangeDigest { from: from.to_vec(), to: None, rows: 0, sum: Digest::default() }];
    for (at, (key, digest)) in rows.into_iter().enumerate() {
        if at > 0 && at.is_multiple_of(step) {
            ranges.last_mut().expect("there is a first").to = Some(key.clone());
            ranges.push(RangeDigest { from: key, to: None, rows: 0, sum: Digest::default() });
        }
        let range = ranges.last_mut().expect("there is a first");
        range.rows += 1;
        range.sum.add(&digest);
    }
    ranges.last_mut().expect("there is a first").to = to.map(<[u8]>::to_vec);
    Ok(ranges)
}

/// Where the hashes of records go.
enum Tally<'a> {
    All(Digest),
    /// By canonical key, those within a range.
    Rows {
        from: &'a [u8],
        to: Option<&'a [u8]>,
        rows: BTreeMap<Vec<u8>, Digest>,
    },
}

impl Tally<'_> {
    fn add(&mut self, pk: &[u8], record: &Digest) {
        match self {
            Tally::All(sum) => sum.add(record),
            Tally::Rows { from, to, rows } => {
                if pk >= *from && to.is_none_or(|to| pk < to) {
                    rows.entry(pk.to_vec()).or_default().add(record);
                }
            }
        }
    }
}

fn tally_up(state: &State, only: Option<&str>, tally: &mut Tally<'_>) -> Result<()> {
    if !state.store.borrow_mut().exists()? {
        return Ok(());
    }
    let mut snapshot = state.db.prepare("SELECT id FROM main.__crsql_state")?;
    snapshot.step()?;
    let layer = state.layer()?;
    let mut waiting = Waiting::read(state, only)?;
    waiting.collected = state.store.borrow().collected();
    for table in state.tables()? {
        if only.is_none_or(|only| only.eq_ignore_ascii_case(&table.name)) {
            add_table(state, &layer, &table, &waiting, tally)?;
        }
    }
    waiting.add(tally);
    Ok(())
}

/// A parked row: its table's name and canonical key.
type Name = (String, Vec<u8>);

/// The parked changes, by row. They count as if they were written: the digest is of what is held, and a parked
/// change that beats a written cell takes its place.
#[derive(Default)]
struct Waiting {
    rows: BTreeMap<Name, Vec<park::Loose>>,
    /// Rows whose existence the clocks tell of already.
    written: std::cell::RefCell<BTreeSet<Name>>,
    /// What was collected: some replicas have its tombstones still.
    collected: Rc<Collected>,
}

impl Waiting {
    fn read(state: &State, only: Option<&str>) -> Result<Waiting> {
        let mut waiting = Waiting::default();
        park::scan(state, 0, |change| {
            if only.is_some_and(|only| !only.eq_ignore_ascii_case(&change.table)) {
                return Ok(());
            }
            let key = match state.table_named(&change.table)? {
                Some(table) => crsql_core::key::canonical_packed_key(&change.pk, &table.key_columns)
                    .map_or(change.pk.clone(), |key| key.bytes),
                None => change.pk.clone(),
            };
            waiting.rows.entry((change.table.clone(), key)).or_default().push(change);
            Ok(())
        })?;
        Ok(waiting)
    }

    /// What is parked of a row that has a clock.
    fn of(&self, table: &str, key: &[u8], cl: u64) -> &[park::Loose] {
        if self.rows.is_empty() {
            return &[];
        }
        let name = (table.to_owned(), key.to_vec());
        let Some(changes) = self.rows.get(&name) else { return &[] };
        if changes.iter().all(|change| change.cl <= cl && !change.is_row()) {
            self.written.borrow_mut().insert(name);
        }
        changes
    }

    fn add(&self, tally: &mut Tally<'_>) {
        let mut hasher = RecordHasher::default();
        for (name, changes) in &self.rows {
            let cl = changes.iter().map(|change| change.cl).max().unwrap_or(0);
            hasher.row(&name.0, &name.1, cl);
            let row = changes.iter().find(|change| change.is_row()).map(|change| change.stamp);
            let is_counted = has_row_record(cl, row.as_ref()) && !self.collected.hides(cl);
            if is_counted && !self.written.borrow().contains(name) {
                tally.add(&name.1, &hasher.existence(row.as_ref()));
            }
            for change in changes.iter().filter(|change| !change.is_row()) {
                let cell = CellClock { col_version: change.col_version, stamp: change.stamp };
                tally.add(&name.1, &hasher.cell(park::column_of(&change.cid), &cell, change.value.as_ref()));
            }
        }
    }
}

fn add_table(
    state: &State,
    layer: &crate::store::Layer,
    table: &Rc<Table>,
    waiting: &Waiting,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let mut reader = RowReader::new(state, table.clone())?;
    let mut hasher = RecordHasher::default();
    let mut facts = FactsReader::default();
    let (mut stored, mut pk) = (Vec::new(), Vec::new());
    scan::table(state.db, layer, table.id, &mut |run| {
        for index in 0..run.count {
            let (key, clock) = (run.slice_key(index), run.clock_at(index));
            let stamp = |group: &crate::store::Group, slot: u32| -> Result<Stamp> {
                let site = state.store.borrow_mut().sites.id(state.db, group.site)?;
                Ok(Stamp { site, version: group.version, seq: group.seq_of(slot) })
            };
            let found = match &key {
                Key::Int(rowid) if clock.is_alive() => reader.seek(*rowid)?,
                Key::Bytes(key) if clock.is_alive() => reader.seek_packed(key)?,
                _ => false,
            };
            pk.clear();
            match &key {
                Key::Bytes(key) => pk.extend_from_slice(key),
                Key::Int(rowid) if table.shape == crate::catalog::Shape::Integer => {
                    pk = crsql_core::pack::pack(&[crate::sqlite::ValueRef::Integer(*rowid)])
                        .map_err(Error::refused)?;
                }
                Key::Int(_) if !found => continue,
                Key::Int(_) => {
                    reader.key(&mut stored)?;
                    pk = crsql_core::key::canonical_packed_key(&stored, &table.key_columns)
                        .map_err(Error::refused)?
                        .bytes;
                }
            }
            let parked = waiting.of(&table.name, &pk, clock.cl);
            if parked.iter().any(|change| change.cl > clock.cl) {
                continue;
            }
            hasher.row(&table.name, &pk, clock.cl);
            let row_stamp = clock.group_of(ROW).map(|group| stamp(group, ROW)).transpose()?;
            let is_counted =
                has_row_record(clock.cl, row_stamp.as_ref()) && !waiting.collected.hides(clock.cl);
            if is_counted && !parked.iter().any(|change| change.is_row()) {
                tally.add(&pk, &hasher.existence(row_stamp.as_ref()));
            }
            if !found {
                continue;
            }
            for group in &clock.groups {
                for slot in group.columns.iter().filter(|slot| *slot != ROW) {
                    let Some(at) = table.columns.iter().position(|column| column.id == slot) else {
                        continue;
                    };
                    let name = &table.columns[at].cell;
                    let cell = CellClock { col_version: group.col_version, stamp: stamp(group, slot)? };
                    if parked.iter().any(|c| !c.is_row() && c.is_same_cell(name, &cell.stamp.site)) {
                        continue;
                    }
                    let record = if table.typed.is_empty() {
                        hasher.cell(name, &cell, reader.value(at))
                    } else {
                        let value = reader.cell(state, &mut facts, &key, at, group.site)?;
                        hasher.cell(name, &cell, value.as_ref())
                    };
                    tally.add(&pk, &record);
                }
            }
        }
        Ok(())
    })
}
