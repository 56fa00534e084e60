//! The extras of a connection as libpq's options: which are obeyed, which are harmless, which refused.
//!
//! In:    the extras of one connection.
//! Out:   a verdict on their keys; values by type, whatever their JSON type is.
//! Holds: pure; no option is silently dropped; no value is quoted, nor a key that resembles no option.
//! Not here: what an obeyed option does (`params`).
//!
//! Source: PostgreSQL 18 manual, 32.1.2 "Parameter Key Words".

use crate::error::Failure;
use crate::secret::{Connection, UnusableExtra};
use serde_json::{Map, Value};

pub(super) type Checked<T> = Result<T, Failure>;

/// Extras that Airflow's hooks read themselves and never hand to libpq.
pub const AIRFLOW_ONLY: &[&str] = &[
    "iam",
    "redshift",
    "redshift-serverless",
    "cursor",
    "cluster-identifier",
    "workgroup-name",
    "aws_conn_id",
    "azure_conn_id",
    "sqlalchemy_scheme",
    "sqlalchemy_query",
];

/// What becomes of a libpq option.
enum Treatment {
    /// It is obeyed.
    Obeyed,
    /// It changes nothing here.
    Ignored,
    /// These values change nothing here; any other is refused.
    Only(&'static [&'static str]),
    /// It is refused, for this reason.
    Refused(&'static str),
}

use Treatment::{Ignored, Obeyed, Only, Refused};

const OPTIONS: &[(&str, Treatment)] = &[
    ("host", Obeyed),
    ("port", Obeyed),
    ("dbname", Obeyed),
    ("user", Obeyed),
    ("password", Obeyed),
    ("channel_binding", Obeyed),
    ("connect_timeout", Obeyed),
    ("options", Obeyed),
    ("keepalives", Obeyed),
    ("keepalives_idle", Obeyed),
    ("keepalives_interval", Obeyed),
    ("keepalives_count", Obeyed),
    ("tcp_user_timeout", Obeyed),
    ("sslmode", Obeyed),
    ("sslnegotiation", Obeyed),
    ("sslcert", Obeyed),
    ("sslkey", Obeyed),
    ("sslrootcert", Obeyed),
    ("ssl_min_protocol_version", Obeyed),
    ("target_session_attrs", Obeyed),
    ("application_name", Ignored),
    ("fallback_application_name", Ignored),
    ("krbsrvname", Ignored),
    ("gsslib", Ignored),
    ("sslcompression", Ignored), // no TLS library has it any more
    ("client_encoding", Only(&["utf8", "utf-8", "UTF8", "UTF-8", "auto", "unicode"])),
    ("gssencmode", Only(&["disable", "prefer"])),
    ("gssdelegation", Only(&["0"])),
    ("load_balance_hosts", Only(&["disable"])),
    ("replication", Only(&["false", "off", "no", "0"])),
    ("requiressl", Only(&["0"])),
    ("sslcertmode", Only(&["allow"])),
    ("sslsni", Only(&["1"])),
    ("ssl_max_protocol_version", Only(&["", "TLSv1.3"])),
    ("sslpassword", Refused("give it a key that is not encrypted")),
    ("hostaddr", Refused("write the address as host")),
    ("passfile", Refused("the password belongs into the connection")),
    ("service", Refused("host, schema and login belong into the connection")),
    ("servicefile", Refused("host, schema and login belong into the connection")),
    ("require_auth", Refused("use channel_binding=require")),
    ("requirepeer", Refused("it is not supported")),
    ("sslcrl", Refused("it is not supported")),
    ("sslcrldir", Refused("it is not supported")),
    ("sslkeylogfile", Refused("it would write TLS keys to a file")),
    ("scram_client_key", Refused("it is not supported")),
    ("scram_server_key", Refused("it is not supported")),
    ("min_protocol_version", Only(&["3.0"])),
    ("max_protocol_version", Ignored), // 3.0 is spoken, which every bound allows
    ("oauth_issuer", Refused("it is not supported")),
    ("oauth_client_id", Refused("it is not supported")),
    ("oauth_client_secret", Refused("it is not supported")),
    ("oauth_scope", Refused("it is not supported")),
];

/// Refuses extras that are no object, and every option that cannot be obeyed or ignored.
pub(super) fn check_extra(connection: &Connection) -> Checked<()> {
    match &connection.unusable_extra {
        Some(UnusableExtra::NotJson) => return Err(Failure::config("its extra is not JSON")),
        Some(UnusableExtra::NotAnObject(_)) => {
            return Err(Failure::config("its extra is JSON, but no object"));
        }
        None => {}
    }
    for (nth, (key, value)) in connection.extra.iter().enumerate() {
        if AIRFLOW_ONLY.contains(&key.as_str()) {
            continue;
        }
        let Some((name, treatment)) = OPTIONS.iter().find(|(name, _)| name == key) else {
            return Err(unknown_option(nth + 1, key));
        };
        match treatment {
            Obeyed | Ignored => {}
            Only(harmless) => match scalar(name, value)? {
                Some(text) if !harmless.contains(&text.as_str()) => {
                    let choice = harmless.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>();
                    return Err(Failure::config(format!(
                        "its {name} can only be {} here",
                        choice.join(" or ")
                    )));
                }
                _ => {}
            },
            Refused(reason) => return Err(Failure::config(format!("its {name} is refused: {reason}"))),
        }
    }
    Ok(())
}

/// Names the nearest option; the key itself only if it is a plain misspelling of it.
fn unknown_option(nth: usize, key: &str) -> Failure {
    let nearest = OPTIONS
        .iter()
        .map(|(name, _)| (strsim::damerau_levenshtein(name, &key.to_lowercase()), *name))
        .min()
        .filter(|(distance, name)| *distance <= 3 && *distance * 2 < name.len());
    match nearest {
        Some((_, name)) => Failure::config(format!("{key} is no option of libpq"))
            .hint(format!("The nearest option is {name}.")),
        None => Failure::config(format!("number {nth} of its extras is no option of libpq"))
            .hint("A `?` or `/` in its password that is not percent-encoded also makes extras."),
    }
}

/// A scalar by its text: Airflow gives the same extra as text, number or boolean.
fn scalar(key: &str, value: &Value) -> Checked<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(Failure::config(format!("its {key} is neither a text nor a number")))
        }
    }
}

/// Extras, read by type.
pub(super) struct Extra<'a>(pub &'a Map<String, Value>);

impl Extra<'_> {
    pub fn text(&self, key: &'static str) -> Checked<Option<String>> {
        self.0.get(key).map_or(Ok(None), |value| scalar(key, value))
    }

    pub fn number(&self, key: &'static str) -> Checked<Option<i64>> {
        match self.text(key)?.filter(|text| !text.trim().is_empty()) {
            None => Ok(None),
            Some(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Failure::config(format!("its {key} is no whole number"))),
            },
        }
    }

    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Checked<Option<T>> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let choice = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                Err(Failure::config(format!("its {key} is none of {choice}")))
            }
        }
    }
}
