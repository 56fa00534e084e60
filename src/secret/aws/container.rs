//! The endpoint that ECS and EKS Pod Identity give a container.
//!
//! In:    the environment. Out: credentials that end.
//! Holds: only an address of this machine, of ECS or EKS, or one with https is asked, and no proxy; the
//!        token is read from its file at every question.
//! Not here: when it is asked (`chain`).

use super::call::{Call, Http, Patience};
use super::chain::Ambient;
use super::fault::Fault;
use super::sts::time;
use crate::error::Failure;
use crate::secret::wipe::Wiped;
use anyhow::Result;
use aws_credential_types::Credentials;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where ECS answers.
const ECS: &str = "http://169.254.170.2";
/// Who may be asked without TLS beside this machine: ECS, EKS Pod Identity.
const PLAIN: &[&str] = &["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
const PATIENCE: Patience = Patience { overall: Duration::from_secs(2), tries: 3 };

/// The endpoint, and what it wants to hear.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    url: Url,
    token: Option<Token>,
}

#[derive(Clone, Debug)]
enum Token {
    File(PathBuf),
    Text(SecretString),
}

impl Endpoint {
    /// The endpoint that the environment names, if it does.
    ///
    /// # Errors
    /// 78 for an address that must not be asked.
    pub fn of(ambient: &Ambient) -> Result<Option<Endpoint>, Failure> {
        let relative = ambient.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let full = ambient.get("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        let Some(text) = relative.map(|path| format!("{ECS}{path}")).or(full) else { return Ok(None) };
        let url = Url::parse(&text).ok().filter(is_allowed).ok_or_else(|| {
            let what =
                "cannot ask AWS: AWS_CONTAINER_CREDENTIALS_FULL_URI is no address to get credentials from";
            Failure::config(what).hint("It must be https, this machine, 169.254.170.2 or 169.254.170.23.")
        })?;
        let file = ambient.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| Token::File(path.into()));
        let text = || ambient.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| Token::Text(text.into()));
        Ok(Some(Endpoint { url, token: file.or_else(text) }))
    }
}

fn is_allowed(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_matches(['[', ']']);
    let is_here = host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_plain = url.username().is_empty() && url.password().is_none();
    is_plain && (url.scheme() == "https" || url.scheme() == "http" && (is_here || PLAIN.contains(&host)))
}

/// Asks `endpoint`.
///
/// # Errors
/// 77 refused; 75 not reached; 78 for a token that cannot be read.
pub(super) async fn ask(endpoint: &Endpoint) -> Result<Credentials> {
    let mut call =
        Call::plain(Method::GET, endpoint.url.clone(), PATIENCE).header("accept", "application/json");
    let token = match &endpoint.token {
        None => None,
        Some(Token::Text(text)) => Some(text.clone()),
        Some(Token::File(path)) => {
            let text = tokio::fs::read_to_string(path).await.map_err(|error| {
                let what =
                    format!("cannot read the container's token in {}: {}", path.display(), error.kind());
                Failure::permission(what)
            })?;
            Some(SecretString::from(text))
        }
    };
    if let Some(token) = &token {
        call = call.header("authorization", token.expose_secret().trim_end_matches(['\r', '\n']));
    }
    let cannot = "cannot get credentials from the container's endpoint";
    let answer =
        call.send(Http::shared()?, None).await.map_err(|fault| fault.failure(cannot, "the container"))?;
    credentials(&answer).ok_or_else(|| Fault::no_json(200).failure(cannot, "the container"))
}

/// The credentials in an answer of a container's or an instance's endpoint.
pub(super) fn credentials(answer: &[u8]) -> Option<Credentials> {
    let answer = Wiped(serde_json::from_slice(answer).ok()?);
    let text = |name: &str| answer.0.get(name)?.as_str();
    let (id, key, token) = (text("AccessKeyId")?, text("SecretAccessKey")?, text("Token")?);
    let end = text("Expiration").and_then(time);
    Some(Credentials::new(id, key, Some(token.to_owned()), end, "endpoint"))
}
