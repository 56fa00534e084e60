//! What is backed up, resolved: each database with every default filled in.
//!
//! In:    nothing; `config::resolve` builds these from `backups:` and `stores:`.
//! Out:   plain values.

pub use super::raw::backups::{Keep, Lock, Scheduler};
use super::words::write_duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `backups:`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Backups {
    /// The databases, in the order of the file.
    pub databases: Vec<Database>,
    /// Ids of connections to servers: every database found there must be listed or ignored.
    pub servers: Vec<String>,
    /// Names of databases that are not backed up.
    pub ignore: Vec<String>,
}

/// How one database is backed up.
#[derive(Clone, Debug, Serialize)]
pub struct Database {
    /// Its name in the file, which is its folder in the store.
    pub name: String,
    /// Id of its connection.
    pub connection: String,
    /// Name of its store.
    pub store: String,
    /// Where that is.
    pub place: StorePlace,
    /// age recipients, one or more.
    pub encrypt_to: Vec<String>,
    /// Variables with the identities that open its backups, asked in order.
    pub identities: Vec<String>,
    /// What is kept.
    pub keep: Keep,
    /// A newest backup older than this is late.
    #[serde(serialize_with = "write_duration")]
    pub expected_every: Duration,
    /// A restore that would take longer is said.
    #[serde(serialize_with = "write_duration")]
    pub restore_within: Duration,
    /// Id of the connection with the key that may delete; `None`: the store's own.
    pub prune_connection: Option<String>,
    /// Which one scheduler starts it.
    pub scheduled_by: Option<Scheduler>,
    /// How the archive is packed.
    pub codec: Codec,
    /// Object Lock of everything that is uploaded.
    pub lock: Option<Lock>,
}

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StorePlace {
    /// A directory.
    Directory(PathBuf),
    /// A Backblaze B2 bucket.
    B2(Bucket),
    /// An S3 bucket.
    S3(Bucket),
}

impl StorePlace {
    /// Id of the connection with its key; a directory has none.
    pub fn connection(&self) -> Option<&str> {
        match self {
            StorePlace::Directory(_) => None,
            StorePlace::B2(bucket) | StorePlace::S3(bucket) => Some(&bucket.connection),
        }
    }
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Id of the connection with the key.
    pub connection: String,
    /// Its name.
    pub bucket: String,
    /// What all names start with, without a slash at its end; `None`: nothing.
    pub prefix: Option<String>,
}

/// How the archive is packed before it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// zstd, unpacked by `zstd -d`.
    #[default]
    Zstd,
    /// gzip of several members, unpacked by `gunzip`.
    Gzip,
}
