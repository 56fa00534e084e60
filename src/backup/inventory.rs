//! What lies in a store, judged: which backups are there, and which of them are good.
//!
//! In:    every version of every object, and the manifests among them.
//! Out:   backups with their state; orphans; what is not ours; what a person should know.
//! Holds: the oldest manifest of a name counts and hide markers are ignored, both told: a key that can
//!        write cannot undo a backup. What cannot be read, is newer than this program or of another
//!        environment is never good and never ours to delete.
//! Not here: how long a backup stays (`backup::retention`), what an object holds (`backup::verify`).

use crate::backup::manifest::{Kind, MANIFEST, Manifest, Object, PROOF, SCHEMA};
use crate::backup::names;
use crate::error::{Kind as ErrorKind, classify};
use crate::store::{Store, Version};
use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Manifests that are fetched side by side.
const SIDE_BY_SIDE: usize = 8;
/// A longer manifest is none of ours, bytes.
const LONGEST_MANIFEST: u64 = 4 << 20;

/// What lies under one prefix of a store.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Backups with a manifest that says what the place says; by folder, newest first.
    pub backups: Vec<Backup>,
    /// Manifests that are no use to this program.
    pub unreadable: Vec<Unreadable>,
    /// Folders without a manifest.
    pub orphans: Vec<Orphan>,
    /// Objects that are not ours.
    pub foreign: Vec<Version>,
    /// Records of drills.
    pub drills: Vec<Version>,
    /// What a person should know: (folder, sentence without its full stop).
    pub notes: Vec<(String, String)>,
}

/// One backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Folder of its database or server, such as `hr/`.
    pub home: String,
    /// Last part of its own folder.
    pub id: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// When the store took the manifest, by the store's clock.
    pub stored_at: Timestamp,
    /// Whether it is good.
    pub state: State,
    /// The archive or the globals, as listed; `None` if it is not there in its length.
    pub archive: Option<Version>,
    /// The proof, likewise.
    pub proof: Option<Version>,
    /// Every version and marker of its objects, the manifest's included, as listed.
    pub versions: Vec<Version>,
}

/// What can be said of a backup without reading its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Manifest and objects of its lengths are listed now.
    Good,
    /// An object is not there, or of another length: which, in words.
    Incomplete(String),
    /// It was made by another environment.
    OfEnvironment(String),
}

/// A folder with a manifest that cannot be used.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Folder of its database or server.
    pub home: String,
    /// Last part of its own folder.
    pub id: String,
    /// What is wrong, in words.
    pub why: String,
    /// When the store took it.
    pub stored_at: Timestamp,
}

/// A folder of ours without a manifest: a backup that is running, or one that never ended.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// Folder of its database or server.
    pub home: String,
    /// Last part of its own folder.
    pub id: String,
    /// The latest of its own time and those of its objects.
    pub touched_at: Timestamp,
    /// Every version and marker in it that is ours.
    pub versions: Vec<Version>,
}

impl Backup {
    /// Its whole folder, with `/`.
    pub fn folder(&self) -> String {
        format!("{}{}/", self.home, self.id)
    }

    /// Bytes of everything it keeps in the store.
    pub fn bytes(&self) -> u64 {
        self.versions.iter().map(|version| version.bytes).sum()
    }

    /// Whether it is good.
    pub fn is_good(&self) -> bool {
        self.state == State::Good
    }
}

impl Inventory {
    /// The backups in folder `home`, newest first by their own times.
    pub fn of<'a>(&'a self, home: &'a str) -> impl Iterator<Item = &'a Backup> {
        self.backups.iter().filter(move |backup| backup.home == home)
    }

    /// The environment that has made every backup in `homes`, where that is not ours: nothing there is
    /// for this run. `None`: some are ours, or there are none.
    pub fn owned_by_other(&self, is_home: impl Fn(&str) -> bool) -> Option<&str> {
        let mut other = None;
        for backup in self.backups.iter().filter(|backup| is_home(&backup.home)) {
            match &backup.state {
                State::OfEnvironment(name) => other = Some(name.as_str()),
                State::Good | State::Incomplete(_) => return None,
            }
        }
        other
    }

    /// The newest time that the store itself has given to anything here.
    pub fn newest_stored(&self) -> Option<Timestamp> {
        let of_backups = self.backups.iter().flat_map(|backup| &backup.versions);
        let of_orphans = self.orphans.iter().flat_map(|orphan| &orphan.versions);
        of_backups.chain(of_orphans).chain(&self.foreign).chain(&self.drills).map(|one| one.stored_at).max()
    }
}

/// Lists `prefix` of `store` (`""` is all of it, else it ends with `/`) and reads the manifests there.
/// What `environment` has made is ours.
///
/// Cost: one listing, and one small read for each backup.
///
/// # Errors
/// As the store; a single manifest that is gone or damaged is told in [`Inventory::unreadable`].
pub async fn take(store: &dyn Store, prefix: &str, environment: &str) -> Result<Inventory> {
    let sorted = sort(store.list(prefix).await?);
    let mut inventory = Inventory { foreign: sorted.foreign, drills: sorted.drills, ..Default::default() };
    let read = stream::iter(sorted.folders).map(|folder| async move {
        let text = match folder.oldest_manifest() {
            Some(version) => Some(read_manifest(store, version).await?),
            None => None,
        };
        anyhow::Ok((folder, text))
    });
    let read: Vec<_> = read.buffered(SIDE_BY_SIDE).try_collect().await?;
    for (folder, text) in read {
        judge(folder, text, environment, &mut inventory);
    }
    let newest_first = |one: &Backup, other: &Backup| {
        let key = |backup: &Backup| (backup.manifest.started_at, backup.id.clone());
        one.home.cmp(&other.home).then_with(|| key(other).cmp(&key(one)))
    };
    inventory.backups.sort_by(newest_first);
    Ok(inventory)
}

/// The text of a manifest, or why there is none.
async fn read_manifest(store: &dyn Store, version: &Version) -> Result<Result<Vec<u8>, String>> {
    if version.bytes > LONGEST_MANIFEST {
        return Ok(Err(format!("its manifest has {} bytes", version.bytes)));
    }
    let read = async {
        let pieces: Vec<bytes::Bytes> = store.read(version, 0..version.bytes).await?.try_collect().await?;
        anyhow::Ok(pieces.concat())
    };
    match read.await {
        Ok(text) => Ok(Ok(text)),
        Err(error) => match classify(&error) {
            failure if failure.kind == ErrorKind::Data => Ok(Err(failure.what)),
            _ => Err(error),
        },
    }
}

/// A listing, sorted by what the names say.
#[derive(Debug, Default)]
struct Sorted {
    folders: Vec<Folder>,
    drills: Vec<Version>,
    foreign: Vec<Version>,
}

/// A folder whose name is that of a backup.
#[derive(Debug, Default)]
struct Folder {
    home: String,
    id: String,
    versions: Vec<Version>,
}

impl Folder {
    fn named(&self, file: &str) -> impl Iterator<Item = &Version> {
        let name = format!("{}{}/{file}", self.home, self.id);
        self.versions.iter().filter(move |version| version.name == name && !version.is_marker)
    }

    /// The manifest that counts.
    fn oldest_manifest(&self) -> Option<&Version> {
        oldest_first(self.named(MANIFEST)).into_iter().next()
    }

    /// The oldest version of `object` that has its length, or what is wrong.
    fn found(&self, object: &Object) -> Result<Version, String> {
        let versions = oldest_first(self.named(&object.name));
        let fits = versions.iter().find(|version| version.bytes == object.stored_bytes);
        match (fits, versions.first()) {
            (Some(version), _) => Ok((*version).clone()),
            (None, None) => Err(format!("{} is missing", object.name)),
            (None, Some(other)) => {
                Err(format!("{} has {} bytes instead of {}", object.name, other.bytes, object.stored_bytes))
            }
        }
    }
}

/// A listing's newest come first, also among those of one time.
fn oldest_first<'a>(listed: impl Iterator<Item = &'a Version>) -> Vec<&'a Version> {
    let mut versions: Vec<&Version> = listed.collect();
    versions.reverse();
    versions.sort_by_key(|version| version.stored_at);
    versions
}

fn sort(listed: Vec<Version>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut folders: BTreeMap<(String, String), Vec<Version>> = BTreeMap::new();
    for version in listed {
        match place(&version.name) {
            Some((home, id)) => folders.entry((home, id)).or_default().push(version),
            None if is_drill(&version.name) => sorted.drills.push(version),
            None => sorted.foreign.push(version),
        }
    }
    let folder = |((home, id), versions)| Folder { home, id, versions };
    sorted.folders = folders.into_iter().map(folder).collect();
    sorted
}

/// Home and id in the name of an object of a backup; `None` for what is not ours.
fn place(name: &str) -> Option<(String, String)> {
    let (folder, file) = name.rsplit_once('/')?;
    let (home, id) = folder.rsplit_once('/')?;
    let owner = home.strip_prefix(names::SERVERS).unwrap_or(home);
    let is_escaped = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let is_owner = !owner.is_empty() && owner.bytes().all(is_escaped) && !owner.starts_with('_');
    let is_ours = is_owner && names::started_at(id).is_some() && (file == MANIFEST || is_object(file));
    is_ours.then(|| (format!("{home}/"), id.to_owned()))
}

/// Whether an object beside a manifest has such a name.
fn is_object(file: &str) -> bool {
    let codec = file.strip_prefix("dump.pgc.").and_then(|rest| rest.strip_suffix(".age"));
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    file == PROOF || file == "globals.sql.age" || codec.is_some_and(is_word)
}

fn is_drill(name: &str) -> bool {
    name.strip_prefix(names::DRILLS).is_some_and(|file| file.ends_with(".json"))
}

/// Puts `folder`, whose manifest reads `text`, where it belongs.
fn judge(folder: Folder, text: Option<Result<Vec<u8>, String>>, environment: &str, into: &mut Inventory) {
    note_oddities(&folder, &mut into.notes);
    let Some(text) = text else {
        let times = folder.versions.iter().map(|version| version.stored_at);
        let touched_at = times.chain(names::started_at(&folder.id)).max().unwrap_or(Timestamp::MAX);
        let Folder { home, id, versions } = folder;
        return into.orphans.push(Orphan { home, id, touched_at, versions });
    };
    let stored_at = folder.oldest_manifest().map_or(Timestamp::MAX, |version| version.stored_at);
    let manifest = match text.and_then(|text| parse(&text)).and_then(|found| fits(found, &folder)) {
        Ok(manifest) => manifest,
        Err(why) => {
            let Folder { home, id, .. } = folder;
            return into.unreadable.push(Unreadable { home, id, why, stored_at });
        }
    };
    let archive = folder.found(&manifest.object);
    let proof = manifest.proof.as_ref().map(|object| folder.found(object)).transpose();
    let missing: Vec<String> =
        [archive.as_ref().err(), proof.as_ref().err()].into_iter().flatten().cloned().collect();
    let state = match () {
        () if manifest.environment != environment => State::OfEnvironment(manifest.environment.clone()),
        () if missing.is_empty() => State::Good,
        () => State::Incomplete(missing.join(", ")),
    };
    let (archive, proof) = (archive.ok(), proof.ok().flatten());
    let Folder { home, id, versions } = folder;
    into.backups.push(Backup { home, id, manifest, stored_at, state, archive, proof, versions });
}

fn note_oddities(folder: &Folder, notes: &mut Vec<(String, String)>) {
    let name = format!("{}{}", folder.home, folder.id);
    let newer = folder.named(MANIFEST).count().saturating_sub(1);
    if newer > 0 {
        let what =
            format!("{newer} newer version(s) of its manifest are ignored: somebody has written over it");
        notes.push((name.clone(), what));
    }
    let hidden = folder.versions.iter().filter(|version| version.is_marker);
    for file in hidden.filter_map(|version| version.name.rsplit('/').next()) {
        notes.push((name.clone(), format!("{file} is hidden by a marker, which is ignored")));
    }
}

/// The field that tells whether the others can be read.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

fn parse(text: &[u8]) -> Result<Manifest, String> {
    match serde_json::from_slice::<Head>(text) {
        Ok(head) if head.schema > SCHEMA => {
            Err(format!("its manifest has schema {}, and this sankofa reads up to {SCHEMA}", head.schema))
        }
        Ok(head) if head.schema == 0 => Err("its manifest has no schema".into()),
        Ok(_) => serde_json::from_slice(text).map_err(|error| {
            format!("its manifest is damaged at line {} column {}", error.line(), error.column())
        }),
        Err(_) => Err("its manifest is damaged".into()),
    }
}

/// The manifest, if it says what its place says.
fn fits(manifest: Manifest, folder: &Folder) -> Result<Manifest, String> {
    if names::home(manifest.kind, &manifest.database) != folder.home || manifest.id != folder.id {
        return Err("its manifest belongs to another folder".into());
    }
    let is_archive = match manifest.kind {
        Kind::Database => manifest.object.name.starts_with("dump.pgc.") && is_object(&manifest.object.name),
        Kind::Globals => manifest.object.name == "globals.sql.age",
    };
    if !is_archive || manifest.proof.as_ref().is_some_and(|proof| proof.name != PROOF) {
        return Err("its manifest names objects that are not its own".into());
    }
    Ok(manifest)
}

#[cfg(test)]
pub mod tests;
