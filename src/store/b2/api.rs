//! Calls of B2's native API: logged in, bounded in time, tried again as `store::retry` says.
//!
//! In:    a call and its JSON.
//! Out:   B2's JSON, or the [`Fault`] that stands after the retries.
//! Holds: one login at a time, whoever needs it; an account token that ends in the middle of anything
//!        is renewed, with the key that the places say now if the old one is refused; a right that the key
//!        lacks is named without asking B2.
//! Not here: uploads (`send`), downloads (`read`), what the JSON means (`list`, `rules`).

// Own calls, since those of backblaze-b2-client 0.2.1 cannot be made without Backblaze itself: its
// `B2SimpleClient::new`, the only constructor, logs in at a hard-coded host, with version 3 of the API
// and without timeouts (simple_client.rs:91, :94, :697), which no key of several buckets can do; its
// errors carry no Retry-After (error.rs), its credential no base64 padding (simple_client.rs:84). What
// the crate knows of the wire serves where it is right: see `send` and `upload`.

use super::Tuning;
use super::fault::{AUTHORIZE, Call, Fault};
use super::session::{Login, Session};
use crate::secret::Connection;
use crate::store::http::{self, Bounds};
use crate::store::retry::{self, Next};
use anyhow::Result;
use bytes::Bytes;
use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;

/// How often a call may fail before people hear of it: B2 sheds load as a matter of course.
const LOUD_AFTER: u32 = 4;
/// How often a first login is tried: who has a wrong endpoint or no network learns it in 15 s.
const FIRST_LOGIN_TRIES: u32 = 5;

/// A key's way into B2.
pub(super) struct Api {
    /// For what is no JSON call.
    pub http: Client,
    /// How long and how often.
    pub tuning: Tuning,
    /// As the connection said at first; see [`Api::login`].
    login: Login,
    /// For when that was refused.
    asked: Connection,
    session: RwLock<Option<Arc<Session>>>,
    logging_in: Mutex<()>,
}

/// How often something was tried, and whether one of the tries may have worked unseen.
pub(super) struct Tries {
    kind: retry::Call,
    attempt: u32,
    is_unsure: bool,
    is_over: bool,
}

impl Tries {
    /// None yet.
    pub fn new(kind: retry::Call) -> Tries {
        Tries { kind, attempt: 1, is_unsure: false, is_over: false }
    }

    /// Whether an earlier try may have worked unseen.
    pub fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    /// Whether the last fault was final.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Forgets the earlier ones, since something was achieved meanwhile.
    pub fn start_over(&mut self) {
        self.attempt = 1;
    }

    /// Takes `fault` as final; it may have been preceded by one that worked unseen.
    pub fn end(&mut self, fault: Fault) -> Fault {
        self.is_over = true;
        Fault { is_unsure: self.is_unsure, ..fault }
    }

    /// What is to be done about `fault`; its wait is over when this returns.
    ///
    /// # Errors
    /// `fault`, when it is final.
    pub async fn after(&mut self, fault: Fault, pace: &retry::Pace) -> Result<Next, Fault> {
        self.is_unsure |= fault.is_unsure;
        let next = retry::decide(self.kind, &fault.refusal(), self.attempt, pace, retry::jitter());
        self.attempt += 1;
        match next {
            Next::Final => return Err(self.end(fault)),
            Next::NewUrl(wait) | Next::BackOff(wait) | Next::Reauthorize(wait) => {
                if self.attempt > LOUD_AFTER {
                    tracing::warn!(%fault, tries = self.attempt - 1, wait_ms = wait.as_millis(), "B2 failed again");
                } else {
                    tracing::debug!(%fault, tries = self.attempt - 1, wait_ms = wait.as_millis(), "B2 failed");
                }
                tokio::time::sleep(wait).await;
            }
        }
        Ok(next)
    }
}

impl Api {
    /// Nobody is asked before the first call.
    ///
    /// # Errors
    /// As [`Login::of`].
    pub fn new(connection: &Connection, tuning: Tuning) -> Result<Api> {
        let (http, login) = (http::client(tuning.connect)?, Login::of(connection)?);
        let (session, logging_in) = (RwLock::default(), Mutex::default());
        Ok(Api { http, tuning, login, asked: connection.clone(), session, logging_in })
    }

    /// How to log in now.
    fn login(&self) -> Login {
        Login::of(self.asked.newest()).unwrap_or_else(|_| self.login.clone())
    }

    /// The connection that it logs in with, for messages.
    pub fn connection(&self) -> &str {
        &self.login.connection
    }

    /// What stands between a host and the name of a call.
    pub fn path(&self) -> &str {
        self.login.api_path()
    }

    /// How long an exchange of `bytes` may take.
    pub fn bounds(&self, bytes: u64) -> Bounds {
        let slowest = Duration::from_secs(bytes / self.tuning.slowest_bytes_per_s.max(1));
        Bounds { idle: self.tuning.idle, overall: self.tuning.idle * 2 + slowest }
    }

    /// The present login; made when there is none.
    pub async fn session(&self) -> Result<Arc<Session>, Fault> {
        match self.present() {
            Some(session) => Ok(session),
            None => self.renew(None).await,
        }
    }

    /// A login other than `stale`: whoever comes second takes what the first has got.
    pub async fn renew(&self, stale: Option<&Arc<Session>>) -> Result<Arc<Session>, Fault> {
        let _alone = self.logging_in.lock().await;
        if let Some(present) = self.present()
            && stale.is_none_or(|stale| !Arc::ptr_eq(stale, &present))
        {
            return Ok(present);
        }
        let session = Arc::new(self.log_in().await?);
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        Ok(session)
    }

    fn present(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs in; a key that is refused may have been rotated since the places were asked for it.
    async fn log_in(&self) -> Result<Session, Fault> {
        let tried = self.asked.newest();
        let refused = match self.log_in_by(&self.login()).await {
            Err(fault) if fault.status == Some(401) => fault,
            other => return other,
        };
        match self.asked.ask_anew(tried).await {
            Ok(true) => self.log_in_by(&self.login()).await,
            _ => Err(refused),
        }
    }

    async fn log_in_by(&self, login: &Login) -> Result<Session, Fault> {
        let mut tries = Tries::new(retry::Call::Authorize);
        let mut pace = self.tuning.pace;
        if self.present().is_none() {
            pace.tries = pace.tries.min(FIRST_LOGIN_TRIES);
        }
        loop {
            let key = login.key.expose_secret();
            let request = self.http.get(login.url.clone()).basic_auth(&login.key_id, Some(key));
            let read = |json: Value| {
                let unreadable =
                    |why| Fault::local(AUTHORIZE, None, "", format!("an answer nobody can use: {why}"));
                Session::read(&json).map_err(unreadable)
            };
            match self.exchange(AUTHORIZE, request, &[key]).await.and_then(read) {
                Ok(session) => return Ok(session),
                Err(fault) => tries.after(fault, &pace).await?,
            };
        }
    }

    /// Makes `call` until it is answered for good.
    pub async fn call(&self, call: Call, json: &Value) -> Result<Value, Fault> {
        self.call_counting(call, json, &mut Tries::new(retry::Call::Account)).await
    }

    /// As [`Api::call`]; `tries` says afterwards whether an earlier one may have worked unseen.
    pub async fn call_counting(&self, call: Call, json: &Value, tries: &mut Tries) -> Result<Value, Fault> {
        loop {
            let session = self.session().await?;
            match self.once(&session, call, json).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => self.again(&session, fault, tries).await?,
            }
        }
    }

    /// Waits, and logs in anew where that helps.
    ///
    /// # Errors
    /// `fault`, when it is final; the login's own.
    pub async fn again(&self, session: &Arc<Session>, fault: Fault, tries: &mut Tries) -> Result<(), Fault> {
        if let Next::Reauthorize(_) = tries.after(fault, &self.tuning.pace).await? {
            self.renew(Some(session)).await?;
        }
        Ok(())
    }

    /// Makes `call` once.
    pub async fn once(&self, session: &Session, call: Call, json: &Value) -> Result<Value, Fault> {
        if !session.has(call.needs) {
            return Err(Fault::lacks(call, call.needs));
        }
        let token = session.token.expose_secret();
        let url = format!("{}{}{}", session.api_url, self.path(), call.name);
        let body = Bytes::from(json.to_string());
        let request = self.http.post(url).header("Authorization", sensitive(token));
        self.exchange_body(call, request, body, &[token]).await
    }

    async fn exchange(&self, call: Call, request: RequestBuilder, secrets: &[&str]) -> Result<Value, Fault> {
        self.exchange_body(call, request, Bytes::new(), secrets).await
    }

    /// Sends `request` once; the JSON of a 200. `secrets` are kept out of what is said of it.
    pub async fn exchange_body(
        &self,
        call: Call,
        request: RequestBuilder,
        body: Bytes,
        secrets: &[&str],
    ) -> Result<Value, Fault> {
        let bounds = self.bounds(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let answer = http::exchange(request, body, bounds).await;
        let answer = answer.map_err(|broken| Fault::broken(call, broken))?;
        if answer.status != 200 {
            return Err(Fault::answered(call, &answer, secrets));
        }
        let unreadable =
            |_| Fault { is_unsure: true, ..Fault::local(call, None, "", "an answer that is no JSON") };
        serde_json::from_slice(&answer.body).map_err(unreadable)
    }
}

/// A header's value that no log of HTTP shows.
pub(super) fn sensitive(text: &str) -> reqwest::header::HeaderValue {
    let mut value = reqwest::header::HeaderValue::from_str(text)
        .unwrap_or_else(|_| reqwest::header::HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
