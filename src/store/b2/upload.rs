//! One file on its way up, of a length that nobody knows yet.
//!
//! In:    bytes in order.
//! Out:   a small file in one piece, or a large one in parts that are sent while more are fed.
//! Holds: a large file has two parts at least; one that is not finished is cancelled; what is finished
//!        is listed with its length before it is called done; an answer that was lost is looked for
//!        before anything is done twice.
//! Not here: URLs and retries of one piece (`send`), how long a part is (`parts`).

use super::Inner;
use super::api::Tries;
use super::fault::{CANCEL_LARGE_FILE, FINISH_LARGE_FILE, Fault, START_LARGE_FILE, UPLOAD_FILE};
use super::list::{self, Row};
use super::rules::mode_word;
use super::send::{Cargo, Target, UrlPool, upload_tries};
use crate::error::Failure;
use crate::store::parts::{MOST_PARTS, most_in_flight, part_bytes};
use crate::store::retry;
use crate::store::{LockMode, Terms, Upload, Version};
use anyhow::{Context, Result};
use backblaze_b2_client::definitions::bodies::B2FinishLargeFileBody;
use backblaze_b2_client::definitions::headers::{B2UploadFileHeaders, B2UploadPartHeaders};
use backblaze_b2_client::definitions::shared::B2FileRetentionMode;
use backblaze_b2_client::util::IntoHeaderMap;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

const CONTENT_TYPE: &str = "application/octet-stream";
/// B2 takes any byte percent-encoded, and reads a bare `+` as a space.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// A signal leaves this much time to say that a file is not wanted (`stop::CLEAN_UP` is 3 s).
const LAST_WORD: Duration = Duration::from_millis(2500);

/// The large file of an upload, as whoever cancels it must know it.
#[derive(Default)]
struct Started {
    /// Set from start to finish.
    file_id: Option<String>,
    is_withdrawn: bool,
}

/// An upload. In memory: the part that is filled and those on their way.
pub(super) struct B2Upload {
    store: Arc<Inner>,
    bucket_id: String,
    name: String,
    terms: Terms,
    minimum_part: u64,
    filled: Vec<u8>,
    fed: u64,
    large: Option<Large>,
    started: Arc<Mutex<Started>>,
}

struct Large {
    file_id: String,
    urls: Arc<UrlPool>,
    on_their_way: JoinSet<Result<(u32, String)>>,
    sent: u32,
    sha1s: BTreeMap<u32, String>,
}

impl Large {
    /// Waits until no more than `most` parts are on their way; those that have arrived are noted.
    async fn wait_for(&mut self, most: usize) -> Result<()> {
        loop {
            let ended = if self.on_their_way.len() > most {
                self.on_their_way.join_next().await
            } else {
                self.on_their_way.try_join_next()
            };
            let Some(ended) = ended else { return Ok(()) };
            let (number, sha1) = ended.context("cannot send a part")??;
            self.sha1s.insert(number, sha1);
        }
    }
}

impl B2Upload {
    /// Nothing is asked of B2 before the first part is full.
    pub fn new(
        store: Arc<Inner>,
        bucket_id: String,
        name: String,
        terms: Terms,
        minimum_part: u64,
    ) -> B2Upload {
        let (filled, large, started) = (Vec::new(), None, Arc::default());
        B2Upload { store, bucket_id, name, terms, minimum_part, filled, fed: 0, large, started }
    }

    fn failure(&self, fault: &Fault) -> anyhow::Error {
        self.store.failure(&format!("cannot store {} in", self.name), fault)
    }

    /// Length of the part that is being filled.
    fn part_bytes(&self) -> usize {
        let number = self.large.as_ref().map_or(1, |large| large.sent + 1);
        let bytes = part_bytes(number, self.store.api.tuning.part_bytes, self.minimum_part);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        if let Some(large) = &mut self.large {
            large.wait_for(MOST_PARTS as usize).await?; // what has failed is known at once
        }
        while !bytes.is_empty() {
            let most = self.part_bytes();
            if self.filled.len() == most {
                // Only now, with a byte that comes after it: a large file must have two parts.
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

    async fn send_part(&mut self) -> Result<()> {
        self.check_wanted()?;
        if self.large.is_none() {
            self.large = Some(self.start().await?);
            self.check_wanted()?; // a canceller that came meanwhile did not know of it
        }
        let Some(large) = &mut self.large else { return Ok(()) };
        if large.sent == MOST_PARTS {
            let what =
                format!("cannot store {} in {}: it is larger than 10 TB", self.name, self.store.place());
            return Err(Failure::data(what).into());
        }
        let number = large.sent + 1;
        large.wait_for(most_in_flight(number) - 1).await?;
        large.sent = number; // after the wait: whoever drops it there has lost nothing
        let (bytes, urls) = (Bytes::from(std::mem::take(&mut self.filled)), large.urls.clone());
        let (store, name) = (self.store.clone(), self.name.clone());
        large.on_their_way.spawn(async move {
            let cargo = Cargo::of(bytes).await?;
            let headers = part_headers(number, &cargo)?;
            let sent = urls.put(&store.api, &headers, &cargo, &mut upload_tries()).await;
            sent.map_err(|fault| store.failure(&format!("cannot store part {number} of {name} in"), &fault))?;
            Ok((number, cargo.sha1))
        });
        Ok(())
    }

    fn check_wanted(&self) -> Result<()> {
        if lock(&self.started).is_withdrawn {
            let what = format!("cannot store {}: it has been withdrawn", self.name);
            return Err(Failure::temporary(what).into());
        }
        Ok(())
    }

    async fn start(&self) -> Result<Large> {
        let mut json =
            json!({"bucketId": self.bucket_id, "fileName": self.name, "contentType": CONTENT_TYPE});
        if let Some((until, mode)) = self.terms.lock_until {
            json["fileRetention"] =
                json!({"mode": mode_word(mode), "retainUntilTimestamp": until.as_millisecond()});
        }
        let mut tries = Tries::new(retry::Call::Account);
        let answer = self.store.api.call_counting(START_LARGE_FILE, &json, &mut tries).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                if tries.is_unsure() {
                    let patience = self.store.api.tuning.idle;
                    let _ = tokio::time::timeout(patience, self.cancel_twins("")).await;
                }
                return Err(self.failure(&fault));
            }
        };
        let file_id = answer["fileId"].as_str().map(str::to_owned);
        let file_id = file_id.ok_or_else(|| {
            self.failure(&Fault::local(START_LARGE_FILE, None, "", "an answer without fileId"))
        })?;
        lock(&self.started).file_id = Some(file_id.clone());
        if tries.is_unsure() {
            self.cancel_twins(&file_id).await;
        }
        let urls = Arc::new(UrlPool::new(Target::LargeFile(file_id.clone())));
        Ok(Large { file_id, urls, on_their_way: JoinSet::new(), sent: 0, sha1s: BTreeMap::new() })
    }

    /// Cancels what starts of the same name have left whose answers were lost: names are used once.
    async fn cancel_twins(&self, ours: &str) {
        let rows = list::unfinished(&self.store.api, &self.bucket_id, &self.name).await.unwrap_or_default();
        let twins = rows.into_iter().filter(|row| row.file_name == self.name);
        for id in twins.filter_map(|row| row.file_id).filter(|id| id != ours) {
            let cancelled = self.store.api.call(CANCEL_LARGE_FILE, &json!({"fileId": id})).await;
            if let Err(fault) = cancelled {
                tracing::warn!(%fault, "cannot cancel an unfinished upload; the next sweep will");
            }
        }
    }

    async fn end(&mut self) -> Result<Version> {
        self.check_wanted()?;
        let file_id = if self.large.is_some() { self.end_large().await? } else { self.end_small().await? };
        lock(&self.started).file_id = None;
        self.listed(&file_id).await
    }

    /// One upload; when its answer was lost, it is looked for before it is sent again.
    async fn end_small(&mut self) -> Result<String> {
        let cargo = Cargo::of(Bytes::from(std::mem::take(&mut self.filled))).await?;
        let headers = file_headers(&self.name, &self.terms, &cargo)?;
        let api = &self.store.api;
        let mut tries = upload_tries();
        loop {
            let fault = match self.store.files(&self.bucket_id).put(api, &headers, &cargo, &mut tries).await {
                Ok(answer) => return self.file_id_of(&answer["fileId"]),
                Err(fault) => fault,
            };
            let is_ours = |row: &Row| row.content_sha1.as_deref() == Some(&cargo.sha1) && self.is_whole(row);
            let lag = if fault.status.is_none() { api.tuning.listed_within / 4 } else { Duration::ZERO };
            let seen = if fault.is_unsure { self.find(lag, is_ours).await? } else { None };
            match seen {
                Some(row) => return self.file_id_of(&json!(row.file_id)),
                None if fault.is_unsure && !tries.is_over() => {}
                None => return Err(self.failure(&fault)),
            }
        }
    }

    fn file_id_of(&self, id: &serde_json::Value) -> Result<String> {
        let missing = || self.failure(&Fault::local(UPLOAD_FILE, None, "", "an answer without fileId"));
        id.as_str().map(str::to_owned).ok_or_else(missing)
    }

    async fn end_large(&mut self) -> Result<String> {
        if !self.filled.is_empty() {
            self.send_part().await?;
        }
        let Some(large) = &mut self.large else { anyhow::bail!("no large file was started") };
        large.wait_for(0).await?;
        anyhow::ensure!(large.sha1s.keys().copied().eq(1..=large.sent), "a part of {} is missing", self.name);
        let file_id = large.file_id.clone();
        let sha1s = std::mem::take(&mut large.sha1s).into_values().collect();
        let body = B2FinishLargeFileBody { file_id: file_id.clone(), part_sha1_array: sha1s };
        let json = serde_json::to_value(body).context("cannot write JSON")?;
        let api = &self.store.api;
        let mut tries = Tries::new(retry::Call::Account);
        loop {
            let session = api.session().await.map_err(|fault| self.failure(&fault))?;
            let Err(fault) = api.once(&session, FINISH_LARGE_FILE, &json).await else { return Ok(file_id) };
            // A second finish of a file that is finished is 400 "No active upload": so B2 is asked what
            // is there before it is asked to finish again, and before a refusal is believed
            // (Backblaze/B2_Command_Line_Tool #1050).
            let was_unsure = fault.is_unsure || tries.is_unsure();
            if was_unsure && fault.status != Some(401) {
                let patience =
                    if fault.status == Some(400) { api.tuning.listed_within } else { Duration::ZERO };
                let is_ours = |row: &Row| row.file_id.as_deref() == Some(&file_id) && self.is_whole(row);
                if self.find(patience, is_ours).await?.is_some() {
                    return Ok(file_id);
                }
            }
            api.again(&session, fault, &mut tries).await.map_err(|fault| self.failure(&fault))?;
        }
    }

    fn is_whole(&self, row: &Row) -> bool {
        row.version("").is_some_and(|version| !version.is_marker && version.bytes == self.fed)
    }

    async fn find(&self, patience: Duration, is_it: impl Fn(&Row) -> bool) -> Result<Option<Row>> {
        let found = list::find(&self.store.api, &self.bucket_id, &self.name, patience, is_it).await;
        found.map_err(|fault| self.failure(&fault))
    }

    /// The version as B2 lists it.
    async fn listed(&self, file_id: &str) -> Result<Version> {
        let is_it = |row: &Row| row.file_id.as_deref() == Some(file_id) && row.version("").is_some();
        let found = self.find(self.store.api.tuning.listed_within, is_it).await?;
        let version = found.and_then(|row| row.version(&self.store.prefix));
        let cannot = format!("cannot store {} in {}", self.name, self.store.place());
        let version = version.ok_or_else(|| {
            Failure::temporary(format!("{cannot}: B2 acknowledged it and does not list it"))
                .hint("Nothing refers to it yet; run the command again.")
        })?;
        if version.bytes != self.fed {
            let what = format!("{cannot}: {} bytes were sent, {} are listed", self.fed, version.bytes);
            return Err(Failure::data(what).into());
        }
        Ok(version)
    }

    async fn withdraw(mut self) {
        if let Some(large) = &mut self.large {
            large.on_their_way.abort_all();
        }
        let Some(file_id) = self.started_file() else { return };
        if let Err(fault) = self.store.api.call(CANCEL_LARGE_FILE, &json!({"fileId": file_id})).await {
            tracing::warn!(%fault, name = %self.name, "cannot cancel an unfinished upload; the next sweep will");
        }
    }

    fn started_file(&self) -> Option<String> {
        let mut started = lock(&self.started);
        started.is_withdrawn = true;
        started.file_id.take()
    }
}

impl Upload for B2Upload {
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
        let (started, store) = (self.started.clone(), self.store.clone());
        async move {
            let file_id = {
                let mut started = lock(&started);
                started.is_withdrawn = true;
                started.file_id.take()
            };
            let Some(file_id) = file_id else { return };
            let json = json!({"fileId": file_id});
            let cancelled = store.api.call(CANCEL_LARGE_FILE, &json);
            let _ = tokio::time::timeout(LAST_WORD, cancelled).await;
        }
        .boxed()
    }
}

fn lock(started: &Mutex<Started>) -> std::sync::MutexGuard<'_, Started> {
    started.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token is put in by `send`, with the URL that it belongs to.
fn part_headers(number: u32, cargo: &Cargo) -> Result<HeaderMap> {
    let headers = B2UploadPartHeaders::builder()
        .authorization(String::new())
        .part_number(u16::try_from(number)?)
        .content_length(cargo.length())
        .content_sha1(cargo.sha1.clone())
        .build();
    header_map(headers)
}

fn file_headers(name: &str, terms: &Terms, cargo: &Cargo) -> Result<HeaderMap> {
    let mut headers = B2UploadFileHeaders::builder()
        .authorization(String::new())
        .file_name(utf8_percent_encode(name, &PLAIN).to_string())
        .content_type(CONTENT_TYPE.to_owned())
        .content_length(cargo.length())
        .content_sha1(cargo.sha1.clone())
        .build();
    if let Some((until, mode)) = terms.lock_until {
        headers.retention_mode = Some(match mode {
            LockMode::Governance => B2FileRetentionMode::Governance,
            LockMode::Compliance => B2FileRetentionMode::Compliance,
        });
        headers.retention_retain_until_timestamp = Some(u64::try_from(until.as_millisecond())?);
    }
    header_map(headers)
}

fn header_map(headers: impl IntoHeaderMap) -> Result<HeaderMap> {
    headers.into_header_map().map_err(|_| anyhow::anyhow!("cannot write the headers of an upload"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_travels_percent_encoded_and_a_lock_in_headers() {
        let cargo = Cargo { bytes: Bytes::from_static(b"x"), sha1: "ab".into() };
        let until = jiff::Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        let terms = Terms { lock_until: Some((until, LockMode::Compliance)) };
        let headers = file_headers("prod/a b+c/\u{fc}%", &terms, &cargo).unwrap();
        let value = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(value("x-bz-file-name"), "prod/a%20b%2Bc/%C3%BC%25");
        assert_eq!(value("x-bz-file-retention-mode"), "compliance");
        assert_eq!(value("x-bz-file-retention-retain-until-timestamp"), "1700000000000");
        assert_eq!((value("content-length"), value("x-bz-content-sha1")), ("1", "ab"));
    }

    #[test]
    fn a_part_has_its_number_its_length_and_its_hash() {
        let cargo = Cargo { bytes: Bytes::from_static(b"xy"), sha1: "cd".into() };
        let headers = part_headers(10_000, &cargo).unwrap();
        let value = |name: &str| headers[name].to_str().unwrap();
        assert_eq!((value("x-bz-part-number"), value("content-length")), ("10000", "2"));
    }
}
