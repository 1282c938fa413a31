//! Reads for one connection what it lacks. Nothing is kept between reads but a position.

use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::holdings::Needs;
use crsql_protocol::message::{DigestRange, Frame};
use crsql_protocol::session::{Parcel, Tail};

use super::{Room, check, recent};
use crate::journal::{Entry, JournalError};
use crate::store::Fill;

/// Something of which a part was read.
#[derive(Debug)]
pub enum Progress {
    /// A cut of the journal.
    Cut(Section),
    /// A delta from the room's database.
    Fill(Box<Fill>),
}

/// A part of a cut: the position after which it goes on, and its last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    after: u64,
    last: u64,
}

/// What the journal has of the needs.
#[derive(Debug)]
pub enum Sought {
    /// This.
    Answer(Answer),
    /// Not all of it any more: see [`Room::fill`].
    Trimmed,
}

/// What was read of the needs.
#[derive(Debug)]
pub struct Answer {
    /// The parcel.
    pub parcel: Parcel,
    /// What goes on in the next answer.
    pub progress: Option<Progress>,
}

impl Room {
    /// The journal after a position, about `bytes` of it.
    pub fn tail(&self, after: u64, bytes: u64, zstd: bool) -> Result<Tail, JournalError> {
        let entries = self.context.journal.read(self.key, after, bytes)?;
        self.context.metrics.tail_reads.add(1);
        check_continuous(self.key.journal, &entries, after)?;
        let upto = entries.last().map_or(after, |entry| entry.pos);
        let more = entries.last().is_some_and(|entry| entry.more);
        let unpack = (!zstd).then_some(self.context.settings.raw_bytes.bytes());
        let items = entries.iter().map(|entry| &entry.item);
        let Some((frames, claims, chains)) = recent::gathered(items, unpack) else {
            return Err(self.spoilt());
        };
        Ok(Tail { after, upto, frames, claims, chains, more })
    }

    /// The journal after a position up to the end of a cut, decompressed: for readers that keep nothing.
    pub fn whole_tail(&self, after: u64, bytes: u64) -> Result<Tail, JournalError> {
        let mut tail = self.tail(after, bytes, false)?;
        while tail.more {
            let Tail { upto, frames, claims, chains, more, .. } = self.tail(tail.upto, bytes, false)?;
            (tail.upto, tail.more) = (upto, more);
            tail.frames.extend(frames);
            tail.claims.union_with(&claims);
            tail.chains.extend(chains);
        }
        Ok(tail)
    }

    /// Some of what is needed, about `bytes` of it.
    pub fn versions(
        &self,
        needs: &Needs,
        bytes: u64,
        zstd: bool,
        progress: Option<Progress>,
    ) -> Result<Sought, JournalError> {
        self.context.metrics.needs_reads.add(1);
        let mut gathered = Gathered { bytes, ..Gathered::default() };
        match progress {
            Some(Progress::Fill(fill)) => return self.go_on(needs, bytes, fill).map(Sought::Answer),
            Some(Progress::Cut(section)) => self.cut(section, bytes, &mut gathered)?,
            None => self.search(needs, &mut gathered)?,
        }
        if gathered.is_trimmed {
            return Ok(Sought::Trimmed);
        }
        let limit = self.context.settings.raw_bytes.bytes();
        let frames = match zstd {
            true => gathered.frames,
            false => {
                let plain = gathered.frames.iter().map(|frame| check::plain(frame, limit));
                plain.collect::<Result<_, _>>().map_err(|_| self.spoilt())?
            }
        };
        let Gathered { claims, chains, more, progress, .. } = gathered;
        let progress = progress.map(Progress::Cut);
        Ok(Sought::Answer(Answer { parcel: Parcel { frames, claims, chains, more }, progress }))
    }

    /// The same from the room's database. It may take as long as the database is behind.
    pub fn fill(&self, needs: &Needs, bytes: u64, zstd: bool) -> Result<Answer, JournalError> {
        let fill = self.store.fill(needs, zstd).map_err(|error| self.failed_reading(&error))?;
        self.go_on(needs, bytes, Box::new(fill))
    }

    fn go_on(&self, needs: &Needs, bytes: u64, mut fill: Box<Fill>) -> Result<Answer, JournalError> {
        let mut parcel = fill.next(bytes).map_err(|error| self.failed_reading(&error))?;
        let mut open = needs.clone();
        open.remove(&parcel.claims);
        // Chunks of what is not whole anywhere are still in the journal.
        parcel.more |= !open.partial.is_empty();
        let progress = (!fill.is_over()).then_some(Progress::Fill(fill));
        Ok(Answer { parcel, progress })
    }

    /// Facts of the rows in some ranges, as deltas without claims.
    pub fn rows(&self, ranges: &[DigestRange], bytes: u64) -> Result<Parcel, JournalError> {
        self.store.rows(ranges, bytes).map_err(|error| self.failed_reading(&error))
    }

    fn failed_reading(&self, error: &dyn std::fmt::Display) -> JournalError {
        let text = format!("the database of room {:?} cannot be read: {error}", self.name);
        JournalError::Sqlite { journal: self.key.journal, text, broken: false }
    }

    fn search(&self, needs: &Needs, gathered: &mut Gathered) -> Result<(), JournalError> {
        let all = RangeSet::of(0, u64::MAX);
        let whole = needs.whole.ranges().map(|(site, lo, hi)| (site, lo, hi, &all));
        let partial = needs.partial.iter().map(|(&(site, version), seqs)| (site, version, version, seqs));
        let mut cuts = std::collections::BTreeSet::new();
        for (site, lo, hi, seqs) in whole.chain(partial) {
            if gathered.is_full() {
                gathered.more = true;
                break;
            }
            let mut next = Some(lo);
            while let Some(lo) = next.filter(|_| !gathered.is_full()) {
                let found = self.context.journal.find(self.key, site, lo, hi, gathered.left())?;
                if self.floor() > 0 {
                    let upto = found.next.map_or(hi, |next| next - 1);
                    let lacking = RangeSet::of(lo, upto).difference(&found.covered);
                    gathered.is_trimmed |= self.holds_any(site, &lacking);
                }
                found.frames.into_iter().for_each(|frame| gathered.add(frame, seqs));
                cuts.extend(found.cuts);
                next = found.next;
            }
            gathered.more |= next.is_some();
        }
        // Frames first: a cut is sent whole, and its claims take with them whatever else it covers.
        if gathered.frames.is_empty()
            && let Some((first, last)) = cuts.pop_first()
        {
            gathered.more = true;
            return self.cut(Section { after: first - 1, last }, gathered.bytes, gathered);
        }
        gathered.more |= !cuts.is_empty();
        Ok(())
    }

    /// Reads on in a cut.
    fn cut(&self, at: Section, bytes: u64, gathered: &mut Gathered) -> Result<(), JournalError> {
        let entries = self.context.journal.read(self.key, at.after, bytes)?;
        check_continuous(self.key.journal, &entries, at.after)?;
        let within: Vec<Entry> = entries.into_iter().filter(|entry| entry.pos <= at.last).collect();
        let upto = within.last().map_or(at.last, |entry| entry.pos);
        let Some((frames, claims, chains)) = recent::gathered(within.iter().map(|entry| &entry.item), None)
        else {
            return Err(self.spoilt());
        };
        gathered.frames.extend(frames);
        gathered.claims.union_with(&claims);
        gathered.chains.extend(chains);
        gathered.progress = (upto < at.last).then_some(Section { after: upto, ..at });
        // Whether more is needed than this cut, the session knows.
        gathered.more = true;
        Ok(())
    }

    fn spoilt(&self) -> JournalError {
        let text = format!("a frame of room {:?} cannot be read any more", self.name);
        JournalError::Sqlite { journal: self.key.journal, text, broken: false }
    }
}

#[derive(Default)]
struct Gathered {
    bytes: u64,
    taken: u64,
    frames: Vec<Frame>,
    claims: VersionVector,
    chains: Vec<crsql_protocol::message::ChainAt>,
    more: bool,
    progress: Option<Section>,
    /// Something that is held is not in the journal any more.
    is_trimmed: bool,
}

/// Positions have no holes but where the journal was trimmed.
fn check_continuous(journal: usize, entries: &[Entry], after: u64) -> Result<(), JournalError> {
    match entries.first() {
        Some(first) if first.pos != after + 1 => Err(JournalError::Trimmed(journal)),
        _ => Ok(()),
    }
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.taken >= self.bytes || self.frames.len() >= crsql_protocol::limits::FRAMES_PER_MESSAGE_MAX
    }

    fn left(&self) -> u64 {
        self.bytes - self.taken.min(self.bytes)
    }

    fn add(&mut self, frame: Frame, seqs: &RangeSet) {
        let covered = RangeSet::of(frame.seq_lo, frame.seq_hi);
        if covered.difference(seqs) != covered {
            self.taken += frame.wire_bytes() as u64;
            self.frames.push(frame);
        }
    }
}
