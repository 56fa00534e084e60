//! What the stand-in knows: buckets, versions, unfinished files, tokens, its clock, its switches.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::body::{self, Keeper, Piece};
use super::buckets::Bucket;
use super::faults::Fault;
use super::keys::{Key, KeySpec, Token};
use super::locks::Retention;
use super::server::Doors;
use super::uploads::UploadUrl;

/// Which shape `b2_authorize_account` answers in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The one of the version that was asked for.
    #[default]
    AsAsked,
    /// That of version 3, whatever was asked for.
    V3,
}

/// How the stand-in behaves, where B2 leaves room or a test wants to be quick.
#[derive(Clone, Debug)]
pub struct Switches {
    /// See [`Shape`].
    pub shape: Shape,
    /// A list never has more rows than this.
    pub page_rows: Option<usize>,
    /// A new version is missing from so many lists.
    pub list_lag: u32,
    /// Answers carry fields, capabilities and actions that nobody has heard of.
    pub has_unknowns: bool,
    /// `absoluteMinimumPartSize`; enforced at finish.
    pub min_part_bytes: u64,
    /// `recommendedPartSize`.
    pub recommended_part_bytes: u64,
    /// Whether bodies can be read again; else they are hashed and forgotten.
    pub keeps_bodies: bool,
    /// Deleting a locked version answers 400 file_lock_conflict, not 403 access_denied.
    pub locked_is_400: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Switches {
            shape: Shape::AsAsked,
            page_rows: None,
            list_lag: 0,
            has_unknowns: false,
            min_part_bytes: 5_000_000,
            recommended_part_bytes: 100_000_000,
            keeps_bodies: true,
            locked_is_400: false,
        }
    }
}

/// One call as it came, and how it ended.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Such as `b2_upload_part`.
    pub call: String,
    /// The answer's; None while it runs, and when the connection was reset.
    pub status: Option<u16>,
    /// The answer's code, when it is a refusal.
    pub code: String,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Headers but Authorization, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The request's JSON, or its query.
    pub json: Value,
    /// Path of the URL.
    pub path: String,
    /// Whether a fault met it.
    pub is_faulted: bool,
}

/// How a new bucket is.
#[derive(Clone, Debug, Default)]
pub struct BucketOptions {
    /// Object Lock can be used in it.
    pub has_lock: bool,
    /// Mode and days of its default retention.
    pub default_lock: Option<(&'static str, u32)>,
    /// Lifecycle rules as B2's JSON; null or an array.
    pub lifecycle: Value,
}

/// One version as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// File name.
    pub name: String,
    /// File id.
    pub id: String,
    /// `upload` or `hide`.
    pub action: &'static str,
    /// Length.
    pub bytes: u64,
    /// Mode and end, in ms.
    pub retention: Option<(String, u64)>,
    /// File info.
    pub info: BTreeMap<String, String>,
}

/// One version.
#[derive(Clone)]
pub struct Version {
    pub bucket_id: String,
    pub name: String,
    pub id: String,
    /// `upload`, `hide`, or `start` while it is not finished.
    pub action: &'static str,
    pub sha1: Option<String>,
    pub content_type: String,
    pub info: Map<String, Value>,
    pub uploaded_ms: u64,
    pub retention: Option<Retention>,
    pub has_legal_hold: bool,
    pub pieces: Vec<Piece>,
    /// Lists that will not show it yet.
    pub lag: u32,
    /// Counts up; newest first within a name.
    pub order: u64,
    /// Of an unfinished file.
    pub parts: BTreeMap<u16, Part>,
}

/// One part of an unfinished file.
#[derive(Clone)]
pub struct Part {
    pub sha1: String,
    pub piece: Piece,
    pub uploaded_ms: u64,
}

impl Version {
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }
}

/// Everything, behind one lock that is never held across an await.
pub struct World {
    pub doors: Doors,
    state: Mutex<State>,
}

impl World {
    pub fn new(doors: Doors) -> World {
        World { doors, state: Mutex::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub struct State {
    pub switches: Switches,
    pub faults: Vec<Fault>,
    pub seen: Vec<Call>,
    pub seen_before: usize,
    pub uploading: usize,
    pub peak_uploads: usize,
    pub keys: Vec<(Key, KeySpec)>,
    pub tokens: BTreeMap<String, Token>,
    pub urls: BTreeMap<String, UploadUrl>,
    pub buckets: Vec<Bucket>,
    pub versions: Vec<Version>,
    offset_ms: u64,
    counter: u64,
}

impl State {
    /// Milliseconds since 1970 by the stand-in's clock.
    pub fn now_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_millis() as u64 + self.offset_ms
    }

    pub fn advance(&mut self, by: Duration) {
        self.offset_ms += by.as_millis() as u64;
    }

    /// A number that was not given before.
    pub fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An id for a new version; `f2` for large files as B2 does.
    pub fn file_id(&mut self, bucket_id: &str, is_large: bool) -> String {
        let kind = if is_large { 2 } else { 1 };
        let number = self.count();
        format!("4_z{bucket_id}_f{kind}{number:016x}_d20261121_m061500_c004_v0402000_t{:04}", number % 60)
    }

    /// The fault that meets this call.
    pub fn fault_for(&mut self, call: &str) -> Option<super::What> {
        self.faults.iter_mut().filter_map(|fault| fault.meets(call)).next()
    }

    /// Notes a call; its number for [`State::note`].
    pub fn see(&mut self, call: Call) -> usize {
        self.seen.push(call);
        self.seen_before + self.seen.len() - 1
    }

    /// Changes what was noted of a call.
    pub fn note(&mut self, number: usize, change: impl FnOnce(&mut Call)) {
        let index = number.checked_sub(self.seen_before);
        if let Some(call) = index.and_then(|index| self.seen.get_mut(index)) {
            change(call);
        }
    }

    /// Keeps a version; by name, then newest first.
    pub fn add(&mut self, version: Version) {
        self.versions.push(version);
        self.versions.sort_by(|a, b| {
            (&a.bucket_id, &a.name).cmp(&(&b.bucket_id, &b.name)).then_with(|| b.order.cmp(&a.order))
        });
    }

    /// The newest version of a name that is not just started.
    pub fn newest(&self, bucket_id: &str, name: &str) -> Option<&Version> {
        let is_it = |v: &&Version| v.bucket_id == bucket_id && v.name == name && v.action != "start";
        self.versions.iter().find(is_it)
    }

    pub fn version(&self, id: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.id == id)
    }

    pub fn version_mut(&mut self, id: &str) -> Option<&mut Version> {
        self.versions.iter_mut().find(|version| version.id == id)
    }

    fn in_bucket(&self, bucket: &str) -> impl Iterator<Item = &Version> {
        let id = self.bucket_named(bucket).map(|bucket| bucket.id.clone()).unwrap_or_default();
        self.versions.iter().filter(move |version| version.bucket_id == id)
    }

    pub fn stored(&self, bucket: &str) -> Vec<Stored> {
        let finished = self.in_bucket(bucket).filter(|version| version.action != "start");
        let stored = finished.map(|version| Stored {
            name: version.name.clone(),
            id: version.id.clone(),
            action: version.action,
            bytes: version.bytes(),
            retention: version.retention.clone().map(|kept| (kept.mode, kept.until_ms)),
            info: version
                .info
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
        });
        stored.collect()
    }

    pub fn unfinished_names(&self, bucket: &str) -> Vec<String> {
        let unfinished = self.in_bucket(bucket).filter(|version| version.action == "start");
        unfinished.map(|version| version.name.clone()).collect()
    }

    fn newest_in(&mut self, bucket: &str, name: &str) -> &mut Version {
        let id = self.bucket_named(bucket).expect("a bucket of this name").id.clone();
        let newest =
            self.newest(&id, name).unwrap_or_else(|| panic!("no file {name} in {bucket}")).id.clone();
        self.version_mut(&newest).expect("it was there")
    }

    pub fn bytes(&mut self, bucket: &str, name: &str) -> Vec<u8> {
        body::collect(&self.newest_in(bucket, name).pieces)
    }

    pub fn damage(&mut self, bucket: &str, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(bucket, name);
        edit(&mut bytes);
        self.newest_in(bucket, name).pieces = vec![kept(&bytes)];
    }

    pub fn put(&mut self, bucket: &str, name: &str, bytes: &[u8]) -> String {
        let version = self.plain(bucket, name, false);
        let sha1 = Some(super::uploads::sha1_hex(bytes));
        self.make(Version { action: "upload", sha1, pieces: vec![kept(bytes)], ..version })
    }

    pub fn abandon(&mut self, bucket: &str, name: &str) -> String {
        let version = self.plain(bucket, name, true);
        self.make(Version { action: "start", sha1: Some("none".to_owned()), ..version })
    }

    pub fn clear_unfinished(&mut self, bucket: &str) {
        let id = self.bucket_named(bucket).map(|bucket| bucket.id.clone()).unwrap_or_default();
        self.versions.retain(|version| version.bucket_id != id || version.action != "start");
    }

    fn make(&mut self, version: Version) -> String {
        let id = version.id.clone();
        self.add(version);
        id
    }

    /// A hide marker, or what is to be made something else.
    pub fn plain(&mut self, bucket: &str, name: &str, is_large: bool) -> Version {
        let bucket_id = self.bucket_named(bucket).expect("a bucket of this name").id.clone();
        Version {
            id: self.file_id(&bucket_id, is_large),
            bucket_id,
            name: name.to_owned(),
            action: "hide",
            sha1: None,
            content_type: "application/octet-stream".to_owned(),
            info: Map::new(),
            uploaded_ms: self.now_ms(),
            retention: None,
            has_legal_hold: false,
            pieces: Vec::new(),
            lag: 0,
            order: self.count(),
            parts: BTreeMap::new(),
        }
    }
}

fn kept(bytes: &[u8]) -> Piece {
    let mut keeper = Keeper::new(true);
    keeper.write(bytes);
    keeper.piece()
}
