//! The changeset: many changes in one checked, optionally compressed byte string.
//!
//! It is what `crsql_changeset()` returns, what `crsql_apply()` takes and what the protocol carries. Changes are
//! grouped into *runs*: rows of one table that share a causal length, a set of columns and a clock pattern, so
//! that a row costs its key and its values and a bulk insert carries no clock per cell. The byte grammar, with a
//! worked example, is `docs/changeset-format.md`; a test compares that example with this code.
//!
//! [`Writer`] streams runs out, [`Changeset::open`] verifies and unpacks, [`Reader`] walks the runs. Neither
//! judges a change: clocks, keys and schema are checked by `merge::validate` and by whoever applies them, so one
//! refused change does not condemn its neighbours. What this module promises is that any bytes give either an
//! error or well-formed rows, with memory in proportion to the input.
//!
//! ```
//! use crsql_core::changeset::{Changeset, GroupHeader, Limits, RowKey, RunHeader, Writer};
//! use crsql_core::{ids::SiteId, merge::TieBreak, value::ValueRef, version_vector::VersionVector};
//!
//! let mut writer = Writer::new(TieBreak::Site);
//! let site = writer.site(SiteId([7; 16]));
//! let table = writer.table("todo", 1, &["title", "done"]);
//! writer.begin_run(&RunHeader {
//!     table,
//!     cl: 1,
//!     groups: vec![GroupHeader { columns: vec![1, 2], col_version: 1, site, version: 1, ..Default::default() }],
//!     first_key: Some(1),
//! });
//! writer.value(ValueRef::Text(b"milk"));
//! writer.value(ValueRef::Integer(0));
//! writer.end_row();
//! let bytes = writer.finish(&VersionVector::default(), true);
//!
//! let changeset = Changeset::open(&bytes, &Limits::default())?;
//! let mut reader = changeset.reader();
//! let mut values = Vec::new();
//! while let Some(run) = reader.next_run()? {
//!     assert_eq!(changeset.tables()[run.table as usize].name, "todo");
//!     while let Some(key) = reader.next_row(&mut values)? {
//!         assert_eq!(key, RowKey::Integer(1));
//!         assert_eq!(values.len(), 2);
//!     }
//! }
//! # Ok::<(), crsql_core::changeset::ChangesetError>(())
//! ```

mod bare;
mod changes;
mod cursor;
mod envelope;
mod error;
mod header;
mod reader;
mod run;
mod split;
#[cfg(test)]
mod tests;
mod value;
mod varint;
mod writer;

pub use bare::{Name, bare, dressed, long, short};
pub use changes::{write_changes, write_changes_telling};
pub use envelope::Compress;
pub use error::ChangesetError;
pub use header::{Table, Told};
pub use reader::{Changeset, Reader, RowKey};
pub use run::{GroupHeader, RunHeader};
pub use split::{Order, Piece, split, split_each};
pub use writer::Writer;

/// The first bytes of every changeset.
pub const MAGIC: &[u8; 7] = b"crsqlcs";

/// The format this build writes, and the only one it reads.
pub const FORMAT: u8 = 1;

/// Payloads shorter than this many bytes are never compressed: a block of one row comes out larger.
pub const COMPRESS_BYTES_MIN: usize = 256;

/// The most columns a table of a changeset may list. SQLite's own ceiling is 32,767.
pub const COLUMNS_MAX: usize = 32_767;

/// The most rows of one changeset that may take no bytes at all: consecutive integer keys without values.
///
/// Without it thirty bytes could announce billions of deletes. The writer spells out the keys of further rows.
pub const IMPLIED_ROWS_MAX: u64 = 1 << 24;

/// What a reader is willing to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of payload after decompression.
    pub raw_bytes: usize,
}

impl Default for Limits {
    /// 1 GiB, SQLite's own default limit for a blob.
    fn default() -> Self {
        Limits { raw_bytes: 1 << 30 }
    }
}
