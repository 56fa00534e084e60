//! `checks:` of a table as it is written: a short form for the usual case, keys for the rest.
//!
//! In:    a tree. Out: [`Checks`]. Not here: default scopes and severities (`resolve::checks`).

use super::{Form, No, Ordered};
use crate::config::model::{Scope, Severity};
use crate::config::words::{Length, Share, Text};
use schemars::JsonSchema;
use serde::Deserialize;

/// Quality checks of one table. A miss of a `fail` check (the default) keeps the whole run out of the
/// warehouse; a miss of a `warn` check is told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Checks")]
pub struct Checks {
    /// How many rows there may be, and by how much that may change: `{min: 1, max_change: 30%}`.
    pub rows: Option<Rows>,
    /// The largest share of NULLs by column: `{hire_date: 0, phone: 20%}`.
    #[serde(default)]
    pub null_rate: Ordered<Form<Share, No, Bound<Share>>>,
    /// Columns that together are unique: `[emp_no]`, or several such lists.
    pub unique: Option<Form<No, Vec<UniqueItem>, Unique>>,
    /// How old the newest value of a column may be: `{updated_at: 36h}`.
    #[serde(default)]
    pub freshness: Ordered<Form<Length, No, Bound<Length>>>,
    /// The values a column may have, as text; NULL is always one: `{gender: [M, F]}`.
    #[serde(default)]
    pub accepted: Ordered<Form<No, Vec<Text>, Accepted>>,
    /// Where each value of a column must be found in the warehouse: `{emp_no: hr.employee.emp_no}`.
    pub references: Option<References>,
    /// Queries on the warehouse that must return no row; `{table}` stands for the rows in scope.
    #[serde(default)]
    pub sql: Ordered<Form<String, No, Sql>>,
}

/// Row counts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// At least so many.
    pub min: Option<u64>,
    /// At most so many.
    pub max: Option<u64>,
    /// The count may differ from the previous run's by at most this share of it.
    pub max_change: Option<Share>,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch`, this run's rows, or `table` (default), the table as it would be published.
    pub scope: Option<Scope>,
}

/// A bound with severity and scope.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BoundOf{T}")]
pub struct Bound<T> {
    /// The largest value that passes.
    pub at_most: T,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch`, this run's rows, or `table`, the table as it would be published.
    pub scope: Option<Scope>,
}

/// One item of `unique:`: a column of the one key, or a key of its own.
pub type UniqueItem = Form<String, Vec<String>, Unique>;

/// A unique key with severity and scope.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// Columns that together are unique.
    pub columns: Vec<String>,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch`, or `table` (default).
    pub scope: Option<Scope>,
}

/// Accepted values with severity and scope.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The values, as text.
    pub values: Vec<Text>,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch` (default), or `table`.
    pub scope: Option<Scope>,
}

/// `references:`, by column or as a list for several columns together.
pub type References = Form<No, Vec<Reference>, Ordered<Form<String, No, To>>>;

/// Where one column points to, with severity and scope.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct To {
    /// `schema.table.column` in the warehouse.
    pub to: String,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch` (default), or `table`.
    pub scope: Option<Scope>,
}

/// Where several columns together point to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Columns of this table.
    pub columns: Vec<String>,
    /// `schema.table` in the warehouse.
    pub table: String,
    /// Its columns, in the same order.
    pub to: Vec<String>,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch` (default), or `table`.
    pub scope: Option<Scope>,
}

/// A query with severity and scope.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// One SELECT that returns no row when all is well.
    pub query: String,
    /// `fail` (default) or `warn`.
    pub severity: Option<Severity>,
    /// `batch`, this run's rows, or `table` (default), the table as it would be published.
    pub scope: Option<Scope>,
}
