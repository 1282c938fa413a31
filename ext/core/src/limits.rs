//! The bounds on everything that arrives from outside.
//!
//! Absolute bounds depend on the change alone, so every replica refuses the same changes in whatever order they
//! arrive. Step bounds depend on what the receiver already knows: they belong to a trust boundary (a relay and
//! its clients), never to the merge, because two replicas that know different things would then keep different
//! states.

/// Greatest `site_version` of an accepted change, and the last one a site may issue.
pub const SITE_VERSION_MAX: u64 = 1 << 48;

/// Greatest `seq` of an accepted change.
pub const SEQ_MAX: u64 = 1 << 48;

/// Greatest `col_version` of an accepted change. A local write to a cell that stands here opens a new
/// incarnation of the row instead, so a cell can be won with a huge clock but not frozen.
pub const COL_VERSION_MAX: u64 = 1 << 40;

/// Greatest causal length of an accepted change. Even, so that a row alive at the last odd one can be deleted.
pub const CAUSAL_LENGTH_MAX: u64 = 1 << 31;

/// Greatest causal length of a tombstone that is collected: new rows start above it, and must have room to live.
pub const COLLECTED_CAUSAL_LENGTH_MAX: u64 = 1 << 20;

/// How far a site's version may lie beyond the greatest one known of that site, at a trust boundary. Not for
/// raw SQL, and not for the first contact with a site.
pub const SITE_VERSION_STEP_MAX: u64 = 65_536;

/// How far a cell's `col_version` may lie beyond the known one, at a trust boundary.
pub const COL_VERSION_STEP_MAX: u64 = 1 << 20;

/// How far a row's causal length may lie beyond the known one, at a trust boundary.
pub const CAUSAL_LENGTH_STEP_MAX: u64 = 1 << 16;

/// Longest table name, in bytes.
pub const TABLE_NAME_MAX: usize = 2048;

/// Longest column name, in bytes.
pub const COLUMN_NAME_MAX: usize = 2048;

/// Most values in one packed key: its count is a byte.
pub const PACKED_VALUES_MAX: usize = 255;
