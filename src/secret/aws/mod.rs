//! AWS Secrets Manager, in the layout of Airflow's SecretsManagerBackend; and who asks AWS.
//!
//! In:    prefixes, separator, more names of fields; the chain of credentials.
//! Out:   a connection given as URI or JSON; a variable as it stands.
//! Holds: a name that is not there sends the question on; one that is refused, or marked for deletion, is
//!        77; a clock that is off is said in words; no secret and no signature is in any text.
//! Not here: names and aliases (`layout`), HTTP and signatures (`call`), credentials (`chain`).
//!
//! Why not `aws-config` and `aws-sdk-secretsmanager`: they bring 171 crates, a second TLS provider
//! (ring, which deny.toml bans) and a release a week, for one call and a chain that ask three services.
//! `aws-sigv4`, AWS's own signer, is what is hard to get right, and S3 needs it anyway. The chain follows
//! botocore's order, and is tested against moto and stand-ins; what it does not do is refused by name.

mod call;
mod chain;
mod container;
mod fault;
mod instance;
mod layout;
mod profile;
mod sts;

pub use chain::{Ambient, Chain, Who};

use super::connection::Connection;
use super::place::{Answer, Asked, Place};
use super::wipe::Wiped;
use crate::error::Failure;
use anyhow::Result;
use call::{Call, Http};
use fault::Fault;
use futures_util::future::BoxFuture;
use layout::Layout;
use secrecy::SecretString;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// Where and how it is asked.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Prefix of connections; `None`: none is asked for.
    pub connections: Option<String>,
    /// Prefix of variables; `None`: none is asked for.
    pub variables: Option<String>,
    /// What stands between prefix and id.
    pub sep: String,
    /// More names of a connection's fields, by field.
    pub extra_conn_words: BTreeMap<String, Vec<String>>,
    /// URL of the service; `None`: that of the environment, or AWS's own in the region.
    pub endpoint_url: Option<String>,
    /// Who asks, and in which region.
    pub who: Who,
}

/// Secrets Manager as a place. Safe to print.
pub struct SecretsManager {
    layout: Layout,
    endpoint_url: Option<String>,
    chain: Chain,
}

impl fmt::Debug for SecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name(), self.layout)
    }
}

/// A secret's text and the version that it is of.
struct Found {
    text: Zeroizing<String>,
    version: String,
}

impl SecretsManager {
    /// The place that `settings` describe, asked as who `ambient` says. Nobody is asked yet.
    pub fn new(settings: Settings, ambient: Ambient) -> SecretsManager {
        let Settings { connections, variables, sep, extra_conn_words, endpoint_url, who } = settings;
        let layout = Layout { connections, variables, sep, extra_conn_words };
        SecretsManager { layout, endpoint_url, chain: Chain::new(who, ambient) }
    }

    /// The secret with the name of what is `asked` for.
    async fn look_up(&self, asked: Asked<'_>) -> Result<Option<(Found, String)>> {
        let Some(name) = self.layout.name_of(asked) else { return Ok(None) };
        let region = self.chain.region()?;
        let endpoint = self.chain.endpoint("secretsmanager", self.endpoint_url.as_deref(), &region)?;
        let body = Zeroizing::new(json!({ "SecretId": name }).to_string());
        let call = Call::target("secretsmanager", "secretsmanager.GetSecretValue", &endpoint, &region, &body);
        let cannot = format!("cannot read {asked} from {}", self.name());
        match self.chain.signed(Http::shared()?, &call).await.map_err(|why| why.of(&cannot)) {
            Ok(answer) => {
                let found = found(&answer).map_err(|fault| fault.failure(&cannot, &name))?;
                Ok(Some((found, name)))
            }
            Err(chain::Refused::Chain(error)) => Err(error),
            Err(chain::Refused::Call(fault)) if fault.is_missing() => Ok(None),
            Err(chain::Refused::Call(fault)) => Err(fault.failure(&cannot, &name)),
        }
    }

    fn region_word(&self) -> String {
        self.chain.region().unwrap_or_else(|_| "an unknown region".to_owned())
    }
}

/// What the answer holds.
fn found(answer: &[u8]) -> Result<Found, Fault> {
    let parsed = serde_json::from_slice(answer).map_err(|_| Fault::no_json(200))?;
    let mut answer = Wiped(parsed);
    let mut take = |key: &str| match answer.0.get_mut(key).map(serde_json::Value::take) {
        Some(serde_json::Value::String(text)) => Some(text),
        _ => None,
    };
    let version = take("VersionId").unwrap_or_default().chars().take(8).collect();
    match take("SecretString") {
        Some(text) => Ok(Found { text: Zeroizing::new(text), version }),
        None => Err(Fault::binary()),
    }
}

impl Place for SecretsManager {
    fn name(&self) -> String {
        format!("AWS Secrets Manager in {}", self.region_word())
    }

    fn how_to_add(&self, asked: Asked<'_>) -> String {
        match (self.layout.name_of(asked), asked) {
            (Some(name), Asked::Connection(_)) => {
                format!("Create the secret {name} in {}, as URI or JSON.", self.region_word())
            }
            (Some(name), Asked::Variable(_)) => {
                format!("Create the secret {name} in {}.", self.region_word())
            }
            (None, Asked::Connection(_)) => {
                "Give it a name of letters, digits and `_ - . / + = @`, and a prefix `connections`.".into()
            }
            (None, Asked::Variable(_)) => {
                "Give it a name of letters, digits and `_ - . / + = @`, and a prefix `variables`.".into()
            }
        }
    }

    fn connection<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Connection>>>> {
        Box::pin(async move {
            let Some((found, name)) = self.look_up(Asked::Connection(id)).await? else { return Ok(None) };
            let connection = match self.layout.fields(&found.text) {
                None => Connection::parse(id, &found.text)?,
                Some(Ok(fields)) => Connection::of_fields(id, fields)?,
                Some(Err((line, column))) => {
                    let why = format!("its JSON breaks off at line {line}, column {column}");
                    return Err(Failure::config(format!("cannot read connection {id}: {why}")).into());
                }
            };
            Ok(Some(Answer::standing(connection, told(&name, &found))))
        })
    }

    fn variable<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Answer<SecretString>>>> {
        Box::pin(async move {
            let Some((found, name)) = self.look_up(Asked::Variable(key)).await? else { return Ok(None) };
            let told = told(&name, &found);
            Ok(Some(Answer::standing(SecretString::from(found.text.as_str()), told)))
        })
    }
}

fn told(name: &str, found: &Found) -> String {
    match found.version.as_str() {
        "" => format!("secret {name}"),
        version => format!("secret {name}, version {version}"),
    }
}
