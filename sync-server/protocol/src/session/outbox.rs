//! What the dialer pushes: read from the store as the window allows, in flight until acknowledged.

use std::collections::BTreeMap;

use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

use super::{Event, Link, Output, Parcel, Read};
use crate::holdings::{Holdings, Needs};
use crate::message::*;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What the acceptor holds, as far as is known here.
    peer: Holdings,
    /// Held here and lacking there; not in flight.
    to_send: Needs,
    rows: Vec<DigestRange>,
    flights: BTreeMap<u64, Flight>,
    flight_bytes: u64,
    pub last_id: u64,
    /// Whether the last push said that more belongs to it.
    cut_open: bool,
    /// What the open read was asked for.
    asked: Option<Needs>,
    pub window: u64,
    /// Not sent again in this session.
    refused: VersionVector,
    /// Sent a second time because the acceptor lost chunks.
    repeated: VersionVector,
}

#[derive(Debug)]
struct Flight {
    bytes: u64,
    at_ms: u64,
    versions: Vec<(SiteId, u64)>,
}

impl Outbox {
    /// The acceptor holds these.
    pub fn peer_holds(&mut self, versions: &VersionVector) {
        self.peer.claim(versions);
        self.to_send.remove(versions);
    }

    /// The acceptor sent this frame, so it holds what is in it.
    pub fn peer_sent(&mut self, frame: &Frame) {
        if self.peer.add_frame(frame) && self.peer.whole.contains(frame.site, frame.site_version) {
            self.to_send.remove(&one(frame.site, frame.site_version));
        }
    }

    /// Held here; to be sent unless the acceptor has them.
    pub fn offer(&mut self, versions: &VersionVector) {
        let lacking = versions.difference(&self.peer.whole).difference(&self.refused);
        self.to_send.whole.union_with(&lacking);
    }

    /// The acceptor asks for these.
    pub fn want(&mut self, needs: &Needs) {
        self.peer.whole = self.peer.whole.difference(&needs.whole);
        self.to_send.union_with(needs);
    }

    pub fn want_rows(&mut self, ranges: Vec<DigestRange>) {
        self.rows = ranges;
    }

    pub fn is_empty(&self) -> bool {
        self.to_send.is_empty() && self.flights.is_empty() && self.asked.is_none()
    }

    pub fn oldest_flight_ms(&self) -> Option<u64> {
        self.flights.values().map(|flight| flight.at_ms).min()
    }

    /// Asks for something to send if there is something and the window has room.
    pub fn pump(&mut self, link: &mut Link) {
        if self.asked.is_some() || self.flight_bytes >= self.window {
            return;
        }
        let bytes = self.window - self.flight_bytes;
        // Not into the middle of a delta: its cut would end before its claims.
        if !self.rows.is_empty() && !self.cut_open {
            self.asked = Some(Needs::default());
            link.emit(Output::Read(Read::Rows { ranges: std::mem::take(&mut self.rows), bytes }));
        } else if !self.to_send.is_empty() {
            self.asked = Some(self.to_send.clone());
            link.emit(Output::Read(Read::Versions { needs: self.to_send.clone(), bytes }));
        }
    }

    /// Pushes what was read.
    pub fn parcel(&mut self, link: &mut Link, mut parcel: Parcel) {
        let asked = self.asked.take().unwrap_or_default();
        for frame in &parcel.frames {
            self.to_send.sent(frame);
        }
        self.to_send.remove(&parcel.claims);
        if parcel.is_last() || (self.to_send == asked && !parcel.is_delta_part()) {
            self.to_send.forget(&asked);
        }
        // Nothing follows, whatever the store thinks: close the cut, or its claims would wait for ever.
        parcel.more &= !self.to_send.is_empty();
        self.push(link, parcel);
    }

    pub fn push(&mut self, link: &mut Link, parcel: Parcel) {
        let batch_bytes = link.config.limits.batch_bytes.min(link.peer_message_max);
        for Parcel { frames, claims, chains, more } in parcel.split(batch_bytes, &mut self.cut_open) {
            self.last_id += 1;
            let whole = claims.ranges().flat_map(|(site, lo, hi)| (lo..=hi).take(1).map(move |v| (site, v)));
            let versions = frames.iter().map(|frame| (frame.site, frame.site_version)).chain(whole);
            let versions = versions.filter(|(_, version)| *version > 0).collect();
            let known = link.told.len();
            let frames = frames.into_iter().map(|frame| link.told.shorten(&frame).unwrap_or(frame)).collect();
            if let Some(names) = link.told.since(known) {
                link.send(names);
            }
            let bytes = link.send(Push { id: self.last_id, frames, claims, chains, more });
            self.flight_bytes += bytes;
            self.flights.insert(self.last_id, Flight { bytes, at_ms: link.now_ms, versions });
        }
    }

    /// Takes an acknowledgement. False if nothing of that id is in flight.
    pub fn ack(&mut self, link: &mut Link, ack: Ack) -> bool {
        let Some(flight) = self.flights.remove(&ack.id) else { return false };
        self.flight_bytes -= flight.bytes;
        self.peer_holds(&ack.held);
        for rejected in &ack.rejected {
            self.refused.insert(rejected.site, rejected.site_version);
            self.to_send.remove(&one(rejected.site, rejected.site_version));
            link.event(Event::Rejected(*rejected));
        }
        for &(site, version) in &flight.versions {
            self.repeat_if_lost(link, site, version);
        }
        if !ack.held.is_empty() {
            link.event(Event::Confirmed(ack.held));
        }
        true
    }

    /// All chunks of a version were acknowledged and the acceptor does not have it: it dropped some in between.
    fn repeat_if_lost(&mut self, link: &mut Link, site: SiteId, version: u64) {
        let settled = self.peer.whole.contains(site, version) || self.refused.contains(site, version);
        let on_its_way = self.to_send.wants(site, version)
            || self.flights.values().any(|flight| flight.versions.contains(&(site, version)));
        if settled || on_its_way {
            return;
        }
        if self.repeated.insert(site, version) {
            link.event(Event::Incomplete(site, version));
            self.peer.partial.remove(&(site, version));
            self.to_send.whole.insert(site, version);
        } else {
            self.refused.insert(site, version);
            let code = crate::code::Code::INCOMPLETE;
            link.event(Event::Rejected(Rejected { site, site_version: version, code }));
        }
    }
}

impl Parcel {
    /// Whether reading on would give nothing more of what was asked: the rest is not held here. The same goes for
    /// an answer that leaves all of it open, or a faulty store would be read for ever.
    pub(super) fn is_last(&self) -> bool {
        !self.more || (self.frames.is_empty() && self.claims.is_empty())
    }

    /// Whether it is a part of a delta that goes on: the claims that answer the needs come with its last part.
    pub(super) fn is_delta_part(&self) -> bool {
        self.more && self.frames.iter().any(Frame::is_delta)
    }

    /// Cut into messages of about `bytes`. Claims come with the last, because they hold only after all frames. An
    /// answer without anything in it becomes a message only to close what an earlier one left open.
    pub(super) fn split(self, bytes: usize, cut_open: &mut bool) -> Vec<Parcel> {
        let mut parts = vec![Parcel::default()];
        let mut size = 0;
        for frame in self.frames {
            let full = size + frame.wire_bytes() > bytes
                || parts
                    .last()
                    .is_some_and(|part| part.frames.len() >= crate::limits::FRAMES_PER_MESSAGE_MAX);
            if full && size > 0 {
                parts.push(Parcel::default());
                size = 0;
            }
            size += frame.wire_bytes();
            parts.last_mut().expect("there is a first part").frames.push(frame);
        }
        let last = parts.last_mut().expect("there is a first part");
        (last.claims, last.chains) = (self.claims, self.chains);
        if last.frames.is_empty() && last.claims.is_empty() && (self.more || !*cut_open) {
            return Vec::new();
        }
        let count = parts.len();
        for (at, part) in parts.iter_mut().enumerate() {
            part.more = self.more || at + 1 < count;
        }
        *cut_open = self.more;
        parts
    }
}

fn one(site: SiteId, version: u64) -> VersionVector {
    let mut versions = VersionVector::default();
    versions.insert(site, version);
    versions
}
