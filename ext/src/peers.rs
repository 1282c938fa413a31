//! `crsql_peers`: the sites whose changes are held here, this one among them, and which of their versions; and the
//! registered ones, with their leases and what they lack.
//!
//! A virtual table rather than a view, because the latest versions are in the log.

use crate::members::{Member, members};
use crate::sqlite::{Args, Db, IndexInfo, Module, Output, Result, Risk, VtabConfig, register_module};
use crate::state::State;
use crsql_core::collect::Heard;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::{RangeSet, VersionVector};
use std::ffi::CStr;
use std::rc::Rc;

/// Registers the table.
pub fn register(db: Db, state: &Rc<State>) -> Result<()> {
    register_module::<Peers>(db, c"crsql_peers", state)
}

struct Peers(Rc<State>);

struct Peer {
    site: SiteId,
    held: RangeSet,
    member: Option<Member>,
    /// How many of the versions held here it has not said it holds.
    lacks: i64,
}

#[derive(Default)]
struct Cursor {
    peers: Vec<Peer>,
    at: usize,
}

impl Module for Peers {
    type State = State;
    type Cursor = Cursor;

    const SCHEMA: &'static CStr =
        c"CREATE TABLE x(site_id BLOB, site_version INTEGER, versions INTEGER, gaps TEXT,
            registered INTEGER, lease_until INTEGER, lacks INTEGER)";

    fn connect(state: &Rc<State>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        Ok(Peers(state.clone()))
    }

    fn best_index(&self, index: &mut IndexInfo<'_>) -> Result<bool> {
        index.set_cost(100.0);
        index.set_rows(25);
        Ok(true)
    }

    fn open(&self) -> Result<Cursor> {
        Ok(Cursor::default())
    }

    fn filter(&self, cursor: &mut Cursor, _: i32, _: &str, _: Args<'_>) -> Result<()> {
        cursor.at = 0;
        cursor.peers.clear();
        self.0.check_schema()?;
        // A statement of its own, so that what is read is of one moment.
        let mut snapshot = self.0.db.prepare("SELECT name FROM main.sqlite_master LIMIT 1")?;
        snapshot.step()?;
        let pending = self.0.completed();
        let mut members = members(&self.0)?;
        let mut store = self.0.store.borrow_mut();
        if !store.refresh()? {
            return Ok(());
        }
        let mut vector = store.vector()?;
        for (ordinal, lo, hi) in pending {
            vector.entry(ordinal).or_default().insert(lo, hi);
        }
        let own = store.site();
        let sites = store.sites.all(self.0.db)?;
        let mut here = VersionVector::default();
        for (ordinal, site) in &sites {
            for (lo, hi) in vector.get(ordinal).into_iter().flat_map(RangeSet::iter) {
                here.insert_range(*site, lo, hi);
            }
        }
        for (ordinal, site) in sites {
            let held = vector.remove(&ordinal).unwrap_or_default();
            let member = members.remove(&site);
            // Of a peer, single changes may be held and no whole version.
            if ordinal != own || !held.is_empty() || member.is_some() {
                cursor.peers.push(Peer { site, held, member, lacks: 0 });
            }
        }
        let unheard = members.into_iter();
        cursor.peers.extend(unheard.map(|(site, member)| Peer {
            site,
            held: RangeSet::default(),
            member: Some(member),
            lacks: 0,
        }));
        let own = store.sites.id(self.0.db, own)?;
        for peer in cursor.peers.iter_mut().filter(|peer| peer.site != own) {
            if let Some(Member { heard: Heard { vector, waiting }, .. }) = &peer.member {
                let mut lacks = here.difference(vector);
                lacks = waiting.as_ref().map_or(lacks.clone(), |later| lacks.difference(later));
                peer.lacks = lacks.ranges().fold(0, |sum, (_, lo, hi)| sum + (hi - lo + 1) as i64);
            }
        }
        cursor.peers.sort_by_key(|peer| peer.site);
        Ok(())
    }

    fn next(&self, cursor: &mut Cursor) -> Result<()> {
        cursor.at += 1;
        Ok(())
    }

    fn eof(&self, cursor: &Cursor) -> bool {
        cursor.at >= cursor.peers.len()
    }

    fn column(&self, cursor: &mut Cursor, column: usize, output: &Output<'_>) -> Result<()> {
        let Some(peer) = cursor.peers.get(cursor.at) else { return Ok(()) };
        match column {
            0 => output.set_blob(&peer.site.0),
            1 => output.set_i64(peer.held.max().unwrap_or(0) as i64),
            2 => output.set_i64(
                peer.held.iter().fold(0, |sum: u64, (lo, hi)| sum.saturating_add(hi - lo + 1)) as i64,
            ),
            3 => output.set_text(&gaps(&peer.held)),
            4 => output.set_i64(i64::from(peer.member.as_ref().is_some_and(|member| member.is_live))),
            5 => match peer.member.as_ref().and_then(|member| member.expires) {
                Some(expires) => output.set_i64(expires),
                None => output.set_null(),
            },
            _ if peer.member.is_some() => output.set_i64(peer.lacks),
            _ => output.set_null(),
        }
        Ok(())
    }

    fn rowid(&self, cursor: &Cursor) -> Result<i64> {
        Ok(cursor.at as i64)
    }
}

/// The missing versions below the last one held, such as `1-4,9`.
fn gaps(held: &RangeSet) -> String {
    let mut next = 1;
    let mut gaps = Vec::new();
    for (lo, hi) in held.iter() {
        match lo {
            lo if lo == next + 1 => gaps.push(next.to_string()),
            lo if lo > next => gaps.push(format!("{next}-{}", lo - 1)),
            _ => {}
        }
        next = hi + 1;
    }
    gaps.join(",")
}
