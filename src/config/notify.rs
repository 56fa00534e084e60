//! Who is told of what, resolved.
//!
//! In:    nothing; `config::resolve` builds it. Out: plain values.
//! Holds: a receiver is a webhook or people with mail, never both.

pub use super::raw::project::Occasion;
use serde::Serialize;

/// One of `notify:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receiver {
    /// Id of its connection.
    pub connection: String,
    /// Addresses of people; empty: the connection is a webhook.
    pub mail_to: Vec<String>,
    /// What it is told of.
    pub when: Vec<Occasion>,
}
