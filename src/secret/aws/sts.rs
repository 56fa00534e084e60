//! AssumeRole and AssumeRoleWithWebIdentity.
//!
//! In:    a role; who assumes it, or a file with a token.
//! Out:   credentials that end.
//! Holds: the token is read at every login, since whoever mounts it replaces it; it is in no text.
//! Not here: when credentials are renewed (`chain`).

use super::call::{Call, Http};
use super::chain::{Ambient, endpoint};
use super::fault::{Fault, text_of};
use crate::error::Failure;
use anyhow::Result;
use aws_credential_types::Credentials;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// A role to assume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    /// Its name in AWS.
    pub arn: String,
    /// Name of the session, as AWS's own log shows it.
    pub session: Option<String>,
    /// What its owner wants to hear.
    pub external_id: Option<String>,
    /// How long it is to last; an hour by default.
    pub seconds: Option<u32>,
}

/// Region that signs for STS where none is named.
const NO_REGION: &str = "us-east-1";
/// The longest token that is read, bytes.
const TOKEN_BYTES: u64 = 64 * 1024;

/// Assumes `role` as `by`.
///
/// # Errors
/// 77 refused; 75 not reached.
pub(super) async fn assume(
    role: &Role,
    by: &Credentials,
    ambient: &Ambient,
    region: Option<&str>,
) -> Result<Credentials> {
    ask("AssumeRole", role, None, (ambient, region, Some(by))).await
}

/// Assumes `role` with the token in `token_file`.
///
/// # Errors
/// 77 refused, or the file cannot be read; 75 not reached.
pub(super) async fn with_web_identity(
    role: &Role,
    token_file: &Path,
    ambient: &Ambient,
    region: Option<&str>,
) -> Result<Credentials> {
    let token = tokio::fs::read_to_string(token_file).await.map(Zeroizing::new).map_err(|error| {
        let what =
            format!("cannot read the web identity token in {}: {}", token_file.display(), error.kind());
        Failure::permission(what).hint("Mount the service account's token there.")
    })?;
    if token.trim().is_empty() || token.len() as u64 > TOKEN_BYTES {
        let what = format!("cannot use the web identity token in {}: it is none", token_file.display());
        return Err(Failure::permission(what).into());
    }
    ask("AssumeRoleWithWebIdentity", role, Some(token.trim()), (ambient, region, None)).await
}

type By<'a> = (&'a Ambient, Option<&'a str>, Option<&'a Credentials>);

async fn ask(
    action: &str,
    role: &Role,
    token: Option<&str>,
    (ambient, region, by): By<'_>,
) -> Result<Credentials> {
    let region = region.unwrap_or(NO_REGION);
    let endpoint = endpoint(ambient, "sts", None, region)?;
    let body = form(action, role, token);
    let mut call = Call::form(&endpoint, &body);
    call.scope = by.map(|_| ("sts", region));
    let cannot = format!("cannot assume the role {}", role.arn);
    let answer = call.send(Http::shared()?, by).await.map_err(|fault| fault.failure(&cannot, &role.arn))?;
    credentials(&answer).ok_or_else(|| Fault::no_json(200).failure(&cannot, &role.arn))
}

fn form(action: &str, role: &Role, token: Option<&str>) -> Zeroizing<String> {
    let seconds = role.seconds.map(|seconds| seconds.to_string());
    let session = role.session.clone().unwrap_or_else(|| format!("sankofa-{}", std::process::id()));
    let words = [
        ("Version", Some("2011-06-15")),
        ("Action", Some(action)),
        ("RoleArn", Some(&role.arn)),
        ("RoleSessionName", Some(&session)),
        ("DurationSeconds", seconds.as_deref()),
        ("ExternalId", role.external_id.as_deref()),
        ("WebIdentityToken", token),
    ];
    let mut form = Zeroizing::new(String::with_capacity(512 + token.map_or(0, |token| token.len() * 3)));
    for (name, value) in words.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    form
}

fn credentials(xml: &[u8]) -> Option<Credentials> {
    let text = |name| text_of(xml, name).filter(|text| !text.is_empty());
    let (id, key, token) = (text("AccessKeyId")?, text("SecretAccessKey")?, text("SessionToken")?);
    Some(Credentials::new(id, key, Some(token), Some(time(&text("Expiration")?)?), "sts"))
}

/// A time as AWS writes it: RFC 3339.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let stamp: jiff::Timestamp = text.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(stamp.as_second()).ok()?))
}
