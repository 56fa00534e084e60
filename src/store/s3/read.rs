//! Bytes from S3: a range of one version, to the end.
//!
//! In:    a version, a range of it.
//! Out:   the bytes as they come; a broken transfer goes on where it broke.
//! Holds: what comes is the range that was asked for, of an object of the listed length.
//! Not here: hashes (the manifest has them).

use super::Inner;
use super::api::{Call, Fault, Tries};
use crate::store::http::{self, Broken};
use crate::store::{Stream, Version};
use anyhow::Result;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response};
use std::ops::Range;
use std::sync::Arc;

/// What a transfer must have brought to count as going on; less is a trickle that breaks for ever.
const PROGRESS_BYTES: u64 = 1 << 20;

type Body = stream::BoxStream<'static, Result<Bytes, Broken>>;

/// Reads `range` of `version`.
pub(super) fn read(store: Arc<Inner>, version: &Version, range: Range<u64>) -> Stream {
    let (at, end) = (range.start, range.end.min(version.bytes));
    let (body, tries, moved) = (None, Tries::default(), 0);
    let transfer = Transfer { store, version: version.clone(), at, end, body, tries, moved };
    stream::try_unfold(transfer, |mut transfer| async move {
        Ok(transfer.piece().await?.map(|piece| (piece, transfer)))
    })
    .boxed()
}

struct Transfer {
    store: Arc<Inner>,
    version: Version,
    at: u64,
    end: u64,
    body: Option<Body>,
    tries: Tries,
    moved: u64,
}

impl Transfer {
    /// The next bytes; `None` when the whole range has come.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.end {
            let Some(mut body) = self.body.take() else {
                match self.open().await {
                    Ok(body) => self.body = Some(body),
                    Err(fault) => self.again(fault).await?,
                }
                continue;
            };
            let why = match body.next().await {
                Some(Ok(piece)) if piece.len() as u64 <= self.end - self.at => {
                    self.note(piece.len() as u64);
                    self.body = Some(body);
                    return Ok(Some(piece));
                }
                Some(Ok(_)) => "more bytes than were asked for".to_owned(),
                Some(Err(broken)) => broken.what,
                None => "the bytes ended early".to_owned(),
            };
            self.again(Fault::local("", why)).await?;
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<Body, Fault> {
        let path = self.store.path(&self.version.name);
        let mut call = Call::new(Method::GET, &path);
        if !self.version.id.is_empty() {
            call = call.with("versionId", self.version.id.as_str());
        }
        call.headers.push(("range", format!("bytes={}-{}", self.at, self.end - 1)));
        let response = self.store.api.open(&call).await?;
        if !self.is_asked_for(&response) {
            return Err(Fault::local("", "another range than the one that was asked for"));
        }
        Ok(http::pieces(response, self.store.api.tuning.idle).boxed())
    }

    fn is_asked_for(&self, response: &Response) -> bool {
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let wanted = format!("bytes {}-{}/{}", self.at, self.end - 1, self.version.bytes);
        match range {
            Some(range) => range == wanted,
            None => self.at == 0 && response.content_length() == Some(self.version.bytes),
        }
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
        tried.map_err(|fault| self.store.failure(&format!("cannot read {} in", self.version.name), &fault))
    }
}
