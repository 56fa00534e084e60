//! What our login may do in Vault, as Vault itself says.

use super::call::Other;
use super::session::Session;
use super::settings::{Auth, Settings};
use crate::error::Failure;
use crate::secret::Asked;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Capabilities by path, such as `read` on `airflow/data/connections/hr_db`.
pub type Rights = BTreeMap<String, Vec<String>>;
/// By path, the one capability that is needed there.
pub type Wanted = BTreeMap<String, &'static str>;
/// Whoever compares needs these two; every login may have them.
const HARMLESS: [&str; 2] = ["sys/capabilities-self", "sys/internal/ui/resultant-acl"];

impl Settings {
    /// What a policy must allow so that all of `asked` can be asked for here.
    pub fn wanted(&self, asked: &[Asked<'_>]) -> Wanted {
        let paths = asked.iter().flat_map(|one| self.paths(*one));
        let mut wanted: Wanted = paths.map(|path| (path, "read")).collect();
        let path = |one: &Asked<'_>| match one {
            Asked::Connection(id) => self.dynamic.get(*id),
            Asked::Variable(_) => None,
        };
        let leased: Vec<&String> = asked.iter().filter_map(path).collect();
        if leased.iter().any(|path| path.contains("/creds/")) {
            let lease = ["sys/leases/renew", "sys/leases/revoke"];
            wanted.extend(lease.map(|path| (path.to_owned(), "update")));
        }
        wanted.extend(leased.into_iter().map(|path| (path.clone(), "read")));
        if self.auth != Auth::Agent {
            wanted.insert("auth/token/renew-self".to_owned(), "update");
        }
        match self.auth {
            Auth::Agent => (),
            Auth::Token { .. } => drop(wanted.insert("auth/token/lookup-self".to_owned(), "read")),
            _ => drop(wanted.insert("auth/token/revoke-self".to_owned(), "update")),
        }
        wanted
    }
}

/// What is wanted and not allowed, such as `read on airflow/data/connections/hr_db`.
pub fn lacking(wanted: &Wanted, rights: &Rights) -> Vec<String> {
    let allows = |words: &Vec<String>, word: &str| words.iter().any(|one| one == word || one == "root");
    let is_lacking =
        |(path, word): &(&String, &&str)| !rights.get(*path).is_some_and(|words| allows(words, word));
    wanted.iter().filter(is_lacking).map(|(path, word)| format!("{word} on {path}")).collect()
}

/// What is allowed and not wanted.
pub fn too_much(wanted: &Wanted, rights: &Rights) -> Vec<String> {
    let mut beyond = Vec::new();
    for (path, words) in rights.iter().filter(|(path, _)| !HARMLESS.contains(&path.as_str())) {
        let extra =
            words.iter().filter(|word| *word != "deny" && wanted.get(path).is_none_or(|need| need != word));
        beyond.extend(extra.map(|word| format!("{word} on {path}")));
    }
    beyond
}

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
