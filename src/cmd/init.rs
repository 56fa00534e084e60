//! `sankofa init`.

use super::Context;
use crate::config::{self, FileKind, Files};
use crate::error::Failure;
use crate::init::text::{self, Names};
use crate::init::{Draft, Seen, look, place};
use crate::pg::{SessionOptions, connect};
use crate::report::{Report, size};
use crate::secret::{Environment, Resolver};
use anyhow::Result;
use serde_json::json;

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
pub async fn run(args: Args, context: &Context) -> Result<Report> {
    let names = names(&args)?;
    let files = context.files();
    let is_new = !files.project_file().exists();
    let mut drafts = vec![draft(&format!("pipelines/{}.yaml", names.pipeline), String::new(), false)];
    if !args.dry_run {
        place::refuse_existing(&files.project_dir, &drafts)?; // before the source is asked anything
    }
    let asked = if is_new {
        Resolver::new(vec![std::sync::Arc::new(Environment::process())])
    } else {
        context.resolver(&context.project()?)?
    };
    let connection = asked.connection(&names.source).await?;
    let how = SessionOptions::named("sankofa/init")
        .set("default_transaction_read_only", "on")
        .set("search_path", "")
        .set("statement_timeout", "60s")
        .set("lock_timeout", "5s");
    let session = connect(&connection, &how).await?;
    let seen = look(&session, &args.schemas).await?;
    session.close().await;
    if !text::loads_any(&seen) {
        return Err(Failure::config("cannot propose a pipeline: the role may read no table of the source")
            .hint("GRANT SELECT on the tables, and USAGE on their schemas, to the connection's role.")
            .into());
    }
    drafts[0].text = text::pipeline(&seen, &names);
    if is_new {
        drafts.push(draft("sankofa.yaml", text::project(&names), true));
    }
    check(&files, &drafts, &names)?;
    if args.dry_run {
        let shown = drafts.iter().map(|draft| format!("# --- {}\n{}", draft.path, draft.text));
        return Ok(context.report().verbatim(shown.collect::<Vec<_>>().join("\n")));
    }
    for which in [FileKind::Sankofa, FileKind::Pipeline] {
        let schema = format!("{:#}\n", config::schema(which));
        drafts.push(draft(text::schema_path(which), schema, true));
    }
    let written = place(&files.project_dir, &drafts)?;
    Ok(told(context.report(), &seen, &names, written))
}

fn draft(path: &str, text: String, keep_existing: bool) -> Draft {
    Draft { path: path.to_owned(), text, keep_existing }
}

fn names(args: &Args) -> Result<Names, Failure> {
    let own = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let pipeline = match &args.pipeline {
        Some(name) => name.clone(),
        None => args.source.chars().map(own).skip_while(|c| !c.is_ascii_alphanumeric()).take(63).collect(),
    };
    config::files::check_name(&pipeline)?;
    Ok(Names { source: args.source.clone(), warehouse: args.warehouse.clone(), pipeline })
}

/// Reads the drafts as every later command will, so that none is written that would be refused.
fn check(files: &Files, drafts: &[Draft], names: &Names) -> Result<()> {
    let mut trial = files.clone();
    let folder = tempfile::tempdir()?;
    if let Some(project) = drafts.iter().find(|draft| draft.path == "sankofa.yaml") {
        std::fs::write(folder.path().join("sankofa.yaml"), &project.text)?;
        trial.project_dir = folder.path().to_owned();
    }
    let project = config::load_project(&trial)?;
    trial.variables.insert("SANKOFA_PIPELINE".to_owned(), drafts[0].text.clone());
    config::load_pipeline(&trial, &project, &names.pipeline)?;
    Ok(())
}

fn told(report: Report, seen: &Seen, names: &Names, written: Vec<String>) -> Report {
    let (incremental, whole, left, bytes) = text::count(seen);
    let mut lines: Vec<String> = written.iter().map(|path| format!("wrote {path}")).collect();
    lines.push(format!(
        "{} tables, {}: {incremental} incremental, {whole} read whole, {left} left out; a first load takes about {}",
        seen.tables.len(),
        size(bytes),
        text::first_load(incremental + whole, bytes)
    ));
    lines.push(format!("next: read pipelines/{0}.yaml, then `sankofa sync {0}`", names.pipeline));
    let mut report = report.for_person(lines.join("\n") + "\n");
    report.pipeline = Some(names.pipeline.clone());
    if !seen.sees_transactions && incremental > 0 {
        let warning = "the source role cannot see open transactions: GRANT pg_read_all_stats to it";
        report.warnings.push(warning.to_owned());
    }
    report.extra.insert("written".to_owned(), json!(written));
    report
}
