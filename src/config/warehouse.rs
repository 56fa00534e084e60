//! The warehouse, resolved.
//!
//! In:    nothing; `config::resolve` builds it. Out: plain values.
//! Holds: a command that needs a warehouse says so when the project has none.

use super::model::Project;
use crate::error::Failure;
use serde::Serialize;

/// `warehouse:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warehouse {
    /// Id of its connection.
    pub connection: String,
    /// Role that may read what is loaded.
    pub reader_role: Option<String>,
    /// Role under which `after:` SQL runs.
    pub after_role: Option<String>,
    /// Role that owns what is made in the warehouse; `None`: whoever logs in.
    pub owner_role: Option<String>,
}

impl Project {
    /// The warehouse, for commands that need one.
    ///
    /// # Errors
    /// 78 naming the key that is missing.
    pub fn warehouse(&self) -> Result<&Warehouse, Failure> {
        self.warehouse.as_ref().ok_or_else(|| {
            Failure::config("cannot use the warehouse: key \"warehouse\" is missing in sankofa.yaml")
                .hint("Name its connection: `warehouse: {connection: warehouse}`.")
        })
    }
}
