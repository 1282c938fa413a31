//! JSON text, as the reporting functions return it; and, in `read`, as an options object gives it.

pub mod read;

use std::fmt::{Display, Write};

/// A JSON object in the making.
pub struct Object(String);

impl Object {
    /// `{}` so far.
    pub fn new() -> Object {
        Object("{".to_owned())
    }

    /// Adds a text.
    pub fn text(mut self, name: &str, value: &str) -> Object {
        self.name(name);
        quote(&mut self.0, value);
        self
    }

    /// Adds a number or a truth value, whose `Display` is its JSON.
    pub fn number(self, name: &str, value: impl Display) -> Object {
        self.json(name, &value.to_string())
    }

    /// Adds something that is JSON already.
    pub fn json(mut self, name: &str, value: &str) -> Object {
        self.name(name);
        self.0.push_str(value);
        self
    }

    /// The text.
    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(&mut self.0, name);
        self.0.push(':');
    }
}

/// A JSON array of values that are JSON already.
pub fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_string() {
        let json = Object::new().text("a\"b", "x\\y\n\u{1}é").number("n", -1).json("l", &array(&[])).end();
        assert_eq!(json, "{\"a\\\"b\":\"x\\\\y\\n\\u0001é\",\"n\":-1,\"l\":[]}");
    }
}
