//! Applies changesets: one transaction, each row written once.

use super::run::{Order, Target, Translated, check, translate};
use crate::alter::atomically;
use crate::capture::enlist;
use crate::catalog::{Shape, Table};
use crate::collect::{self, Source};
use crate::merge::{self, Incoming, Outcome, Walk, merge_along};
use crate::park::{self, Kind, Loose, SENTINEL};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Key, LOOSE, ROW, Run};
use crsql_core::changeset::{Changeset, Limits, Reader, RowKey, RunHeader};
use crsql_core::collect::Admission;
use crsql_core::ids::SiteId;
use crsql_core::merge::Stamp;
use crsql_core::value::Value;
use crsql_core::version_vector::{RangeSet, VersionVector};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// From this many rows on, triggers are off during the apply instead of running muted.
const QUIET_ROWS: u64 = 512;

/// What an apply did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Changes that won.
    pub applied: u64,
    /// Changes that were known or lost.
    pub ignored: u64,
    /// Changes parked.
    pub parked: u64,
    /// Why runs were refused: their clocks or keys can't be right.
    pub refused: BTreeMap<String, u64>,
    /// The apply position afterwards.
    pub db_version: u64,
}

impl Report {
    /// The report as `crsql_apply` answers it.
    pub fn to_json(&self) -> String {
        let refused: Vec<String> = self
            .refused
            .iter()
            .map(|(reason, rows)| format!("{{\"reason\":{},\"rows\":{rows}}}", json_text(reason)))
            .collect();
        format!(
            "{{\"applied\":{},\"ignored\":{},\"parked\":{},\"refused\":[{}],\"db_version\":{}}}",
            self.applied,
            self.ignored,
            self.parked,
            refused.join(","),
            self.db_version
        )
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Merges a changeset in one step: all of it or, on an error, nothing.
pub fn apply(state: &State, bytes: &[u8]) -> Result<Report> {
    let changeset = Changeset::open(bytes, &Limits::default())
        .map_err(|e| Error::refused(format_args!("crsql_apply: {e}; ask the sender for it again")))?;
    state.check_schema()?;
    let mut report = atomically(state, || {
        state.create()?;
        state.check_schema()?;
        if changeset.tie_break() != state.tie_break()? {
            return Err(Error::refused(
                "crsql_apply: the sender orders writes by another \"tie-break\" than this database; \
                 replicas must agree on it before their first table",
            ));
        }
        enlist(state)?;
        let _source = match state.source.get() {
            Source::Own => None,
            Source::Peer { .. } => {
                let is_past = collect::adopt(state, changeset.told())?;
                Some(collect::merge_as(state, Source::Peer { is_past }))
            }
        };
        let mut apply = Apply::new(state, &changeset)?;
        apply.run()?;
        let Apply { report, loose, spoiled, .. } = apply;
        note_loose(state, loose)?;
        claim(state, changeset.claims(), &spoiled)?;
        if state.may_have_parked()? {
            park::retry(state)?;
        }
        merge::hidden::resolve(state)?;
        Ok(report)
    })?;
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    report.db_version = store.tail().db_version;
    Ok(report)
}

/// Marks versions that came in part, and are not held: a part of them lies here, the rest may come later.
fn note_loose(state: &State, loose: BTreeMap<u32, RangeSet>) -> Result<()> {
    if loose.is_empty() {
        return Ok(());
    }
    let mut store = state.store.borrow_mut();
    let (held, marked) = (store.vector()?, store.loose()?);
    drop(store);
    for (site, mut ranges) in loose {
        for known in [held.get(&site), marked.get(&site)].into_iter().flatten() {
            ranges = ranges.difference(known);
        }
        state.complete(ranges.iter().map(|(lo, hi)| (site | LOOSE, lo, hi)));
    }
    Ok(())
}

/// Records the versions that the changeset completes.
fn claim(state: &State, claims: &VersionVector, spoiled: &BTreeSet<(SiteId, u64)>) -> Result<()> {
    let held = super::version_vector(state)?;
    let mut fresh = claims.difference(&held);
    for (site, version) in spoiled {
        fresh.remove(*site, *version);
        let ordinal = state.store.borrow_mut().sites.ordinal(state.db, site)?;
        state.note_loose(ordinal, *version)?;
    }
    let mut completed = Vec::new();
    let misses_own = state.store.borrow_mut().misses_own()?;
    for (site, lo, hi) in fresh.ranges() {
        state.see_own(&site, hi)?;
        let mut store = state.store.borrow_mut();
        let ordinal = store.sites.ordinal(state.db, &site)?;
        if ordinal != store.site() || misses_own || hi > store.tail().version {
            completed.push((ordinal, lo, hi));
        }
    }
    state.complete(completed);
    Ok(())
}

struct Apply<'c> {
    state: &'c State,
    changeset: &'c Changeset<'c>,
    sites: Vec<u32>,
    /// Up to which rowid a table has been filled by runs of new rows; `None`: rows are looked up.
    filled: HashMap<u32, Option<i64>>,
    /// The last row of a keyed table was new, so the next is tried as new first.
    expects_new: bool,
    report: Report,
    /// Versions that come in part, by site.
    loose: BTreeMap<u32, RangeSet>,
    /// Versions of which something was refused: not complete.
    spoiled: BTreeSet<(SiteId, u64)>,
}

impl<'c> Apply<'c> {
    fn new(state: &'c State, changeset: &'c Changeset<'c>) -> Result<Apply<'c>> {
        let mut store = state.store.borrow_mut();
        store.refresh()?;
        let sites = changeset
            .sites()
            .iter()
            .map(|id| store.sites.ordinal(state.db, id))
            .collect::<Result<Vec<_>>>()?;
        Ok(Apply {
            state,
            changeset,
            sites,
            filled: HashMap::new(),
            expects_new: true,
            report: Report::default(),
            loose: BTreeMap::new(),
            spoiled: BTreeSet::new(),
        })
    }

    fn run(&mut self) -> Result<()> {
        let _mute = self.state.mute();
        let (db, is_quiet, mut is_unenforced) = (self.state.db, self.wants_quiet()?, false);
        for table in self.changeset.tables() {
            is_unenforced |= self.state.table_named(&table.name)?.is_some_and(|table| table.is_unenforced);
        }
        let mut runs = || if is_quiet { db.without_triggers(|| self.runs()) } else { self.runs() };
        // Once, for each time has statements compiled anew.
        if is_unenforced { db.without_foreign_keys(runs) } else { runs() }
    }

    /// Whether triggers should be off altogether: for speed, or because the user has some.
    fn wants_quiet(&self) -> Result<bool> {
        for table in self.changeset.tables() {
            if let Some(table) = self.state.table_named(&table.name)?
                && !table.info.user_triggers.is_empty()
            {
                return Ok(true);
            }
        }
        let mut rows = 0;
        let mut reader = self.changeset.reader();
        while reader.next_run().map_err(malformed)?.is_some() {
            rows += u64::from(reader.rows_left());
            if rows >= QUIET_ROWS {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn runs(&mut self) -> Result<()> {
        let mut reader = self.changeset.reader();
        while let Some(header) = reader.next_run().map_err(malformed)? {
            let rows = u64::from(reader.rows_left());
            for group in &header.groups {
                let site = self.changeset.sites()[group.site as usize];
                self.state.see_own(&site, group.version_of_row(rows.saturating_sub(1)))?;
            }
            if let Err(refusal) = check(&header, rows) {
                self.refuse(&header, rows, &refusal.to_string());
                continue;
            }
            for group in &header.groups {
                self.note_loose(group.site, group.version, group.version_of_row(rows.saturating_sub(1)));
            }
            let described = &self.changeset.tables()[header.table as usize];
            match self.state.table_named(&described.name)? {
                Some(table) => self.known_run(&mut reader, &header, &described.columns, table, rows)?,
                None => self.unknown_run(&mut reader, &header)?,
            }
        }
        Ok(())
    }

    /// Notes versions that come without a claim: in part, as far as anybody knows.
    fn note_loose(&mut self, site: u32, first: u64, last: u64) {
        let claimed = self.changeset.claims().of_site(self.changeset.sites()[site as usize]);
        if first == 0 || claimed.is_some_and(|claimed| claimed.contains_range(first, last)) {
            return;
        }
        let unclaimed = claimed.map_or_else(
            || RangeSet::of(first, last),
            |claimed| RangeSet::of(first, last).difference(claimed),
        );
        self.loose.entry(self.sites[site as usize]).or_default().union_with(&unclaimed);
    }

    fn refuse(&mut self, header: &RunHeader, rows: u64, reason: &str) {
        let table = &self.changeset.tables()[header.table as usize].name;
        *self.report.refused.entry(format!("table {table:?}: {reason}")).or_default() += rows;
        for group in &header.groups {
            let site = self.changeset.sites()[group.site as usize];
            let last = if group.version_step > 0 { rows.min(1 << 16) } else { 1 };
            self.spoiled.extend((0..last).map(|row| (site, group.version_of_row(row))));
        }
    }

    /// As [`Apply::refuse`], of one row.
    fn refuse_row(&mut self, header: &RunHeader, row: u64, reason: &str) {
        let table = &self.changeset.tables()[header.table as usize].name;
        *self.report.refused.entry(format!("table {table:?}: {reason}")).or_default() += 1;
        for group in &header.groups {
            let site = self.changeset.sites()[group.site as usize];
            self.spoiled.insert((site, group.version_of_row(row)));
        }
    }

    fn known_run(
        &mut self,
        reader: &mut Reader<'c>,
        header: &RunHeader,
        names: &[String],
        table: Rc<Table>,
        rows: u64,
    ) -> Result<()> {
        let translated = translate(header, names, &table, &self.sites);
        let is_plain = !translated.has_unknown
            && !translated.clock.groups.is_empty()
            && !table.is_related
            && translated.steps.iter().all(|step| step.version <= 1);
        if let (Some(first), true, Shape::Integer) = (header.first_key, is_plain, table.shape)
            && rows > 0
            && let Some(last) = first.checked_add_unsigned(rows - 1)
        {
            let run = Run {
                key: Key::Int(first),
                count: rows,
                clock: translated.clock.clone(),
                steps: if rows == 1 {
                    crate::store::clock::natural_steps(&translated.clock)
                } else {
                    translated.steps.clone()
                },
            };
            if self.is_untouched(&table) && self.state.store.borrow_mut().holds(table.id, &run)? {
                self.report.ignored += rows * merge::changes_in(&run.clock);
                return Ok(());
            }
            let floor = self.state.store.borrow().floor();
            if header.cl % 2 == 1
                && header.cl > floor
                && translated.is_shown(&table)
                && self.is_free(&table, first, last)?
            {
                return self.fill(reader, &table, &translated, run);
            }
        }
        self.filled.insert(table.id, None);
        self.row_by_row(reader, header, &table, &translated)
    }

    /// True when this transaction did nothing to the table besides filling it.
    fn is_untouched(&mut self, table: &Table) -> bool {
        let state = self.state;
        let first = || {
            let ops = state.ops.borrow();
            let touched =
                state.store.borrow().is_spilled() || ops.pending().iter().any(|op| op.table == table.id);
            (!touched).then_some(i64::MIN)
        };
        self.filled.entry(table.id).or_insert_with(first).is_some()
    }

    /// True when no row `first ..= last` has a clock or ever had one.
    fn is_free(&mut self, table: &Table, first: i64, last: i64) -> Result<bool> {
        if !self.is_untouched(table) {
            return Ok(false);
        }
        let Some(Some(filled)) = self.filled.get(&table.id) else { return Ok(false) };
        if *filled != i64::MIN && first <= *filled {
            return Ok(false);
        }
        self.state.store.borrow_mut().is_free(table.id, first, last)
    }

    /// Inserts rows that are all new.
    fn fill(
        &mut self,
        reader: &mut Reader<'c>,
        table: &Table,
        translated: &Translated,
        run: Run,
    ) -> Result<()> {
        let mut order = Order::new(&translated.targets);
        let insert = merge::insert_statement(self.state, table, &order.columns)?;
        let first = run.first_int().unwrap_or(0);
        let (mut done, mut from, mut refused) = (0, 0, 0);
        while let Some(key) = reader.next_row(&mut order.values).map_err(malformed)? {
            let RowKey::Integer(rowid) = key else { return Err(malformed("a key that is not an integer")) };
            order.fill(&[ValueRef::Integer(rowid)]);
            match merge::insert_with(self.state, &insert, &order.buffer) {
                Ok(_) => done += 1,
                Err(error) if error.is_constraint() => {
                    if done > from {
                        self.state.record_merge(table.id, true, run.slice(from, done - from));
                    }
                    let row = run.clock_at(rowid.abs_diff(first));
                    let (values, cells) = (order.by_column(), order.typed_cells());
                    let key = [ValueRef::Integer(rowid)];
                    let incoming = Incoming { key: &key, clock: row, values: &values, cells: &cells };
                    self.park_row(table, &incoming, &error.to_string())?;
                    done += 1;
                    refused += 1;
                    from = done;
                }
                Err(error) => return Err(error),
            }
        }
        if done > from {
            self.state.record_merge(table.id, true, run.slice(from, done - from));
        }
        self.report.applied += (done - refused) * merge::changes_in(&run.clock);
        self.filled.insert(table.id, run.last_int());
        self.state.spill_if_heavy()
    }

    fn row_by_row(
        &mut self,
        reader: &mut Reader<'c>,
        header: &RunHeader,
        table: &Table,
        translated: &Translated,
    ) -> Result<()> {
        let run = Run {
            key: Key::Int(0),
            count: u64::from(reader.rows_left()),
            clock: translated.clock.clone(),
            steps: translated.steps.clone(),
        };
        let mut order = Order::new(&translated.targets);
        let mut key: Vec<ValueRef<'_>> = Vec::new();
        let mut walk = Walk::default();
        let mut row = 0;
        while let Some(row_key) = reader.next_row(&mut order.values).map_err(malformed)? {
            key.clear();
            match row_key {
                RowKey::Integer(rowid) => key.push(ValueRef::Integer(rowid)),
                RowKey::Packed(packed) => {
                    if let Err(error) = crsql_core::pack::unpack_into(packed, &mut key) {
                        self.refuse(header, 1, &error.to_string());
                        row += 1;
                        continue;
                    }
                }
            }
            if let Err(error) = merge::check_key(table, &key) {
                self.refuse(header, 1, &error.to_string());
                row += 1;
                continue;
            }
            // Even a row of nothing but unknown columns begins its incarnation.
            let (values, cells) = (order.by_column(), order.typed_cells());
            let incoming = Incoming { key: &key, clock: run.clock_at(row), values: &values, cells: &cells };
            let is_taken = self.merge(table, &incoming, &mut walk)?;
            if !is_taken {
                self.refuse_row(header, row, collect::BEHIND);
            } else if translated.has_unknown {
                self.park_unknown(header, table, translated, &order, &key, row)?;
            }
            row += 1;
            self.state.spill_if_heavy()?;
        }
        Ok(())
    }

    /// Merges a row; false when it could be one whose delete was collected.
    fn merge(&mut self, table: &Table, incoming: &Incoming<'_>, walk: &mut Walk) -> Result<bool> {
        let is_candidate = self.expects_new
            && table.typed.is_empty()
            && incoming.clock.cl == 1
            && !table.is_related
            && matches!(table.shape, Shape::Rowid(_))
            && self.state.store.borrow().floor() == 0
            && incoming.clock.group_of(ROW).is_none()
            && !self.state.may_have_tombstones(table.id)?;
        let outcome = if is_candidate {
            match merge::insert_new(self.state, table, incoming)? {
                Some(outcome) => outcome,
                None => {
                    self.expects_new = false;
                    merge_along(self.state, table, incoming, walk)?
                }
            }
        } else {
            let outcome = merge_along(self.state, table, incoming, walk)?;
            self.expects_new = matches!(outcome, Outcome::Applied(_));
            outcome
        };
        match outcome {
            Outcome::Applied(won) => {
                self.report.applied += won;
                self.report.ignored += merge::changes_in(&incoming.clock).saturating_sub(won);
            }
            Outcome::Hidden(parked) => {
                self.report.parked += parked;
                self.report.ignored += merge::changes_in(&incoming.clock).saturating_sub(parked);
            }
            Outcome::Ignored => self.report.ignored += merge::changes_in(&incoming.clock),
            Outcome::Refused(reason) | Outcome::Clash(reason) => self.park_row(table, incoming, &reason)?,
            Outcome::Behind => return Ok(false),
        }
        Ok(true)
    }

    fn park_row(&mut self, table: &Table, incoming: &Incoming<'_>, reason: &str) -> Result<()> {
        let pk = crsql_core::pack::pack(incoming.key).map_err(Error::refused)?;
        let all = merge::changes_in(&incoming.clock);
        let parked = park::row(self.state, table, &pk, incoming, Kind::Constraint, reason)?;
        self.report.parked += parked;
        self.report.ignored += all.saturating_sub(parked);
        Ok(())
    }

    /// Parks the cells of columns that are unknown here.
    fn park_unknown(
        &mut self,
        header: &RunHeader,
        table: &Table,
        translated: &Translated,
        order: &Order<'_>,
        key: &[ValueRef<'_>],
        row: u64,
    ) -> Result<()> {
        let pk = crsql_core::pack::pack(key).map_err(Error::refused)?;
        for (target, value) in translated.targets.iter().zip(&order.values) {
            let Target::Unknown(group, bit) = target else { continue };
            let name = &self.changeset.tables()[header.table as usize].columns[*bit as usize - 1];
            let reason = park::unknown_column(table, name);
            self.park(header, *group, *bit, name, &pk, value.to_owned_value(), row, &table.name, &reason)?;
        }
        Ok(())
    }

    fn unknown_run(&mut self, reader: &mut Reader<'c>, header: &RunHeader) -> Result<()> {
        let described = &self.changeset.tables()[header.table as usize];
        let reason = format!("table {:?} is not replicated here", described.name);
        let mut values = Vec::new();
        let mut row = 0;
        while let Some(key) = reader.next_row(&mut values).map_err(malformed)? {
            let pk = match key {
                RowKey::Integer(rowid) => {
                    crsql_core::pack::pack(&[ValueRef::Integer(rowid)]).map_err(Error::refused)?
                }
                RowKey::Packed(pk) => pk.to_vec(),
            };
            if let Err(error) = crsql_core::pack::unpack(&pk) {
                self.refuse(header, 1, &error.to_string());
                row += 1;
                continue;
            }
            let mut next_value = values.iter();
            for (index, group) in header.groups.iter().enumerate() {
                for bit in &group.columns {
                    let (name, value) = match bit {
                        0 => (SENTINEL, Value::Null),
                        bit => (
                            described.columns[*bit as usize - 1].as_str(),
                            next_value.next().map_or(Value::Null, |value| value.to_owned_value()),
                        ),
                    };
                    self.park(header, index, *bit, name, &pk, value, row, &described.name, &reason)?;
                }
            }
            row += 1;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one change, taken apart
    fn park(
        &mut self,
        header: &RunHeader,
        group: usize,
        bit: u32,
        column: &str,
        pk: &[u8],
        value: Value,
        row: u64,
        table: &str,
        reason: &str,
    ) -> Result<()> {
        let group = &header.groups[group];
        let offset = group
            .columns
            .iter()
            .zip(group.seq_offsets())
            .find(|(b, _)| **b == bit)
            .map_or(0, |(_, offset)| offset);
        let change = Loose {
            table: table.to_owned(),
            pk: pk.to_vec(),
            cid: if bit == 0 { column.to_owned() } else { park::cid_of(column).into_owned() },
            value,
            col_version: if bit == 0 { header.cl } else { group.col_version },
            cl: header.cl,
            stamp: Stamp {
                site: self.changeset.sites()[group.site as usize],
                version: group.version_of_row(row),
                seq: group.seq_of_row(row) + offset,
            },
            db_version: 0,
        };
        // Of a known table's unknown column the row has been judged.
        let admission = match self.state.table_named(table)? {
            Some(_) => Admission::Take,
            None => collect::admit_parked(self.state, &change)?,
        };
        if admission == Admission::Behind {
            self.refuse_row(header, row, collect::BEHIND);
        } else if admission == Admission::Take && park::put(self.state, &change, Kind::Schema, reason)? {
            self.report.parked += 1;
        } else {
            self.report.ignored += 1;
        }
        Ok(())
    }
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::refused(format_args!("crsql_apply: {error}; ask the sender for it again"))
}
