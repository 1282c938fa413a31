//! Builds changesets.

use super::vector::{loose, version_vector};
use crate::catalog::{Shape, Table};
use crate::changes::{RowReader, key_of_deleted};
use crate::park;
use crate::sqlite::{Error, Result};
use crate::state::State;
use crate::store::{Columns, Group, Key, ROW, Run, scan};
use crate::typed::FactsReader;
use crsql_core::changeset::{Compress, GroupHeader, RunHeader, Told, Writer};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What the receiver has already.
#[derive(Clone, Debug)]
pub enum Since {
    /// Everything up to this apply position of this replica; 0 is nothing.
    Position(u64),
    /// The versions in this vector.
    Vector(VersionVector),
    /// The versions in this vector, and everything up to this apply position: no need to look there.
    Newer(u64, VersionVector),
}

impl Since {
    /// Nothing up to this apply position is wanted.
    fn position(&self) -> u64 {
        match self {
            Since::Position(position) | Since::Newer(position, _) => *position,
            Since::Vector(_) => 0,
        }
    }
}

/// Everything that is not in `since`, as one blob.
///
/// A changeset claims versions: who applies it holds them completely. Of the versions asked for, whatever this
/// replica no longer holds was superseded by something that it holds, and either that is in the changeset or its
/// own version is not claimed.
pub fn build(state: &State, since: &Since, compress: Compress) -> Result<Vec<u8>> {
    // What is not committed has no version yet, but its values stand in the tables already.
    if state.has_uncommitted() {
        return Err(Error::refused(
            "crsql_changeset: this transaction has changes that are not committed, and only what is committed may \
             travel; COMMIT or ROLLBACK first",
        ));
    }
    let mut writer = Writer::new(state.tie_break()?);
    if !state.store.borrow_mut().exists()? {
        return Ok(writer.finish_as(&VersionVector::default(), compress));
    }
    // Before anything is taken from the pool: see `store::let_close`.
    state.store.borrow_mut().refresh()?;
    let mut snapshot = state.pool.prepare(state.db, "SELECT id FROM main.__crsql_state")?;
    snapshot.step()?;
    let layer = state.store.borrow_mut().overlay()?;
    let held = version_vector(state)?;
    let loose = match since {
        Since::Position(0) | Since::Vector(_) => VersionVector::default(),
        Since::Position(_) | Since::Newer(..) => loose(state)?,
    };
    let everywhere;
    let since = match since {
        // Of a version that is new to the receiver, a part may lie further back.
        Since::Newer(_, vector)
            if loose.ranges().any(|(site, lo, hi)| is_new(&held, vector, site, lo, hi)) =>
        {
            everywhere = Since::Vector(vector.clone());
            &everywhere
        }
        since => since,
    };
    let committed = state.store.borrow().tail().db_version;
    let mut build = Build {
        state,
        writer: &mut writer,
        since,
        held: &held,
        committed,
        sites: HashMap::new(),
        sent: VersionVector::default(),
    };
    match since {
        Since::Position(0) => build.tables(|state, id, each| scan::table(state.db, &layer, id, each))?,
        _ => {
            let mut by_table: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
            scan::newer(&state.pool, state.db, &layer, since.position(), &mut |table, run| {
                let wanted = build.wanted(run)?;
                by_table.entry(table).or_default().extend(wanted);
                Ok(())
            })?;
            by_table.values_mut().for_each(|runs| runs.sort_by(|a, b| a.key.cmp(&b.key)));
            build.tables(|_, id, each| {
                by_table.remove(&id).unwrap_or_default().into_iter().try_for_each(each)
            })?;
        }
    }
    build.parked()?;
    let collected = state.store.borrow().collected();
    let sent = std::mem::take(&mut build.sent);
    let claims = match since {
        Since::Position(0) => held,
        Since::Position(_) => sent.difference(&loose),
        Since::Vector(vector) | Since::Newer(_, vector) => held.difference(vector),
    };
    if !collected.is_empty() {
        let is_whole = match since {
            Since::Position(position) => *position == 0,
            Since::Vector(vector) => vector.is_empty(),
            Since::Newer(..) => false,
        };
        writer.tell_collected(Some(Told { collected: (*collected).clone(), is_whole }));
    }
    Ok(writer.finish_as(&claims, compress))
}

/// Whether some of these versions are held here and not in `vector`.
fn is_new(held: &VersionVector, vector: &VersionVector, site: SiteId, lo: u64, hi: u64) -> bool {
    let mut these = VersionVector::default();
    these.insert_range(site, lo, hi);
    let unknown = these.difference(vector);
    unknown.difference(held) != unknown
}

struct Build<'a> {
    state: &'a State,
    writer: &'a mut Writer,
    since: &'a Since,
    held: &'a VersionVector,
    /// The last committed apply position.
    committed: u64,
    sites: HashMap<u32, (SiteId, u32)>,
    /// Versions of which something was written.
    sent: VersionVector,
}

impl Build<'_> {
    fn tables(
        &mut self,
        mut runs_of: impl FnMut(&State, u32, &mut dyn FnMut(Run) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let state = self.state;
        for table in state.tables()? {
            let mut reader = RowReader::new(state, table.clone())?;
            let columns: Vec<&str> = table.columns.iter().map(|c| c.cell.as_str()).collect();
            let mut index = None;
            runs_of(state, table.id, &mut |run| {
                for run in self.wanted(run)? {
                    let at = *index.get_or_insert_with(|| {
                        self.writer.table(&table.name, table.key_columns.len() as u32, &columns)
                    });
                    self.write_run(&table, at, &mut reader, &run)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn site(&mut self, ordinal: u32) -> Result<(SiteId, u32)> {
        if let Some(known) = self.sites.get(&ordinal) {
            return Ok(*known);
        }
        let id = self.state.store.borrow_mut().sites.id(self.state.db, ordinal)?;
        let known = (id, self.writer.site(id));
        self.sites.insert(ordinal, known);
        Ok(known)
    }

    /// The parts of a run that the receiver lacks, cut so that each part lacks the same groups all along.
    fn wanted(&mut self, run: Run) -> Result<SmallVec<[Run; 1]>> {
        let mut parts: SmallVec<[Run; 1]> = SmallVec::new();
        let steps = run.steps.iter().any(|step| step.version > 0 || step.db_version > 0);
        let count = if steps { run.count } else { 1 };
        let all = if run.clock.groups.len() < 64 { (1 << run.clock.groups.len()) - 1 } else { u64::MAX };
        if count == 1 && self.bits(&run, 0)? == all {
            parts.push(run);
            return Ok(parts);
        }
        let mut last: Option<(u64, u64)> = None;
        let mut start = 0;
        for row in 0..=count {
            // As bits, which groups this row has to offer; more than 64 groups are not told apart, all are sent.
            let bits = if row < count { Some(self.bits(&run, row)?) } else { None };
            if let Some((from, before)) = last
                && Some(before) == bits
            {
                start = from;
                continue;
            }
            if let Some((from, before)) = last
                && before != 0
            {
                let len = if steps { row - from } else { run.count };
                parts.extend(select(&run.slice(from, len), before));
            }
            let _ = start;
            last = bits.map(|bits| (row, bits));
        }
        Ok(parts)
    }

    fn bits(&mut self, run: &Run, row: u64) -> Result<u64> {
        let mut bits = 0u64;
        for (index, (group, step)) in run.clock.groups.iter().zip(&run.steps).enumerate() {
            let version = group.version + row * step.version;
            let db_version = group.db_version + row * step.db_version;
            let wanted = db_version <= self.committed
                && db_version > self.since.position()
                && match self.since {
                    Since::Position(_) => true,
                    Since::Vector(vector) | Since::Newer(_, vector) => {
                        version == 0 || !vector.contains(self.site(group.site)?.0, version)
                    }
                };
            if wanted {
                bits |= 1 << index.min(63);
            }
        }
        Ok(bits)
    }

    fn write_run(&mut self, table: &Rc<Table>, at: u32, reader: &mut RowReader, run: &Run) -> Result<()> {
        let mut written = self.write_until_missing(table, at, reader, run)?;
        // A clock without its row tells nothing; the run goes on behind it.
        while written + 1 < run.count {
            let rest = run.slice(written + 1, run.count - written - 1);
            written += 1 + self.write_until_missing(table, at, reader, &rest)?;
        }
        Ok(())
    }

    /// Writes the rows of a run up to the first that is missing, and tells how many.
    fn write_until_missing(
        &mut self,
        table: &Rc<Table>,
        at: u32,
        reader: &mut RowReader,
        run: &Run,
    ) -> Result<u64> {
        let mut groups = Vec::new();
        // Each with its author: a column that has a type may be there once for each.
        let mut value_columns: Vec<(usize, u32)> = Vec::new();
        for (group, step) in run.clock.groups.iter().zip(&run.steps) {
            let (site, index) = self.site(group.site)?;
            let position = |slot: u32| match slot {
                ROW => Some(0),
                id => table.columns.iter().position(|c| c.id == id).map(|at| at as u32 + 1),
            };
            let columns = self.positions(&group.columns, position);
            if columns.is_empty() {
                continue;
            }
            // A column that is gone still counts in the ranks of the others: then each slot goes on its own.
            let rank = self.positions(&group.rank, position);
            let whole = rank.len() == group.rank.len() as usize;
            let ascending = columns.is_sorted() && rank.is_sorted() && whole;
            let mut header = GroupHeader {
                columns: Vec::new(),
                rank: None,
                col_version: group.col_version,
                site: index,
                version: group.version,
                seq: group.seq,
                seq_step: if run.count > 1 { step.seq } else { 0 },
                version_step: if run.count > 1 { step.version } else { 0 },
            };
            if ascending {
                let values = columns.iter().filter(|c| **c > 0);
                value_columns.extend(values.map(|c| (*c as usize - 1, group.site)));
                header.rank = (rank != columns).then_some(rank);
                header.columns = columns;
                groups.push(header);
            } else {
                for slot in group.columns.iter() {
                    let Some(column) = position(slot) else { continue };
                    value_columns.extend((column > 0).then(|| (column as usize - 1, group.site)));
                    groups.push(GroupHeader {
                        columns: vec![column],
                        seq: group.seq_of(slot),
                        ..header.clone()
                    });
                }
            }
            self.note_sent(site, group, step.version, run.count);
        }
        if groups.is_empty() {
            return Ok(run.count);
        }
        let by_rowid = table.shape == Shape::Integer;
        let header = RunHeader {
            table: at,
            cl: run.clock.cl,
            groups,
            first_key: run.first_int().filter(|_| by_rowid),
        };
        let columns: Vec<usize> = value_columns.iter().map(|(c, _)| reader.column_at(*c)).collect();
        let mut facts = FactsReader::default();
        let is_alive = run.clock.is_alive();
        self.writer.begin_run(&header);
        let mut pk = Vec::new();
        for row in 0..run.count {
            let found = match &run.key {
                _ if !is_alive => true,
                Key::Int(first) => reader.seek(first.wrapping_add(row as i64))?,
                Key::Bytes(key) => reader.seek_packed(key)?,
            };
            if !found {
                self.writer.end_run();
                return Ok(row);
            }
            if header.first_key.is_none() {
                match &run.key {
                    Key::Bytes(key) if !is_alive => self.writer.key(&key_of_deleted(table, key)?),
                    _ => {
                        reader.key(&mut pk)?;
                        self.writer.key(&pk);
                    }
                }
            }
            if table.typed.is_empty() {
                for column in &columns {
                    self.writer.value(reader.statement().column_value(*column));
                }
            } else {
                let place = run.slice_key(row);
                for (column, site) in &value_columns {
                    let value = reader.cell(self.state, &mut facts, &place, *column, *site)?;
                    self.writer.value(value.as_ref());
                }
            }
            self.writer.end_row();
        }
        self.writer.end_run();
        Ok(run.count)
    }

    fn positions(&self, slots: &Columns, position: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
        slots.iter().filter_map(position).collect()
    }

    fn note_sent(&mut self, site: SiteId, group: &Group, step: u64, count: u64) {
        if let (Since::Position(1..), true) = (self.since, group.version > 0) {
            let last = group.version + step * (count - 1);
            for version in [group.version, last] {
                if self.held.contains(site, version) {
                    self.sent.insert(site, version);
                }
            }
            if step > 0 {
                for version in group.version..=last {
                    if self.held.contains(site, version) {
                        self.sent.insert(site, version);
                    }
                }
            }
        }
    }

    /// Parked changes travel on: another replica may have what is missing here.
    fn parked(&mut self) -> Result<()> {
        let (state, committed) = (self.state, self.committed);
        let mut changes = Vec::new();
        park::scan(state, self.since.position(), |change| {
            changes.push(change);
            Ok(())
        })?;
        for change in changes {
            let version = change.stamp.version;
            let is_known = match self.since {
                Since::Position(_) => false,
                Since::Vector(vector) | Since::Newer(_, vector) => {
                    version > 0 && vector.contains(change.stamp.site, version)
                }
            };
            if is_known || change.db_version > committed {
                continue;
            }
            let keys = crsql_core::pack::unpack(&change.pk).map_err(Error::refused)?.len();
            let columns: &[&str] = if change.is_row() { &[] } else { &[park::column_of(&change.cid)] };
            let table = self.writer.table(&change.table, keys as u32, columns);
            let site = self.writer.site(change.stamp.site);
            let group = GroupHeader {
                columns: vec![u32::from(!change.is_row())],
                rank: None,
                col_version: change.col_version,
                site,
                version,
                seq: change.stamp.seq,
                seq_step: 0,
                version_step: 0,
            };
            self.writer.begin_run(&RunHeader { table, cl: change.cl, groups: vec![group], first_key: None });
            self.writer.key(&change.pk);
            if !change.is_row() {
                self.writer.value(change.value.as_ref());
            }
            self.writer.end_row();
            self.writer.end_run();
            if let (Since::Position(1..), true) =
                (self.since, version > 0 && self.held.contains(change.stamp.site, version))
            {
                self.sent.insert(change.stamp.site, version);
            }
        }
        Ok(())
    }
}

/// The run with only the groups whose bits are set.
fn select(run: &Run, bits: u64) -> Option<Run> {
    let mut run = run.clone();
    let mut index = 0;
    let keep: Vec<bool> = (0..run.clock.groups.len()).map(|at| bits >> at.min(63) & 1 == 1).collect();
    run.clock.groups.retain(|_| {
        index += 1;
        keep[index - 1]
    });
    index = 0;
    run.steps.retain(|_| {
        index += 1;
        keep[index - 1]
    });
    (!run.clock.groups.is_empty()).then_some(run)
}
