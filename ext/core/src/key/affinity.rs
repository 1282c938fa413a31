//! SQLite's type affinities: how a column converts what is stored into it.

use crate::value::{Value, ValueCow, ValueRef};

/// A column's affinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// Stores everything as it comes (also called NONE; STRICT's ANY).
    #[default]
    Blob,
    /// Turns numbers into text.
    Text,
    /// Turns number-like text into numbers and integral reals into integers.
    Numeric,
    /// In storage the same as NUMERIC.
    Integer,
    /// NUMERIC with all numbers as reals.
    Real,
}

impl Affinity {
    /// SQLite's rules on the declared type, in their order: contains INT; CHAR, CLOB or TEXT; BLOB or empty;
    /// REAL, FLOA or DOUB; otherwise NUMERIC. For a STRICT table use [`of_strict_type`](Self::of_strict_type).
    pub fn of_declared_type(declared: &str) -> Affinity {
        let contains = |word: &str| {
            declared.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
        };
        if contains("int") {
            Affinity::Integer
        } else if ["char", "clob", "text"].into_iter().any(contains) {
            Affinity::Text
        } else if declared.is_empty() || contains("blob") {
            Affinity::Blob
        } else if ["real", "floa", "doub"].into_iter().any(contains) {
            Affinity::Real
        } else {
            Affinity::Numeric
        }
    }

    /// The affinity in a STRICT table, where ANY means what it says.
    pub fn of_strict_type(declared: &str) -> Affinity {
        if declared.eq_ignore_ascii_case("any") {
            Affinity::Blob
        } else {
            Affinity::of_declared_type(declared)
        }
    }
}

/// The value as a column of this affinity stores it.
///
/// ```
/// # use crsql_core::{key::{Affinity, apply_affinity}, value::Value};
/// let stored = |value: Value, affinity| apply_affinity(value.as_ref(), affinity).into_value();
/// assert_eq!(stored(Value::text("5.0"), Affinity::Integer), Value::Integer(5));
/// assert_eq!(stored(Value::Integer(5), Affinity::Real), Value::Real(5.0));
/// assert_eq!(stored(Value::Integer(5), Affinity::Text), Value::text("5"));
/// assert_eq!(stored(Value::text("5x"), Affinity::Integer), Value::text("5x"));
/// ```
pub fn apply_affinity(value: ValueRef<'_>, affinity: Affinity) -> ValueCow<'_> {
    ValueCow::Borrowed(match (affinity, value.storable()) {
        (Affinity::Text, ValueRef::Integer(integer)) => {
            return ValueCow::Owned(Value::Text(integer.to_string().into_bytes()));
        }
        (Affinity::Text, ValueRef::Real(real)) => {
            return ValueCow::Owned(Value::Text(real_to_text(real).into_bytes()));
        }
        (Affinity::Numeric | Affinity::Integer, ValueRef::Real(real)) => integer_if_lossless(real),
        (Affinity::Numeric | Affinity::Integer, ValueRef::Text(text)) => match number_in(text) {
            Some(ValueRef::Real(real)) => integer_if_lossless(real),
            Some(number) => number,
            None => value,
        },
        (Affinity::Real, ValueRef::Integer(integer)) => ValueRef::Real(integer as f64),
        (Affinity::Real, ValueRef::Real(real)) => ValueRef::Real(without_sign_of_zero(real)),
        (Affinity::Real, ValueRef::Text(text)) => match number_in(text) {
            Some(ValueRef::Integer(integer)) => ValueRef::Real(integer as f64),
            Some(ValueRef::Real(real)) => ValueRef::Real(without_sign_of_zero(real)),
            _ => value,
        },
        (_, other) => other,
    })
}

/// Whether hosts store this value differently: SQLite 3.53 ends a number in text at a NUL, 3.40 does not.
pub(super) fn is_host_dependent(value: ValueRef<'_>, affinity: Affinity) -> bool {
    match (value, affinity) {
        (ValueRef::Text(text), Affinity::Numeric | Affinity::Integer | Affinity::Real) => {
            let nul = text.iter().position(|byte| *byte == 0);
            nul.is_some_and(|nul| number_in(&text[..nul]).is_some())
        }
        _ => false,
    }
}

/// SQLite turns an integral real into an integer, except for the two integers at the ends of the range.
fn integer_if_lossless(real: f64) -> ValueRef<'static> {
    let integer = real as i64;
    if integer as f64 == real && integer > i64::MIN && integer < i64::MAX {
        ValueRef::Integer(integer)
    } else {
        ValueRef::Real(real)
    }
}

/// A REAL column writes integral reals as integers, and an integer has no negative zero.
fn without_sign_of_zero(real: f64) -> f64 {
    if real == 0.0 { 0.0 } else { real }
}

/// The number that the whole of a text spells, spaces around it allowed: decimal digits with a sign, a point and
/// an exponent. An integer beyond 64 bits is a real. No hexadecimal, no `inf`, no `nan`.
fn number_in(text: &[u8]) -> Option<ValueRef<'static>> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let first = text.iter().position(|byte| !is_space(byte))?;
    let last = text.iter().rposition(|byte| !is_space(byte))?;
    let number = std::str::from_utf8(&text[first..=last]).ok()?;

    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !are_digits(digits) {
            return None;
        }
    }
    if let Ok(integer) = number.parse() {
        return Some(ValueRef::Integer(integer));
    }
    number.parse().ok().map(ValueRef::Real)
}

/// SQLite's `%!.15g`: fifteen significant digits, at least one after the point. Newer hosts print seventeen; the
/// bytes of a key must not depend on the host.
fn real_to_text(real: f64) -> String {
    const DIGITS: i32 = 15;
    if real.is_infinite() {
        return if real > 0.0 { "Inf".into() } else { "-Inf".into() };
    }
    let real = without_sign_of_zero(real);
    let scientific = format!("{real:.14e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        return with_point(&format!("{real:.0$}", (DIGITS - 1 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", with_point(mantissa), exponent.abs())
}

/// Drops trailing zeros of a decimal fraction but keeps one digit after the point.
fn with_point(decimal: &str) -> String {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let fraction = fraction.trim_end_matches('0');
    format!("{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: impl Into<Value>, affinity: Affinity) -> Value {
        apply_affinity(value.into().as_ref(), affinity).into_value()
    }

    #[test]
    fn declared_types_follow_sqlites_rules_in_order() {
        for (declared, affinity) in [
            ("INTEGER", Affinity::Integer),
            ("unsigned big int", Affinity::Integer),
            ("CHARINT", Affinity::Integer),
            ("FLOATING POINT", Affinity::Integer),
            ("varchar(10)", Affinity::Text),
            ("Clob", Affinity::Text),
            ("REAL TEXT", Affinity::Text),
            ("", Affinity::Blob),
            ("BLOB REAL", Affinity::Blob),
            ("DOUBLE PRECISION", Affinity::Real),
            ("float", Affinity::Real),
            ("DECIMAL(10,5)", Affinity::Numeric),
            ("ANY", Affinity::Numeric),
            ("STRING", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of_declared_type(declared), affinity, "{declared}");
        }
        assert_eq!(Affinity::of_strict_type("Any"), Affinity::Blob);
        assert_eq!(Affinity::of_strict_type("INT"), Affinity::Integer);
    }

    #[test]
    fn integer_columns_convert_what_spells_a_number() {
        for (text, expected) in [
            ("5", Value::Integer(5)),
            (" 5\t", Value::Integer(5)),
            ("+7", Value::Integer(7)),
            ("5.", Value::Integer(5)),
            (".5", Value::Real(0.5)),
            ("1e2", Value::Integer(100)),
            ("1E+2", Value::Integer(100)),
            ("-0.0", Value::Integer(0)),
            ("-9223372036854775808", Value::Integer(i64::MIN)),
            ("9223372036854775808", Value::Real(9_223_372_036_854_775_808.0)),
            ("1e400", Value::Real(f64::INFINITY)),
        ] {
            assert_eq!(stored(text, Affinity::Integer), expected, "{text:?}");
            assert_eq!(stored(text, Affinity::Numeric), expected, "{text:?}");
        }
        for text in
            ["", " ", ".", "-", "5x", "1e", "1e+", "1ex", "0x1", "inf", "nan", "1.2.3", "1 2", "5\0", "é"]
        {
            assert_eq!(stored(text, Affinity::Integer), Value::text(text));
            assert_eq!(stored(text, Affinity::Real), Value::text(text));
        }
        assert_eq!(stored(5.0, Affinity::Integer), Value::Integer(5));
        assert_eq!(stored(i64::MIN as f64, Affinity::Integer), Value::Real(i64::MIN as f64));
        assert_eq!(stored(f64::INFINITY, Affinity::Numeric), Value::Real(f64::INFINITY));
        assert_eq!(stored(7, Affinity::Integer), Value::Integer(7));
        let invalid = apply_affinity(ValueRef::Text(b"\xff"), Affinity::Integer).into_value();
        assert_eq!(invalid, Value::Text(vec![0xff]));
    }

    #[test]
    fn real_columns_hold_reals() {
        assert_eq!(stored(1, Affinity::Real), Value::Real(1.0));
        assert_eq!(stored("1", Affinity::Real), Value::Real(1.0));
        assert_eq!(stored("1.5", Affinity::Real), Value::Real(1.5));
        assert_eq!(stored(-0.0, Affinity::Real), Value::Real(0.0));
        assert_eq!(stored("-0.0", Affinity::Real), Value::Real(0.0));
        assert_eq!(stored(i64::MAX, Affinity::Real), Value::Real(9_223_372_036_854_775_808.0));
    }

    #[test]
    fn text_columns_print_numbers_as_sqlite_does() {
        for (real, text) in [
            (1e15, "1.0e+15"),
            (1e14, "100000000000000.0"),
            (0.1, "0.1"),
            (-0.0, "0.0"),
            (1e-5, "1.0e-05"),
            (1e-4, "0.0001"),
            (123_456_789_012_345_678.0, "1.23456789012346e+17"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (0.1 + 0.2, "0.3"),
            (1e300, "1.0e+300"),
            (f64::INFINITY, "Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(stored(real, Affinity::Text), Value::text(text));
        }
        assert_eq!(stored(-12, Affinity::Text), Value::text("-12"));
        assert_eq!(stored("12", Affinity::Text), Value::text("12"));
    }

    #[test]
    fn nothing_touches_blobs_nulls_and_untyped_columns() {
        for affinity in [Affinity::Blob, Affinity::Text, Affinity::Numeric, Affinity::Integer, Affinity::Real]
        {
            assert_eq!(stored(&b"5"[..], affinity), Value::Blob(b"5".to_vec()));
            assert_eq!(stored(Value::Null, affinity), Value::Null);
            assert_eq!(stored(f64::NAN, affinity), Value::Null);
        }
        assert_eq!(stored("5", Affinity::Blob), Value::text("5"));
        assert_eq!(
            stored(-0.0, Affinity::Blob).as_ref().cmp_total(&ValueRef::Real(-0.0)),
            std::cmp::Ordering::Equal
        );
    }
}
