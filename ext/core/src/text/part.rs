//! What one site wrote of a text, in the bytes in which Yjs keeps it: an update, version 1.
//!
//! That is how editors and the library that makes documents exchange it. In a cell it is **packed**: clients' numbers, of
//! eight bytes each, stand once, in front, and after that their place in that list; and the text's name is left out.
//!
//! Only what a plain text needs is read and written: runs of characters, deleted runs, holes, and ranges of deletes.
//! Everything else that an update may hold, formats, maps, nested documents, is refused here, so the library that
//! makes a document of it never meets it.
//!
//! ```text
//! update  = count:n (client)* count:n (client deletes)*
//! client  = blocks:n id:n clock:n block*          n = LEB128
//! block   = info:u8 [left:id] [right:id] [1 root] content      no root after an origin
//! packed  = count:n id* update                                 in it, places for ids, and no roots
//! ```

use std::collections::BTreeMap;

/// The name of the text inside a Yjs document: `doc.getText('text')`.
pub const ROOT: &str = "text";

/// Greatest client id: 53 bits, what a JavaScript number holds exactly.
pub const CLIENT_MAX: u64 = (1 << 53) - 1;

/// Greatest number of UTF-16 units that a client may have written, deleted ones included.
pub const CLOCK_MAX: u32 = 1 << 30;

const DELETED: u8 = 1;
const STRING: u8 = 4;
const SKIP: u8 = 10;
const HAS_LEFT: u8 = 0x80;
const HAS_RIGHT: u8 = 0x40;

/// The name of one UTF-16 unit of a text, for ever: who typed it, and which of theirs it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The client.
    pub client: u64,
    /// How many units it had typed before.
    pub clock: u32,
}

/// What a block is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Characters.
    Text(String),
    /// So many units that are not there any more.
    Deleted(u32),
}

/// Units that were typed one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first one's clock.
    pub clock: u32,
    /// How many.
    pub len: u32,
    /// What was to the left when the first one was typed.
    pub left: Option<Id>,
    /// What was to the right.
    pub right: Option<Id>,
    /// What they are.
    pub content: Content,
}

impl Block {
    /// Characters that begin at `clock`.
    pub fn text(clock: u32, text: &str) -> Block {
        Block {
            clock,
            len: units(text).min(u64::from(CLOCK_MAX)) as u32,
            left: None,
            right: None,
            content: Content::Text(text.into()),
        }
    }

    /// The clock behind the last unit.
    pub fn end(&self) -> u32 {
        self.clock + self.len
    }

    /// The units from `clock` on; `None` where that would cut a character in two.
    pub fn from(&self, client: u64, clock: u32) -> Option<Block> {
        let skipped = clock - self.clock;
        if skipped == 0 {
            return Some(self.clone());
        }
        let content = match &self.content {
            Content::Text(text) => Content::Text(text[byte_of(text, skipped)?..].into()),
            Content::Deleted(len) => Content::Deleted(len - skipped),
        };
        let left = Some(Id { client, clock: clock - 1 });
        Some(Block { clock, len: self.len - skipped, left, right: self.right, content })
    }

    /// The units before `clock`.
    fn until(&self, clock: u32) -> Option<Block> {
        let len = clock - self.clock;
        let content = match &self.content {
            Content::Text(text) => Content::Text(text[..byte_of(text, len)?].into()),
            Content::Deleted(_) => Content::Deleted(len),
        };
        Some(Block { len, content, ..self.clone() })
    }

    /// Adds the next block, if it was typed right behind this one.
    fn absorb(&mut self, client: u64, next: &Block) -> bool {
        let follows = next.clock == self.end()
            && next.left == Some(Id { client, clock: self.end() - 1 })
            && next.right == self.right;
        match (&mut self.content, &next.content) {
            (Content::Text(text), Content::Text(more)) if follows => text.push_str(more),
            (Content::Deleted(len), Content::Deleted(more)) if follows => *len += more,
            _ => return false,
        }
        self.len += next.len;
        true
    }
}

/// Adds a block behind the others.
fn push(blocks: &mut Vec<Block>, client: u64, block: Block) {
    let is_absorbed = blocks.last_mut().is_some_and(|last| last.absorb(client, &block));
    if !is_absorbed {
        blocks.push(block);
    }
}

/// The number of UTF-16 units.
pub fn units(text: &str) -> u64 {
    text.chars().map(|c| c.len_utf16() as u64).sum()
}

/// Where the unit at `at` begins; `None` inside a character.
fn byte_of(text: &str, at: u32) -> Option<usize> {
    if text.is_ascii() {
        return Some(at as usize).filter(|at| *at <= text.len());
    }
    let mut unit = 0;
    for (byte, c) in text.char_indices() {
        if unit >= at {
            return (unit == at).then_some(byte);
        }
        unit += c.len_utf16() as u32;
    }
    (unit == at).then_some(text.len())
}

/// Ranges of clocks, sorted, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Adds `from..to`.
    pub fn insert(&mut self, from: u32, to: u32) {
        let start = self.0.partition_point(|(_, end)| *end < from);
        let end = self.0.partition_point(|(start, _)| *start <= to);
        let (mut lo, mut hi) = (from, to);
        if start < end {
            (lo, hi) = (lo.min(self.0[start].0), hi.max(self.0[end - 1].1));
        }
        self.0.splice(start..end, [(lo, hi)]);
    }

    /// Takes `from..to` out.
    pub(super) fn remove(&mut self, from: u32, to: u32) {
        let old = std::mem::take(&mut self.0);
        for (lo, hi) in old {
            let (left, right) = ((lo, hi.min(from)), (lo.max(to), hi));
            self.0.extend([left, right].into_iter().filter(|(lo, hi)| lo < hi));
        }
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// Without one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges that reach into `from..to`.
    fn within(&self, from: u32, to: u32) -> &[(u32, u32)] {
        let start = self.0.partition_point(|(_, end)| *end <= from);
        let end = self.0.partition_point(|(start, _)| *start < to);
        &self.0[start..end.max(start)]
    }
}

/// Why bytes are no part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// They end too early, or go on where they should end.
    #[error("its bytes are no whole update")]
    Cut,
    /// A number, a length or a text out of bounds.
    #[error("a number in it is out of bounds")]
    OutOfBounds,
    /// Text that is none.
    #[error("its text is not UTF-8")]
    NotUtf8,
    /// Something that plain text doesn't have.
    #[error("it holds more than plain text: formats, other types, or a text not called \"text\"")]
    NotPlain,
}

type Result<T> = std::result::Result<T, PartError>;

/// Blocks and deletes, by client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Ascending and apart.
    pub blocks: BTreeMap<u64, Vec<Block>>,
    /// What was deleted, of whomever.
    pub deletes: BTreeMap<u64, Ranges>,
}

impl Part {
    /// Reads an update.
    ///
    /// # Errors
    /// Says what is wrong with it. Whatever the bytes are, memory stays in proportion to them.
    pub fn decode(bytes: &[u8]) -> Result<Part> {
        Part::read(Reader { bytes, clients: None })
    }

    /// Reads what a cell holds.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn unpack(bytes: &[u8]) -> Result<Part> {
        let mut bytes = Reader { bytes, clients: None };
        let mut clients = Vec::new();
        for _ in 0..bytes.number()? {
            clients.push(bytes.client()?);
        }
        Part::read(Reader { bytes: bytes.bytes, clients: Some(clients) })
    }

    fn read(mut bytes: Reader<'_>) -> Result<Part> {
        let mut part = Part::default();
        for _ in 0..bytes.number()? {
            let count = bytes.number()?;
            let (client, mut clock) = (bytes.client()?, bytes.clock()?);
            let mut blocks: Vec<Block> = Vec::new();
            for _ in 0..count {
                let info = bytes.byte()?;
                if info == SKIP {
                    clock = bytes.behind(clock)?;
                    continue;
                }
                let block = bytes.block(info, clock)?;
                clock = clock
                    .checked_add(block.len)
                    .filter(|end| *end <= CLOCK_MAX)
                    .ok_or(PartError::OutOfBounds)?;
                push(&mut blocks, client, block);
            }
            if !blocks.is_empty() && part.blocks.insert(client, blocks).is_some() {
                return Err(PartError::OutOfBounds);
            }
        }
        for _ in 0..bytes.number()? {
            let ranges = part.deletes.entry(bytes.client()?).or_default();
            for _ in 0..bytes.number()? {
                let from = bytes.clock()?;
                ranges.insert(from, bytes.behind(from)?);
            }
        }
        part.deletes.retain(|_, ranges| !ranges.is_empty());
        if bytes.bytes.is_empty() { Ok(part) } else { Err(PartError::Cut) }
    }

    /// Writes it as an update.
    pub fn encode(&self) -> Vec<u8> {
        self.write(Vec::new(), None)
    }

    /// Writes it for a cell.
    pub fn pack(&self) -> Vec<u8> {
        let mut clients: Vec<u64> = self.blocks.keys().chain(self.deletes.keys()).copied().collect();
        for block in self.blocks.values().flatten() {
            clients.extend(block.left.iter().chain(&block.right).map(|id| id.client));
        }
        clients.sort_unstable();
        clients.dedup();
        let mut out = Vec::new();
        put(&mut out, clients.len() as u64);
        clients.iter().for_each(|client| put(&mut out, *client));
        self.write(out, Some(&clients))
    }

    fn write(&self, mut out: Vec<u8>, clients: Option<&[u64]>) -> Vec<u8> {
        put(&mut out, self.blocks.len() as u64);
        for (client, blocks) in self.blocks.iter().rev() {
            let first = blocks.first().map_or(0, |block| block.clock);
            let holes = blocks.windows(2).filter(|pair| pair[0].end() < pair[1].clock).count();
            put(&mut out, (blocks.len() + holes) as u64);
            put(&mut out, place_of(clients, *client));
            put(&mut out, first.into());
            let mut clock = first;
            for block in blocks {
                if clock < block.clock {
                    out.push(SKIP);
                    put(&mut out, (block.clock - clock).into());
                }
                put_block(&mut out, block, clients);
                clock = block.end();
            }
        }
        put(&mut out, self.deletes.len() as u64);
        for (client, ranges) in self.deletes.iter().rev() {
            put(&mut out, place_of(clients, *client));
            put(&mut out, ranges.0.len() as u64);
            for (from, to) in ranges.iter() {
                put(&mut out, from.into());
                put(&mut out, (to - from).into());
            }
        }
        out
    }

    /// Adds a block behind the others of its client.
    pub(super) fn append(&mut self, client: u64, block: Block) {
        push(self.blocks.entry(client).or_default(), client, block);
    }

    /// Adds what was deleted: so many units from `first` on.
    pub(super) fn delete(&mut self, first: Id, units: u32) {
        self.deletes.entry(first.client).or_default().insert(first.clock, first.clock + units);
    }

    /// Nothing was written or deleted.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.deletes.is_empty()
    }

    /// The clock behind the last unit of a client.
    pub fn end_of(&self, client: u64) -> u32 {
        self.blocks.get(&client).and_then(|blocks| blocks.last()).map_or(0, Block::end)
    }

    /// The block that has the unit `id`.
    pub fn block_at(&self, id: Id) -> Option<&Block> {
        let blocks = self.blocks.get(&id.client)?;
        let at = blocks.partition_point(|block| block.end() <= id.clock);
        blocks.get(at).filter(|block| block.clock <= id.clock)
    }

    /// Adds what `other` has. Where both have a unit, a deleted one stays deleted, and else this one's counts.
    pub fn add(&mut self, other: Part) {
        for (client, theirs) in other.blocks {
            let ours = self.blocks.entry(client).or_default();
            let mut all = std::mem::take(ours);
            let is_appended =
                all.last().map_or(0, Block::end) <= theirs.first().map_or(0, |block| block.clock);
            all.extend(theirs);
            if !is_appended {
                all.sort_by_key(|block| block.clock);
            }
            for block in all {
                let end = ours.last().map_or(0, Block::end);
                if let Content::Deleted(_) = block.content
                    && block.clock < end
                {
                    self.deletes.entry(client).or_default().insert(block.clock, block.end());
                }
                if block.end() <= end {
                    continue;
                }
                let Some(block) = block.from(client, block.clock.max(end)) else { continue };
                push(ours, client, block);
            }
        }
        for (client, theirs) in other.deletes {
            let ours = self.deletes.entry(client).or_default();
            theirs.iter().for_each(|(from, to)| ours.insert(from, to));
        }
    }

    /// Forgets the characters that were deleted again, and the deletes that say so.
    pub fn compact(&mut self) {
        for (client, deletes) in &mut self.deletes {
            let Some(blocks) = self.blocks.get_mut(client) else { continue };
            let mut rest: Vec<Block> = Vec::new();
            let mut done: Vec<(u32, u32)> = Vec::new();
            for block in std::mem::take(blocks) {
                for piece in pieces(*client, block, deletes, &mut done) {
                    push(&mut rest, *client, piece);
                }
            }
            *blocks = rest;
            done.into_iter().for_each(|(from, to)| deletes.remove(from, to));
        }
        self.deletes.retain(|_, ranges| !ranges.is_empty());
    }
}

/// A block, cut where deletes begin and end; what they cover is `done`.
fn pieces(client: u64, block: Block, deletes: &Ranges, done: &mut Vec<(u32, u32)>) -> Vec<Block> {
    let within = deletes.within(block.clock, block.end());
    if within.is_empty() {
        return vec![block];
    }
    let mut out = Vec::new();
    let mut rest = Some(block.clone());
    for (from, to) in within {
        let Some(block) = rest.take() else { break };
        let (from, to) = ((*from).max(block.clock), (*to).min(block.end()));
        let gone = block.from(client, from).and_then(|tail| tail.until(to));
        let (Some(before), Some(gone)) = (block.until(from), gone) else { return vec![block] };
        if to < block.end() {
            rest = block.from(client, to);
            if rest.is_none() {
                return vec![block];
            }
        }
        if before.len > 0 {
            out.push(before);
        }
        out.push(Block { content: Content::Deleted(gone.len), ..gone });
        done.push((from, to));
    }
    out.extend(rest);
    out
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What stands for a client: its place among the packed ones, or itself.
fn place_of(clients: Option<&[u64]>, client: u64) -> u64 {
    clients.map_or(client, |clients| clients.partition_point(|known| *known < client) as u64)
}

/// Writes a block; the text's name, too, unless it is packed.
fn put_block(out: &mut Vec<u8>, block: &Block, clients: Option<&[u64]>) {
    let content = if let Content::Text(_) = block.content { STRING } else { DELETED };
    let left = if block.left.is_some() { HAS_LEFT } else { 0 };
    let right = if block.right.is_some() { HAS_RIGHT } else { 0 };
    out.push(content | left | right);
    for id in block.left.iter().chain(&block.right) {
        put(out, place_of(clients, id.client));
        put(out, id.clock.into());
    }
    if clients.is_none() && left | right == 0 {
        out.push(1);
        put(out, ROOT.len() as u64);
        out.extend_from_slice(ROOT.as_bytes());
    }
    match &block.content {
        Content::Text(text) => {
            put(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        Content::Deleted(len) => put(out, (*len).into()),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Of what is packed: the clients.
    clients: Option<Vec<u64>>,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.bytes.split_first().ok_or(PartError::Cut)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(PartError::OutOfBounds)
    }

    fn client(&mut self) -> Result<u64> {
        let number = self.number()?;
        let id = match &self.clients {
            None => Some(number),
            Some(clients) => usize::try_from(number).ok().and_then(|at| clients.get(at)).copied(),
        };
        id.filter(|id| *id <= CLIENT_MAX).ok_or(PartError::OutOfBounds)
    }

    fn clock(&mut self) -> Result<u32> {
        let clock = u32::try_from(self.number()?).ok().filter(|clock| *clock <= CLOCK_MAX);
        clock.ok_or(PartError::OutOfBounds)
    }

    /// Reads a length of at least 1, and tells the clock behind it.
    fn behind(&mut self, clock: u32) -> Result<u32> {
        let len = self.clock()?;
        Some(clock + len).filter(|end| len > 0 && *end <= CLOCK_MAX).ok_or(PartError::OutOfBounds)
    }

    fn text(&mut self) -> Result<&'a str> {
        let len = usize::try_from(self.number()?).map_err(|_| PartError::OutOfBounds)?;
        let (text, rest) = self.bytes.split_at_checked(len).ok_or(PartError::Cut)?;
        self.bytes = rest;
        std::str::from_utf8(text).map_err(|_| PartError::NotUtf8)
    }

    fn id(&mut self) -> Result<Id> {
        Ok(Id { client: self.client()?, clock: self.clock()? })
    }

    fn block(&mut self, info: u8, clock: u32) -> Result<Block> {
        let left = if info & HAS_LEFT != 0 { Some(self.id()?) } else { None };
        let right = if info & HAS_RIGHT != 0 { Some(self.id()?) } else { None };
        let is_named = self.clients.is_none() && left.is_none() && right.is_none();
        if is_named && (self.number()? != 1 || self.text()? != ROOT) {
            return Err(PartError::NotPlain);
        }
        let (len, content) = match info & !(HAS_LEFT | HAS_RIGHT) {
            STRING => {
                let text = self.text()?;
                (units(text), Content::Text(text.into()))
            }
            DELETED => {
                let len = self.clock()?;
                (len.into(), Content::Deleted(len))
            }
            _ => return Err(PartError::NotPlain),
        };
        let len = u32::try_from(len).ok().filter(|len| (1..=CLOCK_MAX).contains(len));
        Ok(Block { clock, len: len.ok_or(PartError::OutOfBounds)?, left, right, content })
    }
}
