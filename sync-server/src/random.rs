//! Numbers nobody can foresee.

#[cfg(test)]
thread_local! {
    /// In a simulation, the dice of this thread.
    static DICE: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// One of 64 bits.
pub fn u64() -> u64 {
    #[cfg(test)]
    if let Some(number) = rolled() {
        return number;
    }
    getrandom::u64().expect("the system has random numbers")
}

/// One below `bound`, which is not 0.
pub fn below(bound: u64) -> u64 {
    u64() % bound
}

/// From now on this thread's numbers follow from a seed.
#[cfg(test)]
pub fn seed(seed: u64) {
    DICE.set(Some(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635));
}

#[cfg(test)]
fn rolled() -> Option<u64> {
    let state = DICE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    DICE.set(Some(state));
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(z ^ (z >> 31))
}
