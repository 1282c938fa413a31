//! The header of a payload: what the runs refer to by index, and the claims.
//!
//! A MessagePack array: `[tie_break, [site..], [[table, key columns, [column..]]..], [[site index, [[lo, hi]..]]..],
//! {extensions}]`. Lists grow only as their items are really read, so a declared count allocates nothing.

use std::collections::HashSet;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::COLUMNS_MAX;
use super::error::{ChangesetError, Result};
use crate::collect::Collected;
use crate::ids::SiteId;
use crate::limits::{COLUMN_NAME_MAX, SITE_VERSION_MAX, TABLE_NAME_MAX};
use crate::merge::TieBreak;
use crate::msgpack::{self, Malformed, Read, Reader};
use crate::version_vector::VersionVector;

/// A table as the writer knew it, which may be more or fewer columns than the reader's table has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Table {
    /// The table's name.
    pub name: String,
    /// How many columns its primary key has, 1 to 255.
    pub key_columns: u32,
    /// The names of the non-key columns that its runs may mention; bit `i + 1` of a group is column `i`.
    pub columns: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) tie_break: TieBreak,
    pub(super) sites: Vec<SiteId>,
    pub(super) tables: Vec<Table>,
    pub(super) claims: VersionVector,
    pub(super) collected: Option<Told>,
}

/// What the writer of a changeset has collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it collected or heard of.
    pub collected: Collected,
    /// The changeset has everything that the writer held.
    pub is_whole: bool,
}

/// One site of the claims on the wire: its index, and the versions held completely as inclusive ranges.
pub(super) type Claim = (u32, Vec<(u64, u64)>);

/// Writes a header. Every index in `claims` is one of `sites`.
pub(super) fn encode(
    tie_break: TieBreak,
    sites: &[SiteId],
    tables: &[Table],
    claims: &[Claim],
    told: Option<&Told>,
) -> Vec<u8> {
    let tie_break = match tie_break {
        TieBreak::Site => 0u8,
        TieBreak::Value => 1,
    };
    rmp_serde::to_vec(&(tie_break, sites, tables, claims, Extensions { collected: told.cloned() }))
        .expect("serialising numbers, strings and lists into memory cannot fail")
}

/// Reads and checks a header.
pub(super) fn decode(bytes: &[u8]) -> Result<Header> {
    let tokens = msgpack::tokens(bytes)?;
    let mut input = msgpack::reader(&tokens);
    input.tuple(5)?;
    let tie_break = match input.number(u64::MAX)? {
        0 => TieBreak::Site,
        1 => TieBreak::Value,
        other => return Err(faulty(format!("tie-break {other} is neither 0 (site) nor 1 (value)"))),
    };
    let sites = Vec::<SiteId>::read(&mut input)?;
    let tables = (0..input.list()?).map(|_| table(&mut input)).collect::<Result<Vec<_>>>()?;
    let claims = claims(&mut input, &sites)?;
    let collected = extensions(&mut input)?;
    if collected.as_ref().is_some_and(|told| !told.collected.is_sound()) {
        return Err(faulty("a floor that no row could start above".to_owned()));
    }
    Ok(Header { tie_break, sites, tables, claims, collected })
}

fn table(input: &mut Reader<'_, '_>) -> Result<Table> {
    input.tuple(3)?;
    let (name, key_columns) = (input.text()?, u32::read(input)?);
    let columns = (0..input.list()?).map(|_| Ok(input.text()?)).collect::<Result<Vec<_>>>()?;
    if name.len() > TABLE_NAME_MAX {
        return Err(faulty(format!("a table name of {} bytes, the limit is {TABLE_NAME_MAX}", name.len())));
    }
    if !(1..=255).contains(&key_columns) {
        return Err(faulty(format!("table {name:?} has {key_columns} key columns, it may have 1 to 255")));
    }
    if columns.len() > COLUMNS_MAX {
        return Err(faulty(format!(
            "table {name:?} lists {} columns, the limit is {COLUMNS_MAX}",
            columns.len()
        )));
    }
    let mut seen = HashSet::with_capacity(columns.len());
    for column in &columns {
        if column.len() > COLUMN_NAME_MAX {
            let len = column.len();
            return Err(faulty(format!(
                "a column name of {len} bytes in table {name:?}, the limit is {COLUMN_NAME_MAX}"
            )));
        }
        if !seen.insert(*column) {
            return Err(faulty(format!("table {name:?} lists column {column:?} twice")));
        }
    }
    Ok(Table {
        name: name.to_owned(),
        key_columns,
        columns: columns.into_iter().map(str::to_owned).collect(),
    })
}

fn claims(input: &mut Reader<'_, '_>, sites: &[SiteId]) -> Result<VersionVector> {
    let mut claims = VersionVector::default();
    for _ in 0..input.list()? {
        input.tuple(2)?;
        let site = u32::read(input)?;
        let Some(&site) = sites.get(site as usize) else {
            return Err(faulty(format!("a claim for site {site} of {}", sites.len())));
        };
        if claims.of_site(site).is_some() {
            return Err(faulty(format!("site {site} has two claims")));
        }
        // In ascending order each insertion is an append; backwards they would take quadratic time.
        let mut after = 0;
        for _ in 0..input.list()? {
            let (lo, hi) = <(u64, u64)>::read(input)?;
            if lo <= after || lo > hi || hi > SITE_VERSION_MAX {
                let reason =
                    format!("a claim of versions {lo} to {hi} after {after}, they ascend from 1 to 2^48");
                return Err(faulty(reason));
            }
            claims.insert_range(site, lo, hi);
            after = hi;
        }
    }
    Ok(claims)
}

#[cold]
fn faulty(reason: String) -> ChangesetError {
    ChangesetError::Header(reason)
}

/// The map at the end: hints can be added to it without a new format. What is unknown is read past.
#[derive(Default)]
struct Extensions {
    collected: Option<Told>,
}

/// The name of the extension that tells what was collected: `[floor, deletes, is whole]`.
const COLLECTED: &str = "collected";

impl Serialize for Extensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(usize::from(self.collected.is_some())))?;
        if let Some(Told { collected, is_whole }) = &self.collected {
            map.serialize_entry(COLLECTED, &(collected.floor, &collected.deletes, is_whole))?;
        }
        map.end()
    }
}

fn extensions(input: &mut Reader<'_, '_>) -> Result<Option<Told>> {
    let mut told = None;
    for _ in 0..input.map()? {
        if input.text()? == COLLECTED {
            input.tuple(3)?;
            let collected = Collected { floor: u64::read(input)?, deletes: VersionVector::read(input)? };
            told = Some(Told { collected, is_whole: bool::read(input)? });
        } else {
            input.skip();
        }
    }
    Ok(told)
}

impl From<Malformed> for ChangesetError {
    fn from(error: Malformed) -> ChangesetError {
        faulty(error.to_string())
    }
}
