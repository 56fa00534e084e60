//! Project files -> resolved values. Nothing else reads settings.
//!
//! In:    `sankofa.yaml` (the operator's), `pipelines/*.yaml` (the analysts') or `SANKOFA_PIPELINE`.
//! Out:   [`Project`], [`Pipeline`], with every default filled in; JSON Schema; the lock for DAGs.
//! Holds: whatever is wrong is 78 with `file:line:column` and, for a word, the nearest known one;
//!        no value of a file is ever quoted, and none that looks like a secret is accepted.
//! The way of a file: bytes (`files`, `inline`) -> tree (`yaml`, `node`) -> environment merged in
//! (`overlay`) -> variables filled in (`interpolate`) -> types (`de`, `raw`, `words`) -> defaults and
//! contradictions (`resolve`) -> `model`.

pub mod backups;
pub mod compile;
mod de;
pub mod files;
pub mod guard;
pub mod inline;
mod interpolate;
pub mod locks;
pub mod model;
pub mod needs;
mod node;
pub mod notify;
mod overlay;
mod places;
pub mod raw;
mod resolve;
pub mod retention;
pub mod schema;
mod secrets_refused;
pub mod show;
pub mod sql_text;
pub mod warehouse;
pub mod words;
mod yaml;

pub use compile::{compile, compile_backups};
pub use files::Files;
pub use guard::{pattern_matches, strictest};
pub use schema::{FileKind, editor_header, schema};
pub use show::{show, show_value};

use crate::error::Failure;
use files::Source;
use model::{Pipeline, Project};
use node::{Fault, Node, Value, shown};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the operator's file: `SANKOFA_CONFIG` if set, else `sankofa.yaml` of the project.
///
/// # Errors
/// 78 with file, line and column; 77 when it may not be read.
pub fn load_project(files: &Files) -> anyhow::Result<Project> {
    let path = files.project_file();
    if !path.exists() {
        let what = format!("cannot read {}: there is no such file", path.display());
        return Err(Failure::config(what)
            .hint("Give its directory with `--project DIR`, or make one with `sankofa init --source CONNECTION`.")
            .into());
    }
    let source = files.read(&path)?;
    let home = path.parent().unwrap_or(Path::new("."));
    project(files, &source, home).map_err(|fault| fault.into_failure(&source.label).into())
}

fn project(files: &Files, source: &Source, home: &Path) -> Result<Project, Fault> {
    let root = tree(source)?;
    let environment = files.environment.as_deref();
    for name in overlay::names(&root).iter().filter(|name| Some(name.as_str()) != environment) {
        check_environment(files, &root, name, home)?;
    }
    let root = filled(overlay::apply(root, environment)?, &files.variables)?;
    resolve::project::project(&root, &de::typed(&root)?, home, environment)
}

/// Checks an environment that is not asked for, so that a mistake in it does not wait for its day;
/// not where it needs variables that are not set here.
fn check_environment(files: &Files, root: &Node, name: &str, home: &Path) -> Result<(), Fault> {
    let other = overlay::apply(root.clone(), Some(name))?;
    match filled(other, &files.variables) {
        Ok(other) => resolve::project::project(&other, &de::typed(&other)?, home, Some(name)).map(|_| ()),
        Err(_) => Ok(()),
    }
}

/// Reads pipeline `name`, from `SANKOFA_PIPELINE` if set, and checks it against the guard as far as
/// names alone allow.
///
/// # Errors
/// 78 with file, line and column; 77 when it may not be read.
pub fn load_pipeline(files: &Files, project: &Project, name: &str) -> anyhow::Result<Pipeline> {
    let source = pipeline_source(files, name)?;
    let refuse = |fault: Fault| anyhow::Error::from(fault.into_failure(&source.label));
    let (pipeline, root) = pipeline(files, &source, name).map_err(refuse)?;
    if let Some(schemas) = project.guard.sources.get(&pipeline.source)
        && !schemas.contains(&pipeline.schema)
    {
        let what =
            format!("source {} may not fill schema {}", shown(&pipeline.source), shown(&pipeline.schema));
        let hint = format!("`guard: sources:` of sankofa.yaml allows it: {}.", schemas.join(", "));
        return Err(refuse(root.fault(&["schema"], what).hint(hint)));
    }
    Ok(pipeline)
}

/// Names of the pipelines: that of `SANKOFA_PIPELINE` if it has one, else of `pipelines/*.yaml`.
///
/// # Errors
/// 78.
pub fn pipeline_names(files: &Files) -> anyhow::Result<Vec<String>> {
    if let Some(source) = files.inline()? {
        let root = tree(&source).map_err(|fault| fault.into_failure(&source.label))?;
        if let Some(Node { value: Value::Scalar { text, .. }, .. }) = root.find("name") {
            files::check_name(text)?;
            return Ok(vec![text.clone()]);
        }
    }
    Ok(files.pipeline_files()?)
}

/// As [`pipeline_names`], and none where there is no pipeline inline and no folder for them yet.
///
/// # Errors
/// 78.
pub fn pipeline_names_so_far(files: &Files) -> anyhow::Result<Vec<String>> {
    match files.inline()?.is_none() && !files.project_dir.join("pipelines").is_dir() {
        true => Ok(Vec::new()),
        false => pipeline_names(files),
    }
}

/// The pipeline as it is in each of its environments, the file itself first (`None`), with its tree as
/// written there, before variables are filled in.
fn pipeline_sections(files: &Files, name: &str) -> anyhow::Result<Vec<Section>> {
    let source = pipeline_source(files, name)?;
    let sections = || {
        let written = tree(&source)?;
        let names = environments(&written)?;
        std::iter::once(None)
            .chain(names.into_iter().map(Some))
            .map(|environment| {
                let (pipeline, root) = section(files, written.clone(), name, environment.as_deref())?;
                Ok((environment, pipeline, root))
            })
            .collect::<Result<_, Fault>>()
    };
    Ok(sections().map_err(|fault| fault.into_failure(&source.label))?)
}

/// An environment's name, the pipeline there, and its tree.
type Section = (Option<String>, Pipeline, Node);

fn pipeline_source(files: &Files, name: &str) -> Result<Source, Failure> {
    files::check_name(name)?;
    match files.inline()? {
        Some(source) => Ok(source),
        None => files.pipeline(name),
    }
}

fn pipeline(files: &Files, source: &Source, name: &str) -> Result<(Pipeline, Node), Fault> {
    let written = tree(source)?;
    let names = environments(&written)?;
    // sankofa.yaml knows the environments; a pipeline need not differ in each of them.
    let environment = files.environment.as_deref().filter(|name| names.iter().any(|own| own == name));
    for other in names.iter().filter(|other| Some(other.as_str()) != environment) {
        section(files, written.clone(), name, Some(other))?;
    }
    section(files, written, name, environment)
}

/// Names of a pipeline's environments; `default` is what the file itself is called in locks.
fn environments(written: &Node) -> Result<Vec<String>, Fault> {
    let names = overlay::names(written);
    if names.iter().any(|name| name == "default") {
        let fault = written.fault(&["environments", "default"], "`default` is the file itself");
        return Err(fault.hint("Give this environment another name."));
    }
    Ok(names)
}

/// The pipeline as it is in `environment`.
fn section(
    files: &Files,
    written: Node,
    name: &str,
    environment: Option<&str>,
) -> Result<(Pipeline, Node), Fault> {
    let written = overlay::apply(written, environment)?;
    let mut root = filled(written.clone(), &files.variables)?;
    // `public.salary:` alone means a table with every default; anywhere else nothing is a mistake.
    if let Some(Node { value: Value::Map(tables), .. }) = root.find_mut("tables") {
        for (_, table) in tables.iter_mut().filter(|(_, table)| table.is_null()) {
            table.value = Value::Map(Vec::new());
        }
    }
    let raw = de::typed(&root)?;
    let pipeline = resolve::pipeline::pipeline(&root, &raw, name, &|file| files.script(file))?;
    Ok((pipeline, written))
}

fn tree(source: &Source) -> Result<Node, Fault> {
    let root = yaml::parse(&source.bytes)?;
    secrets_refused::refuse(&root)?;
    Ok(root)
}

/// Fills in variables; what they bring is searched for secrets as what was written is.
fn filled(mut root: Node, variables: &BTreeMap<String, String>) -> Result<Node, Fault> {
    interpolate::interpolate(&mut root, variables)?;
    secrets_refused::refuse(&root)?;
    Ok(root)
}

#[cfg(test)]
mod tests;
