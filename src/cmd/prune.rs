//! `sankofa prune`.

use super::Context;
use crate::report::Report;

/// Delete stages, ledger rows and records that are past their retention
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the store or the warehouse cannot be reached.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let (_dry_run, _project) = (args.dry_run, context.project()?);
    Err(super::not_built_yet("prune"))
}
