//! Names of replicas and of their clocks: integers that could be swapped get a type each.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A replica's name: 16 random bytes, drawn once when the database becomes a replica.
///
/// Its order is the order of its bytes, which is also the order that breaks ties between concurrent writes.
///
/// ```
/// # use crsql_core::ids::SiteId;
/// let site = SiteId([0xab; 16]);
/// assert_eq!(site.to_string(), "ab".repeat(16));
/// assert_eq!(site.to_string().parse(), Ok(site));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub [u8; 16]);

impl SiteId {
    /// The length of a site id, in bytes.
    pub const LEN: usize = 16;

    /// The bytes, for binding and hashing.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why bytes or text are not a site id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteIdError {
    /// Not 16 bytes.
    #[error("a site id has 16 bytes, not {0}: pass the blob that crsql_site_id() returns")]
    Length(usize),
    /// Text that is not 32 hexadecimal digits.
    #[error("a site id in text is 32 hexadecimal digits")]
    NotHex,
}

impl FromStr for SiteId {
    type Err = SiteIdError;

    fn from_str(text: &str) -> Result<SiteId, SiteIdError> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(SiteIdError::NotHex);
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let nibble = |digit: u8| (digit as char).to_digit(16).ok_or(SiteIdError::NotHex);
            *byte = (nibble(pair[0])? * 16 + nibble(pair[1])?) as u8;
        }
        Ok(SiteId(bytes))
    }
}

impl TryFrom<&[u8]> for SiteId {
    type Error = SiteIdError;

    fn try_from(bytes: &[u8]) -> Result<SiteId, SiteIdError> {
        bytes.try_into().map(SiteId).map_err(|_| SiteIdError::Length(bytes.len()))
    }
}

impl Serialize for SiteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for SiteId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SiteId, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(SiteIdVisitor)
        } else {
            deserializer.deserialize_bytes(SiteIdVisitor)
        }
    }
}

struct SiteIdVisitor;

impl<'de> Visitor<'de> for SiteIdVisitor {
    type Value = SiteId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a site id of 16 bytes or 32 hexadecimal digits")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<SiteId, E> {
        SiteId::try_from(bytes).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SiteId, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SiteId, A::Error> {
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(at, &self))?;
        }
        Ok(SiteId(bytes))
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl From<u64> for $name {
            fn from(raw: u64) -> $name {
                $name(raw)
            }
        }

        impl From<$name> for u64 {
            fn from(counter: $name) -> u64 {
                counter.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A site's own dense counter of committed transactions that changed a replicated table, from 1. 0 stands
    /// for an unknown identity, as a raw nine-column INSERT has it.
    SiteVersion
}
counter! {
    /// The place of a change inside its site version: from 0, without holes.
    Seq
}
counter! {
    /// A cell's Lamport clock inside one incarnation of its row, from 1.
    ColVersion
}
counter! {
    /// A replica's apply position: +1 per committed transaction that changed its replicated state. Meaningless
    /// on another replica.
    DbVersion
}
counter! {
    /// How often a row came and went: odd alive, even deleted, 0 unknown.
    CausalLength
}

impl CausalLength {
    /// Whether a row of this causal length exists in the base table.
    pub fn is_alive(self) -> bool {
        self.0 % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_id_reads_its_own_text_and_bytes() {
        let site = SiteId(std::array::from_fn(|i| (i * 17) as u8));
        assert_eq!(site.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(site.to_string().parse(), Ok(site));
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(site));
        assert_eq!(SiteId::try_from(&site.as_bytes()[..]), Ok(site));
    }

    #[test]
    fn what_is_not_a_site_id_is_refused() {
        assert_eq!("0011".parse::<SiteId>(), Err(SiteIdError::NotHex));
        assert_eq!("g0112233445566778899aabbccddeeff".parse::<SiteId>(), Err(SiteIdError::NotHex));
        assert_eq!("0g112233445566778899aabbccddeeff".parse::<SiteId>(), Err(SiteIdError::NotHex));
        assert_eq!(SiteId::try_from(&[1, 2][..]), Err(SiteIdError::Length(2)));
        assert!(SiteIdError::Length(2).to_string().contains("not 2"));
    }

    #[test]
    fn a_site_id_travels_as_sixteen_bytes() {
        let site = SiteId([7; 16]);
        let bytes = rmp_serde::to_vec(&site).unwrap();
        assert_eq!(bytes[..2], [0xc4, 16]);
        assert_eq!(rmp_serde::from_slice::<SiteId>(&bytes).unwrap(), site);
        // An array of integers is what a careless encoder makes of it.
        let array =
            rmp_serde::to_vec(&[7u8; 16].to_vec().iter().map(|b| *b as u64).collect::<Vec<_>>()).unwrap();
        assert_eq!(rmp_serde::from_slice::<SiteId>(&array).unwrap(), site);
        let short = rmp_serde::to_vec(&[7u64; 3].to_vec()).unwrap();
        assert!(rmp_serde::from_slice::<SiteId>(&short).is_err());
        let long = rmp_serde::to_vec(&[7u64; 17].to_vec()).unwrap();
        assert!(rmp_serde::from_slice::<SiteId>(&long).is_err());
        assert!(rmp_serde::from_slice::<SiteId>(&[0xc4, 1, 9]).is_err());
        assert!(rmp_serde::from_slice::<SiteId>(&[0xc0]).unwrap_err().to_string().contains("site id"));
    }

    #[test]
    fn readable_formats_get_hex() {
        let mut text = Vec::new();
        let site = SiteId([0xfe; 16]);
        site.serialize(&mut rmp_serde::Serializer::new(&mut text).with_human_readable()).unwrap();
        let mut reader = rmp_serde::Deserializer::new(&text[..]).with_human_readable();
        assert_eq!(SiteId::deserialize(&mut reader).unwrap(), site);
        let mut wrong = rmp_serde::Deserializer::new(&[0xa1, b'x'][..]).with_human_readable();
        assert!(SiteId::deserialize(&mut wrong).is_err());
    }

    #[test]
    fn counters_convert_both_ways() {
        assert_eq!(u64::from(SiteVersion::from(5)), 5);
        assert_eq!(Seq(3).to_string(), "3");
        assert!([1, 3].map(CausalLength).iter().all(|cl| cl.is_alive()));
        assert!(![0, 2].map(CausalLength).iter().any(|cl| cl.is_alive()));
    }
}
