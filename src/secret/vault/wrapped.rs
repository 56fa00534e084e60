//! A secret id that was sent wrapped: whoever unwraps it first has it, and nobody after him.
//!
//! In:    a wrapping token, alone or as Vault's `wrap_info` object, which knows when it expires.
//! Out:   the secret id.
//! Holds: where the token comes from is looked up before it is spent, so that nobody can slip us a
//!        wrapping of his own; one that is spent already is told loudly, for somebody else has it.

use super::call::Client;
use super::fault::Fault;
use crate::error::Failure;
use jiff::{Timestamp, ToSpan};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tracing::error;
use vaultrs::api::sys::requests::{UnwrapRequest, WrappingLookupRequest};

/// A wrapping token, and when it ends, where that is known.
struct Wrapping {
    token: SecretString,
    ends: Option<Timestamp>,
}

/// Unwraps `given`, a secret id of approle mount `mount`.
///
/// # Errors
/// 75 when it has expired unused; 77 when it was spent, or wraps something else; 75 when Vault does not answer.
pub async fn unwrap(
    client: &Client,
    address: &str,
    mount: &str,
    given: &SecretString,
) -> Result<SecretString, Failure> {
    let wrapping = Wrapping::read(given.expose_secret())?;
    let doing = format!("cannot unwrap the secret id at Vault at {address}");
    let lookup = WrappingLookupRequest { token: wrapping.token.expose_secret().to_owned() };
    let found = match client.call(None, lookup, true).await {
        Ok(found) => found,
        Err(fault) => return Err(wrapping.gone(&doing, &fault, Timestamp::now())),
    };
    let path = found.text("/data/creation_path").unwrap_or_default();
    if !is_secret_id_of(path, mount) {
        error!(mount, "the wrapped secret id was not made by approle: somebody put another in its place");
        return Err(Failure::permission(format!("{doing}: it does not wrap a secret id of auth/{mount}"))
            .hint("Find out who could write it: what was there is not what the launcher asked Vault for."));
    }
    let unwrapped = client.call(Some(&wrapping.token), UnwrapRequest { token: None }, false).await;
    let answer = unwrapped.map_err(|fault| wrapping.gone(&doing, &fault, Timestamp::now()))?;
    let secret_id = answer.text("/data/secret_id").filter(|text| !text.is_empty());
    secret_id
        .map(SecretString::from)
        .ok_or_else(|| Failure::permission(format!("{doing}: there is none in it")))
}

/// Whether a secret id of a role of `mount` is made at `path`.
fn is_secret_id_of(path: &str, mount: &str) -> bool {
    let role = path.strip_prefix("auth/").and_then(|rest| rest.strip_prefix(mount));
    let role =
        role.and_then(|rest| rest.strip_prefix("/role/")).and_then(|rest| rest.strip_suffix("/secret-id"));
    role.is_some_and(|role| !role.is_empty() && !role.contains('/'))
}

impl Wrapping {
    fn read(text: &str) -> Result<Wrapping, Failure> {
        if !text.starts_with('{') {
            return Wrapping::of(text, None);
        }
        let object: Value = serde_json::from_str(text).unwrap_or_default();
        let info = object.get("wrap_info").unwrap_or(&object);
        let made = info["creation_time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let ends =
            made.zip(info["ttl"].as_i64()).and_then(|(made, ttl)| made.checked_add(ttl.seconds()).ok());
        Wrapping::of(info["token"].as_str().unwrap_or_default(), ends)
    }

    fn of(token: &str, ends: Option<Timestamp>) -> Result<Wrapping, Failure> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::config("cannot unwrap the secret id: what is given is no wrapping token")
                .hint("Give the token, or the whole object that `vault write -wrap-ttl=120s -format=json -f ...` prints."));
        }
        Ok(Wrapping { token: SecretString::from(token), ends })
    }

    /// What `fault` means for a token that should have been there.
    fn gone(&self, doing: &str, fault: &Fault, now: Timestamp) -> Failure {
        if !matches!(fault, Fault::Refused { status: 400 | 403 | 404, .. }) {
            return fault.failure(doing);
        }
        match self.ends {
            Some(ends) if ends <= now => Failure::temporary(format!("{doing}: it expired before it was used"))
                .hint("Start it again: the launcher asks for a new one; a longer -wrap-ttl helps where the queue is long."),
            Some(_) => {
                error!("the wrapped secret id was taken by somebody else: it is spent, before its time");
                Failure::permission(format!("{doing}: it was taken by somebody else")).hint(
                    "Destroy that secret id in Vault now, and find out who could read it on its way.",
                )
            }
            None => {
                error!("the wrapped secret id is spent or expired; if it was not too old, somebody else took it");
                Failure::permission(format!("{doing}: it is spent or expired, maybe taken by somebody else"))
                    .hint("Give the whole `wrap_info` object instead of the token alone: it tells the two apart.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(given: &str, now: &str) -> (u8, String) {
        let fault = Fault::Refused {
            status: 400,
            errors: vec!["wrapping token is not valid or does not exist".into()],
        };
        let failure = Wrapping::read(given).unwrap().gone("cannot unwrap", &fault, now.parse().unwrap());
        (failure.kind.exit_code(), failure.what)
    }

    #[test]
    fn a_wrapping_that_expired_is_75_and_one_that_was_spent_before_its_time_is_77() {
        let info =
            r#"{"wrap_info": {"token": "hvs.MARK", "ttl": 120, "creation_time": "2026-11-21T10:00:00.5Z"}}"#;
        assert_eq!(gone(info, "2026-11-21T10:02:01Z").0, 75);
        let (code, what) = gone(info, "2026-11-21T10:01:00Z");
        assert_eq!((code, what.as_str()), (77, "cannot unwrap: it was taken by somebody else"));
        assert_eq!(gone("hvs.MARK", "2026-11-21T10:01:00Z").0, 77);
    }

    #[test]
    fn what_is_no_wrapping_token_is_78_and_is_not_repeated() {
        for given in ["MARK MARK", "{MARK", r#"{"tokn": "MARK"}"#] {
            let failure = Wrapping::read(given).err().unwrap();
            assert!(failure.kind.exit_code() == 78 && !failure.what.contains("MARK"), "{}", failure.what);
        }
    }

    #[test]
    fn only_the_path_where_secret_ids_are_made_is_taken() {
        assert!(is_secret_id_of("auth/approle/role/rows/secret-id", "approle"));
        for path in [
            "",
            "sys/wrapping/wrap",
            "auth/other/role/rows/secret-id",
            "auth/approle/role//secret-id",
            "auth/approle/role/a/b/secret-id",
            "auth/approle/role/rows/secret-id-accessor/lookup",
        ] {
            assert!(!is_secret_id_of(path, "approle"), "{path}");
        }
    }
}
