//! A small changeset without what whoever carries it says anyhow: a row's worth of changes is hardly larger than the
//! magic, the checksum and the site around it.
//!
//! The bare form is the payload, with an empty list of sites where there is one and it is known. It has no checksum: it
//! is for transports that have their own, and is made only of changesets whose checksum holds.

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
    let is_plain = bytes.starts_with(MAGIC) && bytes.get(MAGIC.len()..MAGIC.len() + 2)? == [FORMAT, 0];
    let payload = is_plain.then(|| envelope::open(bytes, &Limits::default()).ok()).flatten()?;
    let mut cursor = Cursor::new(&payload);
    let header_len = usize::try_from(cursor.varint().ok()?).ok()?;
    let header = cursor.take(header_len).ok()?;
    let [HEADER, tie_break @ 0..0x80, rest @ ..] = header else { return None };
    let rest = rest.strip_prefix(&ONE_SITE)?.strip_prefix(&site.0)?;
    let mut out = Vec::with_capacity(payload.len());
    varint::push(&mut out, rest.len() as u64 + 3);
    out.extend([HEADER, *tie_break, NO_SITE]);
    out.extend(rest);
    out.extend(cursor.take(cursor.remaining()).ok()?);
    Some(out)
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
    let mut len = Vec::with_capacity(10);
    varint::push(&mut len, rest.len() as u64 + 2 + ONE_SITE.len() as u64 + site.0.len() as u64);
    let runs = cursor.take(cursor.remaining())?;
    let start = [HEADER, *tie_break];
    Ok(envelope::seal(&[&len, &start, &ONE_SITE, &site.0, rest, runs], Compress::No))
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
