//! FOREIGN KEYs over random histories, with every policy. `CRSQL_HISTORIES` sets how many are tried, `CRSQL_SEED` repeats
//! one.

use crsql_tests::rng::seeds;
use crsql_tests::special::{all, foreign_keys};

#[test]
fn random_histories_show_the_rows_that_have_their_parents() {
    let seen = all(foreign_keys::history, seeds(40), 70);
    assert!(seen.rare > 100, "{} hidden rows seen", seen.rare);
}
