//! What a room holds, and the one place where it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crsql_core::collect::Collected;
use crsql_core::ids::SiteId;
use crsql_core::limits::SITE_VERSION_MAX;
use crsql_core::merge::ClockWindow;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Code;
use crsql_protocol::ledger::{Ledger, Recorded};
use crsql_protocol::limits::{Limits, Rate};
use crsql_protocol::message::{Ack, ChainAt, Frame, Rejected};
use crsql_protocol::wire::Chain;

use super::check::Contents;
use crate::auth::{Grant, Permission};
use crate::journal::{Claim, Holding, Item, Opened};

/// A room's memory: the mirror of its journal, and of what is on the way there.
#[derive(Debug)]
pub struct State {
    /// What is held.
    pub ledger: Ledger,
    /// The last position given to an append; known to nobody before it is durable.
    pub pos: u64,
    /// Bytes of all entries.
    pub bytes: u64,
    /// Bytes of the database, once the journal is trimmed: until then it has nothing that the journal has not.
    pub stored: u64,
    /// Appends on their way.
    pub pending: usize,
    /// An append failed: the memory is ahead of the journal and must be read again.
    pub failed: bool,
    /// What all connections together may bring in.
    pub rate: Rate,
    /// Which deletes were collected.
    pub collected: Collected,
    /// How far clocks may go, if that is looked at.
    pub clocks: Option<ClockWindow>,
    owners: HashMap<SiteId, String>,
    sites_max: usize,
    new_sites_max: usize,
    bytes_max: u64,
}

/// A push, looked through.
pub struct Checked {
    /// Its id.
    pub id: u64,
    /// Whole versions and chunks, with what is in them or why they are set aside.
    pub frames: Vec<(Frame, Result<Contents, Code>)>,
    /// The deltas of the cut that ends with this push.
    pub deltas: Vec<Frame>,
    /// Whose changes are in the deltas, and the greatest version of each.
    pub delta_sites: BTreeMap<SiteId, u64>,
    /// What the author of the deltas has seen of the deletes that were collected.
    pub collected: Option<Collected>,
    /// The greatest causal length and col_version of the deltas.
    pub clocks: (u64, u64),
    /// What the cut claims.
    pub claims: VersionVector,
    /// Its chains.
    pub chains: Vec<ChainAt>,
    /// Why the cut is set aside, if it is.
    pub refused: Option<Code>,
    /// How many cells of the push are larger than what is usual.
    pub large_cells: u64,
}

/// Who pushes.
pub struct Author<'a> {
    /// What it may do.
    pub grant: &'a Grant,
    /// The site of its connection.
    pub site: SiteId,
    /// The new sites it brought lately.
    pub new_sites: &'a mut BTreeSet<SiteId>,
}

/// What recording a push came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is to be appended.
    pub items: Vec<(Item, bool)>,
    /// What is held of the sites concerned.
    pub holdings: Vec<Holding>,
    /// Versions that are complete or gone.
    pub settled: Vec<(SiteId, u64)>,
    /// What to say once it is durable.
    pub ack: Option<Ack>,
    /// Frames that were known.
    pub known: u64,
}

impl Checked {
    /// Whether it is nothing but facts of rows, to put right what differs.
    pub fn is_repair(&self) -> bool {
        !self.deltas.is_empty() && self.claims.is_empty() && self.frames.is_empty()
    }
}

impl State {
    /// From what the journal says.
    pub fn new(opened: &Opened, limits: Limits, room: &crate::config::Settings, now_ms: u64) -> State {
        let mut whole = VersionVector::default();
        for holding in &opened.holdings {
            for (lo, hi) in holding.versions.iter() {
                whole.insert_range(holding.site, lo, hi);
            }
        }
        let heads = opened.holdings.iter().map(|holding| (holding.site, holding.head));
        let mut ledger = Ledger::of(whole, heads, limits);
        for frame in &opened.staged {
            // What was accepted once and is refused now, because a limit was lowered, is missing again.
            ledger.record(now_ms, frame, None).ok();
        }
        let owners =
            opened.holdings.iter().filter_map(|holding| Some((holding.site, holding.owner.clone()?)));
        State {
            ledger,
            pos: opened.head.pos,
            bytes: opened.bytes,
            stored: 0,
            pending: 0,
            failed: false,
            rate: Rate::new(room.room_bytes_per_second.0),
            collected: Collected::default(),
            clocks: None,
            owners: owners.collect(),
            sites_max: room.sites_per_room,
            new_sites_max: room.new_sites_per_hour,
            bytes_max: room.room_bytes.0,
        }
    }

    /// Who first wrote for a site.
    pub fn owner(&self, site: SiteId) -> Option<&str> {
        self.owners.get(&site).map(String::as_str)
    }

    /// Records a push. `known` has the chains of versions held already, where they had to be looked up.
    pub fn record(
        &mut self,
        now_ms: u64,
        push: Checked,
        author: &mut Author<'_>,
        known: &HashMap<(SiteId, u64), Chain>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut held, mut rejected) = (VersionVector::default(), Vec::new());
        let mut touched = BTreeSet::new();
        let id = push.id;
        let cut_refused = push.refused;
        let mut spoiled = push.refused.is_some();
        for (frame, contents) in push.frames {
            let (site, site_version) = (frame.site, frame.site_version);
            let judged = contents.and_then(|contents| {
                self.judge(site, author)?;
                self.room_for(frame.wire_bytes() as u64)?;
                self.judge_clocks(now_ms, contents.clocks)?;
                self.judge_collected(contents.collected.as_ref())
            });
            let recorded = judged
                .and_then(|()| self.ledger.record(now_ms, &frame, known.get(&(site, site_version)).copied()));
            match recorded {
                Ok(Recorded::Whole(frames)) => {
                    if frames.len() > 1 || !frame.is_whole() {
                        outcome.settled.push((site, site_version));
                    }
                    self.take(frame, &mut outcome);
                    touched.insert(site);
                    held.insert(site, site_version);
                }
                Ok(Recorded::Part) => self.take(frame, &mut outcome),
                Ok(Recorded::Known) => {
                    outcome.known += 1;
                    if self.ledger.whole().contains(site, site_version) {
                        held.insert(site, site_version);
                    }
                }
                Err(code) => {
                    spoiled = true;
                    held.remove(site, site_version);
                    rejected.push(Rejected { site, site_version, code });
                }
            }
        }
        let claims = Claim { versions: push.claims, chains: push.chains };
        if !claims.versions.is_empty() {
            let judged = match cut_refused {
                Some(code) => Err(code),
                // A claim rests on the frames beside it.
                None if spoiled => Err(Code::INCOMPLETE),
                None if push.deltas.is_empty() => self.judge_claims(&claims, &push.delta_sites, author),
                None => self
                    .judge_claims(&claims, &push.delta_sites, author)
                    .and_then(|()| self.judge_clocks(now_ms, push.clocks))
                    .and_then(|()| self.judge_collected(push.collected.as_ref())),
            };
            match judged {
                Ok(()) => {
                    held.union_with(&claims.versions);
                    self.claim(claims, push.deltas, &mut touched, &mut outcome);
                }
                Err(code) => {
                    let lost = claims.versions.heads();
                    rejected.extend(lost.map(|(site, site_version)| Rejected { site, site_version, code }));
                }
            }
        }
        for site in touched {
            if let Some(subject) = &author.grant.subject
                && (site == author.site || author.grant.sites.as_ref().is_some_and(|s| s.contains(&site)))
            {
                self.owners.entry(site).or_insert_with(|| subject.clone());
            }
            outcome.holdings.push(self.holding(site));
        }
        let pos = if outcome.items.is_empty() { 0 } else { self.pos + outcome.items.len() as u64 };
        outcome.ack = Some(Ack { id, pos, held, rejected });
        outcome
    }

    /// Whether deltas without claims may be merged: the facts of rows that should be equal and are not. They must be of
    /// versions that are held, or they would bring something new past the journal, and of sites for which the author
    /// may write.
    pub fn judge_repair(&mut self, now_ms: u64, push: &Checked, author: &mut Author<'_>) -> Result<(), Code> {
        if let Some(code) = push.refused {
            return Err(code);
        }
        for (site, newest) in &push.delta_sites {
            self.judge(*site, author)?;
            if *newest > self.ledger.head(*site).version {
                return Err(Code::CLOCK);
            }
        }
        self.judge_clocks(now_ms, push.clocks)
    }

    /// Gives up chunks that waited too long.
    pub fn expire(&mut self, now_ms: u64) -> Vec<(SiteId, u64)> {
        self.ledger.expire(now_ms)
    }

    fn take(&mut self, frame: Frame, outcome: &mut Outcome) {
        self.bytes += frame.wire_bytes() as u64;
        outcome.items.push((Item::Frame(frame), false));
    }

    fn claim(
        &mut self,
        claims: Claim,
        deltas: Vec<Frame>,
        touched: &mut BTreeSet<SiteId>,
        outcome: &mut Outcome,
    ) {
        let staged: Vec<_> = self.ledger.stage().progress().into_keys().collect();
        let versions = self.ledger.claim(&claims.versions, &claims.chains);
        if versions.is_empty() {
            outcome.known += deltas.len() as u64;
            return;
        }
        outcome
            .settled
            .extend(staged.into_iter().filter(|(site, version)| versions.contains(*site, *version)));
        touched.extend(versions.iter().map(|(site, _)| *site));
        let mut chains = claims.chains;
        chains.retain(|at| versions.contains(at.site, at.version));
        self.bytes += deltas.iter().map(|frame| frame.wire_bytes() as u64).sum::<u64>();
        outcome.items.extend(deltas.into_iter().map(|frame| (Item::Frame(frame), true)));
        outcome.items.push((Item::Claim(Claim { versions, chains }), false));
    }

    /// Whether the author may write for a site.
    fn judge(&self, site: SiteId, author: &mut Author<'_>) -> Result<(), Code> {
        if !author.grant.allows(Permission::Relay) {
            let named = author.grant.sites.as_ref().map(|sites| sites.contains(&site));
            let own = match named {
                Some(named) => named,
                None => {
                    site == author.site
                        && self.owner(site).is_none_or(|owner| author.grant.subject.as_deref() == Some(owner))
                }
            };
            if !own {
                return Err(Code::FOREIGN_SITE);
            }
        }
        if self.ledger.whole().of_site(site).is_none() {
            let sites = self.ledger.whole().iter().count();
            if !author.new_sites.contains(&site)
                && (sites >= self.sites_max || author.new_sites.len() >= self.new_sites_max)
            {
                return Err(Code::QUOTA);
            }
            author.new_sites.insert(site);
        }
        Ok(())
    }

    /// Whether clocks are within what the room's may grow to: one that came near its end could never be passed.
    fn judge_clocks(&mut self, now_ms: u64, (cl, col_version): (u64, u64)) -> Result<(), Code> {
        let Some(window) = &mut self.clocks else { return Ok(()) };
        window.admit(now_ms, cl, col_version).map_err(|_| Code::CLOCK)
    }

    /// Whether what was written may be taken, after what its author has seen of the deletes that were collected. Whoever
    /// has not seen all of them may write to rows of which nothing is left here, and bring them back.
    fn judge_collected(&mut self, theirs: Option<&Collected>) -> Result<(), Code> {
        let none = Collected::default();
        let theirs = theirs.unwrap_or(&none);
        if !theirs.covers(&self.collected) {
            return Err(Code::BEHIND);
        }
        if self.collected.covers(theirs) {
            return Ok(());
        }
        // Others have collected as well. What is left there says nothing of deletes that are not here.
        let whole = self.ledger.whole();
        if !whole.is_empty() && !self.collected.has_seen(whole, theirs) {
            return Err(Code::BEHIND);
        }
        self.collected.adopt(theirs);
        Ok(())
    }

    fn judge_claims(
        &self,
        claims: &Claim,
        delta_sites: &BTreeMap<SiteId, u64>,
        author: &mut Author<'_>,
    ) -> Result<(), Code> {
        let claimed = claims.versions.iter().map(|(site, _)| *site);
        for site in delta_sites.keys().copied().chain(claimed).collect::<BTreeSet<_>>() {
            self.judge(site, author)?;
        }
        for (site, _, hi) in claims.versions.ranges() {
            let held = self.ledger.whole().of_site(site).and_then(|versions| versions.max()).unwrap_or(0);
            let step = crsql_core::limits::SITE_VERSION_STEP_MAX;
            if hi > SITE_VERSION_MAX || (held > 0 && hi > held.saturating_add(step)) {
                return Err(Code::CLOCK);
            }
        }
        self.room_for(0)
    }

    fn room_for(&self, bytes: u64) -> Result<(), Code> {
        if self.bytes_max > 0 && self.bytes.saturating_add(self.stored).saturating_add(bytes) > self.bytes_max
        {
            return Err(Code::QUOTA);
        }
        Ok(())
    }

    fn holding(&self, site: SiteId) -> Holding {
        Holding {
            site,
            versions: self.ledger.whole().of_site(site).cloned().unwrap_or_default(),
            head: self.ledger.head(site),
            owner: self.owners.get(&site).cloned(),
        }
    }
}
