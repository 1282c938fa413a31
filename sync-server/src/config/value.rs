//! How settings are written and read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Something that can be set.
pub trait Value: Sized {
    /// Reads it; the error says what it should look like.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes it so that [`parse`](Value::parse) reads it again.
    fn show(&self) -> String;
}

/// A number of bytes: `4096`, `256KiB`, `1MiB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A length of time in milliseconds: `200ms`, `5s`, `10m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

/// Several words, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
const SPANS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

impl Size {
    /// As a number of bytes in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Span {
    /// As a duration.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl Value for Size {
    fn parse(text: &str) -> Result<Size, String> {
        with_unit(text, &SIZES, Some(1))
            .map(Size)
            .ok_or_else(|| "a number of bytes such as 4096, 256KiB or 1MiB".into())
    }

    fn show(&self) -> String {
        shown(self.0, &SIZES)
    }
}

impl Value for Span {
    fn parse(text: &str) -> Result<Span, String> {
        with_unit(text, &SPANS, None).map(Span).ok_or_else(|| "a time such as 200ms, 5s, 10m or 1h".into())
    }

    fn show(&self) -> String {
        shown(self.0, &SPANS)
    }
}

impl Value for List {
    fn parse(text: &str) -> Result<List, String> {
        Ok(List(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()))
    }

    fn show(&self) -> String {
        self.0.join(",")
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<PathBuf, String> {
        Some(text).filter(|text| !text.is_empty()).map(PathBuf::from).ok_or_else(|| "a path".into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Result<Option<T>, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, Value::show)
    }
}

macro_rules! from_str {
    ($($type:ty: $what:literal),*) => {
        $(impl Value for $type {
            fn parse(text: &str) -> Result<$type, String> {
                text.parse().map_err(|_| $what.into())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}
from_str! {
    SocketAddr: "an address such as 127.0.0.1:8787",
    bool: "true or false",
    u64: "a number",
    usize: "a number"
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

fn with_unit(text: &str, units: &[(&str, u64)], bare: Option<u64>) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" if number == 0 => 1,
        "" => bare?,
        unit => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(factor)
}

fn shown(value: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().filter(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    match fits.max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => "0".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_what_they_write() {
        for (text, value) in [("256KiB", 256 << 10), ("1MiB", 1 << 20), ("0", 0), ("17B", 17)] {
            assert_eq!(Size::parse(text), Ok(Size(value)));
            assert_eq!(Size(value).show(), text);
        }
        assert_eq!(Size::parse("4096"), Ok(Size(4096)));
        for (text, value) in [("200ms", 200), ("5s", 5000), ("90m", 5_400_000), ("1h", 3_600_000)] {
            assert_eq!(Span::parse(text), Ok(Span(value)));
            assert_eq!(Span(value).show(), text);
        }
        for wrong in ["5", "s", "-1s", "1d", "99999999999999999999s", "20000000000000000h"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Size::parse("1kb").is_err() && Size::parse("18446744073709551615KiB").is_err());
        assert_eq!(List::parse(" a, b ,"), Ok(List(vec!["a".into(), "b".into()])));
    }
}
