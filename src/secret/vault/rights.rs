//! What our login may do in Vault, as Vault itself says.

use super::call::Other;
use super::session::Session;
use crate::error::Failure;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Capabilities by path, such as `read` on `airflow/data/connections/hr_db`.
pub type Rights = BTreeMap<String, Vec<String>>;

/// What our token may do on each of `paths`.
///
/// # Errors
/// As a read; 77 where the policy does not even allow to ask (`sys/capabilities-self`).
pub async fn on(session: &Session, paths: &[String]) -> Result<Rights, Failure> {
    let path = "sys/capabilities-self";
    let request = || Other { path: path.into(), body: Some(json!({ "paths": paths })) };
    let doing = format!("cannot ask Vault at {} what this login may do", session.settings().address);
    let answer =
        session.ask(request, true).await?.map_err(|fault| super::kv::refused(&fault, &doing, path))?;
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let of = |path: &String| {
        (path.clone(), answer.get("data").and_then(|data| data.get(path)).map(words).unwrap_or_default())
    };
    Ok(paths.iter().map(of).collect())
}

/// Every path that our policies name, with its capabilities (`sys/internal/ui/resultant-acl`).
///
/// # Errors
/// As [`on`].
pub async fn all(session: &Session) -> Result<Rights, Failure> {
    let path = "sys/internal/ui/resultant-acl";
    let request = || Other { path: path.into(), body: None };
    let doing = format!("cannot ask Vault at {} for the policies in force", session.settings().address);
    let answer =
        session.ask(request, true).await?.map_err(|fault| super::kv::refused(&fault, &doing, path))?;
    let mut rights = Rights::new();
    if answer.pointer("/data/root") == Some(&Value::Bool(true)) {
        rights.insert("*".into(), vec!["root".into()]);
    }
    for (list, star) in [("exact_paths", ""), ("glob_paths", "*")] {
        let paths = answer.get("data").and_then(|data| data.get(list)).and_then(Value::as_object);
        for (path, entry) in paths.into_iter().flatten() {
            let words = entry["capabilities"].as_array().into_iter().flatten().filter_map(Value::as_str);
            rights.insert(format!("{path}{star}"), words.map(str::to_owned).collect());
        }
    }
    Ok(rights)
}
