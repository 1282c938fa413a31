//! How values become MessagePack: records are arrays, bytes are `bin`, and a longer array than known is no error.
//!
//! Fields are only ever appended to a record. A reader skips the fields it does not know, and takes the stated
//! default for fields that an older writer did not send.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Declares a record: a struct that travels as an array of its fields in this order.
///
/// A field with `= default` may be missing at the end of the array; any other field is an error when missing.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty $(= $default:expr)?),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty),+ }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("the array of a ", stringify!($name)))
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        let record = $name {
                            $($field: match seq.next_element()? {
                                Some(value) => value,
                                None => $crate::wire::record!(@missing A, $name, $field $(, $default)?),
                            }),+
                        };
                        while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                        Ok(record)
                    }
                }
                deserializer.deserialize_seq(Fields)
            }
        }
    };
    (@missing $access:ident, $name:ident, $field:ident) => {
        return Err(<$access::Error as serde::de::Error>::custom(
            concat!(stringify!($name), " ends before its field ", stringify!($field)),
        ))
    };
    (@missing $access:ident, $name:ident, $field:ident, $default:expr) => { $default };
}
pub(crate) use record;

/// Bytes on the wire, as MessagePack `bin`. A plain `Vec<u8>` would travel as an array of integers, twice as long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// The same, borrowed.
pub(crate) struct BlobRef<'a>(pub &'a [u8]);

impl Serialize for BlobRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

macro_rules! fixed_bytes {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Bytes;
                impl Visitor<'_> for Bytes {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!(stringify!($len), " bytes"))
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        bytes.try_into().map($name).map_err(|_| E::invalid_length(bytes.len(), &self))
                    }
                }
                deserializer.deserialize_bytes(Bytes)
            }
        }
    };
}

fixed_bytes! {
    /// A link of a site's history: it is equal on two nodes exactly when everything the site did up to that
    /// version is. All zeros stands for "no history".
    Chain, 16
}
fixed_bytes! {
    /// A hash that names a whole: a set of versions, a schema, a snapshot.
    Fingerprint, 16
}
fixed_bytes! {
    /// A sum of hashes of rows, as `crsql_core::digest::Digest`.
    Sum, 32
}

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        /// A record of the first release.
        pub struct Old { pub a: u64, pub b: Blob }
    }
    record! {
        /// The same record some releases later.
        pub struct New { pub a: u64, pub b: Blob, pub c: u64 = 7, pub d: Option<String> = None }
    }

    #[test]
    fn readers_skip_what_they_do_not_know_and_fill_in_what_was_not_sent() {
        let new = New { a: 1, b: Blob(vec![2]), c: 3, d: Some("x".into()) };
        let bytes = rmp_serde::to_vec(&new).unwrap();
        assert_eq!(bytes, [0x94, 1, 0xc4, 1, 2, 3, 0xa1, b'x']);
        let old: Old = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(old, Old { a: 1, b: Blob(vec![2]) });
        let back: New = rmp_serde::from_slice(&rmp_serde::to_vec(&old).unwrap()).unwrap();
        assert_eq!(back, New { c: 7, d: None, ..new });
    }

    #[test]
    fn a_missing_field_of_the_first_release_is_an_error() {
        let error = rmp_serde::from_slice::<Old>(&[0x91, 1]).unwrap_err();
        assert!(error.to_string().contains("Old ends before its field b"), "{error}");
    }

    #[test]
    fn bytes_are_bytes() {
        assert_eq!(rmp_serde::to_vec(&Blob(vec![1, 2])).unwrap(), [0xc4, 2, 1, 2]);
        assert!(rmp_serde::from_slice::<Blob>(&[0x92, 1, 2]).is_err());
        assert!(rmp_serde::from_slice::<Blob>(&[0xc6, 0xff, 0xff, 0xff, 0xff, 0]).is_err());
        assert!(rmp_serde::from_slice::<Chain>(&[0xc4, 2, 1, 2]).is_err());
    }
}
