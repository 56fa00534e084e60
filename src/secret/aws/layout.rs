//! The names of secrets, and the names of fields in them, as Airflow's SecretsManagerBackend has them.
//!
//! In:    prefixes, separator, more words; the text of a secret.
//! Out:   the name to ask for; the fields under Airflow's own names.
//! Holds: pure.
//!
//! Source: `airflow/providers/amazon/aws/secrets/secrets_manager.py` of 9.39.0, whose `full_url_mode` and
//! `are_secret_values_urlencoded` are gone: a text that begins with `{` is JSON, any other a URI.

use crate::secret::place::Asked;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How secrets are named, and their fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Prefix of connections; `None`: none is asked for.
    pub connections: Option<String>,
    /// Prefix of variables; `None`: none is asked for.
    pub variables: Option<String>,
    /// What stands between prefix and id.
    pub sep: String,
    /// More names of fields, by field.
    pub extra_conn_words: BTreeMap<String, Vec<String>>,
}

/// A field and its names. Of several that a secret has, the first in the secret's own order wins.
const FIELDS: &[(&str, &[&str])] = &[
    ("login", &["login", "user", "username", "user_name"]),
    ("password", &["password", "pass", "key"]),
    ("host", &["host", "remote_host", "server"]),
    ("port", &["port"]),
    ("schema", &["database", "schema"]),
    ("conn_type", &["conn_type", "conn_id", "connection_type", "engine"]),
    ("extra", &["extra"]),
];

/// The longest name that Secrets Manager takes, characters.
const NAME_LENGTH: usize = 512;

impl Layout {
    /// The name of what is `asked` for; `None` where that kind is off, or no secret can be called so.
    pub fn name_of(&self, asked: Asked<'_>) -> Option<String> {
        let (prefix, id) = match asked {
            Asked::Connection(id) => (self.connections.as_deref()?, id),
            Asked::Variable(key) => (self.variables.as_deref()?, key),
        };
        let name = if prefix.is_empty() { id.to_owned() } else { format!("{prefix}{}{id}", self.sep) };
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
        let is_arn = name.starts_with("arn:aws");
        (name.len() <= NAME_LENGTH && (is_arn || name.chars().all(is_legal))).then_some(name)
    }

    /// The fields of a JSON secret under Airflow's names; `None` for one that is no JSON.
    ///
    /// # Errors
    /// Line and column where the JSON breaks off.
    pub fn fields(&self, text: &str) -> Option<Result<Map<String, Value>, (usize, usize)>> {
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let parsed = serde_json::from_str::<Map<String, Value>>(text);
        Some(parsed.map(|secret| self.renamed(secret)).map_err(|error| (error.line(), error.column())))
    }

    fn renamed(&self, secret: Map<String, Value>) -> Map<String, Value> {
        let mut fields: Map<String, Value> = Map::new();
        for (key, value) in secret {
            for (field, _) in FIELDS.iter().filter(|(field, words)| self.means(field, words, &key)) {
                if !fields.contains_key(*field) {
                    fields.insert((*field).to_owned(), value.clone());
                }
            }
        }
        fields
    }

    fn means(&self, field: &str, words: &[&str], key: &str) -> bool {
        let more = |of: &str| self.extra_conn_words.get(of).is_some_and(|more| more.iter().any(|m| m == key));
        words.contains(&key) || more(field) || (field == "login" && more("user"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(prefix: Option<&str>, sep: &str) -> Layout {
        Layout { connections: prefix.map(str::to_owned), sep: sep.to_owned(), ..Layout::default() }
    }

    #[test]
    fn a_name_is_prefix_separator_and_id_and_null_turns_the_kind_off() {
        let name = |prefix, sep, id| layout(prefix, sep).name_of(Asked::Connection(id));
        assert_eq!(name(Some("airflow/connections"), "/", "hr"), Some("airflow/connections/hr".into()));
        assert_eq!(name(Some("a"), "--", "x/y"), Some("a--x/y".into()));
        assert_eq!(name(Some(""), "/", "hr"), Some("hr".into()));
        assert_eq!(name(None, "/", "hr"), None);
        assert_eq!(layout(Some("a"), "/").name_of(Asked::Variable("x")), None);
    }

    #[test]
    fn what_cannot_be_a_name_there_is_not_asked_for() {
        for id in ["é", "a b", "a\\b", "a(b)", "a:b", &"x".repeat(513)] {
            assert_eq!(layout(Some(""), "/").name_of(Asked::Connection(id)), None, "{id}");
        }
        assert!(layout(Some("a"), "/").name_of(Asked::Connection("../..")).is_some()); // a name, no path
    }

    #[test]
    fn the_first_alias_in_the_secrets_own_order_wins_and_unknown_keys_are_dropped() {
        let mut all = layout(Some(""), "/");
        all.extra_conn_words.insert("schema".into(), vec!["dbname".into()]);
        all.extra_conn_words.insert("user".into(), vec!["who".into()]);
        let text = r#" {"who": "a", "login": "b", "pass": "p", "engine": "postgres", "dbname": "hr",
            "schema": "other", "owner": "x", "description": "d"}"#;
        let fields = Value::Object(all.fields(text).unwrap().unwrap());
        let expected = r#"{"login": "a", "password": "p", "conn_type": "postgres", "schema": "hr"}"#;
        assert_eq!(fields, serde_json::from_str::<Value>(expected).unwrap());
        assert!(all.fields("postgres://h").is_none() && all.fields("{not").unwrap().is_err());
    }
}
