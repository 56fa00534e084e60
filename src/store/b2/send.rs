//! Bytes to B2: each piece with its SHA-1, to an upload URL of its own, until it is acknowledged.
//!
//! In:    a small file, or a part of a large one, in memory.
//! Out:   B2's JSON for it, with the SHA-1 and the length that were sent.
//! Holds: one upload at a time to a URL; a URL that gave an error is never used again; the bytes are
//!        kept until they are acknowledged.
//! Not here: how a file is cut (`upload`).

use super::api::{Api, Tries, sensitive};
use super::fault::{Call, Fault, GET_UPLOAD_PART_URL, GET_UPLOAD_URL, UPLOAD_FILE, UPLOAD_PART};
use crate::pg::copy::hex;
use crate::store::retry;
use anyhow::{Context, Result};
use backblaze_b2_client::definitions::responses::{B2GetUploadPartUrlResponse, B2GetUploadUrlResponse};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::sync::{Mutex, PoisonError};

/// What goes up in one piece.
#[derive(Clone)]
pub(super) struct Cargo {
    /// The bytes.
    pub bytes: Bytes,
    /// Their SHA-1, hex.
    pub sha1: String,
}

impl Cargo {
    /// Hashes `bytes` on a thread for such work.
    pub async fn of(bytes: Bytes) -> Result<Cargo> {
        let hash = move || {
            let sha1 = hex(&Sha1::digest(&bytes));
            Cargo { bytes, sha1 }
        };
        tokio::task::spawn_blocking(hash).await.context("cannot hash")
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

/// An upload URL with its own token.
struct UploadUrl {
    url: String,
    token: SecretString,
}

/// What upload URLs are for.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Small files into the bucket of this id.
    Bucket(String),
    /// Parts of the large file of this id.
    LargeFile(String),
}

/// Upload URLs to one target that are free now.
pub(super) struct UrlPool {
    target: Target,
    free: Mutex<Vec<UploadUrl>>,
}

impl UrlPool {
    /// None yet.
    pub fn new(target: Target) -> UrlPool {
        UrlPool { target, free: Mutex::default() }
    }

    fn call(&self) -> Call {
        match self.target {
            Target::Bucket(_) => UPLOAD_FILE,
            Target::LargeFile(_) => UPLOAD_PART,
        }
    }

    /// A URL that nobody else uses.
    async fn take(&self, api: &Api) -> Result<UploadUrl, Fault> {
        if let Some(url) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(url);
        }
        match &self.target {
            Target::Bucket(id) => {
                let answer = api.call(GET_UPLOAD_URL, &json!({"bucketId": id})).await?;
                let url: B2GetUploadUrlResponse = read(GET_UPLOAD_URL, answer)?;
                Ok(UploadUrl { url: url.upload_url, token: url.authorization_token.into() })
            }
            Target::LargeFile(id) => {
                let answer = api.call(GET_UPLOAD_PART_URL, &json!({"fileId": id})).await?;
                let url: B2GetUploadPartUrlResponse = read(GET_UPLOAD_PART_URL, answer)?;
                Ok(UploadUrl { url: url.upload_url, token: url.authorization_token.into() })
            }
        }
    }

    fn give_back(&self, url: UploadUrl) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(url);
    }

    /// Sends `cargo` until it is acknowledged.
    ///
    /// # Errors
    /// The fault that stands; of a small file also the first after which it may be stored already,
    /// since another try would store it twice (`tries` goes on from there).
    pub async fn put(
        &self,
        api: &Api,
        headers: &HeaderMap,
        cargo: &Cargo,
        tries: &mut Tries,
    ) -> Result<Value, Fault> {
        loop {
            // Asking for a URL has its own retries, and stores nothing.
            let url = self.take(api).await.map_err(|fault| tries.end(fault))?;
            let fault = match self.put_once(api, &url, headers, cargo).await {
                Ok(answer) => {
                    self.give_back(url);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            drop(url); // B2 takes nothing more at a URL that it gave an error at
            let was_unsure = fault.is_unsure;
            let kept = fault.clone();
            tries.after(fault, &api.tuning.pace).await?;
            if was_unsure && matches!(self.target, Target::Bucket(_)) {
                return Err(kept);
            }
        }
    }

    async fn put_once(
        &self,
        api: &Api,
        url: &UploadUrl,
        headers: &HeaderMap,
        cargo: &Cargo,
    ) -> Result<Value, Fault> {
        let (call, token) = (self.call(), url.token.expose_secret());
        let mut headers = headers.clone();
        headers.insert(AUTHORIZATION, sensitive(token));
        let request = api.http.post(&url.url).headers(headers);
        let answer = api.exchange_body(call, request, cargo.bytes.clone(), &[token]).await?;
        let is_ours = answer["contentLength"].as_u64() == Some(cargo.length())
            && answer["contentSha1"].as_str().is_some_and(|sha1| sha1.eq_ignore_ascii_case(&cargo.sha1));
        if is_ours {
            Ok(answer)
        } else {
            Err(Fault::local(call, None, "", "other bytes than those sent were acknowledged"))
        }
    }
}

/// Tries of an upload.
pub(super) fn upload_tries() -> Tries {
    Tries::new(retry::Call::Upload)
}

fn read<T: DeserializeOwned>(call: Call, answer: Value) -> Result<T, Fault> {
    serde_json::from_value(answer)
        .map_err(|_| Fault::local(call, None, "", "an answer without a URL and its token"))
}
