//! One request to Vault, from its words to its answer.
//!
//! In:    a request of vaultrs, or one of ours where it has none; a token.
//! Out:   the answer as JSON, or a [`Fault`].
//! Holds: every exchange ends in time; an answer is cut off at [`LONGEST`]; overload is waited for, a
//!        little; certificates are always verified, `VAULT_SKIP_VERIFY` or not.

use super::fault::Fault;
use super::json::Json;
use super::settings::Settings;
use crate::error::{Failure, causes};
use anyhow::Result;
use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Identity, Response, Url, redirect};
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use vaultrs::api::EndpointMiddleware;
use zeroize::Zeroizing;

/// The longest answer that is read; a secret has at most 1 MiB in Vault's own storage.
const LONGEST: usize = 4 * 1024 * 1024;
/// How often a request is sent, and how long is waited before the second time; twice as long each time.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Requests at once over TLS: each opens a connection, whose handshake costs more than a second question on one
/// that is open (10 ids behind a login: 43 to 52 ms, with a connection each 56).
const AT_ONCE_BY_TLS: usize = 4;

/// Sends requests to one Vault.
pub struct Client {
    http: reqwest::Client,
    address: String,
    namespace: Option<String>,
    timeout: Duration,
    doors: Semaphore,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

/// A request that vaultrs has no type for.
#[derive(Default)]
pub struct Other {
    /// Path below `/v1`.
    pub path: String,
    /// What is sent; a GET without.
    pub body: Option<Value>,
}

impl Endpoint for Other {
    type Response = Value;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        if self.body.is_some() { RequestMethod::PUT } else { RequestMethod::GET }
    }

    fn body(&self) -> Result<Option<Vec<u8>>, rustify::errors::ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_string().into_bytes()))
    }
}

impl Client {
    /// Reads certificates and gets ready; nothing is sent.
    ///
    /// # Errors
    /// 78 for an address or certificates that cannot be used.
    pub fn new(settings: &Settings) -> Result<Client, Failure> {
        let cannot =
            |why: String| Failure::config(format!("cannot use Vault at {}: {why}", settings.address));
        let url = Url::parse(&settings.address).map_err(|why| cannot(why.to_string()))?;
        let is_plain = url.scheme() == "http";
        let agent = concat!("sankofa/", env!("CARGO_PKG_VERSION"));
        let mut builder = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .redirect(redirect::Policy::custom(follow))
            .tcp_nodelay(true);
        if is_plain {
            builder = builder.no_proxy(); // which would see the token
        }
        if let Some(file) = &settings.ca_cert {
            let found = Certificate::from_pem_bundle(&read(file).map_err(cannot)?);
            let found = found.ok().filter(|list| !list.is_empty());
            builder = builder.tls_certs_only(found.ok_or_else(|| cannot(no_pem(file, "a certificate")))?);
        } else if is_plain {
            builder = builder.tls_certs_only(Vec::new()); // the system's authorities take 20 ms to read
        }
        if let Some((certificate, key)) = &settings.client_cert {
            let mut pem = Zeroizing::new(read(certificate).map_err(cannot)?);
            pem.push(b'\n');
            pem.extend_from_slice(&Zeroizing::new(read(key).map_err(cannot)?));
            let identity = Identity::from_pem(&pem);
            builder =
                builder.identity(identity.map_err(|_| cannot(no_pem(key, "the key of its certificate")))?);
        }
        Ok(Client {
            http: builder.build().map_err(|_| cannot("TLS cannot be set up".into()))?,
            address: settings.address.clone(),
            namespace: settings.namespace.clone(),
            timeout: settings.timeout,
            doors: Semaphore::new(if is_plain { Semaphore::MAX_PERMITS } else { AT_ONCE_BY_TLS }),
        })
    }

    /// Sends `endpoint` until it is answered; `twice`: doing it twice does no harm.
    ///
    /// # Errors
    /// A [`Fault`], the last of several.
    pub async fn call(
        &self,
        token: Option<&SecretString>,
        endpoint: impl Endpoint,
        twice: bool,
    ) -> Result<Json, Fault> {
        let request = self.request(token, endpoint)?;
        let (started, mut wait) = (Instant::now(), FIRST_WAIT);
        for attempt in 1.. {
            let Some(this) = request.try_clone() else { break };
            let (fault, asked) = match self.once(this).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let pause = asked.unwrap_or(wait).min(LONGEST_WAIT).mul_f64(1.0 - jitter() / 4.0);
            let is_late = started.elapsed() + pause > self.timeout * 2;
            if attempt >= TRIES || is_late || !fault.is_passing(twice) {
                return Err(fault);
            }
            tracing::debug!(attempt, "Vault did not answer as wished; asking again");
            tokio::time::sleep(pause).await;
            wait *= 2;
        }
        Err(Fault::Broken { what: "it cannot be sent".into(), reached: false })
    }

    fn request(
        &self,
        token: Option<&SecretString>,
        endpoint: impl Endpoint,
    ) -> Result<reqwest::Request, Fault> {
        let middleware = EndpointMiddleware {
            token: token.map(|token| token.expose_secret().to_owned()).unwrap_or_default(),
            version: "v1".into(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let unsendable = |_| Fault::Broken { what: "it cannot be sent".into(), reached: false };
        let request = endpoint.with_middleware(&middleware).request(&self.address);
        drop(Zeroizing::new(middleware.token));
        let mut request: reqwest::Request = request
            .map_err(unsendable)?
            .try_into()
            .map_err(|_| Fault::Broken { what: "it cannot be sent".into(), reached: false })?;
        if request.url().query() == Some("") {
            request.url_mut().set_query(None);
        }
        if let Some(value) = request.headers_mut().get_mut("x-vault-token") {
            value.set_sensitive(true);
        }
        Ok(request)
    }

    /// One exchange; with a fault, how long the other side wants us to wait.
    async fn once(&self, request: reqwest::Request) -> Result<Json, (Fault, Option<Duration>)> {
        let _door = self.doors.acquire().await; // never closed
        let response = self.http.execute(request).await.map_err(|error| (broken(&error), None))?;
        let status = response.status().as_u16();
        let asked =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let asked = asked.map(Duration::from_secs);
        let body = whole(response).await.map_err(|fault| (fault, asked))?;
        judge(status, Json::read(&body)).map_err(|fault| (fault, asked))
    }
}

/// What an answer is worth. A 404 whose body tells more than `errors` is an answer too.
fn judge(status: u16, body: Option<Json>) -> Result<Json, Fault> {
    let strange = |what| Err(Fault::Strange { status, what });
    match (status, body) {
        (300..=399, _) => strange("it redirects to where no token may go"),
        (_, None) => strange("the answer is no JSON"),
        (200..=299, Some(body)) => Ok(body),
        (404, Some(body)) if body.get("data").is_some_and(Value::is_object) => Ok(body),
        // A path of one version of the key-value engine on the other.
        (404, Some(body)) if body.get("warnings").is_some_and(Value::is_array) => {
            Err(Fault::Refused { status, errors: body.list("/warnings").unwrap_or_default() })
        }
        (404, Some(body)) if body.get("errors").is_none() => strange("the answer is not Vault's"),
        (_, Some(body)) => Err(Fault::Refused { status, errors: body.list("/errors").unwrap_or_default() }),
    }
}

async fn whole(mut response: Response) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let status = response.status().as_u16();
    let mut body = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + piece.len() > LONGEST {
            return Err(Fault::Strange { status, what: "the answer is longer than any of Vault's" });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The same host or https, and never from https to http: the token goes along.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let Some(from) = attempt.previous().last() else { return attempt.stop() };
    let to = attempt.url();
    let is_safe = match (from.scheme(), to.scheme()) {
        (_, "https") => true,
        ("http", "http") => from.host_str() == to.host_str(),
        _ => false,
    };
    if is_safe && attempt.previous().len() <= 5 { attempt.follow() } else { attempt.stop() }
}

/// What broke, without the URL.
fn broken(error: &reqwest::Error) -> Fault {
    let reached = !error.is_connect() && !error.is_builder();
    if error.is_timeout() {
        let what = if reached { "no answer in time" } else { "nobody listens in time" };
        return Fault::Broken { what: what.into(), reached };
    }
    let mut cause = error.source();
    while let Some(one) = cause {
        if let Some(what) = certificate(one) {
            return Fault::Certificate(what);
        }
        cause = one.source();
    }
    Fault::Broken { what: causes(error).unwrap_or_else(|| "the connection broke".to_owned()), reached }
}

/// What is wrong with a certificate, if that is why.
fn certificate(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
        return certificate(inner); // an io::Error gives the source of what it holds, not what it holds
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(format!("its certificate does not verify: {why}")),
        rustls::Error::AlertReceived(alert) => {
            Some(format!("it refuses our certificate, or the lack of one ({alert:?})"))
        }
        _ => None,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|why| format!("{}: {why}", file.display()))
}

fn no_pem(file: &Path, what: &str) -> String {
    format!("{} does not hold {what} in PEM form", file.display())
}

fn jitter() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}
