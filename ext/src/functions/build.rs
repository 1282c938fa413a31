//! Which build this is.

use crate::sqlite::{Call, Result};

/// `crsql_version()`: the release, such as `0.1.0`. A text, where cr-sqlite's fork answers with a number; the
/// loader tells the two apart by that.
pub(super) fn version<S>(_: &S, call: &mut Call<'_>) -> Result<()> {
    call.set_text(env!("CARGO_PKG_VERSION"));
    Ok(())
}

/// `crsql_sha()`: the commit the library was built from, `unknown` unless the build set `CRSQL_SHA`.
pub(super) fn sha<S>(_: &S, call: &mut Call<'_>) -> Result<()> {
    call.set_text(option_env!("CRSQL_SHA").unwrap_or("unknown"));
    Ok(())
}
