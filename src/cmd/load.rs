//! `sankofa load`.

use super::Context;
use super::arguments::StepArgs;
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
    let (_project, _pipeline) = context.pipeline(&args.step.pipeline)?;
    Err(super::not_built_yet("load"))
}
