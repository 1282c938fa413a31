//! The decoders of the core and of the wire.

use super::{kind_of, signature};
use crsql_core::change::Change;
use crsql_core::changeset::{Changeset, Limits, write_changes};
use crsql_core::key::{Affinity, Collation, KeyColumn, canonical_packed_key, stored_key};
use crsql_core::pack::{pack, unpack};
use crsql_core::version_vector::{self, VersionVector};

/// Packed keys: what is read is written as the same bytes; the canonical form is canonical.
pub fn key(bytes: &[u8]) -> u64 {
    let values = match unpack(bytes) {
        Ok(values) => values,
        Err(error) => return signature(&[1, kind_of(&error.to_string())]),
    };
    assert_eq!(pack(&values).expect("as many values as were read"), bytes, "a key has two encodings");
    let affinities = [Affinity::Blob, Affinity::Text, Affinity::Numeric, Affinity::Integer, Affinity::Real];
    let collations = [Collation::Binary, Collation::NoCase, Collation::Rtrim];
    let mut outcome = 2;
    for variant in 0..3 {
        let columns: Vec<KeyColumn> = (0..values.len())
            .map(|at| KeyColumn {
                affinity: affinities[(variant + at + bytes.len()) % affinities.len()],
                collation: collations[(variant + at) % collations.len()],
            })
            .collect();
        let Ok(canonical) = canonical_packed_key(bytes, &columns) else { continue };
        outcome += 1 << variant;
        let again = canonical_packed_key(&canonical.bytes, &columns).expect("a canonical key is a key");
        assert_eq!(again.bytes, canonical.bytes, "the canonical form of {bytes:02x?} has another one");
        // What the table stores is found under the same identity.
        let stored = stored_key(&values, &columns).expect("the same columns");
        let found = canonical_packed_key(&stored, &columns).expect("a stored key is a key");
        assert_eq!(found.bytes, canonical.bytes, "{bytes:02x?} is stored as another row");
    }
    let classes =
        values.iter().take(4).map(|value| kind_of(&format!("{value:?}")[..4])).fold(0, u64::wrapping_add);
    signature(&[outcome, values.len().min(5) as u64, classes])
}

/// Changesets: any bytes are refused or read to the end, and what was read can be written and read again.
pub fn changeset(bytes: &[u8]) -> u64 {
    let changeset = match Changeset::open(bytes, &Limits::default()) {
        Ok(changeset) => changeset,
        Err(error) => return signature(&[1, kind_of(&error.to_string())]),
    };
    let mut reader = changeset.reader();
    let mut values = Vec::new();
    let (mut runs, mut rows) = (0, 0);
    loop {
        match reader.next_run() {
            Ok(None) => break,
            Ok(Some(_)) => runs += 1,
            Err(error) => return signature(&[2, kind_of(&error.to_string()), runs]),
        }
        loop {
            match reader.next_row(&mut values) {
                Ok(None) => break,
                Ok(Some(_)) => rows += 1,
                Err(error) => return signature(&[3, kind_of(&error.to_string()), runs]),
            }
            if rows > 10_000 {
                return signature(&[4]);
            }
        }
    }
    let changes: Vec<Change> = match Changeset::changes(bytes) {
        Ok(changes) => changes,
        Err(error) => return signature(&[5, kind_of(&error.to_string())]),
    };
    // Only valid changes are ever written.
    let valid: Vec<Change> = changes.iter().filter(|change| change.validate().is_ok()).cloned().collect();
    let written = write_changes(changeset.tie_break(), &valid, changeset.claims());
    let mut again = Changeset::changes(&written).expect("what was written can be read");
    let mut before = valid.clone();
    let order = |change: &Change| format!("{change:?}");
    again.sort_by_key(order);
    before.sort_by_key(order);
    assert_eq!(again.len(), before.len(), "changes are lost or made by writing");
    assert_eq!(again.iter().map(order).collect::<Vec<_>>(), before.iter().map(order).collect::<Vec<_>>());
    signature(&[
        6,
        runs,
        rows.min(9),
        changes.len().min(20) as u64,
        (changes.len() - valid.len()).min(3) as u64,
    ])
}

/// Version vectors.
pub fn vector(bytes: &[u8]) -> u64 {
    match VersionVector::decode(bytes, &version_vector::Limits::default()) {
        Err(error) => signature(&[1, kind_of(&error.to_string())]),
        Ok(vector) => {
            let encoded = vector.encode();
            let again = VersionVector::decode(&encoded, &version_vector::Limits::default());
            assert_eq!(again.expect("what was written can be read"), vector);
            let mut union = vector.clone();
            assert!(!union.union_with(&vector), "a union with itself changed a vector");
            assert!(vector.difference(&vector).is_empty());
            signature(&[2, vector.iter().count().min(8) as u64, vector.ranges().count().min(8) as u64])
        }
    }
}

/// Messages of the protocol.
pub fn wire(bytes: &[u8]) -> u64 {
    use crsql_protocol::codec::{decode, encode};
    match decode(bytes, 1 << 20) {
        Err(fault) => signature(&[1, kind_of(&format!("{fault:?}"))]),
        Ok(None) => signature(&[2]),
        Ok(Some(message)) => {
            let encoded = encode(&message);
            let again =
                decode(&encoded, 1 << 20).expect("what was written can be read").expect("its tag is known");
            assert_eq!(again, message, "a message changes by being passed on");
            let length = usize::BITS - format!("{message:?}").len().leading_zeros();
            signature(&[3, u64::from(message.tag()), u64::from(length)])
        }
    }
}

/// Gives a changeset the checksum that fits its payload; leaves alone what is no changeset at all.
pub fn repair_checksum(bytes: &mut [u8]) {
    const CHECKSUM: usize = 16;
    // Magic, format, codec, then the raw length as a varint.
    let mut at = crsql_core::changeset::MAGIC.len() + 2;
    loop {
        let Some(byte) = bytes.get(at) else { return };
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if bytes.len() < at + CHECKSUM {
        return;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..at]).update(&bytes[at + CHECKSUM..]);
    bytes[at..at + CHECKSUM].copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM]);
}
