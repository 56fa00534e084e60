//! Bytes from B2: a range of one version, by its id, to the end.
//!
//! In:    a version, a range of it.
//! Out:   the bytes as they come; a broken transfer goes on where it broke.
//! Holds: by id, so that all bytes are of one version; what comes is the range that was asked for, of a
//!        file of the listed length; a whole small file has the SHA-1 that B2 keeps of it.
//! Not here: hashes of large files, of which B2 keeps none (the manifest does).

// Own requests, since backblaze-b2-client 0.2.1 can ask for no range, sends no header and checks no
// hash (simple_client.rs `download_file_by_id`).

use super::Inner;
use super::api::{Tries, sensitive};
use super::fault::{DOWNLOAD, Fault};
use crate::error::Failure;
use crate::pg::copy::hex;
use crate::store::http::{self, Broken};
use crate::store::retry;
use crate::store::{Stream, Version};
use anyhow::Result;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use reqwest::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE};
use secrecy::ExposeSecret;
use sha1::{Digest, Sha1};
use std::ops::Range;
use std::sync::Arc;
use tokio::time::Instant;

/// Up to this length a whole file is compared with its SHA-1 before any of it is given away; B2 has
/// served wrong bytes of a good file (restic/restic #3268).
const SMALL_BYTES: u64 = 8 << 20;
/// How often such a file is fetched.
const FETCHES: u32 = 4;
/// What a transfer must have brought to count as going on; less is a trickle that breaks for ever.
const PROGRESS_BYTES: u64 = 1 << 20;

type Body = stream::BoxStream<'static, Result<Bytes, Broken>>;

/// Reads `range` of `version`.
pub(super) async fn read(store: Arc<Inner>, version: &Version, range: Range<u64>) -> Result<Stream> {
    let end = range.end.min(version.bytes);
    if range.start >= end {
        return Ok(stream::empty().boxed());
    }
    if (range.start, end) == (0, version.bytes) && version.bytes <= SMALL_BYTES {
        let bytes = small(store, version).await?;
        return Ok(stream::iter([Ok(bytes)]).boxed());
    }
    let transfer = Transfer::new(store, version, range.start..end);
    Ok(stream::try_unfold(transfer, |mut transfer| async move {
        Ok(transfer.piece().await?.map(|piece| (piece, transfer)))
    })
    .boxed())
}

/// A whole file with its hash checked.
async fn small(store: Arc<Inner>, version: &Version) -> Result<Bytes> {
    for _ in 0..FETCHES {
        let mut transfer = Transfer::new(store.clone(), version, 0..version.bytes);
        let mut whole = BytesMut::new();
        while let Some(piece) = transfer.piece().await? {
            whole.extend_from_slice(&piece);
        }
        let sha1 = hex(&Sha1::digest(&whole));
        if transfer.sha1.is_none_or(|kept| kept == sha1) {
            return Ok(whole.freeze());
        }
        tracing::warn!(name = %version.name, "B2 sent other bytes than it keeps; fetching them again");
    }
    let what = format!("cannot read {} in {}: its bytes have another SHA-1", version.name, store.place());
    Err(Failure::data(what).hint("The stored file, or the way to it, is damaged.").into())
}

/// A range on its way down.
struct Transfer {
    store: Arc<Inner>,
    name: String,
    id: String,
    total: u64,
    at: u64,
    end: u64,
    body: Option<(Body, Instant)>,
    tries: Tries,
    moved: u64,
    /// The SHA-1 that B2 keeps of the whole file, where it does.
    sha1: Option<String>,
}

impl Transfer {
    fn new(store: Arc<Inner>, version: &Version, range: Range<u64>) -> Transfer {
        Transfer {
            store,
            name: version.name.clone(),
            id: version.id.clone(),
            total: version.bytes,
            at: range.start,
            end: range.end,
            body: None,
            tries: Tries::new(retry::Call::Account),
            moved: 0,
            sha1: None,
        }
    }

    /// The next bytes; `None` when the whole range has come.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.end {
            let (mut body, deadline) = match self.body.take() {
                Some(open) => open,
                None => self.open().await?,
            };
            let came = tokio::time::timeout_at(deadline, body.next()).await;
            let why = match came {
                Ok(Some(Ok(piece))) if piece.is_empty() => {
                    self.body = Some((body, deadline));
                    continue;
                }
                Ok(Some(Ok(piece))) if piece.len() as u64 <= self.end - self.at => {
                    self.note(piece.len() as u64);
                    self.body = Some((body, deadline));
                    return Ok(Some(piece));
                }
                Ok(Some(Ok(_))) => "more bytes than were asked for".to_owned(),
                Ok(Some(Err(broken))) => broken.what,
                Ok(None) => "the bytes ended early".to_owned(),
                Err(_) => "the bytes came too slowly".to_owned(),
            };
            self.again(Fault::local(DOWNLOAD, None, "", why)).await?;
        }
        Ok(None)
    }

    fn note(&mut self, bytes: u64) {
        self.at += bytes;
        self.moved += bytes;
        if self.moved >= PROGRESS_BYTES {
            self.moved = 0;
            self.tries.start_over();
        }
    }

    async fn again(&mut self, fault: Fault) -> Result<()> {
        let tried = self.tries.after(fault, &self.store.api.tuning.pace).await;
        tried.map(drop).map_err(|fault| self.failure(&fault))
    }

    fn failure(&self, fault: &Fault) -> anyhow::Error {
        if fault.is_absent() {
            let what = format!("cannot read {} in {}: it is gone", self.name, self.store.place());
            return Failure::data(what).into();
        }
        self.store.failure(&format!("cannot read {} in", self.name), fault)
    }

    /// Asks for what is still missing, until B2 begins to send it.
    async fn open(&mut self) -> Result<(Body, Instant)> {
        let store = self.store.clone();
        let api = &store.api;
        loop {
            let session = api.session().await.map_err(|fault| self.failure(&fault))?;
            let fault = match self.ask(&session).await {
                Ok(response) => {
                    self.sha1 = kept_sha1(response.headers());
                    let bounds = api.bounds(self.end - self.at);
                    let body = http::pieces(response, bounds.idle).boxed();
                    return Ok((body, Instant::now() + bounds.overall));
                }
                Err(fault) => fault,
            };
            api.again(&session, fault, &mut self.tries).await.map_err(|fault| self.failure(&fault))?;
        }
    }

    // `&mut`, since a body on its way can be sent to another thread and not shared with it.
    async fn ask(&mut self, session: &super::session::Session) -> Result<Response, Fault> {
        if !session.has(DOWNLOAD.needs) {
            return Err(Fault::lacks(DOWNLOAD, DOWNLOAD.needs));
        }
        let (api, token) = (&self.store.api, session.token.expose_secret());
        let url = format!("{}{}{}", session.download_url, api.path(), DOWNLOAD.name);
        let request =
            api.http.get(url).query(&[("fileId", &self.id)]).header("Authorization", sensitive(token));
        let request = request.header(RANGE, format!("bytes={}-{}", self.at, self.end - 1));
        let broken = |broken| Fault::broken(DOWNLOAD, broken);
        let response = http::send(request, Bytes::new(), api.tuning.idle).await.map_err(broken)?;
        match response.status().as_u16() {
            200 | 206 if self.is_asked_for(&response) => Ok(response),
            200 | 206 => Err(Fault::local(DOWNLOAD, None, "", "another range or another length")),
            _ => {
                let answer = http::whole(response, api.tuning.idle).await.map_err(broken)?;
                Err(Fault::answered(DOWNLOAD, &answer, &[token]))
            }
        }
    }

    /// Whether what comes is what was asked for, of a file of the right length.
    fn is_asked_for(&self, response: &Response) -> bool {
        let text =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_length = text(CONTENT_LENGTH.as_str()) == (self.end - self.at).to_string();
        let is_whole = (self.at, self.end) == (0, self.total);
        let range = format!("bytes {}-{}/{}", self.at, self.end - 1, self.total);
        is_length && (text(CONTENT_RANGE.as_str()) == range || (response.status() == 200 && is_whole))
    }
}

/// The SHA-1 that B2 keeps: none of a large file, and one that it did not verify is none.
fn kept_sha1(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-bz-content-sha1")?.to_str().ok()?;
    (text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| text.to_lowercase())
}
