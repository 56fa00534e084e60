//! `sankofa sync`.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use super::open::open;
use super::plan;
use crate::etl::{self, run::skip_if_empty};
use crate::report::Report;

/// Extract, validate and load in one go, streaming, without a stage
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
/// Those of the three steps.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    if args.step.dry_run {
        let StepArgs { pipeline, allow_rewrite, .. } = args.step;
        return plan::run(plan::Args { pipeline, check: false, allow_rewrite, select: args.select }, context)
            .await;
    }
    let open = open(context, &args.step.pipeline)?;
    open.fetch_for_reading().await;
    let request = open.request("sync", &args.step, &args.select)?;
    let report = etl::run::sync(&request, &open.hands(context), context.report()).await?;
    Ok(skip_if_empty(report, args.step.skip_if_empty)?)
}
