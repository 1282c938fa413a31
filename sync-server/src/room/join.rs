//! What a newcomer is told of a room.

use std::sync::Arc;

use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::{Ancestry, Hello, SchemaAction, Snapshot, features};
use crsql_protocol::session::Admission;
use crsql_protocol::{Code, Fault};
use tokio::sync::oneshot;

use super::Room;
use super::registry::unavailable;
use crate::auth::Grant;

/// How long a newcomer waits for a snapshot to be made.
const COPY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

impl Room {
    /// Everything a newcomer is told, all of it durable.
    pub async fn admission(self: &Arc<Self>, hello: &Hello, grant: &Grant) -> Result<Admission, Fault> {
        let (journal, key) = (self.context.journal.clone(), self.key);
        let (site, head) = (hello.site, hello.head);
        let internal = |error: &dyn std::fmt::Display| Fault::new(Code::INTERNAL, error.to_string());
        let kept = self.context.readers.ask(move || journal.chains_upto(key, site, head.version)).await;
        let kept = kept.map_err(|error| internal(&error))?.map_err(unavailable)?;
        let (reply, durable) = oneshot::channel();
        let admission = {
            let mut state = self.lock();
            if state.failed {
                return Err(super::failed());
            }
            let ledger = &state.ledger;
            let whole = |version| ledger.whole().contains(site, version);
            let known = kept.iter().find(|kept| kept.version == head.version && whole(head.version));
            // The journal may be behind the memory by a moment; the head is known here.
            let mine = Some(ledger.head(site)).filter(|mine| (1..=head.version).contains(&mine.version));
            let common = mine.or_else(|| kept.iter().copied().find(|kept| whole(kept.version)));
            let admission = Admission {
                site: Default::default(),
                permissions: grant.bits(),
                head: crsql_protocol::message::Cursor { epoch: self.epoch, pos: state.pos },
                floor_pos: self.floor(),
                your_head: ledger.head(site),
                your_common: common.unwrap_or_default(),
                ancestry: ledger.ancestry(site, head, known.map(|known| known.chain)),
                tie_break: self.tie_break,
                schema: SchemaAction::Ok,
                held: ledger.holdings(),
                fingerprint: ledger.fingerprint(),
                snapshot: None,
                collected: self.told_now(&state.collected),
                members_ms: self.members_ms(),
            };
            // What is told to be held must survive a power failure, and some of it may be on its way.
            if state.pending == 0 {
                return Ok(admission);
            }
            self.barrier(&mut state, |done| {
                reply.send(done).ok();
            });
            admission
        };
        durable.await.unwrap_or_else(|_| Err(super::failed()))?;
        Ok(admission)
    }

    /// A snapshot for somebody who lacks so much that reading the journal would cost more.
    pub async fn offer(self: &Arc<Self>, hello: &Hello, admission: &Admission) -> Option<Snapshot> {
        let settings = &self.context.settings;
        let resumes = hello.resume.is_some_and(|at| at.epoch == self.epoch && at.pos <= admission.head.pos);
        let (bytes, theirs) = (self.lock().bytes.max(self.store.bytes()), hello.held.as_ref()?);
        if resumes || hello.features & features::SNAPSHOT == 0 {
            return None;
        }
        // Somebody who lacks collected deletes can't be brought up to date by what is left.
        let is_behind = !theirs.whole.is_empty() && !theirs.whole.is_superset(&self.lock().collected.deletes);
        if is_behind && admission.ancestry != Ancestry::Fork {
            return self.copied(admission.head.pos).await;
        }
        if bytes < settings.snapshot_min.0 {
            return None;
        }
        // Histories are compared when transactions are exchanged, so a newcomer that we know must be the one we know.
        let is_known = admission.held.whole.of_site(hello.site).is_some();
        if is_known && admission.ancestry != Ancestry::Same {
            return None;
        }
        let count = |versions: &VersionVector| versions.ranges().map(|(_, lo, hi)| hi - lo + 1).sum::<u64>();
        let (all, lacking) =
            (count(&admission.held.whole), count(&admission.held.whole.difference(&theirs.whole)));
        if lacking == 0 || lacking.saturating_mul(100) < all.saturating_mul(settings.snapshot_share) {
            return None;
        }
        // The journal from an older snapshot on costs less than a new one. Without tables a copy has only parked
        // changes, which are no faster than the journal; and nobody waits for a database that lags behind.
        let recent = admission.head.pos - admission.head.pos / 10;
        if !self.store.is_ready(recent) {
            return None;
        }
        self.copied(recent).await
    }

    /// A snapshot with everything up to a position.
    async fn copied(self: &Arc<Self>, pos: u64) -> Option<Snapshot> {
        let copying = tokio::spawn({
            let store = self.store.clone();
            async move { store.snapshot(pos).await }
        });
        // If it takes long, it is there for the next one.
        let file = tokio::time::timeout(COPY_PATIENCE, copying).await.ok()?.ok()?.ok()?;
        let url = format!("/v1/rooms/{}/snapshot/{:016x}.{}", escaped(&self.name), file.epoch, file.pos);
        Some(Snapshot { url, pos: file.pos, bytes: file.bytes, checksum: file.checksum })
    }
}

/// A name as a part of a URL.
pub fn escaped(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.bytes().map(|b| if plain(&b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
