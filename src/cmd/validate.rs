//! `sankofa validate`.

use super::Context;
use super::arguments::StepArgs;
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
    let (_project, _pipeline) = context.pipeline(&args.step.pipeline)?;
    Err(super::not_built_yet("validate"))
}
