//! A token, from its first use to its end.
//!
//! In:    settings; requests.
//! Out:   answers to them.
//! Holds: one login at a time, however many ask; one that is refused is not repeated, for Vault locks out
//!        who is refused too often; after a 403 we log in once more, for the token may be gone; a token that we made is renewed while it lives and revoked by `close`.
//! Not here: the methods of login (`login`).

use super::call::{Client, Other};
use super::fault::Fault;
use super::json::Json;
use super::login::{Token, log_in};
use super::settings::Settings;
use crate::error::{Failure, Kind};
use rustify::endpoint::Endpoint;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

/// How long everything may take that is given back at the end: a signal leaves three seconds.
const FAREWELL: Duration = Duration::from_millis(1300);
/// A token of unknown life is looked up only when a run takes longer than this.
const LONG_RUN: Duration = Duration::from_secs(5);
/// Less than this is not worth a renewal.
const SHORTEST: Duration = Duration::from_secs(1);

/// What one process has with one Vault.
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    settings: Settings,
    secret_id: OnceCell<SecretString>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<Arc<Token>>,
    /// Tokens of ours that another has replaced; leases may hang on them.
    retired: Vec<Arc<Token>>,
    renewing: Option<Renewing>,
    /// Why Vault does not let us in.
    refused: Option<Failure>,
    /// Nothing is asked any more: a login would outlive us.
    is_closed: bool,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Renewing(AbortHandle);

impl Renewing {
    /// Starts `task`.
    pub fn start(task: impl Future<Output = ()> + Send + 'static) -> Renewing {
        Renewing(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Gets ready; nothing is sent.
    ///
    /// # Errors
    /// 78, as [`Client::new`].
    pub fn new(settings: Settings) -> Result<Session, Failure> {
        let client = Arc::new(Client::new(&settings)?);
        Ok(Session { client, settings, secret_id: OnceCell::new(), held: Mutex::default() })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends `endpoint` with our token, logging in before where that is needed. `twice`: doing it twice
    /// does no harm. The inner result is Vault's answer.
    ///
    /// # Errors
    /// That of a login.
    pub async fn ask<E: Endpoint>(
        &self,
        endpoint: impl Fn() -> E,
        twice: bool,
    ) -> Result<Result<Json, Fault>, Failure> {
        let token = self.token().await?;
        let first = self.client.call(token.secret.as_ref(), endpoint(), twice).await;
        if !matches!(&first, Err(fault) if fault.status() == Some(403)) {
            return Ok(first);
        }
        match self.another(&token).await {
            Ok(Some(token)) => Ok(self.client.call(token.secret.as_ref(), endpoint(), twice).await),
            Ok(None) => Ok(first),
            // The path is what the person asked for; that a second login is refused too says no more.
            Err(failure) if failure.kind == Kind::Permission => Ok(first),
            Err(failure) => Err(failure),
        }
    }

    async fn token(&self) -> Result<Arc<Token>, Failure> {
        let mut held = self.held.lock().await;
        if let Some(token) = &held.token {
            return Ok(token.clone());
        }
        if held.is_closed {
            return Err(Failure::temporary("cannot ask Vault: the command is ending"));
        }
        if let Some(failure) = &held.refused {
            return Err(failure.clone());
        }
        let token = log_in(&self.client, &self.settings, &self.secret_id).await;
        held.refused = token.as_ref().err().filter(|failure| failure.kind == Kind::Permission).cloned();
        let token = Arc::new(token?);
        debug!(method = self.settings.auth.word(), life_s = token.life.as_secs(), "logged in to Vault");
        held.renewing = Some(Renewing::start(keep(self.client.clone(), token.clone())));
        held.token = Some(token.clone());
        Ok(token)
    }

    /// A token other than `refused`, if there is one to be had.
    async fn another(&self, refused: &Arc<Token>) -> Result<Option<Arc<Token>>, Failure> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.token.as_ref().filter(|token| !Arc::ptr_eq(token, refused)) {
            return Ok(Some(token.clone()));
        }
        let token = Arc::new(log_in(&self.client, &self.settings, &self.secret_id).await?);
        let secret = |token: &Token| token.secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        if secret(&token) == secret(refused) {
            return Ok(None);
        }
        let old = held.token.take().filter(|token| token.is_ours);
        held.retired.extend(old);
        held.renewing = Some(Renewing::start(keep(self.client.clone(), token.clone())));
        held.token = Some(token.clone());
        Ok(Some(token))
    }

    /// How long the token can live at most, from now; `None` where that cannot be known.
    pub async fn longest(&self) -> Option<Duration> {
        let token = self.token().await.ok()?;
        if !token.is_renewable || token.life.is_zero() {
            return Some(token.life).filter(|life| !life.is_zero());
        }
        match renew(&self.client, &token, Some(MOST)).await {
            Ok(most) => {
                let _ = renew(&self.client, &token, Some(token.life)).await;
                Some(most)
            }
            Err(fault) => {
                told("renew", "the token", "auth/token/renew-self", &fault);
                Some(token.life)
            }
        }
    }

    /// Gives back the tokens that are ours; whatever came of them ends with them.
    pub async fn close(&self) {
        let tokens = {
            let mut held = self.held.lock().await;
            held.renewing = None;
            held.is_closed = true;
            let mut tokens = std::mem::take(&mut held.retired);
            tokens.extend(held.token.take());
            tokens
        };
        for token in tokens.iter().filter(|token| token.is_ours && token.is_revocable) {
            let request = Other { path: "auth/token/revoke-self".into(), body: Some(json!({})) };
            let revoked = self.client.call(token.secret.as_ref(), request, true);
            match tokio::time::timeout(FAREWELL, revoked).await {
                Ok(Ok(_)) => debug!("gave the token back to Vault"),
                // Gone before: it has expired, or somebody revoked it.
                Ok(Err(fault)) => told("revoke", "the token", "auth/token/revoke-self", &fault),
                Err(_) => warn!("cannot revoke the token of Vault in time: it lives to its end"),
            }
        }
    }
}

/// As long as a life can be asked for: ten years.
pub const MOST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Renews `token` while it lives.
async fn keep(client: Arc<Client>, token: Arc<Token>) {
    let mut left = token.life;
    if left.is_zero() && !token.is_ours {
        let Some(secret) = token.secret.as_ref() else { return };
        tokio::time::sleep(LONG_RUN).await;
        let request = Other { path: "auth/token/lookup-self".into(), body: None };
        let Ok(found) = client.call(Some(secret), request, true).await else { return };
        left = if found.is("/data/renewable") { found.seconds("/data/ttl") } else { Duration::ZERO };
    }
    while token.is_renewable && left > SHORTEST {
        tokio::time::sleep(left / 2).await;
        left = match renew(&client, &token, None).await {
            Ok(life) => life,
            Err(fault) if fault.is_passing(true) => left / 2,
            Err(fault) => return told("renew", "the token", "auth/token/renew-self", &fault),
        };
    }
}

async fn renew(client: &Client, token: &Token, increment: Option<Duration>) -> Result<Duration, Fault> {
    let body =
        increment.map_or_else(|| json!({}), |time| json!({"increment": format!("{}s", time.as_secs())}));
    let request = Other { path: "auth/token/renew-self".into(), body: Some(body) };
    Ok(client.call(token.secret.as_ref(), request, true).await?.seconds("/auth/lease_duration"))
}

/// Warns that `what` could not be renewed or revoked, naming the path that a policy must allow.
pub fn told(verb: &str, what: &str, path: &str, fault: &Fault) {
    let failure = fault.failure(&format!("cannot {verb} {what} of Vault"));
    if fault.status() == Some(403) {
        warn!("{}; the policy needs `update` on {path}, or it is gone already", failure.what);
    } else {
        warn!("{}", failure.what);
    }
}
