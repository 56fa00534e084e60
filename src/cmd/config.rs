//! `sankofa config schema|show|compile`.

use super::Context;
use crate::config::locks::{self, Lock};
use crate::config::{self, FileKind};
use crate::error::{classify, most_serious};
use crate::report::Report;
use clap::builder::{Resettable, StyledStr};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Print schema or resolved configuration; write the locks that DAGs read
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    Schema(Schema),
    Show(Show),
    Compile(Compile),
    /// Print docs/reference.md
    #[command(hide = true)]
    Reference,
}

/// Print the JSON Schema of a project file, for editors
#[derive(clap::Args, Debug)]
pub struct Schema {
    /// File it is for: sankofa.yaml, or those in pipelines/
    #[arg(value_enum, default_value = "pipeline")]
    pub file: SchemaOf,
}

/// A kind of project file.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum SchemaOf {
    /// sankofa.yaml
    #[value(help = Resettable::<StyledStr>::Reset)]
    Project,
    /// pipelines/*.yaml
    #[value(help = Resettable::<StyledStr>::Reset)]
    Pipeline,
}

/// Print the configuration as resolved, with defaults filled in and no secret
#[derive(clap::Args, Debug)]
pub struct Show {
    /// Pipeline, by the name of its file in pipelines/ [default: all]
    pub pipeline: Option<String>,
}

/// Write the lock of each pipeline, which DAGs read instead of the pipeline files
#[derive(clap::Args, Debug)]
pub struct Compile {
    /// Pipeline, by the name of its file in pipelines/; may be repeated [default: all]
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<String>,
    /// Write backups.lock.json instead: the databases of sankofa.yaml that Airflow backs up
    #[arg(long, conflicts_with = "pipelines")]
    pub backups: bool,
    /// Directory to write PIPELINE.lock.json into [default: locks/ of the project]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write nothing; end with 78 when a lock is not what would be written
    #[arg(long, visible_alias = "dry-run")]
    pub check: bool,
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::Schema(_) => "config schema",
            Action::Show(_) => "config show",
            Action::Compile(_) => "config compile",
            Action::Reference => "config reference",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A configuration failure, when a project file is wrong.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    match args.action {
        Action::Schema(args) => {
            let kind = match args.file {
                SchemaOf::Project => FileKind::Sankofa,
                SchemaOf::Pipeline => FileKind::Pipeline,
            };
            Ok(context.report().verbatim(format!("{:#}\n", config::schema(kind))))
        }
        Action::Show(args) => show(args, context),
        Action::Compile(args) => compile(args, context),
        Action::Reference => Ok(context.report().verbatim(super::reference::page())),
    }
}

fn show(args: Show, context: &Context) -> anyhow::Result<Report> {
    let files = context.files();
    let project = config::load_project(&files)?;
    let names = args.pipeline.map_or_else(|| config::pipeline_names(&files), |name| Ok(vec![name]))?;
    let pipelines = names
        .iter()
        .map(|name| config::load_pipeline(&files, &project, name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut report = context.report();
    if let Value::Object(fields) = config::show_value(&project, &pipelines)? {
        report.extra = fields;
    }
    Ok(report.for_person(config::show(&project, &pipelines)?))
}

/// Writes the locks that can be written; one bad pipeline does not keep the others from theirs.
fn compile(args: Compile, context: &Context) -> anyhow::Result<Report> {
    let files = context.files();
    let names = match (args.backups, args.pipelines) {
        (true, _) => vec![locks::BACKUPS.to_owned()],
        (false, pipelines) if pipelines.is_empty() => config::pipeline_names(&files)?,
        (false, pipelines) => pipelines,
    };
    let out = args.out.unwrap_or_else(|| locks::folder(&files));
    let (mut written, mut current, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let lock = if args.backups { Lock::of_backups(&files) } else { Lock::of_pipeline(&files, &name) };
        match lock {
            Ok(lock) if lock.is_current(&out) => current.push(name),
            Ok(lock) if args.check => failures.push(lock.stale()),
            Ok(lock) => match lock.write(&out) {
                Ok(()) => written.push(name),
                Err(error) => failures.push(classify(&error)),
            },
            Err(error) => failures.push(classify(&error)),
        }
    }
    let text = format!("{} written, {} current in {}\n", written.len(), current.len(), out.display());
    let mut report = context.report().for_person(text);
    report.extra.insert("written".into(), json!(written));
    report.extra.insert("current".into(), json!(current));
    let Some(worst) = most_serious(&failures).cloned() else { return Ok(report) };
    report.warnings =
        failures.iter().filter(|one| one.what != worst.what).map(|one| one.what.clone()).collect();
    Ok(report.failed(&worst))
}
