//! `sankofa state show|reset|rename`.

use super::Context;
use super::arguments::{Point, find_table};
use super::open::{Open, open};
use crate::error::Failure;
use crate::etl::{rename, reset, standing};
use crate::report::Report;
use serde_json::json;

/// Show watermarks and last runs of a pipeline; put a table back to a known point; follow a rename
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
    Rename(Rename),
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

/// Hand watermarks, contracts and runs of a pipeline to the name that it has now
///
/// Rename the file in pipelines/ first. With --table only that table goes, to a pipeline that reads it from
/// now on. No row of the warehouse is touched; the next run goes on from where the last one ended.
#[derive(clap::Args, Debug)]
pub struct Rename {
    /// Its name until now
    pub old: String,
    /// Pipeline, by the name of its file in pipelines/
    pub new: String,
    /// Only this table, as schema.table of the source
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
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
            Action::Rename(_) => "state rename",
        }
    }

    /// The pipeline it is about.
    pub fn pipeline(&self) -> &str {
        match &self.action {
            Action::Show(args) => &args.pipeline,
            Action::Reset(args) => &args.pipeline,
            Action::Rename(args) => &args.new,
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
        Action::Rename(rename) => hand_over(&rename, &open, context).await,
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
    let (to, dry_run) = (args.to.map(Into::into), args.dry_run);
    let asked = reset::Reset { project: &open.project, pipeline: &open.pipeline, table, to, dry_run };
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

async fn hand_over(args: &Rename, open: &Open, context: &Context) -> anyhow::Result<Report> {
    if args.old == args.new {
        let failure = Failure::usage(format!("cannot rename pipeline {} to itself", args.old));
        return Err(failure.hint("Name the old pipeline first, then the new one.").into());
    }
    let table = match &args.table {
        Some(text) => Some(find_table(&open.pipeline, text)?.name.to_string()),
        None => None,
    };
    let asked = rename::Rename {
        project: &open.project,
        old: &args.old,
        new: &open.pipeline,
        table: table.as_deref(),
        dry_run: args.dry_run,
    };
    let done = asked.run(&open.resolver).await?;
    let mut report = context.report();
    for (name, value) in [
        ("renamed_from", json!(args.old)),
        ("renamed", json!(done.tables)),
        ("not_in_the_pipeline", json!(done.unread)),
        ("dry_run", json!(args.dry_run)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    let verb = if args.dry_run { "would go" } else { "went" };
    let mut text = format!("{} {verb} from {} to {}", done.tables.join(", "), args.old, args.new);
    text.push_str("; the next run goes on from where the last one ended.\n");
    if !done.unread.is_empty() {
        text.push_str(&format!("{} does not read {}.\n", args.new, done.unread.join(", ")));
    }
    Ok(report.for_person(text))
}
