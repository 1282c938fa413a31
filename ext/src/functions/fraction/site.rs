//! Fractional keys that no other site makes.
//!
//! Two sites that insert at one place at the same time choose the same place between the same neighbours. So a
//! key made here ends with ten digits of the site's own: keys of two sites differ in them, keys of one site
//! differ before them, because each is strictly between others.

use super::{BASE, FIRST, FractionError, Key, ZERO, decremented, incremented, integer_len, key_between};

/// How many digits a site adds to its keys. Ten hold 64 bits.
pub const SITE_DIGITS: usize = 10;

/// Characters of a counter, at most: enough for 95^8 keys in each direction.
const COUNTER_MAX: usize = 9;

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

/// A key between two that grows past a multiple of so many characters gets a counter: see [`key_between_with`].
const RUN: usize = 12;

/// Counting on is preferred though halving gives a key that is so many characters shorter, because those grow.
const SLACK: usize = 4;

/// As [`key_between`], ending with `digits`, which must not end with a space.
///
/// Halving what is left costs a character every five or six keys when all are made at one place: a log, a list that is
/// filled behind its third row. So a key that has become long gets a counter, an integer part like the one that keys
/// begin with, before its digits; and where a neighbour has one, the next key counts on, up or down. A hundred
/// thousand keys at one place then cost three characters more, not twenty thousand.
pub fn key_between_with(
    after: Option<&str>,
    before: Option<&str>,
    digits: &str,
) -> Result<String, FractionError> {
    let mut halved = halved(after, before)?;
    if halved.len() >= RUN && halved.len().is_multiple_of(RUN) {
        halved.push_str(FIRST);
    }
    halved.push_str(digits);
    let fits = |key: &String| {
        after.is_none_or(|after| after < key.as_str()) && before.is_none_or(|before| key.as_str() < before)
    };
    let counted = [
        after.and_then(|after| counted(after, digits, incremented)),
        before.and_then(|before| counted(before, digits, decremented)),
    ];
    let shorter = counted.into_iter().flatten().filter(fits).filter(|key| key.len() <= halved.len() + SLACK);
    Ok(shorter.min_by_key(String::len).unwrap_or(halved))
}

/// The next key by the counter of a neighbour, if it looks as if it had one. Whether it lies between the neighbours is
/// for the caller to see: what looks like a counter may be none.
fn counted(neighbour: &str, digits: &str, count: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<String> {
    let end = neighbour.len().checked_sub(SITE_DIGITS)?;
    let head = neighbour.as_bytes().get(..end)?;
    // The longest first: among the digits of a long counter, one may look like the head of a short one.
    let at = (2..=COUNTER_MAX).rev().filter_map(|len| end.checked_sub(len)).find(|at| {
        // The integer part of the key itself is left alone: the lowest of all is no key.
        *at > 0 && integer_len(head[*at]) == Some(end - at)
    })?;
    let counter = count(&head[at..])?;
    let mut key = neighbour.get(..at)?.to_owned();
    // Digits, all of them printable ASCII.
    key.extend(counter.into_iter().map(char::from));
    key.push_str(digits);
    Key::parse(&key).is_ok().then_some(key)
}

/// A key between two that no key with more characters behind it reaches past.
fn halved(after: Option<&str>, before: Option<&str>) -> Result<String, FractionError> {
    let mut key = key_between(after, before)?;
    // More digits would take a key past one that begins with it. At the beginning of a list there is always a
    // lower integer part; elsewhere each turn is longer than the one before, up to the length of `before`.
    while let Some(before) = before.filter(|before| before.starts_with(&key)) {
        key = match after {
            None => key_between(None, Some(&key))?,
            Some(_) => key_between(Some(&key), Some(before))?,
        };
    }
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

    /// The length of the longest key that `count` inserts at one place make, and of the last.
    fn insert_at_one_place(
        count: usize,
        digits: &[String],
        is_behind: impl Fn(usize) -> bool,
    ) -> (usize, usize) {
        let first = key_between_with(None, None, &digits[0]).unwrap();
        let last = key_between_with(Some(&first), None, &digits[0]).unwrap();
        let (mut low, mut high, mut longest) = (first, last, 0);
        for n in 0..count {
            let key = key_between_with(Some(&low), Some(&high), &digits[n % digits.len()]).unwrap();
            assert!(low < key && key < high, "{low:?} {key:?} {high:?}");
            longest = longest.max(key.len());
            if is_behind(n) { low = key } else { high = key }
        }
        (longest, low.len().max(high.len()))
    }

    #[test]
    fn a_hundred_thousand_keys_at_one_place_stay_short() {
        for site in 0..2 {
            let one = [site_digits(&[site; 16])];
            let two = [site_digits(&[site; 16]), site_digits(&[site + 100; 16])];
            for (name, digits) in [("one site", &one[..]), ("two sites", &two[..])] {
                let (behind, _) = insert_at_one_place(100_000, digits, |_| true);
                let (before, _) = insert_at_one_place(100_000, digits, |_| false);
                println!("{name}: {behind} characters behind one row, {before} before one");
                assert!(behind <= 60 && before <= 60, "{name}: {behind} {before}");
            }
        }
    }

    #[test]
    fn bisecting_costs_no_more_than_a_digit_in_three_keys() {
        let digits = [site_digits(&[9; 16])];
        for keys in [60, 600] {
            let (longest, _) = insert_at_one_place(keys, &digits, |n| n % 2 == 0);
            assert!(longest < 40 + keys / 3, "{keys} keys: {longest}");
        }
    }
}
