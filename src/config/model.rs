//! What the rest of the house is given: resolved pipelines, with every default filled in.
//!
//! In:    nothing; `config` builds these from the project files.
//! Out:   plain values. Holds: no module but `config` reads a setting from anywhere else.

pub use super::backups::{Backups, Bucket, Codec, Database, StorePlace};
pub use super::notify::{Occasion, Receiver};
pub use super::places::{AwsPlace, FilesPlace, SecretPlace, VaultPlace};
pub use super::retention::Retention;
pub use super::warehouse::Warehouse;
use super::words::{write_duration, write_optional_duration};
use crate::table::TableName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The operator's half: everything of `sankofa.yaml` that moving rows needs.
#[derive(Clone, Debug, Serialize)]
pub struct Project {
    /// Directory that holds `sankofa.yaml`; relative directories of stores start here.
    pub root: PathBuf,
    /// Name of the environment (`--env`), kept in schema `sankofa`; `default` without one.
    pub environment: String,
    /// Where connections and variables are asked for, in order.
    pub secrets: Vec<SecretPlace>,
    /// The warehouse; `None` where only databases are backed up.
    pub warehouse: Option<Warehouse>,
    /// Where stages lie; `None` when only `sync` is used.
    pub stage: Option<Stage>,
    /// What no pipeline can loosen.
    pub guard: Guard,
    /// What is backed up.
    pub backups: Backups,
    /// Id of the connection to the server that drills restore on.
    pub drill: Option<String>,
    /// Who is told of what.
    pub notify: Vec<Receiver>,
    /// How long what is past is kept.
    pub retention: Retention,
}

/// `stage:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The directory of the store that it names.
    pub directory: PathBuf,
    /// age recipients; empty: not encrypted.
    pub encrypt_to: Vec<String>,
    /// Variable that holds the identity, for `validate` and `load`.
    pub identity: Option<String>,
    /// How long a stage is kept after its run has ended.
    #[serde(serialize_with = "write_duration")]
    pub keep: Duration,
}

/// `guard:`, with its patterns split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// Columns and tables that never leave a source.
    pub never: Vec<Pattern>,
    /// Masks that always apply.
    pub mask: Vec<(Pattern, Mask)>,
    /// Per source connection, the warehouse schemas it may fill; a source not named may fill any.
    pub sources: BTreeMap<String, Vec<String>>,
}

/// `database.schema.table[.column]`, each part with `*` for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern {
    /// The text in the file.
    pub text: String,
    /// Its three or four parts.
    pub parts: Vec<String>,
}

/// One pipeline, resolved.
#[derive(Clone, Debug, Serialize)]
pub struct Pipeline {
    /// Its name: the file's.
    pub name: String,
    /// Connection id of the source.
    pub source: String,
    /// Schema in the warehouse.
    pub schema: String,
    /// What a changed source schema leads to.
    pub on_schema_change: SchemaPolicy,
    /// All tables in one commit, or each in its own.
    pub publish: Publish,
    /// Sessions that read the source side by side.
    pub connections: usize,
    /// How long one statement may run on the source.
    #[serde(serialize_with = "write_duration")]
    pub statement_timeout: Duration,
    /// How long the snapshot of the source may be held.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_optional_duration")]
    pub max_snapshot_age: Option<Duration>,
    /// The largest row that is moved, bytes.
    pub max_row_bytes: usize,
    /// Encoding to read a source in whose own encoding is `SQL_ASCII` or wrong.
    pub encoding: Option<String>,
    /// Its tables, in the order of the file.
    pub tables: Vec<TableSpec>,
    /// SQL that runs in the publishing commit: (path as written, text).
    pub after: Vec<(String, String)>,
    /// SHA-256 of everything above as resolved, hex.
    pub config_hash: String,
    /// What a scheduler reads; not part of the hash, since it changes no row.
    pub schedule: Schedule,
}

/// When and how a scheduler starts a pipeline; `config compile` hands it on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Schedule {
    /// Five fields, or `@daily` and the like; `None`: only by hand.
    pub cron: Option<String>,
    /// IANA name of the time zone `cron` is meant in.
    pub timezone: String,
    /// Whether runs that were missed are made up for.
    pub catchup: bool,
    /// How often the scheduler tries again.
    pub retries: Option<u32>,
    /// How long a run may take.
    #[serde(serialize_with = "write_optional_duration")]
    pub timeout: Option<Duration>,
    /// How long the scheduler waits before it tries again.
    #[serde(serialize_with = "write_optional_duration")]
    pub retry_delay: Option<Duration>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Cores that a run's container may use.
    pub cpu: Option<f64>,
    /// Bytes of memory that a run's container may use.
    pub memory_bytes: Option<usize>,
    /// As three tasks or as one.
    pub run_as: RunAs,
    /// What other DAGs can wait for.
    pub assets: Assets,
}

/// As how many tasks a scheduler starts a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunAs {
    /// `extract >> validate >> load`.
    #[default]
    Steps,
    /// `sync`.
    Sync,
}

/// What other DAGs can wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assets {
    /// The warehouse schema that the pipeline fills.
    #[default]
    Schema,
    /// Each of its tables too.
    Tables,
}

/// One table of a pipeline, with the pipeline's defaults applied.
#[derive(Clone, Debug, Serialize)]
pub struct TableSpec {
    /// Name at the source.
    pub name: TableName,
    /// Name of the table in the warehouse, in the pipeline's schema.
    pub target: String,
    /// How it is read.
    pub mode: Mode,
    /// Key columns by which rows are merged; `None`: the primary key.
    pub key: Option<Vec<String>>,
    /// Replication key, a column or `xmin`; always there for `incremental` and `append`.
    pub replication_key: Option<String>,
    /// How far behind the watermark reading starts; `inherited` ones of the other unit do not apply.
    pub lookback: Option<Lookback>,
    /// Rows whose replication key is NULL.
    pub null_keys: NullKeys,
    /// Time zone in which a `timestamp` or `date` replication key is written; `None`: the database's.
    pub timezone: Option<String>,
    /// SQL condition at the source.
    pub filter: Option<String>,
    /// Columns read; `None`: all that are not excluded.
    pub include: Option<Vec<String>>,
    /// Columns left out.
    pub exclude: Vec<String>,
    /// Masks by column.
    pub mask: BTreeMap<String, Mask>,
    /// Deletes.
    pub deletes: Deletes,
    /// Whether a column dropped at the source is dropped in the warehouse.
    pub drop: bool,
    /// What a changed source table leads to; the pipeline's unless the table has its own.
    pub on_schema_change: SchemaPolicy,
    /// Quality checks.
    pub checks: Vec<Check>,
}

/// How a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Rows whose replication key is not before the watermark, merged by key.
    Incremental,
    /// As incremental, for rows that are only ever added.
    Append,
    /// Every row each time; the difference is written.
    FullRefresh,
}

/// How far behind the watermark reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lookback {
    /// Length.
    pub span: Span,
    /// Whether it came from `defaults:`.
    pub inherited: bool,
}

/// A length of a replication key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// For timestamps and dates.
    Time(#[serde(serialize_with = "write_duration")] Duration),
    /// For integers and xmin.
    Count(u64),
}

/// What happens to rows whose replication key is NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NullKeys {
    /// They are read each time.
    Load,
    /// One such row is 65.
    Refuse,
}

/// A mask, applied in the client; ordered by strictness, so that of two the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// HMAC-SHA-256 of the value's text, hex; the key is variable `hmac_key`.
    Hmac,
    /// The word `[redacted]`.
    Redact,
    /// NULL.
    Nullify,
}

/// `deletes:`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Deletes {
    /// What becomes of a row that is gone from the source.
    pub mode: DeleteMode,
    /// How often an incremental table's keys are compared.
    #[serde(serialize_with = "write_duration")]
    pub every: Duration,
    /// The brake: a larger share of the live rows (0.0 to 1.0) is refused with 65.
    pub at_most: f64,
}

/// What becomes of a row that is gone from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeleteMode {
    /// It stays, with `_sankofa_deleted_at` set.
    Soft,
    /// It goes.
    Hard,
    /// Nothing: absence is not looked for.
    Ignore,
}

/// `on_schema_change:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaPolicy {
    /// Change the warehouse table and read everything again.
    FullRefresh,
    /// Change the warehouse table and go on.
    Evolve,
    /// Refuse with 65.
    Fail,
}

/// `publish:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Publish {
    /// All tables of a run in one commit.
    Together,
    /// Each table in a commit of its own.
    Each,
}

/// One quality check of one table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What is measured, against which bound.
    pub rule: Rule,
    /// Which rows.
    pub scope: Scope,
    /// What a miss leads to.
    pub severity: Severity,
}

/// What a check measures, against which bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// At least so many rows.
    MinRows(u64),
    /// At most so many rows.
    MaxRows(u64),
    /// The row count may differ from the previous run's by at most this share of it (0.3 = 30 %).
    MaxChange(f64),
    /// At most this share of NULLs in the column.
    NullRate { column: String, at_most: f64 },
    /// No two rows equal in these columns (NULLs are distinct).
    Unique(Vec<String>),
    /// The newest value of the column is at most so old.
    Freshness {
        column: String,
        #[serde(serialize_with = "write_duration")]
        at_most: Duration,
    },
    /// Every value of the column that is not NULL is one of these, as text.
    Accepted { column: String, values: Vec<String> },
    /// Every value of the columns that is not NULL is found in `table`(`to`), a table in the warehouse.
    References { columns: Vec<String>, table: TableName, to: Vec<String> },
    /// A query that returns no row; `{table}` stands for the rows in scope.
    Sql { name: String, query: String },
}

/// Which rows a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This run's rows.
    Batch,
    /// The table as it would be published.
    Table,
}

/// What a miss leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is told; the run goes on.
    Warn,
    /// Nothing is published (65).
    Fail,
}
