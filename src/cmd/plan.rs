//! `sankofa plan`.

use super::Context;
use crate::report::Report;

/// Tell what the next run would do to each table, and why; touches nothing
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline, by the name of its file in pipelines/
    pub pipeline: String,
    /// End with 65 when the next run would change the schema of the warehouse
    #[arg(long)]
    pub check: bool,
}

/// Runs the command.
///
/// # Errors
/// When a server cannot be reached, a right is missing, or `--check` finds a change.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let (_project, _pipeline) = context.pipeline(&args.pipeline)?;
    Err(super::not_built_yet("plan"))
}
