//! Words with a unit: durations, shares, sizes.
//!
//! In:    the text of a scalar, such as `1h30m`, `20%`, `256MiB`.
//! Out:   values in one unit: [`Duration`], 0.0 to 1.0, bytes; and durations as text again.
//! Holds: nothing is rounded or guessed: a number without a unit is refused where a unit matters.
//! Not here: what is done with them.

use super::model::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::time::Duration;

/// The longest duration a file may name: a hundred years.
const MAX_SECONDS: u64 = 100 * 365 * 86_400;

const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// A duration: `90s`, `10m`, `36h`, `1d`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub Duration);

/// A share of a whole: `30%`, or a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

/// A number of bytes: `256MiB`, `1GiB`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// Processor cores: `0.5`, `2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cores(pub f64);

/// A length of a replication key: a duration, or a count for integer keys; `0` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach(pub Option<Span>);

/// Any word, also one that looks like a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

/// Reads a duration: digits and a unit, once or more, with nothing between.
pub fn duration(text: &str) -> Option<Duration> {
    let mut millis: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters])?;
        rest = &rest[letters..];
        millis = millis.checked_add(number.checked_mul(*unit)?)?;
    }
    (millis <= MAX_SECONDS * 1_000).then(|| Duration::from_millis(millis))
}

/// Writes a duration so that [`duration`] reads it back, in the fewest parts.
pub fn duration_text(duration: &Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in UNITS[..5].iter().rev() {
        if rest >= *unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    text
}

/// For `#[serde(serialize_with)]`: a duration as its text.
///
/// # Errors
/// The serializer's own.
pub fn write_duration<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&duration_text(duration))
}

/// As [`write_duration`], for a duration that may be missing.
///
/// # Errors
/// The serializer's own.
pub fn write_optional_duration<S: serde::Serializer>(
    from: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match from {
        Some(duration) => to.serialize_str(&duration_text(duration)),
        None => to.serialize_none(),
    }
}

fn share(text: &str) -> Option<f64> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value = number.parse::<f64>().ok().filter(|_| plain)? / whole;
    (0.0..=1.0).contains(&value).then_some(value)
}

fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: usize = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn cores(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| plain)
}

fn reach(text: &str) -> Option<Option<Span>> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(|count: u64| (count > 0).then_some(Span::Count(count)));
    }
    duration(text).map(|length| (!length.is_zero()).then_some(Span::Time(length)))
}

macro_rules! word {
    ($type:ident, $read:expr, $expected:literal, $name:literal, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Word;
                impl de::Visitor<'_> for Word {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        let read = ($read)(text).map($type);
                        read.ok_or_else(|| E::invalid_value(de::Unexpected::Other("a word"), &self))
                    }
                }
                from.deserialize_str(Word)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

word!(Length, duration, "a duration such as 90s, 10m, 36h or 30d", "Duration", {
    "type": "string",
    "pattern": r"^(([0-9]+(ms|s|m|h|d|w))+|.*\$\{.*)$",
    "description": "A duration: digits and one of ms, s, m, h, d, w; parts may follow each other, as in `1h30m`."
});
word!(Share, share, "a share such as 30% (or 0.3)", "Share", {
    "anyOf": [
        { "type": "number", "minimum": 0, "maximum": 1 },
        { "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?%|0?\.[0-9]+|0|1|.*\$\{.*)$" }
    ],
    "description": "A share of a whole: `30%`, or a number from 0 to 1."
});
word!(Size, size, "a size such as 256MiB", "Size", {
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": r"^([0-9]+(B|KiB|MiB|GiB)|.*\$\{.*)$" }
    ],
    "description": "A number of bytes: `256MiB`, `1GiB`, or the bytes themselves."
});
word!(Cores, cores, "cores such as 0.5 or 2", "Cores", {
    "anyOf": [
        { "type": "number", "exclusiveMinimum": 0 },
        { "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?|.*\$\{.*)$" }
    ],
    "description": "Processor cores, such as 0.5 or 2."
});
word!(Text, |text: &str| Some(text.to_owned()), "a word", "Text", {
    "type": ["string", "number", "boolean"],
    "description": "A value, as text."
});
word!(Reach, reach, "a duration such as 10m, or a count for integer keys,", "Lookback", {
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": r"^(([0-9]+(ms|s|m|h|d|w))+|.*\$\{.*)$" }
    ],
    "description": "How far behind the watermark reading starts: a duration, or a count for integer keys; 0 is none."
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_add_up() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("36h", 129_600), ("1d", 86_400), ("1h30m", 5_400)]
        {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        for text in ["", "10", "m", "10 m", "1y", "-1h", "1.5h", "99999999999999999999s", "200000d", "1h!"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_number_up_to_one() {
        assert_eq!(share("30%"), Some(0.3));
        assert_eq!(share("0.3"), Some(0.3));
        assert_eq!((share("0"), share("1"), share("100%")), (Some(0.0), Some(1.0), Some(1.0)));
        for text in ["30", "101%", "-1%", "NaN", "inf", "", "%", "1e-3", "0,3"] {
            assert_eq!(share(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_and_lookbacks() {
        assert_eq!(size("256MiB"), Some(268_435_456));
        assert_eq!((size("5"), size("5MB"), size("99999999999GiB")), (Some(5), None, None));
        assert_eq!(reach("10m"), Some(Some(Span::Time(Duration::from_secs(600)))));
        assert_eq!(reach("1000"), Some(Some(Span::Count(1000))));
        assert_eq!((reach("0"), reach("0s"), reach("x"), reach("")), (Some(None), Some(None), None, None));
    }

    proptest::proptest! {
        #[test]
        fn a_written_duration_is_read_back(millis in 0u64..3_000_000_000_000) {
            let duration_in = Duration::from_millis(millis);
            proptest::prop_assert_eq!(duration(&duration_text(&duration_in)), Some(duration_in));
        }
    }
}
