//! Streams runs of rows into a changeset. Nothing is allocated per row.

use std::collections::HashMap;

use super::header::{self, Claim, Table, Told};
use super::{Compress, IMPLIED_ROWS_MAX, RunHeader, envelope, run, value, varint};
use crate::ids::SiteId;
use crate::merge::TieBreak;
use crate::value::ValueRef;
use crate::version_vector::VersionVector;

/// Builds one changeset.
///
/// Call [`begin_run`](Self::begin_run), then for every row [`key`](Self::key) (unless the run has a
/// [`first_key`](RunHeader::first_key)), [`value`](Self::value) for every value in group and bit order, and
/// [`end_row`](Self::end_row); then the next run, and at last [`finish`](Self::finish). What is passed comes from
/// this program, not from a peer: a wrong order or count is a bug of the caller, caught in debug builds.
#[derive(Debug)]
pub struct Writer {
    tie_break: TieBreak,
    sites: Vec<SiteId>,
    site_indices: HashMap<SiteId, u32>,
    tables: Vec<Table>,
    table_indices: HashMap<String, Vec<u32>>,
    /// About how long the header will be.
    header_len: usize,
    runs: Vec<u8>,
    run: Option<OpenRun>,
    implied_rows: u64,
    told: Option<Told>,
}

#[derive(Debug)]
struct OpenRun {
    start: usize,
    rows_at: usize,
    rows: u32,
    keys: Keys,
    /// Values each row must have and values the current one has; kept in debug builds only.
    values: (usize, usize),
}

#[derive(Debug)]
enum Keys {
    /// With each row, or known from the first because the rows have values.
    AsGiven,
    /// Rows take no bytes; the header is kept to continue otherwise when there are too many of them.
    Implied(RunHeader),
    /// The same rows past the limit: end_row writes this key.
    Spelled(i64),
}

impl Writer {
    /// An empty changeset of a database with this tie-break.
    pub fn new(tie_break: TieBreak) -> Self {
        Writer {
            tie_break,
            sites: Vec::new(),
            site_indices: HashMap::new(),
            tables: Vec::new(),
            table_indices: HashMap::new(),
            header_len: 0,
            runs: Vec::new(),
            run: None,
            implied_rows: 0,
            told: None,
        }
    }

    /// Says what the writer has collected, so that a receiver that lacks any of it notices.
    pub fn tell_collected(&mut self, told: Option<Told>) {
        self.told = told.filter(|told| !told.collected.is_empty());
    }

    /// The index of `site` in this changeset, for [`GroupHeader::site`](super::GroupHeader::site).
    pub fn site(&mut self, site: SiteId) -> u32 {
        *self.site_indices.entry(site).or_insert_with(|| {
            self.sites.push(site);
            self.header_len += site.0.len() + 2;
            self.sites.len() as u32 - 1
        })
    }

    /// The index of a table in this changeset, for [`RunHeader::table`].
    ///
    /// `columns` are all non-key columns that the table's runs mention. The same name with another list is
    /// another entry.
    pub fn table<S: AsRef<str>>(&mut self, name: &str, key_columns: u32, columns: &[S]) -> u32 {
        let same = |index: &&u32| {
            let table = &self.tables[**index as usize];
            table.key_columns == key_columns
                && table.columns.len() == columns.len()
                && table.columns.iter().zip(columns).all(|(a, b)| a == b.as_ref())
        };
        if let Some(index) = self.table_indices.get(name).and_then(|indices| indices.iter().find(same)) {
            return *index;
        }
        let index = self.tables.len() as u32;
        let columns: Vec<String> = columns.iter().map(|column| column.as_ref().to_owned()).collect();
        self.header_len += name.len() + 6 + columns.iter().map(|column| column.len() + 2).sum::<usize>();
        self.tables.push(Table { name: name.to_owned(), key_columns, columns });
        self.table_indices.entry(name.to_owned()).or_default().push(index);
        index
    }

    /// Starts a run; ends the one before if that has not been done. At most 2^32 - 1 rows follow.
    pub fn begin_run(&mut self, run: &RunHeader) {
        self.end_run();
        let values = run.values_per_row();
        let start = self.runs.len();
        let (rows_at, keys) = match run.first_key {
            Some(key) if values == 0 && self.implied_rows >= IMPLIED_ROWS_MAX => {
                let spelled = RunHeader { first_key: None, ..run.clone() };
                (run::push(&mut self.runs, &spelled), Keys::Spelled(key))
            }
            Some(_) if values == 0 => (run::push(&mut self.runs, run), Keys::Implied(run.clone())),
            _ => (run::push(&mut self.runs, run), Keys::AsGiven),
        };
        self.run = Some(OpenRun { start, rows_at, rows: 0, keys, values: (values, 0) });
    }

    /// The key of the next row, packed as in `crsql_changes.pk`. Only for a run without a first key.
    #[inline]
    pub fn key(&mut self, pk: &[u8]) {
        varint::push(&mut self.runs, pk.len() as u64);
        self.runs.extend_from_slice(pk);
    }

    /// The next value of the row.
    #[inline]
    pub fn value(&mut self, value: ValueRef<'_>) {
        #[cfg(debug_assertions)]
        if let Some(run) = &mut self.run {
            run.values.1 += 1;
        }
        value::push(&mut self.runs, value);
    }

    /// The row is complete.
    #[inline]
    pub fn end_row(&mut self) {
        let run = self.run.as_mut().expect("end_row comes after begin_run");
        debug_assert_eq!(
            run.values.0,
            std::mem::take(&mut run.values.1),
            "a row has the values of its groups"
        );
        run.rows = run.rows.checked_add(1).expect("a run has less than 2^32 rows");
        if !matches!(run.keys, Keys::AsGiven) {
            self.end_row_without_values();
        }
    }

    fn end_row_without_values(&mut self) {
        let Some(run) = &mut self.run else { return };
        match &mut run.keys {
            Keys::AsGiven => {}
            Keys::Implied(header) => {
                self.implied_rows += 1;
                if self.implied_rows == IMPLIED_ROWS_MAX {
                    let rest = header.after(run.rows.into());
                    self.begin_run(&rest);
                }
            }
            Keys::Spelled(key) => {
                let key_now = *key;
                *key = key_now.wrapping_add(1);
                let mut pk = vec![1];
                crate::pack::pack_value(ValueRef::Integer(key_now), &mut pk);
                self.key(&pk);
            }
        }
    }

    /// The run is complete; a run without rows leaves no trace.
    pub fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        if run.rows == 0 {
            self.runs.truncate(run.start);
        } else {
            self.runs[run.rows_at..run.rows_at + 4].copy_from_slice(&run.rows.to_le_bytes());
        }
    }

    /// Whether no row has been written yet.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() || self.run.as_ref().is_some_and(|run| run.start == 0 && run.rows == 0)
    }

    /// About how many bytes the changeset has so far, without claims and uncompressed.
    pub fn bytes_so_far(&self) -> usize {
        self.header_len + self.runs.len()
    }

    /// The changeset.
    ///
    /// `claims` are the site versions that whoever applies all of it then holds completely. `compress` asks for
    /// lz4 where that makes it smaller.
    pub fn finish(self, claims: &VersionVector, compress: bool) -> Vec<u8> {
        self.finish_as(claims, if compress { Compress::Yes } else { Compress::No })
    }

    /// As [`finish`](Self::finish), with more choice.
    pub fn finish_as(mut self, claims: &VersionVector, compress: Compress) -> Vec<u8> {
        self.end_run();
        let claims = self.claims(claims);
        let header = header::encode(self.tie_break, &self.sites, &self.tables, &claims, self.told.as_ref());
        let mut header_len = Vec::with_capacity(10);
        varint::push(&mut header_len, header.len() as u64);
        envelope::seal(&[&header_len, &header], self.runs, compress)
    }

    fn claims(&mut self, claims: &VersionVector) -> Vec<Claim> {
        claims.iter().map(|(site, ranges)| (self.site(*site), ranges.iter().collect())).collect()
    }
}
