//! `sankofa secrets check`.

mod beyond;
mod check;
mod needed;

use super::Context;
use crate::report::Report;

/// Show where each secret that the project names is found, and what it opens beyond its need
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    Check(check::Args),
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::Check(_) => "secrets check",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// 78 for files that cannot be read; what is missing is in the report.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    match args.action {
        Action::Check(args) => check::run(&args, context).await,
    }
}
