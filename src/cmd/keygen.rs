//! `sankofa keygen`.

use super::Context;
use crate::report::Report;

/// Not in this version yet
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Always, for now.
pub async fn run(_args: Args, _context: &Context) -> anyhow::Result<Report> {
    Err(crate::error::Failure::usage("cannot do this: not in this version yet").into())
}
