//! MessagePack read in two steps: rmp-serde turns bytes into a flat list of tokens, and each type takes its own from it.
//!
//! Deriving `Deserialize` would let rmp-serde be compiled anew for every field of every message: a fifth of the module
//! that browsers load. Here it is compiled once. Writing has no such cost and is serde's `Serialize`.
//!
//! Lists are believed as far as their items really come, never their declared length.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::ids::SiteId;

/// Nested lists of the deepest type we know; what is unknown may go a little deeper.
const DEPTH_MAX: usize = 16;

/// How many values a message may have. A token takes some twenty times the byte that the shortest value has, so this
/// bounds the memory of reading.
pub const VALUES_MAX: usize = 1 << 22;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub Cow<'static, str>);

impl Malformed {
    #[cold]
    fn expected(what: &'static str) -> Malformed {
        Malformed(Cow::Borrowed(what))
    }
}

impl From<String> for Malformed {
    fn from(reason: String) -> Malformed {
        Malformed(Cow::Owned(reason))
    }
}

/// A type that is read from MessagePack.
pub trait Read: Sized {
    /// Takes the next value.
    ///
    /// # Errors
    /// [`Malformed`] if it is another type's.
    fn read(input: &mut Reader<'_, '_>) -> Result<Self, Malformed>;
}

/// Reads a value, and nothing but it.
///
/// # Errors
/// [`Malformed`]: no MessagePack, more bytes than one value, or not the type.
pub fn from_slice<T: Read>(bytes: &[u8]) -> Result<T, Malformed> {
    T::read(&mut reader(&tokens(bytes)?))
}

/// One value, or the head of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A number that is not negative.
    Number(u64),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// So many values follow.
    List(usize),
    /// So many names follow, each with its value.
    Map(usize),
    /// What no type of ours has: negative and fractional numbers.
    Other,
}

/// A reader at the first of `tokens`.
pub fn reader<'t, 'a>(tokens: &'t [Token<'a>]) -> Reader<'t, 'a> {
    Reader { rest: tokens }
}

/// The tokens of one value that is all of `bytes`.
///
/// # Errors
/// [`Malformed`]: no MessagePack, or more bytes than one value.
pub fn tokens(bytes: &[u8]) -> Result<Vec<Token<'_>>, Malformed> {
    let mut tokens = Vec::new();
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(DEPTH_MAX);
    let collect = Collect(&mut tokens);
    collect.deserialize(&mut reader).map_err(|error| Malformed::from(error.to_string()))?;
    // At the end of the input there is no marker to read; anything else, even an error, is a byte too many.
    let after = Collect(&mut Vec::new()).deserialize(&mut reader);
    match after {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(tokens),
        _ => Err(Malformed::expected("more bytes follow")),
    }
}

struct Collect<'t, 'de>(&'t mut Vec<Token<'de>>);

impl<'de> Collect<'_, 'de> {
    fn push<E: de::Error>(self, token: Token<'de>) -> Result<(), E> {
        if self.0.len() >= VALUES_MAX {
            return Err(E::custom("too many values"));
        }
        self.0.push(token);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Collect<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a known kind")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.push(Token::Nil)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.push(Token::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.push(Token::Number(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.push(u64::try_from(value).map_or(Token::Other, Token::Number))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.push(Token::Other)
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<(), E> {
        self.push(Token::Text(value))
    }

    fn visit_borrowed_bytes<E: de::Error>(self, value: &'de [u8]) -> Result<(), E> {
        self.push(Token::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let at = self.0.len();
        Collect(&mut *self.0).push::<A::Error>(Token::List(0))?;
        let mut count = 0;
        while items.next_element_seed(Collect(&mut *self.0))?.is_some() {
            count += 1;
        }
        self.0[at] = Token::List(count);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let at = self.0.len();
        Collect(&mut *self.0).push::<A::Error>(Token::Map(0))?;
        let mut count = 0;
        while entries.next_key_seed(Collect(&mut *self.0))?.is_some() {
            entries.next_value_seed(Collect(&mut *self.0))?;
            count += 1;
        }
        self.0[at] = Token::Map(count);
        Ok(())
    }
}

/// Where reading stands.
pub struct Reader<'t, 'a> {
    rest: &'t [Token<'a>],
}

impl<'a> Reader<'_, 'a> {
    fn next(&mut self, expected: &'static str) -> Result<Token<'a>, Malformed> {
        let Some((token, rest)) = self.rest.split_first() else {
            return Err(Malformed::expected(expected));
        };
        self.rest = rest;
        Ok(*token)
    }

    /// A number from 0 to `max`.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else.
    pub fn number(&mut self, max: u64) -> Result<u64, Malformed> {
        match self.next("a number")? {
            Token::Number(number) if number <= max => Ok(number),
            Token::Number(number) => Err(format!("a number up to {max}, not {number}").into()),
            _ => Err(Malformed::expected("a number")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        match self.next("a text")? {
            Token::Text(text) => Ok(text),
            _ => Err(Malformed::expected("a text")),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else; an array of numbers is.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.next("bytes")? {
            Token::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::expected("bytes")),
        }
    }

    /// Exactly so many bytes.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| format!("{N} bytes, not {}", bytes.len()).into())
    }

    /// The head of a list: how many values follow.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else.
    pub fn list(&mut self) -> Result<usize, Malformed> {
        match self.next("a list")? {
            Token::List(count) => Ok(count),
            _ => Err(Malformed::expected("a list")),
        }
    }

    /// The head of a list of exactly so many values.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else.
    pub fn tuple(&mut self, count: usize) -> Result<(), Malformed> {
        match self.list()? {
            found if found == count => Ok(()),
            found => Err(format!("a list of {count}, not of {found}").into()),
        }
    }

    /// The head of a map: how many names follow, each with its value.
    ///
    /// # Errors
    /// [`Malformed`] if it is anything else.
    pub fn map(&mut self) -> Result<usize, Malformed> {
        match self.next("a map")? {
            Token::Map(count) => Ok(count),
            _ => Err(Malformed::expected("a map")),
        }
    }

    /// Whether a list comes whose first value is a number. Nothing is taken.
    pub fn is_list_of_numbers(&self) -> bool {
        matches!(self.rest, [Token::List(1..), Token::Number(_), ..])
    }

    /// Reads past a value of any kind.
    pub fn skip(&mut self) {
        let mut open = 1usize;
        while open > 0 {
            open -= 1;
            match self.next("") {
                Ok(Token::List(count)) => open += count,
                Ok(Token::Map(count)) => open += 2 * count,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes a nil, if that is what comes.
    pub fn is_nil(&mut self) -> bool {
        let is_nil = matches!(self.rest.first(), Some(Token::Nil));
        if is_nil {
            self.rest = &self.rest[1..];
        }
        is_nil
    }
}

macro_rules! numbers {
    ($($ty:ty),*) => {
        $(impl Read for $ty {
            fn read(input: &mut Reader<'_, '_>) -> Result<$ty, Malformed> {
                Ok(input.number(<$ty>::MAX.into())? as $ty)
            }
        })*
    };
}
numbers!(u8, u16, u32, u64);

impl Read for bool {
    fn read(input: &mut Reader<'_, '_>) -> Result<bool, Malformed> {
        match input.next("true or false")? {
            Token::Bool(value) => Ok(value),
            _ => Err(Malformed::expected("true or false")),
        }
    }
}

impl Read for String {
    fn read(input: &mut Reader<'_, '_>) -> Result<String, Malformed> {
        input.text().map(str::to_owned)
    }
}

impl Read for SiteId {
    fn read(input: &mut Reader<'_, '_>) -> Result<SiteId, Malformed> {
        input.fixed().map(SiteId)
    }
}

impl<T: Read> Read for Option<T> {
    fn read(input: &mut Reader<'_, '_>) -> Result<Option<T>, Malformed> {
        if input.is_nil() { Ok(None) } else { T::read(input).map(Some) }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(input: &mut Reader<'_, '_>) -> Result<Vec<T>, Malformed> {
        let count = input.list()?;
        (0..count).map(|_| T::read(input)).collect()
    }
}

impl<A: Read, B: Read> Read for (A, B) {
    fn read(input: &mut Reader<'_, '_>) -> Result<(A, B), Malformed> {
        input.tuple(2)?;
        Ok((A::read(input)?, B::read(input)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Read>(value: impl serde::Serialize) -> Result<T, Malformed> {
        from_slice(&rmp_serde::to_vec(&value).unwrap())
    }

    #[test]
    fn what_serde_writes_is_read() {
        assert_eq!(
            read::<Vec<(u64, bool)>>([(1u64, true), (u64::MAX, false)]),
            Ok(vec![(1, true), (u64::MAX, false)])
        );
        assert_eq!(read::<(Option<String>, Option<u8>)>((None::<u8>, Some(7))), Ok((None, Some(7))));
        assert_eq!(read::<SiteId>(SiteId([9; 16])), Ok(SiteId([9; 16])));
        assert_eq!(read::<Vec<String>>(["", "ä"]), Ok(vec![String::new(), "ä".into()]));
    }

    #[test]
    fn numbers_come_in_any_width_and_not_beyond_their_type() {
        for bytes in [&[7][..], &[0xcc, 7], &[0xcd, 0, 7], &[0xcf, 0, 0, 0, 0, 0, 0, 0, 7], &[0xd0, 7]] {
            assert_eq!(from_slice::<u8>(bytes), Ok(7), "{bytes:?}");
        }
        assert_eq!(read::<u8>(256).unwrap_err().to_string(), "a number up to 255, not 256");
        assert!(read::<u64>(-1).is_err() && read::<u64>(1.0).is_err() && read::<u64>("1").is_err());
    }

    #[test]
    fn what_is_not_the_type_or_not_whole_is_refused() {
        assert!(read::<SiteId>([9u8; 16]).is_err(), "an array of numbers");
        assert!(from_slice::<u8>(&[]).is_err());
        assert!(from_slice::<u8>(&[1, 1]).is_err(), "a byte too many");
        assert!(from_slice::<u8>(&[1, 0xc1]).is_err());
        assert!(from_slice::<Vec<u8>>(&[0x92, 1]).is_err());
        // A declared length of four thousand million must not be believed.
        assert!(from_slice::<Vec<u8>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(from_slice::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'x']).is_err());
        assert!(from_slice::<String>(&[0xa1, 0xff]).is_err(), "not UTF-8");
        let deep = [vec![0x91; 100], vec![0xc0]].concat();
        assert!(tokens(&deep).is_err());
    }

    #[test]
    fn unknown_values_are_skipped_whole() {
        let tokens = tokens(&[0x92, 0x82, 0xa1, b'a', 0x91, 1, 2, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 5]).unwrap();
        let mut reader = reader(&tokens);
        reader.tuple(2).unwrap();
        reader.skip();
        assert_eq!(reader.number(9), Ok(5));
        reader.skip();
        assert!(reader.number(9).is_err());
    }
}
