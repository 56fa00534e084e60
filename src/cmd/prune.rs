//! `sankofa prune`.

use super::Context;
use super::arguments::duration;
use crate::etl::prune::{HISTORY, Pruned, prune};
use crate::report::{Report, grouped, size};
use serde_json::json;
use std::time::Duration;

/// Delete stages, ledger rows and records that are past their retention
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long the ledger remembers runs, figures, check results, backups and drills; the newest 20 of
    /// each pipeline and database always stay [default: 400d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub history: Option<Duration>,
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the store or the warehouse cannot be reached.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let resolver = context.resolver(&project)?;
    let pruned = prune(&project, &resolver, args.history.unwrap_or(HISTORY), args.dry_run).await?;
    let mut report = context.report();
    let bytes: u64 = pruned.stages.iter().map(|(_, bytes)| bytes).sum();
    let stages: Vec<String> = pruned.stages.iter().map(|(path, _)| path.display().to_string()).collect();
    for (name, value) in [
        ("dry_run", json!(args.dry_run)),
        ("stages", json!(stages)),
        ("stage_bytes", json!(bytes)),
        ("stages_kept", json!(pruned.stages_kept)),
        ("staging_tables", json!(pruned.tables)),
        ("runs_forgotten", json!(pruned.runs)),
        ("checks_forgotten", json!(pruned.checks)),
        ("records_forgotten", json!(pruned.records)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    Ok(report.for_person(words(&pruned, bytes, args.dry_run)))
}

fn words(pruned: &Pruned, bytes: u64, dry_run: bool) -> String {
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    let mut text = String::new();
    for (path, bytes) in &pruned.stages {
        text.push_str(&format!("  stage {} ({})\n", path.display(), size(*bytes)));
    }
    for table in &pruned.tables {
        text.push_str(&format!("  staging table {table}\n"));
    }
    text.push_str(&format!(
        "prune: {verb}: stages {} ({}, {} stay), staging tables {}, runs {}, check results {}, \
         records of backups and drills {}\n",
        pruned.stages.len(),
        size(bytes),
        pruned.stages_kept,
        pruned.tables.len(),
        grouped(pruned.runs),
        grouped(pruned.checks),
        grouped(pruned.records),
    ));
    text
}
