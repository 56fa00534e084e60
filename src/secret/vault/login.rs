//! Logging in to Vault, by each of its methods.
//!
//! In:    [`Auth`]; the files and variables that it names.
//! Out:   a [`Token`].
//! Holds: files are read anew at every login, since whoever wrote them renews them; no text of theirs is
//!        quoted.

use super::call::{Client, Other};
use super::fault::Fault;
use super::json::Json;
use super::settings::{Auth, SecretId, Settings};
use super::wrapped;
use crate::error::{Failure, Kind};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::OnceCell;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::auth::oidc::requests::JWTLoginRequest;
use zeroize::Zeroizing;

/// Where Kubernetes mounts the token of the pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The file of Nomad's `vault_default` identity, in `NOMAD_SECRETS_DIR`.
const NOMAD_IDENTITY: &str = "nomad_vault_default.jwt";

/// What Vault knows us by.
#[derive(Debug)]
pub struct Token {
    /// `None`: an agent adds it.
    pub secret: Option<SecretString>,
    /// Whether we logged in for it, so that it is ours to give back.
    pub is_ours: bool,
    /// How long it lives from its login; zero where that is not known.
    pub life: Duration,
    /// Whether it can be renewed.
    pub is_renewable: bool,
    /// Whether it can be revoked: a batch token cannot.
    pub is_revocable: bool,
}

impl Token {
    fn given(secret: Option<SecretString>) -> Token {
        Token { secret, is_ours: false, life: Duration::ZERO, is_renewable: true, is_revocable: false }
    }
}

/// Logs in; `kept` holds a secret id that was unwrapped, which happens once.
///
/// # Errors
/// 77 when Vault refuses, or a wrapped secret id was taken by somebody else; 75 when Vault does not
/// answer, or a wrapped secret id has expired; 78 for a file or a variable that is not there.
pub async fn log_in(
    client: &Client,
    settings: &Settings,
    kept: &OnceCell<SecretString>,
) -> Result<Token, Failure> {
    let answer = match &settings.auth {
        Auth::Agent => return Ok(Token::given(None)),
        Auth::Token { file } => return Ok(Token::given(Some(given_token(file.as_deref()).await?))),
        Auth::Approle { mount, role_id, secret_id } => {
            let secret_id = match secret_id {
                None => SecretString::default(),
                Some(from) => self::secret_id(client, settings, (mount, from), kept).await?,
            };
            let secret_id = secret_id.expose_secret().to_owned();
            let request =
                LoginWithApproleRequest { mount: mount.clone(), role_id: role_id.clone(), secret_id };
            client.call(None, request, true).await
        }
        Auth::Jwt { mount, role, file } => {
            let jwt = read(&jwt_file(file.as_deref())?, "JSON web token").await?;
            let jwt = jwt.expose_secret().to_owned();
            let request = JWTLoginRequest { mount: mount.clone(), jwt, role: role.clone() };
            client.call(None, request, true).await
        }
        Auth::Kubernetes { mount, role, file } => {
            let file = file.as_deref().unwrap_or(Path::new(SERVICE_ACCOUNT));
            let jwt = read(file, "service account's token").await?.expose_secret().to_owned();
            let request = LoginWithKubernetesRequest { mount: mount.clone(), role: role.clone(), jwt };
            client.call(None, request, true).await
        }
        Auth::Cert { mount, role } => {
            let body = role.as_ref().map_or_else(|| json!({}), |role| json!({"name": role}));
            let request = Other { path: format!("auth/{mount}/login"), body: Some(body) };
            client.call(None, request, true).await
        }
    };
    let answer = answer.and_then(token_of);
    answer.map_err(|fault| refused(&fault, settings))
}

fn token_of(answer: Json) -> Result<Token, Fault> {
    let Some(secret) = answer.text("/auth/client_token").filter(|text| is_header(text)) else {
        return Err(Fault::Strange { status: 200, what: "the answer to the login has no token" });
    };
    Ok(Token {
        secret: Some(SecretString::from(secret)),
        is_ours: true,
        life: answer.seconds("/auth/lease_duration"),
        is_renewable: answer.is("/auth/renewable"),
        is_revocable: answer.text("/auth/token_type") != Some("batch"),
    })
}

/// A login that Vault answers with 400 or 403 is refused: what we have to show is not good enough.
fn refused(fault: &Fault, settings: &Settings) -> Failure {
    let (method, address) = (settings.auth.word(), &settings.address);
    let mut failure = fault.failure(&format!("cannot log in to Vault at {address} by {method}"));
    if matches!(fault, Fault::Refused { status: 400 | 401 | 403, .. }) {
        failure.kind = Kind::Permission;
        failure.hint = Some(format!(
            "Vault does not take what `auth: {{{method}: ...}}` has to show; look at the role and its bounds there."
        ));
    }
    failure
}

async fn secret_id(
    client: &Client,
    settings: &Settings,
    (mount, from): (&str, &SecretId),
    kept: &OnceCell<SecretString>,
) -> Result<SecretString, Failure> {
    if !from.wrapped {
        return given_secret_id(from).await;
    }
    let unwrap =
        async { wrapped::unwrap(client, &settings.address, mount, &given_secret_id(from).await?).await };
    Ok(kept.get_or_try_init(|| unwrap).await?.clone())
}

async fn given_secret_id(from: &SecretId) -> Result<SecretString, Failure> {
    match (&from.file, &from.variable) {
        (Some(file), _) => read(file, "secret id").await,
        (None, Some(name)) => variable(name, "secret id"),
        (None, None) => Err(Failure::config("cannot log in to Vault: no secret id is named")),
    }
}

async fn given_token(file: Option<&Path>) -> Result<SecretString, Failure> {
    let token = match file {
        Some(file) => read(file, "token").await?,
        None => variable("VAULT_TOKEN", "token")?,
    };
    if !is_header(token.expose_secret()) {
        return Err(Failure::config("cannot log in to Vault: what is given as a token is none")
            .hint("A token is one word, such as hvs.CAES...; look at the file or VAULT_TOKEN."));
    }
    Ok(token)
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn jwt_file(file: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(file) = file {
        return Ok(file.to_owned());
    }
    let folder = std::env::var_os("NOMAD_SECRETS_DIR").map(PathBuf::from);
    folder.map(|folder| folder.join(NOMAD_IDENTITY)).ok_or_else(|| {
        Failure::config("cannot log in to Vault by jwt: no file is named, and this is no Nomad task").hint(
            "Name it: `auth: {jwt: {role: ..., file: ...}}`; in Nomad `identity {file = true}` writes it.",
        )
    })
}

/// The one line in `file`.
async fn read(file: &Path, what: &str) -> Result<SecretString, Failure> {
    let cannot = |why: String| format!("cannot read the {what} for Vault from {}: {why}", file.display());
    match tokio::fs::read_to_string(file).await.map(Zeroizing::new) {
        Ok(text) if text.trim().is_empty() => Err(Failure::config(cannot("it is empty".into()))),
        Ok(text) => Ok(SecretString::from(text.trim())),
        Err(why) if why.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Failure::permission(cannot("permission denied".into())))
        }
        Err(why) if why.kind() == std::io::ErrorKind::InvalidData => {
            Err(Failure::config(cannot("it is no text".into())))
        }
        Err(why) => Err(Failure::config(cannot(why.to_string()))
            .hint("Whoever starts this puts the file there: Nomad, Kubernetes, the Vault agent.")),
    }
}

fn variable(name: &str, what: &str) -> Result<SecretString, Failure> {
    match std::env::var(name).map(Zeroizing::new) {
        Ok(text) if !text.trim().is_empty() => Ok(SecretString::from(text.trim())),
        _ => {
            Err(Failure::config(format!("cannot log in to Vault: {name} is not set, which holds the {what}"))
                .hint("Whoever starts this sets it, such as Nomad's `vault` block."))
        }
    }
}
