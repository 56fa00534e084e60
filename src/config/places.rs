//! Where connections and variables are asked for: the places of `secrets:`, resolved.
//!
//! In:    nothing; `config` builds these. Out: plain values, which `cmd::open` makes places of.

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One place of `secrets:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    /// `AIRFLOW_CONN_<ID>` and `AIRFLOW_VAR_<KEY>` of the process.
    Environment,
    /// AWS Secrets Manager.
    AwsSecretsManager(Box<AwsPlace>),
    /// Airflow's local files.
    Files(FilesPlace),
    /// HashiCorp Vault or OpenBao.
    Vault(Box<crate::secret::vault::Settings>),
}

/// `files:` of `secrets:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilesPlace {
    /// File of connections.
    pub connections: Option<PathBuf>,
    /// File of variables.
    pub variables: Option<PathBuf>,
}

/// `aws_secrets_manager:` of `secrets:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AwsPlace {
    /// Region; `None`: that of the environment or the profile.
    pub region: Option<String>,
    /// Prefix of connections; `None`: none is asked for.
    pub connections: Option<String>,
    /// Prefix of variables; `None`: none is asked for.
    pub variables: Option<String>,
    /// What stands between prefix and id.
    pub sep: String,
    /// More names of fields, by field.
    pub extra_conn_words: BTreeMap<String, Vec<String>>,
    /// Profile of the shared files.
    pub profile: Option<String>,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// URL of the service.
    pub endpoint_url: Option<String>,
}
