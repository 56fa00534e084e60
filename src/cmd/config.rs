//! `sankofa config schema|show|compile`.

use super::Context;
use crate::report::Report;
use clap::builder::{Resettable, StyledStr};
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
    /// File it is for
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
    /// Pipeline, by the name of its file in pipelines/ [default: the project and all pipelines]
    pub pipeline: Option<String>,
}

/// Write the lock of each pipeline, which DAGs read instead of the pipeline files
#[derive(clap::Args, Debug)]
pub struct Compile {
    /// Pipeline, by the name of its file in pipelines/; may be repeated [default: all]
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<String>,
    /// Directory to write <PIPELINE>.lock.json into
    #[arg(long, value_name = "DIR", default_value = "locks")]
    pub out: PathBuf,
    /// Write nothing; end with 78 when a lock is not what would be written
    #[arg(long)]
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
        Action::Reference => Ok(context.report().verbatim(super::reference::page())),
        _ => Err(super::not_built_yet("config")),
    }
}
