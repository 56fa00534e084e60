//! How far each table is: the watermark and contract that the last published run left behind.

use crate::error::Failure;
use crate::pg::public;
use crate::table::TableName;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// What the ledger keeps of one table. Watermark and contract are `etl`'s own values, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// Number of the run that published last: a load that began from another is superseded.
    pub run: i64,
    /// That run's id.
    pub run_id: String,
    /// The target, `schema.table`.
    pub target: String,
    /// How far the table has been read.
    pub watermark: Option<Value>,
    /// The watermark as a person reads it.
    pub watermark_text: Option<String>,
    /// What was agreed on.
    pub contract: Value,
    /// Version of that.
    pub contract_version: i32,
    /// Fingerprint of filter and masks: another one means that all rows are read again.
    pub settings: String,
    /// Rows alive in the target.
    pub live_rows: i64,
    /// Seconds since keys were last compared for deletes.
    pub deletes_age_s: Option<i64>,
    /// When it was published, as text.
    pub published_at: String,
}

/// The state of every table of `pipeline`, by the source table's name.
///
/// # Errors
/// As [`public::failure`].
pub async fn read(client: &Client, pipeline: &str) -> Result<BTreeMap<String, TableState>> {
    let query = "SELECT s.table_name, s.run, r.run_id, s.target, s.watermark, s.watermark_text, s.contract,
            s.contract_version, s.settings, s.live_rows,
            extract(epoch FROM clock_timestamp() - s.deletes_at)::int8, coalesce(r.ended_at, r.started_at)::text
        FROM sankofa.table_state s JOIN sankofa.run r ON r.id = s.run WHERE s.pipeline = $1";
    let rows = client
        .query(query, &[&pipeline])
        .await
        .map_err(|error| public::failure(error, "cannot read the watermarks from the ledger"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let state = TableState {
                run: row.get(1),
                run_id: row.get(2),
                target: row.get(3),
                watermark: row.get(4),
                watermark_text: row.get(5),
                contract: row.get(6),
                contract_version: row.get(7),
                settings: row.get(8),
                live_rows: row.get(9),
                deletes_age_s: row.get(10),
                published_at: row.get(11),
            };
            (row.get(0), state)
        })
        .collect())
}

/// Who else fills one of `targets` (as `schema.table`): (target, pipeline).
///
/// # Errors
/// As [`public::failure`].
pub async fn other_owner(
    client: &Client,
    pipeline: &str,
    targets: &[String],
) -> Result<Option<(String, String)>> {
    let query = "SELECT target, pipeline FROM sankofa.table_state
        WHERE target = ANY ($1::text[]) AND pipeline <> $2 ORDER BY 1 LIMIT 1";
    let row = client
        .query_opt(query, &[&targets, &pipeline])
        .await
        .map_err(|error| public::failure(error, "cannot read the watermarks from the ledger"))?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Targets, but for `ours`, whose masks were made with another HMAC key than that of fingerprint `key`.
///
/// # Errors
/// As [`public::failure`].
pub async fn under_another_key(client: &Client, key: &str, ours: &[String]) -> Result<Vec<String>> {
    let query = "SELECT target FROM sankofa.table_state WHERE settings LIKE '%.%'
        AND pg_catalog.split_part(settings, '.', 2) <> $1 AND target <> ALL ($2::text[]) ORDER BY 1";
    let rows = client.query(query, &[&key, &ours]).await;
    let rows = rows.map_err(|error| public::failure(error, "cannot read the watermarks from the ledger"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What a publishing run leaves behind for one table.
#[derive(Clone, Debug, Serialize)]
pub struct Left {
    /// The source table.
    pub table: String,
    /// The target.
    pub target: String,
    /// The watermark, if the table has one; `None` keeps what is there, and its text.
    pub watermark: Option<Value>,
    /// The watermark as a person reads it.
    pub watermark_text: Option<String>,
    /// The contract.
    pub contract: Value,
    /// What was different from the last one, in words.
    pub change: Option<String>,
    /// Fingerprint of filter and masks.
    pub settings: String,
    /// Rows alive in the target.
    pub live_rows: i64,
    /// Keys were compared for deletes.
    pub deletes_checked: bool,
}

/// Writes the state of tables of `pipeline`, in the publishing transaction of `run`.
///
/// # Errors
/// As [`public::failure`]: among them a target that another pipeline fills.
pub async fn write(client: &Client, pipeline: &str, run: i64, left: &[Left]) -> Result<()> {
    let sql = "WITH next AS (
            SELECT l.*, coalesce(s.contract_version + (s.contract IS DISTINCT FROM l.contract)::int, 1) AS version
            FROM pg_catalog.jsonb_to_recordset($3::jsonb) AS l(\"table\" text, target text, watermark jsonb,
                watermark_text text, contract jsonb, change text, settings text, live_rows int8, deletes_checked bool)
            LEFT JOIN sankofa.table_state s ON s.pipeline = $1 AND s.table_name = l.\"table\"
        ), kept AS (
            INSERT INTO sankofa.contract (pipeline, table_name, version, run, contract, change)
            SELECT $1, \"table\", version, $2, contract, change FROM next ON CONFLICT DO NOTHING
        )
        INSERT INTO sankofa.table_state AS s (pipeline, table_name, target, run, watermark, watermark_text, contract,
            contract_version, settings, live_rows, deletes_at)
        SELECT $1, \"table\", target, $2, watermark, watermark_text, contract, version, settings, live_rows,
            CASE WHEN deletes_checked THEN clock_timestamp() END FROM next
        ON CONFLICT (pipeline, table_name) DO UPDATE SET target = excluded.target, run = excluded.run,
            watermark = coalesce(excluded.watermark, s.watermark),
            watermark_text = CASE WHEN excluded.watermark IS NULL THEN s.watermark_text ELSE excluded.watermark_text END,
            contract = excluded.contract, contract_version = excluded.contract_version, settings = excluded.settings,
            live_rows = excluded.live_rows, deletes_at = coalesce(excluded.deletes_at, s.deletes_at)";
    let cannot = match left {
        [one] => format!("cannot keep the watermark of {}", one.table),
        _ => format!("cannot keep the watermarks of {} tables", left.len()),
    };
    // A target that is filled from another source table now: the old one is no longer its own.
    let moved = "DELETE FROM sankofa.table_state s
        USING pg_catalog.jsonb_to_recordset($2::jsonb) AS l(\"table\" text, target text)
        WHERE s.pipeline = $1 AND s.target = l.target AND s.table_name <> l.\"table\"";
    let left = serde_json::to_value(left)?;
    client.execute(moved, &[&pipeline, &left]).await.map_err(|error| public::failure(error, &cannot))?;
    client
        .execute(sql, &[&pipeline, &run, &left])
        .await
        .map(drop)
        .map_err(|error| public::failure(error, &cannot))
}

/// Puts the watermark of one table to `watermark` (value and text), and has its keys compared again.
///
/// It counts as a run of its own, with a number and an id: whatever was extracted before it is
/// superseded. Returns that id; `None`: the ledger does not know the table. The caller holds the
/// pipeline's lock.
///
/// # Errors
/// As [`public::failure`].
pub async fn reset(
    client: &Client,
    pipeline: &str,
    table: &TableName,
    watermark: &(Option<Value>, Option<String>),
) -> Result<Option<String>> {
    let sql = "WITH known AS (
            SELECT 1 FROM sankofa.table_state WHERE pipeline = $1 AND table_name = $2 FOR UPDATE
        ), made AS (
            INSERT INTO sankofa.run (pipeline, run_id, kind, command, status, config_hash, binary_version, ended_at)
            SELECT $1, 'reset/' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                'reset', 'state reset', 'published', '', $5, clock_timestamp() FROM known
            RETURNING id, run_id
        )
        UPDATE sankofa.table_state s SET watermark = $3, watermark_text = $4, deletes_at = NULL, run = made.id
        FROM made WHERE s.pipeline = $1 AND s.table_name = $2 RETURNING made.run_id";
    let (value, text) = watermark;
    let row = client
        .query_opt(sql, &[&pipeline, &table.to_string(), value, text, &env!("CARGO_PKG_VERSION")])
        .await
        .map_err(|error| public::failure(error, &format!("cannot reset the watermark of {table}")))?;
    Ok(row.map(|row| row.get(0)))
}

/// What is known of the tables of pipeline `old` becomes `new`'s, with their contracts: of one table, or of
/// all with their runs. Returns the tables' names. The caller holds both locks, in a transaction.
///
/// # Errors
/// 65 for a table that `new` has loaded already; as [`public::failure`].
pub async fn rename(client: &Client, old: &str, new: &str, table: Option<&str>) -> Result<Vec<String>> {
    let cannot = format!("cannot hand the tables of pipeline {old} to {new}");
    let failed = |error| public::failure(error, &cannot);
    let both = "SELECT table_name FROM sankofa.table_state WHERE pipeline = $1 AND ($3::text IS NULL OR table_name = $3)
        INTERSECT SELECT table_name FROM sankofa.table_state WHERE pipeline = $2 LIMIT 1";
    if let Some(row) = client.query_opt(both, &[&old, &new, &table]).await.map_err(failed)? {
        let name: String = row.get(0);
        return Err(Failure::data(format!("{cannot}: {new} has loaded {name} already"))
            .hint("Take the table out of one of the two pipelines; each loads its own.")
            .into());
    }
    let states = "UPDATE sankofa.table_state SET pipeline = $2
        WHERE pipeline = $1 AND ($3::text IS NULL OR table_name = $3) RETURNING table_name";
    let rows = client.query(states, &[&old, &new, &table]).await.map_err(failed)?;
    // Contracts that `new` has kept of a table it once loaded are replaced.
    let kept =
        "DELETE FROM sankofa.contract c USING sankofa.contract o WHERE c.pipeline = $2 AND o.pipeline = $1
        AND c.table_name = o.table_name AND ($3::text IS NULL OR c.table_name = $3)";
    client.execute(kept, &[&old, &new, &table]).await.map_err(failed)?;
    let contracts = "UPDATE sankofa.contract SET pipeline = $2
        WHERE pipeline = $1 AND ($3::text IS NULL OR table_name = $3)";
    client.execute(contracts, &[&old, &new, &table]).await.map_err(failed)?;
    if table.is_none() {
        let runs = "UPDATE sankofa.run r SET pipeline = $2 WHERE r.pipeline = $1
            AND NOT EXISTS (SELECT FROM sankofa.run n WHERE n.pipeline = $2 AND n.run_id = r.run_id)";
        client.execute(runs, &[&old, &new]).await.map_err(failed)?;
    }
    let mut names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    names.sort();
    Ok(names)
}

/// Reads a value kept as JSON.
///
/// # Errors
/// When it was written by a version with another idea of it.
pub fn parse<T: for<'a> Deserialize<'a>>(value: &Value, what: &str) -> Result<T> {
    T::deserialize(value).with_context(|| format!("cannot read the {what} kept in the ledger"))
}
