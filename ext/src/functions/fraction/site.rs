//! Fractional keys that no other site makes.
//!
//! Two sites that insert at one place at the same time choose the same place between the same neighbours. So a
//! key made here ends with ten digits of the site's own: keys of two sites differ in them, keys of one site
//! differ before them, because each is strictly between others.

use super::{BASE, FractionError, ZERO, key_between};

/// How many digits a site adds to its keys. Ten hold 64 bits.
pub const SITE_DIGITS: usize = 10;

/// The digits by which the keys of a site are told from those of others: 64 bits of a hash of its id. Among a
/// million sites, two have the same ones with a probability of 3e-8, and their keys are then as equal as
/// cr-sqlite's.
pub fn site_digits(site_id: &[u8; 16]) -> String {
    let hash = blake3::hash(site_id);
    let mut number = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    let mut take = |base: usize| {
        let digit = (number % base as u64) as u8;
        number /= base as u64;
        digit
    };
    // A fraction must not end with the digit zero. The first digit is one of the 32 in the middle, because it is
    // what later keys halve: next to either end, one would have to grow by a digit with every other key.
    let last = char::from(ZERO + 1 + take(BASE - 1));
    let first = char::from(ZERO + 32 + take(32));
    let mut digits = String::from(first);
    digits.extend((2..SITE_DIGITS).map(|_| char::from(ZERO + take(BASE))));
    digits.push(last);
    digits
}

/// As [`key_between`], ending with `digits`, which must not end with a space.
pub fn key_between_with(
    after: Option<&str>,
    before: Option<&str>,
    digits: &str,
) -> Result<String, FractionError> {
    let mut key = key_between(after, before)?;
    // More digits would take a key past one that begins with it. At the beginning of a list there is always a
    // lower integer part; elsewhere each turn is longer than the one before, up to the length of `before`.
    while let Some(before) = before.filter(|before| before.starts_with(&key)) {
        key = match after {
            None => key_between(None, Some(&key))?,
            Some(_) => key_between(Some(&key), Some(before))?,
        };
    }
    key.push_str(digits);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_have_digits_of_their_own() {
        let mut all: Vec<String> = (0..1000u128).map(|site| site_digits(&site.to_le_bytes())).collect();
        assert!(all.iter().all(|d| d.len() == SITE_DIGITS && !d.ends_with(' ')));
        assert!(all.iter().all(|d| d.bytes().all(|b| (b' '..=b'~').contains(&b))));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn keys_of_two_sites_are_strictly_between_and_never_equal() {
        let sites = [
            site_digits(&[1; 16]),
            site_digits(&[2; 16]),
            format!("@{}!", " ".repeat(8)),
            "P~~~~~~~~~".to_owned(),
        ];
        let mut keys: Vec<String> = Vec::new();
        let mut random: u64 = 7;
        for _ in 0..3000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let position = match random >> 62 {
                0 => 0,
                1 => keys.len(),
                _ => (random >> 33) as usize % (keys.len() + 1),
            };
            let after = position.checked_sub(1).map(|i| keys[i].as_str());
            let before = keys.get(position).map(String::as_str);
            let made: Vec<String> =
                sites.iter().map(|s| key_between_with(after, before, s).unwrap()).collect();
            for (index, key) in made.iter().enumerate() {
                assert!(after.is_none_or(|a| a < key.as_str()) && before.is_none_or(|b| key.as_str() < b));
                assert!(!made[..index].contains(key));
            }
            let mut made = made;
            made.sort();
            let chosen = made.swap_remove((random >> 20) as usize % made.len());
            keys.insert(position, chosen);
        }
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert!(keys.iter().all(|key| key.len() < 40));
    }

    #[test]
    fn inserting_at_one_place_for_ever_costs_a_digit_in_five_keys() {
        for site in 0..20 {
            let digits = site_digits(&[site; 16]);
            let first = key_between_with(None, None, &digits).unwrap();
            let last = key_between_with(Some(&first), None, &digits).unwrap();
            let (mut low, mut high) = (first.clone(), last.clone());
            for _ in 0..500 {
                low = key_between_with(Some(&low), Some(&last), &digits).unwrap();
                high = key_between_with(Some(&first), Some(&high), &digits).unwrap();
            }
            assert!(low.len() < 130 && high.len() < 130, "{} {}", low.len(), high.len());
        }
    }
}
