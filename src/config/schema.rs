//! JSON Schema of the project files, for editors and for the reference.
//!
//! In:    which file. Out: its schema, made from the types that read it.
//! Holds: the first line of a file tells an editor where the schema is:
//!        `# yaml-language-server: $schema=../schemas/pipeline.json`.

use super::raw::pipeline::PipelineFile;
use super::raw::project::ProjectFile;

/// A kind of project file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `sankofa.yaml`.
    Sankofa,
    /// `pipelines/*.yaml`.
    Pipeline,
}

/// The schema of `which`.
pub fn schema(which: FileKind) -> serde_json::Value {
    match which {
        FileKind::Sankofa => schemars::schema_for!(ProjectFile).to_value(),
        FileKind::Pipeline => schemars::schema_for!(PipelineFile).to_value(),
    }
}

/// The line that tells an editor that a file follows the schema at `path`, a URL or a path relative to
/// the file.
pub fn editor_header(path: &str) -> String {
    format!("# yaml-language-server: $schema={path}")
}
