//! Where connections and variables are asked for: the places of `secrets:`, resolved.
//!
//! In:    nothing; `config` builds these. Out: plain values, which `cmd::open` makes places of.

use super::needs::Class;
use crate::secret::vault::Settings;
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
    Vault(Box<VaultPlace>),
}

/// `vault:` of `secrets:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VaultPlace {
    /// What holds for every class.
    #[serde(flatten)]
    pub settings: Settings,
    /// By connection id, the paths that give user and password to one class each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dynamic_by_class: BTreeMap<String, BTreeMap<Class, String>>,
}

impl VaultPlace {
    /// What holds for `class`.
    pub fn of_class(&self, class: Class) -> Settings {
        let mut settings = self.settings.clone();
        let own = self.dynamic_by_class.iter().filter_map(|(id, paths)| Some((id, paths.get(&class)?)));
        settings.dynamic.extend(own.map(|(id, path)| (id.clone(), path.clone())));
        settings
    }
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
