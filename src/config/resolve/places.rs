//! `files:` and `aws_secrets_manager:` of `secrets:`.
//!
//! In:    the keys as written. Out: what holds, Airflow's own defaults filled in.
//! Not here: asking them (`secret`).

use super::At;
use crate::config::model::{AwsPlace, FilesPlace, SecretPlace};
use crate::config::node::{Fault, shown, suggest};
use crate::config::raw::project::{AwsSecretsManager, Prefix, SecretFiles};
use std::path::Path;

/// What a file's name may end with.
const ENDINGS: &[&str] = &["yaml", "yml", "json", "env"];
/// Fields that may have more names; `user` is an old name of `login`.
const FIELDS: &[&str] = &["login", "user", "password", "host", "port", "schema", "conn_type", "extra"];

/// `files:`, the place number `index`.
///
/// # Errors
/// A [`Fault`]: it names no file, or one whose name does not say how it is read.
pub(super) fn files(at: At<'_>, index: usize, keys: &SecretFiles, home: &Path) -> Result<SecretPlace, Fault> {
    let index = index.to_string();
    let file = |key: &str, name: &Option<String>| {
        let Some(name) = name else { return Ok(None) };
        let ending = Path::new(name).extension().and_then(|end| end.to_str()).unwrap_or_default();
        if !ENDINGS.contains(&ending.to_lowercase().as_str()) {
            let what = "expected a file whose name ends with .yaml, .yml, .json or .env";
            return Err(at.fault(&["secrets", &index, "files", key], what));
        }
        Ok(Some(home.join(name)))
    };
    let connections = file("connections", &keys.connections)?;
    let variables = file("variables", &keys.variables)?;
    if connections.is_none() && variables.is_none() {
        return Err(
            at.fault(&["secrets", &index, "files"], "expected a file of connections, of variables, or both")
        );
    }
    Ok(SecretPlace::Files(FilesPlace { connections, variables }))
}

/// `aws_secrets_manager:`, the place number `index`.
///
/// # Errors
/// A [`Fault`]: a field that is none, or an `endpoint_url` that no secret may come from.
pub(super) fn aws(at: At<'_>, index: usize, keys: &AwsSecretsManager) -> Result<SecretPlace, Fault> {
    let index = index.to_string();
    let path = |key| ["secrets", index.as_str(), "aws_secrets_manager", key];
    let prefix = |prefix: &Prefix, usual: &str| match prefix {
        Prefix::Unsaid => Some(usual.to_owned()),
        Prefix::Of(text) => Some(text.clone()),
        Prefix::Off => None,
    };
    if let Some(field) = keys.extra_conn_words.names().find(|field| !FIELDS.contains(field)) {
        let fault = at.fault(&path("extra_conn_words"), format!("there is no field {}", shown(field)));
        return Err(fault.hint(suggest(field, FIELDS)));
    }
    let is_word =
        |text: &&String| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if keys.region.as_ref().is_some_and(|region| !is_word(&region)) {
        return Err(at.fault(&path("region"), "expected a region such as eu-west-1"));
    }
    Ok(SecretPlace::AwsSecretsManager(Box::new(AwsPlace {
        region: keys.region.clone(),
        connections: prefix(&keys.connections, "airflow/connections"),
        variables: prefix(&keys.variables, "airflow/variables"),
        sep: keys.sep.clone().unwrap_or_else(|| "/".to_owned()),
        extra_conn_words: keys.extra_conn_words.0.iter().cloned().collect(),
        profile: keys.profile.clone(),
        role_arn: keys.role_arn.clone(),
        endpoint_url: keys.endpoint_url.clone(),
    })))
}
