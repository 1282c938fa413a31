//! What one side of a connection calls by number: sites, and tables with their columns. A row's worth of changes is
//! hardly longer than these.
//!
//! Who sends keeps a list that only grows, and tells each new entry in [`Names`](crate::message::Names) before the first
//! frame that uses it. A relay has one list for all readers of a room, so that all of them get the same bytes.

use std::collections::HashMap;

use crsql_core::changeset::{self, Name};
use crsql_core::ids::SiteId;

use crate::code::{Code, Fault};
use crate::limits::{NAME_BYTES_MAX, NAMES_BYTES_MAX};
use crate::message::{CODEC_PLAIN, CODEC_SHORT, Frame, NameRecord, Names, SMALL_BYTES_MAX};
use crate::wire::Blob;

/// The kinds of [`NameRecord`]. Others have a number like any name and are of no use.
const SITE: u8 = 0;
const TABLE: u8 = 1;

/// The names of one direction.
#[derive(Debug, Default)]
pub struct Lexicon {
    entries: Vec<NameRecord>,
    /// Only where it is written.
    numbers: HashMap<NameRecord, u32>,
    bytes: usize,
}

impl Lexicon {
    /// How many names there are.
    pub fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What to tell somebody who knows the first `told` names; none if he knows all.
    pub fn since(&self, told: u32) -> Option<Names> {
        let names = self.entries.get(told as usize..).filter(|names| !names.is_empty())?.to_vec();
        Some(Names { first: told, names })
    }

    /// A whole and small frame in its short form, with new names added. None if it has none: send it as it is.
    pub fn shorten(&mut self, frame: &Frame) -> Option<Frame> {
        if frame.codec != CODEC_PLAIN || !frame.is_whole() || frame.body.0.len() > SMALL_BYTES_MAX {
            return None;
        }
        let version = frame.site_version;
        let body = changeset::short(&frame.body.0, frame.site, version, &mut |name| self.number(name))?;
        let Frame { site_version, seq_lo, seq_hi, last_seq, chain, .. } = *frame;
        let site = SiteId::default();
        Some(Frame {
            site,
            site_version,
            seq_lo,
            seq_hi,
            last_seq,
            chain,
            codec: CODEC_SHORT,
            body: Blob(body),
        })
    }

    /// The number of a name; a new one if there is room.
    fn number(&mut self, name: Name<'_>) -> Option<u32> {
        let record = match name {
            Name::Site(site) => NameRecord { kind: SITE, bytes: Blob(site.0.to_vec()) },
            Name::Table(table) => NameRecord { kind: TABLE, bytes: Blob(table.to_vec()) },
        };
        if let Some(number) = self.numbers.get(&record) {
            return Some(*number);
        }
        let is_room = record.bytes.0.len() <= NAME_BYTES_MAX && self.bytes + cost(&record) <= NAMES_BYTES_MAX;
        if !is_room {
            return None;
        }
        let number = self.len();
        self.bytes += cost(&record);
        self.entries.push(record.clone());
        self.numbers.insert(record, number);
        Some(number)
    }

    /// Takes in what the other side told. The transport may have repeated it.
    pub fn hear(&mut self, told: Names) -> Result<(), Fault> {
        let known = self.entries.len().checked_sub(told.first as usize).ok_or_else(lost)?;
        let repeated = known.min(told.names.len());
        if self.entries[told.first as usize..][..repeated] != told.names[..repeated] {
            return Err(Fault::new(Code::MALFORMED, "a name was told to be another one before"));
        }
        for record in told.names.into_iter().skip(repeated) {
            self.bytes += cost(&record);
            if record.bytes.0.len() > NAME_BYTES_MAX || self.bytes > NAMES_BYTES_MAX {
                return Err(Fault::new(
                    Code::TOO_LARGE,
                    format!("more than {NAMES_BYTES_MAX} bytes of names"),
                ));
            }
            self.entries.push(record);
        }
        Ok(())
    }

    /// The frames as everything else wants them.
    pub fn lengthen(&self, frames: &mut [Frame]) -> Result<(), Fault> {
        for frame in frames.iter_mut().filter(|frame| frame.codec == CODEC_SHORT) {
            let name = |number: u32| self.name(number);
            let (site, body) = changeset::long(&frame.body.0, frame.site_version, &name)
                .map_err(|error| Fault::new(Code::MALFORMED, format!("a short frame: {error}")))?
                .ok_or_else(lost)?;
            (frame.site, frame.codec, frame.body) = (site, CODEC_PLAIN, Blob(body));
        }
        Ok(())
    }

    fn name(&self, number: u32) -> Option<Name<'_>> {
        let record = self.entries.get(number as usize)?;
        match (record.kind, &record.bytes.0) {
            (SITE, site) => site[..].try_into().ok().map(|site| Name::Site(SiteId(site))),
            (TABLE, table) => Some(Name::Table(table)),
            _ => None,
        }
    }
}

/// What an entry takes here besides its bytes counts, too.
fn cost(record: &NameRecord) -> usize {
    record.bytes.0.len() + 16
}

fn lost() -> Fault {
    Fault::new(Code::LOST, "names were lost on the way: connect again")
}

#[cfg(test)]
mod tests {
    use crsql_core::changeset::{GroupHeader, RunHeader, Writer};
    use crsql_core::merge::TieBreak;
    use crsql_core::version_vector::VersionVector;

    use super::*;

    fn frame(site: u8, table: &str) -> Frame {
        let mut writer = Writer::new(TieBreak::Site);
        let id = SiteId([site; 16]);
        let (site, table) = (writer.site(id), writer.table(table, 1, &["a"]));
        let group = GroupHeader { columns: vec![1], col_version: 1, site, version: 7, ..Default::default() };
        writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: Some(1) });
        writer.value(crsql_core::value::ValueRef::Text(b"milk"));
        writer.end_row();
        let body = Blob(writer.finish(&VersionVector::default(), false));
        let (site_version, chain, codec) = (7, Default::default(), CODEC_PLAIN);
        Frame { site: id, site_version, seq_lo: 0, seq_hi: 0, last_seq: 0, chain, codec, body }
    }

    #[test]
    fn who_was_told_the_names_reads_the_frames() {
        let (mut told, mut heard) = (Lexicon::default(), Lexicon::default());
        for at in [1, 2, 1, 3] {
            let whole = frame(at, "todo");
            let known = told.len();
            let mut short = [told.shorten(&whole).unwrap()];
            let names = told.since(known);
            assert_eq!(names.is_some(), told.len() > known);
            if let Some(names) = names {
                assert_eq!(heard.lengthen(&mut short.clone()).unwrap_err().code, Code::LOST);
                heard.hear(names.clone()).unwrap();
                heard.hear(names).unwrap();
            }
            heard.lengthen(&mut short).unwrap();
            assert_eq!(short[0], whole);
        }
        assert_eq!(told.len(), 4, "three sites and a table");
        let gap = Names { first: 5, names: Vec::new() };
        assert_eq!(heard.hear(gap).unwrap_err().code, Code::LOST);
        let other = Names { first: 0, names: vec![NameRecord { kind: SITE, bytes: Blob(vec![9; 16]) }] };
        assert_eq!(heard.hear(other).unwrap_err().code, Code::MALFORMED);
    }

    #[test]
    fn names_are_bounded_on_both_sides() {
        let mut told = Lexicon::default();
        let mut count = 0;
        while told.shorten(&frame(1, &format!("{count:0200}"))).is_some() {
            count += 1;
        }
        assert!((200..400).contains(&count), "{count}");
        assert!(told.shorten(&frame(1, &format!("{:0200}", 0))).is_some(), "old names go on");
        let mut heard = Lexicon::default();
        heard.hear(told.since(0).unwrap()).unwrap();
        let more = NameRecord { kind: 9, bytes: Blob(vec![0; 900]) };
        let more = Names { first: told.len(), names: vec![more; 2] };
        assert_eq!(heard.hear(more).unwrap_err().code, Code::TOO_LARGE);
        assert!(Lexicon::default().shorten(&frame(1, &"x".repeat(2000))).is_none());
    }

    #[test]
    fn a_name_of_the_wrong_kind_is_an_error() {
        let (mut told, mut heard) = (Lexicon::default(), Lexicon::default());
        let short = told.shorten(&frame(1, "todo")).unwrap();
        let mut names = told.since(0).unwrap();
        names.names.swap(0, 1);
        heard.hear(names).unwrap();
        assert_eq!(heard.lengthen(&mut [short]).unwrap_err().code, Code::MALFORMED);
    }
}
