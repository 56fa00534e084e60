//! Where objects lie: a directory, a Backblaze B2 bucket, an S3 bucket.
//!
//! In:    a name, bytes in order, of a length that nobody knows before the end.
//! Out:   versions of objects: listed, read in ranges, deleted one by one.
//! Holds: an object is there whole or not at all; what a store acknowledged is what was sent (hashed
//!        on both ends where the store can); every call is retried as the store's documents say.
//! Not here: what the objects mean (`backup::inventory`), how long they stay (`backup::retention`).

pub mod b2;
pub mod http;
mod parts;
pub mod retry;
pub mod s3;
pub mod directory;

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One version of one object, or a marker that hides the versions before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its whole name in the store, the store's prefix left out.
    pub name: String,
    /// What the store calls this version; empty where there is only one of each name.
    pub id: String,
    /// Length; 0 for a marker.
    pub bytes: u64,
    /// When the store took it, by the store's clock.
    pub stored_at: Timestamp,
    /// Whether it only hides what came before it.
    pub is_marker: bool,
    /// Until when the store refuses to delete it, as far as it says.
    pub locked_until: Option<Timestamp>,
}

/// What an upload is to carry beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Object Lock: who may delete it before.
    pub lock_until: Option<(Timestamp, LockMode)>,
}

impl Terms {
    /// A lock of so many days from now, if one is asked for.
    pub fn locked(lock: Option<(u32, LockMode)>) -> Terms {
        let until =
            |days: u32| Timestamp::now().checked_add(SignedDuration::from_hours(24 * i64::from(days)));
        Terms { lock_until: lock.and_then(|(days, mode)| Some((until(days).ok()?, mode))) }
    }
}

/// Who may end an Object Lock early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Who has the right to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

/// What became of a version that was to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It was gone already.
    WasGone,
    /// The store protects it; until when, as far as it says.
    Locked(Option<Timestamp>),
}

/// The bytes of an object as they come.
pub type Stream = BoxStream<'static, Result<Bytes>>;

/// One place for objects. Errors: 75 for what may work later, 77 for a key that is refused or lacks a
/// right (named), 78 for a bucket or directory that is not there, all of them after the retries.
pub trait Store: Send + Sync {
    /// What it is, for messages: `directory /srv/backups`, `B2 bucket school-backups`.
    fn place(&self) -> String;

    /// Begins an object. Parts are sent while more are fed; nothing is seen under the name before
    /// [`Upload::finish`].
    fn begin<'a>(&'a self, name: &'a str, terms: &'a Terms) -> BoxFuture<'a, Result<Box<dyn Upload>>>;

    /// Every version of every object whose name starts with `prefix`: by name, then newest first;
    /// markers too, unfinished uploads not.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Version>>>;

    /// Reads `range` of a version, to its end; a broken transfer goes on where it broke, from the
    /// same version. A stream that ends without an error has given the whole range.
    fn read<'a>(&'a self, version: &'a Version, range: Range<u64>) -> BoxFuture<'a, Result<Stream>>;

    /// Deletes one version for good.
    fn delete<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Deleted>>;

    /// Withdraws uploads under `prefix` that were begun before `before` and never finished; how many.
    fn sweep<'a>(&'a self, prefix: &'a str, before: Timestamp) -> BoxFuture<'a, Result<usize>>;

    /// What the place itself would do to objects under `prefix`: lifecycle rules, Object Lock.
    fn rules<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Rules>>;

    /// Sets rules so that an unfinished upload is dropped after a day and a hidden or deleted version
    /// after `keep_days`, and no rule hides anything by itself; false where the place has no rules.
    fn set_rules<'a>(&'a self, prefix: &'a str, keep_days: u32) -> BoxFuture<'a, Result<bool>>;

    /// Sets the Object Lock that every new object of the whole place gets by default; false where there
    /// is no such thing. Never enables Object Lock itself, which nobody could undo: 78.
    fn set_default_lock(&self, days: u32, mode: LockMode) -> BoxFuture<'_, Result<bool>>;
}

/// An upload of unknown length.
pub trait Upload: Send {
    /// Feeds the next bytes, any number of them. Waits while too much is on its way.
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>>;

    /// Ends the object: everything acknowledged, then listed with the length that was fed.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Version>>;

    /// Withdraws it. Errors are logged only: [`Store::sweep`] finds what is left.
    fn cancel(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// What withdraws it from elsewhere, when a signal ends the command.
    fn canceller(&self) -> BoxFuture<'static, ()>;
}

/// What the place itself does to objects, besides us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Days after which a rule hides or deletes what is current: it would remove the last good backup.
    pub expires_after_days: Option<u32>,
    /// Days after which hidden or noncurrent versions are deleted; `None`: kept, and billed, for ever.
    pub drops_hidden_after_days: Option<u32>,
    /// Days after which unfinished uploads are dropped.
    pub drops_unfinished_after_days: Option<u32>,
    /// Days of the place's default Object Lock, and its mode.
    pub default_lock: Option<(u32, LockMode)>,
    /// Whether Object Lock can be used here.
    pub can_lock: bool,
    /// What could not be read, with the right that it needs.
    pub unknown: Vec<String>,
}
