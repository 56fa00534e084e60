//! `backups:` of `sankofa.yaml` -> [`Backups`].
//!
//! In:    the tree and the raw file.
//! Out:   each database with every default filled in.
//! Holds: every store that is named is there; nothing is backed up unencrypted.

use super::At;
use super::project::{recipients, store};
use crate::config::backups::{Backups, Bucket, Database, Keep, StorePlace};
use crate::config::node::Fault;
use crate::config::raw::backups::BackupKeys;
use crate::config::raw::project::{Bucket as BucketKeys, ProjectFile, StoreKeys};
use std::path::Path;
use std::time::Duration;

const KEEP: Keep = Keep { days: 30, at_least: 7, daily: 0, weekly: 0, monthly: 0 };
const EXPECTED_EVERY: Duration = Duration::from_secs(26 * 3600);
const RESTORE_WITHIN: Duration = Duration::from_secs(30 * 60);
/// The longest that anything is kept or locked, days: a hundred years.
const MOST_DAYS: u32 = 36_500;
/// The most backups that anything asks to keep.
const MOST_KEPT: u32 = 100_000;
/// The shortest time in which a backup can be expected again, or a restore be done.
const SHORTEST: Duration = Duration::from_secs(60);
/// The variable with the identity, unless said otherwise.
const IDENTITY: &str = "age_identity";

/// Resolves the section; `home` is the directory of the file.
///
/// # Errors
/// A [`Fault`] at the first key that is wrong or fits nothing.
pub fn resolve(at: At<'_>, raw: &ProjectFile, home: &Path) -> Result<Backups, Fault> {
    let Some(keys) = &raw.backups else { return Ok(Backups::default()) };
    check(at, raw, &["backups", "defaults"], &keys.defaults)?;
    let mut databases = Vec::new();
    for (name, own) in &keys.databases.0 {
        let path = ["backups", "databases", name.as_str()];
        check(at, raw, &path, own)?;
        databases.push(database(at, raw, (name, &own.over(&keys.defaults)), home)?);
    }
    for (index, id) in keys.servers.iter().enumerate() {
        at.id(&["backups", "servers", &index.to_string()], id)?;
    }
    Ok(Backups { databases, servers: keys.servers.clone(), ignore: keys.ignore.clone() })
}

fn database(
    at: At<'_>,
    raw: &ProjectFile,
    (name, keys): (&str, &BackupKeys),
    home: &Path,
) -> Result<Database, Fault> {
    let path = ["backups", "databases", name];
    let Some(connection) = &keys.connection else {
        return Err(at.fault(&path, "key \"connection\" is missing"));
    };
    let Some(store_name) = &keys.store else {
        return Err(at.fault(&path, "key \"store\" is missing here and in `defaults:`"));
    };
    let Some(encrypt_to) = keys.encrypt_to.clone().filter(|list| !list.is_empty()) else {
        return Err(at
            .fault(&path, "key \"encrypt_to\" is missing here and in `defaults:`")
            .hint("A backup is always encrypted; `sankofa keygen` makes a key pair."));
    };
    Ok(Database {
        name: name.to_owned(),
        connection: connection.clone(),
        store: store_name.clone(),
        place: place(at, store(at, raw, &path, store_name)?, store_name, home)?,
        encrypt_to,
        identities: keys.identities.clone().unwrap_or_else(|| vec![IDENTITY.to_owned()]),
        keep: keys.keep.unwrap_or(KEEP),
        expected_every: keys.expected_every.map_or(EXPECTED_EVERY, |length| length.0),
        restore_within: keys.restore_within.map_or(RESTORE_WITHIN, |length| length.0),
        prune_connection: keys.prune_connection.clone(),
        scheduled_by: keys.scheduled_by,
        codec: keys.codec.unwrap_or_default(),
        lock: keys.lock,
    })
}

fn place(at: At<'_>, keys: &StoreKeys, name: &str, home: &Path) -> Result<StorePlace, Fault> {
    let bucket = |kind: &str, keys: &BucketKeys| {
        at.id(&["stores", name, kind, "connection"], &keys.connection)?;
        if keys.bucket.is_empty() {
            return Err(at.fault(&["stores", name, kind, "bucket"], "expected a name"));
        }
        let prefix = keys.prefix.as_deref().map(|text| text.trim_matches('/').to_owned());
        let prefix = prefix.filter(|text| !text.is_empty());
        Ok(Bucket { connection: keys.connection.clone(), bucket: keys.bucket.clone(), prefix })
    };
    match keys {
        StoreKeys::Directory(directory) if directory.is_empty() => {
            Err(at.fault(&["stores", name, "directory"], "expected a directory"))
        }
        StoreKeys::Directory(directory) => Ok(StorePlace::Directory(home.join(directory))),
        StoreKeys::B2(keys) => bucket("b2", keys).map(StorePlace::B2),
        StoreKeys::S3(keys) => bucket("s3", keys).map(StorePlace::S3),
    }
}

fn check(at: At<'_>, raw: &ProjectFile, path: &[&str], keys: &BackupKeys) -> Result<(), Fault> {
    let below = |key: &'static str| path.iter().copied().chain([key]).collect::<Vec<&str>>();
    if let Some(name) = &keys.store {
        store(at, raw, &below("store"), name)?;
    }
    for (key, id) in [("connection", &keys.connection), ("prune_connection", &keys.prune_connection)] {
        id.as_ref().map_or(Ok(()), |id| at.id(&below(key), id))?;
    }
    for (index, id) in keys.identities.iter().flatten().enumerate() {
        let index = index.to_string();
        at.id(&[&below("identities")[..], &[index.as_str()]].concat(), id)?;
    }
    if keys.identities.as_ref().is_some_and(Vec::is_empty) {
        return Err(at.fault(&below("identities"), "expected at least one variable"));
    }
    recipients(at, &below("encrypt_to"), keys.encrypt_to.as_deref().unwrap_or_default())?;
    check_numbers(at, path, keys)
}

/// Counts and times within what stores and calendars can hold.
fn check_numbers(at: At<'_>, path: &[&str], keys: &BackupKeys) -> Result<(), Fault> {
    let between = |key: &str, name: &str, number: u32, least: u32, most: u32| {
        if (least..=most).contains(&number) {
            return Ok(());
        }
        Err(at.fault(&[path, &[key, name]].concat(), format!("`{name}` must be from {least} to {most}")))
    };
    if let Some(keep) = keys.keep {
        between("keep", "days", keep.days, 0, MOST_DAYS)?;
        between("keep", "at_least", keep.at_least, 1, MOST_KEPT)?;
        for (name, number) in [("daily", keep.daily), ("weekly", keep.weekly), ("monthly", keep.monthly)] {
            between("keep", name, number, 0, MOST_KEPT)?;
        }
    }
    if let Some(lock) = keys.lock {
        between("lock", "days", lock.days, 1, MOST_DAYS)?;
    }
    for (key, length) in [("expected_every", keys.expected_every), ("restore_within", keys.restore_within)] {
        if length.is_some_and(|length| length.0 < SHORTEST) {
            return Err(at.fault(&[path, &[key]].concat(), format!("`{key}` must be 1m or more")));
        }
    }
    Ok(())
}

impl BackupKeys {
    /// These keys, and those of `defaults` where they are silent.
    fn over(&self, defaults: &BackupKeys) -> BackupKeys {
        let (own, other) = (self.clone(), defaults.clone());
        BackupKeys {
            connection: own.connection.or(other.connection),
            store: own.store.or(other.store),
            encrypt_to: own.encrypt_to.or(other.encrypt_to),
            keep: own.keep.or(other.keep),
            expected_every: own.expected_every.or(other.expected_every),
            restore_within: own.restore_within.or(other.restore_within),
            prune_connection: own.prune_connection.or(other.prune_connection),
            scheduled_by: own.scheduled_by.or(other.scheduled_by),
            identities: own.identities.or(other.identities),
            codec: own.codec.or(other.codec),
            lock: own.lock.or(other.lock),
        }
    }
}
