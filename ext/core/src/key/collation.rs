//! SQLite's built-in collations, as the bytes that equal text has in common.

use crate::value::{Value, ValueCow, ValueRef};

/// A collation a replicated key may have. Others are refused: their equality is the host's own code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Collation {
    /// Bytes are compared.
    #[default]
    Binary,
    /// ASCII letters are compared without case.
    NoCase,
    /// Trailing spaces are ignored.
    Rtrim,
}

impl Collation {
    /// The collation of this name in any letter case, if it is one of the three.
    pub fn of_name(name: &str) -> Option<Collation> {
        [("binary", Collation::Binary), ("nocase", Collation::NoCase), ("rtrim", Collation::Rtrim)]
            .into_iter()
            .find_map(|(known, collation)| known.eq_ignore_ascii_case(name).then_some(collation))
    }

    /// The same bytes for all text that SQLite's comparison calls equal.
    pub(super) fn fold(self, text: &[u8]) -> ValueCow<'_> {
        let borrowed = match self {
            Collation::Binary => text,
            Collation::NoCase if is_folded(text) => text,
            Collation::NoCase => return ValueCow::Owned(Value::Text(fold_case(text))),
            Collation::Rtrim => {
                &text[..text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1)]
            }
        };
        ValueCow::Borrowed(ValueRef::Text(borrowed))
    }
}

// SQLite's NOCASE stops at a NUL and then compares lengths only: 'a\0b' equals 'A\0c' but not 'a\0'. So what
// follows the first NUL keeps its length and nothing else.
fn fold_case(text: &[u8]) -> Vec<u8> {
    let head = until_nul(text);
    let mut folded = head.to_ascii_lowercase();
    folded.resize(text.len(), 0);
    folded
}

fn is_folded(text: &[u8]) -> bool {
    let (head, tail) = text.split_at(until_nul(text).len());
    !head.iter().any(u8::is_ascii_uppercase) && tail.iter().all(|byte| *byte == 0)
}

fn until_nul(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(collation: Collation, text: &str) -> Vec<u8> {
        match collation.fold(text.as_bytes()).into_value() {
            Value::Text(bytes) => bytes,
            other => panic!("text became {other:?}"),
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(Collation::of_name("NOCASE"), Some(Collation::NoCase));
        assert_eq!(Collation::of_name("Binary"), Some(Collation::Binary));
        assert_eq!(Collation::of_name("rTrim"), Some(Collation::Rtrim));
        assert_eq!(Collation::of_name("unicode"), None);
    }

    #[test]
    fn nocase_folds_ascii_and_nothing_else() {
        assert_eq!(folded(Collation::NoCase, "AbÉ[z"), "abÉ[z".as_bytes());
        assert_eq!(folded(Collation::NoCase, "already"), b"already");
    }

    #[test]
    fn nocase_sees_only_the_length_after_a_nul() {
        assert_eq!(folded(Collation::NoCase, "A\0xY"), b"a\0\0\0");
        assert_eq!(folded(Collation::NoCase, "a\0\0\0"), b"a\0\0\0");
        assert_eq!(folded(Collation::NoCase, "a\0b"), b"a\0\0");
    }

    #[test]
    fn rtrim_drops_trailing_spaces_only() {
        assert_eq!(folded(Collation::Rtrim, " a b  "), b" a b");
        assert_eq!(folded(Collation::Rtrim, "  "), b"");
        assert_eq!(folded(Collation::Rtrim, "a\t"), b"a\t");
        assert_eq!(folded(Collation::Binary, "A "), b"A ");
    }
}
