//! The laws of the core over random inputs and random histories.
//!
//! `PROPTEST_CASES` sets how many cases each property tries. `CRSQL_LAW_RUNS=100000 CRSQL_LAW_SEED=7 cargo test
//! -p crsql-core --release --test laws long_run` tries that many histories from that seed; a failure names the
//! seed and the run that repeats it alone (`CRSQL_LAW_FIRST`).

mod arbitrary;
mod clashes;
mod clock_bounds;
mod collection;
mod formats;
mod histories;
mod joins;
mod parents;
mod range_sets;
mod world;

/// As many cases as the environment asks for, else so many.
pub(crate) fn cases(default: u32) -> proptest::prelude::ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    proptest::prelude::ProptestConfig::with_cases(asked.unwrap_or(default))
}
