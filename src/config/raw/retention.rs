//! `retention:` of `sankofa.yaml` as it is written.
//!
//! In:    a tree. Out: [`RetentionKeys`]. Not here: what is filled in (`resolve::retention`).

use crate::config::words::Length;
use schemars::JsonSchema;
use serde::Deserialize;

/// How long what is past is kept; `sankofa prune` deletes what is older. The newest 20 of each pipeline and database
/// stay, however old, and so does whatever a watermark, a contract or a table set aside needs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retention")]
pub struct RetentionKeys {
    /// Runs of pipelines in the ledger, with the figures of their tables; 400d by default, 35d at least: for so
    /// long a scheduler may ask for a run again, which must be known as done.
    pub runs: Option<Length>,
    /// What checks have found, in the ledger; 400d by default, never longer than its run.
    pub checks: Option<Length>,
    /// Records of backups, verifications, drills and coverage in the ledger; 400d by default.
    pub records: Option<Length>,
    /// Records of drills in the stores; 400d by default. The newest of each database that proved it stays.
    pub drills: Option<Length>,
}
