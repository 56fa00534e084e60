//! Runs in the ledger: begun once, ended once, remembered.

use crate::error::{Failure, Kind};
use crate::pg::public;
use crate::report::{Report, TableFigures};
use anyhow::Result;
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Which way a run goes: all in one process, or step by step over a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `sync`.
    Sync,
    /// `extract`, `validate`, `load`.
    Steps,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Way::Sync => "sync",
            Way::Steps => "steps",
        }
    }
}

/// Who asks to begin.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The pipeline.
    pub pipeline: &'a str,
    /// The caller's id of the run.
    pub run_id: &'a str,
    /// Its way.
    pub way: Way,
    /// The command.
    pub command: &'a str,
    /// Hash of the resolved pipeline.
    pub config_hash: &'a str,
}

/// What beginning led to.
#[derive(Debug)]
pub enum Begun {
    /// Go on, under this number.
    Started(i64),
    /// It was published before; this is its report.
    AlreadyDone(Value),
}

/// Begins (or begins again) a run. The caller holds the pipeline's lock, so whatever is still
/// marked as running has lost its process.
///
/// # Errors
/// 2 when the id belongs to a run of the other way; as [`public::failure`].
pub async fn begin(client: &Client, asked: &Asked<'_>) -> Result<Begun> {
    let cannot = "cannot write the run into the ledger";
    let known = client
        .query_opt(
            "SELECT kind, status, report FROM sankofa.run WHERE pipeline = $1 AND run_id = $2",
            &[&asked.pipeline, &asked.run_id],
        )
        .await
        .map_err(|error| public::failure(error, cannot))?;
    if let Some(row) = known {
        let (way, status): (String, String) = (row.get(0), row.get(1));
        if way != asked.way.word() {
            return Err(other_way(asked, &way).into());
        }
        if status == "published" {
            return Ok(Begun::AlreadyDone(row.get::<_, Option<Value>>(2).unwrap_or(Value::Null)));
        }
    }
    let query = "WITH lost AS (
            UPDATE sankofa.run SET status = 'lost', ended_at = clock_timestamp()
            WHERE pipeline = $1 AND status = 'running' AND run_id <> $2)
        INSERT INTO sankofa.run (pipeline, run_id, kind, command, status, config_hash, binary_version)
        VALUES ($1, $2, $3, $4, 'running', $5, $6)
        ON CONFLICT (pipeline, run_id) DO UPDATE SET command = excluded.command, status = 'running',
            attempt = run.attempt + 1, config_hash = excluded.config_hash, binary_version = excluded.binary_version,
            ended_at = NULL, error_code = NULL, error_message = NULL
        RETURNING id";
    let row = client
        .query_one(
            query,
            &[
                &asked.pipeline,
                &asked.run_id,
                &asked.way.word(),
                &asked.command,
                &asked.config_hash,
                &env!("CARGO_PKG_VERSION"),
            ],
        )
        .await
        .map_err(|error| public::failure(error, cannot))?;
    Ok(Begun::Started(row.get(0)))
}

fn other_way(asked: &Asked<'_>, way: &str) -> Failure {
    let began = if way == "sync" { "sync" } else { "extract" };
    Failure::usage(format!(
        "cannot {} {}: run {:?} was begun by `{began}`",
        asked.command, asked.pipeline, asked.run_id
    ))
    .hint("Finish it the way it was begun, or take a new --run id.")
}

/// Marks a run as staged: read, not yet published.
///
/// # Errors
/// As [`public::failure`].
pub async fn staged(client: &Client, run: i64) -> Result<()> {
    execute(client, "UPDATE sankofa.run SET status = 'staged' WHERE id = $1", run).await
}

async fn execute(client: &Client, sql: &str, run: i64) -> Result<()> {
    client
        .execute(sql, &[&run])
        .await
        .map(drop)
        .map_err(|error| public::failure(error, "cannot write the run into the ledger"))
}

/// Writes the figures of tables (and their live rows), in the publishing transaction.
///
/// # Errors
/// As [`public::failure`].
pub async fn tables(client: &Client, run: i64, figures: &[(TableFigures, i64)]) -> Result<()> {
    let sql = "INSERT INTO sankofa.table_run (run, table_name, target, mode, reason, rows_read, rows_staged,
            rows_inserted, rows_updated, rows_deleted, rows_unchanged, rows_rejected, live_rows, bytes, duration_ms,
            schema_change)
        SELECT $1, f.* FROM pg_catalog.jsonb_to_recordset($2::jsonb) AS f(table_name text, target text, mode text,
            reason text, rows_read int8, rows_staged int8, rows_inserted int8, rows_updated int8, rows_deleted int8,
            rows_unchanged int8, rows_rejected int8, live_rows int8, bytes int8, duration_ms int8, schema_change text)
        ON CONFLICT (run, table_name) DO UPDATE SET rows_read = excluded.rows_read, rows_staged = excluded.rows_staged,
            rows_inserted = excluded.rows_inserted, rows_updated = excluded.rows_updated,
            rows_deleted = excluded.rows_deleted, rows_unchanged = excluded.rows_unchanged,
            rows_rejected = excluded.rows_rejected, live_rows = excluded.live_rows, bytes = excluded.bytes,
            duration_ms = excluded.duration_ms, mode = excluded.mode, reason = excluded.reason,
            schema_change = excluded.schema_change";
    let rows: Vec<Value> = figures.iter().map(|(figures, live_rows)| row(figures, *live_rows)).collect();
    client
        .execute(sql, &[&run, &Value::Array(rows)])
        .await
        .map(drop)
        .map_err(|error| public::failure(error, "cannot write the tables' figures into the ledger"))
}

fn row(figures: &TableFigures, live_rows: i64) -> Value {
    json!({
        "table_name": figures.table,
        "target": figures.target,
        "mode": figures.mode,
        "reason": figures.reason,
        "rows_read": figures.read,
        "rows_staged": figures.staged,
        "rows_inserted": figures.inserted,
        "rows_updated": figures.updated,
        "rows_deleted": figures.deleted,
        "rows_unchanged": figures.unchanged,
        "rows_rejected": figures.rejected,
        "live_rows": live_rows,
        "bytes": figures.bytes,
        "duration_ms": figures.ms,
        "schema_change": figures.schema_change,
    })
}

/// Marks a run as published, in the publishing transaction; `report` is what asking again returns.
///
/// # Errors
/// As [`public::failure`]; 75 when the run is not this process's to publish any more.
pub async fn published(client: &Client, run: i64, report: &Report) -> Result<()> {
    let sql = "UPDATE sankofa.run SET status = 'published', ended_at = clock_timestamp(), report = $2
        WHERE id = $1 AND status <> 'published'";
    let value: Value = serde_json::from_str(&report.to_full_json())?;
    let changed = client
        .execute(sql, &[&run, &value])
        .await
        .map_err(|error| public::failure(error, "cannot write the run into the ledger"))?;
    if changed == 0 {
        return Err(Failure::temporary("cannot publish: the run has been published by another process")
            .hint("Run it again: it will say `already_done`.")
            .into());
    }
    Ok(())
}

/// The report of a run that has been published: what a process asks that never got the answer to
/// its COMMIT.
///
/// # Errors
/// As [`public::failure`].
pub async fn recorded(client: &Client, run: i64) -> Result<Option<Value>> {
    let row = client
        .query_opt("SELECT report FROM sankofa.run WHERE id = $1 AND status = 'published'", &[&run])
        .await
        .map_err(|error| public::failure(error, "cannot read the run from the ledger"))?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Marks a run as failed or cancelled, unless it was published.
///
/// # Errors
/// As [`public::failure`].
pub async fn failed(client: &Client, run: i64, failure: &Failure) -> Result<()> {
    let status = match failure.kind {
        Kind::Interrupted | Kind::Terminated => "cancelled",
        _ => "failed",
    };
    let sql = "UPDATE sankofa.run SET status = $2, ended_at = clock_timestamp(), error_code = $3, error_message = $4
        WHERE id = $1 AND status <> 'published'";
    client
        .execute(sql, &[&run, &status, &failure.kind.word(), &failure.what])
        .await
        .map(drop)
        .map_err(|error| public::failure(error, "cannot write the failure into the ledger"))
}
