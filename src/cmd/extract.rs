//! `sankofa extract`.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
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
    let (_project, _pipeline) = context.pipeline(&args.step.pipeline)?;
    Err(super::not_built_yet("extract"))
}
