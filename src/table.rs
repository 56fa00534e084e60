//! Names, columns, keys and types of tables, as values.
//!
//! In:    what a catalog or a project file says.
//! Out:   plain data, and identifiers quoted for SQL.
//! Holds: a name is never put into SQL but through [`quote`] or [`TableName::sql`].
//! Not here: where the values come from (`pg::introspect`), what a change means (`etl::contract`).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A table's name in one database. `Display` quotes only where SQL needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The schema, as the catalog spells it.
    pub schema: String,
    /// The name, as the catalog spells it.
    pub name: String,
}

/// An identifier for SQL: always in double quotes.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A string literal for SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Identifiers for SQL, quoted and separated by `, `.
pub fn quote_list<S: AsRef<str>>(identifiers: &[S]) -> String {
    identifiers.iter().map(|name| quote(name.as_ref())).collect::<Vec<_>>().join(", ")
}

impl TableName {
    /// The table `name` in `schema`, both as the catalog spells them.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        TableName { schema: schema.into(), name: name.into() }
    }

    /// Reads `schema.table` as SQL does: what is not in double quotes is folded to lower case.
    ///
    /// # Errors
    /// A sentence, when there are not exactly two parts or a quote is left open.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split_identifiers(text)?;
        match <[String; 2]>::try_from(parts) {
            Ok([schema, name]) => Ok(TableName { schema, name }),
            Err(_) => Err(format!("{text:?} is not schema.table")),
        }
    }

    /// The name for SQL, both parts quoted.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote_if_needed(&self.schema), quote_if_needed(&self.name))
    }
}

/// An identifier as a person writes it: quoted only where SQL would read it otherwise.
pub fn quote_if_needed(identifier: &str) -> String {
    let plain = identifier.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && identifier.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { identifier.to_owned() } else { quote(identifier) }
}

/// Splits a dotted name into its identifiers, folding what is not quoted.
///
/// # Errors
/// A sentence, when a quote is left open or a part is empty.
pub fn split_identifiers(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut parts, '"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => push(&mut parts, c),
            c => push(&mut parts, c.to_ascii_lowercase()),
        }
    }
    if quoted {
        return Err(format!("{text:?} has an open quote"));
    }
    if parts.iter().any(String::is_empty) {
        return Err(format!("{text:?} has an empty part"));
    }
    Ok(parts)
}

fn push(parts: &mut [String], c: char) {
    if let Some(last) = parts.last_mut() {
        last.push(c);
    }
}

/// What kind of type a column has, as far as moving its values needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeKind {
    /// Built in or of an extension, with no parts that have types of their own.
    Base,
    /// An enum with its labels in order.
    Enum(Vec<String>),
    /// A row type.
    Composite,
    /// A range over the named element.
    Range(Box<ColumnType>),
    /// A multirange over the named element of its ranges.
    Multirange(Box<ColumnType>),
    /// An array of the named element, of any dimension.
    Array(Box<ColumnType>),
    /// `void`, `any` and the like, or a type this program does not know.
    Other,
}

/// One type of one server; a domain is described as its base type, with the domain's name kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnType {
    /// OID of the (base) type on its server; below 10,000 for built-in types.
    pub oid: u32,
    /// Schema of the (base) type.
    pub schema: String,
    /// Name in `pg_type`, such as `int4`, `_text`, `hstore`.
    pub name: String,
    /// What `format_type` says of the base type with its modifier: `numeric(12,2)`.
    pub sql: String,
    /// The extension that owns the type, if one does.
    pub extension: Option<String>,
    /// The domain through which the column has it, as `schema.name`.
    pub domain: Option<String>,
    /// What it is made of.
    pub kind: TypeKind,
}

impl ColumnType {
    /// Whether every PostgreSQL has it under this OID.
    pub fn is_builtin(&self) -> bool {
        self.oid < 10_000
    }
}

/// One column of a source table, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// As the catalog spells it.
    pub name: String,
    /// `attnum`: stays with the column through a rename.
    pub position: i16,
    /// Its type.
    pub column_type: ColumnType,
    /// `NOT NULL`, or part of a primary key.
    pub not_null: bool,
    /// `GENERATED ALWAYS AS (...)`.
    pub generated: bool,
    /// The columns that a generated column is made of: what covers one of those covers it.
    #[serde(default)]
    pub made_of: Vec<String>,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// An ordinary table; rows of its inheritance children belong to it, as in a SELECT.
    Table,
    /// A partitioned table; it arrives as one.
    Partitioned,
    /// A view.
    View,
    /// A materialised view.
    MaterializedView,
    /// A foreign table.
    Foreign,
}

/// One heap that holds rows of a table: the table itself, a partition or an inheritance child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its name.
    pub name: TableName,
    /// Pages of 8 KiB in its main fork.
    pub pages: u64,
}

/// A table of a source as its catalog describes it.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: RelationKind,
    /// All its columns, in order.
    pub columns: Vec<Column>,
    /// The primary key's columns in key order; empty without one.
    pub primary_key: Vec<String>,
    /// Columns of valid, immediate, whole-table unique indexes over plain columns; a key in waiting
    /// where all of them are NOT NULL. Empty for a parent with children: no index spans those.
    pub unique_keys: Vec<Vec<String>>,
    /// First columns of its indexes: what a range can be looked up by.
    pub indexed: Vec<String>,
    /// The heaps behind it, if all of them can be read one by one; else it is read as a whole.
    pub leaves: Vec<Leaf>,
    /// The planner's estimate of rows; negative when never analysed.
    pub estimated_rows: f64,
    /// Bytes on disk, all leaves.
    pub bytes: u64,
}

impl SourceTable {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether it has the column `name` with the type spelled `sql`, however the search path stands.
    pub fn fits(&self, name: &str, sql: &str) -> bool {
        self.column(name).is_some_and(|found| {
            let of = &found.column_type;
            let qualified = format!("{}.{}", quote_if_needed(&of.schema), quote_if_needed(&of.name));
            of.sql == sql || sql.starts_with(&qualified)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them_and_written_so_that_sql_reads_them_back() {
        for (text, schema, name) in [
            ("public.employee", "public", "employee"),
            ("Public.Employee", "public", "employee"),
            ("public.\"Course\"", "public", "Course"),
            ("\"a.b\".\"c\"\"d\"", "a.b", "c\"d"),
        ] {
            let parsed = TableName::parse(text).unwrap();
            assert_eq!(parsed, TableName::new(schema, name));
            assert_eq!(TableName::parse(&parsed.to_string()).unwrap(), parsed);
        }
        for text in ["employee", "a.b.c", "a.\"b", ".b", ""] {
            assert!(TableName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quoting_survives_quotes_and_backslashes() {
        assert_eq!(quote("\"; DROP TABLE x; --"), "\"\"\"; DROP TABLE x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'"), " E'a\\\\b'''");
    }
}
