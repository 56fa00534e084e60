//! `AIRFLOW_CONN_<ID>` and `AIRFLOW_VAR_<KEY>`, as Airflow itself reads them.
//!
//! In:    the variables of this process, or given ones.
//! Out:   connections in their URI or JSON form, variables as they stand.
//! Holds: an empty connection means "not here", an empty variable is an empty value, as in Airflow.
//! Not here: what a connection's text means (`grammar`).

use super::connection::Connection;
use super::place::{Answer, Asked, Place};
use crate::error::Failure;
use anyhow::Result;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Environment variables: those of this process, or given ones.
pub struct Environment(Option<BTreeMap<String, OsString>>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Environment(given)" } else { "Environment(process)" })
    }
}

impl Environment {
    /// The environment of this process, looked at when asked.
    pub fn process() -> Self {
        Environment(None)
    }

    /// An environment of these variables and no others.
    pub fn given<K: Into<String>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Environment(Some(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }

    fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        let value = match &self.0 {
            Some(given) => given.get(name).cloned(),
            None => std::env::var_os(name),
        };
        let not_utf8 =
            |_| Failure::config(format!("cannot read {name} from the environment: it is not UTF-8"));
        Ok(value.map(OsString::into_string).transpose().map_err(not_utf8)?)
    }
}

fn variable_of(asked: Asked<'_>) -> String {
    match asked {
        Asked::Connection(id) => format!("AIRFLOW_CONN_{}", id.to_uppercase()),
        Asked::Variable(key) => format!("AIRFLOW_VAR_{}", key.to_uppercase()),
    }
}

impl Place for Environment {
    fn name(&self) -> String {
        "the environment".to_string()
    }

    fn how_to_add(&self, asked: Asked<'_>) -> String {
        let form = if matches!(asked, Asked::Connection(_)) { " to its URI or JSON form" } else { "" };
        format!("Set {}{form}.", variable_of(asked))
    }

    fn connection<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Connection>>>> {
        Box::pin(async move {
            let name = variable_of(Asked::Connection(id));
            match self.text(&name)? {
                Some(text) if !text.is_empty() => {
                    Ok(Some(Answer::standing(Connection::parse(id, &text)?, name)))
                }
                _ => Ok(None),
            }
        })
    }

    fn variable<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Answer<SecretString>>>> {
        Box::pin(async move {
            let name = variable_of(Asked::Variable(key));
            Ok(self.text(&name)?.map(|text| Answer::standing(SecretString::from(text), name)))
        })
    }
}
