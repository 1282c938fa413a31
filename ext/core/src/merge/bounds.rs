//! Which clocks are accepted, so that a hostile peer can win a cell but not freeze it.

use std::fmt;

use crate::limits::*;

/// The clocks of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clocks {
    /// The row's causal length.
    pub cl: u64,
    /// The cell's clock; of a row-existence change, the causal length again.
    pub col_version: u64,
    /// The author's site_version; 0 for an unknown identity.
    pub version: u64,
    /// The place inside the version.
    pub seq: u64,
}

/// Which clock a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// The causal length.
    CausalLength,
    /// A cell's clock.
    ColVersion,
    /// A site's version.
    SiteVersion,
    /// The place inside a version.
    Seq,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::CausalLength => "cl",
            Clock::ColVersion => "col_version",
            Clock::SiteVersion => "site_version",
            Clock::Seq => "seq",
        })
    }
}

/// Why a change's clocks are refused. The change is set aside; others of its batch are not concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Below the least value.
    #[error("{clock} {value} is below {limit}")]
    TooSmall {
        /// Which clock.
        clock: Clock,
        /// What came; SQL integers are signed.
        value: i64,
        /// The least accepted value.
        limit: u64,
    },
    /// Beyond the absolute limit.
    #[error("{clock} {value} is beyond the limit {limit}")]
    TooLarge {
        /// Which clock.
        clock: Clock,
        /// What came.
        value: u64,
        /// The greatest accepted value.
        limit: u64,
    },
    /// Too far beyond what is known.
    #[error("{clock} {value} is more than {limit} beyond the known {known}")]
    StepTooLarge {
        /// Which clock.
        clock: Clock,
        /// What came.
        value: u64,
        /// What the receiver knew.
        known: u64,
        /// The greatest accepted step.
        limit: u64,
    },
    /// A row-existence change's col_version is the causal length.
    #[error("col_version {col_version} of a row-existence change differs from its cl {cl}")]
    RowVersion {
        /// What came.
        col_version: u64,
        /// What it must be.
        cl: u64,
    },
}

impl Clocks {
    /// Clocks as SQL has them: signed. Negative numbers are refused here, the rest by [`validate`].
    pub fn from_signed(cl: i64, col_version: i64, version: i64, seq: i64) -> Result<Clocks, Refusal> {
        let unsigned = |clock, value: i64, limit| {
            u64::try_from(value).map_err(|_| Refusal::TooSmall { clock, value, limit })
        };
        Ok(Clocks {
            cl: unsigned(Clock::CausalLength, cl, 1)?,
            col_version: unsigned(Clock::ColVersion, col_version, 1)?,
            version: unsigned(Clock::SiteVersion, version, 0)?,
            seq: unsigned(Clock::Seq, seq, 0)?,
        })
    }
}

/// Checks a change's clocks against the absolute bounds, which every replica applies alike: `cl` and
/// `col_version` from 1, `version` and `seq` from 0, each up to its limit.
pub fn validate(clocks: &Clocks) -> Result<(), Refusal> {
    for (clock, value, least, limit) in [
        (Clock::CausalLength, clocks.cl, 1, CAUSAL_LENGTH_MAX),
        (Clock::ColVersion, clocks.col_version, 1, COL_VERSION_MAX),
        (Clock::SiteVersion, clocks.version, 0, SITE_VERSION_MAX),
        (Clock::Seq, clocks.seq, 0, SEQ_MAX),
    ] {
        if value < least {
            return Err(Refusal::TooSmall { clock, value: 0, limit: least });
        }
        if value > limit {
            return Err(Refusal::TooLarge { clock, value, limit });
        }
    }
    Ok(())
}

/// [`validate`], and that a row-existence change's col_version is its causal length. A delete may come with any
/// column and col_version, as it does from cr-sqlite, so this is for changes that name no column.
pub fn validate_row(clocks: &Clocks) -> Result<(), Refusal> {
    validate(clocks)?;
    if clocks.col_version != clocks.cl {
        return Err(Refusal::RowVersion { col_version: clocks.col_version, cl: clocks.cl });
    }
    Ok(())
}

/// Checks how far a change's clocks lie beyond what the receiver knows of that row, that cell and that site. For
/// a trust boundary only: see [`crate::limits`]. `known.version` of 0 is the first contact with a site and
/// passes, as does an unknown identity.
pub fn validate_step(known: &Clocks, remote: &Clocks) -> Result<(), Refusal> {
    let site_step = if known.version == 0 { SITE_VERSION_MAX } else { SITE_VERSION_STEP_MAX };
    // A new incarnation starts its cells at 1, whatever the last one reached.
    let known_cell = if remote.cl == known.cl { known.col_version } else { 0 };
    for (clock, value, known, limit) in [
        (Clock::CausalLength, remote.cl, known.cl, CAUSAL_LENGTH_STEP_MAX),
        (Clock::ColVersion, remote.col_version, known_cell, COL_VERSION_STEP_MAX),
        (Clock::SiteVersion, remote.version, known.version, site_step),
    ] {
        if value > known.saturating_add(limit) {
            return Err(Refusal::StepTooLarge { clock, value, known, limit });
        }
    }
    Ok(())
}

/// The greatest clocks of a whole room, and how far they may grow in a period. For a trust boundary that does not look up
/// what is known of every row: whoever wants to drive a clock to its end needs as many periods as it has steps, which
/// is [`CAUSAL_LENGTH_MAX`] / [`CAUSAL_LENGTH_STEP_MAX`] for the causal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockWindow {
    since_ms: u64,
    /// Causal length and col_version at the beginning of the period; none while nothing is known.
    base: Option<(u64, u64)>,
    known: (u64, u64),
}

impl ClockWindow {
    /// A period, in milliseconds: an hour.
    pub const PERIOD_MS: u64 = 3_600_000;

    /// From the greatest causal length and col_version that are known. Where none are, the first ones may be any: who
    /// writes the first rows of a room harms nobody else.
    pub fn new(now_ms: u64, known: Option<(u64, u64)>) -> ClockWindow {
        ClockWindow { since_ms: now_ms, base: known, known: known.unwrap_or_default() }
    }

    /// The greatest causal length and col_version so far.
    pub fn known(&self) -> (u64, u64) {
        self.known
    }

    /// Takes the greatest clocks of something that comes in, unless they are too far.
    ///
    /// # Errors
    /// Which clock is too far, and how far it might be now. Nothing was taken then.
    pub fn admit(&mut self, now_ms: u64, cl: u64, col_version: u64) -> Result<(), Refusal> {
        if now_ms.saturating_sub(self.since_ms) >= Self::PERIOD_MS {
            (self.since_ms, self.base) = (now_ms, self.base.map(|_| self.known));
        }
        if let Some((base_cl, base_col_version)) = self.base {
            for (clock, value, known, limit) in [
                (Clock::CausalLength, cl, base_cl, CAUSAL_LENGTH_STEP_MAX),
                (Clock::ColVersion, col_version, base_col_version, COL_VERSION_STEP_MAX),
            ] {
                if value > known.saturating_add(limit) {
                    return Err(Refusal::StepTooLarge { clock, value, known, limit });
                }
            }
        }
        self.known = (self.known.0.max(cl), self.known.1.max(col_version));
        self.base.get_or_insert(self.known);
        Ok(())
    }
}
