//! A place that can be asked for connections and variables.
//!
//! In:    the id of a connection or the key of a variable.
//! Out:   an [`Answer`], `None` where the place does not have it, or why it cannot be asked.
//! Holds: "not here" and "cannot say" are never confused: `None` sends the question on to the
//!        next place, an error ends it.
//! Not here: the order of places ([`super::Resolver`]), the places themselves.

use super::connection::Connection;
use anyhow::Result;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use std::fmt;
use std::time::Duration;

/// What a place gave, and what may be told about it: never the value.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// What kind of secret it is, in words: `variable AIRFLOW_CONN_HR_DB`, `KV 2, version 3`.
    pub kind: String,
    /// How long it may be used from now on; `None`: until somebody changes it.
    pub life: Option<Duration>,
}

impl<T> Answer<T> {
    /// An answer that lives until somebody changes it.
    pub fn standing(value: T, kind: impl Into<String>) -> Self {
        Answer { value, kind: kind.into(), life: None }
    }
}

/// User and password that a place makes for one connection, in place of those in it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub login: String,
    /// Its password.
    pub password: SecretString,
}

/// What is asked for, as errors and hints name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The connection of this id.
    Connection(&'a str),
    /// The variable of this key.
    Variable(&'a str),
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Connection(id) => write!(f, "connection {id}"),
            Asked::Variable(key) => write!(f, "variable {key}"),
        }
    }
}

/// What somebody may do beyond what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Nobody can be asked; why, where that helps.
    Unknown(Option<String>),
    /// This, in short phrases without a value; empty: nothing.
    Known(Vec<String>),
}

/// One place of `secrets:`. An unreachable one is 75; one that refuses, or whose secret was
/// deleted, is 77; a secret that cannot be read is 78: all of these end the search.
pub trait Place: fmt::Debug + Send + Sync {
    /// How it is named in a sentence: `the environment`, `Vault at https://vault:8200`.
    fn name(&self) -> String;

    /// One sentence: what to do so that this place has what was asked.
    fn how_to_add(&self, asked: Asked<'_>) -> String;

    /// The connection `id`; `None` where this place does not have it.
    fn connection<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Connection>>>>;

    /// The variable `key`; `None` where this place does not have it. It may be empty.
    fn variable<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Answer<SecretString>>>>;

    /// User and password for the connection `id`, whichever place has the rest of it; `None` where
    /// this place makes none.
    fn credentials<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Credentials>>>> {
        Box::pin(async { Ok(None) })
    }

    /// The connection whose user was taken from us while it was in use, if there is one.
    fn lost(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { None })
    }

    /// What the identity that asks this place may read there beyond `needed`.
    fn beyond<'a>(&'a self, _needed: &'a [Asked<'a>]) -> BoxFuture<'a, Beyond> {
        Box::pin(async { Beyond::Unknown(None) })
    }

    /// Gives back what the place was made to hand out (logins, leases); never fails, warns.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
