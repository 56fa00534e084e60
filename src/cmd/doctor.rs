//! `sankofa doctor`.

use super::Context;
use crate::report::Report;

/// Try every connection, privilege and version that a run would need, now
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only what this pipeline needs; may be repeated [default: all]
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The most serious finding.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let _ = args;
    let _project = context.project()?;
    Err(super::not_built_yet("doctor"))
}
