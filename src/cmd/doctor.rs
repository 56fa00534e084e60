//! `sankofa doctor`.

use super::Context;
use crate::config::model::{Pipeline, Project};
use crate::config::needs::{self, Class, Needed};
use crate::config::{load_pipeline, pipeline_names};
use crate::doctor::{
    Diagnosis, examine, examine_backups, examine_drills, examine_locks, nothing_backed_up, unread,
};
use crate::error::{Failure, classify};
use crate::report::Report;
use crate::secret::Resolver;

/// Try every connection, privilege and version that a run would need, now
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only what this pipeline needs; may be repeated [default: all]
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<String>,
    /// Only what this needs, and what comes next there [default: all that the project names, but airflow]
    #[arg(long = "for", value_name = "USE")]
    pub purpose: Option<Purpose>,
    /// Set the rules of buckets with backups so that they delete nothing that is current
    #[arg(long)]
    pub fix: bool,
}

/// What a project is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// Moving rows: what class rows is asked for
    Rows,
    /// Backups: what class backup is asked for; no identity
    Backup,
    /// Drills and restores: what class drill is asked for
    Drill,
    /// Schedules of Airflow: the locks that its DAGs read
    Airflow,
}

impl Args {
    /// Whose privileges it has.
    pub fn class(&self) -> Class {
        match self.purpose {
            Some(Purpose::Backup) => Class::Backup,
            Some(Purpose::Drill) => Class::Drill,
            Some(Purpose::Rows | Purpose::Airflow) | None => Class::Rows,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The most serious finding.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let project = match context.project() {
        Ok(project) => project,
        Err(error) => {
            let failure = classify(&error);
            return Ok(report(&unread(&failure), None, context).failed(&failure));
        }
    };
    let wants = |purpose| args.purpose.is_none_or(|one| one == purpose);
    let mut diagnosis = Diagnosis { findings: Vec::new() };
    if wants(Purpose::Rows) {
        let pipelines = pipelines(&args, &project, context)?;
        let read: Vec<&Pipeline> = pipelines.iter().filter_map(|(_, one)| one.as_ref().ok()).collect();
        let resolver = context.resolver(&project)?;
        fetch(&needs::all(&project, read.iter().copied()), Class::Rows, &resolver).await;
        diagnosis = examine(&project, &pipelines, &resolver).await;
    }
    let is_whole = args.pipelines.is_empty();
    if is_whole && wants(Purpose::Backup) {
        let resolver = context.resolver_of(&project, Class::Backup)?;
        fetch(&needs::all(&project, []), Class::Backup, &resolver).await;
        diagnosis.add(examine_backups(&project, &resolver, &context.variables, args.fix).await);
    }
    if is_whole && wants(Purpose::Drill) {
        let resolver = context.resolver_of(&project, Class::Drill)?;
        fetch(&needs::all(&project, []), Class::Drill, &resolver).await;
        diagnosis.add(examine_drills(&project, &resolver, args.purpose.is_some()).await);
    }
    if args.purpose == Some(Purpose::Airflow) {
        let pipelines = pipelines(&args, &project, context)?;
        diagnosis = examine_locks(&project, &context.files(), &pipelines);
    }
    if matches!(args.purpose, Some(Purpose::Backup | Purpose::Drill)) && project.backups.databases.is_empty()
    {
        diagnosis.add(nothing_backed_up());
    }
    Ok(report(&diagnosis, go_on(&args, &project), context))
}

/// What comes after what was asked about, where nothing is missing there.
fn go_on(args: &Args, project: &Project) -> Option<&'static str> {
    const AIRFLOW: &str = "`sankofa doctor --for airflow`, where Airflow starts it.";
    match args.purpose? {
        Purpose::Rows if project.backups.databases.is_empty() => Some(
            "Backups, if this project is to make some: `sankofa doctor --for backup`. Else `sankofa doctor --for airflow`, where Airflow starts it.",
        ),
        Purpose::Rows => Some("`sankofa doctor --for backup`, with the identity of that class."),
        Purpose::Backup => Some("`sankofa doctor --for drill`, with the identity of that class."),
        Purpose::Drill => Some(AIRFLOW),
        Purpose::Airflow => None,
    }
}

/// Asks side by side for what is tried of this class: not receivers of notices, nor servers of `coverage`.
async fn fetch(needed: &[Needed], class: Class, resolver: &Resolver) {
    let is_tried = |(what, purpose): &(String, needs::Purpose)| {
        let is_left = *purpose == needs::Purpose::Receiver || what == "coverage";
        !is_left && purpose.classes().contains(&class)
    };
    let tried = needed.iter().filter(|one| one.uses.iter().any(is_tried));
    resolver.fetch_ahead(tried.map(Needed::asked)).await;
}

type Pipelines = Vec<(String, Result<Pipeline, Failure>)>;

fn pipelines(args: &Args, project: &Project, context: &Context) -> anyhow::Result<Pipelines> {
    let files = context.files();
    let names = match &args.pipelines[..] {
        [] if project.warehouse.is_none() && !files.project_dir.join("pipelines").is_dir() => Vec::new(),
        [] => pipeline_names(&files)?,
        named => named.to_vec(),
    };
    let read = |name: String| {
        let pipeline = load_pipeline(&files, project, &name).map_err(|error| classify(&error));
        (name, pipeline)
    };
    Ok(names.into_iter().map(read).collect())
}

fn report(diagnosis: &Diagnosis, on: Option<&str>, context: &Context) -> Report {
    let mut report = context.report();
    report.extra.insert("findings".into(), diagnosis.to_json());
    report.extra.insert("next".into(), diagnosis.next().map(|(_, next)| next).or(on).into());
    let report = report.for_person(diagnosis.to_text(on));
    match diagnosis.failure() {
        Some(failure) => report.failed(&failure),
        None => report,
    }
}
