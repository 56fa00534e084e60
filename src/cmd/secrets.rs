//! `sankofa secrets policy`.

mod policy;

use super::Context;
use crate::report::Report;

/// What the project asks for and from where; the policies and grants that it needs
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    Policy(policy::Args),
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::Policy(_) => "secrets policy",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// 78 for project files that are wrong.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    match args.action {
        Action::Policy(args) => policy::run(&args, context).await,
    }
}
