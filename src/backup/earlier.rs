//! What earlier runs have left where a backup will go.
//!
//! In:    the store, the database's folder, the run's id.
//! Out:   the backup that this very run has made already; a refusal to mix environments.
//! Holds: at most two manifests are read, however many backups there are.
//! Not here: what all of them are worth (`inventory`).

use crate::backup::inventory::{self, State};
use crate::backup::manifest::{MANIFEST, Manifest};
use crate::backup::names;
use crate::error::Failure;
use crate::store::Store;
use anyhow::Result;
use sha2::{Digest, Sha256};

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
    Ok(None)
}

fn foreign(store: &dyn Store, environment: &str, other: &str) -> Failure {
    let place = store.place();
    Failure::config(format!("cannot back up into {place}: environment {other} keeps its backups there"))
        .hint(format!("Give environment {environment} a store or a prefix of its own."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_mark_and_another_run_another() {
        assert_eq!(unique("backup_hr/scheduled__2026-11-21"), unique("backup_hr/scheduled__2026-11-21"));
        assert_ne!(unique("a"), unique("b"));
        assert!(
            names::started_at(&names::id("2026-11-21T16:05:00Z".parse().unwrap(), &unique("a"))).is_some()
        );
    }
}
