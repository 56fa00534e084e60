//! The metadata service of an EC2 instance, version 2.
//!
//! In:    the environment. Out: credentials of the instance's role, that end.
//! Holds: a token first, always: version 1, which anything that fetches a URL can be talked into, is never
//!        asked; a second for each question, and no proxy.
//! Not here: whether it is asked (`chain::plan`).

use super::call::{Call, Http, Patience};
use super::chain::Ambient;
use super::container::credentials;
use super::fault::Fault;
use crate::error::Failure;
use anyhow::Result;
use aws_credential_types::Credentials;
use reqwest::{Method, Url};
use std::time::Duration;
use zeroize::Zeroizing;

const ADDRESS: &str = "http://169.254.169.254";
const ADDRESS_6: &str = "http://[fd00:ec2::254]";
const ROLES: &str = "latest/meta-data/iam/security-credentials/";
/// How long a token is good for, seconds.
const TOKEN_S: &str = "300";
const CANNOT: &str = "cannot get credentials from the instance's metadata service";

/// Asks it.
///
/// # Errors
/// 77 where it is not there or the instance has no role; 75 where it is overloaded.
pub(super) async fn ask(ambient: &Ambient) -> Result<Credentials> {
    let base = base(ambient)?;
    let patience = patience(ambient);
    let http = Http::shared()?;
    let asked = |method, path: &str| {
        let url = base.join(path).map_err(|_| Failure::config("cannot ask AWS: no such metadata address"));
        anyhow::Ok(Call::plain(method, url?, patience))
    };
    let token =
        asked(Method::PUT, "latest/api/token")?.header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_S);
    let token = token.send(http, None).await.map_err(|fault| not_there(&fault))?;
    let token = String::from_utf8(token.to_vec()).map(Zeroizing::new).unwrap_or_default();
    let read = async |path: &str| {
        let call = asked(Method::GET, path)?.header("x-aws-ec2-metadata-token", token.trim());
        call.send(http, None).await.map_err(|fault| role_fault(&fault))
    };
    let roles = read(ROLES).await?;
    let role = std::str::from_utf8(&roles).ok().and_then(|text| text.lines().next()).unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if role.is_empty() || !role.chars().all(is_name) {
        return Err(Fault::no_json(200).failure(CANNOT, "the instance"));
    }
    let answer = read(&format!("{ROLES}{role}")).await?;
    credentials(&answer).ok_or_else(|| Fault::no_json(200).failure(CANNOT, "the instance"))
}

fn base(ambient: &Ambient) -> Result<Url> {
    let is_6 = ambient
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let usual = if is_6 { ADDRESS_6 } else { ADDRESS };
    let text = ambient.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| usual.to_owned());
    let text = if text.ends_with('/') { text } else { text + "/" };
    Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
        Failure::config("cannot ask AWS: AWS_EC2_METADATA_SERVICE_ENDPOINT is no address").into()
    })
}

/// As AWS's own tools: one second and one try, unless the environment says otherwise; at most ten.
fn patience(ambient: &Ambient) -> Patience {
    let number = |name: &str| ambient.get(name).and_then(|text| text.parse::<u32>().ok());
    let seconds = number("AWS_METADATA_SERVICE_TIMEOUT").unwrap_or(1).clamp(1, 10);
    let tries = number("AWS_METADATA_SERVICE_NUM_ATTEMPTS").unwrap_or(1).clamp(1, 10);
    Patience { overall: Duration::from_secs(seconds.into()), tries }
}

/// Without an answer to the first question this is no instance, or its answers end before they are here.
fn not_there(fault: &Fault) -> anyhow::Error {
    match fault.status {
        Some(500..) => fault.failure(CANNOT, "the instance"),
        Some(status) => {
            super::chain::none_found(&format!(", and the instance's metadata service says {status}"))
        }
        None => {
            let why = ", and no metadata service answers (in a container it needs a hop limit of 2)";
            super::chain::none_found(why)
        }
    }
}

fn role_fault(fault: &Fault) -> anyhow::Error {
    match fault.status {
        Some(404) => super::chain::none_found(", and the instance has no role"),
        _ => fault.failure(CANNOT, "the instance"),
    }
}
