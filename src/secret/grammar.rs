//! Reads connections in the two forms that Airflow's Task SDK reads: URI and JSON.
//!
//! In:    the id and the text of one connection.
//! Out:   a [`Connection`], equal to the Task SDK's in every field.
//! Holds: pure; a [`Fault`] never quotes the text, since any part of it may be the password.
//! Not here: where texts come from (`resolver`), what Python's `urlsplit` does (`url`).
//!
//! Source: `airflow.sdk.Connection.from_uri` and `from_json` (Task SDK 1.3.2); every vector in
//! tests/fixtures/conn_vectors.json was produced by running it.

use super::connection::{Connection, UnusableExtra};
use super::url::{Split, query_pairs, unquote};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::fmt;

/// Why a text is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing but white space.
    Empty,
    /// `://` more than twice.
    Protocols,
    /// `http://user@https://host`.
    HostProtocol,
    /// Not a number, or above 65535.
    Port,
    /// Brackets around something that is no IPv6 address.
    Brackets,
    /// A character that looks like one of `/?#@:` in the authority.
    Disguised,
    /// Not JSON, at this line and column.
    Json(usize, usize),
    /// A key Airflow does not know: its place among the keys, and its name where that is a common mistake.
    Key(usize, Option<&'static str>),
    /// `uri` beside other keys.
    Mixed,
    /// A field that is an array or an object.
    Field(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty => f.write_str("it is empty"),
            Fault::Protocols => {
                f.write_str("`://` stands in it more than twice (in a password or value write %3A%2F%2F)")
            }
            Fault::HostProtocol => f.write_str(
                "`://` stands in it twice, after a user or port (in a password or value write %3A%2F%2F)",
            ),
            Fault::Port => f.write_str(
                "its port is no number from 0 to 65535 (or a `/`, `?` or `#` in its password is not encoded)",
            ),
            Fault::Brackets => {
                f.write_str("brackets in it enclose no IPv6 address (in a password write %5B and %5D)")
            }
            Fault::Disguised => f.write_str("a character before its first `/` stands for one of `/ ? # @ :`"),
            Fault::Json(line, column) => write!(f, "its JSON breaks off at line {line}, column {column}"),
            Fault::Key(_, Some(name)) => write!(f, "Airflow knows no key {name} in it"),
            Fault::Key(nth, None) => write!(f, "Airflow does not know key number {nth} of its JSON"),
            Fault::Mixed => f.write_str("uri stands beside other keys in its JSON"),
            Fault::Field(name) => write!(f, "its {name} is neither a text nor a number"),
        }
    }
}

impl std::error::Error for Fault {}

/// Reads `text` as connection `id`: JSON when it starts with `{`, else a URI.
///
/// # Errors
/// A [`Fault`] wherever the Task SDK raises, and where a JSON field could never be used: a
/// port below 0 or above 65535, a host that is a list.
pub fn parse(id: &str, text: &str) -> Result<Connection, Fault> {
    // Python's str.strip also takes the four separators U+001C to U+001F.
    let text = text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c));
    match text.chars().next() {
        None => Err(Fault::Empty),
        Some('{') => from_json(id, text),
        Some(_) => from_uri(id, text),
    }
}

fn from_uri(id: &str, uri: &str) -> Result<Connection, Fault> {
    let protocols = uri.matches("://").count();
    if protocols > 2 {
        return Err(Fault::Protocols);
    }
    let host_has_protocol = protocols == 2;
    let conn_type = Split::of(uri)?.scheme;
    let rest = uri.replace(&format!("{conn_type}://"), if host_has_protocol { "" } else { "//" });
    let before = rest.split_once("://").map_or(rest.as_str(), |(before, _)| before);
    if host_has_protocol && before.contains(['@', ':']) {
        return Err(Fault::HostProtocol);
    }
    let parts = Split::of(&rest)?;
    let (user, password) = parts.user_and_password();
    let (extra, unusable_extra) = query_extra(&parts.query);
    Ok(Connection {
        id: id.into(),
        conn_type: Some(normal_type(&conn_type)),
        host: Some(host_of(&parts, host_has_protocol)),
        port: parts.port()?,
        login: user.map(unquote),
        password: password.map(|text| SecretString::from(unquote(text))),
        schema: Some(unquote(parts.path.get(1..).unwrap_or_else(|| skip_first(&parts.path)))),
        description: None,
        extra,
        unusable_extra,
        renewal: None,
    })
}

fn skip_first(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

/// A host that decodes to a path keeps its case and its encoded colons.
fn host_of(parts: &Split, has_protocol: bool) -> String {
    let mut host = unquote(&parts.host());
    if host.contains('/') {
        let whole = parts.host_and_port();
        host = unquote(whole.split_once(':').map_or(whole, |(host, _)| host));
    }
    match has_protocol && !host.is_empty() && !parts.scheme.is_empty() {
        true => format!("{}://{host}", parts.scheme),
        false => host,
    }
}

fn normal_type(scheme: &str) -> String {
    match scheme {
        "postgresql" => "postgres".into(),
        other => other.replace('-', "_"),
    }
}

/// `__extra__` holds the extras as JSON and hides all others; otherwise they are the pairs.
fn query_extra(query: &str) -> (Map<String, Value>, Option<UnusableExtra>) {
    let mut pairs: Map<String, Value> =
        query_pairs(query).map(|(name, value)| (name, Value::String(value))).collect();
    match pairs.remove("__extra__") {
        Some(Value::String(json)) => json_extra(&json),
        _ => (pairs, None),
    }
}

fn json_extra(json: &str) -> (Map<String, Value>, Option<UnusableExtra>) {
    if json.is_empty() {
        return (Map::new(), None);
    }
    match serde_json::from_str(json) {
        Ok(Value::Object(map)) => (map, None),
        Ok(other) => (Map::new(), Some(UnusableExtra::NotAnObject(other))),
        Err(_) => (Map::new(), Some(UnusableExtra::NotJson)),
    }
}

fn from_json(id: &str, text: &str) -> Result<Connection, Fault> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => from_fields(id, fields),
        Ok(_) => Err(Fault::Json(1, 1)),
        Err(error) => Err(Fault::Json(error.line(), error.column())),
    }
}

// Names that people bring from elsewhere; only these may be repeated, since a key of a broken
// text could be a piece of a secret.
const MISTAKEN: &[&str] = &[
    "conn_id", "conn_uri", "database", "db", "dbname", "engine", "name", "options", "owner", "pass",
    "server", "sslmode", "type", "url", "user", "username",
];

/// Reads the fields of the JSON form.
///
/// # Errors
/// As [`parse`].
pub fn from_fields(id: &str, mut fields: Map<String, Value>) -> Result<Connection, Fault> {
    if let Some(uri) = fields.get("uri").filter(|value| !value.is_null()) {
        // Falsy type, port and extra are dropped before Airflow looks for company.
        let alone = |(key, value): (&String, &Value)| {
            key == "uri" || (falsy(value) && matches!(key.as_str(), "conn_type" | "port" | "extra"))
        };
        return match uri {
            Value::String(text) if fields.iter().all(alone) => from_uri(id, text),
            Value::String(_) => Err(Fault::Mixed),
            _ => Err(Fault::Field("uri")),
        };
    }
    fields.remove("uri");
    check_keys(&fields)?;
    let (extra, unusable_extra) = match fields.remove("extra") {
        None => (Map::new(), None),
        Some(value) if falsy(&value) => (Map::new(), None),
        Some(Value::Object(map)) => (map, None),
        Some(Value::String(json)) => json_extra(&json),
        Some(other) => (Map::new(), Some(UnusableExtra::NotAnObject(other))),
    };
    Ok(Connection {
        id: id.into(),
        conn_type: type_of(&fields)?,
        host: text_of(&fields, "host")?,
        port: port_of(&fields)?,
        login: text_of(&fields, "login")?,
        password: text_of(&fields, "password")?.map(SecretString::from),
        schema: text_of(&fields, "schema")?,
        description: text_of(&fields, "description")?,
        extra,
        unusable_extra,
        renewal: None,
    })
}

fn check_keys(fields: &Map<String, Value>) -> Result<(), Fault> {
    const KNOWN: &[&str] =
        &["conn_type", "description", "host", "schema", "login", "password", "port", "extra"];
    match fields.keys().enumerate().find(|(_, key)| !KNOWN.contains(&key.as_str())) {
        Some((nth, key)) => Err(Fault::Key(nth + 1, MISTAKEN.iter().copied().find(|name| name == key))),
        None => Ok(()),
    }
}

/// Python's idea of a value that counts as nothing.
fn falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The only field that Airflow itself insists on being a text.
fn type_of(fields: &Map<String, Value>) -> Result<Option<String>, Fault> {
    match fields.get("conn_type") {
        None => Ok(None),
        Some(value) if falsy(value) => Ok(None),
        Some(Value::String(kind)) => Ok(Some(normal_type(kind))),
        Some(_) => Err(Fault::Field("conn_type")),
    }
}

fn text_of(fields: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Fault> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(Fault::Field(name)),
    }
}

/// What Python's `int()` takes and a port can be; its `1_000` is left out.
fn port_of(fields: &Map<String, Value>) -> Result<Option<u16>, Fault> {
    let number = match fields.get("port") {
        None => return Ok(None),
        Some(value) if falsy(value) => return Ok(None),
        Some(Value::Bool(_)) => Some(1.0),
        Some(Value::Number(number)) => number.as_f64().map(f64::trunc),
        Some(Value::String(text)) => text.trim().parse::<u16>().ok().map(f64::from),
        Some(_) => None,
    };
    match number {
        Some(number) if (0.0..=65535.0).contains(&number) => Ok(Some(number as u16)),
        _ => Err(Fault::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    const VECTORS: &str = include_str!("../../tests/fixtures/conn_vectors.json");

    fn vectors() -> Vec<Value> {
        let all: Value = serde_json::from_str(VECTORS).unwrap();
        all["connections"].as_array().unwrap().clone()
    }

    /// A scalar by its text, since Airflow's own versions differ in types.
    fn text(value: &Value) -> Value {
        match value {
            Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
            Value::Array(list) => Value::Array(list.iter().map(text).collect()),
            Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), text(v))).collect()),
            other => other.clone(),
        }
    }

    fn as_airflow_says(connection: &Connection) -> Value {
        let extra = match &connection.unusable_extra {
            None => Value::Object(connection.extra.clone()),
            Some(UnusableExtra::NotAnObject(value)) => value.clone(),
            Some(UnusableExtra::NotJson) => serde_json::json!({"__invalid__": "JSONDecodeError"}),
        };
        serde_json::json!({
            "conn_type": connection.conn_type, "login": connection.login,
            "password": connection.password().map(|p| p.expose_secret().to_string()),
            "host": connection.host, "port": connection.port, "schema": connection.schema,
            "description": connection.description, "extra": extra,
        })
    }

    #[test]
    fn every_vector_of_the_task_sdk_is_read_as_airflow_reads_it() {
        let mut wrong = Vec::new();
        for vector in vectors() {
            let read = parse("x", vector["input"].as_str().unwrap());
            let fits = match (&read, vector["expect"].get("error")) {
                (Ok(connection), None) => text(&as_airflow_says(connection)) == text(&vector["expect"]),
                (Err(_), Some(_)) => true,
                _ => false,
            };
            if !fits {
                wrong.push(format!("{}: {:?}", vector["id"], read.map(|c| as_airflow_says(&c))));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(vectors().len(), 80);
    }

    #[test]
    fn a_fault_never_quotes_the_text() {
        for broken in [
            "postgres://MARK:MA/RK@h/db",
            "postgres://u:MARK@h:MARK/db",
            "a://MARK://b://MARK",
            "http://MARK:MARK@https://h",
            "postgres://u:[MARK@h/db",
            "{\"password\": \"MARK",
            "{\"MARK\": 1}",
            "{\"postgres://u:MARK@h/db\": {}}",
            "{\"password\": [\"MARK\"]}",
            "{\"uri\": \"MARK\", \"host\": \"MARK\"}",
            "{\"port\": \"MARK\"}",
        ] {
            let error = Connection::parse("hr_db", broken).unwrap_err();
            assert!(!format!("{error:#} {error:?}").contains("MARK"), "{error:#}");
        }
    }

    #[test]
    fn a_common_mistake_is_named_and_an_odd_key_only_counted() {
        assert_eq!(
            parse("x", r#"{"host": "h", "dbname": "hr"}"#).unwrap_err(),
            Fault::Key(2, Some("dbname"))
        );
        assert_eq!(parse("x", r#"{"hunter2": 1}"#).unwrap_err(), Fault::Key(1, None));
    }
}
