//! `sankofa prune`.

use super::Context;
use super::arguments::duration;
use crate::backup::{drills, stores};
use crate::config::model::{Database, Project, Retention};
use crate::error::{Failure, Kind, classify, most_serious};
use crate::etl::prune::{Pruned, prune};
use crate::report::{Report, grouped, size};
use crate::secret::Resolver;
use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// Delete stages, ledger rows and records that are past their retention
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long runs, figures, check results and records are kept, 35d at least; the newest 20 of each
    /// pipeline and database always stay [default: `retention:` of sankofa.yaml, 400d]
    #[arg(long, value_name = "DURATION", value_parser = history)]
    pub history: Option<Duration>,
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn history(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| match time < Retention::SHORTEST_RUNS {
        true => Err("it is shorter than 35d, for which a scheduler may ask for a run again".into()),
        false => Ok(time),
    })
}

/// Runs the command.
///
/// # Errors
/// When the store or the warehouse cannot be reached.
pub async fn run(args: Args, context: &Context) -> Result<Report> {
    let project = context.project()?;
    let resolver = context.resolver(&project)?;
    let retention = args.history.map_or(project.retention, Retention::of);
    let pruned = match project.warehouse {
        None if !project.backups.databases.is_empty() => Pruned::default(),
        _ => prune((&project, project.warehouse()?), &resolver, &retention, args.dry_run).await?,
    };
    let (drills, failures) = of_stores(&project, &resolver, retention.drills, args.dry_run).await;
    let (missing, failures): (Vec<Failure>, Vec<Failure>) =
        failures.into_iter().partition(|failure| failure.kind == Kind::Permission);
    let mut report = report(context.report(), &pruned, &drills, args.dry_run);
    // A machine that loads rows has no key of a store, and need not have one.
    report
        .warnings
        .extend(missing.into_iter().map(|failure| format!("records of drills stay: {}", failure.what)));
    Ok(match most_serious(&failures) {
        Some(failure) => report.failed(failure),
        None => report,
    })
}

/// Records of drills that are gone from the stores, or would be; what could not be asked.
async fn of_stores(
    project: &Project,
    resolver: &Resolver,
    keep: Duration,
    dry_run: bool,
) -> (Vec<String>, Vec<Failure>) {
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    for database in &project.backups.databases {
        match of_store(database, resolver, keep, dry_run).await {
            Ok(records) => gone.extend(records),
            Err(error) => failures.push(classify(&error)),
        }
    }
    failures.dedup_by(|one, other| one.what == other.what);
    (gone, failures)
}

async fn of_store(
    database: &Database,
    resolver: &Resolver,
    keep: Duration,
    dry_run: bool,
) -> Result<Vec<String>> {
    let own = stores::open(&database.place, None, resolver).await?;
    let key = database.prune_connection.as_deref().filter(|_| !dry_run);
    let deleting = stores::open(&database.place, key, resolver).await?;
    drills::prune((own.as_ref(), deleting.as_ref()), &database.name, (keep, Timestamp::now()), dry_run).await
}

fn report(mut report: Report, pruned: &Pruned, drills: &[String], dry_run: bool) -> Report {
    let bytes: u64 = pruned.stages.iter().map(|(_, bytes)| bytes).sum();
    let stages: Vec<String> = pruned.stages.iter().map(|(path, _)| path.display().to_string()).collect();
    for (name, value) in [
        ("dry_run", json!(dry_run)),
        ("stages", json!(stages)),
        ("stage_bytes", json!(bytes)),
        ("stages_kept", json!(pruned.stages_kept)),
        ("staging_tables", json!(pruned.tables)),
        ("runs_forgotten", json!(pruned.runs)),
        ("checks_forgotten", json!(pruned.checks)),
        ("records_forgotten", json!(pruned.records)),
        ("drill_records", json!(drills)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    report.for_person(words(pruned, drills, bytes, dry_run))
}

fn words(pruned: &Pruned, drills: &[String], bytes: u64, dry_run: bool) -> String {
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for (path, bytes) in &pruned.stages {
        text.push_str(&format!("  stage {} ({})\n", path.display(), size(*bytes)));
    }
    for table in &pruned.tables {
        text.push_str(&format!("  staging table {table}\n"));
    }
    for record in drills {
        text.push_str(&format!("  record {record}\n"));
    }
    text.push_str(&format!(
        "prune: {verb}: stages {} ({}, {} stay), staging tables {}, runs {}, check results {}, \
         records of backups and drills {} in the warehouse and {} in the stores\n",
        pruned.stages.len(),
        size(bytes),
        pruned.stages_kept,
        pruned.tables.len(),
        grouped(pruned.runs),
        grouped(pruned.checks),
        grouped(pruned.records),
        drills.len(),
    ));
    text
}
