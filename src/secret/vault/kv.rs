//! Reads one secret of a key-value engine.
//!
//! In:    where it lies. Out: its fields and what may be told of it, or that there is none.
//! Holds: "there is none" is said only when Vault says just that: what was deleted, destroyed or is
//!        forbidden is 77, a wrong version of the engine 78.

use super::fault::Fault;
use super::json::Json;
use super::path::Spot;
use super::session::Session;
use super::settings::Kv;
use crate::error::Failure;
use serde_json::{Map, Value};
use vaultrs::api::kv1::requests::GetSecretRequest;
use vaultrs::api::kv2::requests::ReadSecretRequest;

/// One secret.
pub struct Secret {
    /// Its fields.
    pub fields: Map<String, Value>,
    /// What it is, in words: `KV 2, version 3 of airflow/connections/hr_db`.
    pub kind: String,
}

/// Reads the secret at `spot`; `None` where there is none.
///
/// # Errors
/// 77 where Vault refuses, or the version was deleted or destroyed; 78 for an engine of another
/// version; 75 where Vault does not answer.
pub async fn read(session: &Session, spot: &Spot) -> Result<Option<Secret>, Failure> {
    let (mount, path) = (spot.mount.clone(), spot.path.clone());
    let (answer, full) = match session.settings().kv {
        Kv::One => {
            let request = || GetSecretRequest { mount: mount.clone(), path: path.clone() };
            (session.ask(request, true).await?, format!("{mount}/{path}"))
        }
        Kv::Two => {
            let request = || ReadSecretRequest { mount: mount.clone(), path: path.clone(), version: None };
            (session.ask(request, true).await?, format!("{mount}/data/{path}"))
        }
    };
    let doing = format!("cannot read {full} from Vault at {}", session.settings().address);
    match answer {
        Ok(answer) => secret_of(answer, session.settings().kv, spot, &doing),
        Err(Fault::Refused { status: 404, errors }) if errors.is_empty() => Ok(None),
        Err(Fault::Refused { status: 404, errors }) if is_no_mount(&errors) => {
            if session.settings().mount.is_none() {
                return Ok(None); // as Airflow: the first part of an id may be anything
            }
            let failure = Failure::config(format!("{doing}: nothing is mounted at {mount}"));
            Err(failure.hint("Compare `mount:` in sankofa.yaml with `vault secrets list`."))
        }
        Err(fault) => Err(refused(&fault, &doing, &full)),
    }
}

fn is_no_mount(errors: &[String]) -> bool {
    errors.iter().any(|error| error.contains("no handler for route"))
}

/// The failure of a read; a 403 names the line that the policy lacks.
pub fn refused(fault: &Fault, doing: &str, path: &str) -> Failure {
    let failure = fault.failure(doing);
    if fault.status() != Some(403) {
        return failure;
    }
    failure.hint(format!(
        "The policy of this login needs `path \"{path}\" {{ capabilities = [\"read\"] }}`; the shipped policies are in nomad/policies, \
         and `sankofa secrets policy` prints what this project needs."
    ))
}

fn secret_of(mut answer: Json, kv: Kv, spot: &Spot, doing: &str) -> Result<Option<Secret>, Failure> {
    let place = format!("{}/{}", spot.mount, spot.path);
    if kv == Kv::One {
        let fields = answer.take_object("/data");
        return Ok(fields.map(|fields| Secret { fields, kind: format!("KV 1, {place}") }));
    }
    let version = answer.pointer("/data/metadata/version").and_then(Value::as_u64);
    let Some(version) = version else {
        return Err(Failure::config(format!("{doing}: the engine has no versions"))
            .hint("It is of version 1: write `kv: 1` in sankofa.yaml."));
    };
    if answer.is("/data/metadata/destroyed") {
        return Err(Failure::permission(format!("{doing}: version {version} was destroyed"))
            .hint("Write a new version, or take the id out of the project."));
    }
    let Some(fields) = answer.take_object("/data/data") else {
        return Err(Failure::permission(format!("{doing}: version {version} was deleted")).hint(
            "Undelete it (`vault kv undelete`), write a new version, or take the id out of the project.",
        ));
    };
    Ok(Some(Secret { fields, kind: format!("KV 2, version {version} of {place}") }))
}
