//! Puts together the pushes of one cut: deltas and claims count only once the last of them is here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};

use crsql_core::collect::Collected;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Code;
use crsql_protocol::message::{Frame, Push};

use super::check::{Checker, Contents};
use super::state::Checked;

/// Beyond so many bytes the deltas of an open cut wait in a file.
const MEMORY_BYTES: u64 = 1 << 20;

/// The open cut of one connection. Nothing of it is acknowledged as held before it is whole, so nothing of it has to
/// survive.
#[derive(Debug, Default)]
pub struct Cuts {
    deltas: Vec<Frame>,
    /// The deltas before those, with their lengths.
    file: Option<File>,
    sites: BTreeMap<SiteId, u64>,
    /// What the author of every delta has seen of the deletes that were collected.
    collected: Option<Collected>,
    clocks: (u64, u64),
    claimed: VersionVector,
    claims: VersionVector,
    chains: Vec<crsql_protocol::message::ChainAt>,
    bytes: u64,
    refused: Option<Code>,
}

impl Cuts {
    /// Bytes of deltas that wait for the end of the cut.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Looks through a push. `bytes_max` bounds what a cut may hold.
    pub fn check(&mut self, push: Push, checker: &Checker, tie_break: u8, bytes_max: u64) -> Checked {
        let (mut frames, mut large_cells) = (Vec::new(), 0);
        for frame in push.frames {
            let contents = checker.frame(&frame, tie_break);
            large_cells += contents.as_ref().map_or(0, |contents| contents.large_cells);
            match (frame.is_delta(), contents) {
                (true, Ok(contents)) => self.add(frame, &contents, bytes_max),
                (true, Err(code)) => self.refuse(code),
                (false, contents) => frames.push((frame, contents)),
            }
        }
        self.claims.union_with(&push.claims);
        self.chains.extend(push.chains);
        let mut checked = Checked {
            id: push.id,
            frames,
            deltas: Vec::new(),
            delta_sites: BTreeMap::new(),
            collected: None,
            clocks: (0, 0),
            claims: VersionVector::default(),
            chains: Vec::new(),
            refused: None,
            large_cells,
        };
        if push.more {
            // A frame that is set aside spoils the claims of its cut.
            if let Some(code) = checked.frames.iter().find_map(|(_, contents)| contents.as_ref().err()) {
                self.refuse(*code);
            }
            return checked;
        }
        let mut cut = std::mem::take(self);
        if cut.read_back().is_err() {
            cut.refuse(Code::UNAVAILABLE);
        }
        checked.refused = cut.refused;
        if !cut.claims.is_superset(&cut.claimed) {
            checked.refused.get_or_insert(Code::BODY);
        }
        (checked.deltas, checked.delta_sites) = (cut.deltas, cut.sites);
        (checked.claims, checked.chains) = (cut.claims, cut.chains);
        (checked.collected, checked.clocks) = (cut.collected, cut.clocks);
        checked
    }

    fn add(&mut self, frame: Frame, contents: &Contents, bytes_max: u64) {
        if self.refused.is_some() {
            return;
        }
        let is_least = self.deltas.is_empty() && self.file.is_none()
            || matches!((&self.collected, &contents.collected), (Some(least), Some(this)) if !this.covers(least))
            || contents.collected.is_none();
        if is_least {
            self.collected = contents.collected.clone();
        }
        self.bytes += frame.wire_bytes() as u64;
        if self.bytes > bytes_max {
            return self.refuse(Code::TX_TOO_LARGE);
        }
        for (site, newest) in &contents.sites {
            let known = self.sites.entry(*site).or_default();
            *known = (*known).max(*newest);
        }
        let (cl, col_version) = contents.clocks;
        self.clocks = (self.clocks.0.max(cl), self.clocks.1.max(col_version));
        self.claimed.union_with(&contents.claims);
        self.deltas.push(frame);
        if self.bytes > MEMORY_BYTES && self.put_aside().is_err() {
            self.refuse(Code::UNAVAILABLE);
        }
    }

    fn put_aside(&mut self) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        for frame in self.deltas.drain(..) {
            let bytes = rmp_serde::to_vec(&frame).map_err(std::io::Error::other)?;
            file.write_all(&[&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat())?;
        }
        Ok(())
    }

    /// All deltas in memory, in their order.
    fn read_back(&mut self) -> std::io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.rewind()?;
        let mut file = BufReader::new(file);
        let (mut frames, mut len) = (Vec::new(), [0; 4]);
        while !file.fill_buf()?.is_empty() {
            file.read_exact(&mut len)?;
            let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
            file.read_exact(&mut bytes)?;
            frames.push(crsql_core::msgpack::from_slice(&bytes).map_err(std::io::Error::other)?);
        }
        frames.append(&mut self.deltas);
        self.deltas = frames;
        Ok(())
    }

    fn refuse(&mut self, code: Code) {
        self.refused.get_or_insert(code);
        (self.deltas, self.file) = (Vec::new(), None);
    }
}
