//! Looks into what is pushed before anything of it is recorded.
//!
//! A frame must contain what it says it does and nothing else: a relay passes it on to people who trust the relay. This
//! decides only whether a transaction may be taken; what it means is the extension's business.

use std::collections::BTreeMap;

use crsql_core::changeset::{self, Changeset, RunHeader};
use crsql_core::collect::Collected;
use crsql_core::ids::SiteId;
use crsql_core::merge::{Clocks, TieBreak, validate, validate_row};
use crsql_core::value::ValueRef;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Code;
use crsql_protocol::message::{CODEC_PLAIN, CODEC_ZSTD, Frame};
use crsql_protocol::wire::Blob;

use crate::config::Settings;

/// What is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Checker {
    frame_bytes: usize,
    raw_bytes: usize,
    tables: usize,
    columns: usize,
    key_bytes: usize,
    cell_bytes: usize,
    cell_warning: usize,
}

/// What was found in a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Whose changes are in it, and the greatest version of each.
    pub sites: BTreeMap<SiteId, u64>,
    /// The versions that the changeset claims.
    pub claims: VersionVector,
    /// What its author has seen of the deletes that were collected.
    pub collected: Option<Collected>,
    /// How many cells are larger than what is usual.
    pub large_cells: u64,
    /// The greatest causal length and col_version.
    pub clocks: (u64, u64),
}

impl Checker {
    /// With the limits of the settings.
    pub fn new(settings: &Settings) -> Checker {
        Checker {
            frame_bytes: settings.frame_bytes.bytes(),
            raw_bytes: settings.raw_bytes.bytes(),
            tables: settings.tables,
            columns: settings.columns,
            key_bytes: settings.key_bytes.bytes(),
            cell_bytes: settings.cell_bytes.bytes(),
            cell_warning: settings.cell_warning.bytes(),
        }
    }

    /// Checks a frame for a room that decides ties in this way.
    pub fn frame(&self, frame: &Frame, tie_break: u8) -> Result<Contents, Code> {
        if frame.body.0.len() > self.frame_bytes {
            return Err(Code::TX_TOO_LARGE);
        }
        let plain;
        let body = match frame.codec {
            CODEC_PLAIN => &frame.body.0,
            CODEC_ZSTD => {
                plain = unpacked(&frame.body.0, self.raw_bytes)?;
                &plain
            }
            _ => return Err(Code::CODEC),
        };
        let limits = changeset::Limits { raw_bytes: self.raw_bytes };
        let changeset = Changeset::open(body, &limits).map_err(|_| Code::BODY)?;
        if tie_break_number(changeset.tie_break()) != tie_break {
            return Err(Code::BODY);
        }
        let too_wide = changeset.tables().iter().any(|table| table.columns.len() > self.columns);
        if too_wide || changeset.tables().len() > self.tables {
            return Err(Code::QUOTA);
        }
        if changeset.tables().iter().any(|table| is_internal(&table.name)) {
            return Err(Code::BODY);
        }
        let contents = self.walk(frame, &changeset)?;
        let claims = changeset.claims();
        let claims_more = claims
            .ranges()
            .any(|(site, lo, hi)| (site, lo, hi) != (frame.site, frame.site_version, frame.site_version));
        if !frame.is_delta() && claims_more {
            return Err(Code::BODY);
        }
        let collected = changeset.told().map(|told| told.collected.clone());
        Ok(Contents { claims: claims.clone(), collected, ..contents })
    }

    fn walk(&self, frame: &Frame, changeset: &Changeset<'_>) -> Result<Contents, Code> {
        let mut contents = Contents::default();
        let mut reader = changeset.reader();
        let mut values: Vec<ValueRef<'_>> = Vec::new();
        while let Some(run) = reader.next_run().map_err(|_| Code::BODY)? {
            let last = u64::from(reader.rows_left()).saturating_sub(1);
            for group in &run.groups {
                let site = *changeset.sites().get(group.site as usize).ok_or(Code::BODY)?;
                let newest = contents.sites.entry(site).or_default();
                *newest = group.version_of_row(last).max(group.version).max(*newest);
                if !frame.is_delta() {
                    if site != frame.site {
                        return Err(Code::FOREIGN_SITE);
                    }
                    if group.version != frame.site_version || group.version_of_row(last) != group.version {
                        return Err(Code::BODY);
                    }
                }
            }
            clocks(&run, last, frame)?;
            let col_version = run.groups.iter().map(|group| group.col_version).max().unwrap_or(0);
            contents.clocks = (contents.clocks.0.max(run.cl), contents.clocks.1.max(col_version));
            while let Some(key) = reader.next_row(&mut values).map_err(|_| Code::BODY)? {
                let key_bytes = match key {
                    changeset::RowKey::Integer(_) => 9,
                    changeset::RowKey::Packed(key) => key.len(),
                };
                if key_bytes > self.key_bytes || values.iter().any(|value| size(value) > self.cell_bytes) {
                    return Err(Code::QUOTA);
                }
                let large = values.iter().filter(|value| size(value) > self.cell_warning);
                contents.large_cells += large.count() as u64;
            }
        }
        Ok(contents)
    }
}

/// Every clock of a run lies between those of its first and last row.
fn clocks(run: &RunHeader, last: u64, frame: &Frame) -> Result<(), Code> {
    for group in &run.groups {
        for row in [0, last] {
            let (version, seq) = (group.version_of_row(row), group.seq_of_row(row));
            let clocks = Clocks { cl: run.cl, col_version: group.col_version, version, seq };
            validate(&clocks).map_err(|_| Code::CLOCK)?;
            if group.has_row() {
                validate_row(&Clocks { col_version: run.cl, ..clocks }).map_err(|_| Code::CLOCK)?;
            }
            if !frame.is_delta() && !(frame.seq_lo..=frame.seq_hi).contains(&seq) {
                return Err(Code::SEQ_RANGE);
            }
        }
    }
    Ok(())
}

/// The bytes of a zstd frame, never more than `limit`.
fn unpacked(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Code> {
    use std::io::Read;
    let decoder = zstd::Decoder::with_buffer(bytes).map_err(|_| Code::BODY)?;
    let mut plain = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut plain).map_err(|_| Code::BODY)?;
    if plain.len() > limit {
        return Err(Code::TX_TOO_LARGE);
    }
    Ok(plain)
}

/// The same frame for somebody who cannot decompress.
pub fn plain(frame: &Frame, raw_bytes: usize) -> Result<Frame, Code> {
    match frame.codec {
        CODEC_ZSTD => {
            let body = Blob(unpacked(&frame.body.0, raw_bytes)?);
            Ok(Frame { codec: CODEC_PLAIN, body, ..frame.clone() })
        }
        _ => Ok(frame.clone()),
    }
}

/// The number of a tie-break in Hello.
pub fn tie_break_number(tie_break: TieBreak) -> u8 {
    match tie_break {
        TieBreak::Site => 0,
        TieBreak::Value => 1,
    }
}

fn is_internal(table: &str) -> bool {
    let table = table.to_ascii_lowercase();
    ["sqlite_", "crsql_", "__crsql_"].iter().any(|prefix| table.starts_with(prefix))
        || table.contains("__crsql_")
        || table.is_empty()
}

fn size(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}
