//! Proves that a backup can be restored: into a scratch database, compared, timed, dropped.
//!
//! In:    a good backup, a server for drills.
//! Out:   [`Drilled`] in the store, one a drill; what they measured, for predictions.
//! Holds: the scratch database is dropped whatever comes of it; a record names no table.
//! Not here: restoring (`restore`), when a drill is due (`status`).

use super::drills::{self, Drilled};
use super::names;
use super::restore::predict::Measured;
use crate::error::{Failure, Kind, classify};
use crate::store::{Store, Terms};
use anyhow::Result;
use bytes::Bytes;

/// The records of `database`, newest first; a key that may not list or read them has none.
///
/// # Errors
/// When the store cannot be reached.
pub async fn records(store: &dyn Store, database: &str) -> Result<Vec<Drilled>> {
    let found = async {
        let listed = store.list(&format!("{}{}-", names::DRILLS, names::escape(database))).await?;
        drills::read(store, &listed).await
    };
    match found.await {
        Ok(records) => Ok(records.into_iter().filter(|record| record.database == database).collect()),
        Err(error) if classify(&error).kind == Kind::Permission => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The record of run `run_id` in `records`, if there is one that went well.
pub fn of_run<'a>(records: &'a [Drilled], run_id: &str) -> Option<&'a Drilled> {
    records.iter().find(|record| record.run_id == run_id && record.proven)
}

/// Stores `record`.
///
/// # Errors
/// As the store's.
pub async fn keep(store: &dyn Store, record: &Drilled) -> Result<()> {
    let text = serde_json::to_vec_pretty(record)?;
    let mut upload = store.begin(&record.object_name(), &Terms::default()).await?;
    match upload.feed(Bytes::from(text)).await {
        Ok(()) => upload.finish().await.map(drop),
        Err(error) => {
            upload.cancel().await;
            Err(error)
        }
    }
}

/// What one drill measured.
pub fn measured(record: &Drilled) -> Measured {
    Measured {
        stored_bytes: record.stored_bytes,
        plain_bytes: record.plain_bytes,
        fetch_ms: record.fetch_ms,
        decrypt_ms: record.decrypt_ms,
        restore_ms: record.restore_ms,
        prove_ms: record.prove_ms,
    }
}

/// What a drill comes to: all right, or which promise is broken.
///
/// # Errors
/// 65 for tables that differ (`different` names them) and for a restore that takes too long.
pub fn judge(record: &Drilled, different: &[String]) -> Result<(), Failure> {
    let (database, backup) = (&record.database, &record.backup);
    if !record.proven {
        let list = super::restore::fill::list(different);
        let what = format!("cannot prove backup {backup} of {database}: {} differ: {list}", record.different);
        let hint = "The rows that came back are not those that were dumped. Keep the older backups, and look at what \
                    changes rows on the drill server: triggers, rules, its log.";
        return Err(Failure::data(what).hint(hint));
    }
    let took = measured(record).total_ms();
    if took <= record.restore_within_ms {
        return Ok(());
    }
    let words = |ms: u64| crate::report::duration(ms);
    let what = format!(
        "cannot restore {database} within {}: it took {} (fetch {}, decrypt {}, restore {}, prove {})",
        words(record.restore_within_ms),
        words(took),
        words(record.fetch_ms),
        words(record.decrypt_ms),
        words(record.restore_ms),
        words(record.prove_ms),
    );
    Err(Failure::data(what).hint("Give the drill server more cores or disks, or raise `restore_within`."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::Directory;
    use jiff::Timestamp;

    fn record(run_id: &str, second: i64) -> Drilled {
        Drilled {
            schema: drills::SCHEMA,
            database: "hr".into(),
            backup: "20261121T160500Z-0f3a9c21".into(),
            run_id: run_id.into(),
            ended_at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
            proven: true,
            restore_ms: 1000 + second as u64,
            restore_within_ms: 1005,
            ..Drilled::default()
        }
    }

    #[tokio::test]
    async fn records_come_back_newest_first_without_those_of_others_and_a_run_finds_its_own() {
        let place = tempfile::tempdir().unwrap();
        let store = Directory::new(place.path());
        assert_eq!(records(&store, "hr").await.unwrap(), []);
        for (second, run) in [(1, "one"), (3, "three"), (2, "two")] {
            keep(&store, &record(run, second)).await.unwrap();
        }
        keep(&store, &Drilled { database: "hr-x".into(), ..record("x", 9) }).await.unwrap();
        let all = records(&store, "hr").await.unwrap();
        assert_eq!(all.iter().map(|one| one.run_id.as_str()).collect::<Vec<_>>(), ["three", "two", "one"]);
        assert_eq!(of_run(&all, "two"), Some(&record("two", 2)));
        assert_eq!(of_run(&all, "four"), None);
        assert_eq!(measured(&all[0]).total_ms(), 1003);
    }

    #[test]
    fn a_drill_that_differs_or_takes_too_long_is_65() {
        assert!(judge(&record("a", 5), &[]).is_ok());
        let slow = judge(&record("a", 6), &[]).unwrap_err();
        assert_eq!(slow.kind, Kind::Data);
        let wrong = Drilled { proven: false, different: 1, ..record("a", 0) };
        let failure = judge(&wrong, &["table public.t has fewer rows".into()]).unwrap_err();
        assert!(failure.what.ends_with("table public.t has fewer rows") && failure.kind == Kind::Data);
    }
}
