//! The table of contents of an archive, as a restore needs it.
//!
//! In:    nothing; `contents` reads these out of the spool.
//! Out:   plain values.

/// One entry of the table of contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its number in the archive.
    pub id: i64,
    /// What it is: `TABLE`, `TABLE DATA`, `EXTENSION`, ...
    pub kind: String,
    /// Its schema; empty where it has none.
    pub schema: String,
    /// Its name, or what it belongs to and its name.
    pub tag: String,
    /// Role that owns it; may be empty.
    pub owner: String,
    /// Tablespace; empty for the database's own.
    pub tablespace: String,
    /// Its SQL, for the kinds that [`Item::has_definition`] names.
    pub definition: String,
    /// Numbers of the entries that it depends on.
    pub needs: Vec<i64>,
}

impl Item {
    /// Whether the SQL of entries of `kind` is looked into, and so kept.
    pub fn has_definition(kind: &str) -> bool {
        matches!(
            kind,
            "DATABASE"
                | "DATABASE PROPERTIES"
                | "ACL"
                | "DEFAULT ACL"
                | "COLLATION"
                | "COMMENT"
                | "FK CONSTRAINT"
                | "POLICY"
        )
    }
}
