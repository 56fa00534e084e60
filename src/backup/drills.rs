//! What drills found, as kept in the store beside the backups.
//!
//! In:    a drill that has ended; the records that a listing shows.
//! Out:   `drills/<database>-<id of the backup>-<time>.json`, one object a drill, never written over.
//! Holds: no name of a table, no host, no secret; a record that cannot be read is left out: it is news
//!        about a backup, not the backup.
//! Not here: the drill (`backup::drill`), how long a restore will take (`backup::restore::predict`).

use crate::backup::names;
use crate::pg::copy::hex;
use crate::store::{Store, Version};
use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
