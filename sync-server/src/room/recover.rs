//! What to do when a room's database lacks what its journal has forgotten.
//!
//! It was lost, or put back from an older copy than the journal. Then the room no longer holds what it told everybody
//! that it holds, so it begins anew with what is left, under another epoch: whoever wrote or got the rest brings it
//! back when he connects.

use std::sync::Arc;

use crsql_core::version_vector::VersionVector;
use crsql_protocol::Fault;
use crsql_protocol::message::Head;

use super::Room;
use super::registry::unavailable;
use crate::journal::{Holding, JournalError, Opened};
use crate::store;

impl Room {
    /// Whether the journal and the database together have all that is held. If not, makes the journal say what is
    /// left; the room must be opened again then.
    pub(super) async fn is_complete(self: &Arc<Self>, opened: Opened) -> Result<bool, Fault> {
        let left = self.store.ask(|connection, _| store::vector(connection)).await?;
        let held = self.held();
        let lost: u64 = held.difference(&left).ranges().map(|(_, lo, hi)| hi - lo + 1).sum();
        if lost == 0 {
            return Ok(true);
        }
        tracing::error!(
            room = self.name,
            lost,
            "transactions are gone with the room's database; whoever has them brings them back"
        );
        let room = self.clone();
        let restarted = self.context.readers.ask(move || room.restart(&opened, &left)).await;
        let internal =
            |error: &dyn std::fmt::Display| Fault::new(crsql_protocol::Code::INTERNAL, error.to_string());
        restarted.map_err(|error| internal(&error))?.map_err(unavailable)?;
        Ok(false)
    }

    fn restart(&self, opened: &Opened, left: &VersionVector) -> Result<(), JournalError> {
        let journal = &self.context.journal;
        let mut holdings = Vec::new();
        for holding in &opened.holdings {
            let all = holding.versions.clone();
            let gone = left.of_site(holding.site).map_or(all.clone(), |left| all.difference(left));
            let versions = all.difference(&gone);
            let last = versions.max().unwrap_or(0);
            let chain = journal.chain(self.key, holding.site, last)?;
            let head = chain.map_or(Head::default(), |chain| Head { version: last, chain });
            holdings.push(Holding { site: holding.site, versions, head, owner: holding.owner.clone() });
        }
        journal.restart(self.key, holdings)
    }
}
