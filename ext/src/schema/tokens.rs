//! SQL text cut into tokens, by the rules of SQLite's own tokenizer.
//!
//! For statements that SQLite has already accepted (`sqlite_schema.sql`) and for the scripts of
//! `crsql_automigrate`. It tells a keyword from the same letters in a comment, a string or a quoted name; it does
//! not parse. Any text yields tokens: what SQLite would refuse becomes a token that nothing matches.

use std::borrow::Cow;

/// What a [`Token`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bare word: a keyword or an unquoted name.
    Word,
    /// A name in `"…"`, `` `…` `` or `[…]`.
    Quoted,
    /// A text in `'…'`, which SQLite also takes for a name where only a name can stand.
    Text,
    /// A blob literal, `x'…'`.
    Blob,
    /// A numeric literal.
    Number,
    /// A parameter: `?1`, `:a`, `@a`, `$a`, `#1`.
    Parameter,
    /// Any other single character.
    Punct(u8),
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text as written, quotes included.
    pub text: &'a str,
    /// Byte offset of its first byte in the tokenized text.
    pub start: usize,
}

impl<'a> Token<'a> {
    /// Byte offset just past its last byte.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is the bare keyword `word`, in any letter case.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is the character `punct`.
    pub fn is_punct(&self, punct: u8) -> bool {
        self.kind == Kind::Punct(punct)
    }

    /// The name it spells, quotes removed, if a name can be spelled so.
    pub fn name(&self) -> Option<Cow<'a, str>> {
        match self.kind {
            Kind::Word => Some(Cow::Borrowed(self.text)),
            Kind::Quoted | Kind::Text => Some(unquote(self.text)),
            _ => None,
        }
    }
}

/// Cuts `sql` into tokens; white space and comments vanish.
pub fn tokenize(sql: &str) -> Vec<Token<'_>> {
    tokens(sql).collect()
}

/// The tokens of `sql`, one at a time.
pub fn tokens(sql: &str) -> Tokens<'_> {
    Tokens { sql, at: 0 }
}

/// Iterator of [`tokens`].
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.sql.as_bytes();
        let start = skip_blank(bytes, self.at);
        let first = *bytes.get(start)?;
        let (kind, end) = match first {
            b'\'' => (Kind::Text, quoted_end(bytes, start, b'\'')),
            b'"' | b'`' => (Kind::Quoted, quoted_end(bytes, start, first)),
            b'[' => (Kind::Quoted, bracket_end(bytes, start)),
            b'x' | b'X' if bytes.get(start + 1) == Some(&b'\'') => {
                (Kind::Blob, quoted_end(bytes, start + 1, b'\''))
            }
            b'0'..=b'9' => (Kind::Number, number_end(bytes, start)),
            b'.' if bytes.get(start + 1).is_some_and(u8::is_ascii_digit) => {
                (Kind::Number, number_end(bytes, start))
            }
            b'?' | b':' | b'@' | b'#' => (Kind::Parameter, word_end(bytes, start + 1)),
            // Before the words: a name may contain `$` but not begin with it.
            b'$' => (Kind::Parameter, word_end(bytes, start + 1)),
            _ if is_word_byte(first) => (Kind::Word, word_end(bytes, start)),
            _ => (Kind::Punct(first), start + 1),
        };
        self.at = end;
        // Every end above follows an ASCII byte, precedes one or is the end of the text, so it is a character
        // boundary; `get` all the same, because this text may come from a damaged file.
        Some(Token { kind, text: self.sql.get(start..end)?, start })
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match &bytes[at..] {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0c, ..] => at += 1,
            [b'-', b'-', ..] => at = find(bytes, at + 2, b"\n").map_or(bytes.len(), |end| end + 1),
            [b'/', b'*', _, ..] => at = find(bytes, at + 2, b"*/").map_or(bytes.len(), |end| end + 2),
            _ => return at,
        }
    }
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    bytes.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
}

/// Past the closing quote; a doubled quote is part of the text; the end of input closes what is open.
fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == quote {
            if bytes.get(at) != Some(&quote) {
                return at;
            }
            at += 1;
        }
    }
    at
}

fn bracket_end(bytes: &[u8], start: usize) -> usize {
    find(bytes, start, b"]").map_or(bytes.len(), |end| end + 1)
}

fn word_end(bytes: &[u8], start: usize) -> usize {
    start + bytes[start..].iter().take_while(|byte| is_word_byte(**byte)).count()
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        let exponent_sign = matches!(byte, b'+' | b'-')
            && matches!(bytes[at - 1], b'e' | b'E')
            && !bytes[start..].starts_with(b"0x")
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !(is_word_byte(byte) || byte == b'.' || exponent_sign) {
            break;
        }
        at += 1;
    }
    at
}

fn unquote(text: &str) -> Cow<'_, str> {
    let (close, doubled, single) = match text.as_bytes().first() {
        Some(b'[') => return Cow::Borrowed(inside(text, ']')),
        Some(b'"') => ('"', "\"\"", "\""),
        Some(b'`') => ('`', "``", "`"),
        _ => ('\'', "''", "'"),
    };
    let inner = inside(text, close);
    if inner.contains(close) { Cow::Owned(inner.replace(doubled, single)) } else { Cow::Borrowed(inner) }
}

/// `text` without its first byte and, where it is closed, without `close`.
fn inside(text: &str, close: char) -> &str {
    let inner = text.get(1..).unwrap_or_default();
    inner.strip_suffix(close).unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        tokens(sql).map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_blanks_vanish() {
        assert_eq!(texts("a--b\nc /* d ** ' */e\t--\x0c f"), ["a", "c", "e"]);
        assert_eq!(texts("a /* never closed"), ["a"]);
        assert_eq!(texts("a -- last line"), ["a"]);
        assert_eq!(texts("a - - b / * c"), ["a", "-", "-", "b", "/", "*", "c"]);
        assert_eq!(texts("/*"), ["/", "*"], "SQLite too takes a comment only with something after it");
        assert_eq!(texts("/**/x"), ["x"]);
    }

    #[test]
    fn every_quoting_is_one_token() {
        assert_eq!(
            texts(r#"'it''s' "a""b" `c``d` [e]f] x'00' X'' xy"#),
            [r"'it''s'", r#""a""b""#, "`c``d`", "[e]", "f", "]", "x'00'", "X''", "xy"]
        );
        assert_eq!(texts("'open"), ["'open"]);
        assert_eq!(texts("[open"), ["[open"]);
    }

    #[test]
    fn names_lose_their_quotes() {
        let names: Vec<_> = tokens(r#"a "b""c" `d``e` [f"] 'g''h' "" "ö" 1"#)
            .map(|t| t.name().map(Cow::into_owned))
            .collect();
        let expected = ["a", "b\"c", "d`e", "f\"", "g'h", "", "ö"].map(|name| Some(name.to_owned()));
        assert_eq!(names[..7], expected);
        assert_eq!(names[7], None);
    }

    #[test]
    fn numbers_and_parameters_are_one_token() {
        assert_eq!(
            texts("1 2.5e-3 .5 0xFF 1_000 ?1 :a @b $c #d a$b 0x1e+2"),
            ["1", "2.5e-3", ".5", "0xFF", "1_000", "?1", ":a", "@b", "$c", "#d", "a$b", "0x1e", "+", "2"]
        );
        assert_eq!(texts("NEW.a,1.b"), ["NEW", ".", "a", ",", "1.b"]);
    }

    #[test]
    fn names_beyond_ascii_are_words() {
        assert_eq!(texts("größe,名前"), ["größe", ",", "名前"]);
    }

    #[test]
    fn any_text_is_cut_without_loss_of_position() {
        for sql in ["\u{0}\u{1}", "a\u{0}b", "é'", "\"é", "[é", "x'é", "1é", "$é", "--é", "-", "/", ".", "'"]
        {
            for token in tokens(sql) {
                assert_eq!(&sql[token.start..token.end()], token.text);
                let _ = token.name();
            }
        }
    }
}
