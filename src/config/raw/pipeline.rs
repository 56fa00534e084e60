//! `pipelines/<name>.yaml` as it is written.
//!
//! In:    a tree. Out: [`PipelineFile`]. Not here: what is filled in (`resolve::pipeline`).

use super::project::Overlay;
use super::{Form, No, Ordered, checks::Checks};
use crate::config::model::{Assets, DeleteMode, Mask, Mode, NullKeys, Publish, RunAs, SchemaPolicy};
use crate::config::words::{Cores, Length, Reach, Share, Size};
use schemars::JsonSchema;
use serde::Deserialize;

/// A pipeline: which tables of one source go into which schema of the warehouse, and how.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pipeline")]
pub struct PipelineFile {
    /// Name of the pipeline; the file's own name without it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Id of the connection to read from.
    pub source: String,
    /// Schema in the warehouse; made if it is not there.
    pub schema: String,
    /// When the scheduler starts it.
    pub schedule: Option<ScheduleKeys>,
    /// How often the scheduler tries again.
    pub retries: Option<u32>,
    /// How long a run may take.
    pub timeout: Option<Length>,
    /// How long the scheduler waits before it tries again; longer each time.
    pub retry_delay: Option<Length>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What the container of a run may use.
    pub resources: Option<ResourceKeys>,
    /// As three tasks, `extract >> validate >> load` (`steps`, default), or as one (`sync`).
    pub run_as: Option<RunAs>,
    /// What other DAGs can wait for: the pipeline's schema (`schema`, default), or each table too (`tables`).
    pub assets: Option<Assets>,
    /// What holds for every table that does not say otherwise.
    pub defaults: Option<Defaults>,
    /// What a changed source schema leads to: `full_refresh` (default), `evolve` or `fail`.
    pub on_schema_change: Option<SchemaPolicy>,
    /// All tables in one commit (`together`, default), or each in its own (`each`).
    pub publish: Option<Publish>,
    /// Sessions that read the source side by side; 2 by default.
    #[schemars(range(min = 1, max = 64))]
    pub connections: Option<u64>,
    /// How long one statement may run on the source; 1h by default.
    pub statement_timeout: Option<Length>,
    /// How long a run may hold its snapshot of the source, which holds back VACUUM there; no bound by default.
    pub max_snapshot_age: Option<Length>,
    /// The largest row that is moved; 256MiB by default.
    pub max_row_bytes: Option<Size>,
    /// Encoding to read a source in whose own is `SQL_ASCII` or wrong.
    pub encoding: Option<String>,
    /// The tables, by `schema.table` as SQL writes it: what is not in double quotes is lower case.
    #[schemars(with = "Ordered<Option<TableKeys>>")]
    pub tables: Ordered<TableKeys>,
    /// SQL files that run in the publishing commit, relative to the project directory.
    #[serde(default)]
    pub after: Vec<Form<String, No, Script>>,
    /// By name, what differs when `--env NAME` is given: merged onto this file key by key.
    #[serde(default)]
    pub environments: Ordered<Overlay>,
}

/// What the container of a run may use.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Resources")]
pub struct ResourceKeys {
    /// Processor cores, such as 0.5 or 2.
    pub cpu: Option<Cores>,
    /// Memory, such as 512MiB; more than that and it is killed.
    pub memory: Option<Size>,
}

/// When the scheduler starts a pipeline.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Schedule")]
pub struct ScheduleKeys {
    /// Five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    pub cron: String,
    /// IANA name of the time zone in which `cron` is meant; UTC by default.
    pub timezone: Option<String>,
    /// Whether runs that were missed are made up for; `false` by default.
    pub catchup: Option<bool>,
}

/// What holds for every table that does not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// `incremental` when a replication key is known, else `full_refresh`.
    pub mode: Option<Mode>,
    /// A column, or `xmin`.
    pub replication_key: Option<String>,
    /// How far behind the watermark reading starts; ignored where its unit does not fit the key.
    pub lookback: Option<Reach>,
    /// Rows whose replication key is NULL: `load` (default), each time, or `refuse`.
    pub null_keys: Option<NullKeys>,
    /// Time zone in which a replication key without one is written; the database's by default.
    pub timezone: Option<String>,
    /// Rows that are gone from the source; not applied to tables in mode `append`.
    pub deletes: Option<DeletesKeys>,
    /// Whether a column dropped at the source is dropped in the warehouse; by default it stays, NULL in every row read since.
    pub drop: Option<bool>,
}

/// One table; everything may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Table")]
pub struct TableKeys {
    /// Name in the warehouse; the source's by default.
    pub target: Option<String>,
    /// How it is read.
    pub mode: Option<Mode>,
    /// Column or columns by which rows are merged; the primary key by default.
    pub key: Option<Form<String, Vec<String>>>,
    /// A column that grows with every change, or `xmin`.
    pub replication_key: Option<String>,
    /// How far behind the watermark reading starts.
    pub lookback: Option<Reach>,
    /// Rows whose replication key is NULL: `load` each time, or `refuse`.
    pub null_keys: Option<NullKeys>,
    /// Time zone in which a replication key without one is written.
    pub timezone: Option<String>,
    /// SQL condition at the source; rows that stop meeting it count as deleted.
    pub filter: Option<String>,
    /// Which columns are read.
    pub columns: Option<Columns>,
    /// Masks by column: `hmac`, `nullify`, `redact`.
    #[serde(default)]
    pub mask: Ordered<Mask>,
    /// Rows that are gone from the source.
    pub deletes: Option<DeletesKeys>,
    /// Whether a column dropped at the source is dropped in the warehouse.
    pub drop: Option<bool>,
    /// As for the pipeline, for this table alone.
    pub on_schema_change: Option<SchemaPolicy>,
    /// Quality checks.
    pub checks: Option<Checks>,
}

/// Which columns are read; names are exact, as the catalog spells them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Only these.
    pub include: Option<Vec<String>>,
    /// All but these.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// Rows that are gone from the source.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deletes")]
pub struct DeletesKeys {
    /// `soft` marks them, `hard` deletes them, `ignore` does not look for them.
    pub mode: Option<DeleteMode>,
    /// How often an incremental table's keys are compared; 1d by default.
    pub every: Option<Length>,
    /// The brake: a larger share of the table is refused; 20% by default.
    pub at_most: Option<Share>,
}

/// SQL that a compiled pipeline carries with it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Path of the file it was read from.
    pub file: String,
    /// Its text.
    pub sql: String,
}
