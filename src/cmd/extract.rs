//! `sankofa extract`.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use super::open::open;
use super::plan;
use crate::etl::{self, run::skip_if_empty};
use crate::report::Report;

/// Read what is new from the source into a stage, all tables in one snapshot
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline, run and bounds.
    #[command(flatten)]
    pub step: StepArgs,
    /// What is read.
    #[command(flatten)]
    pub select: SelectArgs,
}

/// Runs the command.
///
/// # Errors
/// See DESIGN.md 3.1 and 3.2.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    if args.step.dry_run {
        let StepArgs { pipeline, allow_rewrite, .. } = args.step;
        return plan::run(plan::Args { pipeline, check: false, allow_rewrite, select: args.select }, context)
            .await;
    }
    let open = open(context, &args.step.pipeline)?;
    open.fetch_for_reading().await;
    let request = open.request("extract", &args.step, &args.select)?;
    let report = etl::steps::extract(&request, &open.hands(context), context.report()).await?;
    Ok(skip_if_empty(report, args.step.skip_if_empty)?)
}
