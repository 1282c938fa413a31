use super::*;

fn between(after: impl Into<Option<&'static str>>, before: impl Into<Option<&'static str>>) -> String {
    key_between(after.into(), before.into()).unwrap()
}

fn lowest() -> String {
    format!("A{}", " ".repeat(26))
}

#[test]
fn keys_are_those_of_cr_sqlite() {
    assert_eq!(between(None, None), "a ");
    assert_eq!(between("a ", None), "a!");
    assert_eq!(between(None, "a "), "Z~");
    assert_eq!(between("a ", "a!"), "a P");
    assert_eq!(between("a0", "a1"), "a0P");
    assert_eq!(between("b~~", None), "c   ");
    assert_eq!(between("a0", "a0V"), "a0;");
    assert_eq!(between("Z~", "a!"), "a ");
    assert_eq!(between(None, "Y  "), "X~~~");
}

#[test]
fn what_is_no_key_is_an_error_and_not_a_panic() {
    let error =
        |after: Option<&str>, before: Option<&str>| key_between(after, before).unwrap_err().to_string();
    assert_eq!(error(Some("a0"), Some("a0")), r#"key_between - a must be before b: "a0" is not before "a0""#);
    assert_eq!(error(Some("a1"), Some("a0")), r#"key_between - a must be before b: "a1" is not before "a0""#);
    assert!(error(Some(""), None).starts_with("head is out of range"));
    assert!(error(None, Some("1")).starts_with("head is out of range"));
    assert!(error(Some("aé"), None).contains("not printable ASCII"));
    assert!(error(Some("é"), None).starts_with("head is out of range"));
    assert!(error(Some("a\u{7f}"), None).contains("not printable ASCII"));
    assert!(error(Some("b0"), None).starts_with("integer part of key is too long"));
    assert!(error(Some("a01 "), None).starts_with("Fractional part should not end with ' ' (space)"));
    assert!(error(None, Some(&lowest())).starts_with("Key is too small"));
}

#[test]
fn the_ends_of_the_range_still_have_room() {
    let highest = format!("z{}", "~".repeat(26));
    let after = key_between(Some(&highest), None).unwrap();
    assert_eq!(after, format!("{highest}P"));
    assert!(key_between(Some(&after), None).unwrap() > after);

    let near_lowest = format!("A{}!", " ".repeat(25));
    let before = key_between(None, Some(&near_lowest)).unwrap();
    assert_eq!(before, format!("{}P", lowest()));
    assert!(key_between(None, Some(&before)).unwrap() < before);
}

#[test]
fn a_very_long_key_does_not_exhaust_the_stack() {
    let long = format!("z{}{}", "~".repeat(26), "~".repeat(1_000_000));
    assert_eq!(key_between(Some(&long), None).unwrap().len(), long.len() + 1);
}

#[test]
fn there_is_always_a_key_in_between() {
    // Inserts at positions of a fixed pseudo-random sequence, which favours both ends.
    let mut keys: Vec<String> = Vec::new();
    let mut random: u64 = 1;
    for _ in 0..3000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let position = match random >> 62 {
            0 => 0,
            1 => keys.len(),
            _ => (random >> 33) as usize % (keys.len() + 1),
        };
        let after = position.checked_sub(1).map(|i| keys[i].as_str());
        let before = keys.get(position).map(String::as_str);
        let key = key_between(after, before).unwrap();
        keys.insert(position, key);
    }
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert!(keys.iter().all(|key| key.len() < 40));
}

#[test]
fn counting_up_and_down_are_inverse() {
    let mut integer = b"X~~~".to_vec();
    let mut seen = vec![integer.clone()];
    for _ in 0..20_000 {
        integer = incremented(&integer).unwrap();
        assert!(seen.last().unwrap() < &integer);
        seen.push(integer.clone());
    }
    for expected in seen.iter().rev().skip(1) {
        integer = decremented(&integer).unwrap();
        assert_eq!(&integer, expected);
    }
}
