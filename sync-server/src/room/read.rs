//! Reads for one connection what it lacks. Nothing is kept between reads but a position.

use crsql_core::version_vector::{RangeSet, VersionVector};
use crsql_protocol::holdings::Needs;
use crsql_protocol::message::Frame;
use crsql_protocol::session::{Parcel, Tail};

use super::{Room, check, recent};
use crate::journal::{Entry, JournalError};

/// A cut of which a part was read: the position after which it goes on, and its last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    after: u64,
    last: u64,
}

/// What was read of the needs.
#[derive(Debug)]
pub struct Answer {
    /// The parcel.
    pub parcel: Parcel,
    /// A cut that goes on in the next answer.
    pub progress: Option<Progress>,
}

impl Room {
    /// The journal after a position, about `bytes` of it.
    pub fn tail(&self, after: u64, bytes: u64, zstd: bool) -> Result<Tail, JournalError> {
        let entries = self.context.journal.read(self.key, after, bytes)?;
        self.context.metrics.tail_reads.add(1);
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
    ) -> Result<Answer, JournalError> {
        self.context.metrics.needs_reads.add(1);
        let mut gathered = Gathered { bytes, ..Gathered::default() };
        if let Some(progress) = progress {
            self.cut(progress, bytes, &mut gathered)?;
        } else {
            self.search(needs, &mut gathered)?;
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
        Ok(Answer { parcel: Parcel { frames, claims, chains, more }, progress })
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
            return self.cut(Progress { after: first - 1, last }, gathered.bytes, gathered);
        }
        gathered.more |= !cuts.is_empty();
        Ok(())
    }

    /// Reads on in a cut.
    fn cut(&self, at: Progress, bytes: u64, gathered: &mut Gathered) -> Result<(), JournalError> {
        let entries = self.context.journal.read(self.key, at.after, bytes)?;
        let within: Vec<Entry> = entries.into_iter().filter(|entry| entry.pos <= at.last).collect();
        let upto = within.last().map_or(at.last, |entry| entry.pos);
        let Some((frames, claims, chains)) = recent::gathered(within.iter().map(|entry| &entry.item), None)
        else {
            return Err(self.spoilt());
        };
        gathered.frames.extend(frames);
        gathered.claims.union_with(&claims);
        gathered.chains.extend(chains);
        gathered.progress = (upto < at.last).then_some(Progress { after: upto, ..at });
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
    progress: Option<Progress>,
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
