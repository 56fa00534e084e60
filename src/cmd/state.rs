//! `sankofa state show|reset`.

use super::Context;
use super::arguments::{Point, find_table};
use super::open::{Open, open};
use crate::etl::{reset, standing};
use crate::report::Report;
use serde_json::json;

/// Show watermarks and last runs of a pipeline; put one table back to a known point
#[derive(clap::Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    Show(Show),
    Reset(Reset),
}

/// Show watermarks, contracts and last runs
#[derive(clap::Args, Debug)]
pub struct Show {
    /// Pipeline, by the name of its file in pipelines/
    pub pipeline: String,
}

/// Put the watermark of one table back; the next run reads from there, or everything
#[derive(clap::Args, Debug)]
pub struct Reset {
    /// Pipeline, by the name of its file in pipelines/
    pub pipeline: String,
    /// Table, as schema.table of source or warehouse
    #[arg(long, value_name = "TABLE")]
    pub table: String,
    /// New watermark: date, RFC 3339 time or integer [default: none, so that every row is read]
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    pub to: Option<Point>,
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    /// The command as typed.
    pub fn name(&self) -> &'static str {
        match self.action {
            Action::Show(_) => "state show",
            Action::Reset(_) => "state reset",
        }
    }

    /// The pipeline it is about.
    pub fn pipeline(&self) -> &str {
        match &self.action {
            Action::Show(args) => &args.pipeline,
            Action::Reset(args) => &args.pipeline,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the warehouse cannot be reached, or the table is not one of the pipeline's.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let open = open(context, args.pipeline())?;
    match args.action {
        Action::Show(_) => show(&open, context).await,
        Action::Reset(reset) => put_back(&reset, &open, context).await,
    }
}

async fn show(open: &Open, context: &Context) -> anyhow::Result<Report> {
    let standing = standing::look(&open.project, &open.pipeline, &open.resolver).await?;
    let mut report = context.report();
    report.extra.extend(standing.to_json());
    Ok(report.for_person(standing.to_text(jiff::Timestamp::now())))
}

async fn put_back(args: &Reset, open: &Open, context: &Context) -> anyhow::Result<Report> {
    let table = find_table(&open.pipeline, &args.table)?;
    let to = args.to.map(|point| match point {
        Point::Time(time) => reset::Point::Time(time),
        Point::Number(number) => reset::Point::Number(number),
    });
    let asked =
        reset::Reset { project: &open.project, pipeline: &open.pipeline, table, to, dry_run: args.dry_run };
    let done = asked.run(&open.resolver).await?;
    let mut report = context.report();
    report.run_id = done.id.clone();
    for (name, value) in [
        ("table", json!(table.name.to_string())),
        ("watermark_before", json!(done.before)),
        ("watermark", json!(done.after)),
        ("known", json!(done.known)),
        ("dry_run", json!(args.dry_run)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    Ok(report.for_person(words(&done, &table.name.to_string(), args.dry_run)))
}

fn words(done: &reset::Done, table: &str, dry_run: bool) -> String {
    if !done.known {
        return format!("{table} has never been loaded: its next run reads everything anyway.\n");
    }
    let verb = if dry_run { "would be put" } else { "was put" };
    let before = done.before.as_deref().unwrap_or("the start");
    match &done.after {
        Some(after) => format!("{table} {verb} from {before} to {after}; its next run reads from there.\n"),
        None => format!("{table} {verb} from {before} to the start; its next run reads every row.\n"),
    }
}
