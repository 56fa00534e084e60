//! JSON Schema of the project files, for editors and for the reference.
//!
//! In:    which file. Out: its schema, made from the types that read it.
//! Holds: what the schema allows is read, and no key is missing from it. A null is allowed nowhere but
//!        as a whole table, as the reader has it.
//!
//! The first line of a file tells an editor where the schema is ([`editor_header`]):
//! `# yaml-language-server: $schema=../schemas/pipeline.json`.

use super::raw::pipeline::PipelineFile;
use super::raw::project::ProjectFile;
use serde_json::{Map, Value, json};

/// A kind of project file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `sankofa.yaml`.
    Sankofa,
    /// `pipelines/*.yaml`.
    Pipeline,
}

/// The schema of `which`.
pub fn schema(which: FileKind) -> Value {
    let (mut schema, file) = match which {
        FileKind::Sankofa => (schemars::schema_for!(ProjectFile).to_value(), "sankofa"),
        FileKind::Pipeline => (schemars::schema_for!(PipelineFile).to_value(), "pipeline"),
    };
    without_null(&mut schema);
    schema["$comment"] = json!(format!(
        "For editors, the first line of the file: {}",
        editor_header(&format!("URL or path of {file}.json"))
    ));
    schema
}

/// The line that tells an editor that a file follows the schema at `path`, a URL or a path relative to
/// the file.
pub fn editor_header(path: &str) -> String {
    format!("# yaml-language-server: $schema={path}")
}

/// A key that may be left out may not be there with nothing in it: takes the null out of `properties`,
/// where `Option` has put it.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
                properties.values_mut().filter_map(Value::as_object_mut).for_each(not_null);
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn not_null(property: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            property.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(forms)) = property.get_mut("anyOf") {
        forms.retain(|form| form.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = forms.as_mut_slice() {
            let only = std::mem::take(only);
            property.remove("anyOf");
            for (key, value) in only {
                property.entry(key).or_insert(value);
            }
        }
    }
}
