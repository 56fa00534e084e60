//! `sankofa load`.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use super::open::open;
use crate::etl::{self, run::skip_if_empty};
use crate::report::Report;

/// Merge a stage into the warehouse: data, watermarks and ledger in one commit
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline, run and bounds.
    #[command(flatten)]
    pub step: StepArgs,
}

/// Runs the command.
///
/// # Errors
/// See DESIGN.md 3.3 to 3.7.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let open = open(context, &args.step.pipeline)?;
    open.fetch_for_loading().await;
    let request = open.request("load", &args.step, &SelectArgs::default())?;
    if args.step.dry_run {
        return etl::inspect::inspect(&request, &open.hands(context), context.report()).await;
    }
    let report = etl::steps::load(&request, &open.hands(context), context.report()).await?;
    Ok(skip_if_empty(report, args.step.skip_if_empty)?)
}
