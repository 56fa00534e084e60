//! `sankofa plan`.

use super::Context;
use super::arguments::{RunId, SelectArgs};
use super::open::open;
use crate::error::Failure;
use crate::etl::preview::{Line, Preview, preview};
use crate::etl::run::Request;
use crate::report::{Report, TableFigures};

/// Tell what the next run would do to each table, and why; touches nothing
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline, by the name of its file in pipelines/
    pub pipeline: String,
    /// End with 65 when the next run would change the schema of a table that is loaded
    #[arg(long)]
    pub check: bool,
    /// As if the run were allowed to rewrite a table
    #[arg(long)]
    pub allow_rewrite: bool,
    /// What would be read.
    #[command(flatten)]
    pub select: SelectArgs,
}

/// Runs the command.
///
/// # Errors
/// When a server cannot be reached, a right is missing, or `--check` finds a change.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let open = open(context, &args.pipeline)?;
    open.fetch_for_reading().await;
    let run = RunId::fresh();
    let request = Request {
        project: &open.project,
        pipeline: &open.pipeline,
        specs: args.select.tables_of(&open.pipeline)?,
        run_id: run.as_str(),
        command: "plan",
        wishes: args.select.wishes(args.allow_rewrite)?,
        overrides: Default::default(),
        allow_deletes: false,
        take_over: false,
    };
    let preview = preview(&request, &open.hands(context)).await?;
    let report = report(&preview, context);
    Ok(match preview.refusal().or_else(|| changed(&preview).filter(|_| args.check)) {
        Some(failure) => report.failed(&failure),
        None => report,
    })
}

fn report(preview: &Preview, context: &Context) -> Report {
    let mut report = context.report();
    report.extra.insert("plans".into(), preview.to_json());
    report.warnings.clone_from(&preview.warnings);
    for line in &preview.lines {
        let told = line.told.as_ref().ok();
        report.tables.push(TableFigures {
            table: line.table.clone(),
            target: line.target.clone(),
            mode: line.mode.to_owned(),
            reason: told.and_then(|told| told.reason.clone()),
            schema_change: told.and_then(|told| told.change.clone()),
            ..TableFigures::default()
        });
        report.warnings.extend(told.iter().flat_map(|told| told.warnings.clone()));
    }
    report.full_refresh = report.tables.iter().any(|table| table.reason.is_some());
    report.for_person(preview.to_text())
}

/// The failure of `--check`, if a schema would change.
fn changed(preview: &Preview) -> Option<Failure> {
    let changes = |line: &Line| {
        let told = line.told.as_ref().ok().filter(|told| told.changes_schema)?;
        let words = told.change.clone().unwrap_or_else(|| "the warehouse table is gone".to_owned());
        Some(format!("{}: {words}", line.target))
    };
    let all: Vec<String> = preview.lines.iter().filter_map(changes).collect();
    (!all.is_empty()).then(|| {
        Failure::data(format!("the next run would change the schema of {}", all.join("; ")))
            .hint("Without --check, `sankofa plan` shows the SQL and the locks it needs.")
    })
}
