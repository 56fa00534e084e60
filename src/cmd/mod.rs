//! The command line: one file a command, named as typed.
//!
//! In:    the words of the command line, the environment.
//! Out:   one [`Report`] a command.
//! Holds: a command reads its arguments, calls the house and returns; it prints nothing and never exits.
//! Not here: signals and the exit (`main`), what is printed where (`result`).

pub mod arguments;
pub mod help;
pub mod launched;
pub mod open;
pub mod notify;
pub mod overrides;
pub mod pages;
pub mod record;
pub mod reference;
pub mod result;

pub mod init;
pub mod plan;
pub mod extract;
pub mod validate;
pub mod load;
pub mod sync;
pub mod backup;
pub mod restore;
pub mod drill;
pub mod backups;
pub mod state;
pub mod status;
pub mod secrets;
pub mod doctor;
pub mod config;
pub mod warehouse;
pub mod prune;
pub mod keygen;
pub mod completions;
pub mod man;

use crate::config::Files;
use crate::config::model::{Pipeline, Project};
use crate::config::needs::Class;
use crate::error::Failure;
use crate::progress::{Progress, Shown};
use crate::report::Report;
use crate::secret::Resolver;
use crate::stop::StopSignal;
use arguments::{Global, StepArgs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Fetches rows of production PostgreSQL databases into a warehouse, and lost databases back
#[derive(clap::Parser, Debug)]
#[command(name = "sankofa", version, arg_required_else_help = true, subcommand_required = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order of a project's life.
#[derive(clap::Subcommand, Debug)]
#[allow(missing_docs)] // the arguments of each command say it
pub enum Command {
    Init(init::Args),
    Plan(plan::Args),
    Extract(extract::Args),
    Validate(validate::Args),
    Load(load::Args),
    Sync(sync::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Drill(drill::Args),
    Backups(backups::Args),
    State(state::Args),
    Status(status::Args),
    Secrets(secrets::Args),
    Doctor(doctor::Args),
    Config(config::Args),
    Warehouse(warehouse::Args),
    Prune(prune::Args),
    Keygen(keygen::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// What every command is given beside its arguments. It holds the process's variables, so it has no `Debug`.
pub struct Context {
    /// Directory that holds `sankofa.yaml`.
    pub project_dir: PathBuf,
    /// `--env`.
    pub environment: Option<String>,
    /// Variables of the process; those that are not UTF-8 are left out.
    pub variables: BTreeMap<String, String>,
    /// `--json`.
    pub json: bool,
    /// The wish to stop, and what to clean up then.
    pub stop: StopSignal,
    /// What asks for secrets, to be closed at the end.
    pub opened: open::Opened,
    /// Where progress is shown.
    pub shown: Shown,
    /// What is known of the result before the command starts.
    pub base: Report,
    /// Whose privileges the command has.
    pub class: Class,
}

impl Context {
    /// A report that names command, pipeline, run and start, to be filled with figures.
    pub fn report(&self) -> Report {
        self.base.clone()
    }

    /// Where the project files are, for `config`.
    pub fn files(&self) -> Files {
        Files {
            project_dir: self.project_dir.clone(),
            environment: self.environment.clone(),
            variables: self.variables.clone(),
        }
    }

    /// The operator's half of the configuration.
    ///
    /// # Errors
    /// As [`crate::config::load_project`].
    pub fn project(&self) -> anyhow::Result<Project> {
        crate::config::load_project(&self.files())
    }

    /// The operator's half, and pipeline `name`.
    ///
    /// # Errors
    /// As [`crate::config::load_project`] and [`crate::config::load_pipeline`].
    pub fn pipeline(&self, name: &str) -> anyhow::Result<(Project, Pipeline)> {
        let files = self.files();
        let project = crate::config::load_project(&files)?;
        let pipeline = crate::config::load_pipeline(&files, &project, name)?;
        Ok((project, pipeline))
    }

    /// Where the secrets of `project` are asked for; closed at the end of the command.
    ///
    /// # Errors
    /// As [`open::resolver`].
    pub fn resolver(&self, project: &Project) -> Result<Resolver, Failure> {
        self.resolver_of(project, self.class)
    }

    /// The same for another class, where a command does the work of several.
    ///
    /// # Errors
    /// As [`open::resolver`].
    pub fn resolver_of(&self, project: &Project, class: Class) -> Result<Resolver, Failure> {
        self.opened.resolver(project, class, &self.stop)
    }

    /// Starts showing how far `what` is, such as `extracting hr`.
    pub fn progress(&self, what: impl Into<String>) -> Progress {
        Progress::start(what, &self.shown)
    }
}

impl Command {
    /// What is known of the result before the command starts: its name, pipeline and run.
    pub fn base(&self) -> Report {
        let pipeline = match self {
            Command::Plan(args) => Some(args.pipeline.clone()),
            Command::State(args) => Some(args.pipeline().to_owned()),
            _ => self.step().map(|step| step.pipeline.clone()),
        };
        let run_id = match self {
            Command::Drill(args) => Some(args.run.to_string()),
            Command::Backup(args) => Some(args.run.to_string()),
            _ => self.step().map(|step| step.run.to_string()),
        };
        let full_refresh = match self {
            Command::Extract(args) => args.select.full_refresh,
            Command::Sync(args) => args.select.full_refresh,
            _ => false,
        };
        let mut base =
            Report { command: self.name().to_owned(), pipeline, run_id, full_refresh, ..Report::default() };
        let database = match self {
            Command::Backup(args) => Some(&args.database),
            Command::Restore(args) => Some(&args.database),
            Command::Drill(args) => Some(&args.database),
            _ => None,
        };
        base.extra.extend(database.map(|name| ("database".to_owned(), name.clone().into())));
        base
    }

    /// Whose privileges it has.
    pub fn class(&self) -> Class {
        match self {
            Command::Backup(_) | Command::Backups(_) => Class::Backup,
            Command::Restore(_) | Command::Drill(_) => Class::Drill,
            Command::Doctor(args) => args.class(),
            Command::Status(args) => args.class(),
            Command::Secrets(args) => args.class(),
            _ => Class::Rows,
        }
    }

    /// How long it may run, from the start of the process.
    pub fn deadline(&self) -> Option<Duration> {
        match self {
            Command::Restore(args) => args.how.deadline,
            Command::Drill(args) => args.how.deadline,
            Command::Backup(args) => args.deadline,
            _ => self.step().and_then(|step| step.deadline),
        }
    }

    fn step(&self) -> Option<&StepArgs> {
        match self {
            Command::Extract(args) => Some(&args.step),
            Command::Validate(args) => Some(&args.step),
            Command::Load(args) => Some(&args.step),
            Command::Sync(args) => Some(&args.step),
            _ => None,
        }
    }

    /// The command as typed.
    fn name(&self) -> &'static str {
        match self {
            Command::Init(_) => "init",
            Command::Plan(_) => "plan",
            Command::Extract(_) => "extract",
            Command::Validate(_) => "validate",
            Command::Load(_) => "load",
            Command::Sync(_) => "sync",
            Command::Backup(_) => "backup",
            Command::Restore(_) => "restore",
            Command::Drill(_) => "drill",
            Command::Backups(args) => args.name(),
            Command::State(args) => args.name(),
            Command::Status(_) => "status",
            Command::Secrets(args) => args.name(),
            Command::Doctor(_) => "doctor",
            Command::Config(args) => args.name(),
            Command::Warehouse(args) => args.name(),
            Command::Prune(_) => "prune",
            Command::Keygen(_) => "keygen",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The command's own; see [`crate::error::classify`].
    pub async fn run(self, context: &Context) -> anyhow::Result<Report> {
        let about = notify::about(&self);
        let done = context.opened.judge(self.begin(context).await).await;
        if let Some(about) = about {
            notify::tell(context, &about, &done).await;
        }
        context.opened.close().await;
        done
    }

    async fn begin(self, context: &Context) -> anyhow::Result<Report> {
        match self {
            Command::Init(args) => init::run(args, context).await,
            Command::Plan(args) => plan::run(args, context).await,
            Command::Extract(args) => extract::run(args, context).await,
            Command::Validate(args) => validate::run(args, context).await,
            Command::Load(args) => load::run(args, context).await,
            Command::Sync(args) => sync::run(args, context).await,
            Command::Backup(args) => backup::run(args, context).await,
            Command::Restore(args) => restore::run(args, context).await,
            Command::Drill(args) => drill::run(args, context).await,
            Command::Backups(args) => backups::run(args, context).await,
            Command::State(args) => state::run(args, context).await,
            Command::Status(args) => status::run(args, context).await,
            Command::Secrets(args) => secrets::run(args, context).await,
            Command::Doctor(args) => doctor::run(args, context).await,
            Command::Config(args) => config::run(args, context).await,
            Command::Warehouse(args) => warehouse::run(args, context).await,
            Command::Prune(args) => prune::run(args, context).await,
            Command::Keygen(args) => keygen::run(args, context).await,
            Command::Completions(args) => completions::run(args, context).await,
            Command::Man(args) => man::run(args, context).await,
        }
    }
}
