//! What an AWS service said instead of an answer.
//!
//! In:    status, headers and body of a refusal, in JSON or XML; or the word that no answer came.
//! Out:   whether to try again, and a failure in words.
//! Holds: the service's own words are shown only where they name rights; never those about a signature,
//!        which quote what was signed; a page of somebody else's is not quoted.
//! Not here: waiting (`call`).

use crate::error::{Failure, Kind};
use jiff::Timestamp;
use quick_xml::Reader;
use quick_xml::events::Event;
use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;
use std::time::Duration;

/// A refusal, or no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// HTTP status; `None`: no answer came.
    pub status: Option<u16>,
    /// AWS's word, such as `AccessDeniedException`, without its name space.
    pub code: String,
    message: String,
    /// What the service asks to be waited.
    pub wait: Option<Duration>,
    /// Seconds by which this machine's clock is ahead of the service's.
    ahead_s: Option<i64>,
}

/// Words by which AWS says "slower".
const THROTTLING: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "SlowDown",
    "EC2ThrottledException",
    "IDPCommunicationError",
];
/// Words of a signature or credentials that are too old.
const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException"];
/// Words of a signature that a clock may have spoilt.
const SIGNATURE: &[&str] =
    &["InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed"];
/// AWS takes a signature whose time is off by up to five minutes.
const SKEW_S: i64 = 290;
const AGAIN: &str = "AWS, or the way there, could not be used; try again later.";
/// Characters of the service's own words that are shown.
const SHOWN: usize = 400;

impl Fault {
    /// No answer came, for this reason.
    pub fn silent(why: impl Into<String>) -> Fault {
        Fault { status: None, code: String::new(), message: why.into(), wait: None, ahead_s: None }
    }

    /// An answer that is not AWS's.
    pub fn no_json(status: u16) -> Fault {
        let message = "an answer that is not AWS's (a proxy's page?)".to_owned();
        Fault { status: Some(status), code: String::new(), message, wait: None, ahead_s: None }
    }

    /// A secret without a text.
    pub fn binary() -> Fault {
        Fault { status: Some(200), code: "SecretBinary".into(), ..Fault::silent("it is binary") }
    }

    /// What `status`, `headers` and `body` say.
    pub fn answered(status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        let said = of_json(headers, body).or_else(|| of_xml(body));
        let Some((code, message)) = said else {
            return Fault { wait: retry_after(headers), ..Fault::no_json(status) };
        };
        let status = Some(status);
        Fault { status, code, message, wait: retry_after(headers), ahead_s: ahead(headers) }
    }

    /// Whether the service has no such secret.
    pub fn is_missing(&self) -> bool {
        self.code == "ResourceNotFoundException"
    }

    /// Whether other credentials may help: these were too old.
    pub fn is_expired(&self) -> bool {
        EXPIRED.contains(&self.code.as_str())
    }

    /// Whether it may be better the next time.
    pub fn is_passing(&self) -> bool {
        let by_status = matches!(self.status, None | Some(408 | 429 | 500 | 502 | 503 | 504));
        by_status || THROTTLING.contains(&self.code.as_str())
    }

    /// The failure of `cannot`, with `name` the secret or role it was about.
    pub fn failure(&self, cannot: &str, name: &str) -> anyhow::Error {
        let (kind, why, hint) = self.verdict(name);
        Failure::new(kind, format!("{cannot}: {why}")).hint(hint).into()
    }

    fn verdict(&self, name: &str) -> (Kind, String, String) {
        let code = self.code.as_str();
        let said =
            || if self.message.is_empty() { code.to_owned() } else { format!("{code}: {}", self.shown()) };
        if SIGNATURE.contains(&code) {
            return self.signature();
        }
        match (code, self.status) {
            ("", None) => (Kind::Temporary, self.shown(), AGAIN.into()),
            ("", Some(status)) if self.is_passing() => {
                (Kind::Temporary, format!("status {status}, {}", self.shown()), AGAIN.into())
            }
            _ if self.is_passing() => {
                (Kind::Temporary, format!("it asks to be left alone ({code})"), AGAIN.into())
            }
            ("", status) => {
                let why = format!("status {}, {}", status.unwrap_or_default(), self.shown());
                (Kind::Temporary, why, "Look at what stands between this machine and AWS.".into())
            }
            ("SecretBinary", _) => {
                (Kind::Config, "it is binary".into(), format!("Store {name} as a text (SecretString)."))
            }
            ("InvalidRequestException", _) => {
                let hint = format!(
                    "If that was no mistake, name no such id; else: aws secretsmanager restore-secret --secret-id {name}."
                );
                (Kind::Permission, "it is marked for deletion".into(), hint)
            }
            ("DecryptionFailure" | "KMSAccessDeniedException", _) => {
                let hint = format!("The role needs kms:Decrypt on the key of {name}.");
                (Kind::Permission, "its KMS key may not be used".into(), hint)
            }
            ("InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId", _) => {
                let why = format!("AWS does not know the access key ({code})");
                (Kind::Permission, why, "The key was deleted, or is of another partition of AWS.".into())
            }
            ("ExpiredToken" | "ExpiredTokenException", _) => {
                let hint = "Log in again, or let the role be assumed anew.".to_owned();
                (Kind::Permission, "the credentials have expired".into(), hint)
            }
            (_, Some(401 | 403)) | ("AccessDeniedException" | "AccessDenied", _) => {
                (Kind::Permission, said(), format!("Allow the role this on {name}."))
            }
            _ => (
                Kind::Config,
                said(),
                format!("Look at {name}, and at `aws_secrets_manager` in sankofa.yaml."),
            ),
        }
    }

    /// A signature is refused for a wrong key, or for a wrong clock: the answer's own time tells which.
    fn signature(&self) -> (Kind, String, String) {
        let off = self.ahead_s.filter(|ahead| ahead.abs() >= SKEW_S);
        let by_words = ["expired", "not yet current", "too skewed"].iter().any(|w| self.message.contains(w));
        match off {
            Some(ahead) => {
                let side = if ahead > 0 { "ahead of" } else { "behind" };
                let why = format!("this machine's clock is {} minutes {side} AWS's", ahead.abs() / 60);
                (Kind::Temporary, why, "Set the clock (chrony, systemd-timesyncd).".into())
            }
            None if by_words || self.code.starts_with("Request") => {
                let why = "this machine's clock and AWS's differ by more than five minutes".to_owned();
                (Kind::Temporary, why, "Set the clock (chrony, systemd-timesyncd).".into())
            }
            None => {
                let why = format!("AWS refuses the signature ({})", self.code);
                (Kind::Permission, why, "The secret access key is not that of the access key id.".into())
            }
        }
    }

    fn shown(&self) -> String {
        let words = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        words.chars().take(SHOWN).collect()
    }
}

/// AWS's word without name space and address: `com.amazonaws.x#AccessDeniedException:http://...`.
fn bare(code: &str) -> String {
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    code.chars().filter(char::is_ascii_alphanumeric).take(80).collect()
}

fn of_json(headers: &HeaderMap, body: &[u8]) -> Option<(String, String)> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let word = |keys: [&str; 3]| keys.into_iter().find_map(|key| said.get(key)?.as_str());
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = header.or_else(|| word(["__type", "code", "Code"]))?;
    Some((bare(code), word(["message", "Message", "errorMessage"]).unwrap_or_default().to_owned()))
}

fn of_xml(body: &[u8]) -> Option<(String, String)> {
    let code = text_of(body, "Code")?;
    Some((bare(&code), text_of(body, "Message").unwrap_or_default()))
}

/// The text of the first element called `name`, wherever it stands.
pub(super) fn text_of(xml: &[u8], name: &str) -> Option<String> {
    let mut reader = Reader::from_reader(xml);
    let (mut inside, mut text) = (false, String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => inside = start.local_name().as_ref() == name,
            Event::Text(part) if inside => text.push_str(&part),
            Event::GeneralRef(part) if inside => {
                text.push_str(quick_xml::escape::resolve_xml_entity(&part).unwrap_or_default());
            }
            Event::End(_) if inside => return Some(text),
            Event::Eof => return None,
            _ => {}
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Seconds by which this machine's clock is ahead of the answer's `Date`.
fn ahead(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::now().duration_since(theirs).as_secs())
}
