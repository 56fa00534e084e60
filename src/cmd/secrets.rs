//! `sankofa secrets check|policy`.

mod beyond;
mod check;
mod grants;
mod policy;

use super::Context;
use crate::config::model::{Pipeline, Project};
use crate::config::needs::Class;
use crate::config::{load_pipeline, pipeline_names_so_far};
use crate::report::Report;

/// Where each secret that the project names is found; the policies and grants that it needs
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    Check(check::Args),
    Policy(policy::Args),
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::Check(_) => "secrets check",
            Action::Policy(_) => "secrets policy",
        }
    }

    /// Whose privileges it has.
    pub fn class(&self) -> Class {
        match &self.action {
            Action::Policy(args) => args.class.unwrap_or(Class::Rows),
            Action::Check(args) => args.class.unwrap_or(Class::Rows),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// 78 for project files that are wrong; what is missing is in the report.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    match args.action {
        Action::Check(args) => check::run(&args, context).await,
        Action::Policy(args) => policy::run(&args, context).await,
    }
}

/// The pipelines of a project that moves rows; none where there are none yet.
fn pipelines(project: &Project, context: &Context) -> anyhow::Result<Vec<Pipeline>> {
    let files = context.files();
    if project.warehouse.is_none() {
        return Ok(Vec::new());
    }
    pipeline_names_so_far(&files)?.iter().map(|name| load_pipeline(&files, project, name)).collect()
}
