//! What the ledger remembers of earlier runs: for `plan`, `state show` and `prune`.
//!
//! In:    a session; the name of a pipeline.
//! Out:   runs, rates and sizes as plain values; how much was forgotten.
//! Holds: a run that a watermark, a contract or a table set aside points to is never forgotten, nor one
//!        that may still be published.
//! Not here: watermarks themselves (`state`).

use crate::pg::public;
use anyhow::Result;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio_postgres::{Client, Row};

/// One run, as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// Its number.
    pub id: i64,
    /// Its pipeline.
    pub pipeline: String,
    /// Its id.
    pub run_id: String,
    /// The command that it was last seen in.
    pub command: String,
    /// `running`, `staged`, `published`, `failed`, `cancelled`, `lost`.
    pub status: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// A later run of the pipeline has been published.
    pub superseded: bool,
}

/// What the newest published runs of one table did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Rows, bytes and milliseconds of runs that read what was new, newest first.
    pub parts: Vec<(u64, u64, u64)>,
    /// Of runs that read everything, newest first.
    pub whole: Vec<(u64, u64, u64)>,
    /// When one was last published.
    pub published_at: Option<Timestamp>,
}

const RUN: &str = "SELECT r.id, r.pipeline, r.run_id, r.command, r.status, r.started_at, r.ended_at, r.error_message,
        EXISTS (SELECT FROM sankofa.run n WHERE n.pipeline = r.pipeline AND n.id > r.id AND n.status = 'published')
    FROM sankofa.run r";

fn run(row: &Row) -> PastRun {
    PastRun {
        id: row.get(0),
        pipeline: row.get(1),
        run_id: row.get(2),
        command: row.get(3),
        status: row.get(4),
        started_at: row.get(5),
        ended_at: row.get(6),
        error: row.get(7),
        superseded: row.get(8),
    }
}

fn failed(error: tokio_postgres::Error) -> anyhow::Error {
    public::failure(error, "cannot read earlier runs from the ledger")
}

/// The newest `limit` runs of `pipeline`, newest first.
///
/// # Errors
/// As [`public::failure`].
pub async fn newest(client: &Client, pipeline: &str, limit: i64) -> Result<Vec<PastRun>> {
    let sql = format!("{RUN} WHERE r.pipeline = $1 ORDER BY r.started_at DESC, r.id DESC LIMIT $2");
    let rows = client.query(&sql, &[&pipeline, &limit]).await.map_err(failed)?;
    Ok(rows.iter().map(run).collect())
}

/// Every run that is not published and may have left something behind, and every staged one.
///
/// # Errors
/// As [`public::failure`].
pub async fn all(client: &Client) -> Result<Vec<PastRun>> {
    let rows = client.query(&format!("{RUN} ORDER BY r.id"), &[]).await.map_err(failed)?;
    Ok(rows.iter().map(run).collect())
}

/// What the last few published runs did, by the source table's name.
///
/// # Errors
/// As [`public::failure`].
pub async fn past(client: &Client, pipeline: &str) -> Result<BTreeMap<String, Past>> {
    let sql = "SELECT t.table_name, t.rows_read, t.bytes, t.duration_ms,
            t.reason IS NOT NULL OR t.mode = 'full_refresh', r.ended_at
        FROM (SELECT id, ended_at FROM sankofa.run WHERE pipeline = $1 AND status = 'published' AND kind <> 'reset'
              ORDER BY id DESC LIMIT 20) r
        JOIN sankofa.table_run t ON t.run = r.id ORDER BY r.id DESC";
    let rows = client.query(sql, &[&pipeline]).await.map_err(failed)?;
    let mut all: BTreeMap<String, Past> = BTreeMap::new();
    for row in &rows {
        let past = all.entry(row.get(0)).or_default();
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let figures = (number(1), number(2), number(3));
        if row.get(4) {
            past.whole.push(figures)
        } else {
            past.parts.push(figures)
        }
        past.published_at = past.published_at.max(row.get(5));
    }
    Ok(all)
}

/// Runs kept per pipeline, however old.
pub const KEPT_RUNS: i64 = 20;

/// Runs `r` that ended more than `$1` seconds ago, but the newest `$2` of each pipeline.
const OLD: &str = "r.status NOT IN ('running', 'staged')
    AND coalesce(r.ended_at, r.started_at) < clock_timestamp() - pg_catalog.make_interval(secs => $1)
    AND r.id NOT IN (SELECT k.id FROM (SELECT id, row_number() OVER (PARTITION BY pipeline ORDER BY id DESC) AS place
        FROM sankofa.run) k WHERE k.place <= $2)";

/// Those of them that nothing points to.
const ALONE: &str = "NOT EXISTS (SELECT FROM sankofa.table_state s WHERE s.run = r.id)
    AND NOT EXISTS (SELECT FROM sankofa.contract c WHERE c.run = r.id)
    AND NOT EXISTS (SELECT FROM sankofa.set_aside o WHERE o.run = r.id AND o.loaded_at IS NULL)";

/// Forgets check results that are older than `keep.1` seconds, and runs that ended more than `keep.0`
/// seconds ago with their figures, or only counts them: (runs, check results).
///
/// # Errors
/// As [`public::failure`].
pub async fn forget(client: &Client, keep: (f64, f64), dry_run: bool) -> Result<(u64, u64)> {
    let failed = |error| public::failure(error, "cannot forget old runs in the ledger");
    let checks =
        format!("sankofa.check_result c WHERE c.run IN (SELECT r.id FROM sankofa.run r WHERE {OLD})");
    let runs = format!("sankofa.run r WHERE {OLD} AND {ALONE}");
    let count = async |what: &str, keep_s: f64| -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {what}");
        let row = client.query_one(&sql, &[&keep_s, &KEPT_RUNS]).await.map_err(failed)?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    };
    let counted = (count(&runs, keep.0).await?, count(&checks, keep.1).await?);
    if !dry_run {
        for (what, keep_s) in [(&checks, keep.1), (&runs, keep.0)] {
            let sql = format!("DELETE FROM {what}");
            client.execute(&sql, &[&keep_s, &KEPT_RUNS]).await.map_err(failed)?;
        }
    }
    Ok(counted)
}
