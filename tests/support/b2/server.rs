//! Four ports, HTTP/1.1, and the way of a call through them: noted, met by a fault, done, answered.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::future::pending;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::oneshot;

use super::answer::{Answer, Outcome, Refusal};
use super::api;
use super::downloads::Wanted;
use super::faults::What;
use super::socket::{Plug, Socket};
use super::state::{Call, World};
use super::uploads::{self, Reading, Turn};

/// What each port is for. A call at the wrong one is refused: nothing may be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Front,
    Api,
    Download,
    Upload,
}

/// The addresses, as `http://127.0.0.1:port`.
#[derive(Clone, Debug)]
pub struct Doors {
    pub front: String,
    pub api: String,
    pub download: String,
    pub upload: String,
}

/// Binds free ports.
pub fn open_doors() -> (Doors, Vec<TcpListener>) {
    let listeners: Vec<TcpListener> =
        (0..4).map(|_| TcpListener::bind("127.0.0.1:0").expect("binding B2")).collect();
    let url = |index: usize| {
        let listener: &TcpListener = &listeners[index];
        format!("http://{}", listener.local_addr().expect("reading its port"))
    };
    (Doors { front: url(0), api: url(1), download: url(2), upload: url(3) }, listeners)
}

/// Serves until told to stop; connections end with it.
pub async fn serve(world: Arc<World>, listeners: Vec<TcpListener>, stopped: oneshot::Receiver<()>) {
    let doors = [Door::Front, Door::Api, Door::Download, Door::Upload];
    for (listener, door) in listeners.into_iter().zip(doors) {
        listener.set_nonblocking(true).expect("a listener for tokio");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for tokio");
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                tokio::spawn(converse(Arc::clone(&world), door, socket));
            }
        });
    }
    let _ = stopped.await;
}

async fn converse(world: Arc<World>, door: Door, socket: tokio::net::TcpStream) {
    let plug = Plug::default();
    let socket = Socket::new(TokioIo::new(socket), plug.clone());
    let service = service_fn(|request| {
        let way = Way { world: Arc::clone(&world), door, plug: plug.clone() };
        async move { way.go(request).await }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(socket, service)
        .await;
}

/// The connection ends without an answer.
#[derive(Debug)]
pub struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by a fault, or by the client")
    }
}

impl std::error::Error for Cut {}

type Reply = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What a request is, by its port and path.
struct Route {
    call: String,
    version: u32,
}

fn route(door: Door, path: &str) -> Option<Route> {
    if door == Door::Download && path.starts_with("/file/") {
        return Some(Route { call: "b2_download_file_by_name".to_owned(), version: 4 });
    }
    let mut parts = path.strip_prefix("/b2api/v")?.split('/');
    let version = parts.next()?.parse().ok()?;
    let call = parts.next()?.to_owned();
    let rest = parts.count();
    let (right_door, segments) = match call.as_str() {
        "b2_authorize_account" => (Door::Front, 0),
        "b2_download_file_by_id" => (Door::Download, 0),
        "b2_upload_file" | "b2_upload_part" => (Door::Upload, 2),
        _ => (Door::Api, 0),
    };
    let is_right = right_door == door && rest == segments && (1..=4).contains(&version);
    is_right.then_some(Route { call, version })
}

/// One request's way.
struct Way {
    world: Arc<World>,
    door: Door,
    plug: Plug,
}

impl Way {
    async fn go(self, request: Request<Incoming>) -> Result<Reply, Cut> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let Some(route) = route(self.door, &path) else {
            uploads::drain(body).await;
            return Ok(reply(Refusal::new(404, "not_found", "no such call at this address").answer()));
        };
        let number = self.note(&route, &head);
        let fault = self.world.state().fault_for(&route.call);
        if fault.is_some() {
            self.world.state().note(number, |call| call.is_faulted = true);
        }
        self.before(fault.as_ref(), &path).await?;
        let early = match &fault {
            Some(What::EarlyAnswer { status, code }) => Some(Refusal::new(*status, code, "early")),
            _ => None,
        };
        if let Some(refusal) = early {
            return Ok(self.answered(number, Err(refusal), true));
        }
        let (outcome, turn) = self.attend(&route, &head, body, (number, fault.as_ref())).await?;
        let outcome = self.after(fault.as_ref(), outcome, &path).await?;
        if let (Ok(Answer { status: 200, .. }), Some(turn)) = (&outcome, turn) {
            turn.keep_url();
        }
        Ok(self.answered(number, outcome, false))
    }

    fn note(&self, route: &Route, head: &hyper::http::request::Parts) -> usize {
        let headers = head.headers.iter().filter(|(name, _)| *name != "authorization");
        let headers = headers.map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        self.world.state().see(Call {
            call: route.call.clone(),
            headers: headers.collect(),
            path: head.uri.path().to_owned(),
            json: head.uri.query().and_then(|query| api::from_query(query).ok()).unwrap_or_default(),
            ..Call::default()
        })
    }

    /// What a fault does before anything of the body is read.
    async fn before(&self, fault: Option<&What>, path: &str) -> Result<(), Cut> {
        match fault {
            Some(What::ResetBefore) => {
                self.world.state().kill_url(path);
                Err(self.plug.pull())
            }
            Some(What::Stall) => {
                self.world.state().kill_url(path);
                pending().await
            }
            Some(What::EarlyAnswer { .. }) => {
                self.world.state().kill_url(path);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a fault does when the request is read and nothing is done yet.
    async fn between(&self, fault: Option<&What>) -> Result<Option<Answer>, Cut> {
        match fault {
            Some(What::Reset) => Err(self.plug.pull()),
            Some(What::NotJson { status }) => {
                let mut answer = Refusal::new(*status, "", "").answer();
                let page = "<html><body><h1>Bad Gateway</h1> a proxy speaks</body></html>".to_owned();
                (answer.json, answer.body) = (None, super::body::Outflow::text(page));
                answer.headers = vec![("content-type".to_owned(), "text/html".to_owned())];
                Ok(Some(answer))
            }
            Some(What::Answer { status, code, retry_after }) => {
                let mut answer = Refusal::new(*status, code, "a fault of the test").answer();
                answer.headers.extend(retry_after.clone().map(|wait| ("retry-after".to_owned(), wait)));
                Ok(Some(answer))
            }
            _ => Ok(None),
        }
    }

    /// Reads the request and does what it asks.
    async fn attend(
        &self,
        route: &Route,
        head: &hyper::http::request::Parts,
        body: Incoming,
        met: (usize, Option<&What>),
    ) -> Result<(Outcome<Answer>, Option<Turn>), Cut> {
        let (number, fault) = met;
        let call = route.call.as_str();
        if self.door == Door::Upload {
            return self.upload(call, head, body, met).await;
        }
        let bytes = uploads::collect(body).await.ok_or(Cut)?;
        self.world.state().note(number, |noted| noted.bytes_in = bytes.len() as u64);
        if let Some(answer) = self.between(fault).await? {
            return Ok((Ok(answer), None));
        }
        let mut state = self.world.state();
        let query = head.uri.query().unwrap_or_default();
        let token = head.headers.get("authorization").and_then(|value| value.to_str().ok());
        let is_get = head.method == Method::GET;
        let outcome = match (self.door, call) {
            (Door::Front, _) => state.authorize(token, route.version, &self.world.doors),
            (Door::Download, _) => {
                let id =
                    api::from_query(query).ok().and_then(|json| Some(json["fileId"].as_str()?.to_owned()));
                let is_by_id = call == "b2_download_file_by_id";
                if is_by_id && id.is_none() {
                    return Ok((Err(Refusal::bad_request("fileId is missing")), None));
                }
                state.download(&Wanted {
                    path: head.uri.path(),
                    id: id.as_deref().filter(|_| is_by_id),
                    headers: &head.headers,
                    shift: if let Some(What::ShiftRange(by)) = fault { *by } else { 0 },
                    ignores_range: matches!(fault, Some(What::IgnoreRange)),
                })
            }
            _ => {
                let rights = state.rights(token);
                let json = api::arguments(call, is_get, query, &bytes);
                state.note(number, |noted| noted.json = json.clone().unwrap_or(Value::Null));
                let asked = rights.and_then(|rights| json.map(|json| (rights, json)));
                asked.and_then(|(rights, json)| api::act(&mut state, &self.world.doors, call, &rights, json))
            }
        };
        Ok((outcome, None))
    }

    async fn upload(
        &self,
        call: &str,
        head: &hyper::http::request::Parts,
        body: Incoming,
        met: (usize, Option<&What>),
    ) -> Result<(Outcome<Answer>, Option<Turn>), Cut> {
        let (number, fault) = met;
        let call = if call == "b2_upload_part" { "b2_upload_part" } else { "b2_upload_file" };
        let taken = uploads::take(&self.world, call, head.uri.path(), &head.headers);
        let (turn, target, rights) = match taken {
            Ok(taken) => taken,
            Err(refusal) => {
                uploads::drain(body).await.then_some(()).ok_or(Cut)?;
                return Ok((Err(refusal), None));
            }
        };
        if head.method != Method::POST {
            return Ok((Err(Refusal::new(405, "method_not_allowed", "uploads are POST")), Some(turn)));
        }
        let pace = if let Some(What::TrickleIn(pace)) = fault { Some(*pace) } else { None };
        let cut_at = if let Some(What::ResetWithin(bytes)) = fault { Some(*bytes) } else { None };
        let reading = Reading { world: &self.world, number, pace, cut_at };
        let received = uploads::receive(reading, call, (target, rights), head.headers.clone(), body).await;
        let received = received.ok_or_else(|| self.plug.pull())?;
        if let Some(answer) = self.between(fault).await? {
            return Ok((Ok(answer), Some(turn)));
        }
        let stored = received.and_then(|received| self.world.state().store(received));
        Ok((stored.map(Answer::json), Some(turn)))
    }

    /// What a fault does to an answer, or instead of it, when all is done.
    async fn after(
        &self,
        fault: Option<&What>,
        outcome: Outcome<Answer>,
        path: &str,
    ) -> Result<Outcome<Answer>, Cut> {
        let Some(fault) = fault else { return Ok(outcome) };
        let mut answer = match (fault, outcome) {
            (What::LostAnswer, _) => return Err(self.plug.pull()),
            (What::StallAfter, _) => pending().await,
            (_, Err(refusal)) => return Ok(Err(refusal)),
            (_, Ok(answer)) => answer,
        };
        match fault {
            What::Late(by) => tokio::time::sleep(*by).await,
            What::Trickle(pace) => answer.body.pace = Some(*pace),
            What::FlipByte(at) => answer.body.flip = Some(*at),
            What::Resize(by) => {
                answer.body.declared = Some(answer.body.own_length().saturating_add_signed(*by))
            }
            What::Truncate(at) => {
                answer.body.cut_at = Some(*at);
                self.world.state().kill_url(path);
            }
            What::Edit(edit) => {
                if let Some(mut json) = answer.json.take() {
                    edit(&mut json);
                    answer = answer.with_json(json);
                }
            }
            _ => {}
        }
        Ok(Ok(answer))
    }

    fn answered(&self, number: usize, outcome: Outcome<Answer>, closes: bool) -> Reply {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer(),
        };
        self.world.state().note(number, |call| {
            call.status = Some(answer.status);
            let code =
                answer.json.as_ref().filter(|_| answer.status >= 400).and_then(|json| json["code"].as_str());
            call.code = code.unwrap_or_default().to_owned();
        });
        let mut reply = reply(answer);
        if closes {
            reply.headers_mut().insert("connection", hyper::header::HeaderValue::from_static("close"));
        }
        reply
    }
}

fn reply(answer: Answer) -> Reply {
    let mut builder =
        Response::builder().status(answer.status).header("content-length", answer.body.length());
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    builder
        .body(answer.body.into_body())
        .unwrap_or_else(|error| panic!("an answer that is not HTTP: {error}"))
}
