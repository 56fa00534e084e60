//! `prune`: what earlier runs have left and nobody needs any more.
//!
//! In:    the project, its warehouse, its stage directory, the time.
//! Out:   what was deleted, or would be.
//! Holds: a stage that may still be loaded stays, whatever its age; nothing is touched that does not
//!        look like ours, or that another environment made; staging tables go only while their
//!        pipeline's lock is free.
//! Not here: how long runs are remembered (`ledger::history`).

use crate::config::model::{Project, Retention, Warehouse};
use crate::error::Failure;
use crate::etl::{stage, staging, target};
use crate::ledger::history::{self, PastRun};
use crate::ledger::{self, STAGING_SCHEMA, lock, records};
use crate::pg::Session;
use crate::secret::Resolver;
use crate::table::quote;
use anyhow::{Context, Result};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One stage found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub directory: PathBuf,
    /// Pipeline and run id, as its manifest says; `None`: it has none, and was never finished.
    pub run: Option<(String, String)>,
    /// The environment that made it.
    pub environment: Option<String>,
    /// When something was last written there.
    pub written_at: Timestamp,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Stages: directory and bytes.
    pub stages: Vec<(PathBuf, u64)>,
    /// Stages that stay.
    pub stages_kept: usize,
    /// Staging tables of dead runs.
    pub tables: Vec<String>,
    /// Runs forgotten.
    pub runs: u64,
    /// Check results forgotten with them.
    pub checks: u64,
    /// Records of backups, verifications, drills and coverage forgotten.
    pub records: u64,
}

/// Whether the stage of `run` is needed no more at `now`.
pub fn is_expired(found: &Found, run: Option<&PastRun>, keep: Duration, now: Timestamp) -> bool {
    let ended = run.and_then(|run| run.ended_at).unwrap_or(found.written_at).max(found.written_at);
    let old = now.duration_since(ended).as_secs() > i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    match run.map(|run| (run.status.as_str(), run.superseded)) {
        Some(("running", _) | ("staged", false)) => false,
        _ => old,
    }
}

/// Deletes what is past its time, or with `dry_run` only tells.
///
/// # Errors
/// 78 for another environment's ledger; as the warehouse and the file system fail.
pub async fn prune(
    (project, warehouse): (&Project, &Warehouse),
    resolver: &Resolver,
    retention: &Retention,
    dry_run: bool,
) -> Result<Pruned> {
    let connection = resolver.connection(&warehouse.connection).await?;
    let name = format!("sankofa/{} prune", env!("CARGO_PKG_VERSION"));
    let session = target::acting(&connection, warehouse, &name, dry_run).await?;
    let found = ledger::look(&session.client).await?;
    let mut pruned = Pruned::default();
    let mut runs = Vec::new();
    if found.version > 0 {
        ledger::refuse(&found, &project.environment)?;
        runs = history::all(&session.client).await?;
    }
    stages(project, &runs, dry_run, &mut pruned)?;
    if found.version > 0 {
        pruned.tables = leftovers(&session, &runs, dry_run).await?;
        let keep = (retention.runs.as_secs_f64(), retention.checks.as_secs_f64());
        (pruned.runs, pruned.checks) = history::forget(&session.client, keep, dry_run).await?;
        pruned.records = records::forget(&session.client, retention.records.as_secs_f64(), dry_run).await?;
    }
    Ok(pruned)
}

fn stages(project: &Project, runs: &[PastRun], dry_run: bool, pruned: &mut Pruned) -> Result<()> {
    let Some(settings) = &project.stage else { return Ok(()) };
    let by_id: BTreeMap<(&str, &str), &PastRun> =
        runs.iter().map(|run| ((run.pipeline.as_str(), run.run_id.as_str()), run)).collect();
    let now = Timestamp::now();
    for found in list(&settings.directory)? {
        let ours = found.environment.as_deref().is_none_or(|name| name == project.environment);
        let run = found.run.as_ref().and_then(|(pipeline, id)| by_id.get(&(pipeline.as_str(), id.as_str())));
        if !ours || !is_expired(&found, run.copied(), settings.keep, now) {
            pruned.stages_kept += 1;
            continue;
        }
        if !dry_run {
            stage::remove(&found.directory)?;
        }
        pruned.stages.push((found.directory, found.bytes));
    }
    Ok(())
}

/// Every directory `root/<pipeline>/<run>` that holds nothing but the files of a stage.
fn list(root: &Path) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for pipeline in folders(root)? {
        for directory in folders(&pipeline)? {
            all.extend(look(&directory).with_context(|| format!("cannot read {}", directory.display()))?);
        }
    }
    all.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(all)
}

fn folders(below: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(below) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| unreadable(below, &error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(below, &error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn unreadable(directory: &Path, error: &std::io::Error) -> Failure {
    let what = format!("cannot list the stages in {}: {error}", directory.display());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Failure::permission(what),
        _ => Failure::config(what),
    }
}

/// Refuses to write over the stage of another environment.
///
/// # Errors
/// 78, with what to do.
pub fn refuse_other_environment(directory: &Path, environment: &str) -> Result<(), Failure> {
    let found = if directory.is_dir() { look(directory).ok().flatten() } else { None };
    match found.and_then(|found| found.environment) {
        Some(other) if other != environment => Err(Failure::config(format!(
            "cannot use the stage {}: it is of environment {other:?}, this run is of {environment:?}",
            directory.display()
        ))
        .hint("Give each environment a stage of its own: `environments: {NAME: {stores: {...}}}`.")),
        _ => Ok(()),
    }
}

fn look(directory: &Path) -> Result<Option<Found>> {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mark = name.rsplit_once('-').map_or("", |(_, mark)| mark);
    let mut ours = mark.len() == 16 && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (mut bytes, mut written_at) = (0, fs::metadata(directory)?.modified()?);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (name, data) = (entry.file_name().to_string_lossy().into_owned(), entry.metadata()?);
        ours &= data.is_file()
            && (name == "manifest.json" || name.contains(".copy.zst") || name.starts_with(".tmp"));
        bytes += data.len();
        written_at = written_at.max(data.modified()?);
    }
    if !ours {
        return Ok(None);
    }
    let text = fs::read(directory.join("manifest.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let word = |key: &str| manifest.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    Ok(Some(Found {
        directory: directory.to_owned(),
        run: word("pipeline").zip(word("run_id")),
        environment: word("environment"),
        written_at: Timestamp::try_from(written_at)?,
        bytes,
    }))
}

/// Drops the staging tables of runs that have ended, pipeline by pipeline, under its lock.
async fn leftovers(session: &Session, runs: &[PastRun], dry_run: bool) -> Result<Vec<String>> {
    let cannot = "cannot look into the staging schema of the warehouse";
    let query = "SELECT c.relname::text, pg_catalog.substring(c.relname, '^r([0-9]+)_t')::int8
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname ~ '^r[0-9]{1,18}_t[0-9]+_' ORDER BY 1";
    let rows = session.client.query(query, &[&STAGING_SCHEMA]).await;
    let rows = rows.map_err(|error| session.failure(error, cannot))?;
    let by_number: BTreeMap<i64, &PastRun> = runs.iter().map(|run| (run.id, run)).collect();
    let needed = |run: &PastRun| run.status == "staged" && !run.superseded;
    let mut free: BTreeMap<&str, bool> = BTreeMap::new();
    let mut dropped = Vec::new();
    for row in &rows {
        let (name, number): (String, i64) = (row.get(0), row.get(1));
        if let Some(run) = by_number.get(&number) {
            if needed(run) {
                continue;
            }
            if !free.contains_key(run.pipeline.as_str()) {
                free.insert(&run.pipeline, lock::of(&run.pipeline).try_take(&session.client).await?);
            }
            if !free[run.pipeline.as_str()] {
                continue; // a run is at work: what lies there may be its own
            }
        }
        dropped.push(name);
    }
    if !dry_run {
        let pipelines: BTreeSet<&str> =
            free.iter().filter(|(_, free)| **free).map(|(name, _)| *name).collect();
        for pipeline in pipelines {
            let keep = runs.iter().rfind(|run| run.pipeline == pipeline && needed(run)).map(|run| run.id);
            staging::sweep(session, &[], pipeline, keep).await?;
        }
        for name in &dropped {
            let sql = format!("DROP TABLE IF EXISTS {STAGING_SCHEMA}.{}", quote(name));
            session.client.batch_execute(&sql).await.map_err(|error| session.failure(error, cannot))?;
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    fn run(status: &str, ended: Option<i64>, superseded: bool) -> PastRun {
        PastRun {
            id: 1,
            pipeline: "hr".into(),
            run_id: "a".into(),
            command: "load".into(),
            status: status.into(),
            started_at: at(1),
            ended_at: ended.map(at),
            error: None,
            superseded,
        }
    }

    #[test]
    fn a_stage_goes_when_its_run_has_ended_long_ago_but_never_while_it_may_still_be_loaded() {
        let found =
            Found { directory: "x".into(), run: None, environment: None, written_at: at(1), bytes: 0 };
        let keep = Duration::from_secs(7 * 86_400);
        let expired = |run: Option<PastRun>, day| is_expired(&found, run.as_ref(), keep, at(day));
        assert!(!expired(Some(run("published", Some(2), false)), 9));
        assert!(expired(Some(run("published", Some(2), false)), 10));
        assert!(!expired(Some(run("staged", None, false)), 4000));
        assert!(expired(Some(run("staged", None, true)), 10));
        assert!(!expired(Some(run("running", None, true)), 4000));
        assert!(expired(Some(run("failed", Some(2), false)), 10));
        assert!(expired(None, 9) && !expired(None, 8));
    }

    #[test]
    fn what_does_not_look_like_a_stage_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str, file: &str| {
            let directory = place.path().join("hr").join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(file), "{\"pipeline\": \"hr\", \"run_id\": \"a\"}").unwrap();
        };
        make("a-0123456789abcdef", "manifest.json");
        make("b-0123456789abcdef", "thesis.docx");
        make("holiday-pictures", "manifest.json");
        let all = list(place.path()).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].run, Some(("hr".to_owned(), "a".to_owned())));
        assert!(list(&place.path().join("nowhere")).unwrap().is_empty());
    }
}
