//! `sankofa backups list|verify|prune|coverage`.

mod coverage;
mod list;
mod prune;
mod verify;

use super::{Context, open};
use crate::config::model::{Database, Project};
use crate::error::{Failure, nearest_hint};
use crate::report::Report;
use crate::secret::{Asked, Resolver};

/// Show, verify and prune what is stored; find the databases that no backup covers
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    List(list::Args),
    Verify(verify::Args),
    Prune(prune::Args),
    Coverage(coverage::Args),
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::List(_) => "backups list",
            Action::Verify(_) => "backups verify",
            Action::Prune(_) => "backups prune",
            Action::Coverage(_) => "backups coverage",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// 78 for a database that the project does not name; as the stores; 65 for what was found wrong.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let open = Open { resolver: context.resolver(&project)?, project, context };
    match args.action {
        Action::List(args) => list::run(&args, &open).await,
        Action::Verify(args) => verify::run(&args, &open).await,
        Action::Prune(args) => prune::run(&args, &open).await,
        Action::Coverage(_) => coverage::run(&open).await,
    }
}

/// What each of them starts with.
struct Open<'a> {
    project: Project,
    resolver: Resolver,
    context: &'a Context,
}

impl Open<'_> {
    /// Asks, side by side, for the keys of the stores of `databases`, and for `more`.
    async fn fetch<'a>(&self, databases: &[&'a Database], more: impl IntoIterator<Item = Asked<'a>>) {
        self.resolver.fetch_ahead(databases.iter().filter_map(|one| open::store(one)).chain(more)).await;
    }

    /// The databases that are meant: the one called `name`, else all.
    fn databases(&self, name: Option<&str>) -> Result<Vec<&Database>, Failure> {
        let all = &self.project.backups.databases;
        if all.is_empty() {
            let hint =
                "Write `backups: {databases: {NAME: {connection: ..., store: ..., encrypt_to: [...]}}}`.";
            return Err(Failure::config("cannot look for backups: sankofa.yaml names no database").hint(hint));
        }
        let meant: Vec<&Database> =
            all.iter().filter(|one| name.is_none_or(|name| one.name == name)).collect();
        match (name, meant.is_empty()) {
            (Some(name), true) => {
                Err(Failure::config(format!("cannot find database {name} under `backups:`"))
                    .hint(nearest_hint(name, all.iter().map(|one| one.name.as_str()))))
            }
            _ => Ok(meant),
        }
    }
}

/// `databases` by store, and by the key that opens it.
fn by_store<'a, K: PartialEq>(
    databases: Vec<&'a Database>,
    key: impl Fn(&'a Database) -> K,
) -> Vec<(K, Vec<&'a Database>)> {
    let mut stores: Vec<(K, Vec<&Database>)> = Vec::new();
    for database in databases {
        let own = key(database);
        match stores.iter_mut().find(|(other, _)| *other == own) {
            Some((_, those)) => those.push(database),
            None => stores.push((own, vec![database])),
        }
    }
    stores
}
