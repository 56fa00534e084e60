//! `config compile`: the lock of one pipeline, which is all that a DAG file reads.
//!
//! In:    a pipeline's files; `sankofa.yaml` is not asked for, since analysts do not have it.
//! Out:   JSON with `schema: 1`; `pipeline` in it is the whole pipeline, SQL included, for
//!        `SANKOFA_PIPELINE`, so that a container needs no mount.
//! Holds: variables are not filled in there: the machine that runs it fills in its own.

use super::files::Files;
use super::interpolate;
use super::model::Pipeline;
use super::node::{Node, Value};
use super::words::duration_text;
use serde_json::{Map, Value as Json, json};

/// The lock of pipeline `name`.
///
/// # Errors
/// As `load_pipeline`, without the guard.
pub fn compile(files: &Files, name: &str) -> anyhow::Result<Json> {
    let (pipeline, root) = super::read_pipeline(files, name)?;
    let tables: Vec<Json> = (pipeline.tables.iter())
        .map(|t| json!({ "name": t.name.to_string(), "target": t.target, "mode": t.mode }))
        .collect();
    let schedule = &pipeline.schedule;
    Ok(json!({
        "schema": 1,
        "name": pipeline.name,
        "source": pipeline.source,
        "warehouse_schema": pipeline.schema,
        "schedule": schedule.cron.as_ref().map(|cron| json!({
            "cron": cron, "timezone": schedule.timezone, "catchup": schedule.catchup,
        })),
        "retries": schedule.retries,
        "timeout": schedule.timeout.map(|timeout| duration_text(&timeout)),
        "timeout_seconds": schedule.timeout.map(|timeout| timeout.as_secs()),
        "owner": schedule.owner,
        "tables": tables,
        "config_hash": pipeline.config_hash,
        "pipeline": carried(&root, &pipeline),
    }))
}

/// The pipeline as it was written, its SQL files in it.
fn carried(root: &Node, pipeline: &Pipeline) -> Json {
    let mut document = plain(root);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("name".to_owned(), json!(pipeline.name));
        if !pipeline.after.is_empty() {
            let scripts = pipeline.after.iter();
            let scripts = scripts.map(
                |(file, sql)| json!({ "file": interpolate::escape(file), "sql": interpolate::escape(sql) }),
            );
            fields.insert("after".to_owned(), scripts.collect());
        }
    }
    document
}

/// A tree as JSON that is read back as the same tree: numbers, `true` and `false` stay what they are
/// where JSON writes them alike, everything else is a string.
pub(super) fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => Json::Null,
        Value::Scalar { text, plain } => {
            let value = serde_json::from_str::<Json>(text).ok().filter(|value| *plain && alike(value, text));
            value.unwrap_or_else(|| Json::String(text.clone()))
        }
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Map(entries) => Json::Object(
            entries.iter().map(|(key, item)| (key.text.clone(), plain(item))).collect::<Map<_, _>>(),
        ),
    }
}

fn alike(value: &Json, text: &str) -> bool {
    matches!(value, Json::Number(_) | Json::Bool(_)) && value.to_string().as_str() == text
}
