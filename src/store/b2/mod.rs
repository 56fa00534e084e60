//! A Backblaze B2 bucket as a store, by the native API.
//!
//! In:    a connection, a bucket's name, a prefix.
//! Out:   versions of files, hide markers among them.
//! Holds: what the key is bound to (buckets, names) is seen before B2 is asked; names outside the prefix
//!        do not exist; a locked version is said to be locked, one that is gone to be gone.
//! Not here: HTTP (`store::http`), what is tried again (`store::retry`).

mod api;
mod fault;
mod list;
mod read;
mod rules;
mod send;
mod session;
mod tuning;
mod upload;

use crate::error::Failure;
use crate::secret::Connection;
use crate::store::{Deleted, LockMode, Rules, Store, Stream, Terms, Upload, Version};
use anyhow::Result;
use api::Api;
use fault::{CANCEL_LARGE_FILE, Call, DELETE_FILE_VERSION, Fault, LIST_BUCKETS, LIST_FILE_VERSIONS};
use fault::{START_LARGE_FILE, UPDATE_BUCKET};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use send::{Target, UrlPool};
use serde_json::{Value, json};
use session::Session;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
pub use tuning::Tuning;

/// A bucket. Safe to print: neither key nor token is in it.
#[derive(Clone)]
pub struct B2(Arc<Inner>);

struct Inner {
    api: Api,
    bucket: String,
    /// Empty, or ending with `/`.
    prefix: String,
    bucket_id: tokio::sync::OnceCell<String>,
    small_files: OnceLock<UrlPool>,
}

impl std::fmt::Debug for B2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} under {:?}", self.0.place(), self.0.prefix)
    }
}

impl B2 {
    /// The bucket `bucket`, of which only names below `prefix` are looked at. Nothing is asked of B2 yet.
    ///
    /// Extras of the connection: `endpoint`; `idle_timeout` (seconds) and `tries`, for a link that is
    /// worse, or a person with less patience, than [`Tuning::default`] thinks.
    ///
    /// # Errors
    /// 78 when the connection has no key, or an `endpoint` that no key may be sent to.
    pub fn open(connection: &Connection, bucket: &str, prefix: Option<&str>) -> Result<B2> {
        B2::open_tuned(connection, bucket, prefix, Tuning::of(connection)?)
    }

    /// As [`B2::open`], with another patience.
    ///
    /// # Errors
    /// As there.
    pub fn open_tuned(
        connection: &Connection,
        bucket: &str,
        prefix: Option<&str>,
        tuning: Tuning,
    ) -> Result<B2> {
        let prefix = prefix.unwrap_or_default().trim_matches('/');
        Ok(B2(Arc::new(Inner {
            api: Api::new(connection, tuning)?,
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            bucket_id: tokio::sync::OnceCell::new(),
            small_files: OnceLock::new(),
        })))
    }
}

/// What an application key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRights {
    /// Its capabilities, by B2's own names.
    pub capabilities: Vec<String>,
    /// How many buckets it is bound to; `None`: it opens all.
    pub buckets: Option<usize>,
    /// What names must begin with.
    pub prefix: Option<String>,
}

impl B2 {
    /// What the key may do, as its login says.
    ///
    /// # Errors
    /// As a login.
    pub async fn key_rights(&self) -> Result<KeyRights> {
        let inner = &self.0;
        let session = inner.api.session().await.map_err(|fault| inner.failure("cannot log in to", &fault))?;
        Ok(KeyRights {
            capabilities: session.capabilities.clone(),
            buckets: session.buckets.as_ref().map(Vec::len),
            prefix: session.name_prefix.clone(),
        })
    }
}

const SET_RULES: &str = "cannot set the rules of";

impl Inner {
    fn place(&self) -> String {
        format!("B2 bucket {}", self.bucket)
    }

    /// The failure of `what`, such as `cannot list`, at this bucket.
    fn failure(&self, what: &str, fault: &Fault) -> anyhow::Error {
        fault.failure(&format!("{what} {} (connection {})", self.place(), self.api.connection()))
    }

    fn files(&self, bucket_id: &str) -> &UrlPool {
        self.small_files.get_or_init(|| UrlPool::new(Target::Bucket(bucket_id.to_owned())))
    }

    /// The whole name, or prefix of names, when the key may use it for `call`.
    fn full(&self, session: &Session, call: Call, name: &str) -> Result<String, Fault> {
        let full = format!("{}{name}", self.prefix);
        match &session.name_prefix {
            Some(bound) if !full.starts_with(bound.as_str()) => {
                let why =
                    format!("the key is bound to names that start with {bound:?}, and this is {full:?}");
                Err(Fault::local(call, Some(401), "unauthorized", why))
            }
            _ => Ok(full),
        }
    }

    /// The bucket's id: as the login says it, else asked for once.
    async fn bucket_id(&self, session: &Session) -> Result<&str> {
        let id = self.bucket_id.get_or_try_init(|| self.find_bucket(session)).await?;
        Ok(id.as_str())
    }

    async fn find_bucket(&self, session: &Session) -> Result<String> {
        if let Some(bound) = &session.buckets {
            let own = bound.iter().find(|(_, name)| name.as_deref() == Some(&self.bucket));
            return own.map(|(id, _)| id.clone()).ok_or_else(|| {
                let names: Vec<&str> = bound.iter().filter_map(|(_, name)| name.as_deref()).collect();
                let what = format!(
                    "cannot use {}: the key of connection {} is bound to",
                    self.place(),
                    self.api.connection()
                );
                Failure::permission(format!(
                    "{what} {}",
                    if names.is_empty() { "a bucket that is gone".into() } else { names.join(", ") }
                ))
                .hint("Name that bucket in `stores`, or make a key for this one.")
                .into()
            });
        }
        let bucket = self.bucket(session).await?;
        let id = bucket["bucketId"].as_str().map(str::to_owned);
        id.ok_or_else(|| {
            self.failure("cannot use", &Fault::local(LIST_BUCKETS, None, "", "a bucket without an id"))
        })
    }

    /// The bucket as B2 tells it.
    async fn bucket(&self, session: &Session) -> Result<Value> {
        // By name, since a key that is bound to a bucket must say which.
        let json = json!({"accountId": session.account_id, "bucketName": self.bucket});
        let answer = self.api.call(LIST_BUCKETS, &json).await;
        let answer = answer.map_err(|fault| self.failure("cannot look up", &fault))?;
        let found = answer["buckets"].as_array().into_iter().flatten();
        found.into_iter().find(|bucket| bucket["bucketName"] == self.bucket.as_str()).cloned().ok_or_else(|| {
            Failure::config(format!("cannot find {}", self.place()))
                .hint("Make the bucket, or correct its name in `stores`; a key of another account sees none of it.")
                .into()
        })
    }

    /// Login, bucket id and full name for `call`, in this order.
    async fn aim(&self, call: Call, name: &str, what: &str) -> Result<(Arc<Session>, &str, String)> {
        let failed = |fault: Fault| self.failure(what, &fault);
        let session = self.api.session().await.map_err(failed)?;
        if !session.has(call.needs) {
            return Err(failed(Fault::lacks(call, call.needs)));
        }
        let full = self.full(&session, call, name).map_err(failed)?;
        let bucket_id = self.bucket_id(&session).await?;
        Ok((session, bucket_id, full))
    }

    async fn begin(self: Arc<Self>, name: &str, terms: &Terms) -> Result<Box<dyn Upload>> {
        let what = format!("cannot store {name} in");
        if let Some(why) = name_fault(&format!("{}{name}", self.prefix)) {
            return Err(Failure::config(format!("{what} {}: the name {why}", self.place())).into());
        }
        let (session, bucket_id, full) = self.aim(START_LARGE_FILE, name, &what).await?;
        // What is stored is looked for in a list, and a lock is asked for: better refused now than after a
        // whole dump has gone up.
        let needs = [("listFiles", true), ("writeFileRetentions", terms.lock_until.is_some())];
        if let Some((right, _)) = needs.iter().find(|(right, is_needed)| *is_needed && !session.has(right)) {
            return Err(self.failure(&what, &Fault::lacks(Call { needs: right, ..START_LARGE_FILE }, right)));
        }
        let (bucket_id, minimum) = (bucket_id.to_owned(), session.minimum_part);
        Ok(Box::new(upload::B2Upload::new(self.clone(), bucket_id, full, terms.clone(), minimum)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Version>> {
        let (_, bucket_id, full) = self.aim(LIST_FILE_VERSIONS, prefix, "cannot list").await?;
        let rows = list::versions(&self.api, bucket_id, &full).await;
        let rows = rows.map_err(|fault| self.failure("cannot list", &fault))?;
        Ok(rows.iter().filter_map(|row| row.version(&self.prefix)).collect())
    }

    async fn delete(&self, version: &Version) -> Result<Deleted> {
        let what = format!("cannot delete {} in", version.name);
        let (_, _, full) = self.aim(DELETE_FILE_VERSION, &version.name, &what).await?;
        let mut tries = api::Tries::new(crate::store::retry::Call::Account);
        let json = json!({"fileName": full, "fileId": version.id});
        match self.api.call_counting(DELETE_FILE_VERSION, &json, &mut tries).await {
            Ok(_) => Ok(Deleted::Gone),
            // After a try whose answer was lost it was most likely that one (restic/restic #2562).
            Err(fault) if fault.is_absent() && tries.is_unsure() => Ok(Deleted::Gone),
            Err(fault) if fault.is_absent() => Ok(Deleted::WasGone),
            Err(fault) if fault.is_locked() => Ok(Deleted::Locked(version.locked_until)),
            Err(fault) => Err(self.failure(&what, &fault)),
        }
    }

    async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<usize> {
        let what = "cannot withdraw unfinished uploads in";
        let (_, bucket_id, full) = self.aim(fault::LIST_UNFINISHED, prefix, what).await?;
        let rows = list::unfinished(&self.api, bucket_id, &full).await;
        let rows = rows.map_err(|fault| self.failure(what, &fault))?;
        let old = rows.into_iter().filter(|row| row.stored_at() < before && row.file_name.starts_with(&full));
        let mut swept = 0;
        for id in old.filter_map(|row| row.file_id) {
            match self.api.call(CANCEL_LARGE_FILE, &json!({"fileId": id})).await {
                Ok(_) => swept += 1,
                Err(fault) if fault.status == Some(400) => {} // finished or cancelled meanwhile
                Err(fault) => return Err(self.failure(what, &fault)),
            }
        }
        Ok(swept)
    }

    async fn rules(&self, prefix: &str) -> Result<Rules> {
        let failed = |fault: Fault| self.failure("cannot read the rules of", &fault);
        let session = self.api.session().await.map_err(failed)?;
        let full = self.full(&session, LIST_BUCKETS, prefix).map_err(failed)?;
        if !session.has(LIST_BUCKETS.needs) {
            let unknown = format!("lifecycle rules and Object Lock: the key needs {}", LIST_BUCKETS.needs);
            return Ok(Rules { unknown: vec![unknown], ..Rules::default() });
        }
        Ok(rules::read(&self.bucket(&session).await?, &full))
    }

    async fn set_rules(&self, prefix: &str, keep_days: u32) -> Result<bool> {
        let (_, _, full) = self.aim(UPDATE_BUCKET, prefix, SET_RULES).await?;
        self.update(|bucket| match rules::wanted(bucket, &full, keep_days) {
            rules::Change::Nothing => Ok(None),
            rules::Change::InTheWay(wider) => Err(self.in_the_way(&wider, &full)),
            rules::Change::To(lifecycle) => Ok(Some(("lifecycleRules", lifecycle))),
        })
        .await
    }

    async fn set_default_lock(&self, days: u32, mode: LockMode) -> Result<bool> {
        self.update(|bucket| {
            let present = rules::read(bucket, "");
            if present.default_lock == Some((days, mode)) {
                return Ok(None);
            }
            if !present.can_lock && present.unknown.is_empty() {
                let what =
                    format!("cannot set the default lock of {}: Object Lock is not enabled", self.place());
                let hint =
                    "Enable it on the bucket's page; that cannot be undone, so Sankofa does not do it.";
                return Err(Failure::config(what).hint(hint).into());
            }
            Ok(Some(("defaultRetention", rules::default_retention(days, mode))))
        })
        .await
    }

    /// Changes one field of the bucket to what `wanted` says of it, and only of what it was then.
    async fn update(&self, wanted: impl Fn(&Value) -> Result<Option<(&'static str, Value)>>) -> Result<bool> {
        let failed = |fault: Fault| self.failure(SET_RULES, &fault);
        let session = self.api.session().await.map_err(failed)?;
        let mut conflicts = 0;
        loop {
            let bucket = self.bucket(&session).await?;
            let Some((field, value)) = wanted(&bucket)? else { return Ok(true) };
            let json = json!({"accountId": session.account_id, "bucketId": bucket["bucketId"],
                "ifRevisionIs": bucket["revision"], field: value});
            match self.api.call(UPDATE_BUCKET, &json).await {
                Ok(_) => return Ok(true),
                // Somebody else changed the bucket; or we did, and the answer was lost.
                Err(fault) if fault.status == Some(409) && conflicts < self.api.tuning.pace.tries => {
                    conflicts += 1
                }
                Err(fault) => return Err(failed(fault)),
            }
        }
    }

    fn in_the_way(&self, wider: &str, full: &str) -> anyhow::Error {
        let what = format!(
            "cannot set the rules of {}: its rule for {wider:?} covers {full:?} and more",
            self.place()
        );
        let hint = "B2 takes no rule inside another. Change that rule by hand so that it hides nothing, or keep backups in a bucket of their own.";
        Failure::config(what).hint(hint).into()
    }
}

/// Why B2 would refuse a name; `None` for a good one (Backblaze, "Files").
fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 1024 {
        return Some("must have 1 to 1,024 bytes");
    }
    if name.chars().any(|c| c < ' ' || c == '\u{7f}') {
        return Some("has a control character");
    }
    match name.split('/').map(str::len).collect::<Vec<_>>() {
        segments if segments.contains(&0) => Some("has an empty segment"),
        segments if segments.iter().any(|bytes| *bytes > 250) => Some("has a segment of more than 250 bytes"),
        _ => None,
    }
}

impl Store for B2 {
    fn place(&self) -> String {
        self.0.place()
    }

    fn begin<'a>(&'a self, name: &'a str, terms: &'a Terms) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        self.0.clone().begin(name, terms).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Version>>> {
        self.0.list(prefix).boxed()
    }

    fn read<'a>(&'a self, version: &'a Version, range: Range<u64>) -> BoxFuture<'a, Result<Stream>> {
        read::read(self.0.clone(), version, range).boxed()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_b2_refuses_is_refused_before_anything_is_sent() {
        let long = "x".repeat(251);
        for bad in ["", "/a", "a/", "a//b", "a\nb", "a\u{7f}", &long, &"ab/".repeat(400)] {
            assert!(name_fault(bad).is_some(), "{bad:?}");
        }
        for good in ["a", "prod/hr/20261121T161400Z-1/dump.pgc.zst.age", "a b/\u{fc}"] {
            assert_eq!(name_fault(good), None, "{good:?}");
        }
    }

    #[test]
    fn nothing_that_prints_a_store_prints_its_key() {
        let connection = Connection::parse("offsite", "b2://MARK1:MARK2@").unwrap();
        let store = B2::open(&connection, "school-backups", Some("/prod/")).unwrap();
        assert_eq!(format!("{store:?}"), "B2 bucket school-backups under \"prod/\"");
        assert_eq!(store.place(), "B2 bucket school-backups");
    }
}
