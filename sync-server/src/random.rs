//! Numbers nobody can foresee.

/// One of 64 bits.
pub fn u64() -> u64 {
    getrandom::u64().expect("the system has random numbers")
}

/// One below `bound`, which is not 0.
pub fn below(bound: u64) -> u64 {
    u64() % bound
}
