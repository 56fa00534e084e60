//! A bucket of any store that speaks S3.
//!
//! In:    a connection of type `aws`, a bucket's name, a prefix.
//! Out:   versions of objects, delete markers among them.
//! Holds: paths are `endpoint/bucket/key`, which every such store takes; names outside the prefix do
//!        not exist; a version that Object Lock protects is said to be locked.
//! Not here: HTTP (`store::http`), what is tried again (`store::retry`).

mod api;
mod read;
mod rules;
mod upload;
mod xml;

use crate::secret::Connection;
use crate::store::retry::Pace;
use crate::store::{Deleted, LockMode, Rules, Store, Stream, Terms, Upload, Version};
use anyhow::Result;
use api::{Api, Call, Fault};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Method;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use xml::Element;

/// How patient an [`S3`] is, and in what pieces it sends.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// For a connection to stand.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Bytes a second, below which a transfer is given up.
    pub slowest_bytes_per_s: u64,
    /// How often a call is tried, and after what waits.
    pub pace: Pace,
    /// Length of the first part; an object of no more is sent in one piece. S3 takes none below 5 MiB.
    pub part_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            slowest_bytes_per_s: 16 * 1024,
            pace: Pace::default(),
            part_bytes: 8 << 20,
        }
    }
}

/// A bucket. Safe to print: the key is not in it.
#[derive(Clone)]
pub struct S3(Arc<Inner>);

struct Inner {
    api: Api,
    bucket: String,
    /// Empty, or ending with `/`.
    prefix: String,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} under {:?}", self.0.place(), self.0.prefix)
    }
}

impl S3 {
    /// The bucket `bucket`, of which only names below `prefix` are looked at. Nothing is asked yet.
    ///
    /// # Errors
    /// 78 when the connection has half a key, or an `endpoint_url` that no key may be sent to. Without
    /// login and password AWS is asked as who this machine is ([`crate::secret::aws::Chain`]).
    pub fn open(connection: &Connection, bucket: &str, prefix: Option<&str>) -> Result<S3> {
        S3::open_tuned(connection, bucket, prefix, Tuning::default())
    }

    /// As [`S3::open`], with another patience.
    ///
    /// # Errors
    /// As there.
    pub fn open_tuned(
        connection: &Connection,
        bucket: &str,
        prefix: Option<&str>,
        tuning: Tuning,
    ) -> Result<S3> {
        let prefix = prefix.unwrap_or_default().trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3(Arc::new(Inner { api: Api::new(connection, tuning)?, bucket: bucket.to_owned(), prefix })))
    }
}

impl Inner {
    fn place(&self) -> String {
        format!("S3 bucket {}", self.bucket)
    }

    /// The failure of `what`, such as `cannot list`, at this bucket.
    fn failure(&self, what: &str, fault: &Fault) -> anyhow::Error {
        fault.failure(&format!("{what} {} (connection {})", self.place(), self.api.connection()))
    }

    /// Path of the bucket.
    fn root(&self) -> String {
        format!("/{}", self.bucket)
    }

    /// Path of an object.
    fn path(&self, name: &str) -> String {
        format!("/{}/{}{name}", self.bucket, self.prefix)
    }

    /// Asks for pages of a list until there are no more; `next` names what is carried on, as
    /// (word of the query, element of the answer).
    async fn pages(
        &self,
        kind: &'static str,
        prefix: &str,
        next: [(&'static str, &'static str); 2],
    ) -> Result<Vec<Element>, Fault> {
        let root = self.root();
        let full = format!("{}{prefix}", self.prefix);
        let (mut found, mut at): (Vec<Element>, Option<[String; 2]>) = (Vec::new(), None);
        loop {
            let mut call = Call::new(Method::GET, &root).with(kind, "").with("prefix", full.as_str());
            for (at, (word, _)) in at.iter().flatten().zip(next).filter(|(at, _)| !at.is_empty()) {
                call = call.with(word, at.as_str());
            }
            let answer = self.api.call(&call).await?;
            let page =
                Element::parse(&answer.body).ok_or_else(|| Fault::local("", "an answer that is no XML"))?;
            let following = next.map(|(_, element)| page.text_of(element).to_owned());
            let goes_on = page.text_of("IsTruncated") == "true";
            if goes_on && (following[0].is_empty() || at.as_ref() == Some(&following)) {
                return Err(Fault::local("", "a list that goes on from nowhere"));
            }
            found.push(page);
            if !goes_on {
                return Ok(found);
            }
            at = Some(following);
        }
    }

    async fn versions(&self, prefix: &str) -> Result<Vec<Version>, Fault> {
        let next = [("key-marker", "NextKeyMarker"), ("version-id-marker", "NextVersionIdMarker")];
        let pages = self.pages("versions", prefix, next).await?;
        let rows = pages.iter().flat_map(|page| &page.inside);
        let mut versions: Vec<Version> = rows.filter_map(|row| self.version(row)).collect();
        versions.sort_by(|a, b| (&a.name, b.stored_at).cmp(&(&b.name, a.stored_at))); // stable
        Ok(versions)
    }

    fn version(&self, row: &Element) -> Option<Version> {
        let is_marker = row.name == "DeleteMarker";
        if !is_marker && row.name != "Version" {
            return None;
        }
        Some(Version {
            name: row.text_of("Key").strip_prefix(&self.prefix)?.to_owned(),
            id: row.text_of("VersionId").to_owned(),
            bytes: if is_marker { 0 } else { row.text_of("Size").parse().ok()? },
            stored_at: row.text_of("LastModified").parse().ok()?,
            is_marker,
            locked_until: None,
        })
    }

    async fn delete(&self, version: &Version) -> Result<Deleted> {
        let what = format!("cannot delete {} in", version.name);
        let path = self.path(&version.name);
        let call = Call::new(Method::DELETE, &path);
        let call = if version.id.is_empty() { call } else { call.with("versionId", version.id.as_str()) };
        match self.api.call(&call).await {
            Ok(_) => Ok(Deleted::Gone),
            Err(fault) if fault.status == Some(404) && fault.code != "NoSuchBucket" => Ok(Deleted::WasGone),
            Err(fault) if fault.status == Some(403) => match self.locked_until(version).await {
                Some(until) if until > Timestamp::now() => Ok(Deleted::Locked(Some(until))),
                _ => Err(self.failure(&what, &fault)),
            },
            Err(fault) => Err(self.failure(&what, &fault)),
        }
    }

    async fn locked_until(&self, version: &Version) -> Option<Timestamp> {
        let path = self.path(&version.name);
        let call = Call::new(Method::HEAD, &path).with("versionId", version.id.as_str());
        let answer = self.api.call(&call).await.ok()?;
        answer.headers.get("x-amz-object-lock-retain-until-date")?.to_str().ok()?.parse().ok()
    }

    async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<usize> {
        let what = "cannot withdraw unfinished uploads in";
        let next = [("key-marker", "NextKeyMarker"), ("upload-id-marker", "NextUploadIdMarker")];
        let pages = self.pages("uploads", prefix, next).await;
        let pages = pages.map_err(|fault| self.failure(what, &fault))?;
        let full = format!("{}{prefix}", self.prefix);
        let mut swept = 0;
        for row in pages.iter().flat_map(|page| page.all("Upload")) {
            let began = row.text_of("Initiated").parse::<Timestamp>();
            if !row.text_of("Key").starts_with(&full) || began.is_ok_and(|began| began >= before) {
                continue;
            }
            let path = format!("/{}/{}", self.bucket, row.text_of("Key"));
            let call = Call::new(Method::DELETE, &path).with("uploadId", row.text_of("UploadId"));
            match self.api.call(&call).await {
                Ok(_) => swept += 1,
                Err(fault) if fault.status == Some(404) => {} // finished or cancelled meanwhile
                Err(fault) => return Err(self.failure(what, &fault)),
            }
        }
        Ok(swept)
    }
}

impl Store for S3 {
    fn place(&self) -> String {
        self.0.place()
    }

    fn begin<'a>(&'a self, name: &'a str, terms: &'a Terms) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        let upload = upload::S3Upload::new(self.0.clone(), name, terms.clone());
        std::future::ready(Ok(Box::new(upload) as Box<dyn Upload>)).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Version>>> {
        let listed = self.0.versions(prefix);
        async { listed.await.map_err(|fault| self.0.failure("cannot list", &fault)) }.boxed()
    }

    fn read<'a>(&'a self, version: &'a Version, range: Range<u64>) -> BoxFuture<'a, Result<Stream>> {
        std::future::ready(Ok(read::read(self.0.clone(), version, range))).boxed()
    }

    fn delete<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Deleted>> {
        self.0.delete(version).boxed()
    }

    fn sweep<'a>(&'a self, prefix: &'a str, before: Timestamp) -> BoxFuture<'a, Result<usize>> {
        self.0.sweep(prefix, before).boxed()
    }

    fn rules<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Rules>> {
        self.0.rules(prefix).boxed()
    }

    fn set_rules<'a>(&'a self, prefix: &'a str, keep_days: u32) -> BoxFuture<'a, Result<bool>> {
        self.0.set_rules(prefix, keep_days).boxed()
    }

    fn set_default_lock(&self, days: u32, mode: LockMode) -> BoxFuture<'_, Result<bool>> {
        self.0.set_default_lock(days, mode).boxed()
    }
}
