//! `backups:` and `drill:` of `sankofa.yaml` as they are written.
//!
//! In:    a tree. Out: [`Backups`], [`Drill`]. Not here: what is filled in (`resolve::backups`).

use super::Ordered;
use crate::config::model::Codec;
use crate::config::words::Length;
use crate::store::LockMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is backed up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// What holds for every database that does not say otherwise.
    #[serde(default)]
    pub defaults: BackupKeys,
    /// The databases, by name.
    #[serde(default)]
    pub databases: Ordered<BackupKeys>,
    /// Connections to servers: every database found there must be listed or ignored.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Databases that are not backed up, by name.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// How one database is backed up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backup")]
pub struct BackupKeys {
    /// Id of its connection.
    pub connection: Option<String>,
    /// Name of a store.
    pub store: Option<String>,
    /// age recipients.
    pub encrypt_to: Option<Vec<String>>,
    /// What is kept.
    pub keep: Option<Keep>,
    /// A newest backup older than this is late.
    pub expected_every: Option<Length>,
    /// A restore that would take longer is said.
    pub restore_within: Option<Length>,
    /// Connection with the key that may delete.
    pub prune_connection: Option<String>,
    /// Which one scheduler starts it.
    pub scheduled_by: Option<Scheduler>,
    /// Variables with the identities that open its backups, asked in order; `age_identity` by default.
    pub identities: Option<Vec<String>>,
    /// How the archive is packed before it is encrypted; zstd by default.
    pub codec: Option<Codec>,
    /// Object Lock of everything that is uploaded; none by default.
    pub lock: Option<Lock>,
}

/// Object Lock: until when the store refuses to delete what was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Days from the upload.
    #[schemars(range(min = 1, max = 36_500))]
    pub days: u32,
    /// Who may end it early.
    pub mode: LockMode,
}

/// What is kept of a database's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Days.
    #[schemars(range(max = 36_500))]
    pub days: u32,
    /// The newest good ones stay, whatever their age.
    #[schemars(range(min = 1))]
    pub at_least: u32,
    /// Of this many days the last one stays.
    #[serde(default)]
    pub daily: u32,
    /// Of this many weeks the last one stays.
    #[serde(default)]
    pub weekly: u32,
    /// Of this many months the last one stays.
    #[serde(default)]
    pub monthly: u32,
}

/// Who starts a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// Nomad.
    Nomad,
    /// Airflow.
    Airflow,
    /// cron.
    Cron,
}

/// Where backups are restored to be proven.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Id of the connection.
    pub connection: String,
}
