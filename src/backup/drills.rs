//! What drills found, as kept in the store beside the backups.
//!
//! In:    a drill that has ended; the records that a listing shows.
//! Out:   `drills/<database>-<id of the backup>-<time>.json`, one object a drill, never written over.
//! Holds: no name of a table, no host, no secret; a record that cannot be read is left out: it is news
//!        about a backup, not the backup.
//! Not here: the drill (`backup::drill`), how long a restore will take (`backup::restore::predict`).

use crate::backup::names;
use crate::pg::copy::hex;
use crate::store::{Deleted, Store, Version};
use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Version of a record.
pub const SCHEMA: u32 = 1;
/// Records that are read: the newest.
const NEWEST: usize = 200;
/// Records that are fetched side by side.
const SIDE_BY_SIDE: usize = 8;
/// A longer record is none, bytes.
const LONGEST: u64 = 1 << 20;

/// What one drill found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The environment it was made in.
    pub environment: String,
    /// The database's name in the project.
    pub database: String,
    /// Id of the backup that was restored.
    pub backup: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Whether the restored database was equal to what was dumped.
    pub proven: bool,
    /// Bytes fetched from the store.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Bytes of the archive.
    #[serde(default)]
    pub plain_bytes: u64,
    /// Waiting for the store, milliseconds.
    #[serde(default)]
    pub fetch_ms: u64,
    /// Decrypting, unpacking, hashing, spooling, milliseconds.
    #[serde(default)]
    pub decrypt_ms: u64,
    /// `pg_restore`, milliseconds.
    #[serde(default)]
    pub restore_ms: u64,
    /// Comparing every row with the proof, milliseconds.
    #[serde(default)]
    pub prove_ms: u64,
    /// The run, as the scheduler calls it.
    #[serde(default)]
    pub run_id: String,
    /// When it began.
    #[serde(default)]
    pub started_at: Timestamp,
    /// Version of this program.
    #[serde(default)]
    pub sankofa: String,
    /// Version of the server that was restored into.
    #[serde(default)]
    pub server_version: String,
    /// Sessions side by side.
    #[serde(default)]
    pub jobs: u64,
    /// Tables that were compared.
    #[serde(default)]
    pub tables: u64,
    /// Their rows.
    #[serde(default)]
    pub rows: u64,
    /// How many tables and other things differ.
    #[serde(default)]
    pub different: u64,
    /// `restore_within` of the database, milliseconds.
    #[serde(default)]
    pub restore_within_ms: u64,
}

impl Drilled {
    /// What its object is called.
    pub fn object_name(&self) -> String {
        // Two runs that end in the same second have names of their own.
        let run = match self.run_id.is_empty() {
            true => "drill".to_owned(),
            false => hex(&Sha256::digest(&self.run_id)[..4]),
        };
        let ended = names::id(self.ended_at, &run);
        format!("{}{}-{}-{ended}.json", names::DRILLS, names::escape(&self.database), self.backup)
    }
}

/// Records of each database that stay, however old.
const KEPT: usize = 20;

/// The records of `database` among `listed` that are older than `keep` at `now`: not the newest few, and not
/// the one called `proven`. Their age is what the store says.
pub fn expired(
    listed: &[Version],
    (database, proven): (&str, Option<&str>),
    (keep, now): (Duration, Timestamp),
) -> Vec<Version> {
    let mut own: Vec<&Version> =
        listed.iter().filter(|one| is_record_of(&one.name, database) && !one.is_marker).collect();
    own.sort_by_key(|one| std::cmp::Reverse(one.stored_at));
    let keep_s = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let is_old = |one: &&Version| now.duration_since(one.stored_at).as_secs() > keep_s;
    let is_needed = |one: &&Version| proven == Some(one.name.as_str());
    own.into_iter().skip(KEPT).filter(is_old).filter(|one| !is_needed(one)).cloned().collect()
}

/// Whether `name` is a record of `database`, and not of one whose name only begins alike.
fn is_record_of(name: &str, database: &str) -> bool {
    let Some(rest) = name.strip_prefix(names::DRILLS).and_then(|rest| rest.strip_suffix(".json")) else {
        return false;
    };
    let mut parts = rest.rsplitn(5, '-'); // run, end, and the two of the backup's id
    let (_run, _ended, _id, _started) = (parts.next(), parts.next(), parts.next(), parts.next());
    parts.next() == Some(&names::escape(database))
}

/// Deletes records of drills of `database` that are older than `keep`, or with `dry_run` only names them.
/// `own` reads, `prune` deletes; they may be the same.
///
/// # Errors
/// As the store.
pub async fn prune(
    (own, prune): (&dyn Store, &dyn Store),
    database: &str,
    (keep, now): (Duration, Timestamp),
    dry_run: bool,
) -> Result<Vec<String>> {
    let listed = own.list(&format!("{}{}-", names::DRILLS, names::escape(database))).await?;
    if expired(&listed, (database, None), (keep, now)).is_empty() {
        return Ok(Vec::new());
    }
    let records = read(own, &listed).await?;
    let proven = records.iter().find(|one| one.database == database && one.proven);
    let proven = proven.map(Drilled::object_name);
    let mut gone = Vec::new();
    for version in expired(&listed, (database, proven.as_deref()), (keep, now)) {
        if dry_run || matches!(prune.delete(&version).await?, Deleted::Gone) {
            gone.push(version.name);
        }
    }
    Ok(gone)
}

/// Reads the newest of `listed`, which are the objects under [`names::DRILLS`]; newest first.
///
/// # Errors
/// As the store.
pub async fn read(store: &dyn Store, listed: &[Version]) -> Result<Vec<Drilled>> {
    let fits = |version: &&Version| !version.is_marker && version.bytes <= LONGEST;
    let mut newest: Vec<&Version> = listed.iter().filter(fits).collect();
    newest.sort_by_key(|version| std::cmp::Reverse(version.stored_at));
    newest.truncate(NEWEST);
    let read = |version: &Version| {
        let version = version.clone();
        async move {
            let pieces: Vec<bytes::Bytes> =
                store.read(&version, 0..version.bytes).await?.try_collect().await?;
            anyhow::Ok(serde_json::from_slice::<Drilled>(&pieces.concat()).ok())
        }
    };
    let read: Vec<Option<Drilled>> =
        stream::iter(newest.into_iter().map(read)).buffered(SIDE_BY_SIDE).try_collect().await?;
    let mut records: Vec<Drilled> = read.into_iter().flatten().filter(|one| one.schema <= SCHEMA).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.ended_at));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::inventory::tests::{put, time};
    use crate::store::directory::Directory;

    #[tokio::test]
    async fn old_records_go_but_not_the_newest_few_nor_the_one_that_proves_nor_another_databases() {
        let place = tempfile::tempdir().unwrap();
        let store = Directory::new(place.path());
        for (database, count) in [("hr", 30), ("hr-x", 25)] {
            for day in 1..=count {
                let record = Drilled {
                    schema: SCHEMA,
                    database: database.into(),
                    backup: "20261101T000000Z-1".into(),
                    ended_at: Timestamp::from_second(day * 86_400).unwrap(),
                    proven: day == 2,
                    ..Default::default()
                };
                put(&store, &record.object_name(), &serde_json::to_vec(&record).unwrap()).await;
                let file = std::fs::File::open(place.path().join(record.object_name())).unwrap();
                file.set_modified(std::time::SystemTime::from(record.ended_at)).unwrap();
            }
        }
        let now = Timestamp::from_second(1000 * 86_400).unwrap();
        let keep = Duration::from_secs(400 * 86_400);
        let dry = prune((&store, &store), "hr", (keep, now), true).await.unwrap();
        let gone = prune((&store, &store), "hr", (keep, now), false).await.unwrap();
        assert_eq!((dry.len(), &dry), (9, &gone));
        let left = store.list(names::DRILLS).await.unwrap();
        let of = |database: &str| left.iter().filter(|one| is_record_of(&one.name, database)).count();
        assert_eq!((of("hr"), of("hr-x")), (21, 25));
        assert!(prune((&store, &store), "hr", (keep, now), false).await.unwrap().is_empty());
        let proven =
            read(&store, &left).await.unwrap().into_iter().find(|one| one.proven && one.database == "hr");
        assert_eq!(proven.map(|one| one.ended_at.as_second() / 86_400), Some(2));
        let young = Timestamp::from_second(31 * 86_400).unwrap();
        assert!(prune((&store, &store), "hr-x", (keep, young), false).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn records_come_back_newest_first_and_what_is_none_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let store = Directory::new(place.path());
        for day in ["2026-11-02", "2026-11-09", "2026-11-05"] {
            let record = Drilled {
                schema: SCHEMA,
                database: "hr x".into(),
                backup: "20261101T000000Z-1".into(),
                ended_at: time(&format!("{day}T00:00:00Z")),
                ..Default::default()
            };
            put(&store, &record.object_name(), &serde_json::to_vec(&record).unwrap()).await;
        }
        put(&store, "drills/newer.json", br#"{"schema": 9, "database": "hr"}"#).await;
        put(&store, "drills/torn.json", b"{").await;
        let listed = store.list(names::DRILLS).await.unwrap();
        assert!(
            listed
                .iter()
                .any(|one| one.name == "drills/hr.20x-20261101T000000Z-1-20261102T000000Z-drill.json")
        );
        let found = read(&store, &listed).await.unwrap();
        let days: Vec<String> = found.iter().map(|one| one.ended_at.to_string()[..10].to_owned()).collect();
        assert_eq!(days, ["2026-11-09", "2026-11-05", "2026-11-02"]);
    }
}
