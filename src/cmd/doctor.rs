//! `sankofa doctor`.

use super::Context;
use super::open::resolver;
use crate::config::{load_pipeline, pipeline_names};
use crate::doctor::{Diagnosis, examine};
use crate::error::{Failure, classify};
use crate::report::Report;

/// Try every connection, privilege and version that a run would need, now
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only what this pipeline needs; may be repeated [default: all]
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<String>,
    /// What the project is used for; moving rows is all there is so far
    #[arg(long = "for", value_name = "USE", default_value = "rows")]
    pub purpose: Purpose,
}

/// What a project is used for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Purpose {
    /// Moving rows
    Rows,
}

/// Runs the command.
///
/// # Errors
/// The most serious finding.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let Purpose::Rows = args.purpose;
    let files = context.files();
    let project = context.project()?;
    let names = if args.pipelines.is_empty() { pipeline_names(&files)? } else { args.pipelines };
    let read = |name: String| {
        let pipeline = load_pipeline(&files, &project, &name).map_err(|error| classify(&error));
        (name, pipeline)
    };
    let pipelines: Vec<_> = names.into_iter().map(read).collect();
    let diagnosis = examine(&project, &pipelines, &resolver(&project)?).await;
    Ok(report(&diagnosis, diagnosis.failure(), context))
}

fn report(diagnosis: &Diagnosis, failure: Option<Failure>, context: &Context) -> Report {
    let mut report = context.report();
    report.extra.insert("findings".into(), diagnosis.to_json());
    let report = report.for_person(diagnosis.to_text());
    match failure {
        Some(failure) => report.failed(&failure),
        None => report,
    }
}
