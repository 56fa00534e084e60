//! What backups, verifications, drills and coverage leave in the warehouse, beside the stores' own records.
//!
//! In:    the project; what a command has done.
//! Out:   rows of schema `sankofa`, or a warning.
//! Holds: nothing here makes a command fail, or hold it up for longer than `WITHIN`.
//! Not here: the rows themselves (`ledger::records`).

use crate::backup::drills;
use crate::config::model::{Database, Project, Warehouse};
use crate::error::{Failure, Kind, classify};
use crate::etl::target;
use crate::ledger::records::{BackupRun, DrillRun, Drilled, Stored};
use crate::ledger::{self, setup};
use crate::report::Report;
use crate::secret::Resolver;
use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use tokio_postgres::Client;
use tracing::{info, warn};

/// How long noting something may take.
const WITHIN: Duration = Duration::from_secs(20);

/// Lets `write` note something in the warehouse, if the project has one; the warning when it could not.
pub async fn note(
    project: &Project,
    resolver: &Resolver,
    write: impl AsyncFnOnce(&Client) -> Result<()>,
) -> Option<String> {
    ask(project, resolver, write).await?.err().map(|failure| told(&failure))
}

/// Lets `act` use the ledger; `None` where there is no warehouse, or none that this machine knows.
pub async fn ask<T>(
    project: &Project,
    resolver: &Resolver,
    act: impl AsyncFnOnce(&Client) -> Result<T>,
) -> Option<Result<T, Failure>> {
    let warehouse = project.warehouse.as_ref()?;
    let connection = match resolver.connection(&warehouse.connection).await {
        Ok(connection) => connection,
        // A machine that only backs up need not know the warehouse.
        Err(error) if classify(&error).kind == Kind::Permission => {
            info!("not noted in the warehouse: {error:#}");
            return None;
        }
        Err(error) => return Some(Err(classify(&error))),
    };
    let asked = async {
        let name = format!("sankofa/{} record", env!("CARGO_PKG_VERSION"));
        let session = target::acting(&connection, warehouse, &name, false).await?;
        open(&session.client, warehouse, &project.environment).await?;
        let answer = act(&session.client).await?;
        session.close().await;
        anyhow::Ok(answer)
    };
    Some(match tokio::time::timeout(WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| classify(&error)),
        Err(_) => Err(Failure::temporary(format!("no answer within {} s", WITHIN.as_secs()))),
    })
}

async fn open(client: &Client, warehouse: &Warehouse, environment: &str) -> Result<()> {
    ledger::open(client, environment).await?;
    match &warehouse.reader_role {
        Some(reader) => setup::admit(client, reader).await,
        None => Ok(()),
    }
}

fn told(failure: &Failure) -> String {
    let warning = format!("not noted in the warehouse: {}", failure.what);
    warn!("{warning}");
    warning
}

/// The row of a backup that has ended; `None` for one that is not to be noted, such as a dry run.
pub fn backup_run(database: &Database, run_id: &str, done: &Result<Report>, base: &Report) -> BackupRun {
    let mut run = BackupRun {
        database: database.name.clone(),
        run_id: run_id.to_owned(),
        store: database.store.clone(),
        started_at: base.started_at,
        ended_at: Timestamp::now(),
        ..BackupRun::default()
    };
    match done {
        Err(error) => run.failure = Some(classify(error)),
        Ok(report) => {
            let text = |name: &str| report.extra.get(name).and_then(Value::as_str).unwrap_or_default();
            let number = |name: &str| report.extra.get(name).and_then(Value::as_u64).unwrap_or(0);
            run.started_at = text("dumped_at").parse().unwrap_or(run.started_at);
            run.ended_at = text("stored_at").parse().unwrap_or(run.ended_at);
            run.stored = Some(Stored {
                backup: text("backup").to_owned(),
                tables: number("table_count"),
                rows: report.rows,
                plain_bytes: report.bytes,
                stored_bytes: number("stored_bytes"),
                server_version: text("server_version").to_owned(),
            });
        }
    }
    run
}

/// The row of a drill that came to an end.
pub fn drill_run(record: &drills::Drilled, failure: Option<&Failure>) -> DrillRun {
    DrillRun {
        database: record.database.clone(),
        run_id: record.run_id.clone(),
        started_at: record.started_at,
        ended_at: record.ended_at,
        found: Some(Drilled {
            backup: record.backup.clone(),
            proven: record.proven,
            figures: [
                record.tables,
                record.rows,
                record.different,
                record.plain_bytes,
                record.stored_bytes,
                record.fetch_ms,
                record.decrypt_ms,
                record.restore_ms,
                record.prove_ms,
                record.restore_within_ms,
            ],
            server_version: record.server_version.clone(),
        }),
        failure: failure.cloned(),
    }
}

/// The row of a drill that did not come to an end.
pub fn drill_failed(database: &str, run_id: &str, started_at: Timestamp, failure: Failure) -> DrillRun {
    DrillRun {
        database: database.to_owned(),
        run_id: run_id.to_owned(),
        started_at,
        ended_at: Timestamp::now(),
        found: None,
        failure: Some(failure),
    }
}
