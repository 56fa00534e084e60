//! Tells people by webhook or mail that something failed, is late, or is well again.
//!
//! In:    a connection, a notice.
//! Out:   one POST, or one message a person. Holds: it ends within [`WITHIN`] whatever the receiver does, follows no redirect, and no
//!        text here holds the URL, the token or what the receiver answered.
//! Not here: who is told of what, and whether they were told before (`cmd::notify`).

mod mail;
mod shape;

pub use mail::Mail;

use crate::error::Failure;
use crate::secret::Connection;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use shape::Shape;
use std::time::Duration;

/// How long telling one receiver may take, tries included.
pub const WITHIN: Duration = Duration::from_secs(10);
/// Seconds between the tries.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: usize = 2;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run, backup or drill failed.
    Failure,
    /// Something is late, missing, or not covered.
    Late,
    /// It is as it should be again.
    Recovered,
    /// It succeeded.
    Success,
}

impl Event {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Event::Failure => "failure",
            Event::Late => "late",
            Event::Recovered => "recovered",
            Event::Success => "success",
        }
    }
}

/// What is told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What has happened.
    pub event: Event,
    /// To what, such as `backup hr`.
    pub subject: String,
    /// The environment.
    pub environment: String,
    /// The run, as the scheduler calls it.
    pub run_id: Option<String>,
    /// Exit status of the command.
    pub exit: u8,
    /// In words that may be shown: an error's sentence.
    pub said: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The checks that refused the rows, a line each: keys of rows, no other cell.
    pub missed: Vec<String>,
    /// When.
    pub at: Timestamp,
}

/// One receiver. It holds secrets, so it has no `Debug`.
pub struct Webhook {
    url: SecretString,
    headers: HeaderMap,
    shape: Shape,
}

impl Webhook {
    /// The receiver of an Airflow connection of type `http`, `slackwebhook` and the like: host, port,
    /// `schema` (http or https), password = bearer token; extra `endpoint` = path, `headers`, `format`
    /// (`json`, `slack`, `teams`; else by the host).
    ///
    /// # Errors
    /// 78 for a connection that makes no URL; nothing of it is quoted.
    pub fn of(connection: &Connection) -> Result<Webhook, Failure> {
        let refused = |why: &str| {
            Failure::config(format!("cannot notify by connection {}: {why}", connection.id))
                .hint("It needs host, schema (https), and in the extra `endpoint`, the path.")
        };
        let text = |name: &str| connection.extra.get(name).and_then(Value::as_str);
        let host = connection.host.as_deref().unwrap_or_default();
        let start = match host.contains("://") {
            true => host.to_owned(),
            false => format!(
                "{}://{host}",
                connection.schema.as_deref().filter(|s| !s.is_empty()).unwrap_or("https")
            ),
        };
        let mut url = reqwest::Url::parse(&start).map_err(|_| refused("its host makes no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(refused("its host makes no http or https URL"));
        }
        if let Some(port) = connection.port {
            url.set_port(Some(port)).map_err(|()| refused("its port does not fit"))?;
        }
        if let Some(endpoint) = text("endpoint") {
            url = url
                .join(&format!("/{}", endpoint.trim_start_matches('/')))
                .map_err(|_| refused("its endpoint is no path"))?;
        }
        let shape = match text("format") {
            Some(word) => {
                Shape::named(word).ok_or_else(|| refused("its `format` is not json, slack or teams"))?
            }
            None => Shape::of_host(url.host_str().unwrap_or_default()),
        };
        let headers =
            headers(connection).ok_or_else(|| refused("its headers or its password cannot be sent"))?;
        Ok(Webhook { url: String::from(url).into(), headers, shape })
    }

    /// Tells it; why it could not be told, in words that may be shown.
    ///
    /// # Errors
    /// The words.
    pub async fn tell(&self, notice: &Notice) -> Result<(), String> {
        tried(async || self.post(notice).await).await
    }

    /// One try; why it failed, and whether another may go better.
    async fn post(&self, notice: &Notice) -> Result<(), (String, bool)> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sankofa/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| ("HTTPS cannot be set up".to_owned(), false))?;
        let request =
            client.post(self.url.expose_secret()).headers(self.headers.clone()).json(&self.shape.of(notice));
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status().as_u16();
                Err((format!("status {status}"), status >= 500 || status == 429))
            }
            Err(error) if error.is_connect() => Err(("no connection".into(), true)),
            Err(_) => Err(("the exchange broke".into(), true)),
        }
    }
}

/// Tries to tell one receiver; a failed try says why, and whether another may go better.
async fn tried(tell: impl AsyncFn() -> Result<(), (String, bool)>) -> Result<(), String> {
    let told = async {
        let mut done = tell().await;
        for _ in 1..TRIES {
            if matches!(done, Ok(()) | Err((_, false))) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            done = tell().await;
        }
        done.map_err(|(why, _)| why)
    };
    match tokio::time::timeout(WITHIN, told).await {
        Ok(done) => done,
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

fn headers(connection: &Connection) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(token) = connection.password().filter(|token| !token.expose_secret().is_empty()) {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
        value.set_sensitive(true);
        headers.insert(reqwest::header::AUTHORIZATION, value);
    }
    for (name, value) in connection.extra.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let mut value = HeaderValue::from_str(value.as_str()?).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let connection = Connection::parse("alerts", text).unwrap();
        Webhook::of(&connection)
            .map(|hook| hook.url.expose_secret().to_owned())
            .map_err(|failure| failure.what)
    }

    #[test]
    fn the_url_is_put_together_as_airflow_does() {
        let json = r#"{"conn_type": "http", "host": "hooks.example", "port": 8443, "schema": "https", "extra": {"endpoint": "a/b"}}"#;
        assert_eq!(of(json).unwrap(), "https://hooks.example:8443/a/b");
        let whole = r#"{"conn_type": "http", "host": "http://hooks.example/x", "extra": "{}"}"#;
        assert_eq!(of(whole).unwrap(), "http://hooks.example/x");
        assert_eq!(
            of(r#"{"conn_type": "http", "host": "hooks.example"}"#).unwrap(),
            "https://hooks.example/"
        );
    }

    #[test]
    fn what_makes_no_url_is_refused_and_not_quoted() {
        for bad in ["ftp://MARK", "", "MARK MARK"] {
            let told = of(&serde_json::json!({"conn_type": "http", "host": bad}).to_string()).unwrap_err();
            assert!(!told.contains("MARK") && told.contains("alerts"), "{told}");
        }
        let odd = r#"{"conn_type": "http", "host": "x", "extra": {"format": "MARK"}}"#;
        assert!(!of(odd).unwrap_err().contains("MARK"));
    }
}
