//! What the acceptor sends: what the dialer lacks, then the journal, as the dialer's credit allows.
//!
//! The only state of a reader is a position and its credit. A reader that falls behind costs nothing: what it has
//! not taken stays in the journal.

use super::{Link, Live, Output, Parcel, Read, Tail};
use crate::code::{Code, Fault};
use crate::holdings::Needs;
use crate::limits::CREDIT_BYTES_MAX;
use crate::message::*;

#[derive(Debug, Default)]
pub(super) struct Feed {
    /// What the dialer lacks of what was there when it came, and what it asked for since.
    needs: Needs,
    rows: Vec<DigestRange>,
    /// The position to join the journal at, once the needs are met.
    joining: Option<u64>,
    /// Whether a Have must come before anything can be sent.
    pub waiting: bool,
    /// The last position sent.
    pub pos: u64,
    /// The last position of the journal.
    head: u64,
    pub parts: u64,
    /// Whether the last part said that more belongs to it.
    cut_open: bool,
    /// Whether the last batch of the journal ended inside a cut.
    tail_open: bool,
    /// May go below zero by one batch, so that a frame larger than the credit still passes.
    credit: i64,
    starved_ms: Option<u64>,
    /// What the open read was asked for.
    asked: Option<Needs>,
    started: bool,
}

impl Feed {
    /// Begins at a journal position; with needs, these first.
    pub fn start(&mut self, from: u64, head: u64, needs: Option<Needs>, credit: u64) {
        self.started = true;
        self.head = self.head.max(head);
        self.pos = from;
        self.credit = credit.min(CREDIT_BYTES_MAX) as i64;
        if let Some(needs) = needs {
            self.needs = needs;
            self.joining = Some(from);
        }
    }

    /// The dialer asks for these.
    pub fn want(&mut self, needs: &Needs) {
        self.needs.union_with(needs);
    }

    pub fn want_rows(&mut self, ranges: Vec<DigestRange>) {
        self.rows = ranges;
    }

    pub fn grant(&mut self, bytes: u64) {
        let bytes = bytes.min(CREDIT_BYTES_MAX) as i64;
        self.credit = (self.credit + bytes).min(CREDIT_BYTES_MAX as i64);
        self.starved_ms = None;
    }

    pub fn is_starved(&self, now_ms: u64, credit_ms: u64) -> bool {
        self.starved_ms.is_some_and(|since| now_ms.saturating_sub(since) >= credit_ms)
    }

    /// Reads on if there is something to send and credit for it.
    pub fn pump(&mut self, link: &mut Link) {
        if self.asked.is_some() || self.waiting || !self.started {
            return;
        }
        // Inside a cut of the journal nothing may come but the rest of it.
        if self.tail_open {
            return self.read_tail(link);
        }
        if self.needs.is_empty()
            && let Some(upto) = self.joining.take()
        {
            link.send(Pos { after: 0, upto, parts: self.parts });
        }
        if self.needs.is_empty() && self.rows.is_empty() && self.pos >= self.head {
            return;
        }
        if self.needs.is_empty() && self.rows.is_empty() {
            return self.read_tail(link);
        }
        let Some(bytes) = self.allowance(link) else { return };
        self.asked = Some(self.needs.clone());
        link.emit(Output::Read(if !self.needs.is_empty() {
            Read::Versions { needs: self.needs.clone(), bytes }
        } else {
            Read::Rows { ranges: std::mem::take(&mut self.rows), bytes }
        }));
    }

    fn read_tail(&mut self, link: &mut Link) {
        let Some(bytes) = self.allowance(link) else { return };
        self.asked = Some(self.needs.clone());
        link.emit(Output::Read(Read::Tail { after: self.pos, bytes }));
    }

    /// How much may be read now; none without credit.
    fn allowance(&mut self, link: &Link) -> Option<u64> {
        if self.credit <= 0 {
            self.starved_ms.get_or_insert(link.now_ms);
            return None;
        }
        Some((self.credit as u64).min(link.config.limits.batch_bytes as u64))
    }

    /// The journal grew. A reader at its end gets the bytes that all others get; any other reads it when it comes
    /// to it.
    pub fn live(&mut self, link: &mut Link, live: Live) {
        let at_end = self.started
            && !self.waiting
            && !self.tail_open
            && self.asked.is_none()
            && self.joining.is_none();
        let next = at_end && self.needs.is_empty() && self.pos == live.after && live.upto > live.after;
        self.head = self.head.max(live.upto);
        if next && live.echo {
            link.send(Pos { after: live.after, upto: live.upto, parts: self.parts });
            self.pos = live.upto;
        } else if next
            && self.credit > 0
            && let Some(bytes) = live.bytes.filter(|bytes| *bytes <= link.peer_message_max as u64)
        {
            link.emit(Output::SendLive);
            self.credit -= bytes as i64;
            self.pos = live.upto;
        }
    }

    /// Sends what was read of the needs.
    pub fn parcel(&mut self, link: &mut Link, mut parcel: Parcel) {
        let asked = self.asked.take().unwrap_or_default();
        for frame in &parcel.frames {
            self.needs.sent(frame);
        }
        self.needs.remove(&parcel.claims);
        if parcel.is_last() || (self.needs == asked && !parcel.is_delta_part()) {
            self.needs.forget(&asked);
        }
        // Nothing follows, whatever the store thinks: close the cut, or what it holds would wait for ever.
        parcel.more &= !self.needs.is_empty();
        self.send_parts(link, parcel);
    }

    pub fn send_parts(&mut self, link: &mut Link, parcel: Parcel) {
        let batch_bytes = link.config.limits.batch_bytes.min(link.peer_message_max);
        for Parcel { frames, claims, chains, more } in parcel.split(batch_bytes, &mut self.cut_open) {
            self.parts += 1;
            let batch = Batch { after: 0, upto: 0, part: self.parts, frames, claims, chains, more };
            self.credit -= link.send(batch) as i64;
        }
    }

    /// Sends what was read of the journal; `skip` names what the dialer is known to have.
    pub fn tail(&mut self, link: &mut Link, tail: Tail, skip: impl Fn(&Frame) -> bool) -> Result<(), Fault> {
        self.asked = None;
        let Tail { after, upto, mut frames, claims, chains, more } = tail;
        if after != self.pos || upto < after {
            let detail = format!("the journal was read from {after} to {upto} where {} was asked", self.pos);
            return Err(Fault::new(Code::INTERNAL, detail));
        }
        if upto == after {
            // The journal has less than it announced; its next entry will come as live.
            self.head = self.pos;
            return Ok(());
        }
        self.pos = upto;
        self.tail_open = more;
        frames.retain(|frame| !skip(frame));
        if frames.is_empty() && claims.is_empty() && !more {
            link.send(Pos { after, upto, parts: self.parts });
        } else {
            self.credit -= link.send(Batch { after, upto, part: 0, frames, claims, chains, more }) as i64;
        }
        Ok(())
    }
}
