//! `sankofa validate`.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use super::open::open;
use crate::etl::{self, run::skip_if_empty};
use crate::report::Report;

/// Hold a stage against contract and quality checks; nothing reaches the warehouse
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline, run and bounds.
    #[command(flatten)]
    pub step: StepArgs,
}

/// Runs the command.
///
/// # Errors
/// A data failure, when a check that may fail the run is missed.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let open = open(context, &args.step.pipeline)?;
    open.fetch_for_loading().await;
    let request = open.request("validate", &args.step, &SelectArgs::default())?;
    if args.step.dry_run {
        return etl::inspect::inspect(&request, &open.hands(context), context.report()).await;
    }
    let report = etl::steps::validate(&request, &open.hands(context), context.report()).await?;
    Ok(skip_if_empty(report, args.step.skip_if_empty)?)
}
