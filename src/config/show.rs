//! `config show`: what holds, with every default filled in.
//!
//! In:    the resolved project and pipelines. Out: one value, or its YAML.
//! Holds: no secret, by construction: the files hold none (`secrets_refused`), variables that hold
//!        some are not filled in (`interpolate`), and connections are never asked for here.

use super::model::{Pipeline, Project};
use serde_json::{Value, json};

/// What holds, as one value. SQL of `after:` is shown by its path.
///
/// # Errors
/// None in practice: every value has a JSON form.
pub fn show_value(project: &Project, pipelines: &[Pipeline]) -> anyhow::Result<Value> {
    let mut value = json!({ "project": serde_json::to_value(project)?, "pipelines": {} });
    for pipeline in pipelines {
        let mut fields = serde_json::to_value(pipeline)?;
        fields["after"] = pipeline.after.iter().map(|(path, _)| path.clone()).collect();
        for (shown, table) in fields["tables"].as_array_mut().into_iter().flatten().zip(&pipeline.tables) {
            shown["name"] = json!(table.name.to_string());
        }
        value["pipelines"][&pipeline.name] = fields;
    }
    let guard = &project.guard;
    value["project"]["guard"]["never"] = guard.never.iter().map(|pattern| pattern.text.clone()).collect();
    value["project"]["guard"]["mask"] =
        Value::Object(guard.mask.iter().map(|(pattern, mask)| (pattern.text.clone(), json!(mask))).collect());
    Ok(value)
}

/// As [`show_value`], as YAML.
///
/// # Errors
/// As [`show_value`].
pub fn show(project: &Project, pipelines: &[Pipeline]) -> anyhow::Result<String> {
    super::yaml::write(&show_value(project, pipelines)?)
}
