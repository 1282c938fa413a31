//! A text put together: what it says, and how edits of it become part of a site's cells.
//!
//! [yrs](https://docs.rs/yrs) keeps the characters in order. It is given only what [`super::weave`] let through, one
//! client's run at a time and every run after those it builds on, so it never has to wait for anything.
//!
//! Local edits are made by the names of characters ([`super::runs`]), as the library would make them, and given to it
//! when something is asked of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    Any, Assoc, ClientID, Doc, GetString, IndexedSequence, OffsetKind, Options, Out, ReadTxn, Snapshot,
    StateVector, StickyIndex, Text, TextRef, Transact, Update,
};

use super::diff::{Edit, diff};
use super::part::{Block, CLOCK_MAX, Id, Part, PartError, ROOT, Ranges, units};
use super::runs::{Gap, Runs};
use super::weave::{Weave, Woven};
use super::{GENERATIONS, OURS, TextCell, client_of, client_of_base, part_of, text_of, typed_at_once};
use crate::ids::SiteId;
use crate::value::Value;

/// Why an editor's update is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// It can't be read.
    #[error("{0}")]
    Part(#[from] PartError),
    /// It builds on characters that are not here.
    #[error(
        "it builds on edits that are not here; give the editor the text's state first, or send all of its own"
    )]
    Missing,
    /// Its client number is one of ours.
    #[error("it types under a client number from 2^52 on; those are given to sites")]
    Client,
    /// There is no room for it.
    #[error("the text has reached its limit; copy it into a new row")]
    Full,
}

/// A text, put together from its cells.
pub struct Document {
    doc: Doc,
    root: TextRef,
    /// Edits that the library has not been given yet.
    pending: Part,
    /// The names of the text's characters, once somebody typed.
    runs: Option<Runs>,
    text: String,
    /// It looks otherwise than when somebody last asked.
    is_changed: bool,
    /// Under which number local edits are typed.
    client: u64,
    /// How many units of each client are in, and which of them are deleted.
    next: BTreeMap<u64, u32>,
    deletes: BTreeMap<u64, Ranges>,
    /// What a register held, as long as no cell has it.
    base: Option<Part>,
}

impl Document {
    /// Puts a text together, for `site` to write on in the incarnation `cl` of the row. `base` is what the column held
    /// as a register, or by default.
    pub fn new(base: Option<&Value>, cells: &[TextCell], cl: u64, site: Option<&SiteId>) -> Document {
        let mut cells: Vec<&TextCell> = cells.iter().collect();
        cells.sort_by_key(|(site, level, _)| (*site, std::cmp::Reverse(*level)));
        let parts: Vec<(SiteId, Part)> =
            cells.iter().map(|(site, _, value)| (*site, part_of(site, cl, value))).collect();
        let base = base.map(text_of).filter(|text| !text.is_empty());
        let base = base.map(|text| (client_of_base(&text), typed_at_once(client_of_base(&text), &text)));
        let weave = Weave::new(
            base.iter()
                .map(|(_, part)| (None, part))
                .chain(parts.iter().map(|(site, part)| (Some(*site), part))),
        );
        let woven = weave.weave(BTreeMap::new());
        let is_kept = |client: &u64| parts.iter().any(|(_, part)| part.blocks.contains_key(client));
        let unsaved = base.as_ref().filter(|(client, _)| !is_kept(client)).map(|(_, part)| part.clone());
        // A number whose characters are not all in may not go on: they would be named twice.
        let is_whole = |client: &u64| weave.end_of(*client) == woven.next.get(client).copied().unwrap_or(0);
        let mut clients =
            site.into_iter().flat_map(|site| (0..GENERATIONS).map(|at| client_of(site, cl, at)));
        let client = clients.find(is_whole).unwrap_or(0);
        let built = catch_unwind(AssertUnwindSafe(|| Document::of(client, &woven)));
        let mut document = built.unwrap_or_else(|_| Document::of(client, &Woven::default()));
        document.base = unsaved;
        document.is_changed = false;
        document
    }

    fn of(client: u64, woven: &Woven) -> Document {
        let mut options = Options::with_guid_and_client_id("".into(), ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        let doc = Doc::with_options(options);
        let root = doc.get_or_insert_text(ROOT);
        let mut document = Document {
            doc,
            root,
            pending: Part::default(),
            runs: None,
            text: String::new(),
            is_changed: false,
            client,
            next: BTreeMap::new(),
            deletes: BTreeMap::new(),
            base: None,
        };
        document.integrate(woven);
        document
    }

    /// Takes in what was let through.
    fn integrate(&mut self, woven: &Woven) {
        self.settle();
        self.runs = None;
        {
            let mut txn = self.doc.transact_mut();
            let runs = woven
                .runs
                .iter()
                .map(|(client, run)| Part { blocks: [(*client, run.clone())].into(), ..Part::default() });
            let deletes = Part { deletes: woven.deletes.clone(), ..Part::default() };
            for part in runs.chain([deletes]) {
                // What is encoded here can be decoded; what can't be taken is left out by every replica.
                if let Ok(update) = Update::decode_v1(&part.encode()) {
                    let _ = txn.apply_update(update);
                }
            }
        }
        let text = self.root.get_string(&self.doc.transact());
        self.is_changed |= text != self.text;
        self.text = text;
        self.next.extend(woven.next.iter().map(|(client, end)| (*client, *end)));
        for (client, ranges) in &woven.deletes {
            let known = self.deletes.entry(*client).or_default();
            ranges.iter().for_each(|(from, to)| known.insert(from, to));
        }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it looks otherwise than when this was last asked, or since it was put together.
    pub fn take_is_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Makes it say `new`: the least that has to be typed and deleted for it, for the site's own cells.
    ///
    /// # Errors
    /// When the site has no room left to type in.
    pub fn edit(&mut self, new: &str) -> Result<Part, UpdateError> {
        self.edit_at(&diff(&self.text, new))
    }

    /// Makes these edits, which are in order and do not touch.
    ///
    /// # Errors
    /// When the site has no room left to type in.
    pub fn edit_at(&mut self, edits: &[Edit<'_>]) -> Result<Part, UpdateError> {
        let old = std::mem::take(&mut self.text);
        let done = self.apply_edits(&old, edits);
        self.text = old;
        if done.is_ok() {
            for edit in edits.iter().rev() {
                self.is_changed |= self.text[edit.at..edit.at + edit.deleted] != *edit.inserted;
                self.text.replace_range(edit.at..edit.at + edit.deleted, edit.inserted);
            }
        }
        done
    }

    fn apply_edits(&mut self, old: &str, edits: &[Edit<'_>]) -> Result<Part, UpdateError> {
        let base = self.base.clone();
        if edits.is_empty() {
            return Ok(Part::default());
        }
        let typed: u64 = edits.iter().map(|edit| units(edit.inserted)).sum();
        let known = self.next.get(&self.client).copied().unwrap_or(0);
        if self.client == 0 || u64::from(known) + typed > u64::from(CLOCK_MAX) {
            return Err(UpdateError::Full);
        }
        let mut runs = match self.runs.take() {
            Some(runs) => runs,
            // Cells hold nothing but characters, all of which have names; what has none could not be edited.
            None => self.find_runs(old).ok_or(UpdateError::Full)?,
        };
        let mut part = Part::default();
        // From behind, so that what is before stays where it is.
        for edit in edits.iter().rev() {
            if edit.deleted > 0 {
                for (first, units) in runs.delete(old, edit.at..edit.at + edit.deleted) {
                    part.delete(first, units);
                    self.pending.delete(first, units);
                }
            }
            if !edit.inserted.is_empty() {
                self.type_at(&mut runs, old, edit, &mut part)?;
            }
        }
        self.runs = Some(runs);
        self.note_deletes(&part);
        if let Some(base) = base {
            part.add(base);
            self.base = None;
        }
        Ok(part)
    }

    /// Types what an edit inserts; what it deletes is gone already, and before it all is as `old` has it.
    fn type_at(
        &mut self,
        runs: &mut Runs,
        old: &str,
        edit: &Edit<'_>,
        part: &mut Part,
    ) -> Result<(), UpdateError> {
        let clock = self.next.get(&self.client).copied().unwrap_or(0);
        let first = Id { client: self.client, clock };
        let mut block = Block::text(clock, edit.inserted);
        match runs.gap(old, edit.at) {
            Some(gap) => {
                (block.left, block.right) = (gap.left, gap.right);
                self.pending.append(self.client, block.clone());
            }
            None => {
                self.settle();
                let update = {
                    let mut txn = self.doc.transact_mut();
                    self.root.insert(&mut txn, units(&old[..edit.at]) as u32, edit.inserted);
                    txn.encode_update_v1()
                };
                let typed = Part::decode(&update)?;
                let typed = typed.blocks.get(&self.client).and_then(|blocks| blocks.first());
                block = typed.ok_or(UpdateError::Full)?.clone();
            }
        }
        self.next.insert(self.client, block.end());
        runs.insert(old, edit.at, Gap { left: block.left, right: block.right }, first, edit.inserted);
        part.append(self.client, block);
        Ok(())
    }

    /// Gives the library the edits that it has not been given yet.
    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty()
            && let Ok(update) = Update::decode_v1(&pending.encode())
        {
            // They build on what it has.
            let _ = self.doc.transact_mut().apply_update(update);
        }
    }

    /// The names of the characters of `text`, which is what the document says.
    fn find_runs(&mut self, text: &str) -> Option<Runs> {
        self.settle();
        let all = self.doc.transact().snapshot();
        let nothing = Snapshot::default();
        let mut txn = self.doc.transact_mut();
        let mut runs = Runs::default();
        let mut rest = text;
        for piece in self.root.diff_range(&mut txn, Some(&all), Some(&nothing), |change| change) {
            let (Out::Any(Any::String(said)), Some(change)) = (piece.insert, piece.ychange) else {
                return None;
            };
            rest = rest.strip_prefix(&*said)?;
            runs.push(Id { client: change.id.client.get(), clock: change.id.clock }, &said);
        }
        rest.is_empty().then_some(runs)
    }

    fn note_deletes(&mut self, part: &Part) {
        for (client, ranges) in &part.deletes {
            let known = self.deletes.entry(*client).or_default();
            ranges.iter().for_each(|(from, to)| known.insert(from, to));
        }
    }

    /// Takes an editor's update, incremental or whole: what of it is new, for the site's own cells.
    ///
    /// # Errors
    /// Says why it is not taken; nothing is changed then.
    pub fn apply(&mut self, update: &[u8]) -> Result<Part, UpdateError> {
        let mut part = Part::decode(update)?;
        for (client, blocks) in &mut part.blocks {
            let known = self.next.get(client).copied().unwrap_or(0);
            let all = std::mem::take(blocks);
            let unknown = all.into_iter().filter(|block| block.end() > known);
            blocks.extend(unknown.filter_map(|block: Block| block.from(*client, block.clock.max(known))));
        }
        part.blocks.retain(|_, blocks| !blocks.is_empty());
        if part.blocks.keys().any(|client| *client >= OURS) {
            return Err(UpdateError::Client);
        }
        let woven = Weave::new([(None, &part)].into_iter()).weave(self.next.clone());
        let is_in = |client: &u64, end: u32| woven.next.get(client).is_some_and(|next| *next >= end);
        if part.blocks.keys().any(|client| !is_in(client, part.end_of(*client)))
            || part.deletes.iter().any(|(client, ranges)| !ranges.iter().all(|(_, end)| is_in(client, end)))
        {
            return Err(UpdateError::Missing);
        }
        for (client, ranges) in &mut part.deletes {
            if let Some(known) = self.deletes.get(client) {
                known.iter().for_each(|(from, to)| ranges.remove(from, to));
            }
        }
        part.deletes.retain(|_, ranges| !ranges.is_empty());
        let done = catch_unwind(AssertUnwindSafe(|| self.integrate(&woven)));
        done.map_err(|_| UpdateError::Missing)?;
        if let Some(base) = self.base.take().filter(|_| !part.is_empty()) {
            part.add(base);
        }
        Ok(part)
    }

    /// The whole text as a Yjs update, or what is newer than a Yjs state vector.
    ///
    /// # Errors
    /// When `since` is no state vector.
    pub fn state(&mut self, since: Option<&[u8]>) -> Result<Vec<u8>, PartError> {
        let since = match since {
            None => StateVector::default(),
            Some(vector) => StateVector::decode_v1(vector).map_err(|_| PartError::Cut)?,
        };
        self.settle();
        Ok(self.doc.transact().encode_state_as_update_v1(&since))
    }

    /// A cursor before the character at `at`, counted from 0, that stays there whatever is typed elsewhere: a Yjs
    /// relative position. `None` behind the end.
    pub fn cursor(&mut self, at: usize) -> Option<Vec<u8>> {
        self.settle();
        let mut chars = self.text.char_indices().map(|(byte, _)| byte).chain([self.text.len()]);
        let unit = units(&self.text[..chars.nth(at)?]) as u32;
        let txn = self.doc.transact();
        let index = match u64::from(unit) == units(&self.text) {
            true => Some(StickyIndex::from_type(&txn, &self.root, Assoc::After)),
            false => self.root.sticky_index(&txn, unit, Assoc::After),
        };
        index.map(|index| index.encode_v1())
    }

    /// How many characters are before a cursor now; `None` when it is of another text.
    pub fn position(&mut self, cursor: &[u8]) -> Option<usize> {
        self.settle();
        let found = catch_unwind(AssertUnwindSafe(|| {
            let index = StickyIndex::decode_v1(cursor).ok()?;
            // Others than characters and the end are not of a plain text.
            let is_ours = match index.scope() {
                yrs::IndexScope::Relative(id) => {
                    self.next.get(&id.client.get()).is_some_and(|end| id.clock < *end)
                }
                yrs::IndexScope::Root(name) => &**name == ROOT,
                yrs::IndexScope::Nested(_) => false,
            };
            let offset = if is_ours { index.get_offset(&self.doc.transact())?.index } else { return None };
            let mut seen = 0;
            Some(
                self.text
                    .chars()
                    .take_while(|c| {
                        seen += c.len_utf16() as u32;
                        seen <= offset
                    })
                    .count(),
            )
        }));
        found.ok().flatten()
    }
}
