//! What is written -> what holds: defaults filled in, names checked, contradictions refused.
//!
//! In:    the raw files and their trees (for places).
//! Out:   `model` values. Holds: a fault names the key it stands at.
//! Not here: what a catalog must say (`etl::contract`): no server is asked here.

pub mod backups;
pub mod checks;
pub mod pipeline;
pub mod places;
pub mod project;
pub mod retention;
pub mod table;
mod vault;

use super::node::{Fault, Node, shown};

/// PostgreSQL cuts a longer identifier without an error (NAMEDATALEN - 1).
const MAX_IDENTIFIER: usize = 63;

/// A place in a tree by the keys that lead to it.
#[derive(Clone, Copy)]
pub struct At<'a> {
    root: &'a Node,
    path: &'a [&'a str],
}

impl<'a> At<'a> {
    /// The place `path` of `root`.
    pub fn new(root: &'a Node, path: &'a [&'a str]) -> Self {
        At { root, path }
    }

    /// A fault at `path` below here.
    pub fn fault(&self, path: &[&str], what: impl Into<String>) -> Fault {
        let full: Vec<&str> = self.path.iter().chain(path).copied().collect();
        self.root.fault(&full, what)
    }

    /// Checks an identifier of SQL that stands at `path`.
    ///
    /// # Errors
    /// A [`Fault`]: it is empty, too long for PostgreSQL, or holds what no name can hold.
    pub fn identifier(&self, path: &[&str], name: &str) -> Result<(), Fault> {
        if name.is_empty() || name.contains('\0') {
            return Err(self.fault(path, "expected a name"));
        }
        if name.len() > MAX_IDENTIFIER {
            let what = format!("name {} has {} bytes", shown(name), name.len());
            return Err(self.fault(path, what).hint("PostgreSQL keeps 63 bytes of a name."));
        }
        Ok(())
    }

    /// Checks names in a list that stands at `path`: identifiers, at least one, none twice.
    ///
    /// # Errors
    /// A [`Fault`] at the first that is wrong.
    pub fn identifiers(&self, path: &[&str], names: &[String]) -> Result<(), Fault> {
        if names.is_empty() {
            return Err(self.fault(path, "expected at least one name"));
        }
        for (index, name) in names.iter().enumerate() {
            let index_text = index.to_string();
            let here: Vec<&str> = path.iter().copied().chain([index_text.as_str()]).collect();
            self.identifier(&here, name)?;
            if names[..index].contains(name) {
                return Err(self.fault(&here, format!("{} stands here twice", shown(name))));
            }
        }
        Ok(())
    }

    /// Checks the id of a connection or variable that stands at `path`.
    ///
    /// # Errors
    /// A [`Fault`]: it is empty, or holds white space.
    pub fn id(&self, path: &[&str], id: &str) -> Result<(), Fault> {
        if id.is_empty() || id.len() > 250 || id.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(self.fault(path, "expected an id without white space"));
        }
        Ok(())
    }

    /// Checks the name of a time zone that stands at `path`; whether there is one is the server's to say.
    ///
    /// # Errors
    /// A [`Fault`]: no zone is called so.
    pub fn timezone(&self, path: &[&str], zone: Option<&str>) -> Result<(), Fault> {
        let sign = |c: char| c.is_ascii_alphanumeric() || "_+-/".contains(c);
        if zone.is_some_and(|zone| zone.is_empty() || !zone.chars().all(sign)) {
            return Err(self.fault(path, "expected a time zone such as Africa/Accra"));
        }
        Ok(())
    }
}
