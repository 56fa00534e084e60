//! What quality checks have found, run by run.
//!
//! In:    figures of one run; the name of a check.
//! Out:   the same, kept; since when a check is missed.
//! Holds: of a refused row nothing but its key is kept.
//! Not here: how a figure is measured (`etl::quality`).

use crate::error::Checked;
use crate::pg::public;
use anyhow::Result;
use jiff::Timestamp;
use tokio_postgres::Client;

/// Begin and id of the first of the runs in a row, up to `run`, that missed `check` of `table`; `run`
/// itself is taken to miss it.
///
/// # Errors
/// As [`public::failure`].
pub async fn since(client: &Client, run: i64, (table, check): (&str, &str)) -> Result<(Timestamp, String)> {
    let sql = "SELECT coalesce(e.since, n.started_at), coalesce(e.since_run, n.run_id)
        FROM sankofa.run n LEFT JOIN LATERAL (
            SELECT NOT c.passed AS missed, coalesce(c.since, r.started_at) AS since, coalesce(c.since_run, r.run_id) AS since_run
            FROM sankofa.check_result c JOIN sankofa.run r ON r.id = c.run
            WHERE r.pipeline = n.pipeline AND c.table_name = $2 AND c.check_name = $3 AND c.run < n.id
            ORDER BY c.run DESC LIMIT 1) e ON e.missed
        WHERE n.id = $1";
    let row = client
        .query_one(sql, &[&run, &table, &check])
        .await
        .map_err(|error| public::failure(error, &format!("cannot look for earlier misses of {check}")))?;
    Ok((row.get(0), row.get(1)))
}

/// Keeps what the checks of `run` have found.
///
/// # Errors
/// As [`public::failure`].
pub async fn keep(client: &Client, run: i64, checked: &[Checked]) -> Result<()> {
    if checked.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO sankofa.check_result (run, table_name, check_name, scope, severity, measured, bound, passed,
            since, since_run, refused_rows)
        SELECT DISTINCT ON (f.\"table\", f.\"check\") $1, f.\"table\", f.\"check\", f.scope, f.severity, f.measured, f.bound,
            f.passed, f.since, f.since_run, coalesce(f.\"rows\", '{}')
        FROM pg_catalog.jsonb_to_recordset($2::jsonb) AS f(\"table\" text, \"check\" text, scope text, severity text,
            measured float8, bound text, passed bool, since timestamptz, since_run text, \"rows\" text[])
        ON CONFLICT (run, table_name, check_name) DO UPDATE SET measured = excluded.measured, bound = excluded.bound,
            passed = excluded.passed, scope = excluded.scope, severity = excluded.severity, since = excluded.since,
            since_run = excluded.since_run, refused_rows = excluded.refused_rows";
    client
        .execute(sql, &[&run, &serde_json::to_value(checked)?])
        .await
        .map(drop)
        .map_err(|error| public::failure(error, "cannot keep what the checks have found"))
}
