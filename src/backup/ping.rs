//! Signs of life for a monitor that alarms on silence, in the manner of healthchecks.io.
//!
//! In:    a URL, which is a secret: whoever knows it can pretend.
//! Out:   a GET of `URL/start` before, of `URL` or `URL/fail` after.
//! Holds: a monitor that cannot be reached is a warning and delays by seconds only; the URL is in no text.
//! Not here: mail and webhooks.

use crate::error::Failure;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tracing::warn;

/// Where to ping. Safe to clone, not to print.
#[derive(Clone)]
pub struct Ping {
    client: reqwest::Client,
    url: SecretString,
}

/// How long one ping may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How often a ping is tried.
const TRIES: u32 = 2;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins.
    Start,
    /// It went well.
    Success,
    /// It did not.
    Failure,
}

impl Ping {
    /// Pings `url`, an `http` or `https` URL.
    ///
    /// # Errors
    /// A usage failure that does not repeat it.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let refused = || {
            Failure::usage("cannot ping: --ping is no http or https URL")
                .hint("Copy the check's URL, without /start or /fail.")
        };
        let parsed = reqwest::Url::parse(url).map_err(|_| refused())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(refused());
        }
        // Where it redirects to would else be told its path, which is the token.
        let client =
            reqwest::Client::builder().timeout(WITHIN).referer(false).build().map_err(|_| refused())?;
        Ok(Ping { client, url: url.trim_end_matches('/').to_owned().into() })
    }

    /// Tells of `event`; never fails.
    pub async fn tell(&self, event: Event) {
        let ending = match event {
            Event::Start => "/start",
            Event::Success => "",
            Event::Failure => "/fail",
        };
        let url = format!("{}{ending}", self.url.expose_secret());
        let mut why = String::new();
        for _ in 0..TRIES {
            let answer = self.client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
            match answer {
                Ok(_) => return,
                Err(error) => why = cause(&error),
            }
        }
        warn!(cause = why, "the monitor of --ping was not reached");
    }
}

/// What went wrong, without the URL.
fn cause(error: &reqwest::Error) -> String {
    match error.status() {
        Some(status) => format!("status {}", status.as_u16()),
        None if error.is_timeout() => "no answer in time".into(),
        None if error.is_connect() => "no connection".into(),
        None => "the exchange broke".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for bad in ["MARK", "ftp://MARK/x", "https://", ""] {
            let failure = Ping::new(bad).err().unwrap();
            assert!(!format!("{failure:?}").contains("MARK"), "{failure:?}");
        }
        assert!(Ping::new("https://hc.example/ping/uuid").is_ok());
    }

    #[tokio::test]
    async fn where_a_monitor_redirects_to_is_not_told_the_url_that_was_asked_for() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listen = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (first, second) = (listen().await, listen().await);
        let place = second.local_addr().unwrap();
        let answer = async |from: tokio::net::TcpListener, text: String| {
            let (mut stream, _) = from.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ping = Ping::new(&format!("http://{}/MARK", first.local_addr().unwrap())).unwrap();
        let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://{place}/x\r\nContent-Length: 0\r\n\r\n");
        let done = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned();
        let ((), asked, told) =
            tokio::join!(ping.tell(Event::Success), answer(first, moved), answer(second, done));
        assert!(asked.contains("GET /MARK ") && told.contains("GET /x ") && !told.contains("MARK"), "{told}");
    }
}
