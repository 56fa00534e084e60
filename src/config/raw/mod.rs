//! The project files as they are written, key by key.
//!
//! In:    a tree. Out: one struct a file, nothing filled in.
//! Holds: these types are the whole grammar: `config schema`, the reference and the errors are made
//!        from them, so a key that is not here does not exist.
//! Not here: defaults and what fits together (`resolve`).

pub mod backups;
pub mod checks;
pub mod pipeline;
pub mod project;
pub mod retention;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, value};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A mapping whose keys are names, in the order of the file.
#[derive(Clone, Debug)]
pub struct Ordered<V>(pub Vec<(String, V)>);

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<V> Ordered<V> {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<&V> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Entries<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        from.deserialize_map(Entries(PhantomData))
    }
}

impl<V: JsonSchema> JsonSchema for Ordered<V> {
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<V>() })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// What may be written as a word, as a list or as keys and values; [`No`] where it may not.
#[derive(Clone, Debug)]
pub enum Form<W, L = No, K = No> {
    /// A word.
    Word(W),
    /// A list.
    List(L),
    /// Keys and values.
    Keys(K),
}

/// A form that does not exist.
#[derive(Clone, Debug)]
pub enum No {}

impl<'de> Deserialize<'de> for No {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("a value of this form cannot stand here"))
    }
}

impl<'de, W, L, K> Deserialize<'de> for Form<W, L, K>
where
    W: Deserialize<'de>,
    L: Deserialize<'de>,
    K: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Forms<W, L, K>(PhantomData<(W, L, K)>);
        impl<'de, W, L, K> de::Visitor<'de> for Forms<W, L, K>
        where
            W: Deserialize<'de>,
            L: Deserialize<'de>,
            K: Deserialize<'de>,
        {
            type Value = Form<W, L, K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                W::deserialize(value::StrDeserializer::new(text)).map(Form::Word)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                L::deserialize(value::SeqAccessDeserializer::new(list)).map(Form::List)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                K::deserialize(value::MapAccessDeserializer::new(map)).map(Form::Keys)
            }
        }
        from.deserialize_any(Forms(PhantomData))
    }
}

impl JsonSchema for No {
    fn schema_name() -> Cow<'static, str> {
        "No".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(false)
    }
}

impl<W: JsonSchema, L: JsonSchema, K: JsonSchema> JsonSchema for Form<W, L, K> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}Or{}", W::schema_name(), L::schema_name(), K::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut forms = Vec::new();
        for (name, schema) in [
            (W::schema_name(), generator.subschema_for::<W>()),
            (L::schema_name(), generator.subschema_for::<L>()),
            (K::schema_name(), generator.subschema_for::<K>()),
        ] {
            if name != "No" {
                forms.push(schema);
            }
        }
        json_schema!({ "anyOf": forms })
    }

    fn inline_schema() -> bool {
        true
    }
}
