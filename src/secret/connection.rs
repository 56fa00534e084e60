//! How to reach one outside system, as Airflow's connections say it.
//!
//! In:    the fields of a parsed connection.
//! Out:   the same, safe to print.
//! Holds: `Debug` and `Display` show no password, and of the extras only values on a list
//!        of harmless keys.
//! Not here: the texts it is read from (`grammar`).

use super::grammar;
use super::renewal::Renewal;
use crate::error::{Failure, Kind, classify};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::fmt;

/// One Airflow connection. An absent field is `None`, an empty one `Some("")`, as in Airflow.
#[derive(Clone, Default)]
pub struct Connection {
    /// The name it is asked for by.
    pub id: String,
    /// `postgres`, `aws`, `http`, ...; normalised as Airflow does.
    pub conn_type: Option<String>,
    /// Host name, address, socket directory, or several separated by commas.
    pub host: Option<String>,
    /// Port, if one is given.
    pub port: Option<u16>,
    /// User name or key id.
    pub login: Option<String>,
    pub(super) password: Option<SecretString>,
    /// For PostgreSQL the database.
    pub schema: Option<String>,
    /// What a person wrote about it.
    pub description: Option<String>,
    /// Everything else; values may be texts, numbers or booleans for the same connection.
    pub extra: Map<String, Value>,
    /// Set when the extras were given in a form that holds no keys.
    pub unusable_extra: Option<UnusableExtra>,
    pub(super) renewal: Option<Renewal>,
}

/// Extras that Airflow accepts and nobody can use.
#[derive(Clone, PartialEq)]
pub enum UnusableExtra {
    /// A text that is not JSON.
    NotJson,
    /// JSON, but no object.
    NotAnObject(Value),
}

// Extras whose values may be shown; whatever is not on this list is not.
const HARMLESS: &[&str] = &[
    "host",
    "port",
    "dbname",
    "user",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "channel_binding",
    "target_session_attrs",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "gssencmode",
    "region_name",
    "bucket",
    "namespace",
    "region",
];

impl Connection {
    /// Reads `text`, the URI or JSON form of connection `id`.
    ///
    /// # Errors
    /// 78, saying what is wrong and never quoting `text`.
    pub fn parse(id: &str, text: &str) -> anyhow::Result<Connection> {
        grammar::parse(id, text).map_err(|fault| unreadable(id, fault))
    }

    /// Reads the fields of connection `id`, as its JSON form has them.
    ///
    /// # Errors
    /// 78, saying what is wrong and never quoting a value.
    pub fn of_fields(id: &str, fields: Map<String, Value>) -> anyhow::Result<Connection> {
        grammar::from_fields(id, fields).map_err(|fault| unreadable(id, fault))
    }

    /// The password, if there is one.
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// The same connection with another password.
    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> Connection {
        self.password = Some(password);
        self.renewal = None; // it is not the places' any more
        self
    }

    /// Itself, or what the places said when they were asked once more, with the login and password to
    /// use now; shared by all copies of one answer.
    pub fn newest(&self) -> &Connection {
        self.renewal.as_ref().and_then(Renewal::fresh).unwrap_or(self)
    }

    /// Asks the places once more, after a server refused the login or password of `tried` (what
    /// [`Connection::newest`] was then): it may have been rotated. Says whether there are others now.
    ///
    /// Cost: one question a place for all copies of one answer, and then none.
    ///
    /// # Errors
    /// 75 when a place cannot be reached; what else goes wrong there leaves the refusal standing.
    pub async fn ask_anew(&self, tried: &Connection) -> anyhow::Result<bool> {
        let Some(renewal) = &self.renewal else { return Ok(false) };
        match renewal.ask().await {
            Ok(fresh) => Ok(!tried.has_login_of(fresh)),
            Err(why) if classify(&why).kind == Kind::Temporary => Err(why),
            Err(why) => {
                tracing::debug!(connection = %self.id, why = %format!("{why:#}"), "asked anew in vain");
                Ok(false)
            }
        }
    }

    fn has_login_of(&self, other: &Connection) -> bool {
        let password = |of: &Connection| of.password.as_ref().map(|text| text.expose_secret().to_owned());
        let extra = |of: &Connection, key| of.extra.get(key).cloned();
        self.login == other.login
            && password(self) == password(other)
            && ["user", "password"].iter().all(|key| extra(self, *key) == extra(other, *key))
    }

    fn shown_extra(&self) -> Vec<(&str, String)> {
        let shown = |(key, value): (&'_ String, &Value)| match value {
            Value::String(text) if HARMLESS.contains(&key.as_str()) => text.clone(),
            Value::Number(_) | Value::Bool(_) if HARMLESS.contains(&key.as_str()) => value.to_string(),
            _ => "[REDACTED]".to_string(),
        };
        self.extra.iter().map(|pair| (pair.0.as_str(), shown(pair))).collect()
    }
}

fn unreadable(id: &str, fault: grammar::Fault) -> anyhow::Error {
    let hint = "Write it as Airflow does: postgres://user:password@host:5432/database, with each of `% : / ? # @ [ ]` \
                inside a part percent-encoded; or as a JSON object.";
    Failure::config(format!("cannot read connection {id}: {fault}")).hint(hint).into()
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("conn_type", &self.conn_type)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("login", &self.login)
            .field("password", &self.password.as_ref().map(|_| "[REDACTED]"))
            .field("schema", &self.schema)
            .field("extra", &self.shown_extra())
            .field("unusable_extra", &self.unusable_extra)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UnusableExtra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnusableExtra::NotJson => "not JSON",
            UnusableExtra::NotAnObject(_) => "not an object",
        })
    }
}

impl fmt::Display for Connection {
    /// `hr_db (postgres)`: the id and the type, nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.conn_type.as_deref() {
            None | Some("") => f.write_str(&self.id),
            Some(kind) => write!(f, "{} ({kind})", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_password_nor_an_unlisted_extra_can_be_printed() {
        let text = r#"{"conn_type": "postgres", "host": "h", "login": "u", "password": "MARK1",
            "extra": {"private_key": "MARK2", "nested": {"token": "MARK3"}, "sslmode": "require", "options": "-c x=MARK4"}}"#;
        let connection = Connection::parse("hr_db", text).unwrap();
        let printed = format!("{connection:?} {connection:#?} {connection}");
        assert!(!printed.contains("MARK"), "{printed}");
        assert!(
            printed.contains("sslmode") && printed.contains("require") && printed.contains("private_key")
        );
    }

    #[test]
    fn a_list_given_as_extra_is_not_printed_either() {
        let connection = Connection::parse("x", r#"{"extra": ["MARK1"]}"#).unwrap();
        assert!(!format!("{connection:?}").contains("MARK1"));
    }
}
