//! `sankofa warehouse init|upgrade`.

use super::Context;
use crate::report::Report;

/// Make schema `sankofa` in the warehouse, or bring it to this version
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Make schema `sankofa`, its tables, views and grants; one that is there already stays as it is
    Init(Change),
    /// Bring schema `sankofa` to the version of this program, in one transaction
    Upgrade(Change),
}

/// How the change is made.
#[derive(clap::Args, Debug)]
pub struct Change {
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::Init(_) => "warehouse init",
            Action::Upgrade(_) => "warehouse upgrade",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the warehouse cannot be reached, a right is missing, or its schema is newer than this program.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let _project = context.project()?;
    match args.action {
        Action::Init(_) => Err(super::not_built_yet("make schema sankofa")),
        Action::Upgrade(_) => Err(super::not_built_yet("upgrade schema sankofa")),
    }
}
