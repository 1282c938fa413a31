//! Collecting what is left of deleted rows.
//!
//! Every site that enters the room is a member for as long as its lease runs, and says now and then what it holds. The
//! room's database collects the deletes that all members hold, and the room says so to everybody, in the journal, so
//! that they can do the same. From then on it takes only what tells that its author has seen as much: whoever has not
//! could bring deleted rows back, and has to receive first, or to begin again with a snapshot.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crsql_core::changeset::{Told, Writer};
use crsql_core::collect::Collected;
use crsql_core::ids::SiteId;
use crsql_core::merge::{ClockWindow, TieBreak};
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::Frame;
use crsql_protocol::wire::Blob;
use crsql_protocol::{Code, Fault};
use tokio::sync::{RwLock, RwLockReadGuard, oneshot};

use super::Room;
use super::state::Outcome;
use crate::journal::Item;
use crate::store;

/// How often a member is asked at most and at least what it holds, in milliseconds.
const MEMBERS_MS: (u64, u64) = (1_000, 300_000);

/// What a room keeps to collect deletes.
#[derive(Default)]
pub struct Collector {
    /// Pushes pass, a collection shuts it: what came before is in the database then, what comes after is judged by
    /// what was collected.
    gate: RwLock<()>,
    /// Who entered since the last collection, and what it said it holds.
    heard: Mutex<HashMap<SiteId, Option<VersionVector>>>,
    /// Whether the journal says what was collected, since the room was opened.
    is_announced: AtomicBool,
    /// The clocks that were written down last.
    noted: AtomicU64,
}

impl Room {
    /// Whether deletes are collected here.
    pub fn collects(&self) -> bool {
        !self.context.settings.tombstone_lease.duration().is_zero()
    }

    /// How often members should say what they hold, in milliseconds; 0 if nobody wants to know.
    pub(super) fn members_ms(&self) -> u64 {
        match self.collects() {
            true => (self.context.settings.tombstone_interval.0 / 2).clamp(MEMBERS_MS.0, MEMBERS_MS.1),
            false => 0,
        }
    }

    /// A site is here; perhaps it says what it holds.
    pub fn heard(&self, site: SiteId, held: Option<&VersionVector>) {
        if !self.collects() {
            return;
        }
        let mut heard = self.collector.heard.lock().unwrap_or_else(|e| e.into_inner());
        if heard.len() < self.context.settings.sites_per_room || heard.contains_key(&site) {
            let known = heard.entry(site).or_default();
            *known = held.cloned().or(known.take());
        }
    }

    /// Held while something is pushed, where deletes are collected.
    pub async fn pushing(&self) -> Option<RwLockReadGuard<'_, ()>> {
        match self.collects() {
            true => Some(self.collector.gate.read().await),
            false => None,
        }
    }

    /// What tells everybody which deletes were collected.
    pub(super) fn told(&self, collected: &Collected) -> Vec<u8> {
        let tie_break = if self.tie_break == 1 { TieBreak::Value } else { TieBreak::Site };
        let mut writer = Writer::new(tie_break);
        writer.tell_collected(Some(Told { collected: collected.clone(), is_whole: false }));
        writer.finish(&VersionVector::default(), false)
    }

    /// Reads what was collected before the room was opened, and how far its clocks were.
    pub(super) async fn remember(self: &Arc<Self>) -> Result<(), Fault> {
        let path = self.store.path().to_owned();
        let read = self.context.readers.ask(move || store::remembered(&path)).await;
        let (collected, clocks) = read
            .map_err(|error| Fault::new(Code::INTERNAL, error.to_string()))?
            .map_err(|error| Fault::new(Code::UNAVAILABLE, error.to_string()))?;
        let mut state = self.lock();
        state.collected = collected;
        state.clocks =
            self.context.settings.clock_steps.then(|| ClockWindow::new(self.context.now_ms(), clocks));
        Ok(())
    }

    /// Writes down how far the clocks are, if they went on.
    pub fn note_clocks(self: &Arc<Self>) {
        let Some(clocks) = self.lock().clocks.map(|window| window.known()) else { return };
        let packed = clocks.0 << 32 | clocks.1.min(u32::MAX.into());
        if clocks == (0, 0) || self.collector.noted.swap(packed, Ordering::Relaxed) == packed {
            return;
        }
        let name = self.name.clone();
        self.store.run(move |store| {
            if let Err(error) = store.note_clocks(clocks) {
                tracing::warn!(room = name, %error, "how far the clocks are is not written down");
            }
        });
    }

    /// Collects the deletes that every member holds.
    ///
    /// # Errors
    /// The database or the journal can't be used now; it is tried again at the next round.
    pub async fn collect(self: &Arc<Self>) -> Result<(), Fault> {
        let _shut = self.collector.gate.write().await;
        self.durable().await?;
        let lease = self.context.settings.tombstone_lease.duration().as_secs().max(1);
        let heard = std::mem::take(&mut *self.collector.heard.lock().unwrap_or_else(|e| e.into_inner()));
        let connected: Vec<SiteId> = self.lock_presence().sites.keys().copied().collect();
        let said = heard.clone();
        let done =
            self.store.ask(move |connection, _| store::collect(connection, lease, &connected, &said)).await;
        let (gone, collected) = done.inspect_err(|_| {
            heard.iter().for_each(|(site, held)| self.heard(*site, held.as_ref()));
        })?;
        self.context.metrics.tombstones_collected.add(gone);
        let mut state = self.lock();
        let announced = &self.collector.is_announced;
        let is_known = state.collected == collected && announced.load(Ordering::Relaxed);
        if collected.is_empty() || is_known || state.failed {
            return Ok(());
        }
        announced.store(true, Ordering::Relaxed);
        tracing::info!(room = self.name, gone, floor = collected.floor, "deletes were collected");
        let frame = Frame::delta(SiteId::default(), self.told(&collected));
        state.collected = collected;
        let items = vec![(Item::Frame(frame), false)];
        self.append(&mut state, Outcome { items, ..Outcome::default() }, 0, drop);
        Ok(())
    }

    /// Waits until everything recorded so far is in the journal for good.
    async fn durable(self: &Arc<Self>) -> Result<(), Fault> {
        let (reply, durable) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.failed {
                return Err(super::failed());
            }
            self.barrier(&mut state, |done| drop(reply.send(done)));
        }
        durable.await.unwrap_or_else(|_| Err(super::failed()))
    }

    /// What a newcomer is told of it.
    pub(super) fn told_now(&self, collected: &Collected) -> Option<Blob> {
        (!collected.is_empty()).then(|| Blob(self.told(collected)))
    }
}
