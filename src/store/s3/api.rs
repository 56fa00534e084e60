//! Calls of the S3 API: signed, bounded in time, tried again as `store::retry` says.
//!
//! In:    a method, a key, a query, headers, a body.
//! Out:   the answer, or the [`Fault`] that stands after the retries.
//! Holds: the hash of every body is part of its signature, so that a store keeps what was sent or says
//!        that it did not; the key is in no text.
//! Not here: what the XML means (`list`, `rules`).

use super::Tuning;
use super::xml::Element;
use crate::error::{Failure, Kind, classify};
use crate::secret::Connection;
use crate::secret::aws::{Ambient, Chain, Who};
use crate::store::http::{self, Answer, Bounds, Broken, retry_after};
use crate::store::retry::{self, Next, Refusal};
use anyhow::Result;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::fmt;
use std::time::{Duration, SystemTime};

/// What stands unescaped in a key and in a query (RFC 3986, as AWS signs it).
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PLAIN_KEY: AsciiSet = PLAIN.remove(b'/');
const REGION: &str = "us-east-1";
/// Bytes of an answer in a foreign shape that are shown.
const SHOWN_BYTES: usize = 200;

/// A key's way into S3.
pub(super) struct Api {
    pub tuning: Tuning,
    http: Client,
    endpoint: Url,
    region: String,
    keys: Keys,
    connection: String,
}

/// What signs: the key of the connection, or whoever this machine is to AWS.
enum Keys {
    Fixed(Box<Credentials>),
    Chain(Chain),
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub method: Method,
    /// Whole path below the endpoint: bucket and key, not escaped.
    pub path: &'a str,
    pub query: Vec<(&'a str, String)>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl<'a> Call<'a> {
    /// A call without query, headers and body.
    pub fn new(method: Method, path: &'a str) -> Call<'a> {
        Call { method, path, query: Vec::new(), headers: Vec::new(), body: Bytes::new() }
    }

    /// Adds a word to the query.
    pub fn with(mut self, name: &'a str, value: impl Into<String>) -> Call<'a> {
        self.query.push((name, value.into()));
        self
    }
}

/// What came instead of a success.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub status: Option<u16>,
    /// S3's word, such as `NoSuchKey`.
    pub code: String,
    pub message: String,
    retry_after: Option<Duration>,
    /// Why it could not even be signed.
    keyless: Option<Failure>,
    /// Whether it may have been done all the same, now or in a try before.
    pub is_unsure: bool,
}

impl Api {
    /// Nobody is asked yet.
    ///
    /// # Errors
    /// 78 for a connection without a key, or with an endpoint that no key may be sent to.
    pub fn new(connection: &Connection, tuning: Tuning) -> Result<Api> {
        let id = &connection.id;
        let cannot = |why: &str, hint: &str| {
            Failure::config(format!("cannot use connection {id} for S3: {why}")).hint(hint)
        };
        let extra = |name: &str| connection.extra.get(name).and_then(Value::as_str).map(str::to_owned);
        let who =
            Who { region: extra("region_name"), profile: extra("profile_name"), role_arn: extra("role_arn") };
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let password = connection.password().map(|key| key.expose_secret());
        let keys = match (given(connection.login.as_deref()), given(password)) {
            (Some(id), Some(key)) => {
                let token = extra("aws_session_token");
                Keys::Fixed(Box::new(Credentials::new(id, key, token, None, "connection")))
            }
            (None, None) => Keys::Chain(Chain::new(who, Ambient::process())),
            _ => {
                let hint = "Give the access key id as login and the secret access key as password, or neither: \
                            then AWS is asked as who this machine is.";
                return Err(cannot("it has half a key", hint).into());
            }
        };
        let region = extra("region_name").unwrap_or_else(|| match &keys {
            Keys::Chain(chain) => chain.region().unwrap_or_else(|_| REGION.to_owned()),
            Keys::Fixed(_) => REGION.to_owned(),
        });
        let endpoint = extra("endpoint_url").unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = Url::parse(&endpoint)
            .ok()
            .filter(|url| http::is_safe(url) && url.username().is_empty() && url.path() == "/")
            .ok_or_else(|| {
                let hint = "Write it as https://s3.eu-central-003.backblazeb2.com, without user and path; \
                            http only for this machine.";
                cannot("its `endpoint_url` is no address that a key may be sent to", hint)
            })?;
        let http = http::client(tuning.connect)?;
        Ok(Api { tuning, http, endpoint, region, keys, connection: id.clone() })
    }

    /// The connection that it signs with, for messages.
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// Makes `call` until it is answered for good.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let mut tries = Tries::default();
        loop {
            match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => tries.after(fault, &self.tuning.pace).await?,
            }
        }
    }

    /// Makes `call` once.
    pub async fn once(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let slowest = Duration::from_secs(call.body.len() as u64 / self.tuning.slowest_bytes_per_s.max(1));
        let bounds = Bounds { idle: self.tuning.idle, overall: self.tuning.idle * 2 + slowest };
        let request = self.signed(call).await?;
        let answer = http::exchange(request, call.body.clone(), bounds).await;
        let answer = answer.map_err(Fault::broken)?;
        // A copy or a completion says 200 before it knows, and then that it failed.
        if (200..300).contains(&answer.status) && !is_error(&answer.body) {
            Ok(answer)
        } else {
            Err(Fault::answered(&answer))
        }
    }

    /// Sends `call` once and gives its answer with the body still to come.
    pub async fn open(&self, call: &Call<'_>) -> Result<reqwest::Response, Fault> {
        let response = http::send(self.signed(call).await?, Bytes::new(), self.tuning.idle).await;
        let response = response.map_err(Fault::broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let answer = http::whole(response, self.tuning.idle).await.map_err(Fault::broken)?;
        Err(Fault::answered(&answer))
    }

    async fn signed(&self, call: &Call<'_>) -> Result<RequestBuilder, Fault> {
        let mut url = self.endpoint.clone();
        url.set_path(&utf8_percent_encode(call.path, &PLAIN_KEY).to_string());
        let escape = |text: &str| utf8_percent_encode(text, &PLAIN).to_string();
        let words = call.query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        let query = words.collect::<Vec<_>>().join("&");
        url.set_query((!query.is_empty()).then_some(query.as_str()));
        let signature = self.signature(call, &url, self.credentials().await?);
        let headers = signature.ok_or_else(|| Fault::local("", "the request could not be signed"))?;
        let mut request = self.http.request(call.method.clone(), url);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        Ok(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
    }

    async fn credentials(&self) -> Result<Credentials, Fault> {
        match &self.keys {
            Keys::Fixed(keys) => Ok((**keys).clone()),
            Keys::Chain(chain) => chain.credentials().await.map_err(|why| Fault::keyless(&why)),
        }
    }

    fn signature(&self, call: &Call<'_>, url: &Url, by: Credentials) -> Option<Vec<(String, String)>> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = by.into();
        let params = v4::SigningParams::builder().identity(&identity).region(&self.region).name("s3");
        let params = params.time(SystemTime::now()).settings(settings).build().ok()?.into();
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str()?),
            None => url.host_str()?.to_owned(),
        };
        let headers = call.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.chain([("host", host.as_str())]);
        let body = SignableBody::Bytes(&call.body);
        let request = SignableRequest::new(call.method.as_str(), url.as_str(), headers, body).ok()?;
        let (instructions, _) = sign(request, &params).ok()?.into_parts();
        Some(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// How often something was tried.
#[derive(Default)]
pub(super) struct Tries {
    attempt: u32,
    is_unsure: bool,
}

impl Tries {
    /// Forgets the earlier ones, since something was achieved meanwhile.
    pub fn start_over(&mut self) {
        self.attempt = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `fault`, when there is to be none.
    pub async fn after(&mut self, mut fault: Fault, pace: &retry::Pace) -> Result<(), Fault> {
        if fault.keyless.is_some() {
            return Err(fault); // the chain has tried again itself
        }
        self.attempt += 1;
        self.is_unsure |= fault.is_unsure;
        fault.is_unsure = self.is_unsure;
        // S3 says 400 for a body that came too slowly, and for a clock that is off says 403.
        let status = if fault.code == "RequestTimeout" { Some(408) } else { fault.status };
        let refusal = Refusal { status, code: &fault.code, retry_after: fault.retry_after };
        match retry::decide(retry::Call::Account, &refusal, self.attempt, pace, retry::jitter()) {
            Next::BackOff(wait) => {
                let (attempt, wait_ms) = (self.attempt, wait.as_millis());
                if attempt > 2 {
                    // Somebody may be waiting for the answer.
                    tracing::warn!(%fault, attempt, wait_ms, "S3 failed again");
                } else {
                    tracing::debug!(%fault, attempt, wait_ms, "S3 failed");
                }
                tokio::time::sleep(wait).await;
                Ok(())
            }
            _ => Err(fault),
        }
    }
}

fn is_error(body: &[u8]) -> bool {
    let head = &body[..body.len().min(SHOWN_BYTES)];
    String::from_utf8_lossy(head).contains("<Error>")
}

impl Fault {
    fn broken(broken: Broken) -> Fault {
        Fault { is_unsure: broken.reached, ..Fault::local("", broken.what) }
    }

    /// A fault that we found ourselves, which may be better the next time.
    pub fn local(code: &str, message: impl Into<String>) -> Fault {
        let (code, message) = (code.to_owned(), message.into());
        Fault { status: None, code, message, retry_after: None, keyless: None, is_unsure: false }
    }

    /// Nobody could be found to sign.
    fn keyless(why: &anyhow::Error) -> Fault {
        Fault { keyless: Some(classify(why)), ..Fault::local("", String::new()) }
    }

    fn answered(answer: &Answer) -> Fault {
        let root = Element::parse(&answer.body).filter(|root| root.name == "Error");
        let (code, message) = match root {
            // The message may quote the key id and the string that was signed; those two do not.
            Some(root) if root.text_of("Code").starts_with("Signature") => {
                (root.text_of("Code").to_owned(), String::new())
            }
            Some(root) => (root.text_of("Code").to_owned(), root.text_of("Message").to_owned()),
            None => {
                let shown = &answer.body[..answer.body.len().min(SHOWN_BYTES)];
                let words = String::from_utf8_lossy(shown);
                (String::new(), words.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        };
        let status = if answer.status < 300 { 500 } else { answer.status };
        Fault {
            status: Some(status),
            retry_after: retry_after(&answer.headers),
            is_unsure: status >= 500 || code == "RequestTimeout",
            ..Fault::local(&code, message)
        }
    }

    /// The failure of `what`, such as `cannot list S3 bucket school-backups`.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        if let Some(failure) = &self.keyless {
            return anyhow::Error::from(failure.clone()).context(what.to_owned());
        }
        let (kind, hint) = match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => (Kind::Config, "Make the bucket, or correct its name in `stores`."),
            (_, "NoSuchUpload") => {
                (Kind::Temporary, "The unfinished upload is not there any more: the next run starts anew.")
            }
            (_, "RequestTimeTooSkewed") => (Kind::Temporary, "The clock of this machine is wrong: set it."),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
                (Kind::Permission, "The key of the connection is wrong, or of another region or endpoint.")
            }
            (Some(401 | 403), _) => {
                (Kind::Permission, "The key lacks a right for this bucket and these names.")
            }
            (Some(501), _) => {
                (Kind::Config, "This store does not offer what is asked of it: see its documentation.")
            }
            (None | Some(408 | 409 | 429 | 500..=599), _) => {
                (Kind::Temporary, "The store could not be used; try again later.")
            }
            _ => (Kind::Unclassified, ""),
        };
        let failure = Failure::new(kind, format!("{what}: {self}"));
        let failure = if hint.is_empty() { failure } else { failure.hint(hint) };
        failure.into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            None => write!(f, "no answer: {}", self.message),
            Some(status) => {
                let parts = [self.code.as_str(), self.message.as_str()];
                let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                write!(f, "{status} {}", said.join(": "))
            }
        }
    }
}
