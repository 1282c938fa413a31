//! Columns of type text: their cells by level, and documents that are kept at hand while somebody types.
//!
//! A site has a cell on each of a few levels, and every level has a slot and a blob of its own in `__crsql_typed`, so
//! that a keystroke rewrites the small one only. All that is decided is in [`crsql_core::text`].

use super::capture::{check_value, show};
use super::{Facts, facts, store_unless, stored};
use crate::capture::record_changed;
use crate::catalog::{Table, Typed};
use crate::sqlite::{Error, Result, ValueRef};
use crate::state::State;
use crate::store::{Columns, Key, RowClock};
use crsql_core::ids::SiteId;
use crsql_core::text::document::Document;
use crsql_core::text::part::Part;
use crsql_core::text::{self, TextCell};
use crsql_core::value::Value;

/// Documents that are kept, at most.
const DOCUMENTS_MAX: usize = 4;

/// A text column of a row: table, key, register.
type Place = (u32, Key, u32);

/// Documents that were put together last, and from which revision. A write changes the revision and a rollback changes
/// it back, so one that is not what the database holds is never found.
#[derive(Default)]
pub struct Texts {
    known: Vec<(Place, u64, Document)>,
    /// What an editor did, on its way through an UPDATE.
    typed: Option<(Place, Document, Part)>,
}

impl Texts {
    fn take(&mut self, place: &Place, revision: u64) -> Option<Document> {
        let at = self.known.iter().position(|(known, ..)| known == place)?;
        let (_, known, document) = self.known.remove(at);
        (revision != 0 && known == revision).then_some(document)
    }

    fn keep(&mut self, place: Place, revision: u64, document: Document) {
        self.known.retain(|(known, ..)| *known != place);
        self.known.truncate(DOCUMENTS_MAX - 1);
        self.known.insert(0, (place, revision, document));
    }
}

/// A text column's levels, the first one first.
fn levels<'t>(table: &'t Table, typed: &Typed) -> impl Iterator<Item = &'t Typed> {
    table.typed.iter().filter(move |level| level.register == typed.register)
}

/// A number that no other write has.
fn new_revision() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 | 1
}

/// What is held of a text, all levels.
pub struct Held<'t>(Vec<(&'t Typed, Facts)>);

impl<'t> Held<'t> {
    /// Takes the levels that are known, and reads the others.
    pub fn new(
        table: &'t Table,
        typed: &Typed,
        mut known: Vec<(&'t Typed, Facts)>,
        mut read: impl FnMut(&Typed) -> Result<Facts>,
    ) -> Result<Held<'t>> {
        for level in levels(table, typed) {
            if !known.iter().any(|(known, _)| known.slot == level.slot) {
                known.push((level, read(level)?));
            }
        }
        known.sort_by_key(|(level, _)| level.level);
        Ok(Held(known))
    }

    fn base(&self) -> Option<&Value> {
        self.0.first().and_then(|(_, facts)| facts.base.as_ref())
    }

    fn cells(&self, state: &State) -> Result<Vec<TextCell>> {
        let mut cells = Vec::new();
        for (typed, facts) in &self.0 {
            add_cells(state, typed, facts, &mut cells)?;
        }
        Ok(cells)
    }

    /// What the base table shows; `None` when it shows the default.
    pub fn shown(&self, state: &State, cl: u64) -> Result<Option<Value>> {
        Ok(text::show(self.base(), &self.cells(state)?, cl))
    }

    /// The same, and keeps the document for whoever types next.
    pub fn show(&mut self, state: &State, place: Place, cl: u64) -> Result<Option<Value>> {
        let cells = self.cells(state)?;
        if text::is_shown(self.base(), &cells) || text::is_null(self.base(), &cells) {
            return Ok(text::show(self.base(), &cells, cl));
        }
        let document = Document::new(self.base(), &cells, cl, Some(&own_site(state)?.1));
        let shown = Value::text(document.text());
        let revision = new_revision();
        self.0[0].1.revision = revision;
        state.texts.borrow_mut().keep(place, revision, document);
        Ok(Some(shown))
    }

    /// Stores it, or that the base table shows all of it. Of levels that were not `changed` only what the first one
    /// holds.
    pub fn store(
        &self,
        state: &State,
        table: u32,
        key: &Key,
        changed: impl Fn(&Typed) -> bool,
    ) -> Result<()> {
        let is_shown = text::is_shown(self.base(), &self.cells(state)?);
        for (typed, facts) in self.0.iter().filter(|(typed, _)| typed.level == 0 || changed(typed)) {
            store_level(state, table, typed, key, facts, is_shown || facts.len() == 0)?;
        }
        Ok(())
    }

    /// The levels.
    pub fn levels_mut(&mut self) -> impl Iterator<Item = &mut (&'t Typed, Facts)> {
        self.0.iter_mut()
    }
}

fn store_level(
    state: &State,
    table: u32,
    typed: &Typed,
    key: &Key,
    facts: &Facts,
    is_shown: bool,
) -> Result<()> {
    if typed.level > 0 || facts.revision != 0 {
        return store_unless(state, table, typed, key, facts, is_shown);
    }
    // What was put together from the former ones is of no use any more.
    let facts = Facts { revision: new_revision(), ..facts.clone() };
    store_unless(state, table, typed, key, &facts, is_shown)
}

fn add_cells(state: &State, typed: &Typed, facts: &Facts, cells: &mut Vec<TextCell>) -> Result<()> {
    let mut store = state.store.borrow_mut();
    for (site, value) in &facts.cells {
        cells.push((store.sites.id(state.db, *site)?, typed.level, value.clone()));
    }
    Ok(())
}

/// This site's ordinal and id.
fn own_site(state: &State) -> Result<(u32, SiteId)> {
    let mut store = state.store.borrow_mut();
    store.refresh()?;
    let ordinal = store.site();
    Ok((ordinal, store.sites.id(state.db, ordinal)?))
}

/// The live row that somebody types in.
pub struct Row<'a> {
    /// Its table.
    pub table: &'a Table,
    /// Its rowid, where it has one.
    pub rowid: i64,
    /// Its key's values.
    pub key: &'a [ValueRef<'a>],
    /// The key of what is stored of it.
    pub facts_key: &'a Key,
    /// Its clock.
    pub clock: &'a RowClock,
    /// Reads what it shows in the column.
    pub shown: &'a dyn Fn() -> Result<Value>,
}

impl Row<'_> {
    fn place(&self, typed: &Typed) -> Place {
        (self.table.id, self.facts_key.clone(), typed.register)
    }

    /// What it holds on a level.
    fn facts(&self, state: &State, typed: &Typed) -> Result<Facts> {
        facts(state, self.table, typed, self.facts_key, self.clock, self.shown)
    }

    /// The levels above the first that have cells.
    fn uppers<'t>(&'t self, typed: &Typed) -> impl Iterator<Item = &'t Typed> {
        let has_cells =
            |level: &&Typed| self.clock.groups.iter().any(|group| group.columns.contains(level.slot));
        levels(self.table, typed).skip(1).filter(has_cells)
    }

    /// What the text begins with: what its column held as a register, or by default.
    fn base(&self, low: &Facts, cells: &[TextCell]) -> Result<Option<Value>> {
        match (&low.base, cells) {
            (None, []) => (self.shown)().map(Some),
            (base, _) => Ok(base.clone()),
        }
    }

    /// The document that its first level `low`, and the others, make.
    fn document(&self, state: &State, typed: &Typed, low: &Facts) -> Result<Document> {
        if let Some(known) = state.texts.borrow_mut().take(&self.place(typed), low.revision) {
            return Ok(known);
        }
        let mut cells = Vec::new();
        add_cells(state, typed, low, &mut cells)?;
        for upper in self.uppers(typed) {
            add_cells(state, upper, &self.facts(state, upper)?, &mut cells)?;
        }
        let base = self.base(low, &cells)?;
        Ok(Document::new(base.as_ref(), &cells, self.clock.cl, Some(&own_site(state)?.1)))
    }
}

/// The document of a text, to be read.
pub fn read<T>(
    state: &State,
    row: &Row<'_>,
    typed: &Typed,
    body: impl FnOnce(&mut Document) -> Result<T>,
) -> Result<T> {
    let low = row.facts(state, typed)?;
    let mut document = row.document(state, typed, &low)?;
    let done = body(&mut document);
    if low.revision != 0 {
        state.texts.borrow_mut().keep(row.place(typed), low.revision, document);
    }
    done
}

/// What an editor does to a document, before the UPDATE that shows it: [`write`] takes it from here. The text, and whether
/// it looks otherwise than before.
pub fn prepare(
    state: &State,
    row: &Row<'_>,
    typed: &Typed,
    body: impl FnOnce(&mut Document) -> Result<Part>,
) -> Result<(String, bool)> {
    let low = row.facts(state, typed)?;
    let mut document = row.document(state, typed, &low)?;
    document.take_is_changed();
    let part = body(&mut document)?;
    let text = document.text().to_owned();
    let is_changed = document.take_is_changed();
    state.texts.borrow_mut().typed = Some((row.place(typed), document, part));
    Ok((text, is_changed))
}

/// Forgets what was prepared, and tells whether it was still there.
pub fn forget_prepared(state: &State) -> bool {
    state.texts.borrow_mut().typed.take().is_some()
}

/// Records that the text of a row was set to `new`.
pub fn write(state: &State, row: &Row<'_>, typed: &Typed, new: ValueRef<'_>) -> Result<()> {
    let place = row.place(typed);
    let mut low = row.facts(state, typed)?;
    let (site, site_id) = own_site(state)?;
    let own = low.cell(typed, typed.slot, site).cloned();
    let prepared = state.texts.borrow_mut().typed.take().filter(|(known, ..)| *known == place);
    if prepared.as_ref().is_none_or(|(_, document, _)| !says(document, new)) {
        check_value(row.table, typed, new)?;
    }

    let mut cells = Vec::new();
    add_cells(state, typed, &low, &mut cells)?;
    let is_low = row.uppers(typed).next().is_none();
    let base = row.base(&low, &cells)?;
    if prepared.is_none()
        && is_low
        && let Some(first) = text::first(base.as_ref(), &cells, own.as_ref(), new)
    {
        low.set(typed, typed.slot, site, first);
        cells.clear();
        add_cells(state, typed, &low, &mut cells)?;
        let is_shown = text::is_shown(low.base.as_ref(), &cells);
        low.revision = 0;
        store_level(state, row.table.id, typed, row.facts_key, &low, is_shown)?;
        return record_changed(state, row.table, row.rowid, row.key, &Columns::one(typed.slot));
    }

    let (mut document, mut part) = match prepared {
        Some((_, document, part)) => (document, part),
        None => (row.document(state, typed, &low)?, Part::default()),
    };
    if !says(&document, new) {
        // What is no valid text was refused before.
        let wanted = match new {
            ValueRef::Text(text) => std::str::from_utf8(text).unwrap_or_default(),
            _ => "",
        };
        part.add(document.edit(wanted).map_err(|error| refused(row.table, typed, error))?);
    }
    if part.is_empty() {
        let done = show_else(state, row, typed, document.text(), new);
        state.texts.borrow_mut().keep(place, low.revision, document);
        return done;
    }
    let written = text::write(&site_id, row.clock.cl, part, |level| match level {
        0 => Ok(own.clone()),
        _ => own_cell(state, row, typed, level, site),
    })?;
    let mut columns = Columns::new();
    for (level, value) in written {
        let Some(typed) = levels(row.table, typed).nth(level) else { continue };
        columns.insert(typed.slot);
        match level {
            0 => low.set(typed, typed.slot, site, value),
            _ => {
                let mut facts = row.facts(state, typed)?;
                facts.set(typed, typed.slot, site, value);
                store_level(state, row.table.id, typed, row.facts_key, &facts, false)?;
            }
        }
    }
    low.revision = new_revision();
    store_level(state, row.table.id, typed, row.facts_key, &low, false)?;
    // One by one, because each has a clock of its own to go on from.
    for slot in columns.iter() {
        record_changed(state, row.table, row.rowid, row.key, &Columns::one(slot))?;
    }
    let done = show_else(state, row, typed, document.text(), new);
    state.texts.borrow_mut().keep(place, low.revision, document);
    done
}

/// Whether a document says what is to be written. A long text is looked at once rather than checked for what it is.
fn says(document: &Document, new: ValueRef<'_>) -> bool {
    match new {
        ValueRef::Text(text) => document.text().as_bytes() == text,
        _ => document.text().is_empty(),
    }
}

fn own_cell(state: &State, row: &Row<'_>, typed: &Typed, level: usize, site: u32) -> Result<Option<Value>> {
    let Some(typed) = levels(row.table, typed).nth(level) else { return Ok(None) };
    let facts = stored(state, row.table.id, typed, row.facts_key)?;
    Ok(facts.and_then(|facts| facts.cell(typed, typed.slot, site).cloned()))
}

/// Lets the base table show what the text says, if the writer asked for something else.
fn show_else(state: &State, row: &Row<'_>, typed: &Typed, now: &str, asked: ValueRef<'_>) -> Result<()> {
    let now = ValueRef::Text(now.as_bytes());
    if now.same(&asked) {
        return Ok(());
    }
    show(state, row.table, typed, row.rowid, row.key, now)
}

/// An error that names the text.
pub fn refused(table: &Table, typed: &Typed, error: impl std::fmt::Display) -> Error {
    Error::refused(format_args!("column {:?} of table {:?} is a text: {error}", typed.name, table.name))
}
