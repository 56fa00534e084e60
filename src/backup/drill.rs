//! Proves that a backup can be restored: into a scratch database, compared, timed, dropped.
//!
//! In:    a good backup, a server for drills.
//! Out:   [`Record`]s in the store, one a drill; what they measured, for predictions.
//! Holds: the scratch database is dropped whatever comes of it; a record names no table.
//! Not here: restoring (`restore`), when a drill is due (`status`).

use super::names;
use super::restore::predict::Measured;
use crate::error::{Failure, Kind, classify};
use crate::store::{Store, Terms};
use anyhow::Result;
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

/// Version of a record.
pub const SCHEMA: u32 = 1;

/// So many of the newest records are read for a prediction.
const NEWEST: usize = 5;
/// A longer record is none of ours, bytes.
const LONGEST: u64 = 1 << 20;

/// What one drill or restore found; readable without any key, so without names of tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The database's name in the project.
    pub database: String,
    /// Name of the environment.
    pub environment: String,
    /// Id of the backup.
    pub backup: String,
    /// When the backup was begun.
    pub backup_started_at: Timestamp,
    /// The run, as the scheduler calls it.
    pub run_id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Version of this program.
    pub sankofa: String,
    /// Version of the server that was restored into.
    pub server_version: String,
    /// Sessions side by side.
    pub jobs: u64,
    /// Whether everything that was compared was equal.
    pub equal: bool,
    /// How many tables and other sets differ.
    pub different: u64,
    /// Tables that were compared.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// How long it took, by phase.
    pub measured: Measured,
    /// `restore_within` of the database, milliseconds.
    pub restore_within_ms: u64,
}

impl Record {
    /// Its name in the store: `drills/hr/20261121T160500Z-0f3a9c21.json`.
    pub fn name(&self) -> String {
        format!("{}{}.json", folder(&self.database), names::id(self.started_at, &tag(&self.run_id)))
    }

    /// Stores it.
    ///
    /// # Errors
    /// As the store's.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let mut upload = store.begin(&self.name(), &Terms::default()).await?;
        match upload.feed(Bytes::from(text)).await {
            Ok(()) => upload.finish().await.map(drop),
            Err(error) => {
                upload.cancel().await;
                Err(error)
            }
        }
    }
}

/// The folder of the records of `database`.
pub fn folder(database: &str) -> String {
    format!("{}{}/", names::DRILLS, names::escape(database))
}

/// The end of a record's name: the same run has the same.
fn tag(run_id: &str) -> String {
    Sha256::digest(run_id).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The newest records of `database`, newest first; a key that may not read them has none.
///
/// # Errors
/// When the store cannot be reached.
pub async fn records(store: &dyn Store, database: &str) -> Result<Vec<Record>> {
    read(store, database, |_| true).await
}

/// The record of run `run_id`, if there is one.
///
/// # Errors
/// When the store cannot be reached.
pub async fn of_run(store: &dyn Store, database: &str, run_id: &str) -> Result<Option<Record>> {
    let end = format!("-{}.json", tag(run_id));
    let found = read(store, database, |name| name.ends_with(&end)).await?;
    Ok(found.into_iter().find(|record| record.run_id == run_id))
}

async fn read(store: &dyn Store, database: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Record>> {
    let mut listed = match store.list(&folder(database)).await {
        Ok(listed) => listed,
        Err(error) if classify(&error).kind == Kind::Permission => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    listed.retain(|version| !version.is_marker && version.bytes <= LONGEST && wanted(&version.name));
    listed.sort_by(|one, other| other.name.cmp(&one.name)); // names sort by time
    let mut records = Vec::new();
    for version in listed.iter().take(NEWEST) {
        let pieces: Vec<Bytes> = store.read(version, 0..version.bytes).await?.try_collect().await?;
        match serde_json::from_slice::<Record>(&pieces.concat()) {
            Ok(record) if record.schema <= SCHEMA => records.push(record),
            _ => warn!(record = %version.name, "a record of a drill cannot be read"),
        }
    }
    Ok(records)
}

/// What the records of equal restores measured, newest first.
pub fn measured(records: &[Record]) -> Vec<Measured> {
    records.iter().filter(|record| record.equal).map(|record| record.measured).collect()
}

/// What a drill comes to: all right, or which promise is broken.
///
/// # Errors
/// 65 for tables that differ (`different` names them) and for a restore that takes too long.
pub fn judge(record: &Record, different: &[String]) -> Result<(), Failure> {
    let (database, backup) = (&record.database, &record.backup);
    if !record.equal {
        let list = super::restore::fill::list(different);
        let what = format!("cannot prove backup {backup} of {database}: {} differ: {list}", record.different);
        let hint = "The rows that came back are not those that were dumped. Keep the older backups, and look at what \
                    changes rows on the drill server: triggers, rules, its log.";
        return Err(Failure::data(what).hint(hint));
    }
    let took = record.measured.total_ms();
    if took <= record.restore_within_ms {
        return Ok(());
    }
    let words = |ms: u64| crate::report::duration(ms);
    let what = format!(
        "cannot restore {database} within {}: it took {} (fetch {}, decrypt {}, restore {}, prove {})",
        words(record.restore_within_ms),
        words(took),
        words(record.measured.fetch_ms),
        words(record.measured.decrypt_ms),
        words(record.measured.restore_ms),
        words(record.measured.prove_ms),
    );
    Err(Failure::data(what).hint("Give the drill server more cores or disks, or raise `restore_within`."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::Directory;

    fn record(run_id: &str, second: i64) -> Record {
        Record {
            schema: SCHEMA,
            database: "hr".into(),
            environment: "default".into(),
            backup: "20261121T160500Z-0f3a9c21".into(),
            backup_started_at: Timestamp::from_second(1_700_000_000).unwrap(),
            run_id: run_id.into(),
            started_at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
            finished_at: Timestamp::from_second(1_800_000_100 + second).unwrap(),
            sankofa: "0.1.0".into(),
            server_version: "17.10".into(),
            jobs: 2,
            equal: true,
            different: 0,
            tables: 3,
            rows: 7,
            measured: Measured { restore_ms: 1000 + second as u64, ..Measured::default() },
            restore_within_ms: 1005,
        }
    }

    #[tokio::test]
    async fn records_come_back_newest_first_and_a_run_finds_its_own() {
        let place = tempfile::tempdir().unwrap();
        let store = Directory::new(place.path());
        assert_eq!(records(&store, "hr").await.unwrap(), []);
        for (second, run) in [(1, "one"), (3, "three"), (2, "two")] {
            record(run, second).write(&store).await.unwrap();
        }
        let all = records(&store, "hr").await.unwrap();
        assert_eq!(all.iter().map(|one| one.run_id.as_str()).collect::<Vec<_>>(), ["three", "two", "one"]);
        assert_eq!(of_run(&store, "hr", "two").await.unwrap(), Some(record("two", 2)));
        assert_eq!(of_run(&store, "hr", "four").await.unwrap(), None);
        assert_eq!(measured(&all).len(), 3);
    }

    #[test]
    fn a_drill_that_differs_or_takes_too_long_is_65() {
        assert!(judge(&record("a", 5), &[]).is_ok());
        let slow = judge(&record("a", 6), &[]).unwrap_err();
        assert_eq!(slow.kind, Kind::Data);
        let wrong = Record { equal: false, different: 1, ..record("a", 0) };
        let failure = judge(&wrong, &["public.t".into()]).unwrap_err();
        assert!(failure.what.ends_with("1 differ: public.t") && failure.kind == Kind::Data);
    }
}
