//! A small changeset without what whoever carries it says anyhow: a row's worth of changes is hardly larger than the
//! magic, the checksum and the site around it.
//!
//! The bare form is the payload, with an empty list of sites where there is one and it is known. In the short form
//! sites and tables are numbers, for a reader who was told them before. Neither has a checksum: they are for transports
//! that have their own, and are made only of changesets whose checksum holds.

use super::cursor::Cursor;
use super::error::{ChangesetError, Result};
use super::{Compress, FORMAT, Limits, MAGIC, envelope, varint};
use crate::ids::SiteId;

/// An array of five, as every header is.
const HEADER: u8 = 0x95;

/// An array of one site: 16 bytes of `bin`.
const ONE_SITE: [u8; 3] = [0x91, 0xc4, 16];

/// An array of none.
const NO_SITE: u8 = 0x90;

/// The bare form of an uncompressed changeset with changes or claims of `site` alone. None if it is anything else; it
/// has to travel as it is then.
pub fn bare(bytes: &[u8], site: SiteId) -> Option<Vec<u8>> {
    let Content { tie_break, rest, runs } = &content(bytes, site)?;
    let mut out = Vec::with_capacity(bytes.len());
    varint::push(&mut out, rest.len() as u64 + 3);
    out.extend([HEADER, *tie_break, NO_SITE]);
    out.extend(rest);
    out.extend(runs);
    Some(out)
}

/// What a payload of one site says besides that.
struct Content {
    tie_break: u8,
    /// Tables, claims, extensions.
    rest: Vec<u8>,
    runs: Vec<u8>,
}

fn content(bytes: &[u8], site: SiteId) -> Option<Content> {
    let is_plain = bytes.starts_with(MAGIC) && bytes.get(MAGIC.len()..MAGIC.len() + 2)? == [FORMAT, 0];
    let payload = is_plain.then(|| envelope::open(bytes, &Limits::default()).ok()).flatten()?;
    let mut cursor = Cursor::new(&payload);
    let header_len = usize::try_from(cursor.varint().ok()?).ok()?;
    let header = cursor.take(header_len).ok()?;
    let [HEADER, tie_break @ 0..0x80, rest @ ..] = header else { return None };
    let rest = rest.strip_prefix(&ONE_SITE)?.strip_prefix(&site.0)?;
    let runs = cursor.take(cursor.remaining()).ok()?;
    Some(Content { tie_break: *tie_break, rest: rest.to_vec(), runs: runs.to_vec() })
}

/// The changeset of a bare form.
///
/// # Errors
/// `bytes` do not begin as a bare form does. What follows is judged by whoever opens the changeset.
pub fn dressed(bytes: &[u8], site: SiteId) -> Result<Vec<u8>> {
    let malformed =
        || ChangesetError::Malformed { at: 0, reason: "no changeset of one site in its bare form" };
    let mut cursor = Cursor::new(bytes);
    let header_len = usize::try_from(cursor.varint()?).map_err(|_| malformed())?;
    let [HEADER, tie_break @ 0..0x80, NO_SITE, rest @ ..] = cursor.take(header_len)? else {
        return Err(malformed());
    };
    let runs = cursor.take(cursor.remaining())?;
    Ok(whole(*tie_break, site, &[rest], &[runs]))
}

/// A changeset of one site: what follows the site in its header, and its runs.
fn whole(tie_break: u8, site: SiteId, rest: &[&[u8]], runs: &[&[u8]]) -> Vec<u8> {
    let rest_len: usize = rest.iter().map(|part| part.len()).sum();
    let mut len = Vec::with_capacity(10);
    varint::push(&mut len, (rest_len + 2 + ONE_SITE.len() + site.0.len()) as u64);
    let start = [HEADER, tie_break];
    let head = [&[&len[..], &start, &ONE_SITE, &site.0], rest].concat();
    envelope::seal(&head, runs.concat(), Compress::No)
}

/// What a short form refers to by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A site.
    Site(SiteId),
    /// A table and its columns: an entry of a header's tables, as it stands there.
    Table(&'a [u8]),
}

/// The most tables that a short form names.
const SHORT_TABLES_MAX: usize = 4;

/// The shortest form of a small changeset of one site and version: names that the reader was told before are numbers,
/// and what goes without saying is left out. None if it is anything else, or if `number` has none for a name of it.
pub fn short(
    bytes: &[u8],
    site: SiteId,
    version: u64,
    number: &mut dyn FnMut(Name<'_>) -> Option<u32>,
) -> Option<Vec<u8>> {
    let Content { tie_break: tie_break @ 0..=1, rest, runs } = content(bytes, site)? else { return None };
    let (&count, mut rest) = rest.split_first()?;
    let tables = usize::from(count.checked_sub(NO_SITE)?);
    if tables > SHORT_TABLES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len());
    varint::push(&mut out, number(Name::Site(site))?.into());
    let claims_at = out.len();
    out.push(0);
    for _ in 0..tables {
        let (table, after) = rest.split_at_checked(table_len(rest)?)?;
        varint::push(&mut out, number(Name::Table(table))?.into());
        rest = after;
    }
    let claims = if rest == NOTHING {
        0
    } else if rest == own_claim(version) {
        1
    } else {
        return None;
    };
    out[claims_at] = tie_break | claims << 1 | (tables as u8) << 2;
    let mut cursor = Cursor::new(&runs);
    varint::push(&mut out, cursor.varint().ok()?);
    varint::push(&mut out, u32::from_le_bytes(cursor.array().ok()?).into());
    out.extend(cursor.take(cursor.remaining()).ok()?);
    Some(out)
}

/// The changeset of a short form, and its site. None if `name` does not know a number in it.
///
/// # Errors
/// `bytes` do not begin as a short form does. What follows is judged by whoever opens the changeset.
pub fn long<'a>(
    bytes: &[u8],
    version: u64,
    name: &dyn Fn(u32) -> Option<Name<'a>>,
) -> Result<Option<(SiteId, Vec<u8>)>> {
    let malformed = || ChangesetError::Malformed { at: 0, reason: "no changeset in its short form" };
    let mut cursor = Cursor::new(bytes);
    let site = name(cursor.u32("a number of a name")?);
    let shape = cursor.byte()?;
    let count = usize::from(shape >> 2);
    if count > SHORT_TABLES_MAX {
        return Err(malformed());
    }
    let mut tables = Vec::with_capacity(count);
    for _ in 0..count {
        tables.push(name(cursor.u32("a number of a name")?));
    }
    let mut runs = Vec::with_capacity(8);
    varint::push(&mut runs, cursor.varint()?);
    runs.extend(cursor.u32("a number of rows")?.to_le_bytes());
    let site = match site {
        Some(Name::Site(site)) => site,
        Some(_) => return Err(malformed()),
        None => return Ok(None),
    };
    let head = [NO_SITE | count as u8];
    let claim = if shape & 2 == 0 { NOTHING.to_vec() } else { own_claim(version) };
    let mut rest: Vec<&[u8]> = vec![&head];
    for table in tables {
        match table {
            Some(Name::Table(table)) => rest.push(table),
            Some(_) => return Err(malformed()),
            None => return Ok(None),
        }
    }
    rest.push(&claim);
    let tail = cursor.take(cursor.remaining())?;
    Ok(Some((site, whole(shape & 1, site, &rest, &[&runs, tail]))))
}

/// No claims, no extensions.
const NOTHING: [u8; 2] = [NO_SITE, 0x80];

/// The claim of the one version that it is, and no extensions.
fn own_claim(version: u64) -> Vec<u8> {
    let claims = [(0, [[version, version]])];
    let mut bytes = rmp_serde::to_vec(&claims).expect("writing integers to memory cannot fail");
    bytes.push(0x80);
    bytes
}

/// How long the table is that `bytes` begin with: a list of a name, a small number, and a list of names.
fn table_len(bytes: &[u8]) -> Option<usize> {
    let text = |at: usize| {
        let (head, len) = match *bytes.get(at)? {
            len @ 0xa0..0xc0 => (1, usize::from(len & 0x1f)),
            0xd9 => (2, usize::from(*bytes.get(at + 1)?)),
            _ => return None,
        };
        Some(at + head + len)
    };
    let mut at = text(1).filter(|_| bytes[0] == 0x93)?;
    at += match *bytes.get(at)? {
        0..0x80 => 1,
        _ => return None,
    };
    let (head, columns) = match *bytes.get(at)? {
        count @ 0x90..0xa0 => (1, usize::from(count & 0xf)),
        0xdc => (3, usize::from(u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?]))),
        _ => return None,
    };
    at += head;
    for _ in 0..columns {
        at = text(at)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::changeset::{GroupHeader, RunHeader, Writer};
    use crate::merge::TieBreak;
    use crate::value::ValueRef;
    use crate::version_vector::VersionVector;

    const SITE: SiteId = SiteId([7; 16]);

    fn one_row(value: &[u8], claims: bool) -> Vec<u8> {
        let mut writer = Writer::new(TieBreak::Value);
        let (site, table) = (writer.site(SITE), writer.table("todo", 1, &["title"]));
        let group = GroupHeader { columns: vec![1], col_version: 3, site, version: 9, ..Default::default() };
        writer.begin_run(&RunHeader { table, cl: 1, groups: vec![group], first_key: Some(4) });
        writer.value(ValueRef::Text(value));
        writer.end_row();
        let mut versions = VersionVector::default();
        if claims {
            versions.insert(SITE, 9);
        }
        writer.finish(&versions, false)
    }

    proptest! {
        #[test]
        fn what_is_bared_can_be_dressed_again(value in prop::collection::vec(any::<u8>(), 0..300), claims: bool) {
            let bytes = one_row(&value, claims);
            let bare = bare(&bytes, SITE).unwrap();
            prop_assert!(bytes.len() - bare.len() >= 43);
            prop_assert_eq!(dressed(&bare, SITE).unwrap(), bytes);
        }

        #[test]
        fn anything_at_all_is_dressed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(dressed) = dressed(&bytes, SITE) {
                prop_assert_eq!(bare(&dressed, SITE).map(|again| again.len() <= bytes.len()), Some(true));
            }
        }
    }

    /// Numbers by position, and the other way round.
    fn roundtrip(bytes: &[u8], version: u64) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut tables: Vec<Vec<u8>> = Vec::new();
        let short = short(bytes, SITE, version, &mut |name| match name {
            Name::Site(_) => Some(0),
            Name::Table(table) => {
                tables.push(table.to_vec());
                u32::try_from(tables.len()).ok()
            }
        })?;
        let name = |number: u32| match number {
            0 => Some(Name::Site(SITE)),
            number => tables.get(number as usize - 1).map(|table| Name::Table(table)),
        };
        let (site, long) = long(&short, version, &name).unwrap().unwrap();
        assert_eq!(site, SITE);
        Some((short, long))
    }

    proptest! {
        #[test]
        fn what_is_shortened_comes_back_byte_for_byte(value in prop::collection::vec(any::<u8>(), 0..300), claims: bool) {
            let bytes = one_row(&value, claims);
            let (short, long) = roundtrip(&bytes, 9).unwrap();
            prop_assert_eq!(long, bytes.clone());
            prop_assert!(bare(&bytes, SITE).unwrap().len() >= short.len() + 18);
        }

        #[test]
        fn anything_at_all_is_lengthened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), knows: bool) {
            let name = |number: u32| match number {
                0..40 if knows => Some(Name::Site(SITE)),
                40..80 if knows => Some(Name::Table(&[0x93, 0xa1, b't', 1, 0x90])),
                _ => None,
            };
            let _ = long(&bytes, 9, &name);
            table_len(&bytes);
        }
    }

    #[test]
    fn what_claims_more_or_has_many_tables_is_not_shortened() {
        assert!(roundtrip(&one_row(b"milk", true), 8).is_none(), "the claim is of another version");
        for (tables, is_short) in [(4, true), (5, false)] {
            let mut writer = Writer::new(TieBreak::Site);
            let site = writer.site(SITE);
            for table in 0..tables {
                let table = writer.table(&format!("table{table}"), 1, &["a"; 1]);
                let group = GroupHeader { columns: vec![0], site, version: 9, ..Default::default() };
                writer.begin_run(&RunHeader { table, cl: 2, groups: vec![group], first_key: Some(4) });
                writer.end_row();
            }
            let bytes = writer.finish(&VersionVector::default(), false);
            assert_eq!(roundtrip(&bytes, 9).map(|(_, long)| long == bytes), is_short.then_some(true));
        }
    }

    #[test]
    fn what_has_other_sites_is_compressed_or_damaged_travels_as_it_is() {
        let bytes = one_row(b"milk", true);
        assert!(bare(&bytes, SITE).is_some());
        assert_eq!(bare(&bytes, SiteId([8; 16])), None);
        assert_eq!(bare(&bytes[..bytes.len() - 1], SITE), None);
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(bare(&damaged, SITE), None, "a checksum made anew would hide it");
        assert_eq!(bare(b"", SITE), None);
    }
}
