//! A tree -> typed values, with the place of whatever does not fit.
//!
//! In:    a [`Node`] and a type that serde can build.
//! Out:   the value, or a [`Fault`] that names key, expectation and place.
//! Holds: a null is never a value: where a word belongs it is refused, and an optional key that
//!        is there must have one. No fault quotes a value of the file.
//! Not here: which keys there are (`raw`).

use super::node::{Fault, Key, Mark, Node, Value, shown, suggest};
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, Expected, Unexpected, Visitor};
use std::fmt::Display;

/// Builds a `T` from `node`.
///
/// # Errors
/// The first thing that does not fit, with its place.
pub fn typed<'de, T: de::Deserialize<'de>>(node: &'de Node) -> Result<T, Fault> {
    T::deserialize(node)
}

fn kind(unexpected: &Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map | Unexpected::StructVariant => "keys and values",
        Unexpected::Bool(_) => "true or false",
        _ => "a word",
    }
}

fn expectation(expected: &dyn Expected) -> String {
    match expected.to_string() {
        text if text.starts_with("struct ") || text == "a map" => "keys and values".to_owned(),
        text if text == "a string" => "a word".to_owned(),
        text if text == "a sequence" => "a list".to_owned(),
        text if text == "a boolean" => "true or false".to_owned(),
        text if matches!(text.as_str(), "u8" | "u16" | "u32" | "u64" | "usize") => {
            "a smaller whole number".to_owned()
        }
        text if text.ends_with("variant") => "keys and values".to_owned(),
        text => text,
    }
}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        Fault::new(text.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expectation(expected);
        match kind(&unexpected) {
            "nothing" => nothing(&expected),
            kind => Fault::new(format!("expected {expected}, found {kind}")),
        }
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::new(format!("expected {}", expectation(expected)))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Fault::new(format!("expected {}", expectation(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Fault::new(format!("expected one of {}", expected.join(", "))).hint(suggest(variant, expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Fault::new(format!("unknown key {}", shown(field))).hint(suggest(field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Fault::new(format!("key \"{field}\" is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Fault::new(format!("key \"{field}\" stands here twice"))
    }
}

fn nothing(expected: &str) -> Fault {
    Fault::new(format!("expected {expected}, found nothing"))
        .hint("Write a value, or delete the key; an empty value, `~` and `null` mean nothing at all.")
}

/// What a scalar without quotes says besides its text.
fn whole_number(text: &str) -> Option<u64> {
    let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let number = match &self.value {
                Value::Scalar { text, plain: true } => whole_number(text),
                _ => None,
            };
            let result = match number {
                Some(number) => visitor.visit_u64(number),
                None if self.is_null() => Err(nothing("a whole number")),
                None => Err(Fault::new("expected a whole number")),
            };
            result.map_err(|fault| fault.at(self.mark))
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.value {
            Value::Scalar { .. } if self.is_null() => visitor.visit_unit(),
            Value::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        };
        result.map_err(|fault| fault.at(self.mark))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // A null is handed on, so that what is expected here says so itself.
        visitor.visit_some(self).map_err(|fault| fault.at(self.mark))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.value {
            Value::Scalar { text, plain: true } if text == "true" => visitor.visit_bool(true),
            Value::Scalar { text, plain: true } if text == "false" => visitor.visit_bool(false),
            _ if self.is_null() => Err(nothing("true or false")),
            _ => Err(Fault::new("expected true or false")),
        };
        result.map_err(|fault| fault.at(self.mark))
    }

    whole_numbers!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(|fault| fault.at(self.mark))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let choice = format!("one of {}", variants.join(", "));
        let result = match &self.value {
            Value::Scalar { .. } if self.is_null() => Err(nothing(&choice)),
            Value::Scalar { text, .. } => visitor.visit_enum(StrDeserializer::new(text)),
            Value::Map(entries) => match entries.as_slice() {
                [(key, node)] => visitor.visit_enum(Choice { key, node }),
                _ => Err(Fault::new(format!("expected exactly {choice}"))),
            },
            Value::List(_) => Err(Fault::new(format!("expected {choice}"))),
        };
        result.map_err(|fault| fault.at(self.mark))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            // serde would read a list as the values of a struct's keys, in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"keys and values"))
                .map_err(|f: Fault| f.at(self.mark)),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, node)) = self.rest.next() else { return Ok(None) };
        self.value = Some(node);
        key_value(key, seed).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed.deserialize(node),
            None => Err(Fault::new("a value without a key")),
        }
    }
}

fn key_value<'de, K: DeserializeSeed<'de>>(key: &'de Key, seed: K) -> Result<K::Value, Fault> {
    seed.deserialize(BorrowedStrDeserializer::new(&key.text)).map_err(|fault: Fault| fault.at(key.mark))
}

/// `{word: value}` for a type that is one of several.
struct Choice<'de> {
    key: &'de Key,
    node: &'de Node,
}

impl<'de> de::EnumAccess<'de> for Choice<'de> {
    type Error = Fault;
    type Variant = Chosen<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Chosen<'de>), Fault> {
        Ok((key_value(self.key, seed)?, Chosen { mark: self.key.mark, node: self.node }))
    }
}

struct Chosen<'de> {
    mark: Mark,
    node: &'de Node,
}

impl<'de> de::VariantAccess<'de> for Chosen<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::new("this word stands alone, without a value").at(self.mark))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.node)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.node.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.node.deserialize_any(visitor)
    }
}
