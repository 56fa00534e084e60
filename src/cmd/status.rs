//! `sankofa status`.

use super::Context;
use super::arguments::duration;
use crate::config::model::{Pipeline, Project};
use crate::config::needs::Class;
use crate::config::{load_pipeline, pipeline_names_so_far};
use crate::error::{Failure, classify};
use crate::report::lines::{ago, columns};
use crate::report::{Report, plain};
use crate::status::{Limits, Line, Question, Verdict, html, judge, look};
use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A proof that is older is late: drills are made monthly.
const DRILL_MAX_AGE: Duration = Duration::from_secs(35 * 86_400);
/// Names in the sentence of a failure.
const NAMED: usize = 3;
/// Lines that are good and shown to a person, of each part.
const GOOD_SHOWN: usize = 8;

/// Tell what is late, failed or missing: pipelines, tables, checks, backups, drills
///
/// Ends with 65 when something is, with 75 when nothing is known to be and a part could not be asked.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only what this class may ask: rows the warehouse, backup the stores [default: both]
    #[arg(long = "for", value_name = "CLASS")]
    pub side: Option<Side>,
    /// How old the newest published run of a pipeline may be [default: the newest time of its
    /// `schedule:` plus its `timeout:`; 26h without a schedule]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// How old the newest drill that proved a database may be [default: 35d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub drill_max_age: Option<Duration>,
    /// Write a page for people who would rather look: one file that fetches nothing
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Which half of the platform is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Pipelines, tables, checks, coverage: the warehouse
    Rows,
    /// Backups, drills: the stores
    Backup,
}

impl Args {
    /// Whose privileges it has.
    pub fn class(&self) -> Class {
        match self.side {
            Some(Side::Backup) => Class::Backup,
            Some(Side::Rows) | None => Class::Rows,
        }
    }

    /// What a notice of it is about: each side is late, and well again, by itself.
    pub fn subject(&self) -> &'static str {
        match self.side {
            None => "status",
            Some(Side::Rows) => "status of rows",
            Some(Side::Backup) => "status of backups",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// 78 for project files that cannot be read or a page that cannot be written.
pub async fn run(args: Args, context: &Context) -> Result<Report> {
    let mut project = context.project()?;
    match args.side {
        Some(Side::Rows) => project.backups.databases.clear(),
        Some(Side::Backup) => project.warehouse = None,
        None => (),
    }
    let resolver = context.resolver(&project)?;
    let pipelines = pipelines(&project, context)?;
    if pipelines.is_empty() && project.backups.databases.is_empty() {
        let what = match args.side {
            Some(Side::Rows) => "cannot tell how rows stand: the project has no pipeline",
            Some(Side::Backup) => "cannot tell how backups stand: the project backs up no database",
            None => "cannot tell how things stand: the project has no pipeline and backs up no database",
        };
        return Err(Failure::config(what)
            .hint("Write pipelines/NAME.yaml, or `backups:` in sankofa.yaml.")
            .into());
    }
    let limits = Limits { rows: args.max_age, drill: args.drill_max_age.unwrap_or(DRILL_MAX_AGE) };
    let question = Question { project: &project, limits, now: Timestamp::now() };
    let seen = look::look(&question, pipelines, &resolver).await;
    let lines = judge::judge(&seen, &question);
    let mut report = context.report();
    if let Some(file) = &args.html {
        write(file, html::page(&lines, &seen, &question)).await?;
        report.extra.insert("html".into(), json!(file.display().to_string()));
    }
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    for verdict in
        [Verdict::Failed, Verdict::Missing, Verdict::Late, Verdict::Unknown, Verdict::Warned, Verdict::Good]
    {
        report.extra.insert(verdict.word().into(), json!(count(verdict)));
    }
    // What matters comes first, should not all of it fit.
    let mut worst: Vec<&Line> = lines.iter().collect();
    worst.sort_by_key(|line| line.verdict);
    report.extra.insert("lines".into(), worst.iter().map(|line| to_json(line)).collect());
    let report = report.for_person(words(&lines, question.now));
    Ok(match failure(&lines) {
        Some(failure) => report.failed(&failure),
        None => report,
    })
}

type Pipelines = Vec<(String, Result<Pipeline, Failure>)>;

/// Every pipeline of the project; one that cannot be read is told as such.
fn pipelines(project: &Project, context: &Context) -> Result<Pipelines> {
    let files = context.files();
    if project.warehouse.is_none() {
        return Ok(Vec::new());
    }
    let names = pipeline_names_so_far(&files)?;
    let read = |name: String| {
        let pipeline = load_pipeline(&files, project, &name).map_err(|error| classify(&error));
        (name, pipeline)
    };
    Ok(names.into_iter().map(read).collect())
}

fn to_json(line: &Line) -> Value {
    json!({
        "part": line.part.word(), "name": line.name, "state": line.verdict.word(), "at": line.at, "said": line.said,
    })
}

fn failure(lines: &[Line]) -> Option<Failure> {
    let named = |of: &[&Line]| {
        let names: Vec<String> = of
            .iter()
            .take(NAMED)
            .map(|line| format!("{} {} ({})", line.part.word(), line.name, line.said))
            .collect();
        let more = of.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    };
    let mut bad: Vec<&Line> = lines.iter().filter(|line| line.verdict.is_bad()).collect();
    bad.sort_by_key(|line| line.verdict);
    if !bad.is_empty() {
        let what = format!("{} late, failed or missing: {}", bad.len(), named(&bad));
        return Some(
            Failure::data(what).hint("`sankofa status` on a terminal, or `--html FILE`, shows all of them."),
        );
    }
    let unknown: Vec<&Line> = lines.iter().filter(|line| line.verdict == Verdict::Unknown).collect();
    (!unknown.is_empty()).then(|| {
        Failure::temporary(format!("cannot tell how all of it stands: {}", named(&unknown)))
            .hint("What could be asked is as it should be.")
    })
}

fn words(lines: &[Line], now: Timestamp) -> String {
    let mut rows = Vec::new();
    let mut left_out = 0;
    let mut good = std::collections::BTreeMap::new();
    for line in lines {
        if line.verdict == Verdict::Good {
            let shown: &mut usize = good.entry(line.part).or_default();
            *shown += 1;
            if *shown > GOOD_SHOWN {
                left_out += 1;
                continue;
            }
        }
        let state = match line.verdict {
            Verdict::Good | Verdict::Warned => line.verdict.word().to_owned(),
            other => other.word().to_uppercase(),
        };
        let at = line.at.map_or("-".into(), |at| ago(now.duration_since(at).as_secs().max(0)));
        rows.push(vec![line.part.word().into(), line.name.clone(), state, at, line.said.clone()]);
    }
    let mut text = columns(&["part", "name", "state", "as of", "what is known"], &rows);
    if left_out > 0 {
        text.push_str(&format!("  and {left_out} more that are good\n"));
    }
    let bad = lines.iter().filter(|line| line.verdict.is_bad()).count();
    let unknown = lines.iter().filter(|line| line.verdict == Verdict::Unknown).count();
    text.push_str(&plain(&match (bad, unknown) {
        (0, 0) => "status: all is as it should be\n".to_owned(),
        _ => format!("status: {bad} late, failed or missing; {unknown} could not be asked\n"),
    }));
    text
}

/// Writes the page beside its name and moves it there: who reads it sees a whole one.
async fn write(file: &Path, page: String) -> Result<()> {
    let file = file.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let put = || {
            use std::os::unix::fs::PermissionsExt;
            let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
            temporary.write_all(page.as_bytes())?;
            temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            temporary.persist(&file).map_err(|error| error.error).map(drop)
        };
        put().map_err(|error: std::io::Error| {
            let what = format!("cannot write {}: {error}", file.display());
            match error.kind() {
                std::io::ErrorKind::StorageFull => Failure::temporary(what),
                std::io::ErrorKind::PermissionDenied => Failure::permission(what),
                _ => Failure::config(what),
            }
        })
    });
    Ok(written.await??)
}
