//! Backups, verifications, drills and coverage in the ledger: what dashboards read beside the stores.
//!
//! In:    what a command has done, as plain figures.
//! Out:   rows; the same run again is the same row.
//! Holds: a backup that is stored, or a drill that came to an end, is never written over by a failure.
//! Not here: the truth about backups, which is in the store (`backup::inventory`, `backup::drills`).

use crate::error::Failure;
use crate::pg::public;
use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Client;

const BINARY: &str = env!("CARGO_PKG_VERSION");

/// One run of `backup`.
#[derive(Clone, Debug, Default)]
pub struct BackupRun {
    /// The database's name in the project.
    pub database: String,
    /// The run, as the scheduler calls it.
    pub run_id: String,
    /// Name of the store.
    pub store: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What was stored; `None`: it failed.
    pub stored: Option<Stored>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What a backup has stored.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Its id.
    pub backup: String,
    /// Tables with a data block.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes that pg_dump wrote.
    pub plain_bytes: u64,
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// Version of the server.
    pub server_version: String,
}

/// One backup that was read back.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// The database's name in the project.
    pub database: String,
    /// Id of the backup.
    pub backup: String,
    /// It was decrypted and compared with its proof, too.
    pub opened: bool,
    /// Bytes read back.
    pub stored_bytes: u64,
    /// What was wrong.
    pub failure: Option<Failure>,
}

/// One drill.
#[derive(Clone, Debug, Default)]
pub struct DrillRun {
    /// The database's name in the project.
    pub database: String,
    /// The run, as the scheduler calls it.
    pub run_id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it found; `None`: it did not come to an end.
    pub found: Option<Drilled>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What a drill has found.
#[derive(Clone, Debug, Default)]
pub struct Drilled {
    /// Id of the backup that was restored.
    pub backup: String,
    /// Nothing differs.
    pub proven: bool,
    /// Tables, rows, what differs, bytes before packing, bytes stored; fetching, decrypting, restoring,
    /// proving, `restore_within`, milliseconds.
    pub figures: [u64; 10],
    /// Version of the server that was restored into.
    pub server_version: String,
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn failed(error: tokio_postgres::Error) -> anyhow::Error {
    public::failure(error, "cannot write into schema sankofa of the warehouse")
}

fn words(failure: Option<&Failure>) -> (Option<&'static str>, Option<String>) {
    (failure.map(|one| one.kind.word()), failure.map(|one| one.what.clone()))
}

/// Notes a backup.
///
/// # Errors
/// As [`public::failure`].
pub async fn backup(client: &Client, run: &BackupRun) -> Result<()> {
    let sql = "INSERT INTO sankofa.backup AS b (database_name, run_id, store, backup_id, status, started_at, ended_at,
            table_count, row_count, plain_bytes, stored_bytes, server_version, binary_version, error_code, error_message)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT (database_name, run_id) DO UPDATE SET store = excluded.store, backup_id = excluded.backup_id,
            status = excluded.status, attempt = b.attempt + 1, started_at = excluded.started_at,
            ended_at = excluded.ended_at, table_count = excluded.table_count, row_count = excluded.row_count,
            plain_bytes = excluded.plain_bytes, stored_bytes = excluded.stored_bytes,
            server_version = excluded.server_version, binary_version = excluded.binary_version,
            error_code = excluded.error_code, error_message = excluded.error_message
        WHERE b.status <> 'stored'";
    let stored = run.stored.as_ref();
    let figure = |of: fn(&Stored) -> u64| stored.map(|stored| number(of(stored)));
    let (code, message) = words(run.failure.as_ref());
    client
        .execute(
            sql,
            &[
                &run.database,
                &run.run_id,
                &run.store,
                &stored.map(|stored| stored.backup.as_str()),
                &(if stored.is_some() { "stored" } else { "failed" }),
                &run.started_at,
                &run.ended_at,
                &figure(|stored| stored.tables),
                &figure(|stored| stored.rows),
                &figure(|stored| stored.plain_bytes),
                &figure(|stored| stored.stored_bytes),
                &stored.map(|stored| stored.server_version.as_str()),
                &BINARY,
                &code,
                &message,
            ],
        )
        .await
        .map(drop)
        .map_err(failed)
}

/// Notes that a backup was read back.
///
/// # Errors
/// As [`public::failure`].
pub async fn verification(client: &Client, one: &Verification) -> Result<()> {
    let sql = "INSERT INTO sankofa.verification (database_name, backup_id, passed, opened, stored_bytes, binary_version,
            error_code, error_message) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let (code, message) = words(one.failure.as_ref());
    let (passed, bytes) = (one.failure.is_none(), number(one.stored_bytes));
    client
        .execute(sql, &[&one.database, &one.backup, &passed, &one.opened, &bytes, &BINARY, &code, &message])
        .await
        .map(drop)
        .map_err(failed)
}

/// Notes a drill.
///
/// # Errors
/// As [`public::failure`].
pub async fn drill(client: &Client, run: &DrillRun) -> Result<()> {
    let sql = "INSERT INTO sankofa.drill AS d (database_name, run_id, backup_id, status, started_at, ended_at,
            table_count, row_count, different, plain_bytes, stored_bytes, fetch_ms, decrypt_ms, restore_ms, prove_ms,
            restore_within_ms, server_version, binary_version, error_code, error_message)
        SELECT $1, $2, $3, $4, $5, $6, f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], $8, $9, $10, $11
        FROM (SELECT $7::int8[] AS f) AS given
        ON CONFLICT (database_name, run_id) DO UPDATE SET backup_id = excluded.backup_id, status = excluded.status,
            attempt = d.attempt + 1, started_at = excluded.started_at, ended_at = excluded.ended_at,
            table_count = excluded.table_count, row_count = excluded.row_count, different = excluded.different,
            plain_bytes = excluded.plain_bytes, stored_bytes = excluded.stored_bytes, fetch_ms = excluded.fetch_ms,
            decrypt_ms = excluded.decrypt_ms, restore_ms = excluded.restore_ms, prove_ms = excluded.prove_ms,
            restore_within_ms = excluded.restore_within_ms, server_version = excluded.server_version,
            binary_version = excluded.binary_version, error_code = excluded.error_code,
            error_message = excluded.error_message
        WHERE d.status <> 'proven'";
    let found = run.found.as_ref();
    let status = match found {
        Some(found) if found.proven => "proven",
        Some(_) => "different",
        None => "failed",
    };
    let figures: Vec<i64> = found.map(|found| found.figures.map(number).to_vec()).unwrap_or_default();
    let (code, message) = words(run.failure.as_ref());
    client
        .execute(
            sql,
            &[
                &run.database,
                &run.run_id,
                &found.map(|found| found.backup.as_str()),
                &status,
                &run.started_at,
                &run.ended_at,
                &figures,
                &found.map(|found| found.server_version.as_str()),
                &BINARY,
                &code,
                &message,
            ],
        )
        .await
        .map(drop)
        .map_err(failed)
}

/// Notes how every database of every server was found; `found` is a list of objects with the columns
/// of view `coverage`.
///
/// # Errors
/// As [`public::failure`].
pub async fn coverage(client: &Client, found: &Value) -> Result<()> {
    let sql = "INSERT INTO sankofa.coverage_look (found) VALUES ($1)";
    client.execute(sql, &[found]).await.map(drop).map_err(failed)
}

/// Newest of each database that stay, however old.
const KEPT: i64 = 20;

/// Forgets records of backups, verifications, drills and coverage of more than `keep_s` seconds ago, or
/// only counts them. The newest 20 of each database stay, and the newest that was good.
///
/// # Errors
/// As [`public::failure`].
pub async fn forget(client: &Client, keep_s: f64, dry_run: bool) -> Result<u64> {
    let cannot = |error| public::failure(error, "cannot forget old records in the ledger");
    let mut forgotten = 0;
    for (table, at, of, good) in [
        ("backup", "ended_at", "database_name", "status = 'stored'"),
        ("verification", "verified_at", "database_name", "passed"),
        ("drill", "ended_at", "database_name", "status = 'proven'"),
        ("coverage_look", "looked_at", "found IS NULL", "true"),
    ] {
        let old = format!(
            "sankofa.{table} WHERE {at} < clock_timestamp() - pg_catalog.make_interval(secs => $1)
             AND id NOT IN (SELECT k.id FROM (SELECT id, row_number() OVER (PARTITION BY {of} ORDER BY id DESC) AS place
                 FROM sankofa.{table}) k WHERE k.place <= $2)
             AND id NOT IN (SELECT max(id) FROM sankofa.{table} WHERE {good} GROUP BY {of})"
        );
        forgotten += match dry_run {
            true => {
                let row = client.query_one(&format!("SELECT count(*) FROM {old}"), &[&keep_s, &KEPT]).await;
                u64::try_from(row.map_err(cannot)?.get::<_, i64>(0)).unwrap_or(0)
            }
            false => {
                client.execute(&format!("DELETE FROM {old}"), &[&keep_s, &KEPT]).await.map_err(cannot)?
            }
        };
    }
    Ok(forgotten)
}
