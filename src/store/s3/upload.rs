//! One object on its way up, of a length that nobody knows yet.
//!
//! In:    bytes in order.
//! Out:   a small object in one piece, or one of several parts that are sent while more are fed.
//! Holds: what is not finished is withdrawn; what is finished is listed with its length before it is
//!        called done; a completion whose answer was lost is looked for before it is believed lost.
//! Not here: how long a part is (`store::parts`).

use super::Inner;
use super::api::{Call, Fault, Tries};
use super::rules::mode_word;
use super::xml::{Element, escape};
use crate::error::Failure;
use crate::store::parts::{MOST_PARTS, most_in_flight, part_bytes};
use crate::store::{Terms, Upload, Version};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::Method;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The least that S3 takes as a part but the last.
const MINIMUM_PART: u64 = 5 << 20;
/// A signal leaves this much time to say that an upload is not wanted (`stop::CLEAN_UP` is 3 s).
const LAST_WORD: Duration = Duration::from_millis(2500);

/// An upload. In memory: the part that is filled and those on their way.
pub(super) struct S3Upload {
    store: Arc<Inner>,
    name: String,
    terms: Terms,
    filled: Vec<u8>,
    fed: u64,
    parts: JoinSet<Result<(u32, String)>>,
    sent: u32,
    etags: BTreeMap<u32, String>,
    begun: Arc<Mutex<Begun>>,
}

/// The upload as whoever withdraws it must know it.
#[derive(Default)]
struct Begun {
    id: Option<String>,
    is_withdrawn: bool,
}

impl S3Upload {
    /// Nothing is asked of the store before the first part is full.
    pub fn new(store: Arc<Inner>, name: &str, terms: Terms) -> S3Upload {
        S3Upload {
            store,
            name: name.to_owned(),
            terms,
            filled: Vec::new(),
            fed: 0,
            parts: JoinSet::new(),
            sent: 0,
            etags: BTreeMap::new(),
            begun: Arc::default(),
        }
    }

    fn failure(&self, fault: &Fault) -> anyhow::Error {
        self.store.failure(&format!("cannot store {} in", self.name), fault)
    }

    fn lock_headers(&self) -> Vec<(&'static str, String)> {
        let Some((until, mode)) = self.terms.lock_until else { return Vec::new() };
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        vec![
            ("x-amz-object-lock-mode", mode_word(mode).to_owned()),
            ("x-amz-object-lock-retain-until-date", until),
        ]
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        while let Some(ended) = self.parts.try_join_next() {
            self.note(ended)?;
        }
        while !bytes.is_empty() {
            let most = part_bytes(self.sent + 1, self.store.api.tuning.part_bytes, MINIMUM_PART);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            if self.filled.len() == most {
                self.send_part().await?;
                continue;
            }
            if self.filled.capacity() == 0 {
                self.filled.reserve_exact(most); // touched as it fills
            }
            let piece = bytes.split_to(bytes.len().min(most - self.filled.len()));
            self.filled.extend_from_slice(&piece);
            self.fed += piece.len() as u64;
        }
        Ok(())
    }

    fn note(&mut self, ended: Result<Result<(u32, String)>, tokio::task::JoinError>) -> Result<()> {
        let (number, etag) = ended.context("cannot send a part")??;
        self.etags.insert(number, etag);
        Ok(())
    }

    async fn wait_for(&mut self, most: usize) -> Result<()> {
        while self.parts.len() > most {
            let Some(ended) = self.parts.join_next().await else { break };
            self.note(ended)?;
        }
        Ok(())
    }

    /// The id of the upload; begun when there is none.
    async fn id(&mut self) -> Result<String> {
        {
            let begun = lock(&self.begun);
            if begun.is_withdrawn {
                let what = format!("cannot store {}: it has been withdrawn", self.name);
                return Err(Failure::temporary(what).into());
            }
            if let Some(id) = &begun.id {
                return Ok(id.clone());
            }
        }
        let path = self.store.path(&self.name);
        let mut call = Call::new(Method::POST, &path).with("uploads", "");
        call.headers = self.lock_headers();
        // An upload that was begun unseen is what `sweep` is for.
        let answer = self.store.api.call(&call).await.map_err(|fault| self.failure(&fault))?;
        let id = Element::parse(&answer.body).map(|root| root.text_of("UploadId").to_owned());
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| self.failure(&Fault::local("", "an answer without UploadId")))?;
        lock(&self.begun).id = Some(id.clone());
        Ok(id)
    }

    async fn send_part(&mut self) -> Result<()> {
        let id = self.id().await?;
        if self.sent == MOST_PARTS {
            let what = format!("cannot store {}: it takes more than {MOST_PARTS} parts", self.name);
            return Err(Failure::data(what).into());
        }
        self.sent += 1;
        let number = self.sent;
        self.wait_for(most_in_flight(number) - 1).await?;
        let bytes = Bytes::from(std::mem::take(&mut self.filled));
        let (store, name) = (self.store.clone(), self.name.clone());
        self.parts.spawn(async move {
            let path = store.path(&name);
            let call = Call::new(Method::PUT, &path);
            let mut call = call.with("partNumber", number.to_string()).with("uploadId", id);
            call.body = bytes;
            let failed =
                |fault: &Fault| store.failure(&format!("cannot store part {number} of {name} in"), fault);
            let answer = store.api.call(&call).await.map_err(|fault| failed(&fault))?;
            let etag = answer.headers.get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let etag = etag.ok_or_else(|| failed(&Fault::local("", "an answer without ETag")))?;
            Ok((number, etag))
        });
        Ok(())
    }

    async fn end(&mut self) -> Result<Version> {
        if self.sent == 0 {
            self.end_small().await?;
        } else {
            self.end_parts().await?;
        }
        lock(&self.begun).id = None;
        self.listed().await?.ok_or_else(|| {
            let cannot = format!("cannot store {} in {}", self.name, self.store.place());
            Failure::temporary(format!("{cannot}: it was acknowledged and is not listed with its length"))
                .hint("Nothing refers to it yet; run the command again.")
                .into()
        })
    }

    async fn end_small(&mut self) -> Result<()> {
        let path = self.store.path(&self.name);
        let mut call = Call::new(Method::PUT, &path);
        call.body = Bytes::from(std::mem::take(&mut self.filled));
        call.headers = self.lock_headers();
        // A store wants a checksum of its own beside a lock.
        call.headers.push(("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&call.body))));
        // Sent twice it is the same object twice: two versions of one content.
        self.store.api.call(&call).await.map(drop).map_err(|fault| self.failure(&fault))
    }

    async fn end_parts(&mut self) -> Result<()> {
        if !self.filled.is_empty() {
            self.send_part().await?;
        }
        self.wait_for(0).await?;
        let id = self.id().await?;
        let part = |(number, etag): (&u32, &String)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", escape(etag))
        };
        let parts: String = self.etags.iter().map(part).collect();
        let path = self.store.path(&self.name);
        let mut call = Call::new(Method::POST, &path).with("uploadId", id);
        call.body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into();
        let mut tries = Tries::default();
        loop {
            let Err(fault) = self.store.api.once(&call).await else { return Ok(()) };
            // Completed before, unseen: the upload is gone and the object is there.
            let may_be_done = fault.is_unsure || fault.code == "NoSuchUpload";
            if may_be_done && self.listed().await?.is_some() {
                return Ok(());
            }
            tries.after(fault, &self.store.api.tuning.pace).await.map_err(|fault| self.failure(&fault))?;
        }
    }

    /// The newest version of the name, when it has the length that was fed.
    async fn listed(&self) -> Result<Option<Version>> {
        let versions = self.store.versions(&self.name).await.map_err(|fault| self.failure(&fault))?;
        let newest = versions.into_iter().find(|version| version.name == self.name && !version.is_marker);
        Ok(newest.filter(|version| version.bytes == self.fed))
    }

    async fn withdraw(mut self) {
        self.parts.abort_all();
        withdraw(&self.store, &self.name, &self.begun).await;
    }
}

async fn withdraw(store: &Inner, name: &str, begun: &Mutex<Begun>) {
    let id = {
        let mut begun = lock(begun);
        begun.is_withdrawn = true;
        begun.id.take()
    };
    let Some(id) = id else { return };
    let path = store.path(name);
    let call = Call::new(Method::DELETE, &path).with("uploadId", id);
    if let Err(fault) = store.api.call(&call).await {
        tracing::warn!(%fault, %name, "cannot withdraw an unfinished upload; the next sweep will");
    }
}

impl Upload for S3Upload {
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        self.take(bytes).boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Version>> {
        async move {
            match self.end().await {
                Ok(version) => Ok(version),
                Err(error) => {
                    self.withdraw().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn cancel(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.withdraw().boxed()
    }

    fn canceller(&self) -> BoxFuture<'static, ()> {
        let (store, name, begun) = (self.store.clone(), self.name.clone(), self.begun.clone());
        async move {
            let _ = tokio::time::timeout(LAST_WORD, withdraw(&store, &name, &begun)).await;
        }
        .boxed()
    }
}

fn lock(begun: &Mutex<Begun>) -> std::sync::MutexGuard<'_, Begun> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}
