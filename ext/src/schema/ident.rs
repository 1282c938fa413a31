//! Names and text as SQL spells them. The only way a name gets into generated SQL.

use std::fmt::{self, Display, Formatter, Write};

/// A name, displayed as a quoted SQL identifier: `a"b` becomes `"a""b"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ident<'a>(pub &'a str);

/// A text, displayed as an SQL string literal: `it's` becomes `'it''s'`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal<'a>(pub &'a str);

impl Display for Ident<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0, '"')
    }
}

impl Display for Literal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0, '\'')
    }
}

fn quoted(f: &mut Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for (i, part) in text.split(quote).enumerate() {
        if i > 0 {
            f.write_char(quote)?;
            f.write_char(quote)?;
        }
        f.write_str(part)?;
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        assert_eq!(Ident("plain").to_string(), "\"plain\"");
        assert_eq!(Ident("").to_string(), "\"\"");
        assert_eq!(Ident("a\"b'c").to_string(), "\"a\"\"b'c\"");
        assert_eq!(Ident("\"").to_string(), "\"\"\"\"");
    }

    #[test]
    fn quotes_inside_a_text_are_doubled() {
        assert_eq!(Literal("it's \"x\"").to_string(), "'it''s \"x\"'");
        assert_eq!(Literal("''").to_string(), "''''''");
    }
}
