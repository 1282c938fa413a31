//! How values become MessagePack: records are arrays, bytes are `bin`, and a longer array than known is no error.
//!
//! Fields are only ever appended to a record. A reader skips the fields it does not know, and takes the stated
//! default for fields that an older writer did not send.

use crsql_core::msgpack::{Malformed, Read, Reader};
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

        impl crsql_core::msgpack::Read for $name {
            fn read(
                input: &mut crsql_core::msgpack::Reader<'_, '_>,
            ) -> Result<Self, crsql_core::msgpack::Malformed> {
                let mut left = input.list()?;
                let record = $name {
                    $($field: match left.checked_sub(1) {
                        Some(rest) => {
                            left = rest;
                            crsql_core::msgpack::Read::read(input)
                                .map_err(|error| $crate::wire::in_field(stringify!($field), &error))?
                        }
                        None => $crate::wire::record!(@missing $name, $field $(, $default)?),
                    }),+
                };
                (0..left).for_each(|_| input.skip());
                Ok(record)
            }
        }
    };
    (@missing $name:ident, $field:ident) => {
        return Err($crate::wire::missing(concat!(
            stringify!($name), " ends before its field ", stringify!($field)
        )))
    };
    (@missing $name:ident, $field:ident, $default:expr) => { $default };
}
pub(crate) use record;

#[cold]
pub(crate) fn missing(reason: &'static str) -> Malformed {
    Malformed(reason.into())
}

#[cold]
pub(crate) fn in_field(field: &str, error: &Malformed) -> Malformed {
    Malformed::from(format!("{field}: {error}"))
}

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

impl Read for Blob {
    fn read(input: &mut Reader<'_, '_>) -> Result<Blob, Malformed> {
        Ok(Blob(input.bytes()?.to_vec()))
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

        impl Read for $name {
            fn read(input: &mut Reader<'_, '_>) -> Result<$name, Malformed> {
                input.fixed().map($name)
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
    use crsql_core::msgpack;

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
        let old: Old = msgpack::from_slice(&bytes).unwrap();
        assert_eq!(old, Old { a: 1, b: Blob(vec![2]) });
        let back: New = msgpack::from_slice(&rmp_serde::to_vec(&old).unwrap()).unwrap();
        assert_eq!(back, New { c: 7, d: None, ..new });
    }

    #[test]
    fn a_missing_field_of_the_first_release_is_an_error() {
        let error = msgpack::from_slice::<Old>(&[0x91, 1]).unwrap_err();
        assert!(error.to_string().contains("Old ends before its field b"), "{error}");
    }

    #[test]
    fn bytes_are_bytes() {
        assert_eq!(rmp_serde::to_vec(&Blob(vec![1, 2])).unwrap(), [0xc4, 2, 1, 2]);
        assert!(msgpack::from_slice::<Blob>(&[0x92, 1, 2]).is_err());
        assert!(msgpack::from_slice::<Blob>(&[0xc6, 0xff, 0xff, 0xff, 0xff, 0]).is_err());
        assert!(msgpack::from_slice::<Chain>(&[0xc4, 2, 1, 2]).is_err());
    }
}
