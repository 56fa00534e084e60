//! `sankofa warehouse init|upgrade`.

use super::Context;
use crate::config::model::Project;
use crate::etl::target;
use crate::ledger;
use crate::ledger::setup::{self, Done, Task};
use crate::report::Report;
use serde_json::json;

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
    let project = context.project()?;
    let (task, change) = match args.action {
        Action::Init(change) => (Task::Init, change),
        Action::Upgrade(change) => (Task::Upgrade, change),
    };
    let warehouse = project.warehouse()?;
    let connection = context.resolver(&project)?.connection(&warehouse.connection).await?;
    let session = target::bare(&connection, "sankofa warehouse").await?;
    let done = setup::set_up(&session, warehouse, &project.environment, (task, change.dry_run)).await?;
    let mut report = context.report();
    for (name, value) in [
        ("environment", json!(project.environment)),
        ("version_before", json!(done.before)),
        ("version", json!(done.after)),
        ("reader_role", json!(warehouse.reader_role)),
        ("reader_admitted", json!(done.admitted)),
        ("dry_run", json!(change.dry_run)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    Ok(report.for_person(words(&done, &project, change.dry_run)))
}

fn words(done: &Done, project: &Project, dry_run: bool) -> String {
    let would = |does: &str, would: &str| if dry_run { would.to_owned() } else { does.to_owned() };
    let environment = &project.environment;
    let mut text = match (done.before, done.after) {
        (0, after) => {
            let verb = would("made", "would be made");
            format!("Schema sankofa {verb}: version {after}, environment {environment}.\n")
        }
        (before, after) if before == after => {
            format!("Schema sankofa is there: version {after}, environment {environment}.\n")
        }
        (before, after) => {
            format!(
                "Schema sankofa {} from version {before} to {after}.\n",
                would("brought", "would be brought")
            )
        }
    };
    if done.before > 0 && done.after < ledger::version() {
        text.push_str("It is older than this program: run `sankofa warehouse upgrade`.\n");
    }
    if let Some(reader) = project.warehouse.as_ref().and_then(|warehouse| warehouse.reader_role.as_ref()) {
        let verb = match done.admitted {
            true => would("may now read", "would be let to read"),
            false => "may read".to_owned(),
        };
        text.push_str(&format!("{reader} {verb} its views ({}).\n", ledger::VIEWS.join(", ")));
    }
    text
}
