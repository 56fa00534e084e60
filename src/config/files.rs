//! Where the project files lie, and their bytes.
//!
//! In:    a project directory, the process's environment.
//! Out:   bytes with the name an error gives them.
//! Holds: at most `yaml::MAX_BYTES` of any file are read; an SQL file lies inside the project, also
//!        when links are followed.

use super::node::{Fault, suggest};
use super::{inline, secrets_refused, yaml};
use crate::error::Failure;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Where a project's files are, and what may be filled into them.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Directory with `sankofa.yaml` and `pipelines/` (`--project`).
    pub project_dir: PathBuf,
    /// Name of the environment (`--env`).
    pub environment: Option<String>,
    /// The process's environment: for `${VAR}`, `SANKOFA_CONFIG` and `SANKOFA_PIPELINE`.
    pub variables: BTreeMap<String, String>,
}

/// A document before it is read: what errors call it, and its bytes.
#[derive(Debug)]
pub struct Source {
    /// Its name in errors.
    pub label: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Files {
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The path of `sankofa.yaml`.
    pub fn project_file(&self) -> PathBuf {
        self.variable("SANKOFA_CONFIG").map_or_else(|| self.project_dir.join("sankofa.yaml"), PathBuf::from)
    }

    /// The pipeline that the launcher passed, if it did.
    ///
    /// # Errors
    /// 78 when it is packed badly.
    pub fn inline(&self) -> Result<Option<Source>, Failure> {
        let Some(text) = self.variable("SANKOFA_PIPELINE") else { return Ok(None) };
        let label = "SANKOFA_PIPELINE".to_owned();
        let bytes = inline::document(text).map_err(|fault| fault.into_failure(&label))?;
        Ok(Some(Source { label, bytes }))
    }

    /// Reads `path`; errors call it by its path in the project, if it lies there.
    ///
    /// # Errors
    /// 78 when it is not there, 77 when it may not be read.
    pub fn read(&self, path: &Path) -> Result<Source, Failure> {
        let label = path.strip_prefix(&self.project_dir).unwrap_or(path).display().to_string();
        match read_limited(path) {
            Ok(bytes) => Ok(Source { label, bytes }),
            Err(error) => {
                let what = format!("cannot read {label}: {error}");
                Err(match error.kind() {
                    std::io::ErrorKind::PermissionDenied => Failure::permission(what),
                    _ => Failure::config(what),
                })
            }
        }
    }

    /// Names of `pipelines/*.yaml`, in order.
    ///
    /// # Errors
    /// 78 when the directory is not there or a name in it cannot be one of a pipeline.
    pub fn pipeline_files(&self) -> Result<Vec<String>, Failure> {
        let directory = self.project_dir.join("pipelines");
        let entries = std::fs::read_dir(&directory).map_err(|error| {
            Failure::config(format!("cannot list pipelines: {error}"))
                .hint("Give the directory that holds `pipelines/` with `--project DIR`.")
        })?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::config(format!("cannot list pipelines: {error}")))?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if let Some(name) = file.strip_suffix(".yaml").filter(|name| !name.starts_with('.')) {
                check_name(name)?;
                names.push(name.to_owned());
            } else if file.ends_with(".yml") {
                return Err(Failure::config(format!("cannot read pipelines/{file}: pipelines end in .yaml"))
                    .hint("Rename the file."));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The file of pipeline `name`.
    ///
    /// # Errors
    /// 78 when there is none; the hint names the nearest.
    pub fn pipeline(&self, name: &str) -> Result<Source, Failure> {
        check_name(name)?;
        let path = self.project_dir.join("pipelines").join(format!("{name}.yaml"));
        if !path.exists() {
            let names = self.pipeline_files()?;
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(Failure::config(format!(
                "cannot read pipelines/{name}.yaml: there is no such pipeline"
            ))
            .hint(suggest(name, &known)));
        }
        self.read(&path)
    }

    /// The text of an SQL file of the project.
    ///
    /// # Errors
    /// Why it cannot be read; it never quotes what stands in it.
    pub fn script(&self, file: &str) -> Result<String, String> {
        let inside =
            Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let path = self.project_dir.join(file);
        let real = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        if !inside || file.is_empty() || !real(&path)?.starts_with(real(&self.project_dir)?) {
            return Err("it does not lie in the project".into());
        }
        let bytes = read_limited(&path).map_err(|error| error.to_string())?;
        if bytes.len() > yaml::MAX_BYTES {
            return Err(format!("it is longer than {} bytes", yaml::MAX_BYTES));
        }
        let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        secrets_refused::refuse_lines(&text).map_err(|Fault { what, mark, .. }| {
            format!("{what} (line {})", mark.map_or(0, |mark| mark.line))
        })?;
        Ok(text)
    }
}

/// One byte more than is allowed is read, so that the reader of the bytes sees that it is too long.
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the name of a pipeline: it becomes part of paths, locks and names of DAGs.
///
/// # Errors
/// 78.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let start = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if start && rest && name.len() <= 63 {
        return Ok(());
    }
    Err(Failure::config(format!(
        "cannot read pipeline {}: it is no name of a pipeline",
        super::node::shown(name)
    ))
    .hint("Names have up to 63 letters, digits, `_` and `-`, and begin with a letter or digit."))
}
