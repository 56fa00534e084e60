//! `sankofa sync`.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
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
    let (_project, _pipeline) = context.pipeline(&args.step.pipeline)?;
    Err(super::not_built_yet("sync"))
}
