//! Deletes what the policy no longer keeps, and nothing else.
//!
//! In:    the inventory of a whole store, a policy for each database, the time now.
//! Out:   a [`Plan`], and what became of it.
//! Holds: a manifest goes before its objects, and is gone for good before they go: killed at any moment,
//!        this leaves no manifest without its objects. What is locked, foreign, unreadable, of another
//!        environment or of a database that the project does not name stays.
//! Not here: which backups the policy keeps (`backup::retention`).

use crate::backup::inventory::{Backup, Inventory, Orphan, State, Unreadable};
use crate::backup::manifest::{Kind, MANIFEST};
use crate::backup::retention::{self, Candidate, Verdict};
use crate::backup::{earlier, inventory, names};
use crate::config::backups::Keep;
use crate::error::{Kind as ErrorKind, classify};
use crate::report::lines::span;
use crate::stop::StopSignal;
use crate::store::{Deleted, Store, Version};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A folder without a manifest, and globals that nothing refers to, may belong to a backup that is
/// running: they stay for so long.
const RUNNING: SignedDuration = SignedDuration::from_hours(48);

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A backup of a database.
    Backup,
    /// Globals of a server.
    Globals,
    /// Objects without a manifest.
    Orphan,
}

impl What {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            What::Backup => "backup",
            What::Globals => "globals",
            What::Orphan => "orphan",
        }
    }
}

/// One folder and what is to become of it.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it holds.
    pub what: What,
    /// Folder of its database or server.
    pub home: String,
    /// Last part of its own folder.
    pub id: String,
    /// Whether it stays, and why.
    pub verdict: Verdict,
    /// What it takes in the store, all versions.
    pub bytes: u64,
    /// What goes, in this order.
    versions: Vec<Version>,
}

/// What is to become of everything that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By folder, newest first; orphans last.
    pub items: Vec<Item>,
}

/// What became of a plan.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Bytes that are no longer stored.
    pub bytes: u64,
    /// Versions that are gone.
    pub versions: u64,
    /// Folders that are gone, by name.
    pub folders: Vec<String>,
    /// Folders that the store protects, and until when as far as it says.
    pub locked: Vec<(String, Option<Timestamp>)>,
    /// Folders that were a backup after all when their turn came.
    pub revived: Vec<String>,
}

/// Which folders may lose something, and by which policy.
pub type Policies = BTreeMap<String, Keep>;

/// Decides about everything in `inventory`, which is that of a whole store, at time `now`.
///
/// Only homes in `policies` lose backups. Globals and orphans of servers go when no manifest in the store
/// refers to them, whoever's it is.
pub fn plan(inventory: &Inventory, policies: &Policies, environment: &str, now: Timestamp) -> Plan {
    let mut items = Vec::new();
    for (home, keep) in policies {
        let ours: Vec<&Backup> = inventory.of(home).filter(|backup| is_ours(backup)).collect();
        let candidates: Vec<Candidate> = ours.iter().map(|backup| candidate(backup)).collect();
        let verdicts = retention::decide(&candidates, keep, now);
        items.extend(ours.into_iter().zip(verdicts).map(|(backup, verdict)| {
            let verdict = unless_locked(&backup.versions, verdict, now);
            Item::new(What::Backup, (&backup.home, &backup.id), verdict, &backup.versions)
        }));
    }
    items.extend(globals(inventory, &items, environment, now));
    let newest = inventory.newest_stored().unwrap_or(Timestamp::MIN).min(now);
    let may_go =
        |orphan: &&Orphan| policies.contains_key(&orphan.home) || orphan.home.starts_with(names::SERVERS);
    items.extend(inventory.orphans.iter().filter(may_go).map(|orphan| {
        let verdict = unless_locked(&orphan.versions, abandoned(orphan.touched_at, newest), now);
        Item::new(What::Orphan, (&orphan.home, &orphan.id), verdict, &orphan.versions)
    }));
    Plan { items }
}

fn is_ours(backup: &Backup) -> bool {
    backup.manifest.kind == Kind::Database && !matches!(backup.state, State::OfEnvironment(_))
}

fn candidate(backup: &Backup) -> Candidate {
    Candidate {
        id: backup.id.clone(),
        started_at: backup.manifest.started_at,
        stored_at: backup.stored_at,
        is_good: backup.is_good(),
    }
}

/// The verdict on what has no manifest and was last touched `at`; `newest` is the newest time that the
/// store has given to anything, so that a wrong clock of ours alone makes nothing old.
fn abandoned(at: Timestamp, newest: Timestamp) -> Verdict {
    let age = newest.duration_since(at);
    match age >= RUNNING {
        true => Verdict { keep: false, why: "without a manifest, and nothing has come for 2 days".into() },
        false => {
            Verdict { keep: true, why: "without a manifest; it may belong to a backup that runs".into() }
        }
    }
}

/// What is locked stays, whatever the policy says.
fn unless_locked(versions: &[Version], verdict: Verdict, now: Timestamp) -> Verdict {
    match versions.iter().filter_map(|version| version.locked_until).max().filter(|until| *until > now) {
        Some(until) if !verdict.keep => {
            let left = span(until.duration_since(now).as_secs().unsigned_abs());
            Verdict { keep: true, why: format!("{}, but locked for {left} more", verdict.why) }
        }
        _ => verdict,
    }
}

/// Globals stay while a manifest that stays refers to them, or while one that cannot be read might.
fn globals(inventory: &Inventory, backups: &[Item], environment: &str, now: Timestamp) -> Vec<Item> {
    let goes: BTreeSet<(&str, &str)> = backups
        .iter()
        .filter(|item| !item.verdict.keep)
        .map(|item| (item.home.as_str(), item.id.as_str()))
        .collect();
    let stays = inventory.backups.iter().filter(|one| !goes.contains(&(one.home.as_str(), one.id.as_str())));
    let wanted: BTreeSet<&str> = stays
        .filter_map(|one| one.manifest.globals.as_deref())
        .map(|folder| folder.trim_matches('/'))
        .collect();
    let is_of_database = |one: &Unreadable| !one.home.starts_with(names::SERVERS);
    let blind = inventory.unreadable.iter().any(is_of_database);
    let newest = inventory.newest_stored().unwrap_or(Timestamp::MIN).min(now);
    let mut last_home = "";
    let mut items = Vec::new();
    for one in inventory.backups.iter().filter(|one| one.manifest.kind == Kind::Globals) {
        let is_newest = std::mem::replace(&mut last_home, &one.home) != one.home;
        let young = newest.duration_since(one.stored_at.max(one.manifest.started_at)) < RUNNING;
        let (keep, why) = match () {
            () if one.manifest.environment != environment => continue,
            () if wanted.contains(one.folder().trim_matches('/')) => (true, "a backup refers to them"),
            () if is_newest => (true, "the newest of their server"),
            () if young => (true, "a backup that runs may refer to them"),
            () if blind => (true, "a manifest that cannot be read may refer to them"),
            () => (false, "no backup refers to them"),
        };
        let verdict = unless_locked(&one.versions, Verdict { keep, why: why.into() }, now);
        items.push(Item::new(What::Globals, (&one.home, &one.id), verdict, &one.versions));
    }
    items
}

impl Item {
    fn new(what: What, (home, id): (&str, &str), verdict: Verdict, versions: &[Version]) -> Item {
        let bytes = versions.iter().map(|version| version.bytes).sum();
        let (home, id) = (home.to_owned(), id.to_owned());
        Item { what, home, id, verdict, bytes, versions: manifest_first(versions) }
    }

    /// Its whole folder, with `/`.
    pub fn folder(&self) -> String {
        format!("{}{}/", self.home, self.id)
    }
}

/// Manifests before objects, and of each the newest version first: the oldest is the one that counts.
fn manifest_first(versions: &[Version]) -> Vec<Version> {
    let is_object = |version: &Version| version.name.rsplit('/').next() != Some(MANIFEST);
    let mut ordered = versions.to_vec();
    ordered.sort_by_key(is_object); // stable: a listing has the newest first
    ordered
}

impl Plan {
    /// What goes.
    pub fn going(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.verdict.keep)
    }

    /// Deletes what goes, one version after the other.
    ///
    /// # Errors
    /// As the store, at the first version that it neither deletes nor protects; the reason, when a stop is
    /// asked for. What was deleted until then is gone; running it again does the rest.
    pub async fn carry_out(&self, store: &dyn Store, stop: &StopSignal) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for item in self.going() {
            if item.what == What::Orphan && is_backup_now(store, item).await? {
                pruned.revived.push(item.folder());
                continue;
            }
            item.delete(store, stop, &mut pruned).await?;
        }
        Ok(pruned)
    }
}

/// Whether the folder has got its manifest since it was listed.
async fn is_backup_now(store: &dyn Store, item: &Item) -> Result<bool> {
    let name = format!("{}{MANIFEST}", item.folder());
    Ok(store.list(&name).await?.iter().any(|version| version.name == name))
}

impl Item {
    async fn delete(&self, store: &dyn Store, stop: &StopSignal, pruned: &mut Pruned) -> Result<()> {
        let mut locked = None;
        for version in &self.versions {
            if let Some(reason) = stop.reason() {
                return Err(reason.failure().into());
            }
            match store.delete(version).await? {
                Deleted::Gone => {
                    pruned.versions += 1;
                    pruned.bytes += version.bytes;
                }
                Deleted::WasGone => (),
                Deleted::Locked(until) => {
                    locked = Some(until);
                    if version.name.ends_with(MANIFEST) {
                        break; // it still is a backup: its objects stay
                    }
                }
            }
        }
        match locked {
            Some(until) => pruned.locked.push((self.folder(), until)),
            None => pruned.folders.push(self.folder()),
        }
        Ok(())
    }
}

/// A store by two of its keys, which may be the same.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// With the store's own key, where it is at hand; it may be unable to delete.
    pub own: Option<&'a dyn Store>,
    /// With the key for prune, which may be unable to read.
    pub prune: &'a dyn Store,
}

/// Plans and, unless `dry_run`, carries out what `policies` say of the store.
///
/// # Errors
/// As [`inventory::take`] and [`Plan::carry_out`]; 78 when another environment keeps its backups there.
pub async fn prune(
    keys: Keys<'_>,
    policies: &Policies,
    environment: &str,
    dry_run: bool,
    stop: &StopSignal,
) -> Result<(Inventory, Plan, Pruned)> {
    let inventory = match (inventory::take(keys.prune, "", environment).await, keys.own) {
        (Err(error), Some(own)) if classify(&error).kind == ErrorKind::Permission => {
            inventory::take(own, "", environment).await?
        }
        (taken, _) => taken?,
    };
    if let Some(other) = inventory.owned_by_other(|home| policies.contains_key(home)) {
        return Err(earlier::foreign(keys.prune, environment, other).into());
    }
    let plan = plan(&inventory, policies, environment, Timestamp::now());
    let pruned = if dry_run { Pruned::default() } else { plan.carry_out(keys.prune, stop).await? };
    Ok((inventory, plan, pruned))
}

#[cfg(test)]
mod tests;
