//! Takes in what others sent: records it, applies what became whole, keeps what must wait.

use crsql_core::changeset::{Changeset, Compress, Limits, Writer};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::Code;
use crsql_protocol::codec;
use crsql_protocol::ledger::Recorded;
use crsql_protocol::message::{Batch, CODEC_PLAIN, ChainAt, Cursor, Frame, Head, Rejected};
use rusqlite::{ErrorCode, params};

use super::journal::{Content, ENTRY_BYTES_MAX, Names, read};
use super::pack::unpacked;
use super::{Replica, tables};
use crate::Result;

/// The state of one connection's open cut: deltas and claims that wait for its end. Forget it with the connection.
#[derive(Debug, Default)]
pub struct Cut {
    claims: VersionVector,
    chains: Vec<ChainAt>,
    spooled: u64,
    spooled_bytes: u64,
    /// Something of this cut was set aside, so its claims do not hold.
    is_spoiled: bool,
}

/// A push or batch.
#[derive(Debug, Default)]
pub struct Incoming {
    /// The connection, unique in the life of this replica.
    pub from: u64,
    /// Its frames.
    pub frames: Vec<Frame>,
    /// Its claims.
    pub claims: VersionVector,
    /// Their chains.
    pub chains: Vec<ChainAt>,
    /// Whether the cut ends with it.
    pub cut: bool,
    /// The cursor of a peer, to be stored with it.
    pub cursor: Option<(String, Cursor)>,
}

/// What came of it; durable after the commit.
#[derive(Debug, Default)]
pub struct Taken {
    /// All versions of it that are now held whole.
    pub held: VersionVector,
    /// What was set aside.
    pub rejected: Vec<Rejected>,
    /// Why, for people.
    pub reasons: Vec<String>,
}

/// What has to be applied after the cut that it came with.
#[derive(Debug, Default)]
struct Late {
    frames: Vec<Frame>,
    /// Deltas that tell which deletes were collected, and nothing else.
    tidings: Vec<Frame>,
}

/// In what the extension says when this database lacks deletes that the sender has collected.
pub(super) const BEHIND: &str = "has to re-bootstrap";

/// Why a body can't be applied: a code for the sender, a sentence for the user.
type Refused = (Code, String);

impl Replica {
    /// Takes in a push or batch, inside a batch of work.
    ///
    /// # Errors
    /// SQLite's, such as a full disk; the whole batch must be rolled back then. What is wrong with the frames is in
    /// [`Taken::rejected`].
    pub fn take(&mut self, now_ms: u64, incoming: Incoming, cut: &mut Cut) -> Result<Taken> {
        let Incoming { from, frames, claims, chains, cut: is_last, cursor } = incoming;
        let (mut taken, mut late) = (Taken::default(), Late::default());
        let mut deltas = Vec::new();
        for frame in frames.into_iter().map(unpacked) {
            match frame.is_delta() {
                true if is_last => deltas.push(frame),
                true => self.spool(from, cut, &frame)?,
                false => self.take_frame(now_ms, from, frame, &mut taken, Some(&mut late))?,
            }
        }
        cut.is_spoiled |= !taken.rejected.is_empty();
        cut.claims.union_with(&claims);
        cut.chains.extend(chains);
        if is_last {
            let cut = std::mem::take(cut);
            self.take_cut(from, cut, deltas, &mut taken, &mut late)?;
        }
        self.take_late(now_ms, from, late, &mut taken)?;
        if let Some((peer, cursor)) = cursor {
            tables::save_cursor(&self.conn, &peer, cursor)?;
        }
        if self.is_behind.get() {
            // What was refused now lies before them.
            tables::forget_cursors(&self.conn)?;
        }
        Ok(taken)
    }

    /// Drops what waits of a connection that ended.
    pub fn forget_cut(&self, from: u64, cut: &Cut) {
        if cut.spooled > 0 {
            // If it fails, a table that lives as long as this connection is a little longer.
            self.conn.execute("DELETE FROM temp.__crsql_sync_spool WHERE link = ?1", [from as i64]).ok();
        }
    }

    /// Drops chunks that wait for the rest too long, inside a batch of work. True if there were any: the cursors are
    /// forgotten then, so connections should begin anew.
    ///
    /// # Errors
    /// SQLite's.
    pub fn expire(&mut self, now_ms: u64) -> Result<bool> {
        let expired = self.ledger.expire(now_ms);
        for (site, version) in &expired {
            self.unstage(*site, *version)?;
        }
        if !expired.is_empty() {
            tables::forget_cursors(&self.conn)?;
        }
        Ok(!expired.is_empty())
    }

    /// What could not be applied before the cut was, because it tells of deletes that are in the cut.
    fn take_late(&mut self, now_ms: u64, from: u64, late: Late, taken: &mut Taken) -> Result<()> {
        for frame in &late.tidings {
            if let Err((code, reason)) =
                self.apply_body(frame, &VersionVector::default(), &mut VersionVector::default())?
            {
                self.is_behind.set(self.is_behind.get() || code == Code::BEHIND);
                taken.reasons.push(reason);
            }
        }
        for frame in late.frames {
            self.take_frame(now_ms, from, frame, taken, None)?;
        }
        Ok(())
    }

    /// With `late`, a frame that tells of deletes that are not here goes there.
    fn take_frame(
        &mut self,
        now_ms: u64,
        from: u64,
        frame: Frame,
        taken: &mut Taken,
        late: Option<&mut Late>,
    ) -> Result<()> {
        let (site, version) = (frame.site, frame.site_version);
        let known = tables::chain(&self.conn, site, version)?;
        let recorded = match self.ledger.record(now_ms, &frame, known) {
            Ok(recorded) => recorded,
            Err(code) => return reject(taken, site, version, (code, "it was refused".into())),
        };
        match recorded {
            Recorded::Known => {
                if self.ledger.whole().contains(site, version) {
                    taken.held.insert(site, version);
                }
                return Ok(());
            }
            Recorded::Part => self.stage(&frame)?,
            Recorded::Whole(frames) => {
                let mut allowed = VersionVector::default();
                allowed.insert(site, version);
                let mut claimed = VersionVector::default();
                for frame in &frames {
                    if let Err(refused) = self.apply_body(frame, &allowed, &mut claimed)? {
                        self.unhold(now_ms, site, version)?;
                        if refused.0 == Code::BEHIND {
                            if let (Some(late), 1) = (late, frames.len()) {
                                late.frames.push(frame.clone());
                                return Ok(());
                            }
                            self.is_behind.set(true);
                        }
                        return reject(taken, site, version, refused);
                    }
                }
                if frames.len() > 1 {
                    self.unstage(site, version)?;
                }
                self.claim_in_database(&allowed.difference(&claimed))?;
                tables::save_chain(&self.conn, site, Head { version, chain: frame.chain })?;
                if site == self.site {
                    self.save_state()?;
                }
                taken.held.insert(site, version);
                self.batch_mut().gained.insert(site, version);
            }
        }
        if self.options.passes_on {
            self.append(
                Names::of(&frame),
                Content { frames: vec![frame], ..Content::default() },
                Some(from),
            )?;
        }
        Ok(())
    }

    fn take_cut(
        &mut self,
        from: u64,
        mut cut: Cut,
        deltas: Vec<Frame>,
        taken: &mut Taken,
        late: &mut Late,
    ) -> Result<()> {
        let mut claimed = VersionVector::default();
        let mut refused = None;
        if cut.spooled > 0 {
            let mut after = 0;
            while let Some((id, frame)) = self.unspool(from, after)? {
                after = id;
                refused = self.apply_body(&frame, &cut.claims, &mut claimed)?.err().or(refused);
            }
            self.forget_cut(from, &cut);
        }
        for frame in &deltas {
            match self.apply_body(frame, &cut.claims, &mut claimed)? {
                Err((Code::BEHIND, _)) if is_tidings(frame) => late.tidings.push(frame.clone()),
                done => refused = done.err().or(refused),
            }
        }
        if let Some(refused) = refused {
            cut.is_spoiled = true;
            self.is_behind.set(self.is_behind.get() || refused.0 == Code::BEHIND);
            for (site, lo, _) in cut.claims.ranges() {
                reject(taken, site, lo, refused.clone())?;
            }
        }
        if cut.is_spoiled || cut.claims.is_empty() {
            return Ok(());
        }
        taken.held.union_with(&cut.claims);
        let new = self.ledger.claim(&cut.claims, &cut.chains);
        if new.is_empty() {
            return Ok(());
        }
        self.claim_in_database(&new.difference(&claimed))?;
        cut.chains.retain(|at| new.contains(at.site, at.version));
        self.save_chains(&cut.chains)?;
        for (site, lo, hi) in new.ranges() {
            let args = params![site.0.as_slice(), lo as i64, hi as i64];
            self.conn
                .prepare_cached(
                    "DELETE FROM main.__crsql_sync_stage WHERE site = ?1 AND version BETWEEN ?2 AND ?3",
                )?
                .execute(args)?;
        }
        if new.of_site(self.site).is_some() {
            self.save_state()?;
        }
        self.batch_mut().gained.union_with(&new);
        if !self.options.passes_on {
            return Ok(());
        }
        let bytes: usize = deltas.iter().map(Frame::wire_bytes).sum();
        if cut.spooled > 0 || bytes > ENTRY_BYTES_MAX {
            return self.restart_journal();
        }
        self.append(Names::Nothing, Content { frames: deltas, claims: new, chains: cut.chains }, Some(from))
    }

    /// Merges a body. `allowed` are the versions that it may claim; those that it did go to `claimed`.
    fn apply_body(
        &self,
        frame: &Frame,
        allowed: &VersionVector,
        claimed: &mut VersionVector,
    ) -> Result<std::result::Result<(), Refused>> {
        if frame.codec != CODEC_PLAIN {
            return Ok(Err((Code::CODEC, format!("codec {} was not agreed on", frame.codec))));
        }
        let limits = Limits { raw_bytes: self.options.limits.tx_bytes as usize };
        let claims = match Changeset::open(&frame.body.0, &limits) {
            Err(error) => return Ok(Err((Code::BODY, error.to_string()))),
            Ok(changeset) => changeset.claims().clone(),
        };
        if !allowed.is_superset(&claims) {
            return Ok(Err((Code::BODY, "it claims versions that its frame does not name".into())));
        }
        let applied = self
            .conn
            .prepare_cached("SELECT crsql_apply(?1)")?
            .query_row([&frame.body.0], |row| row.get::<_, String>(0));
        match applied {
            Ok(report) if report.contains("\"refused\":[]") => {
                claimed.union_with(&claims);
                Ok(Ok(()))
            }
            Ok(report) => Ok(Err((Code::CLOCK, report))),
            // The extension's own words: this changeset can't be applied. Anything else is SQLite's trouble.
            Err(rusqlite::Error::SqliteFailure(error, message)) if error.code == ErrorCode::Unknown => {
                let message = message.unwrap_or_default();
                let code = if message.contains(BEHIND) { Code::BEHIND } else { Code::BODY };
                Ok(Err((code, message)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the extension that these versions are held.
    fn claim_in_database(&self, versions: &VersionVector) -> Result<()> {
        if versions.is_empty() {
            return Ok(());
        }
        let claims = Writer::new(self.tie_break).finish_as(versions, Compress::No);
        self.conn.prepare_cached("SELECT crsql_apply(?1)")?.query_row([claims], |_| Ok(()))?;
        Ok(())
    }

    fn stage(&mut self, frame: &Frame) -> Result<()> {
        if self.ledger.stage().chunks(frame.site, frame.site_version).len() == 1 {
            // The first, or the first of another history that replaced the older one's.
            self.unstage(frame.site, frame.site_version)?;
        }
        self.conn
            .prepare_cached("INSERT INTO main.__crsql_sync_stage (site, version, entry) VALUES (?1, ?2, ?3)")?
            .execute(params![frame.site.0.as_slice(), frame.site_version as i64, entry_of(frame)])?;
        Ok(())
    }

    fn unstage(&self, site: SiteId, version: u64) -> Result<()> {
        self.conn
            .prepare_cached("DELETE FROM main.__crsql_sync_stage WHERE site = ?1 AND version = ?2")?
            .execute(params![site.0.as_slice(), version as i64])?;
        Ok(())
    }

    /// Puts a delta by until its cut ends: on disk, but only for the life of this connection.
    fn spool(&self, from: u64, cut: &mut Cut, frame: &Frame) -> Result<()> {
        if cut.spooled == 0 {
            self.conn.execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS __crsql_sync_spool
                 (id INTEGER PRIMARY KEY, link INTEGER NOT NULL, entry BLOB NOT NULL)",
            )?;
        }
        cut.spooled += 1;
        cut.spooled_bytes += frame.wire_bytes() as u64;
        self.conn
            .prepare_cached("INSERT INTO temp.__crsql_sync_spool (link, entry) VALUES (?1, ?2)")?
            .execute(params![from as i64, entry_of(frame)])?;
        Ok(())
    }

    fn unspool(&self, from: u64, after: i64) -> Result<Option<(i64, Frame)>> {
        let mut select = self.conn.prepare_cached(
            "SELECT id, entry FROM temp.__crsql_sync_spool WHERE link = ?1 AND id > ?2 ORDER BY id LIMIT 1",
        )?;
        let mut rows = select.query(params![from as i64, after])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let id = row.get(0)?;
        let batch = read(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        Ok(batch.frames.into_iter().next().map(|frame| (id, frame)))
    }
}

/// Whether a delta has no changes.
fn is_tidings(frame: &Frame) -> bool {
    let changeset = Changeset::open(&frame.body.0, &Limits::default());
    changeset.is_ok_and(|changeset| matches!(changeset.reader().next_run(), Ok(None)))
}

fn reject(taken: &mut Taken, site: SiteId, site_version: u64, (code, reason): Refused) -> Result<()> {
    taken.rejected.push(Rejected { site, site_version, code });
    taken.reasons.push(format!("version {site_version} of site {site} was set aside ({code}): {reason}"));
    Ok(())
}

fn entry_of(frame: &Frame) -> Vec<u8> {
    let frames = vec![frame.clone()];
    let (claims, chains) = Default::default();
    codec::encode(&Batch { after: 0, upto: 0, part: 1, frames, claims, chains, more: false }.into())
}
