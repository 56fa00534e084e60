//! One exchange with an AWS service or a metadata endpoint: signed where it must be, bounded, tried again.
//!
//! In:    a method, an address, headers, a body; credentials.
//! Out:   the body of the answer, or the [`Fault`] that stands after the retries.
//! Holds: an answer ends at [`ANSWER_BYTES`] and [`Patience::overall`]; no redirect is followed; what goes to
//!        this machine or a metadata endpoint goes through no proxy; no text quotes an address's query,
//!        a header or a body.
//! Not here: what an answer means (`fault`), whose credentials these are (`chain`).

use super::fault::Fault;
use crate::error::causes;
use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use futures_util::StreamExt;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Url, redirect};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// The longest answer: a secret has 64 KiB, six times as many as escaped JSON.
const ANSWER_BYTES: usize = 1 << 20;
/// The first wait of a retry; each next is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(150);
/// The longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long is waited, and how often it is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the whole exchange.
    pub overall: Duration,
    /// Tries in all.
    pub tries: u32,
}

/// For a service of AWS.
pub(super) const SERVICE: Patience = Patience { overall: Duration::from_secs(20), tries: 5 };

/// The two ways out: through the proxy of the environment, and past it.
pub(super) struct Http {
    outward: Client,
    direct: Client,
}

impl Http {
    /// The one of this process; reads the system's root certificates when it is first asked for.
    ///
    /// # Errors
    /// Only when TLS cannot be set up at all.
    pub fn shared() -> Result<&'static Http> {
        static SHARED: OnceLock<Http> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared);
        }
        let builder = || {
            let agent = concat!("sankofa/", env!("CARGO_PKG_VERSION"));
            let builder = Client::builder().user_agent(agent).connect_timeout(Duration::from_secs(5));
            builder.http1_only().redirect(redirect::Policy::none()).tcp_nodelay(true)
        };
        let http = Http {
            outward: builder().build().context("cannot set up HTTPS")?,
            direct: builder().no_proxy().build().context("cannot set up HTTPS")?,
        };
        Ok(SHARED.get_or_init(|| http))
    }

    fn client(&self, url: &Url) -> &Client {
        if url.scheme() == "https" { &self.outward } else { &self.direct }
    }
}

/// One call.
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    pub body: &'a str,
    /// Service and region it is signed for; `None`: it is not.
    pub scope: Option<(&'static str, &'a str)>,
    pub patience: Patience,
}

impl<'a> Call<'a> {
    /// A call that is not signed.
    pub fn plain(method: Method, url: Url, patience: Patience) -> Call<'a> {
        Call { method, url, headers: Vec::new(), body: "", scope: None, patience }
    }

    /// A call of a service that speaks JSON.
    pub fn target(
        service: &'static str,
        target: &str,
        endpoint: &Url,
        region: &'a str,
        body: &'a str,
    ) -> Call<'a> {
        Call { scope: Some((service, region)), body, ..Call::plain(Method::POST, endpoint.clone(), SERVICE) }
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target)
    }

    /// A call of a service that speaks forms; not signed yet.
    pub fn form(endpoint: &Url, body: &'a str) -> Call<'a> {
        Call { body, ..Call::plain(Method::POST, endpoint.clone(), SERVICE) }
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    }

    /// Adds a header, which is signed if the call is.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Call<'a> {
        self.headers.push((name, Zeroizing::new(value.to_owned())));
        self
    }

    /// Makes the call until it is answered for good.
    pub async fn send(&self, http: &Http, by: Option<&Credentials>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        for attempt in 1.. {
            let fault = match self.once(http, by).await {
                Ok(answer) => return Ok(answer),
                Err(fault) if !fault.is_passing() || attempt >= self.patience.tries => return Err(fault),
                Err(fault) => fault,
            };
            let wait = wait_after(attempt, fault.wait);
            tracing::debug!(code = fault.code, status = fault.status, attempt, ?wait, "asks AWS again");
            tokio::time::sleep(wait).await;
        }
        Err(Fault::silent("not tried")) // not reached: the numbers do not end
    }

    async fn once(&self, http: &Http, by: Option<&Credentials>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let exchange = async {
            let mut request = http.client(&self.url).request(self.method.clone(), self.url.clone());
            for (name, value) in &self.headers {
                request = request.header(*name, value.as_str());
            }
            for (name, value) in self.signature(by)? {
                request = request.header(name, value);
            }
            let response = request.body(self.body.to_owned()).send().await.map_err(|e| broken(&e))?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = whole(response).await?;
            answered(status, &headers, body)
        };
        let overall = self.patience.overall;
        let late = |_| Fault::silent(format!("no whole answer within {} s", overall.as_secs_f32()));
        tokio::time::timeout(overall, exchange).await.map_err(late)?
    }

    /// The headers that sign it.
    fn signature(&self, by: Option<&Credentials>) -> Result<Vec<(String, String)>, Fault> {
        let Some(((service, region), by)) = self.scope.zip(by) else { return Ok(Vec::new()) };
        let unsigned = || Fault::silent("the request could not be signed");
        let identity = by.clone().into();
        let params = v4::SigningParams::builder().identity(&identity).region(region).name(service);
        let params = params.time(SystemTime::now()).settings(SigningSettings::default()).build();
        let params = params.map_err(|_| unsigned())?.into();
        let host = self.url.host_str().unwrap_or_default();
        let host = self.url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let headers = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.chain([("host", host.as_str())]);
        let body = SignableBody::Bytes(self.body.as_bytes());
        let request = SignableRequest::new(self.method.as_str(), self.url.as_str(), headers, body);
        let signed = sign(request.map_err(|_| unsigned())?, &params).map_err(|_| unsigned())?;
        let (instructions, _) = signed.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

fn answered(status: u16, headers: &HeaderMap, body: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if (200..300).contains(&status) { Ok(body) } else { Err(Fault::answered(status, headers, &body)) }
}

async fn whole(response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut pieces = std::pin::pin!(response.bytes_stream());
    let mut whole = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| broken(&e))?;
        if whole.len() + piece.len() > ANSWER_BYTES {
            return Err(Fault::silent(format!("an answer of more than {ANSWER_BYTES} bytes")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// What broke, without the address, whose query may name more than is anybody's business.
fn broken(error: &reqwest::Error) -> Fault {
    Fault::silent(causes(error).unwrap_or_else(|| "the connection broke".to_owned()))
}

/// Doubling, with a random half; or what the service asks for.
fn wait_after(attempt: u32, asked: Option<Duration>) -> Duration {
    let full = FIRST_WAIT * 2_u32.saturating_pow(attempt.saturating_sub(1).min(8));
    let share = (RandomState::new().hash_one(attempt) % 1000) as f64 / 1000.0;
    asked.unwrap_or(full / 2 + (full / 2).mul_f64(share)).min(LONGEST_WAIT)
}
