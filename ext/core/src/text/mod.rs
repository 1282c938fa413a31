//! Columns of type text: what many people typed, merged character by character.
//!
//! Every site has its **part** of a text, as it has of a counter: what it typed and deleted, which is a Yjs update
//! in other bytes ([`part`]). So that a keystroke need not send all that the site ever typed, a part lies in [`LEVELS`] cells: the
//! first takes what is new, and when it is full goes into the next one, which is sixteen times as large. Each is a
//! cell like any other and the newest one of its site wins; a site writes two that exchange something in one version,
//! so whoever has the newer of both has all that was in either.
//!
//! The text itself is made of all cells together ([`weave`], [`document`]), by [yrs](https://docs.rs/yrs), in an order
//! that depends on the cells alone: replicas that hold the same cells show the same text, whatever a cell holds.
//!
//! | a cell of the first level | means |
//! |---|---|
//! | NULL | nothing was typed |
//! | TEXT | the author put this into a new row, or an empty text, at once |
//! | BLOB | a packed part; what can't be read as one means nothing |
//!
//! **Clients.** Yjs names characters by a client's number. Those from 2^52 on are given here: to a site in one
//! incarnation of a row, so that a clone with a new name, or a row that begins anew, never reuses one; and to what a
//! register held, by its content, so that all who start from the same text start from the same characters. A site's
//! numbers count in its own part only. Smaller ones are those of editors, which choose them at random.

pub mod diff;
pub mod document;
pub mod part;
mod runs;
pub mod weave;

use crate::ids::SiteId;
use crate::value::{Value, ValueRef};
use part::{Block, Part};
use std::collections::BTreeMap;

/// How many cells a site has of one text.
pub const LEVELS: usize = crate::column::TEXT_LEVELS;

/// How many bytes each level but the last holds, at most.
const LEVEL_BYTES: [usize; LEVELS - 1] = [256, 4 << 10, 64 << 10];

/// Client numbers of sites and of registers begin here.
const OURS: u64 = 1 << 52;
/// And of registers here.
const BASES: u64 = OURS | 1 << 51;
/// The lowest bit of what is left for the site's name.
const SITE_SHIFT: u32 = 16;
/// How many numbers a site has in one incarnation of a row.
const GENERATIONS: u64 = 1 << 10;

fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default())
}

fn site_bits(site: &SiteId) -> u64 {
    OURS | (hash(&site.0) & ((1 << (51 - SITE_SHIFT)) - 1)) << SITE_SHIFT
}

/// A client number of a site in the incarnation `cl` of a row.
pub fn client_of(site: &SiteId, cl: u64, generation: u64) -> u64 {
    site_bits(site) | ((cl / 2 % 64) << 10) | (generation % GENERATIONS)
}

/// The client that typed what a register held.
pub fn client_of_base(text: &str) -> u64 {
    BASES | hash(text.as_bytes()) & ((1 << 51) - 1)
}

/// Whether a client's characters may lie in a part of `site`.
fn is_of(client: u64, site: Option<&SiteId>) -> bool {
    match (client, site) {
        (..OURS, _) | (BASES.., _) => true,
        (_, Some(site)) => client >> SITE_SHIFT == site_bits(site) >> SITE_SHIFT,
        (_, None) => false,
    }
}

/// One cell of a text: its author, its level, its value.
pub type TextCell = (SiteId, usize, Value);

/// What a cell says.
fn part_of(site: &SiteId, cl: u64, value: &Value) -> Part {
    match value {
        Value::Text(_) => typed_at_once(client_of(site, cl, 0), &text_of(value)),
        Value::Blob(packed) => Part::unpack(packed).unwrap_or_default(),
        _ => Part::default(),
    }
}

/// A text that was there at once.
fn typed_at_once(client: u64, text: &str) -> Part {
    let blocks =
        if text.is_empty() { BTreeMap::new() } else { [(client, vec![Block::text(0, text)])].into() };
    Part { blocks, ..Part::default() }
}

/// A value as text; nothing for what is none.
fn text_of(value: &Value) -> std::borrow::Cow<'_, str> {
    match value.as_ref() {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes),
        _ => "".into(),
    }
}

/// Whether the base table shows all that is held: there is one cell, and it was typed at once, or only the base.
pub fn is_shown(base: Option<&Value>, cells: &[TextCell]) -> bool {
    matches!((base, cells), (_, []) | (None, [(_, 0, Value::Text(_) | Value::Null)]))
}

/// What a column shows; `None` when it shows its default. `cl` is the row's causal length.
pub fn show(base: Option<&Value>, cells: &[TextCell], cl: u64) -> Option<Value> {
    match (base, cells) {
        (_, []) => base.cloned(),
        (None, [(.., value)]) if is_shown(base, cells) => Some(value.clone()),
        _ if is_null(base, cells) => Some(Value::Null),
        _ => Some(Value::text(document::Document::new(base, cells, cl, None).text())),
    }
}

/// Whether nobody ever wrote a text there.
pub fn is_null(base: Option<&Value>, cells: &[TextCell]) -> bool {
    !matches!(base, Some(Value::Text(_))) && cells.iter().all(|(.., value)| *value == Value::Null)
}

/// What a site's cells become when it sets a text to `new`: those that are others than before. `base` is what the column
/// held as a register, or by default; `level` reads the site's own cells.
///
/// # Errors
/// When there is no room for it.
pub fn set(
    base: Option<&Value>,
    cells: &[TextCell],
    cl: u64,
    site: &SiteId,
    new: &Value,
    level: impl Fn(usize) -> Option<Value>,
) -> Result<Vec<(usize, Value)>, document::UpdateError> {
    if let Some(first) = first(base, cells, level(0).as_ref(), new.as_ref()) {
        return Ok(vec![(0, first)]);
    }
    let edits = document::Document::new(base, cells, cl, Some(site)).edit(&text_of(new))?;
    if edits.is_empty() {
        return Ok(Vec::new());
    }
    write(site, cl, edits, |at| Ok(level(at)))
}

/// The cell of a text that nobody has typed in before, if `new` is the first that is typed: as it is. `own` is the
/// site's cell of the first level.
pub fn first(
    base: Option<&Value>,
    cells: &[TextCell],
    own: Option<&Value>,
    new: ValueRef<'_>,
) -> Option<Value> {
    let is_first = is_null(base, cells) && own.is_none_or(|own| *own == Value::Null);
    (is_first && matches!(new, ValueRef::Text(_))).then(|| new.to_owned_value())
}

/// A site's cells after it wrote `edits` on top of what they were: those that are others now. `level` reads what they
/// were.
///
/// # Errors
/// Those of `level`.
pub fn write<E>(
    site: &SiteId,
    cl: u64,
    edits: Part,
    mut level: impl FnMut(usize) -> Result<Option<Value>, E>,
) -> Result<Vec<(usize, Value)>, E> {
    let mut part = level(0)?.map_or_else(Part::default, |value| part_of(site, cl, &value));
    part.add(edits);
    part.compact();
    let mut emptied = Vec::new();
    for at in 0..LEVELS {
        if at > 0
            && let Some(known) = level(at)?
        {
            let newer = std::mem::replace(&mut part, part_of(site, cl, &known));
            part.add(newer);
            part.compact();
            emptied.push(at);
        }
        let bytes = part.pack();
        if LEVEL_BYTES.get(at).is_none_or(|most| bytes.len() <= *most) {
            emptied.retain(|known| *known != at);
            let mut cells = Vec::new();
            if at > 0 {
                cells.push((0, Value::Blob(Part::default().pack())));
            }
            cells.extend(emptied.into_iter().map(|at| (at, Value::Blob(Part::default().pack()))));
            cells.push((at, Value::Blob(bytes)));
            return Ok(cells);
        }
    }
    Ok(Vec::new())
}

/// The same cell under another name of its author: what it typed becomes the work of `new`.
pub fn renamed(value: &Value, old: &SiteId, new: &SiteId) -> Value {
    let Value::Blob(bytes) = value else { return value.clone() };
    let Ok(part) = Part::unpack(bytes) else { return value.clone() };
    let (old, new) = (site_bits(old), site_bits(new));
    let rename = |client: u64| match client < BASES && client >> SITE_SHIFT == old >> SITE_SHIFT {
        true => new | client & ((1 << SITE_SHIFT) - 1),
        false => client,
    };
    let mut renamed = Part::default();
    for (client, mut blocks) in part.blocks {
        for id in blocks.iter_mut().flat_map(|block| block.left.iter_mut().chain(&mut block.right)) {
            id.client = rename(id.client);
        }
        renamed.blocks.insert(rename(client), blocks);
    }
    renamed.deletes = part.deletes.into_iter().map(|(client, ranges)| (rename(client), ranges)).collect();
    Value::Blob(renamed.pack())
}

#[cfg(test)]
mod tests;
