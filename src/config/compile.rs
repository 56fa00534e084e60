//! `config compile`: the lock of one pipeline, which is all that a DAG file reads.
//!
//! In:    a pipeline's files; `sankofa.yaml` is not asked for, since analysts do not have it. The lock
//!        of backups is made from that alone, by the operator.
//! Out:   JSON with `schema: 1` and one section an environment, the file itself as `default`;
//!        `pipeline` in it is the whole pipeline, SQL included, for `SANKOFA_PIPELINE`, so that a
//!        container needs no mount.
//! Holds: variables are not filled in there: the machine that runs it fills in its own.

use super::backups::Scheduler;
use super::files::Files;
use super::interpolate;
use super::model::Pipeline;
use super::node::{Node, Value};
use serde_json::{Map, Value as Json, json};

/// The version of the lock's fields.
const SCHEMA: u32 = 1;

/// The lock of pipeline `name`.
///
/// # Errors
/// As `load_pipeline`, without the guard.
pub fn compile(files: &Files, name: &str) -> anyhow::Result<Json> {
    let mut environments = Map::new();
    for (environment, pipeline, root) in super::pipeline_sections(files, name)? {
        environments.insert(environment.unwrap_or_else(|| "default".to_owned()), section(&pipeline, &root));
    }
    Ok(
        json!({ "schema": SCHEMA, "kind": "pipeline", "name": name, "fits": fits(), "environments": environments }),
    )
}

/// The lock of the backups that Airflow starts: those databases whose `scheduled_by` says so.
///
/// # Errors
/// As `load_project`.
pub fn compile_backups(files: &Files) -> anyhow::Result<Json> {
    let project = super::load_project(files)?;
    let ours = project.backups.databases.iter().filter(|db| db.scheduled_by == Some(Scheduler::Airflow));
    let databases: Vec<Json> = ours
        .map(|db| json!({ "name": db.name, "expected_every_seconds": db.expected_every.as_secs() }))
        .collect();
    Ok(json!({ "schema": SCHEMA, "kind": "backups", "fits": fits(), "databases": databases }))
}

/// The oldest package and image that read what is written here; `sankofa_airflow` holds to it.
fn fits() -> Json {
    json!({ "package": "0.1.0", "image": "0.1.0" })
}

/// What a DAG is made of in one environment.
fn section(pipeline: &Pipeline, root: &Node) -> Json {
    let tables: Vec<Json> = (pipeline.tables.iter())
        .map(|t| json!({ "name": t.name.to_string(), "target": t.target, "mode": t.mode }))
        .collect();
    let schedule = &pipeline.schedule;
    json!({
        "source": pipeline.source,
        "warehouse_schema": pipeline.schema,
        "schedule": schedule.cron.as_ref().map(|cron| json!({
            "cron": cron, "timezone": schedule.timezone, "catchup": schedule.catchup,
        })),
        "retries": schedule.retries,
        "retry_delay_seconds": schedule.retry_delay.map(|delay| delay.as_secs()),
        "timeout_seconds": schedule.timeout.map(|timeout| timeout.as_secs()),
        "owner": schedule.owner,
        "resources": { "cpu": schedule.cpu, "memory_bytes": schedule.memory_bytes },
        "run_as": schedule.run_as,
        "assets": schedule.assets,
        "tables": tables,
        "config_hash": pipeline.config_hash,
        "pipeline": carried(root, pipeline),
    })
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
