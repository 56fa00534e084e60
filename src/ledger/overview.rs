//! How everything stands, as the ledger has it: for `status`.
//!
//! In:    a session that only looks.
//! Out:   newest runs, loaded tables, checks that missed, backups, drills and coverage, as plain values.
//! Holds: reads only; no cell of any table is in it.
//! Not here: what is late (`status::judge`).

use super::overrides::{self, Taken};
use crate::pg::public;
use anyhow::Result;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Runs of each pipeline that are told.
const RUNS: i64 = 30;

/// One run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Its id.
    pub run_id: String,
    /// `running`, `staged`, `published`, `failed`, `cancelled`, `lost`.
    pub status: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Why it failed: the word of its kind, and the sentence.
    pub error: Option<(String, String)>,
    /// Rows read from the source.
    pub rows_read: i64,
    /// Rows written to the warehouse.
    pub rows_written: i64,
}

/// One loaded table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// When what readers see was published.
    pub published_at: Option<Timestamp>,
    /// Rows that live in it.
    pub live_rows: i64,
}

/// One check that the newest run of its table has missed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Missed {
    /// The pipeline.
    pub pipeline: String,
    /// The table at the source.
    pub table: String,
    /// The check.
    pub check: String,
    /// Whether it refuses the run.
    pub refuses: bool,
    /// What was found.
    pub measured: Option<f64>,
    /// What is allowed.
    pub bound: String,
    /// When the first of the runs that missed it without a pass since began.
    pub since: Option<Timestamp>,
    /// Keys of a few rows that it refuses.
    pub rows: Vec<String>,
    /// Who has accepted it for that run, and why.
    pub accepted: Option<(String, String)>,
}

/// The newest run of `backup` or `drill` of one database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Last {
    /// It failed, with this sentence.
    pub failure: Option<String>,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// One database that the newest look found not covered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gap {
    /// Id of the connection that it was looked at from.
    pub server: String,
    /// Its name; `None`: the whole server.
    pub database: Option<String>,
    /// Its name in the project.
    pub listed: Option<String>,
    /// Why.
    pub said: String,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// Newest runs of each pipeline, newest first.
    pub runs: BTreeMap<String, Vec<Run>>,
    /// Begin and end of the newest published run of each pipeline.
    pub published: BTreeMap<String, (Timestamp, Timestamp)>,
    /// Loaded tables, by pipeline and the source table's name.
    pub tables: BTreeMap<(String, String), Table>,
    /// Tables that are set aside, by pipeline and the source table's name.
    pub set_aside: BTreeMap<(String, String), Taken>,
    /// How many checks the newest runs have made.
    pub checks: i64,
    /// Those that missed.
    pub missed: Vec<Missed>,
    /// Newest backup of each database.
    pub backups: BTreeMap<String, Last>,
    /// Backups whose newest verification found them damaged, and when, by database and id.
    pub damaged: BTreeMap<(String, String), Timestamp>,
    /// Newest drill of each database.
    pub drills: BTreeMap<String, Last>,
    /// When servers were last looked at for coverage, and what was not covered.
    pub coverage: Option<(Timestamp, Vec<Gap>)>,
}

fn failed(error: tokio_postgres::Error) -> anyhow::Error {
    public::failure(error, "cannot read schema sankofa of the warehouse")
}

/// Reads everything. Cost: nine queries over the newest runs.
///
/// # Errors
/// As [`public::failure`].
pub async fn read(client: &Client) -> Result<Overview> {
    let (checks, missed) = checks(client).await?;
    Ok(Overview {
        runs: runs(client).await?,
        published: published(client).await?,
        tables: tables(client).await?,
        set_aside: overrides::aside(client).await?,
        checks,
        missed,
        backups: newest(client, "backup").await?,
        damaged: damaged(client).await?,
        drills: newest(client, "drill").await?,
        coverage: coverage(client).await?,
    })
}

async fn runs(client: &Client) -> Result<BTreeMap<String, Vec<Run>>> {
    let sql =
        "SELECT r.pipeline, r.run_id, r.status, r.started_at, r.ended_at, r.error_code, r.error_message,
            coalesce(t.rows_read, 0), coalesce(t.rows_written, 0)
        FROM (SELECT n.*, row_number() OVER (PARTITION BY pipeline ORDER BY id DESC) AS place
              FROM sankofa.run n WHERE kind <> 'reset') r
        LEFT JOIN LATERAL (SELECT sum(f.rows_read)::int8 AS rows_read,
                sum(f.rows_inserted + f.rows_updated + f.rows_deleted)::int8 AS rows_written
            FROM sankofa.table_run f WHERE f.run = r.id) t ON true
        WHERE r.place <= $1 ORDER BY r.id DESC";
    let mut all: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for row in client.query(sql, &[&RUNS]).await.map_err(failed)? {
        let error: (Option<String>, Option<String>) = (row.get(5), row.get(6));
        all.entry(row.get(0)).or_default().push(Run {
            run_id: row.get(1),
            status: row.get(2),
            started_at: row.get(3),
            ended_at: row.get(4),
            error: error.0.map(|code| (code, error.1.unwrap_or_default())),
            rows_read: row.get(7),
            rows_written: row.get(8),
        });
    }
    Ok(all)
}

/// Begin and end of the newest published run of each pipeline.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn published(client: &Client) -> Result<BTreeMap<String, (Timestamp, Timestamp)>> {
    let sql =
        "SELECT DISTINCT ON (pipeline) pipeline, started_at, coalesce(ended_at, started_at) FROM sankofa.run
        WHERE status = 'published' AND kind <> 'reset' ORDER BY pipeline, id DESC";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

async fn tables(client: &Client) -> Result<BTreeMap<(String, String), Table>> {
    let sql = "SELECT s.pipeline, s.table_name, r.ended_at, s.live_rows
        FROM sankofa.table_state s JOIN sankofa.run r ON r.id = s.run";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let table = |row: &tokio_postgres::Row| {
        ((row.get(0), row.get(1)), Table { published_at: row.get(2), live_rows: row.get(3) })
    };
    Ok(rows.iter().map(table).collect())
}

async fn checks(client: &Client) -> Result<(i64, Vec<Missed>)> {
    let sql = "WITH newest AS (
            SELECT r.pipeline, c.table_name, max(c.run) AS run
            FROM sankofa.check_result c JOIN sankofa.run r ON r.id = c.run GROUP BY 1, 2)
        SELECT n.pipeline, c.table_name, c.check_name, c.severity = 'fail', c.measured, c.bound, c.passed,
            coalesce(c.since, r.started_at), c.refused_rows, a.accepted_by, a.reason
        FROM newest n JOIN sankofa.check_result c ON c.run = n.run AND c.table_name = n.table_name
        JOIN sankofa.run r ON r.id = n.run
        LEFT JOIN sankofa.acceptance a ON a.run = c.run AND a.table_name = c.table_name AND a.check_name = c.check_name
        ORDER BY 1, 2, 3";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let missed = rows.iter().filter(|row| !row.get::<_, bool>(6)).map(|row| Missed {
        pipeline: row.get(0),
        table: row.get(1),
        check: row.get(2),
        refuses: row.get(3),
        measured: row.get(4),
        bound: row.get(5),
        since: row.get(7),
        rows: row.get(8),
        accepted: row.get::<_, Option<String>>(9).zip(row.get(10)),
    });
    Ok((i64::try_from(rows.len()).unwrap_or(i64::MAX), missed.collect()))
}

async fn newest(client: &Client, table: &str) -> Result<BTreeMap<String, Last>> {
    let sql = format!(
        "SELECT DISTINCT ON (database_name) database_name, CASE WHEN status = 'failed' THEN coalesce(error_message, '') END,
            ended_at FROM sankofa.{table} ORDER BY database_name, ended_at DESC, id DESC"
    );
    let rows = client.query(&sql, &[]).await.map_err(failed)?;
    Ok(rows.iter().map(|row| (row.get(0), Last { failure: row.get(1), ended_at: row.get(2) })).collect())
}

/// A store that could not be read says nothing of what is in it.
async fn damaged(client: &Client) -> Result<BTreeMap<(String, String), Timestamp>> {
    let sql = "SELECT database_name, backup_id, verified_at FROM (
            SELECT DISTINCT ON (database_name, backup_id) database_name, backup_id, verified_at, passed
            FROM sankofa.verification WHERE passed OR error_code = 'data'
            ORDER BY database_name, backup_id, verified_at DESC, id DESC) newest
        WHERE NOT passed";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

async fn coverage(client: &Client) -> Result<Option<(Timestamp, Vec<Gap>)>> {
    let sql = "SELECT max(looked_at) FROM sankofa.coverage_look";
    let looked_at: Option<Timestamp> = client.query_one(sql, &[]).await.map_err(failed)?.get(0);
    let Some(looked_at) = looked_at else { return Ok(None) };
    let sql = "SELECT server, database_name, backed_up_as, said FROM sankofa.coverage WHERE verdict = 'gap'";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let gaps = rows.iter().map(|row| Gap {
        server: row.get::<_, Option<String>>(0).unwrap_or_default(),
        database: row.get(1),
        listed: row.get(2),
        said: row.get::<_, Option<String>>(3).unwrap_or_default(),
    });
    Ok(Some((looked_at, gaps.collect())))
}
