//! What the project files mean, from bytes to resolved values.

use super::model::{Check, DeleteMode, Mask, Mode, Rule, Scope, Severity, Span};
use super::*;
use crate::error::{Kind, classify};
use crate::table::TableName;
use std::path::PathBuf;
use std::time::Duration;

const PROJECT: &str = "version: 1\nwarehouse: {connection: warehouse}\n";

/// A project on disk; `files` are paths and texts.
pub(super) struct Dir {
    directory: tempfile::TempDir,
    pub(super) files: Files,
}

pub(super) fn dir(texts: &[(&str, &[u8])]) -> Dir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in texts {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let files = Files { project_dir: directory.path().to_owned(), ..Files::default() };
    Dir { directory, files }
}

fn design() -> Files {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/design");
    let set = [("VAULT_ADDR", "https://vault.example:8200"), ("ROLE_ID", "sankofa-rows")];
    Files {
        project_dir: home,
        environment: None,
        variables: set.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    }
}

/// What a person reads when `result` is an error.
fn told<T>(result: anyhow::Result<T>) -> (String, String) {
    let failure = classify(&result.err().expect("an error"));
    assert_eq!(failure.kind, Kind::Config, "{}", failure.what);
    (failure.what, failure.hint.unwrap_or_default())
}

/// The pipeline `p` written as `text`.
fn load(text: &str) -> anyhow::Result<Pipeline> {
    let d = dir(&[("sankofa.yaml", PROJECT.as_bytes()), ("pipelines/p.yaml", text.as_bytes())]);
    load_pipeline(&d.files, &load_project(&d.files)?, "p")
}

/// One table `public.t` with `keys`, under `defaults`.
fn one(defaults: &str, keys: &str) -> anyhow::Result<model::TableSpec> {
    let text = format!("source: s\nschema: w\n{defaults}\ntables:\n  public.t: {keys}\n");
    load(&text).map(|mut pipeline| pipeline.tables.remove(0))
}

fn project_of(text: &str) -> anyhow::Result<Project> {
    load_project(&dir(&[("sankofa.yaml", text.as_bytes())]).files)
}

mod design;
mod errors;
mod pipelines;
mod projects;
mod secrets;
