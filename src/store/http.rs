//! HTTP as the stores need it: every exchange ends, whatever the other side does.
//!
//! In:    a request, its body, how long to wait.
//! Out:   an answer with its body, or the word that none came.
//! Holds: connect timeout, idle timeout in both directions, an overall bound; bodies go out with their
//!        length, never chunked; no redirect is followed; no text here quotes a URL or a header.
//! Not here: what an answer means, whether to try again (`retry`).

use crate::error::causes;
use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, RequestBuilder, Response, redirect};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// In all.
    pub overall: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// No answer came.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Why, in words that may be shown.
    pub what: String,
    /// Whether the other side may have done what it was asked all the same.
    pub reached: bool,
}

/// Bytes that go out at once; the idle clock starts anew with each piece.
const PIECE_BYTES: usize = 64 * 1024;
/// The longest answer that is kept in memory: a page of 1,000 rows is about 2 MB.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// A client that gives up connecting after `connect`, follows no redirect, and says who it is.
///
/// # Errors
/// Only when TLS cannot be set up at all.
pub fn client(connect: Duration) -> Result<Client> {
    let agent = concat!("sankofa/", env!("CARGO_PKG_VERSION"));
    let builder = Client::builder().user_agent(agent).connect_timeout(connect);
    let builder = builder.http1_only().redirect(redirect::Policy::none()).tcp_nodelay(true);
    builder.build().context("cannot set up HTTPS")
}

/// Sends `request` with `body` and reads the whole answer.
///
/// # Errors
/// [`Broken`] when no whole answer came within `bounds`.
pub async fn exchange(request: RequestBuilder, body: Bytes, bounds: Bounds) -> Result<Answer, Broken> {
    let overall = async { whole(send(request, body, bounds.idle).await?, bounds.idle).await };
    tokio::time::timeout(bounds.overall, overall).await.unwrap_or_else(|_| Err(too_slow(bounds.overall)))
}

/// Reads the rest of an answer.
///
/// # Errors
/// [`Broken`] when it ends early, nothing came for `idle`, or it is too long to be an answer.
pub async fn whole(response: Response, idle: Duration) -> Result<Answer, Broken> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut pieces = std::pin::pin!(pieces(response, idle));
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if whole.len() + piece.len() > ANSWER_BYTES {
            return Err(Broken {
                what: format!("an answer of more than {ANSWER_BYTES} bytes"),
                reached: true,
            });
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Answer { status, headers, body: whole.freeze() })
}

/// Sends `request` with `body` and waits for the head of the answer.
///
/// # Errors
/// [`Broken`] when none came, or nothing moved for `idle`.
pub async fn send(request: RequestBuilder, body: Bytes, idle: Duration) -> Result<Response, Broken> {
    let (start, moved) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let request = if body.is_empty() {
        request
    } else {
        let length = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(body.len()))]);
        request.headers(length).body(in_pieces(body, start, moved.clone())) // replaces one that is there
    };
    let mut sent = std::pin::pin!(request.send());
    loop {
        let deadline = start + Duration::from_millis(moved.load(Ordering::Relaxed)) + idle;
        match tokio::time::timeout_at(deadline.into(), &mut sent).await {
            Ok(answer) => return answer.map_err(|error| Broken::of(&error)),
            Err(_)
                if Instant::now() < start + Duration::from_millis(moved.load(Ordering::Relaxed)) + idle => {}
            Err(_) => return Err(silent(idle)),
        }
    }
}

/// `body` in pieces, each of which is noted in `moved` (milliseconds since `start`) as it goes.
///
/// Hyper sends no chunks when a length is given beside such a body; B2 refuses chunks.
fn in_pieces(body: Bytes, start: Instant, moved: Arc<AtomicU64>) -> Body {
    let pieces = stream::unfold(body, move |mut rest| {
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        moved.store(millis, Ordering::Relaxed);
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        std::future::ready((!piece.is_empty()).then_some((Ok::<_, io::Error>(piece), rest)))
    });
    Body::wrap_stream(pieces)
}

/// The body of `response` as it comes; an error, and the end, when nothing came for `idle`.
pub fn pieces(response: Response, idle: Duration) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    let body = Box::pin(response.bytes_stream());
    stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(idle, body.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => Some((Err(Broken::of(&error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(silent(idle)), None)),
        }
    })
}

/// Whether a secret may go there: encrypted, or not leaving this machine.
pub fn is_safe(url: &reqwest::Url) -> bool {
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

/// What `Retry-After` asks for, when it is a number of seconds. A date is no use without a common clock.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

impl Broken {
    /// What broke, without the URL: upload URLs and query strings are nobody's business.
    fn of(error: &reqwest::Error) -> Broken {
        let what = causes(error).unwrap_or_else(|| "the connection broke".to_owned());
        Broken { what, reached: !error.is_connect() && !error.is_builder() }
    }
}

fn silent(idle: Duration) -> Broken {
    Broken { what: format!("nothing moved for {} s", idle.as_secs_f32()), reached: true }
}

fn too_slow(overall: Duration) -> Broken {
    Broken { what: format!("not done after {} s", overall.as_secs_f32()), reached: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const BRIEF: Bounds = Bounds { idle: Duration::from_millis(300), overall: Duration::from_millis(900) };

    /// The answer to a request of `body` when the other side does as `serve` says.
    async fn against<F>(
        body: Bytes,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> Result<Answer, Broken>
    where
        F: Future<Output = io::Result<()>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/?secret=1", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
        let answer = exchange(client(BRIEF.idle).unwrap().post(url), body, BRIEF).await;
        server.abort();
        answer
    }

    async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(stream.read_u8().await.unwrap());
        }
        read
    }

    #[tokio::test]
    async fn a_body_goes_out_with_its_length_and_unchunked() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let body = Bytes::from(vec![7; 3 * PIECE_BYTES + 1]);
        let answer = against(body, |mut stream| async move {
            let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n").await).unwrap().to_lowercase();
            let mut body = vec![0; 3 * PIECE_BYTES + 1];
            stream.read_exact(&mut body).await?;
            sender.send((head, body.iter().all(|byte| *byte == 7))).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nok").await
        });
        let answer = answer.await.unwrap();
        let (head, equal) = receiver.await.unwrap();
        assert!(equal && head.contains("content-length: 196609") && !head.contains("chunked"), "{head}");
        assert!(head.contains("user-agent: sankofa/"), "{head}");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        assert_eq!(retry_after(&answer.headers), Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn who_never_answers_never_reads_or_trickles_is_left() {
        for body in [Bytes::new(), Bytes::from(vec![0; 64 << 20])] {
            let stuck = against(body, |stream| async move {
                let _open = stream;
                std::future::pending().await
            });
            assert!(stuck.await.unwrap_err().what.contains("nothing moved"));
        }
        let trickling = against(Bytes::new(), |mut stream| async move {
            read_until(&mut stream, b"\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(BRIEF.idle / 6).await;
            }
        });
        let trickled = trickling.await.unwrap_err().what;
        assert!(trickled.contains("not done after"), "{trickled}");
    }

    #[tokio::test]
    async fn a_broken_exchange_is_told_without_the_url() {
        let broken = against(Bytes::new(), |mut stream| async move {
            read_until(&mut stream, b"\r\n\r\n").await;
            Ok(())
        });
        let broken = broken.await.unwrap_err();
        assert!(broken.reached && !broken.what.contains("secret"), "{}", broken.what);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let request = client(BRIEF.idle).unwrap().get(format!("http://{closed}/?secret=1"));
        let refused = exchange(request, Bytes::new(), BRIEF).await.unwrap_err();
        assert!(!refused.reached && refused.what.contains("refused"), "{}", refused.what);
        assert!(!refused.what.contains("secret"), "{}", refused.what);
    }

    #[test]
    fn only_seconds_are_taken_from_retry_after() {
        let asked = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(asked(" 30 "), Some(Duration::from_secs(30)));
        for text in ["soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
