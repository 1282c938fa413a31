//! `crsql_new_site(keep)`: the way out of a fork.
//!
//! Two histories of one site exist: a clone, or a restored copy that went on writing. This one gives way. What it
//! wrote beyond `keep` becomes the work of a new identity, change by change with the same clocks, and is forgotten
//! under the old one, whose later versions are somebody else's now and can be received.

use crate::alter::{atomically, enter};
use crate::capture::enlist;
use crate::changeset::{Since, apply, build, version_vector};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{LOOSE, Tail};
use crate::typed::drop_parts;
use crsql_core::change::{Change, Fact};
use crsql_core::changeset::{Changeset, Compress, write_changes};
use crsql_core::column::ColumnType;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

/// Gives this file a new identity and hands it every own version above `keep`.
pub fn reissue(state: &State, keep: u64) -> Result<SiteId> {
    let old = crate::site::site_id(state)?;
    enter(state)?;
    let new = greater_than(&old);
    atomically(state, || {
        enlist(state)?;
        state.spill()?;
        let held = version_vector(state)?;
        let head = held.of_site(old).and_then(|own| own.max()).unwrap_or(0);
        let changes = written_after(state, &held, old, keep, new)?;
        let own = state.store.borrow().site();
        let has_dropped = drop_parts(state, own, keep)? > 0;
        become_site(state, &old, &new, keep, head.saturating_sub(keep))?;
        if has_dropped {
            ask_again(state, &old, keep)?;
        }
        let tie_break = state.tie_break()?;
        if !changes.is_empty() {
            apply(state, &write_changes(tie_break, &changes, &VersionVector::default()))?;
        }
        Ok(())
    })?;
    state.store.borrow_mut().forget();
    Ok(new)
}

/// What is left of the own versions above `keep`, in the name of `new`.
fn written_after(
    state: &State,
    held: &VersionVector,
    old: SiteId,
    keep: u64,
    new: SiteId,
) -> Result<Vec<Change>> {
    let mut wanted = VersionVector::default();
    wanted.insert_range(old, keep + 1, u64::MAX >> 1);
    let bytes = build(state, &Since::Vector(held.difference(&wanted)), Compress::No)?;
    let mut changes = Changeset::changes(&bytes).map_err(Error::refused)?;
    changes.retain(|change| change.stamp.site == old && change.stamp.version > keep);
    changes.retain(|change| match &change.fact {
        Fact::Cell { column, col_version, .. } => {
            // What is on an upper level of a text may have been typed before, on a lower one.
            let is_fresh = *col_version == 1 && ColumnType::level_of_cell(column) == 0;
            !ColumnType::of_cell(column).is_parted() || is_fresh
        }
        Fact::Row => true,
    });
    for change in &mut changes {
        #[cfg(feature = "text")]
        if let Fact::Cell { column, value, .. } = &mut change.fact
            && ColumnType::of_cell(column) == ColumnType::Text
        {
            *value = crsql_core::text::renamed(value, &old, &new);
        }
        change.stamp.site = new;
        change.stamp.version -= keep;
    }
    changes.sort_by(|a, b| (&a.table, &a.pk, a.stamp.seq).cmp(&(&b.table, &b.pk, b.stamp.seq)));
    Ok(changes)
}

fn become_site(state: &State, old: &SiteId, new: &SiteId, keep: u64, versions: u64) -> Result<()> {
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    let vector = store.vector()?;
    store.become_site(new, &vector)?;
    let tail = store.tail();
    store.set_state(Tail { version: versions, ..tail })?;
    let ordinal = store.sites.ordinal(state.db, old)?;
    let args = [ValueRef::Integer(i64::from(ordinal)), ValueRef::Integer(keep as i64)];
    state.db.prepare("DELETE FROM main.__crsql_vector WHERE site = ?1 AND lo > ?2")?.execute(&args)?;
    state.db.prepare("UPDATE main.__crsql_vector SET hi = ?2 WHERE site = ?1 AND hi > ?2")?.execute(&args)?;
    store.forget();
    Ok(())
}

/// Forgets that the versions up to `keep` are held: parts of counters that they wrote are not here any more.
fn ask_again(state: &State, old: &SiteId, keep: u64) -> Result<()> {
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    let ordinal = store.sites.ordinal(state.db, old)?;
    let args = [ValueRef::Integer(i64::from(ordinal))];
    state.db.prepare("DELETE FROM main.__crsql_vector WHERE site = ?1")?.execute(&args)?;
    if keep > 0 {
        store.sites.complete(state.db, &[(ordinal | LOOSE, 1, keep)])?;
    }
    store.forget();
    Ok(())
}

/// A new identity whose name is greater: with equal clocks its changes win over the copies under the old name.
fn greater_than(old: &SiteId) -> SiteId {
    for _ in 0..64 {
        let id = SiteId(*uuid::Uuid::new_v4().as_bytes());
        if id > *old {
            return id;
        }
    }
    // The old one is among the greatest: keep its leading 0xff and add one more.
    let mut id = *uuid::Uuid::new_v4().as_bytes();
    for (byte, old) in id.iter_mut().zip(old.0) {
        *byte = 0xff;
        if old != 0xff {
            break;
        }
    }
    SiteId(id)
}
