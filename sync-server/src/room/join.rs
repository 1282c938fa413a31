//! What a newcomer is told of a room.

use std::sync::Arc;

use crsql_protocol::message::{Hello, SchemaAction};
use crsql_protocol::session::Admission;
use crsql_protocol::{Code, Fault};
use tokio::sync::oneshot;

use super::Room;
use super::registry::unavailable;
use crate::auth::Grant;

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
                floor_pos: self.floor,
                your_head: ledger.head(site),
                your_common: common.unwrap_or_default(),
                ancestry: ledger.ancestry(site, head, known.map(|known| known.chain)),
                tie_break: self.tie_break,
                schema: SchemaAction::Ok,
                held: ledger.holdings(),
                fingerprint: ledger.fingerprint(),
                snapshot: None,
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
}
