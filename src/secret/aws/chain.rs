//! Who asks AWS: credentials found as botocore finds them, kept, and renewed before they end.
//!
//! In:    the environment, the shared files, what the project says.
//! Out:   credentials; calls signed with them.
//! Holds: they are asked for once and again five minutes before they end; refused as too old they are
//!        asked for once more; tokens are read from their files at every login.
//! Not here: the order of the ways (`plan`), the ways themselves (`sts`, `container`, `instance`).

mod plan;

pub(super) use plan::none_found;

use super::call::{Call, Http};
use super::fault::Fault;
use super::profile::Profiles;
use super::{container, instance, sts};
use crate::error::Failure;
use anyhow::Result;
use aws_credential_types::Credentials;
use plan::Way;
use reqwest::Url;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// What the project says of who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Region; `None`: that of the environment or the profile.
    pub region: Option<String>,
    /// Profile of the shared files; with one the environment's keys do not count.
    pub profile: Option<String>,
    /// Role to assume before anything is asked.
    pub role_arn: Option<String>,
}

/// The environment that the chain looks at: that of this process, or given variables.
#[derive(Clone)]
pub struct Ambient(Option<Arc<BTreeMap<String, String>>>);

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Ambient(given)" } else { "Ambient(process)" })
    }
}

impl Ambient {
    /// The environment of this process, looked at when asked.
    pub fn process() -> Ambient {
        Ambient(None)
    }

    /// These variables and no others.
    pub fn given<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Ambient {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Ambient(Some(Arc::new(variables.collect())))
    }

    /// The variable `name`, if it is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let value = match &self.0 {
            Some(given) => given.get(name).cloned(),
            None => std::env::var(name).ok(),
        };
        value.filter(|value| !value.is_empty())
    }

    /// Whether the variable `name` says `true`.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The profiles of the shared files; a file that is not there has none.
    fn profiles(&self) -> Result<Profiles, Failure> {
        let read = |variable: &str, usual: &str| {
            let home = self.get("HOME").unwrap_or_else(|| "/nonexistent".to_owned());
            let path = match self.get(variable) {
                Some(path) => path
                    .strip_prefix("~/")
                    .map_or(PathBuf::from(&path), |rest| PathBuf::from(&home).join(rest)),
                None => PathBuf::from(&home).join(".aws").join(usual),
            };
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Zeroizing::new(text)),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let what = format!("cannot read {}: this user may not", path.display());
                    Err(Failure::permission(what))
                }
                Err(_) => Ok(Zeroizing::new(String::new())),
            }
        };
        let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        Ok(Profiles::of(&credentials, &read("AWS_CONFIG_FILE", "config")?))
    }
}

/// The chain. Copies share what it found; safe to print.
#[derive(Clone)]
pub struct Chain {
    who: Who,
    ambient: Ambient,
    kept: Arc<Mutex<Option<Credentials>>>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("who", &self.who).finish_non_exhaustive()
    }
}

/// Credentials that end sooner are renewed.
const AHEAD: Duration = Duration::from_secs(300);

/// Why a signed call came to nothing: no credentials, or the service said no.
pub(super) enum Refused {
    /// No credentials.
    Chain(anyhow::Error),
    /// The service's word.
    Call(Fault),
}

impl Refused {
    /// With `cannot` above it, where it is not the service's word.
    pub fn of(self, cannot: &str) -> Refused {
        match self {
            Refused::Chain(error) => Refused::Chain(error.context(cannot.to_owned())),
            call @ Refused::Call(_) => call,
        }
    }
}

impl Chain {
    /// The chain of `who` in this environment. Nobody is asked yet.
    pub fn new(who: Who, ambient: Ambient) -> Chain {
        Chain { who, ambient, kept: Arc::default() }
    }

    /// Credentials that do not end at once.
    ///
    /// Cost: none while those that are kept last; else one exchange, two for a role.
    ///
    /// # Errors
    /// 77 where there are none or a role may not be assumed; 75 where an endpoint does not answer; 78 for
    /// a profile that cannot be used.
    pub async fn credentials(&self) -> Result<Credentials> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        let lasts = |of: &Credentials, ahead| of.expiry().is_none_or(|end| end > now + ahead);
        if let Some(found) = kept.as_ref().filter(|found| lasts(found, AHEAD)) {
            return Ok(found.clone());
        }
        match self.found().await {
            Ok(found) => {
                *kept = Some(found.clone());
                Ok(found)
            }
            Err(error) => match kept.as_ref().filter(|found| lasts(found, Duration::ZERO)) {
                Some(found) => {
                    tracing::warn!(why = %format!("{error:#}"), "credentials could not be renewed yet");
                    Ok(found.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Where the credentials come from, in words.
    pub async fn origin(&self) -> Result<&'static str> {
        Ok(plan_of(&self.who, &self.ambient).await?.word())
    }

    /// Sends `call` signed; once more with new credentials if these were too old.
    pub(super) async fn signed(&self, http: &Http, call: &Call<'_>) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let by = self.credentials().await.map_err(Refused::Chain)?;
        match call.send(http, Some(&by)).await {
            Err(fault) if fault.is_expired() && by.expiry().is_some() => {
                *self.kept.lock().await = None;
                let by = self.credentials().await.map_err(Refused::Chain)?;
                call.send(http, Some(&by)).await.map_err(Refused::Call)
            }
            other => other.map_err(Refused::Call),
        }
    }

    /// The region to ask in.
    ///
    /// # Errors
    /// 78 when nobody names one.
    pub fn region(&self) -> Result<String> {
        let by_file = || {
            let profile = self.profile();
            self.ambient.profiles().ok().and_then(|all| all.get(&profile, "region").map(str::to_owned))
        };
        let by_variable =
            || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| self.ambient.get(name));
        self.who.region.clone().or_else(by_variable).or_else(by_file).ok_or_else(|| {
            Failure::config("cannot ask AWS: no region is named")
                .hint("Name it: `region: eu-west-1`, or AWS_REGION.")
                .into()
        })
    }

    fn profile(&self) -> String {
        let profile = self.who.profile.clone().or_else(|| self.ambient.get("AWS_PROFILE"));
        profile.unwrap_or_else(|| "default".to_owned())
    }

    /// The address of a service: as `given`, as the environment says, or AWS's own.
    ///
    /// # Errors
    /// 78 for one that no secret may come from.
    pub(super) fn endpoint(&self, service: &str, given: Option<&str>, region: &str) -> Result<Url> {
        endpoint(&self.ambient, service, given, region)
    }

    async fn found(&self) -> Result<Credentials> {
        let way = plan_of(&self.who, &self.ambient).await?;
        let region = self.region().ok();
        let mut keys = follow(&way, &self.ambient, region.as_deref()).await?;
        if let Some(role_arn) = &self.who.role_arn {
            let role = sts::Role { arn: role_arn.clone(), ..sts::Role::default() };
            keys = sts::assume(&role, &keys, &self.ambient, region.as_deref()).await?;
        }
        tracing::debug!(from = way.word(), "found credentials for AWS");
        Ok(keys)
    }
}

/// The way to credentials, from the environment and the shared files as they are now.
async fn plan_of(who: &Who, ambient: &Ambient) -> Result<Way> {
    let (who, ambient) = (who.clone(), ambient.clone());
    let plan = tokio::task::spawn_blocking(move || plan::plan(&who, &ambient, &ambient.profiles()?));
    Ok(plan.await??)
}

/// Goes a way to its end.
async fn follow(way: &Way, ambient: &Ambient, region: Option<&str>) -> Result<Credentials> {
    match way {
        Way::Keys(keys, _) => Ok(keys.clone()),
        Way::WebIdentity(role, token_file) => sts::with_web_identity(role, token_file, ambient, region).await,
        Way::Role(role, base) => {
            let base = Box::pin(follow(base, ambient, region)).await?;
            sts::assume(role, &base, ambient, region).await
        }
        Way::Container(endpoint) => container::ask(endpoint).await,
        Way::Instance => instance::ask(ambient).await,
        Way::Nowhere => Err(plan::none_found("")),
    }
}

/// See [`Chain::endpoint`].
pub(super) fn endpoint(ambient: &Ambient, service: &str, given: Option<&str>, region: &str) -> Result<Url> {
    let variable =
        format!("AWS_ENDPOINT_URL_{}", service.to_uppercase().replace("SECRETSMANAGER", "SECRETS_MANAGER"));
    let by_variable = || {
        let ignored = ambient.is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let named = ambient.get(&variable).or_else(|| ambient.get("AWS_ENDPOINT_URL"));
        named.filter(|_| !ignored)
    };
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let usual = format!("https://{service}.{region}.{suffix}");
    let text = given.map(str::to_owned).or_else(by_variable).unwrap_or(usual);
    let is_plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let url = Url::parse(&text).ok().filter(|url| is_safe(url) && is_plain(url));
    url.ok_or_else(|| {
        let what = format!("cannot ask AWS: the address of {service} is none that a secret may come from");
        let hint =
            format!("Write `endpoint_url` (or {variable}) as https://HOST; http only for this machine.");
        Failure::config(what).hint(hint).into()
    })
}

/// Whether a secret may go there: encrypted, or not leaving this machine.
fn is_safe(url: &Url) -> bool {
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}
