//! What earlier runs have left where a backup will go.
//!
//! In:    the store, the database's folder, the run's id.
//! Out:   the backup that this very run has made already; a refusal to mix environments.
//! Holds: at most two manifests are read, however many backups there are (the first backup of a name looks
//!        at one of each other folder of the prefix); no folder is used twice.
//! Not here: what all of them are worth (`inventory`).

use crate::backup::inventory::{self, State};
use crate::backup::manifest::{MANIFEST, Manifest};
use crate::backup::names;
use crate::error::Failure;
use crate::store::Store;
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The last part of the ids of all backups of this run: it tells where to look for an earlier try.
pub fn unique(run_id: &str) -> String {
    let digest = Sha256::digest(run_id);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The good backup in folder `home` that run `run_id` has made already.
///
/// Cost: one listing, and one small read for the newest backup and one for each try of this run.
///
/// # Errors
/// As the store; 78 where another environment keeps its backups.
pub async fn look(
    store: &dyn Store,
    home: &str,
    environment: &str,
    run_id: &str,
) -> Result<Option<Manifest>> {
    let listed = store.list(home).await?;
    let ids = listed.iter().filter(|version| !version.is_marker).filter_map(|version| {
        let id = version.name.strip_prefix(home)?.strip_suffix(MANIFEST)?.strip_suffix('/')?;
        names::started_at(id).map(|_| id)
    });
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let unique = format!("-{}", unique(run_id));
    let newest = ids.last().copied();
    for id in ids.iter().copied().filter(|id| Some(*id) == newest || id.ends_with(&unique)) {
        let found = inventory::take(store, &format!("{home}{id}/"), environment).await?;
        for backup in found.backups {
            match backup.state {
                State::OfEnvironment(other) => return Err(foreign(store, environment, &other).into()),
                State::Good if backup.manifest.run_id == run_id => return Ok(Some(backup.manifest)),
                State::Good | State::Incomplete(_) => {}
            }
        }
    }
    if newest.is_none() {
        refuse_foreign_prefix(store, environment).await?;
    }
    Ok(None)
}

/// Before the first backup of a name: the prefix may be another environment's all the same.
async fn refuse_foreign_prefix(store: &dyn Store, environment: &str) -> Result<()> {
    let listed = store.list("").await?;
    let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
    for version in listed.iter().filter(|version| !version.is_marker) {
        let Some(folder) = version.name.strip_suffix(MANIFEST) else { continue };
        let Some((home, id)) = folder.trim_end_matches('/').rsplit_once('/') else { continue };
        let known = newest.entry(home).or_insert(id);
        *known = (*known).max(id);
    }
    for (home, id) in newest {
        let found = inventory::take(store, &format!("{home}/{id}/"), environment).await?;
        if let Some(other) = found.owned_by_other(|_| true) {
            return Err(foreign(store, environment, other).into());
        }
    }
    Ok(())
}

/// The first second from `at` on that names folders of this run in which nothing lies yet: an earlier
/// try of the same second may have left its own, and nothing stored is ever replaced.
///
/// `homes` are (folder of the database or server, mark of the run in it).
/// Cost: one small listing a home.
///
/// # Errors
/// As the store; 75 when a whole minute is taken.
pub async fn free_second(store: &dyn Store, homes: &[(String, String)], at: Timestamp) -> Result<Timestamp> {
    for ahead in 0..60 {
        let named = at.checked_add(SignedDuration::from_secs(ahead)).unwrap_or(at);
        let mut is_free = true;
        for (home, unique) in homes {
            is_free &= store.list(&format!("{home}{}/", names::id(named, unique))).await?.is_empty();
        }
        if is_free {
            return Ok(named);
        }
    }
    let what = format!("cannot name the backup in {}: this run has used every second", store.place());
    Err(Failure::temporary(what).hint("Try again in a minute.").into())
}

/// The failure of a run whose place is another environment's.
pub fn foreign(store: &dyn Store, environment: &str, other: &str) -> Failure {
    let place = store.place();
    Failure::config(format!("cannot use {place}: environment {other} keeps its backups there")).hint(format!(
        "Give environment {environment} a store or a prefix of its own, or run it {}.",
        with_env(other)
    ))
}

/// How a command is run in environment `name`.
pub fn with_env(name: &str) -> String {
    if name == "default" { "without `--env`".to_owned() } else { format!("with `--env {name}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_try_in_the_second_of_another_takes_the_next_that_is_free_in_all_its_folders() {
        use crate::backup::inventory::tests::put;
        let place = tempfile::tempdir().unwrap();
        let store = crate::store::directory::Directory::new(place.path());
        let at: Timestamp = "2026-11-21T16:05:00.9Z".parse().unwrap();
        let homes = [("hr/".to_owned(), "ab".to_owned()), ("_servers/s/".to_owned(), "cd".to_owned())];
        assert_eq!(free_second(&store, &homes, at).await.unwrap(), at);
        put(&store, "hr/20261121T160500Z-ab/proof.age", b"x").await;
        put(&store, "_servers/s/20261121T160501Z-cd/globals.sql.age", b"x").await;
        put(&store, "hr/20261121T160502Z-other/proof.age", b"x").await;
        let named = free_second(&store, &homes, at).await.unwrap();
        assert_eq!(names::id(named, "ab"), "20261121T160502Z-ab");
    }

    #[test]
    fn a_run_has_one_mark_and_another_run_another() {
        assert_eq!(unique("backup_hr/scheduled__2026-11-21"), unique("backup_hr/scheduled__2026-11-21"));
        assert_ne!(unique("a"), unique("b"));
        assert!(
            names::started_at(&names::id("2026-11-21T16:05:00Z".parse().unwrap(), &unique("a"))).is_some()
        );
    }
}
