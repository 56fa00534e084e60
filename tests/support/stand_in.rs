//! A web server that says what a test wants: what no real one can be made to say.
//!
//! In:    for each request, what to reply.
//! Out:   the requests, as they came.
//! Holds: one request a connection; dropped, it ends.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path, such as `GET /latest`.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Asked {
    /// A header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// What to reply.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, headers (`name: value\r\n` each) and body.
    Whole(u16, String, String),
    /// An answer that ends before its length.
    Cut,
    /// An answer of a gigabyte, as far as somebody reads it.
    Endless,
}

impl Reply {
    /// `body` with 200.
    pub fn ok(body: impl Into<String>) -> Reply {
        Reply::Whole(200, String::new(), body.into())
    }

    /// `body` with `status`.
    pub fn status(status: u16, body: impl Into<String>) -> Reply {
        Reply::Whole(status, String::new(), body.into())
    }
}

/// A running server.
#[derive(Debug)]
pub struct StandIn {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Starts one that replies to the request number `n`, from 0, what `reply(n, request)` says.
    pub async fn start(reply: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, reply) = (asked.clone(), Arc::new(reply));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, reply) = (seen.clone(), reply.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &seen, &*reply).await; // a client may leave
                });
            }
        });
        StandIn { port, asked, task }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    reply: &(dyn Fn(usize, &Asked) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let asked = read(&mut stream).await?;
    let reply = {
        let mut seen = seen.lock().expect("unpoisoned");
        seen.push(asked.clone());
        reply(seen.len() - 1, &asked)
    };
    match reply {
        Reply::Whole(status, headers, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
        }
        Reply::Cut => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"SecretSt").await?,
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await?;
            let piece = vec![b' '; 1 << 16];
            for _ in 0..1 << 14 {
                stream.write_all(&piece).await?;
            }
        }
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut asked = Asked { line, headers, body: String::new() };
    let length = asked.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Ok(asked)
}
