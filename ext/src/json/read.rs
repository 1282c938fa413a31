//! Reads the JSON of an options object: objects and texts, and whatever else is there only to be named in an error.

/// Objects in objects, at most.
const DEPTH_MAX: usize = 4;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// Names and values, in the order of the text; no name twice.
    Object(Vec<(String, Json)>),
    /// A string.
    Text(String),
    /// A number, a truth value, null or an array, as it was spelled.
    Other(String),
}

/// The value that `text` spells.
///
/// # Errors
/// A sentence that says what was expected at which byte.
pub fn parse(text: &str) -> Result<Json, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    match reader.rest().is_empty() {
        true => Ok(value),
        false => Err(reader.expected("the end")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> String {
        let found: String = self.rest().chars().take(12).collect();
        match found.is_empty() {
            true => format!("{what} expected at its end"),
            false => format!("{what} expected at byte {}, not {found:?}", self.at),
        }
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn takes(&mut self, c: char) -> bool {
        self.skip_space();
        let is_next = self.rest().starts_with(c);
        self.at += usize::from(is_next) * c.len_utf8();
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        self.skip_space();
        match self.rest().as_bytes().first() {
            Some(b'{') if depth < DEPTH_MAX => self.object(depth),
            Some(b'{') => Err(self.expected("something less nested")),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(_) => self.other(),
            None => Err(self.expected("a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, String> {
        let mut members: Vec<(String, Json)> = Vec::new();
        self.at += 1;
        if self.takes('}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            if !self.rest().starts_with('"') {
                return Err(self.expected("a name in double quotes"));
            }
            let name = self.string()?;
            if members.iter().any(|(known, _)| *known == name) {
                return Err(format!("{name:?} is there twice"));
            }
            if !self.takes(':') {
                return Err(self.expected("':'"));
            }
            members.push((name, self.value(depth + 1)?));
            if self.takes('}') {
                return Ok(Json::Object(members));
            }
            if !self.takes(',') {
                return Err(self.expected("',' or '}'"));
            }
        }
    }

    /// A number, a word, or an array, whose end is found without understanding what is in it.
    fn other(&mut self) -> Result<Json, String> {
        let rest = self.rest();
        let end = match rest.starts_with('[') {
            true => rest.find(']').map(|at| at + 1),
            false => rest
                .find([',', '}', ']', ':', '"', ' ', '\t', '\r', '\n'])
                .or(Some(rest.len()))
                .filter(|end| *end > 0),
        };
        let end = end.ok_or_else(|| self.expected("a value"))?;
        self.at += end;
        Ok(Json::Other(rest[..end].to_owned()))
    }

    fn string(&mut self) -> Result<String, String> {
        let mut out = String::new();
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = rest.find(['"', '\\']).ok_or_else(|| "a string has no end".to_owned())?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            if rest[plain..].starts_with('"') {
                return Ok(out);
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.rest().chars().next().ok_or_else(|| "a string has no end".to_owned())?;
        self.at += c.len_utf8();
        Ok(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.hex4()?;
                let code = match first {
                    0xd800..=0xdbff if self.rest().starts_with("\\u") => {
                        self.at += 2;
                        let second = self.hex4()?;
                        0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff)
                    }
                    _ => first,
                };
                char::from_u32(code).ok_or_else(|| "a \\u escape is half a character".to_owned())?
            }
            _ => return Err(format!("a string has the unknown escape \"\\{c}\"")),
        })
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        self.at += 4;
        Ok(u32::from_str_radix(digits, 16).expect("four hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Json {
        Json::Text(text.into())
    }

    #[test]
    fn objects_and_strings_are_read() {
        let read =
            parse(" { \"a\" : \"x\\\"\\u00e9\\ud83d\\ude00\" , \"b\":{}, \"é\":{\"c\":\"\"} } ").unwrap();
        assert_eq!(
            read,
            Json::Object(vec![
                ("a".into(), text("x\"é😀")),
                ("b".into(), Json::Object(vec![])),
                ("é".into(), Json::Object(vec![("c".into(), text(""))])),
            ])
        );
        let others = parse("{\"n\":-1.5e3,\"t\":true,\"l\":[1,2]}").unwrap();
        let Json::Object(members) = others else { panic!("an object") };
        let spelled: Vec<_> = members.into_iter().map(|(_, value)| value).collect();
        assert_eq!(spelled, ["-1.5e3", "true", "[1,2]"].map(|t| Json::Other(t.into())));
    }

    #[test]
    fn what_is_no_json_is_told_where() {
        for (bad, why) in [
            ("{", "a name in double quotes expected at its end"),
            ("{\"a\"}", "':' expected at byte 4"),
            ("{\"a\":}", "a value expected at byte 5"),
            ("{\"a\":\"b\" \"c\"}", "',' or '}' expected"),
            ("{} x", "the end expected at byte 3"),
            ("{a:1}", "a name in double quotes"),
            ("{\"a\":1,\"a\":2}", "\"a\" is there twice"),
            ("{\"a", "no end"),
            ("{\"\\", "no end"),
            ("{\"\\q\":1}", "unknown escape"),
            ("{\"\\u12é\":1}", "four hexadecimal digits"),
            ("{\"\\ud800\":1}", "half a character"),
            ("{\"a\":[1", "a value expected"),
            ("{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}", "less nested"),
        ] {
            let error = parse(bad).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let alphabet = ["{", "}", "\"", "\\", "u", ":", ",", "[", "]", "é", "d8", "0", " "];
        for seed in 0..20_000u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let bad: String = (0..10)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    alphabet[(state >> 33) as usize % alphabet.len()]
                })
                .collect();
            let _ = parse(&bad);
        }
    }
}
