//! `sankofa init`.

use super::Context;
use crate::report::Report;

/// Look at a live database and write a first project; nothing is overwritten
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Connection id of the database to look at
    #[arg(long, value_name = "CONNECTION")]
    pub source: String,
    /// Connection id of the warehouse, for sankofa.yaml
    #[arg(long, value_name = "CONNECTION", default_value = "warehouse")]
    pub warehouse: String,
    /// Name of the pipeline and of its schema in the warehouse [default: the source's id]
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Only tables of this schema of the source; may be repeated
    #[arg(long = "schema", value_name = "SCHEMA")]
    pub schemas: Vec<String>,
    /// Print the files instead of writing them
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the source cannot be reached or read, or a file is there already.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let _ = (args, context);
    Err(super::not_built_yet("init"))
}
